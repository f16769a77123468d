package incident_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// house is the room with those below it, on one database.
type house struct {
	*incident.Room
	db       *store.DB
	identity *identity.Room
	vault    *vault.Room
	trains   *train.Room
	logins   *oauth.Logins
	tokens   *oauth.Room
	audit    *audit.Log
	ring     *keyring.Ring
	config   incident.Config
}

func newHouse(t *testing.T, db *store.DB) *house {
	t.Helper()
	h := &house{db: db}
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	h.ring = ring
	h.identity, err = identity.New(identity.Config{DB: db, Ring: ring, FailureLimit: 1_000_000, Outgoing: policy})
	require.NoError(t, err)
	h.audit, err = audit.New(t.Context(), audit.Config{DB: db, Ring: ring})
	require.NoError(t, err)
	h.vault, err = vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, CheckURL: policy.CheckURL})
	require.NoError(t, err)
	h.trains, err = train.New(train.Config{DB: db, Vault: h.vault, Identity: h.identity})
	require.NoError(t, err)
	h.logins, err = oauth.NewLogins(oauth.LoginsConfig{DB: db, Vault: h.vault, Ring: ring, Binder: ring, Wire: provider.New(provider.Config{Policy: policy}), CheckURL: policy.CheckURL})
	require.NoError(t, err)
	h.tokens, err = oauth.New(oauth.Config{DB: db, Vault: h.vault, Ring: ring, Endpoint: provider.New(provider.Config{Policy: policy}), Servers: h.logins, SpillDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(h.tokens.Close)
	h.config = incident.Config{DB: db, Identity: h.identity, Vault: h.vault, Logins: h.logins, Tokens: h.tokens, Audit: h.audit}
	h.Room, err = incident.New(h.config)
	require.NoError(t, err)
	return h
}
