package web

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeIncidents names the pages of security incidents.
func (s *site) routeIncidents(mux *http.ServeMux) {
	mux.HandleFunc("GET /incidents", s.signedIn(s.incidents))
	mux.HandleFunc("GET /incidents/~new", s.signedIn(s.needing(identity.IncidentWrite, s.incidentForm)))
	mux.HandleFunc("POST /incidents", s.submittedUpTo(maxSecretForm, s.incidentOpen))
	mux.HandleFunc("GET /incidents/{id}", s.signedIn(s.anIncident))
	mux.HandleFunc("GET /incidents/{id}/edit", s.signedIn(s.needing(identity.IncidentWrite, s.incidentEditForm)))
	mux.HandleFunc("POST /incidents/{id}/edit", s.submittedUpTo(maxSecretForm, s.incidentEdit))
	mux.HandleFunc("GET /incidents/{id}/move", s.signedIn(s.needing(identity.IncidentWrite, s.incidentMoveForm)))
	mux.HandleFunc("POST /incidents/{id}/move", s.submitted(s.incidentMove))
	mux.HandleFunc("GET /incidents/{id}/note", s.signedIn(s.needing(identity.IncidentWrite, s.incidentNoteForm)))
	mux.HandleFunc("POST /incidents/{id}/note", s.submittedUpTo(maxSecretForm, s.incidentNote))
	mux.HandleFunc("GET /incidents/{id}/delete", s.signedIn(s.needing(identity.IncidentDelete, s.incidentDeleteForm)))
	mux.HandleFunc("POST /incidents/{id}/delete", s.submitted(s.incidentDelete))
}

// boardColumn is the incidents of one status.
type boardColumn struct {
	Label, All string
	Count      string
	More       bool
	List       []boardCard
}

// boardCard is one incident on the board.
type boardCard struct {
	Title, Href, About string
	Severity           templ.Component
	When               templ.Component
}

// incidentsPage is the board of incidents by their status, or the list of those of one status.
type incidentsPage struct {
	ui.Frame
	// Make says that the visitor may open an incident, Contain is where they may contain something without one; "" where they may not.
	Make    bool
	Contain string
	Board   []boardColumn
	Inputs  []ui.Field
	Filter  []ui.Choice
	Table   *ui.Table
}

const boardCards = 20

func incidentWord(text string) string { return strings.ReplaceAll(text, "_", " ") }

func severityBadge(sev incident.Severity) templ.Component {
	switch sev {
	case incident.Critical, incident.High:
		return ui.Badge(ui.Bad, string(sev))
	case incident.Medium:
		return ui.Badge(ui.Warn, string(sev))
	}
	return ui.Badge(ui.Idle, string(sev))
}

func incidentBadge(status incident.Status) templ.Component {
	switch status {
	case incident.Investigating:
		return ui.Badge(ui.Bad, string(status))
	case incident.Contained, incident.Monitoring:
		return ui.Badge(ui.Warn, string(status))
	}
	return ui.Badge(ui.Good, string(status))
}

// incidents shows the board, or a list where it is narrowed.
func (s *site) incidents(w http.ResponseWriter, r *http.Request, v visitor) {
	query, reader := r.URL.Query(), s.reader(r)
	p := &incidentsPage{Frame: s.frame(r, v, "Incidents"), Make: s.changes(v, identity.IncidentWrite)}
	if p.Make && s.changes(v, identity.KeyWrite) {
		p.Contain = containNew
	}
	announce(&p.Frame, r, map[string]string{"deleted": "The incident was deleted, with its timeline. What the audit log says of it stays."})
	p.Inputs = []ui.Field{{Name: "q", Label: "Words of the title", Type: "search", Value: query.Get("q"), MaxLength: 200, Autocomplete: "off", Optional: true}}
	choice := func(name, label string, values []string) {
		c := ui.Choice{Name: name, Label: label, Options: []ui.Option{{Label: "any"}}}
		for _, value := range values {
			c.Options = append(c.Options, ui.Option{Value: value, Label: incidentWord(value), Chosen: value == query.Get(name)})
		}
		p.Filter = append(p.Filter, c)
	}
	var statuses, severities, types []string
	for _, one := range incident.Statuses() {
		statuses = append(statuses, string(one))
	}
	for _, one := range incident.Severities() {
		severities = append(severities, string(one))
	}
	for _, one := range incident.Types() {
		types = append(types, string(one.Type))
	}
	choice("status", "Status", statuses)
	choice("severity", "Severity", severities)
	choice("type", "Type", types)
	f := incident.Filter{Status: incident.Status(query.Get("status")), Severity: incident.Severity(query.Get("severity")), Type: incident.Type(query.Get("type")), Q: query.Get("q"), Cursor: query.Get("cursor"), Limit: pageSize}
	if f != (incident.Filter{Limit: pageSize}) || partial(r) {
		list, next, err := s.Incidents.List(r.Context(), v.Caller, f)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		t := ui.Table{ID: "incidents", Caption: "Incidents, the newest first", Live: "incident", Columns: []ui.Column{{Label: "Incident"}, {Label: "Severity"}, {Label: "Status"}, {Label: "Type"}, {Label: "Happened"}, {Label: "Changed"}},
			Empty: ui.Empty{Text: "No incident is like this.", Label: "Show the board", Href: "/incidents"}}
		for _, i := range list {
			t.Rows = append(t.Rows, ui.Row{ID: i.ID, Name: i.Title, Cells: []templ.Component{ui.Link(i.Title, under("/incidents", i.ID)), severityBadge(i.Severity), incidentBadge(i.Status), ui.Text(incidentWord(string(i.Type))),
				ui.When(reader, i.IncidentDate), ui.When(reader, i.UpdatedAt)}})
		}
		query.Del("done")
		if query.Has("cursor") {
			query.Del("cursor")
			t.First = "/incidents?" + query.Encode()
		}
		if next != "" {
			query.Set("cursor", next)
			t.Next = "/incidents?" + query.Encode()
		}
		if partial(r) {
			s.show(w, r, http.StatusOK, ui.List(t))
			return
		}
		p.Table = &t
		s.show(w, r, http.StatusOK, incidentsView(p))
		return
	}
	counts, err := s.Incidents.Counts(r.Context(), v.Caller)
	for _, status := range incident.Statuses() {
		var list []incident.Incident
		if err == nil {
			list, _, err = s.Incidents.List(r.Context(), v.Caller, incident.Filter{Status: status, Limit: boardCards})
		}
		column := boardColumn{Label: strings.ToUpper(string(status[:1])) + string(status[1:]), Count: reader.Number(int64(counts[status])), All: "/incidents?status=" + string(status), More: counts[status] > len(list)}
		for _, i := range list {
			column.List = append(column.List, boardCard{Title: i.Title, Href: under("/incidents", i.ID), About: incidentWord(string(i.Type)), Severity: severityBadge(i.Severity), When: ui.When(reader, i.UpdatedAt)})
		}
		p.Board = append(p.Board, column)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, incidentsView(p))
}

// anIncident shows one incident: what it is, where it may go, what it touches, and its timeline.
func (s *site) anIncident(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	var entries []incident.Entry
	var next string
	if err == nil {
		entries, next, err = s.Incidents.Timeline(r.Context(), v.Caller, i.ID, pageSize, r.URL.Query().Get("cursor"))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader, here := s.reader(r), under("/incidents", i.ID)
	p := &onePage{Frame: s.frame(r, v, i.Title), Back: "/incidents", BackLabel: "Incidents", FactsTitle: "What it is"}
	announce(&p.Frame, r, map[string]string{"opened": "The incident is open.", "changed": "The incident was changed.", "moved": "The incident was moved.", "noted": "It stands in the timeline.", "contained": "It is contained. The timeline says what was done."})
	if s.changes(v, identity.IncidentWrite) {
		for _, to := range incident.Moves()[i.Status] {
			p.Acts = append(p.Acts, act{"To " + string(to) + "…", here + "/move?to=" + string(to)})
		}
		p.Acts = append(p.Acts, act{"Edit", here + "/edit"})
	}
	if s.changes(v, identity.IncidentDelete) {
		p.Acts = append(p.Acts, act{"Delete…", here + "/delete"})
	}
	p.Facts = []ui.Fact{{Term: "Status", Value: incidentBadge(i.Status)}, {Term: "Severity", Value: severityBadge(i.Severity)}, {Term: "Type", Value: ui.Text(incidentWord(string(i.Type)))},
		{Term: "Happened", Value: ui.When(reader, i.IncidentDate)}, {Term: "Opened", Value: ui.When(reader, i.CreatedAt)}, {Term: "Resolved", Value: ui.WhenOr(reader, i.ResolvedAt, "not yet")}}
	if i.Detector != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "Found by", Value: ui.Text("the detector " + incidentWord(i.Detector) + ", seen " + reader.Count(int(i.Repeats)+1, "time"))})
	}
	for _, one := range [][2]string{{"Description", i.Description}, {"Findings", i.Findings}, {"Remediation", i.Remediation}} {
		if one[1] != "" {
			p.Facts = append(p.Facts, ui.Fact{Term: one[0], Value: ui.Text(one[1]), Wide: true})
		}
	}
	p.Facts = append(p.Facts, ui.Fact{Term: "Id", Value: ui.Code(i.ID), Wide: true})
	touched := ui.Table{ID: "touched", Caption: "What is linked to it, by kind", Columns: []ui.Column{{Label: "Name"}, {Label: "What"}, {Label: "Record", Unseen: true}}, Empty: ui.Empty{Text: "Nothing is linked to it."}}
	for _, l := range i.Links {
		record := ui.Text("")
		if v.may(identity.AuditRead) {
			record = smallLink("What was done", auditPath(nil, "target", l.ID), "What was done to "+l.Name)
		}
		touched.Rows = append(touched.Rows, ui.Row{ID: l.ID, Name: l.Name, Cells: []templ.Component{touchedLink(v, l), ui.Text(incidentWord(string(l.Kind))), record}})
	}
	line := ui.Table{ID: "timeline", Caption: "What happened with it, in order", Live: "incident", Columns: []ui.Column{{Label: "When"}, {Label: "What"}, {Label: "Who"}, {Label: "Said"}, {Label: "Details"}}, Empty: ui.Empty{Text: "Nothing more stands in its timeline."}}
	for _, e := range entries {
		var details []string
		for _, d := range e.Details {
			details = append(details, incidentWord(d.Key)+" "+d.Text())
		}
		line.Rows = append(line.Rows, ui.Row{ID: e.ID, Cells: []templ.Component{ui.When(reader, e.At), ui.Text(incidentWord(string(e.Kind))), ui.Text(cmp.Or(e.Actor.Name, e.Actor.ID, e.Actor.Kind)), ui.Text(e.Text), ui.Faint(strings.Join(details, "; "))}})
	}
	if r.URL.Query().Get("cursor") != "" {
		line.First = here
	}
	if next != "" {
		line.Next = here + "?cursor=" + url.QueryEscape(next)
	}
	timeline := part{ID: "told", Title: "Timeline", Table: line}
	if s.changes(v, identity.IncidentWrite) {
		timeline.Acts = []templ.Component{ui.LinkButton("Add a note", here+"/note", ui.Plain, true)}
	}
	links := part{ID: "links", Title: "What it touches", Table: touched}
	if v.may(identity.AuditRead) {
		links.Acts = append(links.Acts, ui.LinkButton("Who used what", here+"/blast-radius", ui.Plain, false))
	}
	if s.changes(v, identity.IncidentWrite) && s.changes(v, identity.KeyWrite) && i.Status != incident.Resolved {
		links.Acts = append(links.Acts, ui.LinkButton("Contain…", here+"/contain", ui.Danger, false))
	}
	p.Parts = []part{links, timeline}
	s.show(w, r, http.StatusOK, oneView(p))
}

// touchedLink leads to the page of what an incident touches, where it has one.
func touchedLink(v visitor, l incident.Link) templ.Component {
	name := cmp.Or(l.Name, l.ID)
	switch l.Kind {
	case incident.OfClient, incident.OfService, incident.OfInfrastructure:
		return ui.Link(name, homePath(vault.HomeKind(l.Kind), l.ID))
	case incident.OfCredential:
		return ui.Link(name, credentialPath(l.ID))
	case incident.OfPerson:
		if v.may(identity.UserRead) {
			return ui.Link(name, under("/people", l.ID))
		}
	case incident.OfServiceAccount:
		return ui.Link(name, under(services, l.ID))
	case incident.OfTrain:
		return ui.Link(name, trainPath(l.ID))
	}
	return ui.Text(name)
}

// incidentAsked is the form of an incident; links are what it touches, by id.
func (s *site) incidentAsked(r *http.Request, v visitor, m incident.Meta, t incident.Touch) (*askedPage, error) {
	text := func(name, label, value string, most, rows int, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Rows: rows, Hint: hint, Autocomplete: "off", Optional: name != "title"}
	}
	p := &askedPage{Back: "/incidents", BackLabel: "Incidents", Hidden: v.hidden()}
	p.Inputs = []ui.Field{text("title", "Title", m.Title, 200, 0, "It stands in notifications and in the audit log: no secret belongs into it."), text("description", "Description", m.Description, 10_000, 4, ""),
		text("findings", "Findings", m.Findings, 10_000, 3, ""), text("remediation_steps", "Remediation", m.Remediation, 10_000, 3, ""),
		text("credential_ids", "Credentials", strings.Join(t.Credentials, ", "), 4000, 0, "Their ids, separated by commas."), text("user_ids", "People", strings.Join(t.People, ", "), 4000, 0, "Their ids, separated by commas."),
		text("train_ids", "Trains", strings.Join(t.Trains, ", "), 4000, 0, "Their slugs or ids, separated by commas.")}
	p.Inputs[0].Focus = true
	p.Choices = incidentChoices(cmp.Or(m.Severity, incident.Medium), cmp.Or(m.Type, incident.Other))
	homes, err := s.homeFields(r, v, homeWish{vault.HomeClient, "client_id", "Client", t.ClientID, "none"}, homeWish{vault.HomeService, "service_id", "Service", t.ServiceID, "none"},
		homeWish{vault.HomeInfrastructure, "infrastructure_id", "Infrastructure", t.InfrastructureID, "none"})
	p.Inputs, p.Choices = append(p.Inputs, homes.Inputs...), append(p.Choices, homes.Choices...)
	return p, err
}

// incidentChoices are how bad an incident is and of what kind.
func incidentChoices(severity incident.Severity, kind incident.Type) []ui.Choice {
	out := []ui.Choice{{Name: "severity", Label: "Severity"}, {Name: "incident_type", Label: "Type"}}
	for _, one := range incident.Severities() {
		out[0].Options = append(out[0].Options, ui.Option{Value: string(one), Label: string(one), Chosen: one == severity})
	}
	for _, one := range incident.Types() {
		out[1].Options = append(out[1].Options, ui.Option{Value: string(one.Type), Label: one.Meaning, Chosen: one.Type == kind})
	}
	return out
}

// incidentPosted reads an incident from a form.
func (s *site) incidentPosted(r *http.Request, v visitor) (m incident.Meta, t incident.Touch, err error) {
	form := r.PostForm
	lines := func(name string) string { return strings.ReplaceAll(form.Get(name), "\r\n", "\n") }
	m = incident.Meta{Title: strings.TrimSpace(form.Get("title")), Type: incident.Type(form.Get("incident_type")), Severity: incident.Severity(form.Get("severity")), Description: lines("description"), Findings: lines("findings"),
		Remediation: lines("remediation_steps")}
	t = incident.Touch{Credentials: split(form.Get("credential_ids")), People: split(form.Get("user_ids")), Trains: split(form.Get("train_ids"))}
	for kind, to := range map[vault.HomeKind]*string{vault.HomeClient: &t.ClientID, vault.HomeService: &t.ServiceID, vault.HomeInfrastructure: &t.InfrastructureID} {
		typed := form.Get(string(kind) + "_id")
		if *to = typed; err == nil {
			*to, err = s.homeNamed(r, v, kind, typed, "")
		}
	}
	return m, t, err
}

func (s *site) incidentForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t := incident.Touch{ClientID: r.URL.Query().Get("client_id"), Credentials: split(r.URL.Query().Get("credential_id"))}
	p, err := s.incidentAsked(r, v, incident.Meta{}, t)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p.Frame, p.Action, p.Submit = s.frame(r, v, "Open an incident"), "/incidents", "Open it"
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) incidentOpen(w http.ResponseWriter, r *http.Request, v visitor) {
	m, t, err := s.incidentPosted(r, v)
	var made incident.Incident
	if err == nil {
		m.IncidentDate = time.Now()
		made, err = s.Incidents.Open(r.Context(), v.Caller, incident.Draft{Meta: m, Touch: t})
	}
	s.settled(w, r, v, err, under("/incidents", made.ID)+"?done=opened", "/incidents/~new", func(f *fault.Error) {
		p, err := s.incidentAsked(r, v, m, t)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Frame, p.Action, p.Submit = s.frame(r, v, "Open an incident"), "/incidents", "Open it"
		s.again(w, r, markChoices(f, p.Choices), p)
	})
}

// touchOf are the links of an incident as a form has them.
func touchOf(i incident.Incident) incident.Touch {
	first := func(kind incident.LinkKind) string {
		return strings.Join(i.Linked(kind)[:min(1, len(i.Linked(kind)))], "")
	}
	return incident.Touch{ClientID: first(incident.OfClient), ServiceID: first(incident.OfService), InfrastructureID: first(incident.OfInfrastructure), Credentials: i.Linked(incident.OfCredential),
		People: i.Linked(incident.OfPerson), Trains: i.Linked(incident.OfTrain)}
}

func (s *site) incidentEditPage(r *http.Request, v visitor, i incident.Incident, m incident.Meta, t incident.Touch) (*askedPage, error) {
	p, err := s.incidentAsked(r, v, m, t)
	if err != nil {
		return nil, err
	}
	here := under("/incidents", i.ID)
	p.Frame, p.Action, p.Submit, p.Back, p.BackLabel = s.frame(r, v, "Edit "+i.Title), here+"/edit", "Save", here, i.Title
	p.Hidden = v.hidden(ui.Hidden{Name: "if_match", Value: i.ETag()})
	return p, nil
}

func (s *site) incidentEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	var p *askedPage
	if err == nil {
		p, err = s.incidentEditPage(r, v, i, i.Meta, touchOf(i))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// incidentEdit changes an incident, unless somebody else did since the form was made.
func (s *site) incidentEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	m, t, err := s.incidentPosted(r, v)
	if err == nil {
		_, err = s.Incidents.Update(r.Context(), v.Caller, id, incident.Patch{Title: &m.Title, Description: &m.Description, Findings: &m.Findings, Remediation: &m.Remediation, Type: &m.Type, Severity: &m.Severity,
			ClientID: &t.ClientID, ServiceID: &t.ServiceID, InfrastructureID: &t.InfrastructureID, Credentials: &t.Credentials, People: &t.People, Trains: &t.Trains}, r.PostForm.Get("if_match"))
	}
	here := under("/incidents", id)
	s.settled(w, r, v, err, here+"?done=changed", here+"/edit", func(f *fault.Error) {
		i, err := s.Incidents.Get(r.Context(), v.Caller, id)
		var p *askedPage
		if err == nil {
			p, err = s.incidentEditPage(r, v, i, m, t)
		}
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, markChoices(f, p.Choices), p)
	})
}

// incidentSays is a form of one text about an incident: a move with its reason, or a note.
func (s *site) incidentSays(r *http.Request, v visitor, i incident.Incident, title, act, submit, name, label string, optional bool, more ...ui.Hidden) *askedPage {
	here := under("/incidents", i.ID)
	return &askedPage{Frame: s.frame(r, v, title), Back: here, BackLabel: i.Title, Action: here + "/" + act, Submit: submit, Hidden: v.hidden(more...),
		Inputs: []ui.Field{{Name: name, Label: label, Value: r.PostForm.Get(name), Rows: 4, MaxLength: 4000, Autocomplete: "off", Optional: optional, Focus: true, Hint: "It stands in the timeline, for everybody who may read incidents: no secret belongs into it."}}}
}

func (s *site) movePage(r *http.Request, v visitor, i incident.Incident, to string) *askedPage {
	return s.incidentSays(r, v, i, "Move it to "+to, "move", "Move it", "note", "Why", true, ui.Hidden{Name: "to", Value: to}, ui.Hidden{Name: "if_match", Value: i.ETag()})
}

func (s *site) notePage(r *http.Request, v visitor, i incident.Incident) *askedPage {
	return s.incidentSays(r, v, i, "Add a note", "note", "Add it", "text", "Note", false)
}

func (s *site) incidentMoveForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	to := r.URL.Query().Get("to")
	if err == nil && !movable(i, to) {
		err = fault.New(fault.NotFound, "not_found", "The incident cannot go there from where it is. Its page shows where it can.")
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.movePage(r, v, i, to)))
}

func movable(i incident.Incident, to string) bool {
	for _, one := range incident.Moves()[i.Status] {
		if string(one) == to {
			return true
		}
	}
	return false
}

func (s *site) incidentMove(w http.ResponseWriter, r *http.Request, v visitor) {
	id, to := r.PathValue("id"), incident.Status(r.PostForm.Get("to"))
	_, err := s.Incidents.Update(r.Context(), v.Caller, id, incident.Patch{Status: &to, Note: strings.ReplaceAll(r.PostForm.Get("note"), "\r\n", "\n")}, r.PostForm.Get("if_match"))
	here := under("/incidents", id)
	s.settled(w, r, v, err, here+"?done=moved", here, func(f *fault.Error) {
		s.incidentAgain(w, r, v, f, func(i incident.Incident) *askedPage { return s.movePage(r, v, i, string(to)) })
	})
}

// incidentAgain shows a form about an incident again.
func (s *site) incidentAgain(w http.ResponseWriter, r *http.Request, v visitor, f *fault.Error, page func(incident.Incident) *askedPage) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.again(w, r, f, page(i))
}

func (s *site) incidentNoteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.notePage(r, v, i)))
}

func (s *site) incidentNote(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	_, err := s.Incidents.AddNote(r.Context(), v.Caller, id, strings.ReplaceAll(r.PostForm.Get("text"), "\r\n", "\n"))
	here := under("/incidents", id)
	s.settled(w, r, v, err, here+"?done=noted", here+"/note", func(f *fault.Error) {
		s.incidentAgain(w, r, v, f, func(i incident.Incident) *askedPage { return s.notePage(r, v, i) })
	})
}

func (s *site) incidentDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	here := under("/incidents", i.ID)
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+i.Title), "Incidents", ui.Confirm{Lead: "The incident is deleted for good, with its timeline. What the audit log says of it stays.", Action: here + "/delete",
		Submit: "Delete the incident", Back: here, Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: i.ETag()})}))
}

func (s *site) incidentDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.Incidents.Delete(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, "/incidents?done=deleted", under("/incidents", r.PathValue("id"), "delete"), nil)
}
