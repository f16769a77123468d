package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// diagnosed returns the checks by name, and the whole as text.
func diagnosed(t *testing.T, env app.Environ, flags map[string]string) (app.Diagnosis, map[string]app.Check, string) {
	t.Helper()
	d, err := app.Diagnose(t.Context(), env, flags)
	require.NoError(t, err)
	text, err := json.Marshal(d)
	require.NoError(t, err)
	checks := map[string]app.Check{}
	for _, c := range d.Checks {
		checks[c.Name] = c
		require.NotEmpty(t, c.Found, c.Name)
		if c.State != app.Fine && c.State != app.Skipped {
			require.NotEmpty(t, c.Do, "a finding says what to do: "+c.Name)
		}
	}
	return d, checks, string(text)
}

// TestDoctorBesideAServer: on both engines everything is looked at while a server has it open, and nothing is broken.
func TestDoctorBesideAServer(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			more := []string{"SIGNALBOX_DATA_DIR", filepath.Join(t.TempDir(), "data"), "SIGNALBOX_LISTEN", "127.0.0.1:0"}
			if engine == store.Postgres {
				more = append(more, "DATABASE_URL", storetest.PostgresURL(t), "SIGNALBOX_ROOT_KEY", rootText(7))
			}
			env := home(t, more...)
			cfg, err := app.Load(env, nil)
			require.NoError(t, err)
			a, err := app.Open(t.Context(), cfg)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, a.Close()) })
			require.Eventually(t, func() bool { // the first records are sequenced and signed
				_, checks, _ := diagnosed(t, env, nil)
				return strings.Contains(checks["audit log"].Found, "the last checkpoint")
			}, 15*time.Second, 50*time.Millisecond)
			d, checks, text := diagnosed(t, env, nil)
			require.True(t, d.OK, text)
			require.Len(t, d.Settings, len(app.Settings()))
			require.Contains(t, checks["root key"].Found, "opens the keyring")
			for _, name := range []string{"database", "schema", "clock", "audit log"} {
				require.Equal(t, app.Fine, checks[name].State, name)
			}
			require.NotContains(t, text, rootText(7))
			if engine == store.Postgres {
				require.NotContains(t, text, env["DATABASE_URL"])
				require.Equal(t, app.Fine, checks["database pooler"].State)
				require.Equal(t, app.Fine, checks["database encryption"].State)
				require.NotContains(t, checks, "server")
				env["SIGNALBOX_ROOT_KEY"] = rootText(8)
				d, checks, _ = diagnosed(t, env, nil)
				require.False(t, d.OK)
				require.Contains(t, checks["root key"].Found, rootID(t, rootText(8)))
			}
		})
	}
}

// TestDoctorFindsTamperedCredentials: what was changed past the server is told by its id, with what to do.
func TestDoctorFindsTamperedCredentials(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			box := signalboxtest.Start(t, engine)
			lane := box.LaneOf(t, "", 2)
			box.Stop()
			env := home(t, "SIGNALBOX_DATA_DIR", box.DataDir, "SIGNALBOX_LISTEN", "127.0.0.1:0", "SIGNALBOX_ROOT_KEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5b}, 32)))
			if engine == store.Postgres {
				env["DATABASE_URL"] = box.Store.PostgresURL.Reveal()
			}
			_, checks, _ := diagnosed(t, env, nil)
			require.Equal(t, app.Check{Name: "credentials", State: app.Fine, Found: "2 credentials, none changed outside Signalbox"}, checks["credentials"])
			db, err := store.Open(t.Context(), box.Store)
			require.NoError(t, err)
			require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE credentials SET base_url = 'https://evil.example' WHERE id = $1`, lane.Accounts[1].ID)
				return err
			}))
			require.NoError(t, db.Close())
			d, checks, text := diagnosed(t, env, nil)
			require.Equal(t, app.Warning, checks["credentials"].State)
			require.True(t, d.OK, "the others are lent")
			require.Contains(t, checks["credentials"].Found, "1 credential was changed outside Signalbox and not lent: "+lane.Accounts[1].ID)
			require.NotContains(t, text, lane.Accounts[0].ID)
			require.NotContains(t, text, "evil.example")
			for _, a := range lane.Accounts {
				require.NotContains(t, text, a.Secret.Reveal())
			}
		})
	}
}

// TestDoctorFindsTrainsThatNobodyOwns: a private train whose owners were deactivated, or are a group that is empty, is named with the command that mends it; one with an owner who can sign in, and one of
// the organisation, are not.
func TestDoctorFindsTrainsThatNobodyOwns(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			box := signalboxtest.Start(t, engine)
			env := home(t, "SIGNALBOX_DATA_DIR", box.DataDir, "SIGNALBOX_LISTEN", "127.0.0.1:0", "SIGNALBOX_ROOT_KEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5b}, 32)))
			if engine == store.Postgres {
				env["DATABASE_URL"] = box.Store.PostgresURL.Reveal()
			}
			admin, ctx := box.Admin(), t.Context()
			made, err := admin.CreateUser(ctx, client.UserDraft{Email: "bob@example.com", Name: "Bob", Role: "operator"})
			require.NoError(t, err)
			bob := made.User
			ops, err := admin.CreateGroup(ctx, client.GroupDraft{Name: "ops"})
			require.NoError(t, err)
			_, _, err = admin.AddGroupMember(ctx, ops.ID, bob.ID)
			require.NoError(t, err)
			who, err := admin.WhoAmI(ctx)
			require.NoError(t, err)
			for slug, owner := range map[string][2]string{"kept": {"", ""}, "bobs": {"person", bob.ID}, "crews": {"group", ops.ID}, "open": {"person", bob.ID}} {
				_, err := admin.CreateTrain(ctx, client.TrainDraft{TrainID: slug, Name: slug, Visibility: "private"})
				require.NoError(t, err)
				if owner[0] != "" {
					_, _, err = admin.PutTrainMember(ctx, slug, owner[0], owner[1], "owner", "")
					require.NoError(t, err)
					_, err = admin.RemoveTrainMember(ctx, slug, "person", who.UserID, "")
					require.NoError(t, err)
				}
			}
			wide := "organisation"
			_, err = admin.UpdateTrain(ctx, "open", client.TrainPatch{Visibility: &wide})
			require.NoError(t, err)
			_, checks, _ := diagnosed(t, env, nil)
			require.Equal(t, app.Check{Name: "private trains", State: app.Fine, Found: "every private train has an owner who can sign in"}, checks["private trains"])

			no := false
			_, err = admin.UpdateUser(ctx, bob.ID, client.UserPatch{Active: &no})
			require.NoError(t, err)
			d, checks, _ := diagnosed(t, env, nil)
			require.True(t, d.OK)
			require.Equal(t, app.Warning, checks["private trains"].State)
			require.Equal(t, "2 private trains have no owner who can sign in: bobs, crews", checks["private trains"].Found)
			require.Contains(t, checks["private trains"].Do, "signalbox train member add bobs PERSON --role owner")

			for _, slug := range []string{"bobs", "crews"} { // what it says helps
				_, _, err = admin.PutTrainMember(ctx, slug, "person", who.UserID, "owner", "")
				require.NoError(t, err)
			}
			_, checks, _ = diagnosed(t, env, nil)
			require.Equal(t, app.Fine, checks["private trains"].State)
		})
	}
}

// TestDoctorNeverTellsASecret: planted in every setting that may hold one and in files, whether or not the configuration can be read.
func TestDoctorNeverTellsASecret(t *testing.T) {
	const planted = "Pl4nt3d8f3k2Zq9W7vB1xC5m"
	env := home(t, "SIGNALBOX_ROOT_KEY", planted, "SIGNALBOX_TOKEN", "sbp_"+planted, "DATABASE_URL", "postgres://u:"+planted+"@127.0.0.1:1/x?connect_timeout=1&password="+planted,
		"SIGNALBOX_PLANTED", planted)
	require.NoError(t, os.WriteFile(filepath.Join(env["HOME"], ".env"), []byte("A_TOKEN="+planted+"\nghp_"+planted+"=x\n"), 0o644))
	d, checks, text := diagnosed(t, env, nil)
	require.False(t, d.OK)
	require.Len(t, d.Strays, 1)
	require.True(t, d.Strays[0].Open)
	require.Equal(t, app.Warning, checks["secrets lying about"].State)
	require.Equal(t, app.Broken, checks["root key"].State)
	require.NotContains(t, text, planted)

	for name, value := range map[string]string{
		"SIGNALBOX_LISTEN": planted, "SIGNALBOX_URL": "http://u:" + planted + "@x", "SIGNALBOX_BODY_LIMIT": planted, "SIGNALBOX_TRUSTED_PROXIES": planted,
		"SIGNALBOX_ROOT_KEY_FILE": "/nowhere",
	} {
		env[name] = value
		d, checks, text = diagnosed(t, env, nil)
		require.False(t, d.OK)
		require.Equal(t, app.Broken, checks["configuration"].State)
		require.NotContains(t, text, planted, name)
		delete(env, name)
	}
}

// TestDoctorGivesEachFindingAName of its own, so that what its commands store can be told apart.
func TestDoctorGivesEachFindingAName(t *testing.T) {
	env := home(t, "SIGNALBOX_DATA_DIR", filepath.Join(t.TempDir(), "data"))
	for _, name := range []string{".env", ".envrc"} {
		require.NoError(t, os.WriteFile(filepath.Join(env["HOME"], name), []byte("GITHUB_TOKEN=ghp_Pl4nt3d8f3k2Zq9W7vB1xC5m\n"), 0o600))
	}
	d, _, _ := diagnosed(t, env, nil)
	require.Len(t, d.Strays, 2)
	require.Contains(t, d.Strays[0].Do, "cred add github-token --type")
	require.Contains(t, d.Strays[1].Do, "cred add github-token-2 --type")
}

// TestDoctorSaysWhatToDo about what is refused with its own remedy, in a directory whose name has to be quoted.
func TestDoctorSaysWhatToDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "root.key")
	require.NoError(t, os.WriteFile(path, []byte(rootText(7)+"\n"), 0o600))
	require.NoError(t, os.Chmod(path, 0o644))
	d, checks, text := diagnosed(t, home(t, "SIGNALBOX_DATA_DIR", dir, "DATABASE_URL", "postgres://u:Pl4nt3d@db.example.com/x", "SIGNALBOX_CHECKPOINT_FILE", filepath.Join(dir, "c")), nil)
	require.False(t, d.OK)
	require.Contains(t, checks["database"].Found, "does not insist on TLS")
	require.Contains(t, checks["database"].Do, "Add sslmode=verify-full")
	require.NotContains(t, text, "Pl4nt3d")

	_, checks, _ = diagnosed(t, home(t, "SIGNALBOX_DATA_DIR", dir), nil)
	require.Equal(t, app.Broken, checks["root key"].State)
	require.Equal(t, "Run: chmod 600 '"+path+"'", checks["root key"].Do)
}

// TestDoctorSeesAnOlderAndANewerSchema, and events that wait for a log that nobody keeps.
func TestDoctorSeesAnOlderAndANewerSchema(t *testing.T) {
	env := home(t, "SIGNALBOX_DATA_DIR", filepath.Join(t.TempDir(), "data"))
	cfg, err := app.Load(env, nil)
	require.NoError(t, err)
	did, err := app.Migrate(t.Context(), cfg)
	require.NoError(t, err)
	_, checks, _ := diagnosed(t, env, nil)
	require.Equal(t, app.Fine, checks["root key"].State)
	require.Contains(t, checks["root key"].Found, "none yet")
	require.Equal(t, app.Fine, checks["checkpoint file"].State, "there is none before the first checkpoint, and nothing to look for")
	for version, want := range map[int64]app.State{did.To - 1: app.Warning, did.To + 1: app.Broken} {
		storetest.SetSchema(t, cfg.DataDir, version)
		d, checks, _ := diagnosed(t, env, nil)
		require.Equal(t, want, checks["schema"].State)
		require.Equal(t, want != app.Broken, d.OK)
		require.Equal(t, app.Skipped, checks["audit log"].State)
	}
}
