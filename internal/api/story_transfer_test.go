package api_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const archivePassphrase = "planted passphrase of an archive"

// TestStoryTransfer: somebody tries an import, imports, takes everything along in an archive and brings it back after it was lost.
func TestStoryTransfer(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		file := client.ImportFile{Name: "1p.csv", Content: []byte("Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\nGit,https://git.example.com,root,planted-pw,,false,false,work,planted notes\n")}
		_, err := h.as(h.withoutScopes()).Import(ctx, client.ImportDraft{Files: []client.ImportFile{file}})
		requireRefused(t, err, http.StatusForbidden, "scope_missing")

		dry, err := h.client.Import(ctx, client.ImportDraft{Files: []client.ImportFile{file}, DryRun: true})
		require.NoError(t, err)
		require.Equal(t, "create", dry.Rows[0].Action)
		require.Empty(t, dry.Rows[0].ID)
		done, err := h.client.Import(ctx, client.ImportDraft{Files: []client.ImportFile{file}})
		require.NoError(t, err)
		require.True(t, done.Applied)
		id := done.Rows[0].ID

		_, err = h.client.Import(ctx, client.ImportDraft{Files: []client.ImportFile{{Name: "x", Content: []byte("planted nothing")}}})
		requireRefused(t, err, http.StatusUnprocessableEntity, "validation_failed")

		var archive bytes.Buffer
		err = h.client.ExportCredentials(ctx, client.ExportDraft{Passphrase: "short", Reason: "move"}, &archive)
		requireRefused(t, err, http.StatusUnprocessableEntity, "validation_failed")
		require.NoError(t, h.client.ExportCredentials(ctx, client.ExportDraft{Passphrase: archivePassphrase, Reason: "move"}, &archive))
		require.NotContains(t, archive.String(), "planted")
		opened, err := age.NewScryptIdentity(archivePassphrase)
		require.NoError(t, err)
		plain, err := age.Decrypt(bytes.NewReader(archive.Bytes()), opened)
		require.NoError(t, err)
		text, err := io.ReadAll(plain)
		require.NoError(t, err)
		require.Contains(t, string(text), "planted-pw")

		require.NoError(t, h.client.DeleteCredential(ctx, id))
		back, err := h.client.Import(ctx, client.ImportDraft{Files: []client.ImportFile{{Name: "vault.age", Content: archive.Bytes()}}, Passphrase: archivePassphrase})
		require.NoError(t, err)
		require.Equal(t, 1, back.Created)
		again, err := h.client.GetCredential(ctx, back.Rows[0].ID)
		require.NoError(t, err)
		require.Equal(t, "planted notes", again.Notes)

		var told []store.Action
		for _, e := range h.events() {
			if strings.HasPrefix(string(e.Action), "credential.") {
				told = append(told, e.Action)
			}
		}
		require.Contains(t, told, store.CredentialExport)
		require.Contains(t, told, store.CredentialReveal)
		require.Contains(t, told, store.CredentialImport)
	})
}

// TestExportHoldsWhatMayBeRevealed: of somebody who reaches only what is their own, that and nothing else; an old proof is not enough; HTTP/1.0
// could not be told from an end.
func TestExportHoldsWhatMayBeRevealed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		names := func(c *client.Client) string {
			var b bytes.Buffer
			require.NoError(t, c.ExportCredentials(ctx, client.ExportDraft{Recipients: []string{id.Recipient().String()}, Reason: "r"}, &b))
			plain, err := age.Decrypt(&b, id)
			require.NoError(t, err)
			text, err := io.ReadAll(plain)
			require.NoError(t, err)
			return string(text)
		}
		h.account("planted-of-others")
		max := h.as(h.session(h.person(identity.Member)))
		require.NotContains(t, names(max), "planted-of-others")
		_, err = max.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "planted-own", Secrets: map[string]string{"password": "planted-x"}})
		require.NoError(t, err)
		require.Contains(t, names(max), "planted-own")
		require.Contains(t, names(h.client), "planted-of-others")
		err = h.client.ExportCredentials(ctx, client.ExportDraft{Recipients: []string{"age1yubikey1planted"}, Reason: "r"}, io.Discard)
		requireRefused(t, err, http.StatusUnprocessableEntity, "validation_failed")
		require.NotContains(t, err.Error(), "planted")
		h.stale()
		err = max.ExportCredentials(ctx, client.ExportDraft{Recipients: []string{id.Recipient().String()}, Reason: "r"}, io.Discard)
		requireRefused(t, err, http.StatusForbidden, "step_up_required")
	})
}

func requireRefused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, status, refused.Status)
	require.Equal(t, code, refused.Code)
}
