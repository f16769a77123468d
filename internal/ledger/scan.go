package ledger

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/store"
)

// readLease reads the record of a lease as store writes it, with its keys in their order. There are very many of them, and this takes a quarter of what a
// decoder of JSON takes. False says that something is not as it expects; then the decoder has to be asked.
func readLease(line []byte) (u use, ok bool) {
	s := scan{b: line, ok: utf8.Valid(line)}
	s.need(`{"id":`)
	s.skip()
	s.need(`,"at":"`)
	at := s.text()
	s.need(`,"actor":`)
	u.Actor.Kind, u.Actor.ID, u.Actor.Name = s.ref()
	if s.has(`,"on_behalf_of":"`) {
		u.OnBehalf = s.text()
	}
	s.need(`,"action":"`)
	u.Action = store.Action(s.text())
	s.need(`,"target":`)
	u.Target.Kind, u.Target.ID, u.Target.Name = s.ref()
	s.need(`,"outcome":"`)
	u.Outcome = s.text()
	for _, name := range [...]string{`,"reason":`, `,"request_id":`, `,"ip":`, `,"user_agent":`} {
		if s.has(name) {
			s.skip()
		}
	}
	s.need(`,"details":{`)
	for first := true; s.ok && !s.has(`}`); first = false {
		if !first {
			s.need(`,`)
		}
		s.detail(&u.lent)
	}
	s.need(`}`)
	if !s.ok || len(s.b) > 0 {
		return use{}, false
	}
	var err error
	if u.At, err = time.Parse(store.TimeFormat, at); err != nil {
		return use{}, false
	}
	return u, true
}

// scan is what is left of a record.
type scan struct {
	b  []byte
	ok bool
}

// has goes over a text if it is next.
func (s *scan) has(text string) bool {
	if !s.ok || len(s.b) < len(text) || string(s.b[:len(text)]) != text {
		return false
	}
	s.b = s.b[len(text):]
	return true
}

func (s *scan) need(text string) {
	if !s.has(text) {
		s.ok = false
	}
}

// text reads the rest of a string that has no escape, and nothing that JSON would have escaped.
func (s *scan) text() string {
	end := bytes.IndexByte(s.b, '"')
	if !s.ok || end < 0 || !plain(s.b[:end]) {
		s.ok = false
		return ""
	}
	out := string(s.b[:end])
	s.b = s.b[end+1:]
	return out
}

// plain reports whether a part of a string has no escape, and nothing that needs one.
func plain(b []byte) bool {
	for _, c := range b {
		if c == '\\' || c < 0x20 {
			return false
		}
	}
	return true
}

// skip goes over a string, whose escapes have to be those of JSON.
func (s *scan) skip() {
	s.need(`"`)
	for s.ok {
		end := bytes.IndexAny(s.b, `"\`)
		if end < 0 || !plain(s.b[:end]) {
			s.ok = false
			return
		}
		if s.b[end] == '"' {
			s.b = s.b[end+1:]
			return
		}
		s.b = s.b[end+1:]
		s.escape()
	}
}

// escape goes over what follows a backslash.
func (s *scan) escape() {
	n := 1
	if s.has(`u`) {
		n = 4
	}
	if len(s.b) < n {
		s.ok = false
		return
	}
	for _, c := range s.b[:n] {
		if n == 4 {
			s.ok = s.ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F')
		} else {
			s.ok = bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0
		}
	}
	s.b = s.b[n:]
}

// ref reads an actor or a target.
func (s *scan) ref() (kind, id, name string) {
	s.need(`{"kind":"`)
	kind = s.text()
	if s.has(`,"id":"`) {
		id = s.text()
	}
	if s.has(`,"name":"`) {
		name = s.text()
	}
	s.need(`}`)
	return kind, id, name
}

// detail reads one detail, and keeps it when it is one of those that matter.
func (s *scan) detail(l *lent) {
	s.need(`"`)
	key := s.text()
	s.need(`:`)
	for _, c := range []byte(key) { // a decoder takes other letters for these
		s.ok = s.ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
	}
	var word *string
	switch key {
	case "lease":
		word = &l.Lease
	case "train":
		word = &l.Train
	case "path":
		word = &l.Path
	case "model":
		word = &l.Model
	case "result":
		word = &l.Result
	case "usage":
		word = &l.Usage
	}
	if word != nil {
		s.need(`"`)
		*word = s.text()
		return
	}
	if key == "unsent" {
		l.Unsent = s.has(`true`)
		if !l.Unsent {
			s.need(`false`)
		}
		return
	}
	if s.ok && len(s.b) > 0 && s.b[0] == '"' && !isNumber(key) {
		s.skip()
		return
	}
	n := s.number()
	switch key {
	case "status":
		l.Status = n
	case "input_tokens":
		l.Input = n
	case "output_tokens":
		l.Output = n
	case "cache_read_tokens":
		l.CacheRead = n
	case "cache_creation_5m_tokens":
		l.CacheWrite5m = n
	case "cache_creation_1h_tokens":
		l.CacheWrite1h = n
	case "tool_calls":
		l.ToolCalls = n
	}
}

// isNumber reports whether a detail that matters is a number, for which a decoder takes nothing else.
func isNumber(key string) bool {
	switch key {
	case "status", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls":
		return true
	}
	return false
}

// number reads a whole number, as JSON writes it.
func (s *scan) number() int64 {
	end := 0
	for end < len(s.b) && (s.b[end] == '-' || s.b[end] >= '0' && s.b[end] <= '9') {
		end++
	}
	n, err := strconv.ParseInt(string(s.b[:end]), 10, 64)
	if digits := bytes.TrimPrefix(s.b[:end], []byte("-")); err != nil || len(digits) > 1 && digits[0] == '0' {
		s.ok = false
		return 0
	}
	s.b = s.b[end:]
	return n
}
