package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// newCredential is where a credential is stored. No id begins with a tilde.
const newCredential = "/credentials/~new"

// routeCredentials names the pages of credentials.
func (s *site) routeCredentials(mux *http.ServeMux) {
	mux.HandleFunc("GET /credentials", s.signedIn(s.credentials))
	mux.HandleFunc("GET /credentials.csv", s.signedIn(s.credentialsFile))
	mux.HandleFunc("GET /credentials/~bulk", s.signedIn(s.bulkForm))
	mux.HandleFunc("POST /credentials/~bulk", s.submitted(s.bulk))
	mux.HandleFunc("GET /credentials/~new", s.signedIn(s.credentialNew))
	mux.HandleFunc("POST /credentials", s.submittedUpTo(maxSecretForm, s.credentialStore))
	mux.HandleFunc("GET /credentials/{id}", s.signedIn(s.credential))
	mux.HandleFunc("POST /credentials/{id}", s.submitted(s.credentialChange))
	mux.HandleFunc("GET /credentials/{id}/destination", s.signedIn(s.fresh(s.destinationForm)))
	mux.HandleFunc("POST /credentials/{id}/destination", s.submitted(s.destination))
	mux.HandleFunc("GET /credentials/{id}/reveal", s.signedIn(s.fresh(s.revealForm)))
	mux.HandleFunc("POST /credentials/{id}/reveal", s.submitted(s.reveal))
	mux.HandleFunc("GET /credentials/{id}/rotate", s.signedIn(s.rotateForm))
	mux.HandleFunc("POST /credentials/{id}/rotate", s.submittedUpTo(maxSecretForm, s.rotate))
	mux.HandleFunc("GET /credentials/{id}/test", s.signedIn(s.testForm))
	mux.HandleFunc("POST /credentials/{id}/test", s.submitted(s.test))
	mux.HandleFunc("GET /credentials/{id}/status", s.signedIn(s.statusForm))
	mux.HandleFunc("POST /credentials/{id}/status", s.submitted(s.status))
	mux.HandleFunc("GET /credentials/{id}/versions", s.signedIn(s.versions))
	mux.HandleFunc("GET /credentials/{id}/versions/{n}/restore", s.signedIn(s.restoreForm))
	mux.HandleFunc("POST /credentials/{id}/versions/{n}/restore", s.submitted(s.restore))
	mux.HandleFunc("GET /credentials/{id}/access", s.signedIn(s.access))
	mux.HandleFunc("GET /credentials/{id}/access/give", s.signedIn(s.fresh(s.giveForm)))
	mux.HandleFunc("POST /credentials/{id}/access/give", s.submitted(s.give))
	mux.HandleFunc("GET /credentials/{id}/access/{party}/take", s.signedIn(s.fresh(s.takeForm)))
	mux.HandleFunc("POST /credentials/{id}/access/{party}/take", s.submitted(s.take))
	mux.HandleFunc("GET /credentials/{id}/record", s.signedIn(s.credentialRecord))
	mux.HandleFunc("POST /credentials/{id}/refresh", s.submitted(s.refreshNow))
	mux.HandleFunc("GET /credentials/{id}/delete", s.signedIn(s.credentialDeleteForm))
	mux.HandleFunc("POST /credentials/{id}/delete", s.submitted(s.credentialDelete))
}

// credentialPath is the address of a credential's page.
func credentialPath(id string, more ...string) string {
	path := "/credentials/" + url.PathEscape(id)
	for _, part := range more {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// credentialsPage is the list of credentials.
type credentialsPage struct {
	ui.Frame
	Query   url.Values
	Views   []ui.NavLink
	Filters []ui.Choice
	More    []ui.Field
	Homes   homeFields
	// Open says that one of the further filters is in use.
	Open  bool
	Table ui.Table
	Kept  ui.Saved
	// Write says whether the visitor may store and change any.
	Write bool
	Acts  ui.Choice
}

// asked returns the filter that an address asks for, and what of the address is the filter. The names are those of the API.
func (s *site) asked(r *http.Request, v visitor) (vault.Filter, url.Values, error) {
	given, kept := r.URL.Query(), url.Values{}
	get := func(name string) string {
		text := strings.TrimSpace(given.Get(name))
		if text != "" {
			kept.Set(name, text)
		}
		return text
	}
	f := vault.Filter{
		Q: get("q"), Type: vault.Type(get("type")), Status: vault.Status(get("status")), Health: vault.Health(get("health")), Provider: get("provider"), Tag: get("tag"),
		Owner: get("owner"), ClientID: get("client_id"), ServiceID: get("service_id"), InfrastructureID: get("infrastructure_id"), PluginName: get("plugin_name"), Limit: pageSize, Cursor: given.Get("cursor"),
	}
	for _, home := range []struct {
		kind vault.HomeKind
		to   *string
	}{{vault.HomeClient, &f.ClientID}, {vault.HomeService, &f.ServiceID}, {vault.HomeInfrastructure, &f.InfrastructureID}} {
		id, err := s.homeNamed(r, v, home.kind, *home.to, "")
		if err != nil {
			return f, kept, err
		}
		*home.to = id
	}
	if text := get("expires_in_days"); text != "" {
		days, err := strconv.Atoi(text)
		if err != nil || days < 0 || days > 36500 {
			return f, kept, fault.New(fault.Unprocessable, "validation_failed", "The number of days must be 0 to 36500.")
		}
		before := time.Now().Add(time.Duration(days) * 24 * time.Hour)
		f.ExpiresBefore = &before
	}
	if ref := get("train_id"); ref != "" {
		links, err := s.Trains.Links(r.Context(), v.Caller, ref)
		if err != nil {
			return f, kept, err
		}
		f.IDs = make([]string, len(links))
		for i, l := range links {
			f.IDs[i] = l.CredentialID
		}
	}
	return f, kept, nil
}

// credentials lists credentials. A script that asks for the list alone gets only that.
func (s *site) credentials(w http.ResponseWriter, r *http.Request, v visitor) {
	f, query, err := s.asked(r, v)
	var list []vault.Credential
	var next string
	if err == nil {
		list, next, err = s.Vault.List(r.Context(), v.Caller, f)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &credentialsPage{Frame: s.frame(r, v, "Credentials"), Query: query, Write: s.changes(v, identity.CredentialWrite)}
	announce(&p.Frame, r, map[string]string{"deleted": "The credential was deleted, and the sealed material of all its versions destroyed."})
	if p.Table, err = s.credentialTable(r, v, list, p.Write); err != nil {
		s.refused(w, r, v, err)
		return
	}
	here := "/credentials"
	if len(query) > 0 {
		here += "?" + query.Encode()
	}
	if f.Cursor != "" {
		p.Table.First = here
	}
	if next != "" {
		more := url.Values{"cursor": {next}}
		for name, texts := range query {
			more[name] = texts
		}
		p.Table.Next = "/credentials?" + more.Encode()
	}
	if len(list) > 0 {
		p.Table.CSV = "/credentials.csv?" + query.Encode()
	} else if len(query) > 0 {
		p.Table.Empty = ui.Empty{Text: "No credential is like this.", Label: "Show all", Href: "/credentials"}
	}
	s.keeps(r, v, "credentials", &p.Table)
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	if p.Kept, err = s.kept(r, v, &p.Frame, "credentials"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	if p.Homes, err = s.homeFields(r, v, homeWish{vault.HomeClient, "client_id", "Client", f.ClientID, "Any"}, homeWish{vault.HomeService, "service_id", "Service", f.ServiceID, "Any"},
		homeWish{vault.HomeInfrastructure, "infrastructure_id", "Infrastructure", f.InfrastructureID, "Any"}); err != nil {
		s.refused(w, r, v, err)
		return
	}
	p.filters(query)
	s.show(w, r, http.StatusOK, credentialsView(p))
}

// filters fills the bar above the list, and the ready-made views.
func (p *credentialsPage) filters(query url.Values) {
	for _, view := range []struct{ label, query string }{
		{"All", ""}, {"Expiring", "status=expiring"}, {"Expired", "status=expired"}, {"Needs login", "health=needs_login"}, {"Refresh failing", "health=refresh_failing"}, {"Disabled", "status=disabled"},
		{"Compromised", "status=compromised"},
	} {
		link := ui.NavLink{Label: view.label, Href: "/credentials", Current: query.Encode() == view.query}
		if view.query != "" {
			link.Href += "?" + view.query
		}
		p.Views = append(p.Views, link)
	}
	choice := func(name, label string, values ...string) {
		c := ui.Choice{Name: name, Label: label, Options: []ui.Option{{Label: "Any"}}}
		for _, value := range values {
			c.Options = append(c.Options, ui.Option{Value: value, Label: strings.ReplaceAll(value, "_", " "), Chosen: query.Get(name) == value})
		}
		p.Filters = append(p.Filters, c)
	}
	var types, statuses, healths []string
	for _, row := range vault.Types() {
		types = append(types, string(row.Type))
	}
	for _, one := range vault.Statuses() {
		statuses = append(statuses, string(one))
	}
	for _, one := range vault.Healths() {
		healths = append(healths, string(one))
	}
	choice("type", "Type", types...)
	choice("status", "Status", statuses...)
	choice("health", "Health", healths...)
	for _, f := range []ui.Field{
		{Name: "provider", Label: "Provider"}, {Name: "tag", Label: "Tag"}, {Name: "owner", Label: "Owner"},
		{Name: "train_id", Label: "Linked to the train"}, {Name: "expires_in_days", Label: "Ends within days", Type: "number", Min: "0", Max: "36500"},
	} {
		f.Value, f.Optional, f.Autocomplete = query.Get(f.Name), true, "off"
		if f.Type == "" {
			f.MaxLength = 200
		}
		p.Open = p.Open || f.Value != ""
		p.More = append(p.More, f)
	}
	for _, name := range []string{"client_id", "service_id", "infrastructure_id"} {
		p.Open = p.Open || query.Has(name)
	}
	p.Acts = bulkChoice("")
}

// bulkChoice is what can be done with the rows that are picked.
func bulkChoice(first string) ui.Choice {
	c := ui.Choice{Name: "act", Label: "With the picked"}
	for _, act := range bulkActs() {
		c.Options = append(c.Options, ui.Option{Value: act.name, Label: act.label, Chosen: act.name == first})
	}
	return c
}

func (s *site) credentialTable(r *http.Request, v visitor, list []vault.Credential, write bool) (ui.Table, error) {
	reader := s.reader(r)
	named, err := s.homesOf(r, v, list)
	t := ui.Table{
		ID: "credentials", Caption: "Credentials, the oldest first", Live: "credential",
		Columns: []ui.Column{{Label: "Name"}, {Label: "Type"}, {Label: "Belongs to"}, {Label: "Tags"}, {Label: "Status"}, {Label: "Ends"}, {Label: "Secret changed"}, {Label: "Last used"}},
		Empty:   ui.Empty{Text: "There is no credential yet that you may see. A credential is one secret, sealed, with what is known of it.", Command: "signalbox credential add"},
	}
	if write {
		t.Empty.Label, t.Empty.Href, t.Pick = "Store a credential", newCredential, "bulk"
	}
	for _, c := range list {
		changed := c.CreatedAt
		if c.LastRotatedAt != nil {
			changed = *c.LastRotatedAt
		}
		t.Rows = append(t.Rows, ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{
			ui.Link(c.Name, credentialPath(c.ID)), kindOf(c), ui.Text(belongs(c, named)), ui.Text(strings.Join(c.Tags, ", ")), standView(c), ui.WhenOr(reader, c.ExpiresAt, "never"), ui.When(reader, changed), ui.WhenOr(reader, c.LastUsedAt, "never"),
		}})
	}
	return t, err
}

// homesOf are the names of what credentials belong to.
func (s *site) homesOf(r *http.Request, v visitor, list []vault.Credential) (map[vault.HomeKind]map[string]string, error) {
	ids := map[vault.HomeKind][]string{}
	for _, c := range list {
		for kind, id := range map[vault.HomeKind]string{vault.HomeClient: c.ClientID, vault.HomeService: c.ServiceID, vault.HomeInfrastructure: c.InfrastructureID} {
			ids[kind] = append(ids[kind], id)
		}
	}
	return s.Vault.HomeNames(r.Context(), v.Caller, ids)
}

// kindOf is what a credential is, with where it comes from.
func kindOf(c vault.Credential) templ.Component {
	if c.Provider == "" {
		return ui.Text(typeLabel(c.Type))
	}
	return ui.Text(typeLabel(c.Type) + ", " + c.Provider)
}

// belongs says whose a credential is, as far as it says so itself, by the names that the visitor may know.
func belongs(c vault.Credential, named map[vault.HomeKind]map[string]string) string {
	var parts []string
	for _, text := range []string{c.Owner, cmp.Or(named[vault.HomeClient][c.ClientID], c.ClientID), cmp.Or(named[vault.HomeService][c.ServiceID], c.ServiceID),
		cmp.Or(named[vault.HomeInfrastructure][c.InfrastructureID], c.InfrastructureID)} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " · ")
}

func statusBadge(s vault.Status) templ.Component {
	switch s {
	case vault.Active:
		return ui.Badge(ui.Good, "active")
	case vault.Expiring:
		return ui.Badge(ui.Warn, "expiring")
	case vault.Expired:
		return ui.Badge(ui.Bad, "expired")
	case vault.Compromised:
		return ui.Badge(ui.Bad, "compromised")
	}
	return ui.Badge(ui.Idle, "disabled")
}

func healthBadge(h vault.Health) templ.Component {
	if h == "" {
		return ui.Faint("–")
	}
	return ui.Badge(healthTone(h), healthText(h))
}

// credentialsFile is the list as a file, all of it.
func (s *site) credentialsFile(w http.ResponseWriter, r *http.Request, v visitor) {
	f, _, err := s.asked(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	f.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: "credentials",
		head: []string{"id", "name", "type", "provider", "account_id", "status", "health", "owner", "client_id", "service_id", "infrastructure_id", "tags", "expires_at", "last_rotated_at", "last_used_at", "created_at", "updated_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			f.Cursor = cursor
			list, next, err := s.Vault.List(ctx, v.Caller, f)
			for _, c := range list {
				rows = append(rows, []string{c.ID, c.Name, string(c.Type), c.Provider, c.AccountID, string(c.Status), string(c.Health), c.Owner, c.ClientID, c.ServiceID, c.InfrastructureID,
					strings.Join(c.Tags, " "), fileTimeOr(c.ExpiresAt), fileTimeOr(c.LastRotatedAt), fileTimeOr(c.LastUsedAt), fileTime(c.CreatedAt), fileTime(c.UpdatedAt)})
			}
			return rows, next, err
		},
	})
}
