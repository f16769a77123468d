package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestCountsOutsideTheCharge: counts are told, begun, handed on and swept; what another version counts is none of these but the last.
func TestCountsOutsideTheCharge(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		act := func(fn func(tx *store.Tx) error) {
			t.Helper()
			require.NoError(t, db.Bookkeep(t.Context(), store.Counter, fn))
		}
		spent := func(subject string) (n int64, known bool) {
			t.Helper()
			act(func(tx *store.Tx) error {
				state, ok, err := tx.Counts(subject)
				n, known = 0, ok
				if ok {
					for _, u := range state.Look(tx.Now(), limit(map[quota.Kind]int64{quota.MonthlyTokens: 1000}), func(string, int64) bool { return true }) {
						n = u.Used
					}
				}
				return err
			})
			return n, known
		}
		n, known := spent("key_1")
		require.Zero(t, n)
		require.True(t, known, "never counted")
		act(func(tx *store.Tx) error { return tx.InheritCounts("key_1", "key_2") })
		rows := 0
		act(func(tx *store.Tx) error { return tx.Get(&rows, `SELECT COUNT(*) FROM quota_counts`) })
		require.Zero(t, rows, "nothing is handed on of what was never counted")

		act(func(tx *store.Tx) error {
			return tx.ChangeCounts("key_1", func(s *quota.State) { s.Begin(tx.Now(), 70, 7) })
		})
		act(func(tx *store.Tx) error { return tx.InheritCounts("key_1", "key_2") })
		for _, subject := range []string{"key_1", "key_2"} {
			n, known = spent(subject)
			require.EqualValues(t, 70, n, subject)
			require.True(t, known)
		}

		act(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE quota_counts SET state = $1 WHERE subject = 'key_1'`, []byte{9, 9})
			return err
		})
		_, known = spent("key_1")
		require.False(t, known)
		act(func(tx *store.Tx) error {
			return tx.ChangeCounts("key_1", func(*quota.State) { t.Error("it cannot be read") })
		})
		act(func(tx *store.Tx) error { return tx.InheritCounts("key_1", "key_3") })
		act(func(tx *store.Tx) error { return tx.Get(&rows, `SELECT COUNT(*) FROM quota_counts`) })
		require.Equal(t, 2, rows)

		act(func(tx *store.Tx) error { return tx.SweepCounts(tx.Now().Add(-time.Hour)) })
		act(func(tx *store.Tx) error { return tx.Get(&rows, `SELECT COUNT(*) FROM quota_counts`) })
		require.Equal(t, 2, rows)
		act(func(tx *store.Tx) error { return tx.SweepCounts(tx.Now().Add(time.Hour)) })
		act(func(tx *store.Tx) error { return tx.Get(&rows, `SELECT COUNT(*) FROM quota_counts`) })
		require.Zero(t, rows)
	})
}
