package backup

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// most bounds a text or bytes, and what else has a length: a wrong one must not take the memory.
	most = 1 << 30
	// mostColumns bounds the columns of a table.
	mostColumns = 1000
)

// Reader hands out what a backup holds. It is a store.Dumped: behind the last table it has seen the end of the file, and that nothing follows.
type Reader struct {
	Head Head

	progress func(done, total int64)
	open     *opening
	zip      *gzip.Reader
	in       *bufio.Reader
	table    store.Table
	left     int64
	tables   int
	rows     int64
	values   []any
}

// Open reads the head of a backup and opens it with the root key. progress is told how many rows of how many were read, now and then.
func Open(r io.Reader, root secret.RootKey, progress func(done, total int64)) (*Reader, error) {
	from := bufio.NewReaderSize(r, pieceSize)
	head, line, err := ReadHead(from)
	if err != nil {
		return nil, err
	}
	key, err := head.unwrap(root)
	if err != nil {
		return nil, err
	}
	aead, err := pieces(key, line)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	b := &Reader{Head: head, progress: progress, open: newOpening(from, aead)}
	if b.zip, err = gzip.NewReader(b.open); err != nil {
		return nil, told(err)
	}
	b.zip.Multistream(false)
	b.in = bufio.NewReaderSize(b.zip, pieceSize)
	return b, nil
}

// told makes of what went wrong inside the pieces what it is: an error of the disk stays, everything else says that this is not what was written.
func told(err error) error {
	var disk *fs.PathError
	if err == nil || errors.As(err, &disk) {
		return err
	}
	return ErrDamaged
}

// Table returns the next table; false behind the last, when the file has proved whole.
func (b *Reader) Table() (store.Table, bool, error) {
	if b.left != 0 {
		return store.Table{}, false, errors.New("backup: the table before was not read")
	}
	kind, err := b.in.ReadByte()
	if err != nil {
		return store.Table{}, false, told(err)
	}
	switch kind {
	case recordEnd:
		return store.Table{}, false, b.end()
	case recordTable:
	default:
		return store.Table{}, false, ErrDamaged
	}
	var t store.Table
	if t.Name, err = b.text(); err != nil {
		return t, false, err
	}
	n, err := b.length(mostColumns)
	if err != nil {
		return t, false, err
	}
	for range n {
		var c store.Column
		if c.Name, err = b.text(); err != nil {
			return t, false, err
		}
		kind, err := b.in.ReadByte()
		if err != nil {
			return t, false, told(err)
		}
		c.Kind = store.Kind(kind)
		t.Columns = append(t.Columns, c)
	}
	if t.Rows, err = b.number(); err != nil {
		return t, false, err
	}
	if t.Rows < 0 {
		return t, false, ErrDamaged
	}
	b.tables++
	b.table, b.left, b.values = t, t.Rows, make([]any, n)
	return t, true, nil
}

func (b *Reader) end() error {
	n, err := b.number()
	if err != nil {
		return err
	}
	if n != b.rows || n != b.Head.Rows || b.tables != b.Head.Tables {
		return ErrDamaged
	}
	// To the end of the gzip stream, and of the pieces behind it: there the file proves whole.
	for _, r := range []io.Reader{b.in, b.open} {
		if _, err := r.Read(make([]byte, 1)); err == nil {
			return ErrDamaged
		} else if !errors.Is(err, io.EOF) {
			return told(err)
		}
	}
	b.progress(b.rows, b.Head.Rows)
	return nil
}

// Row returns the next row of the table; false behind its last. The values are valid until the next call.
func (b *Reader) Row() ([]any, bool, error) {
	if b.left == 0 {
		return nil, false, nil
	}
	kind, err := b.in.ReadByte()
	if err != nil {
		return nil, false, told(err)
	}
	if kind != recordRow {
		return nil, false, ErrDamaged
	}
	for i, c := range b.table.Columns {
		if b.values[i], err = b.value(c.Kind); err != nil {
			return nil, false, err
		}
	}
	b.left--
	if b.rows++; b.rows%4096 == 0 {
		b.progress(b.rows, b.Head.Rows)
	}
	return b.values, true, nil
}

func (b *Reader) value(kind store.Kind) (any, error) {
	there, err := b.in.ReadByte()
	if err != nil {
		return nil, told(err)
	}
	if there == 0 {
		return nil, nil
	}
	if there != 1 {
		return nil, ErrDamaged
	}
	switch kind {
	case store.Whole:
		return b.number()
	case store.Text:
		return b.text()
	case store.Bytes:
		return b.bytes()
	}
	return nil, ErrDamaged
}

func (b *Reader) number() (int64, error) {
	n, err := binary.ReadVarint(b.in)
	return n, told(err)
}

func (b *Reader) length(limit uint64) (int, error) {
	n, err := binary.ReadUvarint(b.in)
	if err != nil {
		return 0, told(err)
	}
	if n > limit {
		return 0, ErrDamaged
	}
	return int(n), nil
}

func (b *Reader) bytes() ([]byte, error) {
	n, err := b.length(most)
	if err != nil {
		return nil, err
	}
	out := make([]byte, n)
	if _, err := io.ReadFull(b.in, out); err != nil {
		return nil, told(err)
	}
	return out, nil
}

func (b *Reader) text() (string, error) {
	out, err := b.bytes()
	return string(out), err
}
