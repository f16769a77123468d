package outbound

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"signalbox.dev/signalbox/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a real listener on 127.0.0.1 that counts what it gets.
type upstream struct {
	*httptest.Server
	conns, requests atomic.Int64
}

func newUpstream(t *testing.T, secure bool, h http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		h(w, r)
	}))
	u.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			u.conns.Add(1)
		}
	}
	u.Config.ErrorLog = log.New(io.Discard, "", 0)
	u.EnableHTTP2 = true
	if secure {
		u.StartTLS()
	} else {
		u.Start()
	}
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) port() string {
	_, port, _ := net.SplitHostPort(u.Listener.Addr().String())
	return port
}

// roots trusts the listener's certificate, which is made out to example.com and 127.0.0.1.
func (u *upstream) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(u.Certificate())
	return pool
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

// get makes one request through a fresh transport.
func get(t *testing.T, p Policy, o Options, rawURL string) (string, error) {
	t.Helper()
	tr := NewTransport(p, o)
	defer tr.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, rawURL, nil)
	require.NoError(t, err)
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	b, err := ReadCapped(resp, 1<<20)
	return string(b), err
}

func TestLoopbackIsRefusedUnlessAllowed(t *testing.T) {
	u := newUpstream(t, true, hello)
	o := Options{RootCAs: u.roots()}
	for _, tc := range []struct {
		allow string
		ok    bool
	}{
		{"", false}, {"127.0.0.1", true}, {"127.0.0.1:" + u.port(), true}, {"127.0.0.1:1", false}, {"127.0.0.0/8", true}, {"127.0.0.2/32", false},
		{"localhost", false}, {"example.com", false}, {"::ffff:127.0.0.1", true}, {"::/0", false}, {"0.0.0.0/0", true},
	} {
		before := u.conns.Load()
		body, err := get(t, mustPolicy(t, tc.allow), o, u.URL)
		if tc.ok {
			require.NoError(t, err, tc.allow)
			require.Equal(t, "hello", body)
			continue
		}
		require.ErrorIs(t, err, ErrRefused, tc.allow)
		require.Equal(t, before, u.conns.Load(), "a refused dial must not connect")
	}
}

func TestPlainHTTPIsRefusedUnlessAllowed(t *testing.T) {
	u := newUpstream(t, false, hello)
	dns := newNameServer(map[string][][]netip.Addr{"plain.example.com": {addrs("127.0.0.1")}})
	o := Options{Resolver: dns.resolver(t)}
	named := "http://plain.example.com:" + u.port()
	for _, tc := range []struct {
		allow, url string
		ok         bool
	}{
		{"", u.URL, false}, {"127.0.0.1", u.URL, true}, {"127.0.0.0/8", u.URL, true},
		{"", named, false}, {"127.0.0.1", named, false}, {"127.0.0.0/8", named, false}, {"plain.example.com", named, true},
		{"plain.example.com:" + u.port(), named, true}, {"plain.example.com:80", named, false}, {"example.com", named, false},
	} {
		body, err := get(t, mustPolicy(t, tc.allow), o, tc.url)
		if tc.ok {
			require.NoError(t, err, "%s %s", tc.allow, tc.url)
			require.Equal(t, "hello", body)
			continue
		}
		require.ErrorIs(t, err, ErrRefused, "%s %s", tc.allow, tc.url)
	}
}

func TestRefusedPlainRequestClosesItsBody(t *testing.T) {
	body := &closeRecorder{Reader: strings.NewReader("planted")}
	r, err := http.NewRequest(http.MethodPost, "http://api.example.com/", body)
	require.NoError(t, err)
	_, err = NewTransport(Policy{}, Options{}).RoundTrip(r)
	require.ErrorIs(t, err, ErrRefused)
	require.True(t, body.closed)
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

func TestNamesAreJudgedByTheAddressReallyDialled(t *testing.T) {
	u := newUpstream(t, true, hello)
	const name = "www.example.com"
	for _, answer := range []string{
		"127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.168.1.1", "::1", "fd00:ec2::254", "fe80::1",
		"64:ff9b::7f00:1", "2002:7f00:1::1", "2001::1", "224.0.0.1", "::",
	} {
		dns := newNameServer(map[string][][]netip.Addr{name: {addrs(answer)}})
		_, err := get(t, Policy{}, Options{RootCAs: u.roots(), Resolver: dns.resolver(t)}, "https://"+name+":"+u.port())
		require.ErrorIs(t, err, ErrRefused, answer)
		require.True(t, NotSent(err))
		require.Positive(t, dns.lookups(name))
	}
	require.Zero(t, u.conns.Load())
}

// A name that is public when it is checked and private when it is dialled is the attack that a check before the dial cannot see.
func TestRebindingIsRefused(t *testing.T) {
	u := newUpstream(t, true, hello)
	const name = "rebind.example.com"
	dns := newNameServer(map[string][][]netip.Addr{name: {addrs("192.0.43.8"), addrs("127.0.0.1")}})
	resolver := dns.resolver(t)
	address := "https://" + name + ":" + u.port()

	parsed, err := url.Parse(address)
	require.NoError(t, err)
	first, err := resolver.LookupNetIP(context.Background(), "ip", name)
	require.NoError(t, err)
	require.Equal(t, "192.0.43.8", first[0].Unmap().String(), "the first answer is public")
	require.NoError(t, Policy{}.CheckURL(parsed), "a name cannot be judged by its text")

	for _, allow := range []string{"", "other.example.com", "127.0.0.1", "127.0.0.1:" + u.port(), "rebind.example.com:1"} {
		_, err := get(t, mustPolicy(t, allow), Options{RootCAs: u.roots(), Resolver: resolver}, address)
		require.ErrorIs(t, err, ErrRefused, allow)
	}
	require.Zero(t, u.conns.Load())

	// Allowed by its own name, or by the network it resolves into, it is served.
	for _, allow := range []string{name, name + ":" + u.port(), "127.0.0.0/8"} {
		body, err := get(t, mustPolicy(t, allow), Options{RootCAs: u.roots(), Resolver: resolver}, address)
		require.NoError(t, err, allow)
		require.Equal(t, "hello", body)
	}
}

// A warm connection is bound to the name it was dialled for: a second name with the same address is judged anew.
func TestWarmConnectionServesItsOwnNameOnly(t *testing.T) {
	u := newUpstream(t, true, hello)
	dns := newNameServer(map[string][][]netip.Addr{"a.example.com": {addrs("127.0.0.1")}, "b.example.com": {addrs("127.0.0.1")}})
	tr := NewTransport(mustPolicy(t, "a.example.com"), Options{RootCAs: u.roots(), Resolver: dns.resolver(t)})
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	resp, err := c.Get("https://a.example.com:" + u.port())
	require.NoError(t, err)
	_, err = ReadCapped(resp, 10)
	require.NoError(t, err)
	_, err = c.Get("https://b.example.com:" + u.port())
	require.ErrorIs(t, err, ErrRefused)
	require.EqualValues(t, 1, u.requests.Load())
}

// Each address of a name is judged for itself: one admitted address does not carry the others through.
func TestOnlyTheAdmittedAddressesOfANameAreDialled(t *testing.T) {
	u := newUpstream(t, true, hello)
	dns := newNameServer(map[string][][]netip.Addr{"mixed.example.com": {addrs("10.255.255.1", "127.0.0.1", "::1")}})
	o := Options{RootCAs: u.roots(), Resolver: dns.resolver(t), ConnectTimeout: time.Minute}
	var dialled []string
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{ConnectDone: func(_, addr string, err error) {
		if err == nil {
			dialled = append(dialled, addr)
		}
	}})
	tr := NewTransport(mustPolicy(t, "127.0.0.1/32"), o)
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mixed.example.com:"+u.port(), nil)
	require.NoError(t, err)
	resp, err := tr.RoundTrip(r)
	require.NoError(t, err)
	_, err = ReadCapped(resp, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:" + u.port()}, dialled)

	_, err = get(t, Policy{}, o, "https://mixed.example.com:"+u.port())
	require.ErrorIs(t, err, ErrRefused)
	require.EqualValues(t, 1, u.conns.Load())
}

func TestOddLiteralsAreRefusedAtDialToo(t *testing.T) {
	u := newUpstream(t, true, hello)
	for _, h := range []string{"2130706433", "0x7f000001", "127.1", "0177.0.0.1", "[::ffff:7f00:1]", "[::1%25lo]", "127.0.0.1.", "localhost", "LOCALHOST."} {
		_, err := get(t, mustPolicy(t, "api.example.com"), Options{RootCAs: u.roots()}, "https://"+h+":"+u.port())
		require.ErrorIs(t, err, ErrRefused, h)
	}
	require.Zero(t, u.conns.Load())
}

func TestRefusalIsOneFaultInBothPlaces(t *testing.T) {
	_, err := get(t, Policy{}, Options{}, "https://127.0.0.1:1/planted")
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Equal(t, "upstream_refused", f.Code)
	require.Contains(t, f.Error(), "loopback")
	require.Contains(t, f.Error(), "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS")
	require.NotContains(t, f.Error(), "127.0.0.1")
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	trap := newUpstream(t, false, hello)
	u := newUpstream(t, false, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "direct") })
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, trap.URL)
	}
	// The name is no loopback name, for which the standard library would skip a proxy anyway.
	dns := newNameServer(map[string][][]netip.Addr{"direct.example.com": {addrs("127.0.0.1")}})
	body, err := get(t, mustPolicy(t, "direct.example.com"), Options{Resolver: dns.resolver(t)}, "http://direct.example.com:"+u.port())
	require.NoError(t, err)
	require.Equal(t, "direct", body)
	require.Nil(t, NewTransport(Policy{}, Options{}).Proxy)
	require.Zero(t, trap.conns.Load())
}

func TestTransportShape(t *testing.T) {
	u := newUpstream(t, true, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %q", r.Proto, r.Header.Get("Accept-Encoding"))
	})
	body, err := get(t, mustPolicy(t, "127.0.0.1"), Options{RootCAs: u.roots()}, u.URL)
	require.NoError(t, err)
	require.Equal(t, `HTTP/2.0 ""`, body, "HTTP/2 over TLS, and no encoding asked for")

	tr := NewTransport(Policy{}, Options{})
	require.Equal(t, 600*time.Second, tr.ResponseHeaderTimeout)
	require.Equal(t, 10*time.Second, tr.TLSHandshakeTimeout)
	require.Equal(t, 4096, tr.ReadBufferSize)
	require.Equal(t, 4096, tr.WriteBufferSize)
	require.GreaterOrEqual(t, tr.MaxIdleConnsPerHost, 256)

	_, err = get(t, mustPolicy(t, "127.0.0.1"), Options{}, u.URL)
	require.Error(t, err, "a certificate of an unknown authority is not accepted")
	require.True(t, NotSent(err))
	require.Zero(t, u.requests.Load()-1)
}

func TestBurstConnectionsAreKept(t *testing.T) {
	const burst = 64
	gate := make(chan struct{})
	var waiting atomic.Int64
	u := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if waiting.Add(1)%burst == 0 {
			close(gate)
		}
		<-gate
		hello(w, r)
	})
	tr := NewTransport(mustPolicy(t, "127.0.0.1"), Options{})
	defer tr.CloseIdleConnections()
	for range 3 {
		errs := make(chan error, burst)
		for range burst {
			go func() {
				r, _ := http.NewRequest(http.MethodGet, u.URL, nil)
				resp, err := tr.RoundTrip(r)
				if err == nil {
					_, err = ReadCapped(resp, 10)
				}
				errs <- err
			}()
		}
		for range burst {
			require.NoError(t, <-errs)
		}
		gate = make(chan struct{})
	}
	require.LessOrEqual(t, u.conns.Load(), int64(burst+8), "the second and third burst ride the connections of the first")
}
