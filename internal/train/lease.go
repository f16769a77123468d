package train

import (
	"context"
	"net/url"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

// Want is what a request asks for.
type Want struct {
	Train   string // the train that the request names, by slug or id; "" when it names none
	Account string // the linked account that the request names, by credential id, account id or name; "" when it names none
	// Pinned is the credential that alone may serve the request, because what it is about lies on that account; "" where any may.
	Pinned string
	Method string
	Path   string // without the query, which may hold anything
	Model  string
	// MaxTokens is what the request wants at most; 0 when it does not say, -1 when what it says is no such number.
	MaxTokens int64
	// BodyBytes is the size of the request's body.
	BodyBytes int64
	// Counted says that the request is a part of one that was held against the limits before: it counts no more. Its attempts are recorded as any.
	Counted bool
	// Session is the client's name for the conversation that the request belongs to; "" when it has none. It means something only beside its client key.
	Session string
	// Use is the linked credential that a request under /use names, by alias, id, account id or name; "" for requests to an LLM provider. Below is its path below the
	// credential's base URL, decoded once ([vault.RequestPath]). Nothing of it is recorded but what cannot hold a secret.
	Use, Below string
}

// Failure says why an attempt failed before the first byte of its answer went to the client.
type Failure struct {
	Status     int           // the upstream's status; 0 when there was none
	RetryAfter time.Duration // what the upstream asked for; 0 when it asked for nothing
	Dial       bool          // no connection, or no answer on it
	Unsent     bool          // for certain, nothing of the request reached the upstream

	spent Spent // what a 429 was for, as [Lease.Heard] read it
}

// Result is how an attempt ended.
type Result string

// The results.
const (
	OK                  Result = "ok"
	ClientCancelled     Result = "client_cancelled"
	UpstreamError       Result = "upstream_error"
	UpstreamUnreachable Result = "upstream_unreachable"
	UpstreamBroke       Result = "upstream_broke"
	Revoked             Result = "revoked"
	Refused             Result = "refused"
)

// Outcome is what became of an attempt.
type Outcome struct {
	Result    Result
	Status    int           // the upstream's; 0 when there was none
	Bytes     int64         // of the answer's body, as sent to the client
	FirstByte time.Duration // from the attempt's start to the first byte of the answer; 0 when there was none
	Duration  time.Duration // from the attempt's start to its end; 0 means from the grant until now
	Usage     usage.Count   // what the answer cost; without a state where an answer costs nothing
	Unsent    bool          // for certain, nothing of the request reached the upstream, so that it cost nothing
}

// Lease is the right to use one credential for one attempt. Its methods may be called from several goroutines.
type Lease struct {
	room    *Room
	trip    trip
	account *account
	meter   Meter
	id      string
	alias   string // what the credential is called under /use
	granted time.Time

	ctx     context.Context
	cancel  context.CancelCauseFunc
	cause   atomic.Pointer[fault.Error] // why it was cut
	settled atomic.Bool
	spent   Spent // what the answer's refusal was for

	part       *part
	prev, next *Lease

	facts [15]store.Detail // of the event being recorded, here so that they need no memory of their own
}

// open makes a lease and registers it; nothing is recorded yet.
func (r *Room) open(ctx context.Context, t *trip, g *rung) *Lease {
	l := &Lease{room: r, trip: *t, account: g.account, meter: g.meter, id: store.NewID("lease"), granted: time.Now()}
	l.trip.attempt++
	if t.want.Use != "" {
		l.alias, l.meter = g.called(), noMeter{} // those are of LLM accounts
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	r.leases.add(l)
	l.account.gauge.flying.Add(1)
	return l
}

// intend makes the intent durable.
func (l *Lease) intend(on *line) error {
	w := &l.trip.want
	ev := l.trip.caller.Event(store.LeaseGranted, l.account.target())
	ev.Outcome = store.OutcomePending
	l.facts = [15]store.Detail{
		store.Str("lease", l.id), store.Str("train", on.Slug), store.Int("version", l.account.Version), store.Int("attempt", int64(l.trip.attempt)),
		store.Str("method", clip(w.Method, 16)), store.Str("path", clip(w.Path, 256)), store.Str("model", clip(w.Model, 128)),
		store.Str("host", l.account.BaseURL.Host), store.Int("body_bytes", w.BodyBytes),
	}
	ev.Details = l.facts[:9]
	if w.Use != "" {
		use := l.useFacts()
		l.facts[5] = use[0]
		ev.Details = l.facts[:9+copy(l.facts[9:], use[1:])]
	}
	// Not the request's context: a client that hangs up during the commit would leave an intent of which nobody knows whether it was
	// used. The wait is bounded by the store.
	if h := l.trip.hold; h != nil && !h.charged {
		h.charge.Stored = func() { h.orphaned(l) }
		if _, err := l.room.db.AppendCharged(ev, h.charge); err != nil {
			return h.refused(&l.trip, on, err)
		}
		h.took()
		return nil
	}
	_, err := l.room.db.Append(context.Background(), ev)
	return err
}

// release takes back a lease that was never granted.
func (l *Lease) release() {
	if l.settled.CompareAndSwap(false, true) {
		l.leave()
	}
}

// ID returns the lease's id, by which the audit log joins the intent and the outcome.
func (l *Lease) ID() string { return l.id }

// CredentialID returns the id of the credential that is lent.
func (l *Lease) CredentialID() string { return l.account.id }

// Attempt returns the number of this attempt at the request, from 1.
func (l *Lease) Attempt() int { return l.trip.attempt }

// Context returns the context under which the lease may be used. It ends with the context that [Room.Lend] was given, when the lease is
// settled, and when the lease is cut: then [context.Cause] is a fault that says why, in words for the client.
func (l *Lease) Context() context.Context { return l.ctx }

// BaseURL returns a copy of the URL under which the account's upstream answers.
func (l *Lease) BaseURL() *url.URL {
	u := *l.account.BaseURL
	return &u
}

// Done tells what became of the attempt and ends the lease. Only the first call counts, of Done and [Lease.Next] together.
func (l *Lease) Done(o Outcome) {
	if l.end(o) {
		l.trip.hold.finish()
	}
}

// end tells what became of the attempt, after which the request may go on with another.
func (l *Lease) end(o Outcome) bool {
	if !l.settled.CompareAndSwap(false, true) {
		return false
	}
	if l.cause.Load() != nil && (o.Result == ClientCancelled || o.Result == UpstreamBroke || o.Result == UpstreamUnreachable) {
		o.Result = Revoked // what the caller saw was the cut
	}
	l.settle(o)
	return true
}

// leave takes the lease from those that are open. It is called once.
func (l *Lease) leave() {
	l.account.gauge.flying.Add(-1)
	l.room.leases.remove(l)
	l.cancel(nil)
}

// settle ends the lease. The caller has won the right to do so.
func (l *Lease) settle(o Outcome) {
	l.leave()
	if o.Duration <= 0 {
		o.Duration = time.Since(l.granted)
	}
	l.meter.Settled(o)
	ev := l.trip.caller.Event(store.LeaseOutcome, l.account.target())
	ev.IP, ev.UserAgent = "", "" // the intent has them
	ev.Outcome = o.Result.outcome()
	if o.Result != OK {
		ev.Reason = string(o.Result)
	}
	l.facts = [15]store.Detail{
		store.Str("lease", l.id), store.Int("attempt", int64(l.trip.attempt)), store.Str("result", string(o.Result)), store.Int("status", int64(o.Status)),
		store.Int("bytes", o.Bytes), store.Int("first_byte_ms", millis(o.FirstByte)), store.Int("duration_ms", millis(o.Duration)),
	}
	ev.Details = l.facts[:7+copy(l.facts[7:], l.account.cost(o.Usage))]
	if o.Unsent {
		l.facts[7] = store.Bool("unsent", true)
		ev.Details = l.facts[:8]
	}
	if h := l.trip.hold; h != nil {
		h.note(ev, o)
		return
	}
	l.room.db.AppendLater(ev)
}

// millis is a time in whole milliseconds, rounded up: 0 says that there was none, and an answer of half a millisecond was one.
func millis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// cost is what the audit log tells of the tokens that an answer cost. Of what is seldom there, nothing is said where it is 0.
func (a *account) cost(u usage.Count) []store.Detail {
	if u.State == "" {
		return nil
	}
	out := append(make([]store.Detail, 0, 8), store.Str("usage", string(u.State)))
	if u.State == usage.Unknown {
		return out
	}
	if usage.IsModel(u.Model) && !a.lentIn(u.Model) {
		out = append(out, store.Str("model", u.Model))
	}
	out = append(out, store.Int("input_tokens", u.Input), store.Int("output_tokens", u.Output))
	for _, n := range [...]struct {
		name string
		is   int64
	}{{"cache_read_tokens", u.CacheRead}, {"cache_creation_5m_tokens", u.CacheWrite5m}, {"cache_creation_1h_tokens", u.CacheWrite1h}, {"tool_calls", u.ToolCalls}} {
		if n.is > 0 {
			out = append(out, store.Int(n.name, n.is))
		}
	}
	return out
}

// outcome is the result in the audit log's few words. A client that cancels has used the credential, and nothing failed.
func (r Result) outcome() string {
	switch r {
	case OK, ClientCancelled:
		return store.OutcomeOK
	case Revoked, Refused:
		return store.OutcomeRefused
	}
	return store.OutcomeFailed
}
