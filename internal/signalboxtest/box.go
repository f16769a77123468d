// Package signalboxtest gives tests a whole Signalbox: the real app on a temporary SQLite or PostgreSQL database behind a real listener, or
// the real binary as a process that can be killed. Only tests import it.
//
// Promise: [Each] runs a story on both engines; each box scans its log, its answers and its database for planted secrets when the test
// ends.
//
// Limits: the upstream is the fake that `signalbox dev` ships, or one that the test brings.
//
// Invariants: nothing here reaches into the app but through what its users have: REST, files, signals, and the database for looking.
package signalboxtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// rootKey is the root key of every test box: 32 bytes that are nobody's.
var rootKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5b}, 32))

// Box is a running Signalbox.
type Box struct {
	App      *app.App
	URL      string
	Token    string
	DataDir  string
	Store    store.Config // where its database is, for a second instance or a look inside
	Upstream *demo.Upstream
	Planted  *Planted
	Log      *Buffer

	env         map[string]string // settings beside the usual ones
	upstreamURL string
	lanes       atomic.Int64
	drain, stop func()
}

// Each runs fn on each engine with a box of its own.
func Each(t *testing.T, fn func(t *testing.T, box *Box)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, Start(t, e)) })
	}
}

// Undetected is the setting that switches all detectors off.
const Undetected = "mass_access=off,denied_reveals=off,failed_decryptions=off,refresh_reuse=off,canary=off,audit_verification=off"

// Start starts a box on a fresh database.
func Start(t testing.TB, e store.Engine) *Box {
	t.Helper()
	return StartWith(t, e, nil)
}

// Second starts another instance on the PostgreSQL database of this box. It shares the settings, the tokens and the upstream.
func (b *Box) Second(t testing.TB) *Box {
	t.Helper()
	s := start(t, store.Config{PostgresURL: b.Store.PostgresURL}, b.env, b, "127.0.0.1:0")
	s.Upstream, s.upstreamURL = b.Upstream, b.upstreamURL
	return s
}

// Again starts this box anew, after it was stopped, on its database and under its address.
func (b *Box) Again(t testing.TB) *Box {
	t.Helper()
	s := start(t, b.Store, b.env, b, strings.TrimPrefix(b.URL, "http://"))
	s.Upstream, s.upstreamURL = b.Upstream, b.upstreamURL
	return s
}

// StartWith starts a box on a fresh database with more settings.
func StartWith(t testing.TB, e store.Engine, env map[string]string) *Box {
	t.Helper()
	return start(t, storetest.Config(t, e), env, nil, "127.0.0.1:0")
}

func start(t testing.TB, cfg store.Config, env map[string]string, first *Box, address string) *Box {
	t.Helper()
	b := &Box{env: env, DataDir: t.TempDir(), Planted: &Planted{}, Log: &Buffer{}}
	if cfg.PostgresURL.IsZero() {
		b.DataDir = cfg.DataDir
	}
	settings := app.Environ{
		"SIGNALBOX_DATA_DIR": b.DataDir, "SIGNALBOX_ROOT_KEY": rootKey, "DATABASE_URL": cfg.PostgresURL.Reveal(),
		"SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS": "127.0.0.1", "SIGNALBOX_LOG_LEVEL": "debug", "SIGNALBOX_LOG_FORMAT": "json",
		// Stories ask faster than people do; the tests of the limits set their own.
		"SIGNALBOX_CALLER_LIMIT": "1000000", "SIGNALBOX_REVEAL_LIMIT": "1000000", "SIGNALBOX_FAILURE_LIMIT": "1000000",
		// They would record at their own time in the middle of a story.
		"SIGNALBOX_DETECTORS": Undetected,
	}
	for k, v := range env {
		settings[k] = v
	}
	conf, err := app.Load(settings, nil)
	require.NoError(t, err)
	conf.Log = slog.New(slog.NewJSONHandler(b.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	made, err := app.Init(context.Background(), conf, app.Admin{Email: "admin@example.com", Name: "Ada", Password: secret.FromString(AdminPassword), TokenLife: 24 * time.Hour})
	switch f, ok := fault.As(err); {
	case err == nil:
		b.Token = made.AccessToken.Reveal()
		b.Planted.Add("access token", b.Token)
	case !ok || f.Code != "already_set_up" || first == nil:
		require.NoError(t, err)
	default:
		b.Token = first.Token
	}
	b.Planted.Add("password", AdminPassword)
	b.Planted.Add("root key", rootKey)
	b.Store = store.Config{DataDir: b.DataDir, PostgresURL: cfg.PostgresURL}
	b.App, err = app.Open(context.Background(), conf)
	require.NoError(t, err)
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	b.URL = conf.LocalURL(l.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.App.Serve(ctx, l) }()
	var once sync.Once
	b.drain = cancel
	b.stop = func() {
		once.Do(func() {
			b.App.Cut()
			cancel()
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
			if err := b.App.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		b.stop()
		b.Planted.Absent(t, "the log", b.Log.Bytes())
		b.Planted.AbsentFromFiles(t, b.DataDir)
	})
	if first == nil {
		b.Upstream, b.upstreamURL = ServeUpstream(t, demo.Options{Keep: 100})
	}
	return b
}

// Drain begins an orderly end: open streams go on, and new requests are told to go elsewhere.
func (b *Box) Drain() { b.drain() }

// Stop stops the box before the test ends, and cuts the streams that are still open.
func (b *Box) Stop() { b.stop() }

// Admin returns a client with every scope.
func (b *Box) Admin() *client.Client { return client.New(b.URL, b.Token) }

// Anonymous returns a client without a token.
func (b *Box) Anonymous() *client.Client { return client.New(b.URL, "") }

// OpenReadOnly opens the box's database for looking.
func (b *Box) OpenReadOnly(t testing.TB) *store.DB {
	t.Helper()
	cfg := b.Store
	cfg.ReadOnly = true
	return storetest.OpenConfig(t, cfg)
}

// Leases returns every lease event that the box has stored.
func (b *Box) Leases(t testing.TB) []store.Event {
	t.Helper()
	return Leases(t, b.OpenReadOnly(t))
}

// Leases returns every lease event of a database, read from the rows as they lie there.
func Leases(t testing.TB, db *store.DB) []store.Event {
	t.Helper()
	var bodies [][]byte
	require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_batches ORDER BY id`)
	}))
	var out []store.Event
	for _, b := range bodies {
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			e, err := store.DecodeEvent(line)
			require.NoError(t, err)
			out = append(out, e)
		}
	}
	return out
}

// RequireEvents waits until the acts of the log since the first one named are exactly these, in order of time.
func (b *Box) RequireEvents(t testing.TB, since time.Time, actions ...store.Action) {
	t.Helper()
	db := b.OpenReadOnly(t)
	var got []string
	require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&got, `SELECT action FROM audit_events WHERE at >= $1 ORDER BY id`, store.TimeOf(since))
	}))
	want := make([]string, len(actions))
	for i, a := range actions {
		want[i] = string(a)
	}
	require.Equal(t, want, got)
}

// Account is an account of a lane.
type Account struct {
	ID     string
	Name   string
	Secret secret.Value
}

// Lane is a train with accounts and a client key.
type Lane struct {
	Train    string // slug
	Key      string
	KeyID    string
	Accounts []Account
	box      *Box
}

// Lane makes a train with one account at the upstream (the box's fake when it is empty) and a client key, all planted.
func (b *Box) Lane(t testing.TB, upstream string) *Lane { t.Helper(); return b.LaneOf(t, upstream, 1) }

// LaneOf makes a lane with n accounts, which it tries in the order of their numbers.
func (b *Box) LaneOf(t testing.TB, upstream string, n int) *Lane {
	t.Helper()
	ctx := context.Background()
	admin := b.Admin()
	if upstream == "" {
		upstream = b.upstreamURL
	}
	l := &Lane{Train: "lane-" + strconv.FormatInt(b.lanes.Add(1), 10), box: b}
	_, err := admin.CreateTrain(ctx, client.TrainDraft{TrainID: l.Train, Name: "Lane", Strategy: "priority"})
	require.NoError(t, err)
	for i := range n {
		a := Account{Name: l.Train + "-account-" + strconv.Itoa(i+1), Secret: secret.FromString(strings.NewReplacer(`"`, "", "+", "", "/", "").Replace(b.Planted.Secret(t, "api key")))}
		b.Planted.Add("api key", a.Secret.Reveal())
		b.Upstream.AddKey(a.Secret)
		c, err := admin.CreateCredential(ctx, client.CredentialDraft{
			Type: "api_key", Name: a.Name, Provider: "anthropic", BaseURL: upstream, Secrets: map[string]string{"api_key": a.Secret.Reveal()},
		})
		require.NoError(t, err)
		a.ID = c.ID
		priority := i + 1
		_, _, err = admin.Link(ctx, l.Train, client.LinkDraft{CredentialID: c.ID, Priority: &priority})
		require.NoError(t, err)
		l.Accounts = append(l.Accounts, a)
	}
	k, err := admin.IssueKey(ctx, l.Train, client.KeyDraft{Name: "agent"})
	require.NoError(t, err)
	l.Key, l.KeyID = k.APIKey, k.ID
	b.Planted.Add("client key", k.APIKey)
	return l
}

// BaseURL is what an SDK is given.
func (l *Lane) BaseURL() string { return l.box.URL }

// Request returns a POST /v1/messages with the lane's key.
func (l *Lane) Request(ctx context.Context, body []byte) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.box.URL+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Api-Key", l.Key)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// Explain returns the lane's accounts in rank order.
func (l *Lane) Explain(t testing.TB) []client.RankedAccount {
	t.Helper()
	out, err := l.box.Admin().Explain(context.Background(), l.Train)
	require.NoError(t, err)
	return out.Accounts
}

// ServeUpstream serves the fake upstream on a loopback port until the test ends.
func ServeUpstream(t testing.TB, o demo.Options) (*demo.Upstream, string) {
	t.Helper()
	u := demo.NewUpstream(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- u.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = u.Shutdown(ctx)
		<-served
	})
	return u, "http://" + l.Addr().String()
}

// Buffer is a log that tests can read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Bytes returns a copy of what was written so far.
func (b *Buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}
