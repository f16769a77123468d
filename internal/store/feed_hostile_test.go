package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestTransactionNumbersGoingBack: after a fail-over to a server that lags, or a restore, new transactions have smaller numbers.
func TestTransactionNumbersGoingBack(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	writer, reader := storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg)
	h := listen(reader)
	require.NoError(t, writer.Start(t.Context()))
	require.NoError(t, reader.Start(t.Context()))
	reader.SkipTransactions(500_000)
	require.NoError(t, change(t.Context(), writer, "key_after", 0))
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.reset >= 2 || h.subj["key_after"] > 0
	}, 2*time.Second, 10*time.Millisecond)
	require.NoError(t, change(t.Context(), writer, "key_later", 0))
	require.Eventually(t, func() bool { return h.has("key_later") }, 2*time.Second, 10*time.Millisecond)
}

// TestLongSilenceIsNotTrustedBeforeTheReload: after a long pause everything is reloaded, and until that is done the answer is no.
func TestLongSilenceIsNotTrustedBeforeTheReload(t *testing.T) {
	db := storetest.Open(t, store.Postgres)
	gate := make(chan struct{}, 1)
	gate <- struct{}{}
	db.Subscribe(func(_ context.Context, cs []store.Change) error {
		if cs[0].Topic == store.TopicReset {
			<-gate
		}
		return nil
	})
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, db.Fresh(t.Context()))
	db.Silence(20 * time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	time.Sleep(400 * time.Millisecond) // the feed is in its reload now
	require.Error(t, db.Fresh(ctx), "the caches are twenty minutes old")
	require.Greater(t, db.Age(), 10*time.Minute)
	gate <- struct{}{}
	require.Eventually(t, func() bool { return db.Fresh(t.Context()) == nil }, 3*time.Second, 20*time.Millisecond)
}

// TestBusyPoolDoesNotStarveTheFeed holds every common connection while another instance announces a change.
func TestBusyPoolDoesNotStarveTheFeed(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	writer := storetest.OpenConfig(t, cfg)
	require.NoError(t, writer.Start(t.Context()))
	cfg.MaxConns = 1
	db := storetest.OpenConfig(t, cfg)
	var mu sync.Mutex
	heard := false
	db.Subscribe(func(ctx context.Context, cs []store.Change) error {
		return db.Read(ctx, func(tx *store.Tx) error {
			var n int
			if err := tx.Get(&n, `SELECT count(*) FROM changes`); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, c := range cs {
				heard = heard || c.Subject == "key_x"
			}
			return nil
		})
	})
	require.NoError(t, db.Start(t.Context()))
	held, let := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- db.Read(context.Background(), func(tx *store.Tx) error {
			close(held)
			<-let
			return nil
		})
	}()
	<-held
	require.NoError(t, change(t.Context(), writer, "key_x", 0))
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard
	}, 2*time.Second, 10*time.Millisecond)
	for range 10 {
		require.NoError(t, db.Fresh(t.Context()))
		time.Sleep(50 * time.Millisecond)
	}
	close(let)
	require.NoError(t, <-done)
}

// TestFailedSubscriberAges: what the caches go by is as old as their first failure, on SQLite as well, so that open streams end in time.
func TestFailedSubscriberAges(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := listen(db)
		require.NoError(t, db.Start(t.Context()))
		require.Less(t, db.Age(), time.Second)
		h.mu.Lock()
		h.fail = errors.New("cannot load")
		h.mu.Unlock()
		require.NoError(t, change(t.Context(), db, "key_a", 0))
		time.Sleep(1200 * time.Millisecond)
		require.Greater(t, db.Age(), time.Second)
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		require.Eventually(t, func() bool { return db.Age() < time.Second }, 2*time.Second, 10*time.Millisecond)
	})
}
