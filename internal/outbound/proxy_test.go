package outbound

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
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// authority is a private certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert: cert, key: key}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue returns a certificate for a name.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, of, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// forwardProxy is a real forward proxy on 127.0.0.1. It dials whatever it is asked for at the address that dials leads to.
type forwardProxy struct {
	address string
	user    string // "user:password" that it wants, "" for none
	dials   map[string]string
	// misbehave answers in its place, when it is set.
	misbehave atomic.Pointer[func(net.Conn)]

	mu    sync.Mutex
	asked []string
	auths []string
	conns atomic.Int64
	open  atomic.Int64
	done  sync.WaitGroup
}

func newForwardProxy(t *testing.T, cert *tls.Certificate) *forwardProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &forwardProxy{address: l.Addr().String(), dials: map[string]string{}}
	ctx, stop := context.WithCancel(context.Background())
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	p.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Add(1)
			p.done.Go(func() {
				p.open.Add(1)
				defer p.open.Add(-1)
				end := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer end()
				defer func() { _ = c.Close() }()
				p.serve(c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); stop(); p.done.Wait() })
	return p
}

func (p *forwardProxy) serve(c net.Conn) {
	if do := p.misbehave.Load(); do != nil {
		(*do)(c)
		return
	}
	head := ""
	for one := make([]byte, 1); !strings.HasSuffix(head, "\r\n\r\n"); {
		if _, err := c.Read(one); err != nil {
			return
		}
		head += string(one)
	}
	auth := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if v, ok := strings.CutPrefix(line, "Proxy-Authorization: Basic "); ok {
			b, _ := base64.StdEncoding.DecodeString(v)
			auth = string(b)
		}
	}
	target := strings.Fields(head)[1]
	p.mu.Lock()
	p.asked, p.auths = append(p.asked, strings.Fields(head)[0]+" "+target), append(p.auths, auth)
	p.mu.Unlock()
	if p.user != auth {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"planted\"\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", p.dials[target])
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Planted Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer func() { _ = up.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(up, c); _ = up.Close() })
	_, _ = io.Copy(c, up)
	_ = c.Close()
	both.Wait()
}

func (p *forwardProxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.asked...)
}

// newPrivate is an upstream with a certificate of the authority for a name.
func newPrivate(t *testing.T, a *authority, name string, h http.HandlerFunc) *upstream {
	t.Helper()
	u := newUpstream(t, true, h)
	u.TLS.Certificates = []tls.Certificate{a.issue(t, name)}
	return u
}

func mustRoute(t *testing.T, cfg RouteConfig) *Route {
	t.Helper()
	r, err := NewRoute(cfg)
	require.NoError(t, err)
	return r
}

// TestOnlyTheBundleIsTrusted: with a bundle an upstream of a private authority is reached, and one that only others vouch for is not.
func TestOnlyTheBundleIsTrusted(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	u := newPrivate(t, ours, "llm.lan", hello)
	dns := newNameServer(map[string][][]netip.Addr{"llm.lan": {addrs("127.0.0.1")}, "other.lan": {addrs("127.0.0.1")}})
	everybody := x509.NewCertPool()
	everybody.AddCert(ours.cert)
	ask := func(name string, cfg RouteConfig, roots *x509.CertPool) (string, error) {
		return get(t, mustPolicy(t, "127.0.0.0/8"), Options{Resolver: dns.resolver(t), RootCAs: roots, Route: mustRoute(t, cfg)}, "https://"+name+":"+u.port()+"/")
	}
	body, err := ask("llm.lan", RouteConfig{CABundle: ours.pem()}, nil)
	require.NoError(t, err)
	require.Equal(t, "hello", body)
	_, err = ask("llm.lan", RouteConfig{CABundle: theirs.pem()}, everybody)
	require.Equal(t, Untrusted, ReasonOf(err), "the bundle replaces what is trusted otherwise")
	require.True(t, NotSent(err))
	_, err = ask("llm.lan", RouteConfig{ConnectTimeout: time.Second}, nil)
	require.Equal(t, Untrusted, ReasonOf(err), "without it the private authority is nobody's")
	_, err = ask("other.lan", RouteConfig{CABundle: ours.pem()}, nil)
	require.Equal(t, Untrusted, ReasonOf(err), "the name is still compared")
}

// TestThroughAProxy: the request goes through the tunnel of a proxy, encrypted for the upstream, by name; what the proxy wants to know it is told, and
// the upstream never.
func TestThroughAProxy(t *testing.T) {
	a := newAuthority(t)
	u := newPrivate(t, a, "llm.example.com", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.Header.Get("Proxy-Authorization")+r.Header.Get("X-Forwarded-For"))
	})
	for _, secure := range []bool{false, true} {
		var cert *tls.Certificate
		scheme := "http"
		if secure {
			c := a.issue(t, "proxy.lan")
			cert, scheme = &c, "https"
		}
		proxy := newForwardProxy(t, cert)
		proxy.user, proxy.dials["llm.example.com:443"] = "us:planted:word", u.Listener.Addr().String()
		dns := newNameServer(map[string][][]netip.Addr{"proxy.lan": {addrs("127.0.0.1")}})
		_, port, _ := net.SplitHostPort(proxy.address)
		o := Options{Resolver: dns.resolver(t), Route: mustRoute(t, RouteConfig{CABundle: a.pem(), ProxyURL: scheme + "://proxy.lan:" + port, ProxyUser: "us", ProxyPassword: secret.FromString("planted:word")})}
		body, err := get(t, mustPolicy(t, "proxy.lan"), o, "https://llm.example.com/v1")
		require.NoError(t, err, scheme)
		require.Equal(t, "HTTP/2.0 ", body)
		require.Equal(t, []string{"CONNECT llm.example.com:443"}, proxy.requests())
		require.Zero(t, dns.lookups("llm.example.com"), "who the upstream is, the proxy finds out")

		o.Route = mustRoute(t, RouteConfig{CABundle: a.pem(), ProxyURL: scheme + "://proxy.lan:" + port, ProxyUser: "us", ProxyPassword: secret.FromString("planted-other")})
		_, err = get(t, mustPolicy(t, "proxy.lan"), o, "https://llm.example.com/v1")
		require.Equal(t, ProxyLogin, ReasonOf(err))
		require.True(t, NotSent(err))
		require.NotContains(t, Clean(err).Error(), "planted")
		_, err = get(t, mustPolicy(t, "proxy.lan"), o, "https://nobody.example.com/v1")
		require.Equal(t, ProxyLogin, ReasonOf(err))
	}
	require.EqualValues(t, 2, u.requests.Load())
}

// TestTheProxyIsGuarded: a private proxy, and one that is spoken to in the clear, must be allowed by name, and that it is not is no word about the upstream;
// through it no plain http goes, and nobody who is refused by the text of the address.
func TestTheProxyIsGuarded(t *testing.T) {
	u := newUpstream(t, false, hello)
	proxy := newForwardProxy(t, nil)
	proxy.dials["llm.example.com:443"] = u.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(proxy.address)
	dns := newNameServer(map[string][][]netip.Addr{"proxy.lan": {addrs("127.0.0.1")}})
	ask := func(allow, proxyURL, target string) error {
		_, err := get(t, mustPolicy(t, strings.Split(allow, ",")...), Options{Resolver: dns.resolver(t), Route: mustRoute(t, RouteConfig{ProxyURL: proxyURL})}, target)
		require.Error(t, err)
		return err
	}
	type call struct{ allow, proxy, target string }
	for _, c := range []call{
		{"", "http://" + proxy.address, "https://llm.example.com/"},
		{"", "https://" + proxy.address, "https://llm.example.com/"},
		{"", "https://proxy.lan:" + port, "https://llm.example.com/"},
		{"127.0.0.0/8", "http://proxy.lan:" + port, "https://llm.example.com/"}, // in the clear to a name
		{"llm.example.com", "http://proxy.lan:" + port, "https://llm.example.com/"},
	} {
		err := ask(c.allow, c.proxy, c.target)
		require.Equal(t, ProxyRefused, ReasonOf(err), "%v", c)
		require.NotErrorIs(t, err, ErrRefused, "%v", c)
		require.True(t, NotSent(err), "%v", c)
		require.Contains(t, Clean(err).Error(), "the outbound proxy is at a private", "%v", c)
	}
	for _, c := range []call{
		{"proxy.lan", "http://proxy.lan:" + port, "http://llm.example.com/"},
		{"proxy.lan,llm.example.com", "http://proxy.lan:" + port, "http://llm.example.com/"}, // allowed without a proxy
		{"proxy.lan", "http://proxy.lan:" + port, "https://169.254.169.254/"},
		{"proxy.lan", "http://proxy.lan:" + port, "https://localhost/"},
		{"proxy.lan", "http://proxy.lan:" + port, "https://10.0.0.1/"},
		{"proxy.lan", "http://proxy.lan:" + port, "https://[::1]/"},
		{"proxy.lan", "http://proxy.lan:" + port, "https://2130706433/"},
	} {
		require.ErrorIs(t, ask(c.allow, c.proxy, c.target), ErrRefused, "%v", c)
	}
	require.Zero(t, proxy.conns.Load(), "a refused dial connects to nobody")
	require.Zero(t, u.requests.Load())
	// What the operator has named is asked for, an address among it.
	err := ask("proxy.lan,10.0.0.1", "http://proxy.lan:"+port, "https://10.0.0.1/")
	require.Equal(t, ProxyFailed, ReasonOf(err))
	require.Equal(t, []string{"CONNECT 10.0.0.1:443"}, proxy.requests())
}

// TestAProxyThatMisbehaves: whatever it says or does not say, the call fails in time, for a reason that says whose fault it is, with nothing sent and
// nothing repeated of what it said.
func TestAProxyThatMisbehaves(t *testing.T) {
	wait := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, c := range map[string]struct {
		do   func(net.Conn)
		want Reason
	}{
		"silent":       {wait, TimedOut},
		"one byte":     {func(c net.Conn) { _, _ = io.WriteString(c, "H"); wait(c) }, TimedOut},
		"closes":       {func(net.Conn) {}, ProxyFailed},
		"garbage":      {func(c net.Conn) { _, _ = io.WriteString(c, "planted garbage\r\n\r\n"); wait(c) }, ProxyFailed},
		"refuses":      {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 403 planted\r\n\r\n"); wait(c) }, ProxyFailed},
		"other status": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 204 planted\r\n\r\n"); wait(c) }, ProxyFailed},
		"speaks first": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 ok\r\n\r\nplanted"); wait(c) }, ProxyFailed},
		"endless head": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 ok\r\n")
			for {
				if _, err := io.WriteString(c, "X: planted\r\n"); err != nil {
					return
				}
			}
		}, ProxyFailed},
		"no TLS": {func(c net.Conn) {
			buf := make([]byte, 4096)
			_, _ = c.Read(buf)
			_, _ = io.WriteString(c, "HTTP/1.1 200 ok\r\n\r\n")
			_, _ = c.Read(buf)
			_, _ = io.WriteString(c, "planted")
		}, Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := newForwardProxy(t, nil)
			proxy.misbehave.Store(&c.do)
			began := time.Now()
			_, err := get(t, mustPolicy(t, proxy.address), Options{Route: mustRoute(t, RouteConfig{ProxyURL: "http://" + proxy.address, ConnectTimeout: 300 * time.Millisecond})}, "https://llm.example.com/")
			require.Error(t, err)
			require.Equal(t, c.want, ReasonOf(err), "%v", err)
			require.Less(t, time.Since(began), 5*time.Second)
			require.NotContains(t, Clean(err).Error(), "planted")
			require.Eventually(t, func() bool { return proxy.open.Load() == 0 }, 2*time.Second, time.Millisecond, "the connection to the proxy stays open")
		})
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := nobody.Addr().String()
	require.NoError(t, nobody.Close())
	_, err = get(t, mustPolicy(t, address), Options{Route: mustRoute(t, RouteConfig{ProxyURL: "http://" + address})}, "https://llm.example.com/")
	require.Equal(t, ProxyFailed, ReasonOf(err))
	require.True(t, NotSent(err))
}

// TestRouteTimeouts: the route's times count in the place of the transport's.
func TestRouteTimeouts(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, false, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	began := time.Now()
	_, err := get(t, mustPolicy(t, "127.0.0.1"), Options{HeaderTimeout: time.Hour, Route: mustRoute(t, RouteConfig{HeaderTimeout: 50 * time.Millisecond})}, u.URL)
	require.Equal(t, TimedOut, ReasonOf(err))
	require.False(t, NotSent(err))
	require.Less(t, time.Since(began), 5*time.Second)

	began = time.Now() // an address of the documentation's: nobody answers there, and no test may ask for it in earnest
	dns := newNameServer(map[string][][]netip.Addr{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resolver := dns.resolver(t)
	resolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	tr := NewTransport(mustPolicy(t, ""), Options{Resolver: resolver, Route: mustRoute(t, RouteConfig{ConnectTimeout: 50 * time.Millisecond})})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://slow.example.com/", nil)
	require.NoError(t, err)
	_, err = tr.RoundTrip(req)
	require.Equal(t, TimedOut, ReasonOf(err), "%v", err)
	require.True(t, NotSent(err))
	require.Less(t, time.Since(began), 5*time.Second)
}

// TestTheHandshakeHasTheRoutesTime: an upstream that takes the connection and says nothing is given up in the time to connect, with a proxy and without.
func TestTheHandshakeHasTheRoutesTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	proxy := newForwardProxy(t, nil)
	proxy.dials[silent.Addr().String()] = silent.Addr().String()
	for _, via := range []string{"", "http://" + proxy.address} {
		began := time.Now()
		_, err := get(t, mustPolicy(t, "127.0.0.1"), Options{Route: mustRoute(t, RouteConfig{ConnectTimeout: 200 * time.Millisecond, ProxyURL: via})}, "https://"+silent.Addr().String()+"/")
		require.Equal(t, TimedOut, ReasonOf(err), "%v", err)
		require.Less(t, time.Since(began), 5*time.Second, via)
	}
}

func TestCertificates(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	key, err := x509.MarshalECPrivateKey(a.key)
	require.NoError(t, err)
	private := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
	got, err := Certificates("# the first\n" + a.pem() + "\nsubject=planted\n" + b.pem() + "\n\n")
	require.NoError(t, err)
	require.Equal(t, strings.TrimRight(a.pem()+b.pem(), "\n"), got)
	again, err := Certificates(got)
	require.NoError(t, err)
	require.Equal(t, got, again)
	broken := strings.Replace(private, "\nM", "\n!", 1)
	for text, want := range map[string]error{
		"": ErrNoCertificate, "planted": ErrNoCertificate, private: ErrOtherThanCerts, a.pem() + private: ErrOtherThanCerts, private + a.pem(): ErrOtherThanCerts,
		broken + a.pem(): ErrOtherThanCerts, a.pem() + broken: ErrBadCertificate, a.pem()[:200]: ErrNoCertificate,
		strings.Replace(a.pem(), "-----\n", "-----\nPlanted: x\n\n", 1):                       ErrOtherThanCerts,
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("planted")})): ErrBadCertificate, strings.Repeat(a.pem(), 21): ErrTooManyCerts,
	} {
		_, err := Certificates(text)
		require.ErrorIs(t, err, want, "%.60q", text)
		require.NotContains(t, err.Error(), "planted")
	}
}

// TestPoolKeepsARouteToItself: alike routes share a transport, others do not; a different password is a different route; the number is bounded, and what
// nobody uses goes.
func TestPoolKeepsARouteToItself(t *testing.T) {
	u := newUpstream(t, false, hello)
	p := NewPool(mustPolicy(t, "127.0.0.1"), Options{})
	now := time.Now()
	p.now = func() time.Time { return now }
	defer p.CloseIdleConnections()
	with := func(cfg RouteConfig) http.RoundTripper { return p.Over(mustRoute(t, cfg)) }
	require.Same(t, p.Over(nil), with(RouteConfig{}))
	one := with(RouteConfig{HeaderTimeout: time.Second})
	require.NotSame(t, p.Over(nil), one)
	require.Same(t, one, with(RouteConfig{HeaderTimeout: time.Second}))
	proxied := func(password string) RouteConfig {
		return RouteConfig{ProxyURL: "https://proxy.example.com", ProxyUser: "u", ProxyPassword: secret.FromString(password)}
	}
	require.NotSame(t, with(proxied("planted-a")), with(proxied("planted-b")))
	require.False(t, mustRoute(t, proxied("planted-a")).Same(mustRoute(t, proxied("planted-b"))))
	require.True(t, mustRoute(t, proxied("planted-a")).Same(mustRoute(t, proxied("planted-a"))))
	require.Equal(t, 3, p.Routes())

	req, err := http.NewRequest(http.MethodGet, u.URL, nil)
	require.NoError(t, err)
	resp, err := one.RoundTrip(req)
	require.NoError(t, err)
	now = now.Add(routeRests + time.Second)
	with(RouteConfig{HeaderTimeout: 2 * time.Second})
	require.Equal(t, 1, p.Routes(), "what nobody has used goes")
	body, err := ReadCapped(resp, 10) // and leaves what runs alone
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))

	for i := range routesMost + 20 {
		now = now.Add(time.Millisecond)
		with(RouteConfig{HeaderTimeout: time.Duration(i+10) * time.Second})
	}
	require.Equal(t, routesMost, p.Routes())
	require.Same(t, with(RouteConfig{HeaderTimeout: time.Duration(routesMost+29) * time.Second}), with(RouteConfig{HeaderTimeout: time.Duration(routesMost+29) * time.Second}))
	one.(*http.Transport).CloseIdleConnections()
}
