// Package strict reads JSON as two readers would read it alike.
//
// Promise: [Parse] accepts one JSON text of RFC 8259 that keeps to RFC 7493: UTF-8, no key twice in an object, no escape that is half of a
// character, nothing behind its end, and no nesting beyond [MaxDepth]. [ParseTo] does with another depth.
//
// Limits: it builds plain values (map[string]any, []any, string, bool, nil, json.Number) and no types; how long a text may be is the caller's
// affair. Numbers are kept as they are written.
//
// Invariants: an error quotes nothing of the text.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and lists may nest.
const MaxDepth = 16

// Why says what is wrong with a text.
type Why int

// The reasons.
const (
	NotJSON Why = iota
	NotUTF8
	HalfCharacter
	KeyTwice
	TooDeep
	GoesOn
	NoObject
)

// Error is why a text was refused.
type Error struct {
	Why    Why
	Offset int64 // where reading stopped, in bytes
	depth  int   // how deep the text may nest
}

// Error is what follows "the text".
func (e *Error) Error() string {
	switch e.Why {
	case NotUTF8:
		return "is not UTF-8"
	case HalfCharacter:
		return `has an escape (\ud800 to \udfff) that is half of a character`
	case KeyTwice:
		return "has a key twice in one object, before byte " + strconv.FormatInt(e.Offset, 10)
	case TooDeep:
		return "nests deeper than " + strconv.Itoa(e.depth) + " levels"
	case GoesOn:
		return "goes on after its JSON text"
	case NoObject:
		return "is no JSON object"
	}
	return "is not JSON; reading stopped at byte " + strconv.FormatInt(e.Offset, 10)
}

// Parse reads one JSON text. Its error is an [Error].
func Parse(text []byte) (any, error) { return ParseTo(text, MaxDepth) }

// ParseTo is [Parse] of a text that may nest as deep as most.
func ParseTo(text []byte, most int) (any, error) {
	if !utf8.Valid(text) {
		return nil, &Error{Why: NotUTF8}
	}
	if halfCharacter(text) {
		return nil, &Error{Why: HalfCharacter}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := value(dec, most, most)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = &Error{Why: GoesOn, Offset: dec.InputOffset()}
		}
	}
	var own *Error
	switch {
	case err == nil:
		return v, nil
	case errors.As(err, &own):
		return nil, own
	}
	return nil, &Error{Why: NotJSON, Offset: dec.InputOffset()}
}

// Object is [Parse] of a text that must be an object.
func Object(text []byte) (map[string]any, error) {
	v, err := Parse(text)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, &Error{Why: NoObject}
	}
	return m, nil
}

func value(dec *json.Decoder, left, most int) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return object(dec, left-1, most)
	case json.Delim('['):
		return list(dec, left-1, most)
	}
	return t, nil
}

func object(dec *json.Decoder, left, most int) (any, error) {
	if left < 0 {
		return nil, &Error{Why: TooDeep, Offset: dec.InputOffset(), depth: most}
	}
	out := map[string]any{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := out[key]; twice {
			return nil, &Error{Why: KeyTwice, Offset: dec.InputOffset()}
		}
		if out[key], err = value(dec, left, most); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return out, err
}

func list(dec *json.Decoder, left, most int) (any, error) {
	if left < 0 {
		return nil, &Error{Why: TooDeep, Offset: dec.InputOffset(), depth: most}
	}
	out := []any{}
	for dec.More() {
		v, err := value(dec, left, most)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.Token()
	return out, err
}

// halfCharacter reports whether the text escapes half of a UTF-16 pair. encoding/json would silently read U+FFFD in its place: a secret that
// changes on its way is lost, and two names become one.
func halfCharacter(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escaped(text[i:])
		if !ok {
			i++ // an escape of one character, a backslash among them
			continue
		}
		i += 5
		switch {
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true
		case unit >= 0xd800 && unit <= 0xdbff:
			low, ok := escaped(text[i+1:])
			if !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 6
		}
	}
	return false
}

// escaped reads \uXXXX at the beginning of b.
func escaped(b []byte) (uint64, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return n, err == nil
}
