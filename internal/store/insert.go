package store

import (
	"context"
	"fmt"
	"strconv"
)

// insertRows bounds the rows of one statement of [Tx.InsertMany] on PostgreSQL.
const insertRows = 128

// InsertMany inserts rows that all have the same columns: into is "table (a, b)", and args holds the values row by row. It is for many
// rows at a time: on PostgreSQL they go in few statements, on SQLite through one prepared statement, each the cheaper way by far there.
func (tx *Tx) InsertMany(into string, columns int, args []any) error {
	return tx.UpsertMany(into, columns, args, "")
}

// UpsertMany is [Tx.InsertMany] with what is to be done about rows that are there: conflict is "ON CONFLICT …". On PostgreSQL no two rows may be one and the same.
func (tx *Tx) UpsertMany(into string, columns int, args []any, conflict string) error {
	if columns <= 0 || len(args)%columns != 0 {
		return fmt.Errorf("store: %d values do not make rows of %d", len(args), columns)
	}
	if len(args) == 0 {
		return nil
	}
	if tx.db.engine == SQLite {
		// With a context that can end, the driver starts a goroutine for each row.
		ctx := context.WithoutCancel(tx.ctx)
		stmt, err := tx.tx.PrepareContext(ctx, insertText(into, columns, 1, conflict))
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }()
		for ; len(args) > 0; args = args[columns:] {
			if _, err := stmt.ExecContext(ctx, args[:columns]...); err != nil {
				return err
			}
		}
		return nil
	}
	for len(args) > 0 {
		// Powers of two, because the driver keeps a prepared statement of each text.
		n := insertRows
		for n*columns > len(args) {
			n /= 2
		}
		if _, err := tx.tx.ExecContext(tx.ctx, insertText(into, columns, n, conflict), args[:n*columns]...); err != nil {
			return err
		}
		args = args[n*columns:]
	}
	return nil
}

func insertText(into string, columns, rows int, conflict string) string {
	b := append([]byte("INSERT INTO "), into...)
	b = append(b, " VALUES "...)
	for i := range rows * columns {
		switch {
		case i%columns > 0:
			b = append(b, ',')
		case i > 0:
			b = append(b, "),("...)
		default:
			b = append(b, '(')
		}
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(i+1), 10)
	}
	b = append(b, ") "...)
	return string(append(b, conflict...))
}
