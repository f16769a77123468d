package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func limit(set map[quota.Kind]int64) *quota.Limits {
	l, _ := quota.Patch{Set: set}.Apply(nil)
	return l
}

func charge(l *quota.Limits, subjects ...string) *quota.Charge {
	c := &quota.Charge{Costs: true, Tokens: 100, Instance: "ins_1"}
	for _, s := range subjects {
		c.Dues = append(c.Dues, quota.Due{Subject: s, Limits: l})
	}
	return c
}

// counted is what the database says of a subject.
func counted(t *testing.T, db *store.DB, subject string, l *quota.Limits) map[quota.Kind]int64 {
	t.Helper()
	var state []byte
	var now time.Time
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		now = tx.Now()
		return tx.Get(&state, `SELECT state FROM quota_counts WHERE subject = $1`, subject)
	}))
	s, err := quota.Decode(state)
	require.NoError(t, err)
	out := map[quota.Kind]int64{}
	for _, u := range s.Look(now, l, nil) {
		out[u.Kind] = u.Used
	}
	return out
}

// TestOfABatchWhatFitsIsStored: many come at once, of several subjects; of each so many are stored as its limit allows, and the others are refused and nowhere.
func TestOfABatchWhatFitsIsStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := limit(map[quota.Kind]int64{quota.RequestsPerHour: 20})
		var wg sync.WaitGroup
		var let, refused [3]atomic.Int64
		for i := range 120 {
			wg.Go(func() {
				train := i % 3
				subjects := []string{fmt.Sprintf("train_%d", train)}
				if train == 2 { // what one of two refuses, is taken from neither
					subjects = []string{"key_shared", "train_2"}
				}
				id, err := db.AppendCharged(lease(fmt.Sprintf("k%d", i), "c"), charge(l, subjects...))
				var over *quota.Refusal
				switch {
				case err == nil:
					require.NotEmpty(t, id)
					let[train].Add(1)
				case errors.As(err, &over):
					require.Empty(t, id)
					refused[train].Add(1)
				default:
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		for i := range 3 {
			require.EqualValues(t, 20, let[i].Load())
			require.EqualValues(t, 20, refused[i].Load())
		}
		require.Len(t, stored(t, db), 60)
		require.EqualValues(t, 20, counted(t, db, "key_shared", l)[quota.RequestsPerHour])
	})
}

// TestChargesOutliveDyingConnections kills the connections under the commits of a real PostgreSQL: whatever is known of their fate, each intent that is in the log was counted once, each
// outcome settled once, and nothing else.
func TestChargesOutliveDyingConnections(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	db := storetest.OpenConfig(t, cfg)
	killer, err := pgx.Connect(t.Context(), cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = killer.Close(context.Background()) }()
	l := limit(map[quota.Kind]int64{quota.RequestsPerDay: 1e9, quota.TokensPerDay: 1e12, quota.MonthlyTokens: 1e12, quota.ConcurrentStreams: 1e6})
	var wg sync.WaitGroup
	var acked, refused atomic.Int64
	stop := time.Now().Add(3 * time.Second)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				c := charge(l, "key_1", "train_1")
				if _, err := db.AppendCharged(lease(fmt.Sprintf("in-%d-%d", w, i), "c"), c); err != nil {
					f, ok := fault.As(err)
					require.True(t, ok, "%v", err)
					require.Equal(t, "audit_unavailable", f.Code)
					refused.Add(1)
					continue
				}
				acked.Add(1)
				c.Close(7, 0, true)
				db.AppendSettled(lease(fmt.Sprintf("out-%d-%d", w, i), "c"), c)
			}
		})
	}
	kills := 0
	for time.Now().Before(stop) {
		var n int
		require.NoError(t, killer.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&n))
		kills += n
		time.Sleep(time.Duration(20+kills%7*40) * time.Millisecond) // a transaction of several statements needs time between them
	}
	wg.Wait()
	require.NoError(t, db.Ping(t.Context()))
	var in, out int64
	require.Eventually(t, func() bool {
		in, out = 0, 0
		names := map[string]int{}
		for _, e := range stored(t, db) {
			names[e.Actor.ID]++
			if e.Actor.ID[:2] == "in" {
				in++
			} else {
				out++
			}
		}
		for name, n := range names {
			require.Equal(t, 1, n, name)
		}
		return out == acked.Load()
	}, 10*time.Second, 100*time.Millisecond, "every outcome is stored at last")
	require.GreaterOrEqual(t, in, acked.Load())
	for _, subject := range []string{"key_1", "train_1"} {
		got := counted(t, db, subject, l)
		require.Equal(t, in, got[quota.RequestsPerDay], "each intent once")
		require.Equal(t, 7*out+100*(in-out), got[quota.MonthlyTokens], "each outcome once; what has none stands as it was reserved")
		require.Equal(t, 7*out+100*(in-out), got[quota.TokensPerDay])
		require.Equal(t, in-out, got[quota.ConcurrentStreams])
	}
	require.Greater(t, kills, 5)
	require.NotZero(t, acked.Load())
	t.Logf("%d acknowledged, %d refused, %d connections killed", acked.Load(), refused.Load(), kills)
}
