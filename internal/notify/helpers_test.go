package notify_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// planted is in every secret that the tests store; nothing but what leaves for a receiver may hold it.
const planted = "planted-5d02c9e7"

// signing is a signing secret that holds the planted text.
func signing() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(planted+"-and-more-of-it"))
}

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// office is an instance: a room on a started database whose time is the test's.
type office struct {
	*notify.Room
	t     testing.TB
	db    *store.DB
	clock *clock
	log   *logs
	dead  bool // the process has crashed
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the log so far.
func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// site is where instances run.
type site struct {
	cfg   store.Config
	root  secret.RootKey
	clock *clock
	allow []string
	roots *x509.CertPool
	every time.Duration
}

func newSite(t testing.TB, e store.Engine) *site {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return &site{cfg: storetest.Config(t, e), root: root, clock: &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}, allow: []string{"127.0.0.1"}}
}

// open starts an instance that delivers only when the test makes a pass, unless it starts the room.
func (s *site) open(t testing.TB) *office {
	t.Helper()
	cfg := s.cfg
	cfg.Clock = s.clock.Now
	log := &logs{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Log = logger
	db, err := store.Open(context.Background(), cfg)
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: s.root})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy(s.allow)
	require.NoError(t, err)
	room, err := notify.New(notify.Config{DB: db, Ring: ring, Policy: policy, Outbound: outbound.Options{RootCAs: s.roots}, Instance: "test", Every: s.every, Log: logger})
	require.NoError(t, err)
	require.NoError(t, db.Start(context.Background()))
	o := &office{Room: room, t: t, db: db, clock: s.clock, log: log}
	t.Cleanup(func() {
		if !o.dead {
			o.noSecret()
		}
		room.Close()
		_ = db.Close()
		if s.cfg.PostgresURL.IsZero() {
			files, err := filepath.Glob(filepath.Join(s.cfg.DataDir, "*"))
			require.NoError(t, err)
			for _, f := range files {
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				require.NotContains(t, string(b), planted, f)
			}
		}
	})
	return o
}

// each runs fn on both engines.
func each(t *testing.T, fn func(t *testing.T, o *office)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newSite(t, e).open(t)) })
	}
}

// noSecret looks for the planted text in the log and in every text of the room's tables and of the audit.
func (o *office) noSecret() {
	o.t.Helper()
	require.NotContains(o.t, o.log.String(), planted)
	var texts []string
	require.NoError(o.t, o.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&texts, `SELECT settings || name || kinds || secret_fields FROM notify_channels UNION ALL SELECT body || title FROM notify_messages
			UNION ALL SELECT detail || holder FROM notify_deliveries`)
	}))
	for _, text := range texts {
		require.NotContains(o.t, text, planted)
	}
	for _, e := range o.events() {
		require.NotContains(o.t, fmt.Sprintf("%+v", e), planted)
	}
}

// person is a caller.
type person struct{}

// Event begins a record.
func (person) Event(a store.Action, t store.Target) store.Event {
	return store.Event{Actor: store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, Action: a, Target: t}
}

func values(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.FromString(pairs[i+1])
	}
	return out
}

func (o *office) slack(name, url string) notify.Channel {
	o.t.Helper()
	c, err := o.CreateChannel(context.Background(), person{}, notify.Draft{Kind: notify.Slack, Name: name, Secrets: values("url", url+"/services/"+planted)})
	require.NoError(o.t, err)
	return c
}

func (o *office) webhook(name, url string) notify.Channel {
	o.t.Helper()
	c, err := o.CreateChannel(context.Background(), person{}, notify.Draft{Kind: notify.Webhook, Name: name, Secrets: values("url", url+"/hook?token="+planted, "signing_secret", signing())})
	require.NoError(o.t, err)
	return c
}

// message is one that no other is like.
func message() notify.Message {
	return notify.Message{Kind: notify.AccountRefused, Title: "Account team-alpha is refused", Text: "Look at its key.", Subject: store.Target{Kind: "credential", ID: "cred_1", Name: "team-alpha"}}
}

// say stores a message with an act.
func (o *office) say(m notify.Message) {
	o.t.Helper()
	require.NoError(o.t, o.act(m, nil))
}

func (o *office) act(m notify.Message, then error) error {
	return o.db.Write(context.Background(), func(tx *store.Tx) error {
		if err := notify.Enqueue(tx, m); err != nil {
			return err
		}
		if err := tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "test"}, Action: store.CredentialCooling, Target: store.Target{Kind: "credential"}}); err != nil {
			return err
		}
		return then
	})
}

// deliveries returns all, the newest first.
func (o *office) deliveries() []notify.Delivery {
	o.t.Helper()
	out, next, err := o.ListDeliveries(context.Background(), notify.Filter{Page: notify.Page{Limit: 1000}})
	require.NoError(o.t, err)
	require.Empty(o.t, next)
	return out
}

// only returns the one delivery that there is.
func (o *office) only() notify.Delivery {
	o.t.Helper()
	all := o.deliveries()
	require.Len(o.t, all, 1)
	return all[0]
}

// events returns every audit record, oldest first.
func (o *office) events(actions ...store.Action) []store.Event {
	o.t.Helper()
	var bodies [][]byte
	require.NoError(o.t, o.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`)
	}))
	var out []store.Event
	for _, b := range bodies {
		e, err := store.DecodeEvent(b)
		require.NoError(o.t, err)
		for _, a := range actions {
			if e.Action == a {
				out = append(out, e)
			}
		}
		if len(actions) == 0 {
			out = append(out, e)
		}
	}
	return out
}

func (o *office) sql(query string, args ...any) {
	o.t.Helper()
	require.NoError(o.t, o.db.Bookkeep(context.Background(), store.Outbox, func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}))
}

func requireFault(t testing.TB, err error, code string) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "want the fault %s, got %v", code, err)
	require.Equal(t, code, f.Code, f.Detail)
	require.NotContains(t, fmt.Sprint(f.Detail, f.Fields), planted)
	return f
}

// got is one request that a receiver has had.
type got struct {
	path   string
	header http.Header
	body   string
}

// receiver is a receiver of ours: Slack and webhooks alike, and hostile when told so.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []got
	answer func(http.ResponseWriter, *http.Request)
}

// newReceiver answers as Slack does until it is told otherwise.
func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	r.does(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, got{req.URL.RequestURI(), req.Header.Clone(), string(body)})
		answer := r.answer
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) does(answer func(http.ResponseWriter, *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) status(code int, header ...string) {
	r.does(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "the receiver says "+planted)
	})
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.got...)
}
