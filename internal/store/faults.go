package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// SQLite's primary result codes (sqlite.org/rescode.html) that mean "the storage does not work", not "the statement is wrong".
const (
	liteBusy     = 5
	liteReadonly = 8
	liteIOErr    = 10
	liteCorrupt  = 11
	liteFull     = 13
	liteCantOpen = 14
	liteNotADB   = 26
)

// isUnavailable reports whether err means that the database as a whole does not work at this moment, so that the same statement may
// succeed later.
func isUnavailable(err error) bool {
	if errors.Is(err, errSilent) || errors.Is(err, errUncertain) {
		return true
	}
	var pg pgError
	if errors.As(err, &pg) {
		// 08 connection, 53 resources (disk full, too many connections), 57 shut down by an administrator, 58 system error, 25006
		// read-only: PostgreSQL 15, appendix A.
		class := pg.SQLState()
		return strings.HasPrefix(class, "08") || strings.HasPrefix(class, "53") || strings.HasPrefix(class, "57P") ||
			strings.HasPrefix(class, "58") || class == "25006" || class == "57014"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case liteBusy, liteReadonly, liteIOErr, liteCorrupt, liteFull, liteCantOpen, liteNotADB:
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) || isBrokenPipe(err)
}

func isBrokenPipe(err error) bool {
	// pgconn wraps a connection that died under a query in an unexported type whose cause is an I/O error.
	s := err.Error()
	return strings.Contains(s, "unexpected EOF") || strings.Contains(s, "conn closed") || strings.Contains(s, "failed to receive") ||
		strings.Contains(s, "failed to write") || strings.Contains(s, "sql: database is closed") || strings.Contains(s, "connection reset")
}

// isVerdict reports whether PostgreSQL itself has refused the statement and lives on: what it refused did not happen.
func isVerdict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

// isAnswer reports whether PostgreSQL itself has said no. What says that with a code of class 08 may be a pooler that does not reach it.
func isAnswer(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "08")
}

// reason is the part of a message that tells an operator where to look, from a closed list: never the database's own text.
func reason(err error) string {
	var pg pgError
	if errors.As(err, &pg) {
		switch {
		case pg.SQLState() == "53100":
			return "cannot write: its disk is full"
		case pg.SQLState() == "53300":
			return "accepts no more connections"
		case pg.SQLState() == "25006":
			return "is read-only"
		case strings.HasPrefix(pg.SQLState(), "57P"):
			return "is shutting down or starting up"
		}
		return "refused the statement"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case liteFull:
			return "cannot write: its disk is full"
		case liteReadonly:
			return "is read-only"
		case liteIOErr:
			return "cannot be read or written: the disk reports an error"
		case liteBusy:
			return "is busy with another writer"
		case liteCorrupt, liteNotADB:
			return "file is damaged"
		}
		return "refused the statement"
	}
	return "does not answer"
}

// redactCause keeps of a database error what an operator needs and drops what may hold data: PostgreSQL's detail and hint quote row
// values, and a connection error quotes the URL.
func redactCause(err error) error {
	if errors.Is(err, errSilent) {
		return errSilent
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("PostgreSQL error %s (table %q, constraint %q)", pg.Code, pg.TableName, pg.ConstraintName)
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return fmt.Errorf("SQLite error %d (%s)", lite.Code(), sqlite.ErrorCodeString[lite.Code()])
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return network
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return errors.New("could not connect to PostgreSQL")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return fmt.Errorf("database error of type %T", err)
}

// uriPath escapes a file path for SQLite's URI form, where ? and # would end it.
func uriPath(path string) string { return (&url.URL{Path: path}).EscapedPath() }
