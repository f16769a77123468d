package incident

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	maxTitle    = 200
	maxText     = 20_000
	maxNote     = 4000
	maxLinks    = 100 // of one kind
	maxPage     = 1000
	defaultPage = 100
	// ahead is how far a date may lie in the future, since clocks differ.
	ahead = 5 * time.Minute
)

// problems collects everything that is wrong with an input.
type problems struct{ fields []fault.Field }

func (p *problems) add(pointer, message string) {
	if message != "" {
		p.fields = append(p.fields, fault.Field{Pointer: pointer, Message: message})
	}
}

func (p *problems) err(detail string) error {
	if len(p.fields) == 0 {
		return nil
	}
	f := fault.New(fault.Unprocessable, "validation_failed", detail)
	for _, field := range p.fields {
		_ = f.With(field.Pointer, field.Message)
	}
	return f
}

// listErr is err for a list, where a cursor alone is told as what it is.
func (p *problems) listErr(detail string) error {
	if len(p.fields) == 1 && p.fields[0].Pointer == "/cursor" {
		detail = "The cursor is not one that this list returned. Begin the list again without a cursor."
	}
	return p.err(detail)
}

const notLikeThis = "The incident cannot be stored like this. Correct the fields that are named and try again; nothing was changed."

// text says what is wrong with a text.
func text(s string, most int, lines bool) string {
	switch {
	case !utf8.ValidString(s):
		return "must be UTF-8 text"
	case utf8.RuneCountInString(s) > most:
		return "is too long; at most " + strconv.Itoa(most) + " characters"
	case strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && (!lines || c != '\n' && c != '\r' && c != '\t') }):
		return "must not hold control characters"
	case !lines && s != strings.TrimSpace(s):
		return "must not begin or end with a space"
	}
	return ""
}

// normalise brings what was given into the form in which it is stored, and says what is wrong with it.
func (m *Meta) normalise(now time.Time, p *problems) {
	if m.Title == "" {
		p.add("/title", "is needed")
	}
	p.add("/title", text(m.Title, maxTitle, false))
	p.add("/description", text(m.Description, maxText, true))
	p.add("/findings", text(m.Findings, maxText, true))
	p.add("/remediation_steps", text(m.Remediation, maxText, true))
	if !m.Type.known() {
		p.add("/incident_type", "must be one of "+words(Types(), func(r TypeRow) string { return string(r.Type) }))
	}
	if !slices.Contains(Severities(), m.Severity) {
		p.add("/severity", "must be one of "+words(Severities(), func(s Severity) string { return string(s) }))
	}
	p.add("/incident_date", date(m.IncidentDate, now))
	m.IncidentDate = m.IncidentDate.UTC().Truncate(time.Microsecond)
}

// date says what is wrong with when something has happened.
func date(at, now time.Time) string {
	switch {
	case at.After(now.Add(ahead)):
		return "must not lie in the future"
	case at.UTC().Year() < 1970:
		return "must be a time after the year 1969"
	}
	return ""
}

func words[T any](all []T, one func(T) string) string {
	out := make([]string, len(all))
	for i, x := range all {
		out[i] = one(x)
	}
	return strings.Join(out, ", ")
}

// changed names what differs, as events name it.
func (m Meta) changed(b Meta) (out []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"title", m.Title == b.Title}, {"incident_type", m.Type == b.Type}, {"severity", m.Severity == b.Severity}, {"description", m.Description == b.Description},
		{"findings", m.Findings == b.Findings}, {"remediation_steps", m.Remediation == b.Remediation}, {"incident_date", m.IncidentDate.Equal(b.IncidentDate)},
	} {
		if !f.same {
			out = append(out, f.name)
		}
	}
	return out
}

// linkRow is one row of the table of what can be linked.
type linkRow struct {
	kind          LinkKind
	table, column string // where its name stands
	field         string // of an input
	single        bool
	slug          bool // may be named by its slug
	noun          string
}

func linkRows() []linkRow {
	return []linkRow{
		{kind: OfClient, table: "clients", column: "name", field: "client_id", single: true, noun: "client"},
		{kind: OfService, table: "services", column: "name", field: "service_id", single: true, noun: "service"},
		{kind: OfInfrastructure, table: "infrastructure", column: "name", field: "infrastructure_id", single: true, noun: "piece of infrastructure"},
		{kind: OfCredential, table: "credentials", column: "name", field: "credential_ids", noun: "credential"},
		{kind: OfPerson, table: "users", column: "email", field: "user_ids", noun: "person"},
		{kind: OfServiceAccount, table: "service_accounts", column: "name", field: "service_account_ids", noun: "service account"},
		{kind: OfTrain, table: "trains", column: "slug", field: "train_ids", slug: true, noun: "train"},
		{kind: OfKey, table: "client_keys", column: "name", field: "key_ids", noun: "client key"},
	}
}

// LinkKinds returns what an incident can touch.
func LinkKinds() []LinkKind {
	var out []LinkKind
	for _, r := range linkRows() {
		out = append(out, r.kind)
	}
	return out
}

// pointer is where an input names the i-th link of the kind.
func (r linkRow) pointer(i int) string {
	if r.single {
		return "/" + r.field
	}
	return "/" + r.field + "/" + strconv.Itoa(i)
}

func (r linkRow) pick(t Touch) []string {
	one := func(id string) []string {
		if id == "" {
			return nil
		}
		return []string{id}
	}
	switch r.kind {
	case OfClient:
		return one(t.ClientID)
	case OfService:
		return one(t.ServiceID)
	case OfInfrastructure:
		return one(t.InfrastructureID)
	case OfCredential:
		return t.Credentials
	case OfPerson:
		return t.People
	case OfServiceAccount:
		return t.ServiceAccounts
	case OfTrain:
		return t.Trains
	case OfKey:
		return t.ClientKeys
	}
	return nil
}

// patched returns the ids that the patch sets for the kind, and whether it does.
func (r linkRow) patched(p Patch) ([]string, bool) {
	set := map[LinkKind]*[]string{OfCredential: p.Credentials, OfPerson: p.People, OfServiceAccount: p.ServiceAccounts, OfTrain: p.Trains, OfKey: p.ClientKeys}
	for kind, id := range map[LinkKind]*string{OfClient: p.ClientID, OfService: p.ServiceID, OfInfrastructure: p.InfrastructureID} {
		if id != nil && kind == r.kind {
			if *id == "" {
				return nil, true
			}
			return []string{*id}, true
		}
	}
	if ids := set[r.kind]; ids != nil {
		return *ids, true
	}
	return nil, false
}

// resolve finds what the ids name. What is linked already stays as it was, also when it is gone by now.
func (r linkRow) resolve(tx *store.Tx, s sees, refs []string, have []Link, p *problems) ([]Link, error) {
	if len(refs) > maxLinks {
		p.add("/"+r.field, "has too many entries; at most "+strconv.Itoa(maxLinks))
		return nil, nil
	}
	var out []Link
	for i, ref := range refs {
		if k := slices.IndexFunc(have, func(l Link) bool { return l.Kind == r.kind && l.ID == ref }); k >= 0 {
			out = append(out, have[k])
			continue
		}
		found, err := r.find(tx, s, ref)
		if err != nil {
			return nil, err
		}
		if found.ID == "" {
			p.add(r.pointer(i), "must be the id of a "+r.noun+" that there is")
			continue
		}
		out = append(out, found)
	}
	slices.SortFunc(out, func(a, b Link) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(out, func(a, b Link) bool { return a.ID == b.ID }), nil
}

// find returns what an id or a slug names, empty for what there is not, or not to the caller.
func (r linkRow) find(tx *store.Tx, s sees, ref string) (Link, error) {
	if ref == "" || text(ref, maxTitle, false) != "" {
		return Link{}, nil
	}
	query := `SELECT id, ` + r.column + ` AS name FROM ` + r.table + ` WHERE id = $1`
	if r.slug {
		query += ` OR ` + r.column + ` = $1 ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END`
	}
	var rows []struct {
		ID   string `db:"id"`
		Name string `db:"name"`
	}
	if err := tx.Select(&rows, query+` LIMIT 1`, ref); err != nil || len(rows) == 0 {
		return Link{}, err
	}
	found := Link{Kind: r.kind, ID: rows[0].ID, Name: rows[0].Name}
	if may, err := s.may(tx, found); err != nil || !may {
		return Link{}, err
	}
	return found, nil
}
