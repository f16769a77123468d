package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists may nest in a body. Our own shapes need three.
const maxDepth = 16

// errMalformed says why a body is no JSON that two readers would read alike (RFC 7493): its text is for the client and quotes nothing.
type errMalformed string

func (e errMalformed) Error() string { return string(e) }

// parse reads one JSON text strictly: UTF-8 only, no key twice in an object, no lone surrogate, nothing behind it, at most [maxDepth] deep.
// It returns objects as map[string]any, lists as []any, numbers as json.Number.
func parse(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, errMalformed("The body is not UTF-8.")
	}
	if loneSurrogate(body) {
		return nil, errMalformed("The body has an escape (\\ud800 to \\udfff) that is half of a character.")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	v, err := value(dec, 0)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errMalformed("The body goes on after its JSON text.")
		}
	}
	var own errMalformed
	if err != nil && !errors.As(err, &own) {
		return nil, errMalformed("The body is not JSON; reading stopped at byte " + strconv.FormatInt(dec.InputOffset(), 10) + ".")
	}
	return v, err
}

func value(dec *json.Decoder, depth int) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return object(dec, depth+1)
	case json.Delim('['):
		return list(dec, depth+1)
	}
	return t, nil
}

var errDeep = errMalformed("The body nests deeper than " + strconv.Itoa(maxDepth) + " levels.")

func object(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	out := map[string]any{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := out[key]; twice {
			return nil, errMalformed("The body has a key twice in one object, before byte " + strconv.FormatInt(dec.InputOffset(), 10) + ".")
		}
		if out[key], err = value(dec, depth); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return out, err
}

func list(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	out := []any{}
	for dec.More() {
		v, err := value(dec, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.Token()
	return out, err
}

// loneSurrogate reports whether the text escapes half of a UTF-16 pair. encoding/json would silently store U+FFFD in its place, and a
// secret that changes on its way in is lost.
func loneSurrogate(body []byte) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		unit, ok := escaped(body[i:])
		if !ok {
			i++ // an escape of one character, a backslash among them
			continue
		}
		i += 5
		switch {
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true
		case unit >= 0xd800 && unit <= 0xdbff:
			low, ok := escaped(body[i+1:])
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

// plainText reports whether s can be stored as text by both databases: UTF-8 without NUL.
func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
