package web_test

import (
	"bytes"
	"context"
	"hash/fnv"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web"
)

const planted = "planted-password-8f3k2"

// site is the pages on a real listener, with what they logged.
type site struct {
	*testing.T
	db          *store.DB
	alone       bool // the story runs on this engine alone
	rooms       *identity.Room
	url         string
	log         *log
	busy        atomic.Bool  // somebody has asked too often
	reveals     atomic.Int64 // how many reveals are left
	most, asked atomic.Int64 // with most above 0, so many requests are admitted

	vault    *vault.Room
	trains   *train.Room
	audit    *audit.Log
	notify   *notify.Room
	contents *contents.Room

	ring    *keyring.Ring
	rekeyer *keyring.Rekeyer            // a test starts it
	backups atomic.Pointer[web.Backups] // see setBackups

	ledger    *ledger.Room // a test has it add up
	incidents *incident.Room
	logins    *oauth.Logins
	consents  *consents
	oauth     *oauth.Room
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func each(t *testing.T, fn func(s *site)) {
	t.Helper()
	eachWith(t, identity.Config{}, fn)
}

// eachWith is each with a limit of failures and the like.
func eachWith(t *testing.T, cfg identity.Config, fn func(s *site)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) { fn(serve(t, db, cfg)) })
}

// onOne runs a story whose point is the page and not what lies below it on one engine: the one that the story's name falls on.
func onOne(t *testing.T, fn func(s *site)) {
	t.Helper()
	name, engines := fnv.New32(), storetest.Engines()
	_, _ = name.Write([]byte(t.Name()))
	on(t, engines[int(name.Sum32()%uint32(len(engines)))], fn)
}

func on(t *testing.T, e store.Engine, fn func(s *site)) {
	t.Helper()
	t.Run(string(e), func(t *testing.T) {
		s := serve(t, storetest.Open(t, e), identity.Config{})
		s.alone = true
		fn(s)
	})
}

// scripted runs the main story of a page with scripts on one engine, and without on the other: forms without scripts reach the rooms as those with them
// do, so that the whole story meets both engines.
func scripted(t *testing.T, fn func(s *site, scripts bool)) {
	t.Helper()
	engines := storetest.Engines()
	t.Run("with scripts", func(t *testing.T) { on(t, engines[0], func(s *site) { fn(s, true) }) })
	t.Run("without scripts", func(t *testing.T) { on(t, engines[len(engines)-1], func(s *site) { fn(s, false) }) })
}

// serve opens the rooms on a database and the pages before them.
func serve(t *testing.T, db *store.DB, cfg identity.Config) *site {
	t.Helper()
	s := &site{T: t, db: db, log: &log{}}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	cfg.DB, cfg.Ring, cfg.Log = db, ring, logger
	s.rooms, err = identity.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.rooms.Close()) })
	s.openLogins(ring)
	local, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	s.notify, err = notify.New(notify.Config{DB: db, Ring: ring, Policy: local, Log: logger})
	require.NoError(t, err)
	t.Cleanup(s.notify.Close)
	s.contents, err = contents.New(contents.Config{DB: db, Ring: ring, Log: logger})
	require.NoError(t, err)
	t.Cleanup(s.contents.Close)
	s.trains, err = train.New(train.Config{DB: db, Vault: s.vault, Identity: s.rooms, Log: logger, Notify: s.notify, Contents: s.contents})
	require.NoError(t, err)
	t.Cleanup(s.trains.Close)
	s.audit, err = audit.New(t.Context(), audit.Config{DB: db, Ring: ring, Log: logger})
	require.NoError(t, err)
	probes, err := probe.New(probe.Config{Vault: s.vault, Policy: local, Log: logger})
	require.NoError(t, err)
	prices, err := price.BuiltIn()
	require.NoError(t, err)
	s.ledger, err = ledger.New(ledger.Config{DB: db, Audit: s.audit, Identity: s.rooms, Prices: prices, Log: logger})
	require.NoError(t, err)
	transfer, err := importer.New(importer.Config{DB: db, Vault: s.vault, Trains: s.trains, Log: logger})
	require.NoError(t, err)
	s.incidents, err = incident.New(incident.Config{DB: db, Identity: s.rooms, Vault: s.vault, Logins: s.logins, Tokens: s.oauth, Audit: s.audit, Log: logger})
	require.NoError(t, err)
	s.ring = ring
	s.rekeyer, err = keyring.NewRekeyer(keyring.RekeyerConfig{DB: db, Ring: ring, Instance: "web-test", Log: logger, Pace: keyring.Pace{Tick: 10 * time.Millisecond, Known: 10 * time.Millisecond, Settle: 10 * time.Millisecond, Term: 5 * time.Second, Batch: 8},
		Places: slices.Concat(identity.Sealed(), audit.Sealed(), notify.Sealed(ring), contents.Sealed(), s.vault.Sealed(), oauth.Sealed(s.vault), s.logins.Sealed())})
	require.NoError(t, err)
	t.Cleanup(s.rekeyer.Close)
	ops := operations()
	s.backups.Store(&web.Backups{})
	ops.Backups = func(context.Context) (web.Backups, error) { return *s.backups.Load(), nil }
	handler, err := web.New(web.Config{Keys: web.Keys{Ring: ring, Rekeyer: s.rekeyer, Sealed: func(context.Context) (int64, error) { return 4321, nil }}, Incidents: s.incidents, Probe: probes, Importer: transfer, Identity: s.rooms, Logins: s.logins, Vault: s.vault, Trains: s.trains, OAuth: s.oauth, Audit: s.audit, Ledger: s.ledger, Notify: s.notify, Operations: ops, DB: db, Styleguide: true, Log: logger, ClientIP: func(*http.Request) string { return "192.0.2.9" },
		Admit: func(_ context.Context, c identity.Caller) error {
			if c.UserID == "" || s.busy.Load() || s.most.Load() > 0 && s.asked.Add(1) > s.most.Load() {
				return fault.New(fault.TooMany, "rate_limited", "too often").After(7)
			}
			return nil
		},
		AdmitReveal: func(context.Context, identity.Caller) error {
			if left := s.reveals.Add(-1); left < 0 && left > -1_000_000 {
				return fault.New(fault.TooMany, "rate_limited", "too often").After(7)
			}
			return nil
		}})
	require.NoError(t, err)
	s.reveals.Store(-2_000_000) // no limit
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, s.oauth.Start())
	s.audit.Start(t.Context())
	t.Cleanup(s.audit.Close)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// answer is a page.
type answer struct {
	*http.Response
	text string
}

func (s *site) do(method, path string, form url.Values, header ...string) answer {
	s.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, body)
	require.NoError(s, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.send(req)
}

func (s *site) send(req *http.Request) answer {
	s.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return answer{resp, string(b)}
}

// link makes a set-up link and returns its token.
func (s *site) link() string {
	s.Helper()
	v, err := s.rooms.NewSetupLink(s.Context())
	require.NoError(s, err)
	return v.Reveal()
}

// fields reads the form of a page as a browser would.
func fields(page string) map[string]string {
	out := map[string]string{}
	for _, tag := range regexp.MustCompile(`<input[^>]*>`).FindAllString(page, -1) {
		name := regexp.MustCompile(` name="([^"]*)"`).FindStringSubmatch(tag)
		value := regexp.MustCompile(` value="([^"]*)"`).FindStringSubmatch(tag)
		if name != nil && value != nil {
			out[name[1]] = html.UnescapeString(value[1])
		}
	}
	return out
}

func fill(token string, change ...string) url.Values {
	form := url.Values{"token": {token}, "email": {"ada@example.com"}, "name": {"Ada <Lovelace>"}, "password": {planted}}
	for i := 0; i < len(change); i += 2 {
		form.Set(change[i], change[i+1])
	}
	return form
}

// miscopied changes the last letter of a token.
func miscopied(token string) string {
	if cut, ok := strings.CutSuffix(token, "x"); ok {
		return cut + "y"
	}
	return token[:len(token)-1] + "x"
}

func (s *site) hasAdministrator() bool {
	s.Helper()
	has, err := s.rooms.HasAdministrator(s.Context())
	require.NoError(s, err)
	return has
}

func TestSetUpMakesTheAdministratorOnce(t *testing.T) {
	each(t, func(s *site) {
		front := s.do("GET", "/", nil)
		require.Equal(s, http.StatusSeeOther, front.StatusCode)
		require.Equal(s, "/setup", front.Header.Get("Location"))
		bare := s.do("GET", "/setup", nil)
		require.Equal(s, http.StatusForbidden, bare.StatusCode)
		require.Contains(s, bare.text, "signalbox init")
		require.NotContains(s, bare.text, "<form")

		token := s.link()
		page := s.do("GET", "/setup?token="+token, nil)
		require.Equal(s, http.StatusOK, page.StatusCode)
		require.Contains(s, page.text, `method="post" action="/setup"`)
		require.Contains(s, page.text, `type="password"`)
		require.Equal(s, map[string]string{"token": token, "email": "", "name": "", "password": ""}, fields(page.text))
		require.NotContains(s, page.text, "<script")
		require.NotRegexp(s, ` style=| on[a-z]+=`, page.text)

		done := s.do("POST", "/setup", fill(token), "Origin", s.url)
		require.Equal(s, http.StatusOK, done.StatusCode, done.text)
		require.Contains(s, done.text, "Ada &lt;Lovelace&gt; is the administrator now")
		require.Contains(s, done.text, "SIGNALBOX_URL="+s.url)
		require.NotContains(s, done.text, planted)
		shown := regexp.MustCompile(`sbp_[A-Za-z0-9]+`).FindAllString(done.text, -1)
		require.Len(s, shown, 1)
		caller, err := s.rooms.Token(shown[0])
		require.NoError(s, err)
		require.NoError(s, identity.Allow(caller, identity.UserWrite))
		in, err := s.rooms.Login(s.Context(), identity.Caller{Kind: identity.KindAnonymous}, "ada@example.com", secret.FromString(planted), identity.SessionBrowser)
		require.NoError(s, err)
		require.Equal(s, identity.Administrator, in.User.Role)

		for _, again := range []answer{s.do("POST", "/setup", fill(token)), s.do("GET", "/setup?token="+token, nil), s.do("GET", "/setup", nil)} {
			require.Equal(s, http.StatusConflict, again.StatusCode)
			require.NotContains(s, again.text, "sbp_")
			require.NotContains(s, again.text, "<form")
		}
		require.Equal(s, http.StatusSeeOther, s.do("GET", "/", nil).StatusCode, "nobody is signed in without the cookie")
		front = s.do("GET", "/", nil, "Cookie", s.cookie(done))
		require.Equal(s, http.StatusOK, front.StatusCode)
		require.Contains(s, front.text, "/api/openapi.json")

		require.NotContains(s, s.log.String(), planted)
		require.NotContains(s, s.log.String(), token)
		require.NotContains(s, s.log.String(), shown[0])
	})
}

func TestSetUpRefusesWhatIsWrongAndKeepsWhatWasTyped(t *testing.T) {
	each(t, func(s *site) {
		token := s.link()
		for name, c := range map[string]struct {
			form   url.Values
			status int
			want   string
		}{
			"weak password":  {fill(token, "password", "short-8f3k2"), http.StatusUnprocessableEntity, "Must have 12 to 1024 bytes"},
			"no password":    {fill(token, "password", ""), http.StatusUnprocessableEntity, "Must have 12 to 1024 bytes"},
			"huge password":  {fill(token, "password", strings.Repeat("x", 1025)), http.StatusUnprocessableEntity, "Must have 12 to 1024 bytes"},
			"bad e-mail":     {fill(token, "email", "nobody"), http.StatusUnprocessableEntity, "Must be an e-mail address"},
			"no name":        {fill(token, "name", " "), http.StatusUnprocessableEntity, "Must not be empty"},
			"wrong token":    {fill(miscopied(token)), http.StatusForbidden, "This link does not work"},
			"no token":       {fill(""), http.StatusForbidden, "This link does not work"},
			"other token":    {fill("sbp_" + token), http.StatusForbidden, "This link does not work"},
			"huge form":      {fill(token, "name", strings.Repeat("n", 20<<10)), http.StatusRequestEntityTooLarge, "too large"},
			"markup as name": {fill(token, "name", "<b>", "email", `"><script>`), http.StatusUnprocessableEntity, "Must be an e-mail address"},
		} {
			got := s.do("POST", "/setup", c.form)
			require.Equal(s, c.status, got.StatusCode, name)
			require.Contains(s, got.text, c.want, name)
			require.NotContains(s, got.text, planted, name)
			require.NotContains(s, got.text, "short-8f3k2", name)
			require.NotContains(s, got.text, "<script", name)
			require.NotContains(s, got.text, "<b>", name)
			if c.status == http.StatusUnprocessableEntity {
				kept := fields(got.text)
				require.Equal(s, c.form.Get("email"), kept["email"], name)
				require.Equal(s, c.form.Get("name"), kept["name"], name)
				require.Equal(s, token, kept["token"], name)
				require.Empty(s, kept["password"], name)
				require.Contains(s, got.text, `aria-invalid="true"`, name)
			}
			require.False(s, s.hasAdministrator(), name)
		}
		newer := s.link()
		require.Equal(s, http.StatusForbidden, s.do("POST", "/setup", fill(token)).StatusCode, "a newer link replaces the older")
		require.Equal(s, http.StatusOK, s.do("POST", "/setup", fill(newer)).StatusCode)
		require.NotContains(s, s.log.String(), planted)
		require.NotContains(s, s.log.String(), "short-8f3k2")
	})
}

// TestNothingOfTheTestsIsShipped: axe-core (MPL-2.0) runs in the tests' browser and is no part of the program, in which each asset is named.
func TestNothingOfTheTestsIsShipped(t *testing.T) {
	source, err := os.ReadFile("web.go")
	require.NoError(t, err)
	named := regexp.MustCompile(`(?m)^//go:embed (.+)$`).FindAllSubmatch(source, -1)
	require.Len(t, named, 1)
	for _, name := range strings.Fields(string(named[0][1])) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotRegexp(t, `(?i)mozilla public|\baxe-core\b|axe\.run`, string(text), name)
	}
	each(t, func(s *site) {
		require.Equal(s, http.StatusNotFound, s.do("GET", "/assets/axe.min.js", nil).StatusCode)
	})
}

func TestSetUpRefusesAFormFromAnotherSite(t *testing.T) {
	each(t, func(s *site) {
		token := s.link()
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Origin", "https://evil.example"},
			{"Origin", "null"},
		} {
			got := s.do("POST", "/setup", fill(token), header...)
			require.Equal(s, http.StatusForbidden, got.StatusCode, header)
			require.Contains(s, got.text, "sent from another site", header)
			require.False(s, s.hasAdministrator(), header)
		}
		require.Equal(s, http.StatusOK, s.do("POST", "/setup", fill(token), "Sec-Fetch-Site", "same-origin", "Origin", s.url).StatusCode)
	})
}

func TestEveryAnswerIsProtected(t *testing.T) {
	each(t, func(s *site) {
		for path, status := range map[string]int{
			"/": http.StatusSeeOther, "/setup": http.StatusForbidden, "/setup?token=x": http.StatusOK, "/assets/style.css": http.StatusOK,
			"/assets/icon.svg": http.StatusOK, "/assets/": http.StatusNotFound, "/assets/..%2fweb.go": http.StatusNotFound, "/login": http.StatusNotFound, "/setup/": http.StatusNotFound,
		} {
			got := s.do("GET", path, nil)
			require.Equal(s, status, got.StatusCode, path)
			require.Contains(s, got.Header.Get("Content-Security-Policy"), "default-src 'none'", path)
			require.Equal(s, "nosniff", got.Header.Get("X-Content-Type-Options"), path)
			require.Equal(s, "same-origin", got.Header.Get("Referrer-Policy"), path)
			require.True(s, store.ValidID("req", got.Header.Get("X-Request-Id")), path)
			if !strings.HasPrefix(path, "/assets/") || status != http.StatusOK {
				require.Equal(s, "no-store", got.Header.Get("Cache-Control"), path)
			}
			require.NotContains(s, got.text, "pages/", path)
		}
		got := s.do("DELETE", "/setup", nil)
		require.Equal(s, http.StatusMethodNotAllowed, got.StatusCode)
		require.Equal(s, "GET, HEAD, POST", got.Header.Get("Allow"))
		require.Equal(s, http.StatusOK, s.do("HEAD", "/setup?token=x", nil).StatusCode)
	})
}

func TestTheSetUpIsRecorded(t *testing.T) {
	each(t, func(s *site) {
		require.Equal(s, http.StatusOK, s.do("POST", "/setup", fill(s.link()), "User-Agent", "browser/1").StatusCode)
		var bodies [][]byte
		require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error {
			return tx.Select(&bodies, `SELECT body FROM audit_events WHERE action IN ($1, $2, $3) ORDER BY id`,
				string(store.IdentitySetup), string(store.UserCreate), string(store.TokenIssue))
		}))
		var seen []string
		for _, body := range bodies {
			e, err := store.DecodeEvent(body)
			require.NoError(s, err)
			seen = append(seen, string(e.Action))
			require.NotContains(s, string(body), planted)
			if e.Actor.Kind == "anonymous" {
				require.Equal(s, "192.0.2.9", e.IP)
				require.Equal(s, "browser/1", e.UserAgent)
				require.NotEmpty(s, e.RequestID)
			}
		}
		require.Equal(s, []string{"identity.setup", "identity.setup", "identity.user_create", "identity.token_issue"}, seen)
	})
}
