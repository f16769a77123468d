package audit

import (
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/store"
)

// need notes that a search for the subject must lead to the batch whose first leaf this is.
func (s *chunkCheck) need(subject []byte, first int64) {
	if len(subject) > 0 {
		s.index.postings = append(s.index.postings, newPosting(subjectHash(subject), first))
	}
}

// span notes that the segment has this batch.
func (s *chunkCheck) span(source string) {
	if s.index.lowest == "" || source < s.index.lowest {
		s.index.lowest = source
	}
	s.index.highest = max(s.index.highest, source)
}

// searchGone is what is said of a record that a search would miss.
const searchGone = "a search reference of the record is gone, so that searches by its actor or target miss it"

// references checks that the stored index of the segment is what its records make it. What it has too much is told only when the records
// are as they were, because an index of other records is right.
func (s *chunkCheck) references(tx *store.Tx) error {
	want, base := s.index, s.index.number*segmentLeaves
	if want.number < 0 || want.number >= s.indexed {
		return nil // not written yet
	}
	want.sort()
	sound := len(s.list) == 0
	have, err := readIndex(tx, want.number)
	if err != nil {
		return err
	}
	if slices.Equal(want.postings, have.postings) && want.lowest == have.lowest && want.highest == have.highest {
		return nil
	}
	slices.Sort(have.postings) // as far as a search finds them
	told := map[int64]bool{}
	for _, p := range want.postings {
		if _, ok := slices.BinarySearch(have.postings, p); !ok && !told[p.place()] {
			told[p.place()] = true
			s.add(Deleted, base+p.place(), base+p.place()+1, "", searchGone)
		}
	}
	if !sound || len(told) > 0 {
		return nil
	}
	if have.lowest > want.lowest || have.highest < want.highest {
		s.aside(Deleted, "the search index says that leaves %d to %d are of another time, so that searches miss them", base, base+segmentLeaves-1)
		return nil
	}
	s.aside(Edited, "the search index of leaves %d to %d was changed; it leads to all of their records and to others", base, base+segmentLeaves-1)
	return nil
}

// readIndex reads the stored index of a segment, and leaves out what no search finds: postings in the wrong row or out of order, and all of
// them when the segment is not listed.
func readIndex(tx *store.Tx, number int64) (*segment, error) {
	s := &segment{number: number}
	var at struct {
		Lowest  string `db:"lowest"`
		Highest string `db:"highest"`
	}
	err := tx.Get(&at, `SELECT lowest, highest FROM audit_segments WHERE segment = $1`, number)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.lowest, s.highest = at.Lowest, at.Highest
	var rows []struct {
		Shard   int64  `db:"shard"`
		Entries []byte `db:"entries"`
	}
	// Shard by shard, or PostgreSQL could read the whole table: the key begins with the shard.
	all := make([]int64, shards)
	for i := range all {
		all[i] = int64(i)
	}
	var w store.Where
	w.Add("segment = ?", number)
	in := inList(&w, "shard", all)
	if err := tx.Select(&rows, `SELECT shard, entries FROM audit_postings`+w.SQL()+in+` ORDER BY shard`, w.Args()...); err != nil {
		return nil, err
	}
	for _, row := range rows {
		last := posting(0)
		for b := row.Entries; len(b) >= postingSize; b = b[postingSize:] {
			p := decodePosting(b)
			if int64(p.hash()>>shardShift) != row.Shard || p < last {
				break
			}
			s.postings = append(s.postings, p)
			last = p
		}
	}
	return s, nil
}
