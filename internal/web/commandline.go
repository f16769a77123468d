package web

import (
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// plainState is what a command line tells its own answer by: base64url, too long to be guessed.
var plainState = regexp.MustCompile(`^[A-Za-z0-9_-]{22,128}$`)

// cliAsk is what a command line asks for, as it stands in the address of the page and in its forms.
type cliAsk struct {
	identity.CommandLine
	state string
}

// cliAskOf reads it, each part at most once. Only what is a port of this machine leads anywhere.
func cliAskOf(from url.Values) (cliAsk, error) {
	wrong := fault.New(fault.Invalid, "malformed_request", "This address is not one that signalbox login makes. Run signalbox login again, and open the address that it prints as a whole.")
	for _, name := range []string{"challenge", "port", "state"} {
		if len(from[name]) > 1 {
			return cliAsk{}, wrong
		}
	}
	ask := cliAsk{CommandLine: identity.CommandLine{Challenge: from.Get("challenge")}, state: from.Get("state")}
	if text := from.Get("port"); text != "" {
		port, err := strconv.Atoi(text)
		if err != nil || port == 0 || strconv.Itoa(port) != text || !plainState.MatchString(ask.state) {
			return cliAsk{}, wrong
		}
		ask.Port = port
	} else if ask.state != "" {
		return cliAsk{}, wrong
	}
	if ask.Check() != nil {
		return cliAsk{}, wrong
	}
	return ask, nil
}

func (a cliAsk) values() url.Values {
	v := url.Values{"challenge": {a.Challenge}}
	if a.Port != 0 {
		v.Set("port", strconv.Itoa(a.Port))
		v.Set("state", a.state)
	}
	return v
}

// origin is where the command line listens: on this machine, whatever was asked.
func (a cliAsk) origin() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
}

// callback leads the browser back to the command line with an answer.
func (a cliAsk) callback(w http.ResponseWriter, r *http.Request, name, value string) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, a.origin()+"/callback?"+url.Values{name: {value}, "state": {a.state}}.Encode(), http.StatusSeeOther)
}

// agreePage asks whether a command line may act as the visitor.
type agreePage struct {
	ui.Frame
	Email, Role string
	Port        int
	Hidden      []ui.Hidden
}

// cliForm shows who asks for what. Nothing happens without the click.
func (s *site) cliForm(w http.ResponseWriter, r *http.Request, v visitor) {
	ask, err := cliAskOf(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	user, err := s.Identity.User(r.Context(), v.Caller, v.UserID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p := &agreePage{Frame: s.frame(r, v, "Sign in the command line?"), Email: user.Email, Role: string(user.Role), Port: ask.Port, Hidden: v.hidden()}
	for name, values := range ask.values() {
		p.Hidden = append(p.Hidden, ui.Hidden{Name: name, Value: values[0]})
	}
	if ask.Port != 0 { // browsers hold the redirect of a form to the form-action of its ui.Frame
		w.Header().Set("Content-Security-Policy", policy("'self' "+ask.origin()))
	}
	s.show(w, r, http.StatusOK, agreeView(p))
}

func (s *site) cliAgree(w http.ResponseWriter, r *http.Request, v visitor) {
	ask, err := cliAskOf(r.PostForm)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if identity.RequireFresh(v.Caller, time.Now()) != nil {
		http.Redirect(w, r, withNext("/step-up", "/cli?"+ask.values().Encode()), http.StatusSeeOther)
		return
	}
	code, err := s.Identity.AllowCommandLine(r.Context(), v.Caller, ask.CommandLine)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case ask.Port != 0:
		ask.callback(w, r, "code", code.Reveal())
	default:
		s.show(w, r, http.StatusOK, codeView(s.frame(r, v, "Paste this code"), code.Reveal()))
	}
}

func (s *site) cliCancel(w http.ResponseWriter, r *http.Request, _ visitor) {
	ask, err := cliAskOf(r.PostForm)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case ask.Port != 0:
		ask.callback(w, r, "error", "access_denied")
	default:
		s.notice(w, r, http.StatusOK, "Nothing was done", "The command line was not signed in. End it in its terminal with Ctrl-C.", "")
	}
}
