package broker

import (
	"net/http"
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/vault"
)

// use is what the path of a request under /use says.
type use struct {
	alias string // decoded: what names the credential
	// root is the path of the credential at our door, as it came: /use/ALIAS.
	root string
	// below is the path below the credential's base URL as it is sent on, "" for the base URL itself, and plain is it decoded once, as rules are compared with it.
	below, plain string
}

const usePrefix = "/use/"

// parseUse reads the target of a request as it came. Whatever two readers could understand in two ways is refused: below the base URL of a credential a path
// must not lead out of it for anybody on the way.
func parseUse(r *http.Request) (use, error) {
	if r.URL.IsAbs() || r.URL.Host != "" || r.URL.User != nil || r.URL.Opaque != "" || !strings.HasPrefix(r.RequestURI, "/") {
		return use{}, badPath("The request names a whole URL or a host as its target, as to a forward proxy. Signalbox is none: send the path /use/ALIAS/… alone.")
	}
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.ContainsRune(r.RequestURI, '#') {
		return use{}, badPath("The request's target holds a number sign. Write it as %23, or leave the fragment out.")
	}
	rest, ok := strings.CutPrefix(raw, usePrefix)
	if !ok {
		return use{}, badPath("The path must begin with /use/ALIAS/, as it stands here: without double slashes, dots or escapes before it.")
	}
	name, below, slash := strings.Cut(rest, "/")
	if name == "" || !onlyPathChars(raw) {
		return use{}, badPath("The path is /use/ALIAS/…; any character that is not a letter, a digit or one of -._~!$&'()*+,;=:@ must be percent-encoded in it.")
	}
	alias, err := url.PathUnescape(name)
	if err != nil {
		return use{}, badPath("The path has a percent sign that begins no escape. Write a percent sign as %25.")
	}
	u := use{alias: alias, root: usePrefix + name, plain: "/"}
	if !slash {
		return u, nil
	}
	u.below = "/" + below
	if u.plain, ok = plainBelow(u.below); !ok {
		return use{}, badPath("The path could be read in two ways: it has an empty segment, a segment of dots, an escaped slash, backslash or control character, or something that is one of these after another decoding. Write the path out plainly.")
	}
	return u, nil
}

func badPath(detail string) error { return fault.New(fault.Invalid, "malformed_request", detail) }

// onlyPathChars reports whether a path is made of what RFC 3986 allows in one (section 3.3). Others are read, normalised or cut off differently.
func onlyPathChars(path string) bool {
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/%", c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// plainBelow decodes a path below a base URL, and is false for one that is not plain to every reader.
func plainBelow(escaped string) (string, bool) {
	plain, ok := vault.RequestPath(escaped)
	if !ok {
		return "", false
	}
	segments := strings.Split(plain[1:], "/")
	for i, segment := range segments {
		if segment == "" && i < len(segments)-1 {
			return "", false // some servers take // for /
		}
		before, _, cut := strings.Cut(segment, ";")
		if cut && before == "" || before != "" && strings.Trim(before, ". \u2024\uff0e") == "" {
			return "", false // what is left of it for a server that drops parameters, or dots and blanks at the end, or makes these dots plain ones
		}
		if strings.ContainsAny(segment, "\uff0f\uff3c\u2215\u2044") {
			return "", false // slashes, to those who make characters plain
		}
	}
	return plain, true
}

// target is where a request under /use goes: the base URL, the path below it and the query, each as it came.
func (u use) target(base *url.URL, query string) *url.URL {
	escaped := strings.TrimSuffix(base.EscapedPath(), "/") + u.below
	path, err := url.PathUnescape(escaped)
	if err != nil { // the base URL was looked at when it was stored, and the rest above
		path, escaped = "/", ""
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawPath: escaped, RawQuery: query}
}

// location is where a client that wants to follow a redirect is to go: under the base URL to our door, so that the request is lent the credential again, elsewhere to the very
// place that the upstream names. A relative one is relative to where the upstream was asked; here it would lead into our own pages.
func (u use) location(base, asked *url.URL, text string) string {
	to, err := asked.Parse(text)
	if err != nil || to.Opaque != "" {
		return text
	}
	root, path := strings.TrimSuffix(base.EscapedPath(), "/"), to.EscapedPath()
	below, in := strings.CutPrefix(path, root)
	if to.User != nil || !strings.EqualFold(to.Scheme, base.Scheme) || !strings.EqualFold(to.Host, base.Host) || !in || below != "" && below[0] != '/' {
		return to.String()
	}
	if _, plain := plainBelow(below); below != "" && (!plain || !onlyPathChars(below)) {
		return to.String()
	}
	out := u.root + below
	if to.RawQuery != "" || to.ForceQuery {
		out += "?" + to.RawQuery
	}
	if to.Fragment != "" {
		out += "#" + to.EscapedFragment()
	}
	return out
}
