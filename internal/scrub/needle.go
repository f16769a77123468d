package scrub

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"unicode/utf8"
)

// symbol is a byte that an occurrence has at some place; where two are possible (both cases of hexadecimal, both alphabets of base64), they
// are the two.
type symbol struct{ a, b byte }

func (s symbol) is(c byte) bool { return c == s.a || c == s.b }

// literal reports whether c may stand for s as it is, or as a space in a query.
func (s symbol) literal(c byte) bool { return s.is(c) || c == '+' && s.a == ' ' }

// firsts are the bytes with which a way to write s may begin.
func (s symbol) firsts() []byte {
	out := []byte{s.a, s.b, '%', '\\', '&'}
	if s.a == ' ' {
		out = append(out, '+')
	}
	return out
}

// needle is one thing to look for, once every escape is undone.
type needle []symbol

func (n needle) equal(o needle) bool { return slices.Equal(n, o) }

// has reports whether the bytes of b stand in n from place k on.
func (n needle) has(k int, b []byte) bool {
	if k+len(b) > len(n) {
		return false
	}
	for i, c := range b {
		if !n[k+i].is(c) {
			return false
		}
	}
	return true
}

// folded reports whether text begins with n when upper and lower case are alike.
func (n needle) folded(text string) bool {
	for i, s := range n {
		if c := lower(text[i]); c != lower(s.a) && c != lower(s.b) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// upper is the other case of a hexadecimal digit, or the digit.
func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}

func plain(b []byte) needle {
	out := make(needle, len(b))
	for i, c := range b {
		out[i] = symbol{c, c}
	}
	return out
}

func hexadecimal(b []byte) needle {
	text := hex.EncodeToString(b)
	out := make(needle, len(text))
	for i := range len(text) {
		out[i] = symbol{text[i], upper(text[i])}
	}
	return out
}

// base64d returns the characters that depend on b alone when b is encoded after before bytes (counted modulo three) of something else.
func base64d(b []byte, before int) needle {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), b...))
	text = text[(8*before+5)/6 : 8*(before+len(b))/6]
	out := make(needle, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '+':
			out[i] = symbol{c, '-'}
		case '/':
			out[i] = symbol{c, '_'}
		default:
			out[i] = symbol{c, c}
		}
	}
	return out
}

// form is one way to write the next size symbols of a needle. Each character is one of two.
type form struct {
	text []symbol
	size int
}

// forms calls each with every way to write what stands at place k, up to what the automaton knows (unit) or more: the filter that is made of
// it may stop too often, never too seldom. each must not keep the text.
func (n needle) forms(k int, each func(form)) {
	var text [16]symbol
	for i, c := range [2]byte{n[k].a, n[k].b} {
		if i == 1 && c == n[k].a {
			break
		}
		each(form{append(text[:0], symbol{c, c}), 1})
		if c == ' ' {
			each(form{append(text[:0], symbol{'+', '+'}), 1})
		}
		each(form{digits(append(text[:0], symbol{'%', '%'}), uint32(c), 16, 2), 1})
		if c < utf8.RuneSelf {
			runeForms(rune(c), 1, each)
		}
	}
	if n[k].a < utf8.RuneSelf {
		return
	}
	var point [utf8.UTFMax]byte
	length := 0
	for length < len(point) && k+length < len(n) {
		point[length] = n[k+length].a
		length++
	}
	if r, size := utf8.DecodeRune(point[:length]); size > 1 {
		runeForms(r, size, each)
	}
}

// runeForms are the escapes that stand for a character of size bytes.
func runeForms(r rune, size int, each func(form)) {
	var space [16]symbol
	text := space[:0]
	if r >= 0x10000 {
		high, low := 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF
		text = digits(word(text, `\u`), uint32(high), 16, 4)
		text = digits(word(text, `\u`), uint32(low), 16, 4)
	} else {
		text = digits(word(text, `\u`), uint32(r), 16, 4)
	}
	each(form{text, size})
	for _, s := range shortEscapes {
		if rune(s.means) == r {
			each(form{word(space[:0], s.text), size})
		}
	}
	for _, e := range entities {
		if rune(e.means) == r {
			each(form{word(space[:0], e.text), size})
		}
	}
	for width := 1; width <= referenceDigits; width++ {
		if fits(uint32(r), 10, width) {
			each(form{word(digits(word(space[:0], "&#"), uint32(r), 10, width), ";"), size})
		}
		if fits(uint32(r), 16, width) {
			text := append(word(space[:0], "&#"), symbol{'x', 'X'})
			each(form{word(digits(text, uint32(r), 16, width), ";"), size})
		}
	}
}

func word(to []symbol, text string) []symbol {
	for i := range len(text) {
		to = append(to, symbol{text[i], text[i]})
	}
	return to
}

// digits appends number in width digits, zeros first.
func digits(to []symbol, number, base uint32, width int) []symbol {
	at := len(to)
	to = append(to, make([]symbol, width)...)
	for i := width - 1; i >= 0; i-- {
		c := "0123456789abcdef"[number%base]
		to[at+i] = symbol{c, upper(c)}
		number /= base
	}
	return to
}

func fits(number, base uint32, width int) bool {
	for range width {
		number /= base
	}
	return number == 0
}
