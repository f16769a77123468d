package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// bulkMost is how many credentials one form changes.
const bulkMost = 200

// bulkAct is one thing that can be done to several credentials at once.
type bulkAct struct{ name, label, title, lead, submit string }

func bulkActs() []bulkAct {
	return []bulkAct{
		{"tag", "Add tags…", "Add tags", "get the tags that you type.", "Add the tags"},
		{"untag", "Remove tags…", "Remove tags", "lose the tags that you type.", "Remove the tags"},
		{"disable", "Disable…", "Disable", "are lent to nobody any more, and open uses of them are cut. Enabling them again undoes it.", "Disable them"},
		{"enable", "Enable…", "Enable", "can be lent again.", "Enable them"},
		{"rotate", "Rotate each…", "Rotate", "get new secrets, one after the other. The list shows which are done.", ""},
		{"delete", "Delete…", "Delete", "are deleted for good, and the sealed material of all their versions destroyed. What the audit log says of them stays.", "Delete them"},
	}
}

// bulkPage asks before an act on several credentials, and tells what became of it.
type bulkPage struct {
	ui.Frame
	Lead, Alert, Submit string
	Names, Touches      []string
	Hidden              []ui.Hidden
	Inputs              []ui.Field
	Kind                ui.Kind
}

// picked reads which act is meant and whom, from an address or a form.
func (s *site) picked(r *http.Request, v visitor) (bulkAct, []vault.Credential, error) {
	if err := identity.Allow(v.Caller, identity.CredentialWrite); err != nil && !v.may(identity.CredentialWrite) {
		return bulkAct{}, nil, err
	}
	i := slices.IndexFunc(bulkActs(), func(a bulkAct) bool { return a.name == r.Form.Get("act") })
	if i < 0 {
		return bulkAct{}, nil, fault.New(fault.Unprocessable, "validation_failed", "Choose what is to be done to the credentials that are picked.")
	}
	ids := slices.Compact(slices.Sorted(slices.Values(r.Form["id"])))
	if len(ids) == 0 {
		return bulkAct{}, nil, fault.New(fault.Unprocessable, "validation_failed", "No credential is picked. Go back to the list and tick the box of at least one.")
	}
	if len(ids) > bulkMost {
		return bulkAct{}, nil, fault.New(fault.Unprocessable, "validation_failed", "Too many credentials are picked; at most 200 are changed at once.")
	}
	list, _, err := s.Vault.List(r.Context(), v.Caller, vault.Filter{IDs: ids, Limit: bulkMost})
	if err == nil && len(list) == 0 {
		err = fault.New(fault.NotFound, "not_found", "None of the credentials that were picked is there any more, or you may not see them.")
	}
	return bulkActs()[i], list, err
}

func (s *site) bulkPage(r *http.Request, v visitor, act bulkAct, list []vault.Credential) (*bulkPage, error) {
	reader := s.reader(r)
	p := &bulkPage{Frame: s.frame(r, v, act.title+" "+reader.Count(len(list), "credential")), Submit: act.submit, Lead: "These " + act.lead, Hidden: v.hidden(ui.Hidden{Name: "act", Value: act.name})}
	if len(list) == 1 {
		p.Lead = "This " + strings.Replace(strings.Replace(act.lead, "are ", "is ", 1), "their", "its", 1)
	}
	var ids []string
	for _, c := range list {
		p.Names = append(p.Names, c.Name+" ("+string(c.Type)+")")
		p.Hidden = append(p.Hidden, ui.Hidden{Name: "id", Value: c.ID})
		ids = append(ids, c.ID)
	}
	switch act.name {
	case "tag", "untag":
		p.Inputs = []ui.Field{{Name: "tags", Label: "Tags", MaxLength: 1000, Autocomplete: "off", Focus: true, Hint: "Several are separated by commas."}}
	case "delete", "disable":
		p.Kind = ui.Danger
		touches, err := s.dependents(r, v, ids)
		if err != nil {
			return nil, err
		}
		p.Touches = touches
		if act.name == "delete" {
			p.Inputs = []ui.Field{{Name: "typed", Label: "Type " + deleteWord(reader, list) + " to go on", Autocomplete: "off", MaxLength: 40}}
		}
	}
	return p, nil
}

func deleteWord(reader ui.Reader, list []vault.Credential) string {
	return "delete " + reader.Number(int64(len(list)))
}

// dependents says which trains are lent credentials, as far as the visitor may know.
func (s *site) dependents(r *http.Request, v visitor, ids []string) ([]string, error) {
	if !v.mayAll(identity.TrainRead) {
		return []string{"Every train that is lent one of them loses it at once. Your role does not see which trains those are."}, nil
	}
	lenders, err := s.Trains.Lenders(r.Context(), v.Caller, ids)
	if err != nil {
		return nil, err
	}
	if len(lenders) == 0 {
		return []string{"No train is linked to what is named here."}, nil
	}
	var out []string
	count := map[string]int{}
	for _, l := range lenders {
		count[l.Train.Slug]++
	}
	if n := count[""]; n > 0 {
		out = append(out, "Private trains that you are no member of lose "+s.reader(r).Count(n, "link")+", and open uses are cut.")
		delete(count, "")
	}
	for _, l := range lenders {
		if n := count[l.Train.Slug]; n > 0 {
			out = append(out, "The train "+l.Train.Slug+" loses "+s.reader(r).Count(n, "linked credential")+" of "+s.reader(r).Number(int64(l.Train.Links))+", and open uses are cut.")
			count[l.Train.Slug] = 0
		}
	}
	return out, nil
}

func (s *site) bulkForm(w http.ResponseWriter, r *http.Request, v visitor) {
	_ = r.ParseForm() // an address that cannot be read names nothing
	act, list, err := s.picked(r, v)
	if err == nil && act.name == "rotate" {
		s.rotations(w, r, v, act, list)
		return
	}
	var p *bulkPage
	if err == nil {
		p, err = s.bulkPage(r, v, act, list)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, bulkView(p))
}

// bulk does one act to each credential that was picked, one after the other, and says what became of it.
func (s *site) bulk(w http.ResponseWriter, r *http.Request, v visitor) {
	act, list, err := s.picked(r, v)
	if err == nil && act.name == "rotate" {
		err = fault.New(fault.Unprocessable, "validation_failed", "New secrets are given one by one. Open the list of what is to be rotated, and rotate each there.")
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader := s.reader(r)
	tags := split(r.PostForm.Get("tags"))
	var wrong string
	switch {
	case (act.name == "tag" || act.name == "untag") && len(tags) == 0:
		wrong = "Type at least one tag."
	case act.name == "delete" && r.PostForm.Get("typed") != deleteWord(reader, list):
		wrong = "This is not what was to be typed, so nothing was deleted."
	}
	if wrong != "" {
		p, err := s.bulkPage(r, v, act, list)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Inputs[0].Error, p.Inputs[0].Value = wrong, r.PostForm.Get(p.Inputs[0].Name)
		s.show(w, r, http.StatusUnprocessableEntity, bulkView(p))
		return
	}
	p := &bulkPage{Frame: s.frame(r, v, act.title)}
	done := 0
	for _, c := range list {
		err := s.Admit(r.Context(), v.Caller) // each is an act of its own
		if err == nil {
			err = s.bulkOne(r, v, act, c, tags)
		}
		if f := fault.Of(err); err != nil && (f.Kind == fault.Internal || f.Kind == fault.Unavailable) {
			s.refused(w, r, v, err)
			return
		}
		if err != nil {
			p.Touches = append(p.Touches, c.Name+": "+alertOf(fault.Of(err)))
			continue
		}
		done++
	}
	p.Lead = "Done to " + reader.Count(done, "credential") + "."
	if len(p.Touches) > 0 {
		p.Lead += " " + reader.Number(int64(len(p.Touches))) + " stayed as they were."
	}
	s.show(w, r, http.StatusOK, bulkDoneView(p))
}

func (s *site) bulkOne(r *http.Request, v visitor, act bulkAct, c vault.Credential, tags []string) error {
	var p vault.Patch
	seen := c.ETag()
	switch act.name {
	case "tag":
		all := slices.Clone(c.Tags)
		for _, t := range tags {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
		p.Tags = vault.To(all)
	case "untag":
		p.Tags = vault.To(slices.DeleteFunc(slices.Clone(c.Tags), func(t string) bool { return slices.Contains(tags, t) }))
	case "disable": // whatever state it is in: nobody has looked at it, and the vault refuses what only somebody who has may do
		p.State, seen = vault.To(vault.Disabled), ""
	case "enable":
		p.State, seen = vault.To(vault.Active), ""
	case "delete":
		return s.Logins.Delete(r.Context(), v.Caller, c.ID, c.ETag())
	default:
		return errors.New("web: an unknown act")
	}
	_, err := s.Vault.Update(r.Context(), v.Caller, c.ID, p, seen)
	return err
}

// split reads a list that a person typed: separated by commas or line ends.
func split(text string) []string {
	out := []string{}
	for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == '\n' || c == '\r' }) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
