package provider_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
)

// What is planted must never be in an answer, its code or an error.
const (
	plantedRefresh = "planted-refresh-token-7xq"
	plantedSecret  = "planted-client-secret-9zk"
	plantedText    = "planted-words-of-the-server-3vd"
	plantedAccess  = "planted-new-access-5kd"
	plantedNew     = "planted-new-refresh-2wn"
)

const good = `{"access_token":"` + plantedAccess + `","token_type":"Bearer","expires_in":3600,"refresh_token":"` + plantedNew + `","scope":"a b"}`

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// newClient returns a client that may call this machine and gives up soon.
func newClient(t testing.TB, change ...func(*provider.Config)) *provider.Client {
	t.Helper()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	cfg := provider.Config{Policy: policy, Timeout: 20 * time.Second, Clock: func() time.Time { return now }}
	for _, c := range change {
		c(&cfg)
	}
	return provider.New(cfg)
}

// impatient still leaves a busy machine the time to connect.
func impatient(c *provider.Config) { c.Timeout = 4 * time.Second }

func at(urls ...string) provider.Provider {
	return provider.Provider{Name: "test", TokenURLs: urls, Auth: provider.AuthBasic, Format: provider.Form}
}

func grant() provider.Grant {
	return provider.Grant{ClientID: "us", ClientSecret: secret.FromString(plantedSecret), RefreshToken: secret.FromString(plantedRefresh)}
}

// requireClean says that nothing planted can be read off an answer, and that its words are of the closed lists.
func requireClean(t testing.TB, a provider.Answer) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %s", a, a, a, a.Code)
	for _, planted := range []string{plantedRefresh, plantedSecret, plantedText, plantedAccess, plantedNew, "127.0.0.1"} {
		require.NotContains(t, text, planted)
	}
	if a.Code != "" {
		require.Contains(t, provider.Codes(), a.Code)
	}
	require.Equal(t, a.Verdict == provider.Issued, !a.Tokens.Access.IsZero(), "tokens come with issued, and with nothing else")
}

// raw is a server that speaks bytes: play gets the connection after the request was read.
func raw(t *testing.T, play func(net.Conn)) (address string, requests *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	requests = new(atomic.Int32)
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				requests.Add(1)
				play(c)
			})
		}
	})
	return "http://" + l.Addr().String(), requests
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")) }
}

// TestTheHostileWorld is the catalogue of what a token endpoint may do to us: each with the verdict that refresh.md's table asks for, and with
// one POST, whatever happens.
func TestTheHostileWorld(t *testing.T) {
	type answer struct {
		handler func(w http.ResponseWriter, r *http.Request)
		conn    func(net.Conn)
		quick   bool
		verdict provider.Verdict
		code    string
		status  int
		retry   time.Duration
	}
	body := func(status int, text string, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	failing := func(code string) string { return `{"error":"` + code + `","error_description":"` + plantedText + `"}` }
	page := "<html>" + plantedText + "</html>"
	const ambiguous, not, refused, failed = provider.Ambiguous, provider.NotProcessed, provider.Refused, provider.ServerError
	for name, c := range map[string]answer{
		"good":                      {handler: body(200, good), verdict: provider.Issued, status: 200},
		"good with 201":             {handler: body(201, good), verdict: provider.Issued, status: 201},
		"good, called text":         {handler: body(200, good, "Content-Type", "text/html"), verdict: provider.Issued, status: 200},
		"a form":                    {handler: body(200, "access_token="+plantedAccess+"&token_type=bearer", "Content-Type", "application/x-www-form-urlencoded; charset=utf-8"), verdict: provider.Issued, status: 200},
		"a form with a key twice":   {handler: body(200, "access_token=a&access_token=b", "Content-Type", "application/x-www-form-urlencoded"), verdict: ambiguous, code: "unreadable", status: 200},
		"hang":                      {handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, quick: true, verdict: ambiguous, code: "timeout"},
		"one byte at a time":        {handler: drip, quick: true, verdict: ambiguous, code: "timeout", status: 200},
		"one header at a time":      {conn: dripHeaders, quick: true, verdict: ambiguous, code: "timeout"},
		"429 in seconds":            {handler: body(429, failing("invalid_grant"), "Retry-After", "7"), verdict: not, code: "rate_limited", status: 429, retry: 7 * time.Second},
		"429 by date":               {handler: body(429, page, "Retry-After", "Sun, 22 Nov 2026 10:01:30 GMT"), verdict: not, code: "rate_limited", status: 429, retry: 90 * time.Second},
		"429 in the past":           {handler: body(429, "", "Retry-After", "Sun, 22 Nov 2026 09:00:00 GMT"), verdict: not, code: "rate_limited", status: 429},
		"429 for ever":              {handler: body(429, "", "Retry-After", "99999999999999999999"), verdict: not, code: "rate_limited", status: 429},
		"429 for a year":            {handler: body(429, "", "Retry-After", "31536000"), verdict: not, code: "rate_limited", status: 429, retry: time.Hour},
		"429 in words":              {handler: body(429, "", "Retry-After", plantedText), verdict: not, code: "rate_limited", status: 429},
		"500":                       {handler: body(500, page), verdict: failed, code: "http_error", status: 500},
		"500 saying invalid_grant":  {handler: body(500, failing("invalid_grant")), verdict: failed, code: "invalid_grant", status: 500},
		"503 with Retry-After":      {handler: body(503, "", "Retry-After", "30"), verdict: failed, code: "http_error", status: 503, retry: 30 * time.Second},
		"502 cut short":             {conn: says("HTTP/1.1 502 Bad\nContent-Length: 100\n\nx"), verdict: failed, code: "http_error", status: 502},
		"400 invalid_grant":         {handler: body(400, failing("invalid_grant")), verdict: refused, code: "invalid_grant", status: 400},
		"401 invalid_client":        {handler: body(401, failing("invalid_client")), verdict: refused, code: "invalid_client", status: 401},
		"400 unauthorized_client":   {handler: body(400, failing("unauthorized_client")), verdict: refused, code: "unauthorized_client", status: 400},
		"400 invalid_scope":         {handler: body(400, failing("invalid_scope")), verdict: not, code: "invalid_scope", status: 400},
		"400 with words of its own": {handler: body(400, failing(plantedText)), verdict: not, code: "other_error", status: 400},
		"400 with an error object":  {handler: body(400, `{"error":{"type":"`+plantedText+`"}}`), verdict: not, code: "other_error", status: 400},
		"400 server_error":          {handler: body(400, failing("server_error")), verdict: failed, code: "server_error", status: 400},
		"400 invalid_grant twice":   {handler: body(400, `{"error":"invalid_grant","error":"x"}`), verdict: not, code: "http_error", status: 400},
		"400 cut short":             {conn: says("HTTP/1.1 400 Bad\nContent-Length: 100\n\n{\"error\":\"invalid_grant\"}"), verdict: not, code: "http_error", status: 400},
		"403 with a page":           {handler: body(403, page), verdict: not, code: "http_error", status: 403},
		"404":                       {handler: body(404, failing("invalid_grant")), verdict: not, code: "not_found", status: 404},
		"200 with an error":         {handler: body(200, failing("invalid_grant")), verdict: refused, code: "invalid_grant", status: 200},
		"200 with an unknown error": {handler: body(200, failing(plantedText)), verdict: not, code: "other_error", status: 200},
		"200 with both":             {handler: body(200, `{"access_token":"a","error":"invalid_grant"}`), verdict: ambiguous, code: "unreadable", status: 200},
		"200 with garbage":          {handler: body(200, plantedText), verdict: ambiguous, code: "unreadable", status: 200},
		"200 with a page":           {handler: body(200, page, "Content-Type", "text/html"), verdict: ambiguous, code: "unreadable", status: 200},
		"200 with nothing":          {handler: body(200, ""), verdict: ambiguous, code: "unreadable", status: 200},
		"204":                       {handler: body(204, ""), verdict: ambiguous, code: "unreadable", status: 204},
		"a list":                    {handler: body(200, "["+good+"]"), verdict: ambiguous, code: "unreadable", status: 200},
		"a key twice":               {handler: body(200, `{"access_token":"a","access_token":"b","token_type":"bearer"}`), verdict: ambiguous, code: "unreadable", status: 200},
		"a key twice, escaped":      {handler: body(200, `{"access_token":"a","\u0061ccess_token":"b"}`), verdict: ambiguous, code: "unreadable", status: 200},
		"more behind it":            {handler: body(200, good+good), verdict: ambiguous, code: "unreadable", status: 200},
		"no UTF-8":                  {handler: body(200, "{\"access_token\":\"a\",\"x\":\"\xff\"}"), verdict: ambiguous, code: "unreadable", status: 200},
		"no access token":           {handler: body(200, `{"token_type":"bearer"}`), verdict: ambiguous, code: "unreadable", status: 200},
		"an empty access token":     {handler: body(200, `{"access_token":""}`), verdict: ambiguous, code: "unreadable", status: 200},
		"a number for a token":      {handler: body(200, `{"access_token":7}`), verdict: ambiguous, code: "unreadable", status: 200},
		"a token of two lines":      {handler: body(200, `{"access_token":"a\r\nX: y"}`), verdict: ambiguous, code: "unreadable", status: 200},
		"a number to refresh with":  {handler: body(200, `{"access_token":"a","refresh_token":7}`), verdict: ambiguous, code: "unreadable", status: 200},
		"a DPoP token":              {handler: body(200, `{"access_token":"a","token_type":"DPoP"}`), verdict: ambiguous, code: "token_type", status: 200},
		"a list of token types":     {handler: body(200, `{"access_token":"a","token_type":["bearer"]}`), verdict: ambiguous, code: "token_type", status: 200},
		"ten gigabytes":             {handler: flood, verdict: ambiguous, code: "too_large", status: 200},
		"ten gigabytes, announced":  {conn: says("HTTP/1.1 200 OK\nContent-Length: 10737418240\n\n{"), verdict: ambiguous, code: "too_large", status: 200},
		"a gzip bomb":               {handler: bomb, verdict: ambiguous, code: "encoded", status: 200},
		"301":                       {handler: redirect(301), verdict: not, code: "redirect", status: 301},
		"302":                       {handler: redirect(302), verdict: not, code: "redirect", status: 302},
		"303":                       {handler: redirect(303), verdict: ambiguous, code: "redirect", status: 303},
		"307":                       {handler: redirect(307), verdict: not, code: "redirect", status: 307},
		"308":                       {handler: redirect(308), verdict: not, code: "redirect", status: 308},
		"304":                       {handler: body(304, ""), verdict: ambiguous, code: "redirect", status: 304},
		"a Location that is none":   {conn: says("HTTP/1.1 302 Found\nLocation: http://[" + plantedText + "\nContent-Length: 0\n\n"), verdict: not, code: "redirect", status: 302},
		"no answer":                 {conn: func(net.Conn) {}, verdict: ambiguous, code: "broken"},
		"half a status line":        {conn: says("HTTP/1.1 2"), verdict: ambiguous, code: "broken"},
		"no HTTP":                   {conn: says(plantedText + "\n\n"), verdict: ambiguous, code: "broken"},
		"cut short":                 {conn: says("HTTP/1.1 200 OK\nContent-Length: 400\n\n" + good), verdict: ambiguous, code: "broken", status: 200},
		"a chunk cut short":         {conn: says("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nff\n{"), verdict: ambiguous, code: "broken", status: 200},
		"headers without an end":    {conn: floodHeaders, verdict: ambiguous, code: "broken"},
		"another protocol":          {conn: says("HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: Upgrade\n\n"), quick: true, verdict: ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var address string
			posts := new(atomic.Int32)
			if c.conn != nil {
				address, posts = raw(t, c.conn)
			} else {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					posts.Add(1)
					_, _ = io.Copy(io.Discard, r.Body)
					c.handler(w, r)
				}))
				t.Cleanup(server.Close)
				address = server.URL
			}
			client := newClient(t)
			if c.quick {
				client = newClient(t, impatient)
			}
			a := client.Refresh(t.Context(), at(address+"/token?x="+plantedText, address+"/other"), grant())
			requireClean(t, a)
			require.Equal(t, c.verdict, a.Verdict, a.Code)
			if c.code != "" || a.Verdict == provider.Issued {
				require.Equal(t, c.code, a.Code)
				require.Equal(t, c.status, a.Status)
			}
			if name != "429 for ever" {
				require.Equal(t, c.retry, a.RetryAfter)
			}
			require.True(t, a.Sent)
			want := int32(1)
			if c.status == http.StatusNotFound { // the only answer after which the next address is asked
				want = 2
			}
			require.Equal(t, want, posts.Load(), "requests")
		})
	}
}

func drip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		_, _ = io.WriteString(w, good[i%len(good):i%len(good)+1])
		_ = http.NewResponseController(w).Flush()
	}
}

func dripHeaders(c net.Conn) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
	for range tick.C {
		if _, err := io.WriteString(c, "X: y\r\n"); err != nil {
			return
		}
	}
}

func flood(w http.ResponseWriter, _ *http.Request) {
	piece := []byte(strings.Repeat(" ", 1<<20))
	for range 10 << 10 {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func floodHeaders(c net.Conn) {
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
	piece := "X-Long: " + strings.Repeat("y", 60<<10) + "\r\n"
	for range 1000 {
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
	}
}

func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	piece := make([]byte, 1<<20)
	for range 100 {
		if _, err := z.Write(piece); err != nil {
			return
		}
	}
	_ = z.Close()
}

func redirect(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere?"+plantedText, status) }
}

// TestHostileAnswersTakeNoMemory: many of the largest answers at once take no more than 16 MiB.
func TestHostileAnswersTakeNoMemory(t *testing.T) {
	mux := http.NewServeMux()
	piece := []byte(strings.Repeat(" ", 1<<20)) // once, since the server is in this process too
	mux.HandleFunc("/flood", func(w http.ResponseWriter, _ *http.Request) {
		for range 10 << 10 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	var packed strings.Builder
	z := gzip.NewWriter(&packed)
	for range 64 {
		_, _ = z.Write(piece)
	}
	require.NoError(t, z.Close())
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, packed.String())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	client := newClient(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, most := heap(), atomic.Uint64{}
	for range 5 {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				a := client.Refresh(t.Context(), at(server.URL+[]string{"/flood", "/bomb"}[i%2]), grant())
				if a.Verdict != provider.Ambiguous {
					t.Errorf("%v", a)
				}
				for now := heap(); ; { // while others are in the middle of theirs
					if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
						return
					}
				}
			})
		}
		wg.Wait()
	}
	growth := max(most.Load(), before) - before
	t.Logf("80 hostile answers, 16 at a time: the heap grew by %d KiB", growth>>10)
	require.LessOrEqual(t, growth, uint64(16<<20))
}

// TestNotSentIsCertain: Sent is false only when no byte can have left, and the next address is asked only then (or after a 404).
func TestNotSentIsCertain(t *testing.T) {
	posts := new(atomic.Int32)
	works := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { posts.Add(1); _, _ = io.WriteString(w, good) }))
	t.Cleanup(works.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posts.Add(1) }))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each handshake that fails
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	noTLS := strings.Replace(works.URL, "http://", "https://", 1)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never speaks
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	client := newClient(t)
	for name, c := range map[string]struct{ address, code string }{
		"nobody listens":         {closed.URL, "dial"},
		"no such name":           {"https://nobody.invalid/token", "dial"},
		"a refused address":      {"https://10.1.2.3/token", "guard"},
		"plain http":             {"http://id.example.com/token", "guard"},
		"a password in it":       {"https://a:b@127.0.0.1/token", "guard"},
		"no address":             {"https://%zz", "unusable"},
		"a fragment":             {works.URL + "#x", "unusable"},
		"an unknown authority":   {untrusted.URL, "tls"},
		"no TLS where it should": {noTLS, "tls"},
	} {
		posts.Store(0)
		a := client.Refresh(t.Context(), at(c.address), grant())
		requireClean(t, a)
		require.Equal(t, provider.Answer{Verdict: provider.NotProcessed, Code: c.code}, a, name)
		require.Zero(t, posts.Load(), name)
		a = client.Refresh(t.Context(), at(c.address, works.URL), grant())
		require.Equal(t, provider.Issued, a.Verdict, name)
		require.Equal(t, int32(1), posts.Load(), name)
	}
	// A handshake that never ends: nothing was sent, and the time for the next address is up.
	a := newClient(t, func(c *provider.Config) { c.Timeout = time.Second }).Refresh(t.Context(), at("https://"+silent.Addr().String(), works.URL), grant())
	require.Equal(t, provider.NotProcessed, a.Verdict)
	require.Equal(t, "timeout", a.Code)
	require.False(t, a.Sent)
	// Not answered is not refused: the second address is left alone.
	posts.Store(0)
	lost, _ := raw(t, func(net.Conn) {})
	a = client.Refresh(t.Context(), at(lost, works.URL), grant())
	require.Equal(t, provider.Ambiguous, a.Verdict)
	require.True(t, a.Sent)
	require.Zero(t, posts.Load())
	a = client.Refresh(t.Context(), at(), grant())
	require.Equal(t, provider.Answer{Verdict: provider.NotProcessed, Code: "unusable"}, a)
}

// TestEachRequestHasAConnectionOfItsOwn: a connection that is used again is what net/http repeats requests for, and HTTP/2 has refused streams.
func TestEachRequestHasAConnectionOfItsOwn(t *testing.T) {
	var posts, connections atomic.Int32
	var protocols sync.Map
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		protocols.Store(r.Proto, true)
		_, _ = io.WriteString(w, good)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := newClient(t, func(c *provider.Config) { c.Outbound.RootCAs = roots })
	for range 5 {
		require.Equal(t, provider.Issued, client.Refresh(t.Context(), at(server.URL), grant()).Verdict)
	}
	require.Equal(t, int32(5), posts.Load())
	require.Equal(t, int32(5), connections.Load())
	_, old := protocols.Load("HTTP/1.1")
	_, two := protocols.Load("HTTP/2.0")
	require.True(t, old && !two)
}

// TestACallerWhoGoesAway: what was sent stays ambiguous.
func TestACallerWhoGoesAway(t *testing.T) {
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http sees that the other side has gone only after the body
		close(arrived)
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	a := newClient(t).Refresh(ctx, at(server.URL), grant())
	require.Equal(t, provider.Answer{Verdict: provider.Ambiguous, Code: "cancelled", Sent: true}, a)
	a = newClient(t).Refresh(ctx, at(server.URL), grant())
	require.Equal(t, provider.Answer{Verdict: provider.NotProcessed, Code: "cancelled"}, a)
}
