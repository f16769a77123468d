package broker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/scrub"
)

// What one answer of an MCP server may take. A server may have nothing to say on a stream for long.
const (
	mcpBytes = 1 << 30
	mcpQuiet = time.Hour
	mcpWhole = 12 * time.Hour
)

// mcpAnswer is an answer of an MCP server on its way to the caller.
type mcpAnswer struct {
	broker  *Broker
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context // of the loan
	end     func()
	loan    *mcp.Loan
	resp    *http.Response
	look    *scrub.Scrubber // nil where nothing was lent
	sealed  string          // the session as the caller names it, and as the server does
	session string
	started time.Time
	first   time.Duration
}

// pass passes the answer on and settles the loan. It returns an error only when nothing was sent.
func (a *mcpAnswer) pass() error {
	o := mcp.Outcome{Result: "ok", Status: a.resp.StatusCode, FirstByte: a.first}
	if a.resp.StatusCode >= http.StatusBadRequest {
		o.Result = "upstream_error"
	}
	defer func() {
		_ = a.resp.Body.Close()
		a.end()
		a.loan.Done(o)
	}()
	if err := a.refusal(); err != nil {
		if o.Result == "ok" {
			o.Result = "refused"
		}
		return err
	}
	came := newLimitedTo(a.resp.Body, mcpBytes, mcpQuiet, mcpWhole)
	defer came.stop()
	body, changed, err := scrub.Decode(came, a.resp.Header["Content-Encoding"])
	if err != nil {
		o.Result = "refused"
		return errMCPAnswer(err)
	}
	if err := a.headers(changed); err != nil {
		o.Result = "refused"
		return err
	}
	if a.look != nil {
		body = a.look.Reader(body)
	}
	a.w.WriteHeader(a.resp.StatusCode)
	// A client that does not read must not outlive its right.
	line := http.NewResponseController(a.w)
	hurried := make(chan struct{})
	stop := context.AfterFunc(a.ctx, func() {
		defer close(hurried)
		_ = line.SetWriteDeadline(time.Now().Add(cutPatience))
	})
	pool := &replyBuffers
	if isEventStream(a.resp.Header) {
		pool = &streamBuffers
	}
	var end ending
	o.Bytes, end = copyBody(a.w, body, pool, true, false, ears{})
	if !stop() {
		<-hurried
		_ = line.SetWriteDeadline(time.Time{}) // the connection may serve another request
	}
	if end != clean {
		o.Result = a.broken(end, came.err())
		abort(a.w)
	}
	return nil
}

// broken says what became of an answer that did not come to its end.
func (a *mcpAnswer) broken(end ending, why error) string {
	_, cut := fault.As(context.Cause(a.ctx))
	rid := a.w.Header().Get("X-Request-Id")
	switch {
	case a.r.Context().Err() != nil:
		return "client_cancelled"
	case cut:
		return "revoked"
	case errors.Is(why, errTooMuch), errors.Is(why, errTooLong):
		a.broker.log.Warn("an answer under /mcp was broken off: it was over 1 GiB, took over twelve hours, or paused for over one", "request_id", rid)
		return "refused"
	case end == clientGone:
		return "client_cancelled"
	}
	if why != nil {
		a.broker.log.Info("an MCP server broke off its answer", "request_id", rid, "cause", outbound.Clean(why).Error())
	}
	return "upstream_broke"
}

// refusal says why an answer is not passed on: what it says is for a client that speaks to the server itself, or nothing that the protocol knows.
func (a *mcpAnswer) refusal() error {
	status, kind := a.resp.StatusCode, a.resp.Header.Get("Content-Type")
	switch {
	case status < http.StatusOK || status >= 300 && status < 400:
		return fault.New(fault.Unavailable, "upstream_answer", "The MCP server did not answer, but named another address. An operator of this Signalbox registers the server under the address that answers.")
	case status == http.StatusUnauthorized:
		return fault.New(fault.Unavailable, "upstream_answer", "The MCP server wants a login, but is registered here as one that wants none. An operator of this Signalbox can change that.")
	case status == http.StatusForbidden:
		if scopes, short := missingScopes(a.resp.Header["Www-Authenticate"]); short {
			text := "Your connection to this MCP server lacks what this request needs."
			if scopes != "" {
				text += " The server asks for: " + scopes + "."
			}
			return fault.New(fault.Forbidden, "mcp_scope_missing", text+" Connect it again with that, then repeat the request.")
		}
	}
	if isJSON(kind) || isEventStream(http.Header{"Content-Type": {kind}}) {
		return nil
	}
	switch {
	case status >= http.StatusBadRequest: // a page of whatever stands before the server, or nothing
		a.resp.Body = emptied{a.resp.Body}
		a.resp.Header = http.Header{}
		a.resp.ContentLength = 0
		return nil
	case a.resp.ContentLength == 0 || status == http.StatusAccepted || status == http.StatusNoContent:
		a.resp.Body = emptied{a.resp.Body}
		a.resp.ContentLength = 0
		delete(a.resp.Header, "Content-Type")
		delete(a.resp.Header, "Content-Encoding")
		return nil
	}
	return errMCPAnswer(errMCPKind)
}

// emptied is a body of which nothing is passed on.
type emptied struct{ io.Closer }

// Read implements io.Reader.
func (emptied) Read([]byte) (int, error) { return 0, io.EOF }

// headers passes on the headers of the transport, and no others.
func (a *mcpAnswer) headers(decoded bool) error {
	theirs := http.Header{}
	for _, name := range [...]string{"Content-Type", "Cache-Control", "Retry-After", "Mcp-Protocol-Version", "Allow"} {
		if values := a.resp.Header[name]; len(values) > 0 {
			theirs[name] = append([]string(nil), values...)
		}
	}
	if a.look != nil {
		a.look.Header(theirs)
	}
	h := a.w.Header()
	for name, values := range theirs {
		h[name] = values
	}
	if len(h["Cache-Control"]) == 0 {
		h["Cache-Control"] = []string{"no-store"}
	}
	switch ids := a.resp.Header["Mcp-Session-Id"]; {
	case len(ids) == 0:
	case len(ids) > 1 || ids[0] == "" || len(ids[0]) > 4096:
		return errMCPAnswer(errMCPSession)
	case ids[0] == a.session:
		h["Mcp-Session-Id"] = []string{a.sealed}
	default:
		sealed, err := a.loan.SealSession(ids[0])
		if err != nil {
			return err
		}
		h["Mcp-Session-Id"] = []string{sealed}
	}
	if !decoded && a.resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(a.resp.ContentLength, 10)}
	}
	ownHeaders(h)
	return nil
}

var errMCPSession = errors.New("the answer names a session in a way that is none")

func errMCPAnswer(cause error) error {
	return fault.New(fault.Unavailable, "upstream_answer", "The MCP server's answer is none that the protocol knows, or cannot be looked into for the token that was lent, so it is not passed on. What the request asked for may have been done; look before sending it again.").Because(cause)
}

// missingScopes reads from the challenges of an answer (RFC 6750, section 3) whether scopes were missing, and which. What is no scope (RFC 6749, section 3.3)
// is left out, and so is what is too much.
func missingScopes(challenges []string) (scopes string, short bool) {
	for _, line := range challenges {
		if !strings.Contains(line, "insufficient_scope") {
			continue
		}
		short = true
		_, rest, ok := strings.Cut(line, `scope="`)
		list, _, closed := strings.Cut(rest, `"`)
		if !ok || !closed || len(list) > 1024 {
			continue
		}
		var kept []string
		for s := range strings.FieldsSeq(list) {
			if len(s) <= 128 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
				kept = append(kept, s)
			}
		}
		return strings.Join(kept, " "), true
	}
	return "", short
}
