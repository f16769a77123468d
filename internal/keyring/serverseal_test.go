package keyring_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func sealEvent() store.Event {
	return store.Event{Actor: store.Actor{Kind: "user", ID: "usr_1", Name: "Ada"}, Action: store.AdminSeal, Target: store.Target{Kind: "keyring"}}
}

// write changes the database as somebody does who has it and no key.
func write(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return errors.Join(err, tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "test"}, Action: store.AdminStart, Target: store.Target{Kind: "test"}}))
	}))
}

// TestASealIsLiftedByTheRootKeyAlone: what the servers are shown as proof comes from whoever had the root key; who writes to the database alone cannot make
// it, nor take that of another seal.
func TestASealIsLiftedByTheRootKeyAlone(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, other := rootKey(t), rootKey(t)
		_, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
		require.NoError(t, err)
		none, err := keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.False(t, none.InForce())
		require.Error(t, none.Proven(t.Context(), db, root), "a mark that is not there proves nothing")
		_, did, err := keyring.UnsealServers(t.Context(), db, root, "here", false)
		require.NoError(t, err)
		require.False(t, did)

		set, err := keyring.SealServers(t.Context(), db, sealEvent(), "somebody is in")
		require.NoError(t, err)
		require.True(t, set.InForce())
		_, err = keyring.SealServers(t.Context(), db, sealEvent(), "again")
		require.Equal(t, "state_conflict", fault.Of(err).Code)
		now, err := keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.True(t, now.InForce())
		require.Equal(t, []string{set.ID, "Ada", "somebody is in"}, []string{now.ID, now.By, now.Reason})
		require.Error(t, now.Proven(t.Context(), db, root), "it is in force")

		write(t, db, `UPDATE keyring_seals SET unsealed_at = 1`)
		forged, err := keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.False(t, forged.InForce())
		require.Error(t, forged.Proven(t.Context(), db, root), "nobody has proved anything")
		write(t, db, `UPDATE keyring_seals SET proof = $1`, make([]byte, 36))
		forged, err = keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.Error(t, forged.Proven(t.Context(), db, root))
		renewed, did, err := keyring.UnsealServers(t.Context(), db, root, "here", false)
		require.NoError(t, err)
		require.True(t, did, "what was lifted without a proof is lifted with one")
		require.Equal(t, set.ID, renewed.ID)
		require.NoError(t, renewed.Proven(t.Context(), db, root))
		write(t, db, `UPDATE keyring_seals SET unsealed_at = 0, proof = NULL`)

		_, _, err = keyring.UnsealServers(t.Context(), db, other, "here", false)
		require.Equal(t, "encryption_key_missing", fault.Of(err).Code)
		lifted, did, err := keyring.UnsealServers(t.Context(), db, root, "here", false)
		require.NoError(t, err)
		require.True(t, did)
		now, err = keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, lifted.ID, now.ID)
		require.False(t, now.InForce())
		require.NoError(t, now.Proven(t.Context(), db, root))
		require.Error(t, now.Proven(t.Context(), db, other))
		_, did, err = keyring.UnsealServers(t.Context(), db, root, "here", false)
		require.NoError(t, err)
		require.False(t, did, "once")

		var proof []byte
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&proof, `SELECT proof FROM keyring_seals`) }))
		next, err := keyring.SealServers(t.Context(), db, sealEvent(), "another time")
		require.NoError(t, err)
		require.NotEqual(t, set.ID, next.ID)
		write(t, db, `UPDATE keyring_seals SET unsealed_at = 1, proof = $1`, proof)
		replayed, err := keyring.SealOf(t.Context(), db)
		require.NoError(t, err)
		require.Error(t, replayed.Proven(t.Context(), db, root), "the proof of another seal")

		write(t, db, `DELETE FROM keyring_seals`)
		_, did, err = keyring.UnsealServers(t.Context(), db, root, "here", false)
		require.NoError(t, err)
		require.False(t, did, "there is none")
		fresh, did, err := keyring.UnsealServers(t.Context(), db, root, "here", true)
		require.NoError(t, err)
		require.True(t, did)
		require.Greater(t, fresh.ID, next.ID, "a server that stands sealed takes it for newer")
		require.NoError(t, fresh.Proven(t.Context(), db, root))
	})
}

// TestASealIsLiftedWhileTheRootKeyIsChanged: either root key lifts it, and the servers with the other one believe that.
func TestASealIsLiftedWhileTheRootKeyIsChanged(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, next := rootKey(t), rootKey(t)
		_, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
		require.NoError(t, err)
		require.NoError(t, keyring.AddRoot(t.Context(), db, root, next))
		for range 2 {
			_, err = keyring.SealServers(t.Context(), db, sealEvent(), "x")
			require.NoError(t, err)
			lifted, did, err := keyring.UnsealServers(t.Context(), db, next, "here", false)
			require.NoError(t, err)
			require.True(t, did)
			require.NoError(t, lifted.Proven(t.Context(), db, root))
			require.NoError(t, lifted.Proven(t.Context(), db, next))
			root, next = next, root
		}
	})
}
