package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// Listen opens the listener of cfg. It refuses an address that is not loopback unless there is a TLS certificate or a TLS proxy is said to
// be in front, because keys and tokens would cross the network in plain text, and switched-off client keys unless that is forced.
func Listen(cfg Config) (net.Listener, error) {
	if err := checkListen(cfg, isLoopback(cfg.Listen)); err != nil {
		return nil, err
	}
	l, err := listen(cfg.Listen, "listen")
	if err != nil {
		return nil, err
	}
	// "localhost" is what the machine's hosts file says; judge what was really opened.
	if err := checkListen(cfg, isLoopback(l.Addr().String())); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// listen opens the address that the flag names.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program; stop that one, or choose another port with --%s", address, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be opened by this user; choose a port over 1023 with --%s", address, flag)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

func checkListen(cfg Config, loopback bool) error {
	if loopback {
		return nil
	}
	if !cfg.BehindTLSProxy && !cfg.servesTLS() {
		return fmt.Errorf("%s is not loopback, and Signalbox speaks plain http: keys and tokens would cross the network readable; "+
			"give it a certificate (SIGNALBOX_TLS_CERT_FILE, SIGNALBOX_TLS_KEY_FILE), put a TLS proxy in front and set SIGNALBOX_BEHIND_TLS_PROXY=true, or listen on 127.0.0.1", cfg.Listen)
	}
	if !cfg.ClientAuth && !cfg.ForceNoClientAuth {
		return fmt.Errorf("client keys are switched off (%s), and %s is not loopback: everybody who reaches it could use the accounts; "+
			"switch them on, or set SIGNALBOX_FORCE_NO_CLIENT_AUTH=true if that is really meant", cfg.Origin("enable-client-auth"), cfg.Listen)
	}
	return nil
}

// isLoopback judges the text host:port; a name other than localhost is not loopback, whatever it resolves to today.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// LocalURL returns the URL under which this machine reaches the listener. With TLS the certificate may not name that address.
func (c Config) LocalURL(address net.Addr) string {
	scheme := "http://"
	if c.servesTLS() {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return scheme + address.String()
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}
