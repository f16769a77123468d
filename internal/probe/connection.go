package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/vault"
)

// tlsMode is how much a connection string insists on TLS, the same for every database; the zero is the strictest.
type tlsMode int

const (
	fullMode      tlsMode = iota // the certificate is of a known authority, for this name
	authorityMode                // of a known authority
	requireMode                  // encrypted; nobody proves anything
	preferMode                   // encrypted where the server can
	plainMode                    // not encrypted
)

// signIn signs in at a server and leaves again. It reports besides the outcome whether the server speaks no TLS, when it was to.
type signIn func(ctx context.Context, to facts.Target, way *tls.Config, target string) (out Result, noTLS bool)

// tryConnection signs in at the server that a connection string names, and leaves again.
func (r *Room) tryConnection(ctx context.Context, t vault.Trial, ask Ask) Result {
	to, ok := facts.ParseConnection(t.Secrets["connection_string"])
	if !ok {
		return Result{Outcome: Unsupported, Detail: "The connection string is in no form that is known, or can be read in two ways. Percent-encode characters such as @ / ? # in its password and rotate it."}
	}
	if ask.Offline {
		return Result{Outcome: OK, Detail: "The connection string can be read."}
	}
	var (
		port  int
		mode  tlsMode
		enter signIn
	)
	switch to.Scheme {
	case "postgres":
		port, mode, enter = 5432, postgresTLS(to.TLSMode), r.signInPostgres
	case "mysql":
		port, mode, enter = 3306, mysqlTLS(to.TLSMode), r.signInMySQL
	default:
		return Result{Outcome: Unsupported, Detail: "This version tries connection strings of PostgreSQL, MySQL and MariaDB alone. The string itself can be read."}
	}
	if to.TLSUnknown { // what its own driver would refuse must not pass here
		mode = fullMode
	}
	if to.Host == "" || strings.HasPrefix(to.Host, "/") {
		return Result{Outcome: Unsupported, Detail: "The string names no host that can be reached over the network."}
	}
	if to.Port == 0 {
		to.Port = port
	}
	address := net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
	target := to.Scheme + "://" + address
	if !boundTo(t.Hosts, to.Host, address) {
		return Result{Outcome: Forbidden, Detail: "The host in the connection string is none of the credential's hosts. Correct hosts, or rotate the string."}
	}
	plain := r.policy.CheckServer(to.Host, uint16(to.Port), false)
	if mode == plainMode && plain != nil {
		return failed(plain, target)
	}
	if mode != plainMode {
		if err := r.policy.CheckServer(to.Host, uint16(to.Port), true); err != nil {
			return failed(err, target)
		}
	}
	out, noTLS := enter(ctx, to, r.tlsOf(to.Host, mode), target)
	if noTLS && plain == nil && mode == preferMode {
		out, _ = enter(ctx, to, nil, target)
	}
	return out
}

// boundTo reports whether a server is among the hosts, where there are any. Without, the string itself is what says where it goes.
func boundTo(hosts []string, host, address string) bool {
	host = strings.ToLower(host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return len(hosts) == 0 || slices.Contains(hosts, host) || slices.Contains(hosts, strings.ToLower(address))
}

// tlsOf is how TLS is spoken, and nil without.
func (r *Room) tlsOf(host string, mode tlsMode) *tls.Config {
	switch mode {
	case plainMode:
		return nil
	case fullMode:
		return &tls.Config{ServerName: host, RootCAs: r.roots, MinVersion: tls.VersionTLS12}
	case authorityMode:
		return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { //nolint:gosec // verified here, but for the name
			opts := x509.VerifyOptions{Roots: r.roots, Intermediates: x509.NewCertPool()}
			if len(s.PeerCertificates) == 0 {
				return x509.UnknownAuthorityError{}
			}
			for _, c := range s.PeerCertificates[1:] {
				opts.Intermediates.AddCert(c)
			}
			if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
			}
			return nil
		}}
	}
	// The string asks for no more; what is sent then is never the password itself.
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // as the string says
}

// proves reports whether a server with which TLS was agreed on in this way has shown a certificate of a known authority: only such a one may be told a
// password.
func proves(way *tls.Config) bool {
	return way != nil && (!way.InsecureSkipVerify || way.VerifyConnection != nil)
}
