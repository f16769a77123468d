package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Options tunes a transport or a client. The zero value is right for production.
type Options struct {
	// ConnectTimeout bounds name resolution and connect together; default 10 s. That of a route bounds the TLS handshake, too.
	ConnectTimeout time.Duration
	// HeaderTimeout bounds the wait for response headers after the request was written; default 600 s, as language models think long.
	HeaderTimeout time.Duration
	// Timeout bounds a whole call of [NewClient], body included; default 20 s. Transports ignore it.
	Timeout time.Duration
	// RootCAs replaces the system's certificate authorities; nil keeps them.
	RootCAs *x509.CertPool
	// Resolver replaces the system's name resolution; nil keeps it. Its answers pass the same guard.
	Resolver *net.Resolver
	// OneShot gives each request a connection of its own, in HTTP/1.1. net/http sends a request again by itself only when a connection that
	// was used before turns out to be closed, or when an HTTP/2 server refuses a stream; with neither, what was sent was sent once.
	OneShot bool
	// Route, when it is not nil, has timeouts, authorities and a proxy in the place of those here.
	Route *Route
}

func (o Options) withDefaults() Options {
	if r := o.Route; r != nil {
		if r.cfg.ConnectTimeout > 0 {
			o.ConnectTimeout = r.cfg.ConnectTimeout
		}
		if r.cfg.HeaderTimeout > 0 {
			o.HeaderTimeout = r.cfg.HeaderTimeout
		}
		if roots := r.pool(); roots != nil {
			o.RootCAs = roots
		}
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 600 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Second
	}
	return o
}

const (
	// bufferSize is for each of the two buffers of an HTTP/1 connection. Larger bodies bypass them, and a proxy with a thousand open
	// streams pays for each byte a thousand times.
	bufferSize = 4 << 10
	// streamWindow bounds what a fast HTTP/2 upstream may pile up for one slow reader.
	streamWindow = 256 << 10
	// maxHeaderBytes bounds response headers; the standard library's 10 MiB is a gift to a hostile upstream.
	maxHeaderBytes = 256 << 10
	// idlePerHost keeps the connections of a burst for the next one: opening TLS anew costs far more than an idle connection.
	idlePerHost = 1024
	idleTotal   = 4096
)

// NewTransport returns the transport of the proxy's hot path, guarded by p: HTTP/2 where the upstream speaks it over TLS, no
// transparent decompression (bodies pass byte for byte), no proxy but that of the route, no overall deadline because streams last. A refused call fails with an
// error that matches [ErrRefused], unless it is the route's proxy that is refused ([ProxyRefused]): that is a failure to connect. The owner closes idle connections when done; the transport must not be cloned.
func NewTransport(p Policy, o Options) *http.Transport {
	o = o.withDefaults()
	g := newGuard(p, o)
	handshake := 10 * time.Second
	if o.Route != nil && o.Route.cfg.ConnectTimeout > 0 {
		handshake = o.Route.cfg.ConnectTimeout
	}
	t := &http.Transport{
		DialContext: g.dial,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(256),
		},
		TLSHandshakeTimeout:    handshake,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		DisableCompression:     true,
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ReadBufferSize:         bufferSize,
		WriteBufferSize:        bufferSize,
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: streamWindow,
			// Without pings a peer that vanished holds all its streams until the header timeout.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
	if o.OneShot {
		t.DisableKeepAlives = true
		t.ForceAttemptHTTP2, t.HTTP2 = false, nil
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	if o.Route != nil && o.Route.proxy != nil {
		t.DialContext = newTunneller(g, o.Route, o.ConnectTimeout).dial
		t.RegisterProtocol("http", neverPlain{})
		return t
	}
	t.RegisterProtocol("http", plainGuard{policy: p})
	return t
}

// guard dials for one policy.
type guard struct {
	policy Policy
	dialer net.Dialer
}

func newGuard(p Policy, o Options) guard {
	return guard{policy: p, dialer: net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second, Resolver: o.Resolver}}
}

func (g guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, refuse(detailHost)
	}
	h, ok := parseHost(name)
	if !ok {
		return nil, refuse(detailHost)
	}
	port, err := parsePort(portText)
	if err != nil {
		return nil, refuse(detailPort)
	}
	d := g.dialer
	if !g.policy.named(h, port) {
		if err := g.policy.checkHost(h); err != nil {
			return nil, err
		}
		d.ControlContext = g.policy.control
	}
	return d.DialContext(ctx, network, address)
}

// control is called with each address that the dialer is about to connect to: the one place where what was checked is what is dialled.
func (p Policy) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return refuseAddr("invalid")
	}
	return p.checkAddr(ap.Addr())
}

// plainGuard sees each plain-http request before the transport does, so that a caller who skipped [Policy.CheckURL] still cannot send a
// secret in the clear. https needs no such look: its dial is judged in full.
type plainGuard struct {
	policy Policy
}

// RoundTrip refuses the request or leaves it to the transport.
func (g plainGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.policy.CheckURL(r.URL); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return nil, http.ErrSkipAltProtocol
}
