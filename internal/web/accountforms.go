package web

import (
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

func (s *site) accountTrainsPage(r *http.Request, v visitor, id string, chosen []string) (*askedPage, error) {
	if err := identity.Allow(v.Caller, identity.TrainWrite); err != nil {
		return nil, err
	}
	c, err := s.Vault.Get(r.Context(), v.Caller, id)
	if err != nil {
		return nil, err
	}
	stands, err := s.standings(r.Context(), v, []vault.Credential{c})
	if err != nil {
		return nil, err
	}
	choice, err := s.trainChoice(r, v, stands[c.ID].Trains, chosen)
	if err != nil {
		return nil, err
	}
	p := &askedPage{Frame: s.frame(r, v, "Link "+c.Name+" to trains"), Back: accountPath(c.ID), BackLabel: c.Name, Action: accountPath(c.ID, "trains"), Submit: "Link it", Hidden: v.hidden(), Choices: []ui.Choice{choice}}
	if len(choice.Options) == 0 {
		p.Lead = "Every train has it already."
	}
	return p, nil
}

func (s *site) accountTrainsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.accountTrainsPage(r, v, r.PathValue("account"), nil)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) accountTrains(w http.ResponseWriter, r *http.Request, v visitor) {
	chosen := r.PostForm["train"]
	if len(chosen) == 0 {
		p, err := s.accountTrainsPage(r, v, r.PathValue("account"), nil)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Choices[0].Error = "Tick at least one train."
		s.show(w, r, http.StatusUnprocessableEntity, askedView(p))
		return
	}
	c, err := s.accountOf(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.linkedTo(w, r, v, c, chosen, "linked")
}

func (s *site) accountSettingsPage(r *http.Request, v visitor, now, shown vault.Credential) *askedPage {
	p := &askedPage{Frame: s.frame(r, v, "Settings of "+now.Name), Back: accountPath(now.ID), BackLabel: now.Name, Action: accountPath(now.ID, "settings"), Submit: "Change",
		Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: now.ETag()}), Inputs: accountFields(shown, false)}
	p.Inputs = append(p.Inputs, ui.Field{Name: "hosts", Label: "Sent only to these hosts", Value: strings.Join(shown.Hosts, " "), MaxLength: 2000, Autocomplete: "off", Optional: true,
		Hint: "Hosts, or host:port, with spaces between. That of the base URL when it is left out."})
	return p
}

func (s *site) accountSettingsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	c, err := s.accountForChange(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.accountSettingsPage(r, v, c, c)))
}

// accountSettings changes an account, unless somebody else did since the form was made.
func (s *site) accountSettings(w http.ResponseWriter, r *http.Request, v visitor) {
	draft := accountPosted(r)
	draft.Hosts = strings.Fields(r.PostForm.Get("hosts"))
	patch := vault.Patch{Name: vault.To(draft.Name), BaseURL: vault.To(draft.BaseURL), Description: vault.To(draft.Description), Hosts: vault.To(draft.Hosts)}
	here := accountPath(r.PathValue("account"))
	_, err := s.Vault.Update(r.Context(), v.Caller, r.PathValue("account"), patch, r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, here+"?done=changed", here+"/settings", func(f *fault.Error) {
		now, err := s.accountForChange(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, s.accountSettingsPage(r, v, now, draft))
	})
}

func (s *site) accountKeyPage(r *http.Request, v visitor) (*askedPage, error) {
	c, err := s.accountForChange(r, v)
	if err != nil {
		return nil, err
	}
	if c.Type != vault.APIKey {
		return nil, fault.New(fault.Conflict, "state_conflict", "This account is a login. Log in again to give it new tokens.")
	}
	return &askedPage{Frame: s.frame(r, v, "A new key for "+c.Name), Back: accountPath(c.ID), BackLabel: c.Name, Action: accountPath(c.ID, "key"), Submit: "Use the new key", Hidden: v.hidden(),
		Lead: "From then on the new key is lent. The old one is kept, sealed, as an older version.",
		Inputs: []ui.Field{
			{Name: "api_key", Label: "API key", Type: "password", Autocomplete: "off", MaxLength: 8192, Focus: true},
			{Name: "reason", Label: "Reason", MaxLength: 500, Autocomplete: "off", Optional: true, Hint: "Kept with the version."},
		}}, nil
}

func (s *site) accountKeyForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.accountKeyPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) accountKey(w http.ResponseWriter, r *http.Request, v visitor) {
	here := accountPath(r.PathValue("account"))
	key := secret.FromString(strings.TrimSpace(r.PostForm.Get("api_key")))
	_, err := s.Vault.Rotate(r.Context(), v.Caller, r.PathValue("account"), map[string]secret.Value{"api_key": key}, r.PostForm.Get("reason"))
	s.settled(w, r, v, err, here+"?done=rotated", here+"/key", func(f *fault.Error) {
		p, err := s.accountKeyPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Inputs[1].Value = r.PostForm.Get("reason")
		s.again(w, r, keyFault(f), p)
	})
}

func (s *site) accountDeletePage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, error) {
	c, err := s.accountForChange(r, v)
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	stands, err := s.standings(r.Context(), v, []vault.Credential{c})
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	touches := []string{"The sealed material of all its versions is destroyed."}
	if n := len(stands[c.ID].Trains); n > 0 {
		touches = append(touches, s.reader(r).Count(n, "train")+" may not be lent it any more, and open uses of it are cut.")
	}
	if c.Type == vault.OAuth {
		touches = append(touches, "What the provider issued is revoked there, if the provider offers that.")
	}
	return s.frame(r, v, "Delete "+c.Name), ui.Confirm{
		Lead: "The account " + c.Name + " is deleted for good. What the audit log says of it stays.", Touches: touches,
		Action: accountPath(c.ID, "delete"), Submit: "Delete the account", Back: accountPath(c.ID), Hidden: v.hidden(), Type: c.Name,
	}, nil
}

func (s *site) accountDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.accountDeletePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, "Account", c))
}

func (s *site) accountDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.accountDeletePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	if r.PostForm.Get("typed") != c.Type {
		c.Wrong = "This is not the account's name, so nothing was done."
		s.show(w, r, http.StatusUnprocessableEntity, confirmView(frame, "Account", c))
		return
	}
	s.settled(w, r, v, s.Logins.Delete(r.Context(), v.Caller, r.PathValue("account"), ""), "/accounts?done=deleted", c.Action, nil)
}
