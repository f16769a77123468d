package vault_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

// TestAFailingDatabaseIsNoTamperedCredential: a change of the data key leaves behind what vouches for nothing. That a credential could not be read at the
// moment says no such thing of it; one that is gone, or in a form that nobody here has written, does.
func TestAFailingDatabaseIsNoTamperedCredential(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, err := f.Create(t.Context(), admin, password("bound"))
		require.NoError(t, err)
		renew := f.Sealed()[2].Renew
		renewed := func(id string, also func(tx *store.Tx, cut context.CancelFunc)) error {
			var out error
			ctx, cut := context.WithCancel(t.Context())
			defer cut()
			_ = f.db.Read(ctx, func(tx *store.Tx) error { // what is cut fails, and is tried once
				also(tx, cut)
				_, out = renew(tx, keyring.Row{ID: id})
				return nil
			})
			return out
		}
		nothing := func(*store.Tx, context.CancelFunc) {}
		require.NoError(t, renewed(c.ID, nothing))
		require.ErrorIs(t, renewed("cred_00000000000000000000000000", nothing), keyring.ErrMoot)
		failed := renewed(c.ID, func(_ *store.Tx, cut context.CancelFunc) { cut() })
		require.Error(t, failed)
		require.NotErrorIs(t, failed, keyring.ErrMoot)

		f.exec(t, `UPDATE credentials SET tags = 'nothing of ours' WHERE id = $1`, c.ID)
		require.ErrorIs(t, renewed(c.ID, nothing), keyring.ErrMoot)
	})
}
