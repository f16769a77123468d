package signalboxtest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// postgresOnly holds PostgreSQL where the tests of this run use it: a fleet has no other database.
func postgresOnly() []store.Engine {
	return slices.DeleteFunc(storetest.Engines(), func(e store.Engine) bool { return e != store.Postgres })
}

func verifyFleet(t *testing.T, fleet []*signalboxtest.Process) {
	t.Helper()
	report, err := audit.Verify(t.Context(), fleet[0].OpenReadOnly(t), audit.VerifyOptions{Anchors: anchors(t, fleet[0].CheckpointFile())})
	if f, ok := fault.As(err); ok {
		t.Logf("the database said: %v", f.Unwrap()) // what the fault itself tells nobody
	}
	require.NoError(t, err)
	require.True(t, report.OK(), "%+v", report.Findings)
	require.Positive(t, report.Anchored)
	requireNothingInternal(t, fleet)
}

// TestAFleetOutlivesItsDatabase takes the database away from instances in several ways, under load. Every answer is right or says
// legibly that it is none; what was acknowledged stands; and everything mends itself.
func TestAFleetOutlivesItsDatabase(t *testing.T) {
	for range postgresOnly() {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		upKey := secret.FromString("sk-upstream-outage-test-key")
		_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
		pg := storetest.Private(t, nil)
		direct := pg.Database(t)
		cut, swallowed := storetest.NewLine(t, direct), storetest.NewLine(t, direct)
		const many = "SIGNALBOX_MAX_KEYS_PER_TRAIN=10000"
		p1 := signalboxtest.NewProcessOn(t, direct, many)
		fleet := []*signalboxtest.Process{p1, p1.Peer(t, cut.URL, many), p1.Peer(t, swallowed.URL, many)}
		for _, p := range fleet {
			p.Start(t)
		}
		admin := p1.Admin()
		good := newLane(t, admin, upURL, upKey, "kill", 1) // the name that the writers use
		gone := newLane(t, admin, upURL, upKey, "gone", 1)
		var streams []func(time.Time) time.Duration
		for _, p := range fleet[1:] {
			for _, l := range []lane{good, gone} {
				require.Eventually(t, func() bool { return ask(t, p.URL, l.key) == 200 }, 5*time.Second, 10*time.Millisecond)
			}
			streams = append(streams, longestStream(t, p.URL, gone.key))
		}
		pull, mend := func() { cut.Cut(); swallowed.Swallow() }, func() { cut.Mend(); swallowed.Mend() }
		cutOff(t, pull, mend, admin, fleet, good, gone, streams)
		chaos(t, pg, direct, fleet, good, rng, seed)
		for i, p := range fleet {
			p.Signal(t, syscall.SIGTERM)
			require.NoError(t, p.Wait(), "instance %d", i+1)
		}
		verifyFleet(t, fleet)
	}
}

// cutOff takes the line of every instance but the first away.
func cutOff(t *testing.T, pull, mend func(), admin *client.Client, fleet []*signalboxtest.Process, good, gone lane, streams []func(time.Time) time.Duration) {
	t.Helper()
	pull()
	off := time.Now()
	require.NoError(t, admin.RevokeKey(t.Context(), "gone", gone.keyID))
	var wg sync.WaitGroup
	for _, p := range fleet[1:] {
		wg.Go(func() {
			refused := 0
			for time.Since(off) < 3*time.Second {
				for _, key := range []string{good.key, gone.key} {
					a, err := lend(http.DefaultClient, p.URL, key, shortPrompt)
					if err != nil {
						t.Error(err)
						return
					}
					if a.begun.Sub(off) > time.Second {
						refused++
						if a.status != 503 || !a.legible() || !strings.Contains(a.message, "database") {
							t.Errorf("a use begun %v after the line was lost: %d %s", a.begun.Sub(off), a.status, a.body)
							return
						}
					}
				}
			}
			if refused == 0 {
				t.Error("nobody asked after the first second")
			}
			asked := time.Now()
			status, checks := ready(p.URL)
			if status != 503 || !strings.Contains(checks["feed"], "no news from its database") || checks["database"] == "ok" || checks["keyring"] != "ok" {
				t.Errorf("/readyz: %d %v", status, checks)
			}
			if took := time.Since(asked); took > 2*time.Second {
				t.Errorf("/readyz took %v", took)
			}
			for _, text := range checks {
				for _, bad := range []string{"SQLSTATE", "dial tcp", "127.0.0.1", "EOF", "postgres"} {
					if strings.Contains(text, bad) {
						t.Errorf("/readyz tells %q", text)
					}
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_, err := p.Admin().ListTrains(ctx, client.ListFilter{})
			var e *client.Error
			if !errors.As(err, &e) || e.Status != 503 {
				t.Errorf("the API answers %v", err)
			}
		})
	}
	wg.Wait()
	for i, ended := range streams {
		// Half a second for the cut itself on a busy machine.
		require.Less(t, ended(off), 10500*time.Millisecond, "the stream on instance %d", i+2)
	}
	require.Equal(t, 200, ask(t, fleet[0].URL, good.key), "an instance with a line goes on")
	mend()
	mended := time.Now()
	recovered(t, mended, fleet, good.key)
	for _, p := range fleet {
		require.Equal(t, 401, ask(t, p.URL, gone.key))
	}
}

// recovered waits until every instance lends again: five seconds after the database was back at the latest.
func recovered(t *testing.T, since time.Time, fleet []*signalboxtest.Process, key string) {
	t.Helper()
	for i, p := range fleet {
		for {
			asked := time.Now()
			a, err := lend(http.DefaultClient, p.URL, key, shortPrompt)
			require.NoError(t, err)
			status, _ := ready(p.URL)
			if a.status == 200 && status == 200 {
				break
			}
			require.Less(t, asked.Sub(since), 5*time.Second, "instance %d: %d %s", i+1, a.status, a.body)
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// chaos terminates a hundred backends at random and restarts PostgreSQL once, while the whole fleet writes and lends.
func chaos(t *testing.T, pg *storetest.Server, database string, fleet []*signalboxtest.Process, good lane, rng *rand.Rand, seed uint64) {
	t.Helper()
	have := &acked{secrets: map[string]string{}, unsure: map[string]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	counts := map[int]int{}
	for i, p := range fleet {
		wg.Go(func() { write(ctx, t, p.Admin(), have, rand.New(rand.NewPCG(seed, uint64(i)))) })
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					a, err := lend(http.DefaultClient, p.URL, good.key, shortPrompt)
					if err != nil || !a.legible() {
						t.Errorf("a use: %d %s %v", a.status, a.body, err)
						return
					}
					have.mu.Lock()
					counts[a.status]++
					have.mu.Unlock()
					if a.status != 200 {
						time.Sleep(20 * time.Millisecond)
					}
				}
			})
		}
	}
	terminate(t, database, rng, 50)
	pg.Stop(t, "immediate")
	pg.Start(t)
	back := time.Now()
	recovered(t, back, fleet, good.key)
	terminate(t, database, rng, 50)
	back = time.Now()
	recovered(t, back, fleet, good.key)
	stop()
	wg.Wait()
	t.Logf("answers by status: %v; %d credentials, %d keys revoked", counts, len(have.secrets), len(have.revoked))
	require.Positive(t, counts[200])
	require.NotEmpty(t, have.secrets)
	settled := time.Now().Add(time.Second)
	for i, p := range fleet {
		have.check(t, p, p.Admin(), i, true, settled)
	}
}

// terminate ends n connections of the fleet, one at a time, at random.
func terminate(t *testing.T, database string, rng *rand.Rand, n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { _ = c.Close(context.Background()) }()
	for killed, until := 0, time.Now().Add(20*time.Second); killed < n; {
		require.True(t, time.Now().Before(until), "only %d connections to end", killed)
		rows, err := c.Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid`)
		require.NoError(t, err)
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		require.NoError(t, err)
		if len(pids) > 0 {
			var ok bool
			require.NoError(t, c.QueryRow(t.Context(), `SELECT pg_terminate_backend($1)`, pids[rng.IntN(len(pids))]).Scan(&ok))
			if ok {
				killed++
			}
		}
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
	}
}
