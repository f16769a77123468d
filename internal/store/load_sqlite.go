package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"
)

func isSQLite(err error) bool {
	var lite *sqlite.Error
	return errors.As(err, &lite)
}

// stagingName is the directory inside the data directory where a database is made before it takes its place. One that is found was left behind.
const stagingName = "restore.partial"

// Until it is whole, the new file is nobody's: it needs no journal, and is synced once, at its end.
const stagingPragmas = "_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_pragma=temp_store(2)&_pragma=cache_size(-65536)"

func loadSQLite(ctx context.Context, cfg Config, o LoadOptions, in Dumped) (did Loaded, err error) {
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return did, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	path := filepath.Join(cfg.DataDir, FileName)
	there, err := lookInto(ctx, cfg)
	if err != nil {
		return did, fmt.Errorf("the database that lies in %s cannot be read; put signalbox.db aside, together with its -wal and -shm files, then restore again: %w", cfg.DataDir, err)
	}
	if !there.Empty() && !o.Replace {
		return did, &ErrOccupied{there}
	}
	staging := filepath.Join(cfg.DataDir, stagingName)
	if err := os.RemoveAll(staging); err != nil {
		return did, err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return did, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	if did, err = build(ctx, cfg, staging, o, in); err != nil {
		return did, err
	}
	if err := settle(ctx, cfg); err != nil {
		return did, err
	}
	if !there.Empty() {
		did.Kept = path + ".replaced-" + time.Now().UTC().Format("20060102T150405Z")
		if err := os.Link(path, did.Kept); err != nil {
			return did, fmt.Errorf("keep the old database: %w", err)
		}
	}
	if err := os.Rename(filepath.Join(staging, FileName), path); err != nil {
		return did, err
	}
	return did, syncPath(cfg.DataDir)
}

// build makes the new file, with this binary's schema, synced.
func build(ctx context.Context, cfg Config, staging string, o LoadOptions, in Dumped) (did Loaded, err error) {
	path := filepath.Join(staging, FileName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return did, err
	}
	if err := f.Close(); err != nil {
		return did, err
	}
	cfg.DataDir = staging
	db := &DB{cfg: cfg, engine: SQLite}
	if db.cfg.Log == nil {
		db.cfg.Log = discard()
	}
	if did, err = db.fillFile(ctx, path, o, in); err != nil {
		return did, db.loadFault(ctx, err)
	}
	if did.Migrated, err = Migrate(ctx, cfg); err != nil {
		return did, err
	}
	return did, syncPath(path)
}

func (db *DB) fillFile(ctx context.Context, path string, o LoadOptions, in Dumped) (did Loaded, err error) {
	pool, err := sqlx.Open("sqlite", "file:"+uriPath(path)+"?"+stagingPragmas+"&_txlock=immediate")
	if err != nil {
		return did, err
	}
	pool.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, pool.Close()) }()
	inner, err := pool.BeginTxx(ctx, nil)
	if err != nil {
		return did, err
	}
	defer func() { _ = inner.Rollback() }()
	tx := &Tx{ctx: context.WithValue(ctx, inTx{}, true), db: db, tx: inner, writable: true}
	if did, err = tx.fill(nil, o, in); err != nil {
		return did, err
	}
	return did, inner.Commit()
}

// lookInto says what a data directory's database holds; nothing when there is none.
func lookInto(ctx context.Context, cfg Config) (c Contents, err error) {
	if _, err := os.Stat(filepath.Join(cfg.DataDir, FileName)); errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	cfg.ReadOnly = true
	db, err := connect(ctx, cfg)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.closePools()) }()
	err = db.Read(ctx, func(tx *Tx) error { c, err = tx.contents(); return err })
	return c, err
}

// settle brings what lies in the old file's log into the file, so that the log is gone: beside the new file it would be taken for its own.
func settle(ctx context.Context, cfg Config) error {
	path := filepath.Join(cfg.DataDir, FileName)
	if _, err := os.Stat(path); err == nil {
		pool, err := sqlx.Open("sqlite", "file:"+uriPath(path)+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=journal_mode(DELETE)")
		if err != nil {
			return err
		}
		err = pool.PingContext(ctx)
		_ = pool.Close()
		if err != nil {
			return fmt.Errorf("the database %s that is to be replaced %s; end what still uses it, or put it aside yourself, together with its -wal and -shm files", path, reason(err))
		}
	}
	for _, tail := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + tail); err == nil {
			return fmt.Errorf("%s is there without being the new database's; put it aside, together with %s, and restore again", path+tail, path)
		}
	}
	return nil
}

// syncPath brings a file, or what a directory lists, to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
