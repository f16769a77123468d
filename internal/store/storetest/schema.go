package storetest

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// SetSchema makes the closed SQLite database of a data directory say that it has another schema.
func SetSchema(t testing.TB, dir string, version int64) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, store.FileName))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id >= $1`, version)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, 1)`, version)
	require.NoError(t, err)
}
