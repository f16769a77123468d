package ledger

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Progress says how far the sums are with the log.
type Progress struct {
	// Added is how many records of the log are added up, and Records how many it has.
	Added, Records int64
	// Anew says that all sums are being made anew: until they have come as far as the log was when that began, what they tell is less than what was used.
	Anew bool
}

// Behind is how many records are not added up yet.
func (p Progress) Behind() int64 { return p.Records - p.Added }

// progress reads how far the sums are.
func progress(tx *store.Tx) (Progress, error) {
	size, _, err := audit.Extent(tx)
	if err != nil {
		return Progress{}, err
	}
	var at place
	if err := tx.Get(&at, readPlace); err != nil && !errors.Is(err, store.ErrNotFound) {
		return Progress{}, err
	}
	return at.progress(size), nil
}

// progress is how far a place is in a log of such a length.
func (p place) progress(size int64) Progress {
	return Progress{Added: min(max(0, p.Position), size), Records: size, Anew: p.Position < 0 || p.Position < min(p.Goal, size)}
}

// Rebuild has all sums made anew from the log, by whichever instance follows it, and tells how far they are. Sums that are being made anew are not begun once more. It needs usage:write and a fresh proof.
// Its faults are "forbidden", "step_up_required" and "state_conflict", where a newer version makes them, or another instance has just begun.
func (r *Room) Rebuild(ctx context.Context, caller identity.Caller) (Progress, error) {
	target := store.Target{Kind: "usage"}
	if err := r.identity.Permit(ctx, caller, identity.UsageWrite, target); err != nil {
		return Progress{}, err
	}
	var now time.Time
	if err := r.db.Read(ctx, func(tx *store.Tx) error { now = tx.Now(); return nil }); err != nil {
		return Progress{}, err
	}
	if err := identity.RequireFresh(caller, now); err != nil {
		refused := caller.Event(store.UsageRebuild, target)
		refused.Outcome, refused.Reason = store.OutcomeRefused, fault.Of(err).Code
		return Progress{}, errors.Join(r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(refused) }), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out Progress
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var at place
		if err := tx.Get(&at, readPlace+tx.ForUpdate()); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		size, _, err := audit.Extent(tx)
		if err != nil {
			return err
		}
		if at.Form > form {
			return fault.New(fault.Conflict, "state_conflict", "A newer version of Signalbox makes these sums. Order it there.")
		}
		if out = at.progress(size); !out.Anew {
			next, err := beginAnew(tx, at, size)
			if err != nil {
				return err
			}
			out = next.progress(size)
		}
		ev := caller.Event(store.UsageRebuild, target)
		ev.Details = store.Details{store.Int("records", size)}
		return tx.Record(ev)
	})
	r.memory, r.mustLook = memory{}, true
	if errors.Is(err, errTaken) {
		err = fault.New(fault.Conflict, "state_conflict", "Another instance has just begun with the sums. Order it again if they are not being made anew.")
	}
	return out, err
}

// renew has all sums dropped, and the log added up from its start.
func (r *Room) renew(ctx context.Context) error {
	var next place
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		size, _, err := audit.Extent(tx)
		if err == nil {
			next, err = beginAnew(tx, r.place, size)
		}
		return err
	})
	r.memory, r.mustLook = memory{}, true
	if err == nil {
		r.place, r.mustLook = next, false
	}
	return err
}

// beginAnew moves the place to where all sums are dropped, for a log of such a length.
func beginAnew(tx *store.Tx, at place, size int64) (place, error) {
	next := place{Form: form, Position: dropping, Epoch: at.Epoch + 1, Goal: size}
	if at.Form == 0 {
		if _, err := tx.Exec(`INSERT INTO usage_follower (id, form, position, holder, epoch, until, leaf) VALUES (1, 0, 0, '', 0, 0, '') ON CONFLICT DO NOTHING`); err != nil {
			return place{}, err
		}
	}
	return next, one(tx.Exec(`UPDATE usage_follower SET form = $1, position = $2, holder = '', epoch = $3, until = 0, leaf = '', goal = $4 WHERE id = 1 AND epoch = $5`, form, dropping, next.Epoch, size, at.Epoch))
}
