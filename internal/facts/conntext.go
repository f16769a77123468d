package facts

import (
	"regexp"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// parseKeywords reads libpq's form: host=… port=5432 user=… password='…' (PostgreSQL documentation, 34.1.1.1).
func parseKeywords(s string) (Target, bool) {
	settings := map[string]string{}
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		name, rest, ok := strings.Cut(s, "=")
		name = strings.TrimRight(name, " ")
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return Target{}, false
		}
		value, rest, ok := keywordValue(strings.TrimLeft(rest, " "))
		if _, twice := settings[name]; !ok || twice {
			return Target{}, false
		}
		settings[name], s = value, rest
	}
	_, a := settings["host"]
	_, b := settings["hostaddr"]
	_, c := settings["dbname"]
	_, d := settings["user"]
	if !a && !b && !c || !d {
		return Target{}, false // one word with an equals sign is no connection string
	}
	return Target{Connection: Connection{Scheme: "postgres"}}.named(settings)
}

// named is settle for strings whose settings name the user, where it is no secret.
func (t Target) named(settings map[string]string) (Target, bool) {
	t, ok := t.settle(settings)
	if !ok {
		return Target{}, false
	}
	if u := settings["user"]; u != "" {
		t.Login = secret.FromString(u)
		t.User, ok = label(u)
	}
	return t, ok
}

// keywordValue reads one value: in single quotes, or up to a space; a backslash takes the next character as it is.
func keywordValue(s string) (value, rest string, ok bool) {
	var out strings.Builder
	quoted := strings.HasPrefix(s, "'")
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case i == 0 && quoted:
		case c == '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			out.WriteByte(s[i])
		case quoted && c == '\'':
			rest := s[i+1:]
			return out.String(), rest, rest == "" || rest[0] == ' '
		case !quoted && c == ' ':
			return out.String(), s[i:], true
		case !quoted && c == '\'':
			return "", "", false
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), "", !quoted
}

// mysqlAddress is what stands between the last @ and the last / of a DSN of Go's MySQL driver.
var mysqlAddress = regexp.MustCompile(`^(tcp|tcp4|tcp6)\(([^()/]+)\)$`)

// parseMySQL reads user:password@tcp(host:port)/database?tls=…
func parseMySQL(s string) (Target, bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return Target{}, false
	}
	left, right := s[:i], s[i+1:]
	at := strings.LastIndexByte(left, '@')
	m := mysqlAddress.FindStringSubmatch(left[at+1:])
	if m == nil || at < 0 || strings.Contains(right, "@") {
		return Target{}, false
	}
	t := Target{Connection: Connection{Scheme: "mysql"}}
	user, password, _ := strings.Cut(left[:at], ":")
	t.Login, t.Password = secret.FromString(user), secret.FromString(password)
	database, query, _ := strings.Cut(right, "?")
	settings, ok := readQuery(query)
	if !ok || !t.setAuthority(m[2]) {
		return Target{}, false
	}
	var named bool
	if t.User, named = label(user); !named {
		return Target{}, false
	}
	if t.Database, named = label(database); !named {
		return Target{}, false
	}
	t.setTLS(settings, "tls")
	return t, true
}

// parsePairs reads Server=…;Database=…;User Id=…;Password=…, as ADO.NET, ODBC and JDBC for SQL Server have.
func parsePairs(s string) (Target, bool) {
	settings := map[string]string{}
	for s = strings.TrimLeft(s, "; "); s != ""; s = strings.TrimLeft(s, "; ") {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || strings.ContainsAny(name, ";'\"{}") {
			return Target{}, false
		}
		value, rest, ok := pairValue(strings.TrimLeft(rest, " "))
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := settings[name]; !ok || twice {
			return Target{}, false
		}
		settings[name], s = value, rest
	}
	take := func(names ...string) string {
		for _, n := range names {
			if v := settings[n]; v != "" {
				return v
			}
		}
		return ""
	}
	host := take("server", "data source", "host", "address", "addr", "network address", "servername")
	user := take("user id", "uid", "username", "user", "user name")
	password := take("password", "pwd")
	database := take("database", "initial catalog", "databasename")
	if host == "" && database == "" {
		return Target{}, false
	}
	scheme := "" // many products have this form, and few say which they are
	switch driver := strings.ToLower(settings["driver"]); {
	case strings.Contains(driver, "postgres"):
		scheme = "postgres"
	case strings.Contains(driver, "mysql"), strings.Contains(driver, "mariadb"):
		scheme = "mysql"
	case strings.Contains(driver, "sql server"), take("initial catalog", "encrypt", "trustservercertificate", "databasename") != "", strings.HasPrefix(strings.ToLower(host), "tcp:"):
		scheme = "sqlserver"
	}
	t := Target{Connection: Connection{Scheme: scheme}, Password: secret.FromString(password), Login: secret.FromString(user)}
	if host != "" {
		host = strings.TrimPrefix(strings.ToLower(host), "tcp:")
		name, port, comma := strings.Cut(host, ",") // SQL Server writes host,port and host\instance
		name, _, _ = strings.Cut(name, `\`)
		if comma {
			name += ":" + strings.TrimSpace(port)
		}
		if !t.setAuthority(name) {
			return Target{}, false
		}
	}
	if p := settings["port"]; p != "" {
		var ok bool
		if t.Port, ok = portOf(p); !ok {
			return Target{}, false
		}
	}
	var ok bool
	if t.User, ok = label(user); !ok {
		return Target{}, false
	}
	if t.Database, ok = label(database); !ok {
		return Target{}, false
	}
	t.setTLS(settings, "sslmode", "ssl mode", "ssl-mode", "encrypt", "tls")
	return t, true
}

// pairValue reads a value in quotes or braces, in which the closing one may stand twice for itself, or up to a semicolon.
func pairValue(s string) (value, rest string, ok bool) {
	closing := byte(0)
	if s != "" {
		closing = map[byte]byte{'\'': '\'', '"': '"', '{': '}'}[s[0]]
	}
	if closing == 0 {
		value, rest, _ = strings.Cut(s, ";")
		return strings.TrimSpace(value), rest, !strings.ContainsAny(value, "'\"{}")
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != closing {
			out.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == closing {
			out.WriteByte(closing)
			i++
			continue
		}
		rest = strings.TrimLeft(s[i+1:], " ")
		return out.String(), strings.TrimPrefix(rest, ";"), rest == "" || rest[0] == ';'
	}
	return "", "", false
}
