package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// loadPostgres does everything in one transaction, the schema too: on PostgreSQL that comes and goes with the rest.
func loadPostgres(ctx context.Context, cfg Config, o LoadOptions, in Dumped) (did Loaded, err error) {
	cfg.application = applicationName + " restore"
	db, err := connect(ctx, cfg)
	if err != nil {
		return did, err
	}
	defer func() { err = errors.Join(err, db.closePools()) }()
	did, err = db.loadAlone(ctx, o, in)
	if err != nil {
		return did, db.loadFault(ctx, err)
	}
	did.Migrated, err = db.migrate(ctx)
	return did, err
}

func (db *DB) loadAlone(ctx context.Context, o LoadOptions, in Dumped) (did Loaded, err error) {
	unlock, err := db.lockSchema(ctx) // an instance that starts meanwhile waits
	if err != nil {
		return did, err
	}
	defer unlock()
	conn, err := db.write.Connx(ctx)
	if err != nil {
		return did, err
	}
	defer func() { _ = conn.Close() }()
	inner, err := conn.BeginTxx(ctx, &sql.TxOptions{})
	if err != nil {
		return did, err
	}
	defer func() { _ = inner.Rollback() }()
	tx := &Tx{ctx: context.WithValue(ctx, inTx{}, true), db: db, tx: inner, writable: true}
	if err := tx.makeRoom(o); err != nil {
		return did, err
	}
	if did, err = tx.fill(conn, o, in); err != nil {
		return did, err
	}
	// An instance that was there all the time, unseen behind a pooler, must not go on by what it knew.
	tx.Change(TopicReset, "")
	if err := tx.storeChanges(); err != nil {
		return did, err
	}
	return did, inner.Commit()
}

// makeRoom refuses where somebody is, and takes away the schema that is there.
func (tx *Tx) makeRoom(o LoadOptions) error {
	present, err := tx.present()
	if err != nil || len(present) == 0 {
		return err
	}
	// First without a lock, which would hold up whoever is at work there.
	if err := tx.mayReplace(o); err != nil {
		return err
	}
	if err := tx.alone(present); err != nil {
		return err
	}
	if _, err := tx.Exec(`SET LOCAL lock_timeout = '10s'`); err != nil {
		return err
	}
	slices.Sort(present)
	if _, err := tx.Exec(`LOCK TABLE ` + strings.Join(present, ", ") + ` IN ACCESS EXCLUSIVE MODE`); err != nil {
		if hasState(err, "55P03") {
			return errors.New("somebody is using this database; stop every instance of Signalbox and whatever else is connected, then restore again")
		}
		return err
	}
	if err := tx.mayReplace(o); err != nil {
		return err
	}
	if _, err := tx.Exec(`DROP TABLE ` + strings.Join(present, ", ")); err != nil {
		if hasState(err, "2BP01") {
			return errors.New("something that is not Signalbox's depends on its tables here (a view, a foreign key), so they cannot be made anew; make an empty database (CREATE DATABASE) and restore into that")
		}
		return err
	}
	functions, err := made(madeFunction)
	if err != nil {
		return err
	}
	for _, name := range functions {
		if _, err := tx.Exec(`DROP FUNCTION IF EXISTS ` + name); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) mayReplace(o LoadOptions) error {
	there, err := tx.contents()
	if err != nil {
		return err
	}
	latest, err := Latest()
	if err != nil {
		return err
	}
	switch {
	case !there.Empty() && !o.Replace:
		return &ErrOccupied{there}
	case there.Schema > latest:
		return fmt.Errorf("the database has schema %d, of a newer Signalbox, and this one cannot clear it away; make an empty database (CREATE DATABASE) and restore into that", there.Schema)
	}
	return nil
}

// alone refuses while an instance is at work: one that is connected, or, where a pooler hides that, one whose term as the leader of a chore has
// not ended.
func (tx *Tx) alone(present []string) error {
	var others, terms int
	if err := tx.Get(&others, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`, applicationName); err != nil {
		return err
	}
	if slices.Contains(present, "elections") {
		if err := tx.Get(&terms, `SELECT COUNT(*) FROM elections WHERE until > $1`, TimeOf(tx.Now())); err != nil {
			return err
		}
	}
	switch {
	case others > 0:
		return fmt.Errorf("%d connections of running Signalbox instances use this database; stop every instance, then restore again", others)
	case terms > 0:
		return errors.New("an instance of Signalbox was at work on this database a moment ago; stop every instance, then restore again in a minute")
	}
	return nil
}

func hasState(err error, state string) bool {
	var pg pgError
	return errors.As(err, &pg) && pg.SQLState() == state
}

// copyRows sends rows by COPY, on the connection of the transaction.
func copyRows(ctx context.Context, conn *sqlx.Conn, rows *incoming) error {
	names := make([]string, len(rows.table.Columns))
	for i, c := range rows.table.Columns {
		names[i] = c.Name
	}
	return conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{rows.table.Name}, names, rows)
		return err
	})
}
