package audit

import (
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

// sourcePrefix begins the id of every event and of every batch.
const sourcePrefix = "evt"

// place is where an event lies: in a row of its own (ordinal -1), or as the ordinal-th record of a batch.
type place struct {
	source  string
	ordinal int
}

// maxOrdinal is above the number of events that any batch holds.
const maxOrdinal = 1 << 20

// parseID reads an event id: evt_<26>, or evt_<26>_<n> for the n-th event of a batch.
func parseID(id string) (place, bool) {
	p := place{source: id, ordinal: -1}
	if source, n, ok := cutOrdinal(id); ok {
		v, err := strconv.Atoi(n)
		if err != nil || v < 0 || v >= maxOrdinal || strconv.Itoa(v) != n {
			return place{}, false
		}
		p = place{source, v}
	}
	return p, store.ValidID(sourcePrefix, p.source)
}

func cutOrdinal(id string) (source, ordinal string, ok bool) {
	const length = len(sourcePrefix) + 1 + 26
	if len(id) <= length || id[length] != '_' {
		return "", "", false
	}
	return id[:length], id[length+1:], true
}

// id returns the event's id.
func (p place) id() string {
	if p.ordinal < 0 {
		return p.source
	}
	return p.source + "_" + strconv.Itoa(p.ordinal)
}

// older reports whether p comes after q in a list whose newest event is first.
func (p place) older(q place) bool {
	if p.source != q.source {
		return p.source < q.source
	}
	return p.ordinal < q.ordinal
}

// glance holds the fields of a record that index columns repeat, and its outcome.
type glance struct{ id, at, action, actor, target, behalf, outcome, request []byte }

// look reads those fields from a leaf without decoding the rest. It knows the order in which package store writes a record; where the
// bytes are not of that form, or an id holds an escape, it decodes the record in full.
func look(leaf []byte) (glance, bool) {
	s := scanner{text: leaf}
	var g glance
	s.lit(`{"id":`)
	g.id = s.str()
	s.lit(`,"at":`)
	g.at = s.str()
	s.lit(`,"actor":`)
	g.actor = s.ref()
	g.behalf = s.field(`,"on_behalf_of":`)
	s.lit(`,"action":`)
	g.action = s.str()
	s.lit(`,"target":`)
	g.target = s.ref()
	s.lit(`,"outcome":`)
	g.outcome = s.str()
	if s.has(`,"reason":`) {
		s.skip()
	}
	g.request = s.field(`,"request_id":`)
	if !s.bad {
		return g, true
	}
	e, err := store.DecodeEvent(leaf)
	if err != nil {
		return glance{}, false
	}
	at := e.At.UTC().AppendFormat(nil, store.TimeFormat)
	return glance{[]byte(e.ID), at, []byte(e.Action), []byte(e.Actor.ID), []byte(e.Target.ID), []byte(e.OnBehalf), []byte(e.Outcome), []byte(e.RequestID)}, true
}

// scanner walks over a record. After the first surprise it is bad and every further step returns nothing.
type scanner struct {
	text []byte
	i    int
	bad  bool
}

func (s *scanner) has(text string) bool {
	end := s.i + len(text)
	if s.bad || len(s.text) < end || string(s.text[s.i:end]) != text {
		return false
	}
	s.i = end
	return true
}

func (s *scanner) lit(text string) {
	if !s.has(text) {
		s.bad = true
	}
}

// str takes a JSON string that holds no escape.
func (s *scanner) str() []byte {
	raw, plain := s.quoted()
	if !plain {
		s.bad = true
		return nil
	}
	return raw
}

func (s *scanner) skip() { s.quoted() }

// quoted takes a JSON string and says whether it stands for itself.
func (s *scanner) quoted() (raw []byte, plain bool) {
	s.lit(`"`)
	if s.bad {
		return nil, false
	}
	plain = true
	for start := s.i; s.i < len(s.text); s.i++ {
		switch s.text[s.i] {
		case '\\':
			plain = false
			s.i++
		case '"':
			raw = s.text[start:s.i]
			s.i++
			return raw, plain
		}
	}
	s.bad = true
	return nil, false
}

// field takes an optional field.
func (s *scanner) field(key string) []byte {
	if !s.has(key) {
		return nil
	}
	return s.str()
}

// ref takes an actor or a target and returns its id.
func (s *scanner) ref() []byte {
	s.lit(`{"kind":`)
	s.skip()
	id := s.field(`,"id":`)
	if s.has(`,"name":`) {
		s.skip()
	}
	s.lit(`}`)
	return id
}

// plain reports whether s stands in a record exactly as it is, with no escape.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' || r == '\ufffd' })
}
