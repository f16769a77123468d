package store_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestScratchIsItsOwnDatabase: a trial on a server touches nothing else there, and is gone afterwards, also when it was left open.
func TestScratchIsItsOwnDatabase(t *testing.T) {
	base := storetest.PostgresURL(t)
	conf, err := pgx.ParseConfig(base)
	require.NoError(t, err)
	keywords := "host=" + conf.Host + " user=" + conf.User + " dbname=" + conf.Database + " sslmode=disable port=" + strconv.Itoa(int(conf.Port))
	for _, where := range []string{base, keywords, base + "&dbname=" + conf.Database} {
		scratch, drop, err := store.Scratch(t.Context(), store.Config{PostgresURL: secretOf(where)})
		require.NoError(t, err, where)
		db, err := store.Open(t.Context(), store.Config{PostgresURL: scratch})
		require.NoError(t, err)
		var name string
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&name, `SELECT current_database()`) }))
		require.NotEqual(t, conf.Database, name)
		require.Contains(t, name, "signalbox_scratch")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, drop(ended), "also after the trial was interrupted")
		_ = db.Close()
		c, err := pgx.Connect(t.Context(), base)
		require.NoError(t, err)
		var left int
		require.NoError(t, c.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_database WHERE datname = $1`, name).Scan(&left))
		require.NoError(t, c.Close(t.Context()))
		require.Zero(t, left)
	}
	// What a trial that was killed has left is removed by the next one: not what is in use, is young, or is named otherwise.
	c, err := pgx.Connect(t.Context(), base)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close(context.WithoutCancel(t.Context()))) }()
	old, used, young := store.IDFloor("signalbox_scratch", time.Now().Add(-time.Hour)), store.IDFloor("signalbox_scratch", time.Now().Add(-2*time.Hour)), store.NewID("signalbox_scratch")
	foreign := "signalbox_scratch_of_mine"
	for _, name := range []string{old, used, young, foreign} {
		_, err := c.Exec(t.Context(), `CREATE DATABASE `+name)
		require.NoError(t, err)
		defer func() {
			_, err := c.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
			require.NoError(t, err)
		}()
	}
	other := conf.Copy()
	other.Database = used
	user, err := pgx.ConnectConfig(t.Context(), other)
	require.NoError(t, err)
	defer func() { _ = user.Close(context.WithoutCancel(t.Context())) }()
	_, drop, err := store.Scratch(t.Context(), store.Config{PostgresURL: secretOf(base)})
	require.NoError(t, err)
	require.NoError(t, drop(t.Context()))
	rows, err := c.Query(t.Context(), `SELECT datname FROM pg_database WHERE datname = ANY($1)`, []string{old, used, young, foreign})
	require.NoError(t, err)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, []string{used, young, foreign}, left)

	_, _, err = store.Scratch(t.Context(), store.Config{PostgresURL: secretOf("postgres://db.example.com/x?sslmode=disable")})
	require.ErrorContains(t, err, "sslmode", "a password does not cross the network in plain text for a trial either")
}
