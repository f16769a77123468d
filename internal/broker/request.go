package broker

import (
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/train"
)

// route is a path that is proxied.
type route struct {
	methods []string
	// kind is what the path is about, "" for messages and models; id is the one it names, "" for all of the train's, and tail what of it.
	kind     train.ObjectKind
	id, tail string
}

// root is the path of all objects of the kind.
func (on route) root() string {
	if on.kind == train.Batch {
		return "/v1/messages/batches"
	}
	return "/v1/files"
}

// checkRoute lets through what is proxied and nothing else. Paths are compared as they were sent, so an encoded slash or dot is just
// another unknown path.
func checkRoute(r *http.Request) (route, error) {
	on, ok := routeOf(r.URL.EscapedPath())
	if !ok {
		return route{}, fault.New(fault.NotFound, "not_found", "Signalbox proxies /v1/messages, /v1/messages/count_tokens, /v1/messages/batches, /v1/files and /v1/models; this path is none of them. Check the base URL: it ends before /v1.")
	}
	if !slices.Contains(on.methods, r.Method) {
		return route{}, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path takes "+strings.Join(on.methods, ", ")+" only.")
	}
	return on, nil
}

// The methods of the paths.
var (
	getOnly    = []string{http.MethodGet}
	postOnly   = []string{http.MethodPost}
	getAndPost = []string{http.MethodGet, http.MethodPost}
	getAndDrop = []string{http.MethodGet, http.MethodDelete}
)

// routeOf returns what is proxied under a path.
func routeOf(path string) (route, bool) {
	switch path {
	case "/v1/messages", "/v1/messages/count_tokens":
		return route{methods: postOnly}, true
	case "/v1/models":
		return route{methods: getOnly}, true
	case "/v1/messages/batches":
		return route{methods: getAndPost, kind: train.Batch}, true
	case "/v1/files":
		return route{methods: getAndPost, kind: train.File}, true
	}
	if id, ok := strings.CutPrefix(path, "/v1/models/"); ok && isModelID(id) {
		return route{methods: getOnly}, true
	}
	on := route{methods: getAndDrop, kind: train.Batch}
	rest, ok := strings.CutPrefix(path, "/v1/messages/batches/")
	if !ok {
		on.kind = train.File
		if rest, ok = strings.CutPrefix(path, "/v1/files/"); !ok {
			return route{}, false
		}
	}
	on.id, on.tail, ok = strings.Cut(rest, "/")
	if !isObjectID(on.id) || ok && on.tail == "" {
		return route{}, false
	}
	switch {
	case on.tail == "":
	case on.kind == train.Batch && on.tail == "results", on.kind == train.File && on.tail == "content":
		on.methods = getOnly
	case on.kind == train.Batch && on.tail == "cancel":
		on.methods = postOnly
	default:
		return route{}, false
	}
	return on, true
}

// isObjectID reports whether a text can be the id of a batch or a file. Their form may change (docs.anthropic.com/en/api/files-metadata), but nothing in
// it can mean anything to a path.
func isObjectID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return false
	}
	return true
}

func isModelID(id string) bool {
	if id == "" || len(id) > 200 || strings.Contains(id, "..") || id == "." {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == ':' || c == '@' {
			continue
		}
		return false
	}
	return true
}

// clientKeys returns what may be a client key, ours first: some helpers send one key in both headers, some send a placeholder in one.
func clientKeys(h http.Header) []string {
	var keys []string
	add := func(key string) {
		if key = strings.TrimSpace(key); key == "" || len(keys) == 4 {
			return
		}
		for _, have := range keys {
			if have == key {
				return
			}
		}
		if strings.HasPrefix(key, "sbx_") {
			keys = append([]string{key}, keys...)
			return
		}
		keys = append(keys, key)
	}
	for _, v := range h["Authorization"] {
		if len(v) > 7 && strings.EqualFold(v[:7], "Bearer ") {
			add(v[7:])
		}
	}
	for _, v := range h["X-Api-Key"] {
		add(v)
	}
	return keys
}

// compressed reports whether a body comes in a coding that hides what it says. The header may have several lines and several codings a line.
func compressed(h http.Header) bool {
	for _, line := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

func trainHeader(h http.Header) string {
	if v := h["Msl-Train-Id"]; len(v) > 0 && v[0] != "" {
		return v[0]
	}
	if v := h["Msl-Project-Id"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// sessionHeader is the client's name for the conversation: ours, or the one that Claude Code sends with each request
// (code.claude.com/docs/en/llm-gateway-protocol), which goes on to the upstream as it came.
func sessionHeader(h http.Header) string {
	if v := h["Msl-Session"]; len(v) > 0 && v[0] != "" {
		return v[0]
	}
	if v := h["X-Claude-Code-Session-Id"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// dropped are the request headers that never go upstream: credentials, our own, hop-by-hop headers (RFC 9110, section 7.6.1), and
// what proxies before us add about the caller's network.
func dropped(name string) bool {
	switch name {
	case "Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization",
		"Msl-Train-Id", "Msl-Project-Id", "Msl-Account", "Msl-Session",
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect",
		"Content-Length", "Host", "Accept-Encoding",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip", "Via":
		return true
	}
	return false
}

// outgoing builds the request of one attempt. The header values are shared with the client's request and must not be changed in place.
func outgoing(r *http.Request, lease *train.Lease, body *body) (*http.Request, error) {
	base := lease.BaseURL()
	target := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: strings.TrimSuffix(base.Path, "/") + r.URL.Path, RawQuery: r.URL.RawQuery}
	header := make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		if !dropped(name) {
			header[name] = values
		}
	}
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(header, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	// The one header that we change: a compressed stream could not be passed on event by event and read for its end.
	header["Accept-Encoding"] = []string{"identity"}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = []string{""} // keeps net/http from naming itself
	}
	if _, ok := header["Anthropic-Version"]; !ok {
		header["Anthropic-Version"] = []string{"2023-06-01"}
	}
	out := &http.Request{
		Method: r.Method, URL: target, Host: base.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if body.len() > 0 {
		out.ContentLength = int64(body.len())
		out.Body = body.reader()
		// net/http sends a request again by itself when the connection turns out to be closed: always where nothing was written, and where
		// the client vouches for repetition also after that. The latter would be a second use under one intent.
		if _, vouched := r.Header["Idempotency-Key"]; !vouched {
			out.GetBody = body.again
		}
	}
	if err := lease.Apply(out); err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, err
	}
	return out.WithContext(lease.Context()), nil
}

func peerIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// logPath is the path where it is one of ours; any other, and a model's name, may be what a user pasted there.
func logPath(r *http.Request) string {
	switch path := r.URL.EscapedPath(); {
	case strings.HasPrefix(path, usePrefix):
		return "/use/…"
	case strings.HasPrefix(path, mcpPrefix):
		return "/mcp/…"
	case path == "/"+MCPTools:
		return path
	case strings.HasPrefix(path, "/v1/models/"):
		return "/v1/models/…"
	case strings.HasPrefix(path, "/v1/files/"):
		return "/v1/files/…"
	case strings.HasPrefix(path, "/v1/messages/batches/"):
		return "/v1/messages/batches/…"
	default:
		if _, ok := routeOf(path); ok {
			return path
		}
	}
	return "(unknown)"
}
