// Package jwt verifies JSON web tokens (RFC 7519) as strictly as the best current practice asks (RFC 8725), reads the sets of keys that
// issuers publish (RFC 7517), keeps those of outside issuers fresh, and signs access tokens of our own (RFC 9068).
//
// Promise: a token is verified with a key that was there before, under an algorithm that both the rules and that key name. Nothing in a token
// chooses a key otherwise than by its id, which is compared in memory and never is a path or an address. What two readers could read
// differently (a key twice, a half character, loose base64) is refused, and so is what is not understood: critical extensions, keys that a
// token brings along, encrypted or nested tokens, tokens that are bound to a key of their holder. Every refusal is an [Invalid].
//
// Limits: a token has at most 8 KB, a set of keys 256 KB and 64 keys. The algorithms are those of [Algorithms]. Whether the subject still may do
// anything is the caller's to know: a signature says what was true when it was made.
//
// Invariants: the zero [Rules] and the zero [Set] verify nothing; no error holds any part of a token or of a key; no lock is held while a set
// of keys is fetched, and an issuer is asked at most once a minute because of tokens.
package jwt

import (
	"slices"
	"time"
)

const (
	// MaxToken is the length of the longest token that is looked at.
	MaxToken = 8 << 10
	// MaxSet is the size of the largest set of keys that is read.
	MaxSet = 256 << 10
	// Leeway is by how much the clock of an issuer may be ahead of ours.
	Leeway = time.Minute

	maxKeys  = 64
	maxKeyID = 255
)

// Invalid says that a token, or a set of keys, is not valid, and why. Its text holds nothing that came with it: it may be logged. Whoever sent
// the token is told no more than that it is not valid.
type Invalid struct{ why string }

// Error says why.
func (e *Invalid) Error() string { return e.why }

func invalid(why string) error { return &Invalid{why} }

// family is what sort of key an algorithm takes.
type family string

const (
	rsaKeys   family = "RSA"
	ecKeys    family = "EC"
	edKeys    family = "OKP"
	octetKeys family = "oct"
)

// Algorithm is a signature algorithm that can be verified.
type Algorithm struct {
	Name string
	// Shared says that it takes a shared secret instead of a public key.
	Shared bool

	family family
	curve  string
}

// Algorithms returns the table of what can be verified. "none" is not in it.
func Algorithms() []Algorithm { return algorithms[:] }

var algorithms = [...]Algorithm{
	{"ES256", false, ecKeys, "P-256"},
	{"ES384", false, ecKeys, "P-384"},
	{"ES512", false, ecKeys, "P-521"},
	{"EdDSA", false, edKeys, "Ed25519"},
	{"PS256", false, rsaKeys, ""},
	{"PS384", false, rsaKeys, ""},
	{"PS512", false, rsaKeys, ""},
	{"RS256", false, rsaKeys, ""},
	{"RS384", false, rsaKeys, ""},
	{"RS512", false, rsaKeys, ""},
	{"HS256", true, octetKeys, ""},
	{"HS384", true, octetKeys, ""},
	{"HS512", true, octetKeys, ""},
}

// Lookup returns the algorithm of that name.
func Lookup(name string) (Algorithm, bool) {
	i := slices.IndexFunc(algorithms[:], func(a Algorithm) bool { return a.Name == name })
	if i < 0 {
		return Algorithm{}, false
	}
	return algorithms[i], true
}
