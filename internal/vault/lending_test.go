package vault_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TestLending: an account is paused, drained and resumed, each with its record; its status and its version stay.
func TestLending(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		for _, step := range []struct {
			to     vault.LendingState
			reason string
			action store.Action
			before string
		}{
			{vault.Paused, "an invoice", store.CredentialPause, "lent"}, {vault.Drained, "moves away", store.CredentialDrain, "paused"}, {vault.Lent, "paid", store.CredentialResume, "drained"},
			{vault.Lent, "", store.CredentialResume, "lent"},
		} {
			tag := c.ETag()
			var err error
			c, err = f.SetLending(t.Context(), admin, c.ID, step.to, step.reason)
			require.NoError(t, err)
			require.Equal(t, step.to, c.Lending.State)
			require.Equal(t, vault.Active, c.Status)
			require.EqualValues(t, 1, c.Version)
			require.NotEqual(t, tag, c.ETag())
			got, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			require.Equal(t, c.Lending.State, got.Lending.State)
			if step.to == vault.Lent {
				require.Equal(t, vault.Lending{}, got.Lending)
			} else {
				require.Equal(t, step.reason, got.Lending.Reason)
				require.Equal(t, admin.Name, got.Lending.By)
				require.NotNil(t, got.Lending.Since)
			}
			m := f.materials(t, c.ID)[c.ID]
			require.Equal(t, step.to, m.Lending.State)
			require.Empty(t, m.Usable(today), "it is as good as before")
			require.False(t, m.Tampered)
		}
		var seen []store.Action
		for _, ev := range f.events(t) {
			switch ev.Action {
			case store.CredentialPause, store.CredentialDrain, store.CredentialResume:
				seen = append(seen, ev.Action)
			}
		}
		require.Equal(t, []store.Action{store.CredentialPause, store.CredentialDrain, store.CredentialResume, store.CredentialResume}, seen)
	})
}

// TestPausedOnceMore: whoever repeats it without a reason is on record, and takes nobody's reason away; with one, it is theirs.
func TestPausedOnceMore(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		for state, action := range map[vault.LendingState]store.Action{vault.Paused: store.CredentialPause, vault.Drained: store.CredentialDrain} {
			first, err := f.SetLending(t.Context(), admin, c.ID, state, "an invoice")
			require.NoError(t, err)
			_, err = f.SetLending(t.Context(), fullTok, c.ID, state, "")
			require.NoError(t, err)
			ev := f.lastEvent(t)
			require.Equal(t, []any{action, fullTok.ID, ""}, []any{ev.Action, ev.Actor.ID, ev.Reason})
			got, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			require.Equal(t, first.Lending, got.Lending)
			require.Equal(t, admin.Name, got.Lending.By)
			again, err := f.SetLending(t.Context(), fullTok, c.ID, state, "a dispute")
			require.NoError(t, err)
			require.Equal(t, []any{"a dispute", fullTok.Name}, []any{again.Lending.Reason, again.Lending.By})
			require.True(t, again.Lending.Since.After(*first.Lending.Since))
			require.False(t, f.materials(t, c.ID)[c.ID].Tampered)
		}
		other, err := f.SetLending(t.Context(), fullTok, c.ID, vault.Lent, "")
		require.NoError(t, err)
		require.Equal(t, vault.Lending{}, other.Lending)
	})
}

// TestLendingIsRefused: to who may not, for what is no account, of what would not be lent, and with a reason that is too long. Nothing changes.
func TestLendingIsRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, other := f.create(t, apiKey("team")), f.create(t, password("one"))
		set := func(caller identity.Caller, id string, to vault.LendingState, reason, code string) {
			t.Helper()
			_, err := f.SetLending(t.Context(), caller, id, to, reason)
			requireCode(t, err, code)
		}
		set(auditor, c.ID, vault.Paused, "", "forbidden")
		set(admin, other.ID, vault.Paused, "", "state_conflict")
		set(admin, store.NewID("cred"), vault.Paused, "", "not_found")
		set(admin, c.ID, vault.Paused, strings.Repeat("x", 501), "validation_failed")
		set(admin, c.ID, "half", "", "validation_failed")
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Revision)

		for _, state := range []vault.Status{vault.Disabled, vault.Compromised} {
			_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(state)}, "")
			require.NoError(t, err)
			set(admin, c.ID, vault.Lent, "", "state_conflict")
			_, err = f.SetLending(t.Context(), admin, c.ID, vault.Paused, "")
			require.NoError(t, err)
			now, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(vault.Active)}, now.ETag())
			require.NoError(t, err)
		}
		require.Equal(t, vault.Paused, f.materials(t, c.ID)[c.ID].Lending.State, "enabling it does not resume it")
	})
}

// TestInvariant15APauseIsBound: whoever writes the database without the key does not have a paused account lent.
func TestInvariant15APauseIsBound(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		_, err := f.SetLending(t.Context(), admin, c.ID, vault.Paused, "")
		require.NoError(t, err)
		f.exec(t, `UPDATE credentials SET lending = '' WHERE id = $1`, c.ID)
		require.True(t, f.materials(t, c.ID)[c.ID].Tampered)
		_, err = f.SetLending(t.Context(), admin, c.ID, vault.Lent, "")
		requireCode(t, err, "credential_tampered")
		f.exec(t, `UPDATE credentials SET lending = 'paused' WHERE id = $1`, c.ID)
		require.False(t, f.materials(t, c.ID)[c.ID].Tampered)
	})
}
