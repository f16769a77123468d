package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// issued is a certificate with its key, as files hold them.
type issued struct{ cert, key []byte }

// issue makes a certificate that is its own authority.
func issue(t *testing.T, name string, change func(*x509.Certificate)) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return issued{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
}

func (i issued) write(t *testing.T, certFile, keyFile string) {
	t.Helper()
	require.NoError(t, os.WriteFile(certFile, i.cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, i.key, 0o600))
}

// client trusts these certificates and no others.
func trusting(all ...issued) *http.Client {
	pool := x509.NewCertPool()
	for _, i := range all {
		pool.AppendCertsFromPEM(i.cert)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

// TestServesTLS: with a certificate the server speaks https on both HTTP versions, nothing older than TLS 1.2 and no plain http, and tells browsers to stay with it.
func TestServesTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	made := issue(t, "one", nil)
	made.write(t, certFile, keyFile)
	s := serveEnv(t, slog.LevelInfo, Environ{"SIGNALBOX_DATA_DIR": t.TempDir(), "SIGNALBOX_TLS_CERT_FILE": certFile, "SIGNALBOX_TLS_KEY_FILE": keyFile})
	require.Regexp(t, "^https://127.0.0.1:", s.url)
	c := trusting(made)
	resp, err := c.Get(s.url + "/api/version")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "HTTP/2.0", resp.Proto)
	require.Equal(t, "max-age=31536000", resp.Header.Get("Strict-Transport-Security"))

	old := trusting(made)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	old.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS10
	_, err = old.Get(s.url + "/healthz")
	require.ErrorContains(t, err, "protocol version")

	one := trusting(made)
	one.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	one.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
	resp, err = one.Get(s.url + "/healthz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "HTTP/1.1", resp.Proto)

	resp, err = http.Get("http://" + s.url[len("https://"):] + "/api/version")
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s", b)

	// Whoever connects and says nothing holds a connection for no longer than a header may take.
	require.Equal(t, 10*time.Second, headerTimeout)
}

// TestPlainHTTPHasNoHSTS: a browser must not learn it from a server that cannot keep it.
func TestPlainHTTPHasNoHSTS(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	_, h, _ := s.get(t, "/api/version")
	require.Empty(t, h.Get("Strict-Transport-Security"))
}

// TestCertificateIsReadAgain: a renewed certificate is shown without a restart; one that cannot be used leaves the old one in force and says so once.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first, second, third := issue(t, "first", nil), issue(t, "second", nil), issue(t, "third", nil)
	first.write(t, certFile, keyFile)
	var log bytes.Buffer
	now := time.Now()
	c, err := openCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	require.NoError(t, err)
	shown := func() string { return c.current().Leaf.Subject.CommonName }
	later := func() { now = now.Add(certificateEvery) }
	require.Equal(t, "first", shown())

	second.write(t, certFile, keyFile)
	require.Equal(t, "first", shown(), "the files are looked at every few seconds")
	later()
	require.Equal(t, "second", shown())

	// Half-way: the certificate is new and the key still the old one.
	require.NoError(t, os.WriteFile(certFile, third.cert, 0o600))
	later()
	require.Equal(t, "second", shown())
	later()
	require.Equal(t, "second", shown())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("cannot be used")), log.String())
	require.NoError(t, os.WriteFile(keyFile, third.key, 0o600))
	later()
	require.Equal(t, "third", shown())

	require.NoError(t, os.Remove(certFile))
	later()
	require.Equal(t, "third", shown())
	// Replaced as renewers do it: a new file takes the name of the old one.
	first.write(t, certFile+".new", keyFile)
	require.NoError(t, os.Rename(certFile+".new", certFile))
	later()
	require.Equal(t, "first", shown())
	require.NotContains(t, log.String(), "PRIVATE")
}

// TestUnusableCertificatesAreRefused: at the start nothing is guessed.
func TestUnusableCertificatesAreRefused(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	good, other := issue(t, "good", nil), issue(t, "other", nil)
	for name, c := range map[string]struct {
		files issued
		want  string
	}{
		"key of another certificate": {issued{good.cert, other.key}, "the certificate's own"},
		"not PEM":                    {issued{[]byte("planted-text"), good.key}, "must be PEM"},
		"key without certificate":    {issued{good.key, good.key}, "must be PEM"},
		"expired":                    {issue(t, "x", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired on"},
		"no host":                    {issue(t, "x", func(c *x509.Certificate) { c.IPAddresses = nil }), "names no host"},
	} {
		t.Run(name, func(t *testing.T) {
			c.files.write(t, certFile, keyFile)
			data := filepath.Join(t.TempDir(), "data")
			cfg, err := Load(Environ{"SIGNALBOX_DATA_DIR": data, "SIGNALBOX_TLS_CERT_FILE": certFile, "SIGNALBOX_TLS_KEY_FILE": keyFile}, nil)
			require.NoError(t, err)
			_, err = Open(t.Context(), cfg)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "planted")
			require.NoDirExists(t, data, "a start that is refused leaves nothing behind")
		})
	}
	for _, env := range []Environ{
		{"SIGNALBOX_TLS_CERT_FILE": certFile}, {"SIGNALBOX_TLS_KEY_FILE": keyFile},
		{"SIGNALBOX_TLS_CERT_FILE": certFile, "SIGNALBOX_TLS_KEY_FILE": keyFile, "SIGNALBOX_BEHIND_TLS_PROXY": "true"},
	} {
		env["SIGNALBOX_DATA_DIR"] = t.TempDir()
		_, err := Load(env, nil)
		require.Error(t, err, env)
	}
	require.NoError(t, os.Remove(keyFile))
	_, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler), time.Now)
	require.ErrorContains(t, err, "tls-key-file")
}
