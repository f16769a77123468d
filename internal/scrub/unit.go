package scrub

import "unicode/utf8"

// referenceDigits is how many digits a numeric reference of HTML may have, zeros before it included.
const referenceDigits = 7

// escape is a fixed text that stands for one byte.
type escape struct {
	text  string
	means byte
}

// shortEscapes are those of JSON (RFC 8259, section 7).
var shortEscapes = [...]escape{{`\"`, '"'}, {`\\`, '\\'}, {`\/`, '/'}, {`\b`, '\b'}, {`\f`, '\f'}, {`\n`, '\n'}, {`\r`, '\r'}, {`\t`, '\t'}}

// entities are the named references that escaping of HTML writes.
var entities = [...]escape{{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}

// unit is an escape that was read.
type unit struct {
	means  [utf8.UTFMax]byte
	size   int // of means
	length int // of the text; 0 is no escape
}

func (u *unit) bytes() []byte { return u.means[:u.size] }

func byteUnit(c byte, length int) unit {
	return unit{means: [utf8.UTFMax]byte{c}, size: 1, length: length}
}

func runeUnit(r rune, length int) unit {
	u := unit{length: length}
	if !utf8.ValidRune(r) {
		return unit{}
	}
	u.size = utf8.EncodeRune(u.means[:], r)
	return u
}

// readUnit reads the escape with which text begins, if it does. more says that text ends before that is certain.
func readUnit(text []byte) (u unit, more bool) {
	switch text[0] {
	case '%':
		number, read := hexDigits(text[1:], 2)
		if read == 2 {
			return byteUnit(byte(number), 3), false
		}
		return unit{}, len(text) == 1+read
	case '\\':
		return readBackslash(text)
	case '&':
		return readReference(text)
	}
	return unit{}, false
}

func readBackslash(text []byte) (u unit, more bool) {
	if len(text) < 2 {
		return unit{}, true
	}
	if text[1] != 'u' {
		for _, s := range shortEscapes {
			if s.text[1] == text[1] {
				return byteUnit(s.means, 2), false
			}
		}
		return unit{}, false
	}
	first, read := hexDigits(text[2:], 4)
	if read < 4 {
		return unit{}, len(text) == 2+read
	}
	if first < 0xD800 || first > 0xDBFF {
		return runeUnit(first, 6), false
	}
	rest := text[6:]
	for i := range min(2, len(rest)) {
		if rest[i] != `\u`[i] {
			return unit{}, false
		}
	}
	if len(rest) < 2 {
		return unit{}, true
	}
	second, read := hexDigits(rest[2:], 4)
	if read < 4 {
		return unit{}, len(rest) == 2+read
	}
	if second < 0xDC00 || second > 0xDFFF {
		return unit{}, false
	}
	return runeUnit(0x10000+(first-0xD800)<<10+(second-0xDC00), 12), false
}

func readReference(text []byte) (u unit, more bool) {
	if len(text) < 2 {
		return unit{}, true
	}
	if text[1] != '#' {
		for _, e := range entities {
			n := min(len(text), len(e.text))
			if string(text[:n]) != e.text[:n] {
				continue
			}
			if n < len(e.text) {
				return unit{}, true
			}
			return byteUnit(e.means, n), false
		}
		return unit{}, false
	}
	var number rune
	at, read := 2, 0
	if at < len(text) && (text[at] == 'x' || text[at] == 'X') {
		at++
		number, read = hexDigits(text[at:], referenceDigits)
	} else {
		for at+read < len(text) && read < referenceDigits && '0' <= text[at+read] && text[at+read] <= '9' {
			number = number*10 + rune(text[at+read]-'0')
			read++
		}
	}
	switch {
	case at+read == len(text):
		return unit{}, true
	case read == 0 || text[at+read] != ';':
		return unit{}, false
	}
	return runeUnit(number, at+read+1), false
}

// hexDigits reads at most most digits.
func hexDigits(text []byte, most int) (number rune, read int) {
	for read < most && read < len(text) {
		c := lower(text[read])
		switch {
		case '0' <= c && c <= '9':
			number = number<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			number = number<<4 | rune(c-'a'+10)
		default:
			return number, read
		}
		read++
	}
	return number, read
}
