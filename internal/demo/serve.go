package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody is the real API's limit on a request.
	maxBody = 32 << 20
	// maxPooled is the largest body buffer that is kept for the next request.
	maxPooled = 1 << 20
	// oauthBeta must stand in anthropic-beta for an OAuth token to be accepted.
	oauthBeta = "oauth-2025-04-20"

	requestsPerMinute = 4000
	inputPerMinute    = 2_000_000
	outputPerMinute   = 400_000
)

// call is one request on its way through the fake.
type call struct {
	u    *Upstream
	w    http.ResponseWriter
	r    *http.Request
	id   string
	body []byte
	sum  [sha256.Size]byte
	// how is decided by a script; when decided is false, the model's name decides.
	how     Behaviour
	decided bool
}

// ServeHTTP answers one request.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.begin()
	c := &call{u: u, w: w, r: r, id: "req_" + rand.Text()}
	cancelled := false
	// Deferred, so that a script that panics or ends its goroutine does not leave the request open for ever.
	defer func() { u.end(cancelled) }()
	cancelled = c.serve()
}

// serve reports whether the client went away first.
func (c *call) serve() (cancelled bool) {
	u := c.u
	oauth, refusal := u.admit(c)
	if c.decided && c.how.Early && c.how.isError() {
		u.record(c.r, c.id, refusal == "", nil, [sha256.Size]byte{})
		// Without this the HTTP/1 server reads the body before it sends the answer. HTTP/2 needs it not and refuses it.
		_ = http.NewResponseController(c.w).EnableFullDuplex()
		return c.wait(c.how.Wait) || c.fail(c.how.Status, "")
	}
	buf, _ := u.bodies.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	defer func() {
		if buf.Cap() <= maxPooled {
			u.bodies.Put(buf)
		}
	}()
	if _, err := buf.ReadFrom(io.LimitReader(c.r.Body, maxBody+1)); err != nil {
		return true
	}
	c.body = buf.Bytes()
	c.sum = sha256.Sum256(c.body)
	u.record(c.r, c.id, refusal == "", c.body, c.sum)
	if refusal != "" {
		return c.fail(http.StatusUnauthorized, refusal)
	}
	c.rateLimits(oauth)
	if len(c.body) > maxBody {
		return c.fail(http.StatusRequestEntityTooLarge, "Request exceeds the maximum size")
	}
	if c.r.Header.Get("Anthropic-Version") == "" {
		return c.fail(http.StatusBadRequest, "anthropic-version: header is required")
	}
	return c.route()
}

// admit checks the credential, and asks its script. It returns the refusal's message, or "".
func (u *Upstream) admit(c *call) (oauth bool, refusal string) {
	token, viaKey := "", true
	keys, auths := c.r.Header["X-Api-Key"], c.r.Header["Authorization"]
	switch {
	case len(keys) > 1 || len(auths) > 1:
		return false, "a credential header was sent twice"
	case len(keys) == 1:
		token = keys[0]
	case len(auths) == 1:
		token, viaKey = "", false
		if t, ok := bearer(auths[0]); ok {
			token = t
		}
	default:
		return false, "x-api-key header is required"
	}
	invalid := "invalid x-api-key"
	if !viaKey {
		invalid = "Invalid bearer token"
	}
	sum := sha256.Sum256([]byte(token))

	u.mu.Lock()
	a := u.accounts[sum]
	if a == nil || !a.until.IsZero() && !u.options.Clock().Before(a.until) {
		u.mu.Unlock()
		return false, invalid
	}
	oauth = a.oauth
	script, n := a.script, a.calls
	a.calls++
	u.mu.Unlock()

	if oauth && viaKey {
		return oauth, invalid
	}
	if oauth && !slices.Contains(betas(c.r.Header), oauthBeta) {
		return oauth, "OAuth authentication is currently not supported."
	}
	if script != nil {
		c.how, c.decided = script(n, c.r)
	}
	return oauth, ""
}

func betas(h http.Header) []string {
	var out []string
	for _, line := range h["Anthropic-Beta"] {
		for flag := range strings.SplitSeq(line, ",") {
			out = append(out, strings.TrimSpace(flag))
		}
	}
	return out
}

func (c *call) route() (cancelled bool) {
	path := c.r.URL.Path
	method := http.MethodPost
	var h func() bool
	switch {
	case path == "/v1/messages":
		h = c.messages
	case path == "/v1/messages/count_tokens":
		h = c.countTokens
	case path == "/v1/models":
		method, h = http.MethodGet, c.listModels
	case strings.HasPrefix(path, "/v1/models/"):
		method, h = http.MethodGet, c.getModel
	case path == "/v1/files" || strings.HasPrefix(path, "/v1/files/"):
		return c.objects(false, strings.TrimPrefix(strings.TrimPrefix(path, "/v1/files"), "/"))
	case path == "/v1/messages/batches" || strings.HasPrefix(path, "/v1/messages/batches/"):
		return c.objects(true, strings.TrimPrefix(strings.TrimPrefix(path, "/v1/messages/batches"), "/"))
	default:
		return c.fail(http.StatusNotFound, "Not found")
	}
	if c.r.Method != method {
		c.w.Header().Set("Allow", method)
		return c.fail(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	return h()
}

// settle takes the behaviour for a request that names a model, waits as it says, and answers if it is an error or the model is unknown.
func (c *call) settle(model string) (done, cancelled bool) {
	if !c.decided {
		how, known := modelBehaviour(model)
		if !known {
			return true, c.fail(http.StatusNotFound, "model: "+model)
		}
		c.how = how
	}
	return c.obey()
}

// obey waits and fails as the behaviour says.
func (c *call) obey() (done, cancelled bool) {
	if c.wait(c.how.Wait) {
		return true, true
	}
	if c.how.isError() {
		return true, c.fail(c.how.Status, "")
	}
	return false, false
}

// wait reports whether the client went away meanwhile.
func (c *call) wait(d time.Duration) (cancelled bool) { return pause(c.r.Context(), d) }

func pause(ctx context.Context, d time.Duration) (cancelled bool) {
	if d <= 0 {
		return ctx.Err() != nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-ctx.Done():
		return true
	}
}

// begin sets the headers that every answer carries.
func (c *call) begin(contentType string) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Request-Id", c.id)
	h.Set("Anthropic-Organization-Id", "00000000-0000-4000-8000-00000000fa6e")
	for name, values := range c.how.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
}

// send answers 200 with a JSON body, or a part of it.
func (c *call) send(body []byte) (cancelled bool) {
	c.begin("application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if c.how.Break == CutInEvent || c.how.Break == CutBetweenEvents {
		_, _ = c.w.Write(body[:len(body)/2])
		_ = http.NewResponseController(c.w).Flush()
		abort(c.w)
		return false
	}
	_, err := c.w.Write(body)
	return err != nil
}

// abort ends the connection without ending the answer.
func abort(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	if conn, _, err := rc.Hijack(); err == nil {
		_ = conn.Close()
		return
	}
	// HTTP/2 has no connection to take away; a write deadline in the past resets the stream.
	_ = rc.SetWriteDeadline(time.Unix(1, 0))
}

// errorBody is the shape of every error of the API.
type errorBody struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	RequestID string `json:"request_id"`
}

// fail answers with an error; message "" takes the usual one.
func (c *call) fail(status int, message string) (cancelled bool) {
	kind, usual := errorKind(status)
	if message == "" {
		message = usual
	}
	body := errorBody{Type: "error", RequestID: c.id}
	body.Error.Type, body.Error.Message = kind, message
	b, err := json.Marshal(body)
	if err != nil {
		return false
	}
	h := c.w.Header()
	h.Set("X-Should-Retry", strconv.FormatBool(status == http.StatusTooManyRequests || status >= 500))
	if c.how.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((c.how.RetryAfter+time.Second-1)/time.Second), 10))
	}
	c.begin("application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	c.w.WriteHeader(status)
	_, err = c.w.Write(b)
	return err != nil
}

func errorKind(status int) (kind, message string) {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error", "invalid x-api-key"
	case http.StatusPaymentRequired:
		return "billing_error", "Your credit balance is too low"
	case http.StatusForbidden:
		return "permission_error", "Your API key does not have permission to use the specified resource"
	case http.StatusNotFound:
		return "not_found_error", "The requested resource could not be found"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large", "Request exceeds the maximum size"
	case http.StatusTooManyRequests:
		return "rate_limit_error", "This request would exceed your account's rate limit. Please try again later."
	case http.StatusGatewayTimeout:
		return "timeout_error", "Request timed out"
	case 529:
		return "overloaded_error", "Overloaded"
	}
	if status >= 500 {
		return "api_error", "Internal server error"
	}
	return "invalid_request_error", "The request is not valid"
}

// rateLimits tells limits in headers: the classic ones to API keys, the unified ones to OAuth tokens, as the real API does.
func (c *call) rateLimits(oauth bool) {
	now := c.u.options.Clock()
	used, reset := c.u.used(now)
	h := c.w.Header()
	if oauth {
		epoch := strconv.FormatInt(reset.Unix(), 10)
		share := strconv.FormatFloat(float64(used)/requestsPerMinute, 'f', 4, 64)
		h.Set("Anthropic-Ratelimit-Unified-Status", "allowed")
		h.Set("Anthropic-Ratelimit-Unified-Reset", epoch)
		h.Set("Anthropic-Ratelimit-Unified-Representative-Claim", "five_hour")
		for _, window := range [...]string{"5h", "7d"} {
			h.Set("Anthropic-Ratelimit-Unified-"+window+"-Status", "allowed")
			h.Set("Anthropic-Ratelimit-Unified-"+window+"-Reset", epoch)
			h.Set("Anthropic-Ratelimit-Unified-"+window+"-Utilization", share)
		}
		return
	}
	at := reset.UTC().Format(time.RFC3339)
	for _, l := range [...]struct {
		name        string
		limit, left int
	}{
		{"Requests", requestsPerMinute, max(requestsPerMinute-used, 0)},
		{"Input-Tokens", inputPerMinute, max(inputPerMinute-used*(len(c.body)/bytesPerToken), 0)},
		{"Output-Tokens", outputPerMinute, outputPerMinute},
	} {
		h.Set("Anthropic-Ratelimit-"+l.name+"-Limit", strconv.Itoa(l.limit))
		h.Set("Anthropic-Ratelimit-"+l.name+"-Remaining", strconv.Itoa(l.left))
		h.Set("Anthropic-Ratelimit-"+l.name+"-Reset", at)
	}
}

// used counts the requests of the current minute and says when it ends.
func (u *Upstream) used(now time.Time) (n int, reset time.Time) {
	minute := now.Unix() / 60
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.minute != minute {
		u.minute, u.inMinute = minute, 0
	}
	u.inMinute++
	return u.inMinute, time.Unix((minute+1)*60, 0)
}
