package usage

import (
	"bytes"
	"encoding/json"
)

// The names that matter, wherever they stand.
type name byte

const (
	other name = iota
	nameType
	nameModel
	nameUsage
	nameMessage
	nameBlock
	nameContent
)

func nameOf(key []byte) name {
	switch string(key) {
	case "type":
		return nameType
	case "model":
		return nameModel
	case "usage":
		return nameUsage
	case "message":
		return nameMessage
	case "content_block":
		return nameBlock
	case "content":
		return nameContent
	}
	return other
}

const (
	// usageMax bounds a "usage" object; nameMax a key that matters; wordMax a type or the name of a model.
	usageMax, nameMax, wordMax = 64 << 10, 32, 128
	// levels is how deep something may lie that matters: content, its element, type.
	levels = 3
)

// captured is the raw text of a value, as far as it fits.
type captured struct {
	b    []byte
	over bool
}

func (c *captured) add(max int, p ...byte) {
	if len(c.b)+len(p) > max {
		c.over = true
		return
	}
	c.b = append(c.b, p...)
}

// text returns the value if it is a string that fits, else nothing.
func (c *captured) text() string {
	var s string
	if c.over || len(c.b) == 0 || c.b[0] != '"' || json.Unmarshal(c.b, &s) != nil {
		return ""
	}
	return s
}

// word is text where it matters which of a few words it is.
func (c *captured) word() []byte {
	if n := len(c.b); !c.over && n >= 2 && c.b[0] == '"' && bytes.IndexByte(c.b, '\\') < 0 {
		return c.b[1 : n-1]
	}
	return []byte(c.text())
}

func (c *captured) clear() { c.b, c.over = c.b[:0], false }

// scanner goes through one JSON value as its bytes come, whatever its size, and keeps what matters: type, model and usage of the value itself
// or of its message, the type of its content block, and how many of its content's elements are calls of tools.
type scanner struct {
	depth  int
	keys   [levels + 1]name // by depth: the key whose value is being read
	array  [levels + 1]bool
	inKey  bool // the string that is being read is a key
	wait   bool // a key may come, at a depth that matters
	str    bool // in a string
	esc    bool // behind a backslash
	begun  bool
	closed bool
	failed bool // it is not what it should be: nothing is known
	skip   bool // nothing of the rest matters

	key       captured
	into      *captured // where the value that is being read goes; nil if it does not matter
	intoMax   int
	intoDepth int

	typ, model, usage, blockType, elementType captured
	tools                                     int64
}

func (s *scanner) reset() {
	*s = scanner{key: s.key, typ: s.typ, model: s.model, usage: s.usage, blockType: s.blockType, elementType: s.elementType}
	for _, c := range []*captured{&s.key, &s.typ, &s.model, &s.usage, &s.blockType, &s.elementType} {
		c.clear()
	}
}

// inOrder reports whether all was read that has to be, and nothing was wrong with it. No data at all is in order.
func (s *scanner) inOrder() bool { return !s.begun || s.skip || s.ended() }

func (s *scanner) ended() bool { return s.closed && !s.failed }

func (s *scanner) add(p []byte) {
	quote := -1 // where the next quotation mark in p is, if that was looked up
	for i := 0; i < len(p) && !s.failed && !s.skip; {
		if !s.str {
			s.structure(p[i])
			i++
			continue
		}
		if s.esc {
			s.esc = false
			s.keep(p[i : i+1])
			i++
			continue
		}
		if quote < i {
			if n := bytes.IndexByte(p[i:], '"'); n >= 0 {
				quote = i + n
			} else {
				quote = len(p)
			}
		}
		end := quote
		if n := bytes.IndexByte(p[i:end], '\\'); n >= 0 {
			end = i + n
		}
		if end == len(p) {
			s.keep(p[i:])
			return
		}
		s.keep(p[i : end+1])
		if p[end] == '\\' {
			s.esc = true
		} else {
			s.str = false
			s.stringEnded()
		}
		i = end + 1
	}
}

// keep adds bytes of a string to what is being kept.
func (s *scanner) keep(p []byte) {
	if s.inKey {
		s.key.add(nameMax, p...)
	}
	if s.into != nil {
		s.into.add(s.intoMax, p...)
	}
}

// structure takes a byte that is in no string.
func (s *scanner) structure(b byte) {
	if s.closed {
		if !blank(b) {
			s.failed = true
		}
		return
	}
	if s.into != nil && s.depth == s.intoDepth && (b == ',' || b == '}' || b == ']') { // a value that is no string, object or array ends before it
		s.valueEnded()
	}
	if s.into != nil && !blank(b) {
		s.into.add(s.intoMax, b)
	}
	switch b {
	case '"':
		s.str = true
		s.inKey = s.wait
		if s.inKey {
			s.wait = false
			s.key.clear()
			s.key.add(nameMax, b)
		}
	case '{', '[':
		s.open(b == '[')
	case '}', ']':
		s.close(b == ']')
	case ',':
		s.wait = s.depth >= 1 && s.depth <= levels && !s.array[s.depth]
	case ':':
		if s.depth >= 1 && s.depth <= levels && !s.array[s.depth] {
			s.valueBegins()
		}
	default:
		if !s.begun && !blank(b) { // a value that is no object tells nothing
			s.failed = true
		}
	}
	s.begun = s.begun || !blank(b)
}

func blank(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

func (s *scanner) open(array bool) {
	if !s.begun && array {
		s.failed = true
		return
	}
	s.depth++
	if s.depth <= levels {
		s.keys[s.depth], s.array[s.depth] = other, array
		s.wait = !array
	} else {
		s.wait = false
	}
}

func (s *scanner) close(array bool) {
	if s.depth < 1 || s.depth <= levels && s.array[s.depth] != array {
		s.failed = true
		return
	}
	s.depth--
	s.wait = false
	s.closed = s.depth == 0
	if s.into != nil && s.depth == s.intoDepth {
		s.valueEnded()
	}
}

func (s *scanner) stringEnded() {
	if s.inKey {
		s.inKey = false
		s.keys[s.depth] = nameOf(s.key.word())
		return
	}
	if s.into != nil && s.depth == s.intoDepth {
		s.valueEnded()
	}
}

// valueBegins decides whether the value of the key that was read last is kept.
func (s *scanner) valueBegins() {
	if s.into != nil { // within what is being kept
		return
	}
	to, max := s.place()
	if to == nil {
		return
	}
	if len(to.b) > 0 { // told twice
		s.failed = true
		return
	}
	s.into, s.intoMax, s.intoDepth = to, max, s.depth
}

func (s *scanner) place() (*captured, int) {
	key := s.keys[s.depth]
	switch {
	case s.depth == 1 && key == nameType:
		return &s.typ, wordMax
	case s.depth == 2 && s.keys[1] == nameBlock && key == nameType:
		return &s.blockType, wordMax
	case s.depth == 3 && s.keys[1] == nameContent && s.array[2] && !s.array[3] && key == nameType:
		return &s.elementType, wordMax
	case (s.depth == 1 || s.depth == 2 && s.keys[1] == nameMessage) && key == nameModel:
		return &s.model, wordMax
	case (s.depth == 1 || s.depth == 2 && s.keys[1] == nameMessage) && key == nameUsage:
		return &s.usage, usageMax
	}
	return nil, 0
}

// valueEnded has all of a value that is kept.
func (s *scanner) valueEnded() {
	done := s.into
	s.into = nil
	switch done {
	case &s.elementType:
		if isTool(s.elementType.word()) {
			s.tools++
		}
		s.elementType.clear()
	case &s.typ:
		// Nearly all of a stream is deltas of text.
		kind := s.typ.word()
		s.skip = string(kind) == "content_block_delta" || string(kind) == "ping"
	}
}
