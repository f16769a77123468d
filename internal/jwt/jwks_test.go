package jwt_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/jwt"
)

func spill(values ...any) string {
	return fmt.Sprintf("%v %+v %#v %s", values, values, values, values)
}

// TestSets: what is malformed refuses the whole set, what is only of no use here is left out.
func TestSets(t *testing.T) {
	k := newKeys(t)
	ec, rs := k.ecJWK(t, "e1"), k.rsaJWK("r1")
	small := "AQAB"
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	for name, doc := range map[string][]byte{
		"not JSON":            []byte(`keys`),
		"a list":              []byte(`[]`),
		"no keys":             []byte(`{}`),
		"none":                document(),
		"keys is an object":   []byte(`{"keys":{}}`),
		"a key is a text":     []byte(`{"keys":["x"]}`),
		"keys twice":          []byte(`{"keys":[],"keys":[]}`),
		"behind it":           append(document(ec), []byte(`{}`)...),
		"same id":             document(ec, rs.with(fields{"kid": "e1"})),
		"same id, one unused": document(ec, rs.with(fields{"kid": "e1", "use": "enc"})),
		"two without id":      document(ec.with(fields{"kid": nil}), rs),
		"private":             document(ec.with(fields{"d": small})),
		"private of another":  document(ec, rs.with(fields{"d": small})),
		"shared secret":       document(ec, fields{"kty": "oct", "kid": "o", "k": b64(k.shared)}),
		"id is a number":      document(ec.with(fields{"kid": 7})),
		"id is empty":         document(ec.with(fields{"kid": ""})),
		"x is a number":       document(ec.with(fields{"x": 7})),
		"too large":           []byte(`{"keys":[],"pad":"` + strings.Repeat("a", jwt.MaxSet) + `"}`),
		"too many":            many(ec),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := jwt.ParseSet(doc)
			bad := requireInvalid(t, err)
			require.NotContains(t, bad.Error(), b64(k.shared))
		})
	}
	for name, odd := range map[string]fields{
		"for encryption":     rs.with(fields{"use": "enc"}),
		"for wrapping":       rs.with(fields{"key_ops": []string{"wrapKey"}}),
		"HMAC with RSA":      rs.with(fields{"alg": "HS256"}),
		"none":               rs.with(fields{"alg": "none"}),
		"ES with RSA":        rs.with(fields{"alg": "ES256"}),
		"unknown sort":       {"kty": "LWE", "kid": "q"},
		"1024 bits":          rs.with(fields{"n": b64(weakKey.N.Bytes())}),
		"9000 bits":          rs.with(fields{"n": b64(new(big.Int).Lsh(k.rsa.N, 7000).Bytes())}),
		"even exponent":      rs.with(fields{"e": b64([]byte{4})}),
		"exponent 1":         rs.with(fields{"e": b64([]byte{1})}),
		"huge exponent":      rs.with(fields{"e": b64([]byte{1, 0, 0, 0, 1})}),
		"leading zero":       rs.with(fields{"n": b64(append([]byte{0}, k.rsa.N.Bytes()...))}),
		"off the curve":      ec.with(fields{"kid": "off", "y": ec["x"]}),
		"point at zero":      ec.with(fields{"kid": "off", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}),
		"short coordinate":   ec.with(fields{"kid": "off", "x": small}),
		"wrong curve's name": ec.with(fields{"kid": "off", "crv": "P-384"}),
		"secp256k1":          ec.with(fields{"kid": "off", "crv": "secp256k1"}),
		"ES384 for P-256":    ec.with(fields{"kid": "off", "alg": "ES384"}),
		"short Ed25519":      k.edJWK("ed").with(fields{"x": small}),
		"X25519":             k.edJWK("ed").with(fields{"crv": "X25519"}),
		"padded":             ec.with(fields{"kid": "off", "x": ec["x"].(string) + "="}),
	} {
		t.Run("left out: "+name, func(t *testing.T) {
			set, skipped, err := jwt.ParseSet(document(ec, odd))
			require.NoError(t, err)
			require.Equal(t, 1, set.Len())
			require.Len(t, skipped, 1)
			_, _, err = jwt.ParseSet(document(odd))
			requireInvalid(t, err)
		})
	}
}

func many(ec fields) []byte {
	var list []fields
	for i := range 65 {
		list = append(list, ec.with(fields{"kid": fmt.Sprint(i)}))
	}
	return document(list...)
}

// TestWhichKey: the id of a key decides, and a token without one is verified by the only key there is.
func TestWhichKey(t *testing.T) {
	k := newKeys(t)
	token := k.token(fields{"alg": "ES256"}, goodClaims())
	_, err := rules().Verify(token, k.set(t))
	require.ErrorContains(t, err, "several")
	one, _, err := jwt.ParseSet(document(k.ecJWK(t, "e1")))
	require.NoError(t, err)
	_, err = rules().Verify(token, one)
	require.NoError(t, err)
	_, err = rules().Verify(k.token(fields{"alg": "ES256", "kid": "e2"}, goodClaims()), one)
	require.ErrorContains(t, err, "not known")
	bare, _, err := jwt.ParseSet(document(k.ecJWK(t, "x").with(fields{"kid": nil})))
	require.NoError(t, err)
	_, err = rules().Verify(k.token(fields{"alg": "ES256", "kid": "e2"}, goodClaims()), bare)
	require.NoError(t, err, "a key without an id is the only one")
}

// TestSigning: what we sign verifies, with the published set, and the retired half of a key verifies on.
func TestSigning(t *testing.T) {
	private, err := jwt.NewPrivateKey()
	require.NoError(t, err)
	signer, err := jwt.OpenSigner("jwk_1", private)
	require.NoError(t, err)
	require.NotContains(t, spill(signer, signer.Key()), "0x3b", "no number of the key")
	token, err := signer.Sign(goodClaims())
	require.NoError(t, err)

	doc, err := jwt.EncodeSet([]jwt.Key{signer.Key()})
	require.NoError(t, err)
	require.NotContains(t, string(doc), `"d"`)
	published, skipped, err := jwt.ParseSet(doc)
	require.NoError(t, err)
	require.Empty(t, skipped)
	public, err := signer.Public()
	require.NoError(t, err)
	retired, err := jwt.OpenPublic("jwk_1", public)
	require.NoError(t, err)
	kept, err := jwt.NewSet(retired)
	require.NoError(t, err)
	r := rules()
	r.Type, r.Algorithms = jwt.AccessType, []string{jwt.SigningAlgorithm}
	for _, set := range []jwt.Set{published, kept} {
		_, err = r.Verify(token.Reveal(), set)
		require.NoError(t, err)
	}
	_, err = jwt.OpenSigner("jwk_1", public)
	require.Error(t, err)
	_, err = jwt.OpenPublic("jwk_1", private)
	require.Error(t, err)
	_, err = (jwt.Signer{}).Sign(nil)
	require.Error(t, err)
	_, err = jwt.EncodeSet([]jwt.Key{{}})
	require.Error(t, err)
}

func TestClaims(t *testing.T) {
	k := newKeys(t)
	verify := func(c fields) jwt.Claims {
		got, err := rules().Verify(k.token(fields{"alg": "ES256", "kid": "e1"}, goodClaims().with(c)), k.set(t))
		require.NoError(t, err)
		return got
	}
	for _, good := range []any{7, "7", json.Number("9007199254740993"), "9223372036854775807"} {
		got, ok := verify(fields{"id": good}).Number("id")
		require.True(t, ok, "%v", good)
		require.Equal(t, fmt.Sprint(good), got)
	}
	for _, bad := range []any{0, -1, "0", "-7", "+7", "07", " 7", "7.0", json.Number("7.0"), json.Number("7e0"), json.Number("1e400"), "9223372036854775808", true, []int{7}, "", "x"} {
		_, ok := verify(fields{"id": bad}).Number("id")
		require.False(t, ok, "%v", bad)
	}
	_, ok := verify(nil).Number("id")
	require.False(t, ok)
	for _, bad := range []any{"", 7, true, "a\x00b", "a\nb", strings.Repeat("a", 256), []string{"a"}} {
		_, ok := verify(fields{"x": bad}).Text("x")
		require.False(t, ok, "%v", bad)
	}
	require.True(t, verify(fields{"x": true}).Is("x"))
	for _, bad := range []any{"true", 1, false} {
		require.False(t, verify(fields{"x": bad}).Is("x"))
	}
	require.Equal(t, now.Add(time.Hour), verify(nil).Expires().UTC())
}

// FuzzToken: whatever is sent, nothing panics, and nothing is accepted that was not signed.
func FuzzToken(f *testing.F) {
	k := newKeys(f)
	good := k.token(fields{"alg": "ES256", "kid": "e1"}, goodClaims())
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	set := k.set(f)
	f.Fuzz(func(t *testing.T, token string) {
		_, err := rules().Verify(token, set)
		if err == nil && token != good {
			// An ES256 signature can be made into a second one of the same bytes signed (s and n-s); only the signature may differ.
			if token[:strings.LastIndexByte(token, '.')] != good[:strings.LastIndexByte(good, '.')] {
				t.Fatal("a token that nobody signed was accepted")
			}
		}
	})
}

// FuzzSet: a set is read or refused, and what is read is within its bounds.
func FuzzSet(f *testing.F) {
	k := newKeys(f)
	f.Add(document(k.rsaJWK("r1"), k.ecJWK(f, "e1"), k.edJWK("d1")))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		set, _, err := jwt.ParseSet(doc)
		if (err == nil) != (set.Len() > 0) {
			t.Fatal("a set without a key, or keys in spite of an error")
		}
		if err == nil {
			_, err := rules().Verify(k.token(fields{"alg": "ES256", "kid": "e1"}, goodClaims()), set)
			_ = err
		}
	})
}
