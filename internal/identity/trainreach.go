package identity

import (
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

// Who reaches a train is decided here, below every room that tells of trains: whoever may read of all trains reaches those of the organisation, a private one only through its members,
// or with [TrainPrivate]; whoever may do so only with their own reaches those that they are a member of, in person or by a group, and no other. To everybody else a private train is as one that does not exist. What is not known to be the organisation's is private.

// Visibility says who reaches a train.
type Visibility string

// The visibilities.
const (
	// OfOrganisation is reached by everybody whose role reaches all trains, and by its members.
	OfOrganisation Visibility = "organisation"
	// PrivateTrain is reached by its members.
	PrivateTrain Visibility = "private"
)

// Visibilities returns every visibility.
func Visibilities() []Visibility { return []Visibility{OfOrganisation, PrivateTrain} }

// TrainReach says which trains a caller reaches. The zero TrainReach is none.
type TrainReach struct {
	all     bool     // every one
	shared  bool     // those of the organisation
	parties []string // and those that have one of these among their members
}

// ReachOfTrains says which trains a permission reaches for the caller, or refuses one who does not have it at all. It reads their groups in the transaction of the act, so that nobody
// acts on a membership that has ended.
func ReachOfTrains(tx *store.Tx, c Caller, p Permission) (TrainReach, error) {
	reach, err := Within(c, p)
	if err != nil {
		return TrainReach{}, err
	}
	return reachOf(tx, c, reach == Everything)
}

// TrainsKnown says which trains may be named to the caller where something else that they may read names one: those of the organisation, and what they are a member of.
func TrainsKnown(tx *store.Tx, c Caller) (TrainReach, error) { return reachOf(tx, c, true) }

// EveryTrain is the reach of Signalbox's own chores.
func EveryTrain() TrainReach { return TrainReach{all: true, shared: true} }

func reachOf(tx *store.Tx, c Caller, shared bool) (TrainReach, error) {
	if shared && Allow(c, TrainPrivate) == nil {
		return TrainReach{all: true, shared: true}, nil
	}
	parties, err := Principals(tx, c)
	return TrainReach{shared: shared, parties: parties}, err
}

// TrainsAskedOf says which trains may be named to the caller who asks about one by its name: as [TrainsKnown], but to a role that reads no trains but its own no others.
func TrainsAskedOf(tx *store.Tx, c Caller) (TrainReach, error) {
	return reachOf(tx, c, TrainRead.Of(c.Role) == Everything)
}

// NarrowTrains is [TrainReach.Narrow] of [TrainsKnown], for a room that knows no callers.
func NarrowTrains(c Caller) func(tx *store.Tx, w *store.Where, column string) error {
	return func(tx *store.Tx, w *store.Where, column string) error {
		t, err := TrainsKnown(tx, c)
		if err == nil {
			t.Narrow(w, column)
		}
		return err
	}
}

// All reports whether there is no train that is not reached.
func (t TrainReach) All() bool { return t.all }

// Hides reports whether there is, or was, a train that is not reached.
func (t TrainReach) Hides(tx *store.Tx) (bool, error) {
	if t.all || !t.shared {
		return !t.all, nil
	}
	sql, args := t.hidden()
	n := 0
	err := tx.Get(&n, `SELECT COUNT(*) FROM (`+placed(sql, args)+`) h`, args...)
	return n > 0, err
}

// Narrow adds the condition that the train whose id column gives is reached. No train, given as ”, is reached by whoever reaches those of the organisation. A train that is gone is
// reached as if it were there, unless it was private.
func (t TrainReach) Narrow(w *store.Where, column string) {
	switch {
	case t.all:
	case t.shared:
		sql, args := t.hidden()
		w.Add(column+` NOT IN (`+sql+`)`, args...)
	default:
		sql, args := t.joined()
		w.Add(column+` IN (`+sql+`)`, args...)
	}
}

// Member adds the condition that the caller is a member of the train whose id column gives, in person or by a group.
func (t TrainReach) Member(w *store.Where, column string) {
	sql, args := t.joined()
	w.Add(column+` IN (`+sql+`)`, args...)
}

// Owned returns the ids of the trains that the caller is an owner of, in person or by a group.
func (t TrainReach) Owned(tx *store.Tx) (map[string]bool, error) {
	sql, args := t.joined()
	var ids []string
	if err := tx.Select(&ids, placed(sql+` AND m.role = 'owner'`, args), args...); err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out, nil
}

// hidden selects the trains of which nobody tells the caller who reaches those of the organisation.
func (t TrainReach) hidden() (sql string, args []any) {
	joined, args := t.joined()
	return `SELECT p.id FROM trains p WHERE p.visibility <> 'organisation' AND p.id NOT IN (` + joined + `) UNION ALL SELECT g.train_id FROM private_trains_gone g`, args
}

// joined selects the trains that the caller is a member of.
func (t TrainReach) joined() (sql string, args []any) {
	if len(t.parties) == 0 {
		return `SELECT m.train_id FROM train_members m WHERE 1 = 0`, nil
	}
	args = make([]any, len(t.parties))
	for i, id := range t.parties {
		args[i] = id
	}
	return `SELECT m.train_id FROM train_members m WHERE m.member_id IN (?` + strings.Repeat(`, ?`, len(args)-1) + `)`, args
}

// Known returns a function that says of a train, by its id, whether it is reached. It has read what it needs.
func (t TrainReach) Known(tx *store.Tx) (func(id string) bool, error) {
	if t.all {
		return func(string) bool { return true }, nil
	}
	sql, args := t.joined()
	if t.shared {
		sql, args = t.hidden()
	}
	var ids []string
	if err := tx.Select(&ids, placed(sql, args), args...); err != nil {
		return nil, err
	}
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return func(id string) bool { return set[id] != t.shared }, nil
}

// placed numbers the placeholders of a statement that stands by itself.
func placed(sql string, args []any) string {
	for i := range args {
		sql = strings.Replace(sql, "?", "$"+strconv.Itoa(i+1), 1)
	}
	return sql
}
