package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/usage"
)

const (
	// keepMax is how much of a failed answer is kept to pass on when no other account is left.
	keepMax = 256 << 10
	// cutPatience is how long a write may take once the lease is cut.
	cutPatience = 500 * time.Millisecond
	// keepWait bounds the reading of it.
	keepWait = 5 * time.Second
	// streamBuffer is small because a stream holds it for minutes; replyBuffer serves short answers.
	streamBuffer = 8 << 10
	replyBuffer  = 32 << 10
)

var (
	streamBuffers = sync.Pool{New: func() any { b := make([]byte, streamBuffer); return &b }}
	replyBuffers  = sync.Pool{New: func() any { b := make([]byte, replyBuffer); return &b }}
)

// forward sends the request to one account after the other until one answers, and passes that answer on. It returns an error only when
// nothing was sent to the client.
func (b *Broker) forward(w http.ResponseWriter, r *http.Request, caller identity.Caller, want train.Want, body *body) error {
	return b.forwardTo(w, r, caller, want, body, b.reply)
}

// passing passes an answer of an upstream on and settles the lease.
type passing func(w http.ResponseWriter, r *http.Request, lease *train.Lease, resp *http.Response, body *body, started time.Time) error

// forwardTo is forward with another way to pass the answer on.
func (b *Broker) forwardTo(w http.ResponseWriter, r *http.Request, caller identity.Caller, want train.Want, body *body, pass passing) error {
	lease, err := b.trains.Lend(r.Context(), caller, want)
	if err != nil {
		return err
	}
	var kept *keptAnswer
	var last error // why the last attempt got no answer, for the log
	for {
		started := time.Now()
		resp, err := b.attempt(r, lease, body)
		var failure train.Failure
		switch {
		case err == nil && resp.StatusCode < http.StatusOK: // 101, or no status at all: nothing that can be passed on
			_ = resp.Body.Close()
			last = errNoAnswer
			failure = train.Failure{Dial: true}
		case err == nil && !failover(resp.StatusCode):
			return pass(w, r, lease, resp, body, started)
		case err == nil:
			kept = keep(resp)
			kept.lease = lease
			failure = train.Failure{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
		default:
			if refusal, final := b.settle(r, lease, err, started); final {
				return refusal
			}
			last = outbound.Clean(err)
			failure = train.Failure{Dial: true, Unsent: unsent(err)}
		}
		next, nerr := lease.Next(r.Context(), failure)
		if nerr == nil {
			lease = next
			continue
		}
		if !errors.Is(nerr, train.ErrNoOther) {
			return nerr // the right to lend ended, or nothing can be recorded
		}
		if kept != nil {
			b.relay.Failed(caller.TrainID, b.trains.Slug(caller.TrainID), answeredWith(kept.status))
			if keep := b.keeps(r, kept.lease, kept.header, body); keep != nil {
				keep.Add(kept.body)
				keep.Done()
			}
			kept.send(w, lease.Quota())
			return nil
		}
		return fault.New(fault.Unavailable, "upstream_unreachable", "No account of this train reached its upstream; each one is cooling down for some seconds. Send the request again shortly. An operator finds the cause in the log under the request id.").After(5).Because(last)
	}
}

// settle says what an attempt without an answer means. final is true when no other account may be tried.
func (b *Broker) settle(r *http.Request, lease *train.Lease, err error, started time.Time) (_ error, final bool) {
	spent := time.Since(started)
	if r.Context().Err() != nil {
		lease.Done(train.Outcome{Result: train.ClientCancelled, Duration: spent, Unsent: unsent(err)})
		return r.Context().Err(), true
	}
	if cause := context.Cause(lease.Context()); cause != nil {
		lease.Done(train.Outcome{Result: train.Revoked, Duration: spent, Unsent: unsent(err)})
		return revoked(cause), true
	}
	if errors.Is(err, outbound.ErrRefused) {
		lease.Done(train.Outcome{Result: train.Refused, Duration: spent})
		return fault.New(fault.Unavailable, "upstream_unreachable", "The address of this account's upstream is private or reserved, and this Signalbox may not connect to such addresses. An operator can allow it by name with SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS.").Because(outbound.ErrRefused), true
	}
	if f, ok := fault.As(err); ok { // Apply refused, before anything was sent
		lease.Done(train.Outcome{Result: train.Refused, Duration: spent})
		return f, true
	}
	var timeout net.Error
	switch {
	case unsent(err):
		return nil, false
	case errors.As(err, &timeout) && timeout.Timeout():
		// The upstream took the request and may be working on it; sending it to another account would pay twice for nothing.
		lease.Done(train.Outcome{Result: train.UpstreamUnreachable, Duration: spent})
		return fault.New(fault.Unavailable, "upstream_unreachable", "The upstream did not begin to answer in time. Send the request again, with stream true for long answers.").Because(outbound.Clean(err)), true
	case !brokenLine(err):
		// Something about this very request: its headers are more than the upstream takes, for instance. No account is to blame, and none
		// may rest for it.
		lease.Done(train.Outcome{Result: train.Refused, Duration: spent})
		return fault.New(fault.Invalid, "malformed_request", "The request could not be sent to the upstream as it is. Fewer or shorter headers may help; an operator finds the cause in the log under the request id.").Because(outbound.Clean(err)), true
	}
	return nil, false
}

// unapplied is why a request was not made: nothing was sent. What a round trip returns of a lease that was cut is the same fault without it.
type unapplied struct{ error }

func (e unapplied) Unwrap() error { return e.error }

// unsent reports that for certain nothing of the request reached the upstream.
func unsent(err error) bool {
	var ours unapplied
	return errors.As(err, &ours) || outbound.NotSent(err) || strings.Contains(err.Error(), "TLS handshake")
}

var errNoAnswer = errors.New("the upstream's answer has no status that can be passed on")

// brokenLine reports whether the connection or the upstream broke, as opposed to a request that cannot be sent.
func brokenLine(err error) bool {
	var network net.Error
	var system syscall.Errno
	var record tls.RecordHeaderError
	if errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) {
		return true // it speaks no TLS
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network) || errors.As(err, &system) {
		return true
	}
	// net/http keeps the types of these to itself.
	text := err.Error()
	for _, of := range [...]string{"transport connection broken", "server closed", "malformed HTTP", "stream error", "GOAWAY", "client connection", "connection error"} {
		if strings.Contains(text, of) {
			return true
		}
	}
	return false
}

func revoked(cause error) error {
	if f, ok := fault.As(cause); ok {
		return f
	}
	return unauthenticated("The right to use this account ended while the request was under way: its key, link or credential was revoked or changed. Ask an operator, then send the request again.")
}

func (b *Broker) attempt(r *http.Request, lease *train.Lease, body *body) (*http.Response, error) {
	out, err := outgoing(r, lease, body)
	if err != nil {
		return nil, unapplied{err}
	}
	return b.send(lease, out)
}

// send sends a request in the way that its account asks for, and hears what the answer says of the account's limits.
func (b *Broker) send(lease *train.Lease, out *http.Request) (*http.Response, error) {
	resp, err := b.carry(lease, out)
	if err == nil {
		lease.Heard(resp.StatusCode, resp.Header)
	}
	return resp, err
}

// carry sends a request in the way that its credential asks for.
func (b *Broker) carry(lease *train.Lease, out *http.Request) (*http.Response, error) {
	line := b.transport
	if route := lease.Route(); route != nil {
		if b.routes == nil {
			if out.Body != nil {
				_ = out.Body.Close()
			}
			return nil, unapplied{fault.New(fault.Unavailable, "upstream_unreachable", "This instance of Signalbox cannot reach the account's upstream in the way that is set for it. An operator finds the account in the log under the request id.")}
		}
		line = b.routes(route)
	}
	return line.RoundTrip(out)
}

// failover reports whether another account may do better. What the client did wrong no account can mend.
func failover(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests || status >= 500
}

// reply passes an answer on.
func (b *Broker) reply(w http.ResponseWriter, r *http.Request, lease *train.Lease, resp *http.Response, body *body, started time.Time) error {
	outcome := train.Outcome{Result: train.OK, Status: resp.StatusCode, FirstByte: time.Since(started)}
	if resp.StatusCode >= 400 {
		outcome.Result = train.UpstreamError
	}
	count, costs := counter(r, resp)
	tap, keep := b.listen(r, lease, resp, body, count != nil), b.keeps(r, lease, resp.Header, body)
	defer func() {
		_ = resp.Body.Close()
		defer b.tell(tap, lease, &outcome)
		defer endKeep(keep, &outcome)
		outcome.Duration = time.Since(started)
		switch {
		case count != nil:
			outcome.Usage = count.Count()
		case costs:
			outcome.Usage.State = usage.Unknown
		}
		lease.Done(outcome)
	}()
	copyHeader(w.Header(), resp.Header)
	quotaHeaders(w.Header(), resp.StatusCode, lease.Quota())
	if resp.ContentLength >= 0 {
		w.Header()["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	body.release()
	w.WriteHeader(resp.StatusCode)
	// A client that does not read must not outlive its right: once the lease is cut, a write that is stuck gets a moment and then fails.
	hurried := make(chan struct{})
	stop := context.AfterFunc(lease.Context(), func() {
		defer close(hurried)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(cutPatience))
	})
	var end ending
	outcome.Bytes, end = pump(w, resp, ears{count, tap, keep})
	if !stop() {
		<-hurried
		// The connection may serve another request.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	switch end {
	case clean:
		return nil
	case clientGone:
		outcome.Result = train.ClientCancelled
		if r.Context().Err() == nil && context.Cause(lease.Context()) != nil {
			outcome.Result = train.Revoked // the write was given up because the lease was cut
			abort(w)
		}
		return nil
	}
	if r.Context().Err() != nil {
		outcome.Result = train.ClientCancelled
		return nil
	}
	outcome.Result = train.UpstreamBroke
	text := wireCause{Type: "api_error", Message: "The upstream broke off its answer. What came so far is incomplete; send the request again."}
	if cause := context.Cause(lease.Context()); cause != nil {
		outcome.Result = train.Revoked
		text = wireCause{Type: errorType(fault.Of(revoked(cause))), Message: fault.Of(revoked(cause)).Detail}
	}
	if end == brokenBetween {
		line := http.NewResponseController(w)
		_ = line.SetWriteDeadline(time.Now().Add(cutPatience)) // the client may not be reading
		if sendEvent(w, text, w.Header().Get("X-Request-Id")) == nil {
			_ = line.SetWriteDeadline(time.Time{})
			return nil
		}
	}
	abort(w)
	return nil
}

// keptAnswer is a failed answer of an upstream, held while other accounts are tried.
type keptAnswer struct {
	lease  *train.Lease // the one that it answered
	status int
	header http.Header
	body   []byte
}

func keep(resp *http.Response) *keptAnswer {
	// An upstream that trickles its refusal must not hold up the next account.
	late := time.AfterFunc(keepWait, func() { _ = resp.Body.Close() })
	defer late.Stop()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, keepMax)) // what came is what there is to pass on
	_ = resp.Body.Close()
	return &keptAnswer{status: resp.StatusCode, header: resp.Header, body: body}
}

func (k *keptAnswer) send(w http.ResponseWriter, left quota.Standing) {
	copyHeader(w.Header(), k.header)
	quotaHeaders(w.Header(), k.status, left)
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(k.body))}
	w.WriteHeader(k.status)
	_, _ = w.Write(k.body) // a client that is gone needs no answer
}

// copyHeader passes the upstream's headers on, but for hop-by-hop headers and those that would speak for our own host.
func copyHeader(dst, src http.Header) {
	for name, values := range src {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
			"Content-Length", "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "X-Request-Id":
			continue
		}
		dst[name] = values
	}
	for _, line := range src["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if _, theirs := src[name]; theirs && name != "Content-Type" && name != "X-Request-Id" {
				delete(dst, name)
			}
		}
	}
}

// retryAfter reads Retry-After as seconds or as a date (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if secs, err := strconv.ParseFloat(v, 64); err == nil {
		if !(secs > 0 && secs < 1e6) { // NaN is neither
			return 0
		}
		return time.Duration(secs * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
