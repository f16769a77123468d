package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/vault"
)

// tryConnection signs in at the server that a connection string names, and leaves again.
func (r *Room) tryConnection(ctx context.Context, t vault.Trial, ask Ask) Result {
	to, ok := facts.ParseConnection(t.Secrets["connection_string"])
	if !ok {
		return Result{Outcome: Unsupported, Detail: "The connection string is in no form that is known, or can be read in two ways. Percent-encode characters such as @ / ? # in its password and rotate it."}
	}
	switch {
	case ask.Offline:
		return Result{Outcome: OK, Detail: "The connection string can be read."}
	case to.Scheme == "mysql":
		return Result{Outcome: Unsupported, Detail: "This version does not speak MySQL, so it cannot try this one. The string itself can be read."}
	case to.Scheme != "postgres":
		return Result{Outcome: Unsupported, Detail: "This version tries connection strings of PostgreSQL alone. The string itself can be read."}
	case to.Host == "" || strings.HasPrefix(to.Host, "/"):
		return Result{Outcome: Unsupported, Detail: "The string names no host that can be reached over the network."}
	}
	if to.Port == 0 {
		to.Port = 5432
	}
	address := net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
	target := "postgres://" + address
	if !boundTo(t.Hosts, to.Host, address) {
		return Result{Outcome: Forbidden, Detail: "The host in the connection string is none of the credential's hosts. Correct hosts, or rotate the string."}
	}
	plain := r.policy.CheckServer(to.Host, uint16(to.Port), false)
	if to.TLSMode == "disable" && plain != nil {
		return failed(plain, target)
	}
	if to.TLSMode != "disable" {
		if err := r.policy.CheckServer(to.Host, uint16(to.Port), true); err != nil {
			return failed(err, target)
		}
	}
	way := r.tlsOf(to)
	out, noTLS := r.signIn(ctx, to, way, target)
	if noTLS && plain == nil && slices.Contains([]string{"", "prefer", "allow"}, to.TLSMode) {
		out, _ = r.signIn(ctx, to, nil, target)
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

// tlsOf is what libpq makes of sslmode, and nil without TLS.
func (r *Room) tlsOf(to facts.Target) *tls.Config {
	switch to.TLSMode {
	case "disable":
		return nil
	case "verify-full":
		return &tls.Config{ServerName: to.Host, RootCAs: r.roots, MinVersion: tls.VersionTLS12}
	case "verify-ca":
		return &tls.Config{ServerName: to.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { //nolint:gosec // verified here, but for the name
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
	return &tls.Config{ServerName: to.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // as sslmode says
}

// signIn reports besides the outcome whether the server speaks no TLS.
func (r *Room) signIn(ctx context.Context, to facts.Target, way *tls.Config, target string) (out Result, noTLS bool) {
	// A configuration must come from ParseConfig. It is given nothing of the string, whose parameters name files of this machine, and everything that the
	// environment might say is set anew.
	cfg, err := pgconn.ParseConfig("host=signalbox.invalid port=5432 user=signalbox password=x dbname=signalbox sslmode=disable")
	if err != nil {
		return Result{Outcome: Unsupported, Detail: "The environment of this Signalbox has settings for PostgreSQL (PG…) that cannot be read. Tell its operator."}, false
	}
	verified := way != nil && (!way.InsecureSkipVerify || way.VerifyConnection != nil)
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = to.Host, uint16(to.Port), to.Database, to.Login.Reveal(), to.Password.Reveal()
	cfg.TLSConfig, cfg.Fallbacks, cfg.ConnectTimeout = way, nil, r.patience
	cfg.RuntimeParams = map[string]string{"application_name": "signalbox"}
	cfg.MaxProtocolMessageBodyLen = 64 << 10
	cfg.KerberosSrvName, cfg.KerberosSpn, cfg.ValidateConnect, cfg.AfterConnect = "", "", nil, nil
	cfg.SSLNegotiation, cfg.SSLCertMode, cfg.ChannelBinding, cfg.MinProtocolVersion, cfg.MaxProtocolVersion = "postgres", "disable", "prefer", "3.0", "3.0"
	cfg.RequireAuth = "!password"
	if verified {
		cfg.RequireAuth = ""
	}
	if cfg.Database == "" {
		cfg.Database = cfg.User
	}
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // the guard resolves and judges
	cfg.DialFunc = r.dial
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err == nil {
		_ = conn.Close(ctx)
		return Result{Outcome: OK, Target: target, Detail: "The server let the user in to the database."}, false
	}
	var pg *pgconn.PgError
	out = Result{Target: target, Outcome: Refused}
	switch {
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28"):
		out.Outcome, out.Detail = Unauthorized, "The server does not let this user in with this password, or not from here. Rotate the string, or see the server's pg_hba.conf."
	case errors.As(err, &pg) && pg.Code == "3D000":
		out.Detail = "The user and the password are right, but there is no such database. Correct the string."
	case errors.As(err, &pg):
		out.Detail = "The server does not take a login now. See its own log; test again later."
	case strings.Contains(err.Error(), "server refused TLS connection"): // words of pgconn; it has no type for it
		out.Outcome, out.Detail = TLSFailed, "The server speaks no TLS, so nothing was sent. Switch it on there (ssl = on); to do without, set sslmode=disable and have the host allowed by name in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS."
		noTLS = true
	case strings.Contains(err.Error(), "require_auth"), strings.Contains(err.Error(), "authentication method"):
		out.Outcome, out.Detail = TLSFailed, "The server asks for the password itself, and nothing has proved who it is, so it was not sent. Use sslmode=verify-full, or SCRAM on the server."
	default:
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		out = failed(err, target)
	}
	return out, noTLS
}
