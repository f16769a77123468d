package keyring

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestMACNeedsTheRing: the hash of a guess tells nothing without the data key, and compares after another key became active.
func TestMACNeedsTheRing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, err := secret.NewRootKey()
		require.NoError(t, err)
		ring, err := Open(t.Context(), Config{DB: db, Root: root})
		require.NoError(t, err)
		data := []byte(`{"pin":"1234"}`)
		mac, err := ring.MAC("requests", data)
		require.NoError(t, err)
		again, err := ring.MAC("requests", data)
		require.NoError(t, err)
		require.Equal(t, mac, again)
		other, err := ring.MAC("others", data)
		require.NoError(t, err)
		require.NotEqual(t, mac, other, "purposes do not share a key")

		same := func(r *Ring, purpose string, mac, data []byte) bool {
			ok, err := r.SameMAC(purpose, mac, data)
			require.NoError(t, err)
			return ok
		}
		require.True(t, same(ring, "requests", mac, data))
		require.False(t, same(ring, "others", mac, data))
		require.False(t, same(ring, "requests", mac, []byte(`{"pin":"1235"}`)))
		for i := 4; i < len(mac); i++ {
			bad := bytes.Clone(mac)
			bad[i] ^= 1
			require.False(t, same(ring, "requests", bad, data))
		}
		require.False(t, same(ring, "requests", mac[:20], data))
		require.False(t, same(ring, "requests", nil, data))
		unknown := bytes.Clone(mac)
		unknown[0] = 9
		_, err = ring.SameMAC("requests", unknown, data)
		require.ErrorIs(t, err, ErrUnknownKey)

		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE keyring_keys SET state = $1`, stateRetired); err != nil {
				return err
			}
			return addActive(tx, root, 2)
		}))
		later, err := Open(t.Context(), Config{DB: db, Root: root})
		require.NoError(t, err)
		require.True(t, same(later, "requests", mac, data))
		fresh, err := later.MAC("requests", data)
		require.NoError(t, err)
		require.NotEqual(t, mac, fresh)

		_, err = ring.MAC("", data)
		require.Error(t, err)
		_, err = (&Ring{}).MAC("requests", data)
		require.Error(t, err)
		_, err = (*Ring)(nil).SameMAC("requests", mac, data)
		require.Error(t, err)
	})
}
