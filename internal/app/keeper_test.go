package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/keeper/keepertest"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const vaultToken = "hvs.planted-8f3k2-token"

// onEngines runs a story on each engine; further are settings for the database.
func onEngines(t *testing.T, story func(t *testing.T, load func(more ...string) app.Config)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			var base []string
			dir := filepath.Join(t.TempDir(), "data")
			if e == store.Postgres {
				base = append(base, "SIGNALBOX_DATABASE_URL", storetest.PostgresURL(t))
			}
			story(t, func(more ...string) app.Config {
				if e == store.SQLite {
					more = append([]string{"SIGNALBOX_DATA_DIR", dir}, more...)
				}
				return config(t, append(append([]string{"VAULT_TOKEN", vaultToken}, base...), more...)...)
			})
		})
	}
}

func address(t *testing.T, text string) keeper.Address {
	t.Helper()
	a, err := keeper.Parse(text)
	require.NoError(t, err)
	return a
}

func startAndStop(t *testing.T, cfg app.Config) app.First {
	t.Helper()
	a, err := app.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	return a.First()
}

func requireCode(t *testing.T, err error, code string) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, f.Code, f.Detail)
	require.NotContains(t, f.Detail, "planted")
	return f
}

// TestAKeeperFromTheFirstStart: the first start makes the root key, has it wrapped, and leaves it in no file; the next start needs the keeper.
func TestAKeeperFromTheFirstStart(t *testing.T) {
	onEngines(t, func(t *testing.T, load func(more ...string) app.Config) {
		v := keepertest.StartVault(t, vaultToken)
		v.MakeKey("signalbox")
		kept := load("SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("signalbox"))

		// A keeper that cannot be asked: no start, and nothing made that would stand in the way of the next one.
		v.Answer(403, `{"errors":["permission denied"]}`)
		v.Answer(403, `{"errors":["permission denied"]}`)
		_, err := app.Open(t.Context(), kept)
		f := requireCode(t, err, "root_key_keeper")
		require.Contains(t, f.Detail, v.Keeper("signalbox"))

		first := startAndStop(t, kept)
		require.True(t, first.Done)
		require.Equal(t, v.Keeper("signalbox"), first.RootKeyKeeper)
		require.Empty(t, first.RootKeyFile)
		all, err := app.Wrappings(t.Context(), kept)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, first.RootKeyID, all[0].RootKeyID)
		entries, err := os.ReadDir(kept.DataDir)
		require.NoError(t, err)
		for _, e := range entries {
			require.NotEqual(t, app.RootKeyFile, e.Name())
		}

		require.False(t, startAndStop(t, kept).Done)
		refusesToOpen(t, load("SIGNALBOX_ROOT_KEY", rootText(7)))
		text := refusesToOpen(t, load("SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("other")))
		require.Contains(t, text, "has not wrapped")
		require.Contains(t, text, first.RootKeyID)

		// What runs goes on without its keeper; what starts does not.
		a := mustOpenLater(t, kept)
		v.Disable("signalbox", true)
		v.Delete("signalbox")
		require.NoError(t, a.Close())
		requireCode(t, openError(t, kept), "root_key_keeper")
	})
}

func mustOpenLater(t *testing.T, cfg app.Config) *app.App {
	t.Helper()
	a, err := app.Open(t.Context(), cfg)
	require.NoError(t, err)
	return a
}

func openError(t *testing.T, cfg app.Config) error {
	t.Helper()
	a, err := app.Open(t.Context(), cfg)
	if err == nil {
		_ = a.Close()
	}
	require.Error(t, err)
	return err
}

// TestInstancesRaceForTheRootKey: several instances start at once on an empty database, and all serve with one root key.
func TestInstancesRaceForTheRootKey(t *testing.T) {
	if !hasPostgres() {
		return // SQLite has one instance
	}
	v := keepertest.StartVault(t, vaultToken)
	v.MakeKey("k")
	url := storetest.PostgresURL(t)
	const instances = 4
	ids := make([]string, instances)
	var wg sync.WaitGroup
	for i := range instances {
		cfg := config(t, "SIGNALBOX_DATABASE_URL", url, "VAULT_TOKEN", vaultToken, "SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("k"))
		wg.Go(func() {
			a, err := app.Open(t.Context(), cfg)
			if err != nil {
				ids[i] = err.Error()
				return
			}
			ids[i] = "ok"
			_ = a.Close()
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, "ok", id)
	}
	all, err := app.Wrappings(t.Context(), config(t, "SIGNALBOX_DATABASE_URL", url))
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func hasPostgres() bool {
	for _, e := range storetest.Engines() {
		if e == store.Postgres {
			return true
		}
	}
	return false
}

// TestMovingTheRootKey: from a file or the environment to a keeper, to another keeper, under a newer version, back into a file. On PostgreSQL a
// server goes on all the while.
func TestMovingTheRootKey(t *testing.T) {
	onEngines(t, func(t *testing.T, load func(more ...string) app.Config) {
		ctx := t.Context()
		v := keepertest.StartVault(t, vaultToken)
		v.MakeKey("one")
		v.MakeKey("two")
		one, two := address(t, v.Keeper("one")), address(t, v.Keeper("two"))
		plain := load("SIGNALBOX_ROOT_KEY", rootText(7))

		_, err := app.WrapRootKey(ctx, plain, one)
		requireCode(t, err, "not_found") // there is nothing yet
		startAndStop(t, plain)
		if plain.DatabaseURL.IsZero() {
			_, err = app.WrapRootKey(ctx, load(), one)
			require.Error(t, err, "without the root key")
		} else {
			mustOpen(t, load("SIGNALBOX_ROOT_KEY", rootText(7))) // it goes on all the while
		}
		_, err = app.WrapRootKey(ctx, load("SIGNALBOX_ROOT_KEY", rootText(8)), one)
		requireCode(t, err, "encryption_key_missing")
		_, err = app.WrapRootKey(ctx, plain, address(t, v.Keeper("misspelt")))
		requireCode(t, err, "root_key_keeper")
		all, err := app.Wrappings(ctx, plain)
		require.NoError(t, err)
		require.Empty(t, all, "what failed left nothing")

		w, err := app.WrapRootKey(ctx, plain, one)
		require.NoError(t, err)
		require.Equal(t, rootID(t, rootText(7)), w.RootKeyID)
		_, err = app.WrapRootKey(ctx, plain, one)
		requireCode(t, err, "already_exists")
		atOne := load("SIGNALBOX_ROOT_KEY_KEEPER", one.String())
		startAndStop(t, atOne)
		startAndStop(t, plain)

		v.Rotate("one")
		was, now, err := app.RewrapRootKey(ctx, atOne, one)
		require.NoError(t, err)
		require.Equal(t, []string{"v1", "v2"}, []string{was.KeyVersion, now.KeyVersion})
		v.Retire("one", 2)
		startAndStop(t, atOne)
		_, _, err = app.RewrapRootKey(ctx, atOne, two)
		requireCode(t, err, "encryption_key_missing")

		_, err = app.WrapRootKey(ctx, atOne, two)
		require.NoError(t, err)
		atTwo := load("SIGNALBOX_ROOT_KEY_KEEPER", two.String())
		startAndStop(t, atTwo)
		startAndStop(t, atOne)

		_, err = app.ForgetWrapping(ctx, atOne, one)
		requireCode(t, err, "state_conflict") // it is the one in use
		_, err = app.ForgetWrapping(ctx, load("SIGNALBOX_ROOT_KEY", rootText(8)), one)
		require.ErrorContains(t, err, "nothing was removed")
		gone, err := app.ForgetWrapping(ctx, atTwo, one)
		require.NoError(t, err)
		require.Len(t, gone, 1)
		_, err = app.ForgetWrapping(ctx, atTwo, one)
		requireCode(t, err, "not_found")
		refusesToOpen(t, atOne)

		path := filepath.Join(t.TempDir(), "root.key")
		id, err := app.UnwrapRootKey(ctx, atTwo, two, path)
		require.NoError(t, err)
		require.Equal(t, rootID(t, rootText(7)), id)
		back, err := secret.ReadRootKeyFile(path)
		require.NoError(t, err)
		require.Equal(t, id, back.ID())
		_, err = app.UnwrapRootKey(ctx, atTwo, two, path)
		require.ErrorIs(t, err, os.ErrExist)
		startAndStop(t, load("SIGNALBOX_ROOT_KEY_FILE", path))
	})
}

// TestASwappedWrappingOpensNothing: who writes to the database cannot put another root key in the place of this one.
func TestASwappedWrappingOpensNothing(t *testing.T) {
	v := keepertest.StartVault(t, vaultToken)
	v.MakeKey("k")
	one := config(t, "VAULT_TOKEN", vaultToken, "SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("k"))
	two := config(t, "VAULT_TOKEN", vaultToken, "SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("k"))
	startAndStop(t, one)
	startAndStop(t, two)
	other, err := app.Wrappings(t.Context(), two)
	require.NoError(t, err)
	db, err := store.Open(t.Context(), store.Config{DataDir: one.DataDir})
	require.NoError(t, err)
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE keyring_wrappings SET wrapped = $1`, other[0].Blob)
		return err
	}))
	require.NoError(t, db.Close())
	requireCode(t, openError(t, one), "root_key_keeper")
	db, err = store.Open(t.Context(), store.Config{DataDir: one.DataDir})
	require.NoError(t, err)
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE keyring_wrappings SET root_key_id = $1`, other[0].RootKeyID)
		return err
	}))
	require.NoError(t, db.Close())
	require.Contains(t, refusesToOpen(t, one), "has not wrapped")
}

// TestDoctorAsksTheKeeper: what a start would meet, and what will be.
func TestDoctorAsksTheKeeper(t *testing.T) {
	v := keepertest.StartVault(t, vaultToken)
	v.MakeKey("k")
	dir := filepath.Join(t.TempDir(), "data")
	settings := []string{"SIGNALBOX_DATA_DIR", dir, "SIGNALBOX_LISTEN", "127.0.0.1:0", "VAULT_TOKEN", vaultToken, "SIGNALBOX_ROOT_KEY_KEEPER", v.Keeper("k")}
	look := func(more ...string) app.Check {
		d, err := app.Diagnose(t.Context(), home(t, append(settings, more...)...), nil)
		require.NoError(t, err)
		for _, c := range d.Checks {
			if c.Name == "root key" {
				require.NotContains(t, c.Found+c.Do, "planted")
				return c
			}
		}
		t.Fatal("no finding on the root key")
		return app.Check{}
	}
	got := look()
	require.Equal(t, app.Fine, got.State)
	require.Contains(t, got.Found, "there is no keyring yet")
	v.Answer(503, `{"errors":["Vault is sealed"]}`)
	require.Equal(t, app.Broken, look().State)

	cfg := config(t, settings...)
	startAndStop(t, cfg)
	got = look()
	require.Equal(t, app.Fine, got.State, got.Found)
	require.Contains(t, got.Found, "(v1), opens the keyring")
	v.Rotate("k")
	got = look()
	require.Equal(t, app.Advice, got.State)
	require.Contains(t, got.Do, "root-key rewrap")
	require.NoError(t, secret.WriteFile(filepath.Join(dir, app.RootKeyFile), secret.FromString(rootText(7))))
	got = look()
	require.Equal(t, app.Warning, got.State)
	require.Contains(t, got.Do, "remove the file")
	v.Delete("k")
	got = look()
	require.Equal(t, app.Broken, got.State)
	require.Contains(t, got.Do, "goes on")
	require.True(t, strings.Contains(got.Found, v.Keeper("k")))
}

// TestNoMigrationInPassing: a newer program that only wants to wrap leaves the schema to the servers that run.
func TestNoMigrationInPassing(t *testing.T) {
	cfg := config(t)
	startAndStop(t, cfg)
	db, err := store.Open(t.Context(), store.Config{DataDir: cfg.DataDir})
	require.NoError(t, err)
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM goose_db_version WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)`)
		return err
	}))
	require.NoError(t, db.Close())
	_, err = app.WrapRootKey(t.Context(), cfg, address(t, "vault-transit://v.example.com/transit/k"))
	require.Contains(t, requireCode(t, err, "state_conflict").Detail, "signalbox migrate")
}

func TestOneRootKeyAtATime(t *testing.T) {
	_, err := app.Load(home(t, "SIGNALBOX_ROOT_KEY", rootText(7), "SIGNALBOX_ROOT_KEY_KEEPER", "vault-transit://v/transit/k"), nil)
	require.ErrorContains(t, err, "SIGNALBOX_ROOT_KEY and SIGNALBOX_ROOT_KEY_KEEPER are both set")
	_, err = app.Load(home(t, "SIGNALBOX_ROOT_KEY_KEEPER", "planted-by-mistake"), nil)
	require.ErrorContains(t, err, "SIGNALBOX_ROOT_KEY_KEEPER must be")
	require.NotContains(t, err.Error(), "planted")
}
