package signalboxtest_test

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// change writes into the box's database behind its back.
func change(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		n, err := tx.Exec(query, args...)
		require.EqualValues(t, 1, n)
		return err
	}))
}

// fill puts something into every place that is sealed.
func fill(t *testing.T, box *signalboxtest.Box, db *store.DB, root secret.RootKey) {
	t.Helper()
	ctx, admin := t.Context(), box.Admin()
	nobody, name, text := "http://127.0.0.1:9/", "acme", box.Planted.Secret(t, "client secret")
	_, err := admin.AddOAuthProvider(ctx, client.OAuthProviderEdit{Name: &name, AuthorizeURL: &nobody, TokenURLs: &[]string{nobody}, ClientID: &name, ClientSecret: &text})
	require.NoError(t, err)
	ended := time.Now().Add(-time.Minute)
	made, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "account", Provider: name, Notes: "a note", Hosts: []string{"api.example.com"}, OAuth: &client.OAuth{ExpiresAt: &ended},
		Secrets: map[string]string{"access_token": box.Planted.Secret(t, "access"), "refresh_token": box.Planted.Secret(t, "refresh")}})
	require.NoError(t, err)
	_, err = admin.RefreshCredential(ctx, made.ID, true)
	require.Error(t, err, "nobody answers there; the claim, which marks the token, stays")
	_, err = admin.CreateChannel(ctx, client.ChannelDraft{Kind: "slack", Name: "ops", Secrets: map[string]string{"url": nobody + text}})
	require.NoError(t, err)
	_, err = admin.CreateSink(ctx, client.SinkDraft{Kind: "slack", Name: "far", Disabled: true, Secrets: map[string]string{"url": nobody + text}})
	require.NoError(t, err)
	_, err = admin.CreateSSOProvider(ctx, client.SSOEdit{Name: "work", Issuer: &nobody, ClientID: &name, ClientSecret: &text, Label: &name})
	require.NoError(t, err)
	issuer, any, hs := "https://issuer.example.com", true, "HS256"
	_, err = admin.CreateJWTIssuer(ctx, client.JWTIssuerPatch{Name: &name, Issuer: &issuer, AnyAudience: &any, SharedSecret: &text, Algorithms: []string{hs}})
	require.NoError(t, err)
	_, err = admin.Idempotent("once").CreateTrain(ctx, client.TrainDraft{TrainID: "kept"})
	require.NoError(t, err)
	in, err := box.Anonymous().Login(ctx, "admin@example.com", signalboxtest.AdminPassword)
	require.NoError(t, err)
	box.Planted.Add("access token", in.AccessToken)
	who, err := admin.WhoAmI(ctx)
	require.NoError(t, err)

	// What only an app or a browser can make is sealed here as its place says.
	ring, err := keyring.Open(ctx, keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	rows := map[string]keyring.Row{"totp_secrets": {ID: who.UserID}, "passkeys": {ID: store.NewID("psk"), Text: who.UserID}}
	for _, p := range identity.Sealed() {
		row, ours := rows[p.Table]
		if !ours {
			continue
		}
		aad, err := p.AAD(row)
		require.NoError(t, err)
		row.A, err = ring.Seal(p.Purpose, secret.FromString(text), aad)
		require.NoError(t, err)
		rows[p.Table] = row
	}
	change(t, db, `INSERT INTO totp_secrets (user_id, sealed, last_step, created_at) VALUES ($1, $2, 0, 1)`, who.UserID, rows["totp_secrets"].A)
	change(t, db, `INSERT INTO passkeys (id, user_id, credential_id, name, sealed, sign_count, created_at) VALUES ($1, $2, $3, 'key', $3, 0, 1)`, rows["passkeys"].ID, who.UserID, rows["passkeys"].A)
}

// TestACheckOpensEverySealedPlace: a check of a backup opens what is sealed in every table, and one byte that was changed in any of them before the
// backup was taken is found, counted and named. What a restore leaves out is in no check.
func TestACheckOpensEverySealedPlace(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			box := signalboxtest.Start(t, e)
			key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5b}, 32))
			root, err := secret.ParseRootKey(secret.FromString(key))
			require.NoError(t, err)
			cfg, err := app.Load(app.Environ{"SIGNALBOX_DATA_DIR": box.DataDir, "SIGNALBOX_ROOT_KEY": key, "DATABASE_URL": box.Store.PostgresURL.Reveal()}, nil)
			require.NoError(t, err)
			beside := box.Store
			beside.Beside = true
			db := storetest.OpenConfig(t, beside)
			fill(t, box, db, root)
			dir := t.TempDir()
			check := func(name string) app.CheckedBackup {
				t.Helper()
				file := filepath.Join(dir, name)
				runs := func() (out []backup.Run) {
					require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) (err error) { out, err = backup.Running(tx); return err }))
					return out
				}
				seen := 0
				_, err := app.Backup(t.Context(), cfg, file, false, func(done, total int64) {
					if at := runs(); len(at) == 1 && at[0].Total == total && at[0].Done <= done {
						seen++
					}
				})
				require.NoError(t, err)
				require.Positive(t, seen, "how far it is can be seen meanwhile")
				require.Empty(t, runs())
				out, err := app.CheckBackup(t.Context(), cfg, file, dir, nil)
				require.NoError(t, err)
				require.True(t, out.Audit.OK())
				return out
			}

			whole := check("whole")
			require.True(t, whole.OK())
			var places []string
			for _, p := range whole.Proofs {
				table, columns, _ := strings.Cut(p.Place, ".")
				if _, passes := backup.Passing()[table]; passes {
					require.Zero(t, p.Opened)
					continue
				}
				require.Positive(t, p.Opened, "%s: nothing is in it; add it to fill", p.Place)
				for column := range strings.SplitSeq(columns, "+") {
					places = append(places, table+"."+column)
				}
			}
			require.Contains(t, places, "totp_secrets.sealed")
			require.Contains(t, places, "oauth_providers.secret")

			for i, place := range places {
				table, column, _ := strings.Cut(place, ".")
				if place == "oauth_connections.mark" {
					continue // one that does not fit is an old one
				}
				var box []byte
				require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
					return tx.Get(&box, `SELECT `+column+` FROM `+table+` WHERE length(`+column+`) > 0 ORDER BY `+column+` LIMIT 1`)
				}), place)
				broken := bytes.Clone(box)
				broken[len(broken)-1] ^= 1
				change(t, db, `UPDATE `+table+` SET `+column+` = $1 WHERE `+column+` = $2`, broken, box)
				got := check(strconv.Itoa(i))
				change(t, db, `UPDATE `+table+` SET `+column+` = $1 WHERE `+column+` = $2`, box, broken)
				require.False(t, got.OK(), place)
				damaged, where := got.Damaged()
				require.EqualValues(t, 1, damaged, place)
				require.Len(t, where, 1)
				require.True(t, strings.HasPrefix(where[0], table+".") && strings.Contains(where[0], column), "%s is told as %v", place, where)
			}
			require.True(t, check("mended").OK())
		})
	}
}
