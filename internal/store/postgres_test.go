package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// authority is a certificate authority that signs what it is asked to.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	draft := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Signalbox test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, draft, draft, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign returns a certificate and its key in PEM form.
func (a *authority) sign(t *testing.T, name string, names []string, ips []net.IP) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	draft := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, draft, a.cert, &k.PublicKey, a.key)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func put(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// open opens the database that a text names and closes it again. It returns the error and fails when the password stands in it or in a log line.
func openText(t *testing.T, text, password string, plaintext bool) error {
	t.Helper()
	var log strings.Builder
	var mu sync.Mutex
	db, err := store.Open(t.Context(), store.Config{PostgresURL: secretOf(text), AllowPlaintext: plaintext, Log: textLog(lockedWriter{&mu, &log})})
	said := log.String()
	if err == nil {
		err = db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminStart, Target: store.Target{Kind: "instance"}})
		})
		require.NoError(t, db.Close())
	} else {
		said += err.Error()
	}
	for _, form := range []string{password, url.QueryEscape(password), url.PathEscape(password), hex.EncodeToString([]byte(password)), password[:12]} {
		require.NotContains(t, said, form)
	}
	return err
}

// TestPostgresOverTLS connects to a real PostgreSQL that takes nothing but TLS with a password, and for one user a client certificate.
func TestPostgresOverTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.sign(t, "db.example", []string{"localhost"}, nil) // for the name, not for 127.0.0.1
	pg := storetest.Private(t, map[string][]byte{
		"server.crt": cert, "server.key": key, "ca.crt": ca.pem,
		"pg_hba.conf": []byte("local all all trust\nhostssl all owner 127.0.0.1/32 scram-sha-256\nhostssl all certified 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 trust\n"),
	}, "ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'", "ssl_ca_file = 'ca.crt'")
	const password = `plänted/p@ss:w?rd#%'\ 8f3k2`
	admin, err := pgx.Connect(t.Context(), pg.URL)
	require.NoError(t, err)
	for _, q := range []string{`CREATE ROLE owner LOGIN PASSWORD '` + strings.ReplaceAll(password, "'", "''") + `'`, `CREATE ROLE certified LOGIN`, `CREATE DATABASE box OWNER owner`, `CREATE DATABASE cert OWNER certified`} {
		_, err := admin.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	require.NoError(t, admin.Close(t.Context()))
	trust, strange := put(t, "ca.pem", ca.pem), put(t, "other.pem", other.pem)
	clientCert, clientKey := ca.sign(t, "certified", nil, nil)
	foreignCert, foreignKey := other.sign(t, "certified", nil, nil)
	mine := url.Values{"sslcert": {put(t, "client.pem", clientCert)}, "sslkey": {put(t, "client.key", clientKey)}}
	foreign := url.Values{"sslcert": {put(t, "foreign.pem", foreignCert)}, "sslkey": {put(t, "foreign.key", foreignKey)}}

	for _, c := range []struct {
		name, user, host, database string
		more                       url.Values
		refused                    string
	}{
		{"disable", "owner", "localhost", "box", url.Values{"sslmode": {"disable"}}, "it may ask for TLS"},
		{"require", "owner", "localhost", "box", url.Values{"sslmode": {"require"}}, ""},
		{"the default takes what it gets", "owner", "localhost", "box", nil, ""},
		{"require checks the authority if there is one", "owner", "localhost", "box", url.Values{"sslmode": {"require"}, "sslrootcert": {strange}}, "no authority in sslrootcert"},
		{"verify-ca", "owner", "127.0.0.1", "box", url.Values{"sslmode": {"verify-ca"}, "sslrootcert": {trust}}, ""},
		{"verify-ca, wrong authority", "owner", "127.0.0.1", "box", url.Values{"sslmode": {"verify-ca"}, "sslrootcert": {strange}}, "no authority in sslrootcert"},
		{"verify-ca, no authority", "owner", "127.0.0.1", "box", url.Values{"sslmode": {"verify-ca"}}, "no authority in sslrootcert"},
		{"verify-full", "owner", "localhost", "box", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trust}}, ""},
		{"verify-full, wrong name", "owner", "127.0.0.1", "box", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trust}}, "for another host name"},
		{"verify-full, wrong authority", "owner", "localhost", "box", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {strange}}, "no authority in sslrootcert"},
		{"client certificate", "certified", "localhost", "cert", merge(mine, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trust}}), ""},
		{"client certificate missing", "certified", "localhost", "cert", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trust}}, "client certificate"},
		{"client certificate of another authority", "certified", "localhost", "cert", merge(foreign, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trust}}), "client certificate"},
		{"no such database", "owner", "localhost", "nowhere", url.Values{"sslmode": {"require"}}, "has no such database"},
		{"sslmode misspelt", "owner", "localhost", "box", url.Values{"sslmode": {"verify"}}, "is none of disable, allow, prefer, require, verify-ca and verify-full"},
		{"no such file", "owner", "localhost", "box", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {"/nowhere/ca.pem"}}, "the file that sslrootcert in DATABASE_URL names cannot be read: no such file"},
		{"not a certificate", "owner", "localhost", "box", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {mine.Get("sslkey")}}, "the file that sslrootcert in DATABASE_URL names does not hold what it should"},
		{"half a client certificate", "owner", "localhost", "box", url.Values{"sslmode": {"require"}, "sslcert": {trust}}, "both or neither"},
		{"no such key", "owner", "localhost", "box", url.Values{"sslmode": {"require"}, "sslcert": {trust}, "sslkey": {"/nowhere/key.pem"}}, "the file that sslkey in DATABASE_URL names cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := url.URL{Scheme: "postgres", User: url.UserPassword(c.user, password), Host: net.JoinHostPort(c.host, strconv.Itoa(pg.Port)), Path: c.database, RawQuery: c.more.Encode()}
			quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
			keywords := fmt.Sprintf("host=%s port=%d user=%s dbname=%s password='%s'", c.host, pg.Port, c.user, c.database, quote.Replace(password))
			for k, v := range c.more {
				keywords += " " + k + "='" + quote.Replace(v[0]) + "'"
			}
			for form, text := range map[string]string{"URL": u.String(), "keywords": keywords} {
				err := openText(t, text, password, false)
				if c.refused == "" {
					require.NoError(t, err, form)
					continue
				}
				require.ErrorContains(t, err, c.refused, form)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		const wrong = "planted-wrong-word-8f3k2"
		err := openText(t, fmt.Sprintf("host=localhost port=%d user=owner dbname=box sslmode=require password=%s", pg.Port, wrong), wrong, false)
		require.ErrorContains(t, err, "refuses the user or the password")
	})
	t.Run("unix socket", func(t *testing.T) {
		for _, text := range []string{
			fmt.Sprintf("host=%s port=%d user=owner dbname=box password=planted-socket-word", pg.Dir, pg.Port),
			fmt.Sprintf("postgres://owner:planted-socket-word@/box?host=%s&port=%d", url.QueryEscape(pg.Dir), pg.Port),
		} {
			require.NoError(t, openText(t, text, "planted-socket-word", false), "no network, no TLS")
		}
	})
	t.Run("a server without TLS", func(t *testing.T) {
		plain, err := url.Parse(storetest.PostgresURL(t))
		require.NoError(t, err)
		plain.RawQuery = "sslmode=require"
		plain.User = url.UserPassword("postgres", "planted-plain-word")
		require.ErrorContains(t, openText(t, plain.String(), "planted-plain-word", false), "does not speak TLS")
	})
}

func merge(a, b url.Values) url.Values {
	out := url.Values{}
	for _, v := range []url.Values{a, b} {
		for k := range v {
			out.Set(k, v.Get(k))
		}
	}
	return out
}

// TestPlaintextToAnotherMachineIsRefused: nothing is sent before the refusal, so the hosts need not exist. Those that insist on TLS, or are
// allowed, get as far as not being found.
func TestPlaintextToAnotherMachineIsRefused(t *testing.T) {
	const password = "planted-password-8f3k2"
	const refusal = "the URL does not insist on TLS"
	ca := put(t, "ca.pem", newAuthority(t).pem)
	for _, c := range []struct {
		text    string
		refused bool
	}{
		{"postgres://u:" + password + "@db.invalid/box", true}, // the default is prefer
		{"postgres://u:" + password + "@db.invalid/box?sslmode=disable", true},
		{"postgres://u:" + password + "@db.invalid/box?sslmode=allow", true},
		{"postgres://u:" + password + "@db.invalid/box?sslmode=prefer", true},
		{"host=db.invalid user=u password=" + password + " sslmode=prefer", true},
		{"postgres://u:" + password + "@127.0.0.1,db.invalid/box?sslmode=disable", true}, // the second host is the remote one
		{"postgres://u:" + password + "@192.0.2.1/box", true},
		{"postgres://u:" + password + "@db.invalid/box?sslmode=require", false},
		{"postgres://u:" + password + "@db.invalid/box?sslmode=verify-full&sslrootcert=" + ca, false},
		{"host=db.invalid user=u password=" + password + " sslmode=verify-ca sslrootcert=" + ca, false},
	} {
		err := openText(t, c.text, password, false)
		if !c.refused {
			require.ErrorContains(t, err, "the name does not resolve", c.text)
			f, ok := fault.As(err)
			require.True(t, ok)
			require.Equal(t, fault.Unavailable, f.Kind)
			continue
		}
		require.ErrorContains(t, err, refusal, c.text)
		require.ErrorContains(t, err, "SIGNALBOX_ALLOW_PLAINTEXT_DATABASE=true", c.text)
	}
	require.ErrorContains(t, openText(t, "postgres://u:"+password+"@db.invalid/box", password, true), "the name does not resolve")
	for _, text := range []string{"postgres://u:" + password + "@[::1", "postgres://u:" + password + "@h:port/x", password, "host", "postgres://" + password + "%zz@h/"} {
		require.ErrorContains(t, openText(t, text, password, false), "DATABASE_URL cannot be read", "%s", strings.ReplaceAll(text, password, "…"))
	}
	// Nobody listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	err = openText(t, "postgres://u:"+password+"@"+l.Addr().String()+"/box", password, false)
	require.ErrorContains(t, err, "does not answer")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

// TestInstancesMigrateOneAfterTheOther starts several on an empty database at once, directly and through a pooler.
func TestInstancesMigrateOneAfterTheOther(t *testing.T) {
	if !slices.Contains(storetest.Engines(), store.Postgres) {
		return // the quick gate needs no pooler
	}
	pg := storetest.Private(t, nil)
	for _, through := range []string{"directly", "pooler"} {
		t.Run(through, func(t *testing.T) {
			admin, err := pgx.Connect(t.Context(), pg.URL)
			require.NoError(t, err)
			_, err = admin.Exec(t.Context(), "CREATE DATABASE "+through)
			require.NoError(t, err)
			require.NoError(t, admin.Close(t.Context()))
			target := strings.Replace(pg.URL, "/postgres?", "/"+through+"?", 1)
			if through == "pooler" {
				target = storetest.Pooler(t, target)
			}
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				wg.Go(func() {
					var db *store.DB
					if db, errs[i] = store.Open(context.Background(), store.Config{PostgresURL: secretOf(target)}); errs[i] == nil {
						errs[i] = db.Close()
					}
				})
			}
			wg.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
		})
	}
}

// TestThroughAPoolerInTransactionMode runs every kind of transaction through a real PgBouncer, where each may meet another server process.
func TestThroughAPoolerInTransactionMode(t *testing.T) {
	if !slices.Contains(storetest.Engines(), store.Postgres) {
		return // the quick gate needs no pooler
	}
	direct := storetest.PostgresURL(t)
	through := storetest.Pooler(t, direct)
	var mu sync.Mutex
	var text strings.Builder
	db := storetest.OpenConfig(t, store.Config{PostgresURL: secretOf(through), Log: textLog(lockedWriter{&mu, &text})})
	require.Contains(t, text.String(), "a connection pooler stands before PostgreSQL")
	other := storetest.OpenConfig(t, store.Config{PostgresURL: secretOf(through)})
	h := listen(other)
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, other.Start(t.Context()))
	var wg sync.WaitGroup
	var bad sync.Map
	const workers, rounds = 12, 25
	for w := range workers {
		wg.Go(func() {
			for n := range rounds {
				subject := fmt.Sprintf("key_%d_%d", w, n)
				if err := change(context.Background(), db, subject, 0); err != nil {
					bad.Store(subject, err)
				}
				if _, err := db.Append(context.Background(), lease(subject, "c")); err != nil {
					bad.Store("lease "+subject, err)
				}
				if err := other.Fresh(context.Background()); err != nil {
					bad.Store("fresh "+subject, err)
				}
			}
		})
	}
	wg.Wait()
	acked := time.Now()
	bad.Range(func(k, v any) bool { t.Errorf("%v: %v", k, v); return true })
	require.Eventually(t, func() bool {
		for w := range workers {
			for n := range rounds {
				if !h.has(fmt.Sprintf("key_%d_%d", w, n)) {
					return false
				}
			}
		}
		return true
	}, 3*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(acked), time.Second, "every change is heard within a second of its acknowledgement")
	require.Len(t, stored(t, db), workers*rounds)
}

// TestPingLooksPastEndedConnections ends every connection while it lies idle, as a restart of PostgreSQL does: it answers, so it is well.
func TestPingLooksPastEndedConnections(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	db := storetest.OpenConfig(t, cfg)
	killer, err := pgx.Connect(t.Context(), cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = killer.Close(context.Background()) }()
	for range 20 {
		require.NoError(t, db.Ping(t.Context()))
		_, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
		require.NoError(t, db.Ping(t.Context()))
	}
}
