package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeAudit names the pages of the log, and the parts of the overview that are read again.
func (s *site) routeAudit(mux *http.ServeMux) {
	mux.HandleFunc("GET /audit", s.signedIn(s.auditLog))
	mux.HandleFunc("GET /audit/export", s.signedIn(s.fresh(s.auditExport)))
	mux.HandleFunc("GET /audit/facets", s.signedIn(s.auditFacets))
	mux.HandleFunc("GET /audit/{event}", s.signedIn(s.auditEvent))
	mux.HandleFunc("GET /overview/feed", s.signedIn(s.feedNow))
	mux.HandleFunc("GET /overview/requests", s.signedIn(s.requestsNow))
}

// auditPage is a search in the log.
type auditPage struct {
	ui.Frame
	Alert string
	// Seal is how far the log is signed.
	Seal    seal
	Choices []ui.Choice
	Inputs  []ui.Field
	Table   ui.Table
	Kept    ui.Saved
	// NDJSON is the address of what was found as a file; the table has that of the CSV. "" while nothing was found.
	NDJSON string
	// Facets is the address where what was found is counted.
	Facets string
	// Narrowed says that not everything is shown.
	Narrowed bool
}

// seal is what the log's room knows of how far the log is beyond doubt. That the records are unchanged is told by a verification alone, which this
// server does not do by itself.
type seal struct {
	Reader                 ui.Reader
	Size, Signed, Anchored int64
	SignedAt               time.Time
	RolledBack             int64
	Stuck                  bool
}

func (s *site) seal(r *http.Request) seal {
	h := s.Audit.Health()
	return seal{Reader: s.reader(r), Size: h.Size, Signed: h.Signed, Anchored: h.Anchored, SignedAt: h.SignedAt, RolledBack: h.RolledBack, Stuck: h.Err != nil || h.AnchorErr != nil}
}

// auditFilter are the parameters of a search, by the names that the API has for them.
var auditFilter = [...]string{"action", "outcome", "actor", "target", "request_id", "from", "to"}

// auditLog searches the log, the newest record first.
func (s *site) auditLog(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	asked := url.Values{}
	for _, name := range auditFilter {
		if text := strings.TrimSpace(r.URL.Query().Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	p := &auditPage{Frame: s.frame(r, v, "Audit"), Seal: s.seal(r), Narrowed: len(asked) > 0}
	p.Choices, p.Inputs = auditFields(asked)
	p.Facets = strings.Replace(auditPath(asked, "", ""), "/audit", "/audit/facets", 1)
	q, err := auditQuery(asked)
	var found audit.Page
	if err == nil {
		q.Limit, q.Cursor = pageSize, r.URL.Query().Get("cursor")
		found, err = s.Audit.Search(r.Context(), q)
	}
	if f := fault.Of(err); err != nil && f.Kind == fault.Unprocessable {
		p.Alert = unplaced(f, p.Inputs)
		s.refuse(w, r, f, auditView(p))
		return
	}
	if err == nil {
		err = s.Audit.RecordRead(r.Context(), v.Event(store.AuditRead, store.Target{Kind: "audit"}), "search", len(found.Events))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p.Table = auditTable(s.reader(r), found, asked, q.Cursor)
	if len(found.Events) > 0 {
		p.Table.CSV, p.NDJSON = auditExportPath(asked, "csv"), auditExportPath(asked, "ndjson")
	}
	s.keeps(r, v, "audit", &p.Table)
	if p.Kept, err = s.kept(r, v, &p.Frame, "audit"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, auditView(p))
}

// auditTable lists what was found. A search looks at a bounded part of the log at a time, so that there may be more behind a page that has nothing.
func auditTable(reader ui.Reader, found audit.Page, asked url.Values, cursor string) ui.Table {
	t := ui.Table{ID: "records", Caption: "Records, the newest first", Empty: ui.Empty{Text: "There is no such record.", Command: "signalbox audit search"},
		Columns: []ui.Column{{Label: "Act"}, {Label: "When"}, {Label: "Who"}, {Label: "What it was done to"}, {Label: "Outcome"}, {Label: "Reason"}}}
	if found.Next != "" {
		t.Next = auditPath(asked, "cursor", found.Next)
		t.Empty = ui.Empty{Text: "There is no such record in the part of the log that was looked at. There is more of it.", Label: "Look further back", Href: t.Next}
	} else if len(asked) > 0 {
		t.Empty.Label, t.Empty.Href = "Show all", "/audit"
	}
	if cursor != "" {
		t.First = auditPath(asked, "", "")
	}
	for _, e := range found.Events {
		who, to := e.Actor.Name, e.Target.Name
		if who == "" {
			who = e.Actor.Kind
		}
		if to == "" {
			to = e.Target.Kind
		}
		t.Rows = append(t.Rows, ui.Row{ID: e.ID, Name: string(e.Action), Cells: []templ.Component{
			ui.Link(string(e.Action), eventPath(e.ID)), ui.When(reader, e.At), facet(short(who), asked, "actor", e.Actor.ID), facet(short(to), asked, "target", e.Target.ID),
			outcomeBadge(e.Outcome), ui.Faint(e.Reason),
		}})
	}
	return t
}

// facet narrows the search to what a cell shows.
func facet(label string, asked url.Values, name, id string) templ.Component {
	if id == "" || asked.Get(name) == id {
		return ui.Text(label)
	}
	return ui.Link(label, auditPath(asked, name, id))
}

// auditPath is the address of a search with one parameter more.
func auditPath(asked url.Values, name, value string) string {
	q := url.Values{}
	for key, list := range asked {
		q[key] = list
	}
	if name != "" {
		q.Set(name, value)
	}
	if len(q) == 0 {
		return "/audit"
	}
	return "/audit?" + q.Encode()
}

func auditExportPath(asked url.Values, format string) string {
	return strings.Replace(auditPath(asked, "format", format), "/audit?", "/audit/export?", 1)
}

// outcomes are those by which one can search.
func outcomes() []string {
	return []string{store.OutcomeOK, store.OutcomeRefused, store.OutcomeFailed, store.OutcomePending, audit.OutcomeUnknown}
}

func auditFields(asked url.Values) ([]ui.Choice, []ui.Field) {
	act := ui.Choice{Name: "action", Label: "Act", Options: []ui.Option{{Label: "Every act", Chosen: asked.Get("action") == ""}}}
	for _, row := range store.Actions() {
		act.Options = append(act.Options, ui.Option{Value: string(row.Action), Label: string(row.Action), Chosen: asked.Get("action") == string(row.Action)})
	}
	outcome := ui.Choice{Name: "outcome", Label: "Outcome", Options: []ui.Option{{Label: "Every outcome", Chosen: asked.Get("outcome") == ""}}}
	for _, o := range outcomes() {
		outcome.Options = append(outcome.Options, ui.Option{Value: o, Label: o, Chosen: asked.Get("outcome") == o})
	}
	field := func(name, label, kind string, most int) ui.Field {
		return ui.Field{Name: name, Label: label, Type: kind, Value: asked.Get(name), MaxLength: most, Autocomplete: "off", Optional: true}
	}
	return []ui.Choice{act, outcome}, []ui.Field{
		field("actor", "Who, by id", "search", 100), field("target", "What, by id", "search", 100), field("request_id", "Request", "search", 64),
		field("from", "From (UTC)", "datetime-local", 0), field("to", "Until (UTC)", "datetime-local", 0),
	}
}

// auditQuery reads a search. Times may be as a form sends them, in UTC, or as the API takes them.
func auditQuery(asked url.Values) (audit.Query, error) {
	q := audit.Query{Action: store.Action(asked.Get("action")), Outcome: asked.Get("outcome"), Actor: asked.Get("actor"), Target: asked.Get("target"), RequestID: asked.Get("request_id")}
	bad := fault.New(fault.Unprocessable, "validation_failed", "The search cannot be done as asked.")
	for name, at := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := asked.Get(name)
		if text == "" {
			continue
		}
		var err error
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly} {
			if *at, err = time.Parse(layout, text); err == nil {
				break
			}
		}
		if err != nil {
			bad = bad.With("/"+name, "must be a time, such as 2026-11-22T15:04")
		}
	}
	if len(bad.Fields) > 0 {
		return audit.Query{}, bad
	}
	return q, nil
}

// auditExport leads to the API's export, which decides and records. It wants a fresh proof, which a browser is asked for on the way here.
func (s *site) auditExport(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	out := url.Values{}
	for _, name := range append(auditFilter[:], "format") {
		if text := r.URL.Query().Get(name); text != "" {
			out.Set(name, text)
		}
	}
	q, err := auditQuery(out)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	for name, at := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !at.IsZero() {
			out.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	http.Redirect(w, r, "/api/audit/export?"+out.Encode(), http.StatusSeeOther)
}
