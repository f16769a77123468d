package audit

import (
	"bytes"

	"signalbox.dev/signalbox/internal/store"
)

// finder merges the two tables of records into one list, newest first, of what a filter matches.
type finder struct {
	events  eventStream
	batches batchStream
}

// candidate is a match with its place.
type candidate struct {
	at    place
	event store.Event
}

func newFinder(tx *store.Tx, f *filter) *finder {
	return &finder{
		events:  eventStream{tx: tx, f: f, below: f.start.source},
		batches: batchStream{tx: tx, f: f, below: f.start.source, budget: f.budget},
	}
}

// next returns the next match. At the end it returns no event; then a place other than the zero one says that the budget ran out and
// that everything down to that place was looked at.
func (s *finder) next() (*store.Event, place, error) {
	if err := s.events.fetch(); err != nil {
		return nil, place{}, err
	}
	if err := s.batches.fetch(); err != nil {
		return nil, place{}, err
	}
	e, b := s.events.found, s.batches.found
	switch {
	case len(b) > 0 && (len(e) == 0 || e[0].at.older(b[0].at)):
		s.batches.found = b[1:]
		return &b[0].event, b[0].at, nil
	case len(e) > 0 && (!s.batches.spent() || s.batches.reached.older(e[0].at)):
		s.events.found = e[1:]
		return &e[0].event, e[0].at, nil
	case s.batches.spent():
		return nil, s.batches.reached, nil
	}
	return nil, place{}, nil
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
	found []candidate
}

const eventPage = 200

func (s *eventStream) fetch() error {
	for len(s.found) == 0 && !s.done {
		var w store.Where
		w.Add("id >= ?", s.f.floor)
		if s.begun {
			w.Add("id < ?", s.below)
		} else {
			w.Add("id <= ?", s.below)
		}
		if s.f.Actor != "" {
			w.Add("(actor_id = ? OR on_behalf_of = ?)", s.f.Actor, s.f.Actor)
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
		page := min(eventPage, s.f.Limit+1)
		var rows []recordRow
		if err := s.tx.Select(&rows, `SELECT id, body FROM audit_events`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(page), w.Args()...); err != nil {
			return err
		}
		for _, row := range rows {
			at := place{row.ID, -1}
			e, err := store.DecodeEvent(row.Body)
			if err != nil {
				return err
			}
			if at.older(s.f.start) && s.f.match(&e) {
				s.found = append(s.found, candidate{at, e})
			}
		}
		s.begun, s.done = true, len(rows) < page
		if len(rows) > 0 {
			s.below = rows[len(rows)-1].ID
		}
	}
	return nil
}

// batchStream reads audit_batches. What a batch holds is known only from its body; for an actor or a target a trail says which to read.
type batchStream struct {
	tx      *store.Tx
	f       *filter
	below   string
	begun   bool
	done    bool
	budget  int
	reached place // everything that is not older was looked at
	trail   *trail
	found   []candidate
}

const batchPage = 32

// spent reports whether the stream stopped short of its end.
func (s *batchStream) spent() bool { return !s.done && s.budget <= 0 }

func (s *batchStream) fetch() error {
	if err := s.begin(); err != nil {
		return err
	}
	for len(s.found) == 0 && !s.done && s.budget > 0 {
		step := s.nextAny
		if s.trail != nil {
			step = s.nextOnTrail
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *batchStream) begin() error {
	subjects := s.f.subjects()
	if s.begun || len(subjects) == 0 {
		return nil
	}
	t := newTrail(subjects, s.f.floor)
	ok, err := t.begin(s.tx, s.f.below())
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
	var rows []recordRow
	if err := s.tx.Select(&rows, `SELECT id, body FROM audit_batches`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(batchPage), w.Args()...); err != nil {
		return err
	}
	s.begun, s.done = true, len(rows) < batchPage
	s.budget -= len(rows) + 1
	for _, row := range rows {
		s.below, s.reached = row.ID, place{row.ID, 0}
		if err := s.take(row); err != nil {
			return err
		}
	}
	return nil
}

// nextOnTrail reads the next batches that the trail leads to.
func (s *batchStream) nextOnTrail() error {
	cost := 0
	ids, upTo, err := s.trail.next(s.tx, s.f.below(), batchPage, &cost)
	s.budget -= cost
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		s.done = upTo == ""
		s.reached = place{upTo, 0}
		return nil
	}
	s.budget -= len(ids)
	var w store.Where
	w.Add("id <= ?", ids[0])
	in := inList(&w, "id", ids)
	var rows []recordRow
	if err := s.tx.Select(&rows, `SELECT id, body FROM audit_batches`+w.SQL()+in+` ORDER BY id DESC`, w.Args()...); err != nil {
		return err
	}
	for _, row := range rows {
		if err := s.take(row); err != nil {
			return err
		}
	}
	s.reached = place{ids[len(ids)-1], 0}
	return nil
}

func (s *batchStream) take(row recordRow) error {
	if !s.f.worth(row.Body) {
		return nil
	}
	lines := bytes.Split(row.Body, newline)
	for n := len(lines) - 1; n >= 0; n-- {
		at := place{row.ID, n}
		if !at.older(s.f.start) || !s.f.worth(lines[n]) {
			continue
		}
		e, err := store.DecodeEvent(lines[n])
		if err != nil {
			return err
		}
		if s.f.match(&e) {
			s.found = append(s.found, candidate{at, e})
		}
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
	for _, s := range []string{f.Actor, f.Target} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
