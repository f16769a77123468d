package provider

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
)

// maxAnswer bounds each answer. Tokens with everything around them take a few kilobytes.
const maxAnswer = 64 << 10

// reply is what came back from one address.
type reply struct {
	status int
	header http.Header
	body   []byte
	// code says why there is no answer, or why its body could not be read; "" when it was read whole.
	code string
	// sent says that bytes of the request may have left.
	sent bool
}

// tokens is an exchange at the token endpoint.
func (c *Client) tokens(ctx context.Context, p Provider, r *request) Answer {
	answer, body := c.ask(ctx, p, p.TokenURLs, r)
	if answer.Verdict != Issued {
		return answer
	}
	tokens, code := c.readTokens(p, body)
	if code != "" {
		return Answer{Verdict: Ambiguous, Code: code, Status: answer.Status, Sent: true}
	}
	answer.Tokens = tokens
	return answer
}

// ask sends a request to the addresses in turn, within one deadline. The verdict Issued says that a complete answer without an error came; body
// is then its object, nil when it was empty.
func (c *Client) ask(ctx context.Context, p Provider, addresses []string, r *request) (answer Answer, body map[string]any) {
	answer = unusable()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	// Whoever sends a token must have time for the answer: without it nobody knows whether the token is spent.
	enough := time.Now().Add(c.cfg.Timeout * 3 / 4)
	sent := false
	for _, address := range addresses {
		got := c.once(ctx, r, address)
		sent = sent || got.sent
		answer, body = c.judge(p, got)
		answer.Sent = sent
		next := got.status == http.StatusNotFound || got.status == 0 && !got.sent
		if !next || ctx.Err() != nil || time.Now().After(enough) {
			break
		}
	}
	return answer, body
}

// once sends a request to one address, once: the transport keeps no connection that could turn out to be closed, and the body cannot be had a
// second time, so nothing below repeats it.
func (c *Client) once(ctx context.Context, r *request, address string) reply {
	u, err := url.Parse(address)
	if err != nil || u.Fragment != "" {
		return reply{code: CodeUnusable}
	}
	if err := c.cfg.Policy.CheckURL(u); err != nil {
		return reply{code: CodeGuard}
	}
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}
	req, err := r.build(httptrace.WithClientTrace(ctx, trace), u)
	if err != nil {
		return reply{code: CodeUnusable}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{code: failureCode(err), sent: sent.Load()}
	}
	got := reply{status: resp.StatusCode, header: resp.Header, sent: true}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		_ = resp.Body.Close()
		got.code = CodeEncoded
		return got
	}
	if got.body, err = outbound.ReadCapped(resp, maxAnswer); err != nil {
		got.body, got.code = nil, failureCode(err)
	}
	return got
}

func (r *request) build(ctx context.Context, u *url.URL) (*http.Request, error) {
	if r.method == http.MethodGet {
		u = withQuery(u, r.fields)
		req, err := http.NewRequestWithContext(ctx, r.method, u.String(), http.NoBody)
		if err == nil {
			r.head(req)
		}
		return req, err
	}
	body, contentType, err := r.body()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil
	r.head(req)
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

func (r *request) head(req *http.Request) {
	for name, value := range r.headers {
		req.Header.Set(name, value)
	}
	if !r.authorization.IsZero() {
		req.Header.Set("Authorization", r.authorization.Reveal())
	}
	// GitHub answers with a form unless it is asked for JSON.
	req.Header.Set("Accept", "application/json")
	// A compressed answer could be far larger than what was read of it.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "Signalbox")
}

func withQuery(u *url.URL, fields url.Values) *url.URL {
	if len(fields) == 0 {
		return u
	}
	out := *u
	q := out.Query()
	for name := range fields {
		q.Set(name, fields.Get(name))
	}
	out.RawQuery = q.Encode()
	return &out
}

// failureCode is the word for a call that brought no whole answer.
func failureCode(err error) string {
	if errors.Is(err, outbound.ErrRefused) {
		return CodeGuard
	}
	switch outbound.ReasonOf(err) {
	case outbound.Oversized:
		return CodeTooLarge
	case outbound.Cancelled:
		return CodeCancelled
	case outbound.TimedOut:
		return CodeTimeout
	case outbound.Untrusted:
		return CodeTLS
	case outbound.Unreachable, outbound.NotListening, outbound.NoSuchName, outbound.Unresolved:
		return CodeDial
	}
	return CodeBroken
}
