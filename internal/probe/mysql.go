package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/facts"
)

// mysqlTLS is what the drivers of MySQL and MariaDB make of tls, ssl-mode, sslMode and their like. A word that says only that TLS is wanted is taken
// for all of it.
func mysqlTLS(word string) tlsMode {
	switch word {
	case "disable", "disabled", "false", "no", "none", "off", "0":
		return plainMode
	case "", "prefer", "preferred", "allow", "optional":
		return preferMode
	case "require", "required", "skip-verify", "mandatory", "trust":
		return requireMode
	case "verify-ca", "verify_ca", "verifyca":
		return authorityMode
	}
	return fullMode
}

// signInMySQL is a signIn.
func (r *Room) signInMySQL(ctx context.Context, to facts.Target, way *tls.Config, target string) (Result, bool) {
	who := mysqlLogin{user: to.Login.Reveal(), password: to.Password.Reveal(), database: to.Database}
	if strings.ContainsRune(who.user+who.password+who.database, 0) {
		return Result{Outcome: Unsupported, Detail: "The string has a zero byte, which MySQL takes in no name and no password. Correct the string."}, false
	}
	conn, err := r.dial(ctx, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(to.Port)))
	if err != nil {
		return failed(err, target), false
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s := mysqlSession{conn: conn, way: way}
	if err := s.signIn(ctx, who); err != nil {
		return mysqlFailed(ctx, err, target), errors.Is(err, errMySQLNoTLS)
	}
	s.quit()
	return Result{Outcome: OK, Target: target, Detail: mysqlWelcome(who)}, false
}

func mysqlWelcome(who mysqlLogin) string {
	if who.database == "" {
		return "The server let the user in."
	}
	return "The server let the user in to the database."
}

// mysqlFailed turns what a sign-in ended with into an outcome. Of what the server said only the number counts.
func mysqlFailed(ctx context.Context, err error, target string) Result {
	out := Result{Target: target, Outcome: Refused}
	var refusal mysqlRefusal
	switch {
	case errors.As(err, &refusal):
		out.Outcome, out.Detail = refusal.outcome()
	case errors.Is(err, errMySQLNoTLS):
		out.Outcome, out.Detail = TLSFailed, "The server speaks no TLS, so nothing was sent. Switch it on there (ssl_cert and ssl_key); to do without, set ssl-mode=DISABLED (tls=false) and have the host allowed by name in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS."
	case errors.Is(err, errMySQLAsksPassword):
		out.Outcome, out.Detail = TLSFailed, "The server asks for the password itself, and nothing has proved who it is, so it was not sent. Use ssl-mode=VERIFY_IDENTITY (tls=true) with a certificate that this machine trusts."
	case errors.Is(err, errMySQLPlugin):
		out.Outcome, out.Detail = Unsupported, "The server wants this user to sign in in a way that this version does not have, so the password was not sent. It knows mysql_native_password, caching_sha2_password and ed25519."
	case errors.Is(err, errMySQLOld):
		out.Outcome, out.Detail = Unsupported, "The server speaks a protocol from before MySQL 5.5, which this version does not. Update the server."
	default:
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return failed(err, target)
	}
	return out
}

// mysqlRefusal is the number of an error that a server answered. Its text is not kept.
type mysqlRefusal uint16

func (mysqlRefusal) Error() string { return "probe: the MySQL server refused the login" }

// outcome knows the numbers of MySQL's and MariaDB's lists of errors.
func (e mysqlRefusal) outcome() (Outcome, string) {
	switch e {
	case 1045, 1698, 1130: // access denied, with and without a password; a host that no account is for
		return Unauthorized, "The server does not let this user in with this password, or not from here, or not in this way (an account may require TLS). Rotate the string, or see the accounts on the server: each is a user and a host."
	case 1820, 1862: // must change the password
		return Unauthorized, "The password has expired on the server. Set a new one there, then rotate the string."
	case 3118, 4151: // locked: MySQL's and MariaDB's
		return Unauthorized, "The server has locked this account. Unlock it there (ALTER USER … ACCOUNT UNLOCK), then test again."
	case 1044:
		return Refused, "The user and the password are right, but the user may not use this database, or there is none of this name. Grant it on the server, or correct the string."
	case 1049:
		return Refused, "The user and the password are right, but there is no such database. Correct the string."
	case 1129:
		return Refused, "The server takes nothing more from the machine that Signalbox runs on, after too many failed connections. Run FLUSH HOSTS there, then test again."
	case 3159:
		return TLSFailed, "The server takes logins over TLS alone. Set ssl-mode=VERIFY_IDENTITY (tls=true) in the string and rotate it."
	case 1251:
		return Unsupported, "The server wants this user to sign in in a way that this version does not have. It knows mysql_native_password, caching_sha2_password and ed25519."
	}
	return Refused, "The server does not take a login now. See its own log; test again later."
}
