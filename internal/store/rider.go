package store

import (
	"context"
	"sync/atomic"
)

// rider is what a door sends along with an act, to be committed with it or not at all.
type rider struct {
	fn      func(*Tx) error
	carried atomic.Bool
}

type riderKey struct{}

// WithRider returns a context under which the first [DB.Write] that commits an act carries fn: it runs fn in its transaction, after its own
// function, so that what fn writes is there exactly if the act is. A Write that recorded only refusals and failures is no act and carries
// nothing; neither do Read and Bookkeep. An error of fn rolls the act back. Like the Write's own function, fn may run again when the
// database asks for a retry. carried reports whether a commit with fn in it was acknowledged.
func WithRider(ctx context.Context, fn func(*Tx) error) (_ context.Context, carried func() bool) {
	r := &rider{fn: fn}
	return context.WithValue(ctx, riderKey{}, r), r.carried.Load
}

func riderOf(ctx context.Context) *rider {
	r, _ := ctx.Value(riderKey{}).(*rider)
	return r
}

// withoutRider is for what the store itself calls after a commit.
func withoutRider(ctx context.Context) context.Context {
	if riderOf(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, riderKey{}, (*rider)(nil))
}

// Act returns the last event with the outcome ok that the transaction has recorded, and whether there is one.
func (tx *Tx) Act() (Event, bool) {
	if tx.act == nil {
		return Event{}, false
	}
	return *tx.act, true
}
