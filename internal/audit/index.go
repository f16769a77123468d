package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// The search index leads from a subject (the id of an actor, a target, or who was acted for) to the batches that hold events about it.
// It is derived from the log alone and cut into segments of segmentLeaves leaves: once a segment is full, the leader writes its postings,
// the hashes of its subjects with the places of their batches, in one transaction. What lies behind the last full segment has no index;
// loose.go says how a search finds that. So nothing of it is written with an event, a crash loses nothing, and a year of events takes a
// few small rows in which to look.

const (
	// segmentLeaves is the width of a segment: 16 bits hold a place in it. It is that of a chunk, so that a verification has all of it.
	segmentLeaves = chunkLeaves
	// shards is into how many rows the postings of a segment are parted by hash, so that a search reads few of them. It must be a power
	// of two, and shardShift agree with it.
	shards     = 128
	shardShift = 32 - 7
	// postingSize is the length of an entry: a hash of four bytes, and the place of the batch's first leaf in the segment.
	postingSize = 6
	// keptSegments bounds the full segments that wait in memory to be written; what is not kept is read from the log again.
	keptSegments = 4
	// catchUp bounds the segments that one pass writes when the index is behind, as after an upgrade.
	catchUp = 16
)

// posting is a subject's hash, shifted, with the place of a batch. Postings sort by hash.
type posting uint64

func newPosting(hash uint32, leaf int64) posting {
	return posting(hash)<<16 | posting(leaf%segmentLeaves)
}

func (p posting) hash() uint32 { return uint32(p >> 16) }
func (p posting) place() int64 { return int64(p & 0xffff) }

// subjectHash is FNV-1a. A collision costs a search the reading of a batch, nothing else.
func subjectHash[T string | []byte](subject T) uint32 {
	h := uint32(2166136261)
	for i := range len(subject) {
		h = (h ^ uint32(subject[i])) * 16777619
	}
	return h
}

// segment is the index of a range of leaves.
type segment struct {
	number          int64
	lowest, highest string // batch
	postings        []posting
}

// add notes a row of the log. Events of acts have no subjects here: their table has columns for them.
func (s *segment) add(first int64, source string, subjects []uint32) {
	if subjects == nil {
		return
	}
	if s.lowest == "" || source < s.lowest {
		s.lowest = source
	}
	s.highest = max(s.highest, source)
	for _, h := range subjects {
		s.postings = append(s.postings, newPosting(h, first))
	}
}

// segmentOf returns the segment that a leaf is in. Somebody may have made a leaf with a negative index.
func segmentOf(leaf int64) int64 {
	if leaf < 0 {
		return -1
	}
	return leaf / segmentLeaves
}

// sort puts the postings into the order in which they are stored.
func (s *segment) sort() {
	slices.Sort(s.postings)
	s.postings = slices.Compact(s.postings)
}

// subjectsOf returns the hashes of the subjects of a batch, nil for the record of an act. What cannot be read has none; verification
// reports it.
func subjectsOf(source string, body []byte) []uint32 {
	var out []uint32
	for line := range bytes.SplitSeq(body, newline) {
		g, ok := look(line)
		if !ok {
			continue
		}
		if len(g.id) <= len(source) { // no ordinal: it is no batch
			return nil
		}
		if out == nil {
			out = make([]uint32, 0, 16)
		}
		for _, subject := range [...][]byte{g.actor, g.target, g.behalf} {
			if len(subject) > 0 {
				out = append(out, subjectHash(subject))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// indexer keeps what the leader has seen of segments that are not written yet.
type indexer struct {
	next int64              // the segment to be written next
	kept map[int64]*segment // those that were seen from their first row on
	last int64              // the segment of the newest row seen, -1 before the first
}

// see takes note of a row that was added to the log. Rows come in order, and none is left out.
func (x *indexer) see(first int64, source string, subjects []uint32) {
	number := segmentOf(first)
	if number != x.last {
		if x.last >= 0 && len(x.kept) < keptSegments || first == 0 {
			x.kept[number] = &segment{number: number}
		}
		x.last = number
	}
	if s := x.kept[number]; s != nil {
		s.add(first, source, subjects)
	}
}

// newIndexer begins behind the last segment in the database, for a log of so many leaves.
func newIndexer(tx *store.Tx, size int64) (*indexer, error) {
	next, err := readIndexed(tx)
	x := &indexer{next: next, kept: map[int64]*segment{}, last: -1}
	if size > 0 {
		x.last = (size - 1) / segmentLeaves
	}
	return x, err
}

// readIndexed returns the number of segments in the index.
func readIndexed(tx *store.Tx) (int64, error) {
	var n int64
	err := tx.Get(&n, `SELECT COALESCE(MAX(segment) + 1, 0) FROM audit_segments`)
	return n, err
}

// extendIndex writes up to limit segments that are full. A failure never holds up the log: searches read more batches until it is mended.
func (l *Log) extendIndex(ctx context.Context, limit int) {
	for range limit {
		if l.index == nil || l.right == nil || (l.index.next+1)*segmentLeaves > l.right.size {
			return
		}
		err := l.indexNext(ctx)
		if err == nil {
			continue
		}
		l.index = nil // the commit may or may not have happened
		if !errors.Is(err, errFenced) && ctx.Err() == nil && time.Since(l.groaned) >= complainEvery {
			l.groaned = time.Now()
			l.log.Error("the search index of the audit log cannot be extended; the log is complete, searches by actor or target take longer", "cause", err)
		}
		return
	}
}

// indexNext writes one segment.
func (l *Log) indexNext(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	x := l.index
	s := x.kept[x.next]
	if s == nil {
		var err error
		if s, err = readSegment(ctx, l.db, x.next); err != nil {
			return err
		}
	}
	s.sort()
	rows := s.rows()
	err := l.db.Bookkeep(ctx, store.Sequence, func(tx *store.Tx) error {
		if err := l.fence(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO audit_segments (segment, lowest, highest) VALUES ($1,$2,$3)`, s.number, s.lowest, s.highest); err != nil {
			return err
		}
		return tx.InsertMany(`audit_postings (shard, segment, entries)`, 3, rows)
	})
	if err == nil {
		delete(x.kept, x.next)
		x.next++
		l.loose.forget(x.next * segmentLeaves)
	}
	return err
}

// readSegment makes the index of a segment from the log.
func readSegment(ctx context.Context, db *store.DB, number int64) (*segment, error) {
	var s *segment
	err := db.Read(ctx, func(tx *store.Tx) error {
		s = &segment{number: number}
		rows, err := tx.Query(`SELECT x.first_leaf, x.source_id, (SELECT b.body FROM audit_batches b WHERE b.id = x.source_id) FROM audit_leaves x
			WHERE x.first_leaf >= $1 AND x.first_leaf < $2`, number*segmentLeaves, (number+1)*segmentLeaves)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var first int64
			var source string
			var body blob
			if err := rows.Scan(&first, &source, &body); err != nil {
				return err
			}
			if body != nil {
				s.add(first, source, subjectsOf(source, body))
			}
		}
		return rows.Err()
	})
	return s, err
}

// rows are the values of audit_postings for a sorted segment.
func (s *segment) rows() []any {
	var out []any
	for left := s.postings; len(left) > 0; {
		shard, n := left[0].hash()>>shardShift, 0
		for n < len(left) && left[n].hash()>>shardShift == shard {
			n++
		}
		out = append(out, int64(shard), s.number, encodePostings(left[:n]))
		left = left[n:]
	}
	return out
}

func encodePostings(postings []posting) []byte {
	b := make([]byte, 0, postingSize*len(postings))
	for _, p := range postings {
		b = binary.BigEndian.AppendUint32(b, p.hash())
		b = binary.BigEndian.AppendUint16(b, uint16(p.place()))
	}
	return b
}

func decodePosting(b []byte) posting {
	return posting(binary.BigEndian.Uint32(b))<<16 | posting(binary.BigEndian.Uint16(b[4:]))
}

// placesOf returns the places of a hash in the entries of its shard. They are sorted, unless somebody changed them.
func placesOf(entries []byte, hash uint32) []int64 {
	n := len(entries) / postingSize
	lo, hi := 0, n
	for lo < hi {
		mid := (lo + hi) / 2
		if decodePosting(entries[mid*postingSize:]).hash() < hash {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	var out []int64
	for ; lo < n; lo++ {
		p := decodePosting(entries[lo*postingSize:])
		if p.hash() != hash {
			break
		}
		out = append(out, p.place())
	}
	return out
}
