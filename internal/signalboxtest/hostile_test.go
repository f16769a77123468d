package signalboxtest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// hostile is a token endpoint that plays one row of the catalogue of docs/design/invariants.md.
type hostile struct {
	name string
	// slow ones answer nobody before the deadline of a call; the others at once.
	slow bool
	// issues says that what is odd is no reason to refuse: there is a token.
	issues bool
	play   http.HandlerFunc
	tls    bool
	code   string // what callers are told; of a slow one also that it is waited for

	server *httptest.Server
	key    string // a client key of a train whose only account it refreshes
	under  atomic.Int64
	mu     sync.Mutex
	calls  []time.Time
}

// arrived are the calls so far.
func (h *hostile) arrived() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *hostile) note() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, time.Now())
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// catalogue is every row, with what the token that an odd one issues is.
func catalogue(token func() string, elsewhere string) []*hostile {
	odd := func(expires string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			says(200, `{"access_token":"`+token()+`","token_type":"Bearer","refresh_token":"next-`+token()+`"`+expires+`}`)(w, r)
		}
	}
	pages := bytes.Repeat([]byte(" "), 64<<10)
	return []*hostile{
		{name: "hang", code: "timeout", slow: true, play: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{name: "one byte a second", code: "timeout", slow: true, play: func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}},
		{name: "429", code: "rate_limited", play: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "60")
			says(429, `{"error":"slow_down"}`)(w, r)
		}},
		{name: "503", code: "http_error", play: says(503, "")},
		{name: "garbage", code: "unreadable", play: says(200, "<html>planted words of a provider</html>")},
		{name: "10 GiB", code: "too_large", play: func(w http.ResponseWriter, _ *http.Request) {
			for range 10 << 30 / len(pages) {
				if _, err := w.Write(pages); err != nil {
					return
				}
			}
		}},
		{name: "gzip bomb", code: "encoded", play: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 1 << 30 / len(pages) {
				if _, err := z.Write(pages); err != nil {
					return
				}
			}
			_ = z.Close()
		}},
		{name: "duplicate keys", code: "unreadable", play: says(200, `{"access_token":"planted-one","access_token":"planted-two","token_type":"Bearer"}`)},
		{name: "redirect", code: "redirect", play: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
		}},
		{name: "bad TLS", code: "tls", tls: true, play: says(200, "{}")},
		{name: "connection cut", code: "broken", play: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "no expires_in", issues: true, play: odd("")},
		{name: "expires_in of words", issues: true, play: odd(`,"expires_in":"soon"`)},
		{name: "negative expires_in", issues: true, play: odd(`,"expires_in":-5`)},
		{name: "huge expires_in", issues: true, play: odd(`,"expires_in":1e300`)},
	}
}

// hostileWorld is a box with an account at each hostile provider, and a lane that has nothing to do with them.
type hostileWorld struct {
	*signalboxtest.Box
	rows     []*hostile
	lane     *signalboxtest.Lane
	elsewhen atomic.Int64 // calls that followed a redirect
}

func newHostileWorld(t *testing.T, box *signalboxtest.Box) *hostileWorld {
	t.Helper()
	w := &hostileWorld{Box: box, lane: box.Lane(t, "")}
	up, address := signalboxtest.ServeUpstream(t, demo.Options{})
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { w.elsewhen.Add(1) }))
	t.Cleanup(other.Close)
	token := func() string {
		text := strings.NewReplacer(`"`, "", "+", "", "/", "").Replace(box.Planted.Secret(t, "odd token"))
		box.Planted.Add("odd token", text)
		up.AddToken(secret.FromString(text))
		return text
	}
	w.rows = catalogue(token, other.URL)
	admin := box.Admin()
	for i, h := range w.rows {
		h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not noticed
			h.note()
			h.under.Add(1)
			defer h.under.Add(-1)
			h.play(rw, r)
		}))
		h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
		if h.tls {
			h.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					h.note()
				}
			}
			h.server.StartTLS()
		} else {
			h.server.Start()
		}
		t.Cleanup(func() { h.server.CloseClientConnections(); h.server.Close() })
		name, ended := fmt.Sprintf("hostile-%d", i), time.Now().Add(-time.Minute)
		refresh := box.Planted.Secret(t, "refresh token")
		made, err := admin.CreateCredential(t.Context(), client.CredentialDraft{Type: "oauth", Name: name, Provider: "anthropic", BaseURL: address,
			OAuth:   &client.OAuth{ExpiresAt: &ended, ClientID: "us", TokenEndpoint: h.server.URL + "/token", TokenEndpointAuthMethod: "none", TokenRequestFormat: "form"},
			Secrets: map[string]string{"access_token": "ended-" + name, "refresh_token": refresh}})
		require.NoError(t, err)
		_, err = admin.CreateTrain(t.Context(), client.TrainDraft{TrainID: name, Name: name})
		require.NoError(t, err)
		_, _, err = admin.Link(t.Context(), name, client.LinkDraft{CredentialID: made.ID})
		require.NoError(t, err)
		k, err := admin.IssueKey(t.Context(), name, client.KeyDraft{Name: "agent"})
		require.NoError(t, err)
		h.key = k.APIKey
	}
	require.Eventually(t, func() bool { return ask(t, w.URL, w.lane.Key) == 200 }, 10*time.Second, 10*time.Millisecond)
	return w
}

// p99 is how long the slowest but one in a hundred of the requests of others takes.
func (w *hostileWorld) p99(t *testing.T, n int) time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		a, err := lend(http.DefaultClient, w.URL, w.lane.Key, shortPrompt)
		require.NoError(t, err)
		require.Equal(t, 200, a.status, a.body)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n*99/100]
}

// rounds returns the median of several rounds.
func (w *hostileWorld) rounds(t *testing.T, rounds, n int) time.Duration {
	t.Helper()
	all := make([]time.Duration, rounds)
	for i := range all {
		all[i] = w.p99(t, n)
	}
	slices.Sort(all)
	return all[rounds/2]
}

// live is the heap that is in use.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// callers ask for each hostile row until ctx ends, and see to it that each answer says what is the matter and when to come back.
func (w *hostileWorld) callers(ctx context.Context, t *testing.T, each int) (end func()) {
	t.Helper()
	var wg sync.WaitGroup
	for _, h := range w.rows {
		for range each {
			wg.Go(func() {
				for ctx.Err() == nil {
					a, err := lend(http.DefaultClient, w.URL, h.key, shortPrompt)
					switch {
					case ctx.Err() != nil:
						return
					case err != nil:
						t.Errorf("%s: %v", h.name, err)
						return
					case h.issues && a.status != 200:
						t.Errorf("%s: a token was issued, and a caller is told %d %s", h.name, a.status, a.body)
					case !h.issues && (a.status != 503 || !a.retry || !strings.Contains(a.message, "("+h.code+")") && !(h.slow && strings.Contains(a.message, "is being refreshed"))):
						t.Errorf("%s: a caller is told %d %s", h.name, a.status, a.body)
					}
					select {
					case <-ctx.Done():
					case <-time.After(time.Second): // the pace of a caller
					}
				}
			})
		}
	}
	return wg.Wait
}

// cooled requires that no call of a row came earlier after the one before than the cool-down allows, which doubles.
func (h *hostile) cooled(t *testing.T) {
	t.Helper()
	calls := h.arrived()
	if h.issues {
		require.Len(t, calls, 1, h.name)
		return
	}
	require.NotEmpty(t, calls, h.name)
	least := 5 * time.Second
	for i := 1; i < len(calls); i++ {
		require.GreaterOrEqual(t, calls[i].Sub(calls[i-1]), least, "%s: call %d", h.name, i+1)
		least = min(2*least, 15*time.Minute)
	}
}

// TestHostileProviders: an instance whose accounts are refreshed by every hostile provider of the catalogue at once answers their callers with what is
// the matter, calls none of them again before its cool-down has ended, holds no database connection for them (invariant 5), does not grow, and serves
// others as ever.
func TestHostileProviders(t *testing.T) {
	soak := os.Getenv("SIGNALBOX_SOAK") != ""
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			w := newHostileWorld(t, signalboxtest.Start(t, e))
			rounds, n := 1, 100
			if soak {
				rounds, n = 5, 1000
			}
			calm := w.rounds(t, rounds, n)
			before := live()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wait := w.callers(ctx, t, 3)
			peak := before
			// A connection that was held during a call would be in use whenever one looks.
			slow := func() bool {
				return !slices.ContainsFunc(w.rows, func(h *hostile) bool { return h.slow && h.under.Load() != 1 })
			}
			var pools scraped
			require.Eventually(t, func() bool {
				peak = max(peak, live())
				if !slow() || slices.ContainsFunc(w.rows, func(h *hostile) bool { return len(h.arrived()) == 0 }) {
					return false
				}
				pools = scrape(t, w.Box)
				held := slices.ContainsFunc([]string{"main", "read", "write"}, func(pool string) bool {
					return pools.values[`signalbox_database_connections{pool="`+pool+`",state="in_use"}`] > 0
				})
				return !held && slow()
			}, time.Minute, 10*time.Millisecond, "each is called, and nothing is held while the slow ones are")
			busy := w.rounds(t, rounds, n)
			if soak {
				time.Sleep(time.Minute) // several cool-downs, and the deadlines of calls
			}
			for _, h := range w.rows {
				h.cooled(t)
			}
			cancel()
			grown := int64(max(peak, live())) - int64(before)
			for _, h := range w.rows {
				h.server.CloseClientConnections() // what hangs ends
			}
			wait()
			require.Zero(t, w.elsewhen.Load(), "a redirect was followed")
			require.LessOrEqual(t, grown, int64(16<<20), "the heap grew")
			t.Logf("p99 of others %v, and %v beside hostile providers; the live heap grew by %d KiB", calm, busy, grown>>10)
			if soak {
				require.LessOrEqual(t, busy, 2*calm)
			}
		})
	}
}
