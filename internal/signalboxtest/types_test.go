package signalboxtest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// pemOf returns a fresh key as a PEM text, and plants its lines.
func pemOf(t *testing.T, p *signalboxtest.Planted, label string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "-----") {
			p.Add(label, strings.TrimSpace(line))
		}
	}
	return text
}

// TestNineTypes takes each credential type through its whole life over REST: every field comes back byte for byte, and neither a field nor a
// note lies anywhere in the clear.
func TestNineTypes(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		plant := func(label string) string { return box.Planted.Secret(t, label) }
		text := func(label, around string) string { return strings.ReplaceAll(around, "§", plant(label)) }
		pemLines := func(label string) string { return pemOf(t, box.Planted, label) }
		// Two sets of every field of every type; the forms are those that a careless store would mend.
		sets := func() map[vault.Type]map[string]string {
			return map[vault.Type]map[string]string{
				vault.Password:         {"password": text("password", " §\u00e4\u2028\U0001F511 \t\r\n\x00 ")},
				vault.APIKey:           {"api_key": plant("api_key"), "proxy_password": plant("proxy_password")},
				vault.OAuth:            {"access_token": plant("access_token"), "refresh_token": text("refresh_token", "§\n"), "client_secret": plant("client_secret"), "proxy_password": plant("proxy_password")},
				vault.SSHKey:           {"private_key": pemLines("OPENSSH PRIVATE KEY"), "passphrase": text("passphrase", "  § ")},
				vault.SharedSecret:     {"secret": plant("secret")},
				vault.JWT:              {"token": plant("token"), "signing_key": pemLines("PRIVATE KEY")},
				vault.ConnectionString: {"connection_string": text("connection_string", "postgres://u:§@db/x?sslmode=require&a=%2F#frag")},
				vault.Certificate: {"certificate": strings.ReplaceAll(pemLines("CERTIFICATE"), "\n", "\r\n") + "\r\n\r\n" + pemLines("CERTIFICATE"),
					"private_key": strings.TrimSuffix(pemLines("EC PRIVATE KEY"), "\n"), "passphrase": plant("passphrase")},
				vault.Custom: {"host_key": pemLines("PRIVATE KEY"), "_1": plant("custom"), "json": text("custom", `{"a":"§","b":[1,"\u0000"]}`), strings.Repeat("z", 64): plant("custom")},
			}
		}
		first, second := sets(), sets()
		require.Len(t, first, 9)
		require.Len(t, vault.Types(), 9)
		rec := &recorder{}
		admin := client.New(box.URL, box.Token, client.WithHTTPClient(&http.Client{Transport: rec}))
		marker := "marker-" + store.NewID("m") // is no secret: shows that the looking looks in the right place
		ctx := context.Background()
		shown := func(fn func()) { rec.skip = true; fn(); rec.skip = false }
		ids := map[vault.Type]string{}
		for _, row := range vault.Types() {
			t.Run(string(row.Type), func(t *testing.T) {
				one, two := first[row.Type], second[row.Type]
				for _, f := range row.Secrets {
					require.Contains(t, one, f.Name, "the test knows every field of the table")
				}
				note := text("note", "line 1 §\nline 2\t§\r\n")
				kind := string(row.Type)
				for name := range one { // what is required is required, and nothing else is taken
					rest := maps.Clone(one)
					delete(rest, name)
					if f, ok := row.Field(name); ok && f.Required {
						_, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: kind, Name: kind, Secrets: rest})
						require.Equal(t, "secret_missing", codeOf(err))
					}
				}
				if !row.AnyNames {
					wrong := maps.Clone(one)
					wrong["other"] = plant("other")
					_, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: kind, Name: kind, Secrets: wrong})
					require.Equal(t, "validation_failed", codeOf(err))
				}

				made, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: kind, Name: kind, Description: marker, Notes: note, Secrets: one})
				require.NoError(t, err)
				require.ElementsMatch(t, slices.Collect(maps.Keys(one)), made.SecretFields)
				require.Empty(t, made.Notes)
				ids[row.Type] = made.ID
				check := func(want map[string]string) {
					shown(func() {
						for field, value := range want {
							got, err := admin.RevealCredential(ctx, made.ID, field, "to see whether it is whole")
							require.NoError(t, err)
							require.Equal(t, []byte(value), []byte(got), field)
						}
					})
				}
				check(one)
				shown(func() {
					got, err := admin.GetCredential(ctx, made.ID)
					require.NoError(t, err)
					require.Equal(t, note, got.Notes)
				})
				list, err := admin.ListCredentials(ctx, client.CredentialFilter{Type: kind})
				require.NoError(t, err)
				require.Len(t, list.Credentials, 1)
				require.Equal(t, made.ID, list.Credentials[0].ID)
				for _, word := range []string{"line", note[7:20], "PRIVATE"} {
					found, err := admin.ListCredentials(ctx, client.CredentialFilter{Q: word})
					require.NoError(t, err)
					require.Empty(t, found.Credentials, "neither notes nor secrets are searched")
				}

				changed, err := admin.UpdateCredential(ctx, made.ID, client.CredentialPatch{Username: new(string), Name: ptr(kind + " renamed"), IfMatch: made.ETag})
				require.NoError(t, err)
				require.EqualValues(t, 1, changed.Version)
				check(one)

				// One field after the other rotates; the others stay.
				have := maps.Clone(one)
				for field, value := range two {
					_, err := admin.RotateCredential(ctx, made.ID, map[string]string{field: value}, "rotated "+field)
					require.NoError(t, err)
					have[field] = value
					check(have)
				}
				versions, err := admin.CredentialVersions(ctx, made.ID)
				require.NoError(t, err)
				require.Len(t, versions, 1+len(two))
				back, err := admin.RestoreCredential(ctx, made.ID, 1)
				require.NoError(t, err)
				require.EqualValues(t, 2+len(two), back.Version)
				restored := maps.Clone(one)
				if password, aside := two["proxy_password"]; aside { // of the way to the upstream and not of the secret: it stays what it is now
					restored["proxy_password"] = password
				}
				check(restored)
				// An optional field goes with null, a required one does not.
				for field := range one {
					f, ok := row.Field(field)
					require.True(t, ok)
					_, err := admin.UpdateCredential(ctx, made.ID, client.CredentialPatch{Secrets: map[string]*string{field: nil}})
					if f.Required || row.AnyNames && len(have) == 1 {
						require.Equal(t, "secret_missing", codeOf(err))
						continue
					}
					require.NoError(t, err)
					delete(have, field)
					_, err = admin.RevealCredential(ctx, made.ID, field, "is it gone")
					require.Equal(t, "not_revealable", codeOf(err))
				}
				_, err = admin.RestoreCredential(ctx, made.ID, 1)
				require.NoError(t, err)
				restored = maps.Clone(one)
				if _, aside := one["proxy_password"]; aside { // it was taken away, and no older one comes back
					delete(restored, "proxy_password")
					_, err = admin.RevealCredential(ctx, made.ID, "proxy_password", "is it gone")
					require.Equal(t, "not_revealable", codeOf(err))
				}
				check(restored)
			})
		}
		box.Planted.Absent(t, "the API's answers", rec.all.Bytes())

		// Everything is stored now, in many versions: look.
		if box.Store.PostgresURL.IsZero() {
			box.Planted.AbsentFromFiles(t, box.DataDir)
			require.True(t, inFiles(t, box.DataDir, marker), "what is no secret must be found in the files")
		} else {
			all := dump(t, box)
			box.Planted.Absent(t, "PostgreSQL", all)
			require.Contains(t, string(all), marker)
		}
		for kind, id := range ids {
			require.NoError(t, admin.DeleteCredential(ctx, id), kind)
			_, err := admin.GetCredential(ctx, id)
			require.Equal(t, "not_found", codeOf(err))
		}
		var left int
		require.NoError(t, box.OpenReadOnly(t).Read(ctx, func(tx *store.Tx) error { return tx.Get(&left, `SELECT COUNT(*) FROM credential_secrets`) }))
		require.Zero(t, left)
	})
}

func ptr[T any](v T) *T { return &v }

func codeOf(err error) string {
	var refusal *client.Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}

func inFiles(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte(text))
		return err
	}))
	return found
}
