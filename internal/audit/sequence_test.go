package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// requireWhole checks that every record is exactly one leaf, without gaps, under the root that tlog's own book gives.
func (b *box) requireWhole(t testing.TB) {
	t.Helper()
	all, leaves := records(t, b.db), b.leaves(t)
	seen := map[string]bool{}
	for _, leaf := range leaves {
		require.False(t, seen[leaf], "a record is two leaves: %s", leaf)
		seen[leaf] = true
	}
	require.Len(t, leaves, len(all))
	c, err := b.log.Latest(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(leaves), c.Size)
	require.Equal(t, rootOf(t, leaves), c.Root)
	requireClean(t, b.verify(t, b.notes(t)...))
}

func TestEveryEventBecomesALeaf(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		for range 3 {
			b.fill(t, 30)
			b.flush(t)
			b.requireWhole(t)
		}
		h := b.log.Health()
		require.Equal(t, h.Size, h.Signed)
		require.NoError(t, b.log.Flush(t.Context()), "with nothing to do")
		require.Len(t, b.notes(t), 3)
	})
}

func TestSequencerLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := seed(t)
		b.cfg.MaxConns = 40
		writers, rounds, hold := 6, 25, 5*time.Millisecond
		dbs, logs := []*store.DB{b.db}, []*Log{b.log}
		if b.db.Engine() == store.Postgres {
			writers, hold = 16, 60*time.Millisecond
			other := storetest.OpenConfig(t, b.cfg)
			dbs, logs = append(dbs, other), append(logs, b.another(t, other, "two"))
			logs[1].anchors.path = "" // one file has one writer
		}
		for _, l := range logs {
			l.every, l.signEvery = 5*time.Millisecond, 20*time.Millisecond
			l.Start(t.Context())
		}
		var work, chaos sync.WaitGroup
		stop := make(chan struct{})
		var failed atomic.Pointer[error]
		fail := func(err error) {
			if err != nil {
				failed.Store(&err)
			}
		}
		for w := range writers {
			work.Go(func() {
				r := rand.New(rand.NewPCG(s, uint64(w)))
				db := dbs[r.IntN(len(dbs))]
				for i := range rounds {
					if r.IntN(3) > 0 {
						_, err := db.Append(t.Context(), granted(w*1000+i))
						fail(err)
						continue
					}
					late := time.Duration(r.Int64N(int64(hold)))
					fail(db.Write(t.Context(), func(tx *store.Tx) error {
						for n := range 1 + r.IntN(3) {
							if err := tx.Record(act(w*1000 + i*10 + n)); err != nil {
								return err
							}
						}
						time.Sleep(late) // others commit later ids meanwhile
						return nil
					}))
				}
			})
		}
		for i, l := range logs {
			chaos.Go(func() {
				r := rand.New(rand.NewPCG(s, uint64(100+i)))
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(r.IntN(30)) * time.Millisecond):
					}
					if r.IntN(2) == 0 { // a stopped process: it wakes up when its term is long over
						l.mu.Lock()
						time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
						l.mu.Unlock()
					} else if err := l.Flush(t.Context()); err != nil && !errors.Is(err, errFenced) {
						fail(err)
					}
				}
			})
		}
		work.Wait()
		close(stop)
		chaos.Wait()
		if err := failed.Load(); err != nil {
			require.NoError(t, *err)
		}
		for _, l := range logs {
			l.Close()
		}
		b.flush(t)
		b.requireWhole(t)
		require.NotContains(t, b.said.String(), "cannot be sequenced")
	})
}

// A leader that was stopped after it read what waits must not write once another has taken over.
func TestStoppedLeaderIsFenced(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ctx := t.Context()
		two := b.another(t, b.db, "two")
		b.fill(t, 5)
		require.NoError(t, b.log.stand(ctx, standNow))
		_, err := b.log.step(ctx, recent)
		require.NoError(t, err)
		b.fill(t, 5)
		require.NoError(t, two.Flush(ctx))

		b.fill(t, 5)
		_, err = b.log.step(ctx, recent)
		require.ErrorIs(t, err, errFenced)
		b.log.signed = 0
		require.ErrorIs(t, b.log.sign(ctx), errFenced)
		require.Zero(t, b.log.epoch, "it steps down")
		b.flush(t)
		b.requireWhole(t)
	})
}

// Somebody who shortens the log under a running sequencer is noticed at the next transaction.
func TestSizeIsFencedToo(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 3)
		b.flush(t)
		x := b.attack(t)
		b.unguard(t, x)
		_, err := x.Exec(`DELETE FROM audit_leaves WHERE first_leaf = (SELECT MAX(first_leaf) FROM audit_leaves)`)
		require.NoError(t, err)
		b.fill(t, 1)
		_, err = b.log.step(t.Context(), recent)
		require.ErrorIs(t, err, errFenced)
		b.flush(t)
		require.Contains(t, b.said.String(), "shorter than it was")
		f, ok := b.verify(t, b.notes(t)...).First()
		require.True(t, ok)
		require.NotEqual(t, Unreferenced, f.Kind)
	})
}

func TestElection(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ctx := t.Context()
		two := b.another(t, b.db, "two")
		leads := func(l *Log) bool { return l.epoch != 0 }

		require.NoError(t, two.Flush(ctx))
		two.Close()
		require.NoError(t, b.log.stand(ctx, standForRecords))
		require.False(t, leads(b.log), "nobody leads while there is nothing to do")
		b.fill(t, 1)
		require.NoError(t, b.log.stand(ctx, standForRecords))
		require.True(t, leads(b.log), "a free place is taken at once")

		require.NoError(t, two.stand(ctx, standForRecords))
		require.False(t, leads(two), "the term is not over")
		x := b.attack(t)
		end := func() {
			_, err := x.Exec(`UPDATE elections SET until = 1`)
			require.NoError(t, err)
		}
		end()
		require.NoError(t, two.stand(ctx, standForRecords))
		require.False(t, leads(two), "the holder may still prolong it")
		require.NoError(t, b.log.drain(ctx, recent))
		require.NoError(t, two.stand(ctx, standForRecords))
		require.False(t, leads(two), "it did")

		b.fill(t, 1)
		end()
		require.NoError(t, two.stand(ctx, standForRecords))
		require.NoError(t, two.stand(ctx, standForRecords))
		require.True(t, leads(two))
		require.ErrorIs(t, b.log.drain(ctx, recent), errFenced)
		require.NoError(t, two.drain(ctx, recent))

		// Leaves that a dead leader left unsigned are signed by another, though nothing waits.
		require.NoError(t, b.log.stand(ctx, standForSigning))
		require.False(t, leads(b.log))
		end()
		require.NoError(t, b.log.stand(ctx, standForSigning))
		require.True(t, leads(b.log))
		require.NoError(t, b.log.sign(ctx))
		b.requireWholeUnanchored(t)
	})
}

func (b *box) requireWholeUnanchored(t testing.TB) {
	t.Helper()
	require.NoError(t, b.log.anchors.extend(t.Context(), b.db, b.log.log))
	b.requireWhole(t)
}

func TestIdleWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 2)
		b.flush(t)
		state := func() string {
			var e electionRow
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&e, `SELECT holder, epoch, until FROM elections WHERE name = $1`, electionName)
			}))
			return fmt.Sprint(e)
		}
		before := state()
		for range 20 {
			b.log.pass(t.Context())
		}
		require.Equal(t, before, state())
		require.NoError(t, b.log.Health().Err)
		require.WithinDuration(t, time.Now(), b.log.Health().Passed, time.Minute)
	})
}

// A commit whose fate was unknown can be tried again after its record was sequenced; the second reference must not stop the log.
func TestSecondReferenceIsSwept(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 2)
		b.flush(t)
		x := b.attack(t)
		_, err := x.Exec(`INSERT INTO audit_pending (source_id) SELECT source_id FROM audit_leaves`)
		require.NoError(t, err)
		requireClean(t, b.verify(t, b.notes(t)...))
		b.fill(t, 2)
		b.flush(t)
		b.requireWhole(t)
		var left int
		require.NoError(t, x.Get(&left, `SELECT COUNT(*) FROM audit_pending`))
		require.Zero(t, left)
		require.Contains(t, b.said.String(), "in the audit log already")
	})
}

// A reference without a record is reported and holds up nothing.
func TestLostRecordDoesNotStopTheLog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ghost := store.IDFloor(sourcePrefix, time.UnixMilli(1))
		x := b.attack(t)
		const ghosts = 2*maxSources + 3
		for i := range ghosts {
			_, err := x.Exec(`INSERT INTO audit_pending (source_id) VALUES ('` + store.IDFloor(sourcePrefix, time.UnixMilli(int64(1+i))) + `')`)
			require.NoError(t, err)
		}
		b.fill(t, 60)
		b.flush(t)
		r := b.verify(t, b.notes(t)...)
		f, ok := r.First()
		require.True(t, ok)
		require.Equal(t, Deleted, f.Kind)
		require.Equal(t, ghost, f.ID)
		require.EqualValues(t, min(ghosts, maxFindings), r.Found)
		require.EqualValues(t, ghosts, r.Pending)
		require.Len(t, b.leaves(t), len(records(t, b.db)))
	})
}

// A reference that comes very late, or from a clock that is slow, waits for the next checkpoint at most.
func TestOldReferenceIsFound(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ctx := t.Context()
		b.fill(t, 1)
		b.log.pass(ctx)
		b.log.pass(ctx)
		size := b.log.Health().Size
		p := &past{t: t, x: b.attack(t), r: rand.New(rand.NewPCG(1, 1)), used: map[string]bool{}, done: map[string]store.Event{}}
		p.act(time.Now().Add(-time.Hour))
		p.exec(`INSERT INTO audit_pending (source_id) VALUES ($1)`, p.events[0].ID)
		b.log.pass(ctx)
		require.Equal(t, size, b.log.Health().Size)
		b.log.signedAt = time.Time{}
		b.log.pass(ctx)
		require.Equal(t, size+1, b.log.Health().Size)
		requireClean(t, b.verify(t, b.notes(t)...))
	})
}

// Crashes are simulated by contexts that end at random moments, which breaks transactions off between any two statements, and on
// PostgreSQL by killing the connections.
func TestCrashLeavesNoGap(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := seed(t)
		r := rand.New(rand.NewPCG(s, 7))
		x := b.attack(t)
		broken := 0
		for i := range 60 {
			for n := range 3 {
				// A connection that was killed is noticed at its next use.
				require.Eventually(t, func() bool {
					return b.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(act(i*10 + n)) }) == nil
				}, 5*time.Second, time.Millisecond)
				b.lend(t, i*100+n*4, 4)
			}
			if i%4 == 0 { // a new process, which must find its place in the database
				require.Eventually(t, func() bool {
					l, err := New(t.Context(), Config{DB: b.db, Ring: b.ring, CheckpointFile: b.file})
					b.log = l
					return err == nil
				}, 5*time.Second, time.Millisecond)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var killer sync.WaitGroup
			delay := time.Duration(100e3 * math.Pow(300, r.Float64())) // 0.1 to 30 ms, the short ones as often as the long
			killer.Go(func() {
				time.Sleep(delay)
				if b.db.Engine() == store.Postgres && i%2 == 0 {
					_, _ = x.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
					return
				}
				cancel()
			})
			if err := b.log.Flush(ctx); err != nil {
				broken++
			}
			killer.Wait()
			cancel()
		}
		t.Logf("%d of 60 were broken off", broken)
		require.Positive(t, broken)
		require.Eventually(t, func() bool { return b.log.Flush(t.Context()) == nil }, 5*time.Second, time.Millisecond)
		b.requireWhole(t)
	})
}

// A large backlog, with batches of many records, goes through in bounded transactions.
func TestBacklog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		rounds := 8
		if testing.Short() {
			rounds = 2
		}
		for i := range rounds {
			b.lend(t, i*300, 300)
		}
		b.fill(t, 20*rounds)
		b.flush(t)
		b.requireWhole(t)
	})
}

func TestStartSequencesAndCloseSigns(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.log.every = 10 * time.Millisecond
		b.log.Start(t.Context())
		b.fill(t, 5)
		require.Eventually(t, func() bool { return b.log.Health().Signed > 0 }, 5*time.Second, 5*time.Millisecond, "the first checkpoint does not wait")
		b.fill(t, 5)
		b.log.Close()
		b.requireWhole(t)
		var holder string
		require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&holder, `SELECT holder FROM elections WHERE name = $1`, electionName)
		}))
		require.Empty(t, holder, "the next instance need not wait")
	})
}
