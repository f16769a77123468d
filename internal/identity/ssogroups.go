package identity

import (
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// GroupMapping makes the members of a group at a provider members of a group here.
type GroupMapping struct {
	Group string `json:"group"` // as the provider calls it
	ID    string `json:"id"`    // of the group here; to set it, its name will do
	Name  string `json:"-"`     // of the group here, by now
}

// maxMappings bounds the tables of a provider.
const maxMappings = 100

// groupsOf returns the groups here that somebody at the provider belongs to, each once, in order.
func (p SSOProvider) groupsOf(who ssoPerson) (ids []string) {
	for _, row := range p.Groups {
		if slices.Contains(who.groups, row.Group) {
			ids = append(ids, row.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// groupIDs returns the groups here that the provider can put somebody in, each once, in order.
func (p SSOProvider) groupIDs() []string {
	ids := make([]string, len(p.Groups))
	for i, row := range p.Groups {
		ids[i] = row.ID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// nameGroups leaves out of the provider's table what is there no longer, and gives the others their names.
func (p *SSOProvider) nameGroups(tx *store.Tx) error {
	if len(p.Groups) == 0 {
		return nil
	}
	names, err := PartyNames(tx, p.groupIDs())
	if err != nil {
		return err
	}
	kept := p.Groups[:0]
	for _, row := range p.Groups {
		if name, ok := names[row.ID]; ok {
			kept = append(kept, GroupMapping{Group: row.Group, ID: row.ID, Name: name})
		}
	}
	p.Groups = kept
	return nil
}

// findGroups puts ids where names of groups may be.
func (p *SSOProvider) findGroups(tx *store.Tx) error {
	found := make([]GroupMapping, 0, len(p.Groups))
	for _, row := range p.Groups {
		g, err := FindParty(tx, PartyGroup, row.ID)
		if fault.KindOf(err) == fault.NotFound {
			return fault.New(fault.Unprocessable, "validation_failed", "There is no such group here. `signalbox group list` shows those that there are.").
				With("/groups", "must pair a group at the provider with the id or the name of a group here")
		} else if err != nil {
			return err
		}
		found = append(found, GroupMapping{Group: row.Group, ID: g.ID, Name: g.Name})
	}
	p.Groups = found
	return nil
}

// lockGroups locks the rows of the groups that a sign-in may put somebody in, before that of the person: as who adds a member by hand does. What
// was deleted meanwhile leaves the table.
func (p *SSOProvider) lockGroups(tx *store.Tx) error {
	ids := p.groupIDs()
	if len(ids) == 0 {
		return nil
	}
	var w store.Where
	in := make([]string, len(ids))
	for i, id := range ids {
		in[i] = w.Arg(id)
	}
	var locked []string
	if err := tx.Select(&locked, `SELECT id FROM user_groups WHERE id IN (`+strings.Join(in, ", ")+`) ORDER BY id`+tx.ForUpdate(), w.Args()...); err != nil {
		return err
	}
	p.Groups = slices.DeleteFunc(p.Groups, func(row GroupMapping) bool { return !slices.Contains(locked, row.ID) })
	return nil
}

// groupsBySSO makes the groups that this provider has put somebody in those that it names now. What was given by hand, or by another provider,
// stays. What is granted to groups is read in the transaction of each act, so it counts everywhere as soon as this is committed.
func (r *Room) groupsBySSO(tx *store.Tx, caller Caller, p SSOProvider, who ssoPerson, person userRow) error {
	var have []string
	if err := tx.Select(&have, `SELECT group_id FROM sso_memberships WHERE user_id = $1 AND provider_id = $2`, person.ID, p.ID); err != nil {
		return err
	}
	slices.Sort(have) // in the order of bytes, whatever that of the database
	want := p.groupsOf(who)
	if slices.Equal(want, have) {
		return nil
	}
	if r.cfg.ReadOnly {
		return ssoReadOnly()
	}
	var left []string
	for _, id := range have {
		if slices.Contains(want, id) {
			continue
		}
		gone, err := r.leaveBySSO(tx, caller, p, id, person)
		if err != nil {
			return err
		}
		if gone {
			left = append(left, id)
		}
	}
	var count int
	if err := tx.Get(&count, `SELECT COUNT(*) FROM group_members WHERE user_id = $1`, person.ID); err != nil {
		return err
	}
	for _, id := range want {
		if slices.Contains(have, id) {
			continue
		}
		fresh, err := r.joinBySSO(tx, caller, p, id, person, count < MaxGroups)
		if err != nil {
			return err
		}
		if fresh {
			count++
		}
	}
	_, err := r.endKeysOfGroups(tx, ssoActor(caller, person.ID), person.ID, left) // last: another group may be a way as well
	return err
}

// joinBySSO puts somebody into a group; room says whether they may be in one more.
func (r *Room) joinBySSO(tx *store.Tx, caller Caller, p SSOProvider, id string, person userRow, room bool) (fresh bool, err error) {
	g, err := findGroup(tx, id, "")
	if err != nil {
		return false, err
	}
	ev := ssoActor(caller, person.ID).Event(store.GroupJoin, g.Target())
	details := store.Details{store.Str("user", person.ID), store.Str("name", person.Name), store.Str("provider", p.Name)}
	var in int
	if err := tx.Get(&in, `SELECT COUNT(*) FROM group_members WHERE user_id = $1 AND group_id = $2`, person.ID, id); err != nil {
		return false, err
	}
	if in == 0 && !room { // they sign in without it: to keep somebody out for being in many groups would help nobody
		ev.Outcome, ev.Reason, ev.Details = store.OutcomeRefused, "too_many_groups", details
		return false, tx.Record(ev)
	}
	now := store.TimeOf(tx.Now())
	if in == 0 {
		if _, err := tx.Exec(`INSERT INTO group_members (user_id, group_id, added_at, by_hand) VALUES ($1,$2,$3,0)`, person.ID, id, now); err != nil {
			return false, err
		}
	}
	if _, err := tx.Exec(`INSERT INTO sso_memberships (user_id, group_id, provider_id, added_at) VALUES ($1,$2,$3,$4)`, person.ID, id, p.ID, now); err != nil {
		return false, err
	}
	ev.Details = append(details, store.Bool("new", in == 0))
	return in == 0, tx.Record(ev)
}

// leaveBySSO takes back what the provider gave, and says whether they left by it: who is in the group by hand or by another provider stays in it.
func (r *Room) leaveBySSO(tx *store.Tx, caller Caller, p SSOProvider, id string, person userRow) (left bool, err error) {
	g, err := findGroup(tx, id, "")
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec(`DELETE FROM sso_memberships WHERE user_id = $1 AND group_id = $2 AND provider_id = $3`, person.ID, id, p.ID); err != nil {
		return false, err
	}
	gone, err := tx.Exec(`DELETE FROM group_members WHERE user_id = $1 AND group_id = $2`+givenByNobody, person.ID, id)
	if err != nil {
		return false, err
	}
	ev := ssoActor(caller, person.ID).Event(store.GroupLeave, g.Target())
	ev.Details = store.Details{store.Str("user", person.ID), store.Str("name", person.Name), store.Str("provider", p.Name), store.Bool("stays", gone == 0)}
	return gone > 0, tx.Record(ev)
}

// givenByNobody narrows a statement on group_members to what neither a hand nor a provider gives.
const givenByNobody = ` AND by_hand = 0 AND NOT EXISTS (SELECT 1 FROM sso_memberships s WHERE s.user_id = group_members.user_id AND s.group_id = group_members.group_id)`

// endGiven takes back what a provider gave in groups other than those to keep, and returns how many memberships ended by it, and how many client keys with those: nobody signs in
// any more at whose sign-in they would.
func (r *Room) endGiven(tx *store.Tx, caller Caller, providerID string, keep []string) (memberships int64, keys int, err error) {
	w := store.Where{}
	w.Add(`provider_id = ?`, providerID)
	for _, id := range keep {
		w.Add(`group_id <> ?`, id)
	}
	n, err := tx.Exec(`DELETE FROM sso_memberships`+w.SQL(), w.Args()...)
	if err != nil || n == 0 {
		return 0, 0, err
	}
	endKeys, err := r.endKeysGivenByNobody(tx, caller)
	if err != nil {
		return 0, 0, err
	}
	if memberships, err = tx.Exec(`DELETE FROM group_members WHERE 1 = 1` + givenByNobody); err != nil {
		return 0, 0, err
	}
	keys, err = endKeys()
	return memberships, keys, err
}

// providersOf returns by person the names of the providers that give membership in a group, for the people between two ids.
func providersOf(tx *store.Tx, groupID, first, last string) (map[string][]string, error) {
	var rows []struct {
		User string `db:"user_id"`
		Name string `db:"name"`
	}
	if err := tx.Select(&rows, `SELECT s.user_id, p.name FROM sso_memberships s JOIN sso_providers p ON p.id = s.provider_id
		WHERE s.group_id = $1 AND s.user_id >= $2 AND s.user_id <= $3 ORDER BY s.user_id, p.name`, groupID, first, last); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, row := range rows {
		out[row.User] = append(out[row.User], row.Name)
	}
	return out, nil
}
