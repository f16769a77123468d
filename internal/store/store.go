// Package store owns the database: its connections, transactions, order and change.
//
// Promise: one SQL text runs on SQLite and on PostgreSQL (15 or later); a [DB.Write] that recorded no audit event does not commit; what
// [DB.Append] acknowledged is on disk; a change committed anywhere reaches every subscriber, late commits included; when news from the
// database are older than a second, [DB.Fresh] says no.
//
// Limits: SQLite serves one process, which holds an exclusive lock on the data directory. There are no session-level locks and no
// LISTEN: both break behind a pooler in transaction mode.
//
// Invariants: nothing reads by "id greater than my cursor", because sequence numbers become visible out of order; no transaction nests
// in another; only this package knows which engine runs.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

// Engine names the database engine in use.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Config says where the database is.
type Config struct {
	// DataDir is the directory of the SQLite file; it must exist. With PostgreSQL it is not touched.
	DataDir string
	// PostgresURL selects PostgreSQL when it is set. It holds a password, so it is a secret.
	PostgresURL secret.Value
	// AllowPlaintext permits a PostgreSQL on another machine without TLS.
	AllowPlaintext bool
	// MaxConns bounds the PostgreSQL connections of this instance; 0 means 10. Two more serve the change feed.
	MaxConns int
	// Committed is told of each try of a group commit: how many events it held, how long it took and whether they are stored now. It
	// is on the way of requests and must not wait.
	Committed func(events int, took time.Duration, stored bool)
	// Log receives causes that no client may see.
	Log *slog.Logger
	// Clock replaces the database's time; tests use it. Nil means the database's own time in transactions.
	Clock func() time.Time
	// ReadOnly opens the database beside a running server: no lock, no migration, no write.
	ReadOnly bool
	// Beside opens the database beside a running server, to record an act: no lock and no migration. Its schema must be this binary's.
	Beside bool

	application string // what PostgreSQL is told of who connects; "" is the usual
}

// DB is an open database. Make it with [Open], end it with [DB.Close].
type DB struct {
	engine Engine
	cfg    Config
	read   *sqlx.DB
	write  *sqlx.DB
	news   *sqlx.DB // the change feed's own connections, so that a busy pool cannot starve it
	pooled bool     // a pooler stands before PostgreSQL
	conns  int      // of the common pool on PostgreSQL
	lines  lines
	lock   *os.File
	group  *group
	// charges is the group of what is held against limits.
	charges *group
	feed    *feed
	open    atomic.Int64
	reads   atomic.Int64

	statements atomic.Int64
	wal        walKeeper
	once       sync.Once
}

// FileName is the SQLite file inside the data directory.
const FileName = "signalbox.db"

// Open opens the database, migrates it to this binary's schema, and takes the lock of the data directory (SQLite).
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.ReadOnly:
	case cfg.Beside:
		err = db.sameSchema(ctx)
	default:
		_, err = db.migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.closePools())
	}
	db.group, db.charges = newGroup(db), newGroup(db)
	db.charges.charging = true
	db.feed = newFeed(db)
	if err := db.group.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.closePools())
	}
	return db, nil
}

// connect opens the pools, and on SQLite takes the lock of the data directory.
func connect(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Committed == nil {
		cfg.Committed = func(int, time.Duration, bool) {}
	}
	db := &DB{cfg: cfg, engine: SQLite}
	var err error
	if !cfg.PostgresURL.IsZero() {
		db.engine = Postgres
		err = db.openPostgres(ctx)
	} else {
		err = db.openSQLite(ctx)
	}
	if err != nil {
		_ = db.closePools() // what it says would hide the cause
		return nil, err
	}
	return db, nil
}

func (db *DB) openSQLite(ctx context.Context) error {
	if info, err := os.Stat(db.cfg.DataDir); err != nil || !info.IsDir() {
		return fmt.Errorf("the data directory %s does not exist or is not a directory", db.cfg.DataDir)
	}
	path := filepath.Join(db.cfg.DataDir, FileName)
	if db.cfg.ReadOnly || db.cfg.Beside {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("there is no database %s", path)
		}
	} else {
		lock, err := lockDir(db.cfg.DataDir)
		if err != nil {
			return err
		}
		db.lock = lock
		// The file must never be readable by others, not even while SQLite creates it; its -wal and -shm files copy its mode.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("open the database: %w", err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	connect := func(patience, extra string, conns int) (*sqlx.DB, error) {
		pool, err := sqlx.Open("sqlite", "file:"+uriPath(path)+"?_pragma=busy_timeout("+patience+")&"+sqlitePragmas+extra)
		if err != nil {
			return nil, err
		}
		pool.SetMaxOpenConns(conns)
		pool.SetMaxIdleConns(conns)
		return pool, nil
	}
	var err error
	if !db.cfg.ReadOnly {
		if db.write, err = connect("5000", "&_txlock=immediate&_pragma=cache_size(-32768)", 1); err != nil {
			return err
		}
		if err := db.write.PingContext(ctx); err != nil {
			db.cfg.Log.Error("the database cannot be opened", "cause", redactCause(err))
			return fmt.Errorf("the database %s %s; look at the disk and the file, or restore a backup", path, reason(err))
		}
		if db.wal.pool, err = connect(walPatience, "", 1); err != nil {
			return err
		}
	}
	db.read, err = connect("5000", "&_pragma=query_only(1)&_pragma=cache_size(-8192)", 8)
	return err
}

// Pragmas belong into the DSN: one run by hand on a pool misses its other connections. FULL, because acknowledged writes must survive a
// power cut; group commit pays for it. Checkpoints are run by walKeeper, off the commit path. The one connection that writes keeps up to 32 MiB of pages and each that reads 8, of a
// database that has as many; with the usual 2 what follows the log of a hundred thousand trains reads each page anew.
const sqlitePragmas = "_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)" +
	"&_pragma=secure_delete(1)&_pragma=wal_autocheckpoint(0)&_pragma=journal_size_limit(67108864)&_pragma=temp_store(2)"

// Engine returns the engine in use.
func (db *DB) Engine() Engine { return db.engine }

// Start begins following changes. It must be called after the subscribers have subscribed and before anything is served, once.
func (db *DB) Start(ctx context.Context) error {
	if err := db.feed.start(ctx); err != nil {
		return err
	}
	if db.engine == SQLite {
		db.wal.start(db)
	}
	return nil
}

// Close commits what waits in the group commit, stops the feed and closes the connections.
func (db *DB) Close() error {
	var err error
	db.once.Do(func() {
		for _, g := range []*group{db.group, db.charges} {
			if g != nil {
				g.close()
			}
		}
		if db.feed != nil {
			db.feed.close()
		}
		db.wal.close()
		err = db.closePools()
	})
	return err
}

func (db *DB) closePools() error {
	var errs []error
	if db.read != nil && db.read != db.write {
		errs = append(errs, db.read.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	for _, pool := range []*sqlx.DB{db.news, db.wal.pool} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping asks the database for an answer and says what is wrong when there is none. A connection that the server ended while it lay idle is
// no reason.
func (db *DB) Ping(ctx context.Context) error {
	return db.run(ctx, db.read, &sql.TxOptions{ReadOnly: db.engine == Postgres}, false, func(tx *Tx) error {
		var one int
		return tx.Get(&one, "SELECT 1")
	}, nil)
}

// OpenTransactions returns how many transactions are open at this moment.
func (db *DB) OpenTransactions() int64 { return db.open.Load() }

// Reads returns how many read transactions were begun since the start; a warm proxy begins none.
func (db *DB) Reads() int64 { return db.reads.Load() }

// Statements returns how many statements transactions have sent since the start. Two requests that must not be told apart by their time
// send as many.
func (db *DB) Statements() int64 { return db.statements.Load() }

func unavailable(err error) error {
	if _, ok := fault.As(err); ok {
		return err
	}
	return fault.New(fault.Unavailable, "database_unavailable",
		"The database "+reason(err)+". Nothing was changed; try again shortly, and see the server's log and /readyz.").After(1).Because(redactCause(err))
}

// ErrNotFound is returned by [Tx.Get] when no row matches.
var ErrNotFound = errors.New("store: no such row")

// IsConflict reports whether err is the violation of a unique or primary key.
func IsConflict(err error) bool {
	var pg pgError
	if errors.As(err, &pg) {
		return pg.SQLState() == "23505"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == 2067 || lite.Code() == 1555
	}
	return false
}

// IsForeignKey reports whether err is the violation of a foreign key.
func IsForeignKey(err error) bool {
	var pg pgError
	if errors.As(err, &pg) {
		return pg.SQLState() == "23503"
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code() == 787
}

type pgError interface {
	error
	SQLState() string
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
