package jwt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep the claims of a token may nest.
const maxDepth = 16

// Unverified is a token that was taken apart and not verified: good for finding out whose keys to try, and for nothing else.
type Unverified struct {
	KeyID, Algorithm string
	header, claims   map[string]any
}

// Issuer returns whom the token says to be from; "" when it does not say.
func (u Unverified) Issuer() string {
	iss, _ := u.claims["iss"].(string)
	return iss
}

// Looks reports whether a bearer secret has the beginning of a JSON web token, as no other bearer secret of ours has.
func Looks(bearer string) bool { return strings.HasPrefix(bearer, "eyJ") }

// Parse takes a token apart. It refuses whatever is not to be verified at all.
func Parse(token string) (Unverified, error) {
	if len(token) > MaxToken {
		return Unverified{}, invalid("the token is longer than 8 KB")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Unverified{}, invalid("the token has not three parts")
	}
	var raw [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		// The decoder passes over line ends.
		if err != nil || len(b) == 0 || strings.ContainsAny(part, "\r\n") {
			return Unverified{}, invalid("a part of the token is empty or no base64url")
		}
		raw[i] = b
	}
	header, err := object(raw[0])
	if err != nil {
		return Unverified{}, err
	}
	claims, err := object(raw[1])
	if err != nil {
		return Unverified{}, err
	}
	u := Unverified{header: header, claims: claims}
	return u, u.readHeader()
}

// readHeader refuses every parameter that would have the token say how it is to be verified.
func (u *Unverified) readHeader() error {
	for _, name := range []string{"jwk", "jku", "x5u", "x5c"} {
		if _, has := u.header[name]; has {
			return invalid("the token brings a key along (" + name + ")")
		}
	}
	for _, name := range []string{"crit", "b64"} {
		if _, has := u.header[name]; has {
			return invalid("the token has an extension that must be understood (" + name + ")")
		}
	}
	for _, name := range []string{"enc", "zip"} {
		if _, has := u.header[name]; has {
			return invalid("the token is encrypted or compressed (" + name + ")")
		}
	}
	alg, ok := u.header["alg"].(string)
	if !ok {
		return invalid("the token does not name its algorithm")
	}
	if _, known := Lookup(alg); !known {
		return invalid("the algorithm of the token is none that is verified here")
	}
	u.Algorithm = alg
	if cty, has := u.header["cty"]; has {
		if s, ok := cty.(string); !ok || strings.EqualFold(s, "JWT") || strings.EqualFold(s, "application/jwt") {
			return invalid("the token holds another token")
		}
	}
	if kid, has := u.header["kid"]; has {
		s, ok := kid.(string)
		if !ok || !keyID(s) {
			return invalid("the key id of the token is no printable text of at most 255 characters")
		}
		u.KeyID = s
	}
	return nil
}

// keyID reports whether s may be the id of a key: printable ASCII. It is only ever compared.
func keyID(s string) bool {
	if s == "" || len(s) > maxKeyID {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

var errJSON = errors.New("not JSON")

// object reads one JSON object as two readers would read it alike (RFC 7493): UTF-8, no key twice, no half of a character, nothing behind it.
func object(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) || loneSurrogate(b) {
		return nil, invalid("its JSON is no valid Unicode")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := value(dec, 0)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errJSON
		}
	}
	var own *Invalid
	if errors.As(err, &own) {
		return nil, own
	}
	m, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, invalid("it is no JSON object")
	}
	return m, nil
}

func value(dec *json.Decoder, depth int) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if depth >= maxDepth {
		return nil, invalid("its JSON nests too deep")
	}
	switch t {
	case json.Delim('{'):
		out := map[string]any{}
		for dec.More() {
			t, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key, ok := t.(string)
			if !ok {
				return nil, errJSON
			}
			if _, twice := out[key]; twice {
				return nil, invalid("its JSON has a key twice")
			}
			if out[key], err = value(dec, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := dec.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for dec.More() {
			v, err := value(dec, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err := dec.Token()
		return out, err
	}
	return t, nil
}

// loneSurrogate reports whether the text escapes half of a UTF-16 pair, which encoding/json reads as U+FFFD: two such names would be one.
func loneSurrogate(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		unit, ok := escaped(b[i:])
		if !ok {
			i++
			continue
		}
		i += 5
		if unit >= 0xdc00 && unit <= 0xdfff {
			return true
		}
		if unit >= 0xd800 && unit <= 0xdbff {
			if low, ok := escaped(b[i+1:]); !ok || low < 0xdc00 || low > 0xdfff {
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
