package train

import (
	"context"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// MemberRights is what a caller may do about who reaches a train. It is for a page that shows what can be done: the acts ask again.
type MemberRights struct {
	// Change says that they say who its members are, Show that they make it private or open it.
	Change, Show bool
	// Owners says that they change and remove owners too.
	Owners bool
	// Owned says that somebody owns it who can sign in.
	Owned bool
}

// MemberRights returns what the caller may do about who reaches a train. It needs trains:read.
func (r *Room) MemberRights(ctx context.Context, caller identity.Caller, ref string) (may MemberRights, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		may = MemberRights{}
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		show, owned, err := mayShow(tx, caller, t)
		if err != nil {
			return err
		}
		may.Show, may.Owned = show && identity.Allow(caller, identity.TrainWrite) == nil, owned
		if may.Change, err = mayChange(tx, caller, t); err != nil || !may.Change {
			return err
		}
		err = t.ownersSay(tx, caller, Owner)
		if may.Owners = err == nil; fault.KindOf(err) == fault.Forbidden {
			err = nil
		}
		return err
	})
	return may, err
}

// mayChange reports whether the caller says who the members of a train are.
func mayChange(tx *store.Tx, caller identity.Caller, t Train) (bool, error) {
	reach, err := identity.Within(caller, identity.TrainMembers)
	if err != nil {
		return false, nil // they may not, of no train
	}
	if t.Visibility == identity.OfOrganisation && reach == identity.Everything {
		return true, nil
	}
	return rules(tx, t.ID, caller)
}

// Loss is what the end of a membership takes: the client keys that end, and how many people it leaves without a way to the train.
type Loss struct {
	Keys   []identity.Key
	People int
}

// Removal returns a member of a train, and what would be lost if they were removed. It needs what [Room.RemoveMember] needs, but no fresh proof.
func (r *Room) Removal(ctx context.Context, caller identity.Caller, ref string, kind identity.PartyKind, who string) (m Membership, loss Loss, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		if m, err = member(tx, t.ID, kind, who); err != nil {
			return err
		}
		if !m.isOf(caller) {
			if _, err := identity.Within(caller, identity.TrainMembers); err != nil {
				return err
			}
			may, err := mayChange(tx, caller, t)
			if err != nil {
				return err
			}
			if !may {
				return errOwnersOnly()
			}
			if err := t.ownersSay(tx, caller, m.Role); err != nil {
				return err
			}
		}
		if loss.People, err = identity.LeftWithout(tx, t.ID, t.Visibility, m.Party); err != nil {
			return err
		}
		loss.Keys, err = r.keys.KeysLost(tx, t.ID, m.Party)
		return err
	})
	return m, loss, err
}

// KeysLostBy returns the client keys that would end if somebody were deactivated, as [identity.Room.KeysLostBy] does. It needs users:write.
func (r *Room) KeysLostBy(ctx context.Context, caller identity.Caller, userID string) (ends []identity.Key, err error) {
	if err := identity.Allow(caller, identity.UserWrite); err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) (err error) {
		if ends, err = r.keys.KeysLostBy(tx, caller, userID); err != nil {
			return err
		}
		ids := make([]string, len(ends))
		for i, k := range ends {
			ids[i] = k.TrainID
		}
		slices.Sort(ids)
		slugs, err := r.Slugs(tx, caller, slices.Compact(ids))
		for i := range ends {
			ends[i].TrainSlug = slugs[ends[i].TrainID]
		}
		return err
	})
	return ends, err
}

// isOf reports whether it is the caller's own membership, which they may end.
func (m Membership) isOf(caller identity.Caller) bool {
	return m.Party.Kind == identity.PartyPerson && caller.UserID != "" && m.Party.ID == caller.UserID
}
