package train

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
)

var (
	// ErrNoOther is returned by [Lease.Next] when no other account is to be tried: pass on what the last one answered.
	ErrNoOther = errors.New("train: no other account is to be tried")
	// ErrSettled is returned by [Lease.Next] for a lease whose outcome is already told.
	ErrSettled = errors.New("train: the lease is settled")
)

// trip is one request on its way through the accounts of a train.
type trip struct {
	caller identity.Caller
	want   Want
	// attempt is the number of the attempt under way, from 1.
	attempt int
	// tried are the credentials that earlier attempts used.
	tried []string
	// waited are the credentials that the trip has had refreshed, and stale those for which that failed, with the last reason and the account's name.
	waited, stale []string
	whyStale      error
	ended         string
	// denied are the credentials that were refreshed because their access token was refused, and only is the one to be tried again with the fresh one.
	denied []string
	only   string
	// hopped says that a burst was answered by going to another account. That is done once: it must not make every account of a train rest.
	hopped bool
	// home is the credential that the conversation is on, and spread its place among accounts that are as good as each other.
	home   string
	spread uint64
	// weighed says that the request was held against limits, and hold is what it has taken of them: nil where nothing is counted.
	weighed bool
	// llm says that a request under /use is lent an LLM account, and pattern which of the credential's paths let it through.
	llm     bool
	pattern string
	hold    *taken
}

// Lend chooses an account of the caller's train, records the intent to use it and returns the lease once that intent is durable. The
// lease's context ends with ctx; settle it with [Lease.Done] or [Lease.Next], whatever happens.
//
// Faults: unauthenticated, train_mismatch, train_disabled, account_not_linked, no_account, accounts_cooling (with RetryAfter), limit_reached and
// budget_spent (likewise, caused by a *quota.Refusal), model_denied, model_unpriced, max_tokens_denied, limits_unknown,
// database_unavailable, audit_unavailable, draining. When ctx ends first, its error.
func (r *Room) Lend(ctx context.Context, caller identity.Caller, want Want) (*Lease, error) {
	t := trip{caller: caller, want: want}
	l, err := r.grant(ctx, &t)
	if err != nil {
		t.hold.finish()
		r.refuseLend(ctx, &t, err)
	} else {
		t.hold.carry()
	}
	return l, err
}

// grant makes the next attempt of a trip.
func (r *Room) grant(ctx context.Context, t *trip) (*Lease, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.closed.Load() {
			return nil, errDraining()
		}
		if err := r.db.Fresh(ctx); err != nil {
			return nil, err
		}
		line, g, err := r.choose(t)
		if err != nil {
			return nil, t.because(err)
		}
		if err := r.weigh(ctx, t, line); err != nil {
			return nil, err
		}
		if again, err := r.freshen(ctx, t, g.account); err != nil {
			return nil, err
		} else if again {
			continue
		}
		l := r.open(ctx, t, g)
		// Registered first and looked at again then, so that a revocation either finds the lease or is seen here.
		if f := r.unstartable(l); f != nil {
			l.release()
			if lasting(f) {
				return nil, f
			}
			t.tried = append(slices.Clone(t.tried), l.account.id) // the board may not show it on the train yet
			continue
		}
		if err := l.intend(line); err != nil {
			l.release()
			return nil, err
		}
		t.attempt = l.trip.attempt
		// The commit may have taken its time. What became known meanwhile counts.
		if f := l.cause.Load(); f != nil {
			l.end(Outcome{Result: Revoked, Unsent: true})
			if lasting(f) {
				return nil, f
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			l.end(Outcome{Result: ClientCancelled, Unsent: true})
			return nil, err
		}
		if err := r.db.Fresh(ctx); err != nil {
			l.end(Outcome{Result: Refused, Unsent: true})
			return nil, err
		}
		if f := r.unstartable(l); f != nil { // an account that is drained ends no lease; this one has not begun
			l.end(Outcome{Result: Revoked, Unsent: true})
			if lasting(f) {
				return nil, f
			}
			continue
		}
		r.vault.Used(l.account.used, l.granted)
		if t.caller.Kind == identity.KindClientKey {
			r.keys.Touch(t.caller.ID)
		}
		return l, nil
	}
}

// lasting reports whether a lease that was cut leaves no other account to try.
func lasting(f *fault.Error) bool { return f.Code != "no_account" }

// choose finds the account of the next attempt.
func (r *Room) choose(t *trip) (*line, *rung, error) {
	if !r.mayAsk(t.caller) {
		return nil, nil, errNoKey()
	}
	l := r.lines.Load().lines.get(t.caller.TrainID)
	switch {
	case l == nil:
		return nil, nil, errKeyEnded()
	case t.want.Train != "" && t.want.Train != l.Slug && t.want.Train != l.ID:
		return nil, nil, fault.New(fault.Forbidden, "train_mismatch",
			"The request names another train than the one that its client key belongs to. Leave the train header out, or use that train's key.")
	case l.closed():
		return nil, nil, errTrainDisabled(l)
	}
	if t.want.Use != "" {
		g, err := l.named(t, r.now())
		return l, g, err
	}
	g, err := r.pick(l, t, r.now())
	return l, g, err
}

// choose walks the accounts in rank order and returns the rung of the first that is usable, was not tried and does not cool; with [LeastLoaded] that of the
// least used among all those, or the one that the conversation is on.
func (l *line) choose(t *trip, talks bool, now time.Time) (*rung, error) {
	var accounts, cooling, named, pinned, held int
	var earliest time.Time
	var offers []offer
	if l.Strategy == LeastLoaded {
		offers = make([]offer, 0, 16)
	}
	for i := range l.rungs {
		a := l.rungs[i].account
		if !a.isAccount() {
			continue
		}
		accounts++
		if t.want.Account != "" {
			if !a.is(t.want.Account) {
				continue
			}
			named++
		}
		if t.want.Pinned != "" {
			if a.id != t.want.Pinned {
				continue
			}
			pinned++
		}
		f, until, ok := l.free(t, &l.rungs[i], now)
		switch {
		case (ok || !until.IsZero()) && a.held() != "":
			held++
		case ok && (l.Strategy != LeastLoaded || l.rungs[i].first):
			return &l.rungs[i], nil
		case ok:
			offers = append(offers, l.rungs[i].offer(f))
		case !until.IsZero():
			cooling++
			if earliest.IsZero() || until.Before(earliest) {
				earliest = until
			}
		}
	}
	if len(offers) > 0 {
		level(offers, mean(offers))
		if talks {
			return stay(offers, t).rung, nil
		}
		return least(offers).rung, nil
	}
	switch {
	case t.want.Account != "" && named == 0:
		return nil, fault.New(fault.Forbidden, "account_not_linked",
			"The account that the request names is not linked to the train "+l.Slug+". Leave the account header out, or have an operator link it: signalbox train link "+l.Slug+" ACCOUNT.")
	case t.want.Pinned != "" && pinned == 0:
		return nil, fault.New(fault.Forbidden, "account_not_linked",
			"The account on which this batch or file lies is not linked to the train "+l.Slug+" any more, or is not the one that the request names. Leave the account header out, or have an operator link the account again: signalbox train link "+l.Slug+" ACCOUNT.")
	case cooling > 0:
		return nil, errCooling(l, t, cooling, earliest.Sub(now))
	case accounts == 0:
		return nil, fault.New(fault.Forbidden, "no_account",
			"No account is linked to the train "+l.Slug+". An operator can link one: signalbox train link "+l.Slug+" ACCOUNT.")
	case held > 0:
		return nil, errHeld(l, t)
	case t.want.Pinned != "":
		return nil, fault.New(fault.Forbidden, "no_account",
			"The account on which this batch or file lies cannot be used at the moment. `signalbox train explain "+l.Slug+"` says why.")
	case named > 0:
		return nil, fault.New(fault.Forbidden, "no_account",
			"The account that the request names cannot be used at the moment. `signalbox train explain "+l.Slug+"` says why.")
	}
	return nil, fault.New(fault.Forbidden, "no_account",
		"None of the accounts linked to the train "+l.Slug+" can be used. `signalbox train explain "+l.Slug+"` says why for each.")
}

func errCooling(l *line, t *trip, n int, wait time.Duration) *fault.Error {
	seconds := int((wait + time.Second - 1) / time.Second)
	which := "All usable accounts of the train " + l.Slug + " are"
	switch {
	case t.want.Pinned != "":
		which = "The account on which this batch or file lies is"
	case t.want.Account != "":
		which = "The account that the request names is"
	case n == 1:
		which = "The only usable account of the train " + l.Slug + " is"
	}
	return fault.New(fault.TooMany, "accounts_cooling",
		which+" cooling down after failures upstream. Try again in "+strconv.Itoa(seconds)+" s; `signalbox train explain "+l.Slug+"` says why.").After(seconds)
}

// Failed settles this lease as failed and lets its account rest if the failure is the account's, as [Lease.Next] does, for a request that cannot be sent
// again.
func (l *Lease) Failed(ctx context.Context, f Failure) {
	if !l.settled.CompareAndSwap(false, true) {
		return
	}
	f.spent = l.spent
	l.fail(ctx, f)
	l.trip.hold.finish()
	if l.cause.Load() == nil && (f.Status != 0 || ctx.Err() == nil) && l.rests(f) && l.room.cool(ctx, l.account, f) {
		l.meter.Cooled(f)
	}
}

// rests reports whether a failure speaks of the account and not of the request alone. Batches and files have bounds of their own, of which a full store (403) and
// too many calls (429) say nothing about messages; and an access token that is refused where nothing can be sent again is refreshed for the next message.
func (l *Lease) rests(f Failure) bool {
	path := l.trip.want.Path
	if !strings.HasPrefix(path, "/v1/files") && !strings.HasPrefix(path, batches) {
		return true
	}
	switch f.Status {
	case http.StatusForbidden:
		return false
	case http.StatusTooManyRequests:
		return !f.spent.burst()
	case http.StatusUnauthorized:
		return !l.account.Refreshes
	}
	return true
}

// Next settles this lease as failed, lets its account rest if the failure is the account's, and grants a lease on the next usable one. A
// rate limit (429) that is a burst leads to another account once a request; every other failure until the list is through. Whatever the failure, it
// returns [ErrNoOther] when nothing is left to try, and [ErrSettled] when the lease was settled before.
func (l *Lease) Next(ctx context.Context, f Failure) (*Lease, error) {
	if !l.settled.CompareAndSwap(false, true) {
		return nil, ErrSettled
	}
	f.spent = l.spent
	next, err := l.advance(ctx, f)
	if err != nil {
		l.trip.hold.finish()
	} else {
		l.trip.hold.carry()
	}
	return next, err
}

// advance is Next for who has won the right to settle the lease.
func (l *Lease) advance(ctx context.Context, f Failure) (*Lease, error) {
	cause := l.cause.Load()
	out := l.fail(ctx, f)
	if f.Status == http.StatusUnauthorized && cause == nil && ctx.Err() == nil {
		if next, err := l.again(ctx); next != nil || err != nil {
			return next, err
		}
	}
	if !l.rests(f) {
		return nil, ErrNoOther
	}
	if out.Result == UpstreamError || out.Result == UpstreamUnreachable {
		if l.room.cool(ctx, l.account, f) {
			l.meter.Cooled(f)
		}
	}
	if cause != nil && lasting(cause) {
		return nil, cause
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d, _ := f.rest(); d == 0 && cause == nil && !f.spent.Model {
		return nil, ErrNoOther
	}
	t := l.trip
	t.only = ""
	t.tried = append(slices.Clone(t.tried), l.account.id)
	if f.Status == http.StatusTooManyRequests && f.spent.burst() {
		if t.hopped {
			return nil, ErrNoOther
		}
		t.hopped = true
	}
	next, err := l.room.grant(ctx, &t)
	if f, ok := fault.As(err); ok {
		switch f.Code {
		case "no_account", "accounts_cooling", "account_not_linked":
			return nil, ErrNoOther
		}
	}
	if err == nil {
		l.meter.FailedOver()
	}
	return next, err
}

// fail ends a lease whose attempt failed. The caller has won the right to do so.
func (l *Lease) fail(ctx context.Context, f Failure) Outcome {
	out := Outcome{Result: UpstreamError, Status: f.Status, Unsent: f.Unsent && f.Status == 0}
	switch {
	case f.Status != 0:
	case l.cause.Load() != nil:
		out.Result = Revoked
	case ctx.Err() != nil || l.ctx.Err() != nil:
		out.Result = ClientCancelled
	default:
		out.Result = UpstreamUnreachable
	}
	l.settle(out)
	return out
}
