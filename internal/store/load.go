package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"signalbox.dev/signalbox/internal/fault"
)

// Dumped hands out what a [DB.Dump] told: each table, and after it each of its rows. Table says false at the end, and only then has whatever it
// comes from been found whole.
type Dumped interface {
	Table() (Table, bool, error)
	Row() ([]any, bool, error)
}

// LoadOptions say what to load and into what.
type LoadOptions struct {
	// Schema is the schema of the dump.
	Schema int64
	// Replace gives up what the database holds. Beside SQLite the old file stays, under another name.
	Replace bool
	// Without names the tables whose rows are not taken.
	Without map[string]string
	// Finish is run in the transaction, last.
	Finish func(*Tx) error
}

// Loaded tells what [Load] did.
type Loaded struct {
	Tables int
	Rows   int64
	// Kept is where the replaced SQLite file is now; "" when there was none worth keeping.
	Kept string
	// Migrated tells how the schema went on from the dump's to this binary's.
	Migrated Migrated
}

// Contents is what a database holds, as somebody wants to know who is about to replace it.
type Contents struct {
	Schema, Records, Credentials, People int64
}

// Empty reports that nothing was ever done there: what is done is recorded.
func (c Contents) Empty() bool { return c == Contents{Schema: c.Schema} }

// ErrOccupied is returned by [Load] for a database that holds something.
type ErrOccupied struct{ Contents Contents }

// Error tells what is there.
func (e *ErrOccupied) Error() string {
	return fmt.Sprintf("the database is not empty: credentials %d, people %d, recorded acts %d", e.Contents.Credentials, e.Contents.People, e.Contents.Records)
}

// Load makes the database of cfg what a dump tells, wholly or not at all: it appears in one step, once everything that in hands out was taken. Where
// there is a schema already, it is made anew. The database must be nobody else's meanwhile; beside SQLite the lock of the data directory sees to that.
func Load(ctx context.Context, cfg Config, o LoadOptions, in Dumped) (Loaded, error) {
	latest, err := Latest()
	if err != nil {
		return Loaded{}, err
	}
	if o.Schema > latest {
		return Loaded{}, fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewer, o.Schema, latest)
	}
	cfg.ReadOnly = false
	if cfg.PostgresURL.IsZero() {
		return loadSQLite(ctx, cfg, o, in)
	}
	return loadPostgres(ctx, cfg, o, in)
}

// contents looks at what is there, whatever its schema.
func (tx *Tx) contents() (c Contents, err error) {
	present, err := tx.present()
	if err != nil {
		return c, err
	}
	for _, q := range []struct {
		into *int64
		text string
	}{
		{&c.Schema, schemaVersion},
		{&c.Records, `SELECT COUNT(*) FROM audit_events`},
		{&c.Credentials, `SELECT COUNT(*) FROM credentials`},
		{&c.People, `SELECT COUNT(*) FROM users`},
	} {
		if _, table, _ := strings.Cut(q.text, "FROM "); !slices.Contains(present, table) {
			continue
		}
		if err := tx.Get(q.into, q.text); err != nil {
			return c, err
		}
	}
	return c, nil
}

// present lists the tables that are there and are ours, or goose's.
func (tx *Tx) present() ([]string, error) {
	known, err := made(madeTable)
	if err != nil {
		return nil, err
	}
	query := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if tx.db.engine == Postgres {
		query = `SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'`
	}
	var all []string
	if err := tx.Select(&all, query); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(name string) bool { return name != gooseTable && !slices.Contains(known, name) }), nil
}

const gooseTable = "goose_db_version"

// fill makes the schema of the dump in an empty database and takes every row.
func (tx *Tx) fill(conn *sqlx.Conn, o LoadOptions, in Dumped) (did Loaded, err error) {
	if err := tx.makeSchema(o.Schema); err != nil {
		return did, err
	}
	restore, err := tx.withoutTriggers()
	if err != nil {
		return did, err
	}
	want, err := tx.tables()
	if err != nil {
		return did, err
	}
	for _, t := range want {
		if err := tx.clear(t.Name); err != nil {
			return did, err
		}
	}
	for {
		t, more, err := in.Table()
		if err != nil {
			return did, err
		}
		if !more {
			break
		}
		at := slices.IndexFunc(want, func(w Table) bool { return w.Name == t.Name })
		if at < 0 || !sameColumns(want[at], t) {
			return did, fmt.Errorf("the backup's table %q is not that of schema %d; it was made by a build of Signalbox that was not released", t.Name, o.Schema)
		}
		want = slices.Delete(want, at, at+1)
		did.Tables++
		n, err := tx.takeRows(conn, t, o, in)
		if err != nil {
			return did, err
		}
		did.Rows += n
	}
	if len(want) > 0 {
		return did, fmt.Errorf("the backup lacks the table %q of schema %d; it was made by a build of Signalbox that was not released", want[0].Name, o.Schema)
	}
	if err := restore(); err != nil {
		return did, err
	}
	if o.Finish != nil {
		if err := o.Finish(tx); err != nil {
			return did, err
		}
	}
	return did, nil
}

// makeSchema runs the migrations up to a version, and writes down that they ran as goose does.
func (tx *Tx) makeSchema(version int64) error {
	texts, err := Schema(tx.db.engine)
	if err != nil {
		return err
	}
	kind := goose.DialectSQLite3
	if tx.db.engine == Postgres {
		kind = goose.DialectPostgres
	}
	versions, err := database.NewStore(kind, gooseTable)
	if err != nil {
		return err
	}
	if err := versions.CreateVersionTable(tx.ctx, tx.tx); err != nil {
		return err
	}
	if err := versions.Insert(tx.ctx, tx.tx, database.InsertRequest{Version: 0}); err != nil {
		return err
	}
	found := version == 0
	for _, text := range texts {
		n, err := number(text)
		if err != nil {
			return err
		}
		if n > version {
			break
		}
		found = n == version
		if _, err := tx.tx.ExecContext(tx.ctx, text); err != nil {
			return err
		}
		if err := versions.Insert(tx.ctx, tx.tx, database.InsertRequest{Version: n}); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("this version of Signalbox knows no schema %d", version)
	}
	return nil
}

// withoutTriggers takes SQLite's triggers away until what they would do was taken from the dump itself, and returns what puts them back.
// PostgreSQL has none that an INSERT fires.
func (tx *Tx) withoutTriggers() (putBack func() error, err error) {
	if tx.db.engine == Postgres {
		return func() error { return nil }, nil
	}
	var triggers []struct{ Name, SQL string }
	if err := tx.Select(&triggers, `SELECT name, sql FROM sqlite_master WHERE type = 'trigger'`); err != nil {
		return nil, err
	}
	for _, t := range triggers {
		if _, err := tx.Exec(`DROP TRIGGER ` + t.Name); err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, t := range triggers {
			if _, err := tx.Exec(t.SQL); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// clear empties a table of what a migration put there, which a dump tells too. Tables that refuse deletions have no such rows.
func (tx *Tx) clear(name string) error {
	var n int64
	if err := tx.Get(&n, `SELECT COUNT(*) FROM `+name); err != nil || n == 0 {
		return err
	}
	_, err := tx.Exec(`DELETE FROM ` + name)
	return err
}

func (tx *Tx) takeRows(conn *sqlx.Conn, t Table, o LoadOptions, in Dumped) (int64, error) {
	rows := &incoming{in: in, table: t, ctx: tx.ctx}
	if _, out := o.Without[t.Name]; out {
		for rows.Next() {
		}
		return 0, rows.verdict(nil)
	}
	if tx.db.engine == Postgres {
		err := copyRows(tx.ctx, conn, rows)
		return rows.told, rows.verdict(err)
	}
	ctx := context.WithoutCancel(tx.ctx) // with a context that can end, the driver starts a goroutine for each row
	stmt, err := tx.tx.PrepareContext(ctx, insertText(t.Name+" ("+columnList(t)+")", len(t.Columns), 1, ""))
	if err != nil {
		return 0, err
	}
	defer func() { _ = stmt.Close() }()
	for rows.Next() {
		if _, err := stmt.ExecContext(ctx, rows.values...); err != nil {
			return rows.told, rows.verdict(err)
		}
	}
	return rows.told, rows.verdict(nil)
}

// incoming is the rows of one table, as pgx wants them for COPY.
type incoming struct {
	in     Dumped
	table  Table
	ctx    context.Context
	values []any
	told   int64
	err    error
}

// Next reads the next row.
func (i *incoming) Next() bool {
	if i.err == nil && i.told%256 == 0 {
		i.err = i.ctx.Err()
	}
	if i.err != nil {
		return false
	}
	values, more, err := i.in.Row()
	if err == nil && more && len(values) != len(i.table.Columns) {
		err = fmt.Errorf("a row of the backup's table %q has %d values", i.table.Name, len(values))
	}
	if i.err = err; err != nil || !more {
		return false
	}
	i.values = values
	i.told++
	return true
}

// Values returns the row.
func (i *incoming) Values() ([]any, error) { return i.values, nil }

// Err returns what kept Next from reading.
func (i *incoming) Err() error { return i.err }

// verdict says what became of the rows: what went wrong where they come from comes before what the database said.
func (i *incoming) verdict(err error) error {
	switch {
	case i.err != nil:
		return i.err
	case err != nil:
		return &refusedRow{table: i.table.Name, cause: err}
	case i.told != i.table.Rows:
		return fmt.Errorf("the backup's table %q has %d rows in place of %d", i.table.Name, i.told, i.table.Rows)
	}
	return nil
}

// refusedRow is the database's own refusal of a row.
type refusedRow struct {
	table string
	cause error
}

// Error names the table and quotes no row.
func (r *refusedRow) Error() string {
	return "the database " + reason(r.cause) + " for the table " + r.table
}

// Unwrap returns the cause.
func (r *refusedRow) Unwrap() error { return r.cause }

// loadFault is what whoever loads is told: faults and what we say ourselves stay, what the database said goes to the log.
func (db *DB) loadFault(ctx context.Context, err error) error {
	var refused *refusedRow
	var occupied *ErrOccupied
	_, told := fault.As(err)
	switch {
	case err == nil, told, errors.As(err, &occupied):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refused):
		db.cfg.Log.Error("the database refused a row of a backup", "table", refused.table, "cause", redactCause(refused.cause))
		return fmt.Errorf("%w; nothing was changed", &refusedText{refused.Error()})
	case isDatabase(err):
		db.cfg.Log.Error("the database failed while a backup was loaded", "cause", redactCause(err))
		return fmt.Errorf("the database %s; nothing was changed, the log has the cause: %w", reason(err), redactCause(err))
	}
	return err
}

type refusedText struct{ text string }

// Error returns the text alone, without what the database said.
func (r *refusedText) Error() string { return r.text }

// isDatabase reports whether an error is a driver's.
func isDatabase(err error) bool {
	var pg pgError
	return isUnavailable(err) || errors.As(err, &pg) || isSQLite(err) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone)
}

// Contents tells how much the database holds.
func (db *DB) Contents(ctx context.Context) (c Contents, err error) {
	err = db.Read(ctx, func(tx *Tx) error { c, err = tx.contents(); return err })
	return c, err
}
