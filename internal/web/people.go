package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routePeople names the pages of people.
func (s *site) routePeople(mux *http.ServeMux) {
	mux.HandleFunc("GET /people", s.signedIn(s.people))
	mux.HandleFunc("GET /people.csv", s.signedIn(s.peopleFile))
	mux.HandleFunc("GET /people/~invite", s.signedIn(s.needing(identity.UserWrite, s.fresh(s.personInviteForm))))
	mux.HandleFunc("POST /people", s.submitted(s.personInvite))
	mux.HandleFunc("GET /people/{id}", s.signedIn(s.person))
	mux.HandleFunc("GET /people/{id}/edit", s.signedIn(s.needing(identity.UserWrite, s.fresh(s.personEditForm))))
	mux.HandleFunc("POST /people/{id}/edit", s.submitted(s.personEdit))
	mux.HandleFunc("GET /people/{id}/limits", s.signedIn(s.needing(identity.UserWrite, s.fresh(s.personLimitsForm))))
	mux.HandleFunc("POST /people/{id}/limits", s.submitted(s.personLimitsSet))
	for _, act := range []string{"password", "factors", "deactivate", "activate"} {
		mux.HandleFunc("GET /people/{id}/"+act, s.signedIn(s.needing(identity.UserWrite, s.fresh(s.personActForm(act)))))
		mux.HandleFunc("POST /people/{id}/"+act, s.submitted(s.personAct(act)))
	}
	mux.HandleFunc("POST /people/{id}/sessions/{session}/end", s.submitted(s.personEndSession))
}

// under is the address of something below a page.
func under(base string, parts ...string) string {
	for _, part := range parts {
		base += "/" + url.PathEscape(part)
	}
	return base
}

// needing turns a form's page away early from whoever may not do what it is for. The room asks again.
func (s *site) needing(p identity.Permission, serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if _, err := identity.Within(v.Caller, p); err != nil {
			s.refused(w, r, v, err)
			return
		}
		serve(w, r, v)
	}
}

// listPage is a list with its filter bar, and what can be made there.
type listPage struct {
	ui.Frame
	Lead, Action string
	// Tabs lead to lists beside this one.
	Tabs    []ui.NavLink
	Inputs  []ui.Field
	Choices []ui.Choice
	Table   ui.Table
	// Keep is the list's name where its filters can be kept, "" where they cannot.
	Keep string
	Kept ui.Saved
	// Make and MakeAt are the label and the page of what makes another; "" is for who may not.
	Make, MakeAt string
}

// pages fills the links to the first and the next page of a list, and to its file.
func (p *listPage) pages(query url.Values, next, file string) {
	query.Del("done")
	if query.Has("cursor") {
		query.Del("cursor")
		p.Table.First = p.Action + "?" + query.Encode()
	}
	if len(p.Table.Rows) > 0 && file != "" {
		p.Table.CSV = file + "?" + query.Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		p.Table.Next = p.Action + "?" + query.Encode()
	}
}

// showList shows a list, or the list alone to a script that asks for that.
func (s *site) showList(w http.ResponseWriter, r *http.Request, v visitor, p *listPage) {
	if p.Keep != "" {
		s.keeps(r, v, p.Keep, &p.Table)
	}
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	if p.Keep != "" {
		var err error
		if p.Kept, err = s.kept(r, v, &p.Frame, p.Keep); err != nil {
			s.refused(w, r, v, err)
			return
		}
	}
	s.show(w, r, http.StatusOK, listView(p))
}

func userFilter(query url.Values) identity.UserFilter {
	f := identity.UserFilter{Q: query.Get("q"), Role: identity.Role(query.Get("role"))}
	if state := query.Get("state"); state != "" {
		active := state == "active"
		f.Active = &active
	}
	return f
}

// roleOptions are the roles to choose from, with what each is for.
func roleOptions(chosen identity.Role) []ui.Option {
	var out []ui.Option
	for _, role := range identity.Roles() {
		out = append(out, ui.Option{Value: string(role), Label: string(role) + ": " + roleMeaning(role), Chosen: role == chosen})
	}
	return out
}

// roleMeaning says in a few words what a role is for; what it may do is the table of permissions.
func roleMeaning(role identity.Role) string {
	switch role {
	case identity.Administrator:
		return "everything, people included"
	case identity.Operator:
		return "credentials, trains and keys, but not people"
	case identity.Auditor:
		return "sees everything, changes nothing"
	case identity.Member:
		return "what is theirs and what was granted to them"
	}
	return ""
}

func (s *site) people(w http.ResponseWriter, r *http.Request, v visitor) {
	query := r.URL.Query()
	filter := userFilter(query)
	filter.Limit, filter.Cursor = pageSize, query.Get("cursor")
	list, next, err := s.Identity.Users(r.Context(), v.Caller, filter)
	var factors map[string]identity.FactorKinds
	if err == nil {
		factors, err = s.factorsOf(r.Context(), v, list)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &listPage{Frame: s.frame(r, v, "People"), Lead: "Who signs in here, and with what.", Action: "/people", Keep: "people",
		Inputs: []ui.Field{{Name: "q", Label: "Name or e-mail", Type: "search", Value: filter.Q, MaxLength: 200, Autocomplete: "off", Optional: true}}}
	if s.changes(v, identity.UserWrite) {
		p.Make, p.MakeAt = "Invite a person", "/people/~invite"
	}
	roles := ui.Choice{Name: "role", Label: "Role", Options: []ui.Option{{Label: "any"}}}
	for _, role := range identity.Roles() {
		roles.Options = append(roles.Options, ui.Option{Value: string(role), Label: string(role), Chosen: role == filter.Role})
	}
	state := query.Get("state")
	p.Choices = []ui.Choice{roles, {Name: "state", Label: "State", Options: []ui.Option{{Label: "any"}, {Value: "active", Label: "active", Chosen: state == "active"},
		{Value: "deactivated", Label: "deactivated", Chosen: state == "deactivated"}}}}
	reader := s.reader(r)
	p.Table = ui.Table{ID: "people", Caption: "People, the newest first", Live: "user",
		Columns: []ui.Column{{Label: "Name"}, {Label: "E-mail"}, {Label: "Role"}, {Label: "State"}, {Label: "Second factors"}, {Label: "Last sign-in"}},
		Empty:   ui.Empty{Text: "Nobody is like this.", Label: "Show all", Href: "/people"}}
	for _, u := range list {
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: u.ID, Name: u.Name, Cells: []templ.Component{
			ui.Link(u.Name, under("/people", u.ID)), ui.Text(u.Email), ui.Text(string(u.Role)), userBadge(u), factorCell(factors[u.ID]), ui.WhenOr(reader, u.LastLoginAt, "never"),
		}})
	}
	p.pages(query, next, "/people.csv")
	s.showList(w, r, v, p)
}

func (s *site) factorsOf(ctx context.Context, v visitor, list []identity.User) (map[string]identity.FactorKinds, error) {
	ids := make([]string, len(list))
	for i, u := range list {
		ids[i] = u.ID
	}
	return s.Identity.FactorKinds(ctx, v.Caller, ids)
}

func userBadge(u identity.User) templ.Component {
	switch {
	case !u.Active:
		return ui.Badge(ui.Idle, "deactivated")
	case u.Invited:
		return ui.Badge(ui.Warn, "invited")
	}
	return ui.Badge(ui.Good, "active")
}

func factorKindsText(f identity.FactorKinds) string {
	text := ""
	if f.App {
		text = "app"
	}
	if f.Passkeys > 0 {
		if text != "" {
			text += ", "
		}
		text += strconv.Itoa(f.Passkeys) + " passkey"
		if f.Passkeys > 1 {
			text += "s"
		}
	}
	return text
}

func factorCell(f identity.FactorKinds) templ.Component {
	if text := factorKindsText(f); text != "" {
		return ui.Text(text)
	}
	return ui.Faint("none")
}

func (s *site) peopleFile(w http.ResponseWriter, r *http.Request, v visitor) {
	filter := userFilter(r.URL.Query())
	filter.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: "people", head: []string{"id", "name", "email", "role", "active", "invited", "second_factors", "last_login_at", "created_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			filter.Cursor = cursor
			list, next, err := s.Identity.Users(ctx, v.Caller, filter)
			if err != nil {
				return nil, "", err
			}
			factors, err := s.factorsOf(ctx, v, list)
			for _, u := range list {
				rows = append(rows, []string{u.ID, u.Name, u.Email, string(u.Role), strconv.FormatBool(u.Active), strconv.FormatBool(u.Invited), factorKindsText(factors[u.ID]),
					fileTimeOr(u.LastLoginAt), fileTime(u.CreatedAt)})
			}
			return rows, next, err
		},
	})
}

func (s *site) invitingPage(r *http.Request, v visitor, email, name string, role identity.Role) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Invite a person"), Back: "/people", BackLabel: "People", Action: "/people", Submit: "Make the invitation", Hidden: v.proving(),
		Lead: "You get a link that works once, for seven days, and give it to them yourself. With it they set their own password.",
		Inputs: []ui.Field{
			{Name: "email", Label: "E-mail", Type: "email", Value: email, MaxLength: 254, Autocomplete: "off", Focus: true, Hint: "They sign in with it."},
			{Name: "name", Label: "Name", Value: name, MaxLength: 100, Autocomplete: "off", Hint: "As it appears in the audit log."},
		}, Choices: []ui.Choice{{Name: "role", Label: "Role", Options: roleOptions(role)}}}
}

func (s *site) personInviteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, askedView(s.invitingPage(r, v, "", "", identity.Member)))
}

// personInvite adds somebody and shows their link, this once.
func (s *site) personInvite(w http.ResponseWriter, r *http.Request, v visitor) {
	draft := identity.UserDraft{Email: r.PostForm.Get("email"), Name: r.PostForm.Get("name"), Role: identity.Role(r.PostForm.Get("role"))}
	u, link, err := s.Identity.CreateUser(r.Context(), v.Caller, draft)
	if err == nil && link != nil {
		s.linkOnce(w, r, v, u, link, "An invitation for "+u.Name)
		return
	}
	s.settled(w, r, v, err, "/people", "/people/~invite", func(f *fault.Error) {
		s.again(w, r, f, s.invitingPage(r, v, draft.Email, draft.Name, draft.Role))
	})
}

// linkOnce shows the one-time link of a person.
func (s *site) linkOnce(w http.ResponseWriter, r *http.Request, v visitor, u identity.User, link *identity.Link, title string) {
	base, _ := s.ownAddress(r)
	s.show(w, r, http.StatusOK, onceView(s.frame(r, v, title), ui.Once{
		ID: "password-link", Label: "Link for " + u.Email, Secret: base + "/invite?token=" + link.Secret.Reveal(), Done: under("/people", u.ID),
		Lead: "Whoever opens this link first sets the password and is signed in as " + u.Name + ". It works once, until " + s.reader(r).Clock(link.ExpiresAt) + ". Give it to them on a way that only they read.",
	}))
}
