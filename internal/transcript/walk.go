package transcript

import (
	"bytes"
	"unicode/utf8"
)

// name is a key that matters, wherever it stands.
type name byte

const (
	other name = iota
	nameMessages
	nameRole
	nameContent
	nameType
	nameText
	nameName
	nameMaxTokens
	nameTools
	nameBlock
	nameDelta
	nameStop
	nameError
)

func nameOf(key []byte) name {
	switch string(key) {
	case "messages":
		return nameMessages
	case "role":
		return nameRole
	case "content":
		return nameContent
	case "type":
		return nameType
	case "text":
		return nameText
	case "name":
		return nameName
	case "max_tokens":
		return nameMaxTokens
	case "tools":
		return nameTools
	case "content_block":
		return nameBlock
	case "delta":
		return nameDelta
	case "stop_reason":
		return nameStop
	case "error":
		return nameError
	}
	return other
}

const (
	// levels is how deep something may lie that matters: messages, one of them, its content, a block, its text.
	levels = 5
	keyMax = 24
)

// visitor is told what a walker comes to.
type visitor interface {
	// begin is called for a text or a number, and says where it goes; nil drops it.
	begin() *capture
	// open and shut are called for an object or a list, both within it.
	open()
	shut()
}

// walker goes through JSON as its bytes come. It checks nothing: of what is no JSON it makes something, within its bounds.
type walker struct {
	to    visitor
	depth int
	key   [levels + 1]name // by depth: the key whose value is being read
	list  [levels + 1]bool

	wait   bool // a key may come
	str    bool // in a text
	isKey  bool
	bare   bool // in a number or a word
	esc    byte // 1 behind a backslash, 2 to 5 within \uXXXX
	hex    rune
	high   rune // the first half of a pair
	word   capture
	into   *capture
	spare  [utf8.UTFMax]byte
	passed [1]byte
}

// reset begins another value.
func (w *walker) reset() {
	w.depth, w.wait, w.str, w.isKey, w.bare, w.esc, w.high, w.into = 0, false, false, false, false, 0, 0, nil
	w.key, w.list = [levels + 1]name{}, [levels + 1]bool{}
}

// at reports whether the walker is that deep.
func (w *walker) at(depth int) bool { return w.depth == depth }

func (w *walker) add(p []byte) {
	quote := -1 // where the next quotation mark in p is, if that was looked up
	for i := 0; i < len(p); {
		switch {
		case !w.str:
			w.structure(p[i])
			i++
			continue
		case w.esc != 0:
			w.escaped(p[i])
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
		w.keep(p[i:end])
		if end == len(p) {
			return
		}
		if p[end] == '\\' {
			w.esc = 1
		} else {
			w.ended()
		}
		i = end + 1
	}
}

// keep adds bytes of a text to what is being kept.
func (w *walker) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.high != 0 {
		w.high = 0
		w.rune(utf8.RuneError)
	}
	switch {
	case w.isKey:
		w.word.add(p)
	case w.into != nil:
		w.into.add(p)
	}
}

func (w *walker) rune(r rune) {
	n := utf8.EncodeRune(w.spare[:], r)
	switch {
	case w.isKey:
		w.word.add(w.spare[:n])
	case w.into != nil:
		w.into.add(w.spare[:n])
	}
}

// escaped takes a byte behind a backslash.
func (w *walker) escaped(b byte) {
	if w.esc == 1 {
		w.esc = 0
		switch b {
		case 'u':
			w.esc, w.hex = 2, 0
			return
		case 'n':
			b = '\n'
		case 't':
			b = '\t'
		case 'r':
			b = '\r'
		case 'b':
			b = '\b'
		case 'f':
			b = '\f'
		}
		w.passed[0] = b
		w.keep(w.passed[:])
		return
	}
	w.hex = w.hex<<4 | digit(b)
	if w.esc++; w.esc < 6 {
		return
	}
	w.esc = 0
	switch r := w.hex; {
	case r >= 0xd800 && r < 0xdc00:
		if w.high != 0 {
			w.rune(utf8.RuneError)
		}
		w.high = r
	case r >= 0xdc00 && r < 0xe000:
		if w.high == 0 {
			w.rune(utf8.RuneError)
			return
		}
		pair := (w.high-0xd800)<<10 | (r - 0xdc00) + 0x10000
		w.high = 0
		w.rune(pair)
	default:
		if w.high != 0 {
			w.high = 0
			w.rune(utf8.RuneError)
		}
		w.rune(r)
	}
}

func digit(b byte) rune {
	switch {
	case b >= '0' && b <= '9':
		return rune(b - '0')
	case b >= 'a' && b <= 'f':
		return rune(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return rune(b-'A') + 10
	}
	return 0
}

// ended has all of a text.
func (w *walker) ended() {
	if w.high != 0 {
		w.high = 0
		w.rune(utf8.RuneError)
	}
	w.str = false
	if w.isKey {
		w.isKey, w.wait = false, false
		w.key[w.depth] = other
		if w.word.n <= keyMax {
			w.key[w.depth] = nameOf(w.word.b)
		}
		return
	}
	w.into = nil
}

// structure takes a byte that is in no text.
func (w *walker) structure(b byte) {
	switch b {
	case ' ', '\t', '\n', '\r', ':':
		w.unbare()
	case '"':
		w.unbare()
		w.str = true
		if w.wait && w.depth > 0 && w.depth <= levels {
			w.isKey = true
			w.word.reset(keyMax + 1)
			return
		}
		w.into = w.to.begin()
	case '{', '[':
		w.unbare()
		w.depth++
		w.wait = false
		if w.depth <= levels {
			w.key[w.depth], w.list[w.depth], w.wait = other, b == '[', b == '{'
		}
		w.to.open()
	case '}', ']':
		w.unbare()
		if w.depth == 0 {
			return
		}
		w.to.shut()
		w.depth--
		w.wait = false
	case ',':
		w.unbare()
		w.wait = w.depth > 0 && w.depth <= levels && !w.list[w.depth]
	default:
		if !w.bare {
			w.bare, w.into = true, w.to.begin()
		}
		if w.into != nil {
			w.passed[0] = b
			w.into.add(w.passed[:])
		}
	}
}

// unbare ends a number or a word.
func (w *walker) unbare() {
	if w.bare {
		w.bare, w.into = false, nil
	}
}
