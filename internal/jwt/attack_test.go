package jwt_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/secret"
)

// weak is a verifier as they were written before each attack was known. careless is the one check that it does not make; everything else it
// checks, so that an attack that it lets pass is proved to be one.
type weak struct {
	t        *testing.T
	keys     keys
	careless string
	files    map[string][]byte // what its "key directory" holds
	fetched  map[string]fields // what it would get from an address
}

func (w weak) accepts(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	decode := func(s string, v any) bool {
		if w.careless == "loose base64" {
			s = strings.Map(func(r rune) rune {
				if strings.ContainsRune("\r\n =", r) {
					return -1
				}
				return r
			}, s)
		}
		b, err := base64.RawURLEncoding.DecodeString(s)
		return err == nil && json.Unmarshal(b, v) == nil
	}
	var h struct {
		Alg, Kid, Jku, X5u string
		Jwk                map[string]string
		X5c                []string
	}
	claims := map[string]any{}
	if !decode(parts[0], &h) || !decode(parts[1], &claims) {
		return false
	}
	if w.careless == "keys in any case" {
		for k, v := range claims {
			claims[strings.ToLower(k)] = v
		}
	}
	return w.signed(h.Alg, h.Kid, h.Jku, h.X5u, h.Jwk, h.X5c, parts) && w.claims(claims)
}

func (w weak) signed(alg, kid, jku, x5u string, own map[string]string, chain []string, parts []string) bool {
	text := parts[0] + "." + parts[1]
	sig, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[2], "=\r\n "))
	if err != nil {
		return false
	}
	public := w.keys.rsa.Public().(*rsa.PublicKey)
	point := w.keys.ec.Public().(*ecdsa.PublicKey)
	sum := sha256.Sum256([]byte(text))
	verifyEC := func(key *ecdsa.PublicKey) bool {
		return len(sig) == 64 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	fromJWK := func(m map[string]string) *ecdsa.PublicKey {
		x, _ := base64.RawURLEncoding.DecodeString(m["x"])
		y, _ := base64.RawURLEncoding.DecodeString(m["y"])
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err != nil {
			return &w.keys.ec.PublicKey // brings none
		}
		return key
	}
	switch {
	case w.careless == "the token may say none" && strings.EqualFold(alg, "none"):
		return len(sig) == 0
	case w.careless == "the token chooses the algorithm" && alg == "HS256":
		der, _ := x509.MarshalPKIXPublicKey(public)
		return bytes.Equal(sig, mac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), text))
	case w.careless == "the key is a file" && alg == "HS256":
		return bytes.Equal(sig, mac(w.files[kid], text))
	case w.careless == "the token brings its key" && own != nil:
		return verifyEC(fromJWK(own))
	case w.careless == "the token says where its key is" && jku+x5u != "":
		m := map[string]string{}
		for k, v := range w.fetched[jku+x5u] {
			m[k], _ = v.(string)
		}
		return verifyEC(fromJWK(m))
	case w.careless == "the token brings its certificate" && len(chain) > 0:
		der, _ := base64.StdEncoding.DecodeString(chain[0])
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return false
		}
		key, ok := cert.PublicKey.(*ecdsa.PublicKey)
		return ok && verifyEC(key)
	case w.careless == "the signature is not looked at":
		return true
	case w.careless == "a zero signature" && alg == "ES256":
		return len(sig) == 64 // r = s = 0 satisfied the equation of a library that did not check their range
	case w.careless == "the key may be for another algorithm" && alg == "PS256":
		return rsa.VerifyPSS(public, crypto.SHA256, sum[:], sig, nil) == nil
	case alg == "RS256":
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig) == nil
	case alg == "ES256":
		return verifyEC(point)
	}
	return false
}

func (w weak) claims(m map[string]any) bool {
	at := func(name string) float64 { f, _ := m[name].(float64); return f }
	moment := float64(now.Unix())
	hasAudience := m["aud"] == audience
	if list, ok := m["aud"].([]any); ok {
		for _, a := range list {
			hasAudience = hasAudience || a == audience
		}
	}
	_, hasExp := m["exp"].(float64)
	return (w.careless == "the issuer" || m["iss"] == issuer) &&
		(w.careless == "the audience" || hasAudience) &&
		(hasExp || w.careless == "a token without exp") &&
		(!hasExp || at("exp") > moment || w.careless == "the expiry") &&
		(at("exp") < moment+90_000 || w.careless == "how long a token lives") &&
		(at("nbf") <= moment+60 || w.careless == "nbf") &&
		(at("iat") <= moment+60 || w.careless == "iat")
}

// TestJWTAttacks: each attack is made with real keys and proved to be one by a verifier that lacks the one check; ours refuses it.
func TestJWTAttacks(t *testing.T) {
	k, evil := newKeys(t), newKeys(t)
	public := k.rsa.Public().(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, evil.ec.Public(), evil.ec)
	require.NoError(t, err)

	set, good := k.set(t), goodClaims()
	es := fields{"alg": "ES256", "kid": "e1", "typ": "JWT"}
	rs := fields{"alg": "RS256", "kid": "r1", "typ": "JWT"}
	hsWith := func(key []byte, h fields) string {
		text := encode(h) + "." + encode(good)
		return text + "." + b64(mac(key, text))
	}
	raw := func(header, claims string) string {
		text := b64([]byte(header)) + "." + b64([]byte(claims))
		return text + "." + k.sign("ES256", text)
	}
	evilJWK := map[string]string{}
	for name, v := range evil.ecJWK(t, "e1") {
		evilJWK[name] = v.(string)
	}
	claims := func(change fields) string { return k.token(es, good.with(change)) }
	seconds := func(d time.Duration) int64 { return now.Add(d).Unix() }
	goodText, err := json.Marshal(good)
	require.NoError(t, err)
	inside := string(goodText[1 : len(goodText)-1])

	for name, c := range map[string]struct{ careless, token string }{
		"none":                               {"the token may say none", encode(fields{"alg": "none"}) + "." + encode(good) + "."},
		"None, oddly spelt":                  {"the token may say none", encode(fields{"alg": "nOnE"}) + "." + encode(good) + "."},
		"alg swap RS to HS":                  {"the token chooses the algorithm", hsWith(publicPEM, fields{"alg": "HS256", "kid": "r1"})},
		"alg swap, no kid":                   {"the token chooses the algorithm", hsWith(publicPEM, fields{"alg": "HS256"})},
		"key of RS for PS":                   {"the key may be for another algorithm", k.token(fields{"alg": "PS256", "kid": "r1"}, good)},
		"kid is a path":                      {"the key is a file", hsWith([]byte(""), fields{"alg": "HS256", "kid": "../../../../dev/null"})},
		"kid is a known file":                {"the key is a file", hsWith([]byte("body{margin:0}"), fields{"alg": "HS256", "kid": "/assets/style.css"})},
		"kid is a query":                     {"the key is a file", hsWith([]byte("evil"), fields{"alg": "HS256", "kid": "x' UNION SELECT 'evil"})},
		"jwk in the header":                  {"the token brings its key", evil.token(es.with(fields{"jwk": evilJWK}), good)},
		"jku":                                {"the token says where its key is", evil.token(es.with(fields{"jku": "https://evil.example/jwks"}), good)},
		"x5u":                                {"the token says where its key is", evil.token(es.with(fields{"x5u": "https://evil.example/jwks"}), good)},
		"x5c":                                {"the token brings its certificate", evil.token(es.with(fields{"x5c": []string{base64.StdEncoding.EncodeToString(cert)}}), good)},
		"crit":                               {"what is critical", k.token(es.with(fields{"crit": []string{"policy"}, "policy": "deny"}), good)},
		"b64 as text":                        {"what is critical", k.token(es.with(fields{"b64": false}), good)},
		"another key":                        {"the signature is not looked at", evil.token(es, good)},
		"changed claims":                     {"the signature is not looked at", encode(es) + "." + encode(good.with(fields{"sub": "user_2"})) + "." + strings.Split(k.token(es, good), ".")[2]},
		"no signature":                       {"the signature is not looked at", encode(es) + "." + encode(good) + "."},
		"zero signature":                     {"a zero signature", encode(es) + "." + encode(good) + "." + b64(make([]byte, 64))},
		"wrong issuer":                       {"the issuer", claims(fields{"iss": "https://evil.example"})},
		"issuer as list":                     {"the issuer", claims(fields{"iss": []string{issuer, "https://evil.example"}})},
		"issuer with slash":                  {"the issuer", claims(fields{"iss": issuer + "/"})},
		"no issuer":                          {"the issuer", claims(fields{"iss": nil})},
		"wrong audience":                     {"the audience", claims(fields{"aud": "another"})},
		"audience as object":                 {"the audience", claims(fields{"aud": fields{audience: true}})},
		"no audience":                        {"the audience", claims(fields{"aud": nil})},
		"expired":                            {"the expiry", claims(fields{"exp": seconds(-time.Second)})},
		"expired long ago":                   {"the expiry", claims(fields{"exp": 1})},
		"missing exp":                        {"a token without exp", claims(fields{"exp": nil})},
		"exp is null":                        {"a token without exp", raw(string(mustJSON(es)), `{"exp":null,`+strings.Replace(inside, `"exp"`, `"exq"`, 1)+`}`)},
		"exp is a text":                      {"a token without exp", claims(fields{"exp": "9999999999"})},
		"exp too far":                        {"how long a token lives", claims(fields{"exp": seconds(26 * time.Hour)})},
		"future nbf":                         {"nbf", claims(fields{"nbf": seconds(2 * time.Minute)})},
		"future iat":                         {"iat", claims(fields{"iat": seconds(2 * time.Minute)})},
		"nbf is a text":                      {"nbf", claims(fields{"nbf": "1"})},
		"iat is a text":                      {"iat", claims(fields{"iat": "1"})},
		"key twice in claims":                {"a key twice", raw(string(mustJSON(es)), `{"sub":"user_2",`+inside+`}`)},
		"key twice in header":                {"a key twice", raw(`{"alg":"none","kid":"e1","alg":"ES256"}`, string(goodText))},
		"key twice, escaped":                 {"a key twice", raw(string(mustJSON(es)), `{"\u0073ub":"user_2",`+inside+`}`)},
		"key twice, nested":                  {"a key twice", raw(string(mustJSON(es)), `{"a":{"b":1,"b":2},`+inside+`}`)},
		"claim in capitals":                  {"keys in any case", raw(string(mustJSON(es)), strings.Replace(string(goodText), `"exp"`, `"EXP"`, 1))},
		"padded base64":                      {"loose base64", k.token(es, good) + "="},
		"base64 with a line end":             {"loose base64", breakLine(k, es, good)},
		"type of another use":                {"the type", k.token(es.with(fields{"typ": "logout+jwt"}), good)},
		"type is a list":                     {"the type", raw(`{"alg":"ES256","kid":"e1","typ":["JWT"]}`, string(goodText))},
		"nested":                             {"the type", k.token(es.with(fields{"cty": "JWT"}), good)},
		"compressed":                         {"the type", k.token(es.with(fields{"zip": "DEF"}), good)},
		"bound to a key":                     {"proof of possession", claims(fields{"cnf": fields{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})},
		"too long":                           {"the length", claims(fields{"x": strings.Repeat("a", 8<<10)})},
		"behind its JSON":                    {"JSON goes on", raw(string(mustJSON(es)), string(goodText)+" {}")},
		"deep":                               {"the depth", raw(string(mustJSON(es)), `{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,`+inside+`}`)},
		"half a character":                   {"the depth", raw(string(mustJSON(es)), `{"a":"\ud800",`+inside+`}`)},
		"signed as Ed25519, named as EC key": {"the key may be for another", k.token(fields{"alg": "EdDSA", "kid": "e1"}, good)},
	} {
		t.Run(name, func(t *testing.T) {
			w := weak{t: t, keys: k, careless: c.careless,
				files:   map[string][]byte{"../../../../dev/null": {}, "/assets/style.css": []byte("body{margin:0}"), "x' UNION SELECT 'evil": []byte("evil")},
				fetched: map[string]fields{"https://evil.example/jwks": evil.ecJWK(t, "e1")},
			}
			switch c.careless {
			case "JSON goes on", "the key may be for another", "a zero signature":
				// What these stand for is refused by the standard library that the careless verifier is built on.
			default:
				require.True(t, w.accepts(c.token), "this is no attack: a verifier without the check refuses it too")
			}
			_, err := rules().Verify(c.token, set)
			bad := requireInvalid(t, err)
			require.NotContains(t, bad.Error(), "evil")
			require.NotContains(t, bad.Error(), "user_2")
		})
	}

	t.Run("and a good one passes", func(t *testing.T) {
		for _, h := range []fields{es, rs, es.with(fields{"typ": nil}), es.with(fields{"typ": "application/at+JWT"}), {"alg": "EdDSA", "kid": "d1"}} {
			got, err := rules().Verify(k.token(h, good), set)
			require.NoError(t, err)
			sub, ok := got.Text("sub")
			require.True(t, ok)
			require.Equal(t, "user_1", sub)
			if h["alg"] != "EdDSA" {
				require.True(t, weak{t: t, keys: k}.accepts(k.token(h, good)))
			}
		}
		_, err := rules().Verify(claims(fields{"aud": []string{"other", audience}, "nbf": seconds(50 * time.Second), "iat": seconds(50 * time.Second)}), set)
		require.NoError(t, err, "within the leeway")
	})
}

func mustJSON(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

// breakLine signs over a part with a line end in it, as a loose decoder would read it.
func breakLine(k keys, h, c fields) string {
	e := encode(c)
	text := encode(h) + "." + e[:10] + "\n" + e[10:]
	return text + "." + k.sign("ES256", text)
}

// TestSharedSecrets: a shared secret verifies HMAC alone, a public key never does.
func TestSharedSecrets(t *testing.T) {
	k := newKeys(t)
	_, err := jwt.SharedKey(secret.New(k.shared[:31]))
	requireInvalid(t, err)
	shared, err := jwt.SharedKey(secret.New(k.shared))
	require.NoError(t, err)
	set, err := jwt.NewSet(shared)
	require.NoError(t, err)
	r := rules()
	r.Algorithms = []string{"HS256"}
	for _, h := range []fields{{"alg": "HS256"}, {"alg": "HS256", "kid": "whatever"}} {
		_, err = r.Verify(k.token(h, goodClaims()), set)
		require.NoError(t, err)
	}
	_, err = rules().Verify(k.token(fields{"alg": "HS256"}, goodClaims()), set)
	requireInvalid(t, err)
	r.Algorithms = []string{"HS256", "RS256", "ES256"}
	_, err = r.Verify(k.token(fields{"alg": "RS256"}, goodClaims()), set)
	requireInvalid(t, err)
	// Even rules that allow HMAC do not make a public key a secret.
	public, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	require.NoError(t, err)
	text := encode(fields{"alg": "HS256", "kid": "r1"}) + "." + encode(goodClaims())
	_, err = r.Verify(text+"."+b64(mac(public, text)), k.set(t))
	requireInvalid(t, err)
	require.NotContains(t, spill(shared, set), string(k.shared))
}

// TestNothingIsAllowedByDefault: rules that leave something out, and sets without keys, verify nothing.
func TestNothingIsAllowedByDefault(t *testing.T) {
	k := newKeys(t)
	token := k.token(fields{"alg": "ES256", "kid": "e1"}, goodClaims())
	for name, change := range map[string]func(*jwt.Rules){
		"zero":         func(r *jwt.Rules) { *r = jwt.Rules{Clock: r.Clock} },
		"no algorithm": func(r *jwt.Rules) { r.Algorithms = nil },
		"no issuer":    func(r *jwt.Rules) { r.Issuer = "" },
		"no audience":  func(r *jwt.Rules) { r.Audience = "" },
		"no life":      func(r *jwt.Rules) { r.MaxLife = 0 },
		"another type": func(r *jwt.Rules) { r.Type = jwt.AccessType },
	} {
		t.Run(name, func(t *testing.T) {
			r := rules()
			change(&r)
			_, err := r.Verify(token, k.set(t))
			requireInvalid(t, err)
		})
	}
	_, err := rules().Verify(token, jwt.Set{})
	requireInvalid(t, err)
	r := rules()
	r.Issuer, r.AnyIssuer, r.Audience, r.AnyAudience = "", true, "", true
	_, err = r.Verify(token, k.set(t))
	require.NoError(t, err, "waived by name")
}
