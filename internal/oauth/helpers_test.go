package oauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// planted is in every token; no record, no log and no error may hold it.
const planted = "planted-9d2c71aa"

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// server plays a provider that rotates its refresh tokens and revokes a grant whose spent token comes again.
type server struct {
	mu       sync.Mutex
	clock    *clock
	lifetime time.Duration
	grace    time.Duration
	keeps    bool // it does not rotate

	n      int
	tokens map[string]*issued // by refresh token
	dead   map[int]bool       // grants that were revoked
	grants int
	posts  []post
	script []func(normal func() provider.Answer) provider.Answer
	// during runs while a call is under way, outside the lock.
	during func()
}

type issued struct {
	grant int
	spent time.Time
}

type post struct{ token string }

func newServer(c *clock) *server {
	return &server{clock: c, lifetime: 10 * time.Minute, tokens: map[string]*issued{}, dead: map[int]bool{}}
}

// login makes a grant.
func (s *server) login() (access, refresh string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants++
	return s.pair(s.grants)
}

func (s *server) pair(grant int) (access, refresh string) {
	s.n++
	refresh = fmt.Sprintf("rt-%d-%s", s.n, planted)
	s.tokens[refresh] = &issued{grant: grant}
	return fmt.Sprintf("at-%d-%s", s.n, planted), refresh
}

// next makes the coming calls end so; normal is what the server would do.
func (s *server) next(steps ...func(normal func() provider.Answer) provider.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, steps...)
}

// Refresh implements oauth.Endpoint.
func (s *server) Refresh(_ context.Context, _ provider.Provider, g provider.Grant) provider.Answer {
	s.mu.Lock()
	during := s.during
	s.mu.Unlock()
	if during != nil {
		during()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := g.RefreshToken.Reveal()
	s.posts = append(s.posts, post{token})
	if len(s.script) > 0 {
		step := s.script[0]
		s.script = s.script[1:]
		return step(func() provider.Answer { return s.process(token) })
	}
	return s.process(token)
}

func (s *server) process(token string) provider.Answer {
	t := s.tokens[token]
	now := s.clock.Now()
	if t == nil || s.dead[t.grant] {
		return provider.Answer{Verdict: provider.Refused, Code: "invalid_grant", Status: 400, Sent: true}
	}
	if !t.spent.IsZero() && now.After(t.spent.Add(s.grace)) {
		s.dead[t.grant] = true
		return provider.Answer{Verdict: provider.Refused, Code: "invalid_grant", Status: 400, Sent: true}
	}
	answer := provider.Answer{Verdict: provider.Issued, Status: 200, Sent: true}
	if s.keeps {
		s.n++
		answer.Tokens = provider.Tokens{Access: secret.FromString(fmt.Sprintf("at-%d-%s", s.n, planted)), Lifetime: s.lifetime}
		return answer
	}
	if t.spent.IsZero() {
		t.spent = now
	}
	access, refresh := s.pair(t.grant)
	answer.Tokens = provider.Tokens{Access: secret.FromString(access), Refresh: secret.FromString(refresh), Lifetime: s.lifetime}
	return answer
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.posts)
}

func (s *server) revoked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dead)
}

func (s *server) hold(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.during = f
}

// Ways in which a call can end.
func lostAnswer(normal func() provider.Answer) provider.Answer {
	normal()
	return provider.Answer{Verdict: provider.Ambiguous, Code: provider.CodeTimeout, Sent: true}
}

func lostRequest(func() provider.Answer) provider.Answer {
	return provider.Answer{Verdict: provider.Ambiguous, Code: provider.CodeBroken, Sent: true}
}

func answers(v provider.Verdict, code string, status int, after time.Duration) func(func() provider.Answer) provider.Answer {
	return func(func() provider.Answer) provider.Answer {
		return provider.Answer{Verdict: v, Code: code, Status: status, RetryAfter: after, Sent: true}
	}
}

// site is what processes share: a database, its root key, a clock, a provider, and a machine with its disk.
type site struct {
	t      *testing.T
	cfg    store.Config
	root   secret.RootKey
	clock  *clock
	server *server
	disk   string
	// name of the provider: acme, or lenient, which takes a spent token again for a while.
	name string
	// mended is when somebody last set anything of the provider.
	mended time.Time
	first  *process
	logs   *lines
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// process is one instance.
type process struct {
	*oauth.Room
	db    *store.DB
	vault *vault.Room
	disk  string

	mu    sync.Mutex
	point oauth.Point
	fail  error
	do    func()
}

var errKilled = errors.New("killed")

// dies makes the process end at a point.
func (p *process) dies(at oauth.Point) { p.set(at, errKilled, nil) }

// meets makes something happen at a point, once.
func (p *process) meets(at oauth.Point, do func()) { p.set(at, nil, do) }

func (p *process) set(at oauth.Point, fail error, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.point, p.fail, p.do = at, fail, do
}

func (p *process) at(point oauth.Point) error {
	p.mu.Lock()
	if p.point != point {
		p.mu.Unlock()
		return nil
	}
	fail, do := p.fail, p.do
	p.point, p.do = "", nil
	p.mu.Unlock()
	if do != nil {
		do()
	}
	return fail
}

func each(t *testing.T, fn func(t *testing.T, s *site)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newSite(t, e)) })
	}
}

func newSite(t *testing.T, e store.Engine) *site {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	s := &site{t: t, cfg: storetest.Config(t, e), root: root, clock: &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}, disk: t.TempDir(), name: "acme", logs: &lines{}}
	s.server = newServer(s.clock)
	s.cfg.Clock = s.clock.Now
	t.Cleanup(func() { require.NotContains(t, s.logs.String(), planted) })
	return s
}

// open starts a process. On SQLite there is one database connection for all, as one process would have.
func (s *site) open() *process {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := &process{disk: s.disk}
	if s.cfg.PostgresURL.IsZero() && s.first != nil {
		p.db, p.vault = s.first.db, s.first.vault
		p.Room = s.room(p, log)
		require.NoError(s.t, p.Start())
		s.t.Cleanup(p.Close)
		return p
	}
	db, err := store.Open(context.Background(), s.cfg)
	require.NoError(s.t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: s.root})
	require.NoError(s.t, err)
	p.db = db
	p.vault, err = vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, Log: log, CheckURL: func(*url.URL) error { return nil }})
	require.NoError(s.t, err)
	p.Room = s.room(p, log)
	require.NoError(s.t, db.Start(context.Background()))
	require.NoError(s.t, p.Start())
	s.t.Cleanup(func() {
		p.Close()
		_ = db.Close()
	})
	if s.first == nil {
		s.first = p
	}
	return p
}

func (s *site) room(p *process, log *slog.Logger) *oauth.Room {
	s.t.Helper()
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: p.db, Root: s.root})
	require.NoError(s.t, err)
	room, err := oauth.New(oauth.Config{DB: p.db, Vault: p.vault, Ring: ring, Endpoint: s, Servers: servers{s}, SpillDir: p.disk, Log: log, Clock: s.clock.Now, At: p.at})
	require.NoError(s.t, err)
	return room
}

// servers knows acme, which is strict, and lenient, which takes a spent token again for a while.
type servers struct{ site *site }

func (s servers) Lookup(_ *store.Tx, name string) (oauth.Server, bool, error) {
	p := provider.Provider{Name: name, TokenURLs: []string{"https://auth.example/token"}, Auth: provider.AuthNone, Format: provider.Form}
	if name == "lenient" {
		p.Grace = lenience
	}
	return oauth.Server{Provider: p, Changed: s.site.mended}, name == "lenient" || name == "acme", nil
}

// Refresh implements oauth.Endpoint: the provider's grace is the site's.
func (s *site) Refresh(ctx context.Context, p provider.Provider, g provider.Grant) provider.Answer {
	return s.server.Refresh(ctx, p, g)
}

// lenience is the lenient provider's grace.
const lenience = 3 * time.Minute

// lenient makes the provider take spent tokens again for a while.
func (s *site) lenient() {
	s.name, s.server.grace = "lenient", lenience
}

func admin() identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: "user_a", Name: "Ada", UserID: "user_a", Role: identity.Administrator, RequestID: "req_1", SteppedUpAt: time.Now().Add(time.Hour)}
}

// connect stores a connection as a login would, and returns its id.
func (s *site) connect(p *process) string {
	s.t.Helper()
	access, refresh := s.server.login()
	ends := s.clock.Now().Add(s.server.lifetime)
	name := "acc " + store.NewID("x")
	c, err := p.vault.Create(context.Background(), admin(), vault.Draft{Type: vault.OAuth,
		Meta:    vault.Meta{Name: name, Provider: s.name, Hosts: []string{"api.example"}, OAuth: vault.OAuthMeta{ExpiresAt: &ends, ClientID: "client"}},
		Secrets: map[string]secret.Value{"access_token": secret.FromString(access), "refresh_token": secret.FromString(refresh)}})
	require.NoError(s.t, err)
	return c.ID
}

// pair returns the stored tokens and the version that they are.
func (p *process) pair(t testing.TB, id string) (access, refresh string, version int64) {
	t.Helper()
	require.ErrorIs(t, p.db.Write(context.Background(), func(tx *store.Tx) error {
		g, err := p.vault.OpenGrant(tx, id)
		if err != nil {
			return err
		}
		m, err := p.vault.Material(tx, id)
		if err != nil {
			return err
		}
		require.Equal(t, g.Version, m.Version)
		access, refresh, version = m.Secrets["access_token"].Reveal(), g.RefreshToken.Reveal(), g.Version
		return errRollback
	}), errRollback)
	return access, refresh, version
}

var errRollback = errors.New("rolled back")

// health is what lists show.
func (p *process) health(t testing.TB, id string) vault.Health {
	t.Helper()
	var h vault.Health
	require.NoError(t, p.db.Read(context.Background(), func(tx *store.Tx) error {
		c, err := p.vault.Resolve(tx, id)
		h = c.Health
		return err
	}))
	return h
}

func (p *process) state(t testing.TB, id string) oauth.State {
	t.Helper()
	st, err := oauth.StateOf(context.Background(), p.db, id)
	require.NoError(t, err)
	return st
}

// needs asks for a newer token as a request with an old one does.
func (p *process) needs(t testing.TB, id string) (int64, error) {
	t.Helper()
	_, _, version := p.pair(t, id)
	return p.Fresh(context.Background(), id, version, oauth.Needed)
}

func (p *process) mustRefresh(t testing.TB, id string) int64 {
	t.Helper()
	v, err := p.needs(t, id)
	require.NoError(t, err)
	return v
}

func requireFault(t testing.TB, code string, err error) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "want the fault %s, got %v", code, err)
	require.Equal(t, code, f.Code, f.Detail)
	require.NotContains(t, f.Detail, planted)
	return f
}

// events returns the records of these actions as "action outcome reason", oldest first.
func (p *process) events(t testing.TB, actions ...store.Action) []store.Event {
	t.Helper()
	var out []store.Event
	require.NoError(t, p.db.Read(context.Background(), func(tx *store.Tx) error {
		out = nil
		var bodies [][]byte
		if err := tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`); err != nil {
			return err
		}
		for _, b := range bodies {
			require.NotContains(t, string(b), planted)
			ev, err := store.DecodeEvent(b)
			require.NoError(t, err)
			for _, a := range actions {
				if ev.Action == a {
					out = append(out, ev)
				}
			}
		}
		return nil
	}))
	return out
}

func words(evs []store.Event) []string {
	out := []string{}
	for _, ev := range evs {
		out = append(out, strings.TrimSpace(string(ev.Action)+" "+ev.Outcome+" "+ev.Reason))
	}
	return out
}

func detail(t testing.TB, ev store.Event, key string) string {
	t.Helper()
	d, ok := ev.Details.Get(key)
	require.True(t, ok, "no detail %s", key)
	return d.Text()
}

// channel makes people reachable; told returns the titles of what they are sent.
func (p *process) channel(t testing.TB) {
	t.Helper()
	require.NoError(t, p.db.Bookkeep(context.Background(), store.Outbox, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO notify_channels (id, kind, name, enabled, severity, kinds, settings, secret_fields, secret_version, sealed, hold_until, created_at, updated_at, revision)
			VALUES ('ntc_1','slack','ops',1,'info','[]','{}','[]',1,$1,0,1,1,1)`, []byte{})
		return err
	}))
}

func (p *process) told(t testing.TB) []string {
	t.Helper()
	titles := []string{}
	require.NoError(t, p.db.Read(context.Background(), func(tx *store.Tx) error {
		var bodies []string
		if err := tx.Select(&bodies, `SELECT m.body FROM notify_messages m JOIN notify_deliveries d ON d.message_id = m.id ORDER BY m.id`); err != nil {
			return err
		}
		titles = titles[:0]
		for _, b := range bodies {
			require.NotContains(t, b, planted)
			var m struct{ Title string }
			require.NoError(t, json.Unmarshal([]byte(b), &m))
			titles = append(titles, m.Title)
		}
		return nil
	}))
	return titles
}

// cleared waits until no file is left: who waits for a pair is told when it is stored, perhaps by the feed, and its files go after that.
func (s *site) cleared() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.spilled()) == 0 }, 10*time.Second, time.Millisecond)
}

// spent waits until no overtaken pair is kept.
func (p *process) spent(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Spare() == 0 }, 10*time.Second, time.Millisecond)
}

// spilled are the files on the disk of the site, which hold nothing readable.
func (s *site) spilled() []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.disk)
	require.NoError(s.t, err)
	out := []string{}
	for _, e := range entries {
		b, err := os.ReadFile(s.disk + "/" + e.Name())
		info, gone := e.Info()
		if errors.Is(errors.Join(err, gone), fs.ErrNotExist) {
			continue // cleared meanwhile
		}
		require.NoError(s.t, errors.Join(err, gone))
		require.NotContains(s.t, string(b), planted)
		require.EqualValues(s.t, 0o600, info.Mode().Perm())
		out = append(out, e.Name())
	}
	return out
}

// hide takes the table of connections away, as a database that cannot be written does; it returns what brings it back.
func (p *process) hide(t testing.TB) (back func()) {
	t.Helper()
	rename := func(from, to string) {
		require.NoError(t, p.db.Bookkeep(context.Background(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to)
			return err
		}))
	}
	rename("oauth_connections", "hidden_connections")
	return func() { rename("hidden_connections", "oauth_connections") }
}

// storetestLine puts a line that can be cut before the site's PostgreSQL.
func storetestLine(t *testing.T, s *site) *storetest.Line {
	t.Helper()
	line := storetest.NewLine(t, s.cfg.PostgresURL.Reveal())
	s.cfg.PostgresURL = secret.FromString(line.URL)
	return line
}
