package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/template"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// dialect fills the few differences in the schema's one text.
type dialect struct{ Postgres bool }

// Blob is the column type of bytes.
func (d dialect) Blob() string {
	if d.Postgres {
		return "BYTEA"
	}
	return "BLOB"
}

// Lean ends a table whose rows are short and always found by primary key.
func (d dialect) Lean() string {
	if d.Postgres {
		return ""
	}
	return "WITHOUT ROWID"
}

// Immutable makes triggers that refuse UPDATE and DELETE on a table.
func (d dialect) Immutable(table string) string {
	if d.Postgres {
		return fmt.Sprintf(`CREATE TRIGGER %[1]s_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON %[1]s FOR EACH STATEMENT EXECUTE FUNCTION signalbox_immutable();`, table)
	}
	return fmt.Sprintf(`CREATE TRIGGER %[1]s_no_update BEFORE UPDATE ON %[1]s BEGIN SELECT RAISE(ABORT, 'audit records are immutable'); END;
CREATE TRIGGER %[1]s_no_delete BEFORE DELETE ON %[1]s BEGIN SELECT RAISE(ABORT, 'audit records are immutable'); END;`, table)
}

// Schema returns the migrations for an engine in order, as they would be run: number and name, then SQL.
func Schema(engine Engine) ([]string, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		t, err := template.New(name).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "-- %s\n", strings.TrimPrefix(name, "migrations/"))
		if err := t.Execute(&b, dialect{Postgres: engine == Postgres}); err != nil {
			return nil, err
		}
		out = append(out, b.String())
	}
	return out, nil
}

// ErrNewer is returned when a newer binary has migrated this database: an older one would misread it.
var ErrNewer = errors.New("the database was migrated by a newer signalbox; run that version or restore a backup")

func (db *DB) migrate(ctx context.Context) error {
	texts, err := Schema(db.engine)
	if err != nil {
		return err
	}
	var steps []*goose.Migration
	for _, text := range texts {
		number, err := strconv.ParseInt(text[len("-- "):len("-- 00000")], 10, 64)
		if err != nil {
			return fmt.Errorf("a migration's name has no number: %w", err)
		}
		steps = append(steps, goose.NewGoMigration(number, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		}}, nil))
	}
	opts := []goose.ProviderOption{goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true)}
	kind := goose.DialectSQLite3
	if db.engine == Postgres {
		kind = goose.DialectPostgres
		// Instances that start together must not migrate together. This is the one session-level lock; with a pooler in transaction
		// mode, migrate over a direct connection first.
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(kind, db.write.DB, nil, opts...)
	if err != nil {
		return err
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return unavailable(err)
	}
	if have > int64(len(steps)) {
		return fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewer, have, len(steps))
	}
	if _, err := provider.Up(ctx); err != nil {
		db.cfg.Log.Error("the migration failed", "cause", redactCause(err))
		return fmt.Errorf("the database's schema could not be brought from version %d to %d; nothing is half done, the log has the cause: %w", have, len(steps), redactCause(err))
	}
	return nil
}
