package identity_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
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
)

const (
	email    = "ada@example.com"
	rootKey  = "W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1s="
	password = "planted-password-8f3k2"
)

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

// house is an identity room on a started database.
type house struct {
	*identity.Room
	t     testing.TB
	db    *store.DB
	clock *clock
	log   *lockedBuffer
}

// each runs fn on both engines with a room whose clock the test turns.
func each(t *testing.T, change func(*identity.Config), fn func(t *testing.T, h *house)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newHouse(t, storetest.Config(t, e), newClock(), change)) })
	}
}

func newHouse(t testing.TB, cfg store.Config, c *clock, change func(*identity.Config)) *house {
	t.Helper()
	h := coldHouse(t, cfg, c, change)
	require.NoError(t, h.db.Start(context.Background()))
	return h
}

// coldHouse has an empty memory: its database is not started.
func coldHouse(t testing.TB, cfg store.Config, c *clock, change func(*identity.Config)) *house {
	t.Helper()
	log := &lockedBuffer{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Clock, cfg.Log = c.Now, logger
	db := storetest.OpenConfig(t, cfg)
	root, err := secret.ParseRootKey(secret.FromString(rootKey))
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	conf := identity.Config{DB: db, Ring: ring, Log: logger, Clock: c.Now}
	if change != nil {
		change(&conf)
	}
	room, err := identity.New(conf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = room.Close() })
	return &house{Room: room, t: t, db: db, clock: c, log: log}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func door() identity.Caller {
	return identity.Caller{Kind: identity.KindAnonymous, RequestID: "req_1", IP: "192.0.2.7", UserAgent: "curl/8"}
}

func (h *house) write(fn func(tx *store.Tx) error) error { return h.db.Write(h.t.Context(), fn) }

func (h *house) issue(train string, d identity.KeyDraft) (key identity.Key, bearer secret.Value, err error) {
	err = h.write(func(tx *store.Tx) error {
		var err error
		key, bearer, err = h.IssueKey(tx, identity.System("test"), train, d)
		return err
	})
	return key, bearer, err
}

func (h *house) mustIssue(train, name string) (identity.Key, string) {
	h.t.Helper()
	k, v, err := h.issue(train, identity.KeyDraft{Name: name})
	require.NoError(h.t, err)
	return k, v.Reveal()
}

func (h *house) revoke(train, id string) error {
	return h.write(func(tx *store.Tx) error {
		_, err := h.RevokeKey(tx, identity.System("test"), train, id)
		return err
	})
}

func (h *house) list(train string, f identity.KeyFilter) (keys []identity.Key, next string) {
	h.t.Helper()
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) (err error) {
		keys, next, err = h.ListKeys(tx, train, f)
		return err
	}))
	return keys, next
}

func (h *house) get(train, id string) (key identity.Key, err error) {
	err = h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		key, err = h.GetKey(tx, train, id)
		return err
	})
	return key, err
}

// admin makes the administrator and returns it as a caller.
func (h *house) admin() (identity.User, identity.Caller) {
	h.t.Helper()
	u, err := h.CreateAdministrator(h.t.Context(), identity.System("init"), email, "Ada", secret.FromString(password))
	require.NoError(h.t, err)
	return u, person(u)
}

func person(u identity.User) identity.Caller {
	return identity.Caller{
		Kind: identity.KindPerson, ID: u.ID, Name: u.Name, UserID: u.ID, Role: u.Role, SteppedUpAt: newClock().Now(), Proofs: []identity.Proof{identity.ProofPassword},
	}
}

// addUser adds a person with a role past the API, which cannot yet.
func (h *house) addUser(role identity.Role, active bool) identity.User {
	h.t.Helper()
	u := identity.User{ID: store.NewID("user"), Name: string(role), Role: role, Active: active}
	u.Email = u.ID + "@example.com"
	flag := 0
	if active {
		flag = 1
	}
	require.NoError(h.t, h.write(func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1,$2,$3,$4,'',$5,1,1)`,
			u.ID, u.Email, u.Name, string(role), flag); err != nil {
			return err
		}
		tx.Change(store.TopicUser, u.ID)
		return tx.Record(identity.System("test").Event(store.UserCreate, u.Target()))
	}))
	return u
}

// events returns all recorded events but those of the keyring in the order of their ids.
func (h *house) events() []store.Event {
	h.t.Helper()
	var bodies [][]byte
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_events WHERE action <> $1 ORDER BY id`, string(store.AdminKeyring))
	}))
	out := make([]store.Event, 0, len(bodies))
	for _, b := range bodies {
		ev, err := store.DecodeEvent(b)
		require.NoError(h.t, err)
		out = append(out, ev)
	}
	return out
}

func (h *house) eventsOf(action store.Action) (out []store.Event) {
	h.t.Helper()
	for _, ev := range h.events() {
		if ev.Action == action {
			out = append(out, ev)
		}
	}
	return out
}

func actions(events []store.Event) (out []store.Action) {
	for _, ev := range events {
		out = append(out, ev.Action)
	}
	return out
}

func detail(t testing.TB, ev store.Event, key string) string {
	t.Helper()
	d, ok := ev.Details.Get(key)
	require.True(t, ok, "the event %s has no detail %s", ev.Action, key)
	return d.Text()
}

// requireFault checks that err is the fault with that code, and nothing worse.
func requireFault(t testing.TB, code string, err error) *fault.Error {
	t.Helper()
	require.Error(t, err)
	f, ok := fault.As(err)
	require.True(t, ok, "%v is no fault", err)
	require.Equal(t, code, f.Code, "%v", err)
	require.NotEmpty(t, f.Detail)
	return f
}

func ptr[T any](v T) *T { return &v }

// userID returns the id of the administrator.
func (h *house) userID() (id string) {
	h.t.Helper()
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error { return tx.Get(&id, `SELECT id FROM users WHERE email = $1`, email) }))
	return id
}

func itoa(i int) string { return strconv.Itoa(i) }
