package deposit

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/strict"
)

// finding is what is wrong with one field. It holds nothing that was sent.
type finding struct{ path, message string }

// findings are everything that is wrong with a body.
type findings []finding

// Error is the text of the answer.
func (f findings) Error() string {
	parts := make([]string, len(f))
	for i, one := range f {
		parts[i] = one.path + ": " + one.message
	}
	return "Invalid request body — " + strings.Join(parts, "; ")
}

func (f *findings) add(path, message string) { *f = append(*f, finding{path, message}) }

func (f findings) has(path string) bool {
	return slices.ContainsFunc(f, func(one finding) bool { return one.path == path })
}

// The fields of a body.
const (
	fieldServer        = "mcpServerId"
	fieldRefresh       = "refreshToken"
	fieldEndpoint      = "tokenEndpoint"
	fieldClient        = "clientId"
	fieldSecret        = "clientSecret"
	fieldSecretExpires = "clientSecretExpiresAt"
	fieldAuthMethod    = "tokenEndpointAuthMethod"
	fieldScopes        = "scopes"
)

type field struct {
	name       string
	needed     bool
	least, max int // UTF-16 units, as the callers count; max 0: the body's own
}

func fields() []field {
	return []field{
		{fieldServer, true, 1, 255}, {fieldRefresh, true, 1, 0}, {fieldEndpoint, true, 1, 2048}, {fieldClient, false, 1, 255}, {fieldSecret, false, 1, 0},
		{fieldSecretExpires, false, 1, 64}, {fieldAuthMethod, false, 1, 64}, {fieldScopes, false, 0, 2048},
	}
}

// read reads a body strictly. whole says that it is an object at all, whose fields can be looked at further.
func read(text []byte) (d mcp.Deposit, bad findings, whole bool) {
	m, err := strict.Object(text)
	if err != nil {
		message := "is not JSON"
		var why *strict.Error
		if errors.As(err, &why) {
			message = why.Error()
		}
		return d, findings{{"body", message}}, false
	}
	got, known := map[string]string{}, 0
	for _, f := range fields() {
		v, there := m[f.name]
		if !there {
			if f.needed {
				bad.add(f.name, "is required")
			}
			continue
		}
		known++
		s, is := v.(string)
		n := len(utf16.Encode([]rune(s)))
		switch {
		case !is:
			bad.add(f.name, "must be a string")
		case n < f.least:
			bad.add(f.name, "must have at least "+strconv.Itoa(f.least)+" character")
		case f.max > 0 && n > f.max:
			bad.add(f.name, "must have at most "+strconv.Itoa(f.max)+" characters")
		default:
			got[f.name] = s
		}
	}
	if known < len(m) {
		bad.add("body", "has a field that is not known")
	}
	d = mcp.Deposit{
		Server: got[fieldServer], Refresh: secret.FromString(got[fieldRefresh]), TokenEndpoint: got[fieldEndpoint], ClientID: got[fieldClient],
		ClientSecret: secret.FromString(got[fieldSecret]), AuthMethod: got[fieldAuthMethod], Scopes: got[fieldScopes],
	}
	if _, there := m[fieldSecret]; there && m[fieldClient] == nil {
		bad.add(fieldClient, "is required with a clientSecret")
	}
	if at, there := got[fieldSecretExpires]; there {
		if when, ok := date(at); ok {
			d.SecretEnds = &when
		} else {
			bad.add(fieldSecretExpires, "must be a date, such as 2027-01-31T12:00:00Z")
		}
	}
	if method, there := got[fieldAuthMethod]; there && !slices.Contains([]string{"client_secret_basic", "client_secret_post", "none"}, method) {
		bad.add(fieldAuthMethod, "must be client_secret_basic, client_secret_post or none")
	}
	return d, bad, true
}

// date reads a time of RFC 3339, or a day in UTC.
func date(s string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
