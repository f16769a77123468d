package web

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeRadius names the pages that tell who used what.
func (s *site) routeRadius(mux *http.ServeMux) {
	mux.HandleFunc("GET /audit/blast-radius", s.signedIn(s.subjectRadius))
	mux.HandleFunc("GET /incidents/{id}/blast-radius", s.signedIn(s.incidentRadius))
}

// radiusPage is the blast radius of one thing, or of what an incident touches.
type radiusPage struct {
	ui.Frame
	Here, Back, BackLabel, Alert string
	Inputs                       []ui.Field
	Radii                        []radiusCard
	None, Next                   string
}

// radiusCard is one subject.
type radiusCard struct {
	ID, Title, Said, More string
	Complete              bool
	Acts                  []templ.Component
	Tables                []ui.Table
}

// radiusPath is the address of the blast radius of one thing.
func radiusPath(subject string) string {
	return "/audit/blast-radius?" + url.Values{"subject": {subject}}.Encode()
}

// seesRadius reports whether a visitor is led to blast radii: who may read the log.
func (s *site) seesRadius(v visitor) bool { return s.Incidents != nil && v.may(identity.AuditRead) }

// radiusFact leads from the page of a thing to who used what of it; there is none for who may not read the log.
func (s *site) radiusFact(v visitor, id string) []ui.Fact {
	if !s.seesRadius(v) {
		return nil
	}
	return []ui.Fact{{Term: "Blast radius", Value: ui.Link("Who used what", radiusPath(id))}}
}

// containOffer leads from a blast radius to the page that contains its subject, for who may do that.
func (s *site) containOffer(v visitor, l incident.Link) []templ.Component {
	if !s.changes(v, identity.IncidentWrite) || !s.changes(v, identity.KeyWrite) {
		return nil
	}
	for _, part := range containParts() {
		if part.kind == l.Kind && v.may(part.needs) {
			return []templ.Component{ui.LinkButton("Contain…", containNew+"?"+url.Values{part.name: {l.ID}}.Encode(), ui.Danger, false)}
		}
	}
	return nil
}

// radiusAsked reads what a page is asked for.
func radiusAsked(r *http.Request) (asked url.Values, ask incident.RadiusAsk, err error) {
	asked = url.Values{}
	for _, name := range []string{"subject", "from", "to"} {
		if text := strings.TrimSpace(r.URL.Query().Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	q, err := auditQuery(url.Values{"from": asked["from"], "to": asked["to"]})
	return asked, incident.RadiusAsk{From: q.From, To: q.To, Cursor: r.URL.Query().Get("cursor")}, err
}

func radiusTimes(asked url.Values, from string) []ui.Field {
	return []ui.Field{{Name: "from", Label: "Since (UTC)", Type: "datetime-local", Value: asked.Get("from"), Optional: true, Hint: from}, {Name: "to", Label: "Until (UTC)", Type: "datetime-local", Value: asked.Get("to"), Optional: true}}
}

func (s *site) subjectRadius(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	asked, ask, err := radiusAsked(r)
	p := &radiusPage{Frame: s.frame(r, v, "Blast radius"), Here: "/audit/blast-radius", Back: "/audit", BackLabel: "Audit"}
	p.Inputs = append([]ui.Field{{Name: "subject", Label: "Of what, by id", Type: "search", Value: asked.Get("subject"), MaxLength: 200, Autocomplete: "off",
		Hint: "A person, service account, credential, client key or token, or a train, which may be named by its slug."}}, radiusTimes(asked, "Seven days ago, if it is left out.")...)
	if err == nil && asked.Get("subject") != "" {
		var got incident.Radius
		if got, err = s.Incidents.Radius(r.Context(), v.Caller, asked.Get("subject"), ask); err == nil {
			card := radiusCardOf(s.reader(r), v, got, asked)
			card.Acts = append(card.Acts, s.containOffer(v, got.Subject)...)
			p.Radii = []radiusCard{card}
		}
	}
	s.radiusShow(w, r, v, p, err)
}

func (s *site) incidentRadius(w http.ResponseWriter, r *http.Request, v visitor) {
	i, err := s.Incidents.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	back := under("/incidents", i.ID)
	p := &radiusPage{Frame: s.frame(r, v, "Blast radius of "+i.Title), Here: back + "/blast-radius", Back: back, BackLabel: i.Title}
	asked, ask, err := radiusAsked(r)
	asked.Del("subject")
	p.Inputs = radiusTimes(asked, "When it happened, if it is left out.")
	var list []incident.Radius
	var next string
	if err == nil {
		list, next, err = s.Incidents.BlastRadius(r.Context(), v.Caller, i.ID, ask)
	}
	for _, one := range list {
		p.Radii = append(p.Radii, radiusCardOf(s.reader(r), v, one, asked))
	}
	if err == nil && len(list) == 0 {
		p.None = "Nothing that it touches acts or is used. Link the credentials, people, service accounts, trains or client keys that it is about."
	}
	if next != "" {
		asked.Set("cursor", next)
		p.Next = p.Here + "?" + asked.Encode()
	}
	s.radiusShow(w, r, v, p, err)
}

// radiusShow shows the page, with what is wrong with what was asked for.
func (s *site) radiusShow(w http.ResponseWriter, r *http.Request, v visitor, p *radiusPage, err error) {
	f := fault.Of(err)
	switch {
	case err == nil:
		s.show(w, r, http.StatusOK, radiusView(p))
	case f.Kind == fault.Unprocessable:
		p.Alert = unplaced(f, p.Inputs)
		s.refuse(w, r, f, radiusView(p))
	case f.Kind == fault.NotFound && p.Back == "/audit":
		p.Alert = f.Detail
		s.refuse(w, r, f, radiusView(p))
	default:
		s.refused(w, r, v, err)
	}
}

// relationSays is how a table of contacts is headed.
func relationSays(r audit.Relation) string {
	return map[audit.Relation]string{
		audit.Did: "What it did something to", audit.Through: "What did that in its name", audit.For: "In whose name it acted", audit.By: "Who did something to it", audit.Behind: "In whose name they did",
	}[r]
}

func radiusCardOf(reader ui.Reader, v visitor, got incident.Radius, asked url.Values) radiusCard {
	name := cmp.Or(got.Subject.Name, got.Subject.ID)
	card := radiusCard{ID: got.Subject.ID, Title: name + " (" + incidentWord(string(got.Subject.Kind)) + ")", Complete: got.Complete}
	span := "since " + reader.Clock(got.From) + ", until " + reader.Clock(got.To) + "."
	card.Said = reader.Count(int(got.Counted), "record") + ", all " + span
	if !got.Complete {
		card.Said = "The newest " + reader.Count(int(got.Counted), "record") + ", down to " + reader.Clock(got.Since) + ", of those " + span
		q := url.Values{"subject": {got.Subject.ID}, "cursor": {got.Next}, "from": {got.From.UTC().Format("2006-01-02T15:04:05.999999Z")}}
		if to := asked.Get("to"); to != "" {
			q.Set("to", to)
		}
		card.More = "/audit/blast-radius?" + q.Encode()
	}
	card.Acts = []templ.Component{touchedLink(v, got.Subject)}
	for _, relation := range audit.Relations() {
		t := ui.Table{ID: string(relation) + "-" + got.Subject.ID, Caption: relationSays(relation) + ": " + name, Columns: []ui.Column{{Label: "Name"}, {Label: "What"}, {Label: "Used", Number: true}, {Label: "Revealed", Number: true},
			{Label: "Read", Number: true}, {Label: "Changed", Number: true}, {Label: "Refused", Number: true}, {Label: "Other", Number: true}, {Label: "First"}, {Label: "Last"}, {Label: "Ended"}, {Label: "Go on", Unseen: true}}}
		for _, c := range got.Contacts {
			if c.Relation == relation {
				t.Rows = append(t.Rows, contactRow(reader, v, c))
			}
		}
		if len(t.Rows) > 0 {
			card.Tables = append(card.Tables, t)
		}
	}
	return card
}

// contactRow shows one contact, with a link to its own blast radius.
func contactRow(reader ui.Reader, v visitor, c audit.Contact) ui.Row {
	name := short(cmp.Or(c.Name, c.ID, c.Kind))
	number := func(n int64) templ.Component {
		if n == 0 {
			return ui.Faint("0")
		}
		return ui.Text(reader.Number(n))
	}
	ended, order := map[string]int64{}, []string(nil)
	for _, act := range c.Acts {
		if ended[act.Outcome] == 0 {
			order = append(order, act.Outcome)
		}
		ended[act.Outcome] += act.Count
	}
	for n, outcome := range order {
		order[n] = outcome + " " + reader.Number(ended[outcome])
	}
	on := ui.Text("")
	if incident.HasRadius(c.ID) {
		on = smallLink("Blast radius", radiusPath(c.ID), "Blast radius of "+name)
	}
	return ui.Row{ID: string(c.Relation) + "-" + cmp.Or(c.ID, c.Kind), Name: name, Cells: []templ.Component{touchedLink(v, incident.Link{Kind: incident.KindOf(c.ID), ID: c.ID, Name: name}), ui.Text(incidentWord(c.Kind)),
		number(c.Used), number(c.Revealed), number(c.Read), number(c.Changed), number(c.Refused), number(c.Other), ui.When(reader, c.First), ui.When(reader, c.Last), ui.Text(strings.Join(order, ", ")), on}}
}
