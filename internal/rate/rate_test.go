package rate_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// clock is a time that stands until it is moved.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time       { return time.UnixMicro(c.at.Load()).UTC() }
func (c *clock) move(d time.Duration) { c.at.Add(d.Microseconds()) }

// each runs fn with a database of each engine whose time is the clock's, five seconds into a minute, and a way to make instances on it.
func each(t *testing.T, fn func(t *testing.T, db *store.DB, c *clock, instance func() *rate.Limiter)) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			c := &clock{}
			c.at.Store(time.Date(2026, 11, 22, 8, 0, 5, 0, time.UTC).UnixMicro())
			cfg := storetest.Config(t, e)
			cfg.Clock = c.now
			db := storetest.OpenConfig(t, cfg)
			require.NoError(t, db.Start(t.Context()))
			fn(t, db, c, func() *rate.Limiter {
				l, err := rate.New(rate.Config{DB: db, Clock: c.now})
				require.NoError(t, err)
				return l
			})
		})
	}
}

func rule(limit int) rate.Rule { return rate.Rule{Name: "test", Limit: limit, Detail: "too often"} }

func requireLimited(t *testing.T, err error, after int) {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "rate_limited", f.Code)
	require.Equal(t, "too often", f.Detail)
	require.Equal(t, after, f.RetryAfter)
}

// TestLimitHoldsOverInstances: however callers spread their requests, no more than the limit goes through in a minute, and nothing of it is
// lost to a single instance.
func TestLimitHoldsOverInstances(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, c *clock, instance func() *rate.Limiter) {
		for _, limit := range []int{1, 7, 60, 333} {
			who := strconv.Itoa(limit)
			instances := []*rate.Limiter{instance(), instance(), instance()}
			var passed, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					for range limit {
						switch err := instances[i%3].Take(t.Context(), rule(limit), who); {
						case err == nil:
							passed.Add(1)
						case fault.KindOf(err) == fault.TooMany:
							refused.Add(1)
						default:
							t.Errorf("take: %v", err)
						}
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, limit, passed.Load(), "each instance was asked often enough to use its share up")
			require.EqualValues(t, 12*limit-limit, refused.Load())
			requireLimited(t, instances[0].Take(t.Context(), rule(limit), who), 55)
			require.NoError(t, instances[0].Take(t.Context(), rule(limit), who+" of another"), "others are not held up")
			require.NoError(t, instances[0].Take(t.Context(), rate.Rule{Name: "another", Limit: 1}, who), "nor are other rules")
		}
		// The next minute begins anew, at its own border and not 60 s after the first request.
		l := instance()
		require.NoError(t, l.Take(t.Context(), rule(1), "border"))
		c.move(54 * time.Second)
		requireLimited(t, l.Take(t.Context(), rule(1), "border"), 1)
		c.move(time.Second)
		require.NoError(t, l.Take(t.Context(), rule(1), "border"))
		requireLimited(t, l.Take(t.Context(), rule(1), "border"), 60)
	})
}

// TestOverTheLimitCostsNothing: whoever is over it cannot make the instance ask the database.
func TestOverTheLimitCostsNothing(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, _ *clock, instance func() *rate.Limiter) {
		l := instance()
		for range 60 {
			require.NoError(t, l.Take(t.Context(), rule(60), "busy"))
		}
		requireLimited(t, l.Take(t.Context(), rule(60), "busy"), 55)
		require.NoError(t, db.Close())
		for range 1000 {
			requireLimited(t, l.Take(t.Context(), rule(60), "busy"), 55)
		}
	})
}

// TestNoDatabaseNoAct: what cannot be counted does not go through, and a queue of callers does not wait one after the other.
func TestNoDatabaseNoAct(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, _ *clock, instance func() *rate.Limiter) {
		l := instance()
		require.NoError(t, l.Take(t.Context(), rule(1000), "a")) // its share is 20
		require.NoError(t, db.Close())
		for range 19 {
			require.NoError(t, l.Take(t.Context(), rule(1000), "a"), "a share that was taken may be used")
		}
		first := l.Take(t.Context(), rule(1000), "a")
		require.Error(t, first)
		require.NotEqual(t, fault.TooMany, fault.KindOf(first))
		again := l.Take(t.Context(), rule(1000), "a")
		require.True(t, first == again, "the database was asked again at once")
	})
}

// TestStrangersPushNobodyAside: more addresses than an instance tells apart come within a minute. Those beyond share a count and its limit. A
// caller who is known, new in this minute or not, keeps their own, over all instances.
func TestStrangersPushNobodyAside(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, _ *clock, instance func() *rate.Limiter) {
		known, strange := rule(3), rule(3)
		strange.Strangers = true
		l, another := instance(), instance()
		require.NoError(t, l.Take(t.Context(), known, "user_early"))
		require.NoError(t, l.Take(t.Context(), strange, "192.0.2.1"))
		for i := range 100_000 {
			l.Meet(strange, "10."+strconv.Itoa(i>>16)+"."+strconv.Itoa(i>>8&255)+"."+strconv.Itoa(i&255))
		}
		require.Equal(t, 100_001, l.Held(strange), "the memory is bounded")

		for i := range 3 { // the strangers who came too late are one
			require.NoError(t, l.Take(t.Context(), strange, "198.51.100."+strconv.Itoa(i)))
		}
		requireLimited(t, l.Take(t.Context(), strange, "198.51.100.9"), 55)
		require.NoError(t, l.Take(t.Context(), strange, "192.0.2.1"), "who came before them has their own")

		for i := range 50 { // each of them new
			who := "user_" + strconv.Itoa(i)
			require.NoError(t, l.Take(t.Context(), known, who))
			require.NoError(t, another.Take(t.Context(), known, who))
			require.NoError(t, l.Take(t.Context(), known, who))
			requireLimited(t, l.Take(t.Context(), known, who), 55)
			requireLimited(t, another.Take(t.Context(), known, who), 55)
		}
		require.NoError(t, l.Take(t.Context(), known, "user_early"))
		require.Equal(t, 51, l.Held(known))
	})
}

// TestOldCountsGo: the table holds who came lately, and nothing readable.
func TestOldCountsGo(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, c *clock, instance func() *rate.Limiter) {
		l := instance()
		rows := func() (ids []string) {
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&ids, `SELECT id FROM rate_counters`) }))
			return ids
		}
		for i := range 30 {
			require.NoError(t, l.Take(t.Context(), rule(60), "192.0.2."+strconv.Itoa(i)))
		}
		require.Len(t, rows(), 30)
		for _, id := range rows() {
			require.Regexp(t, "^[0-9a-f]{32}$", id)
		}
		c.move(20 * time.Minute)
		require.NoError(t, l.Take(t.Context(), rule(60), "192.0.2.1"))
		require.Len(t, rows(), 1)
		c.move(-3 * time.Hour) // a clock that is set back must not lock anybody out
		require.NoError(t, l.Take(t.Context(), rule(60), "192.0.2.1"))
	})
}

// TestWaitingEndsWithTheRequest: a caller that is gone waits for nothing.
func TestWaitingEndsWithTheRequest(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, _ *clock, instance func() *rate.Limiter) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l := instance()
		for range 50 { // either the turn is free, and the act is counted, or the wait ends
			if err := l.Take(ctx, rule(1000), "gone"); err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
		}
	})
}
