package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// maxSources bounds the rows of one transaction, and maxLeaves their leaves: on SQLite no request is recorded while it runs.
	maxSources = 128
	maxLeaves  = 4096
)

// reach says how far back to look for what waits.
type reach bool

const (
	// recent looks at the last minute, where nearly everything is. On PostgreSQL the references that were removed lie in the way until
	// vacuum takes them, which a long transaction elsewhere can hold up for hours.
	recent reach = false
	// thorough looks at everything, and finds what committed very late or on a clock that is slow.
	thorough reach = true
)

// floor returns the smallest id to look at.
func (r reach) floor() string {
	if r == thorough {
		return store.IDFloor(sourcePrefix, time.UnixMilli(0))
	}
	return store.IDFloor(sourcePrefix, time.Now().Add(-time.Minute))
}

// drain sequences until nothing is pending.
func (l *Log) drain(ctx context.Context, far reach) error {
	if l.right == nil {
		far = thorough // this instance has just taken over
	}
	swept := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := l.step(ctx, far)
		if err == nil {
			l.tell(func(h *Health) { h.Passed = time.Now() })
			if !more {
				l.extendIndex(ctx, l.catchUp)
				return nil
			}
			l.extendIndex(ctx, 1)
			continue
		}
		l.right = nil // the commit may or may not have happened
		if errors.Is(err, errFenced) {
			l.stepDown()
		}
		if !store.IsConflict(err) || swept {
			return err
		}
		swept = true
		if err := l.sweep(ctx); err != nil {
			return err
		}
	}
}

// step sequences up to maxSources records in one transaction and says whether more may wait.
func (l *Log) step(ctx context.Context, far reach) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	if err := l.load(ctx); err != nil {
		return false, err
	}
	rows, more, err := l.readPending(ctx, far)
	if err != nil || len(rows) == 0 {
		return more, err
	}
	next := l.right.clone()
	var nodes []any
	for i := range rows {
		rows[i].First = next.size
		for h := range bytesOf(rows[i].Hashes) {
			next.add(h, func(level int, idx int64, h tlog.Hash) { nodes = append(nodes, level, idx, h[:]) })
		}
	}
	leaves, ids := make([]any, 0, 4*len(rows)), make([]any, 0, len(rows))
	for _, row := range rows {
		leaves = append(leaves, row.First, row.Count, row.Source, row.Hashes)
		ids = append(ids, row.Source)
	}
	err = l.db.Bookkeep(ctx, store.Sequence, func(tx *store.Tx) error {
		if err := l.fence(tx); err != nil {
			return err
		}
		if err := tx.InsertMany(`audit_leaves (first_leaf, count, source_id, hashes)`, 4, leaves); err != nil {
			return err
		}
		if err := tx.InsertMany(`audit_nodes (level, idx, hash)`, 3, nodes); err != nil {
			return err
		}
		return deletePending(tx, ids)
	})
	if err != nil {
		return false, err
	}
	l.loose.follow(looseRow{first: l.last, source: l.newest}, rows)
	l.right, l.last, l.newest = next, rows[len(rows)-1].First, rows[len(rows)-1].Source
	if l.index != nil {
		for _, row := range rows {
			l.index.see(row.First, row.Source, row.subjects)
		}
	}
	l.tell(func(h *Health) { h.Size = next.size })
	return more, nil
}

// load reads the right edge from the database when this instance does not know it, and where the index ends.
func (l *Log) load(ctx context.Context) error {
	if l.right != nil && l.index != nil {
		return nil
	}
	return l.db.Read(ctx, func(tx *store.Tx) error {
		size, last, err := readSize(tx)
		if err != nil {
			return err
		}
		signed, at, err := readSigned(tx)
		if err != nil {
			return err
		}
		right, err := readEdge(tx, size)
		if err != nil {
			return err
		}
		index, err := newIndexer(tx, size)
		if err != nil {
			return err
		}
		l.right, l.last, l.newest, l.signed, l.index = right, last, "", signed, index
		l.saw(size, signed, at)
		return nil
	})
}

// readSigned returns the size of the newest checkpoint and when it was signed, zeros while there is none.
func readSigned(tx *store.Tx) (int64, time.Time, error) {
	var row struct {
		Size int64      `db:"size"`
		At   store.Time `db:"at"`
	}
	err := tx.Get(&row, `SELECT size, at FROM audit_checkpoints ORDER BY size DESC LIMIT 1`)
	if errors.Is(err, store.ErrNotFound) {
		return 0, time.Time{}, nil
	}
	return row.Size, row.At.Time(), err
}

// saw takes note of how long the log in the database is. It never becomes shorter by itself.
func (l *Log) saw(size, signed int64, at time.Time) {
	l.tell(func(h *Health) {
		if size < h.Size {
			l.log.Error("the audit log in the database is shorter than it was: it was cut or rolled back; run `signalbox audit verify` with an anchored checkpoint",
				"leaves", size, "before", h.Size)
		}
		h.Size, h.Signed, h.SignedAt = size, signed, at
	})
}

// recordBody is the body of the record that x.source_id names, NULL when it is gone. It is a lookup for each row wherever it stands: a
// join would let PostgreSQL read whole tables of records when its statistics are old.
const recordBody = `COALESCE((SELECT b.body FROM audit_batches b WHERE b.id = x.source_id), (SELECT e.body FROM audit_events e WHERE e.id = x.source_id))`

// readPending reads and hashes the oldest waiting records. Records never change, so this needs no place in the sequencing transaction.
// A reference whose record is gone stays where it is, for verification to report; the next reading looks past it.
func (l *Log) readPending(ctx context.Context, far reach) (rows []leafRow, more bool, err error) {
	limit := maxSources + l.ghosts
	err = l.db.Read(ctx, func(tx *store.Tx) error {
		rows, more, l.ghosts = make([]leafRow, 0, 16), false, 0
		found, err := tx.Query(`SELECT x.source_id, `+recordBody+` FROM audit_pending x WHERE x.source_id >= $1 ORDER BY x.source_id LIMIT $2`, far.floor(), limit)
		if err != nil {
			return err
		}
		defer func() { _ = found.Close() }()
		var hash leafHasher
		var total int64
		for found.Next() {
			var row leafRow
			var body blob
			if err := found.Scan(&row.Source, &body); err != nil {
				return err
			}
			if body == nil {
				l.ghosts++
				continue
			}
			row.Hashes = hash.body(body)
			row.Count = int64(len(row.Hashes) / tlog.HashSize)
			row.subjects = subjectsOf(row.Source, body)
			rows = append(rows, row)
			if total += row.Count; total >= maxLeaves || len(rows) == maxSources {
				more = true
				return nil
			}
		}
		more = len(rows)+l.ghosts == limit
		return found.Err()
	})
	return rows, more, err
}

// leafHasher hashes leaves with one buffer.
type leafHasher struct{ buf []byte }

// leaf returns tlog.RecordHash(leaf) without its allocations.
func (h *leafHasher) leaf(leaf []byte) tlog.Hash {
	h.buf = append(append(h.buf[:0], 0), leaf...)
	return sha256.Sum256(h.buf)
}

// body returns the hashes of a body's leaves, one a line. A leaf has no line end in it, so an event is a body of one line.
func (h *leafHasher) body(body []byte) []byte {
	out := make([]byte, 0, tlog.HashSize*(1+bytes.Count(body, newline)))
	for line := range bytes.SplitSeq(body, newline) {
		sum := h.leaf(line)
		out = append(out, sum[:]...)
	}
	return out
}

var newline = []byte{'\n'}

// bytesOf iterates over the hashes of a row.
func bytesOf(hashes []byte) func(func(tlog.Hash) bool) {
	return func(yield func(tlog.Hash) bool) {
		for ; len(hashes) >= tlog.HashSize; hashes = hashes[tlog.HashSize:] {
			if !yield(tlog.Hash(hashes[:tlog.HashSize])) {
				return
			}
		}
	}
}

// blob receives bytes as the driver has them, without a copy. They are valid until the next row.
type blob []byte

// Scan implements the scanner of database/sql.
func (b *blob) Scan(src any) error {
	switch v := src.(type) {
	case []byte:
		*b = v
	case string:
		*b = []byte(v)
	case nil:
		*b = nil
	default:
		return fmt.Errorf("audit: a column of bytes holds a %T", src)
	}
	return nil
}

// deletePending removes exactly the given references.
func deletePending(tx *store.Tx, ids []any) error {
	want := int64(len(ids))
	n := 1
	for n < len(ids) {
		n *= 2
	}
	for len(ids) < n {
		ids = append(ids, ids[0]) // few statement texts: a driver keeps a prepared statement of each
	}
	var text strings.Builder
	text.WriteString(`DELETE FROM audit_pending WHERE source_id IN (`)
	for i := range ids {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('$')
		text.WriteString(strconv.Itoa(i + 1))
	}
	text.WriteByte(')')
	got, err := tx.Exec(text.String(), ids...)
	if err == nil && got != want {
		err = fmt.Errorf("audit: %d of %d waiting references were gone", want-got, want)
	}
	return err
}

// sweep removes references to records that are leaves already. A commit whose fate was unknown can leave one behind when the second try
// comes after the record was sequenced.
func (l *Log) sweep(ctx context.Context) error {
	return l.db.Bookkeep(ctx, store.Sequence, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM audit_pending WHERE EXISTS (SELECT 1 FROM audit_leaves WHERE audit_leaves.source_id = audit_pending.source_id)`)
		if err == nil && n > 0 {
			l.log.Warn("records waited that are in the audit log already; their references were removed", "references", n)
		}
		return err
	})
}
