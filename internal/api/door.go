package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// exchange is what the door knows of one request. It travels in the request's context from the door to the adapter of the operation and no
// further: operations get the caller as an argument.
type exchange struct {
	id, ip  string
	host    string // that the client named; it says something only where it is this machine
	route   string // the operation's method and path; those of the request may hold anything
	bearer  bool   // a bearer token was presented
	hasBody bool   // the operation has a body
	caller  identity.Caller
	refusal error // why the permission table refuses the caller; the room records and says it
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if ex, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return ex
	}
	return &exchange{}
}

// Door is the handler of /api, with the chores that belong to it. Make it with [New], begin the chores with [Door.Start] and end them with
// [Door.Close].
type Door struct {
	*service
	begin, end sync.Once
	closed     chan struct{}
	chores     sync.WaitGroup
}

// trimEvery is how often old Idempotency-Keys are removed.
const trimEvery = 10 * time.Minute

// Start begins removing old Idempotency-Keys.
func (d *Door) Start(ctx context.Context) {
	d.begin.Do(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		d.chores.Go(func() {
			defer cancel()
			d.trimUntilClosed(ctx, time.NewTicker(trimEvery))
		})
		d.chores.Go(func() { // a trimming that waits for the database must not hold up the end
			<-d.closed
			cancel()
		})
	})
}

func (d *Door) trimUntilClosed(ctx context.Context, tick *time.Ticker) {
	defer tick.Stop()
	for {
		if err := d.trim(ctx); err != nil && ctx.Err() == nil {
			d.Log.WarnContext(ctx, "old Idempotency-Keys were not removed", "cause", err)
		}
		select {
		case <-tick.C:
		case <-d.closed:
			return
		}
	}
}

// Close ends the chores. It may be called more than once, and without Start.
func (d *Door) Close() {
	d.end.Do(func() { close(d.closed) })
	d.chores.Wait()
}

// ServeHTTP answers with a request id, headers that forbid caching and embedding, and, when an operation panics, a problem without its text.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	ex := &exchange{id: requestID(w.Header()), ip: d.clientIP(r), host: r.Host}
	ex.caller = identity.Caller{Kind: identity.KindAnonymous, RequestID: ex.id, IP: ex.ip, UserAgent: r.UserAgent()}
	h := w.Header()
	h.Set("X-Request-ID", ex.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex))
	out := &reply{ResponseWriter: w, kept: h.Clone()}
	served := d.serve(out, r)
	if !out.streaming {
		if !served {
			out.reset()
			d.refuse(out, r, fault.New(fault.Internal, "internal", "Signalbox failed to handle this. The request id leads to the cause in the server's log."))
		}
		out.send()
	}
	if d.Served != nil {
		d.Served(ex.route, out.status, time.Since(started))
	}
	if out.streaming && (!served || out.broken) {
		// net/http has no other way to end an answer so that the client does not take it for complete.
		panic(http.ErrAbortHandler)
	}
}

// serve reports whether the operation ended without a panic.
func (d *Door) serve(w http.ResponseWriter, r *http.Request) (ok bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		ex := exchangeOf(r.Context())
		// Only the runtime's own panics have a text that is known to hold no input.
		what := fmt.Sprintf("%T", p)
		if e, isRuntime := p.(runtime.Error); isRuntime {
			what = e.Error()
		}
		d.Log.LogAttrs(r.Context(), slog.LevelError, "an API operation panicked", slog.String("request_id", ex.id), slog.String("route", ex.route),
			slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	}()
	if d.Closed != nil {
		d.refuse(w, r, d.Closed)
		return true
	}
	d.router.ServeHTTP(w, r)
	return true
}

// requestID keeps the id that an outer handler of ours has set for its log, and never takes one from the client.
func requestID(set http.Header) string {
	if id := set.Get("X-Request-ID"); store.ValidID("req", id) {
		return id
	}
	return store.NewID("req")
}

func (d *Door) clientIP(r *http.Request) string {
	if d.ClientIP != nil {
		return d.ClientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// reply holds an answer back until it is complete, so that a failure half-way is a clean refusal and not a truncated success.
type reply struct {
	http.ResponseWriter
	kept   http.Header // the headers that every answer has
	status int
	body   bytes.Buffer
	// streaming says that what is written goes out at once, broken that it did not come to its end.
	streaming, broken bool
}

// stream sends the headers; from here on nothing can be taken back.
func (w *reply) stream(status int) {
	w.status, w.streaming = status, true
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController the connection.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader keeps the first status.
func (w *reply) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write keeps b.
func (w *reply) Write(b []byte) (int, error) {
	if w.streaming {
		return w.ResponseWriter.Write(b)
	}
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// reset forgets what was answered so far.
func (w *reply) reset() {
	w.status = 0
	w.body.Reset()
	clear(w.Header())
	for name, values := range w.kept {
		w.Header()[name] = values
	}
}

func (w *reply) send() {
	w.WriteHeader(http.StatusOK)
	w.ResponseWriter.WriteHeader(w.status)
	if w.body.Len() > 0 {
		_, _ = w.ResponseWriter.Write(w.body.Bytes()) // the client may have gone
	}
}
