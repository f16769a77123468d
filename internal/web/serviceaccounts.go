package web

import (
	"net/http"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

const services = "/service-accounts"

// routeServices names the pages of service accounts.
func (s *site) routeServices(mux *http.ServeMux) {
	mux.HandleFunc("GET /service-accounts", s.signedIn(s.services))
	mux.HandleFunc("GET /service-accounts/~new", s.signedIn(s.needing(identity.ServiceWrite, s.fresh(s.serviceForm))))
	mux.HandleFunc("POST /service-accounts", s.submitted(s.serviceMake))
	mux.HandleFunc("GET /service-accounts/{id}", s.signedIn(s.service))
	mux.HandleFunc("GET /service-accounts/{id}/edit", s.signedIn(s.needing(identity.ServiceWrite, s.fresh(s.serviceEditForm))))
	mux.HandleFunc("POST /service-accounts/{id}/edit", s.submitted(s.serviceEdit))
	for _, act := range []string{"deactivate", "activate"} {
		mux.HandleFunc("GET /service-accounts/{id}/"+act, s.signedIn(s.needing(identity.ServiceWrite, s.fresh(s.serviceActForm(act)))))
		mux.HandleFunc("POST /service-accounts/{id}/"+act, s.submitted(s.serviceAct(act)))
	}
}

func activeBadge(on bool) templ.Component {
	if on {
		return ui.Badge(ui.Good, "active")
	}
	return ui.Badge(ui.Idle, "deactivated")
}

func (s *site) services(w http.ResponseWriter, r *http.Request, v visitor) {
	query := r.URL.Query()
	q := query.Get("q")
	list, next, err := s.Identity.ListServiceAccounts(r.Context(), v.Caller, identity.NameFilter{Q: q, Limit: pageSize, Cursor: query.Get("cursor")})
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &listPage{Frame: s.frame(r, v, "Service accounts"), Lead: "Programs that act over the API for nobody in particular, each with a role and tokens of its own.", Action: services, Keep: "service-accounts",
		Inputs: []ui.Field{{Name: "q", Label: "Name", Type: "search", Value: q, MaxLength: 200, Autocomplete: "off", Optional: true}}}
	if s.changes(v, identity.ServiceWrite) {
		p.Make, p.MakeAt = "Make a service account", services+"/~new"
	}
	reader := s.reader(r)
	p.Table = ui.Table{ID: "services", Caption: "Service accounts", Live: "service_account", Columns: []ui.Column{{Label: "Name"}, {Label: "Role"}, {Label: "State"}, {Label: "Description"}, {Label: "Made"}},
		Empty: ui.Empty{Text: "There is no service account yet.", Command: "signalbox service-account create NAME", Label: p.Make, Href: p.MakeAt, Dialog: true}}
	if q != "" {
		p.Table.Empty = ui.Empty{Text: "No service account has “" + q + "” in its name.", Label: "Show all", Href: services}
	}
	for _, a := range list {
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: a.ID, Name: a.Name, Cells: []templ.Component{
			ui.Link(a.Name, under(services, a.ID)), ui.Text(string(a.Role)), activeBadge(a.Active), ui.Text(a.Description), ui.When(reader, a.CreatedAt)}})
	}
	p.pages(query, next, "")
	s.showList(w, r, v, p)
}

func (s *site) newServicePage(r *http.Request, v visitor, a identity.ServiceAccount) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Make a service account"), Back: services, BackLabel: "Service accounts", Action: services, Submit: "Make it", Hidden: v.proving(),
		Inputs: namedFields(a.Name, a.Description), Choices: []ui.Choice{{Name: "role", Label: "Role", Hint: "Never more than your own.", Options: roleOptions(a.Role)}}}
}

func servicePosted(r *http.Request) identity.ServiceAccount {
	return identity.ServiceAccount{Name: r.PostForm.Get("name"), Description: r.PostForm.Get("description"), Role: identity.Role(r.PostForm.Get("role"))}
}

func (s *site) serviceForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, askedView(s.newServicePage(r, v, identity.ServiceAccount{Role: identity.Member})))
}

func (s *site) serviceMake(w http.ResponseWriter, r *http.Request, v visitor) {
	a := servicePosted(r)
	made, err := s.Identity.CreateServiceAccount(r.Context(), v.Caller, identity.ServiceAccountDraft{Name: a.Name, Description: a.Description, Role: a.Role})
	s.settled(w, r, v, err, under(services, made.ID)+"?done=made", services+"/~new", func(f *fault.Error) { s.again(w, r, f, s.newServicePage(r, v, a)) })
}

func (s *site) service(w http.ResponseWriter, r *http.Request, v visitor) {
	a, err := s.Identity.ServiceAccount(r.Context(), v.Caller, r.PathValue("id"))
	var tokens []identity.Token
	var next string
	if err == nil {
		tokens, next, err = s.Identity.ListTokens(r.Context(), v.Caller, identity.TokenFilter{ServiceID: a.ID, Limit: pageSize, Cursor: r.URL.Query().Get("tokens")})
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader, here, write := s.reader(r), under(services, a.ID), s.changes(v, identity.ServiceWrite)
	p := &onePage{Frame: s.frame(r, v, a.Name), Back: services, BackLabel: "Service accounts", Lead: a.Description, FactsTitle: "Service account",
		Facts: []ui.Fact{{Term: "Role", Value: ui.Text(string(a.Role) + ": " + roleMeaning(a.Role))}, {Term: "State", Value: activeBadge(a.Active)},
			{Term: "Made", Value: ui.When(reader, a.CreatedAt)}, {Term: "Changed", Value: ui.When(reader, a.UpdatedAt)}}}
	p.Facts = append(p.Facts, s.radiusFact(v, a.ID)...)
	announce(&p.Frame, r, map[string]string{"made": "The service account was made. Issue a token for its program.", "changed": "The service account was changed.",
		"deactivate": "The service account was deactivated; its tokens work nowhere.", "activate": "The service account and its tokens work again.", "revoked": "The token was revoked."})
	one := part{ID: "tokens", Title: "Tokens", Table: tokenTable(reader, tokens, write, here)}
	one.Table.Empty = ui.Empty{Text: "It has no token yet, so no program can act as it.", Command: "signalbox token issue NAME --service-account " + a.Name}
	if write {
		p.Acts = []act{{"Edit", under(here, "edit")}}
		if a.Active {
			p.Acts = append(p.Acts, act{"Deactivate…", under(here, "deactivate")})
			issue := withQuery("/tokens/~new", "service", a.ID)
			one.Table.Empty.Label, one.Table.Empty.Href, one.Table.Empty.Dialog = "Issue a token", issue, true
			if len(tokens) > 0 {
				one.Acts = []templ.Component{ui.LinkButton("Issue a token", issue, ui.Plain, true)}
			}
		} else {
			p.Acts = append(p.Acts, act{"Activate…", under(here, "activate")})
		}
	}
	if next != "" {
		one.Table.Next = here + "?tokens=" + next + "#tokens"
	}
	p.Parts = []part{one}
	s.show(w, r, http.StatusOK, oneView(p))
}

func (s *site) serviceEditPage(r *http.Request, v visitor, a, shown identity.ServiceAccount) *askedPage {
	here := under(services, a.ID)
	return &askedPage{Frame: s.frame(r, v, "Edit "+a.Name), Back: here, BackLabel: a.Name, Action: under(here, "edit"), Submit: "Save", Hidden: v.proving(ui.Hidden{Name: "if_match", Value: a.ETag()}),
		Inputs: namedFields(shown.Name, shown.Description), Choices: []ui.Choice{{Name: "role", Label: "Role", Hint: "Its tokens may do no more than its role, from now on.", Options: roleOptions(shown.Role)}}}
}

func (s *site) serviceEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	a, err := s.Identity.ServiceAccount(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.serviceEditPage(r, v, a, a)))
}

func (s *site) serviceEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id, here, posted := r.PathValue("id"), under(services, r.PathValue("id")), servicePosted(r)
	_, err := s.Identity.UpdateServiceAccount(r.Context(), v.Caller, id, identity.ServiceAccountPatch{Name: &posted.Name, Description: &posted.Description, Role: &posted.Role, IfMatch: r.PostForm.Get("if_match")})
	s.settled(w, r, v, err, here+"?done=changed", under(here, "edit"), func(f *fault.Error) {
		a, err := s.Identity.ServiceAccount(r.Context(), v.Caller, id)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, s.serviceEditPage(r, v, a, posted))
	})
}

func (s *site) serviceActForm(what string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		a, err := s.Identity.ServiceAccount(r.Context(), v.Caller, r.PathValue("id"))
		var tokens []identity.Token
		if err == nil {
			tokens, _, err = s.Identity.ListTokens(r.Context(), v.Caller, identity.TokenFilter{ServiceID: a.ID, Status: identity.StatusActive, Limit: identity.MaxTokens})
		}
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		here, count := under(services, a.ID), s.reader(r).Count(len(tokens), "active token")
		c := ui.Confirm{Action: under(here, what), Back: here, Hidden: v.proving(), Submit: "Deactivate", Lead: "The service account " + a.Name + " may do nothing any more.", Touches: []string{count + ": work nowhere until it is activated again"}}
		title := "Deactivate " + a.Name
		if what == "activate" {
			title, c.Submit, c.Lead, c.Touches = "Activate "+a.Name, "Activate", "The service account "+a.Name+" may act again, as "+string(a.Role)+".", []string{count + ": work again"}
		}
		s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, title), a.Name, c))
	}
}

func (s *site) serviceAct(what string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		here, on := under(services, r.PathValue("id")), what == "activate"
		_, err := s.Identity.UpdateServiceAccount(r.Context(), v.Caller, r.PathValue("id"), identity.ServiceAccountPatch{Active: &on})
		s.settled(w, r, v, err, here+"?done="+what, under(here, what), nil)
	}
}
