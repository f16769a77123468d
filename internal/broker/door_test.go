package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// door is the broker with the real rooms below it, behind a real listener, before the fake upstream.
type door struct {
	t      testing.TB
	db     *store.DB
	ids    *identity.Room
	vault  *vault.Room
	trains *train.Room
	broker *broker.Broker
	up     *demo.Upstream
	upURL  string
	url    string
	client *http.Client
	admin  identity.Caller
	log    *logBuffer
	line   *watchedLine

	key      string
	keyID    string
	accounts []vault.Credential
	secrets  []secret.Value
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// watchedLine is the guarded transport, which looks at each request before it goes out.
type watchedLine struct {
	next http.RoundTripper
	mu   sync.Mutex
	look func(*http.Request)
	seen int
	held []string // stacks that made a request while in a transaction
}

func (w *watchedLine) RoundTrip(r *http.Request) (*http.Response, error) {
	stack := make([]byte, 16<<10)
	stack = stack[:runtime.Stack(stack, false)]
	w.mu.Lock()
	w.seen++
	for _, frame := range []string{"store.(*DB).Write", "store.(*DB).Read", "store.(*DB).Bookkeep", "store.(*Tx)"} {
		if bytes.Contains(stack, []byte(frame)) {
			w.held = append(w.held, string(stack))
		}
	}
	look := w.look
	w.mu.Unlock()
	if look != nil {
		look(r)
	}
	return w.next.RoundTrip(r)
}

type doorOptions struct {
	accounts  int
	keyless   bool
	bodyLimit int64
	strategy  train.Strategy
	allow     []string
	http2     bool
	line      http.RoundTripper // in the place of the guarded transport
}

func newDoor(t testing.TB, db *store.DB, o doorOptions) *door {
	t.Helper()
	ctx := context.Background()
	d := &door{t: t, db: db, log: &logBuffer{}}
	log := slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(ctx, keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	if o.allow == nil {
		o.allow = []string{"127.0.0.1"}
	}
	policy, err := outbound.ParsePolicy(o.allow)
	require.NoError(t, err)
	d.ids, err = identity.New(identity.Config{DB: db})
	require.NoError(t, err)
	d.vault, err = vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, Log: log, CheckURL: func(*url.URL) error { return nil }})
	require.NoError(t, err)
	d.trains, err = train.New(train.Config{DB: db, Vault: d.vault, Identity: d.ids, Keyless: o.keyless, Log: log})
	require.NoError(t, err)
	d.line = &watchedLine{next: outbound.NewTransport(policy, outbound.Options{HeaderTimeout: 20 * time.Second})}
	if o.line != nil {
		d.line.next = o.line
	}
	pool := outbound.NewPool(policy, outbound.Options{HeaderTimeout: 20 * time.Second})
	d.broker, err = broker.New(broker.Config{Trains: d.trains, Identity: d.ids, Transport: d.line, Routes: pool.Over, Log: log, BodyLimit: o.bodyLimit, NoClientAuth: o.keyless, DefaultTrain: "web"})
	require.NoError(t, err)
	require.NoError(t, db.Start(ctx))
	d.up = demo.NewUpstream(demo.Options{Keep: 50, KeepBody: 1 << 20})
	up := httptest.NewServer(d.up)
	d.upURL = up.URL
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1") {
			d.broker.ServeHTTP(w, r)
			return
		}
		d.broker.ServeUse(w, r)
	}))
	d.client = http.DefaultClient
	if o.http2 {
		srv.EnableHTTP2 = true
		srv.StartTLS()
		d.client = srv.Client()
	} else {
		srv.Start()
	}
	d.url = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		up.CloseClientConnections()
		up.Close()
		pool.CloseIdleConnections()
		d.trains.Close()
		_ = d.ids.Close()
		for _, s := range append(d.secrets, secret.FromString(d.key)) {
			require.NotContains(t, d.log.String(), s.Reveal(), "a secret is in the log")
		}
		require.Empty(t, d.line.held, "a database transaction was open across a request upstream")
	})
	d.admin = identity.Caller{Kind: identity.KindPerson, ID: "user_a", Name: "Ada", UserID: "user_a", Role: identity.Administrator, SteppedUpAt: time.Now().Add(time.Hour)}
	if o.strategy == "" {
		o.strategy = train.Priority
	}
	_, err = d.trains.CreateTrain(ctx, d.admin, train.Draft{Slug: "web", Name: "Web", Strategy: o.strategy})
	require.NoError(t, err)
	for i := range max(1, o.accounts) {
		d.account("web", fmt.Sprintf("account-%d", i+1), d.upURL, i+1)
	}
	k, v, err := d.trains.IssueKey(ctx, d.admin, "web", identity.KeyDraft{Name: "agent"})
	require.NoError(t, err)
	d.key, d.keyID = v.Reveal(), k.ID
	return d
}

// account adds an account at base to a train.
func (d *door) account(trainRef, name, base string, priority int) vault.Credential {
	d.t.Helper()
	return d.accountVia(trainRef, name, base, priority, vault.Upstream{})
}

// accountVia adds an account that goes out by a way of its own.
func (d *door) accountVia(trainRef, name, base string, priority int, way vault.Upstream) vault.Credential {
	d.t.Helper()
	ctx := context.Background()
	s := secret.FromString("sk-upstream-" + name + "-" + store.NewID("s"))
	d.up.AddKey(s)
	c, err := d.vault.Create(ctx, d.admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic", BaseURL: base, Upstream: way}, Secrets: map[string]secret.Value{"api_key": s}})
	require.NoError(d.t, err)
	_, _, err = d.trains.Link(ctx, d.admin, trainRef, train.LinkDraft{Credential: c.ID, Priority: &priority})
	require.NoError(d.t, err)
	d.accounts, d.secrets = append(d.accounts, c), append(d.secrets, s)
	return c
}

// request is a POST /v1/messages with the door's key.
func (d *door) request(body string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, d.url+"/v1/messages", strings.NewReader(body))
	require.NoError(d.t, err)
	r.Header.Set("X-Api-Key", d.key)
	return r
}

func (d *door) do(r *http.Request) (int, string, http.Header) {
	d.t.Helper()
	resp, err := d.client.Do(r)
	require.NoError(d.t, err)
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(d.t, err)
	return resp.StatusCode, b.String(), resp.Header
}

// events returns the lease events so far.
func (d *door) events() []store.Event {
	d.t.Helper()
	var bodies [][]byte
	require.NoError(d.t, d.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_batches ORDER BY id`)
	}))
	var out []store.Event
	for _, b := range bodies {
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			e, err := store.DecodeEvent(line)
			require.NoError(d.t, err)
			out = append(out, e)
		}
	}
	return out
}

// results waits for n outcomes and returns them as "result status", in order.
func (d *door) results(n int) []string {
	d.t.Helper()
	var got []string
	require.Eventually(d.t, func() bool {
		got = nil
		for _, e := range d.events() {
			if e.Action == store.LeaseOutcome {
				r, _ := e.Details.Get("result")
				s, _ := e.Details.Get("status")
				got = append(got, r.Text()+" "+s.Text())
			}
		}
		return len(got) >= n
	}, 5*time.Second, 5*time.Millisecond)
	require.Len(d.t, got, n)
	return got
}

// unsent tells of each outcome whether it says that nothing was sent.
func (d *door) unsent() (out []bool) {
	for _, e := range d.events() {
		if e.Action == store.LeaseOutcome {
			v, _ := e.Details.Get("unsent")
			out = append(out, v.Text() == "true")
		}
	}
	return out
}

func each(t *testing.T, o doorOptions, fn func(t *testing.T, d *door)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) { fn(t, newDoor(t, db, o)) })
	t.Run("HTTP2", func(t *testing.T) { // over TLS, as the server speaks it with a certificate
		o.http2 = true
		fn(t, newDoor(t, storetest.Open(t, store.SQLite), o))
	})
}

const hello = `{"model":"claude-x","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`
