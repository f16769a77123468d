package vault

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a request with a credential may ask for: its method, and the path below the credential's base URL.

const (
	maxMethods     = 32
	maxMethod      = 32
	maxPatterns    = 64
	maxPathPattern = 512 // bytes
)

// MethodAllowed reports whether a request of that method may be sent; an empty list admits every method but CONNECT, which has no path, and TRACE,
// which has the upstream repeat the request with the secret in it. Methods are compared as they are: they have no other case (RFC 9110, section 9.1).
func MethodAllowed(methods []string, method string) bool {
	if badMethod(method) != "" {
		return false
	}
	return len(methods) == 0 || slices.Contains(methods, method)
}

func badMethod(method string) string {
	odd := func(c rune) bool { return (c < 'A' || c > 'Z') && c != '-' && c != '_' }
	switch {
	case method == "" || len(method) > maxMethod || strings.ContainsFunc(method, odd):
		return "must be an HTTP method, such as GET or POST"
	case method == "CONNECT" || method == "TRACE" || method == "TRACK":
		return "is a method that is never used with a credential: a tunnel has no path, and a trace repeats the secret"
	}
	return ""
}

// normaliseBounds brings methods and path patterns into the form in which they are stored and compared.
func normaliseBounds(row TypeRow, m *Meta, p *problems) {
	if !row.Lends() {
		const only = "is only for types whose secret goes into a request"
		if len(m.Methods) > 0 {
			p.add("/methods", only)
		}
		if len(m.Paths) > 0 {
			p.add("/paths", only)
		}
		return
	}
	m.Methods = normaliseList(m.Methods, "/methods", maxMethods, p, func(s string) (string, string) {
		s = strings.ToUpper(s)
		return s, badMethod(s)
	})
	m.Paths = normaliseList(m.Paths, "/paths", maxPatterns, p, func(s string) (string, string) { return s, badPattern(s) })
}

// badPattern says what is wrong with a path pattern, or nothing.
func badPattern(s string) string {
	switch {
	case len(s) > maxPathPattern:
		return "is too long; at most " + number(maxPathPattern) + " bytes"
	case !strings.HasPrefix(s, "/"):
		return "must begin with a slash: it is a path below the base URL, such as /repos/*/issues"
	case !plainPath(s) || strings.ContainsAny(s, "%?#"):
		return "must be a plain path, not escaped: no percent sign, question mark, number sign, backslash, control character, empty segment, . or .."
	}
	segments := strings.Split(s[1:], "/")
	for i, seg := range segments {
		last := i == len(segments)-1
		switch {
		case seg == "" && !last: // // is no plain path; the last one is a slash at the end
			return "must not have an empty segment"
		case seg == "**" && !last:
			return "may have ** only at its end, for everything below"
		case strings.Contains(seg, "*") && seg != "*" && seg != "**":
			return "may have * only for a whole segment, and ** only at its end"
		}
	}
	return ""
}

// RequestPath decodes the escaped path of a request below the base URL, once. It is false for one that two servers could read in two ways: with an
// escaped slash, a backslash, a control character, a segment that is . or .. (also before a semicolon, which some servers cut off), or an escape
// that would be such after another decoding.
func RequestPath(escaped string) (string, bool) {
	if low := strings.ToLower(escaped); strings.Contains(low, "%2f") || strings.Contains(low, "%5c") {
		return "", false
	}
	path, err := url.PathUnescape(escaped)
	if err != nil || !strings.HasPrefix(path, "/") || !plainPath(path) {
		return "", false
	}
	return path, true
}

// plainPath reports whether a decoded path has one reading.
func plainPath(path string) bool {
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }) {
		return false
	}
	low := strings.ToLower(path)
	for _, again := range []string{"%2e", "%2f", "%5c", "%25", "%00"} {
		if strings.Contains(low, again) {
			return false
		}
	}
	for seg := range strings.SplitSeq(path, "/") {
		if seg, _, _ = strings.Cut(seg, ";"); seg == "." || seg == ".." {
			return false
		}
	}
	return true
}

// PathAllowed reports whether a request may be sent to a path below the base URL, decoded as by [RequestPath]. An empty list admits every path of one
// reading. A pattern's segments are compared as they are, * stands for one whole segment that is not empty, and /** at the end for everything below,
// but not for the path above it.
func PathAllowed(patterns []string, path string) bool {
	if !strings.HasPrefix(path, "/") || !plainPath(path) {
		return false
	}
	if len(patterns) == 0 {
		return true
	}
	segments := strings.Split(path[1:], "/")
	for i, seg := range segments {
		// A server that merges slashes, or drops what follows a semicolon, would see another path than the one that is compared.
		if before, _, cut := strings.Cut(seg, ";"); before == "" && (cut || i < len(segments)-1) {
			return false
		}
	}
	return slices.ContainsFunc(patterns, func(p string) bool { return badPattern(p) == "" && matches(strings.Split(p[1:], "/"), segments) })
}

func matches(pattern, segments []string) bool {
	for i, want := range pattern {
		if want == "**" {
			return len(segments) > i
		}
		if i >= len(segments) || want != segments[i] && (want != "*" || segments[i] == "") {
			return false
		}
	}
	return len(pattern) == len(segments)
}
