package mcp_test

import (
	"context"
	"fmt"
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
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// planted is in every token; no record and no log may hold it.
const planted = "planted-5e1fd0b7"

// server rotates refresh tokens and revokes what comes twice.
type server struct {
	mu     sync.Mutex
	n      int
	life   time.Duration
	live   map[string]bool
	calls  []provider.Grant
	broken bool
}

func (s *server) grant() secret.Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next()
}

func (s *server) next() secret.Value {
	s.n++
	t := fmt.Sprintf("rt-%d-%s", s.n, planted)
	s.live[t] = true
	return secret.FromString(t)
}

// Refresh implements oauth.Endpoint.
func (s *server) Refresh(_ context.Context, _ provider.Provider, g provider.Grant) provider.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, g)
	switch {
	case s.broken:
		return provider.Answer{Verdict: provider.NotProcessed, Code: provider.CodeDial}
	case !s.live[g.RefreshToken.Reveal()]:
		return provider.Answer{Verdict: provider.Refused, Code: "invalid_grant", Status: 400, Sent: true}
	}
	delete(s.live, g.RefreshToken.Reveal())
	return provider.Answer{Verdict: provider.Issued, Sent: true, Status: 200, Tokens: provider.Tokens{
		Access: secret.FromString(fmt.Sprintf("at-%d-%s", s.n, planted)), Refresh: s.next(), Lifetime: s.life,
	}}
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

type site struct {
	cfg    store.Config
	root   secret.RootKey
	server *server
	log    *strings.Builder
	mu     sync.Mutex
}

func (s *site) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

type instance struct {
	*mcp.Room
	db    *store.DB
	vault *vault.Room
}

func each(t *testing.T, fn func(t *testing.T, s *site, i *instance)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			s := &site{cfg: storetest.Config(t, e), root: root, server: &server{life: time.Hour, live: map[string]bool{}}, log: &strings.Builder{}}
			i := s.open(t)
			fn(t, s, i)
			s.mu.Lock()
			defer s.mu.Unlock()
			require.NotContains(t, s.log.String(), planted)
			for _, b := range bodies(t, i.db) {
				require.NotContains(t, b, planted)
			}
		})
	}
}

func (s *site) open(t *testing.T) *instance {
	t.Helper()
	log := slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := store.Open(context.Background(), s.cfg)
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: s.root})
	require.NoError(t, err)
	i := &instance{db: db}
	ok := func(u *url.URL) error {
		if u.Scheme != "https" || u.Hostname() == "10.0.0.1" {
			return fault.New(fault.Unprocessable, "upstream_refused", "An upstream must be a public https URL.")
		}
		return nil
	}
	i.vault, err = vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, Log: log, CheckURL: ok})
	require.NoError(t, err)
	refresher, err := oauth.New(oauth.Config{DB: db, Vault: i.vault, Ring: ring, Endpoint: s.server, SpillDir: t.TempDir(), Log: log})
	require.NoError(t, err)
	i.Room, err = mcp.New(mcp.Config{DB: db, Ring: ring, Vault: i.vault, Refresher: refresher, CheckURL: ok, Log: log})
	require.NoError(t, err)
	require.NoError(t, db.Start(context.Background()))
	require.NoError(t, refresher.Start())
	t.Cleanup(func() {
		refresher.Close()
		_ = db.Close()
	})
	return i
}

func bodies(t *testing.T, db *store.DB) (out []string) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&out, `SELECT body FROM audit_events ORDER BY id`)
	}))
	return out
}

// actions are what was recorded of this room and of credentials, in its order.
func actions(t *testing.T, db *store.DB) (out []string) {
	t.Helper()
	for _, b := range bodies(t, db) {
		e, err := store.DecodeEvent([]byte(b))
		require.NoError(t, err)
		if s := string(e.Action); strings.HasPrefix(s, "mcp.") || strings.HasPrefix(s, "credential.") {
			out = append(out, s)
		}
	}
	return out
}

func admin() identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: "user_a", Name: "Ada", UserID: "user_a", Role: identity.Administrator, RequestID: "req_1", SteppedUpAt: time.Now().Add(time.Hour)}
}

func member(id string) identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: id, Name: id, UserID: id, Role: identity.Member}
}

// outsider is whom a token speaks of that has a number and an end.
func outsider(n string) identity.Caller {
	return identity.Caller{Kind: identity.KindJWT, ID: "jwi_1/" + n, Name: "Portal / " + n, OnBehalf: n, IssuerID: "jwi_1", Subject: n, Scopes: identity.Scopes{identity.MCPConnect}}
}

func requireFault(t *testing.T, code string, err error) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "want the fault %s, got %v", code, err)
	require.Equal(t, code, f.Code, f.Detail)
	return f
}

func requireSame(t *testing.T, want, got mcp.Token) {
	t.Helper()
	require.Equal(t, want.Value.Reveal(), got.Value.Reveal())
	require.Equal(t, want.CredentialID, got.CredentialID)
	require.Equal(t, want.Version, got.Version)
	require.Equal(t, want.Host, got.Host)
}

func ptr[T any](v T) *T { return &v }

func (s *site) deposit(slug string) mcp.Deposit {
	return mcp.Deposit{Server: slug, Refresh: s.server.grant(), TokenEndpoint: "https://auth.example/token", ClientID: "client", ClientSecret: secret.FromString("cs-" + planted), Scopes: "read  write \"odd\""}
}

func (i *instance) register(t *testing.T, slug string) mcp.Server {
	t.Helper()
	s, err := i.CreateServer(t.Context(), admin(), mcp.ServerEdit{Slug: ptr(slug), URL: ptr("https://" + slug + ".example:8443/mcp")})
	require.NoError(t, err)
	return s
}

// TestADepositIsRefreshed: what was deposited becomes an access token by one call, which is lent from memory until it ends, and to nobody else.
func TestADepositIsRefreshed(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		i.register(t, "files")
		for _, c := range []identity.Caller{member("user_b"), outsider("7")} {
			_, err := i.Token(ctx, c, "files")
			requireFault(t, "mcp_login_required", err)
			before := s.server.count()
			require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
			require.Equal(t, before, s.server.count(), "nothing is tried before it is used")
			got, err := i.Token(ctx, c, "files")
			require.NoError(t, err)
			require.Contains(t, got.Value.Reveal(), "at-")
			require.Equal(t, "files.example:8443", got.Host)
			for range 5 {
				same, err := i.Token(ctx, c, "files")
				require.NoError(t, err)
				requireSame(t, got, same)
			}
			require.Equal(t, before+1, s.server.count())
			again, err := i.Again(ctx, c, "files", got)
			require.NoError(t, err)
			require.NotEqual(t, got.Value.Reveal(), again.Value.Reveal())
			late, err := i.Again(ctx, c, "files", got) // refused the same one
			require.NoError(t, err)
			requireSame(t, again, late)
			require.Equal(t, before+2, s.server.count())
		}
		_, err := i.Token(ctx, outsider("8"), "files")
		requireFault(t, "mcp_login_required", err)
		require.NoError(t, i.Disconnect(ctx, outsider("7"), "files"))
		_, err = i.Token(ctx, outsider("7"), "files")
		requireFault(t, "mcp_login_required", err)
		_, err = i.Token(ctx, member("user_b"), "files")
		require.NoError(t, err)
		require.NoError(t, i.Disconnect(ctx, outsider("7"), "files"), "idempotent")
	})
}

// TestTheHotPathReadsNoDatabase: a token that is held is handed out where the database cannot be asked.
func TestTheHotPathReadsNoDatabase(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		i.register(t, "files")
		require.NoError(t, i.TakeDeposit(t.Context(), member("user_b"), s.deposit("files")))
		_, err := i.Token(t.Context(), member("user_b"), "files")
		require.NoError(t, err)
		require.NoError(t, i.db.CatchUp(t.Context()))
		got, err := i.Token(t.Context(), member("user_b"), "files")
		require.NoError(t, err)
		over, cancel := context.WithCancel(t.Context())
		cancel() // nothing that asks the database or a server comes back from here
		_, err = i.Servers(over, admin())
		require.Error(t, err)
		same, err := i.Token(over, member("user_b"), "files")
		require.NoError(t, err)
		requireSame(t, got, same)
	})
}

// TestADepositReplaces: the second one is what is lent, in the same credential, and the events say what happened.
func TestADepositReplaces(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		i.register(t, "files")
		c := outsider("7")
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		first, err := i.Token(ctx, c, "files")
		require.NoError(t, err)
		next := s.deposit("files")
		require.NoError(t, i.TakeDeposit(ctx, c, next))
		second, err := i.Token(ctx, c, "files")
		require.NoError(t, err)
		require.Equal(t, first.CredentialID, second.CredentialID)
		require.NotEqual(t, first.Value.Reveal(), second.Value.Reveal())
		last := s.server.calls[len(s.server.calls)-1]
		require.Equal(t, next.Refresh.Reveal(), last.RefreshToken.Reveal())
		require.Equal(t, "client", last.ClientID)
		require.Equal(t, "cs-"+planted, last.ClientSecret.Reveal())
		require.NoError(t, i.Disconnect(ctx, c, "files"))
		got := []string{}
		for _, a := range actions(t, i.db) {
			if a != "credential.refresh" { // two each: before and after the call
				got = append(got, a)
			}
		}
		require.Equal(t, []string{"mcp.server_create", "credential.create", "mcp.deposit", "credential.rotate", "mcp.deposit", "credential.delete", "mcp.disconnect"}, got)
	})
}

// TestAnEndedGrantNeedsALogin: the provider's refusal is the caller's affair, its being away is not, and a new deposit mends the first.
func TestAnEndedGrantNeedsALogin(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		i.register(t, "files")
		c := member("user_b")
		d := s.deposit("files")
		d.Refresh = secret.FromString("rt-of-nobody-" + planted)
		require.NoError(t, i.TakeDeposit(ctx, c, d))
		for range 2 {
			_, err := i.Token(ctx, c, "files")
			requireFault(t, "mcp_login_required", err)
		}
		s.server.broken = true
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		_, err := i.Token(ctx, c, "files")
		require.Equal(t, fault.Unavailable, requireFault(t, "refresh_failed", err).Kind)
		s.server.broken = false
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		_, err = i.Token(ctx, c, "files")
		require.NoError(t, err)
		late := s.deposit("files")
		late.SecretEnds = ptr(time.Now().Add(-time.Hour))
		require.NoError(t, i.TakeDeposit(ctx, c, late))
		_, err = i.Token(ctx, c, "files")
		requireFault(t, "mcp_login_required", err)
	})
}

// TestWhatWasStoppedStaysSo: neither a deposit nor a deletion undoes what somebody has contained.
func TestWhatWasStoppedStaysSo(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		i.register(t, "files")
		c := outsider("7")
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		got, err := i.Token(ctx, c, "files")
		require.NoError(t, err)
		require.NoError(t, i.db.Write(ctx, func(tx *store.Tx) error { return i.vault.Compromise(tx, admin(), got.CredentialID) }))
		require.NoError(t, i.db.CatchUp(ctx))
		refused := func() {
			t.Helper()
			_, err := i.Token(ctx, c, "files")
			requireFault(t, "mcp_connection_barred", err)
			_, err = i.Again(ctx, c, "files", got)
			requireFault(t, "mcp_connection_barred", err)
		}
		refused()
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		refused()
		require.NoError(t, i.Disconnect(ctx, c, "files"))
		refused()
		require.NoError(t, i.Disconnect(ctx, c, "files"))
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		refused()
		require.NoError(t, i.TakeDeposit(ctx, outsider("8"), s.deposit("files")))
		_, err = i.Token(ctx, outsider("8"), "files")
		require.NoError(t, err, "another subject's is another connection")
	})
}

// TestNobodysTokenIsSwapped: who can write into the table of connections gets nobody else's token.
func TestNobodysTokenIsSwapped(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		i.register(t, "files")
		i.register(t, "mail")
		require.NoError(t, i.TakeDeposit(ctx, outsider("7"), s.deposit("files")))
		write := func(query string, args ...any) {
			t.Helper()
			require.NoError(t, i.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
				n, err := tx.Exec(query, args...)
				require.EqualValues(t, 1, n)
				return err
			}))
		}
		write(`UPDATE mcp_connections SET subject = $1`, "jwi_1#8")
		_, err := i.Token(ctx, outsider("8"), "files")
		requireFault(t, "mcp_connection_barred", err)
		write(`UPDATE mcp_connections SET subject = $1, server = $2`, "jwi_1#7", "mail")
		_, err = i.Token(ctx, outsider("7"), "mail")
		requireFault(t, "mcp_connection_barred", err)
		write(`UPDATE mcp_connections SET server = $1`, "files")
		write(`UPDATE credentials SET oauth_token_endpoint = $1`, "https://evil.example/token")
		_, err = i.Token(ctx, outsider("7"), "files")
		requireFault(t, "mcp_connection_barred", err)
		require.Zero(t, s.server.count(), "nothing was sent anywhere")
		require.NoError(t, i.TakeDeposit(ctx, outsider("7"), s.deposit("files")))
		_, err = i.Token(ctx, outsider("7"), "files")
		requireFault(t, "mcp_connection_barred", err)
	})
}

// TestWhoseConnection: the subject comes from the caller, and unknown means no.
func TestWhoseConnection(t *testing.T) {
	bare := outsider("7")
	bare.Scopes = identity.Scopes{identity.CredentialWrite}
	noSubject := outsider("")
	token := identity.Caller{Kind: identity.KindToken, UserID: "user_b", Role: identity.Member}
	auditor := member("user_c")
	auditor.Role = identity.Auditor
	for want, list := range map[string][]identity.Caller{
		"scope_missing":   {bare, token},
		"forbidden":       {auditor, {Kind: identity.KindClientKey, TrainID: "train_1"}, {Kind: identity.KindPerson, Role: identity.Member}, {Kind: "odd", UserID: "user_b", Role: identity.Member}, identity.System("chore")},
		"unauthenticated": {noSubject, outsider("a\nb"), outsider("a "), outsider(strings.Repeat("x", 400)), {}, {Kind: identity.KindAnonymous, UserID: "user_b"}},
	} {
		for _, c := range list {
			_, err := mcp.Subject(c)
			requireFault(t, want, err)
		}
	}
	for want, c := range map[string]identity.Caller{"jwi_1#7": outsider("7"), "user_b": member("user_b")} {
		got, err := mcp.Subject(c)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// TestServersAreKept: who may not register one is refused on record; addresses are guarded; a server that is switched off or gone lends nothing.
func TestServersAreKept(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		ctx := t.Context()
		_, err := i.CreateServer(ctx, member("user_b"), mcp.ServerEdit{Slug: ptr("files"), URL: ptr("https://files.example/mcp")})
		requireFault(t, "forbidden", err)
		_, err = i.Servers(ctx, outsider("7"))
		requireFault(t, "forbidden", err)
		for _, bad := range []string{"", "files", "http://files.example/mcp", "https://10.0.0.1/mcp", "https://u:p@files.example", "https://files.example?x=1", "https://files.example/#x"} {
			_, err = i.CreateServer(ctx, admin(), mcp.ServerEdit{Slug: ptr("files"), URL: &bad})
			require.Equal(t, fault.Unprocessable, fault.KindOf(err), bad)
		}
		for _, bad := range []string{"", "a\x00b", strings.Repeat("ä", 256)} {
			_, err = i.CreateServer(ctx, admin(), mcp.ServerEdit{Slug: &bad, URL: ptr("https://files.example/mcp")})
			requireFault(t, "validation_failed", err)
		}
		made := i.register(t, "files")
		_, err = i.CreateServer(ctx, admin(), mcp.ServerEdit{Slug: ptr("files"), URL: ptr("https://files.example/mcp")})
		requireFault(t, "already_exists", err)
		_, err = i.UpdateServer(ctx, admin(), made.ID, mcp.ServerEdit{Auth: ptr(mcp.Auth("odd"))})
		requireFault(t, "validation_failed", err)
		_, err = i.UpdateServer(ctx, admin(), made.ID, mcp.ServerEdit{Slug: ptr("other")})
		requireFault(t, "validation_failed", err)
		open, err := i.UpdateServer(ctx, admin(), made.ID, mcp.ServerEdit{Auth: ptr(mcp.AuthNone), IfMatch: made.ETag()})
		require.NoError(t, err)
		got, err := i.Token(ctx, member("user_b"), "files")
		require.NoError(t, err)
		require.True(t, got.Value.IsZero())
		_, err = i.UpdateServer(ctx, admin(), made.ID, mcp.ServerEdit{Active: ptr(false), IfMatch: made.ETag()})
		requireFault(t, "etag_mismatch", err)
		_, err = i.UpdateServer(ctx, admin(), made.ID, mcp.ServerEdit{Active: ptr(false)})
		require.NoError(t, err)
		_, err = i.Token(ctx, member("user_b"), "files")
		requireFault(t, "not_found", err)
		requireFault(t, "etag_mismatch", i.DeleteServer(ctx, admin(), made.ID, open.ETag()))
		require.NoError(t, i.DeleteServer(ctx, admin(), made.ID, ""))
		_, err = i.Server("files")
		requireFault(t, "not_found", err)
		list, err := i.Servers(ctx, admin())
		require.NoError(t, err)
		require.Empty(t, list)
		require.Equal(t, []string{"mcp.refused", "mcp.refused", "mcp.server_create", "mcp.server_update", "mcp.server_update", "mcp.server_delete"}, actions(t, i.db))
	})
}

// TestTwoInstances: what one takes or ends, the other lends or forgets.
func TestTwoInstances(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		if s.cfg.PostgresURL.IsZero() {
			return // SQLite has one process
		}
		ctx := t.Context()
		j := s.open(t)
		i.register(t, "files")
		require.NoError(t, j.db.CatchUp(ctx))
		c := outsider("7")
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		first, err := j.Token(ctx, c, "files")
		require.NoError(t, err)
		require.NoError(t, i.TakeDeposit(ctx, c, s.deposit("files")))
		require.NoError(t, j.db.CatchUp(ctx))
		second, err := j.Token(ctx, c, "files")
		require.NoError(t, err)
		require.NotEqual(t, first.Value.Reveal(), second.Value.Reveal())
		require.NoError(t, i.Disconnect(ctx, c, "files"))
		require.NoError(t, j.db.CatchUp(ctx))
		_, err = j.Token(ctx, c, "files")
		requireFault(t, "mcp_login_required", err)

		// Both at once: one connection, one credential.
		errs := make(chan error, 8)
		for n := range 8 {
			at := []*instance{i, j}[n%2]
			d := s.deposit("files")
			go func() { errs <- at.TakeDeposit(ctx, c, d) }()
		}
		for range 8 {
			require.NoError(t, <-errs)
		}
		var n []int
		require.NoError(t, i.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Select(&n, `SELECT COUNT(*) FROM credentials UNION ALL SELECT COUNT(*) FROM mcp_connections`)
		}))
		require.Equal(t, []int{1, 1}, n)
	})
}

// TestCheckNamesWhatIsWrong: each field by the name that callers use, and nothing of what it holds.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	each(t, func(t *testing.T, s *site, i *instance) {
		bad := s.deposit("files\n")
		bad.TokenEndpoint, bad.AuthMethod, bad.Refresh = "http://"+planted+".example", planted, secret.FromString(strings.Repeat("x", 65<<10))
		var names []string
		for _, f := range i.Check(bad) {
			require.NotContains(t, f.Message, planted)
			names = append(names, f.Pointer)
		}
		require.ElementsMatch(t, []string{"mcpServerId", "tokenEndpoint", "tokenEndpointAuthMethod", "refreshToken"}, uniq(names))
		err := i.TakeDeposit(t.Context(), member("user_b"), bad)
		requireFault(t, "validation_failed", err)
		require.Empty(t, i.Check(s.deposit("files")))
	})
}

func uniq(in []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range in {
		if !seen[s] {
			out = append(out, s)
		}
		seen[s] = true
	}
	return out
}
