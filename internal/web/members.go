package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeMembers names the pages that say who reaches a train. A change of that wants a fresh proof, which whoever may make it gives before the form.
func (s *site) routeMembers(mux *http.ServeMux) {
	const all, one = " /trains/{train}/members", " /trains/{train}/members/{kind}/{member}"
	mux.HandleFunc("GET"+all+"/add", s.signedIn(s.needing(identity.TrainMembers, s.fresh(s.trainMemberForm))))
	mux.HandleFunc("POST"+all, s.submitted(s.trainMemberAdd))
	mux.HandleFunc("GET"+one+"/role", s.signedIn(s.needing(identity.TrainMembers, s.fresh(s.trainRoleForm))))
	mux.HandleFunc("POST"+one+"/role", s.submitted(s.trainRole))
	mux.HandleFunc("GET"+one+"/remove", s.signedIn(s.needing(identity.TrainRead, s.fresh(s.trainMemberRemoveForm))))
	mux.HandleFunc("POST"+one+"/remove", s.submitted(s.trainMemberRemove))
	mux.HandleFunc("GET /trains/{train}/visibility", s.signedIn(s.needing(identity.TrainWrite, s.fresh(s.visibilityForm))))
	mux.HandleFunc("POST /trains/{train}/visibility", s.submitted(s.visibilitySet))
}

func memberPath(slug string, m train.Membership, act string) string {
	return trainPath(slug, "members", string(m.Party.Kind), m.Party.ID, act)
}

// reachedBy says who reaches a train.
func reachedBy(t train.Train) templ.Component {
	if t.Visibility == identity.OfOrganisation {
		return ui.Text("the organisation")
	}
	return severalActs(ui.Badge(ui.Idle, "private"), ui.Text("its members alone"))
}

// trainState is the state of a train in a list, with what marks a private one.
func trainState(t train.Train) templ.Component {
	if t.Visibility == identity.OfOrganisation {
		return trainBadge(t)
	}
	return severalActs(trainBadge(t), ui.Badge(ui.Idle, "private"))
}

// withMembers adds to the page of a train who its members are, and what the visitor may do about them.
func (s *site) withMembers(r *http.Request, v visitor, p *trainPage) error {
	list, err := s.Trains.Members(r.Context(), v.Caller, p.Train.ID)
	if err != nil {
		return err
	}
	may, err := s.Trains.MemberRights(r.Context(), v.Caller, p.Train.ID)
	if err != nil {
		return err
	}
	p.Unowned = p.Train.Visibility != identity.OfOrganisation && !may.Owned
	change, here := may.Change && s.changes(v, identity.TrainMembers), trainPath(p.Train.Slug)
	if may.Show && p.Write {
		label := "Make private"
		if p.Train.Visibility != identity.OfOrganisation {
			label = "Open to everybody"
		}
		p.MemberActs = append(p.MemberActs, ui.LinkButton(label, here+"/visibility", ui.Plain, true))
	}
	p.Members = ui.Table{ID: "train-members", Caption: "The owners and members of the train", Live: "train", Columns: []ui.Column{{Label: "Who"}, {Label: "Kind"}, {Label: "Role"}, {Label: "State"}, {Label: "Since"}},
		Empty: ui.Empty{Text: "Nobody is a member. Everybody whose role reaches trains reaches this one.", Command: "signalbox train member add " + p.Train.Slug + " PERSON"}}
	if p.Unowned {
		p.Members.Empty.Text = "Nobody is a member, so only administrators and auditors reach this train."
	}
	if change {
		p.Members.Empty.Label, p.Members.Empty.Href, p.Members.Empty.Dialog = "Add a member", here+"/members/add", true
		if len(list) > 0 {
			p.MemberActs = append(p.MemberActs, ui.LinkButton("Add a member", here+"/members/add", ui.Plain, true))
		}
	}
	acts := !s.ReadOnly && (v.may(identity.TrainMembers) && len(list) > 0 || slices.ContainsFunc(list, func(m train.Membership) bool { return m.Party.ID == v.UserID }))
	p.Members.Rows = memberRows(s.reader(r), v, p.Train.Slug, list, change, change && may.Owners, acts)
	if acts {
		p.Members.Columns = append(p.Members.Columns, ui.Column{Label: "Acts", Unseen: true})
	}
	return nil
}

// memberRows are the members of a train. Who may not change them, or not its owners, may leave, if acts can be done at all.
func memberRows(reader ui.Reader, v visitor, slug string, list []train.Membership, change, owners, acts bool) (rows []ui.Row) {
	for _, m := range list {
		name, state := ui.Text(m.Party.Name), ui.Badge(ui.Good, "active")
		switch {
		case m.Party.Kind == identity.PartyPerson && v.may(identity.UserRead):
			name = ui.Link(m.Party.Name, under("/people", m.Party.ID))
		case m.Party.Kind == identity.PartyGroup && v.may(identity.GroupRead):
			name = ui.Link(m.Party.Name, under("/groups", m.Party.ID))
		}
		switch {
		case !m.Active && m.Party.Kind == identity.PartyGroup:
			state = ui.Badge(ui.Warn, "nobody active in it")
		case !m.Active:
			state = ui.Badge(ui.Idle, "deactivated")
		}
		row := ui.Row{ID: m.Party.ID, Name: m.Party.Name, Cells: []templ.Component{name, ui.Text(string(m.Party.Kind)), ui.Text(string(m.Role)), state, ui.When(reader, m.AddedAt)}}
		self := m.Party.Kind == identity.PartyPerson && m.Party.ID == v.UserID
		switch {
		case change && (owners || m.Role != train.Owner):
			row.Cells = append(row.Cells, severalActs(ui.DialogLink("Change role", memberPath(slug, m, "role"), "Change role of "+m.Party.Name),
				ui.DialogLink("Remove", memberPath(slug, m, "remove"), "Remove "+m.Party.Name)))
		case acts && self:
			row.Cells = append(row.Cells, ui.DialogLink("Leave", memberPath(slug, m, "remove"), "Leave this train"))
		case acts:
			row.Cells = append(row.Cells, ui.Text(""))
		}
		rows = append(rows, row)
	}
	return rows
}

func roleChoice(now train.Role) ui.Choice {
	return ui.Choice{Name: "role", Label: "Role", Options: []ui.Option{
		{Value: string(train.Member), Label: "member: reaches the train as far as their role here lets them", Chosen: now != train.Owner},
		{Value: string(train.Owner), Label: "owner: also says who the members are", Chosen: now == train.Owner},
	}}
}

// changeable reads the train of an address for a form about its members, if the visitor may change them.
func (s *site) changeable(r *http.Request, v visitor) (train.Train, error) {
	t, err := s.trainOf(r, v, identity.TrainMembers)
	if err != nil {
		return t, err
	}
	may, err := s.Trains.MemberRights(r.Context(), v.Caller, t.ID)
	if err == nil && !may.Change {
		err = fault.New(fault.Forbidden, "forbidden", "Only an owner of this train says who its members are, or an administrator of this Signalbox.")
	}
	return t, err
}

// trainMemberPage asks for a person or a group, with those that the visitor may see as suggestions.
func (s *site) trainMemberPage(r *http.Request, v visitor) (*askedPage, error) {
	t, err := s.changeable(r, v)
	if err != nil {
		return nil, err
	}
	f := r.PostForm
	who := ui.Field{Name: "who", Label: "Who", Value: f.Get("who"), MaxLength: 254, Autocomplete: "off", Focus: true, Hint: "A person's e-mail address, or the name of a group."}
	if v.may(identity.UserRead) {
		active := true
		people, _, err := s.Identity.Users(r.Context(), v.Caller, identity.UserFilter{Active: &active, Limit: 200})
		if err != nil {
			return nil, err
		}
		for _, u := range people {
			who.List = append(who.List, ui.Option{Value: u.Email, Label: u.Name})
		}
	}
	if v.may(identity.GroupRead) {
		groups, _, err := s.Identity.ListGroups(r.Context(), v.Caller, identity.NameFilter{Limit: 200})
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			who.List = append(who.List, ui.Option{Value: g.Name, Label: "group"})
		}
	}
	kinds := ui.Choice{Name: "kind", Label: "Kind", Options: []ui.Option{{Value: string(identity.PartyPerson), Label: "A person", Chosen: f.Get("kind") != string(identity.PartyGroup)},
		{Value: string(identity.PartyGroup), Label: "A group: whoever is in it", Chosen: f.Get("kind") == string(identity.PartyGroup)}}}
	return &askedPage{Frame: s.frame(r, v, "Add a member to "+t.Slug), Back: trainPath(t.Slug), BackLabel: t.Name, Action: trainPath(t.Slug, "members"), Submit: "Add them", Hidden: v.proving(),
		Lead: "Whoever is a member already gets this role.", Inputs: []ui.Field{who}, Choices: []ui.Choice{kinds, roleChoice(train.Role(f.Get("role")))}}, nil
}

func (s *site) trainMemberForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.trainMemberPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) trainMemberAdd(w http.ResponseWriter, r *http.Request, v visitor) {
	f, here := r.PostForm, trainPath(r.PathValue("train"))
	t, err := s.trainOf(r, v, identity.TrainMembers)
	if err == nil {
		_, _, err = s.Trains.PutMember(r.Context(), v.Caller, t.ID, identity.PartyKind(f.Get("kind")), strings.TrimSpace(f.Get("who")), train.Role(f.Get("role")), "")
		if fault.KindOf(err) == fault.NotFound { // the train was there just now; if it is not, the form is not shown again
			err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/who", "names no such person or group")
		}
	}
	s.settled(w, r, v, err, here+"?done=joined", here+"/members/add", func(f *fault.Error) {
		p, err := s.trainMemberPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

// memberOf reads the membership of an address, for who may change it.
func (s *site) memberOf(r *http.Request, v visitor) (train.Train, train.Membership, error) {
	t, err := s.changeable(r, v)
	if err != nil {
		return t, train.Membership{}, err
	}
	m, err := s.Trains.Member(r.Context(), v.Caller, t.ID, identity.PartyKind(r.PathValue("kind")), r.PathValue("member"))
	return t, m, err
}

func (s *site) trainRolePage(r *http.Request, v visitor) (*askedPage, error) {
	t, m, err := s.memberOf(r, v)
	if err != nil {
		return nil, err
	}
	role := m.Role
	if r.PostForm.Has("role") {
		role = train.Role(r.PostForm.Get("role"))
	}
	return &askedPage{Frame: s.frame(r, v, "Role of "+m.Party.Name), Back: trainPath(t.Slug), BackLabel: t.Name, Action: memberPath(t.Slug, m, "role"), Submit: "Change the role",
		Lead: m.Party.Name + " is " + string(m.Role) + " of " + t.Name + ".", Hidden: v.proving(ui.Hidden{Name: "if_match", Value: m.ETag()}), Choices: []ui.Choice{roleChoice(role)}}, nil
}

func (s *site) trainRoleForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.trainRolePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// trainRole changes the role of somebody who is a member; it makes nobody one.
func (s *site) trainRole(w http.ResponseWriter, r *http.Request, v visitor) {
	t, m, err := s.memberOf(r, v)
	if err == nil {
		_, _, err = s.Trains.PutMember(r.Context(), v.Caller, t.ID, m.Party.Kind, m.Party.ID, train.Role(r.PostForm.Get("role")), orTag(r, m))
	}
	here := trainPath(r.PathValue("train"))
	s.settled(w, r, v, err, here+"?done=role", trainPath(r.PathValue("train"), "members", r.PathValue("kind"), r.PathValue("member"), "role"), func(f *fault.Error) {
		p, err := s.trainRolePage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

// orTag is the state of a membership that a form is about, or that which it has.
func orTag(r *http.Request, m train.Membership) string {
	if tag := r.PostForm.Get("if_match"); tag != "" {
		return tag
	}
	return m.ETag()
}

// removalPage says what the end of a membership touches. Whoever is a member may leave.
func (s *site) removalPage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, string, error) {
	t, err := s.trainOf(r, v, identity.TrainRead)
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, "", err
	}
	m, loss, err := s.Trains.Removal(r.Context(), v.Caller, t.ID, identity.PartyKind(r.PathValue("kind")), r.PathValue("member"))
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, "", err
	}
	c := ui.Confirm{Lead: m.Party.Name + " is taken from the members of " + t.Name + ".", Action: memberPath(t.Slug, m, "remove"), Submit: "Remove them", Back: trainPath(t.Slug),
		Hidden: v.proving(ui.Hidden{Name: "if_match", Value: m.ETag()})}
	title := "Remove " + m.Party.Name
	if m.Party.Kind == identity.PartyPerson && m.Party.ID == v.UserID {
		title, c.Lead, c.Submit = "Leave "+t.Name, "You are a member of "+t.Name+" no longer.", "Leave it"
	}
	c.Touches = []string{whoIsLeft(s.reader(r), v, m, loss.People), "No client key is revoked."}
	if n := len(loss.Keys); n > 0 {
		c.Touches[1] = s.reader(r).Count(n, "client key") + " that they made: revoked, and every agent that has one is cut off at once"
		c.Touches = append(c.Touches, s.keysNamed(r, loss.Keys)...)
	}
	return s.frame(r, v, title), c, t.Name, nil
}

// whoIsLeft says who does not reach a train any more without a membership, to whom it leaves without a way.
func whoIsLeft(reader ui.Reader, v visitor, m train.Membership, people int) string {
	const stays = " reach the train, by their role or another membership."
	switch {
	case m.Party.Kind == identity.PartyGroup && people > 0:
		return "People in it who do not reach the train any more: " + reader.Number(int64(people)) + "."
	case m.Party.Kind == identity.PartyGroup:
		return "All who are in it still" + stays
	case m.Party.ID == v.UserID && people > 0:
		return "You do not reach the train any more: you have no other way to it."
	case m.Party.ID == v.UserID:
		return "You still reach the train, by your role or another membership."
	case people > 0:
		return "They do not reach the train any more: they have no other way to it."
	case !m.Active:
		return "They are deactivated, and reach no train."
	}
	return "They still" + stays
}

// mostNamed is how many client keys a question names.
const mostNamed = 20

// keysNamed names client keys in a question, and their trains where they have been read with them.
func (s *site) keysNamed(r *http.Request, keys []identity.Key) (out []string) {
	for i, k := range keys {
		if i == mostNamed {
			return append(out, "and "+s.reader(r).Number(int64(len(keys)-i))+" more")
		}
		of := ""
		if k.TrainSlug != "" {
			of = " of train " + k.TrainSlug
		}
		out = append(out, "Client key "+k.Name+" ("+k.ID+")"+of)
	}
	return out
}

func (s *site) trainMemberRemoveForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, back, err := s.removalPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, back, c))
}

func (s *site) trainMemberRemove(w http.ResponseWriter, r *http.Request, v visitor) {
	here, done := trainPath(r.PathValue("train")), ""
	t, err := s.trainOf(r, v, identity.TrainRead)
	if err == nil {
		done = here + "?done=left"
		var ended []identity.Key
		ended, err = s.Trains.RemoveMember(r.Context(), v.Caller, t.ID, identity.PartyKind(r.PathValue("kind")), r.PathValue("member"), r.PostForm.Get("if_match"))
		if len(ended) > 0 {
			done = here + "?done=lost"
		}
	}
	if err == nil {
		if _, gone := s.Trains.GetTrain(r.Context(), v.Caller, t.ID); fault.KindOf(gone) == fault.NotFound { // who left reaches it no more
			done = "/trains?done=left"
		}
	}
	s.settled(w, r, v, err, done, trainPath(r.PathValue("train"), "members", r.PathValue("kind"), r.PathValue("member"), "remove"), func(f *fault.Error) {
		frame, c, back, err := s.removalPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		c.Wrong = f.Detail
		s.refuse(w, r, f, confirmView(frame, back, c))
	})
}

// visibilityPage asks before a train is made private, or opened: whichever it is not.
func (s *site) visibilityPage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, string, error) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	var may train.MemberRights
	if err == nil {
		may, err = s.Trains.MemberRights(r.Context(), v.Caller, t.ID)
	}
	if err == nil && !may.Show {
		err = fault.New(fault.Forbidden, "forbidden", "Only an owner of this train says who reaches it, or an administrator of this Signalbox.")
	}
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, "", err
	}
	to, title := identity.PrivateTrain, "Make "+t.Slug+" private"
	c := ui.Confirm{Lead: "Only the members of " + t.Name + " reach it then. To every other operator there is no such train.", Submit: "Make it private",
		Touches: []string{"Administrators and auditors still reach it.", "Client keys go on working, whoever has them: look through them."}}
	if !may.Owned {
		c.Touches = append(c.Touches, "Nobody owns it, so you do then.")
	}
	if t.Visibility != identity.OfOrganisation {
		to, title = identity.OfOrganisation, "Open "+t.Slug+" to everybody"
		c.Lead, c.Submit = "Everybody whose role reaches trains reaches "+t.Name+" then.", "Open it"
		c.Touches = []string{"What it used, its incidents and its messages are shown to them as well, also what was before.", "Its members stay on record."}
	}
	c.Action, c.Back, c.Hidden = trainPath(t.Slug, "visibility"), trainPath(t.Slug), v.proving(ui.Hidden{Name: "if_match", Value: t.ETag()}, ui.Hidden{Name: "visibility", Value: string(to)})
	return s.frame(r, v, title), c, t.Name, nil
}

func (s *site) visibilityForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, back, err := s.visibilityPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, back, c))
}

func (s *site) visibilitySet(w http.ResponseWriter, r *http.Request, v visitor) {
	here, to := trainPath(r.PathValue("train")), identity.Visibility(r.PostForm.Get("visibility"))
	_, err := s.Trains.UpdateTrain(r.Context(), v.Caller, r.PathValue("train"), train.Patch{Visibility: &to}, r.PostForm.Get("if_match"))
	done := here + "?done=opened"
	if to == identity.PrivateTrain {
		done = here + "?done=private"
	}
	s.settled(w, r, v, err, done, here+"/visibility", func(f *fault.Error) {
		frame, c, back, err := s.visibilityPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		c.Wrong = alertOf(f)
		s.refuse(w, r, f, confirmView(frame, back, c))
	})
}
