package oauth

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
)

// Times of the protocol, for tests from outside.
const (
	ClaimFor      = claimFor
	CallLimit     = callLimit
	TakeoverAfter = takeoverAfter
	CoolMost      = coolMost
)

// SetPatience makes those who wait give up after d.
func (r *Room) SetPatience(d time.Duration) { r.patience = d }

// Sweep is what the background work does now and then.
func (r *Room) Sweep() { r.sweep(); r.tend() }

// Spare is how many overtaken pairs are kept.
func (r *Room) Spare() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, list := range r.spare {
		n += len(list)
	}
	return n
}

// Joined is how many wait for an effort that another one has begun.
func (r *Room) Joined() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flights {
		n += f.joined.Load()
	}
	return n
}

// Waiting is how many efforts are under way.
func (r *Room) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.flights)
}

// StateOf reads the state of a connection.
func StateOf(ctx context.Context, db *store.DB, id string) (s State, err error) {
	err = db.Read(ctx, func(tx *store.Tx) error {
		c, err := loadConnection(tx, id)
		s = c.State
		return err
	})
	return s, err
}

// Sleep makes the process believe that it was stopped for a while.
func (r *Room) Sleep(d time.Duration) { r.slept.Add(int64(d)) }

// DueNow looks, as the background work does, for what is owed now, and returns what pays that.
func (r *Room) DueNow() (pay func()) {
	owed := r.due(time.Now())
	return func() {
		for _, d := range owed {
			r.payDue(d)
		}
	}
}

// OutcomeTwice takes a claim and stores an answer to it twice, as after a commit whose own answer was lost. It makes the call that the second
// try brings, if any, and returns the generation that this brings.
func (r *Room) OutcomeTwice(ctx context.Context, id string, generation int64, a provider.Answer) (int64, error) {
	rep, err := r.ask(ctx, want{credential: id, generation: generation, on: Due, caller: chore()})
	if err != nil {
		return 0, err
	}
	d := &debt{claim: rep.claim, answer: a}
	for range 2 {
		d.next, d.told = nil, nil
		if err := r.outcome(ctx, d); err != nil {
			return 0, err
		}
	}
	if next, _ := r.hand(d); next != nil {
		return r.run(next)
	}
	return 0, nil
}
