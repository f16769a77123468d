package web

import (
	"crypto/subtle"
	"net/http"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// provePage asks for a second factor: to complete a sign-in, or to confirm that it is still the same person.
type provePage struct {
	ui.Frame
	Lead, Alert, Action, Cancel string
	Hidden                      []ui.Hidden
	Password, TOTP, Recovery    []ui.Field
	// Passkey is nil when the person has none, or the browser cannot be asked for one here.
	Passkey *passkeyForm
	// NoPasskey says why there is no passkey to ask for.
	NoPasskey string
	// Ways are other forms of one button each, below.
	Ways []wayForm
}

// passkeyForm is a form that the script fills with the browser's answer.
type passkeyForm struct {
	// Ask is where the script gets the options, Action where the answer goes, Ceremony what navigator.credentials does.
	Ask, Action, Ceremony, Submit string
	// Build names the script.
	Build  string
	Inputs []ui.Field
	Hidden []ui.Hidden
}

func codeInput() ui.Field {
	return ui.Field{Name: "code", Label: "Code from your authenticator app", Type: "text", Autocomplete: "one-time-code", MaxLength: 10, Hint: "Six digits, which change every half minute."}
}

func recoveryInput() ui.Field {
	return ui.Field{Name: "recovery_code", Label: "Recovery code", Type: "text", Autocomplete: "off", MaxLength: 40, Hint: "Each works once."}
}

// pending serves a page to whoever is half signed in, and sends others to the sign-in. A form must carry its token. Each request counts to the
// limit of a caller, as those of who is signed in do: what is offered and refused here is on record each time.
func (s *site) pending(serve func(http.ResponseWriter, *http.Request, visitor, []identity.Proof)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie := identity.CookieSecret(r)
		caller, demanded, err := s.Identity.Pending(r.Context(), cookie)
		if err != nil {
			if fault.KindOf(err) != fault.Unauthenticated {
				s.fail(w, r, err)
				return
			}
			http.Redirect(w, r, withNext("/sign-in", r.URL.Query().Get("next")), http.StatusSeeOther)
			return
		}
		from := s.stranger(r)
		caller.RequestID, caller.IP, caller.UserAgent = from.RequestID, from.IP, from.UserAgent
		if err := s.Admit(r.Context(), caller); err != nil {
			s.fail(w, r, err)
			return
		}
		v := visitor{Caller: caller, cookie: cookie}
		if r.Method == http.MethodPost && (!s.readForm(w, r) || !s.ownForm(w, r, v)) {
			return
		}
		serve(w, r, v, demanded)
	}
}

// ownForm reports whether a form carries the visitor's form token, or answers that it does not.
func (s *site) ownForm(w http.ResponseWriter, r *http.Request, v visitor) bool {
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("form")), []byte(v.formToken())) == 1 {
		return true
	}
	s.Log.Warn("a form without its token was refused", "request_id", requestIDOf(r))
	s.notice(w, r, http.StatusForbidden, "Refused", "This form is from an earlier sign-in or from another site, so nothing was done. Open the page again and repeat it there.", "")
	return false
}

// nextOf is where a form or an address leads afterwards.
func nextOf(r *http.Request) string {
	if r.Method == http.MethodPost {
		return localPath(r.PostForm.Get("next"))
	}
	return localPath(r.URL.Query().Get("next"))
}

// askFor fills a page with what can be asked for.
func (s *site) askFor(r *http.Request, p *provePage, v visitor, proofs []identity.Proof, action, next string) {
	p.Action = action
	p.Hidden = v.hidden(ui.Hidden{Name: "next", Value: next})
	if slices.Contains(proofs, identity.ProofTOTP) {
		p.TOTP = []ui.Field{codeInput()}
	}
	if slices.Contains(proofs, identity.ProofRecovery) {
		p.Recovery = []ui.Field{recoveryInput()}
	}
	if slices.Contains(proofs, identity.ProofPasskey) {
		if _, err := s.Identity.Site(r.Host); err != nil {
			p.NoPasskey = fault.Of(err).Detail
			return
		}
		p.Passkey = &passkeyForm{Build: s.build, Ask: action + "/passkey/ask", Action: action + "/passkey", Ceremony: "get", Submit: "Use a passkey", Hidden: p.Hidden}
	}
}

func (s *site) secondPage(r *http.Request, v visitor, demanded []identity.Proof) *provePage {
	p := &provePage{Frame: s.sheet(r, "One more step"), Lead: "So far it is you. Now confirm it with your second factor.", Cancel: "/sign-in"}
	s.askFor(r, p, v, demanded, "/sign-in/second", nextOf(r))
	return p
}

func (s *site) secondForm(w http.ResponseWriter, r *http.Request, v visitor, demanded []identity.Proof) {
	if slices.Contains(demanded, identity.ProofEnrolment) {
		s.show(w, r, http.StatusOK, enrolView(s.enrolPage(r, v, nextOf(r))))
		return
	}
	s.show(w, r, http.StatusOK, proveView(s.secondPage(r, v, demanded)))
}

func (s *site) second(w http.ResponseWriter, r *http.Request, v visitor, demanded []identity.Proof) {
	in, err := s.Identity.Prove(r.Context(), v.Caller, codeOf(r))
	s.proved(w, r, in, err, func() *provePage { return s.secondPage(r, v, demanded) })
}

func codeOf(r *http.Request) identity.Code {
	return identity.Code{TOTP: secret.FromString(r.PostForm.Get("code")), Recovery: secret.FromString(r.PostForm.Get("recovery_code"))}
}

// proved leads on from a proof, or shows the page again with what was wrong.
func (s *site) proved(w http.ResponseWriter, r *http.Request, in identity.Admission, err error, again func() *provePage) {
	s.provedTo(w, r, in, err, again, func() { http.Redirect(w, r, nextOf(r), http.StatusSeeOther) })
}

// provedTo is proved with what follows.
func (s *site) provedTo(w http.ResponseWriter, r *http.Request, in identity.Admission, err error, again func() *provePage, then func()) {
	if err == nil {
		http.SetCookie(w, in.Cookie())
		then()
		return
	}
	f := fault.Of(err)
	switch {
	case f.Kind == fault.TooMany, f.Code == "second_factor_wrong", f.Code == "passkey_refused", f.Code == "password_wrong":
		p := again()
		p.Alert = f.Detail
		s.refuse(w, r, f, proveView(p))
	default:
		s.fail(w, r, err)
	}
}

func (s *site) askSecondPasskey(w http.ResponseWriter, r *http.Request, v visitor, demanded []identity.Proof) {
	what := identity.PasskeyProve
	if slices.Contains(demanded, identity.ProofEnrolment) {
		what = identity.PasskeyRegister
	}
	s.askPasskey(w, r, v.Caller, what)
}

func (s *site) secondPasskey(w http.ResponseWriter, r *http.Request, v visitor, demanded []identity.Proof) {
	in, err := s.provePasskey(r, v)
	s.proved(w, r, in, err, func() *provePage { return s.secondPage(r, v, demanded) })
}

func (s *site) provePasskey(r *http.Request, v visitor) (identity.Admission, error) {
	at, err := s.Identity.Site(r.Host)
	if err != nil {
		return identity.Admission{}, err
	}
	return s.Identity.ProvePasskey(r.Context(), v.Caller, at, answerOf(r))
}

func answerOf(r *http.Request) secret.Value { return secret.FromString(r.PostForm.Get("passkey")) }

// askPasskey answers the script with the options for the browser, or with a sentence for the person.
func (s *site) askPasskey(w http.ResponseWriter, r *http.Request, caller identity.Caller, what identity.Ceremony) {
	at, err := s.Identity.Site(r.Host)
	var options []byte
	if err == nil {
		options, err = s.Identity.AskPasskey(r.Context(), caller, at, what)
	}
	if err != nil {
		f := fault.Of(err)
		if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
			s.Log.Error("a passkey could not be asked for", "request_id", requestIDOf(r), "code", f.Code, "cause", f.Unwrap())
		}
		status := f.Kind.Status()
		if status == http.StatusUnauthorized { // see fail
			status = http.StatusForbidden
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(f.Detail)) // a browser that is gone needs no answer
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(options)
}

// askSignInPasskey and signInPasskey sign in without a password. The form has no token: nobody is signed in yet, and what comes from another site
// is refused by its origin; the answer itself is bound to this one by the browser.
func (s *site) askSignInPasskey(w http.ResponseWriter, r *http.Request) {
	if s.readForm(w, r) {
		s.askPasskey(w, r, s.stranger(r), identity.PasskeySignIn)
	}
}

func (s *site) signInPasskey(w http.ResponseWriter, r *http.Request) {
	if !s.readForm(w, r) {
		return
	}
	at, err := s.Identity.Site(r.Host)
	var in identity.Admission
	if err == nil {
		in, err = s.Identity.PasskeyLogin(r.Context(), s.stranger(r), at, answerOf(r), identity.SessionBrowser)
	}
	if err == nil {
		s.admit(w, r, in, nextOf(r))
		return
	}
	f := fault.Of(err)
	if f.Code != "passkey_refused" && f.Code != "login_failed" {
		s.fail(w, r, err)
		return
	}
	form := s.signInPage(r, nextOf(r), "")
	form.Alert = f.Detail
	s.refuse(w, r, f, formView(form))
}

// leave ends the session that a browser came with.
func (s *site) leave(r *http.Request) {
	if before, err := s.visitor(r); err == nil {
		_ = s.Identity.Logout(r.Context(), before.Caller) // it may have ended by itself
	}
}
