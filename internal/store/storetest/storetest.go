// Package storetest gives tests a database of either engine. Only tests import it.
//
// Promise: [Each] runs a test on SQLite and on PostgreSQL, each time on a fresh, migrated database of its own.
//
// Limits: PostgreSQL is the server that SIGNALBOX_TEST_POSTGRES_URL names; without it the package starts one from
// /usr/lib/postgresql in the temporary directory and leaves it running for the next test binary.
//
// Invariants: no test is skipped; a missing server fails it.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Engines are the engines that [Each] uses: both, unless SIGNALBOX_TEST_ENGINES names one. Only the quick gate and the race detector set it, and say so.
func Engines() []store.Engine {
	both := []store.Engine{store.SQLite, store.Postgres}
	for _, e := range both {
		if os.Getenv("SIGNALBOX_TEST_ENGINES") == string(e) {
			return []store.Engine{e}
		}
	}
	return both
}

// Each runs fn once per engine, each time with a started database of its own.
func Each(t *testing.T, fn func(t *testing.T, db *store.DB)) {
	t.Helper()
	for _, e := range Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, Open(t, e)) })
	}
}

// Open returns a database of that engine, closed when the test ends. It is not started: subscribe first, then call Start.
func Open(t testing.TB, e store.Engine) *store.DB {
	t.Helper()
	return OpenConfig(t, Config(t, e))
}

// OpenConfig opens the database of cfg (a second instance on the same one, for PostgreSQL) and closes it when the test ends.
func OpenConfig(t testing.TB, cfg store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Config returns where a fresh database of that engine is.
func Config(t testing.TB, e store.Engine) store.Config {
	t.Helper()
	cfg := store.Config{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	if e == store.Postgres {
		cfg.PostgresURL = secret.FromString(PostgresURL(t))
	}
	return cfg
}

// PostgresURL makes a fresh database from the migrated template and returns its URL. It is dropped when the test ends.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return database(t, server(t))
}

// database makes a fresh database from the migrated template of that server.
func database(t testing.TB, base string) string {
	t.Helper()
	tmpl := template(t, base)
	name := "t_" + store.NewID("x")[2:]
	admin(t, base, func(ctx context.Context, c *pgx.Conn) {
		_, err := c.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+tmpl)
		require.NoError(t, err)
	})
	t.Cleanup(func() {
		admin(t, base, func(ctx context.Context, c *pgx.Conn) {
			_, err := c.Exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
			require.NoError(t, err)
		})
	})
	return withDatabase(t, base, name)
}

// template makes the migrated template once per schema.
func template(t testing.TB, base string) string {
	t.Helper()
	texts, err := store.Schema(store.Postgres)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	name := "sbx_" + hex.EncodeToString(sum[:8])
	admin(t, base, func(ctx context.Context, c *pgx.Conn) {
		_, err := c.Exec(ctx, `SELECT pg_advisory_lock(8420)`)
		require.NoError(t, err)
		var ready bool
		require.NoError(t, c.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&ready))
		if ready {
			return
		}
		work := "w_" + store.NewID("x")[2:]
		_, err = c.Exec(ctx, `CREATE DATABASE `+work)
		require.NoError(t, err)
		db, err := store.Open(ctx, store.Config{PostgresURL: secret.FromString(withDatabase(t, base, work))})
		require.NoError(t, err)
		require.NoError(t, db.Close())
		_, err = c.Exec(ctx, `ALTER DATABASE `+work+` RENAME TO `+name)
		require.NoError(t, err)
	})
	return name
}

func admin(t testing.TB, base string, fn func(ctx context.Context, c *pgx.Conn)) {
	t.Helper()
	ctx := context.Background() // also used when the test's own context has ended
	c, err := pgx.Connect(ctx, base)
	require.NoError(t, err, "PostgreSQL for tests does not answer")
	defer func() { _ = c.Close(ctx) }()
	fn(ctx, c)
}

func withDatabase(t testing.TB, base, name string) string {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

// parts takes a URL apart.
func parts(t testing.TB, raw string) (host, port, name string) {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Hostname(), u.Port(), u.Path[1:]
}
