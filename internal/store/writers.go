package store

import (
	"context"
	"fmt"
	"strconv"
)

// Writers returns the number that the next writing transaction gets, and that of the oldest one that has not ended. Whoever waits until the
// second has reached the first, as it was once, knows that everything has ended that was being written then. On SQLite, with its one writer at a
// time, both are 0.
func (db *DB) Writers(ctx context.Context) (next, oldest uint64, err error) {
	if db.engine != Postgres {
		return 0, 0, nil
	}
	var row struct {
		Next   string `db:"next"`
		Oldest string `db:"oldest"`
	}
	err = db.Read(ctx, func(tx *Tx) error {
		return tx.Get(&row, `SELECT pg_snapshot_xmax(s)::text AS next, pg_snapshot_xmin(s)::text AS oldest FROM pg_current_snapshot() AS s`)
	})
	if err != nil {
		return 0, 0, err
	}
	if next, err = strconv.ParseUint(row.Next, 10, 64); err == nil {
		oldest, err = strconv.ParseUint(row.Oldest, 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the transactions of PostgreSQL: %w", err)
	}
	return next, oldest, nil
}
