package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// wayForm is a form of one button.
type wayForm struct {
	Action, Submit string
	Hidden         []ui.Hidden
}

// signInWays are the buttons of the providers. Without them the sign-in goes on, so that a failure to read them locks nobody out.
func (s *site) signInWays(r *http.Request, next string) []wayForm {
	ways, err := s.Identity.SignInWays(r.Context())
	if err != nil {
		s.Log.Error("the single sign-on providers could not be read", "request_id", requestIDOf(r), "code", fault.Of(err).Code)
		return nil
	}
	out := make([]wayForm, len(ways))
	for i, way := range ways {
		out[i] = wayForm{Action: "/sso/" + way.Name, Submit: "Sign in with " + way.Label, Hidden: []ui.Hidden{{Name: "next", Value: next}}}
	}
	return out
}

// stepUpWays are the buttons of the providers that a visitor is known at.
func (s *site) stepUpWays(r *http.Request, v visitor, next string) []wayForm {
	ways, err := s.Identity.StepUpWays(r.Context(), v.Caller)
	if err != nil {
		s.Log.Error("the single sign-on providers could not be read", "request_id", requestIDOf(r), "code", fault.Of(err).Code)
		return nil
	}
	out := make([]wayForm, len(ways))
	for i, way := range ways {
		out[i] = wayForm{Action: "/step-up/" + way.Name, Submit: "Confirm with " + way.Label, Hidden: v.hidden(ui.Hidden{Name: "next", Value: next})}
	}
	return out
}

// going is the page between this server and a provider.
type going struct {
	ui.Frame
	Address, Label string
}

func (s *site) ssoBegin(w http.ResponseWriter, r *http.Request) {
	if s.readForm(w, r) {
		s.goToProvider(w, r, s.stranger(r), false)
	}
}

func (s *site) ssoStepUp(w http.ResponseWriter, r *http.Request, v visitor) {
	s.goToProvider(w, r, v.Caller, true)
}

// goToProvider leads the browser to a provider by a page of ours and not by a redirect: browsers hold the redirect of a form to the form-action
// of the page that it stood on, which allows this server alone.
func (s *site) goToProvider(w http.ResponseWriter, r *http.Request, caller identity.Caller, stepUp bool) {
	base, err := s.base(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	name := r.PathValue("provider")
	begun, err := s.Identity.BeginSSO(r.Context(), caller, identity.SSOStart{
		Provider: name, RedirectURI: base + "/sso/" + url.PathEscape(name) + "/callback", Next: localPath(r.PostForm.Get("next")), Cookie: ssoCookie(r), StepUp: stepUp,
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.SetCookie(w, begun.Cookie)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Refresh", "0;url="+begun.Address.Reveal())
	s.show(w, r, http.StatusOK, goingView(going{Frame: s.sheet(r, "One moment"), Address: begun.Address.Reveal(), Label: begun.Label}))
}

func ssoCookie(r *http.Request) string {
	if all := r.CookiesNamed(identity.SSOCookie); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

// ssoCallback takes what a provider sends a browser back with. Where the browser goes then was kept here; nothing in the address decides it.
func (s *site) ssoCallback(w http.ResponseWriter, r *http.Request) {
	answer := identity.SSOAnswer{Provider: r.PathValue("provider"), Cookie: ssoCookie(r)}
	query, err := url.ParseQuery(r.URL.RawQuery)
	for _, name := range []string{"state", "code", "iss", "error"} {
		if err != nil || len(query[name]) > 1 {
			s.fail(w, r, fault.New(fault.Invalid, "malformed_request", "The provider sent an answer that cannot be read. Begin again at the sign-in page."))
			return
		}
	}
	answer.State, answer.Code = secret.FromString(query.Get("state")), secret.FromString(query.Get("code"))
	answer.Issuer, answer.Refused = query.Get("iss"), query.Has("error")
	caller := s.stranger(r)
	if v, err := s.visitor(r); err == nil {
		caller = v.Caller
	}
	done, err := s.Identity.FinishSSO(r.Context(), caller, answer)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.SetCookie(w, identity.EndSSOCookie())
	if done.StepUp {
		http.SetCookie(w, done.Cookie())
		http.Redirect(w, r, localPath(done.Next), http.StatusSeeOther)
		return
	}
	s.admit(w, r, done.Admission, done.Next)
}

// base returns where this browser reaches us. Without a public URL that is believed of a request only when it names this machine.
func (s *site) base(r *http.Request) (string, error) {
	if s.PublicURL != nil {
		return s.PublicURL.String(), nil
	}
	if u := (url.URL{Scheme: "http", Host: r.Host}); thisMachine(u.Hostname()) {
		return u.String(), nil
	}
	return "", fault.New(fault.Unavailable, "sso_unreachable", "Single sign-on needs to know where browsers reach this Signalbox. An administrator sets SIGNALBOX_PUBLIC_URL, such as https://signalbox.example.com.")
}

// thisMachine reports whether a host is the one that asks: nothing between here and there is on a network.
func thisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// HeaderSSO is single sign-on by a proxy that has already found out who it is.
type HeaderSSO struct {
	// Name of the header; "" for none. Whoever serves the pages removes it from every request that is not of the trusted proxy.
	Name string
	// Create is the role of people who are not here yet; "" refuses them.
	Create identity.Role
}

// named returns whom the trusted proxy names, "" for nobody.
func (s *site) named(r *http.Request) (string, error) {
	if s.Header.Name == "" {
		return "", nil
	}
	switch values := r.Header.Values(s.Header.Name); len(values) {
	case 0:
		return "", nil
	case 1:
		return strings.TrimSpace(values[0]), nil
	}
	return "", fault.New(fault.Invalid, "malformed_request", "The proxy in front of Signalbox names two people at once. Its header must replace the client's.")
}

// byHeader signs in whom the trusted proxy names, unless they are already, and reports whether it has answered. A session of somebody else ends.
func (s *site) byHeader(w http.ResponseWriter, r *http.Request) bool {
	name, err := s.named(r)
	if err != nil {
		s.fail(w, r, err)
		return true
	}
	if name == "" {
		return false
	}
	v, err := s.visitor(r)
	if err == nil {
		same, err := s.Identity.NamedBy(r.Context(), v.Caller, name)
		if err != nil {
			s.fail(w, r, err)
		}
		if err != nil || same {
			return err != nil
		}
	} else if fault.KindOf(err) != fault.Unauthenticated {
		s.fail(w, r, err)
		return true
	}
	half, _, err := s.Identity.Pending(r.Context(), identity.CookieSecret(r))
	if err == nil { // a second factor is all that is missing
		same, err := s.Identity.NamedBy(r.Context(), half, name)
		if err != nil {
			s.fail(w, r, err)
			return true
		}
		if same {
			next := ""
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				next = r.URL.RequestURI()
			}
			http.Redirect(w, r, withNext("/sign-in/second", next), http.StatusSeeOther)
			return true
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.notice(w, r, http.StatusForbidden, "Refused", "You are not signed in, or as somebody else, so nothing was done. Open the page again and repeat it there.", "")
		return true
	}
	in, err := s.Identity.HeaderLogin(r.Context(), s.stranger(r), name, s.Header.Create)
	if err != nil {
		s.fail(w, r, err)
		return true
	}
	s.admit(w, r, in, r.URL.RequestURI())
	return true
}
