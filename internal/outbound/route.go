package outbound

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// RouteConfig is how requests go out that do not go like all others. The zero values are the transport's own.
type RouteConfig struct {
	// ConnectTimeout bounds name resolution and connecting together, a proxy's part in it included, and then as long again the TLS handshake; HeaderTimeout
	// the wait for response headers.
	ConnectTimeout, HeaderTimeout time.Duration
	// CABundle are certificates in PEM that replace the system's authorities; see [Certificates].
	CABundle string
	// ProxyURL is a forward proxy that opens tunnels (CONNECT), http or https; User and Password are what it wants to know.
	ProxyURL, ProxyUser string
	ProxyPassword       secret.Value
}

// Route is a [RouteConfig] that was looked at. It is immutable; nil is the way of all others.
type Route struct {
	cfg   RouteConfig
	proxy *url.URL
	// key is the same for two routes exactly if they are alike, the password included, which it does not tell.
	key [sha256.Size]byte
}

// NewRoute returns the route, or nil when nothing is configured. Whether the proxy may be called is asked when it is dialled.
func NewRoute(cfg RouteConfig) (*Route, error) {
	r := &Route{cfg: cfg}
	if cfg.ConnectTimeout == 0 && cfg.HeaderTimeout == 0 && cfg.CABundle == "" && cfg.ProxyURL == "" {
		return nil, nil
	}
	if cfg.CABundle != "" {
		if _, err := Certificates(cfg.CABundle); err != nil {
			return nil, err
		}
	}
	if cfg.ProxyURL != "" {
		u, err := url.Parse(cfg.ProxyURL)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, errors.New("outbound: the proxy's URL cannot be read")
		}
		r.proxy = u
	}
	h := sha256.New()
	for _, part := range [][]byte{binary.AppendVarint(nil, int64(cfg.ConnectTimeout)), binary.AppendVarint(nil, int64(cfg.HeaderTimeout)), []byte(cfg.CABundle), []byte(cfg.ProxyURL),
		[]byte(cfg.ProxyUser), cfg.ProxyPassword.Bytes()} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	h.Sum(r.key[:0])
	return r, nil
}

// Same reports whether two routes are alike.
func (r *Route) Same(other *Route) bool {
	return r == nil && other == nil || r != nil && other != nil && r.key == other.key
}

// authorization is the header for the proxy, or nothing.
func (r *Route) authorization() string {
	if r.cfg.ProxyUser == "" && r.cfg.ProxyPassword.IsZero() {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(r.cfg.ProxyUser+":"+r.cfg.ProxyPassword.Reveal()))
}

// pool returns the authorities of the route; nil for none of its own.
func (r *Route) pool() *x509.CertPool {
	if r.cfg.CABundle == "" {
		return nil
	}
	pool := x509.NewCertPool() // without a certificate it trusts nobody
	pool.AppendCertsFromPEM([]byte(r.cfg.CABundle))
	return pool
}

// certificatesMost bounds a bundle.
const certificatesMost = 20

// What is wrong with a bundle of certificates.
var (
	ErrNoCertificate  = errors.New("must hold at least one certificate in PEM (-----BEGIN CERTIFICATE-----)")
	ErrOtherThanCerts = errors.New("must hold certificates and nothing else; a private key does not belong here")
	ErrBadCertificate = errors.New("holds a certificate that cannot be read")
	ErrTooManyCerts   = errors.New("holds too many certificates; at most 20")
)

// Certificates returns a bundle of certificates in the one form in which it is kept: PEM blocks without what stands around them. Its errors say what is
// wrong and quote nothing.
func Certificates(bundle string) (string, error) {
	var out strings.Builder
	rest, n := []byte(bundle), 0
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return "", ErrOtherThanCerts
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", ErrBadCertificate
		}
		if n++; n > certificatesMost {
			return "", ErrTooManyCerts
		}
		out.Write(pem.EncodeToMemory(block))
	}
	switch {
	case n == 0:
		return "", ErrNoCertificate
	case strings.Contains(string(rest), "-----BEGIN"): // a block that cannot be read, of whatever
		return "", ErrBadCertificate
	case strings.Count(bundle, "-----BEGIN") != n: // one before a good one: the decoder passes over it
		return "", ErrOtherThanCerts
	}
	return strings.TrimRight(out.String(), "\n"), nil
}
