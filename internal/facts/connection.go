package facts

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// Connection is where a connection string leads, without the password.
type Connection struct {
	Scheme   string   `json:"scheme,omitempty"` // postgres, mysql, redis, …; empty when the form is that of many
	Host     string   `json:"host,omitempty"`
	Port     int      `json:"port,omitempty"`
	Others   []string `json:"other_hosts,omitempty"` // of several, those after the first, with their ports
	Database string   `json:"database,omitempty"`
	User     string   `json:"user,omitempty"`
	TLSMode  string   `json:"tls_mode,omitempty"` // as the string says it
}

// Target is a connection string taken apart, for who connects with it.
type Target struct {
	Connection
	Password secret.Value
	// Login is the user, also where it is not shown since it might be the secret itself.
	Login secret.Value
	// TLSUnknown says that the string has settings about TLS that are not understood, or that ask for more than TLSMode says. Whoever connects must
	// take them for the strictest.
	TLSUnknown bool
}

const maxConnection = 8 << 10

// ParseConnection reads a URL, a libpq string of keywords, a DSN of Go's MySQL driver, or a string of pairs as ADO.NET and ODBC have. It says no to
// whatever two readers could read in two ways: an unescaped character of a password must not become a host or a database that is shown.
func ParseConnection(v secret.Value) (Target, bool) {
	s := strings.TrimSpace(v.Reveal())
	if s == "" || len(s) > maxConnection || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return Target{}, false
	}
	s = strings.TrimPrefix(s, "jdbc:")
	if scheme, rest, ok := strings.Cut(s, "://"); ok && isScheme(scheme) {
		return parseURL(strings.ToLower(scheme), rest)
	}
	if t, ok := parseMySQL(s); ok {
		return t, true
	}
	if strings.Contains(s, ";") {
		return parsePairs(s)
	}
	return parseKeywords(s)
}

func isScheme(s string) bool {
	for i, c := range []byte(strings.ToLower(s)) {
		if (c < 'a' || c > 'z') && (i == 0 || !strings.ContainsRune("0123456789+.-", rune(c))) {
			return false
		}
	}
	return s != ""
}

// schemes are those that are shown, each with whether what follows the host is the name of a database. A word that is not among them might be
// a piece of a password.
func schemeOf(s string) (name string, database, known bool) {
	switch s {
	case "postgres", "postgresql":
		return "postgres", true, true
	case "mysql", "mariadb", "mysql2", "mysql+pymysql", "mariadb+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "mariadb+mariadbconnector", "mysql+aiomysql", "mysql+asyncmy":
		return "mysql", true, true
	case "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg", "postgresql+psycopg3":
		return "postgres", true, true
	case "mongodb", "mongodb+srv", "cockroachdb", "clickhouse", "cassandra", "oracle", "db2", "redshift", "snowflake", "redis", "rediss", "valkey", "valkeys":
		return s, true, true
	case "sqlserver", "mssql", "http", "https", "amqp", "amqps", "mqtt", "mqtts", "nats", "tls", "kafka", "ldap", "ldaps", "smtp", "smtps", "imap", "imaps", "ftp", "ftps", "sftp", "ssh",
		"ws", "wss", "elasticsearch", "neo4j", "bolt", "memcached", "sb", "etcd", "consul", "vault", "tcp":
		return s, false, true
	}
	return "", false, false
}

// setAuthority fills host, port and the other hosts, from a list with commas.
func (c *Connection) setAuthority(list string) bool {
	for i, one := range strings.Split(list, ",") {
		host, port, ok := hostPort(one)
		switch {
		case !ok || i >= 16:
			return false
		case i == 0:
			c.Host, c.Port = host, port
		default:
			if port != 0 {
				one = strings.TrimSuffix(one, ":"+strconv.Itoa(port)) + ":" + strconv.Itoa(port)
			}
			c.Others = append(c.Others, one)
		}
	}
	return true
}

// hostPort takes only what can be nothing else than a host with or without a port.
func hostPort(s string) (host string, port int, ok bool) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		if port, ok = portOf(s[i+1:]); !ok {
			return "", 0, false
		}
		host = s[:i]
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
		a, err := netip.ParseAddr(host)
		return host, port, err == nil && a.Is6() && a.Zone() == ""
	}
	return host, port, isHost(host)
}

func portOf(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && n > 0
}

func isHost(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_'
	})
}

// tlsWords are the values of the settings about TLS that are shown.
func tlsWord(s string) string {
	s = strings.ToLower(s)
	if slices.Contains([]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full", "verify_ca", "verify_identity", "preferred", "required", "disabled", "true", "false",
		"skip-verify", "trust", "strict", "mandatory", "optional", "yes", "no", "none", "verifyca", "verifyfull", "verify-identity", "on", "off", "0", "1"}, s) {
		return s
	}
	return ""
}

// tlsOff are the words with which a setting about TLS asks for nothing.
func tlsOff(word string) bool {
	return slices.Contains([]string{"", "disable", "disabled", "false", "no", "none", "0", "off"}, strings.ToLower(word))
}

// setTLS takes the word of the setting that says how TLS is used, and whether settings ask for what that word does not say. names are its names, the
// first of which counts.
func (t *Target) setTLS(settings map[string]string, names ...string) {
	used := ""
	for _, name := range names {
		if w := settings[name]; w != "" {
			used = name
			t.TLSMode = tlsWord(w)
			t.TLSUnknown = t.TLSMode == ""
			break
		}
	}
	if t.Scheme != "mysql" || t.TLSMode != "" && tlsOff(t.TLSMode) {
		return
	}
	for name, w := range settings { // an authority, a certificate, a demand to verify: names differ from driver to driver
		about := strings.HasPrefix(name, "ssl") || strings.HasPrefix(name, "tls") || strings.HasPrefix(name, "usessl") || strings.HasPrefix(name, "requiressl") || strings.HasPrefix(name, "verifyserver")
		if about && name != used && !tlsOff(w) {
			t.TLSUnknown = true
		}
	}
}

const (
	maxLabel = 128 // of users and databases
)

// label takes a user or a database that can be shown.
func label(s string) (string, bool) { return s, s == "" || plain(s, maxLabel) }
