package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestInsertMany(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		insert := func(args ...any) error {
			return db.Bookkeep(t.Context(), store.Election, func(tx *store.Tx) error {
				return tx.InsertMany("elections (name, holder, epoch, until)", 4, args)
			})
		}
		var args []any
		var want []string
		for i := range 300 {
			want = append(want, fmt.Sprintf("e%03d", i))
			args = append(args, want[i], "h", i, 0)
		}
		require.NoError(t, insert(args...))
		require.Equal(t, want, elections(t, db))
		require.NoError(t, insert())
		require.ErrorContains(t, insert("x", "h", 1), "rows of 4")
		require.True(t, store.IsConflict(insert("new", "h", 1, 0, "e007", "h", 1, 0)))
		require.Equal(t, want, elections(t, db), "all or none")
	})
}

// TestUpsertMany: what is there is changed as the conflict says, and what is not is added, in as many statements as it takes.
func TestUpsertMany(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		put := func(from, n, epoch int) {
			var args []any
			for i := range n {
				args = append(args, fmt.Sprintf("e%03d", from+i), "h", epoch, 0)
			}
			require.NoError(t, db.Bookkeep(t.Context(), store.Election, func(tx *store.Tx) error {
				return tx.UpsertMany("elections (name, holder, epoch, until)", 4, args, `ON CONFLICT (name) DO UPDATE SET epoch = elections.epoch + excluded.epoch`)
			}))
		}
		put(0, 200, 1)
		put(100, 200, 10)
		var sums []int64
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Select(&sums, `SELECT SUM(epoch) FROM elections WHERE name LIKE 'e%' GROUP BY CASE WHEN name < 'e100' THEN 0 WHEN name < 'e200' THEN 1 ELSE 2 END ORDER BY 1`)
		}))
		require.Equal(t, []int64{100, 1000, 1100}, sums)
	})
}
