package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeDue names the pages of what is due.
func (s *site) routeDue(mux *http.ServeMux) {
	mux.HandleFunc("GET /due", s.signedIn(s.due))
}

// duePage is what is to be rotated or what ends, by when: the days as a chart, and the credentials as a list.
type duePage struct {
	ui.Frame
	Reader  ui.Reader
	Lead    string
	Tabs    []ui.NavLink
	Said    string
	Chart   string
	Points  []ui.Point
	Choices []ui.Choice
	Inputs  []ui.Field
	Hidden  string
	Table   ui.Table
	Kept    ui.Saved
	// Acts are those of the rows that are picked; none where the visitor may not.
	Acts ui.Choice
}

// dueWithin are the windows of the list, in days from now; 0 is what is overdue, -1 whatever has a date.
func dueWithin() []struct {
	value, label string
	days         int
} {
	return []struct {
		value, label string
		days         int
	}{{"", "within 30 days", 30}, {"0", "overdue", 0}, {"7", "within 7 days", 7}, {"90", "within 90 days", vault.DueDays}, {"all", "whenever", -1}}
}

// dueAsked reads what of the due is asked for.
func (s *site) dueAsked(r *http.Request, v visitor, now time.Time) (vault.DueFilter, error) {
	query := r.URL.Query()
	f := vault.DueFilter{About: vault.AboutRotation, Limit: pageSize, Cursor: query.Get("cursor")}
	switch query.Get("about") {
	case "", string(vault.AboutRotation):
	case string(vault.AboutExpiry):
		f.About = vault.AboutExpiry
	default:
		return f, fault.New(fault.NotFound, "not_found", "There is no such list. Open what is to be rotated, or what ends.")
	}
	known := false
	for _, one := range dueWithin() {
		if one.value == query.Get("within") {
			known = true
			if one.days >= 0 {
				f.Before = now.Add(time.Duration(one.days) * day)
			}
		}
	}
	if !known {
		return f, fault.New(fault.Unprocessable, "validation_failed", "The list has no such window. Choose one of those above it.")
	}
	var err error
	f.ClientID, err = s.homeNamed(r, v, vault.HomeClient, query.Get("client_id"), "")
	return f, err
}

// due lists what is to be rotated, or what ends, the earliest first.
func (s *site) due(w http.ResponseWriter, r *http.Request, v visitor) {
	p := &duePage{Frame: s.frame(r, v, "What is due"), Reader: s.reader(r)}
	f, err := s.dueAsked(r, v, p.Reader.Now)
	var d vault.Due
	if err == nil {
		d, err = s.Vault.Due(r.Context(), v.Caller, f)
	}
	if err == nil {
		err = s.dueTable(r, v, p, f, d)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.keeps(r, v, "due", &p.Table)
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	announce(&p.Frame, r, map[string]string{"rotated": "The new secret is stored as a new version, and is what is lent from now on."})
	query := r.URL.Query()
	if p.Kept, err = s.kept(r, v, &p.Frame, "due"); err == nil {
		var fields homeFields
		fields, err = s.homeFields(r, v, homeWish{vault.HomeClient, "client_id", "Client", f.ClientID, "any"})
		p.Inputs, p.Choices = fields.Inputs, fields.Choices
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	window := ui.Choice{Name: "within", Label: "Due"}
	for _, one := range dueWithin() {
		window.Options = append(window.Options, ui.Option{Value: one.value, Label: one.label, Chosen: one.value == query.Get("within")})
	}
	p.Choices = append([]ui.Choice{window}, p.Choices...)
	p.Hidden = query.Get("about")
	for _, tab := range []struct {
		label string
		about vault.About
	}{{"To be rotated", vault.AboutRotation}, {"Ends", vault.AboutExpiry}} {
		at := url.Values{}
		if tab.about == vault.AboutExpiry {
			at.Set("about", string(tab.about))
		}
		for _, name := range []string{"within", "client_id"} {
			if value := query.Get(name); value != "" {
				at.Set(name, value)
			}
		}
		p.Tabs = append(p.Tabs, ui.NavLink{Label: tab.label, Href: strings.TrimSuffix("/due?"+at.Encode(), "?"), Current: tab.about == f.About})
	}
	p.dueChart(f, d)
	s.show(w, r, http.StatusOK, dueView(p))
}

// dueChart draws the days of the next quarter.
func (p *duePage) dueChart(f vault.DueFilter, d vault.Due) {
	p.Chart = "To be rotated, by the day"
	p.Lead = "Credentials that have a plan of rotation, by when the next is due, and those that were contained to be rotated at once. Plans are made on the page of a credential."
	said := [3]string{"Nothing is to be rotated in the next 90 days.", " to be rotated in the next 90 days", " overdue"}
	if f.About == vault.AboutExpiry {
		p.Chart = "Ends, by the day"
		p.Lead = "Credentials that end, by when. One that has ended is lent to nobody any more."
		said = [3]string{"No credential ends in the next 90 days.", " to end in the next 90 days", " ended already"}
	}
	all := 0
	for n, count := range d.Days {
		tone := ui.Good
		switch {
		case n < 7:
			tone = ui.Bad
		case n < 30:
			tone = ui.Warn
		}
		p.Points = append(p.Points, ui.Point{Label: d.Begin.AddDate(0, 0, n).Format(time.DateOnly), Value: int64(count), Tone: tone})
		all += count
	}
	p.Said = said[0]
	if all > 0 {
		p.Said = p.Reader.Count(all, "credential") + said[1] + ". The red days are the next seven, the amber ones this month."
	}
	if d.Overdue > 0 {
		p.Said = p.Reader.Count(d.Overdue, "credential") + said[2] + ". " + p.Said
	}
}

// dueTable lists the credentials, each with the one thing to do.
func (s *site) dueTable(r *http.Request, v visitor, p *duePage, f vault.DueFilter, d vault.Due) error {
	named, err := s.homesOf(r, v, d.Items)
	if err != nil {
		return err
	}
	write := s.changes(v, identity.CredentialWrite)
	query := r.URL.Query()
	query.Del("done")
	t := ui.Table{ID: "due", Caption: "Credentials by their date, the earliest first", Live: "credential",
		Columns: []ui.Column{{Label: "Credential"}, {Label: "Type"}, {Label: "Belongs to"}, {Label: "Due"}, {Label: "Plan"}, {Label: "Secret changed"}},
		Empty:   ui.Empty{Text: "Nothing is to be rotated in this time.", Command: "signalbox cred list --rotation-due-before 30d"}}
	if f.About == vault.AboutExpiry {
		t.Columns[3].Label, t.Columns[4].Label = "Ends", "Status"
		t.Empty = ui.Empty{Text: "No credential ends in this time."}
	}
	if query.Get("within") != "" || f.ClientID != "" {
		t.Empty.Label, t.Empty.Href, t.Empty.Command = "Show the next 30 days", "/due", ""
		if f.About == vault.AboutExpiry {
			t.Empty.Href += "?about=expiry"
		}
	}
	if write {
		t.Columns = append(t.Columns, ui.Column{Label: "Rotate", Unseen: true})
		t.Pick = "bulk"
		p.Acts = bulkChoice("rotate")
	}
	here := "/due"
	if kept := withoutCursor(query); kept != "" {
		here += "?" + kept
	}
	for _, c := range d.Items {
		changed := c.CreatedAt
		if c.LastRotatedAt != nil {
			changed = *c.LastRotatedAt
		}
		due, plan := dueBadge(p.Reader, c.RotationDue(), "overdue"), ui.Text(dueWhy(p.Reader, c))
		if f.About == vault.AboutExpiry {
			due, plan = dueBadge(p.Reader, c.ExpiresAt, "ended"), statusBadge(c.Status)
		}
		row := ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{ui.Link(c.Name, credentialPath(c.ID)), kindOf(c), ui.Text(belongs(c, named)), due, plan, ui.When(p.Reader, changed)}}
		if write {
			row.Cells = append(row.Cells, rotateLink(c, here))
		}
		t.Rows = append(t.Rows, row)
	}
	if f.Cursor != "" {
		t.First = here
	}
	if d.Next != "" {
		query.Set("cursor", d.Next)
		t.Next = "/due?" + query.Encode()
	}
	p.Table = t
	return nil
}

// dueWhy says why a credential is to be rotated.
func dueWhy(reader ui.Reader, c vault.Credential) string {
	if c.RotateAt != nil {
		return "at once: it was contained"
	}
	return "every " + reader.Count(c.RotateEvery, "day")
}

func withoutCursor(query url.Values) string {
	out := url.Values{}
	for name, texts := range query {
		if name != "cursor" && len(texts) > 0 && texts[0] != "" {
			out.Set(name, texts[0])
		}
	}
	return out.Encode()
}

// dueBadge is a date with how pressing it is.
func dueBadge(reader ui.Reader, at *time.Time, over string) templ.Component {
	if at == nil {
		return ui.Faint("–")
	}
	return pressing(reader, *at, over)
}

// pressing is a time ahead, with a word where it is near or over.
func pressing(reader ui.Reader, at time.Time, over string) templ.Component {
	switch {
	case !at.After(reader.Now):
		return pressingView(ui.Bad, over, reader, at)
	case at.Before(reader.Now.Add(7 * day)):
		return pressingView(ui.Warn, "this week", reader, at)
	}
	return ui.When(reader, at)
}

// rotations is the list of those that were picked to be rotated: each has its own form, which leads back here.
func (s *site) rotations(w http.ResponseWriter, r *http.Request, v visitor, act bulkAct, list []vault.Credential) {
	p := &listPage{Frame: s.frame(r, v, act.title+" "+s.reader(r).Count(len(list), "credential")), Lead: "Each gets a new secret with its own form. The list shows which are done."}
	announce(&p.Frame, r, map[string]string{"rotated": "The new secret is stored as a new version, and is what is lent from now on."})
	query := url.Values{"act": {act.name}}
	for _, c := range list {
		query.Add("id", c.ID)
	}
	next := localPath("/credentials/~bulk?" + query.Encode())
	if next == "/" { // too many for an address
		next = ""
	}
	reader := s.reader(r)
	p.Table = ui.Table{ID: "rotations", Caption: "What was picked to be rotated", Live: "credential",
		Columns: []ui.Column{{Label: "Credential"}, {Label: "Type"}, {Label: "Secret changed"}, {Label: "Version", Number: true}, {Label: "Due"}, {Label: "Rotate", Unseen: true}}}
	for _, c := range list {
		changed := c.CreatedAt
		if c.LastRotatedAt != nil {
			changed = *c.LastRotatedAt
		}
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{
			ui.Link(c.Name, credentialPath(c.ID)), kindOf(c), ui.When(reader, changed), ui.Text(strconv.FormatInt(c.Version, 10)), dueBadge(reader, c.RotationDue(), "overdue"), rotateLink(c, next),
		}})
	}
	s.showList(w, r, v, p)
}
