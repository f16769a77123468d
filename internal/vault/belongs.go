package vault

import (
	"cmp"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// What names a home and what deletes one exclude each other by a lock on the home's name ([lockScopes]), so that nothing is left behind that names
// what is gone. Credentials hold the id as a text without a foreign key: what they name is bound by their MAC, and an empty text is nobody.

// homes are what a credential belongs to, with where an input names it.
func (m Meta) homes() [3]struct {
	pointer, id string
	kind        HomeKind
} {
	return [3]struct {
		pointer, id string
		kind        HomeKind
	}{{"/client_id", m.ClientID, HomeClient}, {"/service_id", m.ServiceID, HomeService}, {"/infrastructure_id", m.InfrastructureID, HomeInfrastructure}}
}

// scopes are the homes as what is locked.
func (m Meta) scopes() []Scope {
	var out []Scope
	for _, h := range m.homes() {
		out = append(out, Scope{ScopeKind(h.kind), h.id})
	}
	return out
}

// belongs refuses to put a credential where nothing is. Only what changes is looked at, so that a credential from before there were homes, or one
// that an older instance stored, can be changed otherwise. Whoever does not reach everything names what they see: another home is as absent. The
// homes are locked.
func belongs(tx *store.Tx, caller identity.Caller, own verbs, before, after Meta) error {
	var bad problems
	from, to := before.homes(), after.homes()
	for i, h := range to {
		if h.id == "" || h.id == from[i].id {
			continue
		}
		there, err := isThere(tx, caller, own, h.kind, h.id)
		if err != nil {
			return err
		}
		if !there {
			bad.add(h.pointer, noHome(h.kind))
		}
	}
	return bad.err()
}

// isThere reports whether there is a home that the caller may name.
func isThere(tx *store.Tx, caller identity.Caller, own verbs, kind HomeKind, id string) (bool, error) {
	row, err := lookupHome(kind)
	if err != nil {
		return false, err
	}
	if own.all {
		return row.exists(tx, id)
	}
	parties, err := identity.Principals(tx, caller)
	if err != nil {
		return false, err
	}
	seen, err := seenOf(tx, kind, []string{id}, parties)
	return seen[id], err
}

func noHome(kind HomeKind) string {
	word := map[HomeKind]string{HomeClient: "client", HomeService: "service", HomeInfrastructure: "infra"}[kind]
	return "must be the id of a " + string(kind) + " that there is; `signalbox " + word + " list` shows them"
}

// ofClient returns the refusal to let something belong to a client that does not exist, and holds up whoever deletes that client.
func (r homeRow) ofClient(tx *store.Tx, id string) error {
	if id == "" {
		return nil
	}
	if err := lockScopes(tx, Scope{OnClient, id}); err != nil {
		return err
	}
	there, err := homeRows()[0].exists(tx, id)
	if err != nil || there {
		return err
	}
	var p problems
	p.add("/client_id", noHome(HomeClient))
	return p.homeErr(r)
}

// lock holds up whoever changes the home, or puts something under it, until the end of the transaction, and reads it. Also are other scopes that the act needs.
func (r homeRow) lock(tx *store.Tx, id, ifMatch string, also ...Scope) (Home, error) {
	if id == "" || textProblem(id, 100, false) != "" {
		return Home{}, r.notFound()
	}
	// A text that no client can have as its id is judged later; a lock does not take every text.
	also = slices.DeleteFunc(also, func(s Scope) bool { return textProblem(s.ID, 100, false) != "" })
	if err := lockScopes(tx, append(also, Scope{ScopeKind(r.kind), id})...); err != nil {
		return Home{}, err
	}
	h, err := loadHome(tx, r, id, true, nil)
	if err != nil {
		return Home{}, err
	}
	if !etag.Match(ifMatch, h.ETag()) {
		return Home{}, fault.New(fault.Precondition, "etag_mismatch", "The "+string(r.kind)+" changed since it was read. Read it again, then repeat the change on what it is now.")
	}
	return h, nil
}

// settle turns what the database says of a name into a fault.
func (r homeRow) settle(err error) error {
	if !store.IsConflict(err) {
		return err
	}
	where := ""
	if r.owned {
		where = " of this client"
	}
	return fault.New(fault.Conflict, "already_exists", "There is a "+string(r.kind)+" of this name"+where+" already. Choose another, or use the one that is there; nothing was changed.").
		With("/name", "is taken").Because(err)
}

// Dependent is what of one kind belongs to a home.
type Dependent struct {
	Kind  string // credentials, services or infrastructure
	Count int
	First []string // the first names, oldest first
}

// firstNames is how many names are told of what stands in the way.
const firstNames = 5

// dependents returns what belongs to a home, kind by kind.
func dependents(tx *store.Tx, row homeRow, id string) (out []Dependent, err error) {
	from := []struct{ kind, table, column string }{{"credentials", "credentials", row.column}}
	if row.kind == HomeClient {
		from = append(from, struct{ kind, table, column string }{"services", "services", "client_id"}, struct{ kind, table, column string }{"infrastructure", "infrastructure", "client_id"})
	}
	for _, f := range from {
		d := Dependent{Kind: f.kind}
		if err := tx.Get(&d.Count, `SELECT COUNT(*) FROM `+f.table+` WHERE `+f.column+` = $1 AND `+f.column+` <> ''`, id); err != nil {
			return nil, err
		}
		if d.Count == 0 {
			continue
		}
		if err := tx.Select(&d.First, `SELECT name FROM `+f.table+` WHERE `+f.column+` = $1 AND `+f.column+` <> '' ORDER BY id LIMIT `+number(firstNames), id); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// inUse is the refusal to delete what something belongs to.
func inUse(row homeRow, left []Dependent) error {
	if len(left) == 0 {
		return nil
	}
	var counts []string
	for _, d := range left {
		counts = append(counts, d.count())
	}
	f := fault.New(fault.Conflict, "in_use", "The "+string(row.kind)+" still has "+strings.Join(counts, " and ")+". Put them elsewhere or delete them first; nothing was changed.")
	for _, d := range left {
		_ = f.With(d.Kind, // no pointer into a body: there is none
			"belong to it: "+d.names())
	}
	return f
}

func (d Dependent) count() string {
	one := map[string]string{"credentials": "credential", "services": "service", "infrastructure": "piece of infrastructure"}[d.Kind]
	many := cmp.Or(map[string]string{"infrastructure": "pieces of infrastructure"}[d.Kind], d.Kind)
	if d.Count == 1 {
		return "1 " + one
	}
	return number(d.Count) + " " + many
}

// String is how much there is, with the first names.
func (d Dependent) String() string { return d.count() + ": " + d.names() }

func (d Dependent) names() string {
	out := strings.Join(d.First, ", ")
	if more := d.Count - len(d.First); more > 0 {
		out += " and " + number(more) + " more"
	}
	return out
}
