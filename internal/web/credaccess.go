package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

func (p *credentialPage) targetActs() []templ.Component {
	if !p.May.Manage || !p.May.Reveal {
		return nil
	}
	return []templ.Component{ui.LinkButton("Change", credentialPath(p.One.ID, "destination"), ui.Plain, true)}
}

func (p *credentialPage) grantActs() []templ.Component {
	if !p.May.Grant {
		return nil
	}
	return []templ.Component{ui.LinkButton("Give a grant", credentialPath(p.One.ID, "access", "give"), ui.Plain, true)}
}

// access says who can use, reveal and manage a credential, and which trains are lent it.
func (s *site) access(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.credentialFrame(r, v, "access")
	if err == nil {
		err = s.accessPage(r, v, p)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, accessView(p))
}

func (s *site) accessPage(r *http.Request, v visitor, p *credentialPage) error {
	rights, err := s.Vault.Rights(r.Context(), v.Caller, p.One.ID)
	if err != nil {
		return err
	}
	if reach, refusal := identity.Within(v.Caller, identity.CredentialRead); refusal == nil && (reach == identity.Everything || rights.Manage) {
		grants, err := s.Vault.Grants(r.Context(), v.Caller, credentialScope(p.One.ID))
		if err != nil {
			return err
		}
		p.List = grantTable(p, grants, "grants-list", "Granted on this credential", p.May.Grant)
		for i, from := range grants.Inherited {
			t := grantTable(p, from, "inherited-"+strconv.Itoa(i), "Granted on the "+string(from.Scope.Kind)+" "+from.Scope.ID, false)
			p.Lists = append(p.Lists, t)
		}
	} else {
		p.Alert = "Only who manages this credential sees who else may use it."
	}
	if v.mayAll(identity.TrainRead) {
		lenders, err := s.Trains.Lenders(r.Context(), v.Caller, []string{p.One.ID})
		if err != nil {
			return err
		}
		t := ui.Table{ID: "trains", Caption: "Trains that are lent it", Live: "train", Columns: []ui.Column{{Label: "Train"}, {Label: "Name"}, {Label: "State"}, {Label: "Alias"}, {Label: "Priority", Number: true}},
			Empty: ui.Empty{Text: "No train is linked to this credential.", Command: "signalbox train link TRAIN " + p.One.ID}}
		for i, l := range lenders {
			if l.Hidden {
				t.Rows = append(t.Rows, ui.Row{ID: "~private-" + strconv.Itoa(i), Name: l.Train.Name, Cells: []templ.Component{ui.Text(l.Train.Name), ui.Text("you are no member of it"), ui.Text(""), ui.Text(""), ui.Text("")}})
				continue
			}
			t.Rows = append(t.Rows, ui.Row{ID: l.Train.ID, Name: l.Train.Slug, Cells: []templ.Component{ui.Link(l.Train.Slug, trainPath(l.Train.Slug)), ui.Text(l.Train.Name), trainBadge(l.Train), ui.Text(l.Alias),
				ui.Text(p.Reader.Number(int64(l.Priority)))}})
		}
		p.Lists = append(p.Lists, t)
	}
	return nil
}

func credentialScope(id string) vault.Scope { return vault.Scope{Kind: vault.OnCredential, ID: id} }

func grantTable(p *credentialPage, g vault.Grants, id, caption string, write bool) ui.Table {
	t := ui.Table{ID: id, Caption: caption, Columns: []ui.Column{{Label: "Who"}, {Label: "Kind"}, {Label: "May"}, {Label: "Since"}},
		Empty: ui.Empty{Text: "Nothing is granted on this credential itself.", Command: "signalbox credential grant " + p.One.ID + " PERSON"}}
	if write {
		t.Columns = append(t.Columns, ui.Column{Label: "Take back", Unseen: true})
	}
	for _, one := range g.Grants {
		name := one.Party.Name
		if name == "" {
			name = one.Party.ID
		}
		row := ui.Row{ID: one.Party.ID, Name: name, Cells: []templ.Component{ui.Text(name), ui.Text(strings.ReplaceAll(string(one.Party.Kind), "_", " ")), ui.Text(verbsText(one)), ui.When(p.Reader, one.At)}}
		if write {
			row.Cells = append(row.Cells, ui.DialogLink("Take back", credentialPath(p.One.ID, "access", one.Party.ID, "take"), "Take back the grant of "+name))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func verbsText(g vault.Grant) string {
	if g.Owner {
		return "owner: use, reveal, manage"
	}
	var out []string
	for _, verb := range []struct {
		has  bool
		word string
	}{{g.Use, "use"}, {g.Reveal, "reveal"}, {g.Manage, "manage"}} {
		if verb.has {
			out = append(out, verb.word)
		}
	}
	return strings.Join(out, ", ")
}

// grantable reads a credential with its grants for a form that changes them.
func (s *site) grantable(r *http.Request, v visitor) (vault.Credential, vault.Grants, error) {
	if err := allowed(v, identity.CredentialGrant); err != nil {
		return vault.Credential{}, vault.Grants{}, err
	}
	one, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return one, vault.Grants{}, err
	}
	grants, err := s.Vault.Grants(r.Context(), v.Caller, credentialScope(one.ID))
	return one, grants, err
}

func (s *site) givePage(r *http.Request, v visitor, one vault.Credential, g vault.Grants) *askedPage {
	form := r.PostForm
	kinds := ui.Choice{Name: "kind", Label: "To whom"}
	for _, kind := range []struct {
		value string
		label string
	}{{string(identity.PartyPerson), "A person"}, {string(identity.PartyGroup), "A group"}, {string(vault.PartyTrain), "A train"}, {string(identity.PartyService), "A service account"}} {
		kinds.Options = append(kinds.Options, ui.Option{Value: kind.value, Label: kind.label, Chosen: form.Get("kind") == kind.value})
	}
	verbs := ui.Choice{Name: "verbs", Label: "They may", Multiple: true, Hint: "A train can only use. An owner may do all three, and say who else is one.", Options: []ui.Option{
		{Value: "use", Label: "use it: be lent it", Chosen: len(form) == 0}, {Value: "reveal", Label: "reveal its secret fields"}, {Value: "manage", Label: "manage it: change, rotate and delete it, and say who else may what"}, {Value: "owner", Label: "own it"},
	}}
	for i := range verbs.Options {
		verbs.Options[i].Chosen = verbs.Options[i].Chosen || slices.Contains(form["verbs"], verbs.Options[i].Value)
	}
	return &askedPage{Frame: s.frame(r, v, "Give a grant on "+one.Name), Back: credentialPath(one.ID, "access"), BackLabel: one.Name, Action: credentialPath(one.ID, "access", "give"), Submit: "Give it",
		Lead: "What they had on it before is replaced.", Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: g.ETag()}), Choices: []ui.Choice{kinds, verbs}, Inputs: []ui.Field{
			{Name: "grantee", Label: "Who", Value: form.Get("grantee"), MaxLength: 254, Autocomplete: "off", Focus: true, Hint: "A person's e-mail address, the name of a group or a service account, or a train's slug."},
		}}
}

func (s *site) giveForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, grants, err := s.grantable(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.givePage(r, v, one, grants)))
}

// give adds one grant to those that stand, in place of what the same party had.
func (s *site) give(w http.ResponseWriter, r *http.Request, v visitor) {
	one, grants, err := s.grantable(r, v)
	if err == nil {
		has := func(verb string) bool { return slices.Contains(r.PostForm["verbs"], verb) }
		given := vault.Grant{Party: givenTo(r, grants), Use: has("use"), Reveal: has("reveal"), Manage: has("manage"), Owner: has("owner")}
		rest := slices.DeleteFunc(slices.Clone(grants.Grants), func(g vault.Grant) bool { return g.Party.ID == given.Party.ID })
		_, err = s.Vault.SetGrants(r.Context(), v.Caller, credentialScope(one.ID), append([]vault.Grant{given}, rest...), r.PostForm.Get("if_match"))
	}
	here := credentialPath(r.PathValue("id"), "access")
	s.settled(w, r, v, err, here+"?done=given", here+"/give", func(f *fault.Error) {
		p := s.givePage(r, v, one, grants)
		about := fault.New(f.Kind, f.Code, f.Detail)
		for _, e := range f.Fields {
			switch e.Pointer {
			case "/grants/0/grantee/id":
				_ = about.With("/grantee", e.Message)
			case "/grants/0", "/grants/0/owner":
				p.Choices[1].Error = sentence(e.Message)
			default:
				_ = about.With(e.Pointer, e.Message)
			}
		}
		p.Inputs[0].Focus = false
		if len(about.Fields) > 0 || len(f.Fields) == 0 {
			p.Alert = mark(about, p.Inputs)
		}
		s.refuse(w, r, f, askedView(p))
	})
}

// givenTo is whom a form names: one who has a grant already by their id, so that it is replaced.
func givenTo(r *http.Request, g vault.Grants) identity.Party {
	kind, name := identity.PartyKind(r.PostForm.Get("kind")), strings.TrimSpace(r.PostForm.Get("grantee"))
	for _, one := range g.Grants {
		if one.Party.Kind == kind && (one.Party.ID == name || one.Party.Name == name) {
			return identity.Party{Kind: kind, ID: one.Party.ID}
		}
	}
	return identity.Party{Kind: kind, ID: name}
}

func (s *site) takePage(r *http.Request, v visitor) (vault.Credential, vault.Grants, ui.Frame, ui.Confirm, error) {
	one, grants, err := s.grantable(r, v)
	if err != nil {
		return one, grants, ui.Frame{}, ui.Confirm{}, err
	}
	i := slices.IndexFunc(grants.Grants, func(g vault.Grant) bool { return g.Party.ID == r.PathValue("party") })
	if i < 0 {
		return one, grants, ui.Frame{}, ui.Confirm{}, fault.New(fault.NotFound, "not_found", "They have no grant on this credential any more.")
	}
	g := grants.Grants[i]
	touches := []string{"They had: " + verbsText(g) + "."}
	if g.Party.Kind == vault.PartyTrain {
		touches = append(touches, "The train "+g.Party.Name+" is unlinked from it unless something else lets it use it, and open uses are cut.")
	}
	if len(grants.Inherited) > 0 {
		touches = append(touches, "What they have by its client or its service stays.")
	}
	frame := s.frame(r, v, "Take back the grant of "+g.Party.Name)
	return one, grants, frame, ui.Confirm{Lead: g.Party.Name + " may not do with " + one.Name + " what this grant allows any more.", Touches: touches, Action: credentialPath(one.ID, "access", g.Party.ID, "take"),
		Submit: "Take it back", Back: credentialPath(one.ID, "access"), Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: grants.ETag()})}, nil
}

func (s *site) takeForm(w http.ResponseWriter, r *http.Request, v visitor) {
	one, _, frame, c, err := s.takePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, one.Name, c))
}

func (s *site) take(w http.ResponseWriter, r *http.Request, v visitor) {
	one, grants, _, c, err := s.takePage(r, v)
	if err == nil {
		rest := slices.DeleteFunc(slices.Clone(grants.Grants), func(g vault.Grant) bool { return g.Party.ID == r.PathValue("party") })
		_, err = s.Vault.SetGrants(r.Context(), v.Caller, credentialScope(one.ID), rest, r.PostForm.Get("if_match"))
	}
	here := credentialPath(r.PathValue("id"), "access")
	s.settled(w, r, v, err, here+"?done=taken", c.Action, nil)
}
