package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/web/ui"
)

const issuers = "/settings/issuers"

// routeIssuers names the pages of the outside issuers whose tokens are accepted.
func (s *site) routeIssuers(mux *http.ServeMux) {
	mux.HandleFunc("GET /settings/issuers/~new", s.signedIn(s.needing(identity.IssuerWrite, s.fresh(s.issuerForm))))
	mux.HandleFunc("POST /settings/issuers", s.submitted(s.issuerMake))
	mux.HandleFunc("GET /settings/issuers/{id}/edit", s.signedIn(s.needing(identity.IssuerWrite, s.fresh(s.issuerEditForm))))
	mux.HandleFunc("POST /settings/issuers/{id}/edit", s.submitted(s.issuerEdit))
	mux.HandleFunc("GET /settings/issuers/{id}/delete", s.signedIn(s.needing(identity.IssuerWrite, s.fresh(s.issuerDeleteForm))))
	mux.HandleFunc("POST /settings/issuers/{id}/delete", s.submitted(s.issuerDelete))
}

func (s *site) issuerPart(r *http.Request, v visitor, p *settingsPage) error {
	list, err := s.Identity.ListIssuers(r.Context(), v.Caller)
	if err != nil {
		return err
	}
	write := s.changes(v, identity.IssuerWrite)
	t := ui.Table{ID: "issuers", Caption: "Outside issuers whose JSON web tokens are accepted", Columns: []ui.Column{{Label: "Name"}, {Label: "State"}, {Label: "Issuer"}, {Label: "Audience"}, {Label: "Keys"}, {Label: "Its subjects are"}},
		Empty: ui.Empty{Text: "No outside issuer's tokens are accepted."}}
	one := part{ID: "jwt", Title: "Outside issuers of tokens"}
	if write {
		t.Columns = append(t.Columns, ui.Column{Label: "Acts", Unseen: true})
		t.Empty.Label, t.Empty.Href = "Accept an issuer", issuers+"/~new"
		if len(list) > 0 {
			one.Acts = []templ.Component{ui.LinkButton("Accept an issuer", issuers+"/~new", ui.Plain, false)}
		}
	}
	for _, i := range list {
		keys := ui.Text("a shared secret")
		if !i.Shared {
			keys = ui.Code(i.JWKSURL)
		}
		row := ui.Row{ID: i.ID, Name: i.Name, Cells: []templ.Component{ui.Text(i.Name), activeBadge(i.Active), orAny(i.Issuer, i.AnyIssuer), orAny(i.Audience, i.AnyAudience), keys, ui.Text(subjectText(i.SubjectIs))}}
		if write {
			here := under(issuers, i.ID)
			row.Cells = append(row.Cells, severalActs(smallLink("Edit", here+"/edit", "Edit "+i.Name), ui.DialogLink("Delete", here+"/delete", "Delete "+i.Name)))
		}
		t.Rows = append(t.Rows, row)
	}
	one.Table = t
	p.Parts = append(p.Parts, one)
	return nil
}

func orAny(text string, all bool) templ.Component {
	if all {
		return ui.Badge(ui.Warn, "any")
	}
	return ui.Code(text)
}

func subjectText(is identity.SubjectIs) string {
	switch is {
	case identity.SubjectUserID:
		return "ids of people"
	case identity.SubjectEmail:
		return "e-mail addresses of people"
	case identity.SubjectListed:
		return "people by a list"
	}
	return "nobody of ours"
}

// issuerFields are the form of an issuer.
func (s *site) issuerFields(r *http.Request, v visitor, i identity.Issuer, subjects, life string, made bool) *longForm {
	out := &longForm{Frame: s.frame(r, v, "Accept an outside issuer"), Back: settingsSignIn, BackLabel: "Sign-in", Action: issuers, Submit: "Accept its tokens", Hidden: v.proving(),
		Lead: "Whoever has a token of this issuer may then use the API, within the scopes that you tick."}
	secretHint := "In place of the address, for HS256, HS384 and HS512: at least 32 bytes."
	if made {
		out.Title, out.Submit, out.Action = "Edit "+i.Name, "Save", under(issuers, i.ID, "edit")
		if i.Shared {
			secretHint = "One is stored, and stays when this is left empty."
		}
	}
	algorithms := ui.Choice{Name: "algorithms", Label: "Algorithms that it may sign with", Multiple: true}
	for _, a := range jwt.Algorithms() {
		algorithms.Options = append(algorithms.Options, ui.Option{Value: a.Name, Label: a.Name, Chosen: strings.Contains(" "+strings.Join(i.Algorithms, " ")+" ", " "+a.Name+" ")})
	}
	scopes := ui.Choice{Name: "scopes", Label: "Scopes", Multiple: true, Hint: "What its callers may do at most; a person's role bounds them too. You can give what you have."}
	for _, row := range identity.Permissions() {
		if v.may(row.Permission) || i.Scopes.Has(row.Permission) {
			scopes.Options = append(scopes.Options, ui.Option{Value: string(row.Permission), Label: string(row.Permission) + ": " + row.Meaning, Chosen: i.Scopes.Has(row.Permission)})
		}
	}
	is, form := ui.Choice{Name: "subject_is", Label: "Who its subjects are here"}, ui.Choice{Name: "subject_form", Label: "Form of the subject"}
	for _, k := range identity.SubjectKinds() {
		is.Options = append(is.Options, ui.Option{Value: string(k), Label: subjectText(k), Chosen: k == i.SubjectIs})
	}
	for _, f := range identity.SubjectForms() {
		form.Options = append(form.Options, ui.Option{Value: string(f), Label: string(f), Chosen: f == i.SubjectForm})
	}
	out.Groups = []fieldGroup{
		{Title: "Issuer", Inputs: []ui.Field{
			{Name: "name", Label: "Name", Value: i.Name, MaxLength: 100, Autocomplete: "off", Focus: !made},
			{Name: "issuer", Label: "Issuer (iss)", Value: i.Issuer, MaxLength: 2048, Autocomplete: "off", Optional: true},
			{Name: "audience", Label: "Audience (aud)", Value: i.Audience, MaxLength: 2048, Autocomplete: "off", Optional: true},
		}, Choices: []ui.Choice{yesNo("active", "Accept its tokens?", i.Active || !made), yesNo("any_issuer", "Accept any issuer, and none?", i.AnyIssuer), yesNo("any_audience", "Accept tokens that were made for somebody else?", i.AnyAudience)}},
		{Title: "Keys", Inputs: []ui.Field{
			{Name: "jwks_url", Label: "Address of its public keys", Type: "url", Value: i.JWKSURL, MaxLength: 2048, Autocomplete: "off", Optional: true},
			{Name: "shared_secret", Label: "Shared secret", Type: "password", MaxLength: 4096, Autocomplete: "off", Optional: true, Hint: secretHint},
			{Name: "max_life_seconds", Label: "Longest life of a token, in seconds", Type: "number", Min: "60", Max: "2592000", Value: life, Optional: true, Hint: "86400 when it is left out."},
		}, Choices: []ui.Choice{algorithms}},
		{Title: "Subjects", Inputs: []ui.Field{
			{Name: "subject_claim", Label: "Claim that says who the caller is", Value: i.SubjectClaim, MaxLength: 255, Autocomplete: "off", Optional: true, Hint: "sub when it is left out."},
			{Name: "subjects", Label: "The list", Value: subjects, Rows: 4, MaxLength: 200000, Optional: true, Hint: "One a line, as subject = id of a person."},
		}, Choices: []ui.Choice{is, form}},
		{Title: "What they may do", Choices: []ui.Choice{scopes}},
	}
	return out
}

func (s *site) issuerForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, longFormView(s.issuerFields(r, v, identity.Issuer{SubjectIs: identity.SubjectListed}, "", "", false)))
}

// issuerPosted reads the form: the edit, and the issuer as it shall be shown again.
func issuerPosted(r *http.Request) (identity.IssuerEdit, identity.Issuer, error) {
	f := r.PostForm
	i := identity.Issuer{Name: f.Get("name"), Active: f.Get("active") == "yes", Issuer: f.Get("issuer"), AnyIssuer: f.Get("any_issuer") == "yes", Audience: f.Get("audience"), AnyAudience: f.Get("any_audience") == "yes",
		JWKSURL: f.Get("jwks_url"), Algorithms: f["algorithms"], SubjectClaim: f.Get("subject_claim"), SubjectForm: identity.SubjectForm(f.Get("subject_form")), SubjectIs: identity.SubjectIs(f.Get("subject_is")), Scopes: identity.Scopes{}}
	for _, one := range f["scopes"] {
		i.Scopes = append(i.Scopes, identity.Permission(one))
	}
	lines, err := pairs(f.Get("subjects"), "/subjects")
	i.Subjects = []identity.ListedSubject{}
	for _, one := range lines {
		i.Subjects = append(i.Subjects, identity.ListedSubject{Subject: one[0], UserID: one[1]})
	}
	e := identity.IssuerEdit{Name: &i.Name, Active: &i.Active, Issuer: &i.Issuer, AnyIssuer: &i.AnyIssuer, Audience: &i.Audience, AnyAudience: &i.AnyAudience, JWKSURL: &i.JWKSURL, Secret: secretOf(r, "shared_secret"),
		Algorithms: &i.Algorithms, SubjectForm: &i.SubjectForm, SubjectIs: &i.SubjectIs, Scopes: &i.Scopes}
	if i.SubjectIs == identity.SubjectListed || len(i.Subjects) > 0 {
		e.Subjects = &i.Subjects
	}
	if i.SubjectClaim != "" {
		e.SubjectClaim = &i.SubjectClaim
	}
	if text := f.Get("max_life_seconds"); text != "" {
		n, bad := strconv.Atoi(text)
		if bad != nil || n < 60 || n > 2592000 {
			err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/max_life_seconds", "must be 60 to 2592000")
		}
		i.MaxLife = time.Duration(n) * time.Second
		e.MaxLife = &i.MaxLife
	}
	return e, i, err
}

func (s *site) issuerMake(w http.ResponseWriter, r *http.Request, v visitor) {
	e, i, err := issuerPosted(r)
	if err == nil {
		_, err = s.Identity.CreateIssuer(r.Context(), v.Caller, e)
	}
	s.settled(w, r, v, err, settingsSignIn+"?done=issuer-made", issuers+"/~new", func(f *fault.Error) {
		s.againLong(w, r, f, s.issuerFields(r, v, i, r.PostForm.Get("subjects"), r.PostForm.Get("max_life_seconds"), false))
	})
}

func (s *site) issuerEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Identity.GetIssuer(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	var b strings.Builder
	for _, one := range i.Subjects {
		b.WriteString(one.Subject + " = " + one.UserID + "\n")
	}
	s.show(w, r, http.StatusOK, longFormView(s.issuerFields(r, v, i, b.String(), strconv.Itoa(int(i.MaxLife/time.Second)), true)))
}

func (s *site) issuerEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	e, shown, err := issuerPosted(r)
	if err == nil {
		_, err = s.Identity.UpdateIssuer(r.Context(), v.Caller, id, e)
	}
	s.settled(w, r, v, err, settingsSignIn+"?done=issuer-changed", under(issuers, id, "edit"), func(f *fault.Error) {
		now, err := s.Identity.GetIssuer(r.Context(), v.Caller, id)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		shown.ID, shown.Shared = now.ID, now.Shared
		s.againLong(w, r, f, s.issuerFields(r, v, shown, r.PostForm.Get("subjects"), r.PostForm.Get("max_life_seconds"), true))
	})
}

func (s *site) issuerDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Identity.GetIssuer(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+i.Name), "Sign-in", ui.Confirm{
		Lead: "The tokens of " + i.Name + " are accepted no longer.", Touches: []string{"Every program that uses one is refused at once.", s.reader(r).Count(len(i.Subjects), "listed subject") + ": forgotten"},
		Action: under(issuers, i.ID, "delete"), Submit: "Delete the issuer", Back: settingsSignIn, Hidden: v.proving(),
	}))
}

func (s *site) issuerDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	s.settled(w, r, v, s.Identity.DeleteIssuer(r.Context(), v.Caller, r.PathValue("id"), ""), settingsSignIn+"?done=issuer-deleted", under(issuers, r.PathValue("id"), "delete"), nil)
}
