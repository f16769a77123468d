package vault

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestRemindersGoByTheirIndexes: what is due is found by the indexes of the dates, also while few of many credentials have one, and not by going through all of them.
func TestRemindersGoByTheirIndexes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ends := time.Now().Add(1000 * day)
		ids := fill(t, db, 3000, func(i int, m *Meta) {
			if m.Name = "x"; i%3 == 0 {
				m.RotateEvery, m.ExpiresAt = 300, &ends
			}
		})
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credentials SET rotate_at = $1 WHERE id IN ($2, $3)`, store.TimeOf(tx.Now()), ids[0], ids[1])
			return err
		}))
		byIndex := func(tx *store.Tx) error {
			for about, index := range map[About]string{AboutExpiry: "credentials_expiry", AboutRotation: "credentials_rotation"} {
				query, args := candidates(about, "", tx.Now())
				found := plan(t, tx, query, args...)
				require.Contains(t, found, index)
				require.NotContains(t, found, "Seq Scan on credentials")
			}
			return nil
		}
		if db.Engine() == store.SQLite { // which mostly knows nothing of its tables
			require.NoError(t, db.Read(t.Context(), byIndex))
		}
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`ANALYZE`)
			return err
		}))
		require.NoError(t, db.Read(t.Context(), byIndex))
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			var due []candidate
			query, args := candidates(AboutRotation, "", tx.Now())
			require.NoError(t, tx.Select(&due, query, args...))
			require.Len(t, due, 2)
			require.Less(t, due[0].ID, due[1].ID, "in the order of the ids, by which the next page begins")
			return nil
		}))
	})
}
