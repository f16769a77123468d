package audit

import (
	"slices"
	"sync"

	"signalbox.dev/signalbox/internal/store"
)

// What lies behind the last full segment has no index in the database, and may be thousands of batches: every page of the dashboard that shows records is
// itself a record. Each instance keeps in memory what the batches there are about, so that a search reads those alone that can hold what it wants. What is
// in the log is never changed, so what was learned of a row stays true as long as the row is there; a search asks the database only for the rows that are
// newer, once it has seen that the last one it remembers is still where it was (docs/design/audit.md says what that leaves open). Nothing but the choice of
// batches comes from here: what is shown is read from the database, and verification does not look here at all.

const (
	// looseLeaves bounds the leaves that are remembered, and with them the memory: a row takes about 100 bytes and has at least one leaf, so that is a
	// megabyte.
	looseLeaves = 2 * segmentLeaves
	// looseSubjects bounds the subjects of those rows. A batch that goes beyond it is read by every search.
	looseSubjects = 4 * looseLeaves
	// learnLeaves and learnBytes bound what one search reads to learn of; what lies beyond it reads as if nobody knew anything of it.
	learnLeaves, learnBytes = segmentLeaves, 4 << 20
)

// looseRow is a row of audit_leaves.
type looseRow struct {
	first    int64
	source   string
	unknown  bool     // what it is about could not be read
	subjects []uint32 // none for the record of an act, which is no batch
}

// looseRows are all rows of the log whose first leaf is from on, up to the last of them. They are shared and never changed, only added to.
type looseRows struct {
	life int64 // another one, when rows were dropped that the database has no more
	from int64
	rows []looseRow
}

// newest returns the first leaf of the last row, -1 when there is none.
func (v *looseRows) newest() int64 {
	if len(v.rows) == 0 {
		return -1
	}
	return v.rows[len(v.rows)-1].first
}

// upTo returns the number of rows up to the one at that leaf, 0 when another one is there.
func (v *looseRows) upTo(first int64, source string) int {
	i, ok := slices.BinarySearchFunc(v.rows, first, func(r looseRow, first int64) int { return int(min(1, max(-1, r.first-first))) })
	if !ok || v.rows[i].source != source {
		return 0
	}
	return i + 1
}

// looseIndex is what an instance remembers of the newest rows. A nil one remembers nothing.
type looseIndex struct {
	mu       sync.Mutex
	now      looseRows
	subjects int // of all rows
}

func (x *looseIndex) view() looseRows {
	if x == nil {
		return looseRows{}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

// cut drops what was remembered behind the first n rows of a view, which the database does not have: it was rolled back or replaced, or whoever looked
// saw an older state of it. What is behind them is read again.
func (x *looseIndex) cut(v looseRows, n int) looseRows {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.rows = v.rows[:n:n] // what is added will not be written over what others look at
	if x.now.life == v.life {
		x.now.life++
		v.life = x.now.life
		x.set(v.from, v.rows)
	}
	return v
}

// set replaces the rows.
func (x *looseIndex) set(from int64, rows []looseRow) {
	x.now.from, x.now.rows, x.subjects = from, rows, 0
	for _, r := range rows {
		x.subjects += len(r.subjects)
	}
}

// forget drops the rows below a leaf, which have an index.
func (x *looseIndex) forget(below int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.now.from < below {
		n := 0
		for n < len(x.now.rows) && x.now.rows[n].first < below {
			n++
		}
		x.set(below, slices.Clone(x.now.rows[n:]))
	}
}

// learn adds the rows of the log that follow the leaf after, all of them up to the last; that leaf was the newest of a view, or is the one before from.
func (x *looseIndex) learn(life, after int64, rows []looseRow) {
	if x == nil || len(rows) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.now.life != life {
		return
	}
	if len(x.now.rows) == 0 || x.now.newest() < after {
		x.set(after+1, nil)
	}
	x.add(rows)
}

// follow adds the rows that this instance has just put into the log, behind one that it put there before, if what is remembered ends with one of them.
func (x *looseIndex) follow(before looseRow, rows []leafRow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.now.rows) == 0 {
		return
	}
	last := x.now.rows[len(x.now.rows)-1]
	n := -1
	if last.first == before.first && last.source == before.source {
		n = 0
	}
	added := make([]looseRow, len(rows))
	for i, row := range rows {
		added[i] = looseRow{first: row.First, source: row.Source, subjects: row.subjects}
		if last.first == row.First && last.source == row.Source {
			n = i + 1
		}
	}
	if n >= 0 {
		x.add(added[n:])
	}
}

// add appends what is newer, as far as there is room.
func (x *looseIndex) add(rows []looseRow) {
	newest := x.now.newest()
	for _, r := range rows {
		if r.first <= newest {
			continue
		}
		if r.first >= x.now.from+looseLeaves {
			return
		}
		if x.subjects+len(r.subjects) > looseSubjects {
			r.unknown, r.subjects = true, nil
		}
		r.subjects = slices.Clone(r.subjects)
		x.subjects += len(r.subjects)
		x.now.rows = append(x.now.rows, r)
	}
}

// looseHead is where the log in the database ends: the first segment without an index, the newest row, and the newest of those up to a leaf.
type looseHead struct {
	Indexed int64  `db:"indexed"`
	Newest  int64  `db:"newest"`
	First   int64  `db:"first"`
	Source  string `db:"source"`
}

// readLoose returns the rows without an index that are remembered and those that it learned now, with the end of the log, and the leaf behind which the
// rows are not among them. What it read it counts in cost.
func readLoose(tx *store.Tx, x *looseIndex, cost *int) (known, fresh []looseRow, head looseHead, after int64, err error) {
	v := x.view()
	err = tx.Get(&head, `SELECT COALESCE(MAX(segment) + 1, 0) AS indexed, COALESCE((SELECT MAX(first_leaf) FROM audit_leaves), -1) AS newest,
		COALESCE((SELECT first_leaf FROM audit_leaves WHERE first_leaf <= $1 ORDER BY first_leaf DESC LIMIT 1), -1) AS first,
		COALESCE((SELECT source_id FROM audit_leaves WHERE first_leaf <= $1 ORDER BY first_leaf DESC LIMIT 1), '') AS source FROM audit_segments`, v.newest())
	if err != nil {
		return nil, nil, head, 0, err
	}
	base := head.Indexed * segmentLeaves
	if len(v.rows) > 0 {
		if n := v.upTo(head.First, head.Source); n < len(v.rows) {
			v = x.cut(v, n)
		}
	}
	switch {
	case x == nil, len(v.rows) > 0 && base < v.from: // this transaction sees a state in which more had no index
		return nil, nil, head, base - 1, nil
	case len(v.rows) == 0 || v.newest() < base:
		v.from, v.rows = base, nil
		after = base - 1
	default:
		after = v.newest()
	}
	x.forget(base)
	if end := min(after+1+learnLeaves, base+looseLeaves); head.Newest > after && after+1 < end {
		if fresh, err = readRows(tx, after, end, cost); err != nil {
			return nil, nil, head, 0, err
		}
		x.learn(v.life, after, fresh)
		if len(fresh) > 0 {
			after = fresh[len(fresh)-1].first
		}
	}
	return v.rows, fresh, head, after, nil
}

// readRows reads rows of the log with what they are about, those behind a leaf and before another, in order. Of acts it reads a byte, to tell them from
// records that are gone, which it takes for unknown.
func readRows(tx *store.Tx, after, end int64, cost *int) ([]looseRow, error) {
	found, err := tx.Query(`SELECT x.first_leaf, x.source_id, COALESCE((SELECT b.body FROM audit_batches b WHERE b.id = x.source_id),
		(SELECT substr(e.body, 1, 1) FROM audit_events e WHERE e.id = x.source_id)) FROM audit_leaves x
		WHERE x.first_leaf > $1 AND x.first_leaf < $2 ORDER BY x.first_leaf LIMIT $3`, after, end, learnLeaves)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	var rows []looseRow
	bytes := 0
	for bytes < learnBytes && found.Next() {
		var r looseRow
		var body blob
		if err := found.Scan(&r.first, &r.source, &body); err != nil {
			return nil, err
		}
		bytes += len(body)
		if r.unknown = body == nil; !r.unknown {
			r.subjects = subjectsOf(r.source, body)
		}
		rows = append(rows, r)
	}
	*cost += batchCost + len(rows)/learnedAUnit + bytes>>10
	return rows, found.Err()
}

// learnedAUnit is how many rows are learned at the price of one batch that is read by itself.
const learnedAUnit = 4

// mayHold reports whether the row may be a batch with events about all of the subjects.
func (r *looseRow) mayHold(hashes []uint32) bool {
	if r.unknown {
		return true
	}
	for _, h := range hashes {
		if _, ok := slices.BinarySearch(r.subjects, h); !ok {
			return false
		}
	}
	return true
}
