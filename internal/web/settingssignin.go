package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeSignIn names the pages of how people sign in: the second-factor policy and the providers of single sign-on.
func (s *site) routeSignIn(mux *http.ServeMux) {
	mux.HandleFunc("GET /settings/sign-in", s.signedIn(s.signInSettings))
	mux.HandleFunc("GET /settings/sign-in/factors", s.signedIn(s.needing(identity.UserWrite, s.fresh(s.policyForm))))
	mux.HandleFunc("POST /settings/sign-in/factors", s.submitted(s.policySet))
	mux.HandleFunc("GET /settings/sso/~new", s.signedIn(s.needing(identity.SSOWrite, s.fresh(s.ssoForm))))
	mux.HandleFunc("POST /settings/sso", s.submitted(s.ssoMake))
	mux.HandleFunc("GET /settings/sso/{id}/edit", s.signedIn(s.needing(identity.SSOWrite, s.fresh(s.providerEditForm))))
	mux.HandleFunc("POST /settings/sso/{id}/edit", s.submitted(s.providerEdit))
	mux.HandleFunc("POST /settings/sso/{id}/test", s.submitted(s.providerTest))
	mux.HandleFunc("GET /settings/sso/{id}/delete", s.signedIn(s.needing(identity.SSOWrite, s.fresh(s.ssoDeleteForm))))
	mux.HandleFunc("POST /settings/sso/{id}/delete", s.submitted(s.ssoDelete))
}

// signInSettings shows the parts of signing in that the visitor may see.
func (s *site) signInSettings(w http.ResponseWriter, r *http.Request, v visitor) {
	p := s.settingsOf(r, v, "Sign-in", "How people and outside programs prove who they are.", settingsSignIn)
	announce(&p.Frame, r, map[string]string{"policy": "The policy was set.", "made": "The provider was added. Test it, then switch it on.", "changed": "The provider was changed.", "deleted": "The provider was deleted.",
		"issuer-made": "The issuer's tokens are accepted now.", "issuer-changed": "The issuer was changed.", "issuer-deleted": "The issuer's tokens are accepted no longer."})
	refusal := identity.Allow(v.Caller, identity.UserRead)
	var err error
	if v.may(identity.UserRead) {
		err = s.policyFacts(r, v, p)
	}
	if err == nil && v.may(identity.SSOWrite) {
		refusal, err = nil, s.providerPart(r, v, p)
	}
	if err == nil && v.may(identity.IssuerRead) {
		refusal, err = nil, s.issuerPart(r, v, p)
	}
	if err == nil {
		err = refusal
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, settingsView(p))
}

func rolesText(roles []identity.Role, none string) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

func (s *site) policyFacts(r *http.Request, v visitor, p *settingsPage) error {
	roles, err := s.Identity.FactorPolicy(r.Context(), v.Caller)
	if err != nil {
		return err
	}
	p.FactsTitle = "Second factors and addresses"
	header, public := "off", "none: passkeys work on http://localhost alone"
	if s.Header.Name != "" {
		header = s.Header.Name + " of the trusted proxies"
	}
	if s.PublicURL != nil {
		public = s.PublicURL.String()
	}
	p.Facts = []ui.Fact{{Term: "Roles whose people must have one", Value: ui.Text(rolesText(roles, "none: the password alone is enough"))},
		{Term: "Public address", Value: ui.Text(public)}, {Term: "Single sign-on by a header", Value: ui.Text(header)}}
	if s.changes(v, identity.UserWrite) {
		p.FactsActs = []templ.Component{ui.LinkButton("Set the policy", settingsSignIn+"/factors", ui.Plain, true)}
	}
	return nil
}

func (s *site) policyPage(r *http.Request, v visitor, chosen []string) *askedPage {
	c := ui.Choice{Name: "roles", Label: "Roles whose people must have a second factor", Multiple: true, Hint: "None ticked demands it of nobody."}
	for _, role := range identity.Roles() {
		on := false
		for _, one := range chosen {
			on = on || one == string(role)
		}
		c.Options = append(c.Options, ui.Option{Value: string(role), Label: string(role), Chosen: on})
	}
	return &askedPage{Frame: s.frame(r, v, "Second-factor policy"), Back: settingsSignIn, BackLabel: "Sign-in", Action: settingsSignIn + "/factors", Submit: "Set the policy", Hidden: v.proving(), Choices: []ui.Choice{c},
		Lead: "Who has none enrols one at their next sign-in, before anything else. Sessions of theirs that a password alone opened end at once."}
}

func (s *site) policyForm(w http.ResponseWriter, r *http.Request, v visitor) {
	roles, err := s.Identity.FactorPolicy(r.Context(), v.Caller)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	chosen := make([]string, len(roles))
	for i, role := range roles {
		chosen[i] = string(role)
	}
	s.show(w, r, http.StatusOK, askedView(s.policyPage(r, v, chosen)))
}

func (s *site) policySet(w http.ResponseWriter, r *http.Request, v visitor) {
	roles := make([]identity.Role, 0, len(r.PostForm["roles"]))
	for _, one := range r.PostForm["roles"] {
		roles = append(roles, identity.Role(one))
	}
	_, err := s.Identity.SetFactorPolicy(r.Context(), v.Caller, roles)
	s.settled(w, r, v, err, settingsSignIn+"?done=policy", settingsSignIn+"/factors", func(f *fault.Error) { s.again(w, r, f, s.policyPage(r, v, r.PostForm["roles"])) })
}

func (s *site) providerPart(r *http.Request, v visitor, p *settingsPage) error {
	list, err := s.Identity.SSOProviders(r.Context(), v.Caller)
	if err != nil {
		return err
	}
	write := s.changes(v, identity.SSOWrite)
	t := ui.Table{ID: "providers", Caption: "Where people can sign in elsewhere", Columns: []ui.Column{{Label: "Provider"}, {Label: "State"}, {Label: "Issuer"}, {Label: "Callback"}, {Label: "New people"}, {Label: "Second factor there"}},
		Empty: ui.Empty{Text: "No provider of single sign-on is set up.", Command: "signalbox sso add NAME --issuer URL --client-id ID"}}
	one := part{ID: "sso", Title: "Single sign-on"}
	if write {
		t.Columns = append(t.Columns, ui.Column{Label: "Acts", Unseen: true})
		t.Empty.Label, t.Empty.Href = "Add a provider", "/settings/sso/~new"
		if len(list) > 0 {
			one.Acts = []templ.Component{ui.LinkButton("Add a provider", "/settings/sso/~new", ui.Plain, false)}
		}
	}
	for _, one := range list {
		state, people := ui.Badge(ui.Idle, "off"), "are refused"
		if one.Enabled {
			state = ui.Badge(ui.Good, "on")
		}
		if one.CreatePeople {
			people = "are added"
		}
		row := ui.Row{ID: one.ID, Name: one.Name, Cells: []templ.Component{ui.Text(one.Name), state, ui.Code(one.Issuer), ui.Code(one.CallbackPath()), ui.Text(people), ui.Text(trustText(one.SecondFactor))}}
		if write {
			here := under("/settings/sso", one.ID)
			row.Cells = append(row.Cells, severalActs(ui.OneButton(here+"/test", ui.Button{Label: "Test", Kind: ui.Plain, Small: true, Says: "Test " + one.Name}, v.hidden()...),
				smallLink("Edit", here+"/edit", "Edit "+one.Name), ui.DialogLink("Delete", here+"/delete", "Delete "+one.Name)))
		}
		t.Rows = append(t.Rows, row)
	}
	one.Table = t
	p.Parts = append(p.Parts, one)
	return nil
}

func trustText(t identity.SecondFactorTrust) string {
	switch t {
	case identity.TrustClaims:
		return "counts when it says so"
	case identity.TrustAlways:
		return "always counts"
	}
	return "never counts"
}

func (s *site) providerTest(w http.ResponseWriter, r *http.Request, v visitor) {
	got, err := s.Identity.TestSSOProvider(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &onePage{Frame: s.frame(r, v, "Test of "+got.Provider.Name), Back: settingsSignIn, BackLabel: "Sign-in", FactsTitle: "What the provider says of itself"}
	outcome := ui.Badge(ui.Good, "works")
	if got.Problem != "" {
		outcome = ui.Badge(ui.Bad, "does not work")
		p.Facts = append(p.Facts, ui.Fact{Term: "Outcome", Value: outcome}, ui.Fact{Term: "Problem", Value: ui.Text(got.Problem)}, ui.Fact{Term: "Issuer", Value: ui.Code(got.Provider.Issuer)})
	} else {
		m := got.Found
		p.Facts = append(p.Facts, ui.Fact{Term: "Outcome", Value: outcome}, ui.Fact{Term: "Issuer", Value: ui.Code(got.Provider.Issuer)}, ui.Fact{Term: "Sign-in address", Value: ui.Code(m.Authorization)},
			ui.Fact{Term: "Token address", Value: ui.Code(m.Token)}, ui.Fact{Term: "Keys", Value: ui.Code(m.Keys)}, ui.Fact{Term: "Algorithms", Value: ui.Text(strings.Join(m.Algorithms, ", "))},
			ui.Fact{Term: "Scopes", Value: ui.Text(strings.Join(m.Scopes, ", "))}, ui.Fact{Term: "Register this callback there", Value: ui.Code(got.Provider.CallbackPath())})
	}
	s.show(w, r, http.StatusOK, oneView(p))
}

func (s *site) ssoDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.Identity.SSOProvider(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+p.Name), "Sign-in", ui.Confirm{
		Lead: "Nobody can sign in with " + p.Name + " any more.", Touches: []string{"Sessions go on until they end.", "Who has no password here cannot sign in again, until an administrator resets it."},
		Action: under("/settings/sso", p.ID, "delete"), Submit: "Delete the provider", Back: settingsSignIn, Hidden: v.proving(ui.Hidden{Name: "if_match", Value: p.ETag()}),
	}))
}

func (s *site) ssoDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.Identity.DeleteSSOProvider(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, settingsSignIn+"?done=deleted", under("/settings/sso", r.PathValue("id"), "delete"), nil)
}

// words are what a field of several words holds.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\r' || r == '\t' })
}

// secretOf is a secret field of a form, nil when it was left empty: what is stored stays.
func secretOf(r *http.Request, name string) *secret.Value {
	if text := r.PostForm.Get(name); text != "" {
		value := secret.FromString(text)
		return &value
	}
	return nil
}
