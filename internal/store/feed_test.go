package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// heard collects what a subscriber was told.
type heard struct {
	mu    sync.Mutex
	subj  map[string]int
	reset int
	fail  error
}

func listen(db *store.DB) *heard {
	h := &heard{subj: map[string]int{}}
	db.Subscribe(func(_ context.Context, cs []store.Change) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.fail != nil {
			return h.fail
		}
		for _, c := range cs {
			if c.Topic == store.TopicReset {
				h.reset++
				continue
			}
			h.subj[c.Subject]++
		}
		return nil
	})
	return h
}

func (h *heard) has(s string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.subj[s] > 0
}

func change(ctx context.Context, db *store.DB, subject string, hold time.Duration) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		tx.Change(store.TopicKey, subject)
		if err := tx.Record(act(subject)); err != nil {
			return err
		}
		time.Sleep(hold)
		return nil
	})
}

func TestOwnChangesAreKnownWhenWriteReturns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := listen(db)
		require.NoError(t, db.Start(t.Context()))
		require.Equal(t, 1, h.reset)
		require.NoError(t, change(t.Context(), db, "key_a", 0))
		require.True(t, h.has("key_a"))
		require.Error(t, db.Write(t.Context(), func(tx *store.Tx) error {
			tx.Change(store.TopicKey, "key_b")
			return errors.New("no")
		}))
		require.False(t, h.has("key_b"))
	})
}

// TestCatchUpHearsWhatOthersCommitted: no waiting for the next poll, by one caller or by many at once.
func TestCatchUpHearsWhatOthersCommitted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := listen(db)
		require.NoError(t, db.Start(t.Context()))
		require.NoError(t, db.CatchUp(t.Context()))
		require.Equal(t, 1, h.reset, "catching up is no reason to reload")
	})
	cfg := storetest.Config(t, store.Postgres)
	here, there := storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg)
	h := listen(there)
	require.NoError(t, there.Start(t.Context()))
	var wg sync.WaitGroup
	for w := range 5 {
		wg.Go(func() {
			for i := range 20 {
				subject := fmt.Sprintf("key_%d_%d", w, i)
				if err := errors.Join(change(t.Context(), here, subject, 0), there.CatchUp(t.Context())); err != nil || !h.has(subject) {
					t.Errorf("%s: heard %v, %v", subject, h.has(subject), err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, h.reset)
	h.mu.Lock()
	h.fail = errors.New("cannot follow")
	h.mu.Unlock()
	require.NoError(t, change(t.Context(), here, "key_x", 0))
	require.Error(t, there.CatchUp(t.Context()))
}

// TestLateCommitIsHeard is the proof that the feed cannot lose a revocation: the first transaction takes its id and its sequence before
// the second, and commits after a reader has read the second. A reader with a cursor over ids, run beside it, misses it.
func TestLateCommitIsHeard(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	writer, reader := storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg)
	h := listen(reader)
	require.NoError(t, writer.Start(t.Context()))
	require.NoError(t, reader.Start(t.Context()))

	ctx := t.Context()
	slow, err := pgx.Connect(ctx, cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = slow.Close(ctx) }()
	tx, err := slow.Begin(ctx)
	require.NoError(t, err)
	early := store.NewID("chg")
	_, err = tx.Exec(ctx, `INSERT INTO changes (id, at, topic, subject) VALUES ($1, 0, 'key', 'early')`, early)
	require.NoError(t, err)

	time.Sleep(2 * time.Millisecond)
	require.NoError(t, change(ctx, writer, "late", 0))
	require.Eventually(t, func() bool { return h.has("late") }, 3*time.Second, 10*time.Millisecond)
	var cursor string
	require.NoError(t, slow.QueryRow(ctx, `SELECT 1`).Scan(new(int)))
	require.NoError(t, writer.Read(ctx, func(tx *store.Tx) error { return tx.Get(&cursor, `SELECT max(id) FROM changes`) }))
	require.Less(t, early, cursor)
	require.False(t, h.has("early"))

	require.NoError(t, tx.Commit(ctx))
	require.Eventually(t, func() bool { return h.has("early") }, 5*time.Second, 10*time.Millisecond)
	var naive int
	require.NoError(t, writer.Read(ctx, func(tx *store.Tx) error {
		return tx.Get(&naive, `SELECT count(*) FROM changes WHERE id > $1`, cursor)
	}))
	require.Zero(t, naive, "the control: a cursor over ids never reads the late row")
}

// TestDelayedCommitsLoseNothing commits at random moments, out of order, on two instances while a third follows.
func TestDelayedCommitsLoseNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cfg := storetest.Config(t, store.Postgres)
	a, b, reader := storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg)
	h := listen(reader)
	for _, db := range []*store.DB{a, b, reader} {
		require.NoError(t, db.Start(t.Context()))
	}
	const workers, each = 12, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]time.Time{}
	var worst time.Duration
	for w := range workers {
		rng := rand.New(rand.NewPCG(seed, uint64(w)))
		db := a
		if w%2 == 1 {
			db = b
		}
		wg.Go(func() {
			for i := range each {
				subject := fmt.Sprintf("key_%d_%d", w, i)
				hold := time.Duration(rng.IntN(30)) * time.Millisecond
				if rng.IntN(20) == 0 {
					hold = 600 * time.Millisecond
				}
				if err := change(context.Background(), db, subject, hold); err != nil {
					t.Errorf("%s: %v", subject, err)
					return
				}
				mu.Lock()
				acked[subject] = time.Now()
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // how long after its acknowledgement each change is heard
		for {
			mu.Lock()
			for s, at := range acked {
				if h.has(s) {
					delete(acked, s)
				} else {
					worst = max(worst, time.Since(at))
				}
			}
			left := len(acked)
			mu.Unlock()
			select {
			case <-stop:
				if left == 0 || worst > 5*time.Second {
					return
				}
			default:
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	wg.Wait()
	close(stop)
	watch.Wait()
	require.Empty(t, acked, "changes that were acknowledged and never heard")
	require.Less(t, worst, time.Second, "a revocation must be known everywhere within a second of its acknowledgement")
	t.Logf("%d changes, the slowest was heard %v after its acknowledgement", workers*each, worst)
}

func TestFailedSubscriberStopsService(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := listen(db)
		require.NoError(t, db.Start(t.Context()))
		require.NoError(t, db.Fresh(t.Context()))
		h.mu.Lock()
		h.fail = errors.New("cannot load")
		h.mu.Unlock()
		require.NoError(t, change(t.Context(), db, "key_a", 0), "the commit stands")
		err := db.Fresh(t.Context())
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		require.Eventually(t, func() bool { return db.Fresh(t.Context()) == nil }, 2*time.Second, 10*time.Millisecond)
		require.GreaterOrEqual(t, h.reset, 2)
	})
}

// TestStaleFeedSaysNo cuts an instance off from its database.
func TestStaleFeedSaysNo(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	cut := newCutter(t, cfg.PostgresURL)
	cfg.PostgresURL = cut.url
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, db.Fresh(t.Context()))
	cut.set(true)
	require.Eventually(t, func() bool { return db.Age() > time.Second }, 3*time.Second, 10*time.Millisecond)
	start := time.Now()
	err := db.Fresh(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Less(t, time.Since(start), 2*time.Second)
	cut.set(false)
	require.Eventually(t, func() bool { return db.Fresh(t.Context()) == nil }, 5*time.Second, 50*time.Millisecond)
}

func (h *heard) resets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reset
}
