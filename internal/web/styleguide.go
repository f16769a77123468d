package web

import (
	"net/http"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/web/ui"
)

// stylePage shows every component, for whoever builds pages.
type stylePage struct {
	ui.Frame
	Reader        ui.Reader
	Now           time.Time
	Table, Nobody ui.Table
	Points        []ui.Point
	Fields        []ui.Field
}

// styleguide is served by `signalbox dev` alone.
func (s *site) styleguide(w http.ResponseWriter, r *http.Request, v visitor) {
	p := &stylePage{Frame: s.frame(r, v, "Style guide"), Reader: s.reader(r), Now: time.Now()}
	p.Flash = []ui.Flash{{Text: "The train was made."}, {Text: "The key was not revoked: the database did not answer.", Bad: true}}
	past, ahead := p.Now.Add(-3*time.Hour), p.Now.Add(40*24*time.Hour)
	p.Table = ui.Table{
		ID: "samples", Caption: "A table with everything", Pick: "bulk", Next: "/styleguide?cursor=2", CSV: "/trains.csv",
		Columns: []ui.Column{{Label: "Name", Sort: "/styleguide?sort=-name", Sorted: "ascending"}, {Label: "State"}, {Label: "Requests", Number: true, Sort: "/styleguide?sort=requests"}, {Label: "Used"}, {Label: "Ends"}},
	}
	for i, row := range []struct {
		name  string
		badge templ.Component
	}{{"team-alpha", ui.Badge(ui.Good, "healthy")}, {"team-beta", ui.Badge(ui.Warn, "cooling")}, {"team-gamma", ui.Badge(ui.Bad, "needs login")}, {"team-delta", ui.Badge(ui.Idle, "disabled")}} {
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: row.name, Name: row.name, Cells: []templ.Component{
			ui.Link(row.name, "/styleguide"), row.badge, ui.Text(p.Reader.Number(int64(i * 123456))), ui.When(p.Reader, past), ui.WhenOr(p.Reader, &ahead, "never"),
		}})
	}
	p.Nobody = ui.Table{ID: "nobody", Caption: "Empty", Empty: ui.Empty{Text: "There is nothing here yet.", Label: "Make one", Href: "/trains/~new", Dialog: true, Command: "signalbox train create web"}}
	for i, n := range []int64{3, 0, 7, 12, 5, 0, 0, 18, 9, 4, 2, 30, 11, 6} {
		point := ui.Point{Label: p.Now.AddDate(0, 0, i-13).Format("2 Jan"), Value: n}
		if n > 15 {
			point.Tone = ui.Warn
		}
		p.Points = append(p.Points, point)
	}
	p.Fields = []ui.Field{
		{Name: "sample-name", Label: "Name", Value: "team-alpha", Hint: "For people."},
		{Name: "sample-wrong", Label: "Slug", Value: "not a slug", Hint: "It never changes.", Error: "Must be 1 to 64 letters, digits, dots, dashes or underscores."},
		{Name: "sample-any", Label: "Provider", Optional: true, List: []ui.Option{{Value: "anthropic", Label: "Anthropic"}, {Value: "github", Label: "GitHub"}}, Hint: "Choose one or type another."},
		{Name: "sample-text", Label: "Description", Rows: 3, Optional: true},
	}
	s.show(w, r, http.StatusOK, styleView(p))
}
