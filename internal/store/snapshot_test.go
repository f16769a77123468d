package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestReadSeesOneState: what is committed between two statements of a read is not half of what it sees.
func TestReadSeesOneState(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			db := storetest.OpenConfig(t, storetest.Config(t, e))
			count := func(tx *store.Tx) (n int) {
				require.NoError(t, tx.Get(&n, `SELECT COUNT(*) FROM audit_events`))
				return n
			}
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
				before := count(tx)
				require.NoError(t, db.Write(context.Background(), func(tx *store.Tx) error { return tx.Record(lease("k", "c")) }))
				require.Equal(t, before, count(tx))
				return nil
			}))
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
				require.Positive(t, count(tx))
				return nil
			}))
		})
	}
}
