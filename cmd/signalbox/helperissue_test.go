package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// line is a way to the desk's server on which requests for keys, or the answers to them, can be lost.
type line struct {
	*httptest.Server
	before, after atomic.Bool
	mu            sync.Mutex
	once          []string // the Idempotency-Keys of what was sent
}

func (d *desk) line() *line {
	d.Helper()
	to, err := url.Parse(d.server)
	require.NoError(d, err)
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	l := &line{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			through.ServeHTTP(w, r)
			return
		}
		l.mu.Lock()
		l.once = append(l.once, r.Header.Get("Idempotency-Key"))
		l.mu.Unlock()
		if l.before.Load() {
			panic(http.ErrAbortHandler)
		}
		rec := httptest.NewRecorder()
		through.ServeHTTP(rec, r)
		if l.after.Load() {
			panic(http.ErrAbortHandler)
		}
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	d.Cleanup(l.Close)
	return l
}

// TestAnAnswerThatWasLostLeavesNoKey: a key whose answer was lost counts among those that the train may have. The next to ask hears of it, and it is
// revoked; a request that did not arrive is sent again as it was.
func TestAnAnswerThatWasLostLeavesNoKey(t *testing.T) {
	d := newDesk(t)
	l := d.line()
	d.env = append(d.env, "SIGNALBOX_URL="+l.URL)
	token, err := os.ReadFile(filepath.Join(strings.TrimPrefix(d.admin[1], "SIGNALBOX_DATA_DIR="), "operator.token"))
	require.NoError(t, err)
	d.env = append(d.env, "SIGNALBOX_TOKEN="+strings.TrimSpace(string(token)))
	ask := func() (string, string, int) { return d.run(d.env, "", "helper", "anthropic", "--train", "web") }

	l.before.Store(true)
	out, _, code := ask()
	require.Equal(t, 5, code)
	require.Empty(t, out)
	_, issued := d.keys()
	require.Zero(t, issued)
	l.before.Store(false)
	first := d.helper()
	byStatus, issued := d.keys()
	require.Equal(t, map[string]int{"active": 1}, byStatus)
	require.Equal(t, 1, issued)
	require.Len(t, l.once, 2)
	require.NotEmpty(t, l.once[0])
	require.Equal(t, l.once[0], l.once[1], "the same request")

	// The answer is lost three times: there is never more than one key that nobody has.
	d.kept(func(k *keptKeys) { k.keys[0].expires = time.Now().Add(-time.Minute) })
	l.after.Store(true)
	for range 3 {
		out, _, code = ask()
		require.Equal(t, 5, code)
		require.Empty(t, out)
		byStatus, _ = d.keys()
		require.Equal(t, map[string]int{"active": 2}, byStatus, "the first one, and that of the lost answer")
	}
	l.after.Store(false)
	out, errs, code := ask()
	require.Zero(t, code, errs)
	require.Contains(t, errs, "was issued, but its answer was lost; it is revoked, and replaced")
	require.NotEqual(t, first, out)
	byStatus, _ = d.keys()
	require.Equal(t, 1, byStatus["active"], "the one that was handed out; the first was at its end")
	require.Empty(t, d.kept(func(*keptKeys) {}).attempts)
	require.Equal(t, out, d.helper(), "and it is kept")
}

// TestAnAnswerThatIsLostOnAnOpenConnection: there the HTTP client sends the request again by itself, and is told that the key was issued already.
func TestAnAnswerThatIsLostOnAnOpenConnection(t *testing.T) {
	d := newDesk(t)
	l := d.line()
	token, err := os.ReadFile(filepath.Join(strings.TrimPrefix(d.admin[1], "SIGNALBOX_DATA_DIR="), "operator.token"))
	require.NoError(t, err)
	d.env = append(d.env, "SIGNALBOX_URL="+l.URL, "SIGNALBOX_TOKEN="+strings.TrimSpace(string(token)))
	before := d.helper()
	var id string
	d.kept(func(k *keptKeys) { id, k.keys[0].asked = k.keys[0].id, time.Time{} })
	_, errs, code := d.run(d.admin, "", "key", "revoke", "web", id)
	require.Zero(t, code, errs)
	posts := 0
	l.Config.Handler = first(l.Config.Handler, func(r *http.Request) {
		if r.Method == http.MethodPost {
			posts++
			l.after.Store(posts == 1)
		}
	})
	out, errs, code := d.run(d.env, "", "helper", "anthropic", "--train", "web")
	require.Zero(t, code, errs)
	require.NotEqual(t, before, out)
	require.Contains(t, errs, "was issued, but its answer was lost; it is revoked, and replaced")
	require.Equal(t, 3, posts)
	byStatus, _ := d.keys()
	require.Equal(t, 1, byStatus["active"])
	require.Empty(t, d.kept(func(*keptKeys) {}).attempts)

	// A request of hours ago that the server had not heard: what it issues now is for a time that is nearly over.
	l.after.Store(false)
	d.kept(func(k *keptKeys) {
		k.keys[0].expires = time.Now().Add(-time.Minute)
		k.attempts = []attempt{{keyFor: k.keys[0].keyFor, Once: "helper-unheard", Name: "helper anthropic on x", ExpiresAt: time.Now().Add(10 * time.Minute).Truncate(time.Second).UTC(), BegunAt: time.Now().Add(-7 * time.Hour)}}
	})
	_, errs, code = d.run(d.env, "", "helper", "anthropic", "--train", "web")
	require.Zero(t, code, errs)
	require.Contains(t, errs, "was asked for by an earlier call and issued only now, when its time is nearly over; it is revoked, and replaced")
	require.NotContains(t, errs, "answer was lost")
}

// TestAKeyThatEndsWithTheSignInIsNotReplacedAtEveryCall: where the sign-in is near its end, so is every key; one is enough.
func TestAKeyThatEndsWithTheSignInIsNotReplacedAtEveryCall(t *testing.T) {
	var issued atomic.Int64
	ends := time.Now().Add(20 * time.Minute).UTC().Format(time.RFC3339)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			issued.Add(1)
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, `{"api_key":{"id":"key_1","train_id":"web","name":"k","status":"active","api_key":"sbx_live_planted","expires_at":"`+ends+`"}}`)
	}))
	defer server.Close()
	d := &desk{T: t, file: loginFile{filepath.Join(t.TempDir(), "signalbox")}}
	d.env = []string{"XDG_CONFIG_HOME=" + filepath.Dir(d.file.dir), "SIGNALBOX_DATA_DIR=" + t.TempDir(), "SIGNALBOX_URL=" + server.URL, "SIGNALBOX_TOKEN=sbx_planted_token"}
	for range 3 {
		require.Equal(t, "sbx_live_planted\n", d.helperOut())
		d.kept(func(k *keptKeys) { k.keys[0].asked = time.Time{} })
	}
	require.EqualValues(t, 1, issued.Load())
	// At its end there is another try.
	d.kept(func(k *keptKeys) { k.keys[0].expires = time.Now().Add(-time.Second) })
	d.helperOut()
	require.EqualValues(t, 2, issued.Load())
}

func (d *desk) helperOut() string {
	d.Helper()
	out, errs, code := d.run(d.env, "", "helper", "anthropic", "--train", "web")
	require.Zero(d, code, errs)
	return out
}
