package signalboxtest_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// tokenLife is the shortest lifetime that Signalbox believes a provider.
const tokenLife = 10 * time.Second

// connection is an OAuth credential of a server that we did not write, which a train is lent.
type connection struct {
	t      *testing.T
	server *signalboxtest.OAuthServer
	admin  *client.Client
	id     string
	key    string
}

// connect logs in at the server, stores what that gave, and makes a train of that name with a client key, which every process of the fleet knows.
func connect(t *testing.T, fleet []*signalboxtest.Process, s *signalboxtest.OAuthServer, name string) *connection {
	t.Helper()
	p := fleet[0]
	up, address := signalboxtest.ServeUpstream(t, demo.Options{})
	s.Gate.OnIssue(func(access string, expires time.Time) {
		p.Planted().Add("access token", access)
		up.AddTokenUntil(secret.FromString(access), expires)
	})
	g := s.Grant(t, signalboxtest.ClientConfidential)
	p.Planted().Add("refresh token", g.Refresh)
	p.Planted().Add("client secret", s.Secret)
	c := &connection{t: t, server: s, admin: p.Admin()}
	made, err := c.admin.CreateCredential(t.Context(), client.CredentialDraft{
		Type: "oauth", Name: name, Provider: "anthropic", BaseURL: address,
		OAuth:   &client.OAuth{ExpiresAt: &g.Expires, ClientID: g.ClientID, TokenEndpoint: s.TokenURL, TokenEndpointAuthMethod: "client_secret_basic", TokenRequestFormat: "form"},
		Secrets: map[string]string{"access_token": g.Access, "refresh_token": g.Refresh, "client_secret": s.Secret},
	})
	require.NoError(t, err)
	c.id = made.ID
	_, err = c.admin.CreateTrain(t.Context(), client.TrainDraft{TrainID: name, Name: name})
	require.NoError(t, err)
	_, _, err = c.admin.Link(t.Context(), name, client.LinkDraft{CredentialID: c.id})
	require.NoError(t, err)
	k, err := c.admin.IssueKey(t.Context(), name, client.KeyDraft{Name: "agent"})
	require.NoError(t, err)
	c.key = k.APIKey
	for _, q := range fleet {
		require.Eventually(t, func() bool { return ask(t, q.URL, c.key) == http.StatusOK }, 5*time.Second, 10*time.Millisecond)
	}
	return c
}

// crowd has callers ask the instances until the server has refreshed that often, and requires that each of their requests was answered.
func (c *connection) crowd(urls []string, callers, expiries int) (asked int64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(expiries+3)*tokenLife+time.Minute)
	defer cancel()
	// The pace of a caller: all together they send some two hundred requests a second. At an expiry all of them wait.
	pace := max(300*time.Millisecond, time.Duration(callers)*5*time.Millisecond)
	var n, bad atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				sent, _ := c.server.Gate.Sent()
				a, err := lend(http.DefaultClient, urls[i%len(urls)], c.key, shortPrompt)
				n.Add(1)
				if err != nil || a.status != http.StatusOK {
					if bad.Add(1) < 5 {
						c.t.Errorf("a caller was answered %d %s %v", a.status, a.body, err)
					}
				}
				if sent >= expiries {
					return
				}
				time.Sleep(pace)
			}
		})
	}
	wg.Wait()
	require.NoError(c.t, ctx.Err(), "the tokens did not end %d times", expiries)
	require.Zero(c.t, bad.Load(), "callers failed")
	return n.Load()
}

// requireExactlyOnce compares what the server saw with what is stored.
func (c *connection) requireExactlyOnce(expiries int) {
	c.t.Helper()
	var sent, most, recoveries int
	var counts signalboxtest.OAuthCounts
	var got client.Credential
	var claims map[any]int
	// A token may be ending at this moment as well.
	settled := func() bool {
		var err error
		sent, most = c.server.Gate.Sent()
		counts = c.server.Counts(c.t)
		got, err = c.admin.GetCredential(c.t.Context(), c.id)
		require.NoError(c.t, err)
		claims, recoveries = c.recorded()
		again, _ := c.server.Gate.Sent()
		return sent == again && got.Version == int64(1+sent) && len(claims) == sent && counts.Refreshes == sent
	}
	for end := time.Now().Add(time.Minute); !settled(); {
		require.True(c.t, time.Now().Before(end), "%d calls gave tokens %d times, made version %d and are on record %d times", sent, counts.Refreshes, got.Version, len(claims))
		time.Sleep(100 * time.Millisecond) // a call takes less
	}
	revoked, reuses := counts.Lost()
	require.GreaterOrEqual(c.t, sent, expiries)
	require.Equal(c.t, 1, most, "each refresh token was presented once")
	require.Zero(c.t, revoked, "grants revoked")
	require.Zero(c.t, reuses, "reuses")
	require.Equal(c.t, "healthy", got.Health)
	require.Zero(c.t, recoveries)
}

// recorded returns the calls that the audit log tells of, by claim, and how many of its records speak of a recovery.
func (c *connection) recorded() (claims map[any]int, recoveries int) {
	c.t.Helper()
	claims = map[any]int{}
	for _, action := range []string{"oauth.refresh", "oauth.recovery"} {
		for cursor := ""; ; {
			page, err := c.admin.AuditByCredential(c.t.Context(), c.id, client.AuditFilter{Action: action, Limit: 1000, Cursor: cursor})
			require.NoError(c.t, err)
			for _, e := range page.Events {
				if action == "oauth.refresh" {
					claims[e.Details["claim"]]++
				}
				if action == "oauth.recovery" || e.Details["recovery"] == true {
					recoveries++
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
	}
	return claims, recoveries
}

// TestInvariant02RefreshedExactlyOnce: however many callers of however many processes want a token that ends, each OAuth server that we did not
// write sees one call for each of its refresh tokens, no grant is lost, and every request is answered.
func TestInvariant02RefreshedExactlyOnce(t *testing.T) {
	callers, expiries, soak := 50, 5, os.Getenv("SIGNALBOX_SOAK") != ""
	switch {
	case soak:
		callers, expiries = 200, 50
	case testing.Short():
		callers, expiries = 8, 1
	}
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			if !soak { // at full count one engine is what the processors can do
				t.Parallel()
			}
			p := signalboxtest.NewProcess(t, engine)
			fleet := []*signalboxtest.Process{p}
			if engine == store.Postgres {
				fleet = append(fleet, p.Peer(t, p.DatabaseURL()), p.Peer(t, p.DatabaseURL()))
			}
			var urls []string
			for _, q := range fleet {
				q.Start(t)
				urls = append(urls, q.URL)
			}
			var wg sync.WaitGroup
			for name, start := range oauthServers() {
				c := connect(t, fleet, start(t, signalboxtest.OAuthOptions{Lifetime: tokenLife}), name)
				wg.Go(func() { t.Logf("%s: %d requests of %d callers", name, c.crowd(urls, callers, expiries), callers) })
				defer func() { c.requireExactlyOnce(expiries) }()
			}
			wg.Wait()
		})
	}
}

// crash is a fleet of two with a connection at fosite, which has no grace. The first one is asked until it refreshes, and something happens to it.
type crash struct {
	*connection
	first, second *signalboxtest.Process
}

func newCrash(t *testing.T, first *signalboxtest.Process, name string) *crash {
	t.Helper()
	c := &crash{first: first, second: first.Peer(t, first.DatabaseURL())}
	c.first.Start(t)
	c.second.Start(t)
	c.connection = connect(t, []*signalboxtest.Process{c.first, c.second}, signalboxtest.StartFosite(t, signalboxtest.OAuthOptions{Lifetime: tokenLife}), name)
	c.admin = c.second.Admin() // it lives on
	return c
}

// strike asks the first process until it refreshes, and has something happen while its call is under way: when the server has answered, or before
// it hears of the call, which it never does then.
func (c *crash) strike(heard bool, what func()) {
	c.t.Helper()
	reached := make(chan struct{})
	var first atomic.Bool
	c.server.Gate.Script(func(signalboxtest.TokenCall) signalboxtest.TokenFault {
		if !first.CompareAndSwap(false, true) {
			return signalboxtest.TokenFault{}
		}
		now := func() { what(); close(reached) }
		if heard {
			return signalboxtest.TokenFault{After: now}
		}
		return signalboxtest.TokenFault{Before: now, Status: http.StatusServiceUnavailable}
	})
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			_, _ = lend(http.DefaultClient, c.first.URL, c.key, shortPrompt)
			time.Sleep(200 * time.Millisecond) // the pace of a caller
		}
	}()
	select {
	case <-reached:
	case <-time.After(time.Minute):
		c.t.Fatal("nobody refreshed")
	}
}

// until asks the second process until the health is one of these, and returns it. A request is answered or says legibly that it is not.
func (c *crash) until(within time.Duration, want func(client.Credential) bool) client.Credential {
	c.t.Helper()
	for end := time.Now().Add(within); ; {
		a, err := lend(http.DefaultClient, c.second.URL, c.key, shortPrompt)
		require.NoError(c.t, err)
		require.True(c.t, a.status == http.StatusOK || a.message != "", "%d %s", a.status, a.body)
		got, err := c.admin.GetCredential(c.t.Context(), c.id)
		if err == nil && want(got) {
			c.numbered()
			return got
		}
		require.True(c.t, time.Now().Before(end), "after %v: %+v %v, and a caller is told %d %s", within, got, err, a.status, a.body)
		time.Sleep(250 * time.Millisecond) // the pace of a caller
	}
}

func (c *crash) events(action string) int {
	c.t.Helper()
	page, err := c.admin.AuditByCredential(c.t.Context(), c.id, client.AuditFilter{Action: action, Limit: 1000})
	require.NoError(c.t, err)
	return len(page.Events)
}

// numbered waits until every record has its number, before which no list tells of it: whoever was killed may have been the one who gives them, and
// the next one does so when that claim has lapsed.
func (c *crash) numbered() {
	c.t.Helper()
	db := c.second.OpenReadOnly(c.t)
	require.Eventually(c.t, func() bool {
		report, err := audit.Verify(c.t.Context(), db, audit.VerifyOptions{})
		return err == nil && report.Pending == 0
	}, time.Minute, 100*time.Millisecond)
	require.NoError(c.t, db.Close())
}

// TestARefreshOutlivesItsProcess: what becomes of a connection whose process is killed, or stands still, or loses its database, while it
// refreshes. It goes on with the old token, with the new one, or after a recovery that is on record; or it says once that it needs a login.
func TestARefreshOutlivesItsProcess(t *testing.T) {
	for range postgresOnly() {
		// Each waits for more than a minute and does little, so that they run together, however few processors there are.
		var wg sync.WaitGroup
		run := func(name string, test func(*testing.T)) { wg.Go(func() { t.Run(name, test) }) }
		run("killed before the provider heard", func(t *testing.T) {
			c := newCrash(t, signalboxtest.NewProcess(t, store.Postgres), "unheard")
			c.strike(false, func() { c.first.Kill(t) })
			got := c.until(2*time.Minute, func(g client.Credential) bool { return g.Version == 2 && g.Health == "healthy" })
			require.Equal(t, int64(2), got.Version)
			_, most := c.server.Gate.Sent()
			require.Equal(t, 2, most, "the token was sent once more")
			revoked, reuses := c.server.Counts(t).Lost()
			require.Zero(t, revoked+reuses)
			_, recoveries := c.recorded()
			require.Positive(t, recoveries, "on record")
			require.Positive(t, c.events("oauth.recovery"))
			require.Zero(t, c.events("oauth.needs_login"))
			require.Equal(t, 200, ask(t, c.second.URL, c.key))
		})
		run("killed before it heard the answer", func(t *testing.T) {
			c := newCrash(t, signalboxtest.NewProcess(t, store.Postgres), "unanswered")
			c.strike(true, func() { c.first.Kill(t) })
			got := c.until(2*time.Minute, func(g client.Credential) bool { return g.Health == "needs_login" })
			require.Equal(t, int64(1), got.Version, "nothing was deleted")
			require.Contains(t, got.SecretFields, "refresh_token")
			_, recoveries := c.recorded()
			require.Positive(t, recoveries, "that it was sent once more is on record")
			require.Equal(t, 1, c.events("oauth.needs_login"), "people hear of it once")
			for range 5 {
				require.NotEqual(t, 200, ask(t, c.second.URL, c.key))
			}
			require.Equal(t, 1, c.events("oauth.needs_login"))
			_, most := c.server.Gate.Sent()
			require.Equal(t, 2, most, "and it is not sent again and again")
		})
		run("stopped past its claim", func(t *testing.T) {
			c := newCrash(t, signalboxtest.NewProcess(t, store.Postgres), "stopped")
			c.strike(true, func() { c.first.Signal(t, syscall.SIGSTOP) })
			time.Sleep(33 * time.Second) // a claim holds for 30, and nobody may take it over before 50
			sent, most := c.server.Gate.Sent()
			require.Equal(t, 1, sent, "an expired claim is no permission to refresh")
			require.Equal(t, 1, most)
			c.first.Signal(t, syscall.SIGCONT)
			got := c.until(90*time.Second, func(g client.Credential) bool {
				return g.Version > 1 && g.Health == "healthy" || g.Health == "needs_login"
			})
			_, recoveries := c.recorded()
			_, most = c.server.Gate.Sent()
			if got.Health == "needs_login" { // its deadline was quicker than the answer that lay there
				require.Equal(t, 1, c.events("oauth.needs_login"))
				require.Positive(t, recoveries)
				return
			}
			require.Equal(t, 1, most, "it stored what it had got")
			require.Equal(t, 200, ask(t, c.second.URL, c.key))
		})
		run("killed while its database was away", func(t *testing.T) {
			pg := storetest.Private(t, nil)
			c := newCrash(t, signalboxtest.NewProcessOn(t, pg.Database(t)), "away")
			c.strike(true, func() { pg.Stop(t, "immediate") })
			spilled := func() bool {
				files, err := os.ReadDir(filepath.Join(c.first.DataDir, "spill"))
				return err == nil && slices.ContainsFunc(files, func(f os.DirEntry) bool { return !strings.HasSuffix(f.Name(), ".new") })
			}
			require.Eventually(t, spilled, 15*time.Second, 20*time.Millisecond, "the new tokens are on disk")
			c.first.Kill(t)
			c.first.Planted().AbsentFromFiles(t, filepath.Join(c.first.DataDir, "spill"))
			pg.Start(t)
			c.first.Start(t)
			got := c.until(time.Minute, func(g client.Credential) bool { return g.Version > 1 && g.Health == "healthy" })
			require.GreaterOrEqual(t, got.Version, int64(2))
			_, most := c.server.Gate.Sent()
			require.Equal(t, 1, most, "the token was not spent again")
			revoked, reuses := c.server.Counts(t).Lost()
			require.Zero(t, revoked+reuses)
			require.Zero(t, c.events("oauth.needs_login"))
			require.Equal(t, 200, ask(t, c.second.URL, c.key))
		})
		wg.Wait()
	}
}
