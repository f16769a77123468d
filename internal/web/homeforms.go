package web

import (
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// homesMost is how many there may be to choose from in a list. Where there are more, one types a name.
const homesMost = 200

// homeFields are the fields of a form that choose a client, a service or infrastructure.
type homeFields struct {
	Choices []ui.Choice
	Inputs  []ui.Field
}

// homeWish is one of them: what is chosen now, and what stands where nothing is.
type homeWish struct {
	kind                      vault.HomeKind
	name, label, chosen, none string
}

// homeFields makes fields that choose homes: lists of what the visitor sees, and where that is more than a list holds, names to type.
func (s *site) homeFields(r *http.Request, v visitor, wishes ...homeWish) (out homeFields, err error) {
	for _, wish := range wishes {
		list, next, err := s.Vault.ListHomes(r.Context(), v.Caller, wish.kind, vault.HomeFilter{Limit: homesMost})
		if err != nil {
			return out, err
		}
		ids := map[vault.HomeKind][]string{wish.kind: {wish.chosen}}
		for _, h := range list {
			ids[vault.HomeClient] = append(ids[vault.HomeClient], h.ClientID)
		}
		named, err := s.Vault.HomeNames(r.Context(), v.Caller, ids)
		if err != nil {
			return out, err
		}
		shown := func(h vault.Home) string {
			if client := named[vault.HomeClient][h.ClientID]; client != "" {
				return h.Name + " (" + client + ")"
			}
			return h.Name
		}
		if next != "" {
			f := ui.Field{Name: wish.name, Label: wish.label, Value: wish.chosen, MaxLength: 200, Autocomplete: "off", Optional: true, Hint: "Its whole name, or its id."}
			if name := named[wish.kind][wish.chosen]; name != "" {
				f.Hint = "Now: " + name + ". Another by its whole name, or its id."
			}
			for _, h := range list {
				f.List = append(f.List, ui.Option{Value: h.ID, Label: shown(h)})
			}
			out.Inputs = append(out.Inputs, f)
			continue
		}
		c, found := ui.Choice{Name: wish.name, Label: wish.label, Options: []ui.Option{{Label: wish.none}}}, wish.chosen == ""
		for _, h := range list {
			c.Options = append(c.Options, ui.Option{Value: h.ID, Label: shown(h), Chosen: h.ID == wish.chosen})
			found = found || h.ID == wish.chosen
		}
		if !found { // from before there were such, or not theirs to see: it stays as it is
			c.Options = append(c.Options, ui.Option{Value: wish.chosen, Label: wish.chosen, Chosen: true})
		}
		out.Choices = append(out.Choices, c)
	}
	return out, nil
}

// placeHomes are the fields of a credential that say to what it belongs.
func (s *site) placeHomes(r *http.Request, v visitor, m vault.Meta) (homeFields, error) {
	return s.homeFields(r, v, homeWish{vault.HomeClient, "client_id", "Client", m.ClientID, "nobody in particular"},
		homeWish{vault.HomeService, "service_id", "Service", m.ServiceID, "none"}, homeWish{vault.HomeInfrastructure, "infrastructure_id", "Infrastructure", m.InfrastructureID, "none"})
}

// filterByHome adds to a list's filter bar what narrows it to one home.
func (s *site) filterByHome(r *http.Request, v visitor, p *listPage, kind vault.HomeKind, name, label, chosen string) error {
	fields, err := s.homeFields(r, v, homeWish{kind, name, label, chosen, "any"})
	p.Inputs, p.Choices = append(p.Inputs, fields.Inputs...), append(p.Choices, fields.Choices...)
	return err
}

// homeNamed is the id of the home that a person has typed the whole name of. An id stays, and so does what names none, or stays as it was before: the room
// says what is wrong with that.
func (s *site) homeNamed(r *http.Request, v visitor, kind vault.HomeKind, typed, before string) (string, error) {
	text := strings.TrimSpace(typed)
	if text == "" || text == before || len(text) > 200 {
		return text, nil
	}
	named, err := s.Vault.HomeNames(r.Context(), v.Caller, map[vault.HomeKind][]string{kind: {text}})
	if err != nil || named[kind][text] != "" {
		return text, err
	}
	list, _, err := s.Vault.ListHomes(r.Context(), v.Caller, kind, vault.HomeFilter{Q: text, Limit: 1000})
	if err != nil {
		return text, err
	}
	var found []string
	for _, h := range list {
		if strings.EqualFold(h.Name, text) {
			found = append(found, h.ID)
		}
	}
	if len(found) > 1 {
		return text, fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/"+string(kind)+"_id", "is the name of several; give the id of one, which stands on its page")
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return text, nil
}

// homesPosted puts ids where a form has names of homes.
func (s *site) homesPosted(r *http.Request, v visitor, m *vault.Meta, before vault.Meta) error {
	for _, one := range []struct {
		kind vault.HomeKind
		to   *string
		was  string
	}{{vault.HomeClient, &m.ClientID, before.ClientID}, {vault.HomeService, &m.ServiceID, before.ServiceID}, {vault.HomeInfrastructure, &m.InfrastructureID, before.InfrastructureID}} {
		id, err := s.homeNamed(r, v, one.kind, *one.to, one.was)
		if err != nil {
			return err
		}
		*one.to = id
	}
	return nil
}

// markChoices puts what a fault says beside the lists of a form, and returns the fault without that.
func markChoices(f *fault.Error, choices []ui.Choice) *fault.Error {
	out, placed := fault.New(f.Kind, f.Code, f.Detail), false
	for _, e := range f.Fields {
		mine := false
		for i := range choices {
			if c := &choices[i]; (e.Pointer == "/"+c.Name || strings.HasPrefix(e.Pointer, "/"+c.Name+"/")) && c.Error == "" {
				c.Error, mine, placed = sentence(e.Message), true, true
			}
		}
		if !mine {
			_ = out.With(e.Pointer, e.Message)
		}
	}
	if placed && len(out.Fields) == 0 {
		out.Detail = "A field is not as it must be."
	}
	return out
}

func kindChoice(chosen, none string) ui.Choice {
	c := ui.Choice{Name: "kind", Label: "Kind"}
	if none != "" {
		c.Options = append(c.Options, ui.Option{Label: none})
	}
	for _, kind := range vault.InfrastructureKinds() {
		c.Options = append(c.Options, ui.Option{Value: kind, Label: kind, Chosen: kind == chosen})
	}
	return c
}

// homePosted reads a home from a form.
func (s *site) homePosted(r *http.Request, v visitor, sort homeSort, before vault.HomeMeta) (m vault.HomeMeta, err error) {
	m = vault.HomeMeta{Name: strings.TrimSpace(r.PostForm.Get("name")), Description: strings.ReplaceAll(r.PostForm.Get("description"), "\r\n", "\n")}
	switch sort.kind {
	case vault.HomeClient:
		m.Contact = strings.ReplaceAll(r.PostForm.Get("contact"), "\r\n", "\n")
		return m, nil
	case vault.HomeService:
		m.URL = strings.TrimSpace(r.PostForm.Get("url"))
	case vault.HomeInfrastructure:
		m.Sort, m.Address = r.PostForm.Get("kind"), strings.TrimSpace(r.PostForm.Get("address"))
	}
	m.ClientID, err = s.homeNamed(r, v, vault.HomeClient, r.PostForm.Get("client_id"), before.ClientID)
	return m, err
}

// homeAsked is the form of a home, new or changed.
func (s *site) homeAsked(r *http.Request, v visitor, sort homeSort, m vault.HomeMeta) (*askedPage, error) {
	text := func(name, label, value string, most int, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Hint: hint, Autocomplete: "off", Optional: name != "name"}
	}
	p := &askedPage{Back: sort.path, BackLabel: sort.label}
	p.Inputs = []ui.Field{text("name", "Name", m.Name, 200, "")}
	p.Inputs[0].Focus = true
	switch sort.kind {
	case vault.HomeClient:
		contact := text("contact", "Contact", m.Contact, 500, "Whom to ask there.")
		contact.Rows = 2
		p.Inputs = append(p.Inputs, contact)
	case vault.HomeService:
		p.Inputs = append(p.Inputs, text("url", "Address", m.URL, 2048, "Such as https://app.example.com."))
	case vault.HomeInfrastructure:
		p.Inputs = append(p.Inputs, text("address", "Address", m.Address, 255, "Its name in the network, its address or its range."))
		p.Choices = append(p.Choices, kindChoice(m.Sort, ""))
	}
	description := text("description", "Description", m.Description, 2000, "")
	description.Rows = 2
	p.Inputs = append(p.Inputs, description)
	if sort.kind != vault.HomeClient {
		fields, err := s.homeFields(r, v, homeWish{vault.HomeClient, "client_id", "Client", m.ClientID, "nobody in particular"})
		if err != nil {
			return nil, err
		}
		p.Inputs, p.Choices = append(p.Inputs, fields.Inputs...), append(p.Choices, fields.Choices...)
	}
	return p, nil
}

func (s *site) newHomePage(r *http.Request, v visitor, sort homeSort, m vault.HomeMeta) (*askedPage, error) {
	p, err := s.homeAsked(r, v, sort, m)
	if err != nil {
		return nil, err
	}
	p.Frame, p.Action, p.Submit, p.Hidden = s.frame(r, v, "Add "+sort.a), sort.path, "Store it", v.hidden()
	return p, nil
}

func (s *site) homeForm(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	err := s.Vault.MayKeepHomes(r.Context(), v.Caller, sort.kind)
	var p *askedPage
	if err == nil {
		p, err = s.newHomePage(r, v, sort, vault.HomeMeta{ClientID: r.URL.Query().Get("client_id")})
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) homeMake(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	m, err := s.homePosted(r, v, sort, vault.HomeMeta{})
	var made vault.Home
	if err == nil {
		made, err = s.Vault.CreateHome(r.Context(), v.Caller, sort.kind, m)
	}
	s.settled(w, r, v, err, homePath(sort.kind, made.ID)+"?done=made", sort.path+"/~new", func(f *fault.Error) {
		p, err := s.newHomePage(r, v, sort, m)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, markChoices(f, p.Choices), p)
	})
}

// homeToChange reads a home for a form that changes it.
func (s *site) homeToChange(r *http.Request, v visitor, sort homeSort) (vault.Home, error) {
	if err := identity.Allow(v.Caller, identity.CredentialWrite); err != nil {
		return vault.Home{}, err
	}
	return s.Vault.GetHome(r.Context(), v.Caller, sort.kind, r.PathValue("id"))
}

func (s *site) homeEditPage(r *http.Request, v visitor, sort homeSort, h vault.Home, m vault.HomeMeta) (*askedPage, error) {
	p, err := s.homeAsked(r, v, sort, m)
	if err != nil {
		return nil, err
	}
	p.Frame, p.Action, p.Submit, p.Hidden = s.frame(r, v, "Edit "+h.Name), homePath(sort.kind, h.ID, "edit"), "Save", v.hidden(ui.Hidden{Name: "if_match", Value: h.ETag()})
	p.Back, p.BackLabel = homePath(sort.kind, h.ID), h.Name
	return p, nil
}

func (s *site) homeEditForm(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	h, err := s.homeToChange(r, v, sort)
	var p *askedPage
	if err == nil {
		p, err = s.homeEditPage(r, v, sort, h, h.HomeMeta)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// homeEdit changes a home, unless somebody else did since the form was made.
func (s *site) homeEdit(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	var m vault.HomeMeta
	h, err := s.homeToChange(r, v, sort)
	if err == nil {
		m, err = s.homePosted(r, v, sort, h.HomeMeta)
	} else if fault.KindOf(err) == fault.Forbidden { // the room refuses it, and records that
		_, err = s.Vault.UpdateHome(r.Context(), v.Caller, sort.kind, r.PathValue("id"), vault.HomePatch{}, "")
	}
	if err == nil {
		patch := vault.HomePatch{Name: vault.To(m.Name), Description: vault.To(m.Description)}
		switch sort.kind {
		case vault.HomeClient:
			patch.Contact = vault.To(m.Contact)
		case vault.HomeService:
			patch.URL, patch.ClientID = vault.To(m.URL), vault.To(m.ClientID)
		case vault.HomeInfrastructure:
			patch.Sort, patch.Address, patch.ClientID = vault.To(m.Sort), vault.To(m.Address), vault.To(m.ClientID)
		}
		_, err = s.Vault.UpdateHome(r.Context(), v.Caller, sort.kind, h.ID, patch, r.PostForm.Get("if_match"))
	}
	here := homePath(sort.kind, r.PathValue("id"))
	s.settled(w, r, v, err, here+"?done=changed", here+"/edit", func(f *fault.Error) {
		p, err := s.homeEditPage(r, v, sort, h, m)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, markChoices(f, p.Choices), p)
	})
}

// homeDeletePage asks before a home is deleted, or says what stands in the way.
func (s *site) homeDeletePage(r *http.Request, v visitor, sort homeSort) (ui.Frame, ui.Confirm, error) {
	h, err := s.homeToChange(r, v, sort)
	var left []vault.Dependent
	if err == nil {
		left, err = s.Vault.Dependents(r.Context(), v.Caller, sort.kind, h.ID)
	}
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	c := ui.Confirm{Back: homePath(sort.kind, h.ID), Lead: "The " + sort.one + " " + h.Name + " is deleted for good. What the audit log says of it stays.", Action: homePath(sort.kind, h.ID, "delete"),
		Submit: "Delete the " + sort.one, Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: h.ETag()})}
	if sort.kind != vault.HomeInfrastructure {
		c.Touches = []string{"What was granted on it goes with it.", "Nothing belongs to it."}
	}
	if len(left) > 0 {
		c.Lead, c.Touches, c.Submit = "The "+sort.one+" "+h.Name+" cannot be deleted while something belongs to it. Put this elsewhere, or delete it first:", nil, ""
		for _, d := range left {
			c.Touches = append(c.Touches, d.String())
		}
	}
	return s.frame(r, v, "Delete "+h.Name), c, nil
}

func (s *site) homeDeleteForm(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	frame, c, err := s.homeDeletePage(r, v, sort)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, sort.label, c))
}

func (s *site) homeDelete(w http.ResponseWriter, r *http.Request, v visitor, sort homeSort) {
	err := s.Vault.DeleteHome(r.Context(), v.Caller, sort.kind, r.PathValue("id"), r.PostForm.Get("if_match"))
	here := homePath(sort.kind, r.PathValue("id"))
	s.settled(w, r, v, err, sort.path+"?done=deleted", here+"/delete", func(f *fault.Error) {
		frame, c, err := s.homeDeletePage(r, v, sort)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		if c.Submit != "" { // somebody else changed it
			c.Lead = f.Detail + " " + c.Lead
		}
		s.refuse(w, r, f, confirmView(frame, sort.label, c))
	})
}
