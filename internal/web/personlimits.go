package web

import (
	"net/http"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/web/ui"
)

// personLimits is what all client keys that a person made may use together, and how far that is used.
func personLimits(reader ui.Reader, u identity.User, used []quota.Used, may bool) part {
	at := under("/people", u.ID, "limits")
	one := part{ID: "limits", Title: "Limits", Table: ui.Table{
		ID: "limit-list", Caption: "What all client keys that this person made may use together", Live: "user", Columns: limitColumns(),
		Empty: ui.Empty{Text: "Nothing is limited.", Command: "signalbox limits set --user " + u.Email + " monthly_tokens=50000000"},
	}}
	one.Table.Rows = limitRows(reader, u.Limits, used)
	if !may {
		return one
	}
	one.Table.Empty.Label, one.Table.Empty.Href, one.Table.Empty.Dialog = "Set limits", at, true
	if len(one.Table.Rows) > 0 {
		one.Acts = []templ.Component{ui.LinkButton("Change the limits", at, ui.Plain, true)}
	}
	return one
}

func (s *site) personLimitsPage(r *http.Request, v visitor, f *fault.Error) (*askedPage, error) {
	u, err := s.Identity.User(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	here := under("/people", u.ID)
	return &askedPage{Frame: s.frame(r, v, "Limits of "+u.Name), Back: here, BackLabel: u.Name, Action: under(here, "limits"), Submit: "Set the limits",
		Lead:   "For all client keys together that " + u.Name + " made, on all trains and over all servers, beside what each key and its train may use. They count at once, for requests that begin after the change.",
		Hidden: v.proving(ui.Hidden{Name: "if_match", Value: u.ETag()}), Inputs: limitFields(u.Limits, typedIn(r, f))}, nil
}

func (s *site) personLimitsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.personLimitsPage(r, v, nil)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// personLimitsSet sets the limits of a person, unless somebody else changed the person since the form was made.
func (s *site) personLimitsSet(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := limitsPosted(r)
	if err == nil {
		_, err = s.Identity.UpdateUser(r.Context(), v.Caller, r.PathValue("id"), identity.UserPatch{Limits: p, IfMatch: r.PostForm.Get("if_match")})
	}
	here := under("/people", r.PathValue("id"))
	s.settled(w, r, v, err, here+"?done=limited", under(here, "limits"), func(f *fault.Error) {
		page, err := s.personLimitsPage(r, v, f)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.limitsAgain(w, r, f, page)
	})
}
