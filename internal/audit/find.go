package audit

import (
	"bytes"
	"slices"

	"signalbox.dev/signalbox/internal/store"
)

// finder merges the two tables of records into one list, newest first, of what a filter matches.
type finder struct {
	events  eventStream
	batches batchStream
}

// candidate is a match with its place; its outcome is not decided yet.
type candidate struct {
	at   place
	line []byte
	seen glance
}

func newFinder(tx *store.Tx, f *filter, results *outcomes) *finder {
	used := f.Action == store.LeaseGranted || f.Action == store.LeaseOutcome
	return &finder{ // uses are in the batches and nothing else is; see store.md
		events:  eventStream{tx: tx, f: f, below: f.start.source, budget: f.budget, done: used},
		batches: batchStream{tx: tx, f: f, below: f.start.source, budget: f.budget, results: results, page: firstPage, done: f.Action != "" && !used},
	}
}

// next returns the next match. At the end it returns none; then a place other than the zero one says that a budget ran out and that
// everything down to that place was looked at.
func (s *finder) next() (*candidate, place, error) {
	if err := s.events.fetch(); err != nil {
		return nil, place{}, err
	}
	if err := s.batches.fetch(); err != nil {
		return nil, place{}, err
	}
	e, b := s.events.found, s.batches.found
	short, ended := s.reached()
	switch {
	case len(b) > 0 && (len(e) == 0 || e[0].at.older(b[0].at)) && (!short || ended.older(b[0].at)):
		s.batches.found = b[1:]
		return &b[0], place{}, nil
	case len(e) > 0 && (len(b) == 0 || b[0].at.older(e[0].at)) && (!short || ended.older(e[0].at)):
		s.events.found = e[1:]
		return &e[0], place{}, nil
	case short:
		return nil, ended, nil
	}
	return nil, place{}, nil
}

// reached reports whether a stream stopped short of its end without a match, and down to where all streams were looked at then.
func (s *finder) reached() (short bool, down place) {
	if len(s.events.found) == 0 && s.events.spent() {
		short, down = true, s.events.reached
	}
	if len(s.batches.found) == 0 && s.batches.spent() && (!short || down.older(s.batches.reached)) {
		short, down = true, s.batches.reached
	}
	return short, down
}

type recordRow struct {
	ID   string `db:"id"`
	Body []byte `db:"body"`
}

// eventStream reads audit_events, whose columns can be asked for.
type eventStream struct {
	tx    *store.Tx
	f     *filter
	below string // ids up to this one are still to be read; it itself only at the start
	begun bool
	done  bool
	// budget, reached and moved are as in batchStream.
	budget  int
	reached place
	moved   bool
	found   []candidate
}

const eventPage = 200

// spent reports whether the stream stopped short of its end.
func (s *eventStream) spent() bool { return !s.done && s.budget <= 0 }

func (s *eventStream) fetch() error {
	for len(s.found) == 0 && !s.done && (s.budget > 0 || !s.moved) {
		rows, err := s.page(min(eventPage, s.f.Limit+1))
		if err != nil {
			return err
		}
		for _, row := range rows {
			s.budget -= eventCost + len(row.Body)>>10
			s.reached = place{row.ID, -1}
			if !s.reached.older(s.f.start) {
				continue
			}
			s.moved = true
			if err := s.f.take(&s.found, s.reached, row.Body); err != nil {
				return err
			}
		}
	}
	return nil
}

// page reads the next rows, at most n, and notes when these are the last.
func (s *eventStream) page(n int) ([]recordRow, error) {
	var w store.Where
	w.Add("id >= ?", s.f.floor)
	if s.begun {
		w.Add("id < ?", s.below)
	} else {
		w.Add("id <= ?", s.below)
	}
	if s.f.Target != "" {
		w.Add("target_id = ?", s.f.Target)
	}
	if s.f.Action != "" {
		w.Add("action = ?", string(s.f.Action))
	}
	if s.f.RequestID != "" {
		w.Add("request_id = ?", s.f.RequestID)
	}
	rows, err := s.read(&w, n)
	if err != nil {
		return nil, err
	}
	s.begun, s.done = true, len(rows) < n
	if len(rows) > 0 {
		s.below = rows[len(rows)-1].ID
	}
	return rows, nil
}

// read returns the newest n rows. Who acted, on whose behalf, and what was acted on are columns with an index each: asked for together, an engine would sort all
// that either has, or go through everything.
func (s *eventStream) read(w *store.Where, n int) (rows []recordRow, err error) {
	own, of := []string{"actor_id = ?", "on_behalf_of = ?"}, s.f.Actor
	switch {
	case s.f.Subject != "" && of != "": // rare enough that all of the actor's are read
	case s.f.Subject != "":
		own, of = append(own, "target_id = ?"), s.f.Subject
	case of == "":
		err = s.tx.Select(&rows, `SELECT id, body FROM audit_events`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(n), w.Args()...)
		return rows, err
	}
	for _, column := range own {
		half := w.Clone()
		half.Add(column, of)
		var some []recordRow
		if err := s.tx.Select(&some, `SELECT id, body FROM audit_events`+half.SQL()+` ORDER BY id DESC LIMIT `+half.Arg(n), half.Args()...); err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	slices.SortFunc(rows, func(a, b recordRow) int { return newestFirst(a.ID, b.ID) })
	rows = slices.CompactFunc(rows, func(a, b recordRow) bool { return a.ID == b.ID }) // who acts on their own behalf
	return rows[:min(n, len(rows))], nil
}

// batchStream reads audit_batches. What a batch holds is known only from its body; for an actor or a target a trail says which to read.
type batchStream struct {
	tx      *store.Tx
	f       *filter
	below   string
	begun   bool
	ended   bool // there are no more batches than those in rows
	done    bool
	budget  int
	page    int   // how many batches are read next
	reached place // everything that is not older was looked at
	moved   bool  // something was looked at
	trail   *trail
	results *outcomes   // learns of what is read
	rows    []recordRow // batches that were read
	lines   [][]byte    // of the first of them, what was not looked at
	found   []candidate
}

const (
	// firstPage is how many batches are read first; there are more each time, up to batchPage, while they hold no more than pageBytes.
	firstPage = 2
	batchPage = 32
	pageBytes = 1 << 20
	// What is read costs so much of the budget: a batch, beside each kilobyte of it, and a row of audit_events.
	batchCost, eventCost = 1, 2
)

func costOf(row recordRow) int { return batchCost + len(row.Body)>>10 }

// spent reports whether the stream stopped short of its end.
func (s *batchStream) spent() bool { return !s.done && s.budget <= 0 }

// fetch sees to it that there is a match, unless there is none or the budget is spent. At least one record is looked at, so that every call gets on.
func (s *batchStream) fetch() error {
	if s.done {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	for len(s.found) == 0 && !s.done && (s.budget > 0 || !s.moved) {
		switch {
		case len(s.lines) > 0:
			if err := s.look(); err != nil {
				return err
			}
		case len(s.rows) > 0:
			s.open()
		case s.ended:
			s.done = true
		default:
			step := s.nextAny
			if s.trail != nil {
				step = s.nextOnTrail
			}
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// row returns the newest batch that is left without taking it up, for who looks at batches whole; nil at the end, and where the budget is spent.
func (s *batchStream) row() (*recordRow, error) {
	if s.done {
		return nil, nil
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	for len(s.rows) == 0 && !s.ended && s.budget > 0 {
		step := s.nextAny
		if s.trail != nil {
			step = s.nextOnTrail
		}
		if err := step(); err != nil {
			return nil, err
		}
	}
	if len(s.rows) == 0 {
		s.done = s.ended
		return nil, nil
	}
	return &s.rows[0], nil
}

// open takes up the first of the batches, or passes over one that can hold no match.
func (s *batchStream) open() {
	if row := s.rows[0]; s.f.worth(row.Body) {
		s.lines = bytes.Split(row.Body, newline)
		return
	}
	s.pass()
}

// pass says that all of the first batch was looked at.
func (s *batchStream) pass() {
	s.reached = place{s.rows[0].ID, 0}
	s.moved = s.moved || s.reached.older(s.f.start)
	s.rows, s.lines = s.rows[1:], nil
}

// look takes the newest record of the first batch that was not looked at.
func (s *batchStream) look() error {
	n := len(s.lines) - 1
	at, line := place{s.rows[0].ID, n}, s.lines[n]
	s.lines = s.lines[:n]
	if at.older(s.f.start) {
		s.reached, s.moved = at, true
		if err := s.f.take(&s.found, at, line); err != nil {
			return err
		}
	}
	if n == 0 {
		s.pass()
	}
	return nil
}

func (s *batchStream) begin() error {
	subjects := s.f.subjects()
	if s.begun || len(subjects) == 0 {
		return nil
	}
	t := newTrail(subjects, s.f.floor)
	cost := 0
	ok, err := t.begin(s.tx, s.f.loose, s.f.below(), &cost)
	s.budget -= cost
	if ok && err == nil {
		s.trail, s.begun = t, true
	}
	return err
}

// nextAny reads the next batches, whatever they hold.
func (s *batchStream) nextAny() error {
	var w store.Where
	w.Add("id >= ?", s.f.floor)
	if s.begun {
		w.Add("id < ?", s.below)
	} else {
		w.Add("id <= ?", s.below)
	}
	n := s.page
	if err := s.take(`SELECT id, body FROM audit_batches`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(n), w.Args()); err != nil {
		return err
	}
	if n := len(s.rows); n > 0 {
		upTo, last := s.rows[0].ID, s.rows[n-1].ID
		if s.begun {
			upTo = s.below // the last of the page before, so that there is no gap
		}
		if s.results != nil && s.f.Action != store.LeaseOutcome && len(s.f.common) == 0 {
			s.results.have(idRange{last, upTo})
		}
		s.below = last
	}
	s.begun, s.ended = true, len(s.rows) < n
	return nil
}

// nextOnTrail reads the next batches that the trail leads to.
func (s *batchStream) nextOnTrail() error {
	cost := 0
	ids, upTo, err := s.trail.next(s.tx, s.f.below(), s.page, &cost)
	s.budget -= cost
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		s.ended = upTo == ""
		s.reached, s.moved = place{upTo, 0}, true
		return nil
	}
	var w store.Where
	w.Add("id <= ?", ids[0])
	in := inList(&w, "id", ids)
	return s.take(`SELECT id, body FROM audit_batches`+w.SQL()+in+` ORDER BY id DESC`, w.Args())
}

// take reads batches, and says how many are read the next time.
func (s *batchStream) take(query string, args []any) error {
	if err := s.tx.Select(&s.rows, query, args...); err != nil {
		return err
	}
	s.budget -= batchCost
	bytes := 0
	for _, row := range s.rows {
		s.budget -= costOf(row)
		bytes += len(row.Body)
		if s.results != nil && s.f.Action != store.LeaseOutcome && holds(row.Body, s.f.common) { // those tell their outcome themselves
			s.results.collect(row)
		}
	}
	// A trail leads to acts as well, which are no batches: none read costs nothing next time either.
	s.page = min(2*s.page, batchPage, max(1, pageBytes*max(1, len(s.rows))/max(1, bytes)))
	return nil
}

// take adds the record to those found if it matches.
func (f *filter) take(found *[]candidate, at place, line []byte) error {
	if !f.worth(line) {
		return nil
	}
	g, ok := look(line)
	if !ok {
		_, err := store.DecodeEvent(line)
		return err
	}
	if f.match(g) && f.shows(g) {
		*found = append(*found, candidate{at, line, g})
	}
	return nil
}

// below returns an id such that the records of a batch can match only when its own id is less.
func (f *filter) below() string {
	if f.start.ordinal > 0 {
		return f.start.source + "0" // that batch may have older records, and no id is between the two
	}
	return f.start.source
}

// subjects are the ids by which the index can narrow the search.
func (f *filter) subjects() []string {
	var out []string
	for _, s := range []string{f.Actor, f.Target, f.Subject} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
