package vault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TestTry: a credential is opened to be tried only for who may use it, only when it is whole and active, and never without a record before it.
func TestTry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		made := f.create(t, apiKey("main"))
		trial, err := f.Try(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.Equal(t, anthropicKey, trial.Secrets["api_key"].Reveal())
		require.Equal(t, []string{"api.anthropic.com"}, trial.Hosts)
		ev := f.lastEvent(t)
		require.Equal(t, [2]string{string(store.CredentialTest), store.OutcomePending}, [2]string{string(ev.Action), ev.Outcome})
		require.NoError(t, f.Tried(t.Context(), admin, trial, "unauthorized", "https://api.anthropic.com"))
		ev = f.lastEvent(t)
		require.Equal(t, [3]string{string(store.CredentialTest), store.OutcomeFailed, "unauthorized"}, [3]string{string(ev.Action), ev.Outcome, ev.Reason})
		require.NoError(t, f.Tried(t.Context(), admin, trial, "ok", ""))
		require.Equal(t, store.OutcomeOK, f.lastEvent(t).Outcome)

		for name, one := range map[string]struct {
			caller identity.Caller
			code   string
		}{"auditor": {auditor, "forbidden"}, "member": {member, "not_found"}, "reader": {reader, "scope_missing"}, "agent": {agent, "forbidden"}, "nobody": {nobody, "unauthenticated"}} {
			_, err := f.Try(t.Context(), one.caller, made.ID)
			requireCode(t, err, one.code)
			if name != "nobody" {
				ev := f.lastEvent(t)
				require.Equal(t, store.CredentialRefused, ev.Action, name)
			}
		}
		for _, state := range []vault.Status{vault.Disabled, vault.Compromised} {
			idle := f.create(t, apiKey(string(state)))
			_, err := f.Update(t.Context(), admin, idle.ID, vault.Patch{State: vault.To(state)}, "")
			require.NoError(t, err)
			_, err = f.Try(t.Context(), admin, idle.ID)
			requireCode(t, err, "state_conflict")
			require.Equal(t, store.CredentialRefused, f.lastEvent(t).Action)
		}
		f.exec(t, `UPDATE credentials SET base_url = 'https://evil.example' WHERE id = $1`, made.ID)
		_, err = f.Try(t.Context(), admin, made.ID)
		requireCode(t, err, "credential_tampered")
	})
}
