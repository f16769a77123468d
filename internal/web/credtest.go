package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// testable reports whether there is a way to try credentials of a type.
func testable(t vault.Type) bool { return t != vault.SharedSecret && t != vault.Custom }

// testPage asks how a credential is to be tried: as far as it can be chosen for its type.
func (s *site) testPage(r *http.Request, v visitor, one vault.Credential) *askedPage {
	form := r.PostForm
	p := &askedPage{Frame: s.frame(r, v, "Test "+one.Name), Back: credentialPath(one.ID), BackLabel: one.Name, Action: credentialPath(one.ID, "test"), Submit: "Test it", Hidden: v.hidden(),
		Lead: "It is used once, at the hosts that it is bound to and nowhere else, within ten seconds. That it was tried, and what came of it, is recorded."}
	text := func(name, label, hint string, most int) ui.Field {
		return ui.Field{Name: name, Label: label, Value: form.Get(name), Hint: hint, MaxLength: most, Autocomplete: "off", Optional: true}
	}
	offline := ui.Choice{Name: "offline", Label: "What to look at", Options: []ui.Option{{Label: "Connect to where it is used"}, {Value: "1", Label: "Only what is stored; connect to nobody", Chosen: form.Get("offline") != ""}}}
	switch one.Type {
	case vault.Password, vault.APIKey, vault.OAuth, vault.JWT:
		p.Inputs = []ui.Field{text("path", "Path", "Below the base URL: one that needs the credential, such as /v1/models.", 1024), text("header", "Name of the header", "Only where it goes into a header of its own, such as X-Api-Key.", 64)}
		c := ui.Choice{Name: "auth", Label: "How it is sent", Options: []ui.Option{{Label: "as its type and provider have it"}}}
		for _, way := range probe.Auths() {
			c.Options = append(c.Options, ui.Option{Value: way, Label: way, Chosen: form.Get("auth") == way})
		}
		p.Choices = []ui.Choice{c}
	case vault.SSHKey:
		p.Inputs = []ui.Field{text("host_key", "Fingerprint of the server's key", "SHA256:… as ssh-keygen -l shows it. Without it the server is asked for its key and not signed in to.", 50)}
		p.Choices = []ui.Choice{offline}
	default:
		p.Choices = []ui.Choice{offline}
	}
	return p
}

// tested reads the credential of a form that tries it.
func (s *site) tested(r *http.Request, v visitor) (vault.Credential, error) {
	if err := allowed(v, identity.CredentialUse); err != nil {
		return vault.Credential{}, err
	}
	if s.Probe == nil {
		return vault.Credential{}, fault.New(fault.NotFound, "not_found", "This instance tries no credentials.")
	}
	one, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return one, err
	}
	return one, s.Vault.MayStill(r.Context(), v.Caller, identity.CredentialUse, "test", one.ID)
}

func (s *site) testForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.tested(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.testPage(r, v, one)))
}

// test tries a credential where it is used, and says what came of it.
func (s *site) test(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.tested(r, v)
	var got probe.Result
	if err == nil {
		form := r.PostForm
		got, err = s.Probe.Test(r.Context(), v.Caller, one.ID, probe.Ask{Path: strings.TrimSpace(form.Get("path")), Auth: form.Get("auth"), Header: strings.TrimSpace(form.Get("header")),
			HostKey: strings.TrimSpace(form.Get("host_key")), Offline: form.Get("offline") != ""})
	}
	if err == nil {
		p := &testedPage{Frame: s.frame(r, v, "Test of "+one.Name), Back: credentialPath(one.ID), BackLabel: one.Name, Again: credentialPath(one.ID, "test"), Badge: outcomeOf(got.Outcome), Detail: got.Detail}
		fact := func(term string, value templ.Component, there bool) {
			if there {
				p.Facts = append(p.Facts, ui.Fact{Term: term, Value: value})
			}
		}
		reader := s.reader(r)
		fact("Asked", ui.Code(got.Target), got.Target != "")
		fact("HTTP status", ui.Text(numberOr(got.Status)), got.Status != 0)
		fact("The server's key", ui.Code(got.HostKey), got.HostKey != "")
		fact("Took", ui.Text(reader.Number(got.Took.Milliseconds())+" ms"), got.Target != "")
		s.show(w, r, http.StatusOK, testedView(p))
		return
	}
	s.settled(w, r, v, err, "", credentialPath(r.PathValue("id"), "test"), func(f *fault.Error) {
		p := s.testPage(r, v, one)
		p.Alert = mark(markChoices(f, p.Choices), p.Inputs)
		s.refuse(w, r, f, askedView(p))
	})
}

// outcomeOf is what came of a test, in a word.
func outcomeOf(o probe.Outcome) templ.Component {
	word := strings.ReplaceAll(string(o), "_", " ")
	switch o {
	case probe.OK:
		return ui.Badge(ui.Good, "it works")
	case probe.Unsupported:
		return ui.Badge(ui.Idle, word)
	case probe.Unauthorized:
		return ui.Badge(ui.Bad, "not accepted")
	case probe.TLSFailed:
		return ui.Badge(ui.Bad, "no trusted connection")
	case probe.Forbidden:
		return ui.Badge(ui.Warn, "address not allowed")
	}
	return ui.Badge(ui.Bad, word)
}
