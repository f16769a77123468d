package audit

import (
	"bytes"
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Leaf is a record as it lies in the log, for who passes the log on.
type Leaf struct {
	Index int64
	// Hash is the hash that the log has of it, whatever the record is now.
	Hash tlog.Hash
	// Record is the record byte for byte; nil when it is gone.
	Record []byte
}

// Origin returns the name of the log, which is that of the key that signs its checkpoints.
func (l *Log) Origin() string { return l.signer.Name() }

// Leaves returns the leaves from an index on in their order, at most count of them and not many more bytes than size, but at least one where there is one. A
// leaf that is gone is left out, so indexes may have gaps in a log that was tampered with.
func (l *Log) Leaves(ctx context.Context, from int64, count, size int) ([]Leaf, error) {
	var out []Leaf
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT x.first_leaf, x.hashes, `+recordBody+` FROM audit_leaves x
			WHERE x.first_leaf >= (SELECT COALESCE(MAX(first_leaf), 0) FROM audit_leaves WHERE first_leaf <= $1) ORDER BY x.first_leaf LIMIT $2`, from, count+1)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		total := 0
		for rows.Next() {
			var first int64
			var hashes, body blob
			if err := rows.Scan(&first, &hashes, &body); err != nil {
				return err
			}
			left := []byte(body)
			for i := int64(0); len(hashes) >= tlog.HashSize; i, hashes = i+1, hashes[tlog.HashSize:] {
				var line []byte
				if left != nil {
					line, left, _ = bytes.Cut(left, newline)
				}
				if first+i < from {
					continue
				}
				leaf := Leaf{Index: first + i, Hash: tlog.Hash(hashes[:tlog.HashSize])}
				if len(line) > 0 {
					leaf.Record = bytes.Clone(line)
				}
				out = append(out, leaf)
				if total += len(line); len(out) == count || total >= size {
					return nil
				}
			}
		}
		return rows.Err()
	})
	return out, err
}

// Extent returns the number of leaves, and the size of the newest checkpoint, 0 while there is none.
func Extent(tx *store.Tx) (size, signed int64, err error) {
	if size, _, err = readSize(tx); err != nil {
		return 0, 0, err
	}
	c, err := latest(tx)
	if fault.KindOf(err) == fault.NotFound {
		return size, 0, nil
	}
	return size, c.Size, err
}

// RecordedAt returns about when the first record from a leaf on was recorded; the zero time when there is none.
func RecordedAt(tx *store.Tx, leaf int64) (time.Time, error) {
	var source string
	err := tx.Get(&source, `SELECT source_id FROM audit_leaves WHERE first_leaf >= (SELECT COALESCE(MAX(first_leaf), 0) FROM audit_leaves WHERE first_leaf <= $1) ORDER BY first_leaf LIMIT 1`, leaf)
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, nil
	}
	at, _ := store.IDTime(sourcePrefix, source)
	return at, err
}

// SignedAfter returns when the first checkpoint of more than so many leaves was signed; the zero time when there is none.
func SignedAfter(tx *store.Tx, size int64) (time.Time, error) {
	var at store.Time
	err := tx.Get(&at, `SELECT at FROM audit_checkpoints WHERE size > $1 ORDER BY size LIMIT 1`, size)
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, nil
	}
	return at.Time(), err
}
