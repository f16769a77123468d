package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// Fence makes triggers that refuse to store what is sealed, or made, under a data key that is leaving or gone (the table keyring_left). The key's
// version is the four bytes of the column from the given one on, counted from 1. What lies there already may stay as it is.
func (d dialect) Fence(table, column string, from int) string {
	if d.Postgres {
		return fmt.Sprintf(`CREATE OR REPLACE FUNCTION %[1]s_%[2]s_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.%[2]s IS NOT DISTINCT FROM OLD.%[2]s THEN RETURN NULL; END IF;
	IF EXISTS (SELECT 1 FROM keyring_left WHERE tag = substr(NEW.%[2]s, %[3]d, 4)) THEN RAISE EXCEPTION 'sealed under a data key that is gone'; END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER %[1]s_%[2]s_key AFTER INSERT OR UPDATE OF %[2]s ON %[1]s FOR EACH ROW EXECUTE FUNCTION %[1]s_%[2]s_key();`, table, column, from)
	}
	return fmt.Sprintf(`CREATE TRIGGER %[1]s_%[2]s_key AFTER INSERT ON %[1]s WHEN EXISTS (SELECT 1 FROM keyring_left WHERE tag = substr(NEW.%[2]s, %[3]d, 4))
BEGIN SELECT RAISE(ABORT, 'sealed under a data key that is gone'); END;
CREATE TRIGGER %[1]s_%[2]s_rekey AFTER UPDATE OF %[2]s ON %[1]s WHEN NEW.%[2]s IS NOT OLD.%[2]s AND EXISTS (SELECT 1 FROM keyring_left WHERE tag = substr(NEW.%[2]s, %[3]d, 4))
BEGIN SELECT RAISE(ABORT, 'sealed under a data key that is gone'); END;`, table, column, from)
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

// Migration is one step of the schema that [Migrate] has run.
type Migration struct {
	Number int64
	Name   string
}

// Migrated tells what a migration has done.
type Migrated struct {
	From, To int64
	Ran      []Migration
}

// Migrate opens the database alone, brings it to this binary's schema and closes it again. On SQLite it takes the lock of the data
// directory, so it is refused ([ErrLocked]) while a server runs. On PostgreSQL servers of the older version may run on.
func Migrate(ctx context.Context, cfg Config) (Migrated, error) {
	cfg.ReadOnly = false
	db, err := connect(ctx, cfg)
	if err != nil {
		return Migrated{}, err
	}
	did, err := db.migrate(ctx)
	return did, errors.Join(err, db.closePools())
}

// sameSchema refuses a database whose schema is not this binary's.
func (db *DB) sameSchema(ctx context.Context) error {
	latest, err := Latest()
	if err != nil {
		return err
	}
	var have int64
	if err := db.Read(ctx, func(tx *Tx) error {
		present, err := tx.present()
		if err != nil || !slices.Contains(present, gooseTable) {
			return err
		}
		return tx.Get(&have, schemaVersion)
	}); err != nil {
		return db.classify(ctx, err)
	}
	switch {
	case have > latest:
		return fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewer, have, latest)
	case have < latest:
		return fmt.Errorf("the database has schema %d, and this version of Signalbox works with %d; start it once, or run: signalbox migrate", have, latest)
	}
	return nil
}

// Latest returns the number of the newest schema that this binary knows.
func Latest() (int64, error) {
	texts, err := Schema(SQLite)
	if err != nil {
		return 0, err
	}
	return number(texts[len(texts)-1])
}

// number is the number of a migration in its text as [Schema] returns it. Numbers rise; some may be missing.
func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text[len("-- "):len("-- 00000")], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("a migration's name has no number: %w", err)
	}
	return n, nil
}

func (db *DB) migrate(ctx context.Context) (did Migrated, err error) {
	texts, err := Schema(db.engine)
	if err != nil {
		return did, err
	}
	names := map[int64]string{}
	latest := int64(0)
	var steps []*goose.Migration
	for _, text := range texts {
		if latest, err = number(text); err != nil {
			return did, err
		}
		name, _, _ := strings.Cut(text[len("-- "):], "\n")
		names[latest] = strings.TrimSuffix(name, ".sql")
		steps = append(steps, goose.NewGoMigration(latest, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		}}, nil))
	}
	opts := []goose.ProviderOption{goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true)}
	kind := goose.DialectSQLite3
	if db.engine == Postgres {
		kind = goose.DialectPostgres
		unlock, err := db.lockSchema(ctx)
		if err != nil {
			return did, err
		}
		defer unlock()
	}
	provider, err := goose.NewProvider(kind, db.write.DB, nil, opts...)
	if err != nil {
		return did, err
	}
	if did.From, err = provider.GetDBVersion(ctx); err != nil {
		return did, unavailable(err)
	}
	did.To = did.From
	if did.From > latest {
		return did, fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewer, did.From, latest)
	}
	ran, err := provider.Up(ctx)
	for _, r := range ran {
		did.Ran = append(did.Ran, Migration{r.Source.Version, names[r.Source.Version]})
		did.To = max(did.To, r.Source.Version)
	}
	if err != nil {
		db.cfg.Log.Error("the migration failed", "cause", redactCause(err))
		return did, fmt.Errorf("the database's schema could not be brought from version %d to %d; nothing is half done, the log has the cause: %w", did.From, latest, redactCause(err))
	}
	return did, nil
}

// lockSchema keeps instances that start together from migrating together. The lock belongs to a transaction that stays open meanwhile, on
// a connection beside the migration's: a lock of the session would be left behind with some other connection by a pooler in transaction
// mode. Its number is goose's own, so that it also excludes versions that took goose's lock.
func (db *DB) lockSchema(ctx context.Context) (unlock func(), err error) {
	tx, err := db.news.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, unavailable(err)
	}
	_, err = tx.ExecContext(ctx, "SET LOCAL lock_timeout = '"+schemaPatience+"'")
	if err == nil {
		_, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", lock.DefaultLockID)
	}
	if err != nil {
		_ = tx.Rollback()
		var pg pgError
		if errors.As(err, &pg) && pg.SQLState() == "55P03" {
			return nil, errors.New("another instance has been migrating this database for five minutes; wait until it is done, then start again")
		}
		return nil, unavailable(err)
	}
	return func() { _ = tx.Rollback() }, nil
}

// schemaPatience is how long an instance waits for another's migration.
const schemaPatience = "5min"
