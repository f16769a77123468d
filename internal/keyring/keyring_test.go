package keyring_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const planted = "pl4nted-secret-0123456789"

var here = secret.AAD{Table: "credential_secrets", ID: "cred_1", Field: "password", Version: 3}

func rootKey(t *testing.T) secret.RootKey {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return root
}

func open(t *testing.T, db *store.DB, root secret.RootKey) *keyring.Ring {
	t.Helper()
	ring, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	return ring
}

// tamper runs SQL past the room, as somebody with the database would.
func tamper(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		n, err := tx.Exec(query, args...)
		require.NotZero(t, n, "nothing was changed")
		return err
	}))
}

func events(t *testing.T, db *store.DB) []store.Event {
	t.Helper()
	var bodies [][]byte
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`) }))
	var out []store.Event
	for _, b := range bodies {
		ev, err := store.DecodeEvent(b)
		require.NoError(t, err)
		out = append(out, ev)
	}
	return out
}

func TestFirstStartMakesTheKeyringOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		have, err := keyring.Exists(t.Context(), db)
		require.NoError(t, err)
		require.False(t, have)
		root := rootKey(t)
		var log strings.Builder
		ring, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root, Log: slog.New(slog.NewJSONHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, ring.Ready())
		require.Contains(t, log.String(), root.ID())
		have, err = keyring.Exists(t.Context(), db)
		require.NoError(t, err)
		require.True(t, have)

		box, err := ring.Seal("credential", secret.FromString(planted), here)
		require.NoError(t, err)
		for range 2 {
			again := open(t, db, root)
			got, err := again.Open("credential", box, here)
			require.NoError(t, err)
			require.Equal(t, planted, got.Reveal())
		}
		evs := events(t, db)
		require.Len(t, evs, 1, "opening an existing keyring is no act")
		require.Equal(t, store.AdminKeyring, evs[0].Action)
		require.Equal(t, root.ID(), evs[0].Target.ID)
	})
}

func TestDataKeysLieWrapped(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		open(t, db, rootKey(t))
		var wrapped, check []byte
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Get(&wrapped, `SELECT wrapped FROM keyring_keys`); err != nil {
				return err
			}
			return tx.Get(&check, `SELECT sealed FROM keyring_checks`)
		}))
		require.Len(t, wrapped, secret.KeySize+28)
		require.NotContains(t, string(check), "signalbox")
	})
}

func TestWrongAndMissingRootKeyRefuse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		_, err := keyring.Open(t.Context(), keyring.Config{DB: db})
		requireFault(t, err, "SIGNALBOX_ROOT_KEY")
		have, err := keyring.Exists(t.Context(), db)
		require.NoError(t, err)
		require.False(t, have, "no keyring without a root key")

		right, wrong := rootKey(t), rootKey(t)
		open(t, db, right)
		_, err = keyring.Open(t.Context(), keyring.Config{DB: db})
		requireFault(t, err, right.ID(), "SIGNALBOX_ROOT_KEY")
		_, err = keyring.Open(t.Context(), keyring.Config{DB: db, Root: wrong})
		requireFault(t, err, right.ID(), wrong.ID())
		require.Len(t, events(t, db), 1, "a refused start changes nothing")
		open(t, db, right)

		_, err = keyring.Open(t.Context(), keyring.Config{Root: right})
		require.Error(t, err)
	})
}

func requireFault(t *testing.T, err error, wants ...string) {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "encryption_key_missing", f.Code)
	for _, want := range wants {
		require.Contains(t, err.Error(), want)
	}
}

func TestInstancesThatStartTogetherShareOneKeyring(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root := rootKey(t)
		rings := make([]*keyring.Ring, 8)
		errs := make([]error, len(rings))
		var all sync.WaitGroup
		for i := range rings {
			all.Go(func() { rings[i], errs[i] = keyring.Open(t.Context(), keyring.Config{DB: db, Root: root}) })
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		box, err := rings[0].Seal("credential", secret.FromString(planted), here)
		require.NoError(t, err)
		for _, r := range rings {
			got, err := r.Open("credential", box, here)
			require.NoError(t, err)
			require.Equal(t, planted, got.Reveal())
		}
		require.Len(t, events(t, db), 1)
	})
}

func TestInvariant07OpenWithAnotherRowFieldOrVersionFails(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ring := open(t, db, rootKey(t))
		box, err := ring.Seal("credential", secret.FromString(planted), here)
		require.NoError(t, err)
		for name, aad := range map[string]secret.AAD{
			"table": {Table: "credentials", ID: here.ID, Field: here.Field, Version: here.Version}, "row": {Table: here.Table, ID: "cred_2", Field: here.Field, Version: here.Version},
			"field": {Table: here.Table, ID: here.ID, Field: "notes", Version: here.Version}, "version": {Table: here.Table, ID: here.ID, Field: here.Field, Version: 2},
		} {
			got, err := ring.Open("credential", box, aad)
			require.ErrorIs(t, err, secret.ErrOpen, name)
			require.True(t, got.IsZero())
		}
		_, err = ring.Open("audit-signer", box, here)
		require.ErrorIs(t, err, secret.ErrOpen, "another purpose")
		_, err = ring.Open("", box, here)
		require.Error(t, err)
		_, err = ring.Seal("", secret.FromString(planted), here)
		require.Error(t, err)

		for i := range box {
			bad := bytes.Clone(box)
			bad[i] ^= 0x40
			_, err := ring.Open("credential", bad, here)
			require.Error(t, err, "byte %d", i)
			require.NotContains(t, err.Error(), planted)
		}
		for n := range box {
			_, err := ring.Open("credential", box[:n], here)
			require.ErrorIs(t, err, secret.ErrOpen, "cut to %d", n)
		}
		other := bytes.Clone(box)
		binary.BigEndian.PutUint32(other[1:], 2)
		_, err = ring.Open("credential", other, here)
		require.ErrorIs(t, err, keyring.ErrUnknownKey)

		stranger := open(t, storetest.Open(t, db.Engine()), rootKey(t))
		_, err = stranger.Open("credential", box, here)
		require.ErrorIs(t, err, secret.ErrOpen, "another database's ring")
	})
}

func TestDamagedKeyringsRefuse(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"check gone":       {`DELETE FROM keyring_checks`, "key-check"},
		"keys gone":        {`DELETE FROM keyring_keys`, "no data key is active"},
		"none active":      {`UPDATE keyring_keys SET state = 'retired'`, "no data key is active"},
		"version moved":    {`UPDATE keyring_keys SET version = 2`, "does not open"},
		"root id changed":  {`UPDATE keyring_keys SET root_key_id = 'rk_00000000'`, "does not belong"},
		"version too big":  {`UPDATE keyring_keys SET version = 4294967296`, "does not belong"},
		"wrapped replaced": {`UPDATE keyring_keys SET wrapped = (SELECT sealed FROM keyring_checks)`, "does not open"},
		"check replaced":   {`UPDATE keyring_checks SET sealed = (SELECT wrapped FROM keyring_keys)`, "key-check value does not open"},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, db *store.DB) {
				root := rootKey(t)
				open(t, db, root)
				tamper(t, db, c.sql)
				_, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
				requireFault(t, err, c.want)
				have, err := keyring.Exists(t.Context(), db)
				require.NoError(t, err)
				require.True(t, have, "a damaged keyring is never replaced by a fresh one")
			})
		})
	}
}

func TestNoRingIsNotReady(t *testing.T) {
	var none *keyring.Ring
	requireFault(t, none.Ready())
	requireFault(t, (&keyring.Ring{}).Ready())
	_, err := none.Seal("credential", secret.FromString(planted), here)
	requireFault(t, err)
	_, err = none.Open("credential", []byte{1, 0, 0, 0, 1, 2, 3}, here)
	requireFault(t, err)
}

func TestTheDatabaseAway(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	require.NoError(t, db.Close())
	_, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: rootKey(t)})
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	_, err = keyring.Exists(t.Context(), db)
	require.Error(t, err)
}
