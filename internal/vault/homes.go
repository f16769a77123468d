package vault

import (
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// HomeKind says what a credential may belong to.
type HomeKind string

// The kinds: a customer, an application of theirs or of the house, and a machine, network or device.
const (
	HomeClient         HomeKind = "client"
	HomeService        HomeKind = "service"
	HomeInfrastructure HomeKind = "infrastructure"
)

// InfrastructureKinds returns what infrastructure can be.
func InfrastructureKinds() []string { return []string{"host", "network", "device"} }

// Home is what a credential may belong to: a client, a service or infrastructure. Nothing is lent or revealed by what stands here: where a
// secret goes, a credential says itself. So the row is not held by a MAC, as the names of people, groups and trains are not.
type Home struct {
	Kind HomeKind
	ID   string
	HomeMeta
	Revision             int64
	CreatedAt, UpdatedAt time.Time
	// partial says that the client is left out, since the caller may not see it.
	partial bool
}

// HomeMeta is what a person may set of a home. Fields that its kind lacks stay empty.
type HomeMeta struct {
	Name        string // 1–200 characters; unique among clients, and among what belongs to one client
	Description string
	Contact     string // of a client: whom to ask there
	ClientID    string // of a service and infrastructure: whose it is; empty: the house's own, or everybody's
	URL         string // of a service
	Sort        string // of infrastructure: one of [InfrastructureKinds]; empty means the first
	Address     string // of infrastructure: its name in the network, its address or its range
}

// HomePatch is a merge patch of a home.
type HomePatch struct {
	Name, Description, Contact, ClientID, URL, Sort, Address Edit[string]
}

// HomeFilter narrows a list of homes; empty fields do not.
type HomeFilter struct {
	ClientID string // services and infrastructure of this client
	Sort     string // infrastructure of this kind
	Q        string // words; each must occur in the readable text, in upper or lower case
	Limit    int    // 0: 100; at most 1000
	Cursor   string // the next of the page before
	Skip     int
}

// ETag returns the entity tag, which changes with every change, and with whether the client may be seen.
func (h Home) ETag() string {
	if h.partial {
		return `"` + strconv.FormatInt(h.Revision, 10) + `-1"`
	}
	return `"` + strconv.FormatInt(h.Revision, 10) + `-0"`
}

func (h Home) target() store.Target {
	return store.Target{Kind: string(h.Kind), ID: h.ID, Name: h.Name}
}

// homeRow is one row of the table of kinds.
type homeRow struct {
	kind                      HomeKind
	prefix, table             string
	column                    string // of credentials
	create, update, delete    store.Action
	contact, owned, url, host bool // which fields it has besides name and description
	plural                    string
}

func homeRows() []homeRow {
	return []homeRow{
		{kind: HomeClient, prefix: "client", table: "clients", column: "client_id", contact: true, plural: "clients",
			create: store.ClientCreate, update: store.ClientUpdate, delete: store.ClientDelete},
		{kind: HomeService, prefix: "service", table: "services", column: "service_id", owned: true, url: true, plural: "services",
			create: store.ClientServiceCreate, update: store.ClientServiceUpdate, delete: store.ClientServiceDelete},
		{kind: HomeInfrastructure, prefix: "infra", table: "infrastructure", column: "infrastructure_id", owned: true, host: true, plural: "infrastructure",
			create: store.InfrastructureCreate, update: store.InfrastructureUpdate, delete: store.InfrastructureDelete},
	}
}

// lookupHome returns the row of a kind. An unknown one is a mistake of the door, so it is told as that.
func lookupHome(k HomeKind) (homeRow, error) {
	i := slices.IndexFunc(homeRows(), func(r homeRow) bool { return r.kind == k })
	if i < 0 {
		return homeRow{}, errors.New("vault: there is no such kind of home")
	}
	return homeRows()[i], nil
}

// texts is the one list of the fields of a kind, as that of [Meta].
func (r homeRow) texts(m *HomeMeta) []text {
	out := []text{{"/name", "name", &m.Name, 200, false}, {"/description", "description", &m.Description, 2000, true}}
	if r.contact {
		out = append(out, text{"/contact", "contact", &m.Contact, 500, true})
	}
	if r.owned {
		out = append(out, text{"/client_id", "client_id", &m.ClientID, 100, false})
	}
	if r.url {
		out = append(out, text{"/url", "url", &m.URL, 2048, false})
	}
	if r.host {
		out = append(out, text{"/kind", "kind", &m.Sort, 20, false}, text{"/address", "address", &m.Address, 255, false})
	}
	return out
}

// normalise brings what was given into the one form in which it is stored, and says what is wrong with it.
func (r homeRow) normalise(m *HomeMeta, p *problems) {
	known := map[string]bool{}
	for _, t := range r.texts(m) {
		known[t.pointer] = true
		p.add(t.pointer, textProblem(*t.value, t.max, t.lines))
	}
	for _, f := range []struct{ pointer, value string }{{"/contact", m.Contact}, {"/client_id", m.ClientID}, {"/url", m.URL}, {"/kind", m.Sort}, {"/address", m.Address}} {
		if f.value != "" && !known[f.pointer] {
			p.add(f.pointer, "is no field of a "+string(r.kind))
		}
	}
	if m.Name == "" {
		p.add("/name", "is needed")
	}
	m.URL = link("/url", m.URL, p)
	if r.host {
		m.Sort = cmp.Or(m.Sort, InfrastructureKinds()[0])
		if !slices.Contains(InfrastructureKinds(), m.Sort) {
			p.add("/kind", "must be host, network or device")
		}
	}
}

func (p HomePatch) merge(m HomeMeta) HomeMeta {
	p.Name.apply(&m.Name)
	p.Description.apply(&m.Description)
	p.Contact.apply(&m.Contact)
	p.ClientID.apply(&m.ClientID)
	p.URL.apply(&m.URL)
	p.Sort.apply(&m.Sort)
	p.Address.apply(&m.Address)
	return m
}

// changed names what differs, as events name it.
func (r homeRow) changed(a, b HomeMeta) (out []string) {
	at, bt := r.texts(&a), r.texts(&b)
	for i := range at {
		if *at[i].value != *bt[i].value {
			out = append(out, at[i].name())
		}
	}
	return out
}

// search is what HomeFilter.Q looks through, lowered here because the engines lower text differently.
func (r homeRow) search(m HomeMeta) string {
	var words []string
	for _, t := range r.texts(&m) {
		if t.column != "client_id" && *t.value != "" {
			words = append(words, *t.value)
		}
	}
	return strings.ToLower(strings.Join(words, "\n"))
}

// check returns the id after which the page begins.
func (f HomeFilter) check(r homeRow) (after string, err error) {
	var p problems
	if f.Limit < 1 || f.Limit > maxPage {
		p.add("/limit", "must be from 1 to "+number(maxPage))
	}
	if f.Skip < 0 {
		p.add("/skip", "must not be negative")
	}
	p.add("/q", textProblem(strings.TrimSpace(f.Q), 200, false))
	if !utf8.ValidString(f.ClientID) || strings.ContainsRune(f.ClientID, 0) {
		p.add("/client_id", "must be UTF-8 text")
	}
	if f.Sort != "" && (!r.host || !slices.Contains(InfrastructureKinds(), f.Sort)) {
		p.add("/kind", "must be host, network or device")
	}
	if f.Cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		// An id may be any text that a credential named before there were homes, so that a mark before it says that it is a cursor.
		marked := false
		after, marked = strings.CutPrefix(string(b), homeCursor)
		if err != nil || !marked || after == "" || textProblem(after, 100, false) != "" || encodeCursor(homeCursor+after) != f.Cursor {
			p.add("/cursor", "is not a cursor of this list")
		}
	}
	if len(p.fields) == 0 {
		return after, nil
	}
	detail := "The list cannot be made like this. Correct the filters that are named and try again; begin without a cursor if it is that."
	if len(p.fields) == 1 && p.fields[0].Pointer == "/cursor" {
		detail = "The cursor is not one that this list returned. Begin the list again without a cursor."
	}
	out := fault.New(fault.Unprocessable, "validation_failed", detail)
	for _, field := range p.fields {
		_ = out.With(field.Pointer, field.Message)
	}
	return "", out
}

// homeCursor begins what a cursor of a list of homes says.
const homeCursor = "after "

// homeErr is err for what is stored of a home.
func (p *problems) homeErr(r homeRow) error {
	if len(p.fields) == 0 {
		return nil
	}
	f := fault.New(fault.Unprocessable, "validation_failed", "The "+string(r.kind)+" cannot be stored like this. Correct the fields that are named and try again; nothing was changed.")
	for _, field := range p.fields {
		_ = f.With(field.Pointer, field.Message)
	}
	return f
}

func (r homeRow) notFound() error {
	return fault.New(fault.NotFound, "not_found", "There is no such "+string(r.kind)+", or you may not see it. List "+r.plural+" to find its id.")
}

func (r homeRow) forbidden() error {
	return fault.New(fault.Forbidden, "forbidden", "Operators and administrators keep the "+r.plural+". Ask one of them; nothing was changed.")
}
