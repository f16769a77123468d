package audit

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/store"
)

// chunkLeaves is the width of the range of leaves that one worker checks in one short transaction. It is a segment of the index.
const chunkLeaves = 4096

// chunk is what a worker found out about the rows that begin in a range of leaves.
type chunk struct {
	rows   []rowMark
	hashes []tlog.Hash // as stored, of all rows in order
	swaps  []swap
	findings
}

type rowMark struct {
	first  int64
	count  int
	source string
}

// swap is a leaf whose record hashes to something else than was stored.
type swap struct {
	leaf         int64
	stored, body tlog.Hash
}

// The columns of a record are read as one text, because each column costs as much as hashing the record. A line end in a column makes the
// text ambiguous; such rows are compared again column by column.
const chunkQuery = `SELECT l.first_leaf, l.count, l.source_id, l.hashes,
	e.at || '` + "\n" + `' || e.action || '` + "\n" + `' || e.actor_id || '` + "\n" + `' || e.target_id || '` + "\n" + `' || e.on_behalf_of || '` + "\n" + `' || e.request_id,
	b.at || '` + "\n" + `' || b.count, COALESCE(e.body, b.body)
	FROM audit_leaves l LEFT JOIN audit_events e ON e.id = l.source_id AND e.id >= $3 AND e.id <= $4
	LEFT JOIN audit_batches b ON b.id = l.source_id AND b.id >= $3 AND b.id <= $4
	WHERE l.first_leaf >= $1 AND l.first_leaf < $2 ORDER BY l.first_leaf`

// chunkBounds gives chunkQuery the range of ids, without which PostgreSQL reads the whole tables of records for each chunk.
const chunkBounds = `SELECT MIN(source_id) AS lo, MAX(source_id) AS hi FROM audit_leaves WHERE first_leaf >= $1 AND first_leaf < $2`

// chunkRow is one row of chunkQuery. Its byte fields are the driver's.
type chunkRow struct {
	first, count               whole
	source                     text
	hashes, event, batch, body blob
}

// checkChunk checks every row that begins in [lo, hi): that the records are there, hash to their leaves, are what their rows and index
// columns say, and can be found through the index, which ends before the segment indexed. The range lies in one segment.
func checkChunk(ctx context.Context, db *store.DB, lo, hi, indexed int64) (*chunk, error) {
	var c *chunk
	err := db.Read(ctx, func(tx *store.Tx) error {
		c = &chunk{}
		s := chunkCheck{chunk: c, index: &segment{number: segmentOf(lo)}, indexed: indexed}
		var bounds struct{ Lo, Hi *string }
		if err := tx.Get(&bounds, chunkBounds, lo, hi); err != nil {
			return err
		}
		rows, err := tx.Query(chunkQuery, lo, hi, bounds.Lo, bounds.Hi)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var r chunkRow
			if err := rows.Scan(&r.first, &r.count, &r.source, &r.hashes, &r.event, &r.batch, &r.body); err != nil {
				return err
			}
			s.row(&r)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		if err := s.columns(tx); err != nil {
			return err
		}
		return s.references(tx)
	})
	return c, err
}

// chunkCheck is the work on one chunk.
type chunkCheck struct {
	*chunk
	hash     leafHasher
	buf      []byte
	doubtful []doubt
	index    *segment // what the index must be
	indexed  int64    // segments that have one
}

type doubt struct {
	source string
	leaf   int64
	want   []string
}

func (s *chunkCheck) row(r *chunkRow) {
	first, source := r.first.n, string(r.source)
	n := len(r.hashes) / tlog.HashSize
	at := len(s.hashes)
	for h := range bytesOf(r.hashes) {
		s.hashes = append(s.hashes, h)
	}
	stored := s.hashes[at:]
	s.rows = append(s.rows, rowMark{first, n, source})
	end := first + int64(max(n, 1))
	if !r.first.ok || !r.count.ok || len(r.hashes)%tlog.HashSize != 0 || r.count.n != int64(n) || n == 0 {
		s.add(Edited, first, end, source, "the row of the log holds %d bytes of hashes for a count of %d", len(r.hashes), r.count.n)
	}
	switch {
	case r.body == nil && r.event == nil && r.batch == nil:
		s.add(Deleted, first, end, recordID(source, n), "the record is gone; the log still has its hash")
		return
	case r.event != nil && r.batch != nil:
		s.add(Unreferenced, first, end, source, "an event and a batch have the same id")
	case r.event == nil && r.batch == nil:
		s.add(Edited, first, end, source, "a column of the record holds nothing")
	}
	if r.batch != nil && r.event == nil {
		s.batch(r, first, source, stored)
		return
	}
	if s.leaf(r.body, first, source, stored, 0, 1) {
		s.event(r, first, source)
	}
	if n > 1 {
		s.add(Deleted, first+1, end, source, "the log has %d leaves for a single event", n)
	}
}

// leaf compares a record with its stored hash and says whether they agree.
func (s *chunkCheck) leaf(record []byte, leaf int64, id string, stored []tlog.Hash, i, records int) bool {
	if i >= len(stored) {
		s.add(Unreferenced, leaf, leaf+1, id, "the log has %d leaves for %d records", len(stored), records)
		return false
	}
	sum := s.hash.leaf(record)
	if sum == stored[i] {
		return true
	}
	s.add(Edited, leaf, leaf+1, id, "the record does not hash to its leaf")
	if len(s.swaps) < maxFindings {
		s.swaps = append(s.swaps, swap{leaf, stored[i], sum})
	}
	return false
}

// event compares the columns of audit_events with the record.
func (s *chunkCheck) event(r *chunkRow, leaf int64, source string) {
	g, ok := look(r.body)
	if !ok || string(g.id) != source {
		s.add(Edited, leaf, leaf+1, source, "the record is not the one that its row names")
		return
	}
	at, rest, _ := bytes.Cut(r.event, newline)
	s.buf = s.buf[:0]
	for i, field := range [...][]byte{g.action, g.actor, g.target, g.behalf, g.request} {
		if i > 0 {
			s.buf = append(s.buf, '\n')
		}
		s.buf = append(s.buf, field...)
	}
	if !s.sameTime(at, g.at) || !bytes.Equal(rest, s.buf) {
		s.add(Edited, leaf, leaf+1, source, "an index column does not agree with the record")
		return
	}
	if bytes.Count(rest, newline) != 4 {
		s.doubtful = append(s.doubtful, doubt{source, leaf, []string{string(g.action), string(g.actor), string(g.target), string(g.behalf), string(g.request)}})
	}
}

// sameTime compares a column of microseconds with the time in a record.
func (s *chunkCheck) sameTime(column, record []byte) bool {
	us, err := strconv.ParseInt(string(column), 10, 64)
	if err != nil {
		return false
	}
	var b [40]byte
	return bytes.Equal(time.UnixMicro(us).UTC().AppendFormat(b[:0], store.TimeFormat), record)
}

// batch compares the records of a batch with their leaves, and its columns with its id.
func (s *chunkCheck) batch(r *chunkRow, first int64, source string, stored []tlog.Hash) {
	records := bytes.Count(r.body, newline) + 1
	at, count, _ := bytes.Cut(r.batch, newline)
	us, err := strconv.ParseInt(string(at), 10, 64)
	made, ok := store.IDTime(sourcePrefix, source)
	if err != nil || !ok || max(us-made.UnixMicro(), made.UnixMicro()-us) > 1 || string(count) != strconv.Itoa(records) {
		s.add(Edited, first, first+int64(max(len(stored), 1)), place{source, 0}.id(), "a column of the batch does not agree with its records")
	}
	if ok {
		s.span(source)
	}
	i := 0
	for record := range bytes.SplitSeq(r.body, newline) {
		leaf := first + int64(i)
		s.buf = append(append(s.buf[:0], source...), '_')
		s.buf = strconv.AppendInt(s.buf, int64(i), 10)
		g, ok := look(record)
		switch {
		case ok && bytes.Equal(g.id, s.buf):
			if s.leaf(record, leaf, "", stored, i, records) {
				for _, subject := range [...][]byte{g.actor, g.target, g.behalf} {
					s.need(subject, first)
				}
			} else {
				s.name(string(s.buf))
			}
		case s.leaf(record, leaf, string(s.buf), stored, i, records):
			s.add(Edited, leaf, leaf+1, string(s.buf), "the record is not the one that its row names")
		}
		i++
	}
	if i < len(stored) {
		s.add(Deleted, first+int64(i), first+int64(len(stored)), place{source, i}.id(), "the batch has %d records for %d leaves", i, len(stored))
	}
}

// name gives the newest finding its id; it spares making one for each record that is as it should be.
func (s *chunkCheck) name(id string) { s.list[len(s.list)-1].ID = id }

// columns compares column by column where the joined text was ambiguous.
func (s *chunkCheck) columns(tx *store.Tx) error {
	for _, d := range s.doubtful {
		var have struct {
			Action  string `db:"action"`
			Actor   string `db:"actor_id"`
			Target  string `db:"target_id"`
			Behalf  string `db:"on_behalf_of"`
			Request string `db:"request_id"`
		}
		err := tx.Get(&have, `SELECT action, actor_id, target_id, on_behalf_of, request_id FROM audit_events WHERE id = $1`, d.source)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || !slices.Equal(d.want, []string{have.Action, have.Actor, have.Target, have.Behalf, have.Request}) {
			s.add(Edited, d.leaf, d.leaf+1, d.source, "an index column does not agree with the record")
		}
	}
	return nil
}

// recordID names the first record of a row whose record is gone.
func recordID(source string, leaves int) string {
	if leaves > 1 {
		return place{source, 0}.id()
	}
	return source
}

// whole receives an integer, and whatever else somebody put into the column.
type whole struct {
	n  int64
	ok bool
}

// Scan implements the scanner of database/sql.
func (w *whole) Scan(src any) error {
	w.n, w.ok = src.(int64)
	return nil
}

// text receives a string, and whatever else somebody put into the column.
type text string

// Scan implements the scanner of database/sql.
func (t *text) Scan(src any) error {
	switch v := src.(type) {
	case string:
		*t = text(v)
	case []byte:
		*t = text(v)
	default:
		*t = ""
	}
	return nil
}
