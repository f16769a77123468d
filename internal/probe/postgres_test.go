package probe_test

import (
	"crypto/x509"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// TestPostgres signs in at a real server, with TLS and SCRAM and without.
func TestPostgres(t *testing.T) {
	for _, engine := range storetest.Engines() {
		if engine == store.Postgres {
			testPostgres(t)
		}
	}
}

func testPostgres(t *testing.T) {
	cert, key := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	server := storetest.Private(t, map[string][]byte{"server.crt": []byte(cert), "server.key": []byte(key),
		"pg_hba.conf": []byte("hostssl all secured 127.0.0.1/32 scram-sha-256\nhost all plain 127.0.0.1/32 scram-sha-256\nhost all spoken 127.0.0.1/32 password\nhost all postgres 127.0.0.1/32 trust\n")},
		"ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'")
	admin, err := pgconn.Connect(t.Context(), server.URL)
	require.NoError(t, err)
	const password = planted + `/p@ss:w?rd#%'`
	for _, q := range []string{"CREATE ROLE secured LOGIN PASSWORD ", "CREATE ROLE plain LOGIN PASSWORD ", "CREATE ROLE spoken LOGIN PASSWORD "} {
		_, err := admin.Exec(t.Context(), q+"'"+strings.ReplaceAll(password, "'", "''")+"'").ReadAll()
		require.NoError(t, err)
	}
	require.NoError(t, admin.Close(t.Context()))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	b := newBench(t, 0, roots, "127.0.0.1", "localhost")
	ask := func(b *bench, user, pass, host, database, mode string) probe.Outcome {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, pass), Host: host + ":" + strconv.Itoa(server.Port), Path: "/" + database}
		if mode != "" {
			u.RawQuery = "sslmode=" + mode
		}
		return b.outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", u.String()), probe.Ask{})
	}
	for _, row := range []struct {
		user, pass, host, database, mode string
		want                             probe.Outcome
	}{
		{"secured", password, "127.0.0.1", "postgres", "verify-full", probe.OK}, {"secured", password, "127.0.0.1", "postgres", "require", probe.OK}, {"secured", password, "127.0.0.1", "postgres", "", probe.OK},
		{"secured", password, "localhost", "postgres", "verify-ca", probe.OK}, {"secured", password, "localhost", "postgres", "verify-full", probe.TLSFailed},
		{"secured", password, "127.0.0.1", "postgres", "disable", probe.Unauthorized}, {"plain", password, "127.0.0.1", "postgres", "disable", probe.OK},
		{"secured", planted, "127.0.0.1", "postgres", "verify-full", probe.Unauthorized}, {"nobody", password, "127.0.0.1", "postgres", "require", probe.Unauthorized},
		{"secured", password, "127.0.0.1", "nothing", "verify-full", probe.Refused}, {"spoken", password, "127.0.0.1", "postgres", "verify-full", probe.OK},
		{"spoken", password, "127.0.0.1", "postgres", "require", probe.TLSFailed}, {"spoken", password, "127.0.0.1", "postgres", "disable", probe.TLSFailed},
	} {
		require.Equal(t, row.want, ask(b, row.user, row.pass, row.host, row.database, row.mode), "%+v", row)
	}
	require.Equal(t, probe.TLSFailed, ask(newBench(t, 0, nil, "127.0.0.1"), "secured", password, "127.0.0.1", "postgres", "verify-full"), "an authority that nobody knows")
	keywords := "host=127.0.0.1 port=" + strconv.Itoa(server.Port) + " user=secured dbname=postgres sslmode=verify-full password='" + strings.ReplaceAll(password, "'", `\'`) + "'"
	require.Equal(t, probe.OK, b.outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", keywords), probe.Ask{}))
}
