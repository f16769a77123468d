package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// useKept is the largest body that is held, so that the request can be sent again with a fresh access token; a larger one streams.
const useKept = 64 << 10

// ServeUse serves /use: any request to the upstream of a credential that is linked to the train of the client key, with the credential put in.
//
// Promise: what is lent reaches the base URL of its credential and what lies below it, nothing else; no echo of it that package scrub knows comes back; bodies stream both
// ways; the intent is durable before a byte leaves. Limits: one attempt, but for an OAuth token that is refused, where the request goes out once more with a fresh one if its
// body is at hand.
func (b *Broker) ServeUse(w http.ResponseWriter, r *http.Request) {
	b.inFlight.Add(1)
	defer b.inFlight.Add(-1)
	rid := store.NewID("req")
	w.Header()["X-Request-Id"] = []string{rid}
	if err := b.serveUse(w, r, rid); err != nil {
		b.failUse(w, r, rid, err)
	}
}

func (b *Broker) serveUse(w http.ResponseWriter, r *http.Request, rid string) error {
	if b.draining.Load() {
		return fault.New(fault.Unavailable, "draining", "This Signalbox instance is shutting down. Send the request again: another instance, or this one after its restart, will serve it.").After(1)
	}
	if b.closed != nil {
		return b.closed
	}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return fault.New(fault.MethodNotAllowed, "method_not_allowed", "CONNECT and TRACE are not served here: a tunnel would get around all that is looked at, and a trace returns what was sent.")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "empty" {
		// What an upstream answers must never be a page, a script or a frame of the dashboard's origin.
		return fault.New(fault.Forbidden, "cross_origin", "Answers under /use are not for browsers to show. Call it from a program, with a client key in a header.")
	}
	on, err := parseUse(r)
	if err != nil {
		return err
	}
	caller, err := b.callerWith(r, rid, b.authenticateUse)
	if err != nil {
		return err
	}
	want := train.Want{Train: trainHeader(r.Header), Method: r.Method, Path: "/use", Use: on.alias, Below: on.plain, BodyBytes: max(0, r.ContentLength)}
	return b.lendUse(w, r, caller, want, on)
}

// authenticateUse is the caller by their client key. Without one nothing is served here, whatever the setting for /v1: any page in a browser could ask for it.
func (b *Broker) authenticateUse(r *http.Request) (identity.Caller, error) {
	keys := clientKeys(r.Header)
	for _, line := range r.Header["Authorization"] {
		if len(line) <= 6 || !strings.EqualFold(line[:6], "Basic ") || len(keys) >= 4 {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[6:]))
		if err != nil {
			continue
		}
		user, password, _ := strings.Cut(string(plain), ":")
		if password == "" {
			password = user // curl -u KEY:
		}
		if password != "" {
			keys = append(keys, password)
		}
	}
	if len(keys) == 0 {
		return identity.Caller{}, unauthenticated("No Signalbox client key came with the request. Send one as \"Authorization: Bearer sbx_live_…\", as x-api-key, or as the password of Basic authentication with any user name; signalbox key issue makes a key.")
	}
	return b.known(keys)
}

// lendUse sends the request with the credential in it and passes the answer on.
func (b *Broker) lendUse(w http.ResponseWriter, r *http.Request, caller identity.Caller, want train.Want, on use) error {
	talks := upgrades(r)
	if talks {
		if err := checkUpgrade(r); err != nil {
			return err
		}
	}
	line := http.NewResponseController(w)
	if err := line.EnableFullDuplex(); err != nil { // else net/http reads a body to its end before it answers
		return fault.New(fault.Internal, "internal", "This connection cannot carry a request and its answer at once.").Because(err)
	}
	lease, err := b.trains.Lend(r.Context(), caller, want)
	if err != nil {
		return err
	}
	held, streamed, err := b.bodyOfUse(w, r)
	if err != nil {
		lease.Done(train.Outcome{Result: train.ClientCancelled, Unsent: true})
		return err
	}
	defer held.release()
	if streamed != nil {
		defer streamed.end()
	}
	for {
		started := time.Now()
		look, err := lease.Scrubber()
		if err != nil {
			lease.Done(train.Outcome{Result: train.Refused, Unsent: true})
			return fault.New(fault.Forbidden, "not_lendable", "The credential's secret cannot be looked for in an answer, so it is not lent here. An operator can rotate it to one of 8 bytes to 64 KiB.")
		}
		resp, err := b.attemptUse(r, lease, on, held, streamed)
		if err != nil {
			return b.settleUse(r, lease, streamed, err, started)
		}
		if resp.StatusCode == http.StatusUnauthorized && streamed == nil {
			next, err := lease.Renew(r.Context())
			if next != nil || err != nil {
				_ = resp.Body.Close()
			}
			if err != nil {
				return err
			}
			if next != nil {
				lease = next
				continue
			}
		}
		held.release()
		a := &useAnswer{broker: b, w: w, r: r, lease: lease, resp: resp, look: look, on: on, started: started, upload: streamed}
		if talks && resp.StatusCode == http.StatusSwitchingProtocols {
			return a.talk()
		}
		return a.pass()
	}
}

// bodyOfUse takes in a body that is small enough to be sent again, or returns one that streams.
func (b *Broker) bodyOfUse(w http.ResponseWriter, r *http.Request) (*body, *useBody, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength >= 0 && r.ContentLength <= useKept {
		held, err := b.bodies.read(w, r, useKept)
		return held, nil, err
	}
	none := &body{store: &b.bodies}
	none.refs.Store(1)
	return none, &useBody{src: r.Body, line: http.NewResponseController(w)}, nil
}

// attemptUse sends the request once.
func (b *Broker) attemptUse(r *http.Request, lease *train.Lease, on use, held *body, streamed *useBody) (*http.Response, error) {
	base := lease.BaseURL()
	out := &http.Request{Method: r.Method, URL: on.target(base, r.URL.RawQuery), Host: base.Host, Header: headersOfUse(r), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	switch {
	case streamed != nil:
		out.Body, out.ContentLength = streamed, r.ContentLength
	case held.len() > 0:
		out.Body, out.ContentLength = held.reader(), int64(held.len())
		if _, vouched := r.Header["Idempotency-Key"]; !vouched { // see outgoing
			out.GetBody = held.again
		}
	}
	if err := lease.Apply(out); err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, unapplied{err}
	}
	return b.carry(lease, out.WithContext(lease.Context()))
}

// headersOfUse are the headers that go on.
func headersOfUse(r *http.Request) http.Header {
	out := make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		if !dropped(name) && !droppedHere(name) {
			out[name] = values
		}
	}
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	out["Accept-Encoding"] = []string{"identity"} // what comes back is looked into
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // keeps net/http from naming itself
	}
	if upgrades(r) {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	return out
}

// droppedHere are the headers that do not go on under /use, beside those that never do. A cookie is dropped since those of this origin are the dashboard's; parts of an answer and
// compressed messages since a secret could be cut in two there; what names another method or path since the credential's rules were held against this one.
func droppedHere(name string) bool {
	plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch plain {
	case "authorization", "x-api-key", "cookie", "cookie2", "range", "if-range", "sec-websocket-extensions",
		"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-real-ip", "true-client-ip", "host", "content-length", "transfer-encoding":
		return true
	}
	for _, prefix := range [...]string{"msl-", "proxy-", "x-forwarded-", "sec-fetch-"} {
		if strings.HasPrefix(plain, prefix) {
			return true
		}
	}
	return false
}

// settleUse says what a request without an answer means. There is nothing else to try, and no account rests for what happens here.
func (b *Broker) settleUse(r *http.Request, lease *train.Lease, in *useBody, err error, started time.Time) error {
	spent := time.Since(started)
	if in != nil {
		if f := in.failed.Load(); f != nil && lease.Context().Err() == nil {
			lease.Done(train.Outcome{Result: train.ClientCancelled, Duration: spent})
			return f
		}
	}
	if refusal, final := b.settle(r, lease, err, started); final {
		return refusal
	}
	lease.Done(train.Outcome{Result: train.UpstreamUnreachable, Duration: spent, Unsent: unsent(err)})
	return fault.New(fault.Unavailable, "upstream_unreachable", "The upstream of this credential could not be reached, or broke off before it answered. Whether it did what was asked is not known unless the request changes nothing; look, then send it again. An operator finds the cause in the log under the request id.").After(5).Because(outbound.Clean(err))
}

// wireProblem is an error as our own API tells it (RFC 9457).
type wireProblem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}

// failUse answers with err. Nothing of another answer may have been sent.
func (b *Broker) failUse(w http.ResponseWriter, r *http.Request, rid string, err error) {
	if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
		abort(w)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftover))
	f := fault.Of(err)
	b.countRefusal(f.Code)
	status := f.Kind.Status()
	if f.Code == "upstream_answer" {
		status = http.StatusBadGateway
	}
	h := w.Header()
	if f.Kind == fault.Unauthenticated {
		h["Www-Authenticate"] = []string{`Bearer realm="Signalbox"`, `Basic realm="Signalbox"`} // git asks before it sends a password
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	refusedHeaders(h, f, time.Now())
	ownHeaders(h)
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	text, merr := json.Marshal(wireProblem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: f.Detail, Code: f.Code, RequestID: rid})
	if merr != nil { // strings always marshal
		text = []byte(`{"title":"internal error"}`)
	}
	text = append(text, '\n')
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // a client that is gone needs no answer
	}
	b.logFailure(r.Context(), r, rid, f)
}

// ownHeaders keep an answer from being taken for a part of the dashboard, whose origin it has.
func ownHeaders(h http.Header) {
	h["Content-Security-Policy"] = []string{"sandbox; default-src 'none'"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cross-Origin-Resource-Policy"] = []string{"same-origin"}
}

// errAnswer is the fault of an answer that cannot be passed on.
func errAnswer(cause error) error {
	detail := "The upstream's answer cannot be looked into for the credential that was lent, so it is not passed on. What the request asked for may have been done; look before sending it again."
	if errors.Is(cause, scrub.ErrCoding) {
		detail = "The upstream's answer has a content coding other than gzip and deflate, although none was asked for, so it cannot be looked into for the credential that was lent and is not passed on. What the request asked for may have been done; look before sending it again."
	}
	return fault.New(fault.Unavailable, "upstream_answer", detail).Because(cause)
}
