package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// served is an App on a real listener.
type served struct {
	*App
	url  string
	log  *lockedLog
	stop context.CancelFunc
	done chan error
}

func serve(t *testing.T, level slog.Level) *served {
	t.Helper()
	return serveWith(t, level, nil)
}

// serveWith serves a data directory of its own, with more settings.
func serveWith(t *testing.T, level slog.Level, more Environ) *served {
	t.Helper()
	env := Environ{"SIGNALBOX_DATA_DIR": filepath.Join(t.TempDir(), "data")}
	maps.Copy(env, more)
	return serveEnv(t, level, env)
}

func serveEnv(t *testing.T, level slog.Level, env Environ) *served {
	t.Helper()
	s := &served{log: &lockedLog{}, done: make(chan error, 1)}
	if env["SIGNALBOX_LISTEN"] == "" {
		env["SIGNALBOX_LISTEN"] = "127.0.0.1:0"
	}
	env["SIGNALBOX_DRAIN_TIMEOUT"] = "5s"
	cfg, err := Load(env, nil)
	require.NoError(t, err)
	cfg.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: level}))
	l, err := Listen(cfg)
	require.NoError(t, err)
	s.url = cfg.LocalURL(l.Addr())
	s.App, err = Open(t.Context(), cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.done <- s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended // what a server sets for its whole process must not reach into the next test
		require.NoError(t, s.Close())
	})
	return s
}

func (s *served) get(t *testing.T, path string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(b)
}

func TestHealth(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	status, h, body := s.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ok"}`, body)
	require.Equal(t, "no-store", h.Get("Cache-Control"))
	status, _, body = s.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ready","checks":{"database":"ok","feed":"ok","keyring":"ok","audit":"ok"}}`, body)
	resp, err := http.Post(s.url+"/readyz", "text/plain", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)

	require.NoError(t, s.db.Close())
	var got readiness
	require.Eventually(t, func() bool {
		status, _, body = s.get(t, "/readyz")
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		return status == http.StatusServiceUnavailable
	}, 3*time.Second, 50*time.Millisecond)
	require.Equal(t, "not_ready", got.Status)
	require.NotEqual(t, "ok", got.Checks["database"])
	require.Equal(t, "ok", got.Checks["keyring"])
	require.NotContains(t, body, "sql:", "the database's own words are for the log")
	status, _, _ = s.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status, "alive is not ready")
}

func TestAuditLagMakesNotReady(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	require.Eventually(t, func() bool { return !s.audit.Health().Passed.IsZero() }, 3*time.Second, 10*time.Millisecond)
	require.NoError(t, s.auditReadyAt(s.audit.Health().Passed.Add(auditLag-time.Second)))
	err := s.auditReadyAt(s.audit.Health().Passed.Add(auditLag + time.Minute))
	require.ErrorContains(t, err, "has not been sequenced for")
	// Before the first pass, the start counts.
	s.started = time.Now().Add(time.Hour)
	require.NoError(t, s.auditReadyAt(s.started.Add(auditLag-time.Second)))
	require.Error(t, s.auditReadyAt(s.started.Add(auditLag+time.Second)))
}

// TestLogsHoldNothingOfARequest plants a secret wherever a request can carry one, and logs at debug.
func TestLogsHoldNothingOfARequest(t *testing.T) {
	const planted = "sk-ant-planted-8f3k2"
	s := serve(t, slog.LevelDebug)
	paths := []string{"/" + planted, "/setup?token=" + planted, "/api/" + planted, "/api/credentials/" + planted, "/api/credentials?q=" + planted,
		"/api/trains/" + planted + "/accounts", "/v1/" + planted, "/v1/messages?key=" + planted, "/assets/" + planted, "//" + planted, "/api/openapi.json?" + planted}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PROPFIND"} {
			for _, header := range []string{"Authorization", "X-Api-Key", "Cookie", "User-Agent", "X-Request-Id", "X-Forwarded-For", "Msl-Train-Id", "Referer", "Origin"} {
				req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(`{"password":"`+planted+`"}`))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/json")
				value := planted
				if header == "Authorization" {
					value = "Bearer sbp_" + planted
				}
				req.Header.Set(header, value)
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				require.NoError(t, resp.Body.Close())
			}
		}
	}
	require.GreaterOrEqual(t, strings.Count(s.log.String(), "request_id=req_"), len(paths)*3*9)
	for line := range strings.Lines(s.log.String()) {
		require.False(t, strings.Contains(line, planted[8:]), line)
	}
	require.True(t, strings.Contains(s.log.String(), "path=/api/credentials/…"))
}

func TestLoggedPath(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	id := store.NewID("cred")
	for in, want := range map[string]string{
		"/api/credentials/" + id + "/reveal":  "/api/credentials/" + id + "/reveal",
		"/api/credentials/cred_short":         "/api/credentials/…",
		"/api/trains/hunter2/api-keys":        "/api/trains/…/api-keys",
		"/api/audit/" + id + "_12/proof":      "/api/audit/…/proof",
		"/v1/messages":                        "/v1/messages",
		"/v1/sk-ant-1":                        "/v1/…",
		"/setup":                              "/setup",
		"/" + strings.Repeat("a/", 50):        "/…/…/…/…/…/…/…/…/…/…/…/…",
		"/api/reallylongprefix_" + id[5:]:     "/api/…",
		"/api/CREDENTIALS/credentials/reveal": "/api/…/credentials/reveal",
	} {
		require.Equal(t, want, s.loggedPath(in), in)
	}
}

// TestUncleanPathsAreRefused: a path with superfluous slashes or dots is refused by the door that is meant, in its shape, and never
// answered with a redirect, which clients follow without their body or key.
func TestUncleanPathsAreRefused(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	for path, kind := range map[string]string{
		"//v1/messages": "application/json", "/v1//messages": "application/json", "/./v1/messages": "application/json", "/x/../v1/messages": "application/json",
		"/%2fv1/messages": "application/json", "//v1": "application/json",
		"//api/trains": "application/problem+json", "/api//trains": "application/problem+json", "/x/../api/trains": "application/problem+json",
		"/api/../api/trains": "application/problem+json", "/v1/../api/trains": "application/json",
		"//setup": "text/html; charset=utf-8", "//": "text/html; charset=utf-8", "/x/../setup": "text/html; charset=utf-8", "/assets//style.css": "text/html; charset=utf-8",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.url, nil)
			require.NoError(t, err)
			req.URL.Path, err = url.PathUnescape(path)
			require.NoError(t, err)
			req.URL.RawPath = path
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusNotFound, resp.StatusCode, "%s %s", method, path)
			require.Equal(t, kind, resp.Header.Get("Content-Type"), "%s %s", method, path)
			require.Empty(t, resp.Header.Get("Location"))
		}
	}
}

func TestClientIP(t *testing.T) {
	a := &App{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"203.0.113.5:1", nil, "203.0.113.5"},
		{"203.0.113.5:1", []string{"198.51.100.1"}, "203.0.113.5"}, // not a proxy that we trust
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1", []string{"198.51.100.9, 198.51.100.1"}, "198.51.100.1"}, // the left one was claimed by the client
		{"10.0.0.1:1", []string{"198.51.100.9", "198.51.100.1, 10.2.2.2"}, "198.51.100.1"},
		{"10.0.0.1:1", []string{"198.51.100.1, garbage"}, "10.0.0.1"},
		{"10.0.0.1:1", []string{"198.51.100.1, 10.2.2.2, garbage , 10.3.3.3"}, "10.3.3.3"},
		{"[::ffff:10.0.0.1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[::1]:1", []string{"10.9.9.9"}, "10.9.9.9"},
		{"garbage", []string{"198.51.100.1"}, ""},
	} {
		got := a.clientIP(&http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}})
		require.Equal(t, c.want, got, c)
	}
	none := &App{}
	require.Equal(t, "10.0.0.1", none.clientIP(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}}))
}

func TestServeRecordsItsLifeAndStops(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	status, _, _ := s.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	s.stop()
	select {
	case err := <-s.done:
		require.NoError(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("a server with nothing open must stop at once")
	}
	_, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.Error(t, err)
	var actions []string
	require.NoError(t, s.db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&actions, `SELECT action FROM audit_events WHERE action LIKE 'admin.st%' ORDER BY id`)
	}))
	require.Equal(t, []string{"admin.start", "admin.stop"}, actions)
}

func TestAPanicIsLoggedWithoutItsValue(t *testing.T) {
	log := &lockedLog{}
	w := serverLog{slog.New(slog.NewTextHandler(log, nil))}
	_, err := w.Write([]byte("http: panic serving 127.0.0.1:1: planted-8f3k2\ngoroutine 7 [running]:\nmain.f()\n"))
	require.NoError(t, err)
	require.NotContains(t, log.String(), "planted-8f3k2")
	require.Contains(t, log.String(), "goroutine 7")
}
