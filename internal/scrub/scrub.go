// Package scrub takes a lent secret out of what an upstream answers, while the answer passes.
//
// Promise: of an answer that went through a [Scrubber] no occurrence of its secrets is left in one of the forms that it knows, however the
// answer was cut into reads, and no other byte is changed: every byte of an occurrence becomes one mask character, so that lengths, ranges
// and JSON strings hold. The forms are the bytes themselves; base64, in both alphabets, padded or not, and where the secret stands inside
// of what was encoded; hexadecimal; UTF-16 in both byte orders; each of these also with any of its characters percent-encoded, escaped as in
// JSON or as a reference of HTML, in any mixture. What is not the possible begin of an occurrence is given out at once.
//
// Limits: it is a net for echoes, not a wall against an upstream that wants to tell a secret: what is encrypted, compressed inside of a
// body, reversed, cut in parts, escaped twice, wrapped into lines or cut off by the end of an answer is not found (docs/design/scrub.md lists
// it). Base64 around a secret keeps up to four bits of it on either side, in characters that belong to its neighbours as well. A secret in
// JSON that is no string there (a number, an object) leaves what is no JSON any more.
//
// Invariants: what is held back never exceeds the longest form of a secret; a Scrubber never changes after it is made, and any number of
// answers may go through it at once; no error tells anything of a secret or of an answer.
package scrub

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf16"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	// Shortest is how many bytes a secret needs, white space around it left aside: anything shorter stands in answers by chance.
	Shortest = 8
	// Longest is how many bytes it may have; it bounds what is held back of an answer.
	Longest = 64 << 10
)

var (
	// ErrNone says that there is nothing to look for.
	ErrNone = errors.New("scrub: there is no secret to look for; hand over each that is lent")
	// ErrShort says that a secret cannot be told from other text.
	ErrShort = fmt.Errorf("scrub: a secret of less than %d bytes cannot be told from other text in an answer; store a longer one", Shortest)
	// ErrLong says that a secret would hold back too much of an answer.
	ErrLong = fmt.Errorf("scrub: a secret of more than %d bytes would hold back too much of an answer; store a shorter one", Longest)
)

// masks are the characters that may stand for a byte of a secret. None breaks a JSON string, a header or a URL, and none is part of base64,
// of hexadecimal or of an escape.
const masks = "*~!?.$,:()@^|"

// Scrubber knows how the secrets of one lending may look.
type Scrubber struct {
	needles []needle
	begins  [256]bool // what an occurrence may begin with
	skip    filter
	mask    byte
}

// New returns a Scrubber for secrets. White space around one is not looked for: a file's last newline seldom comes back. It fails with
// [ErrNone], [ErrShort] or [ErrLong], and then an answer must not be passed on unseen.
func New(secrets ...secret.Value) (*Scrubber, error) {
	if len(secrets) == 0 {
		return nil, ErrNone
	}
	s := &Scrubber{}
	var all []byte
	for _, value := range secrets {
		raw := bytes.TrimSpace(value.Bytes())
		switch {
		case len(raw) < Shortest:
			return nil, ErrShort
		case len(raw) > Longest:
			return nil, ErrLong
		}
		all = append(all, raw...)
		for _, n := range needlesOf(raw) {
			s.add(n)
		}
	}
	s.mask = masks[0]
	for i := range len(masks) {
		if bytes.IndexByte(all, masks[i]) < 0 {
			s.mask = masks[i]
			break
		}
	}
	for _, n := range s.needles {
		for _, c := range n[0].firsts() {
			s.begins[c] = true
		}
	}
	s.skip.fill(s.needles)
	return s, nil
}

func (s *Scrubber) add(n needle) {
	for _, known := range s.needles {
		if known.equal(n) {
			return
		}
	}
	s.needles = append(s.needles, n)
}

// needlesOf returns what to look for because of raw, before any escape.
func needlesOf(raw []byte) []needle {
	out := []needle{plain(raw), hexadecimal(raw)}
	for before := range 3 {
		out = append(out, base64d(raw, before))
	}
	if utf8.Valid(raw) {
		var little, big []byte
		for _, unit := range utf16.Encode([]rune(string(raw))) {
			little = append(little, byte(unit), byte(unit>>8))
			big = append(big, byte(unit>>8), byte(unit))
		}
		out = append(out, plain(little), plain(big))
	}
	return out
}

// Bytes masks what is found in b, in place, and returns b.
func (s *Scrubber) Bytes(b []byte) []byte {
	st := stream{of: s}
	st.scan(b, true)
	return b
}

// String returns text with what is found masked.
func (s *Scrubber) String(text string) string { return string(s.Bytes([]byte(text))) }

// Header masks what is found in the values of h, and drops each header or trailer whose name holds a secret, whatever became of its upper
// and lower case on the way. It changes h.
func (s *Scrubber) Header(h http.Header) {
	for name, values := range h {
		if s.names(name) {
			delete(h, name)
			continue
		}
		for i, value := range values {
			values[i] = s.String(value)
		}
	}
}

// names reports whether the name of a header holds a secret.
func (s *Scrubber) names(name string) bool {
	if s.String(name) != name {
		return true
	}
	for _, n := range s.needles {
		for from := 0; from+len(n) <= len(name); from++ {
			if n.folded(name[from:]) {
				return true
			}
		}
	}
	return false
}
