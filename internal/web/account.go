package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// accountPage is what people see and change of themselves.
type accountPage struct {
	ui.Frame
	Alert, Done      string
	Email, Role      string
	Form             string
	Profile, Changed []ui.Field // the fields of the two forms
	Sessions         []sessionLine
	Others           bool
	Factors          string
	HasFactors       bool
}

type sessionLine struct {
	ID, Agent, IP, Since string
	Began, Used          templ.Component
	Current              bool
}

func (s *site) accountPage(r *http.Request, v visitor) (*accountPage, error) {
	user, err := s.Identity.User(r.Context(), v.Caller, v.UserID)
	if err != nil {
		return nil, err
	}
	sessions, err := s.Identity.ListSessions(r.Context(), v.Caller, "")
	if err != nil {
		return nil, err
	}
	p := &accountPage{
		Frame: s.frame(r, v, "Your account"), Email: user.Email, Role: string(user.Role), Form: v.formToken(),
		Profile: []ui.Field{{Name: "name", Label: "Name", Type: "text", Value: user.Name, Autocomplete: "name", MaxLength: 200, Hint: "As it appears in the audit log from now on."}},
		Changed: []ui.Field{passwordInput("current_password", "Current password", "current-password"), passwordInput("new_password", "New password", "new-password")},
		Others:  len(sessions) > 1,
	}
	have, err := s.Identity.Factors(r.Context(), v.Caller, "")
	if err != nil {
		return nil, err
	}
	p.Factors, p.HasFactors = factorsText(have), have.Any()
	reader := s.reader(r)
	for _, one := range sessions {
		p.Sessions = append(p.Sessions, sessionLine{
			ID: one.ID, Agent: agentText(one.UserAgent), IP: one.IP, Since: clock(one.CreatedAt), Began: ui.When(reader, one.CreatedAt), Used: ui.When(reader, one.LastUsedAt), Current: one.ID == v.SessionID,
		})
	}
	return p, nil
}

// factorsText says in a sentence what a person has besides the password.
func factorsText(f identity.Factors) string {
	if !f.Any() {
		return "The password alone signs you in."
	}
	var parts []string
	if f.TOTPSince != nil {
		parts = append(parts, "an authenticator app")
	}
	switch n := len(f.Passkeys); n {
	case 0:
	case 1:
		parts = append(parts, "a passkey")
	default:
		parts = append(parts, strconv.Itoa(n)+" passkeys")
	}
	return "You have " + strings.Join(parts, " and ") + ", and " + strconv.Itoa(f.RecoveryCodes) + " recovery codes."
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// done are the sentences for what an address of this page may say was done.
func done(what string) string {
	switch what {
	case "name":
		return "Your name was changed."
	case "password":
		return "Your password was changed, and your other sessions ended."
	case "session":
		return "The session was ended."
	case "sessions":
		return "Your other sessions were ended."
	}
	return ""
}

func (s *site) account(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.accountPage(r, v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p.Done = done(r.URL.Query().Get("done"))
	s.show(w, r, http.StatusOK, accountView(p))
}

// settle leads back to the account page, or shows it with what was wrong.
func (s *site) settle(w http.ResponseWriter, r *http.Request, v visitor, what string, err error) {
	if err == nil {
		http.Redirect(w, r, "/account?done="+what, http.StatusSeeOther)
		return
	}
	f := fault.Of(err)
	if f.Kind != fault.Unprocessable && f.Code != "password_wrong" && f.Kind != fault.TooMany && f.Kind != fault.NotFound {
		s.fail(w, r, err)
		return
	}
	p, err := s.accountPage(r, v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	fields := p.Changed
	if what == "name" {
		fields = p.Profile
		fields[0].Value = r.PostForm.Get("name")
	}
	p.Alert = markInputs(fields, f)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	s.show(w, r, f.Kind.Status(), accountView(p))
}

func (s *site) changeName(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.PostForm.Get("name")
	_, err := s.Identity.UpdateUser(r.Context(), v.Caller, v.UserID, identity.UserPatch{Name: &name})
	s.settle(w, r, v, "name", err)
}

func (s *site) changePassword(w http.ResponseWriter, r *http.Request, v visitor) {
	in, err := s.Identity.ChangePassword(r.Context(), v.Caller, secret.FromString(r.PostForm.Get("current_password")), secret.FromString(r.PostForm.Get("new_password")))
	if err == nil {
		http.SetCookie(w, in.Cookie())
	}
	s.settle(w, r, v, "password", err)
}

func (s *site) endSession(w http.ResponseWriter, r *http.Request, v visitor) {
	s.settle(w, r, v, "session", s.Identity.EndSession(r.Context(), v.Caller, r.PathValue("id")))
}

func (s *site) endOtherSessions(w http.ResponseWriter, r *http.Request, v visitor) {
	_, err := s.Identity.EndOtherSessions(r.Context(), v.Caller)
	s.settle(w, r, v, "sessions", err)
}
