package vault

import (
	"errors"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Material opens a credential for lending, in the caller's transaction. It checks no permission and records nothing: whoever lends
// records each use. Sealed material that does not open, and a credential that was changed outside Signalbox, are no error here, so that one
// damaged credential does not stop the others; the result says so and is not usable.
func (r *Room) Material(tx *store.Tx, id string) (Material, error) {
	all, err := r.Materials(tx, []string{id})
	if err != nil {
		return Material{}, err
	}
	if len(all) == 0 {
		return Material{}, notFound()
	}
	return all[0], nil
}

// chunk bounds the number of arguments of one statement.
const chunk = 500

// Materials opens several credentials as [Room.Material] does. Those that do not exist are left out; the order is that of the ids in
// the database.
func (r *Room) Materials(tx *store.Tx, ids []string) ([]Material, error) {
	out := make([]Material, 0, len(ids))
	for part := range slices.Chunk(ids, chunk) {
		list, args := "$1", make([]any, len(part))
		for i, id := range part {
			args[i] = id
			if i > 0 {
				list += ", $" + number(i+1)
			}
		}
		// One statement sees one state: a rotation in between could otherwise pair a version with another's fields.
		var rows []materialRow
		if err := tx.Select(&rows, `SELECT `+rowColumns+`, s.field, s.sealed`+rowTables+
			` LEFT JOIN credential_secrets s ON s.credential_id = c.id AND s.version = c.version WHERE c.id IN (`+list+`) ORDER BY c.id`, args...); err != nil {
			return nil, err
		}
		for len(rows) > 0 {
			n := slices.IndexFunc(rows, func(w materialRow) bool { return w.ID != rows[0].ID })
			if n < 0 {
				n = len(rows)
			}
			out = append(out, r.material(tx, rows[:n]))
			rows = rows[n:]
		}
	}
	return out, nil
}

type materialRow struct {
	row
	Field  *string `db:"field"`
	Sealed []byte  `db:"sealed"`
}

// material opens one credential from its rows, one a sealed field.
func (r *Room) material(tx *store.Tx, rows []materialRow) Material {
	first := rows[0]
	s, err := first.decode(tx.Now())
	if err != nil || s.foreign {
		// A type or a list that this version cannot read: nothing of it is lent, and the others are not affected.
		r.log.Error("a credential cannot be read by this version and is not lent", "credential", first.ID)
		return Material{ID: first.ID, Name: first.Name, Version: first.Version, State: Disabled, Damaged: true}
	}
	if ok, err := r.intact(s); err != nil || !ok {
		// Nothing of it is opened, and where it says to go is not handed on.
		r.log.Error("a credential was changed outside Signalbox and is not lent; set its destinations anew", "credential", s.ID, "revision", s.Revision)
		return Material{ID: s.ID, Name: s.Name, AccountID: s.AccountID, Type: s.Type, Provider: s.Provider, Version: s.Version, State: s.state,
			Damaged: true, Tampered: true}
	}
	m := Material{ID: s.ID, Name: s.Name, AccountID: s.AccountID, Type: s.Type, Provider: s.Provider, BaseURL: baseURL(s.row, s.Meta),
		Hosts: boundHosts(s.row, s.Meta), Upstream: s.Upstream, Inject: injectRule(s.row, s.Meta), Username: s.Username, Methods: s.Methods, Paths: s.Paths, Version: s.Version, Secrets: map[string]secret.Value{}, State: s.state, Lending: s.Lending, ExpiresAt: s.ExpiresAt,
		TokenExpires: s.OAuth.ExpiresAt, Issued: s.Issued, Refreshes: s.refreshes(), Health: s.Health}
	for _, name := range s.SecretFields {
		field, ok := s.row.Field(name)
		if !ok || !field.Lent && !field.Aside {
			continue
		}
		sealed := secretRow{Field: name, Version: s.Version}
		if i := slices.IndexFunc(rows, func(w materialRow) bool { return w.Field != nil && *w.Field == name }); i >= 0 {
			sealed.Sealed = rows[i].Sealed
		}
		v, err := r.openSecret(s, sealed)
		if err != nil {
			r.log.Error("a sealed secret does not open; the credential is not lent", "credential", s.ID, "field", name, "version", s.Version)
			m.Damaged, m.Secrets = true, nil
			return m
		}
		m.Secrets[name] = v
	}
	return m
}

// Resolve finds a credential by its id, or an account by its account id or name, in the caller's transaction. It checks no permission
// and records nothing. The fault is not_found.
func (r *Room) Resolve(tx *store.Tx, ref string) (Credential, error) {
	var s stored
	var err error
	switch {
	case strings.HasPrefix(ref, credentialPrefix+"_"):
		s, err = load(tx, ref, false)
	case ref == "" || textProblem(ref, 204, true) != "":
		return Credential{}, notFound()
	case strings.HasPrefix(ref, accountPrefix):
		s, err = loadWhere(tx, `c.account_id = $1`, ref)
	default:
		s, err = loadWhere(tx, `c.account_id IS NOT NULL AND c.name = $1`, ref)
	}
	if err != nil {
		return Credential{}, err
	}
	return s.Credential, nil
}

// Parting opens every field of a credential of type oauth that is about to be deleted, in the deleting transaction, so that its grant can be ended
// at the provider. It is nil for one that was changed outside Signalbox or does not open: nothing of that is sent anywhere.
func (r *Room) Parting(tx *store.Tx, id string) (map[string]secret.Value, error) {
	s, err := load(tx, id, false)
	if err != nil {
		return nil, err
	}
	if ok, err := r.intact(s); err != nil || !ok || s.Type != OAuth {
		return nil, err
	}
	out, err := r.open(tx, s, s.Version, s.SecretFields)
	var d *damage
	if errors.As(err, &d) {
		return nil, nil
	}
	return out, err
}
