package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/deposit"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
)

// handler sends each request to its door. The doors read the path themselves, as it was sent: a ServeMux here would answer odd paths with
// redirects.
func (a *App) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.draining.Load() {
			w.Header()["Connection"] = []string{"close"} // the next request on it would be for another instance
		}
		if a.isSealed() && r.URL.Path != "/healthz" { // until the door of a sealed server stands here
			a.sealedHandler().ServeHTTP(w, r)
			return
		}
		a.keepSSOHeader(r)
		switch door := doorOf(r.URL.Path); door {
		case "v1", "use", "mcp":
			lends := http.Handler(a.broker)
			switch door {
			case "use":
				lends = http.HandlerFunc(a.broker.ServeUse)
			case "mcp":
				lends = http.HandlerFunc(a.broker.ServeMCP)
			}
			// The broker logs what fails. A line for each success is for debugging only, and the hot path does not pay for it.
			if a.log.Enabled(r.Context(), slog.LevelDebug) {
				lends = a.logged(slog.LevelDebug, lends)
			}
			lends.ServeHTTP(w, r)
		default:
			if a.certificate != nil || a.cfg.BehindTLSProxy {
				// RFC 6797; browsers ignore it over plain http. Without includeSubDomains: other hosts are not ours to decide about.
				w.Header().Set("Strict-Transport-Security", "max-age=31536000")
			}
			// A refusal waits for the rest of the body, which a client may announce and never send. The broker sees to itself: its
			// answers last as long as they last.
			line := http.NewResponseController(w)
			_ = line.SetReadDeadline(time.Now().Add(shortRequest))
			_ = line.SetWriteDeadline(time.Now().Add(shortAnswer))
			a.short(w, r)
		}
	})
}

// doorOf returns the first segment of a path, as the path would be without its superfluous slashes and dots. The door that is meant refuses
// such a path itself, in its own shape; the pages would answer with a redirect, which a client follows without its body or its key.
func doorOf(urlPath string) string {
	if strings.HasPrefix(urlPath, "/v1/") { // the hot path
		return "v1"
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+urlPath), "/"), "/")
	return first
}

// shortRequest is how long a request that is no stream may take to come whole.
const shortRequest = time.Minute

// shortAnswer is how long the client of one may take until it has the answer: one that does not read must not hold what was made for it. What goes on for
// longer, as an export does, moves the end with each part that was taken.
const shortAnswer = 2 * time.Minute

func (a *App) short(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz":
		a.healthz(w, r)
	case r.URL.Path == "/readyz":
		a.readyz(w, r)
	case r.URL.Path == "/metrics":
		a.logged(slog.LevelDebug, http.HandlerFunc(a.metricsDoor)).ServeHTTP(w, r)
	case r.URL.Path == oauth.CallbackPath: // a page, at the address that is registered at providers
		a.logged(slog.LevelInfo, a.web).ServeHTTP(w, r)
	case doorOf(r.URL.Path) == broker.MCPTools:
		a.logged(slog.LevelInfo, http.HandlerFunc(a.broker.ServeMCPTools)).ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, broker.MCPResource):
		a.logged(slog.LevelDebug, http.HandlerFunc(a.broker.ServeMCPResource)).ServeHTTP(w, r)
	case doorOf(r.URL.Path) == "api":
		a.logged(slog.LevelInfo, a.api).ServeHTTP(w, r)
	case doorOf(r.URL.Path) == deposit.Path:
		a.logged(slog.LevelInfo, a.deposits).ServeHTTP(w, r)
	default:
		a.logged(slog.LevelInfo, a.web).ServeHTTP(w, r)
	}
}

// logged writes one line a request: never the query, a header or a body, and of the path only words of our own and ids.
func (a *App) logged(level slog.Level, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &answer{ResponseWriter: w}
		next.ServeHTTP(seen, r)
		status := seen.status
		if status == 0 {
			status = http.StatusOK
		}
		if status >= http.StatusInternalServerError && level < slog.LevelWarn {
			level = slog.LevelWarn
		}
		a.log.Log(r.Context(), level, "request", "request_id", w.Header().Get("X-Request-Id"), "method", loggedMethod(r.Method),
			"path", a.loggedPath(r.URL.Path), "status", status, "bytes", seen.bytes, "ms", time.Since(start).Milliseconds(), "ip", a.clientIP(r))
	})
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader remembers the first final status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Flush passes on; the proxy flushes each read.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController find what lies below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func loggedMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "(other)"
}

// loggedPath is the path with every segment that is neither a word of our routes nor an id of ours replaced: people paste keys into
// URLs.
func (a *App) loggedPath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if s == "" || a.words[s] {
			continue
		}
		if prefix, _, ok := strings.Cut(s, "_"); ok && len(prefix) <= 8 && store.ValidID(prefix, s) {
			continue
		}
		segments[i] = "…"
	}
	if len(segments) > 12 {
		return strings.Join(segments[:12], "/") + "/…"
	}
	return strings.Join(segments, "/")
}

// routeWords collects the words of all routes: those of the OpenAPI document and those that it does not describe.
func routeWords(document []byte) (map[string]bool, error) {
	var doc struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("read our own OpenAPI document: %w", err)
	}
	words := map[string]bool{}
	for path := range doc.Paths {
		for s := range strings.SplitSeq(path, "/") {
			if s != "" && !strings.HasPrefix(s, "{") {
				words[s] = true
			}
		}
	}
	for _, s := range []string{"api", "openapi.json", "setup", "sign-in", "sign-out", "step-up", "invite", "account", "sso", "callback", "cli", "cancel", "name", "password", "sessions", "end", "end-others", "second", "passkey", "ask", "register", "app", "confirm", "factors", "remove", "codes", "passkeys", "rename", "connect", "connections", "paste", "oauth", "assets", "passkey.js", "style.css", "icon.svg", "metrics", "v1", "messages", "count_tokens", "models", "use", "mcp", broker.MCPTools} {
		words[s] = true
	}
	return words, nil
}

// clientIP returns the address that a request came from: the peer's or, when the peer is a trusted proxy, the last address in
// X-Forwarded-For that is not one. It is for the record and for counting failures; nothing is permitted because of it.
func (a *App) clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	if len(a.cfg.TrustedProxies) == 0 {
		return host
	}
	peer, err := netip.ParseAddr(host)
	if err != nil || !a.trusted(peer) {
		return host
	}
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		hops := strings.Split(lines[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			hop, err := netip.ParseAddr(strings.TrimSpace(hops[j]))
			if err != nil { // whatever stands left of a hop that cannot be read was not written by a proxy that we trust
				return peer.Unmap().String()
			}
			if peer = hop; !a.trusted(hop) {
				return hop.Unmap().String()
			}
		}
	}
	return peer.Unmap().String()
}

func (a *App) trusted(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range a.cfg.TrustedProxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
