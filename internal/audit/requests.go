package audit

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// RequestQuery asks for the requests that something was lent for. Empty fields do not restrict.
type RequestQuery struct {
	// From and To bound the time of the attempt by which a request is found: From ≤ at < To.
	From, To time.Time
	// Train, Key and Credential are the ids of the train and of the client key that asked, and of what was lent at any attempt.
	Train, Key, Credential string
	// Keep, where it is not nil, says whether a request belongs to the answer. A request that goes on into what was not read yet is judged by what is known.
	Keep func(*Request) (bool, error)
	// Open, where it is not nil, may say that the log had no outcome of a lease before OpenSince, so that none is looked for there.
	Open      func(tx *store.Tx, lease string) (bool, error)
	OpenSince time.Time
	// Limit is the greatest number of requests: 0 means 100, more than 1000 is refused. Cursor is Requests.Next of the page before.
	Limit  int
	Cursor string
}

// Request is one request with its attempts, in their order. One that is answered from several accounts at once, such as a list of files, has several first ones.
type Request struct {
	ID       string
	Attempts []Attempt
}

// Attempt is what the log has of one attempt: its intent and its outcome, as they were recorded. Outcome is nil while there is none.
type Attempt struct {
	Intent  store.Event
	Outcome *store.Event
}

// Requests is a part of the answer, the newest request first.
type Requests struct {
	Requests []Request
	// Next continues, as [Page.Next] does: also behind a page that holds little, or nothing.
	Next string
}

const (
	// requestBudget bounds what one page of requests reads to find them, and again to find what became of them, in the measure of searchBudget.
	requestBudget = 20_000
	// oneBudget bounds what is read to find one request by its id, and again to find what became of it.
	oneBudget = 64_000
	// hopWithin is how long after a failed attempt the next one is looked for, and freshWithin where an access token had to be refreshed first.
	hopWithin, freshWithin = 10 * time.Second, time.Minute
	// besideWithin is how long after an attempt another one of the same request, at another account, is looked for.
	besideWithin  = 2 * time.Second
	requestPrefix = "req"
)

// Requests finds requests, the newest first. What was never lent for, because it was refused before, is none of them.
func (l *Log) Requests(ctx context.Context, q RequestQuery) (Requests, error) {
	f, err := newFilter(Query{From: q.From, To: q.To, Actor: q.Key, Target: q.Credential, Subject: q.Train, Action: store.LeaseGranted, Limit: q.Limit, Cursor: q.Cursor})
	if err != nil {
		return Requests{}, err
	}
	f.loose, f.budget = &l.loose, requestBudget
	var page Requests
	err = l.db.Read(ctx, func(tx *store.Tx) (err error) {
		page, err = f.requests(tx, &q)
		return err
	})
	return page, err
}

func (f *filter) requests(tx *store.Tx, q *RequestQuery) (Requests, error) {
	t := newTrips(tx, requestBudget)
	t.open, t.since = q.Open, q.OpenSince
	found := newFinder(tx, f, t.results)
	var page Requests
	at, last := map[string]int{}, f.start
	for {
		c, reached, err := found.next()
		if err != nil {
			return Requests{}, err
		}
		if c == nil {
			if reached != (place{}) {
				page.Next = reached.id()
			}
			return page, nil
		}
		_, beside := at[string(c.seen.request)]
		if len(page.Requests) == f.Limit && !beside {
			page.Next = last.id()
			return page, nil
		}
		hops, settled, err := t.of(c, f.Target, last == f.start)
		if err != nil {
			return Requests{}, err
		}
		if !settled {
			page.Next = last.id()
			return page, nil
		}
		last = c.at
		if len(hops) == 0 {
			continue
		}
		if i, have := at[string(c.seen.request)]; have { // answered from several accounts: the newer one was met first
			page.Requests[i].Attempts = append(hops, page.Requests[i].Attempts...)
			continue
		}
		r := Request{ID: string(c.seen.request), Attempts: hops}
		if q.Keep != nil {
			keep, err := q.Keep(&r)
			if err != nil {
				return Requests{}, err
			}
			if !keep {
				continue
			}
		}
		at[r.ID] = len(page.Requests)
		page.Requests = append(page.Requests, r)
	}
}

// Request returns one request by its id. The fault is not_found when nothing was lent for such a request, or not within a bounded part of the log after its begin. An outcome that lies
// beyond as much again counts as not there: whoever asks for one request must not read half an hour of a busy log.
func (l *Log) Request(ctx context.Context, id string) (Request, error) {
	begun, ok := store.IDTime(requestPrefix, id)
	if !ok {
		return Request{}, NoSuchRequest()
	}
	var out Request
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		t := newTrips(tx, oneBudget)
		t.wants(id)
		out = Request{ID: id}
		pos := store.IDFloor(sourcePrefix, begun.Add(-time.Second)) // the clock may have been set back a little
		end := store.IDFloor(sourcePrefix, begun.Add(OutcomeWithin))
		if _, err := t.results.read(pos, end, func() bool { return len(t.firsts) > 0 }, false); err != nil {
			return err
		}
		if len(t.firsts) == 0 {
			return NoSuchRequest()
		}
		for n := 0; n < len(t.firsts); n++ { // more of them may be met on the way
			hops, _, err := t.onward(t.firsts[n], true)
			if err != nil {
				return err
			}
			out.Attempts = append(out.Attempts, hops...)
			from := t.firsts[n].at.source
			if _, err := t.results.read(from, store.IDFloor(sourcePrefix, ended(hops).Add(besideWithin)), func() bool { return false }, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Request{}, err
	}
	return out, nil
}

// NoSuchRequest is the fault of a request that the log does not know.
func NoSuchRequest() error {
	return fault.New(fault.NotFound, "not_found", "There is no request with this id for which something was lent. The id is the one of the header X-Request-Id; a request that was refused before has none.")
}

// ended is when the last of some attempts ended, as far as it is known.
func ended(hops []Attempt) time.Time {
	last := hops[len(hops)-1]
	if last.Outcome != nil {
		return last.Outcome.At
	}
	return last.Intent.At
}

// piece is a record with its place.
type piece struct {
	at   place
	line []byte
}

// trips gathers the attempts of requests from the batches that are read.
type trips struct {
	tx      *store.Tx
	results *outcomes
	ends    map[string]piece         // outcomes by lease
	hops    map[string]map[int]piece // intents of attempts after the first, by request and number
	want    string                   // the one request of which anything is kept, its first attempts as well; "" for all
	mark    []byte                   // is in every record of it
	firsts  []piece
	open    func(tx *store.Tx, lease string) (bool, error)
	since   time.Time // before it, what is open has no outcome
	late    bool      // what came since was read
}

func newTrips(tx *store.Tx, budget int) *trips {
	t := &trips{tx: tx, results: newOutcomes(tx, budget), ends: map[string]piece{}, hops: map[string]map[int]piece{}}
	t.results.hear, t.results.most = t.hear, budget
	return t
}

// wants says that one request alone is looked for.
func (t *trips) wants(id string) {
	t.want, t.mark = id, []byte(`"request_id":"`+id+`"`) // in a text its quotes would be escaped
}

var (
	grantedMark = []byte(`"action":"` + string(store.LeaseGranted) + `"`)
	attemptMark = []byte(`"attempt":`) // in a text its quotes would be escaped
)

// attemptOf returns the number of the attempt that a record is of; 0 when it tells none.
func attemptOf(line []byte) int {
	_, after, _ := bytes.Cut(line, attemptMark)
	end := 0
	for end < len(after) && end < 9 && after[end] >= '0' && after[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(string(after[:end])) // 0 of nothing
	return n
}

// hear learns of a record. It may be shown one twice. What it keeps it copies: a line is a piece of a whole batch.
func (t *trips) hear(at place, line []byte) {
	switch {
	case t.want != "" && !bytes.Contains(line, t.mark):
	case bytes.Contains(line, outcomeMark):
		if lease := leaseOf(line); lease != "" {
			if _, have := t.ends[lease]; !have {
				t.ends[lease] = piece{at, bytes.Clone(line)}
			}
		}
	case bytes.Contains(line, grantedMark):
		n := attemptOf(line)
		if n <= 1 && t.want == "" {
			return
		}
		g, ok := look(line)
		if !ok || string(g.action) != string(store.LeaseGranted) || len(g.request) == 0 {
			return
		}
		request := string(g.request)
		if n <= 1 {
			if request == t.want && !slices.ContainsFunc(t.firsts, func(p piece) bool { return p.at == at }) {
				t.firsts = append(t.firsts, piece{at, bytes.Clone(line)})
			}
			return
		}
		if t.hops[request] == nil {
			t.hops[request] = map[int]piece{}
		}
		t.hops[request][n] = piece{at, bytes.Clone(line)}
	}
}

// of returns the attempts of the request that an intent belongs to, none when another intent stands for it: the first one or, where one account is asked for,
// the first at that account. It must be called for newer intents before older ones. It returns false when the budget does not suffice.
func (t *trips) of(c *candidate, credential string, anyway bool) (attempts []Attempt, settled bool, err error) {
	n := attemptOf(c.line)
	if len(c.seen.request) == 0 || n > 1 && credential == "" {
		return nil, true, nil
	}
	var before []Attempt
	if n > 1 {
		earlier, enough, err := t.backward(c, n, anyway)
		if err != nil || !enough {
			return nil, false, err
		}
		for _, p := range earlier {
			if g, ok := look(p.line); ok && string(g.target) == credential {
				return nil, true, nil
			}
			a, err := t.attempt(p)
			if err != nil {
				return nil, false, err
			}
			before = append(before, a)
		}
	}
	after, enough, err := t.onward(piece{c.at, c.line}, anyway)
	return append(before, after...), enough, err
}

// attempt is an intent with the outcome that is known of it.
func (t *trips) attempt(p piece) (a Attempt, err error) {
	if a.Intent, err = store.DecodeEvent(p.line); err != nil {
		return Attempt{}, err
	}
	if end, have := t.ends[leaseOf(p.line)]; have {
		e, err := store.DecodeEvent(end.line)
		if err != nil {
			return Attempt{}, err
		}
		a.Outcome = &e
	}
	return a, nil
}

// onward returns an attempt and those that followed it.
func (t *trips) onward(p piece, anyway bool) (attempts []Attempt, enough bool, err error) {
	from := p.at.source
	for {
		lease := leaseOf(p.line)
		if enough, err := t.settle(p.at, lease, from, anyway); err != nil || !enough {
			return nil, false, err
		}
		a, err := t.attempt(p)
		if err != nil {
			return nil, false, err
		}
		attempts = append(attempts, a)
		wait := goesOn(a.Outcome)
		if wait == 0 {
			return attempts, true, nil
		}
		request, next := a.Intent.RequestID, attemptOf(p.line)+1
		known := func() bool { _, have := t.hops[request][next]; return have }
		if !known() { // where the budget does not suffice, it was the last one
			over, _ := store.IDTime(sourcePrefix, t.ends[lease].at.source)
			if _, err := t.results.read(from, store.IDFloor(sourcePrefix, over.Add(wait)), known, false); err != nil {
				return nil, false, err
			}
		}
		hop, have := t.hops[request][next]
		if !have || !p.at.older(hop.at) {
			return attempts, true, nil
		}
		p = hop
	}
}

// settle sees to it that the outcome of a lease is known, if there is one. With anyway it goes on without budget as far as that was at first, and takes what it has not met for not there.
func (t *trips) settle(at place, lease, from string, anyway bool) (enough bool, err error) {
	ended := func() bool { _, have := t.ends[lease]; return have }
	if ended() {
		return true, nil
	}
	if t.open != nil {
		open, err := t.open(t.tx, lease)
		if err != nil {
			return false, err
		}
		if open {
			return true, t.lately()
		}
	}
	granted, _ := store.IDTime(sourcePrefix, at.source)
	return t.results.read(from, store.IDFloor(sourcePrefix, granted.Add(OutcomeWithin)), ended, anyway)
}

// lately reads what came since it was added up what is open, once, and as much of it as its budget allows: an outcome of the last seconds may be missed.
func (t *trips) lately() error {
	if t.late {
		return nil
	}
	t.late = true
	news := newOutcomes(t.tx, requestBudget)
	news.hear = t.hear
	_, err := news.read(store.IDFloor(sourcePrefix, t.since), highest, func() bool { return false }, false)
	return err
}

// highest is above every id.
const highest = sourcePrefix + "_8"

// goesOn says within which time after an outcome there may be another attempt at the same request; 0 means never.
func goesOn(outcome *store.Event) time.Duration {
	if outcome == nil {
		return 0
	}
	result, _ := outcome.Details.Get("result")
	status, _ := outcome.Details.Get("status")
	n, _ := strconv.Atoi(status.Text()) // what is no number leads nowhere
	switch result.Text() {
	case "upstream_unreachable", "revoked":
		return hopWithin
	case "upstream_error":
		switch {
		case n == 401:
			return freshWithin
		case n == 403, n == 429, n >= 500:
			return hopWithin
		}
	}
	return 0
}

// backward returns the attempts before one, in their order; those that are not found are left out. It reads the log back to the begin of the request at most.
func (t *trips) backward(c *candidate, number int, anyway bool) (earlier []piece, enough bool, err error) {
	request := string(c.seen.request)
	begun, ok := store.IDTime(requestPrefix, request)
	if !ok {
		return nil, true, nil
	}
	found := map[int]piece{}
	floor := store.IDFloor(sourcePrefix, begun.Add(-time.Second))
	below, page, more := c.at.source+"0", firstPage, true // that batch may hold earlier ones, and no id is between the two
	for more && len(found) < number-1 {
		if t.results.spent(anyway) {
			if anyway {
				break
			}
			return nil, false, nil
		}
		var rows []recordRow
		if err := t.tx.Select(&rows, `SELECT id, body FROM audit_batches WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3`, floor, below, page); err != nil {
			return nil, false, err
		}
		t.results.budget -= batchCost
		for _, row := range rows {
			t.results.budget -= costOf(row)
			below = row.ID
			for n, line := range bytes.Split(row.Body, newline) {
				at := place{row.ID, n}
				t.hear(at, line)
				if !at.older(c.at) || !bytes.Contains(line, grantedMark) {
					continue
				}
				if g, ok := look(line); ok && string(g.request) == request {
					if n := attemptOf(line); n < number {
						found[n] = piece{at, bytes.Clone(line)}
					}
				}
			}
		}
		more, page = len(rows) == page, min(2*page, outcomePage)
	}
	for n := 1; n < number; n++ {
		if p, have := found[n]; have {
			earlier = append(earlier, p)
		}
	}
	return earlier, true, nil
}

// SeenTo returns the time down to which a search has looked that goes on at a cursor.
func SeenTo(cursor string) time.Time {
	at, ok := parseID(cursor)
	if !ok {
		return time.Time{}
	}
	return since(at.source)
}
