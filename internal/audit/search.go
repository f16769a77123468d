package audit

import (
	"bytes"
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Query says which events to find. Empty fields do not restrict.
type Query struct {
	// From and To bound the time of the event: From ≤ at < To.
	From, To time.Time
	// Actor is the id of who acted, or on whose behalf.
	Actor string
	// Target is the id of what was acted on.
	Target string
	// Subject is the id of who acted, on whose behalf, or of what was acted on: any of the three.
	Subject string
	Action  store.Action
	// Outcome is compared with what is shown: for a lease.granted, what became of it.
	Outcome   string
	RequestID string
	// Limit is the greatest number of events in the page: 0 means 100, more than 1000 is refused.
	Limit int
	// Cursor is Page.Next of the page before.
	Cursor string
}

// Page is a part of the answer, newest event first.
type Page struct {
	Events []store.Event
	// Next continues the search; it is empty at the end. A page may hold fewer events than asked for, even none, and have a Next: one
	// call looks at a bounded number of records.
	Next string
}

const (
	maxLimit = 1000
	// searchBudget bounds what one search reads; find.go says what costs how much. It is some tens of milliseconds of work.
	searchBudget = 7_000
	// clockSlack is how far the time of an event may lie from the time in its id: one is the database's clock at the begin of a
	// transaction, the other the instance's at the insert.
	clockSlack = time.Minute
)

// Search finds events, newest first. A lease.granted shows the outcome of its lease.outcome, matched by the detail lease, and an oauth.refresh that
// began a call shows that of the one that ended it, matched by the detail claim: while there is none it shows "pending" for 15 minutes and
// "unknown" after that. An outcome that came more than half an hour after its intent is not
// looked up; it is in the log as an event of its own.
func (l *Log) Search(ctx context.Context, q Query) (Page, error) {
	f, err := newFilter(q)
	if err != nil {
		return Page{}, err
	}
	f.loose = &l.loose
	var page Page
	err = l.db.Read(ctx, func(tx *store.Tx) error {
		page = Page{}
		return f.fill(tx, &page)
	})
	return page, err
}

// filter is a checked query.
type filter struct {
	Query
	start  place // only what is older is found
	floor  string
	from   string // the times of a matching record, as records have them
	to     string
	needle [][]byte // what the bytes of a matching record contain
	common [][]byte // those of them that the outcome of a matching use contains as well
	// How many batches may be read to find events, and to find the outcomes of intents.
	budget, outcomeBudget int
	loose                 *looseIndex
}

func newFilter(q Query) (*filter, error) {
	f := &filter{Query: q, budget: searchBudget, outcomeBudget: outcomeBudget}
	bad := fault.New(fault.Unprocessable, "validation_failed", "The search cannot be done as asked; the errors say which parameter to change.")
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	if f.Limit < 0 || f.Limit > maxLimit {
		bad = bad.With("/limit", "must be 1 to 1000")
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		bad = bad.With("/from", "must be before the end of the time range")
	}
	if q.Action != "" && !knownAction(q.Action) {
		bad = bad.With("/action", "is no audit action; the reference lists them")
	}
	f.start = place{source: sourcePrefix + "_7zzzzzzzzzzzzzzzzzzzzzzzzz", ordinal: maxOrdinal} // the greatest id
	if !q.To.IsZero() {
		f.start = place{source: store.IDFloor(sourcePrefix, q.To.Add(clockSlack)), ordinal: -1}
	}
	if q.Cursor != "" {
		at, ok := parseID(q.Cursor)
		if !ok {
			bad = bad.With("/cursor", "is not a cursor of this list")
		} else if at.older(f.start) {
			f.start = at
		}
	}
	if len(bad.Fields) == 1 && bad.Fields[0].Pointer == "/cursor" {
		bad.Detail = "The cursor is not one that this list returned. Begin the list again without a cursor."
	}
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	f.from, f.to = recordTime(q.From), recordTime(q.To)
	f.floor = store.IDFloor(sourcePrefix, q.From.Add(-clockSlack))
	for _, s := range []string{q.Actor, q.Target, q.Subject, q.RequestID} {
		if s != "" && plain(s) {
			f.common = append(f.common, []byte(`"`+s+`"`))
		}
	}
	f.needle = f.common
	if q.Action != "" {
		f.needle = append(slices.Clone(f.common), []byte(`"`+string(q.Action)+`"`))
	}
	return f, nil
}

func knownAction(a store.Action) bool {
	for _, row := range store.Actions() {
		if row.Action == a {
			return true
		}
	}
	return false
}

// worth reports whether the bytes can hold a match; it spares looking closer.
func (f *filter) worth(b []byte) bool { return holds(b, f.needle) }

func holds(b []byte, needles [][]byte) bool {
	for _, n := range needles {
		if !bytes.Contains(b, n) {
			return false
		}
	}
	return true
}

// match compares everything but the outcome.
func (f *filter) match(g glance) bool {
	is := func(got []byte, want string) bool { return want == "" || string(got) == want }
	if !is(g.action, string(f.Action)) || !is(g.target, f.Target) || !is(g.request, f.RequestID) || !is(g.actor, f.Actor) && string(g.behalf) != f.Actor {
		return false
	}
	if !is(g.actor, f.Subject) && !is(g.target, f.Subject) && string(g.behalf) != f.Subject {
		return false
	}
	return (f.from == "" || string(g.at) >= f.from) && (f.to == "" || string(g.at) < f.to)
}

// recordTime is the least time of a record that is not before t; "" for no time.
func recordTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if cut := t.Truncate(time.Microsecond); cut.Before(t) {
		t = cut.Add(time.Microsecond)
	}
	return t.UTC().Format(store.TimeFormat)
}

// shows reports whether the outcome can be the one that is asked for: that of an act is told by its own record, that of a use by another.
func (f *filter) shows(g glance) bool {
	return f.Outcome == "" || string(g.outcome) == f.Outcome || string(g.outcome) == store.OutcomePending
}

// fill collects one page. It looks for one event more than fits, to know whether there is a next page. What is not shown is not decoded.
func (f *filter) fill(tx *store.Tx, page *Page) error {
	results := newOutcomes(tx, f.outcomeBudget)
	found := newFinder(tx, f, results)
	last := f.start
	for {
		c, reached, err := found.next()
		if err != nil {
			return err
		}
		if c == nil {
			if reached != (place{}) { // the budget is spent; all down to here was looked at
				page.Next = reached.id()
			}
			return nil
		}
		if len(page.Events) == f.Limit {
			page.Next = last.id()
			return nil
		}
		// The first event is settled at any price, so that every call gets on.
		outcome, settled, err := results.of(*c, last == f.start)
		if err != nil {
			return err
		}
		if !settled {
			page.Next = last.id()
			return nil
		}
		last = c.at
		if f.Outcome != "" && outcome != f.Outcome {
			continue
		}
		e, err := store.DecodeEvent(c.line)
		if err != nil {
			return err
		}
		e.Outcome = outcome
		page.Events = append(page.Events, e)
	}
}
