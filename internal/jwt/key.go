package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"slices"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	minRSABits = 2048
	maxRSABits = 8192 // verifying with larger ones costs whoever has to
	// MinSecret is the length in bytes of the shortest shared secret (RFC 7518, section 3.2, for HS256).
	MinSecret = 32
)

// Key verifies signatures. Which algorithms it verifies is part of it: the same RSA key as text is a fine shared secret for whoever confuses
// the two.
type Key struct {
	ID   string
	algs []string
	// open returns what the library verifies with; it is a function so that a shared secret cannot be printed.
	open func() any
}

// verifies reports whether the key is for that algorithm.
func (k Key) verifies(alg string) bool { return k.open != nil && slices.Contains(k.algs, alg) }

// PublicKey returns a key for a public key. only is the one algorithm it is for; when it is empty, all that its sort of key can do.
func PublicKey(id string, public any, only string) (Key, error) {
	if id != "" && !keyID(id) {
		return Key{}, invalid("the id of a key is no printable text of at most 255 characters")
	}
	fam, curve := family(""), ""
	switch p := public.(type) {
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return Key{}, invalid("an RSA key has fewer than 2048 or more than 8192 bits")
		}
		if p.E < 3 || p.E%2 == 0 || p.N.Bit(0) == 0 {
			return Key{}, invalid("an RSA key is malformed")
		}
		fam = rsaKeys
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, p.Curve) {
			return Key{}, invalid("the curve of a key is none that is verified here")
		}
		if _, err := p.ECDH(); err != nil { // this also checks that the point is on the curve
			return Key{}, invalid("an elliptic key is no point on its curve")
		}
		fam, curve = ecKeys, p.Curve.Params().Name
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return Key{}, invalid("an Ed25519 key has the wrong length")
		}
		fam, curve = edKeys, "Ed25519"
	default:
		return Key{}, invalid("a key is of a sort that is not verified here")
	}
	k := Key{ID: id, open: func() any { return public }}
	for _, a := range algorithms {
		if a.family == fam && a.curve == curve && (only == "" || only == a.Name) {
			k.algs = append(k.algs, a.Name)
		}
	}
	if len(k.algs) == 0 {
		return Key{}, invalid("the algorithm that a key is for does not fit the key")
	}
	return k, nil
}

// SharedKey returns a key for a shared secret, and for the HMAC algorithms alone. It has no id: such a key is the only one of its issuer.
func SharedKey(shared secret.Value) (Key, error) {
	if shared.Len() < MinSecret {
		return Key{}, invalid("a shared secret has fewer than 32 bytes")
	}
	k := Key{open: func() any { return []byte(shared.Reveal()) }}
	for _, a := range algorithms {
		if a.Shared {
			k.algs = append(k.algs, a.Name)
		}
	}
	return k, nil
}

// Set is the keys of one issuer. The zero Set has none.
type Set struct{ keys []Key }

// NewSet returns a set of these keys. Two may not have the same id, and one without an id is alone.
func NewSet(keys ...Key) (Set, error) {
	if len(keys) > maxKeys {
		return Set{}, invalid("there are more than 64 keys")
	}
	seen := map[string]bool{}
	for _, k := range keys {
		if k.open == nil {
			return Set{}, invalid("a key is empty")
		}
		if k.ID == "" && len(keys) > 1 {
			return Set{}, invalid("a key without an id is not the only one")
		}
		if seen[k.ID] {
			return Set{}, invalid("two keys have the same id")
		}
		seen[k.ID] = true
	}
	return Set{slices.Clone(keys)}, nil
}

// Len returns how many keys there are.
func (s Set) Len() int { return len(s.keys) }

// find returns the key that a token names. A token without a key id is verified by the only key there is; a shared secret has no id, so it
// also verifies tokens that name one.
func (s Set) find(id, alg string) (Key, error) {
	if len(s.keys) == 1 && (id == "" || s.keys[0].ID == "") {
		if !s.keys[0].verifies(alg) {
			return Key{}, invalid("the algorithm of the token is not the one of its key")
		}
		return s.keys[0], nil
	}
	if id == "" {
		return Key{}, invalid("the token does not name its key, and there are several")
	}
	for _, k := range s.keys {
		if k.ID != id {
			continue
		}
		if !k.verifies(alg) {
			return Key{}, invalid("the algorithm of the token is not the one of its key")
		}
		return k, nil
	}
	return Key{}, errUnknownKey
}

// knows reports whether a token that names this key can be verified or refused without asking the issuer anew.
func (s Set) knows(id string) bool {
	if len(s.keys) == 1 && s.keys[0].ID == "" || id == "" {
		return len(s.keys) > 0
	}
	return slices.ContainsFunc(s.keys, func(k Key) bool { return k.ID == id })
}

var errUnknownKey = invalid("the key that the token names is not known")
