package train_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/usage"
)

// TestHangingUpIsNoDiscount: of an answer that broke off before its upstream told what it cost, what came of it counts as output, up to what was reserved, in tokens and in money.
func TestHangingUpIsNoDiscount(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key := y.webLine()
		y.limit(limits{quota.MonthlyTokens: 10_000_000})
		y.limitKey(key.ID, limits{quota.MonthlyCost: 100_000_000})
		tr, err := y.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		k, err := y.GetKey(t.Context(), y.admin, "web", key.ID)
		require.NoError(t, err)
		w := want()
		w.Model, w.MaxTokens = "claude-sonnet-4-5", 10_000 // 3 dollars a million read, 15 written
		for _, c := range []struct{ bytes, output, tokens, cost int64 }{
			{400, 1, 200, 1_800},                           // 100 of the bytes that came
			{1 << 20, 1, 10_300, 152_100},                  // what was reserved
			{400, 20_000, 30_400, 452_400},                 // what the upstream told
			{1 << 20, 10_001, 40_501, 602_715},             // the same, just above what was reserved
			{3, 0, 40_601, 603_015},                        // nothing came
			{1 << 40, 2_000, 50_701, 753_315},              // a stream without an end
			{-1 << 40, 2_000, 52_801, 783_615},             // no number of bytes
			{0, usage.Most, 1_000_052_901, 15_000_783_915}, // far more than is left
		} {
			y.lend(caller(), w).Done(train.Outcome{Result: train.ClientCancelled, Status: 200, Bytes: c.bytes, Usage: usage.Count{State: usage.Partial, Input: 100, Output: c.output}})
			y.settled(tr.ID, tr.Limits, quota.MonthlyTokens, c.tokens)
			y.settled(key.ID, k.Limits, quota.MonthlyCost, c.cost)
		}
		y.refused("budget_spent", caller(), w)
	})
}

// TestPromptsAreReserved: a nearly spent budget lets one huge prompt through, and not a thousand at once; when it is over, what it cost stands in its place.
func TestPromptsAreReserved(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key := y.webLine()
		tr, err := y.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		w := want()
		w.Model, w.MaxTokens, w.BodyBytes = "claude-sonnet-4-5", 1, 400_000
		one := func() *train.Lease {
			var got atomic.Pointer[train.Lease]
			var let atomic.Int64
			var wg sync.WaitGroup
			c := caller()
			for range 40 {
				wg.Go(func() {
					l, err := y.Lend(context.Background(), c, w)
					if err == nil {
						let.Add(1)
						got.Store(l)
					} else if f, ok := fault.As(err); !ok || f.Code != "budget_spent" {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, let.Load())
			return got.Load()
		}
		y.limit(limits{quota.MonthlyTokens: 100_000})
		l := one()
		y.settled(tr.ID, quota.Parse(`{"monthly_tokens":100000}`), quota.MonthlyTokens, 100_001)
		l.Done(done(10, 1))
		y.settled(tr.ID, quota.Parse(`{"monthly_tokens":100000}`), quota.MonthlyTokens, 11)
		y.lend(caller(), w).Done(done(10, 1))

		y.limit(limits{quota.MonthlyTokens: 0})
		y.limitKey(key.ID, limits{quota.MonthlyCost: 300_000})
		l = one() // 100,000 tokens are 30 cents
		y.settled(key.ID, quota.Parse(`{"monthly_cost_usd":300000}`), quota.MonthlyCost, 300_015)
		l.Done(done(10, 1))
		y.settled(key.ID, quota.Parse(`{"monthly_cost_usd":300000}`), quota.MonthlyCost, 45)

		// A body full of pictures stands for no more than a model reads.
		y.limitKey(key.ID, limits{quota.MonthlyCost: 0, quota.MonthlyTokens: 50_000_000})
		w.BodyBytes = 32 << 20
		y.lend(caller(), w).Done(train.Outcome{Result: train.ClientCancelled})
		y.settled(key.ID, quota.Parse(`{"monthly_tokens":50000000}`), quota.MonthlyTokens, 11+1_000_001) // nobody knows what it cost
	})
}

// TestWhatNobodyKnowsIsAdded: an attempt of which nobody knows what it cost counts beside the one that answered.
func TestWhatNobodyKnowsIsAdded(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		for i, name := range []string{"alpha", "beta"} {
			y.linkAt("web", y.account(name), i+1)
		}
		caller, _ := y.keyed(y.admin)
		y.limit(limits{quota.TokensPerMinute: 1_000_000})
		tr, err := y.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		w := want()
		w.MaxTokens, w.BodyBytes = 500, 400
		l, err := y.lend(caller(), w).Next(t.Context(), train.Failure{Dial: true})
		require.NoError(t, err)
		l.Done(done(1000, 50))
		y.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 600+1050)
	})
}

// TestALongStreamKeepsItsPlace: as long as a request is under way that counts as such, its instance says that it is there, however long nobody asked for another.
func TestALongStreamKeepsItsPlace(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _ := y.webLine()
		y.limit(limits{quota.ConcurrentStreams: 2})
		a, b := y.lend(caller(), want()), y.lend(caller(), want())
		said := func() bool {
			y.Past(11*time.Minute, 4*time.Second)
			was := y.seen()
			y.clock.Add(time.Minute)
			require.NoError(t, y.Keep(t.Context()))
			return eventually(300*time.Millisecond, func() bool { return y.seen() > was }) // the room's own turn may just be under way
		}
		require.True(t, said())
		a.Done(done(1, 1))
		require.True(t, said(), "one is under way")
		b.Done(done(1, 1))
		require.False(t, said(), "none is")
	})
}

// seen is when an instance last said that it is there.
func (y *yard) seen() int64 {
	y.t.Helper()
	var row struct {
		At int64 `db:"at"`
	}
	require.NoError(y.t, y.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Get(&row, `SELECT COALESCE(MAX(seen_at), 0) AS at FROM quota_instances`)
	}))
	return row.At
}

// TestPresenceWaitsForNoNews: an instance says that it is there while people cannot be told of a limit.
func TestPresenceWaitsForNoNews(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e == store.SQLite {
			continue // one process alone
		}
		t.Run(string(e), func(t *testing.T) {
			y := newSite(t, e).open(t)
			caller, _ := y.webLine()
			y.limit(limits{quota.ConcurrentStreams: 5, quota.RequestsPerMinute: 1})
			locked, held, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			lock, release := sync.OnceFunc(func() { close(locked) }), sync.OnceFunc(func() { close(held) })
			defer release()
			go func() {
				over <- y.db.Bookkeep(context.Background(), store.Counter, func(tx *store.Tx) error {
					if _, err := tx.Exec(`LOCK TABLE quota_told IN ACCESS EXCLUSIVE MODE`); err != nil {
						return err
					}
					lock()
					<-held
					return nil
				})
			}()
			<-locked
			y.lend(caller(), want()) // at its limit, which cannot be told for five seconds
			was := y.seen()
			y.clock.Add(time.Second)
			y.Past(0, 4*time.Second)
			require.True(t, eventually(4500*time.Millisecond, func() bool { return y.seen() > was }))
			release()
			require.NoError(t, <-over)
		})
	}
}

// eventually waits for something, and tells whether it came.
func eventually(patience time.Duration, what func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if what() {
			return true
		}
	}
	return false
}

// TestCountsAreSwept: counts that nobody uses any more go, whatever is limited.
func TestCountsAreSwept(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _ := y.webLine()
		y.limit(limits{quota.RequestsPerDay: 10})
		y.lend(caller(), want()).Done(done(1, 1))
		require.NoError(t, y.db.Bookkeep(t.Context(), store.Counter, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO quota_counts (subject, state, at) VALUES ('key_gone', $1, $2)`, []byte{}, store.TimeOf(y.clock.Now().Add(-41*24*time.Hour)))
			return err
		}))
		counted := func() (n int) {
			var row struct {
				N int `db:"n"`
			}
			require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&row, `SELECT COUNT(*) AS n FROM quota_counts`) }))
			return row.N
		}
		require.Equal(t, 2, counted())
		y.SweepSoon()
		require.Eventually(t, func() bool { return counted() == 1 }, 5*time.Second, 10*time.Millisecond)
		tr, err := y.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		y.settled(tr.ID, tr.Limits, quota.RequestsPerDay, 1)
	})
}
