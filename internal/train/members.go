package train

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Role is what somebody is to a train.
type Role string

// The roles. A member reaches the train, if it is private or their role in the organisation reaches no trains but their own, as far as that role lets them; an owner also says who its
// members are.
const (
	Owner  Role = "owner"
	Member Role = "member"
)

// Roles returns every role.
func Roles() []Role { return []Role{Owner, Member} }

// MemberKinds returns what can be a member.
func MemberKinds() []identity.PartyKind {
	return []identity.PartyKind{identity.PartyPerson, identity.PartyGroup}
}

// Membership is a person or a group among the members of a train.
type Membership struct {
	Party identity.Party
	Role  Role
	// Active says that somebody can sign in who is meant: the person, or one of the group's people.
	Active  bool
	AddedBy string // the id of who added them
	AddedAt time.Time
}

// ETag is the validator of this membership (RFC 9110, section 8.8.3), with what it shows of the person or the group.
func (m Membership) ETag() string {
	return etag.Of(string(m.Party.Kind), m.Party.ID, m.Party.Name, string(m.Role), strconv.FormatBool(m.Active), m.AddedBy, m.AddedAt.Format(store.TimeFormat))
}

// MaxMembers is how many people and groups may be members of a train.
const MaxMembers = 500

type memberRow struct {
	ID     string     `db:"member_id"`
	UserID *string    `db:"user_id"`
	Role   string     `db:"role"`
	Name   string     `db:"name"`
	Active int64      `db:"active"`
	At     store.Time `db:"created_at"`
	By     string     `db:"created_by"`
}

// A group counts as active while one of its people is.
const memberColumns = `m.member_id, m.user_id, m.role, m.created_at, m.created_by, COALESCE(u.email, g.name, '') AS name,
	CASE WHEN m.user_id IS NOT NULL THEN COALESCE(u.active, 0) WHEN EXISTS (SELECT 1 FROM group_members x JOIN users y ON y.id = x.user_id WHERE x.group_id = m.group_id AND y.active = 1) THEN 1 ELSE 0 END AS active
	FROM train_members m LEFT JOIN users u ON u.id = m.user_id LEFT JOIN user_groups g ON g.id = m.group_id`

func (r memberRow) membership() Membership {
	m := Membership{Party: identity.Party{Kind: identity.PartyGroup, ID: r.ID, Name: r.Name}, Role: Role(r.Role), Active: r.Active == 1, AddedBy: r.By, AddedAt: r.At.Time()}
	if r.UserID != nil {
		m.Party.Kind = identity.PartyPerson
	}
	return m
}

// Members returns the members of a train, owners first. It needs trains:read.
func (r *Room) Members(ctx context.Context, caller identity.Caller, ref string) (out []Membership, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		out, err = members(tx, t.ID)
		return err
	})
	return out, err
}

func members(tx *store.Tx, id string) ([]Membership, error) {
	var rows []memberRow
	if err := tx.Select(&rows, `SELECT `+memberColumns+` WHERE m.train_id = $1`, id); err != nil {
		return nil, err
	}
	out := make([]Membership, len(rows))
	for i, row := range rows {
		out[i] = row.membership()
	}
	slices.SortFunc(out, func(a, b Membership) int {
		order := func(m Membership) string {
			return strconv.Itoa(slices.Index(Roles(), m.Role)) + string(m.Party.Kind) + "\x00" + m.Party.Name + "\x00" + m.Party.ID
		}
		return strings.Compare(order(a), order(b))
	})
	return out, nil
}

// Member returns one member of a train: a person by id or e-mail address, a group by id or name. It needs trains:read.
func (r *Room) Member(ctx context.Context, caller identity.Caller, ref string, kind identity.PartyKind, who string) (m Membership, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		m, err = member(tx, t.ID, kind, who)
		return err
	})
	return m, err
}

// member finds one member of a train.
func member(tx *store.Tx, id string, kind identity.PartyKind, who string) (Membership, error) {
	none := fault.New(fault.NotFound, "not_found", "No such person or group is a member of this train. `signalbox train member list` shows who is.")
	if !slices.Contains(MemberKinds(), kind) {
		return Membership{}, none
	}
	p, err := identity.FindParty(tx, kind, who)
	if fault.KindOf(err) == fault.NotFound {
		return Membership{}, none
	} else if err != nil {
		return Membership{}, err
	}
	var row memberRow
	err = tx.Get(&row, `SELECT `+memberColumns+` WHERE m.train_id = $1 AND m.member_id = $2`, id, p.ID)
	if errors.Is(err, store.ErrNotFound) {
		return Membership{}, none
	}
	return row.membership(), err
}

// PutMember makes a person (by id or e-mail address) or a group (by id or name) a member of a train, or changes what they are to it; added says whether they were none. It needs
// trains:members and, in a session, a fresh proof; of a private train it takes one of its owners, or trains:private, and so it does to say who the owners of any train are that has one. The
// last owner of a private train stays one. With ifMatch the membership must have that ETag.
func (r *Room) PutMember(ctx context.Context, caller identity.Caller, ref string, kind identity.PartyKind, who string, role Role, ifMatch string) (m Membership, added bool, err error) {
	err = r.onMembers(ctx, caller, store.TrainMemberAdd, ref, false, func(tx *store.Tx, t Train) error {
		if !slices.Contains(Roles(), role) {
			return fault.New(fault.Unprocessable, "validation_failed", "The member is not valid; see the errors.").With("/role", "must be owner or member")
		}
		before, err := member(tx, t.ID, kind, who)
		switch {
		case fault.KindOf(err) == fault.NotFound && ifMatch == "":
			m, err = r.addMember(tx, caller, t, kind, who, role)
			added = true
			return err
		case fault.KindOf(err) == fault.NotFound:
			return fault.New(fault.Precondition, "etag_mismatch", "They are no member of this train any more. Read the members again, then repeat the change.")
		case err != nil:
			return err
		case !etag.Match(ifMatch, before.ETag()):
			return fault.New(fault.Precondition, "etag_mismatch", "The membership was changed since it was read. Read it again, then repeat the change.")
		}
		if err := t.ownersSay(tx, caller, before.Role, role); err != nil {
			return err
		}
		added, m = false, before
		m.Role = role
		if _, err := tx.Exec(`UPDATE train_members SET role = $1 WHERE train_id = $2 AND member_id = $3`, string(role), t.ID, m.Party.ID); err != nil {
			return err
		}
		if err := t.keepsOwner(tx, before); err != nil {
			return err
		}
		return recordMember(tx, caller, store.TrainMemberChange, t, m, store.Str("from", string(before.Role)))
	})
	return m, added, err
}

// addMember stores a new member.
func (r *Room) addMember(tx *store.Tx, caller identity.Caller, t Train, kind identity.PartyKind, who string, role Role) (Membership, error) {
	none := fault.New(fault.NotFound, "not_found", "There is no such person or group. Name a person by id or e-mail address, a group by id or name.")
	if !slices.Contains(MemberKinds(), kind) {
		return Membership{}, none
	}
	p, err := identity.FindParty(tx, kind, who)
	if fault.KindOf(err) == fault.NotFound {
		return Membership{}, none
	} else if err != nil {
		return Membership{}, err
	}
	if err := t.ownersSay(tx, caller, role); err != nil {
		return Membership{}, err
	}
	n := 0
	if err := tx.Get(&n, `SELECT COUNT(*) FROM train_members WHERE train_id = $1`, t.ID); err != nil {
		return Membership{}, err
	}
	if n >= MaxMembers {
		return Membership{}, fault.New(fault.Conflict, "state_conflict", "This train has "+strconv.Itoa(MaxMembers)+" members, and may not have more. Make a group a member in the place of its people.")
	}
	if err := insertMember(tx, caller, t.ID, p, role); err != nil {
		return Membership{}, err
	}
	m, err := member(tx, t.ID, kind, p.ID)
	if err != nil {
		return Membership{}, err
	}
	return m, recordMember(tx, caller, store.TrainMemberAdd, t, m)
}

func insertMember(tx *store.Tx, caller identity.Caller, trainID string, p identity.Party, role Role) error {
	column := "user_id"
	if p.Kind == identity.PartyGroup {
		column = "group_id"
	}
	by := caller.UserID
	if by == "" {
		by = caller.ID
	}
	_, err := tx.Exec(`INSERT INTO train_members (train_id, member_id, `+column+`, role, created_at, created_by) VALUES ($1,$2,$2,$3,$4,$5)`, trainID, p.ID, string(role), store.TimeOf(tx.Now()), by)
	return err
}

// RemoveMember takes a person or a group from the members of a train, and returns the client keys that ended with it: those that were made by whoever is left without a way to it. Of a
// private train administrators are excepted, whose role is one; of the organisation's everybody whose role reaches it. It needs what [Room.PutMember] needs, but anybody who reaches the train may take themselves away.
func (r *Room) RemoveMember(ctx context.Context, caller identity.Caller, ref string, kind identity.PartyKind, who, ifMatch string) (ended []identity.Key, err error) {
	self, err := r.oneself(ctx, caller, kind, who)
	if err != nil {
		return nil, err
	}
	if self {
		who = caller.UserID // whose address it was just now
	} else if err := r.allow(ctx, caller, store.TrainMemberRemove, named(ref), identity.TrainRead); err != nil { // which it takes in any case
		return nil, err
	}
	err = r.onMembers(ctx, caller, store.TrainMemberRemove, ref, self, func(tx *store.Tx, t Train) error {
		ended = nil
		m, err := member(tx, t.ID, kind, who)
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, m.ETag()) {
			return fault.New(fault.Precondition, "etag_mismatch", "The membership was changed since it was read. Read it again, then repeat the change.")
		}
		if !m.isOf(caller) {
			if err := t.ownersSay(tx, caller, m.Role); err != nil {
				return err
			}
		}
		if m.Party.Kind == identity.PartyPerson {
			if err := identity.HoldPerson(tx, m.Party.ID); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`DELETE FROM train_members WHERE train_id = $1 AND member_id = $2`, t.ID, m.Party.ID); err != nil {
			return err
		}
		if err := t.keepsOwner(tx, m); err != nil {
			return err
		}
		if ended, err = r.keys.EndKeysLost(tx, caller, t.ID, m.Party); err != nil {
			return err
		}
		ids := make([]string, len(ended))
		for i := range ended {
			ids[i], ended[i].TrainSlug = ended[i].ID, t.Slug
		}
		return recordMember(tx, caller, store.TrainMemberRemove, t, m, store.Strs("keys_revoked", ids))
	})
	return ended, err
}

// oneself reports whether who names the caller, by id or e-mail address.
func (r *Room) oneself(ctx context.Context, caller identity.Caller, kind identity.PartyKind, who string) (self bool, err error) {
	if kind != identity.PartyPerson || caller.UserID == "" || who == caller.UserID {
		return kind == identity.PartyPerson && caller.UserID != "", nil
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		p, err := identity.FindParty(tx, kind, who)
		self = err == nil && p.ID == caller.UserID
		if fault.KindOf(err) == fault.NotFound {
			return nil
		}
		return err
	})
	return self, err
}

// onMembers is the frame of every act on the members of a train. Its row is locked, so that of two who go at once one stays. self says that it is about the caller's own membership.
func (r *Room) onMembers(ctx context.Context, caller identity.Caller, act store.Action, ref string, self bool, fn func(*store.Tx, Train) error) error {
	need := identity.TrainMembers
	if self { // which takes no owner
		need = identity.TrainRead
	}
	if err := r.allow(ctx, caller, act, named(ref), need); err != nil {
		return err
	}
	if err := identity.RequireFresh(caller, r.now()); err != nil {
		return errors.Join(r.recordRefusal(ctx, caller, named(ref), err, store.Str("act", string(act))), err)
	}
	var refused error
	target := named(ref)
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		refused = nil
		t, err := reach(tx, caller, need, ref, tx.ForUpdate())
		if err == nil && !self && t.Visibility != identity.OfOrganisation {
			var may bool
			if may, err = rules(tx, t.ID, caller); err == nil && !may {
				err = errOwnersOnly()
			}
		}
		if err == nil {
			target = t.target()
			tx.Change(store.TopicTrain, t.ID) // an open page shows its members
			err = fn(tx, t)
		}
		if fault.KindOf(err) == fault.Forbidden {
			refused = err
		}
		return err
	})
	if err != nil && refused != nil {
		return errors.Join(r.recordRefusal(ctx, caller, target, refused, store.Str("act", string(act))), refused)
	}
	return err
}

// ownersSay refuses an act on a membership with these roles, of before and of after, to whoever does not decide who reaches the train, if it is about an owner and somebody owns the train who
// can sign in: who makes themselves an owner, or removes the others, can shut them out. The train's row is locked.
func (t Train) ownersSay(tx *store.Tx, caller identity.Caller, roles ...Role) error {
	if !slices.Contains(roles, Owner) {
		return nil
	}
	owned, err := hasOwner(tx, t.ID)
	if err != nil || !owned {
		return err
	}
	may, err := rules(tx, t.ID, caller)
	if err == nil && !may {
		err = errOwnersOnly()
	}
	return err
}

// keepsOwner refuses a change by which a private train loses its last owner who can sign in; was is the membership that changed. What was none of those may always go.
func (t Train) keepsOwner(tx *store.Tx, was Membership) error {
	if t.Visibility == identity.OfOrganisation || was.Role != Owner || !was.Active {
		return nil
	}
	owned, err := hasOwner(tx, t.ID)
	if err == nil && !owned {
		err = fault.New(fault.Conflict, "last_owner", "This is the last owner of a private train. Make another person, or a group with people in it, an owner first; or open the train to the organisation: signalbox train edit "+t.Slug+" --visibility organisation")
	}
	return err
}

// hasOwner reports whether somebody who can sign in owns the train.
func hasOwner(tx *store.Tx, id string) (bool, error) {
	list, err := members(tx, id)
	return slices.ContainsFunc(list, func(m Membership) bool { return m.Role == Owner && m.Active }), err
}

// own makes whoever asks an owner of a train.
func (t Train) own(tx *store.Tx, caller identity.Caller) error {
	m, err := member(tx, t.ID, identity.PartyPerson, caller.UserID)
	if err == nil {
		if _, err := tx.Exec(`UPDATE train_members SET role = $1 WHERE train_id = $2 AND member_id = $3`, string(Owner), t.ID, m.Party.ID); err != nil {
			return err
		}
		from := m.Role
		m.Role = Owner
		return recordMember(tx, caller, store.TrainMemberChange, t, m, store.Str("from", string(from)))
	}
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	p, err := identity.FindParty(tx, identity.PartyPerson, caller.UserID)
	if err != nil {
		return err
	}
	if err := insertMember(tx, caller, t.ID, p, Owner); err != nil {
		return err
	}
	return recordMember(tx, caller, store.TrainMemberAdd, t, Membership{Party: p, Role: Owner})
}

// show changes who reaches a train whose row is locked, and says whether it did. In a session that takes a fresh proof, as a change of its members does. It takes an owner, or whoever reaches private trains that are not theirs; where nobody owns the train,
// whoever may change it can make it private, and owns it then.
func (r *Room) show(tx *store.Tx, caller identity.Caller, t *Train, to *identity.Visibility) (bool, error) {
	if to == nil || *to == t.Visibility || !slices.Contains(identity.Visibilities(), *to) {
		if to != nil {
			t.Visibility = *to // the check of the train tells of it
		}
		return false, nil
	}
	may, owned, err := mayShow(tx, caller, *t)
	switch {
	case err != nil:
		return false, err
	case !may:
		return false, errOwnersOnly()
	}
	if err := identity.RequireFresh(caller, r.now()); err != nil {
		return false, err
	}
	t.Visibility = *to
	if *to != identity.PrivateTrain || owned {
		return true, nil
	}
	if caller.UserID == "" {
		return false, errNobodyOwns()
	}
	return true, t.own(tx, caller)
}

// mayShow reports whether the caller, who may change trains, decides who reaches this one, and whether somebody owns it who can sign in.
func mayShow(tx *store.Tx, caller identity.Caller, t Train) (may, owned bool, err error) {
	if owned, err = hasOwner(tx, t.ID); err != nil {
		return false, false, err
	}
	may, err = rules(tx, t.ID, caller)
	return may || !owned && t.Visibility == identity.OfOrganisation, owned, err
}

func errNobodyOwns() error {
	return fault.New(fault.Unprocessable, "validation_failed", "A private train has an owner, and you are no person of this Signalbox. Add an owner first, then make the train private; or have a person do it.").
		With("/visibility", "needs an owner")
}

func recordMember(tx *store.Tx, caller identity.Caller, act store.Action, t Train, m Membership, more ...store.Detail) error {
	ev := caller.Event(act, t.target())
	ev.Details = append(store.Details{store.Str("member", m.Party.ID), store.Str("kind", string(m.Party.Kind)), store.Str("name", m.Party.Name), store.Str("role", string(m.Role))}, more...)
	return tx.Record(ev)
}

// in adds the condition that the column is one of the texts.
func in(w *store.Where, column string, texts []string) {
	args := make([]any, len(texts))
	for i, s := range texts {
		args[i] = s
	}
	w.Add(column+` IN (?`+strings.Repeat(`, ?`, len(args)-1)+`)`, args...)
}
