package train

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// ForeignKey is a client key that another system has issued for a train.
type ForeignKey struct {
	Train string // the slug
	Draft identity.KeyDraft
	Value secret.Value
}

// Taken is what became of a [ForeignKey].
type Taken struct {
	Key identity.Key
	// Known is the id of the key that is here already with the same secret, of the train KnownTrain; Key is empty then.
	Known, KnownTrain string
	// MadeTrain says that there was no such train.
	MadeTrain bool
}

// MayImport returns nil when the caller may take over client keys and make their trains. A refusal is recorded.
func (r *Room) MayImport(ctx context.Context, caller identity.Caller) error {
	target := store.Target{Kind: "train"}
	if err := r.allow(ctx, caller, store.KeyIssue, target, identity.KeyWrite, identity.TrainWrite); err != nil {
		return err
	}
	if err := identity.RequireFresh(caller, r.now()); err != nil {
		return errors.Join(r.recordRefusal(ctx, caller, target, err, store.Str("act", string(store.KeyIssue))), err)
	}
	return nil
}

// TakeKey takes over a client key in the transaction of an import, whose caller [Room.MayImport] has let; its train is made if there is none. An
// error leaves the transaction as it was, unless it is the database's.
func (r *Room) TakeKey(tx *store.Tx, caller identity.Caller, k ForeignKey) (Taken, error) {
	if trainID, id, err := r.keys.KeyOf(tx, k.Value); err == nil {
		slugs, err := r.Slugs(tx, caller, []string{trainID})
		return Taken{Known: id, KnownTrain: slugs[trainID]}, err
	} else if fault.KindOf(err) != fault.NotFound {
		return Taken{}, err
	}
	var out Taken
	t, err := reach(tx, caller, identity.KeyWrite, k.Train, tx.ForUpdate())
	if fault.KindOf(err) == fault.NotFound {
		t = Train{Slug: k.Train, Name: k.Train, Strategy: Hash, Revision: 1, Visibility: identity.OfOrganisation}
		if err := t.check(true); err != nil {
			return Taken{}, err
		}
		switch _, err := lookUp(tx, identity.EveryTrain(), k.Train); {
		case err == nil: // it is private, and told as little of as when one is made
			return Taken{}, fault.New(fault.Unprocessable, "validation_failed", "This train_id is taken. Choose another.").With("/train_id", "is taken")
		case fault.KindOf(err) != fault.NotFound:
			return Taken{}, err
		}
		out.MadeTrain = true
		err = t.insert(tx, caller)
	}
	if err != nil {
		return Taken{}, err
	}
	k.Draft.Limit = t.KeyLimit
	if k.Draft.Bound, err = t.holdWay(tx, caller); err != nil {
		return Taken{}, err
	}
	out.Key, err = r.keys.ImportKey(tx, caller, t.ID, k.Draft, k.Value)
	out.Key.TrainSlug = t.Slug
	return out, err
}
