package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// privateUpstream serves h on 127.0.0.1 over TLS, with a certificate of an authority that nobody knows, which it returns.
func privateUpstream(t *testing.T, h http.Handler) (*httptest.Server, string) {
	t.Helper()
	make1 := func(of, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		of.NotBefore, of.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, by = of, key
		}
		der, err := x509.CreateCertificate(rand.Reader, of, parent, &key.PublicKey, by)
		require.NoError(t, err)
		return der, key
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, rootKey := make1(ca, nil, nil)
	ca, err := x509.ParseCertificate(root)
	require.NoError(t, err)
	leaf, leafKey := make1(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, rootKey)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: leafKey}}}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}))
}

// forwardProxy is a real forward proxy that wants a password and connects wherever it is asked to.
type forwardProxy struct {
	*httptest.Server
	wants   string
	tunnels atomic.Int64
	refused atomic.Int64
	mu      sync.Mutex
	heard   strings.Builder // all that the clients say inside their tunnels
	inside  []net.Conn
}

func newForwardProxy(t *testing.T, wants string) *forwardProxy {
	t.Helper()
	p := &forwardProxy{wants: "Basic " + base64.StdEncoding.EncodeToString([]byte(wants))}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != p.wants {
			p.refused.Add(1)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		p.tunnels.Add(1)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		p.mu.Lock()
		p.inside = append(p.inside, c)
		p.mu.Unlock()
		go func() { _, _ = io.Copy(c, up); _ = c.Close() }()
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			p.mu.Lock()
			p.heard.Write(buf[:n])
			p.mu.Unlock()
			if _, werr := up.Write(buf[:n]); err != nil || werr != nil {
				_ = up.Close()
				return
			}
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// end closes the proxy with all its tunnels.
func (p *forwardProxy) end() {
	p.mu.Lock()
	for _, c := range p.inside {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.Close()
}

// TestAnAccountHasItsOwnWayOut: an upstream with a private authority is reached with the account's CA bundle and by nothing else, through a forward proxy
// that wants a password when the account has one, and waited for as long as the account says. A failing way is like an upstream that cannot be reached:
// another account is tried, and nobody is told a secret.
func TestAnAccountHasItsOwnWayOut(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := t.Context()
		var slow atomic.Bool
		upstream, ca := privateUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slow.Load() {
				select {
				case <-r.Context().Done():
				case <-time.After(20 * time.Second):
				}
				return
			}
			box.Upstream.ServeHTTP(w, r)
		}))
		lane := box.Lane(t, upstream.URL)
		id, admin := lane.Accounts[0].ID, box.Admin()
		ask := func() (int, string) {
			resp, err := http.DefaultClient.Do(lane.Request(ctx, []byte(`{"model":"claude-sonnet-5-5","max_tokens":20,"messages":[{"role":"user","content":"Hello"}]}`)))
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode, string(body)
		}
		rested := func() { // a new version ends a cool-down
			t.Helper()
			_, err := admin.RotateCredential(ctx, id, map[string]string{"api_key": lane.Accounts[0].Secret.Reveal()}, "")
			require.NoError(t, err)
		}
		set := func(p client.UpstreamPatch) client.Credential {
			t.Helper()
			c, err := admin.UpdateCredential(ctx, id, client.CredentialPatch{Upstream: &p})
			require.NoError(t, err)
			rested()
			return c
		}
		text := func(s string) *string { return &s }

		status, body := ask()
		require.Equal(t, http.StatusServiceUnavailable, status, body)
		require.Contains(t, body, "reached its upstream")
		c := set(client.UpstreamPatch{CABundle: &ca})
		require.Equal(t, strings.TrimSpace(ca), c.Upstream.CABundle)
		status, body = ask()
		require.Equal(t, http.StatusOK, status, body)

		// Through a proxy, whose password is sealed and in no answer.
		password := strings.NewReplacer(":", "").Replace(box.Planted.Secret(t, "proxy password"))
		box.Planted.Add("proxy password", password)
		proxy := newForwardProxy(t, "team:"+password)
		set(client.UpstreamPatch{ProxyURL: text(proxy.URL), ProxyUsername: text("team")})
		status, body = ask()
		require.Equal(t, http.StatusServiceUnavailable, status, body)
		require.Positive(t, proxy.refused.Load(), "without its password the proxy lets nobody through")
		tried, err := admin.TestCredential(ctx, id, client.TestRequest{})
		require.NoError(t, err)
		require.Equal(t, "unreachable", tried.Outcome)
		require.Contains(t, tried.Detail, "proxy wants another user name or password")
		c, err = admin.RotateCredential(ctx, id, map[string]string{"proxy_password": password}, "")
		require.NoError(t, err)
		require.Contains(t, c.SecretFields, "proxy_password")
		before := len(box.Upstream.Requests())
		status, body = ask()
		require.Equal(t, http.StatusOK, status, body)
		require.Len(t, box.Upstream.Requests(), before+1)
		require.Positive(t, proxy.tunnels.Load())
		require.Empty(t, box.Upstream.Requests()[before].Header.Get("Proxy-Authorization"), "what the proxy wants is no matter of the upstream")
		tried, err = admin.TestCredential(ctx, id, client.TestRequest{})
		require.NoError(t, err)
		require.Equal(t, "ok", tried.Outcome, tried.Detail)
		proxy.mu.Lock()
		box.Planted.Absent(t, "what the proxy hears", []byte(proxy.heard.String()))
		proxy.mu.Unlock()

		// The account's own time counts; nobody else is tried, since the upstream may be working on it.
		one := 1
		set(client.UpstreamPatch{ResponseTimeoutSeconds: &one})
		slow.Store(true)
		began := time.Now()
		status, body = ask()
		require.Equal(t, http.StatusServiceUnavailable, status, body)
		require.Contains(t, body, "did not begin to answer in time")
		require.Less(t, time.Since(began), 10*time.Second)
		slow.Store(false)

		// A proxy that is gone lets the account rest, and the next one serves.
		proxy.end()
		second, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "direct", Provider: "anthropic", BaseURL: upstream.URL,
			Upstream: &client.Upstream{CABundle: ca}, Secrets: map[string]string{"api_key": lane.Accounts[0].Secret.Reveal()}})
		require.NoError(t, err)
		_, _, err = admin.Link(ctx, lane.Train, client.LinkDraft{CredentialID: second.ID})
		require.NoError(t, err)
		require.Eventually(t, func() bool { // the first may still meet the connection that broke
			status, body = ask()
			return status == http.StatusOK
		}, 20*time.Second, 20*time.Millisecond)
		require.Equal(t, "cooling", lane.Explain(t)[0].State)

		back, err := admin.UpdateCredential(ctx, id, client.CredentialPatch{Clear: []string{"upstream"}})
		require.NoError(t, err)
		require.Nil(t, back.Upstream)
	})
}

// TestNoProxyFromTheEnvironment: what the environment names is for other programs.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	trap := newForwardProxy(t, "nobody:knows")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, trap.URL)
	}
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		upstream, ca := privateUpstream(t, box.Upstream)
		lane := box.Lane(t, upstream.URL)
		_, err := box.Admin().UpdateCredential(t.Context(), lane.Accounts[0].ID, client.CredentialPatch{Upstream: &client.UpstreamPatch{CABundle: &ca}})
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: &http.Transport{}}).Do(lane.Request(context.Background(), []byte(`{"model":"claude-sonnet-5-5","max_tokens":20,"messages":[{"role":"user","content":"Hello"}]}`)))
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Zero(t, trap.refused.Load()+trap.tunnels.Load())
	})
}
