package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
)

const (
	mcpPrefix = "/mcp/"
	// MCPResource is the path below which clients learn what a server's door wants (RFC 9728, section 3.1).
	MCPResource = "/.well-known/oauth-protected-resource"
	// mcpMost is the largest message to a server.
	mcpMost = 8 << 20
	// mcpLook is how often it is looked whether the caller may go on with a request that is open.
	mcpLook = time.Second
	// mcpPatience is how long a request that is open goes on while it cannot be known whether it may.
	mcpPatience = 10 * time.Second
)

// ServeMCP serves /mcp/{server}: the Streamable HTTP transport of the Model Context Protocol (revisions 2025-06-18 and 2025-11-25) to a server that is
// registered here, with the caller's own access token for it put in.
//
// Promise: the caller's token for Signalbox does not go to the server, and the server's comes to nobody: no echo of it that package scrub knows comes
// back. What a server calls a session is worth something to the same caller with the same connection alone. The intent is durable before a byte
// leaves, with the name of a tool that is called and a digest of its arguments. A stream ends within some two seconds of the right to it.
//
// Limits: one message a request, no batches (revision 2025-06-18 took them away), of at most 8 MiB; the request goes out once more, with a fresh token,
// where the server answers 401.
func (b *Broker) ServeMCP(w http.ResponseWriter, r *http.Request) {
	b.inFlight.Add(1)
	defer b.inFlight.Add(-1)
	rid := store.NewID("req")
	w.Header()["X-Request-Id"] = []string{rid}
	if err := b.serveMCP(w, r, rid); err != nil {
		b.failMCP(w, r, rid, err)
	}
}

// mcpCall is one request at the door.
type mcpCall struct {
	server  string
	bearer  string
	caller  identity.Caller
	message message
	body    *body
}

func (b *Broker) serveMCP(w http.ResponseWriter, r *http.Request, rid string) error {
	if b.draining.Load() {
		return fault.New(fault.Unavailable, "draining", "This Signalbox instance is shutting down. Send the request again: another instance, or this one after its restart, will serve it.").After(1)
	}
	if b.closed != nil {
		return b.closed
	}
	if r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodDelete {
		w.Header()["Allow"] = []string{"GET, POST, DELETE"}
		return fault.New(fault.MethodNotAllowed, "method_not_allowed", "An MCP server is spoken to with POST, GET and DELETE.")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "empty" {
		return fault.New(fault.Forbidden, "cross_origin", "Answers under /mcp are not for browsers to show. Connect an MCP client to it.")
	}
	if from := r.Header["Origin"]; len(from) > 0 && (len(from) > 1 || !b.ownPage(r, from[0])) {
		return fault.New(fault.Forbidden, "cross_origin", "A page of another site sent this. MCP servers are not called from pages of other sites here.")
	}
	server, err := mcpServerOf(r)
	if err != nil {
		return err
	}
	if b.mcp == nil {
		return fault.New(fault.NotFound, "not_found", "This Signalbox instance serves no MCP servers.")
	}
	c := &mcpCall{server: server}
	c.caller, err = b.callerWith(r, rid, func(r *http.Request) (who identity.Caller, err error) {
		c.bearer, who, err = b.bearerOfMCP(r)
		return who, err
	})
	if err != nil {
		return err
	}
	if b.admit != nil {
		if err := b.admit(r.Context(), c.caller); err != nil {
			return err
		}
	}
	if err := b.messageOf(w, r, c); err != nil {
		return err
	}
	defer c.body.release()
	return b.lendMCP(w, r, c)
}

// mcpServerOf reads which server a path names: one segment, percent-encoded.
func mcpServerOf(r *http.Request) (string, error) {
	raw, query, _ := strings.Cut(r.RequestURI, "?")
	name, ok := strings.CutPrefix(raw, mcpPrefix)
	if r.URL.IsAbs() || r.URL.Host != "" || !ok || name == "" || strings.Contains(name, "/") || !onlyPathChars(raw) {
		return "", badPath("The address is /mcp/SERVER, with the name under which the MCP server is registered here as one percent-encoded segment.")
	}
	if query != "" || strings.ContainsRune(r.RequestURI, '#') {
		return "", badPath("The address of an MCP server takes no query here.")
	}
	server, err := url.PathUnescape(name)
	if err != nil || !mcp.ValidSlug(server) {
		return "", badPath("The address is /mcp/SERVER, with the name under which the MCP server is registered here as one percent-encoded segment.")
	}
	return server, nil
}

// bearerOfMCP is who sends a request, by a token for the API: client keys open /v1 and /use alone.
func (b *Broker) bearerOfMCP(r *http.Request) (string, identity.Caller, error) {
	lines := r.Header["Authorization"]
	if len(lines) == 0 {
		return "", identity.Caller{}, unauthenticated("No Signalbox token came with the request. Send one as \"Authorization: Bearer …\": signalbox token issue makes one with the scope mcp_connections:write.")
	}
	scheme, bearer, _ := strings.Cut(lines[0], " ")
	bearer = strings.TrimSpace(bearer)
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || bearer == "" {
		return "", identity.Caller{}, unauthenticated("The Authorization header is not one bearer token. Send \"Authorization: Bearer …\" once.")
	}
	c, err := b.identity.Bearer(r.Context(), bearer)
	if err == nil && (c.Kind == identity.KindAnonymous || c.Kind == identity.KindClientKey) {
		err = unauthenticated("This is no token of a person or service account. Send one as \"Authorization: Bearer …\".")
	}
	return bearer, c, err
}

// messageOf takes in and reads what a request carries.
func (b *Broker) messageOf(w http.ResponseWriter, r *http.Request, c *mcpCall) (err error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fault.New(fault.UnsupportedMedia, "unsupported_media", "Send the message as it is, without a Content-Encoding.")
	}
	if c.body, err = b.bodies.read(w, r, min(mcpMost, b.bodyLimit)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.body.release()
		}
	}()
	if r.Method != http.MethodPost {
		if c.body.len() > 0 {
			return fault.New(fault.Invalid, "malformed_request", "Only a POST carries a message to an MCP server.")
		}
		return checkNames(r.Header, message{})
	}
	if kinds := r.Header["Content-Type"]; len(kinds) != 1 || !isJSON(kinds[0]) {
		return fault.New(fault.UnsupportedMedia, "unsupported_media", "A message to an MCP server is application/json.")
	}
	if c.message, err = readMessage(c.body.bytes()); err != nil {
		return err
	}
	return checkNames(r.Header, c.message)
}

// lendMCP sends the request with the caller's access token in it and passes the answer on.
func (b *Broker) lendMCP(w http.ResponseWriter, r *http.Request, c *mcpCall) error {
	m := c.message
	loan, err := b.mcp.Lend(r.Context(), c.caller, c.server, mcp.Use{Method: r.Method, Call: m.method, Tool: m.tool, Arguments: m.digest, Bytes: int64(c.body.len())})
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		a, err := b.attemptMCP(w, r, c, loan)
		if err != nil {
			return err
		}
		if a.resp.StatusCode != http.StatusUnauthorized || !loan.Lends() {
			return a.pass()
		}
		_ = a.resp.Body.Close()
		a.end()
		if again {
			loan.Done(mcp.Outcome{Result: "upstream_error", Status: a.resp.StatusCode, FirstByte: a.first})
			return fault.New(fault.Conflict, "mcp_login_required", "The MCP server refused your access token, and a fresh one as well. Connect it again, then repeat the request.")
		}
		if loan, err = loan.Renew(r.Context(), mcp.Outcome{Result: "upstream_error", Status: a.resp.StatusCode, FirstByte: a.first}); err != nil {
			return err
		}
	}
}

// attemptMCP sends the request once.
func (b *Broker) attemptMCP(w http.ResponseWriter, r *http.Request, c *mcpCall, loan *mcp.Loan) (*mcpAnswer, error) {
	refused := mcp.Outcome{Result: "refused", Unsent: true}
	look, err := loan.Scrubber()
	if err != nil {
		loan.Done(refused)
		return nil, fault.New(fault.Forbidden, "not_lendable", "The access token of this connection cannot be looked for in an answer, so it is not lent here: it is too short or too long.")
	}
	sealed, session, err := sessionOf(r.Header, loan)
	if err != nil {
		loan.Done(refused)
		return nil, err
	}
	to := loan.URL()
	out := &http.Request{Method: r.Method, URL: to, Host: to.Host, Header: headersOfMCP(r.Header, session), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if c.body.len() > 0 {
		out.Body, out.ContentLength = c.body.reader(), int64(c.body.len())
	}
	if err := loan.Apply(out); err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		loan.Done(refused)
		return nil, err
	}
	started := time.Now()
	ctx, end := b.whileStanding(r.Context(), c, loan)
	resp, err := b.transport.RoundTrip(out.WithContext(ctx))
	if err != nil {
		defer end()
		return nil, settleMCP(r, ctx, loan, err)
	}
	return &mcpAnswer{broker: b, w: w, r: r, ctx: ctx, end: end, loan: loan, resp: resp, look: look, sealed: sealed, session: session, started: started, first: time.Since(started)}, nil
}

// whileStanding returns a context that ends when the caller may use the loan no longer; then [context.Cause] is a fault. The function ends the watch and waits for it.
func (b *Broker) whileStanding(parent context.Context, c *mcpCall, loan *mcp.Loan) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(mcpLook)
		defer tick.Stop()
		sure := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			who, err := b.identity.Bearer(ctx, c.bearer)
			if err == nil {
				err = loan.Stands(ctx, who)
			}
			switch f := fault.Of(err); {
			case err == nil:
				sure = time.Now()
			case ctx.Err() != nil:
				return
			case (f.Kind == fault.Unavailable || f.Kind == fault.Internal) && time.Since(sure) < mcpPatience:
			default:
				cancel(f)
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-over
	}
}

// settleMCP says what a request without an answer means.
func settleMCP(r *http.Request, ctx context.Context, loan *mcp.Loan, err error) error {
	cause, _ := fault.As(context.Cause(ctx))
	switch {
	case r.Context().Err() != nil:
		loan.Done(mcp.Outcome{Result: "client_cancelled", Unsent: unsent(err)})
		return r.Context().Err()
	case cause != nil:
		loan.Done(mcp.Outcome{Result: "revoked", Unsent: unsent(err)})
		return cause
	case errors.Is(err, outbound.ErrRefused):
		loan.Done(mcp.Outcome{Result: "refused", Unsent: true})
		return fault.New(fault.Unavailable, "upstream_unreachable", "The address of this MCP server is private or reserved, and this Signalbox may not connect to such addresses. An operator can allow it by name with SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS.").Because(outbound.ErrRefused)
	}
	loan.Done(mcp.Outcome{Result: "upstream_unreachable", Unsent: unsent(err)})
	return fault.New(fault.Unavailable, "upstream_unreachable", "The MCP server could not be reached, or broke off before it answered. Whether it did what was asked is not known unless the request changes nothing; look, then send it again.").After(5).Because(outbound.Clean(err))
}

// sessionOf opens the id of a session that a request is part of.
func sessionOf(h http.Header, loan *mcp.Loan) (sealed, id string, err error) {
	switch lines := h["Mcp-Session-Id"]; {
	case len(lines) == 0:
		return "", "", nil
	case len(lines) == 1:
		sealed = lines[0]
	}
	id, err = loan.OpenSession(sealed)
	if errors.Is(err, mcp.ErrSession) {
		// 404 is what makes a client begin a new one (2025-11-25, Streamable HTTP, session management).
		err = fault.New(fault.NotFound, "not_found", "There is no such session: it has ended, or it is somebody else's. Begin a new one with initialize.")
	}
	return sealed, id, err
}

// headersOfMCP are the headers that go to a server: those of the transport, and no others.
func headersOfMCP(in http.Header, session string) http.Header {
	out := http.Header{"Accept-Encoding": {"identity"}, "User-Agent": {"signalbox"}}
	for name, values := range in {
		switch name {
		case "Accept", "Content-Type", "Mcp-Protocol-Version", "Last-Event-Id", "Mcp-Method", "Mcp-Name", "Traceparent", "Tracestate":
			out[name] = values
		default:
			if strings.HasPrefix(name, "Mcp-Param-") && len(values) == 1 { // arguments of a tool that a server wants to see in headers, too; it compares them itself
				out[name] = values
			}
		}
	}
	if session != "" {
		out["Mcp-Session-Id"] = []string{session}
	}
	return out
}

// wireRPC is an error as JSON-RPC tells it. It answers no id: it is about the request of HTTP.
type wireRPC struct {
	Version string  `json:"jsonrpc"`
	ID      *string `json:"id"`
	Error   struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Code      string `json:"code"`
			RequestID string `json:"request_id"`
		} `json:"data"`
	} `json:"error"`
}

// failMCP answers with err. Nothing of another answer may have been sent.
func (b *Broker) failMCP(w http.ResponseWriter, r *http.Request, rid string, err error) {
	if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
		abort(w)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftover))
	f := fault.Of(err)
	b.countRefusal(f.Code)
	status := statusOf(f)
	if f.Code == "upstream_answer" {
		status = http.StatusBadGateway
	}
	h := w.Header()
	if f.Kind == fault.Unauthenticated {
		challenge := `Bearer realm="Signalbox"`
		if server, err := mcpServerOf(r); err == nil {
			challenge += `, resource_metadata="` + b.origin(r) + MCPResource + mcpPrefix + url.PathEscape(server) + `"`
		}
		if len(r.Header["Authorization"]) > 0 {
			challenge += `, error="invalid_token"`
		}
		h["Www-Authenticate"] = []string{challenge}
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	ownHeaders(h)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	out := wireRPC{Version: "2.0"}
	out.Error.Code, out.Error.Message = codeOfRPC(f), f.Detail
	out.Error.Data.Code, out.Error.Data.RequestID = f.Code, rid
	text, merr := json.Marshal(out)
	if merr != nil { // strings always marshal
		text = []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that is gone needs no answer
	b.logFailure(r.Context(), r, rid, f)
}

// codeOfRPC is the code of JSON-RPC 2.0 (section 5.1) that is nearest.
func codeOfRPC(f *fault.Error) int {
	switch f.Code {
	case "malformed_json":
		return -32700
	case "malformed_request", "validation_failed":
		return -32600
	case "internal":
		return -32603
	}
	return -32000
}

// origin is where browsers and clients reach this instance, without a slash at its end.
func (b *Broker) origin(r *http.Request) string {
	if b.publicURL != nil {
		return strings.TrimSuffix(b.publicURL.Scheme+"://"+b.publicURL.Host, "/")
	}
	scheme := "http"
	if b.secure || r.TLS != nil {
		scheme = "https"
	}
	host := r.Host
	if strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-:[]", c))
	}) {
		host = "invalid"
	}
	return scheme + "://" + host
}

// ownPage reports whether a page of this instance sent a request. Where nobody has told how this instance is reached, a name proves nothing: whoever owns one can
// have it lead here (DNS rebinding). Only an address, or localhost, is no name.
func (b *Broker) ownPage(r *http.Request, from string) bool {
	if from != b.origin(r) {
		return false
	}
	if b.publicURL != nil {
		return true
	}
	u, err := url.Parse(from)
	return err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()) != nil)
}

// ServeMCPResource tells clients what the door of an MCP server wants (RFC 9728). It says the same of every name, whether there is such a server or not.
func (b *Broker) ServeMCPResource(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Request-Id"] = []string{store.NewID("req")}
	ownHeaders(h)
	h.Set("Cache-Control", "no-store")
	name, ok := strings.CutPrefix(r.URL.EscapedPath(), MCPResource+mcpPrefix)
	server, err := url.PathUnescape(name)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case !ok || err != nil || strings.Contains(name, "/") || !mcp.ValidSlug(server) || b.closed != nil:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	text, err := json.Marshal(map[string]any{
		"resource": b.origin(r) + mcpPrefix + url.PathEscape(server), "resource_name": "Signalbox", "bearer_methods_supported": []string{"header"},
		"scopes_supported": []string{string(identity.MCPConnect)},
	})
	if err != nil { // strings always marshal
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(text) // a client that is gone needs no answer
	}
}
