package web

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/web/ui"
)

// devicePage shows the code that is typed on another device, and asks what became of it. What it shows is kept in its form: the server remembers the
// login, not what was shown of it.
type devicePage struct {
	ui.Frame
	Address, Filled, UserCode string
	Hidden                    []ui.Hidden
	Said, Next                string
	Wait                      time.Duration
}

// trigger says when the page asks by itself: no sooner than the provider wants.
func (p *devicePage) trigger() string {
	return "every " + strconv.Itoa(int((p.Wait+time.Second-1)/time.Second)) + "s"
}

// deviceFields are what the form keeps, besides its token. None is the name of something that a form has in the browser anyway, such as its id: a script
// would find the field in its place.
func deviceFields() []string {
	return []string{"login", "user_code", "address", "filled", "at", "next"}
}

func (s *site) devicePage(r *http.Request, v visitor, given url.Values, wait time.Duration, said string) *devicePage {
	p := &devicePage{Frame: s.frame(r, v, "Log in at "+given.Get("at")), Address: webAddress(given.Get("address")), Filled: webAddress(given.Get("filled")), UserCode: given.Get("user_code"),
		Hidden: v.hidden(), Said: said, Next: localPath(given.Get("next")), Wait: wait}
	for _, name := range deviceFields() {
		p.Hidden = append(p.Hidden, ui.Hidden{Name: name, Value: given.Get(name)})
	}
	return p
}

// webAddress is an address that a browser may be led to, else "".
func webAddress(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return text
}

// deviceBegin begins a login with a code that is typed on another device.
func (s *site) deviceBegin(w http.ResponseWriter, r *http.Request, v visitor, start oauth.Start) {
	begun, err := s.Logins.BeginDevice(r.Context(), v.Caller, start)
	if err != nil {
		s.connectRefused(w, r, v, err)
		return
	}
	title := begun.Title
	if title == "" {
		title = begun.Provider
	}
	shown := url.Values{"login": {begun.ID}, "user_code": {begun.UserCode}, "address": {begun.VerifyURL}, "filled": {begun.VerifyURLFilled}, "at": {title}, "next": {start.Next}}
	s.show(w, r, http.StatusOK, deviceView(s.devicePage(r, v, shown, begun.Interval, "Waiting for you to agree there. The code is good until "+s.reader(r).Clock(begun.ExpiresAt)+".")))
}

// devicePoll asks once. A script gets the part that waits, or is sent on; without one the whole page is shown again.
func (s *site) devicePoll(w http.ResponseWriter, r *http.Request, v visitor) {
	got, err := s.Logins.PollDevice(r.Context(), v.Caller, r.PostForm.Get("login"))
	next := localPath(r.PostForm.Get("next"))
	switch f := fault.Of(err); {
	case err != nil && partial(r) && f.Kind != fault.Internal:
		s.show(w, r, http.StatusOK, deviceEnd(f.Detail))
	case err != nil:
		s.refused(w, r, v, err)
	case got.Done && partial(r):
		w.Header().Set("HX-Redirect", next)
		s.show(w, r, http.StatusOK, ui.Text("The login is done."))
	case got.Done:
		http.Redirect(w, r, next, http.StatusSeeOther)
	default:
		p := s.devicePage(r, v, r.PostForm, got.Wait, "Nobody has agreed there yet, or the provider wants to be asked more slowly.")
		if partial(r) {
			s.show(w, r, http.StatusOK, deviceWait(p))
			return
		}
		s.show(w, r, http.StatusOK, deviceView(p))
	}
}
