package identity

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// GroupMember is a person in a group.
type GroupMember struct {
	UserID, Email, Name string
	Active              bool
	AddedAt             time.Time
	// ByHand says that somebody put them in; Providers are those of single sign-on that do. It is one of the two at least.
	ByHand    bool
	Providers []string
}

// ETag is the validator of this membership (RFC 9110, section 8.8.3), with what it shows of the person.
func (m GroupMember) ETag() string {
	return etag.Of(append([]string{m.UserID, m.Email, m.Name, strconv.FormatBool(m.Active), m.AddedAt.Format(store.TimeFormat), strconv.FormatBool(m.ByHand)}, m.Providers...)...)
}

// MaxGroups is how many groups a person may be in: each is looked for in every question what was granted to them.
const MaxGroups = 200

const memberColumns = `u.id, u.email, u.name, u.active, m.added_at, m.by_hand FROM group_members m JOIN users u ON u.id = m.user_id`

type memberRow struct {
	ID      string     `db:"id"`
	Email   string     `db:"email"`
	Name    string     `db:"name"`
	Active  int64      `db:"active"`
	AddedAt store.Time `db:"added_at"`
	ByHand  int64      `db:"by_hand"`
}

func (m memberRow) member() GroupMember {
	return GroupMember{UserID: m.ID, Email: m.Email, Name: m.Name, Active: m.Active == 1, AddedAt: m.AddedAt.Time(), ByHand: m.ByHand == 1}
}

// GroupMembers returns the members of a group, by their ids, and the cursor of the next page (empty at the end). It needs [GroupRead].
func (r *Room) GroupMembers(ctx context.Context, caller Caller, id string, f NameFilter) (members []GroupMember, next string, err error) {
	if err := Allow(caller, GroupRead); err != nil {
		return nil, "", err
	}
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		g, err := findGroup(tx, id, "")
		if err != nil {
			return err
		}
		var rows []memberRow
		size, err := f.page(tx, &rows, `SELECT `+memberColumns, "user", "u.", func(w *store.Where) { w.Add("m.group_id = ?", g.ID) })
		if err != nil {
			return err
		}
		members, next = make([]GroupMember, 0, len(rows)), ""
		if len(rows) > size {
			rows = rows[:size]
			next = rows[size-1].ID
		}
		if len(rows) == 0 {
			return nil
		}
		by, err := providersOf(tx, g.ID, rows[0].ID, rows[len(rows)-1].ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			m := row.member()
			m.Providers = by[m.UserID]
			members = append(members, m)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return members, next, nil
}

// GroupMember returns one member of a group. It needs [GroupRead].
func (r *Room) GroupMember(ctx context.Context, caller Caller, id, userID string) (GroupMember, error) {
	if err := Allow(caller, GroupRead); err != nil {
		return GroupMember{}, err
	}
	var m GroupMember
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		if _, err = findGroup(tx, id, ""); err != nil {
			return err
		}
		m, err = findMember(tx, id, userID)
		return err
	})
	return m, err
}

// AddGroupMember puts a person, named by id or e-mail address, into a group; added says whether they were not in it. It needs [GroupWrite], and what [Room.onGroup] asks
// for besides.
func (r *Room) AddGroupMember(ctx context.Context, caller Caller, id, person string) (m GroupMember, added bool, err error) {
	if err := r.allowFresh(ctx, caller, GroupWrite, knownTarget("group", "grp", id)); err != nil {
		return GroupMember{}, false, err
	}
	err = r.onGroup(ctx, caller, id, func(tx *store.Tx, g Group) error {
		p, err := FindParty(tx, PartyPerson, person)
		if fault.KindOf(err) == fault.NotFound {
			return fault.New(fault.Unprocessable, "validation_failed", "There is no such person.").With("/user_id", "is neither the id nor the e-mail address of a person")
		} else if err != nil {
			return err
		}
		n, err := tx.Exec(`INSERT INTO group_members (user_id, group_id, added_at) VALUES ($1,$2,$3) ON CONFLICT DO NOTHING`, p.ID, g.ID, store.TimeOf(tx.Now()))
		if err != nil {
			return err
		}
		if added = n > 0; !added { // from now on by hand, whatever a provider says later
			if _, err := tx.Exec(`UPDATE group_members SET by_hand = 1 WHERE user_id = $1 AND group_id = $2`, p.ID, g.ID); err != nil {
				return err
			}
		}
		var count int
		if err := tx.Get(&count, `SELECT COUNT(*) FROM group_members WHERE user_id = $1`, p.ID); err != nil {
			return err
		}
		if added && count > MaxGroups {
			return fault.New(fault.Conflict, "state_conflict", "This person is in "+strconv.Itoa(MaxGroups)+" groups, and may not be in more. Take them from some first.")
		}
		if m, err = findMember(tx, g.ID, p.ID); err != nil {
			return err
		}
		ev := caller.Event(store.GroupJoin, g.Target())
		ev.Details = store.Details{store.Str("user", m.UserID), store.Str("name", m.Name), store.Bool("new", added)}
		return tx.Record(ev)
	})
	return m, added, err
}

// RemoveGroupMember takes a person from a group, whoever put them in; what was granted to the group is theirs no longer, and the client keys that they made on trains to which it
// was their only way end (lostkeys.go). A provider that gives
// the membership gives it again when they sign in there the next time. It needs [GroupWrite], and what [Room.onGroup] asks for besides.
func (r *Room) RemoveGroupMember(ctx context.Context, caller Caller, id, userID, ifMatch string) error {
	if err := r.allowFresh(ctx, caller, GroupWrite, knownTarget("group", "grp", id)); err != nil {
		return err
	}
	return r.onGroup(ctx, caller, id, func(tx *store.Tx, g Group) error {
		m, err := findMember(tx, g.ID, userID)
		if err != nil {
			return err
		}
		if err := changedSince("membership", ifMatch, m.ETag()); err != nil {
			return err
		}
		if err := HoldPerson(tx, m.UserID); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM group_members WHERE group_id = $1 AND user_id = $2`, g.ID, m.UserID); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM sso_memberships WHERE group_id = $1 AND user_id = $2`, g.ID, m.UserID); err != nil {
			return err
		}
		ended, err := r.endKeysOfGroups(tx, caller, m.UserID, []string{g.ID})
		if err != nil {
			return err
		}
		ev := caller.Event(store.GroupLeave, g.Target())
		ev.Details = append(store.Details{store.Str("user", m.UserID), store.Str("name", m.Name)}, keysEnded(ended)...)
		return tx.Record(ev)
	})
}

// onGroup is the frame of every act on who is in a group, whose row is locked. People reach private trains through their groups, so of a group that is a member of some, or an owner of any
// train, it takes an owner of all of them, or [TrainPrivate]: else whoever keeps groups would let themselves in, and throw others out.
func (r *Room) onGroup(ctx context.Context, caller Caller, id string, fn func(*store.Tx, Group) error) error {
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		g, err := findGroup(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		may, err := ownsTrainsOf(tx, caller, g.ID)
		if err != nil {
			return err
		}
		if !may {
			verdict = fault.New(fault.Forbidden, "forbidden", "This group is a member of a private train, or an owner of a train. An owner of every such train may do this, or an administrator of this Signalbox.")
			return recordRefusal(tx, caller, g.Target(), verdict)
		}
		return fn(tx, g)
	})
	if err == nil {
		err = verdict
	}
	return err
}

// ownsTrainsOf reports whether the caller decides who reaches the private trains that a group is a member of and those that it owns, if there are any.
func ownsTrainsOf(tx *store.Tx, caller Caller, groupID string) (bool, error) {
	if Allow(caller, TrainPrivate) == nil {
		return true, nil
	}
	parties, err := Principals(tx, caller)
	if err != nil {
		return false, err
	}
	var w store.Where
	w.Add(`m.group_id = ?`, groupID)
	w.Add(`(t.visibility <> 'organisation' OR m.role = 'owner')`)
	if len(parties) > 0 {
		args := make([]any, len(parties))
		for i, id := range parties {
			args[i] = id
		}
		w.Add(`m.train_id NOT IN (SELECT o.train_id FROM train_members o WHERE o.role = 'owner' AND o.member_id IN (?`+strings.Repeat(`, ?`, len(args)-1)+`))`, args...)
	}
	n := 0
	err = tx.Get(&n, `SELECT COUNT(*) FROM train_members m JOIN trains t ON t.id = m.train_id`+w.SQL(), w.Args()...)
	return n == 0, err
}

func findMember(tx *store.Tx, groupID, userID string) (GroupMember, error) {
	none := fault.New(fault.NotFound, "not_found", "This person is not in the group. `signalbox group show` lists its members.")
	if !store.ValidID("user", userID) {
		return GroupMember{}, none
	}
	var row memberRow
	err := tx.Get(&row, `SELECT `+memberColumns+` WHERE m.group_id = $1 AND m.user_id = $2`, groupID, userID)
	if errors.Is(err, store.ErrNotFound) {
		return GroupMember{}, none
	} else if err != nil {
		return GroupMember{}, err
	}
	by, err := providersOf(tx, groupID, userID, userID)
	m := row.member()
	m.Providers = by[userID]
	return m, err
}
