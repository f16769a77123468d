package vault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

// TestRightsAreWhatTheActsAllow: what is offered is what would be done, by role, ownership and grant, and asking leaves no record.
func TestRightsAreWhatTheActsAllow(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		owner, other, stranger := f.somebody(t), f.somebody(t), f.somebody(t)
		draft := password("mine")
		draft.ClientID = ""
		c, err := f.Create(t.Context(), owner, draft)
		require.NoError(t, err)
		require.NoError(t, f.set(t, owner, on(c.ID), to(owner, "owner"), to(other, "use reveal")))
		auditor, narrow := stranger, owner
		auditor.Role = identity.Auditor
		narrow.Kind, narrow.Scopes = identity.KindToken, identity.Scopes{identity.CredentialRead}
		before := f.lastEvent(t)
		for name, w := range map[string]struct {
			who  identity.Caller
			want vault.Rights
		}{
			"the owner": {owner, vault.Rights{Use: true, Reveal: true, Manage: true, Grant: true}}, "who was granted": {other, vault.Rights{Use: true, Reveal: true}}, "a stranger": {stranger, vault.Rights{}},
			"an auditor": {auditor, vault.Rights{}}, "a token to read": {narrow, vault.Rights{}}, "an administrator": {admin, vault.Rights{Use: true, Reveal: true, Manage: true, Grant: true}},
		} {
			got, err := f.Rights(t.Context(), w.who, c.ID)
			require.NoError(t, err, name)
			require.Equal(t, w.want, got, name)
		}
		require.Equal(t, before.ID, f.lastEvent(t).ID)
		_, err = f.Reveal(t.Context(), other, c.ID, "password", "a test")
		require.NoError(t, err)
		_, err = f.Update(t.Context(), other, c.ID, vault.Patch{Name: vault.To("theirs")}, "")
		requireCode(t, err, "forbidden")
	})
}
