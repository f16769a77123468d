package oidc_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oidc"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	nonce    = "nonce-of-this-sign-in"
	verifier = "verifier-of-forty-three-characters-or-more-0"
	planted  = "planted-words-of-the-provider"
)

// fake is a small provider of ours that does wrong whatever the test says; TestSingleSignOn in signalboxtest has one that we did not write.
type fake struct {
	*testing.T
	url    string
	key    *rsa.PrivateKey
	client *oidc.Client
	now    time.Time

	mu        sync.Mutex
	document  map[string]any                                    // nil: the usual
	discovery func(w http.ResponseWriter, r *http.Request) bool // true: answered
	token     func() string
	info      map[string]any
	asked     map[string]int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	f := &fake{T: t, key: key, now: time.Now(), asked: map[string]int{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	f.client, err = oidc.New(oidc.Config{
		HTTP: outbound.NewClient(policy, outbound.Options{Timeout: 2 * time.Second}), CheckURL: policy.CheckURL, Clock: func() time.Time { return f.now },
	})
	require.NoError(t, err)
	f.token = func() string { return f.sign(f.claims(), "RS256") }
	return f
}

func (f *fake) usual() map[string]any {
	return map[string]any{
		"issuer": f.url, "authorization_endpoint": f.url + "/auth", "token_endpoint": f.url + "/token", "jwks_uri": f.url + "/keys", "userinfo_endpoint": f.url + "/info",
		"id_token_signing_alg_values_supported": []string{"RS256"}, "authorization_response_iss_parameter_supported": true,
	}
}

// ServeHTTP plays the provider.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.URL.Path]++
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if f.discovery != nil && f.discovery(w, r) {
			return
		}
		if answer = f.document; answer == nil {
			answer = f.usual()
		}
	case "/keys":
		n := base64.RawURLEncoding.EncodeToString(f.key.N.Bytes())
		e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(f.key.E)).Bytes())
		answer["keys"] = []any{map[string]any{"kty": "RSA", "use": "sig", "kid": "one", "n": n, "e": e}}
	case "/token":
		if r.FormValue("code") != "good" || r.FormValue("code_verifier") != verifier {
			w.WriteHeader(http.StatusBadRequest)
			answer = map[string]any{"error": "invalid_grant", "error_description": planted}
			break
		}
		answer = map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": f.token()}
	case "/info":
		answer = f.info
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fake) claims(change ...any) map[string]any {
	c := map[string]any{
		"iss": f.url, "aud": "us", "sub": "7", "nonce": nonce, "iat": f.now.Unix(), "exp": f.now.Add(time.Minute).Unix(), "email": "a@example.com", "auth_time": f.now.Unix(),
	}
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == nil {
			delete(c, change[i].(string))
			continue
		}
		c[change[i].(string)] = change[i+1]
	}
	return c
}

func part(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign makes a token: none has no signature, HS256 takes the public key for a shared secret.
func (f *fake) sign(claims map[string]any, alg string) string {
	text := part(map[string]any{"alg": alg, "kid": "one", "typ": "JWT"}) + "." + part(claims)
	switch alg {
	case "none":
		return text + "."
	case "HS256":
		mac := hmac.New(sha256.New, f.key.N.Bytes())
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA256, sum[:])
	require.NoError(f, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (f *fake) registration() oidc.Registration {
	return oidc.Registration{Issuer: f.url, ClientID: "us", Secret: secret.FromString("planted-client-secret"), Scopes: []string{"email"}, RedirectURI: "https://box.example.com/sso/x/callback"}
}

func (f *fake) answer() oidc.Answer {
	return oidc.Answer{Code: secret.FromString("good"), Verifier: secret.FromString(verifier), Nonce: secret.FromString(nonce), Issuer: f.url, Want: []string{"email"}}
}

// requireFailure says that the error is a failure of that code and holds nothing of what came.
func (f *fake) requireFailure(err error, code string, about ...any) {
	f.Helper()
	var why *oidc.Failure
	require.ErrorAs(f, err, &why, about...)
	require.Equal(f, code, why.Code, about...)
	for _, word := range []string{planted, "planted-client-secret", verifier, nonce, "good", f.url} {
		require.NotContains(f, fmt.Sprintf("%v %+v", err, err), word, about...)
	}
}

func TestAnIDTokenMustBeForThisSignIn(t *testing.T) {
	f := newFake(t)
	got, err := f.client.Exchange(t.Context(), f.registration(), f.answer())
	require.NoError(t, err)
	require.Equal(t, "7", got.Subject())
	require.Equal(t, "a@example.com", got.Text("email"))
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		token func() string
		code  string
	}{
		"another issuer":       {func() string { return f.sign(f.claims("iss", "https://evil.example"), "RS256") }, "token_invalid"},
		"another audience":     {func() string { return f.sign(f.claims("aud", "them"), "RS256") }, "token_invalid"},
		"no audience":          {func() string { return f.sign(f.claims("aud", nil), "RS256") }, "token_invalid"},
		"two audiences":        {func() string { return f.sign(f.claims("aud", []string{"us", "them"}), "RS256") }, "audience"},
		"for another party":    {func() string { return f.sign(f.claims("azp", "them"), "RS256") }, "audience"},
		"another nonce":        {func() string { return f.sign(f.claims("nonce", "of another sign-in"), "RS256") }, "nonce_mismatch"},
		"no nonce":             {func() string { return f.sign(f.claims("nonce", nil), "RS256") }, "nonce_mismatch"},
		"expired":              {func() string { return f.sign(f.claims("exp", f.now.Add(-time.Minute).Unix()), "RS256") }, "token_invalid"},
		"no expiry":            {func() string { return f.sign(f.claims("exp", nil), "RS256") }, "token_invalid"},
		"from the future":      {func() string { return f.sign(f.claims("iat", f.now.Add(time.Hour).Unix()), "RS256") }, "token_invalid"},
		"no subject":           {func() string { return f.sign(f.claims("sub", nil), "RS256") }, "subject"},
		"a subject of lines":   {func() string { return f.sign(f.claims("sub", "7\n8"), "RS256") }, "subject"},
		"unsigned":             {func() string { return f.sign(f.claims(), "none") }, "token_invalid"},
		"signed with HS256":    {func() string { return f.sign(f.claims(), "HS256") }, "token_invalid"},
		"an algorithm swapped": {func() string { return f.sign(f.claims(), "ES256") }, "token_invalid"},
		"signed by another": {func() string {
			own := f.key
			f.key = other
			defer func() { f.key = own }()
			return f.sign(f.claims(), "RS256")
		}, "token_invalid"},
		"changed after": {func() string {
			p := strings.Split(f.sign(f.claims(), "RS256"), ".")
			return p[0] + "." + part(f.claims("sub", "8")) + "." + p[2]
		}, "token_invalid"},
		"garbage":              {func() string { return planted }, "token_invalid"},
		"nothing":              {func() string { return "" }, "no_id_token"},
		"another access token": {func() string { return f.sign(f.claims("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), "RS256") }, "token_invalid"},
	} {
		f.token = c.token
		_, err := f.client.Exchange(t.Context(), f.registration(), f.answer())
		f.requireFailure(err, c.code, name)
	}
}

func TestAnAnswerOfAnotherProviderIsNotSentAnywhere(t *testing.T) {
	f := newFake(t)
	a := f.answer()
	for _, iss := range []string{"https://evil.example", "", f.url + "/"} { // it says that it always names itself
		a.Issuer = iss
		_, err := f.client.Exchange(t.Context(), f.registration(), a)
		f.requireFailure(err, "iss_mismatch", iss)
	}
	require.Zero(t, f.asked["/token"], "the code went nowhere")
	a = f.answer()
	a.Code = secret.FromString("spent")
	_, err := f.client.Exchange(t.Context(), f.registration(), a)
	f.requireFailure(err, "invalid_grant")
	require.Equal(t, 1, f.asked["/token"], "a refused code is not tried in another way")
}

func TestAStepUpNeedsALoginThatIsNew(t *testing.T) {
	f := newFake(t)
	a := f.answer()
	a.After = f.now
	_, err := f.client.Exchange(t.Context(), f.registration(), a)
	require.NoError(t, err)
	for _, at := range []any{nil, "now", 0, f.now.Add(-2 * time.Minute).Unix()} {
		f.token = func() string { return f.sign(f.claims("auth_time", at), "RS256") }
		_, err := f.client.Exchange(t.Context(), f.registration(), a)
		f.requireFailure(err, "not_fresh", at)
	}
	address, err := f.client.Address(t.Context(), f.registration(), oidc.Ask{State: secret.FromString("s"), Nonce: secret.FromString("n"), Verifier: secret.FromString(verifier), Anew: true})
	require.NoError(t, err)
	u, err := url.Parse(address.Reveal())
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"client_id": {"us"}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}, "max_age": {"0"}, "nonce": {"n"}, "prompt": {"login"},
		"redirect_uri": {"https://box.example.com/sso/x/callback"}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"s"},
	}, u.Query())
}

func challenge(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestWhatTheTokenLacksIsAskedFor(t *testing.T) {
	f := newFake(t)
	f.token = func() string { return f.sign(f.claims("email", nil), "RS256") }
	f.info = map[string]any{"sub": "7", "email": "later@example.com", "iss": "https://evil.example", "auth_time": 1}
	got, err := f.client.Exchange(t.Context(), f.registration(), f.answer())
	require.NoError(t, err)
	require.Equal(t, "later@example.com", got.Text("email"))
	require.Equal(t, f.url, got.Text("iss"), "only what was wanted and missing is taken")
	f.info = map[string]any{"sub": "8", "email": "other@example.com"}
	_, err = f.client.Exchange(t.Context(), f.registration(), f.answer())
	f.requireFailure(err, "userinfo")
}

// twofold answers with a discovery document that two readers may read differently; %[1]s in its text is the provider's own address.
func twofold(text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		base := "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
		fmt.Fprintf(w, `{`+text+`,"authorization_endpoint":"%[1]s/a","jwks_uri":"%[1]s/k"}`, base)
		return true
	}
}

func TestDiscoveryOfHostileProviders(t *testing.T) {
	for name, c := range map[string]struct {
		change    map[string]any
		discovery func(w http.ResponseWriter, r *http.Request) bool
		code      string
	}{
		"another issuer": {change: map[string]any{"issuer": "https://evil.example"}, code: "issuer_mismatch"},
		"no keys":        {change: map[string]any{"jwks_uri": ""}, code: "discovery_invalid"},
		"keys inside":    {change: map[string]any{"jwks_uri": "http://169.254.169.254/latest"}, code: "address_refused"},
		"token inside":   {change: map[string]any{"token_endpoint": "https://10.0.0.1/token"}, code: "address_refused"},
		"plain token":    {change: map[string]any{"token_endpoint": "http://id.example.com/token"}, code: "address_refused"},
		"script address": {change: map[string]any{"authorization_endpoint": "javascript:alert(1)"}, code: "address_refused"},
		"only HS256":     {change: map[string]any{"id_token_signing_alg_values_supported": []string{"HS256", "none"}}, code: "no_algorithm"},
		"plain PKCE":     {change: map[string]any{"code_challenge_methods_supported": []string{"plain"}}, code: "no_pkce"},
		"redirect": {discovery: func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere?"+planted, http.StatusFound)
			return true
		}, code: "redirect"},
		"error page": {discovery: func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, planted)
			return true
		}, code: "unreachable"},
		"another issuer, and this one in capitals": {discovery: twofold(`"issuer":"https://evil.example","Issuer":"%[1]s","token_endpoint":"%[1]s/t"`), code: "issuer_mismatch"},
		"token endpoint twice":                     {discovery: twofold(`"issuer":"%[1]s","token_endpoint":"https://evil.example/t","token_endpoint":"%[1]s/t"`), code: "discovery_invalid"},
		"garbage":                                  {discovery: func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, planted); return true }, code: "discovery_invalid"},
		"huge": {discovery: func(w http.ResponseWriter, _ *http.Request) bool {
			for range 40 {
				fmt.Fprint(w, strings.Repeat(" ", 64<<10))
			}
			return true
		}, code: "unreachable"},
		"slow": {discovery: func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, code: "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.discovery = c.discovery
			if c.change != nil {
				f.document = f.usual()
				maps.Copy(f.document, c.change)
			}
			_, err := f.client.Discover(t.Context(), f.url, false)
			f.requireFailure(err, c.code)
			_, err = f.client.Discover(t.Context(), f.url, false)
			f.requireFailure(err, c.code)
			require.Equal(t, 1, f.asked["/.well-known/openid-configuration"], "a failure is remembered for a while")
			require.Zero(t, f.asked["/elsewhere"])
			f.now = f.now.Add(time.Minute)
			f.mu.Lock()
			f.discovery, f.document = nil, nil
			f.mu.Unlock()
			_, err = f.client.Discover(t.Context(), f.url, false)
			require.NoError(t, err)
		})
	}
	f := newFake(t)
	for _, issuer := range []string{"http://id.example.com", "https://127.1", "https://10.1.2.3", "ftp://127.0.0.1", ":"} {
		_, err := f.client.Discover(t.Context(), issuer, false)
		var why *oidc.Failure
		require.ErrorAs(t, err, &why, issuer)
		require.Contains(t, []string{"address_refused", "address_invalid"}, why.Code, issuer)
	}
}
