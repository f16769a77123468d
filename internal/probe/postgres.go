package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"signalbox.dev/signalbox/internal/facts"
)

// postgresTLS is what libpq makes of sslmode.
func postgresTLS(word string) tlsMode {
	switch word {
	case "disable":
		return plainMode
	case "", "prefer", "allow":
		return preferMode
	case "verify-full":
		return fullMode
	case "verify-ca":
		return authorityMode
	}
	return requireMode
}

// signInPostgres is a signIn.
func (r *Room) signInPostgres(ctx context.Context, to facts.Target, way *tls.Config, target string) (out Result, noTLS bool) {
	// A configuration must come from ParseConfig. It is given nothing of the string, whose parameters name files of this machine, and everything that the
	// environment might say is set anew.
	cfg, err := pgconn.ParseConfig("host=signalbox.invalid port=5432 user=signalbox password=x dbname=signalbox sslmode=disable")
	if err != nil {
		return Result{Outcome: Unsupported, Detail: "The environment of this Signalbox has settings for PostgreSQL (PG…) that cannot be read. Tell its operator."}, false
	}
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = to.Host, uint16(to.Port), to.Database, to.Login.Reveal(), to.Password.Reveal()
	cfg.TLSConfig, cfg.Fallbacks, cfg.ConnectTimeout = way, nil, r.patience
	cfg.RuntimeParams = map[string]string{"application_name": "signalbox"}
	cfg.MaxProtocolMessageBodyLen = 64 << 10
	cfg.KerberosSrvName, cfg.KerberosSpn, cfg.ValidateConnect, cfg.AfterConnect = "", "", nil, nil
	cfg.SSLNegotiation, cfg.SSLCertMode, cfg.ChannelBinding, cfg.MinProtocolVersion, cfg.MaxProtocolVersion = "postgres", "disable", "prefer", "3.0", "3.0"
	cfg.RequireAuth = "!password"
	if proves(way) {
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
