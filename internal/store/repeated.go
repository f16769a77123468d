package store

import (
	"context"
	"database/sql"
)

// repeated are the statements that a transaction has run before. On SQLite reading the text of a statement costs several times what the
// statement does, so one that comes again is prepared and kept until the transaction ends. PostgreSQL's driver does that by itself.
type repeated struct {
	seen     map[string]struct{}
	prepared map[string]*sql.Stmt
}

const (
	// repeatedSeen is how many different statements are looked at; what is beyond is no loop.
	repeatedSeen = 64
	// repeatedKept is how many are kept prepared.
	repeatedKept = 32
)

func (tx *Tx) exec(query string, args ...any) (sql.Result, error) {
	if tx.db.engine != SQLite {
		return tx.tx.ExecContext(tx.ctx, query, args...)
	}
	if stmt, ok := tx.again.prepared[query]; ok {
		// With a context that can end, the driver starts a goroutine for each call; the transaction's own ends it all the same.
		return stmt.ExecContext(context.WithoutCancel(tx.ctx), args...)
	}
	if _, twice := tx.again.seen[query]; !twice {
		if tx.again.seen == nil {
			tx.again.seen = map[string]struct{}{}
		}
		if len(tx.again.seen) < repeatedSeen {
			tx.again.seen[query] = struct{}{}
		}
		return tx.tx.ExecContext(tx.ctx, query, args...)
	}
	if len(tx.again.prepared) == repeatedKept {
		return tx.tx.ExecContext(tx.ctx, query, args...)
	}
	stmt, err := tx.tx.PrepareContext(tx.ctx, query) // the end of the transaction closes it
	if err != nil {
		return nil, err
	}
	if tx.again.prepared == nil {
		tx.again.prepared = map[string]*sql.Stmt{}
	}
	tx.again.prepared[query] = stmt
	return stmt.ExecContext(context.WithoutCancel(tx.ctx), args...)
}
