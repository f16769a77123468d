package web

import (
	"net/http"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

func personSaid() map[string]string {
	return map[string]string{
		"changed": "The person was changed.", "factors": "Their second factors were removed, and their sessions ended.", "deactivate": "The person was deactivated. Their sessions and tokens ended.",
		"activate": "The person may sign in again.", "session": "The session was ended.", "revoked": "The token was revoked.",
		"limited": "The limits were set. They count for requests that begin from now on.",
	}
}

func (s *site) person(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.personPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, personSaid())
	s.show(w, r, http.StatusOK, oneView(p))
}

func (s *site) personPage(r *http.Request, v visitor) (*onePage, error) {
	u, err := s.Identity.User(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	factors, err := s.Identity.Factors(r.Context(), v.Caller, u.ID)
	if err != nil {
		return nil, err
	}
	reader, here, mine := s.reader(r), under("/people", u.ID), u.ID == v.UserID
	p := &onePage{Frame: s.frame(r, v, u.Name), Back: "/people", BackLabel: "People", FactsTitle: "Person"}
	if !v.may(identity.UserRead) {
		p.Back, p.BackLabel = "/account", "Your account"
	}
	p.Facts = []ui.Fact{
		{Term: "E-mail", Value: ui.Text(u.Email)}, {Term: "Role", Value: ui.Text(string(u.Role) + ": " + roleMeaning(u.Role))}, {Term: "State", Value: userBadge(u)},
		{Term: "Second factors", Value: factorsFact(factors)}, {Term: "Last sign-in", Value: ui.WhenOr(reader, u.LastLoginAt, "never")}, {Term: "Added", Value: ui.When(reader, u.CreatedAt)},
	}
	p.Facts = append(p.Facts, s.usedFact(v, "user_id", u.ID)...)
	p.Facts = append(p.Facts, s.radiusFact(v, u.ID)...)
	if s.changes(v, identity.UserWrite) {
		p.Acts = append(p.Acts, act{"Edit", under(here, "edit")})
		if !mine && u.Active {
			password := "Reset the password…"
			if u.Invited {
				password = "New invitation…"
			}
			p.Acts = append(p.Acts, act{password, under(here, "password")})
		}
		if !mine && factors.Any() {
			p.Acts = append(p.Acts, act{"Reset second factors…", under(here, "factors")})
		}
		if u.Active && !mine {
			p.Acts = append(p.Acts, act{"Deactivate…", under(here, "deactivate")})
		} else if !u.Active {
			p.Acts = append(p.Acts, act{"Activate…", under(here, "activate")})
		}
	}
	used, err := s.Trains.PersonLimitsUsed(r.Context(), v.Caller, u.ID)
	if err != nil {
		return nil, err
	}
	p.Parts = append(p.Parts, personLimits(reader, u, used, s.changes(v, identity.UserWrite)))
	sessions, err := s.Identity.ListSessions(r.Context(), v.Caller, u.ID)
	if err != nil {
		return nil, err
	}
	p.Parts = append(p.Parts, part{ID: "sessions", Title: "Sessions", Table: sessionTable(reader, v, here, sessions)})
	if mine || v.may(identity.UserRead) {
		tokens, next, err := s.Identity.ListTokens(r.Context(), v.Caller, identity.TokenFilter{UserID: u.ID, Limit: pageSize, Cursor: r.URL.Query().Get("tokens")})
		if err != nil {
			return nil, err
		}
		may := s.changes(v, identity.TokenWrite) && (mine || v.may(identity.UserWrite))
		one := part{ID: "tokens", Title: "Tokens", Table: tokenTable(reader, tokens, may, here)}
		one.Table.Empty = ui.Empty{Text: "This person has no personal access token.", Command: "signalbox token list"}
		if may && u.Active {
			one.Acts = []templ.Component{ui.LinkButton("Issue a token", "/tokens/~new?person="+u.ID, ui.Plain, true)}
		}
		if next != "" {
			one.Table.Next = here + "?tokens=" + next + "#tokens"
		}
		p.Parts = append(p.Parts, one)
	}
	return p, nil
}

func factorsFact(f identity.Factors) templ.Component {
	text := factorKindsText(identity.FactorKinds{App: f.TOTPSince != nil, Passkeys: len(f.Passkeys)})
	switch {
	case text != "":
		return ui.Text(text)
	case f.Demanded:
		return ui.Badge(ui.Warn, "none yet, and the role needs one")
	}
	return ui.Faint("none")
}

// sessionTable lists sessions. Ending one is not a change of settings, and goes on while Signalbox is read-only.
func sessionTable(reader ui.Reader, v visitor, here string, list []identity.Session) ui.Table {
	t := ui.Table{ID: "session-list", Caption: "Where this person is signed in", Live: "session",
		Columns: []ui.Column{{Label: "Browser or program"}, {Label: "Address"}, {Label: "Signed in with"}, {Label: "Since"}, {Label: "Last used"}, {Label: "Ends"}},
		Empty:   ui.Empty{Text: "This person is signed in nowhere."}}
	if v.may(identity.UserWrite) {
		t.Columns = append(t.Columns, ui.Column{Label: "End", Unseen: true})
	}
	for _, one := range list {
		with := ""
		for _, proof := range one.Proofs {
			if with != "" {
				with += ", "
			}
			with += string(proof)
		}
		row := ui.Row{ID: one.ID, Cells: []templ.Component{ui.Text(agentText(one.UserAgent)), ui.Text(one.IP), ui.Text(with), ui.When(reader, one.CreatedAt),
			ui.When(reader, one.LastUsedAt), ui.When(reader, one.ExpiresAt)}}
		if v.may(identity.UserWrite) {
			end := ui.Faint("this one")
			if one.ID != v.SessionID {
				end = ui.OneButton(under(here, "sessions", one.ID, "end"), ui.Button{Label: "End", Kind: ui.Plain, Small: true, Says: "End the session of " + agentText(one.UserAgent)}, v.hidden()...)
			}
			row.Cells = append(row.Cells, end)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (s *site) personEndSession(w http.ResponseWriter, r *http.Request, v visitor) {
	here := under("/people", r.PathValue("id"))
	s.settled(w, r, v, s.Identity.EndSession(r.Context(), v.Caller, r.PathValue("session")), here+"?done=session", here, nil)
}

func (s *site) editingPage(r *http.Request, v visitor, u, shown identity.User) (*askedPage, error) {
	sessions, err := s.Identity.ListSessions(r.Context(), v.Caller, u.ID)
	if err != nil {
		return nil, err
	}
	here := under("/people", u.ID)
	p := &askedPage{Frame: s.frame(r, v, "Edit "+u.Name), Back: here, BackLabel: u.Name, Action: under(here, "edit"), Submit: "Save", Hidden: v.proving(ui.Hidden{Name: "if_match", Value: u.ETag()}),
		Inputs: []ui.Field{
			{Name: "name", Label: "Name", Value: shown.Name, MaxLength: 100, Autocomplete: "off", Focus: true},
			{Name: "email", Label: "E-mail", Type: "email", Value: shown.Email, MaxLength: 254, Autocomplete: "off", Hint: "They sign in with it from now on."},
		}}
	if u.ID != v.UserID {
		p.Choices = []ui.Choice{{Name: "role", Label: "Role", Options: roleOptions(shown.Role), Hint: "Another role ends " + s.reader(r).Count(len(sessions), "session") +
			" of theirs. Their tokens stay, and may do no more than the new role."}}
	}
	return p, nil
}

func (s *site) personEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	u, err := s.Identity.User(r.Context(), v.Caller, r.PathValue("id"))
	var p *askedPage
	if err == nil {
		p, err = s.editingPage(r, v, u, u)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) personEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id, here := r.PathValue("id"), under("/people", r.PathValue("id"))
	name, email, role := r.PostForm.Get("name"), r.PostForm.Get("email"), identity.Role(r.PostForm.Get("role"))
	patch := identity.UserPatch{Name: &name, Email: &email, IfMatch: r.PostForm.Get("if_match")}
	if r.PostForm.Has("role") {
		patch.Role = &role
	}
	_, err := s.Identity.UpdateUser(r.Context(), v.Caller, id, patch)
	s.settled(w, r, v, err, here+"?done=changed", under(here, "edit"), func(f *fault.Error) {
		u, err := s.Identity.User(r.Context(), v.Caller, id)
		var p *askedPage
		if err == nil {
			p, err = s.editingPage(r, v, u, identity.User{Name: name, Email: email, Role: role})
		}
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

// personActPage asks before something is done to a person, and says how many sessions and tokens it ends.
func (s *site) personActPage(r *http.Request, v visitor, what string) (ui.Frame, ui.Confirm, identity.User, error) {
	var c ui.Confirm
	u, err := s.Identity.User(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return ui.Frame{}, c, u, err
	}
	sessions, err := s.Identity.ListSessions(r.Context(), v.Caller, u.ID)
	if err != nil {
		return ui.Frame{}, c, u, err
	}
	tokens, _, err := s.Identity.ListTokens(r.Context(), v.Caller, identity.TokenFilter{UserID: u.ID, Status: identity.StatusActive, Limit: identity.MaxTokens})
	if err != nil {
		return ui.Frame{}, c, u, err
	}
	reader, here, title := s.reader(r), under("/people", u.ID), ""
	c = ui.Confirm{Action: under(here, what), Back: here, Hidden: v.proving()}
	ended, keep := reader.Count(len(sessions), "session")+" of theirs: ended at once", reader.Count(len(tokens), "active token")+" of theirs: stay"
	switch what {
	case "password":
		title, c.Submit = "Reset the password of "+u.Name, "Reset the password"
		c.Lead = "The password of " + u.Name + " stops working. You get a link that works once, by which they set a new one."
		c.Touches = []string{ended, keep}
		if u.Invited {
			title, c.Submit, c.Lead = "A new invitation for "+u.Name, "Make a new invitation", "You get another link that works once. The one before does not work any more."
			c.Touches = nil
		}
	case "factors":
		title, c.Submit = "Reset the second factors of "+u.Name, "Remove them"
		c.Lead = "For somebody who has lost theirs: app, passkeys and recovery codes of " + u.Name + " are removed, and the password alone signs them in, unless their role needs another factor."
		c.Touches = []string{ended, keep}
	case "deactivate":
		title, c.Submit = "Deactivate "+u.Name, "Deactivate"
		c.Lead = u.Name + " cannot sign in any more. What they own stays, and what the audit log says of them too."
		lost, err := s.keysLostBy(r, v, u)
		if err != nil {
			return ui.Frame{}, c, u, err
		}
		c.Touches = append([]string{ended, reader.Count(len(tokens), "active token") + " of theirs: revoked for good", "An open invitation or reset link does not work any more."}, lost...)
	case "activate":
		title, c.Submit = "Activate "+u.Name, "Activate"
		c.Lead = u.Name + " may sign in again, as " + string(u.Role) + ". Tokens and client keys that were revoked stay revoked."
	}
	return s.frame(r, v, title), c, u, nil
}

// keysLostBy says which client keys a deactivation ends, as far as the visitor may be told of their trains, and which it leaves.
func (s *site) keysLostBy(r *http.Request, v visitor, u identity.User) ([]string, error) {
	where := "private trains"
	if identity.TrainRead.Of(u.Role) != identity.Everything {
		where += " and on trains that they are a member of"
	}
	var ends []identity.Key
	if u.Active {
		var err error
		if ends, err = s.Trains.KeysLostBy(r.Context(), v.Caller, u.ID); err != nil {
			return nil, err
		}
	}
	if len(ends) == 0 {
		return []string{"Client keys that they made stay, but for any that they made on " + where + "."}, nil
	}
	out := append([]string{s.reader(r).Count(len(ends), "client key") + " that they made on " + where + ": revoked for good, and every agent that has one is cut off at once"}, s.keysNamed(r, ends)...)
	return append(out, "Other client keys that they made stay: revoke those that they know."), nil
}

func (s *site) personActForm(what string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		frame, c, u, err := s.personActPage(r, v, what)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.show(w, r, http.StatusOK, confirmView(frame, u.Name, c))
	}
}

func (s *site) personAct(what string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		id, here := r.PathValue("id"), under("/people", r.PathValue("id"))
		var err error
		switch on := what == "activate"; what {
		case "password":
			var u identity.User
			var link identity.Link
			if u, link, err = s.Identity.ResetPassword(r.Context(), v.Caller, id); err == nil {
				s.linkOnce(w, r, v, u, &link, "A new password for "+u.Name)
				return
			}
		case "factors":
			err = s.Identity.ResetFactors(r.Context(), v.Caller, id)
		default:
			_, err = s.Identity.UpdateUser(r.Context(), v.Caller, id, identity.UserPatch{Active: &on})
		}
		s.settled(w, r, v, err, here+"?done="+what, under(here, what), nil)
	}
}
