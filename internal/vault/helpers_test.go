package vault_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// fixture is a vault on a fresh database, with a clock that the test moves.
type fixture struct {
	*vault.Room
	db   *store.DB
	ring *keyring.Ring
	cfg  store.Config
	log  *safeLog
	now  *clock
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Microsecond) // time never stands still between two transactions
	return c.at
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = t
}

type safeLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var today = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// each runs a story on both engines.
func each(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newFixture(t, e)) })
	}
}

func newFixture(t *testing.T, e store.Engine) *fixture {
	t.Helper()
	f := &fixture{log: &safeLog{}, now: &clock{at: today}}
	log := slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.cfg = storetest.Config(t, e)
	f.cfg.Clock, f.cfg.Log = f.now.Now, log
	f.db = storetest.OpenConfig(t, f.cfg)
	storetest.Homes(t, f.db, "client_7", "svc_1", "inf_1")
	storetest.Homes(t, f.db, "acme", "billing", "")
	storetest.Homes(t, f.db, "c1", "s1", "i1")
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	f.ring, err = keyring.Open(t.Context(), keyring.Config{DB: f.db, Root: root, Log: log})
	require.NoError(t, err)
	f.Room = f.room(t, f.ring)
	return f
}

// room returns another vault on the same database, with that ring.
func (f *fixture) room(t *testing.T, ring vault.Sealer) *vault.Room {
	t.Helper()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1:9999", "lan.example"})
	require.NoError(t, err)
	room, err := vault.New(vault.Config{DB: f.db, Ring: ring, Binder: f.ring, Log: slog.New(slog.NewJSONHandler(f.log, nil)), CheckURL: policy.CheckURL, Clock: f.now.Now})
	require.NoError(t, err)
	return room
}

// justNow is the last proof of people who need not be asked for one, however far a test turns the clock.
var justNow = today.AddDate(100, 0, 0)

var (
	admin    = identity.Caller{Kind: identity.KindPerson, ID: "user_1", Name: "Ada", UserID: "user_1", Role: identity.Administrator, RequestID: "req_7", SteppedUpAt: justNow}
	auditor  = identity.Caller{Kind: identity.KindPerson, ID: "user_2", Name: "Olga", UserID: "user_2", Role: identity.Auditor, SteppedUpAt: justNow}
	member   = identity.Caller{Kind: identity.KindPerson, ID: "user_3", Name: "Max", UserID: "user_3", Role: identity.Member, SteppedUpAt: justNow}
	reader   = identity.Caller{Kind: identity.KindToken, ID: "tok_1", Name: "ci", UserID: "user_1", Role: identity.Administrator, Scopes: identity.Scopes{identity.CredentialRead}}
	agent    = identity.Caller{Kind: identity.KindClientKey, ID: "key_1", Name: "laptop", TrainID: "train_1"}
	nobody   = identity.Caller{}
	fullTok  = identity.Caller{Kind: identity.KindToken, ID: "tok_2", Name: "all", UserID: "user_1", Role: identity.Administrator, Scopes: identity.RoleScopes(identity.Administrator)}
	stranger = identity.Caller{Kind: "spirit", ID: "x", Role: identity.Administrator}
)

const (
	anthropicKey = "sk-ant-api03-planted-Q7pX2vT9aZ4"
	accessToken  = "sk-ant-oat01-planted-K8wR3mB6cY1"
	refreshToken = "sk-ant-ort01-planted-H5nD0jS2eV7"
	gitPassword  = "pl4nted \"pass\\word\" with ünïcode"
)

func secrets(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.FromString(pairs[i+1])
	}
	return out
}

func apiKey(name string) vault.Draft {
	return vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic"}, Secrets: secrets("api_key", anthropicKey)}
}

func oauthDraft(name string, expires *time.Time) vault.Draft {
	return vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: "anthropic", OAuth: vault.OAuthMeta{ExpiresAt: expires, Scopes: []string{"user:inference", "user:profile"},
		ClientID: "client", TokenEndpoint: "https://console.example.com/v1/oauth/token", AuthMethod: "none", RequestFormat: "json"}},
		Secrets: secrets("access_token", accessToken, "refresh_token", refreshToken)}
}

func password(name string) vault.Draft {
	return vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: name, Username: "admin", ExternalURL: "https://git.example.com", Requires2FA: true, ClientID: "client_7"},
		Secrets: secrets("password", gitPassword)}
}

func (f *fixture) create(t *testing.T, d vault.Draft) vault.Credential {
	t.Helper()
	c, err := f.Create(t.Context(), admin, d)
	require.NoError(t, err)
	return c
}

func (f *fixture) reveal(t *testing.T, id, field string) string {
	t.Helper()
	v, err := f.Reveal(t.Context(), admin, id, field, "to test")
	require.NoError(t, err)
	return v.Reveal()
}

// exec runs SQL past the room, as somebody with the database would.
func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	require.NoError(t, f.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		n, err := tx.Exec(query, args...)
		if err == nil {
			require.NotZero(t, n, "nothing was changed")
		}
		return err
	}))
}

func (f *fixture) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, query, args...) }))
	return n
}

// events returns the recorded acts on credentials in order, and fails when one of them holds a planted secret.
func (f *fixture) events(t *testing.T) []store.Event {
	t.Helper()
	var bodies [][]byte
	require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY at, id`) }))
	var out []store.Event
	for _, b := range bodies {
		noSecret(t, string(b))
		ev, err := store.DecodeEvent(b)
		require.NoError(t, err)
		if ev.Target.Kind == "credential" {
			out = append(out, ev)
		}
	}
	return out
}

func (f *fixture) lastEvent(t *testing.T) store.Event {
	t.Helper()
	all := f.events(t)
	require.NotEmpty(t, all)
	return all[len(all)-1]
}

// noSecret fails when s holds one of the planted secrets or twelve characters of one.
func noSecret(t *testing.T, s string) {
	t.Helper()
	for _, p := range []string{anthropicKey, accessToken, refreshToken, gitPassword, "rotated-Planted-4711-value", "planted notes 0815"} {
		for i := 0; i+12 <= len(p); i++ {
			if piece := p[i : i+12]; !strings.HasPrefix("sk-ant-api03-sk-ant-oat01-sk-ant-ort01-", piece) {
				require.NotContains(t, s, piece)
			}
		}
	}
}

func requireCode(t *testing.T, err error, code string) *fault.Error {
	t.Helper()
	require.Error(t, err)
	f, ok := fault.As(err)
	require.True(t, ok, "no fault: %v", err)
	require.Equal(t, code, f.Code, "%v %v", f.Detail, f.Fields)
	noSecret(t, f.Error())
	for _, field := range f.Fields {
		noSecret(t, field.Pointer+field.Message)
	}
	return f
}

// requireAny is requireCode for whatever code.
func requireAny(t *testing.T, err error) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "no fault: %v", err)
	return requireCode(t, err, f.Code)
}

func pointers(f *fault.Error) []string {
	var out []string
	for _, field := range f.Fields {
		out = append(out, field.Pointer)
	}
	return out
}

func ptr[T any](v T) *T { return &v }
