package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestLockHoldsUpTheSameName and nobody else, until the transaction ends. A reading transaction locks nothing.
func TestLockHoldsUpTheSameName(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		lock := func(name string, then func()) error {
			return db.Bookkeep(t.Context(), store.Counter, func(tx *store.Tx) error {
				if err := tx.Lock(name); err != nil {
					return err
				}
				then()
				return tx.Lock(name) // one's own is no obstacle
			})
		}
		require.Error(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Lock("a") }))
		inside, leave, second := make(chan struct{}), make(chan struct{}), make(chan struct{})
		errs := make(chan error, 2)
		go func() { errs <- lock("a", func() { close(inside); <-leave }) }()
		<-inside
		go func() { errs <- lock("a", func() { close(second) }) }()
		if db.Engine() == store.Postgres { // on SQLite nobody at all could write
			require.NoError(t, lock("b", func() {}))
			require.Eventually(t, func() bool {
				var n int
				require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
					return tx.Get(&n, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
				}))
				return n == 1
			}, 20*time.Second, 5*time.Millisecond)
		}
		select {
		case <-second:
			t.Fatal("two hold one lock")
		default:
		}
		close(leave)
		<-second
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
	})
}
