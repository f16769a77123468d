package web

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// revealSeconds is how long a secret stays on the page that shows it.
const revealSeconds = 30

// revealPage asks why, and then shows one secret field.
type revealPage struct {
	ui.Frame
	Back, BackLabel, Action, Wrong string
	Reason                         ui.Field
	Hidden                         []ui.Hidden
	// Field is how the field is called, Value what is in it: only ever in the answer to the form.
	Field, Value string
}

func (s *site) revealPage(r *http.Request, v visitor, one vault.Credential, field string) *revealPage {
	return &revealPage{Frame: s.frame(r, v, fieldLabel(field)+" of "+one.Name), Back: credentialPath(one.ID), BackLabel: one.Name, Action: credentialPath(one.ID, "reveal"), Field: fieldLabel(field),
		Hidden: v.hidden(ui.Hidden{Name: "field", Value: field}),
		Reason: ui.Field{Name: "reason", Label: "Why do you need it?", Value: r.PostForm.Get("reason"), MaxLength: 500, Autocomplete: "off", Focus: true, Hint: "It is recorded with your name, before anything is shown."}}
}

// revealable reads the credential of a form about one of its secret fields.
func (s *site) revealable(r *http.Request, v visitor) (vault.Credential, error) {
	if err := allowed(v, identity.CredentialReveal); err != nil {
		return vault.Credential{}, err
	}
	one, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return one, err
	}
	return one, s.Vault.MayStill(r.Context(), v.Caller, identity.CredentialReveal, "reveal", one.ID)
}

func (s *site) revealForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.revealable(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, revealAskView(s.revealPage(r, v, one, r.URL.Query().Get("field"))))
}

// reveal answers with one secret field: the only answer of these pages that holds one. It is kept by no cache, and the browser is led away from it when
// its time is over, with scripts or without. A script that only copies gets the bare text.
func (s *site) reveal(w http.ResponseWriter, r *http.Request, v visitor) {
	id, field := r.PathValue("id"), r.PostForm.Get("field")
	var value secret.Value
	err := s.AdmitReveal(r.Context(), v.Caller)
	if err == nil {
		value, err = s.Vault.Reveal(r.Context(), v.Caller, id, field, r.PostForm.Get("reason"))
	}
	var one vault.Credential
	if err == nil && r.PostForm.Get("as") == "text" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(value.Reveal())) // a browser that is gone copies nothing
		return
	}
	if err == nil {
		one, err = s.Vault.Get(r.Context(), v.Caller, id)
	}
	if err == nil {
		p := s.revealPage(r, v, one, field)
		p.Value = value.Reveal()
		w.Header().Set("Refresh", strconv.Itoa(revealSeconds)+";url="+p.Back)
		s.show(w, r, http.StatusOK, revealedView(p))
		return
	}
	s.settled(w, r, v, err, "", credentialPath(id, "reveal")+"?field="+field, func(f *fault.Error) {
		one, err := s.revealable(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p := s.revealPage(r, v, one, field)
		list := []ui.Field{p.Reason}
		p.Wrong = mark(f, list)
		p.Reason = list[0]
		s.refuse(w, r, f, revealAskView(p))
	})
}

func (s *site) rotatePage(r *http.Request, v visitor, one vault.Credential) *askedPage {
	row, _ := vault.Lookup(one.Type)
	back := cmp.Or(rotatedTo(r), credentialPath(one.ID))
	return &askedPage{Frame: s.frame(r, v, "Rotate "+one.Name), Back: back, BackLabel: backLabel(back, one.Name), Action: credentialPath(one.ID, "rotate"), Submit: "Store the new version",
		Lead:   "The new secret is what is lent from now on. The one before stays as version " + strconv.FormatInt(one.Version, 10) + " and can be restored.",
		Hidden: v.hidden(ui.Hidden{Name: "next", Value: rotatedTo(r)}), Inputs: append(secretInputs(row, one.SecretFields, true), ui.Field{Name: "reason", Label: "Reason", Value: r.PostForm.Get("reason"), MaxLength: 500, Autocomplete: "off", Optional: true, Hint: "Kept with the version."}), Choices: makeChoices(row, one.SecretFields, r.PostForm)}
}

// rotatedTo is where a rotation leads back to, when it is a list of what is to be rotated; "" is the credential.
func rotatedTo(r *http.Request) string {
	next := localPath(cmp.Or(r.PostForm.Get("next"), r.URL.Query().Get("next")))
	if path, _, _ := strings.Cut(next, "?"); path == "/due" || path == "/credentials/~bulk" {
		return next
	}
	return ""
}

func backLabel(back, name string) string {
	if strings.HasPrefix(back, "/due") || strings.HasPrefix(back, "/credentials/~bulk") {
		return "What is to be rotated"
	}
	return name
}

// rotateLink opens the form that rotates a credential; next is where it leads back to.
func rotateLink(c vault.Credential, next string) templ.Component {
	path := credentialPath(c.ID, "rotate")
	if next != "" {
		path += "?next=" + url.QueryEscape(next)
	}
	return ui.DialogLink("Rotate", path, "Rotate "+c.Name)
}

// saidAfter adds to an address what its page is to say.
func saidAfter(address, done string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	query := u.Query()
	query.Set("done", done)
	return u.Path + "?" + query.Encode()
}

func (s *site) rotateForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.managed(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.rotatePage(r, v, one)))
}

// rotate stores a new version. Fields that stay empty stay as they are.
func (s *site) rotate(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	makes, err := makesPosted(r.PostForm)
	if err == nil {
		_, err = s.Vault.RotateMaking(r.Context(), v.Caller, id, secretsPosted(r.PostForm), makes, r.PostForm.Get("reason"))
	}
	here := credentialPath(id)
	s.settled(w, r, v, err, saidAfter(cmp.Or(rotatedTo(r), here), "rotated"), here+"/rotate", func(f *fault.Error) {
		one, err := s.managed(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p := s.rotatePage(r, v, one)
		row, _ := vault.Lookup(one.Type)
		p.Alert = mark(markChoices(aimedAtName(aimedAtMakes(f, r.PostForm), row, r.PostForm), p.Choices), p.Inputs)
		if p.Alert == "" {
			p.Alert = "Nothing was stored. Mend what is marked; secrets are not sent back, so type them again."
		}
		s.refuse(w, r, f, askedView(p))
	})
}

// versions lists the versions of the secret.
func (s *site) versions(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.credentialFrame(r, v, "versions")
	var list []vault.Version
	if err == nil {
		list, err = s.Vault.Versions(r.Context(), v.Caller, p.One.ID)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	t := ui.Table{ID: "versions", Caption: "Versions of the secret, the newest first", Live: "credential",
		Columns: []ui.Column{{Label: "Version"}, {Label: "Fields"}, {Label: "Stored by"}, {Label: "Stored"}, {Label: "Reason"}}, Empty: ui.Empty{Text: "There is no version."}}
	if p.May.Manage {
		t.Columns = append(t.Columns, ui.Column{Label: "Restore", Unseen: true})
	}
	for _, one := range list {
		reason, number := one.Reason, p.Reader.Number(one.Number)
		row := ui.Row{ID: number, Name: "version " + number, Cells: []templ.Component{ui.Text(number), ui.Text(strings.Join(one.SecretFields, ", ")), ui.Text(one.CreatedByName), ui.When(p.Reader, one.CreatedAt),
			ui.Text(reason)}}
		if p.May.Manage {
			act := ui.Badge(ui.Good, "current")
			if !one.Current {
				act = ui.DialogLink("Restore", credentialPath(p.One.ID, "versions", strconv.FormatInt(one.Number, 10), "restore"), "Restore version "+number)
			}
			row.Cells = append(row.Cells, act)
		} else if one.Current {
			row.Cells[0] = ui.Text(number + " (current)")
		}
		t.Rows = append(t.Rows, row)
	}
	p.Lists = []ui.Table{t}
	s.show(w, r, http.StatusOK, credentialListView(p))
}

func (s *site) restoreForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.managed(r, v)
	n := r.PathValue("n")
	if _, bad := strconv.ParseInt(n, 10, 64); err == nil && bad != nil {
		err = noVersion()
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Restore version "+n), one.Name, ui.Confirm{
		Lead:    "The secret of version " + n + " becomes current again, as a new version " + strconv.FormatInt(one.Version+1, 10) + ".",
		Touches: []string{"Whoever is lent " + one.Name + " gets that secret from then on.", "Version " + strconv.FormatInt(one.Version, 10) + " stays, and can be restored in turn."},
		Action:  credentialPath(one.ID, "versions", n, "restore"), Submit: "Restore it", Back: credentialPath(one.ID, "versions"), Hidden: v.hidden(),
	}))
}

func noVersion() error {
	return fault.New(fault.NotFound, "not_found", "The credential has no such version. List its versions to find the number.")
}

func (s *site) restore(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil {
		n = 0 // no version has this number, so the vault says what it says of any that is not there, after asking who may
	}
	_, err = s.Vault.Restore(r.Context(), v.Caller, id, n)
	s.settled(w, r, v, err, credentialPath(id, "versions")+"?done=restored", credentialPath(id, "versions"), nil)
}
