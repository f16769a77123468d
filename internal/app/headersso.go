package app

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// keepSSOHeader removes the header that says who is signed in from every request whose peer is not one of the proxies that may say so. The peer is
// who opened the connection, and nothing that a request says of itself. What is removed is no longer there for the log or an upstream.
func (a *App) keepSSOHeader(r *http.Request) {
	name := a.cfg.SSOHeader
	if name == "" || r.Header[name] == nil {
		return
	}
	if door := doorOf(r.URL.Path); door == "api" || door == "v1" || door == "use" || !a.speaksForPeople(r.RemoteAddr) {
		delete(r.Header, name)
	}
}

func (a *App) speaksForPeople(peer string) bool {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(a.cfg.SSOHeaderProxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// checkSSOHeader refuses to begin with half of it: a header that everybody may send, or proxies that say nothing.
func (c Config) checkSSOHeader() error {
	switch {
	case c.SSOHeader != "" && len(c.SSOHeaderProxies) == 0:
		return errors.New("SIGNALBOX_SSO_HEADER (--sso-header) names a header that says who is signed in, but nothing says whom to believe it of; set SIGNALBOX_SSO_HEADER_PROXIES to the addresses of your proxy")
	case c.SSOHeader == "" && (len(c.SSOHeaderProxies) > 0 || c.SSOHeaderCreate != ""):
		return errors.New("SIGNALBOX_SSO_HEADER_PROXIES and SIGNALBOX_SSO_HEADER_CREATE mean nothing without SIGNALBOX_SSO_HEADER (--sso-header); set that, or leave them out")
	}
	return nil
}

// setSSOHeader takes no header that means something else already.
func setSSOHeader(to *string, s string) error {
	name := http.CanonicalHeaderKey(s)
	taken := []string{"Authorization", "Cookie", "Host", "Origin", "Referer", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "User-Agent", "Connection", "Content-Type", "Content-Length"}
	if !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{2,63}$`).MatchString(s) || slices.Contains(taken, name) || strings.HasPrefix(name, "Sec-") {
		return errors.New("must be the name of a header of its own, such as X-Forwarded-Email or Remote-User")
	}
	*to = name
	return nil
}
