package train

import (
	"context"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// reach returns the train that the caller names by slug or id, as far as the permission reaches it; lock is the clause of the transaction that locks its row, or "": what is
// returned then holds behind the lock. It is the one way to a train from outside: a private one that the caller does not reach is as one that there is not, by the same statement and in
// the same words. Whoever may say who the members are, or end all keys, only where it is theirs must own the train; for one key, see [Room.withKeys].
func reach(tx *store.Tx, caller identity.Caller, p identity.Permission, ref, lock string) (Train, error) {
	t, err := behind(tx, caller, p, ref, lock)
	if err != nil || p != identity.KeyWrite && p != identity.TrainMembers || identity.Allow(caller, p) == nil {
		return t, err
	}
	owner, err := ownedBy(tx, t.ID, caller)
	if err == nil && !owner {
		err = errOwnersOnly()
	}
	return t, err
}

// behind is reach without what owning takes.
func behind(tx *store.Tx, caller identity.Caller, p identity.Permission, ref, lock string) (Train, error) {
	t, err := reached(tx, caller, p, ref)
	if err == nil && lock != "" {
		// Whoever held the row may have ended a membership, and the condition of a statement that waits looks at what was before it: so that is asked anew, behind the lock.
		if err = tx.Get(new(string), `SELECT id FROM trains WHERE id = $1`+lock, t.ID); errors.Is(err, store.ErrNotFound) {
			err = errNoTrain()
		}
		if err == nil {
			t, err = reached(tx, caller, p, t.ID)
		}
	}
	return t, err
}

// reached is behind without a lock.
func reached(tx *store.Tx, caller identity.Caller, p identity.Permission, ref string) (Train, error) {
	sees, err := identity.ReachOfTrains(tx, caller, p)
	if err != nil {
		return Train{}, err
	}
	return lookUp(tx, sees, ref)
}

// nameable is reach for something else that names a train, whose own permission was checked: it finds what may be named to the caller.
func nameable(tx *store.Tx, caller identity.Caller, ref string) (Train, error) {
	sees, err := identity.TrainsKnown(tx, caller)
	if err != nil {
		return Train{}, err
	}
	return lookUp(tx, sees, ref)
}

func lookUp(tx *store.Tx, sees identity.TrainReach, ref string) (Train, error) {
	var w store.Where
	switch {
	case store.ValidID("train", ref):
		w.Add(`t.id = ?`, ref)
	case validSlug(ref):
		w.Add(`t.slug = ?`, ref)
	default: // PostgreSQL takes no NUL and no broken UTF-8
		return Train{}, errNoTrain()
	}
	sees.Narrow(&w, `t.id`)
	var row trainRow
	err := tx.Get(&row, `SELECT `+trainColumn+trainCount+` FROM trains t`+w.SQL(), w.Args()...)
	if errors.Is(err, store.ErrNotFound) {
		return Train{}, errNoTrain()
	}
	if err != nil {
		return Train{}, err
	}
	return row.train(), nil
}

// visible reads a visibility. What is not known is private.
func visible(s string) identity.Visibility {
	if v := identity.Visibility(s); slices.Contains(identity.Visibilities(), v) {
		return v
	}
	return identity.PrivateTrain
}

// ownedBy reports whether the caller owns the train, in person or by a group.
func ownedBy(tx *store.Tx, id string, caller identity.Caller) (bool, error) {
	parties, err := identity.Principals(tx, caller)
	if err != nil || len(parties) == 0 {
		return false, err
	}
	var w store.Where
	w.Add(`train_id = ?`, id)
	w.Add(`role = ?`, string(Owner))
	in(&w, `member_id`, parties)
	n := 0
	err = tx.Get(&n, `SELECT COUNT(*) FROM train_members`+w.SQL(), w.Args()...)
	return n > 0, err
}

// holdWay keeps the way by which the caller reaches a train, whose row is locked, until the end of the transaction, and reports whether a key that they make there is bound to it. One that
// has ended since the train was found is none. What a role makes that reaches the organisation's trains is bound to nothing there.
func (t Train) holdWay(tx *store.Tx, caller identity.Caller) (bound bool, err error) {
	if t.Visibility == identity.OfOrganisation && identity.TrainRead.Of(caller.Role) == identity.Everything {
		return false, nil
	}
	has, err := identity.HoldWay(tx, caller.UserID, t.ID)
	if err == nil && !has {
		err = errNoTrain()
	}
	return caller.UserID != "", err
}

// rules reports whether the caller decides who reaches the train: as one of its owners, or as whoever reaches private trains that are not theirs and may change trains.
func rules(tx *store.Tx, id string, caller identity.Caller) (bool, error) {
	if identity.Allow(caller, identity.TrainPrivate) == nil {
		return true, nil
	}
	return ownedBy(tx, id, caller)
}

// ReachesSome reports whether there can be a train that the caller reaches: those whose role reaches only what is theirs must be among the members of one. It is for a page that shows where
// one can go.
func (r *Room) ReachesSome(ctx context.Context, caller identity.Caller) (some bool, err error) {
	if within, err := identity.Within(caller, identity.TrainRead); err != nil || within == identity.Everything {
		return err == nil, nil // who may not reaches none
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		sees, err := identity.ReachOfTrains(tx, caller, identity.TrainRead)
		if err != nil {
			return err
		}
		var w store.Where
		sees.Narrow(&w, `t.id`)
		n := 0
		err = tx.Get(&n, `SELECT COUNT(*) FROM (SELECT 1 FROM trains t`+w.SQL()+` LIMIT 1) x`, w.Args()...)
		some = n > 0
		return err
	})
	return some, err
}

// allKeys reports whether the caller, who reaches the train, may do p with all of its keys: those whose role reaches only what is theirs may do it with the keys that they made, unless they
// own the train.
func allKeys(tx *store.Tx, id string, caller identity.Caller, p identity.Permission) (bool, error) {
	if identity.Allow(caller, p) == nil {
		return true, nil
	}
	return ownedBy(tx, id, caller)
}

func errOwnersOnly() error {
	return fault.New(fault.Forbidden, "forbidden", "Only an owner of this train may do this, or an administrator of this Signalbox. `signalbox train member list` shows who they are.")
}
