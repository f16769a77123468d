package facts

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// token makes a signed token with openssl.
func (w workshop) token(header, claims string) string {
	w.t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(header)) + "." + enc([]byte(claims))
	w.write("signed", signed)
	w.run("openssl dgst -sha256 -sign rsa.pem -out signature signed")
	return signed + "." + enc(w.file("signature").Bytes())
}

// TestJWT reads the registered claims, and nothing else.
func TestJWT(t *testing.T) {
	w := newWorkshop(t)
	w.run("openssl genrsa -out rsa.pem 2048")
	token := w.token(`{"alg":"RS256","kid":"key-1","typ":"JWT","x5u":"https://planted.example/kkkkkkkkkkkk"}`,
		`{"iss":"https://id.example.com","sub":"svc-7","aud":["api","web"],"iat":1767225600,"nbf":1767225601,"exp":1798761600.5,"jti":"planted-jti-0815-value","password":"planted-password-4711"}`)
	f, problems := Derive(TypeJWT, values("token", token))
	require.Empty(t, problems)
	at := func(s string) *time.Time { v, _ := time.Parse(time.RFC3339, s); return &v }
	require.Equal(t, JWT{Algorithm: "RS256", KeyID: "key-1", Issuer: "https://id.example.com", Subject: "svc-7", Audience: []string{"api", "web"},
		IssuedAt: at("2026-01-01T00:00:00Z"), NotBefore: at("2026-01-01T00:00:01Z"), ExpiresAt: at("2027-01-01T00:00:00Z")}, *f.JWT)
	require.Equal(t, f.JWT.ExpiresAt, f.Ends())
	signature := w.file("signature").Bytes()
	requireNothingOf(t, signature, f, nil)
	requireNothingOf(t, []byte(token[strings.LastIndexByte(token, '.')+1:]), f, nil)
	for _, planted := range []string{"planted-jti-0815-value", "planted-password-4711", "https://planted.example/kkkkkkkkkkkk"} {
		requireNothingOf(t, []byte(planted), f, nil)
	}
	b, err := json.Marshal(f)
	require.NoError(t, err)
	require.NotContains(t, string(b), "planted")

	// One audience is a text; what has another type or cannot be shown is left out.
	f, _ = Derive(TypeJWT, values("token", w.token(`{"alg":"RS256"}`, `{"aud":"api","iss":7,"sub":"a\u0007b","exp":"soon","iat":1e300,"nbf":-5}`)))
	require.Equal(t, JWT{Algorithm: "RS256", Audience: []string{"api"}}, *f.JWT)

	enc := base64.RawURLEncoding.EncodeToString
	for name, text := range map[string]string{
		"no token": "planted-not-a-token", "two parts": "e30.e30", "encrypted": "e30.e30.e30.e30.e30", "no algorithm": enc([]byte(`{}`)) + ".e30.c2ln", "a list": enc([]byte(`[]`)) + ".e30.c2ln",
		"a key twice": enc([]byte(`{"alg":"HS256","alg":"none"}`)) + ".e30.c2ln", "deep": enc([]byte(strings.Repeat(`{"a":`, 9000))) + ".e30.c2ln", "not base64": "e30.%%%.c2ln",
	} {
		f, problems := Derive(TypeJWT, values("token", text))
		require.Nil(t, f.JWT, name)
		require.Empty(t, problems, name)
	}
}
