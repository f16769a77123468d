package notify

import (
	"context"

	"signalbox.dev/signalbox/internal/store"
)

// Tried is the answer of [Room.TryChannel].
type Tried struct {
	Delivery  string
	Delivered bool
	Detail    string // why not, in our words
}

// TryChannel sends one test message through a channel now, disabled or not, and waits for the answer. That it is sent is on record before, how
// that ended after. It does not go through the outbox: who tests wants to see what happens.
func (r *Room) TryChannel(ctx context.Context, caller Caller, id string) (Tried, error) {
	return r.try(ctx, caller, func(tx *store.Tx) (Channel, channelRowDB, error) { return loadOwn(tx, id, "") })
}

func (r *Room) try(ctx context.Context, caller Caller, load func(tx *store.Tx) (Channel, channelRowDB, error)) (Tried, error) {
	p := parcel{id: store.NewID(deliveryPrefix), kind: Test}
	c, _, err := Message{
		Kind: Test, Title: "This is a test", Text: "Somebody tests this notification channel of Signalbox. Nothing has happened, and there is nothing to do.",
	}.content()
	if err != nil {
		return Tried{}, err
	}
	p.content = c
	record := func(tx *store.Tx, outcome, reason string) error {
		ev := caller.Event(store.NotifyTest, p.channel.target())
		ev.Outcome, ev.Reason = outcome, reason
		ev.Details = store.Details{store.Str("delivery", p.id), store.Str("destination", p.channel.Destination)}
		return tx.Record(ev)
	}
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		var row channelRowDB
		var err error
		if p.channel, row, err = load(tx); err != nil {
			return err
		}
		if p.secrets, err = r.open(p.channel, row.Sealed); err != nil {
			return err
		}
		p.at = tx.Now()
		return record(tx, store.OutcomePending, "")
	})
	if err != nil {
		return Tried{}, err
	}
	limited, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	v := r.send(limited, p)
	outcome := store.OutcomeOK
	if !v.delivered {
		outcome = store.OutcomeFailed
	}
	// The client may be gone; the record is for others.
	if err := r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return record(tx, outcome, v.detail) }); err != nil {
		return Tried{}, err
	}
	return Tried{Delivery: p.id, Delivered: v.delivered, Detail: v.detail}, nil
}
