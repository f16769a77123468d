package signalboxtest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// deed is what befalls a process at a step of a refresh.
type deed string

const (
	killed   deed = "kill -9"
	stopped  deed = "SIGSTOP past the claim"
	away     deed = "the database stops"
	diskFull deed = "the disk is full"
)

// mishap is one row of the table: what befalls which process at which step, before which provider.
type mishap struct {
	engine store.Engine
	step   oauth.Point
	deed   deed
	grace  bool // the provider takes a refresh token again for a while
}

func (m mishap) String() string {
	grace := "strict"
	if m.grace {
		grace = "with grace"
	}
	return fmt.Sprintf("%s/%s at %s/%s", m.engine, m.deed, m.step, grace)
}

// fate is how a refresh that met a mishap may end.
type fate struct {
	// sent is how often the refresh token was sent to the provider that was sent most often.
	sent int
	// recovered says that a recovery is on record, and lost that the account needs a login in the end.
	recovered, lost bool
}

// fate says what comes of a mishap. Where two processes race, there is more than one way.
func (m mishap) fate() []fate {
	onDisk := m.step == oauth.AtSpilled || m.step == oauth.AtCommitted || m.step == oauth.AtCleared
	switch {
	case m.deed == stopped && (m.step == oauth.AtClaimed || m.step == oauth.AtSending):
		// It gives up its claim, which was recovered meanwhile; or it was not, with nobody there to do it.
		return []fate{{sent: 1, recovered: true}, {sent: 1}}
	case m.deed == stopped && m.step == oauth.AtAnswered && m.grace:
		return []fate{{sent: 2, recovered: true}, {sent: 1, recovered: true}, {sent: 1}}
	case m.deed == stopped && m.step == oauth.AtAnswered:
		return []fate{{sent: 2, recovered: true, lost: true}, {sent: 2, recovered: true}, {sent: 1, recovered: true}, {sent: 1}}
	case m.deed == stopped && m.step == oauth.AtSpilled:
		// Somebody else recovered, with the token that was spent: with a grace it gave another pair, else the pair on disk is what saves the account.
		all := []fate{{sent: 2, recovered: true}, {sent: 1, recovered: true}, {sent: 1}}
		if !m.grace {
			all = append(all, fate{sent: 2, recovered: true, lost: true})
		}
		return all
	case onDisk, m.deed != killed:
		return []fate{{sent: 1}}
	case m.step == oauth.AtAnswered && !m.grace:
		return []fate{{sent: 2, recovered: true, lost: true}} // the provider had issued a pair, and nobody has it
	case m.step == oauth.AtAnswered:
		return []fate{{sent: 2, recovered: true}}
	}
	return []fate{{sent: 1, recovered: true}}
}

// mishaps is the table.
func mishaps() (all []mishap) {
	for _, e := range storetest.Engines() {
		for _, grace := range []bool{false, true} {
			for _, step := range oauth.Points() {
				all = append(all, mishap{e, step, killed, grace}, mishap{e, step, stopped, grace})
			}
			all = append(all, mishap{e, oauth.AtAnswered, diskFull, grace})
			if e == store.Postgres {
				all = append(all, mishap{e, oauth.AtAnswered, away, grace}, mishap{e, oauth.AtSpilled, away, grace})
			}
		}
	}
	return all
}

// TestCrashAtEachStep: a real process that refreshes is killed at each step, or stopped there past its claim, or loses its database or its disk. On
// PostgreSQL another process goes on, on SQLite it is started again. The account goes on with the old token, the new one or one of a recovery that
// is on record, or needs a login, of which people hear once. A sample of the table, unless SIGNALBOX_SOAK is set.
func TestCrashAtEachStep(t *testing.T) {
	table := mishaps()
	if os.Getenv("SIGNALBOX_SOAK") == "" {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		table = sample(table, rand.New(rand.NewPCG(seed, 0)))
	}
	// Most of the time they wait, so that some run together, however few processors there are.
	var wg sync.WaitGroup
	turn := make(chan struct{}, 6)
	for _, m := range table {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			t.Run(m.String(), func(t *testing.T) { befall(t, m) })
		})
	}
	wg.Wait()
}

// sample is what is quick: a kill on each engine.
func sample(table []mishap, r *rand.Rand) (some []mishap) {
	for _, e := range storetest.Engines() {
		var quick []mishap
		for _, m := range table {
			if m.engine == e && (m.deed == killed || m.deed == diskFull) {
				quick = append(quick, m)
			}
		}
		some = append(some, quick[r.IntN(len(quick))])
	}
	return some
}

// befall plays one row.
func befall(t *testing.T, m mishap) {
	c := newStep(t, m)
	point := c.failpoints.Arm(t, string(m.step))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = c.first.Admin().RefreshCredential(ctx, c.id, true)
	}()
	defer func() { cancel(); <-asked }()
	point.Reached(t)
	switch m.deed {
	case killed:
		c.first.Kill(t)
		point.Release()
		c.pass(t, claimLapses)
		c.first.Start(t)
	case stopped:
		c.first.Signal(t, syscall.SIGSTOP)
		point.Release()
		c.outwait(t)
		c.first.Signal(t, syscall.SIGCONT)
	case away:
		c.server.Stop(t, "immediate")
		point.Release()
		require.Eventually(t, func() bool {
			files, err := filepath.Glob(filepath.Join(c.first.DataDir, "spill", "*.pair"))
			return err == nil && len(files) == 1
		}, time.Minute, 10*time.Millisecond, "the pair is on disk")
		c.server.Start(t)
	case diskFull:
		disk := filepath.Join(c.first.DataDir, "spill")
		require.NoError(t, os.Remove(disk)) // what is no directory takes no file, from root neither
		require.NoError(t, os.WriteFile(disk, nil, 0o600))
		point.Release()
	}
	got := c.end(t)
	require.Contains(t, m.fate(), got)
	if got.lost {
		c.requireLost(t)
	} else {
		c.requireAlive(t)
	}
	if m.deed == diskFull {
		require.Contains(t, string(c.first.Log()), "could not be put on disk")
	}
}

// step is a fleet with an account at fosite, whose first process can be held up.
type step struct {
	mishap
	first, second *signalboxtest.Process // on SQLite there is no second
	failpoints    *signalboxtest.Failpoints
	provider      *signalboxtest.OAuthServer
	server        *storetest.Server // of its own, when it is stopped
	admin         *client.Client
	id            string
}

// claimLapses is when somebody else may judge a claim: it holds for thirty seconds, and twenty are granted on top.
const claimLapses = 50 * time.Second

// graceful is longer than any row takes.
const graceful = 10 * time.Minute

func newStep(t *testing.T, m mishap) *step {
	t.Helper()
	c := &step{mishap: m}
	if m.deed == away {
		c.server = storetest.Private(t, nil)
		c.first = signalboxtest.NewProcessOn(t, c.server.Database(t))
	} else {
		c.first = signalboxtest.NewProcess(t, m.engine)
	}
	if m.engine == store.Postgres {
		c.second = c.first.Peer(t, c.first.DatabaseURL())
		c.second.Start(t)
	}
	c.failpoints = c.first.Failpoints(t)
	c.first.Start(t)
	o := signalboxtest.OAuthOptions{Lifetime: tokenLife}
	if m.grace {
		o.Grace = graceful
	}
	c.provider = signalboxtest.StartFosite(t, o)
	planted := c.first.Planted()
	c.provider.Gate.OnIssue(func(access string, _ time.Time) { planted.Add("access token", access) })
	g := c.provider.Grant(t, signalboxtest.ClientConfidential)
	planted.Add("refresh token", g.Refresh)
	planted.Add("client secret", c.provider.Secret)
	c.admin = c.first.Admin()
	if c.second != nil {
		c.admin = c.second.Admin()
	}
	name, grace := "acme", int64(o.Grace/time.Second)
	_, err := c.admin.AddOAuthProvider(t.Context(), client.OAuthProviderEdit{Name: &name, AuthorizeURL: &c.provider.AuthorizeURL, TokenURLs: &[]string{c.provider.TokenURL},
		ClientID: &g.ClientID, ClientSecret: &c.provider.Secret, GraceSeconds: &grace})
	require.NoError(t, err)
	made, err := c.admin.CreateCredential(t.Context(), client.CredentialDraft{Type: "oauth", Name: "account", Provider: name, Hosts: []string{"api.example.com"},
		OAuth: &client.OAuth{ExpiresAt: &g.Expires, ClientID: g.ClientID}, Secrets: map[string]string{"access_token": g.Access, "refresh_token": g.Refresh}})
	require.NoError(t, err)
	c.id = made.ID
	// Nobody listens there: what counts is that the message is written.
	_, err = c.admin.CreateChannel(t.Context(), client.ChannelDraft{Kind: "slack", Name: "ops", Secrets: map[string]string{"url": "http://127.0.0.1:9/services/nobody"}})
	require.NoError(t, err)
	return c
}

// pass makes the claim older. What a test can wait for it waits for; here that is most of a minute in each row.
func (c *step) pass(t *testing.T, d time.Duration) {
	t.Helper()
	cfg := store.Config{DataDir: c.first.DataDir}
	if c.second != nil {
		cfg = store.Config{DataDir: t.TempDir(), PostgresURL: secret.FromString(c.first.DatabaseURL())}
	}
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE oauth_connections SET claim_until = claim_until - $1 WHERE credential_id = $2`, d.Microseconds(), c.id)
		return err
	}))
	require.NoError(t, db.Close())
}

// outwait waits until the claim has lapsed, and until somebody has seen that where there is somebody.
func (c *step) outwait(t *testing.T) {
	t.Helper()
	until := time.Now().Add(claimLapses + time.Second)
	for time.Now().Before(until) {
		sent, _ := c.provider.Gate.Sent()
		require.LessOrEqual(t, sent, 1, "an expired claim is no permission to refresh")
		time.Sleep(time.Second) // real time has to pass: the process compares its own clocks
	}
	if c.second != nil {
		_ = c.settle(t)
	}
}

// settle asks whoever is there for a refresh until it has come to an end, and returns the connection.
func (c *step) settle(t *testing.T) (got client.Connection) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		got, err = c.admin.GetConnection(t.Context(), c.id)
		if err != nil {
			return false // the database is coming back
		}
		if got.State == "needs_login" || got.State == "ready" && got.Generation > 1 {
			return true
		}
		_, _ = c.admin.RefreshCredential(t.Context(), c.id, true)
		return false
	}, 2*time.Minute, 100*time.Millisecond)
	return got
}

// end waits until nothing is under way any more, and says what came of it.
func (c *step) end(t *testing.T) (got fate) {
	t.Helper()
	conn := c.settle(t)
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(c.first.DataDir, "spill", "*"))
		require.NoError(t, err)
		owed := slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, ".pair") })
		conn, err = c.admin.GetConnection(t.Context(), c.id)
		// A pair that was overtaken stays, unless the account needs it: then it is tried.
		return err == nil && !owed && (conn.State == "ready" || conn.State == "needs_login" && len(files) == 0)
	}, time.Minute, 10*time.Millisecond, "nothing is under way, and no pair is owed to the database")
	sent, most := c.provider.Gate.Sent()
	calls, recoveries := c.recorded(t) // afterwards: each intent was there before its call
	require.LessOrEqual(t, sent, calls, "each call is on record")
	require.LessOrEqual(t, most, 2)
	require.False(t, most == 2 && recoveries == 0, "no token goes out a second time without a recovery on record")
	return fate{sent: most, recovered: recoveries > 0, lost: conn.State == "needs_login"}
}

// recorded counts the calls that the audit log tells of, and its records of a recovery.
func (c *step) recorded(t *testing.T) (calls, recoveries int) {
	t.Helper()
	k := &connection{t: t, admin: c.admin, id: c.id}
	claims, recoveries := k.recorded()
	return len(claims), recoveries
}

// requireLost: nothing was deleted, and people have heard of it once.
func (c *step) requireLost(t *testing.T) {
	t.Helper()
	got, err := c.admin.GetCredential(t.Context(), c.id)
	require.NoError(t, err)
	require.Equal(t, "needs_login", got.Health)
	require.Contains(t, got.SecretFields, "refresh_token")
	k := &crash{connection: &connection{t: t, admin: c.admin, id: c.id}}
	require.Equal(t, 1, k.events("oauth.needs_login"))
	cfg := store.Config{DataDir: c.first.DataDir, ReadOnly: true}
	if c.second != nil {
		cfg.PostgresURL = secret.FromString(c.first.DatabaseURL())
	}
	db := storetest.OpenConfig(t, cfg)
	var told int
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Get(&told, `SELECT COUNT(*) FROM notify_messages WHERE kind = 'account.login_needed'`)
	}))
	require.Equal(t, 1, told, "people hear of it once")
}

// requireAlive: the account is healthy, nobody was called for nothing, and it goes on.
func (c *step) requireAlive(t *testing.T) {
	t.Helper()
	got, err := c.admin.GetCredential(t.Context(), c.id)
	require.NoError(t, err)
	require.Equal(t, "healthy", got.Health)
	k := &crash{connection: &connection{t: t, admin: c.admin, id: c.id}}
	require.Zero(t, k.events("oauth.needs_login"))
	next, err := c.admin.RefreshCredential(t.Context(), c.id, true)
	require.NoError(t, err)
	require.Equal(t, got.Version+1, next.Generation)
	revoked, reuses := c.provider.Counts(t).Lost()
	require.Zero(t, revoked+reuses)
}

// TestFailpointsAreNotDelivered: only the binary that tests build for themselves can be held up.
func TestFailpointsAreNotDelivered(t *testing.T) {
	has := func(path string) bool {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return bytes.Contains(b, []byte("SIGNALBOX_FAILPOINTS"))
	}
	require.True(t, has(signalboxtest.FailpointBinary(t)))
	require.False(t, has(signalboxtest.Binary(t)))
}
