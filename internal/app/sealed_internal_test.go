package app

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestEverySealedColumnIsMoved: each column of bytes that a migration makes is either a place that a change of the data key moves, which the database
// protects from keys that are gone, or one that no data key is needed for.
func TestEverySealedColumnIsMoved(t *testing.T) {
	plain := map[string]string{
		"changes.xid": "", // PostgreSQL's own
		// Hashes, which no key makes.
		"tokens.hash": "", "setup_links.hash": "", "client_keys.hash": "", "user_links.hash": "", "sessions.hash": "", "refresh_tokens.hash": "", "recovery_codes.hash": "",
		"passkey_challenges.hash": "", "sso_states.hash": "", "sso_states.browser": "", "login_codes.hash": "", "login_codes.challenge": "", "oauth_flows.state": "",
		"audit_leaves.hashes": "", "audit_nodes.hash": "",
		"passkeys.credential_id": "", // the browser's name for it
		// Records, in clear.
		"audit_events.body": "", "audit_batches.body": "", "audit_postings.entries": "",
		"quota_counts.state": "", // numbers
		// Under the root key.
		"keyring_keys.wrapped": "", "keyring_wraps.wrapped": "", "keyring_checks.sealed": "",
		"keyring_left.tag":          "", // a number
		"keyring_seals.proof":       "", // a MAC that is looked at once, within seconds
		"keyring_wrappings.wrapped": "", // the root key itself, under the key of a KMS
		"idempotency_keys.request":  "", // a MAC over what is not kept; it ends with its data key (api.Sealed)
	}
	cfg, err := Load(Environ{}, map[string]string{"data-dir": filepath.Join(t.TempDir(), "data"), "listen": "127.0.0.1:0"})
	require.NoError(t, err)
	a, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	defer a.Close()
	var columns []struct {
		Table  string `db:"tbl"`
		Column string `db:"col"`
	}
	var triggers []string
	require.NoError(t, a.db.Read(t.Context(), func(tx *store.Tx) error {
		if err := tx.Select(&columns, `SELECT m.name AS tbl, c.name AS col FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND c.type = 'BLOB'`); err != nil {
			return err
		}
		return tx.Select(&triggers, `SELECT name FROM sqlite_master WHERE type = 'trigger'`)
	}))
	moved := map[string]bool{}
	for _, p := range sealed(a.ring, a.vault, a.logins) {
		for _, c := range p.Columns {
			moved[p.Table+"."+c.Name] = true
		}
	}
	there := map[string]bool{}
	for _, c := range columns {
		name := c.Table + "." + c.Column
		there[name] = true
		_, is := plain[name]
		require.NotEqual(t, is, moved[name], "%s: add it to the places of its room (Sealed) with a Fence in its migration, or here when no data key has to do with it", name)
		if !moved[name] {
			continue
		}
		trigger := strings.ReplaceAll(name, ".", "_")
		require.True(t, slices.Contains(triggers, trigger+"_key") && slices.Contains(triggers, trigger+"_rekey"), "%s has no Fence in its migration", name)
	}
	require.Greater(t, len(there), 30)
	for name := range moved {
		require.True(t, there[name], "%s is a place, but no such column of bytes is there", name)
	}
}
