package importer

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// planted is in every secret of the tests; no report, error, record or log may hold it.
const planted = "planted-5d1c77e0"

// yard is the room with the real rooms below it, on a started database.
type yard struct {
	*Room
	t      *testing.T
	db     *store.DB
	vault  *vault.Room
	trains *train.Room
	mcp    *mcp.Room
	ids    *identity.Room
	admin  identity.Caller
	log    *safeLog
}

// unneeded is who refreshes tokens, which no import does.
type unneeded struct{}

// Fresh implements mcp.Refresher.
func (unneeded) Fresh(context.Context, string, int64, oauth.Why) (int64, error) {
	return 0, fault.New(fault.Unavailable, "refresh_failed", "Nobody refreshes here.")
}

type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
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

func each(t *testing.T, fn func(t *testing.T, y *yard)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newYard(t, e)) })
	}
}

func newYard(t *testing.T, e store.Engine) *yard {
	t.Helper()
	y := &yard{t: t, log: &safeLog{}}
	log := slog.New(slog.NewJSONHandler(y.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := storetest.Config(t, e)
	cfg.Log = log
	var err error
	y.db, err = store.Open(context.Background(), cfg)
	require.NoError(t, err)
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: y.db, Root: root, Log: log})
	require.NoError(t, err)
	y.ids, err = identity.New(identity.Config{DB: y.db, Log: log})
	require.NoError(t, err)
	y.vault, err = vault.New(vault.Config{DB: y.db, Ring: ring, Binder: ring, Log: log, CheckURL: func(*url.URL) error { return nil }})
	require.NoError(t, err)
	notices, err := notify.New(notify.Config{DB: y.db, Ring: ring, Log: log})
	require.NoError(t, err)
	y.trains, err = train.New(train.Config{DB: y.db, Vault: y.vault, Identity: y.ids, Log: log, Notify: notices})
	require.NoError(t, err)
	y.mcp, err = mcp.New(mcp.Config{DB: y.db, Ring: ring, Vault: y.vault, Refresher: unneeded{}, CheckURL: func(*url.URL) error { return nil }, Log: log})
	require.NoError(t, err)
	y.Room, err = New(Config{DB: y.db, Vault: y.vault, Trains: y.trains, MCP: y.mcp, Log: log})
	require.NoError(t, err)
	y.work = 8
	require.NoError(t, y.db.Start(context.Background()))
	t.Cleanup(func() {
		y.trains.Close()
		_ = y.ids.Close()
		_ = y.db.Close()
		require.NotContains(t, y.log.String(), planted)
	})
	y.admin = y.person("Ada", identity.Administrator)
	return y
}

// person is somebody with a fresh proof; the row is what grants refer to.
func (y *yard) person(name string, role identity.Role) identity.Caller {
	y.t.Helper()
	id := store.NewID("user")
	require.NoError(y.t, y.db.Write(y.t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1,$2,$3,$4,'',1,0,0)`, id, strings.ToLower(name)+"@example.com", name, string(role)); err != nil {
			return err
		}
		return tx.Record(identity.System("test").Event(store.UserCreate, store.Target{Kind: "user", ID: id}))
	}))
	return identity.Caller{Kind: identity.KindPerson, ID: id, Name: name, UserID: id, Role: role, RequestID: store.NewID("req"), SteppedUpAt: time.Now().Add(time.Hour)}
}

// with returns a request of files, given as names and contents.
func with(pairs ...string) Request {
	var r Request
	for i := 0; i < len(pairs); i += 2 {
		r.Files = append(r.Files, File{Name: pairs[i], Data: []byte(pairs[i+1])})
	}
	return r
}

// run imports; the dry run before it decides the same.
func (y *yard) run(caller identity.Caller, req Request) Report {
	y.t.Helper()
	before := y.count("credentials") + y.count("client_keys") + y.count("trains")
	req.DryRun = true
	dry, err := y.Import(y.t.Context(), caller, req)
	require.NoError(y.t, err)
	require.False(y.t, dry.Applied)
	require.Equal(y.t, before, y.count("credentials")+y.count("client_keys")+y.count("trains"), "a dry run stores nothing")
	req.DryRun = false
	done, err := y.Import(y.t.Context(), caller, req)
	require.NoError(y.t, err)
	require.True(y.t, done.Applied)
	require.Equal(y.t, len(dry.Rows), len(done.Rows))
	for i, d := range dry.Rows {
		a := done.Rows[i]
		if a.Action == Create {
			require.NotEmpty(y.t, a.ID)
		}
		a.ID = ""
		require.Equal(y.t, d, a, "the dry run decides as the act does")
	}
	y.clean(dry, done)
	return done
}

// clean refuses a planted secret in what was told.
func (y *yard) clean(reports ...Report) {
	y.t.Helper()
	for _, r := range reports {
		for _, w := range r.Rows {
			for _, text := range append([]string{w.File, w.Place, w.Name, w.Username, w.Reason, w.Train}, w.Notes...) {
				require.NotContains(y.t, text, planted)
			}
		}
	}
}

func (y *yard) count(table string) (n int) {
	y.t.Helper()
	require.NoError(y.t, y.db.Read(y.t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM `+table) }))
	return n
}

// events returns the actions recorded since the last call, reads left out.
func (y *yard) events() []string {
	y.t.Helper()
	var out []string
	require.NoError(y.t, y.db.Read(y.t.Context(), func(tx *store.Tx) error {
		return tx.Select(&out, `SELECT action FROM audit_events WHERE action LIKE 'credential.%' OR action LIKE 'key.%' OR action LIKE 'train.%' ORDER BY id`)
	}))
	return out
}

// field reveals one field of the credential of that name.
func (y *yard) field(name, field string) string {
	y.t.Helper()
	v, err := y.vault.Reveal(y.t.Context(), y.admin, y.named(name).ID, field, "test")
	require.NoError(y.t, err)
	return v.Reveal()
}

func (y *yard) named(name string) vault.Credential {
	y.t.Helper()
	all, _, err := y.vault.List(y.t.Context(), y.admin, vault.Filter{Limit: 1000})
	require.NoError(y.t, err)
	var found []vault.Credential
	for _, c := range all {
		if c.Name == name {
			found = append(found, c)
		}
	}
	require.Len(y.t, found, 1, name)
	got, err := y.vault.Get(y.t.Context(), y.admin, found[0].ID)
	require.NoError(y.t, err)
	return got
}

// refused imports what must be refused, and returns why; nothing is stored.
func (y *yard) refused(caller identity.Caller, req Request) *fault.Error {
	y.t.Helper()
	before := y.count("credentials") + y.count("client_keys") + y.count("trains")
	_, err := y.Import(y.t.Context(), caller, req)
	require.Error(y.t, err)
	f, ok := fault.As(err)
	require.True(y.t, ok, "%v", err)
	require.NotContains(y.t, f.Error(), planted)
	for _, field := range f.Fields {
		require.NotContains(y.t, field.Pointer+field.Message, planted)
	}
	require.Equal(y.t, before, y.count("credentials")+y.count("client_keys")+y.count("trains"), "nothing is stored")
	return f
}

func why(f *fault.Error) string {
	var out []string
	for _, field := range f.Fields {
		out = append(out, field.Message)
	}
	return strings.Join(out, " | ")
}
