package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// The audit log is the one source that knows of every instance what was lent and refreshed. Reading it is bounded, is recorded, and is therefore a page
// that one opens on purpose, not a part of one that is open all day.
const (
	// historyMost bounds the records that a page reads, and historyPatience how long.
	historyMost     = 10_000
	historyPatience = 3 * time.Second
	day             = 24 * time.Hour
)

// historyPage is what the audit log tells of accounts, in charts and a table.
type historyPage struct {
	ui.Frame
	Reader                        ui.Reader
	Back, BackLabel, Lead, Limits string
	Charts                        []historyChart
	Refreshes                     *refreshChart
	Table                         ui.Table
	Empty                         ui.Empty
}

// historyChart is one chart, with a sentence.
type historyChart struct {
	Label, Text, Title, Unit string
	Points                   []ui.Point
}

// records reads what matches, newest first, within the bounds, and records that it was read. From then on everything that matches was read.
func (s *site) records(r *http.Request, v visitor, q audit.Query) (events []store.Event, from time.Time, err error) {
	target := store.Target{Kind: "audit"}
	if q.Target != "" {
		target = store.Target{Kind: "credential", ID: q.Target}
	}
	if err := s.readsLog(r.Context(), v, target); err != nil {
		return nil, from, err
	}
	q.Limit = 1000
	for until := time.Now().Add(historyPatience); ; {
		page, err := s.Audit.Search(r.Context(), q)
		if err != nil {
			return nil, from, err
		}
		events = append(events, page.Events...)
		if q.Cursor = page.Next; page.Next == "" {
			from = q.From
			break
		}
		if len(events) >= historyMost || time.Now().After(until) {
			if from = q.From; len(events) > 0 {
				from = events[len(events)-1].At
			}
			break
		}
	}
	return events, from, s.Audit.RecordRead(r.Context(), v.Event(store.AuditRead, target), "search", len(events))
}

// requests shows how often each account was lent in the last day, by the hour.
func (s *site) requests(w http.ResponseWriter, r *http.Request, v visitor) {
	if id := r.URL.Query().Get("account"); id != "" && !store.ValidID("cred", id) {
		s.refused(w, r, v, fault.New(fault.NotFound, "not_found", "There is no such account."))
		return
	}
	reader := s.reader(r)
	begin := reader.Now.Truncate(time.Hour).Add(-23 * time.Hour)
	q := audit.Query{Action: store.LeaseGranted, From: begin, Target: r.URL.Query().Get("account")}
	events, from, err := s.records(r, v, q)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &historyPage{Frame: s.frame(r, v, "Requests of a day"), Reader: reader, Back: "/accounts", BackLabel: "Accounts", Lead: "How often each account was lent, in each of the last 24 hours (UTC).",
		Limits: limitText(reader, events, from, begin), Empty: ui.Empty{Text: "Nothing was lent in the last 24 hours."}}
	p.Table = ui.Table{ID: "lent", Caption: "The same in numbers", Columns: []ui.Column{{Label: "Account"}, {Label: "Requests", Number: true}, {Label: "Not ok", Number: true}, {Label: "Last lent"}}}
	for _, one := range lentBy(events) {
		hours := make([]ui.Point, 24)
		for i := range hours {
			hours[i].Label = begin.Add(time.Duration(i) * time.Hour).UTC().Format("15:04")
		}
		var failed int64
		for _, e := range one {
			if i := int(e.At.Sub(begin) / time.Hour); i >= 0 && i < len(hours) {
				hours[i].Value++
			}
			if e.Outcome != store.OutcomeOK && e.Outcome != store.OutcomePending {
				failed++
			}
		}
		name := cmp.Or(one[0].Target.Name, one[0].Target.ID)
		p.Charts = append(p.Charts, historyChart{Label: name, Text: reader.Count(len(one), "request") + ", the last " + reader.Ago(one[0].At) + ".", Title: "Requests of " + name + " by the hour", Unit: "Requests", Points: hours})
		p.Table.Rows = append(p.Table.Rows, ui.Row{Cells: []templ.Component{ui.Link(name, accountPath(one[0].Target.ID)), ui.Text(reader.Number(int64(len(one)))), ui.Text(reader.Number(failed)), ui.When(reader, one[0].At)}})
		if len(p.Charts) == pageSize { // the busiest of them
			break
		}
	}
	s.show(w, r, http.StatusOK, historyView(p))
}

// lentBy groups leases by account, the busiest first.
func lentBy(events []store.Event) [][]store.Event {
	at, out := map[string]int{}, [][]store.Event{}
	for _, e := range events {
		i, ok := at[e.Target.ID]
		if !ok {
			i = len(out)
			at[e.Target.ID] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], e)
	}
	slices.SortStableFunc(out, func(a, b []store.Event) int {
		return cmp.Or(len(b)-len(a), cmp.Compare(a[0].Target.Name, b[0].Target.Name))
	})
	return out
}

// limitText says how far back the records go that were read.
func limitText(reader ui.Reader, events []store.Event, from, asked time.Time) string {
	if !from.After(asked) {
		return "It was read to the end."
	}
	return "There are more than the newest " + reader.Number(int64(len(events))) + " that were read: what is before " + reader.Clock(from) + " is missing."
}

// refreshCalls are the calls of a token endpoint that have come to something, the newest first, as the records are: of a call there is its intent, which shows
// what came of it, and the record of that. A process that died left the intent alone.
func refreshCalls(events []store.Event) (calls []store.Event) {
	told := map[string]bool{}
	for _, e := range events {
		claim, ok := e.Details.Get("claim")
		if e.Outcome == store.OutcomePending || ok && told[claim.Text()] {
			continue
		}
		if ok {
			told[claim.Text()] = true
		}
		calls = append(calls, e)
	}
	return calls
}

// refreshDays is how many days the timeline of refreshes has.
const refreshDays = 14

// refreshChart is what the calls of a token endpoint came to, by the day: the page of a credential and that of its refreshes draw the same.
type refreshChart struct {
	Reader          ui.Reader
	Points          []ui.Point
	Brought, Failed int
}

// refreshBegin is the first day of the timeline.
func refreshBegin(reader ui.Reader) time.Time {
	return reader.Now.UTC().Truncate(day).Add(-(refreshDays - 1) * day)
}

// refreshChartOf counts calls by the day (UTC); a day with a failure is marked.
func refreshChartOf(reader ui.Reader, calls []store.Event) *refreshChart {
	c, begin := &refreshChart{Reader: reader, Points: make([]ui.Point, refreshDays)}, refreshBegin(reader)
	for i := range c.Points {
		c.Points[i] = ui.Point{Label: begin.Add(time.Duration(i) * day).Format(time.DateOnly), Tone: ui.Good}
	}
	for _, e := range calls {
		i := int(e.At.Sub(begin) / day)
		if e.At.Before(begin) || i >= refreshDays {
			continue
		}
		c.Points[i].Value++
		if e.Outcome == store.OutcomeOK {
			c.Brought++
			continue
		}
		if c.Failed++; c.Points[i].Tone == ui.Good {
			c.Points[i].Tone = ui.Bad
			c.Points[i].Label += " (with failures)"
		}
	}
	return c
}

// refreshes shows the refreshes of a connection, by the day, and the last of them.
func (s *site) refreshes(w http.ResponseWriter, r *http.Request, v visitor) {
	c, err := s.connectionOf(r, v, r.URL.Query().Get("credential"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader := s.reader(r)
	begin := refreshBegin(reader)
	events, from, err := s.records(r, v, audit.Query{Action: store.OAuthRefresh, Target: c.ID, From: begin})
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	events = refreshCalls(events)
	p := &historyPage{Frame: s.frame(r, v, "Refreshes of "+c.Name), Reader: reader, Back: connectionPath(c.ID), BackLabel: c.Name, Lead: "The calls that refreshed its access token, in the last " + strconv.Itoa(refreshDays) + " days (UTC).",
		Limits: limitText(reader, events, from, begin), Empty: ui.Empty{Text: "It was not refreshed in these days."}}
	if len(events) > 0 {
		p.Refreshes = refreshChartOf(reader, events)
	}
	p.Table = ui.Table{ID: "refreshes", Caption: "The last of them", Columns: []ui.Column{{Label: "When"}, {Label: "Outcome"}, {Label: "Why"}, {Label: "By"}}}
	for _, e := range events[:min(len(events), pageSize)] {
		tone := ui.Bad
		if e.Outcome == store.OutcomeOK {
			tone = ui.Good
		}
		p.Table.Rows = append(p.Table.Rows, ui.Row{Cells: []templ.Component{ui.When(reader, e.At), ui.Badge(tone, e.Outcome), ui.Text(e.Reason), ui.Text(cmp.Or(e.Actor.Name, e.Actor.ID))}})
	}
	s.show(w, r, http.StatusOK, historyView(p))
}
