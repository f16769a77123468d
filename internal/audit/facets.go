package audit

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// Facet is one value with the number of records that have it.
type Facet struct {
	// Value is an action, an outcome, or the id of an actor or a target: what the field of a [Query] would be.
	Value string
	// Kind and Name are those of an actor or a target, as one of the records has them. Of whom others act for, records tell no more than the id.
	Kind, Name string
	Count      int64
}

// Facets are the counts of what a query matches.
type Facets struct {
	// Counted is the number of records.
	Counted int64
	// Complete says that these are all that match. Otherwise they are the newest of them, down to the time Since, and every count is a least one.
	Complete bool
	Since    time.Time
	// Actions and Outcomes are all that occur, the most frequent first; so are Actors and Targets, as many as were asked for. A record counts for who
	// acted and for whom it was done, since a search for either finds it. OtherActors and OtherTargets are how many more there are.
	Actions, Outcomes, Actors, Targets []Facet
	OtherActors, OtherTargets          int
}

const (
	// facetBudget bounds what one count reads, in the measure of searchBudget: it is some tens of milliseconds of work, and a record or two a unit.
	facetBudget = 4_000
	// facetTop is how many actors and targets are told when nobody says; facetMost is the most.
	facetTop  = 10
	facetMost = 50
)

// Facets counts what a query matches by action, outcome, actor and target, and names the top (0: 10, at most 50) of the latter two. Limit and Cursor of the query
// do not matter. It reads a bounded number of records, the newest first, and says when there are more. Outcomes are those that [Log.Search] shows.
func (l *Log) Facets(ctx context.Context, q Query, top int) (Facets, error) {
	q.Limit, q.Cursor = 0, ""
	f, err := newFilter(q)
	if err != nil {
		return Facets{}, err
	}
	f.loose = &l.loose
	if top <= 0 {
		top = facetTop
	}
	var out Facets
	err = l.db.Read(ctx, func(tx *store.Tx) error {
		c := newCounter(tx, f, facetBudget)
		if err := c.run(); err != nil {
			return err
		}
		out, err = c.told(min(top, facetMost))
		return err
	})
	return out, err
}

// counter goes through the records as a search does, and keeps counts where that keeps events.
type counter struct {
	tx      *store.Tx
	f       *filter
	events  eventStream
	batches batchStream
	results *outcomes
	top     string // everything from the batch in hand up to this id was read for outcomes

	counted           int64
	complete          bool
	asked             bool   // for an outcome; the first is told at any price, so that every count gets on
	last              string // the source that was looked at last
	actions, outcomes map[string]int64
	actors, targets   map[string]*subjectCount
}

// subjectCount counts the records of one subject; sample is the id of one that names it.
type subjectCount struct {
	count  int64
	sample string
}

func newCounter(tx *store.Tx, f *filter, budget int) *counter {
	used := f.Action == store.LeaseGranted || f.Action == store.LeaseOutcome
	c := &counter{
		tx: tx, f: f, results: newOutcomes(tx, outcomeBudget),
		events:  eventStream{tx: tx, f: f, below: f.start.source, done: used},
		batches: batchStream{tx: tx, f: f, below: f.start.source, budget: budget, page: firstPage, done: f.Action != "" && !used},
		actions: map[string]int64{}, outcomes: map[string]int64{}, actors: map[string]*subjectCount{}, targets: map[string]*subjectCount{},
	}
	return c
}

// run counts until the end or until the budget is spent. Whatever is newer than the record that it stops at was counted.
func (c *counter) run() error {
	var acts []recordRow
	for {
		if len(acts) == 0 && !c.events.done {
			if c.batches.budget <= 0 {
				return nil
			}
			var err error
			if acts, err = c.events.page(eventPage); err != nil {
				return err
			}
			c.batches.budget -= batchCost
			for _, row := range acts {
				c.batches.budget -= costOf(row)
			}
		}
		batch, err := c.batches.row()
		if err != nil {
			return err
		}
		switch {
		case batch == nil && !c.batches.done:
			return nil
		case batch == nil && len(acts) == 0:
			c.complete = c.events.done
			if c.complete {
				return nil
			}
			continue
		case batch == nil, len(acts) > 0 && acts[0].ID > batch.ID:
			enough, err := c.record(acts[0].Body, place{acts[0].ID, -1})
			if err != nil || !enough {
				return err
			}
			c.last, acts = acts[0].ID, acts[1:]
		default:
			enough, err := c.batch(*batch)
			if err != nil || !enough {
				return err
			}
			c.last, c.batches.rows = batch.ID, c.batches.rows[1:]
		}
	}
}

// batch counts the records of a batch. Outcomes come after their intents, so those of the intents further down are noted on the way.
func (c *counter) batch(row recordRow) (enough bool, err error) {
	if c.f.Action != store.LeaseOutcome {
		c.results.collect(row)
		if c.batches.trail == nil { // no batch is left out, so none need be read again for an outcome
			c.top = max(c.top, row.ID)
			if n := len(c.results.ranges); n > 0 { // looking for an outcome has read on from there
				c.top = max(c.top, c.results.ranges[n-1].hi)
			}
			c.results.ranges = []idRange{{row.ID, c.top}}
		}
	}
	if !c.f.worth(row.Body) {
		return true, nil
	}
	lines := bytes.Split(row.Body, newline)
	for n, line := range slices.Backward(lines) {
		if enough, err := c.record(line, place{row.ID, n}); err != nil || !enough {
			return enough, err
		}
	}
	return true, nil
}

// record counts a record if it matches. It returns false when what became of it cannot be told within the budget.
func (c *counter) record(line []byte, at place) (enough bool, err error) {
	if !at.older(c.f.start) || !c.f.worth(line) {
		return true, nil
	}
	g, ok := look(line)
	if !ok {
		_, err := store.DecodeEvent(line)
		return true, err
	}
	if !c.f.match(g) {
		return true, nil
	}
	outcome := string(g.outcome)
	if outcome == store.OutcomePending {
		if outcome, enough, err = c.results.of(candidate{at, line, g}, !c.asked); err != nil || !enough {
			return enough, err
		}
		c.asked = true
	}
	if c.f.Outcome != "" && outcome != c.f.Outcome {
		return true, nil
	}
	c.counted++
	c.actions[string(g.action)]++
	c.outcomes[outcome]++
	count(c.actors, g.actor, g.id)
	if len(g.behalf) > 0 && !bytes.Equal(g.behalf, g.actor) {
		count(c.actors, g.behalf, nil)
	}
	count(c.targets, g.target, g.id)
	return true, nil
}

func count(counts map[string]*subjectCount, subject, record []byte) {
	if len(subject) == 0 {
		return
	}
	s := counts[string(subject)]
	if s == nil {
		s = &subjectCount{}
		counts[string(subject)] = s
	}
	if s.sample == "" {
		s.sample = string(record)
	}
	s.count++
}

// told puts the counts in order and names the subjects.
func (c *counter) told(top int) (Facets, error) {
	out := Facets{Counted: c.counted, Complete: c.complete, Actions: ranked(c.actions), Outcomes: ranked(c.outcomes)}
	if !c.complete {
		out.Since = since(c.last)
	}
	var err error
	if out.Actors, out.OtherActors, err = c.foremost(c.actors, top, func(e store.Event) (string, string, string) { return e.Actor.ID, e.Actor.Kind, e.Actor.Name }); err != nil {
		return Facets{}, err
	}
	out.Targets, out.OtherTargets, err = c.foremost(c.targets, top, func(e store.Event) (string, string, string) { return e.Target.ID, e.Target.Kind, e.Target.Name })
	return out, err
}

func ranked(counts map[string]int64) []Facet {
	out := make([]Facet, 0, len(counts))
	for value, n := range counts {
		out = append(out, Facet{Value: value, Count: n})
	}
	slices.SortFunc(out, func(a, b Facet) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value)) })
	return out
}

// foremost returns the most frequent subjects with the names that records have of them.
func (c *counter) foremost(counts map[string]*subjectCount, top int, named func(store.Event) (id, kind, name string)) (list []Facet, others int, err error) {
	plain := make(map[string]int64, len(counts))
	for id, s := range counts {
		plain[id] = s.count
	}
	list = ranked(plain)
	if len(list) > top {
		list, others = list[:top], len(list)-top
	}
	for i := range list {
		sample := counts[list[i].Value].sample
		if sample == "" {
			continue
		}
		line, _, err := readRecord(c.tx, sample)
		if err != nil {
			return nil, 0, err
		}
		e, err := store.DecodeEvent(line)
		if err != nil {
			return nil, 0, err
		}
		if id, kind, name := named(e); id == list[i].Value {
			list[i].Kind, list[i].Name = kind, name
		}
	}
	return list, others, nil
}

// since returns the time of an id in whole microseconds, as times are told, and not before it.
func since(source string) time.Time {
	at, _ := store.IDTime(sourcePrefix, source)
	return at.Add(time.Microsecond - 1).Truncate(time.Microsecond)
}
