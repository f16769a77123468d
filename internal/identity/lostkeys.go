package identity

import (
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// A client key that was made on a private train, or by somebody whose role reads no trains but their own, is bound to the way by which its maker reached the train: whoever is left without a way to it
// loses it, in the transaction in which the way ends. A way is to be active, and a member in person or by a group, an administrator or, to a train of the organisation, of a role that reads all of those. Whether a key is
// bound is said when it is made: what was made by a role on a train that was open then is the train's and stays, whoever its maker is by now. Keys are looked for where a way ends and nowhere else.
//
// Two ways that end at once must not each be the reason to keep what the other one gave. So whoever ends a way of one person holds that person's row first (after that of the train or
// the group, as everywhere), whoever keeps a key locks the memberships for which they keep it, and whoever issues one holds their own way ([HoldWay]).

// lossReason says why a key ended with its maker's way, as the reason in the record of its revocation.
type lossReason string

const (
	lostTrain   lossReason = "left_train"
	lostGroup   lossReason = "left_group"
	groupGone   lossReason = "group_deleted"
	deactivated lossReason = "deactivated"
	roleLost    lossReason = "role_changed"
	longExpired lossReason = "expired"
)

// makers bounds the pairs of a train and a maker that one statement asks about.
const makers = 200

// KeysLost returns the living keys of a train that end with a membership, whether it has ended by now or not. A group's people must be in it.
func (r *Room) KeysLost(tx *store.Tx, trainID string, p Party) ([]Key, error) {
	rows, err := r.keysOfMember(tx, trainID, p)
	if err == nil {
		rows, err = stranded(tx, rows, p.ID, "")
	}
	out := make([]Key, 0, len(rows))
	for _, row := range rows {
		out = append(out, r.key(row, tx.Now()))
	}
	return out, err
}

// EndKeysLost revokes them, when the membership has ended. The train's row is locked, and that of a person ([HoldPerson]) since before the end.
func (r *Room) EndKeysLost(tx *store.Tx, caller Caller, trainID string, p Party) ([]Key, error) {
	rows, err := r.keysOfMember(tx, trainID, p)
	if err != nil {
		return nil, err
	}
	return r.endStranded(tx, caller, rows, lostTrain)
}

func (r *Room) keysOfMember(tx *store.Tx, trainID string, p Party) ([]keyRow, error) {
	return inQuestion(tx, func(w *store.Where) {
		w.Add(`k.train_id = ?`, trainID)
		if p.Kind == PartyGroup {
			w.Add(`k.created_by IN (SELECT x.user_id FROM group_members x WHERE x.group_id = ?)`, p.ID)
		} else {
			w.Add(`k.created_by = ?`, p.ID)
		}
	})
}

// LeftWithout counts the people of a membership, of those who can sign in, to whom it is the only way to a train of this visibility.
func LeftWithout(tx *store.Tx, trainID string, v Visibility, p Party) (int, error) {
	var people []struct {
		ID   string `db:"id"`
		Role Role   `db:"role"`
	}
	if err := tx.Select(&people, `SELECT id, role FROM users WHERE active = 1 AND (id = $1 OR id IN (SELECT x.user_id FROM group_members x WHERE x.group_id = $1)) ORDER BY id`, p.ID); err != nil {
		return 0, err
	}
	left := map[string]bool{}
	var asked []way
	for _, one := range people {
		if TrainPrivate.Of(one.Role) == Everything || v == OfOrganisation && TrainRead.Of(one.Role) == Everything {
			continue
		}
		left[one.ID] = true
		asked = append(asked, way{trainID, one.ID})
	}
	for some := range slices.Chunk(asked, makers) {
		stand, err := waysThatStand(tx, some, p.ID, "")
		if err != nil {
			return 0, err
		}
		for _, w := range stand {
			delete(left, w.Maker)
		}
	}
	return len(left), nil
}

// endKeysOfGroups revokes what somebody has lost by leaving groups.
func (r *Room) endKeysOfGroups(tx *store.Tx, caller Caller, userID string, groups []string) (int, error) {
	if len(groups) == 0 {
		return 0, nil
	}
	rows, err := inQuestion(tx, func(w *store.Where) {
		args := []any{userID}
		for _, id := range groups {
			args = append(args, id)
		}
		w.Add(`k.created_by = ? AND k.train_id IN (SELECT m.train_id FROM train_members m WHERE m.group_id IN (?`+strings.Repeat(`, ?`, len(groups)-1)+`))`, args...)
	})
	if err != nil {
		return 0, err
	}
	ended, err := r.endStranded(tx, caller, rows, lostGroup)
	return len(ended), err
}

// endKeysOfGroup has the keys in question that its people may lose by the end of a group, whose row is locked and which is there still. What it returns is called when it is gone.
func (r *Room) endKeysOfGroup(tx *store.Tx, caller Caller, groupID string) (func() (int, error), error) {
	if err := holdMemberships(tx, `group_id = $1`, groupID); err != nil {
		return nil, err
	}
	rows, err := inQuestion(tx, func(w *store.Where) {
		w.Add(`k.train_id IN (SELECT m.train_id FROM train_members m WHERE m.group_id = ?) AND k.created_by IN (SELECT x.user_id FROM group_members x WHERE x.group_id = ?)`, groupID, groupID)
	})
	return func() (int, error) {
		ended, err := r.endStranded(tx, caller, rows, groupGone)
		return len(ended), err
	}, err
}

// endKeysGivenByNobody is endKeysOfGroup for the memberships that nobody gives any more.
func (r *Room) endKeysGivenByNobody(tx *store.Tx, caller Caller) (func() (int, error), error) {
	if err := holdMemberships(tx, `1 = 1`+givenByNobody); err != nil {
		return nil, err
	}
	rows, err := inQuestion(tx, func(w *store.Where) {
		w.Add(`EXISTS (SELECT 1 FROM group_members JOIN train_members m ON m.group_id = group_members.group_id WHERE group_members.user_id = k.created_by AND m.train_id = k.train_id` + givenByNobody + `)`)
	})
	return func() (int, error) {
		ended, err := r.endStranded(tx, caller, rows, lostGroup)
		return len(ended), err
	}, err
}

// KeysLostBy returns the active keys that end when somebody is deactivated: all that are bound to a way of theirs. Those of trains of which the caller may not be told end as well, and are not among them.
func (r *Room) KeysLostBy(tx *store.Tx, caller Caller, userID string) ([]Key, error) {
	rows, err := inQuestion(tx, func(w *store.Where) { w.Add(`k.created_by = ?`, userID) })
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	reach, err := TrainsKnown(tx, caller)
	if err != nil {
		return nil, err
	}
	known, err := reach.Known(tx)
	if err != nil {
		return nil, err
	}
	out := make([]Key, 0, len(rows))
	for _, row := range rows {
		if k := r.key(row, tx.Now()); k.Status == StatusActive && known(k.TrainID) {
			out = append(out, k)
		}
	}
	return out, nil
}

// endKeysOfPerson revokes what somebody has lost who was deactivated, or whose role is no way any more. Their row is locked.
func (r *Room) endKeysOfPerson(tx *store.Tx, caller Caller, old, row userRow) error {
	why := deactivated
	switch {
	case old.Active == 1 && row.Active != 1:
	case old.Role != row.Role && (old.Role == Administrator || TrainRead.Of(row.Role) != Everything):
		why = roleLost
	default:
		return nil
	}
	rows, err := inQuestion(tx, func(w *store.Where) { w.Add(`k.created_by = ?`, row.ID) })
	if err == nil {
		_, err = r.endStranded(tx, caller, rows, why)
	}
	return err
}

// expiredKept is how many expired keys of one maker a train keeps that are bound, and expiredEnded how many that are older end with each that is made: so there are never many to end with a way.
const expiredKept, expiredEnded = 100, 10

func (r *Room) endLongExpired(tx *store.Tx, caller Caller, trainID, maker string) error {
	var rows []keyRow
	if err := tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys WHERE created_by = $1 AND train_id = $2 AND revoked_at IS NULL AND bound = 1 AND expires_at <= $3 ORDER BY expires_at DESC, id LIMIT $4 OFFSET $5`+tx.ForUpdate(),
		maker, trainID, store.TimeOf(tx.Now()), expiredEnded, expiredKept); err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := r.revoke(tx, caller, row, string(longExpired), store.Str("made_by", row.CreatedBy)); err != nil {
			return err
		}
	}
	return nil
}

// holdMemberships locks memberships that are about to end, so that nobody issues a key on them meanwhile.
func holdMemberships(tx *store.Tx, condition string, args ...any) error {
	n := 0
	return tx.Get(&n, `SELECT COUNT(*) FROM (SELECT user_id FROM group_members WHERE `+condition+tx.ForUpdate()+`) held`, args...)
}

// inQuestion returns the living keys that scope selects as k and that are bound to a way; expired ones are among them, since another expiry makes them live again.
func inQuestion(tx *store.Tx, scope func(*store.Where)) (rows []keyRow, err error) {
	var w store.Where
	w.Add(`k.revoked_at IS NULL`)
	w.Add(`k.bound = 1`)
	scope(&w)
	err = tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys k`+w.SQL()+` ORDER BY id`, w.Args()...)
	return rows, err
}

// stranded returns those of the keys whose makers have no way to their train, counting no membership of without, and locks the memberships for which it leaves one out; lock is the clause for that, or "".
func stranded(tx *store.Tx, rows []keyRow, without, lock string) (out []keyRow, err error) {
	pairs := map[way]bool{} // and whether it stands
	for _, k := range rows {
		pairs[way{k.TrainID, k.CreatedBy}] = false
	}
	order := make([]way, 0, len(pairs))
	for p := range pairs {
		order = append(order, p)
	}
	slices.SortFunc(order, func(a, b way) int { return strings.Compare(a.Train+" "+a.Maker, b.Train+" "+b.Maker) })
	for some := range slices.Chunk(order, makers) {
		stand, err := waysThatStand(tx, some, without, lock)
		if err != nil {
			return nil, err
		}
		for _, p := range stand {
			pairs[p] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(k keyRow) bool { return pairs[way{k.TrainID, k.CreatedBy}] }), nil
}

// way is somebody's to a train.
type way struct {
	Train string `db:"train_id"`
	Maker string `db:"maker"`
}

func waysThatStand(tx *store.Tx, asked []way, without, lock string) (out []way, err error) {
	var w store.Where
	pairs := make([]string, len(asked))
	for i, p := range asked {
		pairs[i] = `(` + w.Arg(p.Train) + `, ` + w.Arg(p.Maker) + `)`
	}
	in, not := ` IN (VALUES `+strings.Join(pairs, `, `)+`)`, w.Arg(without)
	var inPerson, byGroup []way
	if err := tx.Select(&inPerson, `SELECT m.train_id, m.member_id AS maker FROM train_members m WHERE m.member_id <> `+not+` AND (m.train_id, m.member_id)`+in+` ORDER BY m.train_id, m.member_id`+lock, w.Args()...); err != nil {
		return nil, err
	}
	if err := tx.Select(&byGroup, `SELECT m.train_id, x.user_id AS maker FROM group_members x JOIN train_members m ON m.group_id = x.group_id
		WHERE m.member_id <> `+not+` AND (m.train_id, x.user_id)`+in+` ORDER BY m.train_id, x.user_id, x.group_id`+lock, w.Args()...); err != nil {
		return nil, err
	}
	// The people come last: a role or an end that is not to be seen here yet is dealt with by whoever brings it, who waits for these memberships or finds them gone.
	var u store.Where
	ids := make([]string, len(asked))
	for i, p := range asked {
		ids[i] = u.Arg(p.Maker)
	}
	var people []struct {
		ID   string `db:"id"`
		Role Role   `db:"role"`
	}
	if err := tx.Select(&people, `SELECT id, role FROM users WHERE active = 1 AND id IN (`+strings.Join(ids, `, `)+`)`, u.Args()...); err != nil {
		return nil, err
	}
	roles := make(map[string]Role, len(people))
	for _, p := range people {
		roles[p.ID] = p.Role
	}
	for _, p := range append(inPerson, byGroup...) {
		if _, active := roles[p.Maker]; active {
			out = append(out, p)
		}
	}
	var open []string
	var t store.Where
	for i, p := range asked {
		ids[i] = t.Arg(p.Train)
	}
	if err := tx.Select(&open, `SELECT id FROM trains WHERE visibility = 'organisation' AND id IN (`+strings.Join(ids, `, `)+`)`, t.Args()...); err != nil {
		return nil, err
	}
	for _, p := range asked {
		role, active := roles[p.Maker]
		if active && (role == Administrator || TrainRead.Of(role) == Everything && slices.Contains(open, p.Train)) {
			out = append(out, p)
		}
	}
	return out, nil
}

// endStranded revokes those of the keys whose makers have no way to their train any more, each with its record. How many those are is bounded by how many keys trains may have, and by [expiredKept], and not by how many people leave.
func (r *Room) endStranded(tx *store.Tx, caller Caller, rows []keyRow, why lossReason) (ended []Key, err error) {
	if rows, err = stranded(tx, rows, "", tx.ForShare()); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(rows, makers) {
		var w store.Where
		ids := make([]string, len(some))
		for i, k := range some {
			ids[i] = w.Arg(k.ID)
		}
		var living []keyRow // behind their locks: one may have ended beside this, such as with the session that had issued it
		if err := tx.Select(&living, `SELECT `+keyColumns+` FROM client_keys WHERE id IN (`+strings.Join(ids, `, `)+`) AND revoked_at IS NULL ORDER BY id`+tx.ForUpdate(), w.Args()...); err != nil {
			return nil, err
		}
		for _, row := range living {
			k, err := r.revoke(tx, caller, row, string(why), store.Str("made_by", row.CreatedBy))
			if err != nil {
				return nil, err
			}
			ended = append(ended, k)
		}
	}
	return ended, nil
}

// keysEnded is what the record of an act says of the keys that ended by it; each has its own.
func keysEnded(n int) store.Details {
	if n == 0 {
		return nil
	}
	return store.Details{store.Int("keys_ended", int64(n))}
}

// HoldPerson locks a person's row until the end of the transaction, if there is one: before the end of a way to a private train that is theirs, and behind the lock on the train.
func HoldPerson(tx *store.Tx, id string) error {
	_, err := lockUser(tx, id)
	if fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// HoldWay reports whether somebody has a way to a train, whose row is locked, that lasts until the end of the transaction: who takes it from them waits, and finds the key that is made on it. Who is no
// person, with the id "", has no way that ends.
func HoldWay(tx *store.Tx, userID, trainID string) (bool, error) {
	if userID == "" {
		return true, nil
	}
	row, err := lockUser(tx, userID)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return false, nil
	case err != nil || row.Active != 1 || row.Role == Administrator:
		return err == nil && row.Active == 1, err
	}
	n := 0
	if TrainRead.Of(row.Role) == Everything {
		if err := tx.Get(&n, `SELECT COUNT(*) FROM trains WHERE id = $1 AND visibility = 'organisation'`, trainID); err != nil || n > 0 {
			return n > 0, err
		}
	}
	if err := tx.Get(&n, `SELECT COUNT(*) FROM train_members WHERE train_id = $1 AND member_id = $2`, trainID, row.ID); err != nil || n > 0 {
		return n > 0, err
	}
	var groups []string
	err = tx.Select(&groups, `SELECT x.group_id FROM group_members x JOIN train_members m ON m.group_id = x.group_id WHERE x.user_id = $1 AND m.train_id = $2 ORDER BY x.group_id`+tx.ForShare("x"), row.ID, trainID)
	return len(groups) > 0, err
}

// holdMaker is HoldWay for whoever made a key of which another is to be made. A service account's way ends no key.
func holdMaker(tx *store.Tx, trainID, maker string) error {
	if !store.ValidID("user", maker) {
		return nil
	}
	has, err := HoldWay(tx, maker, trainID)
	if err == nil && !has {
		err = fault.New(fault.Conflict, "state_conflict", "Whoever made this client key does not reach the train any more, and it ends. Issue a new one.")
	}
	return err
}
