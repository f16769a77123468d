package train

import (
	"net/url"
	"strings"
)

// within reports whether a URL lies at or below a base URL, by the form in which it is sent.
func within(base, u *url.URL) bool {
	root, path := strings.TrimSuffix(base.EscapedPath(), "/"), u.EscapedPath()
	return u.Scheme == base.Scheme && u.Host == base.Host && (path == root || strings.HasPrefix(path, root+"/"))
}

// withParameter returns a query in which a parameter has one value alone. All other bytes of it stay.
func withParameter(query, name, value string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && !namesParameter(pair, name) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(append(kept, url.QueryEscape(name)+"="+url.QueryEscape(value)), "&")
}

// namesParameter reports whether a part of a query could be read as that parameter: in any case, as a list (name[]), and where a semicolon parts parameters as well.
func namesParameter(pair, name string) bool {
	for part := range strings.SplitSeq(pair, ";") {
		key, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(key); err == nil {
			key = plain
		}
		key, _, _ = strings.Cut(strings.TrimSpace(key), "[")
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

// sameHeader reports whether two headers are one to some reader: behind a gateway to programs (RFC 3875) case and underscores make no difference.
func sameHeader(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "_", "-"), strings.ReplaceAll(b, "_", "-"))
}
