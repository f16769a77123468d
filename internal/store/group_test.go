package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// stored returns every event of every batch, by id, read from the rows as they lie there.
func stored(t *testing.T, db *store.DB) map[string]store.Event {
	t.Helper()
	var rows []struct {
		ID    string `db:"id"`
		Count int    `db:"count"`
		Body  []byte `db:"body"`
	}
	var pending []string
	require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error {
		// In this order: on PostgreSQL each statement sees what has committed by then.
		if err := tx.Select(&rows, `SELECT id, count, body FROM audit_batches`); err != nil {
			return err
		}
		return tx.Select(&pending, `SELECT source_id FROM audit_pending`)
	}))
	got := map[string]store.Event{}
	for _, r := range rows {
		lines := bytes.Split(r.Body, []byte("\n"))
		require.Len(t, lines, r.Count)
		require.Contains(t, pending, r.ID)
		for i, line := range lines {
			e, err := store.DecodeEvent(line)
			require.NoError(t, err)
			require.Equal(t, r.ID+"_"+strconv.Itoa(i), e.ID)
			_, twice := got[e.ID]
			require.False(t, twice)
			got[e.ID] = e
		}
	}
	return got
}

func TestAppendIsDurableWhenItReturns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		id, err := db.Append(t.Context(), lease("key_1", "cred_1"))
		require.NoError(t, err)
		got := stored(t, db)
		require.Len(t, got, 1)
		e := got[id]
		require.Equal(t, "cred_1", e.Target.ID)
		require.Equal(t, store.OutcomePending, e.Outcome)
		d, ok := e.Details.Get("attempt")
		require.True(t, ok)
		require.Equal(t, "1", d.Text())
	})
}

func TestAppendsShareCommits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const n = 600
		var wg sync.WaitGroup
		ids := make([]string, n)
		for i := range n {
			wg.Go(func() {
				id, err := db.Append(context.Background(), lease("key_"+strconv.Itoa(i%7), "cred_1"))
				if err != nil {
					t.Error(err)
				}
				ids[i] = id
				out := lease("key_1", "cred_1")
				out.Action, out.Outcome = store.LeaseOutcome, store.OutcomeOK
				db.AppendLater(out)
			})
		}
		wg.Wait()
		require.Eventually(t, func() bool { return len(stored(t, db)) == 2*n }, 5*time.Second, 20*time.Millisecond)
		got := stored(t, db)
		for _, id := range ids {
			require.Contains(t, got, id)
		}
		var commits int
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&commits, `SELECT count(*) FROM audit_batches`) }))
		require.Less(t, commits, n, "600 intents and 600 outcomes should need far fewer commits")
		t.Logf("%d events in %d commits", 2*n, commits)
	})
}

func TestOutcomesAreStoredAtClose(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	for range 700 {
		db.AppendLater(lease("k", "c"))
	}
	require.NoError(t, db.Close())
	db.AppendLater(lease("k", "too late"))
	require.EqualValues(t, 1, db.LostOutcomes())
	again := storetest.OpenConfig(t, cfg)
	require.Len(t, stored(t, again), 700)
}

func TestAbandonedAppendKeepsTheOthersGoing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() {
				ctx := context.Background()
				if i%2 == 0 {
					short, cancel := context.WithTimeout(ctx, time.Duration(i%5)*100*time.Microsecond)
					defer cancel()
					ctx = short
				}
				_, err := db.Append(ctx, lease("k", "c"))
				if i%2 == 1 && err != nil {
					t.Error(err)
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("an abandoned append took the duty to commit with it")
		}
		_, err := db.Append(t.Context(), lease("k", "c"))
		require.NoError(t, err)
	})
}

// TestTerminatedBackendsDoNotDoubleOrLose kills the connections under the commits of a real PostgreSQL: a commit whose fate is unknown is
// sent again under the same id.
func TestTerminatedBackendsDoNotDoubleOrLose(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	db := storetest.OpenConfig(t, cfg)
	killer, err := pgx.Connect(t.Context(), cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = killer.Close(context.Background()) }()
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked, refused := map[string]string{}, 0
	stop := time.Now().Add(3 * time.Second)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				name := fmt.Sprintf("%d-%d", w, i)
				id, err := db.Append(context.Background(), lease(name, "c"))
				mu.Lock()
				if err == nil {
					acked[id] = name
				} else {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	kills := 0
	for time.Now().Before(stop) {
		var n int
		require.NoError(t, killer.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&n))
		kills += n
		time.Sleep(20 * time.Millisecond)
	}
	wg.Wait()
	require.NoError(t, db.Ping(t.Context()))
	got := stored(t, db)
	seen := map[string]int{}
	for _, e := range got {
		seen[e.Actor.ID]++
	}
	for id, name := range acked {
		require.Equal(t, name, got[id].Actor.ID)
		require.Equal(t, 1, seen[name], "an acknowledged event lies there exactly once")
	}
	require.Greater(t, kills, 10)
	require.NotEmpty(t, acked)
	t.Logf("%d acknowledged, %d refused, %d connections killed", len(acked), refused, kills)
}

// TestFullDatabaseRefuses lets SQLite run into its own page limit, which fails as a full disk does.
func TestFullDatabaseRefuses(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, limitPages(db, 1))
	big := lease("k", "c")
	big.Details = append(big.Details, store.Str("fill", strings.Repeat("x", 5000)))
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		_, err = db.Append(t.Context(), big)
	}
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "audit_unavailable", f.Code)
	require.Contains(t, f.Detail, "disk is full")
	require.NotContains(t, f.Detail, "SQLITE")
	werr := db.Write(t.Context(), func(tx *store.Tx) error {
		e := act("x")
		e.Reason = strings.Repeat("y", 900)
		for range 50 {
			if err := tx.Record(e); err != nil {
				return err
			}
		}
		return nil
	})
	f, ok = fault.As(werr)
	require.True(t, ok, "%v", werr)
	require.Equal(t, fault.Unavailable, f.Kind)
	require.NoError(t, limitPages(db, 1_000_000))
	_, err = db.Append(t.Context(), big)
	require.NoError(t, err, "with room again it serves again")
}

func limitPages(db *store.DB, pages int) error {
	return db.Bookkeep(context.Background(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec("PRAGMA max_page_count = " + strconv.Itoa(pages))
		return err
	})
}

// TestRefusedAuditTableRefuses breaks the log of a real PostgreSQL with a trigger.
func TestRefusedAuditTableRefuses(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	db := storetest.OpenConfig(t, cfg)
	raw, err := sql.Open("pgx", cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = raw.Close() }()
	_, err = raw.Exec(`ALTER TABLE audit_batches RENAME TO gone`)
	require.NoError(t, err)
	_, err = db.Append(t.Context(), lease("k", "c"))
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "audit_unavailable", f.Code)
	require.NotContains(t, f.Detail, "relation")
	_, err = raw.Exec(`ALTER TABLE gone RENAME TO audit_batches`)
	require.NoError(t, err)
	_, err = db.Append(t.Context(), lease("k", "c"))
	require.NoError(t, err)
}

func TestLeavesAreOneLineAndValidJSON(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for _, nasty := range []string{"a\nb", "tab\t\x00\x1f", `q"uote\`, "\xff\xfe bad", "ünïcode \u2028 ✓", strings.Repeat("é", 600)} {
			e := lease("k", "c")
			e.Reason, e.UserAgent = nasty, nasty
			e.Details = append(e.Details, store.Str(nasty, nasty), store.Strs("l", []string{nasty}), store.Bool("b", true))
			id, err := db.Append(t.Context(), e)
			require.NoError(t, err)
			got := stored(t, db)[id]
			require.Equal(t, strings.ToValidUTF8(nasty, "\ufffd\ufffd")[:1], got.Reason[:1])
			b, ok := got.Details.Get("b")
			require.True(t, ok)
			require.Equal(t, "true", b.Text())
		}
	})
}

// BenchmarkAppend measures one durable intent, alone and shared; the figure beside ns/op is CPU.
func BenchmarkAppend(b *testing.B) {
	for _, e := range storetest.Engines() {
		for _, callers := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("%s/%d", e, callers), func(b *testing.B) {
				db := storetest.Open(b, e)
				var wg sync.WaitGroup
				work := make(chan struct{}, callers)
				start := cpuTime()
				for range callers {
					wg.Go(func() {
						for range work {
							if _, err := db.Append(context.Background(), lease("key_1", "cred_1")); err != nil {
								b.Error(err)
							}
							db.AppendLater(lease("key_1", "cred_1"))
						}
					})
				}
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
				b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}
