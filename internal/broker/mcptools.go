package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/store"
)

// MCPTools is the path at which the tools of a server are listed.
const MCPTools = "list-mcp-tools"

const (
	toolsMost  = 1000             // tools of one server that are told
	toolsBytes = 4 << 20          // of one answer of the server
	toolsWait  = 20 * time.Second // for all of it
)

// ServeMCPTools serves GET /list-mcp-tools?mcpServerId=…: the tools that a server offers the caller, as the callers of the deposit know it: {"tools":[…]},
// 404 for a server that is not known, 409 {"awaitingInputReason":"needs-oauth-reauth","mcpServerId"} where the person has to connect, 503 for a server that
// does not answer. Each request that it takes to find out is on record.
//
// Limits: 1000 tools, 4 MiB an answer, 20 seconds.
func (b *Broker) ServeMCPTools(w http.ResponseWriter, r *http.Request) {
	rid := store.NewID("req")
	h := w.Header()
	h["X-Request-Id"] = []string{rid}
	ownHeaders(h)
	h.Set("Cache-Control", "no-store")
	tools, server, err := b.listTools(r, rid, h)
	if err == nil {
		answerTools(w, http.StatusOK, map[string]any{"tools": tools})
		return
	}
	f := fault.Of(err)
	b.countRefusal(f.Code)
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	said := map[string]any{"error": f.Detail}
	status := statusOf(f)
	switch {
	case f.Kind == fault.Unauthenticated, f.Code == "scope_missing", f.Code == "forbidden":
		status, said = http.StatusUnauthorized, map[string]any{"error": "Unauthorized"}
	case f.Code == "mcp_login_required", f.Code == "mcp_scope_missing":
		status, said = http.StatusConflict, map[string]any{"awaitingInputReason": "needs-oauth-reauth", "mcpServerId": server}
	case f.Code == "encryption_key_missing":
		said = map[string]any{"code": "executor_encryption_key_missing"}
	}
	answerTools(w, status, said)
	b.logFailure(r.Context(), r, rid, f)
}

func answerTools(w http.ResponseWriter, status int, what any) {
	text, err := json.Marshal(what)
	if err != nil { // a server's schema that cannot be written out again
		status, text = http.StatusServiceUnavailable, []byte(`{"error":"The MCP server's tools cannot be told."}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that is gone needs no answer
}

func (b *Broker) listTools(r *http.Request, rid string, h http.Header) (tools []*sdk.Tool, server string, err error) {
	if b.closed != nil {
		return nil, "", b.closed
	}
	if r.Method != http.MethodGet {
		h.Set("Allow", "GET")
		return nil, "", fault.New(fault.MethodNotAllowed, "method_not_allowed", "This takes GET alone.")
	}
	if r.URL.Path != "/"+MCPTools {
		return nil, "", fault.New(fault.NotFound, "not_found", "Not found. Ask GET /"+MCPTools+"?mcpServerId=….")
	}
	c := &mcpCall{}
	c.caller, err = b.callerWith(r, rid, func(r *http.Request) (who identity.Caller, err error) {
		c.bearer, who, err = b.bearerOfMCP(r)
		return who, err
	})
	if err != nil {
		return nil, "", err
	}
	if _, err := mcp.Subject(c.caller); err != nil {
		return nil, "", b.mcp.Refuse(r.Context(), c.caller, err)
	}
	if b.admit != nil {
		if err := b.admit(r.Context(), c.caller); err != nil {
			return nil, "", err
		}
	}
	query := r.URL.Query()
	if ids := query["mcpServerId"]; len(query) != 1 || len(ids) != 1 || !mcp.ValidSlug(ids[0]) {
		return nil, "", fault.New(fault.Invalid, "malformed_request", "Name the server once, as mcpServerId in the query, and nothing else.")
	}
	c.server = query.Get("mcpServerId")
	s, err := b.mcp.Server(c.server)
	if err != nil {
		return nil, c.server, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), toolsWait)
	defer cancel()
	by := &lender{broker: b, call: c}
	tools, err = toolsOf(ctx, s.URL, by)
	if f := by.refused.Load(); f != nil && err != nil {
		err = f
	} else if _, ours := fault.As(err); err != nil && !ours {
		err = fault.New(fault.Unavailable, "upstream_answer", "The MCP server did not tell its tools. Try again; an operator finds the cause in the log under the request id.").Because(errNoTools)
	}
	return tools, c.server, err
}

var errNoTools = errors.New("the MCP server's answers are none that the protocol knows, came too late, or are too much")

// toolsOf asks a server for its tools, by the official SDK's client.
func toolsOf(ctx context.Context, address string, by http.RoundTripper) ([]*sdk.Tool, error) {
	c := sdk.NewClient(&sdk.Implementation{Name: "signalbox", Version: "1"}, &sdk.ClientOptions{Capabilities: &sdk.ClientCapabilities{}})
	session, err := c.Connect(ctx, &sdk.StreamableClientTransport{
		Endpoint: address, DisableStandaloneSSE: true, MaxRetries: -1, MaxEventSize: toolsBytes,
		HTTPClient: outbound.Over(by),
	}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = session.Close() }()
	tools := []*sdk.Tool{}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
		if len(tools) == toolsMost {
			return nil, errNoTools
		}
		tools = append(tools, tool)
	}
	return tools, nil
}

// lender sends requests of a client of our own to a server, each with a loan of its own.
type lender struct {
	broker  *Broker
	call    *mcpCall
	refused atomic.Pointer[fault.Error] // why a request was not sent or its answer not taken; none is sent after that
}

// RoundTrip implements http.RoundTripper.
func (l *lender) RoundTrip(req *http.Request) (*http.Response, error) {
	if f := l.refused.Load(); f != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, f
	}
	resp, err := l.send(req)
	if f, ok := fault.As(err); ok {
		l.refused.CompareAndSwap(nil, f)
	}
	return resp, err
}

func (l *lender) send(req *http.Request) (*http.Response, error) {
	var text []byte
	if req.Body != nil {
		var err error
		text, err = io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	use := mcp.Use{Method: req.Method, Bytes: int64(len(text))}
	if len(text) > 0 {
		m, err := readMessage(text)
		if err != nil {
			return nil, err
		}
		use.Call = m.method
	}
	ctx := req.Context()
	loan, err := l.broker.mcp.Lend(ctx, l.call.caller, l.call.server, use)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		started := time.Now()
		to := loan.URL()
		out := &http.Request{Method: req.Method, URL: to, Host: to.Host, Header: headersOfMCP(req.Header, req.Header.Get("Mcp-Session-Id")), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		if len(text) > 0 {
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		}
		if err := loan.Apply(out); err != nil {
			loan.Done(mcp.Outcome{Result: "refused", Unsent: true})
			return nil, err
		}
		resp, err := l.broker.transport.RoundTrip(out.WithContext(ctx))
		if err != nil {
			return nil, settleMCP(req, ctx, loan, err)
		}
		o := mcp.Outcome{Result: "ok", Status: resp.StatusCode, FirstByte: time.Since(started)}
		if resp.StatusCode >= http.StatusBadRequest {
			o.Result = "upstream_error"
		}
		if resp.StatusCode != http.StatusUnauthorized || !loan.Lends() {
			return l.take(resp, loan, o)
		}
		_ = resp.Body.Close()
		if again {
			loan.Done(o)
			return nil, fault.New(fault.Conflict, "mcp_login_required", "The MCP server refused your access token, and a fresh one as well. Connect it again, then repeat the request.")
		}
		if loan, err = loan.Renew(ctx, o); err != nil {
			return nil, err
		}
	}
}

// take makes an answer one that a client of ours may read: bounded, and without the token that was lent.
func (l *lender) take(resp *http.Response, loan *mcp.Loan, o mcp.Outcome) (*http.Response, error) {
	refuse := func(err error) (*http.Response, error) {
		_ = resp.Body.Close()
		if o.Result == "ok" {
			o.Result = "refused"
		}
		loan.Done(o)
		return nil, err
	}
	a := &mcpAnswer{broker: l.broker, loan: loan, resp: resp}
	if err := a.refusal(); err != nil {
		return refuse(err)
	}
	look, err := loan.Scrubber()
	if err != nil {
		return refuse(errMCPAnswer(outbound.Clean(err)))
	}
	came := newLimitedTo(resp.Body, toolsBytes, toolsWait, toolsWait)
	body, _, err := scrub.Decode(came, resp.Header["Content-Encoding"])
	if err != nil {
		came.stop()
		return refuse(errMCPAnswer(err))
	}
	header := http.Header{}
	for _, name := range [...]string{"Content-Type", "Mcp-Session-Id", "Retry-After"} {
		if values := resp.Header[name]; len(values) > 0 {
			header[name] = values[:1]
		}
	}
	if look != nil {
		body = look.Reader(body)
	}
	whole := resp.Body
	return &http.Response{
		Status: resp.Status, StatusCode: resp.StatusCode, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, ContentLength: -1, Request: resp.Request,
		Body: &lentBody{Reader: body, end: func(n int64) {
			came.stop()
			_ = whole.Close()
			o.Bytes = n
			loan.Done(o)
		}},
	}, nil
}

// lentBody is an answer's body whose loan ends with it.
type lentBody struct {
	io.Reader
	read int64
	end  func(read int64)
}

// Read implements io.Reader.
func (b *lentBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *lentBody) Close() error {
	b.end(b.read)
	return nil
}
