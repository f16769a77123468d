package keyring_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// refusesRoot requires that a root key does not open the keyring.
func refusesRoot(t *testing.T, db *store.DB, root secret.RootKey) {
	t.Helper()
	_, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
	require.Equal(t, "encryption_key_missing", fault.Of(err).Code)
}

// wrappedBoxes returns everything in the database that a root key has sealed.
func wrappedBoxes(t *testing.T, db *store.DB) (out [][]byte) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		out = nil
		return tx.Select(&out, `SELECT wrapped FROM keyring_keys UNION ALL SELECT wrapped FROM keyring_wraps UNION ALL SELECT sealed FROM keyring_checks`)
	}))
	return out
}

// TestTheRootKeyIsChanged: both root keys open the keyring until the change ends, and then the new one alone; what was sealed stays, instances that
// run go on, and the change can be taken back until then.
func TestTheRootKeyIsChanged(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		before, after, other := rootKey(t), rootKey(t), rootKey(t)
		var log bytes.Buffer
		old := enter(t, db, before, quick(), slog.New(slog.NewJSONHandler(&log, nil)))
		require.NoError(t, old.put("a", planted))
		mac, err := old.ring.MAC("test", []byte("bound"))
		require.NoError(t, err)
		first := wrappedBoxes(t, db)
		require.Len(t, first, 2)

		// Refusals first.
		require.Equal(t, "encryption_key_missing", fault.Of(keyring.AddRoot(t.Context(), db, other, after)).Code)
		require.Equal(t, "malformed_request", fault.Of(keyring.AddRoot(t.Context(), db, before, before)).Code)
		require.Equal(t, first, wrappedBoxes(t, db))
		dropped, err := keyring.KeepRoot(t.Context(), db, before)
		require.NoError(t, err)
		require.Empty(t, dropped, "nothing was under way")

		require.NoError(t, keyring.AddRoot(t.Context(), db, before, after))
		require.NoError(t, keyring.AddRoot(t.Context(), db, before, after), "again does nothing")
		require.Equal(t, "root_key_changing", fault.Of(keyring.AddRoot(t.Context(), db, before, other)).Code)
		at, err := keyring.RootsOf(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, keyring.Roots{Present: before.ID(), Next: after.ID()}, at)
		refusesRoot(t, db, other)
		fresh := enter(t, db, after, quick(), nil)
		for _, m := range []*member{old, fresh, enter(t, db, before, quick(), nil)} {
			got, err := m.get("a")
			require.NoError(t, err)
			require.Equal(t, planted, got)
			_, err = m.rekeyer.Begin(t.Context(), ada(), false)
			require.Equal(t, "root_key_changing", fault.Of(err).Code)
		}

		// Taken back: as it was.
		dropped, err = keyring.KeepRoot(t.Context(), db, before)
		require.NoError(t, err)
		require.Equal(t, after.ID(), dropped)
		refusesRoot(t, db, after)
		require.Equal(t, first, wrappedBoxes(t, db))

		// And done.
		require.NoError(t, keyring.AddRoot(t.Context(), db, before, after))
		dropped, err = keyring.KeepRoot(t.Context(), db, after)
		require.NoError(t, err)
		require.Equal(t, before.ID(), dropped)
		refusesRoot(t, db, before)
		require.Len(t, wrappedBoxes(t, db), 2)
		for _, box := range wrappedBoxes(t, db) {
			require.NotContains(t, first, box)
			for _, purpose := range []string{"keyring-wrap", "keyring-check"} {
				sealer, err := before.Derive(purpose)
				require.NoError(t, err)
				for _, aad := range []secret.AAD{{Table: "keyring_keys", ID: before.ID(), Field: "wrapped", Version: 1}, {Table: "keyring_keys", ID: after.ID(), Field: "wrapped", Version: 1}} {
					_, err = sealer.Open(box, aad)
					require.ErrorIs(t, err, secret.ErrOpen)
				}
			}
		}
		fresh = enter(t, db, after, quick(), nil)
		got, err := fresh.get("a")
		require.NoError(t, err)
		require.Equal(t, planted, got)
		same, err := fresh.ring.SameMAC("test", mac, []byte("bound"))
		require.NoError(t, err)
		require.True(t, same)

		require.Equal(t, []store.Action{store.AdminKeyring, store.AdminRootKeyAdd, store.AdminRootKeyAbandon, store.AdminRootKeyAdd, store.AdminRootKeyChange}, actions(t, db))
	})
}

func actions(t *testing.T, db *store.DB) (out []store.Action) {
	t.Helper()
	for _, ev := range events(t, db) {
		out = append(out, ev.Action)
	}
	return out
}

// TestAnInstanceOutlivesItsRootKey: one that runs with the old root key goes on with the data keys that it holds and says so; it makes none, and
// what is under a later data key it does not open.
func TestAnInstanceOutlivesItsRootKey(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			before, after := rootKey(t), rootKey(t)
			cfg := storetest.Config(t, e)
			db := storetest.OpenConfig(t, cfg)
			log := &lockedBuffer{}
			old := enter(t, db, before, quick(), slog.New(slog.NewJSONHandler(log, nil)))
			require.NoError(t, keyring.AddRoot(t.Context(), db, before, after))
			require.NoError(t, db.Start(t.Context()))
			require.NoError(t, old.put("a", planted))
			require.False(t, old.ring.Outlived())
			_, err := keyring.KeepRoot(t.Context(), db, after)
			require.NoError(t, err)

			require.Eventually(t, old.ring.Outlived, 10*time.Second, 5*time.Millisecond)
			require.Contains(t, log.String(), "start it anew with the new root key")
			require.NotContains(t, log.String(), planted)
			require.NoError(t, old.ring.Ready())
			require.NoError(t, old.put("b", planted))
			_, err = old.rekeyer.Begin(t.Context(), ada(), false)
			require.Equal(t, "encryption_key_missing", fault.Of(err).Code)

			if e == store.SQLite { // where no other instance is beside it
				old.rekeyer.Close()
				require.NoError(t, db.Close())
			}
			db = storetest.OpenConfig(t, cfg)
			fresh := enter(t, db, after, quick(), nil)
			require.NoError(t, db.Start(t.Context()))
			require.False(t, fresh.ring.Outlived())
			_, err = fresh.rekeyer.Begin(t.Context(), ada(), false)
			require.NoError(t, err)
			require.Equal(t, "rekey_running", fault.Of(keyring.AddRoot(t.Context(), db, after, rootKey(t))).Code)
			fresh.rekeyer.Start(t.Context())
			fresh.done()
			got, err := fresh.get("b")
			require.NoError(t, err)
			require.Equal(t, planted, got)
			if e == store.Postgres {
				_, err = old.get("b")
				require.ErrorIs(t, err, keyring.ErrUnknownKey)
			}

			// Later the root key changes again: the data key that is gone is wrapped by none.
			next := rootKey(t)
			require.NoError(t, keyring.AddRoot(t.Context(), db, after, next))
			_, err = keyring.KeepRoot(t.Context(), db, next)
			require.NoError(t, err)
			got, err = enter(t, db, next, quick(), nil).get("b")
			require.NoError(t, err)
			require.Equal(t, planted, got)
			refusesRoot(t, db, after)
		})
	}
}

// lockedBuffer takes log lines of many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
