package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
)

// ParseSet reads a JWK Set (RFC 7517) of public keys. Keys that are for something else (encryption, an algorithm that is not verified here) or
// too weak are left out, and skipped says why of each. The whole set is refused when it is malformed, names an id twice, or holds a private
// key or a shared secret: what is public of such an issuer can forge tokens.
func ParseSet(doc []byte) (set Set, skipped []string, err error) {
	if len(doc) > MaxSet {
		return Set{}, nil, invalid("the set of keys is larger than 256 KB")
	}
	top, err := object(doc)
	if err != nil {
		return Set{}, nil, err
	}
	list, ok := top["keys"].([]any)
	if !ok {
		return Set{}, nil, invalid("the set of keys has no list of keys")
	}
	if len(list) > maxKeys {
		return Set{}, nil, invalid("there are more than 64 keys")
	}
	var keys []Key
	seen := map[string]bool{}
	for _, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			return Set{}, nil, invalid("a key is no object")
		}
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if _, has := m[private]; has {
				return Set{}, nil, invalid("a private key or a shared secret was published")
			}
		}
		j := jwk{m: m}
		if id := j.text("kid"); id != "" {
			if seen[id] {
				return Set{}, nil, invalid("two keys have the same id")
			}
			seen[id] = true
		}
		k, why := j.key()
		if j.broken {
			return Set{}, nil, invalid("a key has a member of the wrong type")
		}
		if why != nil {
			skipped = append(skipped, why.Error())
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return Set{}, skipped, invalid("the set of keys holds none that can be used")
	}
	set, err = NewSet(keys...)
	return set, skipped, err
}

// jwk reads the members of one key. broken remembers that one had the wrong type.
type jwk struct {
	m      map[string]any
	broken bool
}

// text returns a member that is a text; "" when it is absent.
func (j *jwk) text(name string) string {
	v, has := j.m[name]
	if !has {
		return ""
	}
	s, ok := v.(string)
	if !ok || s == "" {
		j.broken = true
	}
	return s
}

// number returns a member that holds bytes in base64url; size, when it is not 0, is how many it must have.
func (j *jwk) number(name string, size int) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(j.text(name))
	if err != nil || size != 0 && len(b) != size {
		return nil
	}
	return b
}

func (j *jwk) key() (Key, error) {
	if use := j.text("use"); use != "" && use != "sig" {
		return Key{}, invalid("a key is not for signatures")
	}
	if v, has := j.m["key_ops"]; has {
		ops, ok := v.([]any)
		if !ok {
			j.broken = true
		}
		if !slices.Contains(ops, any("verify")) {
			return Key{}, invalid("a key is not for verifying")
		}
	}
	id, alg := j.text("kid"), j.text("alg")
	if alg != "" {
		if a, known := Lookup(alg); !known || a.Shared {
			return Key{}, invalid("the algorithm that a key is for is none that is verified here")
		}
	}
	switch family(j.text("kty")) {
	case rsaKeys:
		n, e := j.number("n", 0), j.number("e", 0)
		// The bound on n comes before any arithmetic with it.
		if len(n) == 0 || len(n) > maxRSABits/8 || n[0] == 0 || len(e) == 0 || len(e) > 4 {
			return Key{}, invalid("an RSA key is malformed")
		}
		exponent := new(big.Int).SetBytes(e).Int64()
		if exponent > 1<<31-1 {
			return Key{}, invalid("an RSA key is malformed")
		}
		return PublicKey(id, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, alg)
	case ecKeys:
		curve, size := curveOf(j.text("crv"))
		if curve == nil {
			return Key{}, invalid("the curve of a key is none that is verified here")
		}
		x, y := j.number("x", size), j.number("y", size)
		if x == nil || y == nil {
			return Key{}, invalid("an elliptic key is malformed")
		}
		public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
		if err != nil {
			return Key{}, invalid("an elliptic key is no point on its curve")
		}
		return PublicKey(id, public, alg)
	case edKeys:
		x := j.number("x", ed25519.PublicKeySize)
		if j.text("crv") != "Ed25519" || x == nil {
			return Key{}, invalid("the curve of a key is none that is verified here")
		}
		return PublicKey(id, ed25519.PublicKey(x), alg)
	}
	return Key{}, invalid("a key is of a sort that is not verified here")
}

func curveOf(name string) (elliptic.Curve, int) {
	switch name {
	case "P-256":
		return elliptic.P256(), 32
	case "P-384":
		return elliptic.P384(), 48
	case "P-521":
		return elliptic.P521(), 66
	}
	return nil, 0
}

// PublicJWK is one of our own keys as it is published.
type PublicJWK struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// JWK returns an ES256 key as it is published.
func (k Key) JWK() (PublicJWK, error) {
	if k.open == nil {
		return PublicJWK{}, invalid("a key is empty")
	}
	public, ok := k.open().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return PublicJWK{}, invalid("a key of our own is not for ES256")
	}
	point, err := public.Bytes()
	if err != nil || len(point) != 65 {
		return PublicJWK{}, invalid("an elliptic key is no point on its curve")
	}
	enc := base64.RawURLEncoding.EncodeToString
	return PublicJWK{KeyType: string(ecKeys), Use: "sig", Algorithm: SigningAlgorithm, ID: k.ID, Curve: "P-256", X: enc(point[1:33]), Y: enc(point[33:])}, nil
}

// EncodeSet returns the document that publishes these keys.
func EncodeSet(keys []Key) ([]byte, error) {
	out := struct {
		Keys []PublicJWK `json:"keys"`
	}{Keys: []PublicJWK{}}
	for _, k := range keys {
		j, err := k.JWK()
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, j)
	}
	return json.Marshal(out)
}
