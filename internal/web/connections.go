package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeConnections names the pages of OAuth logins: those that are there, and the way to a new one.
func (s *site) routeConnections(mux *http.ServeMux) {
	mux.HandleFunc("GET /connect", s.signedIn(s.connectForm))
	mux.HandleFunc("POST /connect", s.submitted(s.connect))
	mux.HandleFunc("POST /connect/paste", s.submitted(s.paste))
	mux.HandleFunc("POST /connect/device", s.submitted(s.devicePoll))
	mux.HandleFunc("GET "+oauth.CallbackPath, s.callback)
	mux.HandleFunc("GET /connections", s.signedIn(s.connections))
	mux.HandleFunc("GET /connections.csv", s.signedIn(s.connectionsFile))
	mux.HandleFunc("GET /connections/{credential}", s.signedIn(s.connection))
	mux.HandleFunc("POST /connections/{credential}/refresh", s.submitted(s.connectionRefresh))
	mux.HandleFunc("GET /connections/~refreshes", s.signedIn(s.refreshes))
	s.routeProviders(mux)
}

// connectionsPage is the list of what was logged in at OAuth providers.
type connectionsPage struct {
	ui.Frame
	Q       string
	Healths []ui.Option
	Table   ui.Table
	Kept    ui.Saved
	// Write says whether the visitor may log in.
	Write bool
}

func connectionPath(id string, more ...string) string {
	path := "/connections/" + url.PathEscape(id)
	for _, part := range more {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// connectAgain is where one logs in again for a credential, to come back to a page.
func connectAgain(id, next string) string {
	return "/connect?" + url.Values{"credential": {id}, "next": {next}}.Encode()
}

// logsIn reports whether Signalbox knows where a person consents for a credential.
func logsIn(c vault.Credential) bool {
	return c.Provider != "" && c.OAuth.TokenEndpoint == "" && c.OAuth.GrantType == ""
}

func connectionFilter(r *http.Request) vault.Filter {
	q := r.URL.Query()
	return vault.Filter{Type: vault.OAuth, Q: q.Get("q"), Health: vault.Health(q.Get("health")), Limit: pageSize, Cursor: q.Get("cursor")}
}

// held is a credential with what is known of its refreshing.
type held struct {
	vault.Credential
	oauth.Connection
}

// heldOf reads how the refreshing of listed credentials stands; on an instance that refreshes nothing, what the vault knows.
func (s *site) heldOf(ctx context.Context, list []vault.Credential) ([]held, error) {
	out := make([]held, 0, len(list))
	known := map[string]oauth.Connection{}
	if s.OAuth != nil {
		found, err := s.OAuth.Connections(ctx, list)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			known[c.CredentialID] = c
		}
	}
	for _, c := range list {
		out = append(out, held{c, known[c.ID]})
	}
	return out, nil
}

// connections lists what was logged in. On the first page, without a filter, what needs a login comes first, wherever it stands in the list.
func (s *site) connections(w http.ResponseWriter, r *http.Request, v visitor) {
	f := connectionFilter(r)
	list, next, err := s.Vault.List(r.Context(), v.Caller, f)
	if err == nil && f.Cursor == "" && f.Health == "" && f.Q == "" && next != "" {
		var lost []vault.Credential
		lost, _, err = s.Vault.List(r.Context(), v.Caller, vault.Filter{Type: vault.OAuth, Health: vault.NeedsLogin, Limit: pageSize})
		lost = slices.DeleteFunc(lost, func(c vault.Credential) bool {
			return slices.ContainsFunc(list, func(x vault.Credential) bool { return x.ID == c.ID })
		})
		list = append(lost, list...)
	}
	var rows []held
	if err == nil {
		rows, err = s.heldOf(r.Context(), list)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	slices.SortStableFunc(rows, func(a, b held) int { return urgency(a.Credential.Health) - urgency(b.Credential.Health) })
	p := &connectionsPage{Frame: s.frame(r, v, "Connections"), Q: f.Q, Write: s.changes(v, identity.CredentialWrite), Healths: []ui.Option{{Label: "Any"}}}
	announce(&p.Frame, r, map[string]string{"connected": "The login is done, and its tokens are kept.", "provider-deleted": "What was set of the provider was deleted."})
	for _, h := range vault.Healths() {
		p.Healths = append(p.Healths, ui.Option{Value: string(h), Label: healthText(h), Chosen: h == f.Health})
	}
	p.Table = s.connectionTable(r, p, rows)
	query := url.Values{"q": {f.Q}, "health": {string(f.Health)}}
	if len(rows) > 0 {
		p.Table.CSV = "/connections.csv?" + query.Encode()
	} else if f.Q != "" || f.Health != "" {
		p.Table.Empty = ui.Empty{Text: "No connection that you see is like this.", Label: "Show all", Href: "/connections"}
	}
	if f.Cursor != "" {
		p.Table.First = "/connections?" + query.Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		p.Table.Next = "/connections?" + query.Encode()
	}
	s.keeps(r, v, "connections", &p.Table)
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	if p.Kept, err = s.kept(r, v, &p.Frame, "connections"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, connectionsView(p))
}

// urgency orders connections: what a person must mend first.
func urgency(h vault.Health) int {
	switch h {
	case vault.NeedsLogin:
		return 0
	case vault.RefreshUncertain, vault.RefreshFailing:
		return 1
	}
	return 2
}

func (s *site) connectionTable(r *http.Request, p *connectionsPage, rows []held) ui.Table {
	reader := s.reader(r)
	t := ui.Table{
		ID: "connections", Caption: "Connections, what needs a login first", Live: "credential",
		Columns: []ui.Column{{Label: "Name"}, {Label: "Provider"}, {Label: "Health"}, {Label: "Scopes"}, {Label: "Last refresh"}, {Label: "Next refresh"}},
		Empty:   ui.Empty{Text: "Nothing is connected yet.", Command: "signalbox oauth status"},
	}
	if p.Write {
		t.Empty.Label, t.Empty.Href = "Connect an account", "/connect"
		t.Columns = append(t.Columns, ui.Column{Label: "Login"})
	}
	for _, c := range rows {
		scopes := strings.Join(c.OAuth.Scopes, " ")
		if scopes == "" {
			scopes = "not told"
		}
		row := ui.Row{ID: c.ID, Name: c.Credential.Name, Cells: []templ.Component{
			ui.Link(c.Credential.Name, connectionPath(c.ID)), ui.Text(c.Provider), ui.Badge(healthTone(c.Credential.Health), healthText(c.Credential.Health)), ui.Text(scopes),
			ui.WhenOr(reader, c.RefreshedAt, "never"), s.nextRefresh(reader, c),
		}}
		if p.Write {
			login := ui.Faint("by hand")
			if logsIn(c.Credential) {
				login = ui.Link("Log in again", connectAgain(c.ID, "/connections"))
			}
			row.Cells = append(row.Cells, login)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// nextRefresh says when tokens are refreshed next: not before a cool-down is over, else when they are near their end and used.
func (s *site) nextRefresh(reader ui.Reader, c held) templ.Component {
	switch {
	case c.Credential.Health == vault.NeedsLogin:
		return ui.Faint("after a login")
	case !c.Credential.Refreshes():
		return ui.Faint("never")
	case c.RetryAt != nil:
		return ui.WhenOr(reader, c.RetryAt, "")
	case c.OAuth.ExpiresAt == nil:
		return ui.Faint("when the provider refuses the token")
	case !c.OAuth.ExpiresAt.After(reader.Now):
		return ui.Faint("at its next use")
	}
	life := c.OAuth.ExpiresAt.Sub(reader.Now)
	if c.RefreshedAt != nil && c.OAuth.ExpiresAt.After(*c.RefreshedAt) {
		life = c.OAuth.ExpiresAt.Sub(*c.RefreshedAt)
	}
	_, mandatory := oauth.Margins(life)
	return aboutView(reader, c.OAuth.ExpiresAt.Add(-mandatory))
}

// connectionsFile is the list as a file, all of it.
func (s *site) connectionsFile(w http.ResponseWriter, r *http.Request, v visitor) {
	f := connectionFilter(r)
	f.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: "connections", head: []string{"credential_id", "name", "provider", "health", "state", "code", "scopes", "refreshed_at", "attempted_at", "retry_at", "token_expires_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			f.Cursor = cursor
			list, next, err := s.Vault.List(ctx, v.Caller, f)
			if err != nil {
				return nil, "", err
			}
			all, err := s.heldOf(ctx, list)
			for _, c := range all {
				rows = append(rows, []string{c.ID, c.Credential.Name, c.Provider, string(c.Credential.Health), string(c.State), c.Code, strings.Join(c.OAuth.Scopes, " "),
					fileTimeOr(c.RefreshedAt), fileTimeOr(c.AttemptedAt), fileTimeOr(c.RetryAt), fileTimeOr(c.OAuth.ExpiresAt)})
			}
			return rows, next, err
		},
	})
}

func healthTone(h vault.Health) ui.Tone {
	switch h {
	case vault.Healthy:
		return ui.Good
	case vault.RefreshFailing, vault.RefreshUncertain:
		return ui.Warn
	case vault.NeedsLogin:
		return ui.Bad
	}
	return ui.Idle
}

func healthText(h vault.Health) string {
	switch h {
	case vault.Healthy:
		return "healthy"
	case vault.RefreshFailing:
		return "refreshing fails for now"
	case vault.RefreshUncertain:
		return "the last refresh is uncertain"
	case vault.NeedsLogin:
		return "needs a login"
	}
	return "unknown"
}
