package web

import (
	"context"
	"net/http"
	"net/url"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// homeSort is what the pages call a kind of what credentials belong to.
type homeSort struct {
	kind vault.HomeKind
	// path is the list's, under which each thing has its page.
	path, label, one, a, command, lead string
}

// homeSorts are the kinds in the order of their tabs.
func homeSorts() []homeSort {
	return []homeSort{
		{vault.HomeClient, "/clients", "Clients", "client", "a client", "client", "Whom the secrets are kept for. A client has services, infrastructure and credentials."},
		{vault.HomeService, "/services", "Services", "service", "a service", "service", "Applications of a client, or of the house. What is granted on a service holds for all its credentials."},
		{vault.HomeInfrastructure, "/infrastructure", "Infrastructure", "infrastructure", "infrastructure", "infra", "Machines, networks and devices that credentials open."},
	}
}

func homeSortOf(kind vault.HomeKind) homeSort {
	for _, sort := range homeSorts() {
		if sort.kind == kind {
			return sort
		}
	}
	return homeSort{}
}

// routeHomes names the pages of clients, services and infrastructure.
func (s *site) routeHomes(mux *http.ServeMux) {
	for _, sort := range homeSorts() {
		of := func(serve func(http.ResponseWriter, *http.Request, visitor, homeSort)) func(http.ResponseWriter, *http.Request, visitor) {
			return func(w http.ResponseWriter, r *http.Request, v visitor) { serve(w, r, v, sort) }
		}
		mux.HandleFunc("GET "+sort.path, s.signedIn(of(s.homes)))
		mux.HandleFunc("GET "+sort.path+".csv", s.signedIn(of(s.homesFile)))
		mux.HandleFunc("GET "+sort.path+"/~new", s.signedIn(of(s.homeForm)))
		mux.HandleFunc("POST "+sort.path, s.submitted(of(s.homeMake)))
		mux.HandleFunc("GET "+sort.path+"/{id}", s.signedIn(of(s.aHome)))
		mux.HandleFunc("GET "+sort.path+"/{id}/edit", s.signedIn(of(s.homeEditForm)))
		mux.HandleFunc("POST "+sort.path+"/{id}/edit", s.submitted(of(s.homeEdit)))
		mux.HandleFunc("GET "+sort.path+"/{id}/delete", s.signedIn(of(s.homeDeleteForm)))
		mux.HandleFunc("POST "+sort.path+"/{id}/delete", s.submitted(of(s.homeDelete)))
	}
}

// keepsHomes reports whether the visitor may change clients, services and infrastructure, while anything can be changed: it takes a role that reaches
// every credential.
func (s *site) keepsHomes(v visitor) bool {
	return !s.ReadOnly && identity.Allow(v.Caller, identity.CredentialWrite) == nil
}

// homeFilter reads the filter of a list of homes.
func homeFilter(sort homeSort, query url.Values) vault.HomeFilter {
	f := vault.HomeFilter{Q: query.Get("q"), Cursor: query.Get("cursor"), Limit: pageSize}
	if sort.kind != vault.HomeClient {
		f.ClientID = query.Get("client_id")
	}
	if sort.kind == vault.HomeInfrastructure {
		f.Sort = query.Get("kind")
	}
	return f
}

// homes lists the homes of a kind.
func (s *site) homes(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	query := r.URL.Query()
	f := homeFilter(sort, query)
	id, err := s.homeNamed(r, v, vault.HomeClient, f.ClientID, "")
	f.ClientID = id
	var list []vault.Home
	var next string
	if err == nil {
		list, next, err = s.Vault.ListHomes(r.Context(), v.Caller, sort.kind, f)
	}
	p := &listPage{Frame: s.frame(r, v, sort.label), Lead: sort.lead, Action: sort.path, Keep: sort.path[1:],
		Inputs: []ui.Field{{Name: "q", Label: "Words", Type: "search", Value: f.Q, MaxLength: 200, Autocomplete: "off", Optional: true}}}
	if err == nil && sort.kind != vault.HomeClient && !partial(r) {
		err = s.filterByHome(r, v, p, vault.HomeClient, "client_id", "Client", f.ClientID)
	}
	if err == nil {
		p.Table, err = s.homeTable(r, v, sort, list, sort.path[1:], true)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, map[string]string{"deleted": "It was deleted. What the audit log says of it stays."})
	if sort.kind == vault.HomeInfrastructure {
		p.Choices = append(p.Choices, kindChoice(f.Sort, "any"))
	}
	for _, one := range homeSorts() {
		p.Tabs = append(p.Tabs, ui.NavLink{Label: one.label, Href: one.path, Current: one.kind == sort.kind})
	}
	if s.keepsHomes(v) {
		p.Make, p.MakeAt = "Add "+sort.a, sort.path+"/~new"
		p.Table.Empty.Label, p.Table.Empty.Href, p.Table.Empty.Dialog = p.Make, p.MakeAt, true
	}
	if f.Q != "" || f.ClientID != "" || f.Sort != "" {
		p.Table.Empty = ui.Empty{Text: "None is like this.", Label: "Show all", Href: sort.path}
	}
	p.pages(query, next, sort.path+".csv")
	s.showList(w, r, v, p)
}

// homeTable lists homes; id is the list's, and whose says whether it tells the client of each.
func (s *site) homeTable(r *http.Request, v visitor, sort homeSort, list []vault.Home, id string, whose bool) (ui.Table, error) {
	t := ui.Table{ID: id, Caption: sort.label + ", the oldest first", Live: "home", Columns: []ui.Column{{Label: "Name"}},
		Empty: ui.Empty{Text: "There is none yet that you may see.", Command: "signalbox " + sort.command + " create NAME"}}
	var clients []string
	for _, h := range list {
		clients = append(clients, h.ClientID)
	}
	named, err := s.Vault.HomeNames(r.Context(), v.Caller, map[vault.HomeKind][]string{vault.HomeClient: clients})
	if err != nil {
		return t, err
	}
	label := func(labels ...string) {
		for _, one := range labels {
			t.Columns = append(t.Columns, ui.Column{Label: one})
		}
	}
	if sort.kind == vault.HomeInfrastructure {
		label("Kind")
	}
	if whose = whose && sort.kind != vault.HomeClient; whose {
		label("Client")
	}
	if sort.kind == vault.HomeClient {
		label("Contact")
	} else {
		label("Address")
	}
	label("Description", "Changed")
	reader := s.reader(r)
	for _, h := range list {
		row := ui.Row{ID: h.ID, Name: h.Name, Cells: []templ.Component{ui.Link(h.Name, homePath(h.Kind, h.ID))}}
		if sort.kind == vault.HomeInfrastructure {
			row.Cells = append(row.Cells, ui.Text(h.Sort))
		}
		if whose {
			row.Cells = append(row.Cells, homeLink(named, vault.HomeClient, h.ClientID))
		}
		row.Cells = append(row.Cells, ui.Text(h.Contact+h.URL+h.Address), ui.Faint(h.Description), ui.When(reader, h.UpdatedAt)) // of which a kind has one
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// homePath is the address of the page of a client, a service or infrastructure.
func homePath(kind vault.HomeKind, id string, more ...string) string {
	return under(homeSortOf(kind).path, append([]string{id}, more...)...)
}

// homeLink is a home as a page names it: by its name where the visitor sees it, by its id otherwise.
func homeLink(named map[vault.HomeKind]map[string]string, kind vault.HomeKind, id string) templ.Component {
	switch name := named[kind][id]; {
	case id == "":
		return ui.Text("")
	case name == "":
		return ui.Code(id)
	default:
		return ui.Link(name, homePath(kind, id))
	}
}

// homesFile is the list as a file, all of it.
func (s *site) homesFile(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	f := homeFilter(sort, r.URL.Query())
	f.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: sort.path[1:], head: []string{"id", "name", "client_id", "kind", "address", "url", "contact", "description", "created_at", "updated_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			f.Cursor = cursor
			list, next, err := s.Vault.ListHomes(ctx, v.Caller, sort.kind, f)
			for _, h := range list {
				rows = append(rows, []string{h.ID, h.Name, h.ClientID, h.Sort, h.Address, h.URL, h.Contact, h.Description, fileTime(h.CreatedAt), fileTime(h.UpdatedAt)})
			}
			return rows, next, err
		},
	})
}

// aHome shows one of them, with what belongs to it.
func (s *site) aHome(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	h, err := s.Vault.GetHome(r.Context(), v.Caller, sort.kind, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &onePage{Frame: s.frame(r, v, h.Name), Back: sort.path, BackLabel: sort.label, FactsTitle: "What it is"}
	announce(&p.Frame, r, map[string]string{"made": "It was stored.", "changed": "It was changed."})
	if s.keepsHomes(v) {
		p.Acts = []act{{"Edit", homePath(sort.kind, h.ID, "edit")}, {"Delete…", homePath(sort.kind, h.ID, "delete")}}
	}
	named, err := s.Vault.HomeNames(r.Context(), v.Caller, map[vault.HomeKind][]string{vault.HomeClient: {h.ClientID}})
	if err == nil {
		p.Facts = homeFacts(s.reader(r), h, named)
		err = s.homeParts(r, v, p, sort, h)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, oneView(p))
}

func homeFacts(reader ui.Reader, h vault.Home, named map[vault.HomeKind]map[string]string) []ui.Fact {
	var facts []ui.Fact
	fact := func(term, value string, wide bool) {
		if value != "" {
			facts = append(facts, ui.Fact{Term: term, Value: ui.Text(value), Wide: wide})
		}
	}
	if h.ClientID != "" {
		facts = append(facts, ui.Fact{Term: "Client", Value: homeLink(named, vault.HomeClient, h.ClientID)})
	}
	fact("Kind", h.Sort, false)
	fact("Contact", h.Contact, true)
	fact("Address", h.URL, true)
	fact("Address", h.Address, true)
	fact("Description", h.Description, true)
	return append(facts, ui.Fact{Term: "Stored", Value: ui.When(reader, h.CreatedAt)}, ui.Fact{Term: "Changed", Value: ui.When(reader, h.UpdatedAt)}, ui.Fact{Term: "Id", Value: ui.Code(h.ID), Wide: true})
}

// homeParts fills the lists of what belongs to a home: the first of each, with a link to all of them.
func (s *site) homeParts(r *http.Request, v visitor, p *onePage, sort homeSort, h vault.Home) error {
	keeps := s.keepsHomes(v)
	add := func(part part, all, more string) {
		part.Table.Next = ""
		if more != "" {
			part.Acts = append(part.Acts, ui.LinkButton("All of them", all, ui.Plain, false))
		}
		p.Parts = append(p.Parts, part)
	}
	if sort.kind == vault.HomeClient {
		for _, below := range homeSorts()[1:] {
			list, next, err := s.Vault.ListHomes(r.Context(), v.Caller, below.kind, vault.HomeFilter{ClientID: h.ID, Limit: pageSize})
			if err != nil {
				return err
			}
			one := part{ID: "of-" + below.path[1:], Title: below.label}
			if one.Table, err = s.homeTable(r, v, below, list, below.path[1:], false); err != nil {
				return err
			}
			one.Table.Empty = ui.Empty{Text: "None is stored of this client."}
			if at := below.path + "/~new?client_id=" + url.QueryEscape(h.ID); keeps && len(list) > 0 {
				one.Acts = []templ.Component{ui.LinkButton("Add "+below.a, at, ui.Plain, true)}
			} else if keeps {
				one.Table.Empty.Label, one.Table.Empty.Href, one.Table.Empty.Dialog = "Add "+below.a, at, true
			}
			add(one, below.path+"?client_id="+url.QueryEscape(h.ID), next)
		}
	}
	f, param := vault.Filter{Limit: pageSize}, string(sort.kind)+"_id"
	switch sort.kind {
	case vault.HomeClient:
		f.ClientID = h.ID
	case vault.HomeService:
		f.ServiceID = h.ID
	default:
		f.InfrastructureID = h.ID
	}
	list, next, err := s.Vault.List(r.Context(), v.Caller, f)
	if err != nil {
		return err
	}
	one := part{ID: "of-credentials", Title: "Credentials"}
	if one.Table, err = s.credentialTable(r, v, list, false); err != nil {
		return err
	}
	one.Table.Empty = ui.Empty{Text: "No credential that you see belongs to it."}
	if s.changes(v, identity.CredentialWrite) {
		query := url.Values{param: {h.ID}}
		if h.ClientID != "" {
			query.Set("client_id", h.ClientID)
		}
		one.Acts = []templ.Component{ui.LinkButton("Store a credential", newCredential+"?"+query.Encode(), ui.Plain, false)}
	}
	if sort.kind == vault.HomeClient && len(list) > 0 {
		one.Acts = append(one.Acts, ui.LinkButton("What is due", "/due?"+url.Values{param: {h.ID}}.Encode(), ui.Plain, false))
	}
	add(one, "/credentials?"+url.Values{param: {h.ID}}.Encode(), next)
	return nil
}
