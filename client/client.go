// Package client is the Go client of Signalbox's REST API, with its wire types.
//
// Promise: one method an operation (PUT does what PATCH does and has none), typed in and out; a refusal is an [*Error] with the server's
// stable code. The client never repeats a call by itself, follows no redirect (a redirect could carry the token elsewhere), reads at most
// [MaxReply] bytes of an answer (an export is streamed) and never prints the token: printing a [Client] shows its address only.
//
// Limits: secrets in requests and answers are plain strings; the caller owns their life. Times are UTC with microseconds.
//
// Invariants: the package imports the standard library only, so that other programs can use it without the server's dependencies.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxReply is the most that the client reads of an answer, in bytes.
const MaxReply = 16 << 20

// Client speaks to one Signalbox server. It is safe for concurrent use. Make it with [New].
type Client struct {
	base string
	http *http.Client
	// authorize holds the token behind a function, where printers do not find it.
	authorize func(context.Context, http.Header) error
	agent     string
	once      string // the Idempotency-Key of POST requests
	ifMatch   string // the If-Match of PATCH, PUT and DELETE requests
	prove     func(context.Context) error
}

// Option changes how a [Client] works.
type Option func(*Client)

// WithHTTPClient sets the HTTP client. Its CheckRedirect is not used: the client follows no redirect.
func WithHTTPClient(h *http.Client) Option {
	return func(c *Client) {
		own := *h
		c.http = &own
	}
}

// WithUserAgent sets the User-Agent that the server records with each act.
func WithUserAgent(agent string) Option {
	return func(c *Client) { c.agent = agent }
}

// WithStepUp has prove called when the server asks for a fresh proof of who is signed in (403 "step_up_required"), such as by [Client.StepUp] of another
// client. When it returns nil the call is sent once more; otherwise the call fails with its error. It is never called for what prove itself sends.
func WithStepUp(prove func(context.Context) error) Option {
	return func(c *Client) { c.prove = prove }
}

// WithTokens makes the client ask source for the token of each request, in place of one that stays the same: for tokens that expire. When source
// fails, nothing is sent and the call fails with its error.
func WithTokens(source func(context.Context) (string, error)) Option {
	return func(c *Client) {
		c.authorize = func(ctx context.Context, h http.Header) error {
			token, err := source(ctx)
			if err == nil {
				h.Set("Authorization", "Bearer "+token)
			}
			return err
		}
	}
}

// New returns a client of the server at base ("http://127.0.0.1:8420") that signs in with a personal access token. With an empty token
// only the public routes work. A base that is no http or https URL shows as an error of the first call.
func New(base, token string, opts ...Option) *Client {
	c := &Client{
		base:      strings.TrimRight(base, "/"),
		http:      &http.Client{Timeout: 2 * time.Minute},
		agent:     "signalbox-go",
		authorize: func(context.Context, http.Header) error { return nil },
	}
	if token != "" {
		c.authorize = func(_ context.Context, h http.Header) error {
			h.Set("Authorization", "Bearer "+token)
			return nil
		}
	}
	for _, o := range opts {
		o(c)
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// Idempotent returns a client that sends key as the Idempotency-Key of each POST: for 24 hours the server carries the same request out once
// and answers a repeated one alike, so that a call whose answer was lost can be made again. Use a new random key for each act. What shows a
// secret once is refused when it is repeated, with the code already_issued and the id of what was issued.
func (c *Client) Idempotent(key string) *Client {
	own := *c
	own.once = key
	return &own
}

// IfMatch returns a client that sends tag, the ETag of what was read, with each change and deletion: the server refuses it with etag_mismatch
// when that is no longer the current state. A patch's own IfMatch goes before it.
func (c *Client) IfMatch(tag string) *Client {
	own := *c
	own.ifMatch = tag
	return &own
}

// call is one request.
type call struct {
	method, path string
	query        url.Values
	body         any
	ifMatch      string
}

// answer is what the client keeps of a reply besides its body.
type answer struct {
	status int
	etag   string
}

// do sends the call and decodes a 2xx body into out (nil: the body is not wanted).
func (c *Client) do(ctx context.Context, k call, out any) (answer, error) {
	req, err := c.request(ctx, k)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("reach Signalbox: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
	if err != nil {
		return answer{}, fmt.Errorf("read Signalbox's answer: %w", err)
	}
	if len(body) > MaxReply {
		return answer{}, fmt.Errorf("read Signalbox's answer: it is over %d bytes", MaxReply)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		err := readError(resp, body)
		if refused := (*Error)(nil); c.prove != nil && errors.As(err, &refused) && refused.Status == http.StatusForbidden && refused.Code == "step_up_required" {
			if err := c.prove(ctx); err != nil {
				return answer{}, err
			}
			again := *c
			again.prove = nil
			return again.do(ctx, k, out)
		}
		return answer{}, err
	}
	if out != nil {
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" {
			return answer{}, fmt.Errorf("read Signalbox's answer: its type is %q, not application/json; is %s a Signalbox server?", kind, c.base)
		}
		if err := json.Unmarshal(body, out); err != nil {
			// The decoder's text may quote the body, and that may hold a secret.
			return answer{}, errors.New("read Signalbox's answer: it is not the JSON that this client knows; client and server may be of different versions")
		}
	}
	return answer{status: resp.StatusCode, etag: resp.Header.Get("ETag")}, nil
}

func (c *Client) request(ctx context.Context, k call) (*http.Request, error) {
	target, err := url.Parse(c.base + k.path)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("the address of the Signalbox server must look like http://127.0.0.1:8420")
	}
	target.RawQuery = k.query.Encode()
	var body io.Reader
	if k.body != nil {
		b, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target.String(), body)
	if err != nil {
		return nil, errors.New("the address of the Signalbox server is not a URL")
	}
	if err := c.authorize(ctx, req.Header); err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.once != "" && k.method == http.MethodPost {
		req.Header.Set("Idempotency-Key", c.once)
	}
	if k.ifMatch == "" && (k.method == http.MethodPatch || k.method == http.MethodPut || k.method == http.MethodDelete) {
		k.ifMatch = c.ifMatch
	}
	if k.ifMatch != "" {
		req.Header.Set("If-Match", k.ifMatch)
	}
	return req, nil
}

// path joins segments, each escaped, so that a name can never change the route.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/api")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}
