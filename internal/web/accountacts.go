package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// mostAtOnce bounds what one form does: more would outlast the connection.
const mostAtOnce = 100

// refreshTime bounds the calls of one form to providers, one after the other.
const refreshTime = 40 * time.Second

// outcomePage is what became of an act on several things.
type outcomePage struct {
	ui.Frame
	Table ui.Table
	Back  string
}

// switched pauses, drains or resumes an account; the vault refuses to resume what would not be lent all the same.
func (s *site) switched(r *http.Request, v visitor, id string, to vault.LendingState) (vault.Credential, error) {
	c, err := s.Vault.SetLending(r.Context(), v.Caller, id, to, "")
	if err != nil { // its name, for the list of what became of each
		if was, missing := s.Vault.Get(r.Context(), v.Caller, id); missing == nil {
			c = was
		}
	}
	return c, err
}

// accountSwitch is the form of one account.
func (s *site) accountSwitch(to vault.LendingState, done string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		id := r.PathValue("account")
		_, err := s.switched(r, v, id, to)
		s.settled(w, r, v, err, accountPath(id)+"?done="+done, accountPath(id), nil)
	}
}

// accountsAct does something with the picked accounts, each for itself, and tells of each what became of it.
func (s *site) accountsAct(w http.ResponseWriter, r *http.Request, v visitor) {
	ids := slices.Compact(slices.Sorted(slices.Values(r.PostForm["id"])))
	act, titles := r.PostForm.Get("act"), map[string]string{"pause": "Paused accounts", "drain": "Drained accounts", "resume": "Resumed accounts", "refresh": "Refreshed accounts"}
	switch {
	case titles[act] == "":
		s.refused(w, r, v, fault.New(fault.Unprocessable, "validation_failed", "There is no such act. Nothing was done."))
		return
	case len(ids) == 0:
		s.refused(w, r, v, fault.New(fault.Unprocessable, "validation_failed", "Nothing was picked, so nothing was done. Tick the boxes before the accounts."))
		return
	case len(ids) > mostAtOnce:
		s.refused(w, r, v, fault.New(fault.Unprocessable, "validation_failed", "At most 100 accounts can be changed at once. Nothing was done."))
		return
	}
	p := &outcomePage{Frame: s.frame(r, v, titles[act]), Back: "/accounts", Table: ui.Table{ID: "outcomes", Caption: "What became of each", Columns: []ui.Column{{Label: "Account"}, {Label: "Outcome"}, {Label: "Why"}}}}
	until := time.Now().Add(refreshTime)
	for _, id := range ids {
		name, tone, said, why := id, ui.Good, "", ""
		var c vault.Credential
		err := s.Admit(r.Context(), v.Caller) // each is an act of its own
		switch {
		case err != nil:
		case act == "pause":
			said = "paused"
			c, err = s.switched(r, v, id, vault.Paused)
		case act == "drain":
			said = "drained"
			c, err = s.switched(r, v, id, vault.Drained)
		case act == "resume":
			said = "lent again"
			c, err = s.switched(r, v, id, vault.Lent)
		default:
			if time.Now().After(until) {
				err = fault.New(fault.Unavailable, "not_reached", "The calls before it took too long. Refresh it by itself.")
				break
			}
			var now oauth.Connection
			if now, said, err = s.refreshed(r, v, id); err == nil {
				name = now.Name
			}
		}
		if c.Name != "" {
			name = c.Name
		}
		if err != nil {
			f := fault.Of(err)
			if f.Code == "step_up_required" { // the first of them wants it, so nothing was done yet
				s.settled(w, r, v, err, "", "/accounts", nil)
				return
			}
			tone, said, why = ui.Bad, "failed", f.Detail
		}
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: id, Name: name, Cells: []templ.Component{ui.Link(name, accountPath(id)), ui.Badge(tone, said), ui.Text(why)}})
	}
	s.show(w, r, http.StatusOK, outcomeView(p))
}

// refreshed has the tokens of a credential refreshed now, and says what became of it.
func (s *site) refreshed(r *http.Request, v visitor, id string) (oauth.Connection, string, error) {
	if s.OAuth == nil {
		return oauth.Connection{}, "", fault.New(fault.Unavailable, "not_here", "This instance refreshes no tokens.")
	}
	c, err := s.OAuth.Refresh(r.Context(), v.Caller, id)
	if err != nil {
		return c, "", err
	}
	return c, "refreshed", nil
}

// accountRefresh is the form of one account, and of one connection.
func (s *site) accountRefresh(w http.ResponseWriter, r *http.Request, v visitor) {
	s.refreshOne(w, r, v, r.PathValue("account"), accountPath(r.PathValue("account")))
}

// refreshOne refreshes and leads back, with the outcome in a sentence above the page.
func (s *site) refreshOne(w http.ResponseWriter, r *http.Request, v visitor, id, here string) {
	_, _, err := s.refreshed(r, v, id)
	if f := fault.Of(err); err != nil && f.Kind != fault.Forbidden && f.Kind != fault.NotFound && f.Kind != fault.Internal && f.Code != "step_up_required" {
		s.refuse(w, r, f, refreshFailedView(s.frame(r, v, "The refresh did not work"), here, f.Detail, s.mayLogIn(v), id))
		return
	}
	s.settled(w, r, v, err, here+"?done=refreshed", here, nil)
}

func (s *site) mayLogIn(v visitor) bool { return s.changes(v, identity.CredentialWrite) }
