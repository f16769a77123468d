package oauth

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/provider"
)

// debt is what a call came to and the database does not have yet: a pair, or the answer of a call that brought none.
type debt struct {
	spill
	claim  *claim // of an answer; nil for a pair
	answer provider.Answer

	// next is the claim with which an overtaken pair is to be sent, and told is what those who wait are told, once the debt is paid. The
	// room's mutex guards both.
	next *claim
	told error

	paying chan struct{} // holds one token: who has it pays, and may touch the two below
	tried  bool          // an answer came as far as its commit
	took   *claim        // what the last try took for an overtaken pair; it counts when it is the stored one
	failed int
	nextAt time.Time
}

// has reports whether the debt is a pair.
func (d *debt) has() bool { return d.claim == nil }

func (d *debt) id() string {
	if d.claim != nil {
		return d.claim.id
	}
	return d.spill.claim
}

const (
	debtFirst = 250 * time.Millisecond
	debtMost  = 15 * time.Second
)

// owe remembers a debt until it is paid.
func (r *Room) owe(d *debt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.paying = make(chan struct{}, 1)
	r.debts[d.id()] = d
}

// pay stores a debt in the database and forgets it. An error means that it is still owed, except errOvertaken and those of a credential that
// is gone.
func (r *Room) pay(ctx context.Context, d *debt) (version int64, err error) {
	select {
	case d.paying <- struct{}{}:
		defer func() { <-d.paying }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	r.mu.Lock()
	_, owed := r.debts[d.id()]
	told := d.told
	r.mu.Unlock()
	if !owed { // the other one has paid
		return 0, told
	}
	if r.dead.Load() {
		return 0, errDead
	}
	if d.has() {
		version, err = r.payPair(ctx, d)
	} else {
		err = r.outcome(ctx, d)
	}
	gone := fault.KindOf(err) == fault.NotFound && err != nil
	switch {
	case err == nil, errors.Is(err, errOvertaken), gone:
	case errors.Is(err, errDead):
		return 0, err
	default:
		r.mu.Lock()
		d.nextAt = time.Now().Add(min(debtFirst<<min(d.failed, 10), debtMost))
		d.failed++
		first := d.failed == 1
		r.mu.Unlock()
		if first {
			r.log.Error("what a refresh brought could not be stored in the database; it is kept and tried again until it is", "credential", d.subject(), "on_disk", d.path != "", "cause", err)
		}
		return 0, err
	}
	r.mu.Lock()
	delete(r.debts, d.id())
	r.mu.Unlock()
	if d.has() && (err == nil || gone) {
		return version, errors.Join(err, r.clear(d.spill))
	}
	return version, err
}

func (d *debt) subject() string {
	if d.claim != nil {
		return d.claim.credential
	}
	return d.credential
}

// payPair stores a pair. A pair that is in memory alone is put on disk first, if that is possible by now.
func (r *Room) payPair(ctx context.Context, d *debt) (int64, error) {
	version, err := r.commit(ctx, d.spill)
	switch {
	case err == nil:
		r.tally.stored(d.spill.provider)
		return version, r.step(AtCommitted)
	case errors.Is(err, errOvertaken):
		return 0, errors.Join(err, r.setAside(d.spill))
	}
	if d.path == "" {
		if path, werr := r.spills.write(d.spill); werr == nil {
			d.path = path
		}
	}
	return 0, err
}

// clear drops the file of a pair that is stored, and of the overtaken pair that was used up for it.
func (r *Room) clear(s spill) error {
	if err := r.spills.remove(s); err != nil {
		r.log.Warn("the file of a stored token could not be removed; it is removed at the next start", "credential", s.credential, "cause", err)
	}
	if s.spent != "" {
		r.drop(s.credential, s.spent)
	}
	return r.step(AtCleared)
}

// owes returns the pair of a credential that the database does not have yet, or nil.
func (r *Room) owes(credential string) *debt {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.debts {
		if d.has() && d.credential == credential {
			return d
		}
	}
	return nil
}

// payFirst stores a pair of the credential that this process still owes, before anybody thinks of sending the token again.
func (r *Room) payFirst(credential string) (version int64, err error) {
	owed := r.owes(credential)
	if owed == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	if version, err = r.pay(ctx, owed); errors.Is(err, errOvertaken) {
		return 0, nil
	}
	return version, err
}

// work pays debts and sweeps until the room is closed.
func (r *Room) work() {
	tick := time.NewTimer(0)
	defer tick.Stop()
	var swept time.Time
	for {
		select {
		case <-r.base.Done():
			return
		case <-r.nudge:
		case <-tick.C:
		}
		if r.dead.Load() {
			return
		}
		now := time.Now()
		for _, d := range r.due(now) {
			r.payDue(d)
		}
		if now.Sub(swept) >= sweepEvery {
			swept = now
			r.sweep()
		}
		r.tend()
		tick.Reset(r.pause(time.Now(), swept))
	}
}

// payDue pays a debt in the background, and makes the call that it may bring.
func (r *Room) payDue(d *debt) {
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	_, _ = r.pay(ctx, d) // it says itself what went wrong, and stays owed
	if !r.begin() {
		return // a flight that waits for the debt may still make the call; else the claim lapses
	}
	next, _ := r.hand(d)
	if next == nil {
		r.flying.Done()
		return
	}
	go func() { defer r.flying.Done(); _, _ = r.run(next) }()
}

// begin counts a call among those that Close waits for; false when nothing may begin any more.
func (r *Room) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return false
	}
	r.flying.Add(1)
	return true
}

// due returns the debts whose time has come.
func (r *Room) due(now time.Time) (out []*debt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.debts {
		if !d.nextAt.After(now) {
			out = append(out, d)
		}
	}
	return out
}

// pause is how long there is nothing to do.
func (r *Room) pause(now, swept time.Time) time.Duration {
	next := swept.Add(sweepEvery)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.debts {
		if d.nextAt.Before(next) {
			next = d.nextAt
		}
	}
	return max(next.Sub(now), 10*time.Millisecond)
}
