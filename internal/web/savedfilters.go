package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// filtersPage is where a person sees what they keep, and newFilter where they keep another.
const (
	filtersPage = "/filters"
	newFilter   = "/filters/~new"
)

// savedList is a list whose filter a person may keep: by which names its address has the filter, and what people call them.
type savedList struct {
	name, label string
	params      []param
}

// param is one parameter of a filter.
type param struct{ name, label string }

func (l savedList) path() string { return "/" + l.name }

// savedLists are the lists whose filters can be kept. A list that gets another filter gets a line here.
func savedLists() []savedList {
	words := param{"q", "words"}
	return []savedList{
		{"credentials", "Credentials", []param{words, {"type", "type"}, {"status", "status"}, {"health", "health"}, {"provider", "provider"}, {"tag", "tag"}, {"owner", "owner"}, {"client_id", "client"},
			{"service_id", "service"}, {"infrastructure_id", "infrastructure"}, {"plugin_name", "plugin"}, {"train_id", "train"}, {"expires_in_days", "ends within days"}}},
		{"accounts", "Accounts", []param{words, {"status", "status"}}},
		{"clients", "Clients", []param{words}},
		{"services", "Services", []param{words, {"client_id", "client"}}},
		{"infrastructure", "Infrastructure", []param{words, {"client_id", "client"}, {"kind", "kind"}}},
		{"due", "What is due", []param{{"about", "about"}, {"within", "within days"}, {"client_id", "client"}}},
		{"trains", "Trains", []param{words}},
		{"requests", "Requests", []param{{"train_id", "train"}, {"client_key_id", "client key"}, {"user_id", "person"}, {"credential_id", "account"}, {"model", "model"}, {"outcome", "outcome"}, {"from", "from"}, {"to", "until"}}},
		{"usage", "Usage", []param{{"train_id", "train"}, {"client_key_id", "client key"}, {"user_id", "person"}, {"credential_id", "account"}, {"model", "model"}, {"range", "when"}, {"from", "from"}, {"to", "until"},
			{"step", "by"}, {"by", "told apart by"}, {"chart", "drawn"}}},
		{"connections", "Connections", []param{words, {"health", "health"}}},
		{"people", "People", []param{words, {"role", "role"}, {"state", "state"}}},
		{"groups", "Groups", []param{words}},
		{"service-accounts", "Service accounts", []param{words}},
		{"audit", "Audit", []param{{"action", "act"}, {"outcome", "outcome"}, {"actor", "who"}, {"target", "what"}, {"request_id", "request"}, {"from", "from"}, {"to", "until"}}},
	}
}

// savedListOf finds a list by its name.
func savedListOf(name string) (savedList, bool) {
	lists := savedLists()
	i := slices.IndexFunc(lists, func(l savedList) bool { return l.name == name })
	if i < 0 {
		return savedList{}, false
	}
	return lists[i], true
}

// narrowed is what of an address is the list's filter: neither its place in the list nor anything that the list does not read.
func (l savedList) narrowed(query url.Values) url.Values {
	out := url.Values{}
	for _, p := range l.params {
		if text := strings.TrimSpace(query.Get(p.name)); text != "" {
			out.Set(p.name, text)
		}
	}
	return out
}

// says is a filter in words.
func (l savedList) says(query url.Values) string {
	var out []string
	for _, p := range l.params {
		if text := query.Get(p.name); text != "" {
			out = append(out, p.label+" “"+strings.ReplaceAll(text, "_", " ")+"”")
		}
	}
	return strings.Join(out, ", ")
}

// at is the address of the list with a filter; done, when it is not empty, is what the list says was done.
func (l savedList) at(query url.Values, done string) string {
	query = l.narrowed(query)
	if done != "" {
		query.Set("done", done)
	}
	if len(query) == 0 {
		return l.path()
	}
	return l.path() + "?" + query.Encode()
}

// routeFilters names the pages of the filters that a person keeps.
func (s *site) routeFilters(mux *http.ServeMux) {
	mux.HandleFunc("GET /filters", s.signedIn(s.filters))
	mux.HandleFunc("GET /filters/~new", s.signedIn(s.filterForm))
	mux.HandleFunc("POST /filters", s.submitted(s.filterSave))
	mux.HandleFunc("GET /filters/{id}/rename", s.signedIn(s.filterRenameForm))
	mux.HandleFunc("POST /filters/{id}/rename", s.submitted(s.filterRename))
	mux.HandleFunc("GET /filters/{id}/delete", s.signedIn(s.filterDeleteForm))
	mux.HandleFunc("POST /filters/{id}/delete", s.submitted(s.filterDelete))
}

// keeps offers, below a list, to keep the filter that it is narrowed by. It is for the whole page and for the list alone.
func (s *site) keeps(r *http.Request, v visitor, list string, t *ui.Table) {
	l, known := savedListOf(list)
	query := l.narrowed(r.URL.Query())
	if !known || len(query) == 0 || !s.changes(v, identity.ProfileWrite) {
		return
	}
	query.Set("list", list)
	t.Save = newFilter + "?" + query.Encode()
}

// kept are the filters that a person keeps of a list, for the bar above it, and what the list says after one was kept.
func (s *site) kept(r *http.Request, v visitor, f *ui.Frame, list string) (ui.Saved, error) {
	l, _ := savedListOf(list)
	announce(f, r, map[string]string{"filter-kept": "The filter is kept. It stands above this list, for you alone."})
	found, err := s.Identity.SavedFilters(r.Context(), v.Caller, list)
	if err != nil {
		return ui.Saved{}, err
	}
	out := ui.Saved{Manage: filtersPage}
	here := l.narrowed(r.URL.Query()).Encode()
	for _, one := range found {
		query := l.narrowed(queryOf(one))
		out.Links = append(out.Links, ui.NavLink{Label: one.Name, Href: l.at(query, ""), Current: query.Encode() == here})
	}
	return out, nil
}

// queryOf reads what is kept of a filter; what cannot be read narrows nothing.
func queryOf(f identity.SavedFilter) url.Values {
	query, err := url.ParseQuery(f.Query)
	if err != nil {
		return url.Values{}
	}
	return query
}

func (s *site) filters(w http.ResponseWriter, r *http.Request, v visitor) {
	list, err := s.Identity.SavedFilters(r.Context(), v.Caller, "")
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &listPage{Frame: s.frame(r, v, "Your filters"), Lead: "Filters of lists that you keep under a name. Nobody else sees them.", Action: filtersPage}
	announce(&p.Frame, r, map[string]string{"renamed": "The filter has another name now.", "deleted": "The filter was deleted."})
	p.Table = ui.Table{ID: "filters", Caption: "Filters by list and name", Columns: []ui.Column{{Label: "Name"}, {Label: "List"}, {Label: "What it looks for"}, {Label: "Kept"}},
		Empty: ui.Empty{Text: "You keep no filter yet. Narrow a list, then choose “Keep this filter” below it.", Label: "To the credentials", Href: "/credentials"}}
	mayChange := s.changes(v, identity.ProfileWrite)
	if mayChange {
		p.Table.Columns = append(p.Table.Columns, ui.Column{Label: "Rename", Unseen: true}, ui.Column{Label: "Delete", Unseen: true})
	}
	reader := s.reader(r)
	for _, one := range list {
		l, known := savedListOf(one.List)
		if !known {
			l = savedList{name: one.List, label: one.List}
		}
		query := queryOf(one)
		row := ui.Row{ID: one.ID, Name: one.Name, Cells: []templ.Component{ui.Link(one.Name, l.at(query, "")), ui.Text(l.label), ui.Text(l.says(query)), ui.When(reader, one.CreatedAt)}}
		if mayChange {
			row.Cells = append(row.Cells, ui.DialogLink("Rename", under(filtersPage, one.ID, "rename"), "Rename "+one.Name), ui.DialogLink("Delete", under(filtersPage, one.ID, "delete"), "Delete "+one.Name))
		}
		p.Table.Rows = append(p.Table.Rows, row)
	}
	s.showList(w, r, v, p)
}

// filterPage asks for the name of a filter that is to be kept.
func (s *site) filterPage(r *http.Request, v visitor, l savedList, query url.Values, name string) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Keep this filter"), Back: l.at(query, ""), BackLabel: l.label, Action: filtersPage, Submit: "Keep it",
		Lead:   l.label + " by " + l.says(query) + ". It is kept for you alone, readable in the database: do not put a secret into it.",
		Hidden: v.hidden(ui.Hidden{Name: "list", Value: l.name}, ui.Hidden{Name: "query", Value: query.Encode()}),
		Inputs: []ui.Field{{Name: "name", Label: "Name", Value: name, MaxLength: 100, Autocomplete: "off", Focus: true}}}
}

func noSuchList() error {
	return fault.New(fault.NotFound, "not_found", "There is no such list, or it is not narrowed. Narrow a list first, then keep its filter.")
}

func (s *site) filterForm(w http.ResponseWriter, r *http.Request, v visitor) {
	l, known := savedListOf(r.URL.Query().Get("list"))
	query := l.narrowed(r.URL.Query())
	if !known || len(query) == 0 {
		s.refused(w, r, v, noSuchList())
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.filterPage(r, v, l, query, "")))
}

func (s *site) filterSave(w http.ResponseWriter, r *http.Request, v visitor) {
	l, known := savedListOf(r.PostForm.Get("list"))
	query, err := url.ParseQuery(r.PostForm.Get("query"))
	if query = l.narrowed(query); err != nil || !known || len(query) == 0 {
		s.refused(w, r, v, noSuchList())
		return
	}
	name := r.PostForm.Get("name")
	_, err = s.Identity.SaveFilter(r.Context(), v.Caller, l.name, name, query)
	s.settled(w, r, v, err, l.at(query, "filter-kept"), l.at(query, ""), func(f *fault.Error) { s.again(w, r, f, s.filterPage(r, v, l, query, name)) })
}

func (s *site) filterRenamePage(r *http.Request, v visitor, one identity.SavedFilter, name string) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Rename "+one.Name), Back: filtersPage, BackLabel: "Your filters", Action: under(filtersPage, one.ID, "rename"), Submit: "Rename it", Hidden: v.hidden(),
		Inputs: []ui.Field{{Name: "name", Label: "Name", Value: name, MaxLength: 100, Autocomplete: "off", Focus: true}}}
}

// ownFilter finds the filter that a page is about, or says that the visitor keeps none like it.
func (s *site) ownFilter(w http.ResponseWriter, r *http.Request, v visitor) (identity.SavedFilter, bool) {
	one, err := s.Identity.SavedFilter(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
	}
	return one, err == nil
}

func (s *site) filterRenameForm(w http.ResponseWriter, r *http.Request, v visitor) {
	if one, ok := s.ownFilter(w, r, v); ok {
		s.show(w, r, http.StatusOK, askedView(s.filterRenamePage(r, v, one, one.Name)))
	}
}

func (s *site) filterRename(w http.ResponseWriter, r *http.Request, v visitor) {
	one, ok := s.ownFilter(w, r, v)
	if !ok {
		return
	}
	name := r.PostForm.Get("name")
	_, err := s.Identity.RenameFilter(r.Context(), v.Caller, one.ID, name)
	s.settled(w, r, v, err, filtersPage+"?done=renamed", filtersPage, func(f *fault.Error) { s.again(w, r, f, s.filterRenamePage(r, v, one, name)) })
}

func (s *site) filterDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	if one, ok := s.ownFilter(w, r, v); ok {
		s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete the filter "+one.Name), "Your filters", ui.Confirm{
			Lead: "The filter is deleted. What it finds stays as it is.", Action: under(filtersPage, one.ID, "delete"), Submit: "Delete the filter", Back: filtersPage, Hidden: v.hidden(),
		}))
	}
}

func (s *site) filterDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.Identity.DeleteFilter(r.Context(), v.Caller, r.PathValue("id"))
	s.settled(w, r, v, err, filtersPage+"?done=deleted", filtersPage, nil)
}
