package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Place is one or two columns of a table that hold what was sealed, or made, under a data key. Each room names its own, and [Rekeyer] moves them
// to the next data key. A test compares the places with the columns of bytes that the migrations make.
type Place struct {
	Table string
	// ID is the column of text that finds a row, alone or with N, a column of numbers, and Text, another one of text. All of them must be what they
	// were when the row was read, or it is left for the next pass.
	ID, N, Text string
	// Columns are moved together.
	Columns []Column
	// Purpose and AAD say how the one column of the place is sealed.
	Purpose string
	AAD     func(Row) (secret.AAD, error)
	// Renew is for every other place. It returns the columns anew, or [ErrMoot], or [ErrUnknownKey] or [secret.ErrOpen] for what does not open. Any other error
	// ends the pass, which begins again. It may read in the transaction, and writes nothing.
	Renew func(tx *store.Tx, row Row) ([][]byte, error)
	// Stale says that rows with [ErrMoot] are leftovers of ordinary work, and no damage.
	Stale bool
}

// Column is a column of bytes, and where in it the data key's version begins, counted from 0.
type Column struct {
	Name string
	At   int
}

// Where the version of the data key stands in what [Ring.Seal] and [Ring.MAC] return.
const (
	InEnvelope = 1
	InMAC      = 0
)

// Sealed returns a place with one sealed column.
func Sealed(table, column, purpose, id, n, text string, aad func(Row) (secret.AAD, error)) Place {
	return Place{Table: table, ID: id, N: n, Text: text, Columns: []Column{{column, InEnvelope}}, Purpose: purpose, AAD: aad}
}

// Row is a row of a [Place].
type Row struct {
	ID   string `db:"id"`
	N    int64  `db:"n"`
	Text string `db:"text"`
	A    []byte `db:"a"`
	B    []byte `db:"b"`
}

// ErrMoot says that what a row holds vouches for nothing: it does not fit what it was made for, so it stays as it is and loses its key.
var ErrMoot = errors.New("keyring: the row holds a MAC that does not fit")

// Name names the place in progress, logs and errors.
func (p Place) Name() string {
	names := make([]string, len(p.Columns))
	for i, c := range p.Columns {
		names[i] = c.Name
	}
	return p.Table + "." + strings.Join(names, "+")
}

// keys are the columns by which a row is found, with their values.
func (p Place) keys(row Row) (columns []string, values []any) {
	columns, values = []string{p.ID}, []any{row.ID}
	if p.N != "" {
		columns, values = append(columns, p.N), append(values, row.N)
	}
	if p.Text != "" {
		columns, values = append(columns, p.Text), append(values, row.Text)
	}
	return columns, values
}

// under is the condition that a row has something under one of the versions, of which there are n arguments from the given number on.
func (p Place) under(from, n int) string {
	marks := make([]string, n)
	for i := range marks {
		marks[i] = "$" + strconv.Itoa(from+i)
	}
	var out []string
	for _, c := range p.Columns {
		out = append(out, fmt.Sprintf("substr(%s, %d, 4) IN (%s)", c.Name, c.At+1, strings.Join(marks, ",")))
	}
	return "(" + strings.Join(out, " OR ") + ")"
}

func tags(versions []uint32) []any {
	out := make([]any, len(versions))
	for i, v := range versions {
		out[i] = binary.BigEndian.AppendUint32(nil, v)
	}
	return out
}

// count returns how many rows have something under one of the versions.
func (p Place) count(tx *store.Tx, versions []uint32) (n int64, err error) {
	err = tx.Get(&n, `SELECT COUNT(*) FROM `+p.Table+` WHERE `+p.under(1, len(versions)), tags(versions)...)
	return n, err
}

// batch reads the next rows after one that have something under one of the versions.
func (p Place) batch(tx *store.Tx, versions []uint32, after *Row, limit int) ([]Row, error) {
	return p.rows(tx, p.under(1, len(versions)), tags(versions), after, limit)
}

// rows reads the next rows after one for which a condition holds.
func (p Place) rows(tx *store.Tx, condition string, args []any, after *Row, limit int) ([]Row, error) {
	or := func(name, other string) string {
		if name == "" {
			return other
		}
		return name
	}
	b := "NULL"
	if len(p.Columns) > 1 {
		b = p.Columns[1].Name
	}
	query := fmt.Sprintf(`SELECT %s AS id, %s AS n, %s AS text, %s AS a, %s AS b FROM %s WHERE %s`, p.ID, or(p.N, "0"), or(p.Text, "''"), p.Columns[0].Name, b, p.Table,
		condition)
	columns, _ := p.keys(Row{})
	if after != nil {
		_, values := p.keys(*after)
		marks := make([]string, len(columns))
		for i := range columns {
			args = append(args, values[i])
			marks[i] = "$" + strconv.Itoa(len(args))
		}
		query += fmt.Sprintf(` AND (%s) > (%s)`, strings.Join(columns, ", "), strings.Join(marks, ", "))
	}
	var rows []Row
	err := tx.Select(&rows, query+` ORDER BY `+strings.Join(columns, ", ")+` LIMIT `+strconv.Itoa(limit), args...)
	return rows, err
}

// renew returns the row's columns under the active key.
func (p Place) renew(tx *store.Tx, r *Ring, row Row) ([][]byte, error) {
	if p.Renew != nil {
		return p.Renew(tx, row)
	}
	aad, err := p.AAD(row)
	if err != nil {
		return nil, errors.Join(secret.ErrOpen, err)
	}
	v, err := r.Open(p.Purpose, row.A, aad)
	if err != nil {
		return nil, err
	}
	box, err := r.Seal(p.Purpose, v, aad)
	return [][]byte{box}, err
}

// store puts the renewed columns in the place of those that were read, if these are still there, and reports whether they were.
func (p Place) store(tx *store.Tx, row Row, fresh [][]byte) (bool, error) {
	if len(fresh) != len(p.Columns) {
		return false, fmt.Errorf("keyring: %s was renewed in part", p.Name())
	}
	var args []any
	mark := func(v any) string { args = append(args, v); return "$" + strconv.Itoa(len(args)) }
	var set, where []string
	for i, c := range p.Columns {
		old := row.A
		if i == 1 {
			old = row.B
		}
		set = append(set, c.Name+" = "+mark(fresh[i]))
		if old == nil {
			where = append(where, c.Name+" IS NULL")
		} else {
			where = append(where, c.Name+" = "+mark(old))
		}
	}
	columns, values := p.keys(row)
	for i, c := range columns {
		where = append(where, c+" = "+mark(values[i]))
	}
	n, err := tx.Exec(`UPDATE `+p.Table+` SET `+strings.Join(set, ", ")+` WHERE `+strings.Join(where, " AND "), args...)
	return n == 1, err
}

// countAll returns how many rows of all places have something under one of the versions.
func countAll(ctx context.Context, db *store.DB, places []Place, versions []uint32) (all int64, err error) {
	if len(versions) == 0 {
		return 0, nil
	}
	for _, p := range places {
		var n int64
		err := db.Read(ctx, func(tx *store.Tx) (err error) {
			n, err = p.count(tx, versions)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("count what is sealed in %s: %w", p.Name(), err)
		}
		all += n
	}
	return all, nil
}

// Sealed returns how many rows have something under the data key that seals: as many as a change of it moves that begins now.
func (r *Rekeyer) Sealed(ctx context.Context) (int64, error) {
	return countAll(ctx, r.cfg.DB, r.cfg.Places, []uint32{r.cfg.Ring.Active()})
}
