package audit

import (
	"bytes"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// leaseDetail is the detail that an intent and its outcome share.
	leaseDetail = "lease"
	// claimDetail is the one that the intent of a refresh, its outcome and its recovery share.
	claimDetail = "claim"
	claimPage   = 16
	// OutcomeUnknown is shown for an intent that has no outcome after 15 minutes: the process died, or the outcome was lost while the
	// database was away.
	OutcomeUnknown = "unknown"
	// pendingFor is how long an intent without an outcome counts as under way.
	pendingFor = 15 * time.Minute
	// OutcomeWithin is how far after an intent its outcome is looked for when records are searched.
	OutcomeWithin = 30 * time.Minute
	// outcomeBudget bounds what one call reads for outcomes, beyond that of its first intent, in the measure of searchBudget.
	outcomeBudget = 7_000
	// outcomePage is how many batches are read at once at most.
	outcomePage = 64
)

// outcomes finds what became of intents. Nothing leads from an intent to its outcome but the lease's name, so it reads the batches that
// follow, each at most once a call; nearly always the outcome is in one of the next few.
type outcomes struct {
	tx     *store.Tx
	known  map[string]result // by lease
	ranges []idRange         // what was read, the oldest range last
	budget int
	most   int                         // how far beyond the budget is read at any price; 0 is without end
	hear   func(at place, line []byte) // is shown every record that is read, some twice; nil is shown nothing
}

// result is an outcome and the batch that it is in.
type result struct{ source, outcome string }

// idRange is a range of batch ids: after lo, up to hi.
type idRange struct{ lo, hi string }

func newOutcomes(tx *store.Tx, budget int) *outcomes {
	return &outcomes{tx: tx, known: map[string]result{}, budget: budget}
}

// of returns the outcome that a record shows, as settle does; only what is neither of a use nor settled is decoded.
func (o *outcomes) of(c candidate, anyway bool) (outcome string, settled bool, err error) {
	if string(c.seen.outcome) != store.OutcomePending {
		return string(c.seen.outcome), true, nil
	}
	if lease := leaseOf(c.line); lease != "" && string(c.seen.action) == string(store.LeaseGranted) {
		return o.settleLease(lease, c.at, anyway)
	}
	e, err := store.DecodeEvent(c.line)
	if err != nil {
		return "", false, err
	}
	settled, err = o.settle(&e, anyway)
	return e.Outcome, settled, err
}

// settle sets the outcome that an intent shows. It must be called for newer events before older ones. It returns false when the budget
// does not suffice, unless it is told to go on at any price.
func (o *outcomes) settle(e *store.Event, anyway bool) (bool, error) {
	switch {
	case e.Outcome != store.OutcomePending:
		return true, nil
	case e.Action == store.OAuthRefresh:
		return o.settleClaim(e, anyway)
	case e.Action != store.LeaseGranted:
		return true, nil
	}
	lease, ok := e.Details.Get(leaseDetail)
	if !ok {
		return true, nil
	}
	at, ok := parseID(e.ID)
	if !ok {
		return true, nil
	}
	outcome, enough, err := o.settleLease(lease.Text(), at, anyway)
	if enough {
		e.Outcome = outcome
	}
	return enough, err
}

// settleLease is settle for the intent of a lease by its name and place.
func (o *outcomes) settleLease(name string, at place, anyway bool) (outcome string, enough bool, err error) {
	granted, _ := store.IDTime(sourcePrefix, at.source)
	stop := store.IDFloor(sourcePrefix, granted.Add(OutcomeWithin))
	if _, have := o.known[name]; !have {
		met := func() bool { _, have := o.known[name]; return have }
		if enough, err := o.read(at.source, stop, met, anyway); err != nil || !enough {
			return "", false, err
		}
	}
	// A later outcome may have been met on the way to another one; what is shown must not depend on that.
	if r, have := o.known[name]; have && at.source < r.source && r.source <= stop {
		return r.outcome, true, nil
	}
	if o.tx.Now().Sub(granted) >= pendingFor {
		return OutcomeUnknown, true, nil
	}
	return store.OutcomePending, true, nil
}

// settleClaim is settle for the call of a token endpoint: its outcome is a later event of the same credential and claim. A claim that was found to
// have lapsed is unknown at once, unless its holder brings an answer after all.
func (o *outcomes) settleClaim(e *store.Event, anyway bool) (bool, error) {
	claim, ok := e.Details.Get(claimDetail)
	at, known := parseID(e.ID)
	if !ok || !known {
		return true, nil
	}
	called, _ := store.IDTime(sourcePrefix, at.source)
	if o.tx.Now().Sub(called) >= pendingFor {
		e.Outcome = OutcomeUnknown
	}
	stop := store.IDFloor(sourcePrefix, called.Add(OutcomeWithin))
	for pos := at.source; ; {
		if o.budget <= 0 && !anyway {
			return false, nil
		}
		var rows []recordRow
		if err := o.tx.Select(&rows, `SELECT id, body FROM audit_events WHERE target_id = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4`, e.Target.ID, pos, stop, claimPage); err != nil {
			return false, err
		}
		o.budget -= len(rows) + 1
		for _, row := range rows {
			pos = row.ID
			later, err := store.DecodeEvent(row.Body)
			if err != nil {
				continue
			}
			if its, has := later.Details.Get(claimDetail); !has || its.Text() != claim.Text() {
				continue
			}
			switch {
			case later.Action == store.OAuthRefresh && later.Outcome != store.OutcomePending:
				e.Outcome = later.Outcome
				return true, nil
			case later.Action == store.OAuthRecovery:
				e.Outcome = OutcomeUnknown
			}
		}
		if len(rows) < claimPage {
			return true, nil
		}
	}
}

// spent reports whether no more may be read, also of what is to be read at any price.
func (o *outcomes) spent(anyway bool) bool {
	return o.budget <= 0 && (!anyway || o.most > 0 && o.budget <= -o.most)
}

// read reads batches after pos, up to stop, until it has met what is looked for. It skips what was read before. What is to be read at any price ends at most beyond the budget.
func (o *outcomes) read(pos, stop string, met func() bool, anyway bool) (enough bool, err error) {
	from, page := pos, firstPage
	defer func() { o.ranges = append(o.ranges, idRange{from, pos}) }()
	for pos < stop {
		if n := len(o.ranges); n > 0 && o.ranges[n-1].lo <= pos {
			from, pos = min(from, o.ranges[n-1].lo), max(pos, o.ranges[n-1].hi)
			o.ranges = o.ranges[:n-1]
			continue
		}
		if o.spent(anyway) {
			return anyway, nil
		}
		limit := stop
		if n := len(o.ranges); n > 0 && o.ranges[n-1].lo < stop {
			limit = o.ranges[n-1].lo
		}
		var rows []recordRow
		if err := o.tx.Select(&rows, `SELECT id, body FROM audit_batches WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`, pos, limit, page); err != nil {
			return false, err
		}
		o.budget -= batchCost
		for _, row := range rows {
			o.budget -= costOf(row)
			o.collect(row)
			pos = row.ID
		}
		if len(rows) < page {
			pos = limit
		}
		page = min(2*page, outcomePage)
		if met() {
			return true, nil
		}
	}
	return true, nil
}

// have notes that a range was collected, which is older than all that were collected before, or goes on where the oldest of them begins.
func (o *outcomes) have(r idRange) {
	if n := len(o.ranges); n > 0 && o.ranges[n-1].lo <= r.hi {
		o.ranges[n-1].lo = min(o.ranges[n-1].lo, r.lo)
		return
	}
	o.ranges = append(o.ranges, r)
}

// collect notes the outcomes in a batch.
func (o *outcomes) collect(row recordRow) {
	n := -1
	for line := range bytes.SplitSeq(row.Body, newline) {
		if n++; o.hear != nil {
			o.hear(place{row.ID, n}, line)
		}
		if lease, outcome := outcomeIn(line); lease != "" {
			o.known[lease] = result{row.ID, outcome}
		}
	}
}

var (
	outcomeMark = []byte(`"action":"` + string(store.LeaseOutcome) + `"`)
	leaseMark   = []byte(`"` + leaseDetail + `":"`) // in a text its quotes would be escaped
)

// outcomeIn returns the lease that a record tells the outcome of, "" when it tells of none. There are very many to a batch, so they are not decoded.
func outcomeIn(line []byte) (lease, outcome string) {
	if !bytes.Contains(line, outcomeMark) {
		return "", ""
	}
	g, ok := look(line)
	if !ok || string(g.action) != string(store.LeaseOutcome) {
		return "", ""
	}
	if name := leaseOf(line); name != "" {
		return name, string(g.outcome)
	}
	e, err := store.DecodeEvent(line)
	if err != nil {
		return "", ""
	}
	if d, ok := e.Details.Get(leaseDetail); ok {
		return d.Text(), e.Outcome
	}
	return "", ""
}

// leaseOf returns the lease that a record is about, "" when it has none or an escape hides it.
func leaseOf(line []byte) string {
	_, after, ok := bytes.Cut(line, leaseMark)
	name, _, closed := bytes.Cut(after, []byte(`"`))
	if !ok || !closed || bytes.ContainsRune(name, '\\') {
		return ""
	}
	return string(name)
}
