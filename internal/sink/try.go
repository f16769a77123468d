package sink

import (
	"context"

	"signalbox.dev/signalbox/internal/store"
)

// Tried is the answer of [Room.Try].
type Tried struct {
	Delivered bool
	Detail    string // why not, in our words
}

// Try sends one test message to a sink now, paused or not, and waits for the answer. That it is sent is on record before, how that ended after. It moves no cursor.
func (r *Room) Try(ctx context.Context, caller Caller, id string) (Tried, error) {
	var p parcel
	record := func(tx *store.Tx, outcome, reason string) error {
		ev := caller.Event(store.SinkTest, p.sink.target())
		ev.Outcome, ev.Reason = outcome, reason
		ev.Details = store.Details{store.Str("destination", p.sink.Destination)}
		return tx.Record(ev)
	}
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var sealed []byte
		var err error
		if p.sink, sealed, err = loadSink(tx, id, ""); err != nil {
			return err
		}
		if p.secrets, err = r.open(p.sink, sealed); err != nil {
			return err
		}
		p.at = tx.Now()
		return record(tx, store.OutcomePending, "")
	})
	if err != nil {
		return Tried{}, err
	}
	v := r.send(ctx, p)
	outcome := store.OutcomeOK
	if !v.delivered {
		outcome = store.OutcomeFailed
	}
	// The client may be gone; the record is for others.
	if err := r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return record(tx, outcome, v.detail) }); err != nil {
		return Tried{}, err
	}
	return Tried{Delivered: v.delivered, Detail: v.detail}, nil
}
