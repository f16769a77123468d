package audit

import (
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

// trail lists, newest first, the batches that may hold events about all of some subjects: those that the index names, and those of which an
// instance remembers it or knows nothing while they have no index. Segments are segments of the log, whose order is close to that of ids and not the same, so their ranges of ids may
// overlap; what was found waits until no segment that is left can hold a newer one.
type trail struct {
	hashes []uint32
	floor  string

	indexed int64    // segments below this one have an index
	found   []string // ids of batches that were found, newest first
	leads   []lead   // segments with hits whose ids are not known yet, the one with the newest id first
	before  string   // segments whose newest id is below this one were not looked at
	ended   bool     // there are none
}

// lead says where in a segment the subjects are.
type lead struct {
	number  int64
	highest string
	leaves  []int64
}

const (
	// maxLoose bounds the batches without an index of which a search knows no more than their ids; beyond them it reads batches as if nobody had asked for a subject.
	maxLoose = 4 * segmentLeaves
	// segmentPage is the number of segments that are looked at together.
	segmentPage = 64
	// idsPage bounds the rows that are asked for one by one.
	idsPage = 128
)

func newTrail(subjects []string, floor string) *trail {
	t := &trail{floor: floor, before: sourcePrefix + "_8"} // above every id
	for _, s := range subjects {
		t.hashes = append(t.hashes, subjectHash(s))
	}
	return t
}

// begin lists the batches that have no index and may hold the subjects, and returns false when too many of them are unknown. The transaction sees one state
// of the log: whatever has an index later is listed here already. The ids are compared as expressions: by their index SQLite would go through all leaves of
// the time asked for, not through those behind the last segment. It counts what it read in cost.
func (t *trail) begin(tx *store.Tx, x *looseIndex, below string, cost *int) (ok bool, err error) {
	known, fresh, head, after, err := readLoose(tx, x, cost)
	if err != nil {
		return false, err
	}
	t.indexed = head.Indexed
	for _, rows := range [...][]looseRow{known, fresh} {
		for i := range rows {
			if r := &rows[i]; r.source >= t.floor && r.source < below && r.first >= t.indexed*segmentLeaves && r.mayHold(t.hashes) {
				t.found = append(t.found, r.source)
			}
		}
	}
	var unknown []string
	if err := tx.Select(&unknown, `SELECT source_id FROM audit_leaves WHERE first_leaf > $4 AND source_id || '' >= $1 AND source_id || '' < $2
		UNION ALL SELECT source_id FROM audit_pending WHERE source_id >= $1 AND source_id < $2 LIMIT $3`, t.floor, below, maxLoose+1, after); err != nil {
		return false, err
	}
	t.found = append(t.found, unknown...)
	slices.SortFunc(t.found, newestFirst)
	t.found = slices.Compact(t.found) // a record that was sequenced and waits all the same
	return len(unknown) <= maxLoose, nil
}

func newestFirst(a, b string) int { return strings.Compare(b, a) }

// next returns up to n of the newest batches that are left, all below the id below; none at the end. It counts what it read in cost. When it
// has found nothing in a page of segments, it returns the id down to which there is nothing.
func (t *trail) next(tx *store.Tx, below string, n int, cost *int) (ids []string, upTo string, err error) {
	for read := 0; ; {
		if ids = t.ripe(n); len(ids) > 0 {
			return ids, "", nil
		}
		switch {
		case len(t.leads) > 0:
			*cost++
			if err := t.resolve(tx, below); err != nil {
				return nil, "", err
			}
		case t.ended:
			return nil, "", nil
		case read > 0 && t.before < below:
			return nil, t.before, nil
		default:
			*cost++
			read++
			if err := t.look(tx, below); err != nil {
				return nil, "", err
			}
		}
	}
}

// ripe takes what was found and is newer than everything that may still be.
func (t *trail) ripe(n int) []string {
	k := 0
	for ; k < len(t.found) && k < n; k++ {
		if len(t.leads) > 0 && t.found[k] <= t.leads[0].highest || !t.ended && t.found[k] < t.before {
			break
		}
	}
	ids := t.found[:k]
	t.found = t.found[k:]
	return ids
}

// look reads the postings of the next page of segments.
func (t *trail) look(tx *store.Tx, below string) error {
	var page []struct {
		Segment int64  `db:"segment"`
		Highest string `db:"highest"`
	}
	if err := tx.Select(&page, `SELECT segment, highest FROM audit_segments WHERE highest < $1 AND highest >= $2 AND lowest < $3 AND segment < $4 ORDER BY highest DESC LIMIT $5`,
		t.before, t.floor, below, t.indexed, segmentPage); err != nil {
		return err
	}
	t.ended = len(page) < segmentPage
	if len(page) == 0 {
		return nil
	}
	t.before = page[len(page)-1].Highest
	numbers := make([]int64, len(page))
	for i, s := range page {
		numbers[i] = s.Segment
	}
	hits := map[int64][]int64{} // segment → places that every hash so far is at
	for i, h := range t.hashes {
		entries, err := readPostings(tx, h>>shardShift, numbers)
		if err != nil {
			return err
		}
		for _, number := range numbers {
			at := placesOf(entries[number], h)
			if i > 0 {
				at = common(hits[number], at)
			}
			hits[number] = at
		}
	}
	for _, s := range page {
		if at := hits[s.Segment]; len(at) > 0 {
			t.leads = append(t.leads, lead{s.Segment, s.Highest, at})
		}
	}
	return nil
}

// common returns what is in both of two sorted lists.
func common(a, b []int64) []int64 {
	return slices.DeleteFunc(a, func(v int64) bool {
		_, ok := slices.BinarySearch(b, v)
		return !ok
	})
}

// readPostings returns the entries of a shard by segment.
func readPostings(tx *store.Tx, shard uint32, segments []int64) (map[int64][]byte, error) {
	var w store.Where
	w.Add("shard = ?", int64(shard))
	in := inList(&w, "segment", segments)
	var rows []struct {
		Segment int64  `db:"segment"`
		Entries []byte `db:"entries"`
	}
	err := tx.Select(&rows, `SELECT segment, entries FROM audit_postings`+w.SQL()+in, w.Args()...)
	out := make(map[int64][]byte, len(rows))
	for _, row := range rows {
		out[row.Segment] = row.Entries
	}
	return out, err
}

// inList returns the condition that a column has one of the values. It pads the list to a power of two, because a driver keeps a prepared
// statement of each text.
func inList[T int64 | string](w *store.Where, column string, values []T) string {
	n := 1
	for n < len(values) {
		n *= 2
	}
	marks := make([]string, n)
	for i := range marks {
		marks[i] = w.Arg(values[min(i, len(values)-1)])
	}
	return " AND " + column + " IN (" + strings.Join(marks, ",") + ")"
}

// resolve finds the ids of the batches of the first leads, of as many as one question takes. The ids are compared as expressions, as in begin: PostgreSQL, which
// takes a range of unknown ends for a narrow one, would go through all leaves of the time asked for (265 ms in place of 20 with a million events).
func (t *trail) resolve(tx *store.Tx, below string) error {
	var leaves []int64
	for n := 0; len(t.leads) > 0 && (n == 0 || n+len(t.leads[0].leaves) <= idsPage); n = len(leaves) {
		base := t.leads[0].number * segmentLeaves
		for _, at := range t.leads[0].leaves {
			leaves = append(leaves, base+at)
		}
		t.leads = t.leads[1:]
	}
	slices.Sort(leaves)
	var rows []leafRow
	var w store.Where
	w.Add("source_id || '' >= ?", t.floor)
	w.Add("source_id || '' < ?", below)
	var in string
	if len(leaves) <= idsPage {
		in = inList(&w, "first_leaf", leaves)
	} else {
		in = " AND first_leaf >= " + w.Arg(leaves[0]) + " AND first_leaf <= " + w.Arg(leaves[len(leaves)-1])
	}
	if err := tx.Select(&rows, `SELECT first_leaf, source_id FROM audit_leaves`+w.SQL()+in, w.Args()...); err != nil {
		return err
	}
	for _, row := range rows {
		if _, ok := slices.BinarySearch(leaves, row.First); ok {
			t.found = append(t.found, row.Source)
		}
	}
	slices.SortFunc(t.found, newestFirst)
	return nil
}
