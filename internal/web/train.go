package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// trainPage is one train: its settings, its accounts in the order in which they are tried with why, and its client keys.
type trainPage struct {
	ui.Frame
	Train    train.Train
	Summary  string
	Facts    []ui.Fact
	Accounts ui.Table
	// Windows is how far the accounts' limits are used.
	Windows ui.Table
	Keys    ui.Table
	// Told is where the train's people are told, and Alert what became of a test.
	Told   ui.Table
	Kept   ui.Table // whether prompts and answers are kept
	Alert  string
	Limits ui.Table
	// Members are those of the train, MemberActs what can be done beside them; Unowned says that nobody owns a private train who can sign in.
	Members    ui.Table
	MemberActs []templ.Component
	Unowned    bool
	// Connect is how programs are set up to use it.
	Connect connectPart
	// Wrong is what was wrong with the change of a link, and Of whose.
	Wrong, Of string
	// Write, Link, Issue, SeeKeys and Radius say what the visitor may do and see.
	Write, Link, Issue, SeeKeys, Radius bool
}

// linkActs and keyActs are what can be done beside a list that is not empty; an empty one offers it itself.
func (p *trainPage) linkActs() []templ.Component {
	if !p.Link || len(p.Accounts.Rows) == 0 {
		return nil
	}
	return []templ.Component{ui.LinkButton("Link accounts", trainPath(p.Train.Slug, "link"), ui.Plain, true)}
}

func (p *trainPage) keyActs() []templ.Component {
	if !p.Issue || len(p.Keys.Rows) == 0 {
		return nil
	}
	return []templ.Component{ui.LinkButton("Issue a client key", trainPath(p.Train.Slug, "keys", "new"), ui.Primary, true)}
}

func fileTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// trainSaid are the sentences for what an address of the page may say was done.
func trainSaid() map[string]string {
	return map[string]string{
		"made": "The train was made. Link an account and issue a client key.", "changed": "The settings were changed.", "linked": "The accounts were linked.",
		"limited": "The limits were set. They count for requests that begin from now on.", "relinked": "The link was changed.", "unlinked": "The account was taken from the train. Open uses of it were cut.", "revoked": "The client key was revoked. Open uses of it were cut.",
		"told": "It was saved. A test message shows whether it arrives.", "delivered": "The test message was delivered.", "untold": "It was deleted. What waited for it is not sent.",
		"kept": "The settings of request logging were saved. They count for requests that end from now on.", "purged": "What was kept of the train's requests was deleted.",
		"joined": "They are among the members of the train now.", "role": "The role was changed.", "left": "The member was removed. No client key was revoked.", "lost": "The member was removed. The client keys that they made were revoked, and open uses of them cut.",
		"private": "The train is private: only its members reach it.", "opened": "The train is open to everybody whose role reaches trains.",
	}
}

func (s *site) trainPage(r *http.Request, v visitor) (*trainPage, error) {
	e, err := s.Trains.Explain(r.Context(), v.Caller, r.PathValue("train"))
	if err != nil {
		return nil, err
	}
	links, err := s.Trains.Links(r.Context(), v.Caller, e.Train.ID)
	if err != nil {
		return nil, err
	}
	reader := s.reader(r)
	p := &trainPage{Frame: s.frame(r, v, e.Train.Name), Train: e.Train, Summary: e.Summary, Write: s.changes(v, identity.TrainWrite), Issue: s.changes(v, identity.KeyWrite), SeeKeys: v.may(identity.KeyRead)}
	p.Link = p.Write && v.may(identity.CredentialRead)
	p.Facts = []ui.Fact{
		{Term: "Slug", Value: ui.Code(e.Train.Slug)}, {Term: "State", Value: trainBadge(e.Train)}, {Term: "Reached by", Value: reachedBy(e.Train)}, {Term: "How an account is chosen", Value: ui.Text(strategyText(e.Train.Strategy))},
		{Term: "Made", Value: ui.When(reader, e.Train.CreatedAt)}, {Term: "Changed", Value: ui.When(reader, e.Train.UpdatedAt)},
	}
	if e.Train.Description != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "Description", Value: ui.Text(e.Train.Description)})
	}
	p.Facts, p.Radius = append(append(p.Facts, s.usedFact(v, "train_id", e.Train.ID)...), s.radiusFact(v, e.Train.ID)...), s.seesRadius(v)
	p.Accounts = accountTable(reader, v, p, e.Accounts, links)
	used, err := s.Trains.LimitsUsed(r.Context(), v.Caller, e.Train.ID)
	if err != nil {
		return nil, err
	}
	p.Limits = limitTable(reader, p, used)
	p.Windows = windowTable("Account and window", "How far the accounts' limits are used, as their upstreams said beside answers")
	for _, a := range e.Accounts {
		windowRows(reader, &p.Windows, a.CredentialID, a.Name+", ", a.Windows)
	}
	channels, err := s.Trains.Channels(r.Context(), v.Caller, e.Train.ID)
	if err != nil {
		return nil, err
	}
	p.Told = toldTable(v, p, channels)
	logging, err := s.Trains.Logging(r.Context(), v.Caller, e.Train.ID)
	if err != nil {
		return nil, err
	}
	p.Kept = keptTable(reader, v, p, logging)
	if err := s.withMembers(r, v, p); err != nil {
		return nil, err
	}
	p.Connect = s.connectOf(r, e.Train.Slug, "")
	if p.Issue {
		p.Connect.Issue = trainPath(e.Train.Slug, "keys", "new")
	}
	if p.SeeKeys {
		keys, next, err := s.Trains.ListKeys(r.Context(), v.Caller, e.Train.ID, identity.KeyFilter{Limit: pageSize, Cursor: r.URL.Query().Get("keys")})
		if err != nil {
			return nil, err
		}
		p.Keys = keyTable(reader, p, keys)
		if next != "" {
			p.Keys.Next = trainPath(e.Train.Slug) + "?keys=" + next + "#keys"
		}
	}
	if !v.hears(identity.TrainRead) {
		for _, t := range []*ui.Table{&p.Accounts, &p.Limits, &p.Windows, &p.Told, &p.Kept, &p.Members, &p.Keys} {
			t.Live = ""
		}
	}
	return p, nil
}

// accountTable lists the accounts in rank order, and below them the linked credentials that serve no LLM provider.
func accountTable(reader ui.Reader, v visitor, p *trainPage, ranked []train.Ranked, links []train.Link) ui.Table {
	t := ui.Table{
		ID: "accounts", Caption: "In the order in which a request would try them now", Live: "train windows",
		Columns: []ui.Column{{Label: "Account"}, {Label: "Provider"}, {Label: "State"}, {Label: "Why"}, {Label: "Alias and priority"}},
		Empty:   ui.Empty{Text: "No account is linked, so nothing can be lent to this train.", Command: "signalbox train link " + p.Train.Slug + " ACCOUNT"},
	}
	if p.Link {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Link accounts", trainPath(p.Train.Slug, "link"), true
	}
	if p.Write {
		t.Columns = append(t.Columns, ui.Column{Label: "Take away", Unseen: true})
	}
	shown := map[string]bool{}
	add := func(l train.Link, state, why templ.Component) {
		shown[l.CredentialID] = true
		row := ui.Row{ID: l.CredentialID, Name: l.Name, Cells: []templ.Component{linkedName(v, l), ui.Text(l.Provider), state, why}}
		if p.Write {
			row.Cells = append(row.Cells, linkEdit(v.formToken(), p.Train.Slug, l),
				ui.DialogLink("Unlink", trainPath(p.Train.Slug, "accounts", l.CredentialID, "unlink"), "Unlink "+l.Name))
		} else {
			row.Cells = append(row.Cells, ui.Text(linkText(l)))
		}
		t.Rows = append(t.Rows, row)
	}
	for _, a := range ranked {
		order := ""
		if p.Train.Strategy == train.LeastLoaded {
			order, _, _ = strings.Cut(a.Order, "; then hash ")
			if a.Conversations > 0 {
				order += "; conversations kept on it: " + reader.Number(int64(a.Conversations))
			}
		}
		add(a.Link, stateBadge(reader, a), orderView(a.Why, order))
	}
	for _, l := range links {
		if !shown[l.CredentialID] {
			add(l, ui.Badge(ui.Idle, string(l.Type)), ui.Faint("It serves no LLM provider; agents use it by its alias."))
		}
	}
	return t
}

// linkedName leads to the page of an account, where it can be paused and drained.
func linkedName(v visitor, l train.Link) templ.Component {
	if l.AccountID == "" || !v.may(identity.CredentialRead) {
		return ui.Text(l.Name)
	}
	return ui.Link(l.Name, accountPath(l.CredentialID))
}

func linkText(l train.Link) string {
	if l.Alias == "" {
		return "priority " + strconv.Itoa(l.Priority)
	}
	return l.Alias + ", priority " + strconv.Itoa(l.Priority)
}

func stateBadge(reader ui.Reader, a train.Ranked) templ.Component {
	switch {
	case a.State == train.Cooling && a.CoolingUntil != nil:
		return ui.Badge(ui.Warn, "cooling, free "+reader.Ago(*a.CoolingUntil))
	case a.State == train.Cooling:
		return ui.Badge(ui.Warn, "cooling")
	case a.State == train.Paused, a.State == train.Drained:
		return ui.Badge(ui.Idle, string(a.State))
	case a.State == train.Unusable:
		return ui.Badge(ui.Bad, "unusable")
	case a.Chosen:
		return ui.Badge(ui.Good, "next")
	}
	return ui.Badge(ui.Good, "usable")
}

func (s *site) train(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.trainPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, trainSaid())
	s.show(w, r, http.StatusOK, trainView(p))
}

// trainOf reads the train of an address for a form about it, which needs the permission.
func (s *site) trainOf(r *http.Request, v visitor, p identity.Permission) (train.Train, error) {
	if _, err := identity.Within(v.Caller, p); err != nil {
		return train.Train{}, err
	}
	return s.Trains.GetTrain(r.Context(), v.Caller, r.PathValue("train"))
}

func (s *site) settingsPage(r *http.Request, v visitor, now, shown train.Train) (*askedPage, error) {
	p := &askedPage{Frame: s.frame(r, v, "Settings of "+now.Slug), Back: trainPath(now.Slug), BackLabel: now.Name, Action: trainPath(now.Slug, "settings"), Submit: "Change",
		Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: now.ETag()}), Inputs: trainFields(shown, false), Choices: trainChoices(shown)}
	p.Choices = append(p.Choices, ui.Choice{Name: "state", Label: "State", Hint: "A disabled train is lent nothing, and its open uses are cut.", Options: []ui.Option{
		{Value: "enabled", Label: "Enabled", Chosen: !shown.Disabled}, {Value: "disabled", Label: "Disabled", Chosen: shown.Disabled},
	}})
	links, err := s.Trains.Links(r.Context(), v.Caller, now.ID)
	if err != nil {
		return nil, err
	}
	p.Choices = append(p.Choices, defaultChoice(links, shown.DefaultAccount))
	return p, nil
}

func (s *site) trainSettingsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p, err := s.settingsPage(r, v, t, t)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// trainSettings changes a train, unless somebody else did since the form was made.
func (s *site) trainSettings(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := trainPosted(r)
	if err == nil {
		_, err = s.Trains.UpdateTrain(r.Context(), v.Caller, r.PathValue("train"), train.Patch{Name: &t.Name, Description: &t.Description, Strategy: &t.Strategy, Disabled: &t.Disabled, KeyLimit: &t.KeyLimit, DefaultAccount: &t.DefaultAccount},
			r.PostForm.Get("if_match"))
	}
	here := trainPath(r.PathValue("train"))
	s.settled(w, r, v, err, here+"?done=changed", here+"/settings", func(f *fault.Error) {
		now, err := s.trainOf(r, v, identity.TrainWrite)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p, err := s.settingsPage(r, v, now, t)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

func (s *site) deleteTrainPage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, error) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	reader, active := s.reader(r), 0
	filter := identity.KeyFilter{Status: identity.StatusActive, Limit: 1000}
	for v.may(identity.KeyRead) {
		keys, next, err := s.Trains.ListKeys(r.Context(), v.Caller, t.ID, filter)
		if err != nil {
			return ui.Frame{}, ui.Confirm{}, err
		}
		active += len(keys)
		if filter.Cursor = next; next == "" {
			break
		}
	}
	return s.frame(r, v, "Delete "+t.Slug), ui.Confirm{
		Lead: "The train " + t.Name + " is deleted for good. What the audit log says of it stays.",
		Touches: []string{reader.Count(active, "active client key") + ": every agent that has one is cut off at once", reader.Count(t.Links, "link") +
			": the credentials themselves stay"},
		Action: trainPath(t.Slug, "delete"), Submit: "Delete the train", Back: trainPath(t.Slug), Hidden: v.hidden(), Type: t.Slug,
	}, nil
}

func (s *site) trainDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.deleteTrainPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, "Train", c))
}

func (s *site) trainDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.deleteTrainPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	if r.PostForm.Get("typed") != c.Type {
		c.Wrong = "This is not the train's slug, so nothing was done."
		s.show(w, r, http.StatusUnprocessableEntity, confirmView(frame, "Train", c))
		return
	}
	s.settled(w, r, v, s.Trains.DeleteTrain(r.Context(), v.Caller, r.PathValue("train"), true, ""), "/trains?done=deleted", c.Action, nil)
}

// linkPage offers the credentials that the visitor sees and that the train does not have.
func (s *site) linkPage(r *http.Request, v visitor) (*askedPage, error) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		return nil, err
	}
	links, err := s.Trains.Links(r.Context(), v.Caller, t.ID)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, l := range links {
		has[l.CredentialID] = true
	}
	all, _, err := s.Vault.List(r.Context(), v.Caller, vault.Filter{Limit: 1000})
	if err != nil {
		return nil, err
	}
	c := ui.Choice{Name: "credential_id", Label: "Credentials", Multiple: true, Hint: "Whoever holds a client key of the train may then be lent them."}
	for _, one := range all {
		if !has[one.ID] {
			label := one.Name + " (" + string(one.Type)
			if one.Provider != "" {
				label += ", " + one.Provider
			}
			c.Options = append(c.Options, ui.Option{Value: one.ID, Label: label + ")"})
		}
	}
	p := &askedPage{Frame: s.frame(r, v, "Link accounts to "+t.Slug), Back: trainPath(t.Slug), BackLabel: t.Name, Action: trainPath(t.Slug, "link"), Submit: "Link them", Hidden: v.hidden()}
	if len(c.Options) == 0 {
		p.Lead = "Every credential that you see is linked already. Store another first, with: signalbox account add"
	}
	p.Choices = []ui.Choice{c}
	return p, nil
}

func (s *site) linkForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.linkPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// link links what was ticked, one after the other; what was linked before one that was refused stays.
func (s *site) link(w http.ResponseWriter, r *http.Request, v visitor) {
	here := trainPath(r.PathValue("train"))
	chosen := r.PostForm["credential_id"]
	var err error
	if len(chosen) == 0 {
		err = fault.New(fault.Unprocessable, "validation_failed", "Tick at least one credential.")
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(chosen))) {
		if err = s.Admit(r.Context(), v.Caller); err != nil { // each is an act of its own
			break
		}
		if _, _, err = s.Trains.Link(r.Context(), v.Caller, r.PathValue("train"), train.LinkDraft{Credential: id}); err != nil {
			break
		}
	}
	s.settled(w, r, v, err, here+"?done=linked", here+"/link", func(f *fault.Error) {
		p, err := s.linkPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Choices[0].Error = f.Detail
		s.refuse(w, r, f, askedView(p))
	})
}

// relink changes a link in its row.
func (s *site) relink(w http.ResponseWriter, r *http.Request, v visitor) {
	id, here := r.PathValue("credential"), trainPath(r.PathValue("train"))
	alias := r.PostForm.Get("alias")
	priority, err := strconv.Atoi(r.PostForm.Get("priority"))
	if err != nil {
		err = fault.New(fault.Unprocessable, "validation_failed", "The priority must be a whole number.")
	} else {
		_, err = s.Trains.Relink(r.Context(), v.Caller, r.PathValue("train"), id, train.LinkPatch{Alias: &alias, Priority: &priority, IfMatch: r.PostForm.Get("if_match")})
	}
	s.settled(w, r, v, err, here+"?done=relinked", here, func(f *fault.Error) {
		p, err := s.trainPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		for i := range p.Accounts.Rows {
			if row := &p.Accounts.Rows[i]; row.ID == id {
				row.Cells[4] = linkWrong(v.formToken(), p.Train.Slug, id, row.Name, alias, r.PostForm.Get("priority"), r.PostForm.Get("if_match"), alertOf(f))
			}
		}
		s.refuse(w, r, f, trainView(p))
	})
}

func (s *site) unlinkForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	var l train.Link
	if err == nil {
		l, err = s.Trains.GetLink(r.Context(), v.Caller, t.ID, r.PathValue("credential"))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Unlink "+l.Name), t.Name, ui.Confirm{
		Lead:    "The train " + t.Slug + " is not lent " + l.Name + " any more. The credential itself stays, and can be linked again.",
		Touches: []string{"Open uses of it by this train are cut.", s.reader(r).Count(t.Links-1, "linked credential") + " stay."},
		Action:  trainPath(t.Slug, "accounts", l.CredentialID, "unlink"), Submit: "Unlink it", Back: trainPath(t.Slug), Hidden: v.hidden(),
	}))
}

func (s *site) unlink(w http.ResponseWriter, r *http.Request, v visitor) {
	here := trainPath(r.PathValue("train"))
	s.settled(w, r, v, s.Trains.Unlink(r.Context(), v.Caller, r.PathValue("train"), r.PathValue("credential"), ""), here+"?done=unlinked", here, nil)
}
