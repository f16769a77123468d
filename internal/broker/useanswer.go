package broker

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/train"
)

// What one answer may take.
const (
	useMost  = 10 << 30         // bytes that come of it
	useQuiet = 10 * time.Minute // without a byte
	useWhole = 12 * time.Hour
)

// useAnswer is an answer of an upstream under /use on its way to the caller.
type useAnswer struct {
	broker  *Broker
	w       http.ResponseWriter
	r       *http.Request
	lease   *train.Lease
	resp    *http.Response
	look    *scrub.Scrubber
	on      use
	started time.Time
	upload  *useBody
}

// pass passes the answer on and settles the lease. It returns an error only when nothing was sent.
func (a *useAnswer) pass() error {
	outcome := train.Outcome{Result: train.OK, Status: a.resp.StatusCode, FirstByte: time.Since(a.started)}
	if a.resp.StatusCode >= 400 {
		outcome.Result = train.UpstreamError
	}
	defer func() {
		_ = a.resp.Body.Close()
		outcome.Duration = time.Since(a.started)
		a.lease.Done(outcome)
	}()
	if a.resp.StatusCode < http.StatusOK {
		outcome.Result = train.Refused
		return errAnswer(errNoAnswer)
	}
	came := newLimited(a.resp.Body)
	defer came.stop()
	decoded, changed, err := scrub.Decode(came, a.resp.Header["Content-Encoding"])
	if err != nil {
		outcome.Result = train.Refused
		return errAnswer(err)
	}
	a.headers(changed)
	a.w.WriteHeader(a.resp.StatusCode)
	// A client that does not read must not outlive its right: once the lease is cut, a write that is stuck gets a moment and then fails.
	line := http.NewResponseController(a.w)
	hurried := make(chan struct{})
	stop := context.AfterFunc(a.lease.Context(), func() {
		defer close(hurried)
		_ = line.SetWriteDeadline(time.Now().Add(cutPatience))
	})
	var end ending
	pool := &replyBuffers
	if isEventStream(a.resp.Header) {
		pool = &streamBuffers
	}
	outcome.Bytes, end = copyBody(a.w, a.look.Reader(decoded), pool, true, false, ears{})
	if !stop() {
		<-hurried
		_ = line.SetWriteDeadline(time.Time{}) // the connection may serve another request
	}
	if end == clean && !errors.Is(came.err(), errTooMuch) {
		a.trailers()
		return nil
	}
	a.broken(&outcome, end, came.err())
	return nil
}

// broken says what became of an answer that did not come to its end, and breaks the connection off, so that nobody takes what came for all of it.
func (a *useAnswer) broken(outcome *train.Outcome, end ending, why error) {
	switch cause := context.Cause(a.lease.Context()); {
	case a.r.Context().Err() != nil:
		outcome.Result = train.ClientCancelled
	case cause != nil:
		outcome.Result = train.Revoked
	case errors.Is(why, errTooMuch), errors.Is(why, errTooLong):
		outcome.Result = train.Refused
		a.broker.log.Warn("an answer under /use was broken off", "request_id", a.w.Header().Get("X-Request-Id"), "cause", why.Error())
	case end == clientGone, a.upload != nil && a.upload.failed.Load() != nil:
		outcome.Result = train.ClientCancelled
	default:
		outcome.Result = train.UpstreamBroke
		if why != nil {
			a.broker.log.Info("an upstream broke off its answer", "request_id", a.w.Header().Get("X-Request-Id"), "cause", outbound.Clean(why).Error())
		}
	}
	abort(a.w)
}

// headers passes the upstream's headers on, without those that speak for our own host, or of the connection, and with the secret taken out.
func (a *useAnswer) headers(decoded bool) {
	a.copyHeaders()
	h := a.w.Header()
	if decoded {
		for _, name := range [...]string{"Content-Encoding", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Etag"} {
			delete(h, name)
		}
	} else if a.resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(a.resp.ContentLength, 10)}
	}
	quotaHeaders(h, a.resp.StatusCode, a.lease.Quota())
}

func (a *useAnswer) copyHeaders() {
	rid := a.w.Header().Get("X-Request-Id")
	sent := maps.Clone(a.resp.Header)
	for name := range sent {
		if notOurs(name) {
			delete(sent, name)
		}
	}
	if to := sent.Get("Location"); to != "" {
		base := a.lease.BaseURL()
		sent["Location"] = []string{a.on.location(base, a.on.target(base, a.r.URL.RawQuery), to)}
	}
	theirs := make(http.Header, len(sent))
	copyHeader(theirs, sent)
	for name, values := range theirs { // the values are the transport's no more, and the scrubber changes them in place
		theirs[name] = append([]string(nil), values...)
	}
	a.look.Header(theirs)
	h := a.w.Header()
	maps.Copy(h, theirs)
	h["X-Request-Id"] = []string{rid}
	ownHeaders(h)
}

// notOurs are the headers of an upstream that would speak for the origin of the dashboard or for ranges, which are not asked for. A cookie among them: it would be set for the
// dashboard's origin, and no cookie goes on from here anyway.
func notOurs(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Service-Worker-Allowed", "Accept-Ranges", "Refresh", "Report-To", "Reporting-Endpoints", "Nel", "Sourcemap", "X-Sourcemap",
		"Content-Security-Policy", "Content-Security-Policy-Report-Only", "X-Content-Type-Options", "Cross-Origin-Resource-Policy", "Public-Key-Pins", "Origin-Agent-Cluster":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// trailers passes on what the upstream sent behind its body.
func (a *useAnswer) trailers() {
	if len(a.resp.Trailer) == 0 {
		return
	}
	theirs := make(http.Header, len(a.resp.Trailer))
	for name, values := range a.resp.Trailer {
		if len(values) > 0 && !notOurs(name) {
			theirs[name] = append([]string(nil), values...)
		}
	}
	clean := make(http.Header, len(theirs))
	copyHeader(clean, theirs)
	a.look.Header(clean)
	for name, values := range clean {
		a.w.Header()[http.TrailerPrefix+name] = values
	}
}

var (
	errTooMuch = errors.New("the answer is over 10 GiB")
	errTooLong = errors.New("the answer took over twelve hours, or paused for over ten minutes")
)

// limited reads an answer within bounds of size and time. Beyond them it is closed, and fails.
type limited struct {
	src         io.ReadCloser
	left        int64
	quiet       *time.Timer
	whole       *time.Timer
	tooLong     atomic.Bool
	quietPeriod time.Duration
	failed      error
}

func newLimited(src io.ReadCloser) *limited { return newLimitedTo(src, useMost, useQuiet, useWhole) }

func newLimitedTo(src io.ReadCloser, most int64, quiet, whole time.Duration) *limited {
	l := &limited{src: src, left: most, quietPeriod: quiet}
	over := func() {
		l.tooLong.Store(true)
		_ = src.Close()
	}
	l.quiet, l.whole = time.AfterFunc(quiet, over), time.AfterFunc(whole, over)
	return l
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.src.Read(p)
	l.quiet.Reset(l.quietPeriod)
	switch l.left -= int64(n); {
	case l.left < 0:
		err = errTooMuch
	case err != nil && l.tooLong.Load():
		err = errTooLong
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.failed = err
	}
	return n, err
}

func (l *limited) err() error { return l.failed }

func (l *limited) stop() {
	l.quiet.Stop()
	l.whole.Stop()
}
