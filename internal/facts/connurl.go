package facts

import (
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// parseURL reads what follows the :// of a URL. It does not use net/url for the whole: that takes a slash in a password for the end of the host,
// so that half of the password becomes a port and the other half a path.
func parseURL(scheme, rest string) (Target, bool) {
	name, hasDatabase, known := schemeOf(scheme)
	if !known {
		return Target{}, false
	}
	t := Target{Connection: Connection{Scheme: name}}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.Contains(tail, "@") {
		return Target{}, false // or the password has a / ? or # that is not escaped
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, both := strings.Cut(authority[:i], ":")
		login, err := url.PathUnescape(user)
		if err != nil {
			return Target{}, false
		}
		t.Login = secret.FromString(login)
		if both {
			clear, err := url.PathUnescape(password)
			if err != nil {
				return Target{}, false
			}
			t.Password = secret.FromString(clear)
			if shown, ok := label(login); ok {
				t.User = shown
			}
		}
		authority = authority[i+1:]
	}
	path, query, _ := strings.Cut(tail, "?")
	query, _, _ = strings.Cut(query, "#")
	settings, ok := readQuery(query)
	if !ok || strings.Contains(path, "#") {
		return Target{}, false
	}
	if name == "sqlserver" || name == "mssql" { // JDBC: jdbc:sqlserver://host:1433;databaseName=…;user=…
		host, pairs, _ := strings.Cut(authority, ";")
		if pairs != "" {
			p, ok := parsePairs(pairs)
			p.Scheme = name
			return p, ok && p.setAuthority(host)
		}
	}
	if authority != "" && !t.setAuthority(authority) {
		return Target{}, false
	}
	if hasDatabase {
		database, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
		if err != nil || strings.Contains(database, "/") {
			return Target{}, false
		}
		if t.Database, ok = label(database); !ok {
			return Target{}, false
		}
	}
	return t.settle(settings)
}

// readQuery reads settings; one that stands twice is read in two ways.
func readQuery(query string) (map[string]string, bool) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, false
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, false
		}
		name = strings.ToLower(name)
		if _, twice := out[name]; twice {
			return nil, false
		}
		out[name] = value
	}
	return out, true
}

// settle takes from named settings what they say of the target; they go before what the rest said.
func (t Target) settle(settings map[string]string) (Target, bool) {
	if p, ok := settings["password"]; ok {
		t.Password = secret.FromString(p)
		if t.User == "" && !t.Login.IsZero() {
			t.User, _ = label(t.Login.Reveal())
		}
	}
	if t.Scheme != "postgres" && t.Scheme != "mysql" {
		return t.withTLS(settings), true // what others call host or user may be anything
	}
	for _, name := range []string{"user", "username", "uid", "user id"} {
		if u, ok := settings[name]; ok && !t.Password.IsZero() {
			t.Login = secret.FromString(u)
			if t.User, ok = label(u); !ok {
				return Target{}, false
			}
		}
	}
	for _, name := range []string{"host", "hostaddr"} {
		h, ok := settings[name]
		if !ok || h == "" {
			continue
		}
		if strings.HasPrefix(h, "/") && plain(h, maxText) { // a directory of unix sockets
			t.Host, t.Port = h, 0
			continue
		}
		kept := t.Port
		t.Others = nil
		if !t.setAuthority(h) {
			return Target{}, false
		}
		if t.Port == 0 {
			t.Port = kept
		}
	}
	if p := settings["port"]; p != "" && !strings.Contains(p, ",") {
		port, ok := portOf(p)
		if !ok {
			return Target{}, false
		}
		t.Port = port
	}
	if t.Scheme == "postgres" {
		if d, ok := settings["dbname"]; ok {
			if t.Database, ok = label(d); !ok {
				return Target{}, false
			}
		}
	}
	return t.withTLS(settings), true
}

func (t Target) withTLS(settings map[string]string) Target {
	t.setTLS(settings, "sslmode", "ssl-mode", "ssl_mode", "ssl mode", "tls", "ssl", "encrypt")
	return t
}
