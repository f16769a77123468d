package jwt

import (
	"encoding/base64"
	"errors"
	"strings"

	"signalbox.dev/signalbox/internal/strict"
)

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

// object reads one JSON object as two readers would read it alike.
func object(b []byte) (map[string]any, error) {
	m, err := strict.Object(b)
	var why *strict.Error
	if !errors.As(err, &why) {
		return m, err
	}
	switch why.Why {
	case strict.NotUTF8, strict.HalfCharacter:
		return nil, invalid("its JSON is no valid Unicode")
	case strict.KeyTwice:
		return nil, invalid("its JSON has a key twice")
	case strict.TooDeep:
		return nil, invalid("its JSON nests too deep")
	}
	return nil, invalid("it is no JSON object")
}
