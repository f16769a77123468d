// Package deposit is the door at which programs hand over what refreshes their people's tokens for MCP servers: /mcp-oauth-credentials.
//
// Promise: names of fields, statuses and bodies are those that the callers of the door know from elsewhere: {"stored":true}, 204,
// {"error":"Unauthorized"}, {"error":"Invalid request body — path: message; …"} and, without a key to seal with,
// {"code":"executor_encryption_key_missing"}.
//
// Limits: it keeps nothing and decides nothing about connections; package mcp does. A body has 256 KiB at most.
//
// Invariants: who deposits comes from the bearer token alone. An answer repeats nothing that was sent, not even the name of a field that is
// not known. What is refused is refused before anything is stored.
package deposit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/store"
)

// Path is the first segment of what this door answers.
const Path = "mcp-oauth-credentials"

// Config is what a [Door] is made of. MCP, Identity and DB are required unless it is closed.
type Config struct {
	MCP      *mcp.Room
	Identity *identity.Room
	DB       *store.DB
	// Admit refuses a caller who asks too often.
	Admit func(context.Context, identity.Caller) error
	// ClientIP tells where a request comes from; nil means the connection's other end.
	ClientIP func(*http.Request) string
	Log      *slog.Logger
	// Closed, when it is not nil, is why nothing is served.
	Closed error
	// ReadOnly says that nothing is changed.
	ReadOnly bool
}

// Door is the handler of the path. Make it with [New].
type Door struct{ cfg Config }

// New returns a door.
func New(cfg Config) (*Door, error) {
	if cfg.Closed == nil && (cfg.MCP == nil || cfg.Identity == nil || cfg.DB == nil) {
		return nil, errors.New("deposit: the room of MCP servers, identity and a database are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Door{cfg}, nil
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := store.NewID("req")
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if err := d.serve(w, r, id); err != nil {
		d.refuse(w, r, id, err)
	}
}

func (d *Door) serve(w http.ResponseWriter, r *http.Request, id string) error {
	if d.cfg.Closed != nil {
		return d.cfg.Closed
	}
	server, one, ok := serverOf(r.URL)
	want := http.MethodPost
	if one {
		want = http.MethodDelete
	}
	switch {
	case !ok:
		return fault.New(fault.NotFound, "not_found", "Not found. Deposit with POST /"+Path+", and delete with DELETE /"+Path+"/{mcpServerId}.")
	case r.Method != want:
		w.Header().Set("Allow", want)
		return fault.New(fault.MethodNotAllowed, "method_not_allowed", "This takes "+want+" alone.")
	}
	caller, err := d.caller(r, id)
	if err != nil {
		return err
	}
	if _, err := mcp.Subject(caller); err != nil {
		return d.cfg.MCP.Refuse(r.Context(), caller, err)
	}
	if d.cfg.Admit != nil {
		if err := d.cfg.Admit(r.Context(), caller); err != nil {
			return err
		}
	}
	if d.cfg.ReadOnly {
		return fault.New(fault.Forbidden, "read_only", "This Signalbox is read-only (--read-only), so nothing was changed.")
	}
	if one {
		if err := d.cfg.MCP.Disconnect(r.Context(), caller, server); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	text, err := body(w, r)
	if err != nil {
		return err
	}
	deposit, bad, whole := read(text)
	if whole { // one answer tells everything: what the form of a field left open is looked at too
		for _, f := range d.cfg.MCP.Check(deposit) {
			if !bad.has(f.Pointer) {
				bad.add(f.Pointer, f.Message)
			}
		}
	}
	if len(bad) > 0 {
		return bad
	}
	if err := d.cfg.MCP.TakeDeposit(r.Context(), caller, deposit); err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]bool{"stored": true})
	return nil
}

// serverOf reads which server a path names; one says that it names one.
func serverOf(u *url.URL) (server string, one, ok bool) {
	rest, is := strings.CutPrefix(u.EscapedPath(), "/"+Path)
	if !is {
		return "", false, false
	}
	if rest == "" {
		return "", false, true
	}
	segment, is := strings.CutPrefix(rest, "/")
	if !is || segment == "" || strings.Contains(segment, "/") {
		return "", false, false
	}
	server, err := url.PathUnescape(segment)
	return server, true, err == nil && utf8.ValidString(server)
}

// caller finds out who asks.
func (d *Door) caller(r *http.Request, id string) (identity.Caller, error) {
	refused := fault.New(fault.Unauthenticated, "unauthenticated", "Unauthorized")
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return identity.Caller{}, refused
	}
	ip := d.ip(r)
	scheme, bearer, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return identity.Caller{}, refused
	}
	c, err := d.cfg.Identity.Bearer(r.Context(), strings.TrimSpace(bearer))
	if err == nil && c.Kind == identity.KindAnonymous {
		err = refused
	}
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = d.cfg.Identity.Refuse(r.Context(), ip, identity.FailedToken, err)
		}
		return identity.Caller{}, err
	}
	// What identity knows is as old as the news from the database: a revocation elsewhere must be obeyed within a second.
	if err := d.cfg.DB.Fresh(r.Context()); err != nil {
		return identity.Caller{}, err
	}
	c.RequestID, c.IP, c.UserAgent = id, ip, r.UserAgent()
	return c, nil
}

func (d *Door) ip(r *http.Request) string {
	if d.cfg.ClientIP != nil {
		return d.cfg.ClientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// maxBody is how long a body may be.
const maxBody = 256 << 10

func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, fault.New(fault.UnsupportedMedia, "unsupported_media", "Send the body as it is, without a Content-Encoding.")
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, fault.New(fault.TooLarge, "body_too_large", "The body is longer than 256 KiB.")
	case err != nil:
		return nil, findings{{"body", "did not come whole"}}
	}
	return text, nil
}

// refuse answers in the shape that the callers of this door know.
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, id string, err error) {
	var bad findings
	if errors.As(err, &bad) {
		answer(w, http.StatusBadRequest, map[string]string{"error": bad.Error()})
		return
	}
	f := fault.Of(err)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	switch {
	case f.Code == "encryption_key_missing":
		answer(w, http.StatusServiceUnavailable, map[string]string{"code": "executor_encryption_key_missing"})
	case f.Kind == fault.Unauthenticated, f.Kind == fault.Forbidden && f.Code != "read_only":
		answer(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
	case f.Kind == fault.Internal:
		d.cfg.Log.ErrorContext(r.Context(), "a deposit failed", "request_id", id, "cause", err)
		answer(w, http.StatusInternalServerError, map[string]string{"error": "Signalbox failed to handle this. The request id leads to the cause in the server's log."})
	default:
		answer(w, f.Kind.Status(), map[string]string{"error": f.Detail})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // maps of texts and truths have no way to fail
		status, text = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have gone
}
