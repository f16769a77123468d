package keeper_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func events(t *testing.T, db *store.DB) (out []string) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&out, `SELECT action FROM audit_events WHERE action LIKE 'admin.root_key%' ORDER BY id`)
	}))
	return out
}

func TestBook(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		all, err := keeper.List(ctx, db)
		require.NoError(t, err)
		require.Empty(t, all)
		w := keeper.Wrapping{RootKeyID: "rk_1", Keeper: "vault-transit://v/transit/k", Wrapped: keeper.Wrapped{Blob: []byte("one"), KeyVersion: "v1"}}
		require.NoError(t, keeper.Keep(ctx, db, w, nil))
		err = keeper.Keep(ctx, db, w, nil)
		require.Equal(t, fault.Conflict, fault.KindOf(err), "%v", err)

		now := w
		now.Wrapped = keeper.Wrapped{Blob: []byte("two"), KeyVersion: "v2"}
		require.NoError(t, keeper.Keep(ctx, db, now, &w))
		err = keeper.Keep(ctx, db, now, &w)
		require.Equal(t, fault.Conflict, fault.KindOf(err), "what stood there was replaced meanwhile: %v", err)
		all, err = keeper.List(ctx, db)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, now.Wrapped, all[0].Wrapped)
		require.False(t, all[0].WrappedAt.Before(all[0].CreatedAt))

		other := w
		other.Keeper = "vault-transit://w/transit/k"
		require.NoError(t, keeper.Keep(ctx, db, other, nil))
		require.NoError(t, keeper.Taken(ctx, db, other))
		err = keeper.Forget(ctx, db, []keeper.Wrapping{other, {RootKeyID: "rk_9", Keeper: "x"}})
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		require.NoError(t, keeper.Forget(ctx, db, []keeper.Wrapping{other}))
		all, err = keeper.List(ctx, db)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, []string{"admin.root_key_wrap", "admin.root_key_wrap", "admin.root_key_wrap", "admin.root_key_unwrap", "admin.root_key_forget"}, events(t, db))
	})
}

// TestFirstIsOne: of many instances that make a root key at once one wins, and all get that one's.
func TestFirstIsOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const instances = 8
		got := make([]keeper.Wrapping, instances)
		var wg sync.WaitGroup
		for i := range instances {
			wg.Go(func() {
				id := string(rune('a' + i))
				w, err := keeper.First(t.Context(), db, keeper.Wrapping{RootKeyID: id, Keeper: "k", Wrapped: keeper.Wrapped{Blob: []byte(id), KeyVersion: "v1"}})
				if err == nil {
					got[i] = w
				}
			})
		}
		wg.Wait()
		all, err := keeper.List(t.Context(), db)
		require.NoError(t, err)
		require.Len(t, all, 1)
		for _, w := range got {
			require.Equal(t, all[0].RootKeyID, w.RootKeyID)
			require.Equal(t, all[0].Blob, w.Blob)
		}
		require.Equal(t, []string{"admin.root_key_wrap"}, events(t, db))
	})
}
