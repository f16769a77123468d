package keyring

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestRetiredKeysOpenAndDoNotSeal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, err := secret.NewRootKey()
		require.NoError(t, err)
		cfg := Config{DB: db, Root: root}
		before, err := Open(t.Context(), cfg)
		require.NoError(t, err)
		aad := secret.AAD{Table: "t", ID: "1", Field: "f", Version: 1}
		old, err := before.Seal("credential", secret.FromString("old secret"), aad)
		require.NoError(t, err)

		require.Error(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { return addActive(tx, root, 2) }), "two active keys are impossible")
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE keyring_keys SET state = $1`, stateRetired); err != nil {
				return err
			}
			return addActive(tx, root, 2)
		}))
		after, err := Open(t.Context(), cfg)
		require.NoError(t, err)
		require.NoError(t, after.Ready())
		got, err := after.Open("credential", old, aad)
		require.NoError(t, err)
		require.Equal(t, "old secret", got.Reveal())
		fresh, err := after.Seal("credential", secret.FromString("new secret"), aad)
		require.NoError(t, err)
		require.Equal(t, uint32(1), binary.BigEndian.Uint32(old[1:]))
		require.Equal(t, uint32(2), binary.BigEndian.Uint32(fresh[1:]))
		got, err = before.Open("credential", fresh, aad)
		require.NoError(t, err, "a ring that was opened before looks for a key that it does not know yet")
		require.Equal(t, "new secret", got.Reveal())

		// The two keys' rows exchanged: each is bound to its version.
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			for _, q := range []string{`UPDATE keyring_keys SET version = 9 WHERE version = 1`, `UPDATE keyring_keys SET version = 1 WHERE version = 2`, `UPDATE keyring_keys SET version = 2 WHERE version = 9`} {
				if _, err := tx.Exec(q); err != nil {
					return err
				}
			}
			return nil
		}))
		_, err = Open(t.Context(), cfg)
		require.ErrorContains(t, err, "does not open")
	})
}

// addActive makes a data key that seals at once.
func addActive(tx *store.Tx, root secret.RootKey, version int64) error {
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return err
	}
	return add(tx, wrap, root.ID(), version, stateActive)
}

func TestVersionsFitTheEnvelope(t *testing.T) {
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	for _, version := range []int64{0, -1, 1 << 32} {
		require.Error(t, addActive(nil, root, version))
	}
}
