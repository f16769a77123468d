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
