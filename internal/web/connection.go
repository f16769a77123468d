package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// connectionPart is what is shown of a login, on its own page and on that of the account that it is.
type connectionPart struct {
	Facts  []ui.Fact
	Tokens ui.Table
	// Again leads to a new login, "" where none can be begun; Refresh and History say what else the visitor may do.
	ID               string
	Again            string
	Refresh, History bool
}

// connectionPage is one connection.
type connectionPage struct {
	ui.Frame
	Part *connectionPart
	// Account says that the credential has a page among the accounts.
	Account string
}

func (s *site) connectionPart(r *http.Request, v visitor, c vault.Credential) (*connectionPart, error) {
	rows, err := s.heldOf(r.Context(), []vault.Credential{c})
	if err != nil {
		return nil, err
	}
	versions, err := s.Vault.Versions(r.Context(), v.Caller, c.ID)
	if err != nil {
		return nil, err
	}
	reader, h := s.reader(r), rows[0]
	scopes := strings.Join(c.OAuth.Scopes, " ")
	if scopes == "" {
		scopes = "not told"
	}
	write := s.changes(v, identity.CredentialWrite)
	p := &connectionPart{ID: c.ID, Refresh: write && s.OAuth != nil && c.Refreshes(), History: v.may(identity.AuditRead)}
	if write && logsIn(c) {
		p.Again = connectAgain(c.ID, connectionPath(c.ID))
	}
	p.Facts = []ui.Fact{
		{Term: "Health", Value: ui.Badge(healthTone(c.Health), healthText(c.Health))}, {Term: "Provider", Value: ui.Text(c.Provider)}, {Term: "Scopes", Value: ui.Text(scopes)},
		{Term: "Last refresh", Value: ui.WhenOr(reader, h.RefreshedAt, "never")}, {Term: "Next refresh", Value: s.nextRefresh(reader, h)},
		{Term: "Access token ends", Value: ui.WhenOr(reader, c.OAuth.ExpiresAt, "not told")},
	}
	if c.OAuth.Resource != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "For the resource", Value: ui.Text(c.OAuth.Resource)})
	}
	if h.Failures > 0 || h.Code != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "Last attempt", Value: ui.WhenOr(reader, h.AttemptedAt, "never")},
			ui.Fact{Term: "What it came to", Value: ui.Text(h.Code + " (" + reader.Count(h.Failures, "failure") + " in a row)")})
	}
	p.Tokens = issuedTable(reader, versions)
	return p, nil
}

// issuedTable lists the versions of the tokens that are kept.
func issuedTable(reader ui.Reader, versions []vault.Version) ui.Table {
	t := ui.Table{ID: "tokens", Caption: "The tokens that are kept. Of those that refreshes brought, only the latest are.",
		Columns: []ui.Column{{Label: "Version", Number: false}, {Label: "Since"}, {Label: "By"}, {Label: "Access token ends"}, {Label: "Why"}}}
	for _, one := range versions {
		number := ui.Text(reader.Number(one.Number))
		if one.Current {
			number = currentView(reader.Number(one.Number))
		}
		t.Rows = append(t.Rows, ui.Row{Cells: []templ.Component{number, ui.When(reader, one.CreatedAt), ui.Text(one.CreatedByName), ui.WhenOr(reader, one.TokenExpires, "not told"), ui.Text(one.Reason)}})
	}
	return t
}

func (s *site) connection(w http.ResponseWriter, r *http.Request, v visitor) {
	c, err := s.connectionOf(r, v, r.PathValue("credential"))
	var part *connectionPart
	if err == nil {
		part, err = s.connectionPart(r, v, c)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &connectionPage{Frame: s.frame(r, v, c.Name), Part: part}
	if c.IsAccount() {
		p.Account = accountPath(c.ID)
	}
	announce(&p.Frame, r, map[string]string{"refreshed": "The provider gave new tokens.", "connected": "The login is done, and its tokens are kept."})
	s.show(w, r, http.StatusOK, connectionView(p))
}

func (s *site) connectionOf(r *http.Request, v visitor, id string) (vault.Credential, error) {
	c, err := s.Vault.Get(r.Context(), v.Caller, id)
	if err == nil && c.Type != vault.OAuth {
		err = fault.New(fault.NotFound, "not_found", "This credential is not of type oauth, so it has no connection.")
	}
	return c, err
}

func (s *site) connectionRefresh(w http.ResponseWriter, r *http.Request, v visitor) {
	s.refreshOne(w, r, v, r.PathValue("credential"), connectionPath(r.PathValue("credential")))
}
