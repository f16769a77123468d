package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// Homes makes the client, the service and the infrastructure with those ids, as a migration makes them of texts that credentials named: for tests
// that name them by words of their own. An empty id makes nothing, and what is there stays.
func Homes(t testing.TB, db *store.DB, clientID, serviceID, infrastructureID string) {
	t.Helper()
	require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		for _, h := range []struct{ id, table, columns, values string }{
			{clientID, "clients", "contact", "''"}, {serviceID, "services", "url", "''"}, {infrastructureID, "infrastructure", "address, kind", "'', 'host'"},
		} {
			if h.id == "" {
				continue
			}
			if _, err := tx.Exec(`INSERT INTO `+h.table+` (id, name, description, search, revision, created_at, updated_at, `+h.columns+`)
				VALUES ($1, $1, '', $1, 1, 1, 1, `+h.values+`) ON CONFLICT DO NOTHING`, h.id); err != nil {
				return err
			}
		}
		return nil
	}))
}
