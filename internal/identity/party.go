package identity

import (
	"errors"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// PartyKind is the kind of those to whom something can be granted, and whom this room keeps.
type PartyKind string

// The kinds.
const (
	PartyPerson  PartyKind = "person"
	PartyGroup   PartyKind = "group"
	PartyService PartyKind = "service_account"
)

// Party is one to whom something can be granted. A person's Name is the e-mail address: like the others' names it is unique, so that what is
// shown can be given back.
type Party struct {
	Kind     PartyKind
	ID, Name string
}

// FindParty returns a person by id or e-mail address, a group or a service account by id or name. It checks no permission. An unknown one
// or an unknown kind is the fault "not_found".
func FindParty(tx *store.Tx, kind PartyKind, ref string) (Party, error) {
	none := fault.New(fault.NotFound, "not_found", "There is no such person, group or service account.")
	var prefix, table, column, folded string
	name := "name"
	switch kind {
	case PartyPerson:
		prefix, table, column, name, folded = "user", "users", "email", "email", canonicalEmail(ref)
	case PartyGroup:
		prefix, table, column, folded = "grp", "user_groups", "folded", strings.ToLower(ref)
	case PartyService:
		prefix, table, column, folded = servicePrefix, "service_accounts", "folded", strings.ToLower(ref)
	default:
		return Party{}, none
	}
	if store.ValidID(prefix, ref) {
		column, folded = "id", ref
	} else if !plain(ref) {
		return Party{}, none
	}
	p := Party{Kind: kind}
	var row struct {
		ID   string `db:"id"`
		Name string `db:"name"`
	}
	err := tx.Get(&row, `SELECT id, `+name+` AS name FROM `+table+` WHERE `+column+` = $1`, folded)
	if errors.Is(err, store.ErrNotFound) {
		return Party{}, none
	}
	p.ID, p.Name = row.ID, row.Name
	return p, err
}

// PartyNames returns the names of people, groups and service accounts by their ids; what is gone is left out.
func PartyNames(tx *store.Tx, ids []string) (map[string]string, error) {
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	in, args := "", make([]any, len(ids))
	for i, id := range ids {
		if i > 0 {
			in += ", "
		}
		in += "$" + strconv.Itoa(i+1)
		args[i] = id
	}
	var rows []struct {
		ID   string `db:"id"`
		Name string `db:"name"`
	}
	if err := tx.Select(&rows, `SELECT id, email AS name FROM users WHERE id IN (`+in+`) UNION ALL SELECT id, name FROM user_groups WHERE id IN (`+in+
		`) UNION ALL SELECT id, name FROM service_accounts WHERE id IN (`+in+`)`, args...); err != nil {
		return nil, err
	}
	for _, row := range rows {
		out[row.ID] = row.Name
	}
	return out, nil
}

// Principals returns the ids to which something must have been granted for the caller to have it: the person's own and those of their
// groups, or the service account's. For others there are none. It reads them in the transaction of the act, so that nobody acts on a
// membership that has ended.
func Principals(tx *store.Tx, c Caller) ([]string, error) {
	switch c.Kind {
	case KindPerson, KindToken, KindJWT:
		if c.UserID == "" {
			return nil, nil
		}
		var groups []string
		if err := tx.Select(&groups, `SELECT group_id FROM group_members WHERE user_id = $1 ORDER BY group_id`, c.UserID); err != nil {
			return nil, err
		}
		return append(groups, c.UserID), nil
	case KindService:
		if c.ServiceID == "" {
			return nil, nil
		}
		return []string{c.ServiceID}, nil
	}
	return nil, nil
}
