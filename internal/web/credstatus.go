package web

import (
	"net/http"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// statusPage asks before the status of a credential is changed.
func (s *site) statusPage(r *http.Request, v visitor, to vault.Status) (ui.Frame, ui.Confirm, error) {
	one, err := s.managed(r, v)
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	title, c := "", ui.Confirm{Action: credentialPath(one.ID, "status"), Back: credentialPath(one.ID), Hidden: v.hidden(ui.Hidden{Name: "to", Value: string(to)}, ui.Hidden{Name: "if_match", Value: one.ETag()})}
	switch to {
	case vault.Active:
		title, c.Submit, c.Lead = "Enable "+one.Name, "Enable it", "It can be lent again to whoever may have it."
		if one.Status == vault.Compromised {
			c.Touches = []string{"It was marked as compromised: somebody else may know its secret. Enable it only when it has a new one."}
		}
	case vault.Disabled:
		title, c.Submit, c.Lead = "Disable "+one.Name, "Disable it", "It is lent to nobody any more, and open uses of it are cut. Enabling it undoes that."
	case vault.Compromised:
		title, c.Submit, c.Lead = "Mark "+one.Name+" as compromised", "Mark it", "It is lent to nobody any more, and open uses of it are cut. It is made active again on its page, after it has a new secret."
	default:
		return ui.Frame{}, ui.Confirm{}, fault.New(fault.NotFound, "not_found", "There is no such status to set. A credential can be active, disabled or compromised.")
	}
	if to != vault.Active {
		if c.Touches, err = s.dependents(r, v, []string{one.ID}); err != nil {
			return ui.Frame{}, ui.Confirm{}, err
		}
	}
	return s.frame(r, v, title), c, nil
}

func (s *site) statusForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.statusPage(r, v, vault.Status(r.URL.Query().Get("to")))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, "Credential", c))
}

// status sets whether a credential can be used, unless somebody else changed it since the form was made.
func (s *site) status(w http.ResponseWriter, r *http.Request, v visitor) {
	to := vault.Status(r.PostForm.Get("to"))
	here := credentialPath(r.PathValue("id"))
	_, err := s.Vault.Update(r.Context(), v.Caller, r.PathValue("id"), vault.Patch{State: vault.To(to)}, r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, here+"?done=changed", here+"/status?to="+string(to), func(f *fault.Error) {
		frame, c, err := s.statusPage(r, v, to)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		c.Lead = alertOf(f) + " " + c.Lead
		s.refuse(w, r, f, confirmView(frame, "Credential", c))
	})
}
