package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/jwt"
)

// The tests build tokens by hand, with the standard library alone: a library that makes tokens refuses to make most of these.

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const (
	issuer   = "https://id.example.com"
	audience = "signalbox"
)

type fields map[string]any

// with returns the fields with some changed; nil removes one.
func (f fields) with(change fields) fields {
	out := fields{}
	for k, v := range f {
		out[k] = v
	}
	for k, v := range change {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func goodClaims() fields {
	return fields{"iss": issuer, "aud": audience, "sub": "user_1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return b64(b)
}

// keys are an issuer's, one of each sort.
type keys struct {
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
	shared []byte
}

func newKeys(t testing.TB) keys {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, d, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return keys{rsa: r, ec: e, ed: d, shared: []byte("planted-shared-secret-of-forty-bytes-xyz")}
}

// sign makes the third part over the first two.
func (k keys) sign(alg, text string) string {
	sum := sha256.Sum256([]byte(text))
	switch alg {
	case "RS256":
		s, _ := rsa.SignPKCS1v15(rand.Reader, k.rsa, crypto.SHA256, sum[:])
		return b64(s)
	case "PS256":
		s, _ := rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		return b64(s)
	case "ES256":
		r, s, _ := ecdsa.Sign(rand.Reader, k.ec, sum[:])
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return b64(out)
	case "EdDSA":
		return b64(ed25519.Sign(k.ed, []byte(text)))
	case "HS256":
		return b64(mac(k.shared, text))
	}
	return ""
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (k keys) token(header, claims any) string {
	alg := ""
	if f, ok := header.(fields); ok {
		alg, _ = f["alg"].(string)
	}
	text := encode(header) + "." + encode(claims)
	return text + "." + k.sign(alg, text)
}

func (k keys) rsaJWK(kid string) fields {
	return fields{"kty": "RSA", "use": "sig", "kid": kid, "alg": "RS256", "n": b64(k.rsa.N.Bytes()), "e": b64(big.NewInt(int64(k.rsa.E)).Bytes())}
}

func (k keys) ecJWK(t testing.TB, kid string) fields {
	t.Helper()
	point, err := k.ec.PublicKey.Bytes()
	require.NoError(t, err)
	return fields{"kty": "EC", "use": "sig", "kid": kid, "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

func (k keys) edJWK(kid string) fields {
	return fields{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64(k.ed.Public().(ed25519.PublicKey))}
}

func document(list ...fields) []byte {
	b, err := json.Marshal(fields{"keys": list})
	if err != nil {
		return nil
	}
	return b
}

func (k keys) set(t testing.TB) jwt.Set {
	t.Helper()
	set, skipped, err := jwt.ParseSet(document(k.rsaJWK("r1"), k.ecJWK(t, "e1"), k.edJWK("d1")))
	require.NoError(t, err)
	require.Empty(t, skipped)
	return set
}

func rules() jwt.Rules {
	return jwt.Rules{
		Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Issuer: issuer, Audience: audience, MaxLife: 24 * time.Hour,
		Clock: func() time.Time { return now },
	}
}

func requireInvalid(t testing.TB, err error) *jwt.Invalid {
	t.Helper()
	var bad *jwt.Invalid
	require.ErrorAs(t, err, &bad)
	return bad
}
