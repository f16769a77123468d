package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// formPage is a page with one form.
type formPage struct {
	ui.Frame
	Lead, Alert, Action, Submit string
	Hidden                      []ui.Hidden
	Inputs                      []ui.Field
	Foot                        string
	Passkey                     *passkeyForm
	// Ways are other forms of one button each, below.
	Ways []wayForm
}

// mark puts the fault's messages beside the fields that they are about, or above the form.
func (p *formPage) mark(f *fault.Error) { p.Alert = markInputs(p.Inputs, f) }

func emailInput(value string) ui.Field {
	return ui.Field{Name: "email", Label: "E-mail address", Type: "email", Value: value, Autocomplete: "username", MaxLength: 254}
}

func passwordInput(name, label, autocomplete string) ui.Field {
	in := ui.Field{Name: name, Label: label, Type: "password", Autocomplete: autocomplete, MaxLength: identity.MaxPassword}
	if autocomplete == "new-password" {
		in.MinLength, in.Hint = identity.MinPassword, "At least "+strconv.Itoa(identity.MinPassword)+" characters; a password manager's choice is best."
	}
	return in
}

func (s *site) signInPage(r *http.Request, next, email string) *formPage {
	form := &formPage{
		Frame: s.sheet(r, "Sign in"), Action: "/sign-in", Submit: "Sign in", Hidden: []ui.Hidden{{Name: "next", Value: localPath(next)}},
		Inputs: []ui.Field{emailInput(email), passwordInput("password", "Password", "current-password")},
		Foot:   "Forgotten the password? Ask an administrator for a link by which you set a new one.",
	}
	form.Ways = s.signInWays(r, localPath(next))
	form.Inputs[0].Focus = email == ""
	form.Inputs[1].Focus = email != ""
	if _, err := s.Identity.Site(r.Host); err == nil {
		form.Passkey = &passkeyForm{Build: s.build, Ask: "/sign-in/passkey/ask", Action: "/sign-in/passkey", Ceremony: "get", Submit: "Sign in with a passkey", Hidden: form.Hidden}
	}
	return form
}

func (s *site) signInForm(w http.ResponseWriter, r *http.Request) {
	if s.byHeader(w, r) {
		return
	}
	next := r.URL.Query().Get("next")
	switch _, err := s.visitor(r); {
	case err == nil:
		http.Redirect(w, r, localPath(next), http.StatusSeeOther)
	case fault.KindOf(err) != fault.Unauthenticated && fault.KindOf(err) != fault.TooMany: // whose cookie is worth nothing may still sign in
		s.fail(w, r, err)
	default:
		s.show(w, r, http.StatusOK, formView(s.signInPage(r, next, "")))
	}
}

// signIn makes a session with a secret that nobody had before. Whatever session the browser came with ends.
func (s *site) signIn(w http.ResponseWriter, r *http.Request) {
	if !s.readForm(w, r) {
		return
	}
	next, email := r.PostForm.Get("next"), r.PostForm.Get("email")
	in, err := s.Identity.Login(r.Context(), s.stranger(r), email, secret.FromString(r.PostForm.Get("password")), identity.SessionBrowser)
	if err == nil {
		s.admit(w, r, in, next)
		return
	}
	f := fault.Of(err)
	if f.Code != "login_failed" && f.Kind != fault.TooMany {
		s.fail(w, r, err)
		return
	}
	form := s.signInPage(r, next, email)
	form.Alert = f.Detail
	s.refuse(w, r, f, formView(form))
}

// admit gives the browser its new session, in place of the one that it came with, and sends it on: to the second factor, if one is demanded.
func (s *site) admit(w http.ResponseWriter, r *http.Request, in identity.Admission, next string) {
	s.leave(r)
	http.SetCookie(w, in.Cookie())
	http.Redirect(w, r, onward(in, next), http.StatusSeeOther)
}

// onward is where a sign-in leads.
func onward(in identity.Admission, next string) string {
	if in.Pending() {
		return withNext("/sign-in/second", next)
	}
	return localPath(next)
}

// refuse shows a page again with what was wrong.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, f *fault.Error, view templ.Component) {
	status := f.Kind.Status()
	if f.Kind == fault.Unauthenticated { // see fail
		status = http.StatusForbidden
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	s.show(w, r, status, view)
}

func (s *site) signOutForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, formView(&formPage{
		Frame: s.frame(r, v, "Sign out"), Lead: "You are signed in as " + v.Name + ".", Action: "/sign-out", Submit: "Sign out", Hidden: v.hidden(),
	}))
}

func (s *site) signOut(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := s.Identity.Logout(r.Context(), v.Caller); err != nil && fault.KindOf(err) != fault.Unauthenticated {
		s.fail(w, r, err)
		return
	}
	http.SetCookie(w, identity.EndCookie())
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// hidden are the fields that every form of a visitor has.
func (v visitor) hidden(more ...ui.Hidden) []ui.Hidden {
	return append([]ui.Hidden{{Name: "form", Value: v.formToken()}}, more...)
}

// proving is hidden for a form whose act wants a fresh proof: where there is JavaScript, it asks for one before the form is sent when the last is too
// old by then, so that nothing typed is lost.
func (v visitor) proving(more ...ui.Hidden) []ui.Hidden {
	return v.hidden(append(more, ui.Hidden{Name: "proof", Value: "fresh"})...)
}

// isFresh answers a script whether the last proof is young enough for a form that is sent now, with the token that the session's forms carry.
// It is told for the forms of the same person alone: a page that was made for somebody else says so, and gets nothing.
func (s *site) isFresh(w http.ResponseWriter, r *http.Request, v visitor) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.Header.Get("X-Signalbox-Person") != v.UserID {
		w.WriteHeader(http.StatusConflict)
		return
	}
	if identity.RequireFresh(v.Caller, time.Now().Add(formMargin)) != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	_, _ = w.Write([]byte(v.formToken())) // a browser that is gone needs no answer
}

// formMargin is how long a form may be on its way.
const formMargin = 15 * time.Second

// stepUpPage asks for a second factor of who has one, else for the password.
func (s *site) stepUpPage(r *http.Request, v visitor) (*provePage, error) {
	have, err := s.Identity.Factors(r.Context(), v.Caller, "")
	if err != nil {
		return nil, err
	}
	p := &provePage{Frame: s.frame(r, v, "Confirm that it is you"), Lead: "What you are about to do needs a proof that it is still you. It then opens for five minutes."}
	s.askFor(r, p, v, have.Proofs(), "/step-up", nextOf(r))
	p.Ways = s.stepUpWays(r, v, nextOf(r))
	if !have.Any() {
		p.Password = []ui.Field{passwordInput("password", "Password", "current-password")}
		p.Password[0].Focus = true
	}
	return p, nil
}

func (s *site) stepUpForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.stepUpPage(r, v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, proveView(p))
}

func (s *site) stepUp(w http.ResponseWriter, r *http.Request, v visitor) {
	in, err := s.provenBy(r, v)
	s.steppedUp(w, r, v, in, err)
}

// provenBy takes the password or the code of a form as a proof that it is still the visitor.
func (s *site) provenBy(r *http.Request, v visitor) (identity.Admission, error) {
	if code := codeOf(r); !code.IsZero() {
		return s.Identity.Prove(r.Context(), v.Caller, code)
	}
	return s.Identity.StepUp(r.Context(), v.Caller, secret.FromString(r.PostForm.Get("password")))
}

func (s *site) steppedUp(w http.ResponseWriter, r *http.Request, v visitor, in identity.Admission, err error) {
	p, perr := s.stepUpPage(r, v)
	if perr != nil {
		s.fail(w, r, perr)
		return
	}
	s.proved(w, r, in, err, func() *provePage { return p })
}

func (s *site) askStepUpPasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	s.askPasskey(w, r, v.Caller, identity.PasskeyProve)
}

func (s *site) stepUpPasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	in, err := s.provePasskey(r, v)
	s.steppedUp(w, r, v, in, err)
}

func (s *site) invitePage(r *http.Request, token string) *formPage {
	form := &formPage{
		Frame: s.sheet(r, "Set your password"), Lead: "This link works once. You are signed in afterwards.", Action: "/invite", Submit: "Set the password and sign in",
		Hidden: []ui.Hidden{{Name: "token", Value: token}}, Inputs: []ui.Field{passwordInput("password", "New password", "new-password")},
	}
	form.Inputs[0].Focus = true
	return form
}

// inviteForm shows the form. It does not look at the token: only using it may tell whether it is good.
func (s *site) inviteForm(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	if token == "" {
		s.notice(w, r, http.StatusForbidden, "Set your password", "To set your password, open the whole link that an administrator gave you. If it is lost or too old, ask for another.", "")
		return
	}
	s.show(w, r, http.StatusOK, formView(s.invitePage(r, token)))
}

func (s *site) invite(w http.ResponseWriter, r *http.Request) {
	if !s.readForm(w, r) {
		return
	}
	token, password := r.PostForm.Get("token"), secret.FromString(r.PostForm.Get("password"))
	user, err := s.Identity.SetPassword(r.Context(), s.stranger(r), secret.FromString(token), password)
	if err != nil {
		f := fault.Of(err)
		if f.Kind != fault.Unprocessable {
			s.fail(w, r, err)
			return
		}
		form := s.invitePage(r, token)
		form.mark(f)
		s.refuse(w, r, f, formView(form))
		return
	}
	http.Redirect(w, r, s.enter(w, r, user.Email, password), http.StatusSeeOther)
}

// enter signs somebody in who has just set their password, and returns where that leads. When it does not work they sign in themselves.
func (s *site) enter(w http.ResponseWriter, r *http.Request, email string, password secret.Value) string {
	in, err := s.Identity.Login(r.Context(), s.stranger(r), email, password, identity.SessionBrowser)
	if err != nil {
		return "/sign-in"
	}
	http.SetCookie(w, in.Cookie())
	return onward(in, "/")
}
