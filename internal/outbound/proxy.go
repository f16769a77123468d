package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// A forward proxy connects in our place, so that the guard does not see the address that is really dialled. What holds instead: the proxy itself is
// guarded like any upstream, by its address and against plain http, so that whoever lets Signalbox use one inside their network has named it; only
// https goes through, so that what is sent reaches nobody but who proves to be the host that is meant; and a host that is an address is judged as ever.

// errProxy marks what a proxy did wrong; the call never left.
var errProxy = errors.New("outbound: the proxy opened no tunnel")

// errProxyRefused is in the chain of a call whose proxy the guard refuses. It does not match [ErrRefused]: nothing was said of the host that is meant.
var errProxyRefused = errors.New("outbound: the guard refuses the proxy's address")

// ErrProxyLogin is in the chain of a call that the proxy refused for want of its user name and password (407).
var ErrProxyLogin = errors.New("outbound: the proxy wants other credentials")

// proxyHead bounds what a proxy says before the tunnel.
const proxyHead = 16 << 10

// tunneller dials through a forward proxy.
type tunneller struct {
	guard   guard
	route   *Route
	tls     *tls.Config // for a proxy that speaks TLS
	timeout time.Duration
}

func newTunneller(g guard, r *Route, timeout time.Duration) *tunneller {
	roots := r.pool()
	if roots != nil { // the proxy may be of the bundle's authorities or of everybody's
		if system, err := x509.SystemCertPool(); err == nil {
			system.AppendCertsFromPEM([]byte(r.cfg.CABundle))
			roots = system
		}
	}
	return &tunneller{guard: g, route: r, timeout: timeout, tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: r.proxy.Hostname()}}
}

// dial opens a tunnel to host:port. Its errors are those of dialling: nothing of the request has left. One that matches [ErrRefused] is about the host
// that is meant, never about the proxy.
func (t *tunneller) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := t.guard.policy.checkTarget(address); err != nil {
		return nil, err
	}
	if t.guard.policy.CheckURL(t.route.proxy) != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errProxyRefused}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	at := t.route.proxy.Host
	if t.route.proxy.Port() == "" {
		port := "80"
		if t.route.proxy.Scheme == "https" {
			port = "443"
		}
		at = net.JoinHostPort(t.route.proxy.Hostname(), port)
	}
	conn, err := t.guard.dial(ctx, network, at)
	switch {
	case errors.Is(err, ErrRefused):
		return nil, &net.OpError{Op: "dial", Net: network, Err: errProxyRefused}
	case err != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.Join(errProxy, err)}
	}
	// Whoever waits no longer ends the conversation, and so does the time limit.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := t.open(ctx, conn, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		if ended := ctx.Err(); ended != nil && !errors.Is(err, ErrProxyLogin) {
			err = ended
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.Join(errProxy, err)}
	}
	return tunnel, nil
}

// open asks for the tunnel on a connection to the proxy.
func (t *tunneller) open(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	if t.route.proxy.Scheme == "https" {
		secure := tls.Client(conn, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	ask := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if auth := t.route.authorization(); auth != "" {
		ask += "Proxy-Authorization: " + auth + "\r\n"
	}
	if _, err := io.WriteString(conn, ask+"\r\n"); err != nil {
		return nil, err
	}
	from := bufio.NewReaderSize(io.LimitReader(conn, proxyHead), 1024)
	resp, err := http.ReadResponse(from, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, errProxy // not the error itself: it may quote what came
	}
	switch { // there is no body to close: after 200 comes the tunnel, and otherwise the connection ends
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return nil, ErrProxyLogin
	case resp.StatusCode != http.StatusOK, from.Buffered() > 0: // a server that speaks TLS is silent until it is spoken to
		return nil, errProxy
	}
	return conn, nil
}

// checkTarget is what the guard can say of a host that somebody else will dial.
func (p Policy) checkTarget(address string) error {
	name, portText, err := net.SplitHostPort(address)
	if err != nil {
		return refuse(detailHost)
	}
	h, ok := parseHost(name)
	if !ok {
		return refuse(detailHost)
	}
	port, err := parsePort(portText)
	if err != nil {
		return refuse(detailPort)
	}
	if p.named(h, port) {
		return nil
	}
	return p.checkHost(h)
}

// neverPlain refuses what is not encrypted: through a proxy nobody proves who answers.
type neverPlain struct{}

// RoundTrip refuses.
func (neverPlain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return nil, refuse("Through an outbound proxy only https is spoken, since the proxy connects in Signalbox's place. Give the upstream an https URL, or leave the proxy out.")
}
