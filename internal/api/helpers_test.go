package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	adminEmail    = "ada@example.com"
	adminPassword = "correct horse battery staple"
	buildVersion  = "1.2.3-test"
	sessionPrefix = "sbc_"
)

// house is the whole door on a database of its own, behind a real listener.
type house struct {
	t        *testing.T
	db       *store.DB
	engine   store.Engine
	identity *identity.Room
	audit    *audit.Log
	contents *contents.Room
	ledger   *ledger.Room
	server   *httptest.Server
	log      *buffer
	tables   []string
	deaf     *atomic.Bool // a cache of this instance cannot follow
	served   *servings
	door     *api.Door
	config   api.Config
	rekeyer  *keyring.Rekeyer
	hooks    *httptest.Server // takes notifications as Slack does
	consents *httptest.Server // an OAuth server that says yes to everything
	// after is called when a commit stands and before its caller hears of it.
	after *atomic.Pointer[func(context.Context)]

	user   client.User
	token  string // of the administrator, all scopes
	client *client.Client
}

// each runs fn on both engines, each time with an administrator.
func each(t *testing.T, fn func(t *testing.T, h *house)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel() // the time goes into waiting for the disk
			h := newHouse(t, e)
			h.setUp()
			fn(t, h)
		})
	}
}

func newHouse(t *testing.T, e store.Engine) *house {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return newInstance(t, e, storetest.Config(t, e), root)
}

// byFeed marks the context in which the feed tells of a commit by itself: without it, the one who committed does.
type byFeed struct{}

// newInstance starts one more instance on the database of cfg.
func newInstance(t *testing.T, e store.Engine, cfg store.Config, root secret.RootKey) *house {
	t.Helper()
	ctx := context.Background()
	h := &house{t: t, engine: e, log: &buffer{}, deaf: &atomic.Bool{}, served: &servings{}, after: &atomic.Pointer[func(context.Context)]{}}
	logger := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Log = logger
	h.db = storetest.OpenConfig(t, cfg)
	h.db.Subscribe(func(ctx context.Context, _ []store.Change) error {
		if after := h.after.Load(); after != nil {
			(*after)(ctx)
		}
		if h.deaf.Load() {
			return errors.New("deaf")
		}
		return nil
	})
	ring, err := keyring.Open(ctx, keyring.Config{DB: h.db, Root: root, Log: logger})
	require.NoError(t, err)
	outgoing, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	h.identity, err = identity.New(identity.Config{DB: h.db, Ring: ring, Log: logger, FailureLimit: 1_000_000, Outgoing: outgoing})
	require.NoError(t, err)
	h.audit, err = audit.New(ctx, audit.Config{DB: h.db, Ring: ring, Log: logger})
	require.NoError(t, err)
	safe, err := vault.New(vault.Config{DB: h.db, Ring: ring, Binder: ring, Log: logger, CheckURL: outbound.Policy{}.CheckURL})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	notices, err := notify.New(notify.Config{DB: h.db, Ring: ring, Policy: policy, Log: logger})
	require.NoError(t, err)
	h.contents, err = contents.New(contents.Config{DB: h.db, Ring: ring, Log: logger})
	require.NoError(t, err)
	trains, err := train.New(train.Config{DB: h.db, Vault: safe, Identity: h.identity, Log: logger, Notify: notices, Contents: h.contents})
	require.NoError(t, err)
	sinks, err := sink.New(sink.Config{DB: h.db, Ring: ring, Audit: h.audit, Policy: policy, Log: logger})
	require.NoError(t, err)
	h.hooks = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(h.hooks.Close)
	h.consents = httptest.NewServer(http.HandlerFunc(consent))
	t.Cleanup(h.consents.Close)
	wire := provider.New(provider.Config{Policy: policy})
	logins, err := oauth.NewLogins(oauth.LoginsConfig{DB: h.db, Vault: safe, Ring: ring, Binder: ring, Wire: wire, CheckURL: policy.CheckURL, Log: logger})
	require.NoError(t, err)
	refreshes, err := oauth.New(oauth.Config{DB: h.db, Vault: safe, Ring: ring, Endpoint: wire, Servers: logins, SpillDir: t.TempDir(), Log: logger})
	require.NoError(t, err)
	servers, err := mcp.New(mcp.Config{DB: h.db, Ring: ring, Vault: safe, Refresher: refreshes, CheckURL: policy.CheckURL, Log: logger})
	require.NoError(t, err)
	probes, err := probe.New(probe.Config{Vault: safe, Policy: policy, Log: logger})
	require.NoError(t, err)
	require.NoError(t, h.db.Start(context.WithValue(ctx, byFeed{}, true)))
	t.Cleanup(h.contents.Close)
	t.Cleanup(func() {
		logins.Close()
		refreshes.Close()
		trains.Close()
		notices.Close()
		_ = h.identity.Close()
	})
	limits, err := rate.New(rate.Config{DB: h.db})
	require.NoError(t, err)
	transfer, err := importer.New(importer.Config{DB: h.db, Vault: safe, Trains: trains, MCP: servers, Log: logger})
	require.NoError(t, err)
	h.rekeyer, err = keyring.NewRekeyer(keyring.RekeyerConfig{
		DB: h.db, Ring: ring, Instance: store.NewID("ins"), Log: logger, Places: slices.Concat(identity.Sealed(), audit.Sealed(), sink.Sealed(ring), notify.Sealed(ring), safe.Sealed(), oauth.Sealed(safe), logins.Sealed(), api.Sealed()),
		Pace: keyring.Pace{Tick: 5 * time.Millisecond, Known: time.Millisecond, Settle: time.Millisecond, Term: 5 * time.Second, Batch: 64},
	})
	require.NoError(t, err)
	t.Cleanup(h.rekeyer.Close)
	prices, err := price.BuiltIn()
	require.NoError(t, err)
	h.ledger, err = ledger.New(ledger.Config{DB: h.db, Audit: h.audit, Identity: h.identity, Prices: prices, Log: logger})
	require.NoError(t, err)
	incidents, err := incident.New(incident.Config{DB: h.db, Identity: h.identity, Vault: safe, Logins: logins, Tokens: refreshes, Audit: h.audit, Log: logger})
	require.NoError(t, err)
	h.config = api.Config{
		Limits: limits, CallerLimit: 1_000_000, RevealLimit: 1_000_000,
		DB: h.db, Ring: ring, Vault: safe, Trains: trains, MCP: servers, Importer: transfer, Incidents: incidents, Logins: logins, OAuth: refreshes, Identity: h.identity, Audit: h.audit, Notify: notices, Sinks: sinks, Ledger: h.ledger, Probe: probes, Rekeyer: h.rekeyer, Log: logger, Version: buildVersion,
		Served: func(route string, status int, took time.Duration) { h.served.add(route, status, took) },
	}
	h.reopen(func(*api.Config) {})
	texts, err := store.Schema(e)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`).FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		h.tables = append(h.tables, m[1])
	}
	require.Greater(t, len(h.tables), 10)
	return h
}

// reopen puts another door on the same rooms, with changed settings.
func (h *house) reopen(change func(*api.Config)) {
	h.t.Helper()
	change(&h.config)
	door, err := api.New(h.config)
	require.NoError(h.t, err)
	h.door, h.server = door, httptest.NewServer(door)
	h.t.Cleanup(h.server.Close)
	if h.client != nil {
		h.client = h.as(h.token)
	}
}

// servings are what the door tells of its answers.
type servings struct {
	mu   sync.Mutex
	said []string
}

func (s *servings) add(route string, status int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if took > 0 {
		s.said = append(s.said, strconv.Itoa(status)+" "+route)
	}
}

// setUp makes the administrator as a person does: with the one-time link, through the API.
func (h *house) setUp() {
	h.t.Helper()
	link, err := h.identity.NewSetupLink(context.Background())
	require.NoError(h.t, err)
	out, err := h.as("").Setup(h.t.Context(), client.SetupRequest{Token: link.Reveal(), Email: adminEmail, Name: "Ada", Password: adminPassword})
	require.NoError(h.t, err)
	h.user, h.token = out.User, out.AccessToken
	h.client = h.as(h.token)
}

// as returns a client with that token, or with the cookie of that session.
func (h *house) as(token string) *client.Client {
	if strings.HasPrefix(token, sessionPrefix) {
		return client.New(h.server.URL, "", client.WithHTTPClient(&http.Client{Transport: withCookie(token)}))
	}
	return client.New(h.server.URL, token)
}

// withCookie sends requests with the cookie of a session, as a browser does.
type withCookie string

// RoundTrip sends the request.
func (c withCookie) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Cookie", identity.SessionCookie+"="+string(c))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return http.DefaultTransport.RoundTrip(r)
}

// with issues a token of the administrator that has just these scopes.
func (h *house) with(scopes ...identity.Permission) string {
	h.t.Helper()
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	out, err := h.client.IssueToken(h.t.Context(), client.TokenDraft{Name: "some scopes", Scopes: names})
	require.NoError(h.t, err)
	return out.Secret
}

// write changes the database behind the rooms' backs and tells them.
func (h *house) write(fn func(tx *store.Tx) error) {
	h.t.Helper()
	require.NoError(h.t, h.db.Write(context.Background(), func(tx *store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Record(identity.System("test").Event(store.IdentitySetup, store.Target{Kind: "test"}))
	}))
}

// person makes a person of that role, without a password.
func (h *house) person(role identity.Role) string {
	h.t.Helper()
	id := store.NewID("user")
	h.write(func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1,$2,$3,$4,'',1,1,1)`,
			id, id+"@example.com", string(role), string(role))
		tx.Change(store.TopicUser, id)
		return err
	})
	return id
}

// session signs a person in and returns the secret of the cookie. Requests with it send a cookie.
func (h *house) session(user string) string {
	h.t.Helper()
	var in identity.Admission
	require.NoError(h.t, h.db.Write(context.Background(), func(tx *store.Tx) (err error) {
		in, err = h.identity.StartSession(tx, identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.44"}, user, identity.SessionBrowser, identity.ProofPassword, identity.ProofTOTP)
		return err
	}))
	return in.Secret.Reveal()
}

// stale makes the proof of every session six minutes old.
func (h *house) stale() {
	h.t.Helper()
	h.write(func(tx *store.Tx) error {
		var ids []string
		if err := tx.Select(&ids, `SELECT id FROM sessions`); err != nil {
			return err
		}
		for _, id := range ids {
			tx.Change(store.TopicSession, id)
		}
		_, err := tx.Exec(`UPDATE sessions SET stepped_up_at = stepped_up_at - 360000000`)
		return err
	})
}

// withRole makes a person of that role and returns a token of theirs with every scope that there is.
func (h *house) withRole(role identity.Role) string {
	h.t.Helper()
	id := h.person(role)
	caller := identity.Caller{Kind: identity.KindPerson, ID: h.user.ID, UserID: h.user.ID, Role: identity.Administrator, SteppedUpAt: time.Now()}
	tok, value, err := h.identity.IssueToken(h.t.Context(), caller, identity.TokenDraft{UserID: id, Name: "role"})
	require.NoError(h.t, err)
	var all identity.Scopes
	for _, row := range identity.Permissions() {
		all = append(all, row.Permission)
	}
	h.setScopes(tok.ID, all)
	return value.Reveal()
}

// withoutScopes returns a token of the administrator that has no scope at all, which none can be issued with.
func (h *house) withoutScopes() string {
	h.t.Helper()
	out, err := h.client.IssueToken(h.t.Context(), client.TokenDraft{Name: "no scope", Scopes: []string{string(identity.TokenRead)}})
	require.NoError(h.t, err)
	h.setScopes(out.ID, identity.Scopes{})
	return out.Secret
}

func (h *house) setScopes(token string, scopes identity.Scopes) {
	h.t.Helper()
	text, err := json.Marshal(scopes)
	require.NoError(h.t, err)
	h.write(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE tokens SET scopes = $1 WHERE id = $2`, string(text), token)
		tx.Change(store.TopicToken, token)
		return err
	})
}

// counts returns the number of rows of every table.
func (h *house) counts() map[string]int {
	h.t.Helper()
	return h.countsOf(h.tables)
}

// countsBesideRecords leaves out the tables that the audit log grows in, which are long to count.
func (h *house) countsBesideRecords() map[string]int {
	h.t.Helper()
	return h.countsOf(slices.DeleteFunc(slices.Clone(h.tables), records))
}

func (h *house) countsOf(tables []string) map[string]int {
	h.t.Helper()
	parts := make([]string, len(tables))
	for i, table := range tables {
		parts[i] = "SELECT '" + table + "' AS name, COUNT(*) AS n FROM " + table
	}
	var rows []struct {
		Name string `db:"name"`
		N    int    `db:"n"`
	}
	require.NoError(h.t, h.db.Read(context.Background(), func(tx *store.Tx) error { return tx.Select(&rows, strings.Join(parts, " UNION ALL ")) }))
	out := map[string]int{}
	for _, r := range rows {
		out[r.Name] = r.N
	}
	delete(out, "rate_counters") // which count the refused requests too
	delete(out, "keyring_left")  // a change of the data key that the table began goes on beside it
	return out
}

// records tells the tables that the audit log grows in.
func records(table string) bool { return strings.HasPrefix(table, "audit_") || table == "changes" }

// events returns the acts on record, the newest first.
func (h *house) events() []store.Event {
	h.t.Helper()
	p, err := h.audit.Search(h.t.Context(), audit.Query{Limit: 1000})
	require.NoError(h.t, err)
	return p.Events
}

// request is one raw call.
type request struct {
	method, target string
	token          string
	header         http.Header
	body           []byte
}

// answered is what came back, with the body read.
type answered struct {
	status int
	header http.Header
	body   []byte
}

func (h *house) do(r request) answered {
	h.t.Helper()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), r.method, h.server.URL+r.target, body)
	require.NoError(h.t, err)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(r.token, sessionPrefix) {
		req.Header.Set("Cookie", identity.SessionCookie+"="+r.token)
	} else if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	transport := h.server.Client().Transport
	resp, err := transport.RoundTrip(req) // follows no redirect
	require.NoError(h.t, err, "%s %s", r.method, r.target)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	return answered{status: resp.StatusCode, header: resp.Header, body: b}
}

// problem decodes a refusal and checks what every one has.
func (h *house) problem(a answered) client.Problem {
	h.t.Helper()
	require.Equal(h.t, "application/problem+json", a.header.Get("Content-Type"), "%s", a.body)
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	var p client.Problem
	require.NoError(h.t, dec.Decode(&p), "%s", a.body)
	require.Equal(h.t, a.status, p.Status)
	require.Equal(h.t, http.StatusText(a.status), p.Title)
	require.NotEmpty(h.t, p.Code)
	require.NotEmpty(h.t, p.Detail)
	require.True(h.t, store.ValidID("req", p.RequestID), p.RequestID)
	require.Equal(h.t, p.RequestID, a.header.Get("X-Request-Id"))
	h.headers(a)
	return p
}

// headers checks what every answer has.
func (h *house) headers(a answered) {
	h.t.Helper()
	if want := a.header.Get("Cache-Control"); want != "public, max-age=900" || a.status != 304 && !strings.Contains(string(a.body), `"keys"`) { // the published keys
		require.Equal(h.t, "no-store", want)
	}
	require.Equal(h.t, "nosniff", a.header.Get("X-Content-Type-Options"))
	if policy := a.header.Get("Content-Security-Policy"); strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		require.Regexp(h.t, `^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`, policy)
	} else {
		require.Equal(h.t, "default-src 'none'; frame-ancestors 'none'", policy)
	}
	require.True(h.t, store.ValidID("req", a.header.Get("X-Request-Id")))
}

// refused asserts that err is a refusal with that status and code.
func refused(t *testing.T, err error, status int, code string) *client.Error {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, "%v", err)
	require.Equal(t, status, e.Status)
	return e
}

func ptr[T any](v T) *T { return &v }

// buffer collects the log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns the log so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// vaultState returns what the database holds of a credential and of everything that has a revision.
func (h *house) vaultState(credential string) (string, error) {
	var out []string
	err := h.db.Read(context.Background(), func(tx *store.Tx) error {
		for _, query := range []string{
			`SELECT CAST(version AS TEXT) || '-' || CAST(revision AS TEXT) || name || description FROM credentials WHERE id = '` + credential + `'`,
			`SELECT CAST(SUM(revision) AS TEXT) FROM trains`, `SELECT COALESCE(MAX(name), '') || CAST(COUNT(revoked_at) AS TEXT) FROM client_keys`,
			`SELECT CAST(SUM(priority) AS TEXT) FROM train_links`, `SELECT CAST(COUNT(revoked_at) AS TEXT) FROM tokens`,
			`SELECT CAST(COALESCE(SUM(revision), 0) AS TEXT) FROM notify_channels`, `SELECT CAST(COALESCE(SUM(revision), 0) AS TEXT) FROM audit_sinks`,
		} {
			var text string
			if err := tx.Get(&text, query); err != nil {
				return err
			}
			out = append(out, text)
		}
		return nil
	})
	return strings.Join(out, "|"), err
}

// setPassword gives a person the administrator's password.
func (h *house) setPassword(user string) {
	h.t.Helper()
	h.write(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = $1) WHERE id = $2`, adminEmail, user)
		return err
	})
}

// consent is an OAuth server that says yes to everything but a device login, of which it hears nothing yet.
func consent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/device":
		_, _ = io.WriteString(w, `{"device_code":"planted-device","user_code":"WDJB-MJHT","verification_uri":"https://id.example.com/go","expires_in":600,"interval":5}`)
	case r.PostFormValue("code") == "planted-refused":
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"planted upstream text"}`)
	default:
		_, _ = io.WriteString(w, `{"access_token":"planted-access-0123456789","refresh_token":"planted-refresh-0123456789","token_type":"bearer","expires_in":3600}`)
	}
}

// oauthProvider adds the house's OAuth server as a provider and returns its name.
func (h *house) oauthProvider() string {
	h.t.Helper()
	name, id, key, u := strings.ToLower(strings.TrimPrefix(store.NewID("p"), "p_")), "client", "planted-client-secret", h.consents.URL
	authorize, device, tokens := u+"/authorize", u+"/device", []string{u + "/token"}
	p, err := h.client.AddOAuthProvider(h.t.Context(), client.OAuthProviderEdit{
		Name: &name, ClientID: &id, ClientSecret: &key, AuthorizeURL: &authorize, DeviceURL: &device, TokenURLs: &tokens,
	})
	require.NoError(h.t, err)
	return p.Name
}

// consented begins a login as somebody and returns the state that comes back with the consent.
func (h *house) consented(as *client.Client, provider string) string {
	h.t.Helper()
	begun, err := as.StartLogin(h.t.Context(), client.LoginDraft{Provider: provider, Name: store.NewID("n"), RedirectURI: "http://127.0.0.1:49152/callback"})
	require.NoError(h.t, err)
	address, err := url.Parse(begun.AuthorizeURL)
	require.NoError(h.t, err)
	return address.Query().Get("state")
}
