package audit

import (
	"bytes"
	"time"

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
		batches: batchStream{tx: tx, f: f, below: f.start.source, budget: f.budget, minutes: minuteList{above: -1}},
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

// batchStream reads audit_batches. What a batch holds is known only from its body; for an actor or a target audit_refs says in which
// minutes to look.
type batchStream struct {
	tx      *store.Tx
	f       *filter
	below   string
	begun   bool
	done    bool
	budget  int
	reached place // everything that is not older was looked at
	minutes minuteList
	found   []candidate
}

const batchPage = 32

// spent reports whether the stream stopped short of its end.
func (s *batchStream) spent() bool { return !s.done && s.budget <= 0 }

func (s *batchStream) fetch() error {
	for len(s.found) == 0 && !s.done && s.budget > 0 {
		floor := s.f.floor
		if subjects := s.f.subjects(); len(subjects) > 0 {
			lo, hi, ok, err := s.minutes.window(s.tx, subjects, s.below, s.f.floor)
			if err != nil {
				return err
			}
			if !ok {
				s.done = true
				return nil
			}
			floor = max(floor, lo)
			if hi < s.below {
				s.below, s.begun = hi, true
			}
		}
		var w store.Where
		w.Add("id >= ?", floor)
		if s.begun {
			w.Add("id < ?", s.below)
		} else {
			w.Add("id <= ?", s.below)
		}
		var rows []recordRow
		if err := s.tx.Select(&rows, `SELECT id, body FROM audit_batches`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(batchPage), w.Args()...); err != nil {
			return err
		}
		s.begun = true
		s.budget -= len(rows) + 1
		for _, row := range rows {
			s.below, s.reached = row.ID, place{row.ID, 0}
			if err := s.take(row); err != nil {
				return err
			}
		}
		if len(rows) < batchPage {
			if s.minutes.above < 0 {
				s.done = true
			}
			s.minutes.pop()
			s.below, s.reached = floor, place{floor, 0}
		}
	}
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

// subjects are the ids by which audit_refs can narrow the search.
func (f *filter) subjects() []string {
	var out []string
	for _, s := range []string{f.Actor, f.Target} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// minuteList walks, newest first, over the minutes in which batches hold all of the subjects.
type minuteList struct {
	list  []int64
	above int64 // the oldest minute read so far; -1 before the first
	ended bool
}

const minutePage = 128

// window returns the range of batch ids [lo, hi) of the newest minute at or below the id below, and false when there is none left.
func (m *minuteList) window(tx *store.Tx, subjects []string, below, floor string) (lo, hi string, ok bool, err error) {
	for {
		for len(m.list) > 0 {
			lo, hi = minuteStart(m.list[0]), minuteStart(m.list[0]+1)
			if lo <= below {
				return lo, hi, true, nil
			}
			m.list = m.list[1:]
		}
		if m.ended {
			return "", "", false, nil
		}
		if m.above < 0 {
			m.above = minuteOf(below) + 1
		}
		var w store.Where
		w.Add("r.minute < ?", m.above)
		w.Add("r.minute >= ?", minuteOf(floor))
		w.Add("r.subject = ?", subjects[0])
		for _, other := range subjects[1:] {
			w.Add("EXISTS (SELECT 1 FROM audit_refs o WHERE o.subject = ? AND o.minute = r.minute)", other)
		}
		if err := tx.Select(&m.list, `SELECT r.minute FROM audit_refs r`+w.SQL()+` ORDER BY r.minute DESC LIMIT `+w.Arg(minutePage), w.Args()...); err != nil {
			return "", "", false, err
		}
		m.ended = len(m.list) < minutePage
		if len(m.list) > 0 {
			m.above = m.list[len(m.list)-1]
		}
	}
}

func (m *minuteList) pop() {
	if len(m.list) > 0 {
		m.list = m.list[1:]
	}
}

// minuteMicros is the length of the minutes of audit_refs in microseconds.
const minuteMicros = int64(time.Minute / time.Microsecond)

// minuteStart returns the smallest id of a minute.
func minuteStart(minute int64) string {
	return store.IDFloor(sourcePrefix, time.UnixMicro(minute*minuteMicros))
}

func minuteOf(id string) int64 {
	at, _ := store.IDTime(sourcePrefix, id)
	return at.UnixMicro() / minuteMicros
}
