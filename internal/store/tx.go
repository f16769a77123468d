package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"signalbox.dev/signalbox/internal/fault"
)

// Purpose says why a [DB.Bookkeep] writes without an audit event. The list is closed; the house test lists the callers.
type Purpose string

// The purposes.
const (
	Sequence Purpose = "sequence" // moving audit references into the log
	Cursor   Purpose = "cursor"   // trimming and remembering positions
	Counter  Purpose = "counter"  // rate and usage counters
	Outbox   Purpose = "outbox"   // delivery state of notifications
	Touch    Purpose = "touch"    // last use
	Election Purpose = "election" // who does a chore
	Ceremony Purpose = "ceremony" // what a sign-in needs to remember between its steps
	Replay   Purpose = "replay"   // answers kept for requests that are repeated with an Idempotency-Key
	Content  Purpose = "content"  // what agents are asked and answer, where a train keeps it
	Rekey    Purpose = "rekey"    // what is sealed, sealed anew under the next data key
)

// ErrNotRecorded is returned by a [DB.Write] whose function recorded no event; nothing was committed.
var ErrNotRecorded = errors.New("store: the write recorded no audit event, so it was not committed")

// Tx is a transaction. It is valid only inside the function it was handed to.
type Tx struct {
	ctx      context.Context
	db       *DB
	tx       *sqlx.Tx
	now      time.Time
	recorded int
	act      *Event
	changes  []Change
	writable bool
	again    repeated
}

type inTx struct{}

// Read runs fn in a read-only transaction, which sees one state of the database in all its statements.
func (db *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	db.reads.Add(1)
	pool := db.read
	if db.engine == Postgres && ctx.Value(viaNews{}) != nil {
		pool = db.news // subscribers: a busy pool must not keep an instance from hearing of a revocation
	}
	opts := &sql.TxOptions{}
	if db.engine == Postgres { // SQLite knows no other
		opts.ReadOnly, opts.Isolation = true, sql.LevelRepeatableRead
	}
	return db.run(ctx, pool, opts, false, fn, nil)
}

// Write runs fn in a transaction that commits only if fn recorded at least one event. An error of fn rolls everything back, its events
// too: a refusal that must be recorded returns nil and hands its verdict out in a variable. fn may run again when the database asks for a
// retry, so it must not have effects outside the transaction. When Write returns, this instance's subscribers know the change.
func (db *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	along, rode := riderOf(ctx), false
	err := db.run(ctx, db.write, nil, true, fn, func(tx *Tx) error {
		rode = false
		if tx.recorded == 0 {
			return ErrNotRecorded
		}
		if along == nil || tx.act == nil || along.carried.Load() {
			return nil
		}
		rode = true
		return along.fn(tx)
	})
	if err == nil && rode {
		along.carried.Store(true)
	}
	return err
}

// Bookkeep runs fn in a transaction that needs no event, for one of the listed purposes.
func (db *DB) Bookkeep(ctx context.Context, purpose Purpose, fn func(*Tx) error) error {
	switch purpose {
	case Sequence, Cursor, Counter, Outbox, Touch, Election, Replay, Ceremony, Content, Rekey:
	default:
		return fmt.Errorf("store: %q is no purpose of bookkeeping", purpose)
	}
	return db.run(ctx, db.write, nil, true, fn, nil)
}

// attempts bounds the retries of a transaction that PostgreSQL broke off (serialization failure, deadlock).
const attempts = 4

func (db *DB) run(ctx context.Context, pool *sqlx.DB, opts *sql.TxOptions, writable bool, fn func(*Tx) error, gate func(*Tx) error) error {
	if ctx.Value(inTx{}) != nil {
		return errors.New("store: a transaction cannot be opened inside another")
	}
	if pool == nil {
		return errors.New("store: the database is open for reading only")
	}
	asked := ctx
	if db.engine == Postgres {
		var leave func()
		ctx, leave = db.lines.enter(ctx)
		defer leave()
	}
	var err error
	for try, stale := 0, 0; try < attempts; try++ {
		if try > 0 {
			select {
			case <-ctx.Done():
				return db.classify(asked, ended(ctx, ctx.Err()))
			case <-time.After(time.Duration(try) * 5 * time.Millisecond):
			}
		}
		var tx *Tx
		tx, err = db.attempt(ctx, pool, opts, writable, fn, gate)
		if errors.Is(err, errStale) && stale < db.conns {
			try, stale = -1, stale+1
			continue
		}
		if err == nil {
			if len(tx.changes) > 0 {
				db.feed.dispatchOwn(withoutRider(context.WithoutCancel(ctx)), tx.changes)
			}
			return nil
		}
		if !isRetry(err) {
			break
		}
	}
	return db.classify(asked, ended(ctx, err))
}

// errStale marks a transaction that could not begin because the server had ended its connection while that lay idle. Nothing was asked
// yet, so the next connection is as good; there are at most as many stale ones as the pool holds.
var errStale = errors.New("store: the connection had been ended")

// errUncertain marks a commit whose answer was lost: the change may stand.
var errUncertain = errors.New("store: the answer to the commit was lost")

func (db *DB) attempt(ctx context.Context, pool *sqlx.DB, opts *sql.TxOptions, writable bool, fn func(*Tx) error, gate func(*Tx) error) (_ *Tx, err error) {
	db.open.Add(1)
	defer db.open.Add(-1)
	inner, err := pool.BeginTxx(ctx, opts)
	if err != nil {
		var pg pgError
		if errors.As(err, &pg) && pg.SQLState() == "57P01" {
			return nil, errors.Join(errStale, err)
		}
		return nil, err
	}
	tx := &Tx{ctx: context.WithValue(ctx, inTx{}, true), db: db, tx: inner, writable: writable}
	done := false
	defer func() {
		if !done { // an error or a panic of fn
			_ = inner.Rollback()
		}
	}()
	if err := fn(tx); err != nil {
		return nil, err
	}
	if gate != nil {
		if err := gate(tx); err != nil {
			return nil, err
		}
	}
	if err := tx.storeChanges(); err != nil {
		return nil, err
	}
	done = true
	if err := inner.Commit(); err != nil {
		_ = inner.Rollback()
		if err = ended(ctx, err); writable && db.engine == Postgres && isUnavailable(err) && !isVerdict(err) {
			err = errors.Join(errUncertain, err)
		}
		return nil, err
	}
	return tx, nil
}

// classify turns a failure of the database itself into a fault and leaves every other error as it is.
func (db *DB) classify(ctx context.Context, err error) error {
	if _, ok := fault.As(err); ok {
		return err
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return ctx.Err()
	}
	if isUnavailable(err) {
		db.cfg.Log.Error("the database failed", "cause", redactCause(err))
		if errors.Is(err, errUncertain) {
			return fault.New(fault.Unavailable, "database_unavailable",
				"The connection to the database broke while the change was being stored, so it is not known whether it stands. Look before you try again; see the server's log and /readyz.").After(1).Because(redactCause(err))
		}
		return unavailable(err)
	}
	return err
}

func isRetry(err error) bool {
	var pg pgError
	return errors.As(err, &pg) && (pg.SQLState() == "40001" || pg.SQLState() == "40P01")
}

// Context returns the transaction's context. Opening another transaction with it is an error.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Exec runs a statement and returns the number of rows that it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	tx.db.statements.Add(1)
	res, err := tx.exec(query, args...)
	if err != nil {
		return 0, ended(tx.ctx, err)
	}
	return res.RowsAffected()
}

// Get scans the first row into dest (a scalar or a struct with db tags), or returns [ErrNotFound].
func (tx *Tx) Get(dest any, query string, args ...any) error {
	tx.db.statements.Add(1)
	err := tx.get(dest, query, args...)
	if isNoRows(err) {
		return ErrNotFound
	}
	return ended(tx.ctx, err)
}

// Select scans all rows into dest, a pointer to a slice.
func (tx *Tx) Select(dest any, query string, args ...any) error {
	tx.db.statements.Add(1)
	return ended(tx.ctx, tx.selects(dest, query, args...))
}

// Query returns the rows for streaming; close them before the next statement.
func (tx *Tx) Query(query string, args ...any) (*sqlx.Rows, error) {
	tx.db.statements.Add(1)
	return tx.tx.QueryxContext(tx.ctx, query, args...)
}

// ForUpdate is the clause that locks the selected rows until the end of the transaction. It is empty on SQLite, where a write
// transaction has the whole database.
func (tx *Tx) ForUpdate() string {
	if tx.db.engine == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// ForShare is the clause that keeps the selected rows as they are until the end of the transaction, of the named tables or of all; others may read and share them.
// It is empty on SQLite.
func (tx *Tx) ForShare(of ...string) string {
	switch {
	case tx.db.engine != Postgres:
		return ""
	case len(of) == 0:
		return " FOR SHARE"
	}
	return " FOR SHARE OF " + strings.Join(of, ", ")
}

// Lock holds up every other transaction that locks the same name, until this one ends: for what two transactions decide by rows that neither
// of them changes, or that are not there yet. What is read after it, is what the one before has left. Who locks several names does so in
// their order. SQLite has one writing transaction at a time anyway.
func (tx *Tx) Lock(name string) error {
	if !tx.writable {
		return errors.New("store: only a writing transaction locks")
	}
	if tx.db.engine == SQLite {
		return nil
	}
	_, err := tx.Exec(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, name)
	return err
}

// Now returns the transaction's time, the same at each call, in UTC and whole microseconds. On PostgreSQL it is the database's clock, so
// that instances whose clocks differ compare leases alike.
func (tx *Tx) Now() time.Time {
	if !tx.now.IsZero() {
		return tx.now
	}
	switch {
	case tx.db.cfg.Clock != nil:
		tx.now = tx.db.cfg.Clock()
	case tx.db.engine == Postgres:
		var us int64
		if err := tx.tx.GetContext(tx.ctx, &us, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"); err == nil {
			tx.now = time.UnixMicro(us)
		}
		// When the query fails, the transaction is broken and cannot commit; any time will do.
	}
	if tx.now.IsZero() {
		tx.now = time.Now()
	}
	tx.now = tx.now.UTC().Truncate(time.Microsecond)
	return tx.now
}

// Growing says that the transaction looks up many rows in tables that grow, so that each of its statements is to be planned for the tables as they are. PostgreSQL else goes on
// with the plan that it made when a table was small, which reads all of it, until it has counted its rows again. SQLite plans by the indexes alone.
func (tx *Tx) Growing() error {
	if tx.db.engine == SQLite {
		return nil
	}
	_, err := tx.Exec(`SET LOCAL plan_cache_mode = force_custom_plan`)
	return err
}
