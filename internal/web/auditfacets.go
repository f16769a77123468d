package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// facetsPage counts what a search in the log finds. It is a page of its own, so that the search stays quick.
type facetsPage struct {
	ui.Frame
	Reader ui.Reader
	Back   string
	Counts audit.Facets
	Tables []ui.Table
}

// auditFacets counts what a search finds; each value leads to the search for it. The read is on record, as the API's is.
func (s *site) auditFacets(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	asked := url.Values{}
	for _, name := range auditFilter {
		if text := strings.TrimSpace(r.URL.Query().Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	q, err := auditQuery(asked)
	var got audit.Facets
	if err == nil {
		got, err = s.Audit.Facets(r.Context(), q, 0)
	}
	if err == nil {
		err = s.Audit.RecordRead(r.Context(), v.Event(store.AuditRead, store.Target{Kind: "audit"}), "count", int(got.Counted))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &facetsPage{Frame: s.frame(r, v, "Audit records, counted"), Reader: s.reader(r), Back: auditPath(asked, "", ""), Counts: got}
	for _, one := range []struct {
		id, caption, name string
		list              []audit.Facet
		others            int
	}{
		{"actions", "By act", "action", got.Actions, 0}, {"outcomes", "By outcome", "outcome", got.Outcomes, 0},
		{"actors", "By who acted, or for whom", "actor", got.Actors, got.OtherActors}, {"targets", "By what it was done to", "target", got.Targets, got.OtherTargets},
	} {
		p.Tables = append(p.Tables, facetTable(p.Reader, asked, one.id, one.caption, one.name, one.list, one.others))
	}
	s.show(w, r, http.StatusOK, facetsView(p))
}

func facetTable(reader ui.Reader, asked url.Values, id, caption, name string, list []audit.Facet, others int) ui.Table {
	t := ui.Table{ID: id, Caption: caption, Columns: []ui.Column{{Label: "Value"}, {Label: "Records"}}, Empty: ui.Empty{Text: "There is none."}}
	if others > 0 {
		t.Caption += ", the most frequent of " + reader.Number(int64(len(list)+others))
	}
	for _, f := range list {
		label := f.Value
		if f.Name != "" {
			label = short(f.Name)
		}
		t.Rows = append(t.Rows, ui.Row{ID: id + "-" + f.Value, Name: label, Cells: []templ.Component{facet(label, asked, name, f.Value), ui.Text(reader.Number(f.Count))}})
	}
	return t
}
