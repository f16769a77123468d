package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

const (
	// maxForm is far over a set-up form and far under what could hurt.
	maxForm = 16 << 10
	// formTime is how long a browser may take to send a form; slower senders hold a connection for nothing.
	formTime = 15 * time.Second
)

const (
	linkNeeded  = "To make the first administrator, open the whole set-up link that the server printed when it was first started. If it is lost or older than a day, stop the server and make the administrator on its machine:"
	initCommand = "signalbox init --admin-email you@example.com"
)

type setupPage struct {
	ui.Frame
	Token, Alert string
	Inputs       []ui.Field
}

func (s *site) setupPage(r *http.Request, token, email, name string) *setupPage {
	return &setupPage{Frame: s.sheet(r, "Set up Signalbox"), Token: token, Inputs: []ui.Field{
		{Name: "email", Label: "E-mail address", Type: "email", Value: email, Autocomplete: "username", MaxLength: 254, Hint: "You will sign in with it. Nothing is sent to it."},
		{Name: "name", Label: "Name", Type: "text", Value: name, Autocomplete: "name", MaxLength: 200, Hint: "As it is to appear in the audit log."},
		{Name: "password", Label: "Password", Type: "password", Autocomplete: "new-password", MinLength: 12, MaxLength: 1024, Hint: "At least 12 characters; a password manager's choice is best."},
	}}
}

// setupForm shows the form. It does not look at the token: only using it may tell whether it is good.
func (s *site) setupForm(w http.ResponseWriter, r *http.Request) {
	has, err := s.Identity.HasAdministrator(r.Context())
	switch {
	case err != nil:
		s.fail(w, r, err)
	case has:
		s.notice(w, r, http.StatusConflict, "Already set up", "This Signalbox has an administrator, so the set-up page is closed for good.", "")
	case r.URL.Query().Get("token") == "":
		s.notice(w, r, http.StatusForbidden, "Set up Signalbox", linkNeeded, initCommand)
	default:
		form := s.setupPage(r, r.URL.Query().Get("token"), "", "")
		form.Inputs[0].Focus = true
		s.show(w, r, http.StatusOK, setupView(form))
	}
}

type donePage struct {
	ui.Frame
	Name, AccessToken, Origin string
}

// setup makes the administrator. What was typed comes back with the form when a field is refused, the password excepted.
func (s *site) setup(w http.ResponseWriter, r *http.Request) {
	if !s.readForm(w, r) {
		return
	}
	token, email, name := r.PostForm.Get("token"), r.PostForm.Get("email"), r.PostForm.Get("name")
	password := secret.FromString(r.PostForm.Get("password"))
	user, access, err := s.Identity.Setup(r.Context(), s.stranger(r), secret.FromString(token), email, name, password)
	if err == nil {
		_ = s.enter(w, r, user.Email, password)
		s.show(w, r, http.StatusOK, doneView(donePage{Frame: s.sheet(r, "Signalbox is set up"), Name: user.Name, AccessToken: access.Reveal(), Origin: origin(r)}))
		return
	}
	f := fault.Of(err)
	switch {
	case f.Kind == fault.Unprocessable:
		form := s.setupPage(r, token, email, name)
		form.mark(f)
		s.show(w, r, f.Kind.Status(), setupView(form))
	case f.Code == "setup_refused":
		s.notice(w, r, http.StatusForbidden, "This link does not work", "It was used already, is older than a day, or was replaced by a newer one. Nothing was done. For a new start, stop the server and make the administrator on its machine:", initCommand)
	default:
		s.fail(w, r, err)
	}
}

// mark puts the fault's messages beside the fields that they are about.
func (p *setupPage) mark(f *fault.Error) { p.Alert = markInputs(p.Inputs, f) }

// markInputs puts the fault's messages beside the fields that they are about. When it is about none of them, its sentence is returned.
func markInputs(inputs []ui.Field, f *fault.Error) (alert string) {
	placed := false
	for _, e := range f.Fields {
		for i := range inputs {
			if in := &inputs[i]; e.Pointer == "/"+in.Name && in.Error == "" {
				in.Error = sentence(e.Message)
				in.Focus = !placed
				placed = true
			}
		}
	}
	if placed {
		return ""
	}
	return f.Detail
}

// sentence gives a field's message the form of a sentence; other doors show it in a list.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// plainOrigin is what may stand in a line that a person pastes into a shell.
var plainOrigin = regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+$`)

// origin returns the address under which the browser reached this server, as far as it is safe to paste.
func origin(r *http.Request) string {
	from := r.Header.Get("Origin")
	if u, err := url.Parse(from); err == nil && u.Host == r.Host && plainOrigin.MatchString(from) {
		return from
	}
	if from = "http://" + r.Host; plainOrigin.MatchString(from) {
		return from
	}
	return "http://127.0.0.1:8420"
}
