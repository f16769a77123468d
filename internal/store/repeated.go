package store

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"
)

// repeated are the statements that a transaction has run before. On SQLite reading the text of a statement costs several times what the
// statement does, so one that comes again is prepared and kept until the transaction ends. PostgreSQL's driver does that by itself.
type repeated struct {
	seen     map[string]struct{}
	prepared map[string]*sqlx.Stmt
}

const (
	// repeatedSeen is how many different statements are looked at; what is beyond is no loop.
	repeatedSeen = 64
	// repeatedKept is how many are kept prepared.
	repeatedKept = 32
)

// prepared returns a statement as it is kept prepared; nil says that it is to be run as it is.
func (tx *Tx) prepared(query string) (*sqlx.Stmt, error) {
	if tx.db.engine != SQLite {
		return nil, nil
	}
	if stmt, ok := tx.again.prepared[query]; ok {
		return stmt, nil
	}
	if _, twice := tx.again.seen[query]; !twice {
		if tx.again.seen == nil {
			tx.again.seen = map[string]struct{}{}
		}
		if len(tx.again.seen) < repeatedSeen {
			tx.again.seen[query] = struct{}{}
		}
		return nil, nil
	}
	if len(tx.again.prepared) == repeatedKept {
		return nil, nil
	}
	stmt, err := tx.tx.PreparexContext(tx.ctx, query) // the end of the transaction closes it
	if err != nil {
		return nil, err
	}
	if tx.again.prepared == nil {
		tx.again.prepared = map[string]*sqlx.Stmt{}
	}
	tx.again.prepared[query] = stmt
	return stmt, nil
}

// quick is the context of a statement that is kept prepared. With one that can end, the driver starts a goroutine for each call. A writing transaction's own ends it all the same, before
// the next; one that only reads may take long over each.
func (tx *Tx) quick() context.Context {
	if tx.writable {
		return context.WithoutCancel(tx.ctx)
	}
	return tx.ctx
}

func (tx *Tx) exec(query string, args ...any) (sql.Result, error) {
	stmt, err := tx.prepared(query)
	switch {
	case err != nil:
		return nil, err
	case stmt != nil:
		return stmt.ExecContext(tx.quick(), args...)
	}
	return tx.tx.ExecContext(tx.ctx, query, args...)
}

func (tx *Tx) get(dest any, query string, args ...any) error {
	stmt, err := tx.prepared(query)
	switch {
	case err != nil:
		return err
	case stmt != nil:
		return stmt.GetContext(tx.quick(), dest, args...)
	}
	return tx.tx.GetContext(tx.ctx, dest, query, args...)
}

func (tx *Tx) selects(dest any, query string, args ...any) error {
	stmt, err := tx.prepared(query)
	switch {
	case err != nil:
		return err
	case stmt != nil:
		return stmt.SelectContext(tx.ctx, dest, args...) // it may take long
	}
	return tx.tx.SelectContext(tx.ctx, dest, query, args...)
}
