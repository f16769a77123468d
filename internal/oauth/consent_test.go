package oauth_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// consent is an OAuth server that holds clients to the rules: PKCE, redirect address, client authentication, one use of a code.
type consent struct {
	*httptest.Server
	t      *testing.T
	issuer string

	mu      sync.Mutex
	codes   map[string]url.Values // what was asked for with the code
	device  string                // "": not decided, yes or no
	asked   []url.Values          // the bodies at the token endpoint
	revoked []string
	answer  func(http.ResponseWriter) bool // takes the place of an answer of the token endpoint
	issued  int
}

func newConsent(t *testing.T) *consent {
	t.Helper()
	c := &consent{t: t, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", c.metadata)
	mux.HandleFunc("POST /token", c.token)
	mux.HandleFunc("POST /device", c.devices)
	mux.HandleFunc("POST /revoke", c.revoke)
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	c.issuer = c.URL
	return c
}

func (c *consent) json(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (c *consent) metadata(w http.ResponseWriter, _ *http.Request) {
	c.json(w, 200, map[string]any{
		"issuer": c.issuer, "authorization_endpoint": c.URL + "/authorize", "token_endpoint": c.URL + "/token", "device_authorization_endpoint": c.URL + "/device",
		"revocation_endpoint": c.URL + "/revoke", "response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": true, "token_endpoint_auth_methods_supported": []string{"client_secret_post"},
	})
}

func chance() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// agree is what a person does who opens the address and says yes. It returns what the browser comes back with.
func (c *consent) agree(begun oauth.Begun) provider.Callback {
	c.t.Helper()
	u, err := url.Parse(begun.Address.Reveal())
	require.NoError(c.t, err)
	q := u.Query()
	require.Equal(c.t, "S256", q.Get("code_challenge_method"))
	require.Equal(c.t, "code", q.Get("response_type"))
	code := "code-" + chance()
	c.mu.Lock()
	c.codes[code] = q
	c.mu.Unlock()
	return provider.Callback{Code: secret.FromString(code), State: secret.FromString(q.Get("state")), Issuer: c.issuer}
}

func (c *consent) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.PostForm)
	if c.answer != nil && c.answer(w) {
		return
	}
	refuse := func(code string) {
		c.json(w, 400, map[string]string{"error": code, "error_description": "planted upstream text"})
	}
	if r.PostForm.Get("client_id") != "client-1" || r.PostForm.Get("client_secret") != "planted-client-secret" {
		c.json(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	scope := r.PostForm.Get("scope")
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		code := r.PostForm.Get("code")
		q, known := c.codes[code]
		delete(c.codes, code)
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if !known || q.Get("redirect_uri") != r.PostForm.Get("redirect_uri") || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			q.Get("resource") != r.PostForm.Get("resource") {
			refuse("invalid_grant")
			return
		}
		scope = q.Get("scope")
	case "urn:ietf:params:oauth:grant-type:device_code":
		switch {
		case r.PostForm.Get("device_code") != "planted-device-code":
			refuse("invalid_grant")
			return
		case c.device == "":
			refuse("authorization_pending")
			return
		case c.device == "no":
			refuse("access_denied")
			return
		}
	case "client_credentials":
	default:
		refuse("unsupported_grant_type")
		return
	}
	c.issued++
	out := map[string]any{"access_token": "planted-access-" + chance(), "token_type": "Bearer", "expires_in": 3600, "scope": scope}
	if r.PostForm.Get("grant_type") != "client_credentials" {
		out["refresh_token"] = "planted-refresh-" + chance()
	}
	c.json(w, 200, out)
}

func (c *consent) devices(w http.ResponseWriter, _ *http.Request) {
	c.json(w, 200, map[string]any{"device_code": "planted-device-code", "user_code": "WDJB-MJHT", "verification_uri": c.URL + "/go", "expires_in": 600, "interval": 5})
}

func (c *consent) revoke(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, r.PostForm.Get("token"))
	w.WriteHeader(200)
}

func (c *consent) calls() []url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]url.Values{}, c.asked...)
}

// logins is a room with a provider of its own.
type logins struct {
	*oauth.Logins
	t      *testing.T
	db     *store.DB
	vault  *vault.Room
	ring   *keyring.Ring
	server *consent
	now    *watch
}

type watch struct {
	mu sync.Mutex
	at time.Time
}

func (c *watch) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Microsecond)
	return c.at
}

func (c *watch) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func person(id string, role identity.Role) identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: "user_" + id, Name: id, UserID: "user_" + id, Role: role, SessionID: "ses_" + id, SteppedUpAt: time.Now().Add(time.Hour)}
}

const callback = "http://127.0.0.1:8420/api/auth/oauth/callback"

func eachLogins(t *testing.T, fn func(l *logins)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(newLogins(t, e)) })
	}
}

func newLogins(t *testing.T, e store.Engine) *logins {
	t.Helper()
	l := &logins{t: t, server: newConsent(t), now: &watch{at: time.Now()}}
	cfg := storetest.Config(t, e)
	cfg.Clock = l.now.Now
	l.db = storetest.OpenConfig(t, cfg)
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	l.ring, err = keyring.Open(t.Context(), keyring.Config{DB: l.db, Root: root})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	l.vault, err = vault.New(vault.Config{DB: l.db, Ring: l.ring, Binder: l.ring, CheckURL: policy.CheckURL})
	require.NoError(t, err)
	l.Logins, err = oauth.NewLogins(oauth.LoginsConfig{
		DB: l.db, Vault: l.vault, Ring: l.ring, Binder: l.ring, Wire: provider.New(provider.Config{Policy: policy}), CheckURL: policy.CheckURL, Clock: l.now.Now,
	})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.db.Start(t.Context()))
	return l
}

func ptr[T any](v T) *T { return &v }

// add adds the server as the provider "work", by its issuer.
func (l *logins) add(name string, server *consent) oauth.Known {
	l.t.Helper()
	k, err := l.AddProvider(l.t.Context(), ada, oauth.ProviderEdit{
		Name: &name, Title: ptr("Work"), Issuer: &server.issuer, ClientID: ptr("client-1"), ClientSecret: ptr(secret.FromString("planted-client-secret")),
		Scopes: &[]string{"read", "offline_access"}, BaseURL: ptr("https://api.example.com"),
	})
	require.NoError(l.t, err)
	return k
}

func (l *logins) start(name string) oauth.Start {
	return oauth.Start{Provider: "work", New: oauth.Draft{Name: name}, Way: oauth.ByBrowser, RedirectURL: callback, Next: "/account"}
}

func (l *logins) begin(who identity.Caller, s oauth.Start) oauth.Begun {
	l.t.Helper()
	b, err := l.Begin(l.t.Context(), who, s)
	require.NoError(l.t, err)
	return b
}

// events are the actions that were recorded, with outcome and reason, the oldest first.
func (l *logins) events() (out []string) {
	l.t.Helper()
	var bodies [][]byte
	require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`) }))
	for _, b := range bodies {
		ev, err := store.DecodeEvent(b)
		require.NoError(l.t, err)
		require.NotContains(l.t, string(b), "planted")
		line := string(ev.Action) + " " + ev.Outcome
		if ev.Reason != "" {
			line += " " + ev.Reason
		}
		out = append(out, line)
	}
	return out
}

// since are the events after the first n.
func (l *logins) since(n int) []string { return l.events()[n:] }

func (l *logins) refused(err error, code string) {
	l.t.Helper()
	require.Error(l.t, err)
	f, ok := fault.As(err)
	require.True(l.t, ok, "%v", err)
	require.Equal(l.t, code, f.Code, f.Detail)
	require.NotContains(l.t, f.Detail, "planted")
}

func (l *logins) stored() []vault.Credential {
	l.t.Helper()
	list, _, err := l.vault.List(l.t.Context(), ada, vault.Filter{})
	require.NoError(l.t, err)
	return list
}

var (
	ada = person("ada", identity.Administrator)
	eve = person("eve", identity.Operator)
	max = person("max", identity.Member)
)
