package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// router finds the operation of a request. It is used instead of [http.ServeMux] for three reasons: ServeMux refuses to hold
// "/credentials/by-client/{id}" beside "/credentials/{id}/versions", it answers an unclean path with a redirect that is no problem document,
// and with a catch-all pattern it no longer knows which methods a path has.
//
// Paths are split before they are unescaped, so an escaped slash never makes a segment. A literal segment wins over a parameter, from left
// to right, whatever the method: a word of ours is never taken for an id. HEAD is served by GET.
type router struct {
	entries []entry
	// lost answers a path that no operation has; wrong one whose operations have other methods.
	lost  http.HandlerFunc
	wrong func(http.ResponseWriter, *http.Request, []string)
}

type entry struct {
	method   string
	segments []string // "{name}" is a parameter
	handle   http.HandlerFunc
}

// HandleFunc adds "METHOD /path/{parameter}". huma's adapter calls it.
func (rt *router) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	method, path, _ := strings.Cut(pattern, " ")
	rt.entries = append(rt.entries, entry{method: method, segments: strings.Split(path, "/"), handle: handler})
}

// ServeHTTP serves the request with the operation that matches it best.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments, ok := split(r.URL.EscapedPath())
	var meant, best *entry // meant is the path, best its operation
	var methods []string
	if ok {
		for i := range rt.entries {
			if e := &rt.entries[i]; e.matches(segments) && (meant == nil || e.moreLiteral(meant)) {
				meant = e
			}
		}
	}
	if meant != nil {
		for i := range rt.entries {
			e := &rt.entries[i]
			if !e.matches(segments) || e.moreLiteral(meant) != meant.moreLiteral(e) {
				continue
			}
			methods = append(methods, e.method)
			if e.method == method {
				best = e
			}
		}
	}
	switch {
	case best != nil:
		for i, s := range best.segments {
			if name, ok := parameter(s); ok {
				r.SetPathValue(name, segments[i])
			}
		}
		best.handle(w, r)
	case len(methods) > 0:
		if slices.Contains(methods, http.MethodGet) {
			methods = append(methods, http.MethodHead)
		}
		slices.Sort(methods)
		rt.wrong(w, r, slices.Compact(methods))
	default:
		rt.lost(w, r)
	}
}

// split returns the unescaped segments of a path; false when one of them cannot be text.
func split(escaped string) ([]string, bool) {
	segments := strings.Split(escaped, "/")
	for i, s := range segments {
		u, err := url.PathUnescape(s)
		if err != nil || !plainText(u) {
			return nil, false
		}
		segments[i] = u
	}
	return segments, true
}

func (e *entry) matches(segments []string) bool {
	if len(segments) != len(e.segments) {
		return false
	}
	for i, s := range e.segments {
		if _, ok := parameter(s); ok {
			switch segments[i] {
			case "", ".", "..": // what stands between may have read them otherwise
				return false
			}
		} else if s != segments[i] {
			return false
		}
	}
	return true
}

func (e *entry) moreLiteral(than *entry) bool {
	for i := range e.segments {
		_, mine := parameter(e.segments[i])
		_, other := parameter(than.segments[i])
		if mine != other {
			return other
		}
	}
	return false
}

func parameter(segment string) (string, bool) {
	if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
		return segment[1 : len(segment)-1], true
	}
	return "", false
}
