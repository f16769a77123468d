package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"signalbox.dev/signalbox/internal/fault"
)

func (db *DB) openPostgres(ctx context.Context) error {
	conf, err := pgx.ParseConfig(db.cfg.PostgresURL.Reveal())
	if err != nil {
		return malformedURL(err)
	}
	if err := db.checkLine(conf); err != nil {
		return err
	}
	switch {
	case db.cfg.application != "":
		conf.RuntimeParams["application_name"] = db.cfg.application
	case conf.RuntimeParams["application_name"] == "":
		conf.RuntimeParams["application_name"] = applicationName
	}
	conf.RuntimeParams["timezone"] = "UTC"
	if err := db.greetPostgres(ctx, conf); err != nil {
		return err
	}
	if db.conns = db.cfg.MaxConns; db.conns <= 0 {
		db.conns = 10
	}
	main := sqlx.NewDb(stdlib.OpenDB(*conf), "pgx")
	main.SetMaxOpenConns(db.conns)
	main.SetMaxIdleConns(db.conns)
	main.SetConnMaxIdleTime(5 * time.Minute)
	db.read, db.write = main, main
	news := sqlx.NewDb(stdlib.OpenDB(*conf), "pgx")
	news.SetMaxOpenConns(newsConns)
	news.SetMaxIdleConns(newsConns)
	db.news = news
	return nil
}

// applicationName is what PostgreSQL calls the connections of an instance, unless DATABASE_URL has another name.
const applicationName = "signalbox"

// newsConns are the connections of the change feed and its subscribers.
const newsConns = 2

// greetPostgres asks the server what it is before the pools open, and fits conf to a pooler in front of it.
func (db *DB) greetPostgres(ctx context.Context, conf *pgx.ConnConfig) error {
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		db.cfg.Log.Error("PostgreSQL cannot be reached", "cause", redactCause(err))
		return refusedConnection(conf, err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var pid uint32
	var version int
	var durable string
	// Unprepared, because it is not known yet who is at the other end.
	err = c.QueryRow(ctx, `SELECT pg_backend_pid(), current_setting('server_version_num')::int, current_setting('synchronous_commit')`,
		pgx.QueryExecModeExec).Scan(&pid, &version, &durable)
	if err != nil {
		db.cfg.Log.Error("PostgreSQL does not answer", "cause", redactCause(err))
		return refusedConnection(conf, err)
	}
	if version < 150000 {
		return fmt.Errorf("PostgreSQL 15 or later is needed, this server is %d", version/10000)
	}
	if durable == "off" {
		return errors.New("PostgreSQL is set to synchronous_commit = off, so that it forgets acknowledged writes in a crash; set it to on for Signalbox's role: ALTER ROLE … SET synchronous_commit = on")
	}
	// A server tells its own process number when one connects; a pooler makes one up. Behind a pooler the next statement may meet another
	// server process, which knows nothing of a statement that was prepared before: pgx then sends each statement whole, and remembers only
	// its types.
	if pid != c.PgConn().PID() && conf.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		conf.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		db.pooled = true
		db.cfg.Log.Info("a connection pooler stands before PostgreSQL; statements are not prepared")
	}
	return nil
}

// checkLine refuses to send credentials, sealed material and records over a network in plain text. pgx tries the configurations of conf in
// turn, so every one of them must be safe: sslmode=allow and prefer are TLS only while nobody interferes.
func (db *DB) checkLine(conf *pgx.ConnConfig) error {
	type way struct {
		host string
		tls  *tls.Config
	}
	ways := []way{{conf.Host, conf.TLSConfig}}
	for _, f := range conf.Fallbacks {
		ways = append(ways, way{f.Host, f.TLSConfig})
	}
	plain, unchecked := false, false
	for _, w := range ways {
		switch {
		case isThisMachine(w.host):
		case w.tls == nil:
			plain = true
		case w.tls.InsecureSkipVerify && w.tls.VerifyPeerCertificate == nil:
			unchecked = true
		}
	}
	switch {
	case plain && !db.cfg.AllowPlaintext:
		return errors.New("the PostgreSQL that DATABASE_URL names is on another machine, and the URL does not insist on TLS, so what Signalbox stores would cross the network readable; " +
			"add sslmode=verify-full and sslrootcert=FILE (or at least sslmode=require) to the URL, or, where the network itself is encrypted, set SIGNALBOX_ALLOW_PLAINTEXT_DATABASE=true")
	case plain:
		db.cfg.Log.Warn("the connection to PostgreSQL on another machine may be in plain text, as allowed by allow-plaintext-database")
	case unchecked:
		db.cfg.Log.Warn("the connection to PostgreSQL is encrypted, but its certificate is not checked, so that somebody on the way could pose as it; use sslmode=verify-full with sslrootcert")
	}
	return nil
}

// isThisMachine judges by the text: a name other than localhost is another machine, whatever it resolves to today.
func isThisMachine(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 5432); network == "unix" || strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// malformedURL says what is wrong with the URL and quotes nothing of it: pgx's own text may hold the password.
func malformedURL(err error) error {
	cause := errors.Unwrap(err)
	if cause == nil {
		cause = errors.New("")
	}
	text := cause.Error()
	about := ""
	switch {
	case strings.HasPrefix(text, "sslmode is invalid"):
		return errors.New("the sslmode in DATABASE_URL is none of disable, allow, prefer, require, verify-ca and verify-full")
	case strings.Contains(text, "CA file"), strings.Contains(text, "add CA"):
		about = "sslrootcert"
	case strings.Contains(text, "sslcert") && strings.Contains(text, "sslkey"):
		return errors.New("DATABASE_URL needs both or neither of sslcert and sslkey")
	case strings.Contains(text, "sslkey"), strings.Contains(text, "decrypt"):
		about = "sslkey"
	case strings.Contains(text, "cert"):
		about = "sslcert"
	}
	var file *fs.PathError
	switch {
	case about != "" && errors.As(cause, &file):
		return fmt.Errorf("the file that %s in DATABASE_URL names cannot be read: %w", about, file.Err)
	case about != "":
		return fmt.Errorf("the file that %s in DATABASE_URL names does not hold what it should, in PEM form", about)
	}
	return errors.New("DATABASE_URL cannot be read; its form is postgres://user:password@host:5432/database, where characters such as @ : / ? # % in the password are percent-encoded, " +
		"or host=… port=5432 user=… password=… dbname=…")
}

// refusedConnection says why the first connection failed, in words from a closed list. What may mend itself is a fault of kind unavailable.
func refusedConnection(conf *pgx.ConnConfig, err error) error {
	hosts := []string{conf.Host}
	for _, f := range conf.Fallbacks {
		if !slices.Contains(hosts, f.Host) {
			hosts = append(hosts, f.Host)
		}
	}
	who := "PostgreSQL at " + strings.Join(hosts, ", ")
	if problem := tlsProblem(err); problem != "" {
		return errors.New(who + " " + problem)
	}
	var pg pgError
	if errors.As(err, &pg) {
		switch pg.SQLState() {
		case "28P01":
			return errors.New(who + " refuses the user or the password in DATABASE_URL")
		case "28000":
			return errors.New(who + " does not let this user in from here: see its pg_hba.conf; it may ask for TLS (sslmode) or for a client certificate (sslcert, sslkey)")
		case "3D000":
			return errors.New(who + " has no such database; make it with CREATE DATABASE, or correct DATABASE_URL")
		}
	}
	what := "does not answer"
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		what = "cannot be found: the name does not resolve"
	case pg != nil:
		what = reason(err)
	case isCutOff(err):
		what = "breaks the connection off before the login is done, and its own log says why (it may not accept the client certificate)"
	}
	return fault.New(fault.Unavailable, "database_unavailable", who+" "+what+"; check DATABASE_URL and that the server runs").Because(redactCause(err))
}

// isCutOff reports whether the connection was made and then ended by the other side.
func isCutOff(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "dial" && !op.Timeout() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// tlsProblem says what is wrong with a TLS handshake, "" when that is not what failed.
func tlsProblem(err error) string {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &authority):
		return "shows a certificate that no authority in sslrootcert (or, without that, of this system) has signed; name the right authority's certificate with sslrootcert=FILE in DATABASE_URL"
	case errors.As(err, &hostname):
		return "shows a certificate for another host name; use a name that is in the certificate, or sslmode=verify-ca if the authority signs for this server alone"
	case errors.As(err, &invalid):
		return "shows a certificate that is not valid now, or not for a server; renew it, and check the clocks"
	case errors.As(err, &alert):
		return "does not accept the TLS connection; it may ask for a client certificate that its authority has signed (sslcert and sslkey in DATABASE_URL)"
	case errors.As(err, &record), strings.Contains(err.Error(), "server refused TLS connection"):
		return "does not speak TLS, but sslmode in DATABASE_URL asks for it; set ssl = on there"
	}
	return ""
}
