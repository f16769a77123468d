package app

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// asked is what the door answers to a request that comes from there, calls that host and has these headers.
func (s *served) asked(method, peer, host string, header ...string) (int, string) {
	r := httptest.NewRequest(method, "/metrics", nil)
	r.RemoteAddr, r.Host = peer, host
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// tokens returns the token that the first start wrote, and one of the same person with other scopes.
func (s *served) tokens(t *testing.T, scopes ...identity.Permission) (all, some string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.DataDir(), "operator.token"))
	require.NoError(t, err)
	all = strings.TrimSpace(string(b))
	caller, err := s.identity.Token(all)
	require.NoError(t, err)
	_, value, err := s.identity.IssueToken(t.Context(), caller, identity.TokenDraft{UserID: caller.UserID, Name: "some", Scopes: scopes})
	require.NoError(t, err)
	return all, value.Reveal()
}

// program signs the person whose token this is in as a program.
func (s *served) program(t *testing.T, token string) string {
	t.Helper()
	who, err := s.identity.Token(token)
	require.NoError(t, err)
	var in identity.Admission
	require.NoError(t, s.db.Write(t.Context(), func(tx *store.Tx) (err error) {
		in, err = s.identity.StartSession(tx, identity.System("test"), who.UserID, identity.SessionAPI, identity.ProofPassword)
		return err
	}))
	tokens, err := s.identity.IssueTokens(t.Context(), identity.System("test"), in.Session.ID)
	require.NoError(t, err)
	return tokens.Access.Reveal()
}

// TestMetricsDoor: who may scrape the main address. Whatever is not known to be a program of this machine needs a token that may.
func TestMetricsDoor(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	status, h, body := s.get(t, "/metrics") // over the real listener; from here on the cases that a socket of this machine cannot make
	require.Equal(t, 200, status)
	require.Contains(t, body, "signalbox_build_info{")
	require.Contains(t, h.Get("Content-Type"), "text/plain")
	require.Equal(t, "no-store", h.Get("Cache-Control"))
	all, some := s.tokens(t, identity.CredentialRead, identity.AuditRead)
	_, fit := s.tokens(t, identity.MetricsRead)

	const here, called = "127.0.0.1:5000", "127.0.0.1:8420"
	for _, c := range []struct {
		name         string
		want         int
		method, peer string
		host         string
		header       []string
	}{
		{"a program of this machine", 200, "GET", here, called, nil},
		{"by name", 200, "GET", here, "localhost:8420", nil},
		{"by name without port", 200, "GET", here, "localhost", nil},
		{"over IPv6", 200, "GET", "[::1]:5000", "[::1]:8420", nil},
		{"over IPv6 without port", 200, "GET", "[::1]:5000", "[::1]", nil},
		{"HEAD", 200, "HEAD", here, called, nil},
		{"POST", 405, "POST", here, called, nil},
		{"from elsewhere", 401, "GET", "192.0.2.7:5000", called, nil},
		{"from who knows where", 401, "GET", "@", called, nil},
		{"a page that resolves its name to this machine", 401, "GET", here, "evil.example:8420", nil},
		{"a name that begins like ours", 401, "GET", here, "127.0.0.1.evil.example", nil},
		{"no name", 401, "GET", here, "", nil},
		{"through a proxy", 401, "GET", here, called, []string{"X-Forwarded-For", "127.0.0.1"}},
		{"through a proxy that hides it", 401, "GET", here, called, []string{"X-Forwarded-For", ""}},
		{"through a proxy of RFC 7239", 401, "GET", here, called, []string{"Forwarded", "for=127.0.0.1"}},
		{"through a cache", 401, "GET", here, called, []string{"Via", "1.1 x"}},
		{"a wrong token, although none is needed", 401, "GET", here, called, []string{"Authorization", "Bearer sbp_wrong"}},
		{"another scheme", 401, "GET", here, called, []string{"Authorization", "Basic eDp5"}},
		{"two tokens", 401, "GET", here, called, []string{"Authorization", "Bearer " + fit, "Authorization", "Bearer " + fit}},
		{"a token without the scope", 403, "GET", here, called, []string{"Authorization", "Bearer " + some}},
		{"a token with the scope", 200, "GET", "192.0.2.7:5000", "signalbox.example", []string{"Authorization", "Bearer " + fit, "X-Forwarded-For", "192.0.2.9"}},
		{"the access token of a program", 200, "GET", "192.0.2.7:5000", "signalbox.example", []string{"Authorization", "Bearer " + s.program(t, all)}},
		{"a damaged access token", 401, "GET", "192.0.2.7:5000", "signalbox.example", []string{"Authorization", "Bearer " + s.program(t, all) + "x"}},
		{"a token of all scopes", 200, "GET", "192.0.2.7:5000", "signalbox.example", []string{"Authorization", "bearer " + all}},
	} {
		got, body := s.asked(c.method, c.peer, c.host, c.header...)
		require.Equal(t, c.want, got, "%s: %s", c.name, body)
		if got != 200 {
			require.NotContains(t, body, "signalbox_", c.name)
			require.Contains(t, body, `"code":`, c.name)
		}
	}
	require.EqualValues(t, 2, s.identity.Failures()[identity.FailedToken], "guessing here counts too")
	var bodies [][]byte
	require.NoError(t, s.db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_events WHERE action = $1`, string(store.IdentityRefused))
	}))
	require.Len(t, bodies, 1, "the one that was refused for want of the scope is on record")
	refused, err := store.DecodeEvent(bodies[0])
	require.NoError(t, err)
	require.Equal(t, "metrics", refused.Target.Kind)
	require.Equal(t, "scope_missing", refused.Reason)
	require.Equal(t, store.OutcomeRefused, refused.Outcome)
	require.Equal(t, "127.0.0.1", refused.IP)
	require.Regexp(t, "^req_", refused.RequestID)

	// A caller has the limit that it has at every door, and others have theirs.
	s.cfg.CallerLimit = 1
	limited := false
	for range 2000 { // what is left of the share that was taken under another limit, and perhaps a new minute
		got, body := s.asked("GET", here, called, "Authorization", "Bearer "+fit)
		if limited = got == 429; limited {
			require.Contains(t, body, "rate_limited")
			break
		}
		require.Equal(t, 200, got, body)
	}
	require.True(t, limited)
	require.EqualValues(t, 2, s.identity.Failures()[identity.FailedToken], "no guess")

	// A listener that others can reach trusts nobody, and neither does one with a proxy in front.
	s.loopback.Store(false)
	got, _ := s.asked("GET", here, called)
	require.Equal(t, 401, got)
	s.loopback.Store(true)
	s.cfg.BehindTLSProxy = true
	got, _ = s.asked("GET", here, called)
	require.Equal(t, 401, got)
	s.cfg.BehindTLSProxy = false
	s.cfg.TrustedProxies, err = parseNetworks("10.0.0.1")
	require.NoError(t, err)
	got, _ = s.asked("GET", here, called)
	require.Equal(t, 401, got)
	s.cfg.TrustedProxies = nil
	got, _ = s.asked("GET", here, called)
	require.Equal(t, 200, got)
}

// TestServeJudgesTheListener: what counts is the address that was opened.
func TestServeJudgesTheListener(t *testing.T) {
	require.True(t, serve(t, slog.LevelInfo).loopbackNow(t))
	s := serveWith(t, slog.LevelInfo, Environ{"SIGNALBOX_LISTEN": "0.0.0.0:0", "SIGNALBOX_BEHIND_TLS_PROXY": "true"})
	require.False(t, s.loopbackNow(t))
	status, _, _ := s.get(t, "/metrics")
	require.Equal(t, 401, status, "although the caller is of this machine")
}

func (s *served) loopbackNow(t *testing.T) bool {
	t.Helper()
	status, _, _ := s.get(t, "/healthz") // it serves
	require.Equal(t, 200, status)
	return s.loopback.Load()
}

// TestMetricsListener: the second address serves the three paths to everybody and nothing else, also while this instance drains, and is
// gone after it.
func TestMetricsListener(t *testing.T) {
	s := serveWith(t, slog.LevelInfo, Environ{"SIGNALBOX_METRICS_LISTEN": "127.0.0.1:0"})
	base := "http://" + s.MetricsAddr().String()
	ask := func(path string, header ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 200, "/": 404, "/api/version": 404, "/v1/models": 404, "/setup": 404, "/metrics/": 404, "//metrics": 404} {
		status, body := ask(path)
		require.Equal(t, want, status, path)
		require.Equal(t, path == "/metrics", strings.Contains(body, "signalbox_build_info"), path)
	}
	status, _ := ask("/metrics", "X-Forwarded-For", "192.0.2.1")
	require.Equal(t, 200, status)
	require.Contains(t, s.log.String(), "metrics_listen="+s.MetricsAddr().String())

	// It works while the database does not answer.
	require.NoError(t, s.db.Close())
	status, body := ask("/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, body, "signalbox_feed_age_seconds")
	s.stop()
	require.NoError(t, <-s.done)
	_, err := net.Dial("tcp", s.MetricsAddr().String())
	require.Error(t, err)
}

// TestMetricsListenerIsTakenFirst: an address that is in use leaves no half-made data directory behind.
func TestMetricsListenerIsTakenFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "data")
	cfg, err := Load(Environ{"SIGNALBOX_DATA_DIR": dir, "SIGNALBOX_METRICS_LISTEN": l.Addr().String()}, nil)
	require.NoError(t, err)
	_, err = Open(t.Context(), cfg)
	require.ErrorContains(t, err, "--metrics-listen")
	require.NoDirExists(t, dir)
	_, err = Load(Environ{"SIGNALBOX_DATA_DIR": dir, "SIGNALBOX_METRICS_LISTEN": "9420"}, nil)
	require.ErrorContains(t, err, "host:port")
}

// TestStaleNewsRefuseScrapeTokens: a token that may have been revoked opens nothing, here as elsewhere.
func TestStaleNewsRefuseScrapeTokens(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	_, fit := s.tokens(t, identity.MetricsRead)
	got, _ := s.asked("GET", "192.0.2.7:1", "x", "Authorization", "Bearer "+fit)
	require.Equal(t, 200, got)
	rename := func(from, to string) {
		require.NoError(t, s.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to)
			return err
		}))
	}
	rename("tokens", "away")
	defer rename("away", "tokens")
	// A change that the memory cannot follow: nobody knows what is revoked.
	require.NoError(t, s.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		tx.Change(store.TopicToken, "tok_x")
		return nil
	}))
	got, body := s.asked("GET", "192.0.2.7:1", "x", "Authorization", "Bearer "+fit)
	require.Equal(t, 503, got, body)
	got, _ = s.asked("GET", "127.0.0.1:1", "127.0.0.1:8420")
	require.Equal(t, 200, got)
}
