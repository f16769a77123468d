package train

import (
	"context"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// The channels of trains are kept by the notify room; who may see and change them is decided here.

func (t Train) owner() notify.Owner { return notify.Owner{ID: t.ID, Slug: t.Slug} }

// channelled returns an error when the room has nobody who keeps channels, or the kind is none that a train can have.
func (r *Room) channelled(kind notify.ChannelKind) error {
	if r.notices == nil {
		return errors.New("train: nobody keeps the channels of trains")
	}
	if !slices.Contains(notify.TrainChannelKinds(), kind) {
		return fault.New(fault.NotFound, "not_found", "A train has channels of the kinds slack and webhook, and no others.")
	}
	return nil
}

// Channels returns the channels of a train. It needs trains:read.
func (r *Room) Channels(ctx context.Context, caller identity.Caller, ref string) (out []notify.Channel, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		out, err = notify.TrainChannels(tx, t.ID)
		return err
	})
	return out, err
}

// Channel returns a train's channel of a kind. It needs trains:read.
func (r *Room) Channel(ctx context.Context, caller identity.Caller, ref string, kind notify.ChannelKind) (c notify.Channel, err error) {
	if _, err := identity.Within(caller, identity.TrainRead); err != nil {
		return notify.Channel{}, err
	}
	if err := r.channelled(kind); err != nil {
		return notify.Channel{}, err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		c, err = notify.TrainChannel(tx, t.ID, kind)
		return err
	})
	return c, err
}

// PutChannel makes or changes a train's channel of a kind. It needs trains:write; to have it told what the train's agents are asked and answer, or
// to lead a channel that is told that elsewhere, it needs notifications:write and a fresh proof besides.
func (r *Room) PutChannel(ctx context.Context, caller identity.Caller, ref string, kind notify.ChannelKind, p notify.TrainPatch, ifMatch string) (c notify.Channel, made bool, err error) {
	if err := r.allow(ctx, caller, store.ChannelUpdate, named(ref), identity.TrainWrite); err != nil {
		return notify.Channel{}, false, err
	}
	if err := r.channelled(kind); err != nil {
		return notify.Channel{}, false, err
	}
	var refused error
	var target store.Target
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		refused = nil
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		target = t.target()
		c, made, err = r.notices.PutTrainChannel(tx, caller, t.owner(), kind, p, ifMatch, func() error {
			refused = r.mayExpose(caller)
			return refused
		})
		if err == nil {
			tx.Change(store.TopicTrain, t.ID)
		}
		return err
	})
	if err != nil && refused != nil {
		if err := r.recordRefusal(ctx, caller, target, refused, store.Str("act", string(store.ChannelUpdate)), store.Bool("content", true)); err != nil {
			return notify.Channel{}, false, err
		}
		return notify.Channel{}, false, refused
	}
	return c, made, err
}

// mayExpose reports whether the caller may decide who is told what agents are asked and what they answer.
func (r *Room) mayExpose(caller identity.Caller) error {
	if err := identity.Allow(caller, identity.NotifyWrite); err != nil {
		return fault.New(fault.Forbidden, "forbidden", "Prompts and replies are told only where an administrator wants that (notifications:write). "+
			"Leave content off, or switch it off together with this change, or ask an administrator.")
	}
	return identity.RequireFresh(caller, r.now())
}

// DropChannel deletes a train's channel of a kind, with what waits for it. It needs trains:write.
func (r *Room) DropChannel(ctx context.Context, caller identity.Caller, ref string, kind notify.ChannelKind, ifMatch string) error {
	if err := r.allow(ctx, caller, store.ChannelDelete, named(ref), identity.TrainWrite); err != nil {
		return err
	}
	if err := r.channelled(kind); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		tx.Change(store.TopicTrain, t.ID)
		return notify.DropTrainChannel(tx, caller, t.owner(), kind, ifMatch)
	})
}

// TryChannel sends a test message through a train's channel of a kind, and waits for the answer. It needs trains:write.
func (r *Room) TryChannel(ctx context.Context, caller identity.Caller, ref string, kind notify.ChannelKind) (notify.Tried, error) {
	if err := r.allow(ctx, caller, store.NotifyTest, named(ref), identity.TrainWrite); err != nil {
		return notify.Tried{}, err
	}
	if err := r.channelled(kind); err != nil {
		return notify.Tried{}, err
	}
	var t Train
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		t, err = reach(tx, caller, identity.TrainWrite, ref, "")
		return err
	}); err != nil {
		return notify.Tried{}, err
	}
	return r.notices.TryTrainChannel(ctx, caller, t.owner(), kind)
}
