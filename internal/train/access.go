package train

import (
	"context"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// allow checks the permissions of a change, which [reach] holds against the train, and records the refusal of a caller who is known. Nobody's failures are counted elsewhere.
func (r *Room) allow(ctx context.Context, caller identity.Caller, act store.Action, target store.Target, perms ...identity.Permission) error {
	for _, p := range perms {
		_, verdict := identity.Within(caller, p) // how far it goes is reach's to ask
		if verdict == nil {
			continue
		}
		if fault.KindOf(verdict) == fault.Unauthenticated {
			return verdict
		}
		if err := r.recordRefusal(ctx, caller, target, verdict, store.Str("act", string(act))); err != nil {
			return err
		}
		return verdict
	}
	return nil
}

func (r *Room) recordRefusal(ctx context.Context, caller identity.Caller, target store.Target, verdict error, details ...store.Detail) error {
	return r.db.Write(ctx, func(tx *store.Tx) error {
		ev := caller.Event(store.TrainRefused, target)
		ev.Outcome = store.OutcomeRefused
		ev.Reason = fault.Of(verdict).Code
		ev.Details = details
		return tx.Record(ev)
	})
}

// lendRefusals bounds the records of refused lends: an agent that is set up wrongly repeats its request for ever, and what it writes must
// not fill the disk. One record a key, reason and minute says it all.
type lendRefusals struct {
	mu     sync.Mutex
	minute int64
	seen   map[refusalKey]struct{}
}

type refusalKey struct{ key, code string }

// refusalsMax bounds the different refusals of one minute.
const refusalsMax = 1000

// first reports whether this refusal has not been seen in this minute.
func (l *lendRefusals) first(now time.Time, key, code string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := now.Unix() / 60; m != l.minute || l.seen == nil {
		l.minute, l.seen = m, map[refusalKey]struct{}{}
	}
	k := refusalKey{key, code}
	if _, ok := l.seen[k]; ok || len(l.seen) >= refusalsMax {
		return false
	}
	l.seen[k] = struct{}{}
	return true
}

// refuseLend records that a client key asked for what it may not have. Why a lend is impossible at the moment (cooling accounts, none
// linked) is no refusal of rights and is not recorded.
func (r *Room) refuseLend(ctx context.Context, t *trip, verdict error) {
	f := fault.Of(verdict)
	switch f.Code {
	case "train_mismatch", "account_not_linked", "train_disabled", "path_denied",
		"limit_reached", "budget_spent", "model_denied", "model_unpriced", "max_tokens_denied", "limits_unknown":
	default:
		return
	}
	if !r.refusals.first(r.now(), t.caller.ID, f.Code) {
		return
	}
	target := store.Target{Kind: "train", ID: t.caller.TrainID}
	// The client may be gone; what it tried is worth a record all the same.
	if err := r.recordRefusal(context.WithoutCancel(ctx), t.caller, target, verdict, store.Str("act", "lend")); err != nil {
		r.log.Error("a refused lend was not recorded", "request", t.caller.RequestID, "cause", err)
	}
}
