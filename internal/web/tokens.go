package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeTokens names the pages of tokens, of people and of service accounts.
func (s *site) routeTokens(mux *http.ServeMux) {
	mux.HandleFunc("GET /tokens", s.signedIn(s.tokens))
	mux.HandleFunc("GET /tokens.csv", s.signedIn(s.tokensFile))
	mux.HandleFunc("GET /tokens/~new", s.signedIn(s.needing(identity.TokenWrite, s.fresh(s.tokenForm))))
	mux.HandleFunc("POST /tokens", s.submitted(s.tokenIssue))
	mux.HandleFunc("GET /tokens/{id}/revoke", s.signedIn(s.needing(identity.TokenWrite, s.tokenRevokeForm)))
	mux.HandleFunc("POST /tokens/{id}/revoke", s.submitted(s.tokenRevoke))
}

// seesAllTokens reports whether the visitor may list those of everybody.
func (v visitor) seesAllTokens() bool { return v.may(identity.UserRead) && v.may(identity.ServiceRead) }

func tokenFilter(v visitor, query url.Values) identity.TokenFilter {
	return identity.TokenFilter{Everybody: query.Get("whose") == "all" && v.seesAllTokens(), Status: identity.Status(query.Get("status"))}
}

func (s *site) tokens(w http.ResponseWriter, r *http.Request, v visitor) {
	query := r.URL.Query()
	filter := tokenFilter(v, query)
	filter.Limit, filter.Cursor = pageSize, query.Get("cursor")
	list, next, err := s.Identity.ListTokens(r.Context(), v.Caller, filter)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &listPage{Frame: s.frame(r, v, "Tokens"), Lead: "A personal access token lets a program act for you over the API, no further than its scopes and your role.", Action: "/tokens"}
	announce(&p.Frame, r, personSaid())
	if s.changes(v, identity.TokenWrite) {
		p.Make, p.MakeAt = "Issue a token", "/tokens/~new"
	}
	if v.seesAllTokens() {
		p.Choices = append(p.Choices, ui.Choice{Name: "whose", Label: "Whose", Options: []ui.Option{{Value: "mine", Label: "yours"}, {Value: "all", Label: "everybody's", Chosen: filter.Everybody}}})
	}
	states := ui.Choice{Name: "status", Label: "State", Options: []ui.Option{{Label: "any"}}}
	for _, one := range []identity.Status{identity.StatusActive, identity.StatusExpired, identity.StatusRevoked} {
		states.Options = append(states.Options, ui.Option{Value: string(one), Label: string(one), Chosen: one == filter.Status})
	}
	p.Choices = append(p.Choices, states)
	p.Table = tokenTable(s.reader(r), list, s.changes(v, identity.TokenWrite) && (!filter.Everybody || v.may(identity.UserWrite)), "/tokens")
	if filter.Everybody {
		p.Table.Columns = append([]ui.Column{p.Table.Columns[0], {Label: "Whose"}}, p.Table.Columns[1:]...)
		for i, t := range list {
			cells := p.Table.Rows[i].Cells
			p.Table.Rows[i].Cells = append([]templ.Component{cells[0], ownerCell(t)}, cells[1:]...)
		}
		p.Table.Caption = "Tokens of all people and service accounts, the newest first"
	}
	p.Table.Empty = ui.Empty{Text: "There is no such token.", Command: "signalbox token issue NAME"}
	if p.Make != "" {
		p.Table.Empty.Label, p.Table.Empty.Href, p.Table.Empty.Dialog = p.Make, p.MakeAt, true
	}
	p.pages(query, next, "/tokens.csv")
	s.showList(w, r, v, p)
}

func ownerCell(t identity.Token) templ.Component {
	if t.ServiceID != "" {
		return ui.Link(t.Owner, under("/service-accounts", t.ServiceID))
	}
	return ui.Link(t.Owner, under("/people", t.UserID))
}

// tokenTable lists tokens. From is the page to which revoking one comes back.
func tokenTable(reader ui.Reader, list []identity.Token, mayRevoke bool, from string) ui.Table {
	t := ui.Table{ID: "token-list", Caption: "Tokens, the newest first", Live: "token",
		Columns: []ui.Column{{Label: "Name"}, {Label: "Token"}, {Label: "State"}, {Label: "Scopes"}, {Label: "Last used"}, {Label: "Issued"}, {Label: "Ends"}}}
	if mayRevoke {
		t.Columns = append(t.Columns, ui.Column{Label: "Revoke", Unseen: true})
	}
	for _, one := range list {
		row := ui.Row{ID: one.ID, Name: one.Name, Cells: []templ.Component{ui.Text(one.Name), ui.Code(one.Preview), keyBadge(one.Status), scopesView(scopeNames(one.Scopes)),
			ui.WhenOr(reader, one.LastUsedAt, "never"), ui.When(reader, one.CreatedAt), ui.WhenOr(reader, one.ExpiresAt, "never")}}
		if mayRevoke {
			revoke := ui.Text("")
			if one.Status != identity.StatusRevoked {
				revoke = ui.DialogLink("Revoke", withQuery(under("/tokens", one.ID, "revoke"), "from", from), "Revoke "+one.Name)
			}
			row.Cells = append(row.Cells, revoke)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func scopeNames(scopes identity.Scopes) []string {
	out := make([]string, len(scopes))
	for i, one := range scopes {
		out[i] = string(one)
	}
	return out
}

func withQuery(path, name, value string) string {
	return path + "?" + url.Values{name: {value}}.Encode()
}

func (s *site) tokensFile(w http.ResponseWriter, r *http.Request, v visitor) {
	filter := tokenFilter(v, r.URL.Query())
	filter.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: "tokens", head: []string{"id", "name", "owner", "preview", "status", "scopes", "created_at", "last_used_at", "expires_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			filter.Cursor = cursor
			list, next, err := s.Identity.ListTokens(ctx, v.Caller, filter)
			for _, t := range list {
				rows = append(rows, []string{t.ID, t.Name, t.Owner, t.Preview, string(t.Status), strings.Join(scopeNames(t.Scopes), " "), fileTime(t.CreatedAt), fileTimeOr(t.LastUsedAt), fileTimeOr(t.ExpiresAt)})
			}
			return rows, next, err
		},
	})
}

// tokenAsked is what a form of a token says.
type tokenAsked struct {
	person, service, name, days string
	scopes                      []string
}

// tokenPage asks for a token of the visitor, of another person or of a service account, with the scopes that its owner's role has.
func (s *site) tokenPage(r *http.Request, v visitor, a tokenAsked) (*askedPage, error) {
	role, whose, back, label := v.Role, "you", "/tokens", "Tokens"
	switch {
	case a.service != "":
		one, err := s.Identity.ServiceAccount(r.Context(), v.Caller, a.service)
		if err != nil {
			return nil, err
		}
		role, whose, back, label = one.Role, one.Name, under("/service-accounts", one.ID), one.Name
	case a.person != "" && a.person != v.UserID:
		one, err := s.Identity.User(r.Context(), v.Caller, a.person)
		if err != nil {
			return nil, err
		}
		role, whose, back, label = one.Role, one.Name, under("/people", one.ID), one.Name
	}
	scopes := ui.Choice{Name: "scopes", Label: "Scopes", Multiple: true, Hint: "What it may do, no more than the role " + string(role) + ". None ticked is all of them."}
	has := identity.RoleScopes(role)
	for _, row := range identity.Permissions() {
		if has.Has(row.Permission) {
			chosen := false
			for _, one := range a.scopes {
				chosen = chosen || one == string(row.Permission)
			}
			scopes.Options = append(scopes.Options, ui.Option{Value: string(row.Permission), Label: string(row.Permission) + ": " + row.Meaning, Chosen: chosen})
		}
	}
	return &askedPage{Frame: s.frame(r, v, "Issue a token"), Back: back, BackLabel: label, Action: "/tokens", Submit: "Issue the token",
		Hidden: v.proving(ui.Hidden{Name: "person", Value: a.person}, ui.Hidden{Name: "service", Value: a.service}), Lead: "Whoever has the token acts as " + whose + " over the API.",
		Inputs: []ui.Field{
			{Name: "name", Label: "Name", Value: a.name, MaxLength: 100, Autocomplete: "off", Focus: true, Hint: "What will use it, such as a machine or a script."},
			{Name: "days", Label: "Ends after days", Type: "number", Value: a.days, Min: "1", Max: "3650", Optional: true, Hint: "Never when it is left out."},
		}, Choices: []ui.Choice{scopes}}, nil
}

func (s *site) tokenForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.tokenPage(r, v, tokenAsked{person: r.URL.Query().Get("person"), service: r.URL.Query().Get("service"), days: "90"})
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// tokenIssue issues a token and shows it, this once.
func (s *site) tokenIssue(w http.ResponseWriter, r *http.Request, v visitor) {
	a := tokenAsked{person: r.PostForm.Get("person"), service: r.PostForm.Get("service"), name: r.PostForm.Get("name"), days: r.PostForm.Get("days"), scopes: r.PostForm["scopes"]}
	draft := identity.TokenDraft{UserID: a.person, ServiceID: a.service, Name: a.name}
	for _, one := range a.scopes {
		draft.Scopes = append(draft.Scopes, identity.Permission(one))
	}
	form := "/tokens/~new"
	if a.service != "" {
		form = withQuery(form, "service", a.service)
	} else if a.person != "" {
		form = withQuery(form, "person", a.person)
	}
	var err error
	if a.days != "" {
		n, bad := strconv.Atoi(a.days)
		if bad != nil || n < 1 || n > 3650 {
			err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/days", "must be 1 to 3650")
		}
		ends := time.Now().Add(time.Duration(n) * 24 * time.Hour)
		draft.ExpiresAt = &ends
	}
	if err == nil {
		t, value, issued := s.Identity.IssueToken(r.Context(), v.Caller, draft)
		if err = issued; err == nil {
			text, done := value.Reveal(), "/tokens"
			base, _ := s.ownAddress(r)
			if t.ServiceID != "" {
				done = under("/service-accounts", t.ServiceID)
			} else if t.UserID != v.UserID {
				done = under("/people", t.UserID)
			}
			s.show(w, r, http.StatusOK, onceView(s.frame(r, v, "A new token"), ui.Once{
				ID: "access-token", Label: t.Name, Secret: text, Lead: "Programs send it as Authorization: Bearer.", Done: done,
				Ready: []ui.Ready{
					{ID: "access-token-shell", Label: "For the command line", Text: "export SIGNALBOX_URL=" + base + "\nexport SIGNALBOX_TOKEN=" + text},
					{ID: "access-token-curl", Label: "To try it", Text: "curl " + base + "/api/whoami -H 'authorization: Bearer " + text + "'"},
				},
			}))
			return
		}
	}
	s.settled(w, r, v, err, "", form, func(f *fault.Error) {
		p, err := s.tokenPage(r, v, a)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		for _, e := range f.Fields {
			if strings.HasPrefix(e.Pointer, "/scopes") {
				p.Choices[0].Error = sentence(e.Message)
			}
		}
		s.again(w, r, f, p)
	})
}

// cameFrom is the page to which revoking a token comes back: that of a person, of a service account, or the list.
func cameFrom(from string) string {
	from = localPath(from)
	if strings.HasPrefix(from, "/people/") || strings.HasPrefix(from, "/service-accounts/") {
		return from
	}
	return "/tokens"
}

func (s *site) tokenRevokeForm(w http.ResponseWriter, r *http.Request, v visitor) {
	back := cameFrom(r.URL.Query().Get("from"))
	t, err := s.Identity.GetToken(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	if !t.RevocableBy(v.Caller) {
		s.refused(w, r, v, fault.New(fault.Forbidden, "forbidden", "You may see this token, but not revoke it. Ask an administrator of this Signalbox."))
		return
	}
	used := "It was never used."
	if t.LastUsedAt != nil {
		used = "It was last used " + s.reader(r).Ago(*t.LastUsedAt) + "."
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Revoke "+t.Name), "Back", ui.Confirm{
		Lead: "The token " + t.Preview + " of " + t.Owner + " stops working at once and for good.", Touches: []string{"1 token: every program that has it is refused", used},
		Action: under("/tokens", r.PathValue("id"), "revoke"), Submit: "Revoke the token", Back: back, Hidden: v.hidden(ui.Hidden{Name: "from", Value: back}),
	}))
}

func (s *site) tokenRevoke(w http.ResponseWriter, r *http.Request, v visitor) {
	back := cameFrom(r.PostForm.Get("from"))
	s.settled(w, r, v, s.Identity.RevokeToken(r.Context(), v.Caller, r.PathValue("id")), back+"?done=revoked", under("/tokens", r.PathValue("id"), "revoke"), nil)
}
