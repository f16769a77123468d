package web

import (
	"net/http"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeGroups names the pages of groups.
func (s *site) routeGroups(mux *http.ServeMux) {
	mux.HandleFunc("GET /groups", s.signedIn(s.groups))
	mux.HandleFunc("GET /groups/~new", s.signedIn(s.needing(identity.GroupWrite, s.groupForm)))
	mux.HandleFunc("POST /groups", s.submitted(s.groupMake))
	mux.HandleFunc("GET /groups/{id}", s.signedIn(s.group))
	mux.HandleFunc("GET /groups/{id}/edit", s.signedIn(s.needing(identity.GroupWrite, s.groupEditForm)))
	mux.HandleFunc("POST /groups/{id}/edit", s.submitted(s.groupEdit))
	mux.HandleFunc("GET /groups/{id}/delete", s.signedIn(s.needing(identity.GroupWrite, s.groupDeleteForm)))
	mux.HandleFunc("POST /groups/{id}/delete", s.submitted(s.groupDelete))
	mux.HandleFunc("GET /groups/{id}/add", s.signedIn(s.needing(identity.GroupWrite, s.memberForm)))
	mux.HandleFunc("POST /groups/{id}/members", s.submitted(s.memberAdd))
	mux.HandleFunc("GET /groups/{id}/members/{user}/remove", s.signedIn(s.needing(identity.GroupWrite, s.memberRemoveForm)))
	mux.HandleFunc("POST /groups/{id}/members/{user}/remove", s.submitted(s.memberRemove))
}

func (s *site) groups(w http.ResponseWriter, r *http.Request, v visitor) {
	query := r.URL.Query()
	q := query.Get("q")
	list, next, err := s.Identity.ListGroups(r.Context(), v.Caller, identity.NameFilter{Q: q, Limit: pageSize, Cursor: query.Get("cursor")})
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &listPage{Frame: s.frame(r, v, "Groups"), Lead: "What is granted to a group is granted to everybody in it.", Action: "/groups", Keep: "groups",
		Inputs: []ui.Field{{Name: "q", Label: "Name", Type: "search", Value: q, MaxLength: 200, Autocomplete: "off", Optional: true}}}
	announce(&p.Frame, r, map[string]string{"deleted": "The group was deleted, with what was granted to it."})
	if s.changes(v, identity.GroupWrite) {
		p.Make, p.MakeAt = "Make a group", "/groups/~new"
	}
	reader := s.reader(r)
	p.Table = ui.Table{ID: "groups", Caption: "Groups of people", Columns: []ui.Column{{Label: "Name"}, {Label: "Description"}, {Label: "Members", Number: true}, {Label: "Made"}},
		Empty: ui.Empty{Text: "There is no group yet. Grant to a group what several people need.", Command: "signalbox group create NAME", Label: p.Make, Href: p.MakeAt, Dialog: true}}
	if q != "" {
		p.Table.Empty = ui.Empty{Text: "No group has “" + q + "” in its name.", Label: "Show all", Href: "/groups"}
	}
	for _, g := range list {
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: g.ID, Name: g.Name, Cells: []templ.Component{
			ui.Link(g.Name, under("/groups", g.ID)), ui.Text(g.Description), ui.Text(reader.Number(int64(g.Members))), ui.When(reader, g.CreatedAt)}})
	}
	p.pages(query, next, "")
	s.showList(w, r, v, p)
}

func namedFields(name, description string) []ui.Field {
	return []ui.Field{
		{Name: "name", Label: "Name", Value: name, MaxLength: 100, Autocomplete: "off", Focus: true},
		{Name: "description", Label: "Description", Value: description, MaxLength: 2000, Rows: 2, Optional: true},
	}
}

func (s *site) newGroupPage(r *http.Request, v visitor, name, description string) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Make a group"), Back: "/groups", BackLabel: "Groups", Action: "/groups", Submit: "Make the group", Hidden: v.hidden(), Inputs: namedFields(name, description)}
}

func (s *site) groupForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, askedView(s.newGroupPage(r, v, "", "")))
}

func (s *site) groupMake(w http.ResponseWriter, r *http.Request, v visitor) {
	name, description := r.PostForm.Get("name"), r.PostForm.Get("description")
	g, err := s.Identity.CreateGroup(r.Context(), v.Caller, identity.GroupDraft{Name: name, Description: description})
	s.settled(w, r, v, err, under("/groups", g.ID)+"?done=made", "/groups/~new", func(f *fault.Error) { s.again(w, r, f, s.newGroupPage(r, v, name, description)) })
}

func (s *site) group(w http.ResponseWriter, r *http.Request, v visitor) {
	g, err := s.Identity.Group(r.Context(), v.Caller, r.PathValue("id"))
	var members []identity.GroupMember
	var next string
	if err == nil {
		members, next, err = s.Identity.GroupMembers(r.Context(), v.Caller, g.ID, identity.NameFilter{Limit: pageSize, Cursor: r.URL.Query().Get("members")})
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader, here, write := s.reader(r), under("/groups", g.ID), s.changes(v, identity.GroupWrite)
	p := &onePage{Frame: s.frame(r, v, g.Name), Back: "/groups", BackLabel: "Groups", Lead: g.Description, FactsTitle: "Group",
		Facts: []ui.Fact{{Term: "Members", Value: ui.Text(reader.Number(int64(g.Members)))}, {Term: "Made", Value: ui.When(reader, g.CreatedAt)}, {Term: "Changed", Value: ui.When(reader, g.UpdatedAt)}}}
	announce(&p.Frame, r, map[string]string{"made": "The group was made. Put people into it.", "changed": "The group was changed.", "added": "The person is in the group.", "removed": "The person is not in the group any more."})
	t := ui.Table{ID: "member-list", Caption: "Who is in the group", Columns: []ui.Column{{Label: "Name"}, {Label: "E-mail"}, {Label: "State"}, {Label: "Since"}},
		Empty: ui.Empty{Text: "Nobody is in this group.", Command: "signalbox group add " + g.Name + " E-MAIL"}}
	one := part{ID: "members", Title: "Members"}
	if write {
		p.Acts = []act{{"Edit", under(here, "edit")}, {"Delete…", under(here, "delete")}}
		t.Columns = append(t.Columns, ui.Column{Label: "Remove", Unseen: true})
		if len(members) > 0 {
			one.Acts = []templ.Component{ui.LinkButton("Put somebody in", under(here, "add"), ui.Plain, true)}
		}
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Put somebody in", under(here, "add"), true
	}
	for _, m := range members {
		name := ui.Text(m.Name)
		if v.may(identity.UserRead) {
			name = ui.Link(m.Name, under("/people", m.UserID))
		}
		row := ui.Row{ID: m.UserID, Name: m.Name, Cells: []templ.Component{name, ui.Text(m.Email), userBadge(identity.User{Active: m.Active}), ui.When(reader, m.AddedAt)}}
		if write {
			row.Cells = append(row.Cells, ui.DialogLink("Remove", under(here, "members", m.UserID, "remove"), "Remove "+m.Name))
		}
		t.Rows = append(t.Rows, row)
	}
	if next != "" {
		t.Next = here + "?members=" + next + "#members"
	}
	one.Table = t
	p.Parts = []part{one}
	s.show(w, r, http.StatusOK, oneView(p))
}

func (s *site) groupEditPage(r *http.Request, v visitor, g identity.Group, name, description string) *askedPage {
	here := under("/groups", g.ID)
	return &askedPage{Frame: s.frame(r, v, "Edit "+g.Name), Back: here, BackLabel: g.Name, Action: under(here, "edit"), Submit: "Save", Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: g.ETag()}),
		Inputs: namedFields(name, description)}
}

func (s *site) groupEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	g, err := s.Identity.Group(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.groupEditPage(r, v, g, g.Name, g.Description)))
}

func (s *site) groupEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id, here := r.PathValue("id"), under("/groups", r.PathValue("id"))
	name, description := r.PostForm.Get("name"), r.PostForm.Get("description")
	_, err := s.Identity.UpdateGroup(r.Context(), v.Caller, id, identity.GroupPatch{Name: &name, Description: &description, IfMatch: r.PostForm.Get("if_match")})
	s.settled(w, r, v, err, here+"?done=changed", under(here, "edit"), func(f *fault.Error) {
		g, err := s.Identity.Group(r.Context(), v.Caller, id)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, s.groupEditPage(r, v, g, name, description))
	})
}

// keysOfPrivate is said before somebody loses a group. Which trains those are is not for everybody who may take them from it.
const keysOfPrivate = "Client keys that they made on trains to which this was their only way (private ones and, with the role member, any): revoked for good."

func (s *site) groupDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	g, err := s.Identity.Group(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	here := under("/groups", g.ID)
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+g.Name), g.Name, ui.Confirm{
		Lead: "The group is deleted for good. The people in it stay.", Touches: []string{s.reader(r).Count(g.Members, "member") + ": lose what was granted to the group", "Every grant to the group ends.", keysOfPrivate},
		Action: under(here, "delete"), Submit: "Delete the group", Back: here, Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: g.ETag()}),
	}))
}

func (s *site) groupDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	here := under("/groups", r.PathValue("id"))
	s.settled(w, r, v, s.Identity.DeleteGroup(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("if_match")), "/groups?done=deleted", here, nil)
}

// memberPage asks for a person, with those that the visitor may see as suggestions.
func (s *site) memberPage(r *http.Request, v visitor, g identity.Group, person string) (*askedPage, error) {
	here := under("/groups", g.ID)
	field := ui.Field{Name: "user_id", Label: "E-mail", Value: person, MaxLength: 254, Autocomplete: "off", Focus: true, Hint: "The e-mail address or the id of the person."}
	if v.may(identity.UserRead) {
		active := true
		list, _, err := s.Identity.Users(r.Context(), v.Caller, identity.UserFilter{Active: &active, Limit: 200})
		if err != nil {
			return nil, err
		}
		for _, u := range list {
			field.List = append(field.List, ui.Option{Value: u.Email, Label: u.Name})
		}
	}
	return &askedPage{Frame: s.frame(r, v, "Put somebody into "+g.Name), Back: here, BackLabel: g.Name, Action: under(here, "members"), Submit: "Put them in", Hidden: v.hidden(),
		Lead: "What is granted to the group is then theirs too.", Inputs: []ui.Field{field}}, nil
}

func (s *site) showMemberForm(w http.ResponseWriter, r *http.Request, v visitor, person string, f *fault.Error) {
	g, err := s.Identity.Group(r.Context(), v.Caller, r.PathValue("id"))
	var p *askedPage
	if err == nil {
		p, err = s.memberPage(r, v, g, person)
	}
	switch {
	case err != nil:
		s.refused(w, r, v, err)
	case f != nil:
		s.again(w, r, f, p)
	default:
		s.show(w, r, http.StatusOK, askedView(p))
	}
}

func (s *site) memberForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.showMemberForm(w, r, v, "", nil)
}

func (s *site) memberAdd(w http.ResponseWriter, r *http.Request, v visitor) {
	here, person := under("/groups", r.PathValue("id")), r.PostForm.Get("user_id")
	_, _, err := s.Identity.AddGroupMember(r.Context(), v.Caller, r.PathValue("id"), person)
	s.settled(w, r, v, err, here+"?done=added", under(here, "add"), func(f *fault.Error) { s.showMemberForm(w, r, v, person, f) })
}

func (s *site) memberRemoveForm(w http.ResponseWriter, r *http.Request, v visitor) {
	g, err := s.Identity.Group(r.Context(), v.Caller, r.PathValue("id"))
	var m identity.GroupMember
	if err == nil {
		m, err = s.Identity.GroupMember(r.Context(), v.Caller, g.ID, r.PathValue("user"))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	here := under("/groups", g.ID)
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Remove "+m.Name), g.Name, ui.Confirm{
		Lead: m.Name + " is taken from the group " + g.Name + ".", Touches: []string{"1 person: what was granted to the group is theirs no longer", keysOfPrivate, s.reader(r).Count(g.Members-1, "member") + " stay."},
		Action: under(here, "members", m.UserID, "remove"), Submit: "Remove them", Back: here, Hidden: v.hidden(),
	}))
}

func (s *site) memberRemove(w http.ResponseWriter, r *http.Request, v visitor) {
	here := under("/groups", r.PathValue("id"))
	s.settled(w, r, v, s.Identity.RemoveGroupMember(r.Context(), v.Caller, r.PathValue("id"), r.PathValue("user"), ""), here+"?done=removed", here, nil)
}
