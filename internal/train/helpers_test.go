package train_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// planted is in every secret that the tests store; nothing but a request may hold it.
const planted = "planted-3f9a61c7"

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)} }

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

// yard is an instance: the room with the real rooms below it, on a started database.
type yard struct {
	*train.Room
	t     testing.TB
	db    *store.DB
	ids   *identity.Room
	vault *vault.Room
	admin identity.Caller
	clock *clock
}

// site is where instances run: a database and what they share.
type site struct {
	cfg   store.Config
	root  secret.RootKey
	clock *clock
	// keyless is the switch of that name.
	keyless bool
	meters  train.Meters
	// refresher makes the one that the instance has, if any.
	refresher func(y *yard) train.Refresher
	// spent tells what was used in the month before it was counted; nil knows nothing.
	spent func(tx *store.Tx, subject string) (tokens, cost int64, err error)
	// before runs on an instance that is made and whose database is not started.
	before func(y *yard)
}

func newSite(t testing.TB, e store.Engine) site {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return site{cfg: storetest.Config(t, e), root: root, clock: newClock()}
}

// each runs fn on both engines.
func each(t *testing.T, fn func(t *testing.T, y *yard)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newSite(t, e).open(t)) })
	}
}

// open starts an instance. Its database's clock is the test's.
func (s site) open(t testing.TB) *yard {
	t.Helper()
	cfg := s.cfg
	cfg.Clock = s.clock.Now
	db, err := store.Open(context.Background(), cfg)
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: s.root})
	require.NoError(t, err)
	ids, err := identity.New(identity.Config{DB: db, Clock: s.clock.Now, Spent: s.spent})
	require.NoError(t, err)
	safe, err := vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, CheckURL: func(*url.URL) error { return nil }, Clock: s.clock.Now})
	require.NoError(t, err)
	admin := identity.Caller{Kind: identity.KindPerson, ID: "user_a", Name: "Ada", UserID: "user_a", Role: identity.Administrator, RequestID: "req_admin", IP: "192.0.2.1", SteppedUpAt: s.clock.Now().Add(time.Hour)}
	y := &yard{t: t, db: db, ids: ids, vault: safe, admin: admin, clock: s.clock}
	var refresher train.Refresher
	if s.refresher != nil {
		refresher = s.refresher(y)
	}
	room, err := train.New(train.Config{DB: db, Vault: safe, Identity: ids, Keyless: s.keyless, Meters: s.meters, Refresher: refresher, Clock: s.clock.Now, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	y.Room = room
	if s.before != nil {
		s.before(y)
	}
	require.NoError(t, db.Start(context.Background()))
	t.Cleanup(func() {
		room.Close()
		_ = ids.Close()
		_ = db.Close()
	})
	return y
}

// account stores an API-key account and returns its id.
func (y *yard) account(name string) string {
	y.t.Helper()
	c, err := y.vault.Create(context.Background(), y.admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic", BaseURL: "https://api.anthropic.com"},
		Secrets: map[string]secret.Value{"api_key": secret.FromString("sk-" + url.QueryEscape(name) + "-" + planted)}})
	require.NoError(y.t, err)
	return c.ID
}

// password stores a credential that is no account and returns its id.
func (y *yard) password(name string) string {
	y.t.Helper()
	c, err := y.vault.Create(context.Background(), y.admin, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: name}, Secrets: secrets("password", planted)})
	require.NoError(y.t, err)
	return c.ID
}

// oauth stores an OAuth account whose token ends then, and returns its id.
func (y *yard) oauth(name string, ends time.Time) string {
	y.t.Helper()
	c, err := y.vault.Create(context.Background(), y.admin, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: "anthropic", OAuth: vault.OAuthMeta{ExpiresAt: &ends}},
		Secrets: map[string]secret.Value{"access_token": secret.FromString("at-" + name + "-" + planted), "refresh_token": secret.FromString("rt-" + planted)}})
	require.NoError(y.t, err)
	return c.ID
}

func (y *yard) train(slug string, s train.Strategy) train.Train {
	y.t.Helper()
	t, err := y.CreateTrain(context.Background(), y.admin, train.Draft{Slug: slug, Strategy: s})
	require.NoError(y.t, err)
	return t
}

func (y *yard) link(slug, credential string) {
	y.t.Helper()
	_, created, err := y.Link(context.Background(), y.admin, slug, train.LinkDraft{Credential: credential})
	require.NoError(y.t, err)
	require.True(y.t, created)
}

func (y *yard) linkAt(slug, credential string, priority int) {
	y.t.Helper()
	_, _, err := y.Link(context.Background(), y.admin, slug, train.LinkDraft{Credential: credential, Priority: &priority})
	require.NoError(y.t, err)
}

// key issues a client key and returns its caller as a door gets it.
func (y *yard) key(slug string) (identity.Caller, identity.Key) {
	y.t.Helper()
	k, v, err := y.IssueKey(context.Background(), y.admin, slug, identity.KeyDraft{Name: "laptop"})
	require.NoError(y.t, err)
	caller, err := y.ids.Client(v.Reveal())
	require.NoError(y.t, err)
	caller.RequestID, caller.IP, caller.UserAgent = "req_1", "198.51.100.7", "agent/1"
	return caller, k
}

// line makes a train with one account and a key: what most tests need.
func (y *yard) line() (identity.Caller, identity.Key, string) {
	y.t.Helper()
	y.train("web", train.Hash)
	id := y.account("alpha")
	y.link("web", id)
	caller, key := y.key("web")
	return caller, key, id
}

func want() train.Want {
	return train.Want{Method: http.MethodPost, Path: "/v1/messages", Model: "claude-sonnet", BodyBytes: 42}
}

func (y *yard) lend(caller identity.Caller, w train.Want) *train.Lease {
	y.t.Helper()
	l, err := y.Lend(context.Background(), caller, w)
	require.NoError(y.t, err)
	return l
}

func (y *yard) refused(code string, caller identity.Caller, w train.Want) *fault.Error {
	y.t.Helper()
	l, err := y.Lend(context.Background(), caller, w)
	require.Nil(y.t, l)
	return requireFault(y.t, code, err)
}

func requireFault(t testing.TB, code string, err error) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "want the fault %s, got %v", code, err)
	require.Equal(t, code, f.Code, f.Detail)
	require.NotContains(t, f.Detail, planted)
	return f
}

// events returns every audit record in the database with one of these actions, oldest first.
func (y *yard) events(actions ...store.Action) []store.Event {
	y.t.Helper()
	var bodies []string
	require.NoError(y.t, y.db.Read(context.Background(), func(tx *store.Tx) error {
		bodies = nil
		rows, err := tx.Query(`SELECT body FROM (SELECT id, body FROM audit_events UNION ALL SELECT id, body FROM audit_batches) AS b ORDER BY id`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var b []byte
			if err := rows.Scan(&b); err != nil {
				return err
			}
			bodies = append(bodies, string(b))
		}
		return rows.Err()
	}))
	var out []store.Event
	for _, body := range bodies {
		require.NotContains(y.t, body, planted)
		for _, leaf := range splitLines(body) {
			ev, err := store.DecodeEvent([]byte(leaf))
			require.NoError(y.t, err)
			for _, a := range actions {
				if ev.Action == a {
					out = append(out, ev)
				}
			}
		}
	}
	return out
}

// outcomes waits until n outcomes are in the database, and returns them.
func (y *yard) outcomes(n int) []store.Event {
	y.t.Helper()
	var got []store.Event
	require.Eventually(y.t, func() bool {
		got = y.events(store.LeaseOutcome)
		return len(got) >= n
	}, 5*time.Second, 5*time.Millisecond)
	require.Len(y.t, got, n)
	return got
}

func splitLines(s string) []string {
	var out []string
	for start, i := 0, 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '\n' {
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return out
}

func detail(t testing.TB, ev store.Event, key string) string {
	t.Helper()
	d, ok := ev.Details.Get(key)
	require.True(t, ok, "no detail %s", key)
	return d.Text()
}

func request(t testing.TB, u string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, u, nil)
	require.NoError(t, err)
	return req
}

func ptr[T any](v T) *T { return &v }

// sent is the account name that the lease's secret tells of.
func sent(t testing.TB, l *train.Lease) string {
	t.Helper()
	req := request(t, "https://api.anthropic.com/v1/messages")
	require.NoError(t, l.Apply(req))
	key := req.Header.Get("X-Api-Key")
	require.Contains(t, key, planted)
	name, err := url.QueryUnescape(key[len("sk-") : len(key)-len("-"+planted)])
	require.NoError(t, err)
	return name
}

func secrets(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.FromString(pairs[i+1])
	}
	return out
}

// sql changes the database behind the rooms' backs, and announces the change.
func (y *yard) sql(query string, topic store.Topic, subject string) {
	y.t.Helper()
	require.NoError(y.t, y.db.Bookkeep(context.Background(), store.Cursor, func(tx *store.Tx) error {
		tx.Change(topic, subject)
		_, err := tx.Exec(query)
		return err
	}))
}

// rotate gives an account a new key.
func (y *yard) rotate(name string) {
	y.t.Helper()
	_, err := y.vault.Rotate(context.Background(), y.admin, y.named(name), secrets("api_key", "sk-"+name+"-rotated-"+planted), "test")
	require.NoError(y.t, err)
}

// named returns the id of an account.
func (y *yard) named(name string) (id string) {
	y.t.Helper()
	require.NoError(y.t, y.db.Read(context.Background(), func(tx *store.Tx) error {
		c, err := y.vault.Resolve(tx, name)
		id = c.ID
		return err
	}))
	return id
}

// rename moves a table away, or back.
func (y *yard) rename(from, to string) {
	y.t.Helper()
	y.sql(`ALTER TABLE `+from+` RENAME TO `+to, store.TopicUser, "nobody")
}

// eventuallyLends waits until this instance has heard of what another one made.
func (y *yard) eventuallyLends(caller identity.Caller) {
	y.t.Helper()
	require.Eventually(y.t, func() bool {
		l, err := y.Lend(context.Background(), caller, want())
		if err != nil {
			return false
		}
		l.Done(train.Outcome{Result: train.OK})
		return true
	}, 2*time.Second, 10*time.Millisecond)
}

// ddl runs a statement of the engine at hand.
func (y *yard) ddl(sqlite, postgres string) {
	y.t.Helper()
	statement := sqlite
	if y.db.Engine() == store.Postgres {
		statement = postgres
	}
	y.sql(statement, store.TopicUser, "nobody")
}
