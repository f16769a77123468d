package backup

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Inside the pieces is a gzip stream of records: a table (its name, its columns and its number of rows), each of its rows, and an end with the number of all rows.
// Numbers are varints, texts and bytes have their length before them, and 0 stands before what is null, 1 before what is not.
const (
	recordTable = 'T'
	recordRow   = 'R'
	recordEnd   = 'Z'
)

// Options of a backup.
type Options struct {
	// ID is the backup's, of store.NewID("bak").
	ID      string
	Root    secret.RootKey
	Version string
	// Wrappings go into the head.
	Wrappings []Wrapping
	// Progress is told how many rows of how many were written, now and then.
	Progress func(done, total int64)
}

// Write writes a backup of db. Only when it returns without an error, and what it wrote is on the disk, there is one.
func Write(ctx context.Context, db *store.DB, to io.Writer, o Options) (Head, error) {
	w := &writer{to: to, o: o}
	if err := db.Dump(ctx, w); err != nil {
		return Head{}, err
	}
	return w.head, w.end()
}

// writer is a store.Dumper.
type writer struct {
	to      io.Writer
	o       Options
	head    Head
	sealing *sealing
	zip     *gzip.Writer
	out     *bufio.Writer
	columns []store.Column
	rows    int64
	scratch []byte
}

// Begin writes the head.
func (w *writer) Begin(snap store.Snapshot) error {
	key, box, err := wrapped(w.o.Root, w.o.ID)
	if err != nil {
		return err
	}
	w.head = Head{Format: format, ID: w.o.ID, At: snap.At, Version: w.o.Version, Schema: snap.Schema, Engine: snap.Engine, RootKey: w.o.Root.ID(),
		Tables: len(snap.Tables), Rows: snap.Rows(), Key: box, Wrappings: w.o.Wrappings}
	line, err := w.head.line()
	if err != nil {
		return err
	}
	aead, err := pieces(key, line)
	if err != nil {
		return err
	}
	if _, err := w.to.Write(line); err != nil {
		return err
	}
	w.sealing = newSealing(w.to, aead)
	if w.zip, err = gzip.NewWriterLevel(w.sealing, gzip.BestSpeed); err != nil {
		return err
	}
	w.out = bufio.NewWriterSize(w.zip, pieceSize)
	return nil
}

// Table writes what a table is.
func (w *writer) Table(t store.Table) error {
	w.columns = t.Columns
	b := append(w.scratch[:0], recordTable)
	b = appendText(b, t.Name)
	b = binary.AppendUvarint(b, uint64(len(t.Columns)))
	for _, c := range t.Columns {
		b = append(appendText(b, c.Name), byte(c.Kind))
	}
	b = binary.AppendVarint(b, t.Rows)
	w.scratch = b
	_, err := w.out.Write(b)
	return err
}

// Row writes a row.
func (w *writer) Row(values []any) error {
	b := append(w.scratch[:0], recordRow)
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, 0)
		case int64:
			b = binary.AppendVarint(append(b, 1), v)
		case string:
			b = appendText(append(b, 1), v)
		case []byte:
			b = binary.AppendUvarint(append(b, 1), uint64(len(v)))
			b = append(b, v...)
		default:
			return errors.New("backup: a value of no kind")
		}
	}
	if w.scratch = b; cap(b) > 1<<20 { // one wide row must not stay
		w.scratch = nil
	}
	if w.rows++; w.rows%4096 == 0 {
		w.progress()
	}
	_, err := w.out.Write(b)
	return err
}

func (w *writer) progress() {
	if w.o.Progress != nil {
		w.o.Progress(w.rows, w.head.Rows)
	}
}

func (w *writer) end() error {
	if _, err := w.out.Write(binary.AppendVarint([]byte{recordEnd}, w.rows)); err != nil {
		return err
	}
	w.progress()
	return errors.Join(w.out.Flush(), w.zip.Close(), w.sealing.Close())
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
