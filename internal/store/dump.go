package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Snapshot tells what a [DB.Dump] is of.
type Snapshot struct {
	Engine Engine
	// Schema is the version of the schema.
	Schema int64
	At     time.Time
	Tables []Table
}

// Rows returns how many rows all tables have.
func (s Snapshot) Rows() (n int64) {
	for _, t := range s.Tables {
		n += t.Rows
	}
	return n
}

// Dumper is told of a whole database: once what it is, then each table, and after it each of its rows. A row is valid only during the call; its
// values are nil, int64, string or []byte, as the column's [Kind] says.
type Dumper interface {
	Begin(Snapshot) error
	Table(Table) error
	Row(values []any) error
}

// Dump tells everything that the database holds, as it was at one moment and in a form that is the same for both engines, but for the tables in
// [LeftOut]. It keeps no more than a row in memory, and holds nobody up: writes go on beside it. SQLite cannot shorten its log meanwhile.
func (db *DB) Dump(ctx context.Context, to Dumper) error {
	begun := false
	return db.Read(ctx, func(tx *Tx) error {
		if begun { // what was told cannot be taken back
			return errors.New("store: the database broke the dump off; begin a new one")
		}
		begun = true
		snap, err := tx.snapshot()
		if err != nil {
			return err
		}
		if err := to.Begin(snap); err != nil {
			return err
		}
		for _, t := range snap.Tables {
			if err := to.Table(t); err != nil {
				return err
			}
			told, err := tx.dumpRows(t, to)
			if err != nil {
				return fmt.Errorf("dump the table %s: %w", t.Name, err)
			}
			if told != t.Rows {
				return fmt.Errorf("store: the table %s had %d rows and then %d in one snapshot", t.Name, t.Rows, told)
			}
		}
		return nil
	})
}

func (tx *Tx) snapshot() (Snapshot, error) {
	snap := Snapshot{Engine: tx.db.engine, At: tx.Now()}
	if err := tx.Get(&snap.Schema, schemaVersion); err != nil {
		return snap, err
	}
	var err error
	if snap.Tables, err = tx.tables(); err != nil {
		return snap, err
	}
	for i := range snap.Tables {
		if err := tx.Get(&snap.Tables[i].Rows, `SELECT COUNT(*) FROM `+snap.Tables[i].Name); err != nil {
			return snap, err
		}
	}
	return snap, nil
}

func (tx *Tx) dumpRows(t Table, to Dumper) (told int64, err error) {
	rows, err := tx.Query(`SELECT ` + columnList(t) + ` FROM ` + t.Name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	values, into := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return told, err
		}
		for i, c := range t.Columns {
			if values[i], err = c.Kind.as(values[i]); err != nil {
				return told, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		if err := to.Row(values); err != nil {
			return told, err
		}
		told++
	}
	return told, ended(tx.ctx, rows.Err())
}

func columnList(t Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = `"` + c.Name + `"`
	}
	return strings.Join(names, ", ")
}

// sameColumns compares what a dump has of a table with what the schema has.
func sameColumns(a, b Table) bool {
	order := func(a, b Column) int { return strings.Compare(a.Name, b.Name) }
	x, y := slices.SortedFunc(slices.Values(a.Columns), order), slices.SortedFunc(slices.Values(b.Columns), order)
	return slices.Equal(x, y)
}
