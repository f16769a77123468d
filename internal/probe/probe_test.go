package probe_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

const planted = "pl4nted-probe-secret-7731"

// safe is a vault with one credential, and the record of what was tried.
type safe struct {
	mu      sync.Mutex
	trial   vault.Trial
	refusal error
	record  []string
}

func (s *safe) Try(context.Context, identity.Caller, string) (vault.Trial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = append(s.record, "pending")
	return s.trial, s.refusal
}

func (s *safe) Tried(_ context.Context, _ identity.Caller, _ vault.Trial, outcome, target string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = append(s.record, strings.TrimSpace(outcome+" "+target))
	return nil
}

// bench is a room with that vault; what leaks into its answers, its record or its log fails the test.
type bench struct {
	t    *testing.T
	safe *safe
	log  *bytes.Buffer
	room *probe.Room
}

func newBench(t *testing.T, patience time.Duration, roots *x509.CertPool, allow ...string) *bench {
	t.Helper()
	policy, err := outbound.ParsePolicy(allow)
	require.NoError(t, err)
	b := &bench{t: t, safe: &safe{}, log: &bytes.Buffer{}}
	b.room, err = probe.New(probe.Config{Vault: b.safe, Policy: policy, RootCAs: roots, Patience: patience, Log: slog.New(slog.NewJSONHandler(b.log, nil))})
	require.NoError(t, err)
	return b
}

func trial(kind vault.Type, meta vault.Meta, hosts []string, pairs ...string) vault.Trial {
	t := vault.Trial{Credential: vault.Credential{ID: "cred_1", Type: kind, Meta: meta, Version: 3}, Secrets: map[string]secret.Value{}, Hosts: hosts}
	for i := 0; i < len(pairs); i += 2 {
		t.Secrets[pairs[i]] = secret.FromString(pairs[i+1])
	}
	if meta.BaseURL != "" {
		t.BaseURL, _ = url.Parse(meta.BaseURL)
		if hosts == nil {
			t.Hosts = []string{t.BaseURL.Host}
		}
	}
	return t
}

func (b *bench) test(tr vault.Trial, ask probe.Ask) probe.Result {
	b.t.Helper()
	b.safe.trial, b.safe.record = tr, nil
	got, err := b.room.Test(b.t.Context(), identity.Caller{}, "cred_1", ask)
	require.NoError(b.t, err)
	require.Equal(b.t, []string{"pending", strings.TrimSpace(string(got.Outcome) + " " + got.Target)}, b.safe.record)
	require.Contains(b.t, probe.Outcomes(), got.Outcome)
	require.True(b.t, strings.HasSuffix(got.Detail, ".") && len(got.Detail) > 20, got.Detail)
	require.NotContains(b.t, fmt.Sprintf("%+v %v %s", got, b.safe.record, b.log), planted)
	require.NotContains(b.t, fmt.Sprintf("%+v %v %s", got, b.safe.record, b.log), "upstream-text")
	return got
}

func (b *bench) outcome(tr vault.Trial, ask probe.Ask) probe.Outcome { return b.test(tr, ask).Outcome }

// TestHTTP: the secret goes where and how it is used, and the answer becomes an outcome without a word of the server's.
func TestHTTP(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header["Authorization"], r.Header["X-Api-Key"], r.Header["Anthropic-Beta"]))
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/401", "/403", "/404", "/429", "/500":
			var code int
			fmt.Sscanf(r.URL.Path, "/%d", &code)
			w.WriteHeader(code)
		}
		fmt.Fprint(w, "upstream-text", r.Header)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	b := newBench(t, 0, nil, host)
	key := trial(vault.APIKey, vault.Meta{BaseURL: server.URL + "/api"}, nil, "api_key", planted)
	anthropic := key
	anthropic.Provider, anthropic.BaseURL = "anthropic", &url.URL{Scheme: "http", Host: host}
	tokens := trial(vault.OAuth, vault.Meta{Provider: "anthropic", BaseURL: server.URL}, nil, "access_token", planted)
	person := trial(vault.Password, vault.Meta{BaseURL: server.URL, Username: "ada"}, nil, "password", planted)
	for _, row := range []struct {
		tr   vault.Trial
		ask  probe.Ask
		want string
	}{
		{key, probe.Ask{}, "GET /api [Bearer " + planted + "] [] []"},
		{key, probe.Ask{Path: "/v2/me?x=1%2F2"}, "GET /api/v2/me?x=1%2F2 [Bearer " + planted + "] [] []"},
		{key, probe.Ask{Auth: "header", Header: "X-Api-Key"}, "GET /api [] [" + planted + "] []"},
		{anthropic, probe.Ask{}, "GET /v1/models [] [" + planted + "] []"},
		{tokens, probe.Ask{}, "GET /v1/models [Bearer " + planted + "] [] [oauth-2025-04-20]"},
		{person, probe.Ask{}, "GET / [Basic YWRhOnBsNG50ZWQtcHJvYmUtc2VjcmV0LTc3MzE=] [] []"},
		{trial(vault.JWT, vault.Meta{BaseURL: server.URL}, nil, "token", planted), probe.Ask{}, "GET / [Bearer " + planted + "] [] []"},
	} {
		seen = nil
		got := b.test(row.tr, row.ask)
		require.Equal(t, probe.OK, got.Outcome, "%+v", got)
		require.Equal(t, [2]any{"http://" + host, 200}, [2]any{got.Target, got.Status})
		require.Equal(t, []string{row.want}, seen)
	}
	root := trial(vault.APIKey, vault.Meta{BaseURL: server.URL}, nil, "api_key", planted)
	for path, want := range map[string]probe.Outcome{"/401": probe.Unauthorized, "/403": probe.Unauthorized, "/404": probe.Refused, "/429": probe.Refused, "/500": probe.Refused, "/redirect": probe.Refused} {
		seen = nil
		require.Equal(t, want, b.outcome(root, probe.Ask{Path: path}), path)
		require.Len(t, seen, 1, "a redirect was followed")
	}

	// What is not sent.
	seen = nil
	unbound := root
	unbound.Hosts = []string{"other.example.com"}
	require.Equal(t, probe.Forbidden, b.outcome(unbound, probe.Ask{}))
	require.Equal(t, probe.Forbidden, newBench(t, 0, nil).outcome(root, probe.Ask{}), "a private address that nobody allowed")
	require.Equal(t, probe.Unsupported, b.outcome(trial(vault.APIKey, vault.Meta{}, nil, "api_key", planted), probe.Ask{}))
	require.Equal(t, probe.Unsupported, b.outcome(trial(vault.Password, vault.Meta{BaseURL: server.URL}, nil, "password", planted), probe.Ask{}))
	require.Equal(t, probe.Unsupported, b.outcome(trial(vault.JWT, vault.Meta{BaseURL: server.URL}, nil, "token", planted+"\r\nx: y"), probe.Ask{}))
	require.Equal(t, probe.Unsupported, b.outcome(root, probe.Ask{Offline: true}))
	require.Equal(t, probe.Unsupported, b.outcome(trial(vault.Custom, vault.Meta{BaseURL: server.URL}, nil, "x", planted), probe.Ask{}))
	require.Empty(t, seen)
	for _, ask := range []probe.Ask{{Path: "v1"}, {Path: "//evil.example"}, {Path: "/a/../b"}, {Path: "/a/%2e%2e/b"}, {Path: "/x#y"}, {Path: "https://evil.example/"}, {Path: "/" + strings.Repeat("x", 2000)},
		{Auth: "digest"}, {Auth: "header"}, {Header: "X-Key"}, {Auth: "header", Header: "Host"}, {Auth: "header", Header: "X-Forwarded-For"}, {Auth: "header", Header: "X-a: b"}, {HostKey: "MD5:aa"}} {
		_, err := b.room.Test(t.Context(), identity.Caller{}, "cred_1", ask)
		f, ok := fault.As(err)
		require.True(t, ok, "%+v", ask)
		require.Equal(t, "validation_failed", f.Code)
	}
	require.Empty(t, seen)

	// Who may not, is refused before anything is opened.
	b.safe.refusal = errors.New("no")
	_, err := b.room.Test(t.Context(), identity.Caller{}, "cred_1", probe.Ask{})
	require.Error(t, err)
	require.Empty(t, seen)
}

// listen serves each connection until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// TestHostileServers: whatever a server does, a probe ends, and within what it may take.
func TestHostileServers(t *testing.T) {
	key, _ := sshKey(t)
	for name, serve := range map[string]func(net.Conn){
		"hangs":   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes":  func(net.Conn) {},
		"garbage": func(c net.Conn) { _, _ = c.Write([]byte("upstream-text\x00\xff\n\n")) },
		"endless": func(c net.Conn) {
			for _, err := c.Write(bytes.Repeat([]byte("SSH-upstream-text\r\n"), 500)); err == nil; {
				_, err = c.Write(bytes.Repeat([]byte("x: upstream-text\r\n"), 500))
			}
		},
		"slow": func(c net.Conn) {
			for _, err := c.Write([]byte("H")); err == nil; {
				time.Sleep(20 * time.Millisecond)
				_, err = c.Write([]byte("T"))
			}
		},
		"enormous": func(c net.Conn) {
			_, _ = c.Write([]byte{'S', 'R', 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0})
			_, _ = io.Copy(io.Discard, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := listen(t, serve)
			b := newBench(t, 400*time.Millisecond, nil, address)
			for _, tr := range []vault.Trial{
				trial(vault.APIKey, vault.Meta{BaseURL: "http://" + address}, nil, "api_key", planted),
				trial(vault.APIKey, vault.Meta{BaseURL: "https://" + address}, nil, "api_key", planted),
				trial(vault.SSHKey, vault.Meta{Username: "ada"}, []string{address}, "private_key", key),
				trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "postgres://ada:"+planted+"@"+address+"/x?sslmode=disable"),
				trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "postgres://ada:"+planted+"@"+address+"/x?sslmode=require"),
				trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "mysql://ada:"+planted+"@"+address+"/x?ssl-mode=DISABLED"),
				trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "mysql://ada:"+planted+"@"+address+"/x?ssl-mode=REQUIRED"),
			} {
				start := time.Now()
				got := b.test(tr, probe.Ask{})
				require.Contains(t, []probe.Outcome{probe.Refused, probe.Unreachable, probe.TLSFailed}, got.Outcome, "%s %+v", tr.Type, got)
				require.Less(t, time.Since(start), 30*time.Second) // generous: the machine may be busy
			}
		})
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := dead.Addr().String()
	require.NoError(t, dead.Close())
	b := newBench(t, 0, nil, address)
	require.Equal(t, probe.Unreachable, b.outcome(trial(vault.APIKey, vault.Meta{BaseURL: "http://" + address}, nil, "api_key", planted), probe.Ask{}))
}

// TestTooManyAtOnce: one caller's slow servers leave room for others, and what is over the limit is told to come back.
func TestTooManyAtOnce(t *testing.T) {
	arrived, release := make(chan struct{}, 20), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer server.Close()
	b := newBench(t, time.Minute, nil, "127.0.0.1")
	b.safe.trial = trial(vault.APIKey, vault.Meta{BaseURL: server.URL}, nil, "api_key", planted)
	ask := func(user string) error {
		_, err := b.room.Test(t.Context(), identity.Caller{Kind: identity.KindPerson, ID: user, UserID: user}, "cred_1", probe.Ask{})
		return err
	}
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for i := range 8 {
		wg.Go(func() { results <- ask(fmt.Sprintf("user_%d", i%2)) })
	}
	for range 8 {
		<-arrived
	}
	f, ok := fault.As(ask("user_0"))
	require.True(t, ok)
	require.Equal(t, "rate_limited", f.Code)
	close(release)
	wg.Wait()
	for range 8 {
		require.NoError(t, <-results)
	}
	require.NoError(t, ask("user_0"))
}

// selfSigned makes a certificate for 127.0.0.1, with its key, in PEM.
func selfSigned(t *testing.T, begins, ends time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "x"}, IPAddresses: []net.IP{{127, 0, 0, 1}}, NotBefore: begins, NotAfter: ends,
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// TestCertificates: what is stored is looked at, and compared with what a real TLS server shows.
func TestCertificates(t *testing.T) {
	now := time.Now()
	cert, key := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	other, otherKey := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldKey := selfSigned(t, now.Add(-2*time.Hour), now.Add(-time.Hour))
	young, _ := selfSigned(t, now.Add(time.Hour), now.Add(2*time.Hour))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	b := newBench(t, 0, nil, "127.0.0.1")
	for _, row := range []struct {
		pairs    []string
		external string
		want     probe.Outcome
	}{
		{[]string{"certificate", cert, "private_key", key}, "", probe.OK},
		{[]string{"certificate", cert}, "", probe.OK},
		{[]string{"certificate", cert, "private_key", key}, server.URL, probe.OK},
		{[]string{"certificate", other, "private_key", otherKey}, server.URL, probe.Refused},
		{[]string{"certificate", old, "private_key", oldKey}, server.URL, probe.Refused},
		{[]string{"certificate", young}, "", probe.Refused},
		{[]string{"certificate", cert, "private_key", otherKey}, server.URL, probe.Refused},
		{[]string{"certificate", cert, "private_key", "nothing"}, server.URL, probe.Refused},
		{[]string{"certificate", cert + other, "private_key", key}, server.URL, probe.Refused},
		{[]string{"certificate", planted}, server.URL, probe.Unsupported},
	} {
		got := b.test(trial(vault.Certificate, vault.Meta{ExternalURL: row.external}, nil, row.pairs...), probe.Ask{})
		require.Equal(t, row.want, got.Outcome, "%+v", got)
	}
	tr := trial(vault.Certificate, vault.Meta{ExternalURL: server.URL}, nil, "certificate", cert)
	require.Equal(t, probe.Forbidden, newBench(t, 0, nil).outcome(tr, probe.Ask{}))
	require.Equal(t, probe.OK, newBench(t, 0, nil).outcome(tr, probe.Ask{Offline: true}), "nobody is asked")

	// A server whose certificate nobody has signed is trusted by no request.
	https := trial(vault.APIKey, vault.Meta{BaseURL: server.URL}, nil, "api_key", planted)
	require.Equal(t, probe.TLSFailed, b.outcome(https, probe.Ask{}))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	require.Equal(t, probe.Refused, newBench(t, 0, roots, "127.0.0.1").outcome(https, probe.Ask{}), "404")
}

func sshKey(t *testing.T) (text string, public ssh.PublicKey) {
	t.Helper()
	p, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	public, err = ssh.NewPublicKey(p)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block)), public
}

// TestSSH signs in at a server that takes one key, and insists on its host key when it is told to.
func TestSSH(t *testing.T) {
	key, public := sshKey(t)
	stranger, _ := sshKey(t)
	hostText, hostPublic := sshKey(t)
	host, err := ssh.ParsePrivateKey([]byte(hostText))
	require.NoError(t, err)
	var mu sync.Mutex
	offered := 0
	address := listen(t, func(c net.Conn) {
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			mu.Lock()
			offered++
			mu.Unlock()
			if m.User() != "ada" || !bytes.Equal(k.Marshal(), public.Marshal()) {
				return nil, errors.New("upstream-text")
			}
			return nil, nil
		}}
		cfg.AddHostKey(host)
		conn, channels, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for one := range channels {
			_ = one.Reject(ssh.Prohibited, "upstream-text")
		}
		_ = conn.Wait()
	})
	b := newBench(t, 0, nil, address)
	at := func(user, key string, hosts ...string) vault.Trial {
		return trial(vault.SSHKey, vault.Meta{Username: user}, hosts, "private_key", key)
	}
	got := b.test(at("ada", key, address), probe.Ask{})
	require.Equal(t, probe.OK, got.Outcome, "%+v", got)
	require.Equal(t, ssh.FingerprintSHA256(hostPublic), got.HostKey)
	require.Equal(t, "ssh://"+address, got.Target)
	require.Equal(t, probe.OK, b.outcome(at("ada", key, address), probe.Ask{HostKey: got.HostKey}))
	require.Equal(t, probe.Unauthorized, b.outcome(at("bob", key, address), probe.Ask{}))
	require.Equal(t, probe.Unauthorized, b.outcome(at("ada", stranger, address), probe.Ask{}))
	mu.Lock()
	before := offered
	mu.Unlock()
	require.Equal(t, probe.TLSFailed, b.outcome(at("ada", key, address), probe.Ask{HostKey: ssh.FingerprintSHA256(public)}))
	require.Equal(t, probe.Unsupported, b.outcome(at("", key, address), probe.Ask{}))
	require.Equal(t, probe.OK, b.outcome(at("ada", key, address), probe.Ask{Offline: true}))
	require.Equal(t, probe.OK, b.outcome(at("ada", key), probe.Ask{}), "only looked at")
	require.Equal(t, probe.Unsupported, b.outcome(at("ada", planted, address), probe.Ask{}))
	require.Equal(t, probe.Forbidden, newBench(t, 0, nil).outcome(at("ada", key, address), probe.Ask{}))
	mu.Lock()
	require.Equal(t, before, offered, "a key was offered where it should not have been")
	mu.Unlock()
	url := trial(vault.SSHKey, vault.Meta{Username: "ada", ExternalURL: "ssh://" + address}, nil, "private_key", key)
	require.Equal(t, probe.OK, b.outcome(url, probe.Ask{}))
	signed, ok := ssh.ParseRawPrivateKey([]byte(key))
	require.NoError(t, ok)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(signed, "", []byte("right"))
	require.NoError(t, err)
	require.Equal(t, probe.Refused, b.outcome(at("ada", string(pem.EncodeToMemory(locked)), address), probe.Ask{}))
}

// TestPasswordIsNotGivenAway: a server that has not proved who it is and asks for the password itself does not get it, with TLS or without.
func TestPasswordIsNotGivenAway(t *testing.T) {
	cert, key := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	got := make(chan string, 20)
	address := listen(t, func(c net.Conn) {
		b := pgproto3.NewBackend(c, c)
		for {
			m, err := b.ReceiveStartupMessage()
			if err != nil {
				return
			}
			if _, ok := m.(*pgproto3.SSLRequest); ok {
				_, _ = c.Write([]byte("S"))
				c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				b = pgproto3.NewBackend(c, c)
				continue
			}
			break
		}
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeCleartextPassword)
		if m, err := b.Receive(); err == nil {
			if p, ok := m.(*pgproto3.PasswordMessage); ok {
				got <- p.Password
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "upstream-text"})
				_ = b.Flush()
			}
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	b := newBench(t, 0, roots, address)
	dsn := func(mode string) vault.Trial {
		return trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "postgres://ada:"+planted+"@"+address+"/x?sslmode="+mode)
	}
	for _, mode := range []string{"require", "prefer", "disable"} {
		r := b.test(dsn(mode), probe.Ask{})
		require.Equal(t, probe.TLSFailed, r.Outcome, "%s %+v", mode, r)
	}
	require.Empty(t, got)
	for _, mode := range []string{"verify-full", "verify-ca"} {
		require.Equal(t, probe.Unauthorized, b.outcome(dsn(mode), probe.Ask{}), mode)
		require.Equal(t, planted, <-got)
		require.Equal(t, probe.TLSFailed, newBench(t, 0, nil, address).outcome(dsn(mode), probe.Ask{}), "an authority that nobody knows")
	}
	require.Empty(t, got)

	// Only the hosts that it is bound to, and only addresses that are allowed.
	bound := dsn("verify-full")
	bound.Hosts = []string{"db.example.com"}
	require.Equal(t, probe.Forbidden, b.outcome(bound, probe.Ask{}))
	bound.Hosts = []string{address}
	require.Equal(t, probe.Unauthorized, b.outcome(bound, probe.Ask{}))
	<-got
	for _, mode := range []string{"verify-full", "disable"} {
		require.Equal(t, probe.Forbidden, newBench(t, 0, nil).outcome(dsn(mode), probe.Ask{}))
	}
	for text, want := range map[string]probe.Outcome{"mysql:///x?unix_socket=/tmp/s&user=ada&password=" + planted: probe.Unsupported, "redis://" + address: probe.Unsupported, planted: probe.Unsupported,
		"postgres:///x?host=/var/run&password=" + planted: probe.Unsupported} {
		require.Equal(t, want, b.outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", text), probe.Ask{}), text)
	}
	require.Equal(t, probe.OK, b.outcome(dsn("require"), probe.Ask{Offline: true}))
	require.Empty(t, got)
}

// TestAProxyThatIsNotAllowed: it is the proxy that an operator must allow, not the server.
func TestAProxyThatIsNotAllowed(t *testing.T) {
	b := newBench(t, 0, nil)
	tr := trial(vault.APIKey, vault.Meta{BaseURL: "https://llm.example.com", Upstream: vault.Upstream{ProxyURL: "https://127.0.0.1:1"}}, nil, "api_key", planted)
	got := b.test(tr, probe.Ask{})
	require.Equal(t, probe.Forbidden, got.Outcome)
	require.Contains(t, got.Detail, "The outbound proxy is at a private")
}
