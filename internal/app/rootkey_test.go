package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/keeper/keepertest"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// onKeyring does something to the keyring of a server that stands still.
func onKeyring(t *testing.T, cfg app.Config, do func(db *store.DB)) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: cfg.DataDir, PostgresURL: cfg.DatabaseURL})
	require.NoError(t, err)
	do(db)
	require.NoError(t, db.Close())
}

func fileID(t *testing.T, path string) string {
	t.Helper()
	key, err := secret.ReadRootKeyFile(path)
	require.NoError(t, err)
	return key.ID()
}

// TestAChangeOfTheRootKeyCutOffAnywhere: whatever step was the last before a kill, the server starts, and the change run again ends it.
func TestAChangeOfTheRootKeyCutOffAnywhere(t *testing.T) {
	for last, name := range []string{"nothing done", "new key in a file", "both open", "old key kept", "file exchanged"} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			old := startAndStop(t, cfg).RootKeyID
			path := filepath.Join(cfg.DataDir, app.RootKeyFile)
			present, err := secret.ReadRootKeyFile(path)
			require.NoError(t, err)
			want := ""
			if last >= 1 {
				_, want, err = app.MakeRootKey(path + ".next")
				require.NoError(t, err)
			}
			if last >= 2 {
				next, err := secret.ReadRootKeyFile(path + ".next")
				require.NoError(t, err)
				onKeyring(t, cfg, func(db *store.DB) { require.NoError(t, keyring.AddRoot(t.Context(), db, present, next)) })
			}
			if last >= 3 {
				require.NoError(t, os.Link(path, path+"."+old))
			}
			if last >= 4 {
				require.NoError(t, os.Rename(path+".next", path))
			}
			startAndStop(t, cfg)

			did, err := app.ChangeRootKey(t.Context(), cfg, "")
			require.NoError(t, err)
			require.True(t, did.Done)
			require.Equal(t, old, did.Old)
			require.NotEqual(t, old, did.New)
			if want != "" {
				require.Equal(t, want, did.New)
			}
			require.Equal(t, did.New, fileID(t, path))
			require.Equal(t, path+"."+old, did.KeptFile)
			require.Equal(t, old, fileID(t, did.KeptFile))
			require.NoFileExists(t, path+".next")
			startAndStop(t, cfg)
			require.NoError(t, os.Rename(did.KeptFile, path))
			require.Contains(t, refusesToOpen(t, cfg), "made with root key "+did.New)
		})
	}
}

// TestTheRootKeyOfAFleetIsChanged: a key that is given from outside is changed in two acts, between which instances start with either.
func TestTheRootKeyOfAFleetIsChanged(t *testing.T) {
	onEngines(t, func(t *testing.T, load func(more ...string) app.Config) {
		before, after := load("SIGNALBOX_ROOT_KEY", rootText(7)), load("SIGNALBOX_ROOT_KEY", rootText(9))
		_, err := app.ChangeRootKey(t.Context(), before, "")
		requireCode(t, err, "not_found")
		startAndStop(t, before)
		file := filepath.Join(t.TempDir(), "new.key")
		require.NoError(t, os.WriteFile(file, []byte(rootText(9)+"\n"), 0o600))
		_, err = app.ChangeRootKey(t.Context(), before, "")
		require.Contains(t, requireCode(t, err, "malformed_request").Detail, "--new-key FILE")
		_, err = app.ChangeRootKey(t.Context(), after, file)
		requireCode(t, err, "encryption_key_missing")

		for _, ends := range []bool{false, true} {
			did, err := app.ChangeRootKey(t.Context(), before, file)
			require.NoError(t, err)
			require.False(t, did.Done)
			require.Equal(t, rootID(t, rootText(7)), did.Old)
			require.Equal(t, rootID(t, rootText(9)), did.New)
			startAndStop(t, before)
			startAndStop(t, after)
			refusesToOpen(t, load("SIGNALBOX_ROOT_KEY", rootText(8)))
			if !ends {
				_, err = app.AbandonRootKey(t.Context(), after)
				requireCode(t, err, "root_key_changing")
				_, err = app.AbandonRootKey(t.Context(), before)
				require.NoError(t, err)
				refusesToOpen(t, after)
			}
		}
		_, err = app.FinishRootKey(t.Context(), before)
		require.Contains(t, requireCode(t, err, "root_key_changing").Detail, "still gives root key")
		did, err := app.FinishRootKey(t.Context(), after)
		require.NoError(t, err)
		require.True(t, did.Done)
		require.Equal(t, rootID(t, rootText(7)), did.Old)
		require.Contains(t, refusesToOpen(t, before), "made with root key "+did.New)
		startAndStop(t, after)
		did, err = app.FinishRootKey(t.Context(), after)
		require.NoError(t, err)
		require.Empty(t, did.Old, "again does nothing")
	})
}

// TestKeepersWrapTheNewRootKey: every keeper of the root key wraps the new one before it counts, and what they wrapped of the old one goes.
func TestKeepersWrapTheNewRootKey(t *testing.T) {
	onEngines(t, func(t *testing.T, load func(more ...string) app.Config) {
		v := keepertest.StartVault(t, vaultToken)
		v.MakeKey("one")
		v.MakeKey("two")
		one, two := load("SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("one")), load("SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("two"))
		old := startAndStop(t, one).RootKeyID
		_, err := app.WrapRootKey(t.Context(), one, address(t, v.Keeper("two")))
		require.NoError(t, err)

		// One that refuses: nothing is changed.
		v.Delete("two")
		_, err = app.ChangeRootKey(t.Context(), one, "")
		require.ErrorContains(t, err, "nothing was changed")
		startAndStop(t, one)
		v.MakeKey("two")
		_, err = app.ForgetWrapping(t.Context(), one, address(t, v.Keeper("two")))
		require.NoError(t, err)
		_, err = app.WrapRootKey(t.Context(), one, address(t, v.Keeper("two")))
		require.NoError(t, err)

		did, err := app.ChangeRootKey(t.Context(), one, "")
		require.NoError(t, err)
		require.Equal(t, old, did.Old)
		require.Len(t, did.Keepers, 2)
		startAndStop(t, one)
		if one.DatabaseURL.IsZero() {
			require.True(t, did.Done)
		} else { // other instances may run with the old one
			require.False(t, did.Done)
			again, err := app.ChangeRootKey(t.Context(), two, "")
			require.NoError(t, err)
			require.Equal(t, did.New, again.New)
			did, err = app.FinishRootKey(t.Context(), two)
			require.NoError(t, err)
		}
		require.NotEqual(t, old, did.New)
		startAndStop(t, one)
		startAndStop(t, two)
		all, err := app.Wrappings(t.Context(), one)
		require.NoError(t, err)
		require.Len(t, all, 2)
		for _, w := range all {
			require.Equal(t, did.New, w.RootKeyID)
		}
		entries, err := os.ReadDir(one.DataDir)
		require.NoError(t, err)
		for _, e := range entries {
			require.False(t, strings.HasPrefix(e.Name(), app.RootKeyFile), e.Name())
		}
	})
}
