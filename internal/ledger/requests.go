package ledger

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// State says what became of a request or of an attempt at it, in the words of the sums.
type State string

// The states. What was never sent is in no sum.
const (
	Complete State = "complete"
	Partial  State = "partial"
	Unknown  State = "unknown"
	Failed   State = "failed"
	Pending  State = "pending"
	Unsent   State = "unsent"
)

// States returns every state.
func States() []State { return []State{Complete, Partial, Unknown, Failed, Pending, Unsent} }

// RequestQuery says which requests are to be told. Empty fields do not restrict.
type RequestQuery struct {
	// From and To bound when an account was first lent for the request: From ≤ at < To.
	From, To time.Time
	// Train (by slug or id), Key, User (whose keys they are) and Credential (lent at any attempt), and the model that answered or, without an answer, was asked for. Asked
	// for by person or model, what was never sent is left out, unless it is what is asked for.
	Train, Key, User, Credential, Model string
	State                               State
	Limit                               int
	Cursor                              string
}

// Attempt is one account that was lent for a request, and what came of it.
type Attempt struct {
	Number     int
	Lease      string
	At         time.Time
	Credential Named
	// Version is the one of the credential's secret, and Host where it was sent.
	Version int64
	Host    string
	State   State
	// Result is how it ended in the words of the log, and Status the upstream's; "" and 0 where nobody knows.
	Result string
	Status int
	// FirstByte and Duration are from the attempt's begin; 0 where nobody knows.
	FirstByte, Duration time.Duration
	// Sent and Received are the sizes of the request's body and of what of the answer's went to the client.
	Sent, Received int64
	// Model answered; "" where it was the one that was asked for.
	Model  string
	Tokens price.Tokens
	Tools  int64
	// Intent and Outcome are the ids of the audit records; that of the outcome is "" while there is none.
	Intent, Outcome string
}

// Request is one request of a client for which an account was lent. What it says as a whole is what its last attempt says; times are from the begin of the first.
type Request struct {
	ID    string
	At    time.Time
	Train Named
	Key   Named
	// User made the key; empty where nobody knows, or where the caller may not tell people apart.
	User         Named
	Method, Path string
	// Model answered or, without an answer, was asked for; Asked was.
	Model, Asked        string
	Credential          Named
	State               State
	Status              int
	FirstByte, Duration time.Duration
	Sent, Received      int64
	Tokens              price.Tokens
	Tools               int64
	Cost                price.Cost
	Attempts            []Attempt
}

// RequestPage is a part of the answer, the newest request first.
type RequestPage struct {
	Requests []Request
	// Next leads to what follows, also behind a page that holds little, or nothing: one call reads a bounded part of the log.
	Next string
	// Seen is the time down to which was looked; the zero time when all was.
	Seen time.Time
}

const (
	// RequestLimit and MaxRequests are how many requests a page has.
	RequestLimit, MaxRequests = 50, 500
	// stepsMost bounds the parts of the log that one page looks at, hours apart, and looksFor the time that it takes for more than the first.
	stepsMost, looksFor = 16, 300 * time.Millisecond
	// settles is how far before the end of what was added up everything is looked at all the same: its outcomes may have come since.
	settles = 15 * time.Second
	// closely is how far that end may be behind for what is open there to be taken as open.
	closely = time.Minute
)

// Requests tells requests one by one, from the log. It needs usage:read of every train, since they show what others sent and when, and users:read where it asks for those of one person. That it was read is on record.
func (r *Room) Requests(ctx context.Context, caller identity.Caller, q RequestQuery) (RequestPage, error) {
	if err := r.allowRequests(ctx, caller, q.User); err != nil {
		return RequestPage{}, err
	}
	at, err := q.check()
	if err != nil {
		return RequestPage{}, err
	}
	reach, sees, err := r.sees(ctx, caller)
	if err != nil {
		return RequestPage{}, err
	}
	s := &requestSearch{room: r, q: &q, reach: reach, sees: sees, ask: audit.RequestQuery{From: q.From, To: q.To, Key: q.Key, Credential: q.Credential}}
	if none, err := s.prepare(ctx); err != nil || none {
		return RequestPage{}, err
	}
	out, err := s.collect(ctx, at)
	if err != nil {
		return RequestPage{}, err
	}
	if err := r.name(ctx, caller, out.Requests); err != nil {
		return RequestPage{}, err
	}
	return out, r.audit.RecordRead(ctx, caller.Event(store.AuditRead, store.Target{Kind: "request"}), "requests", len(out.Requests))
}

// allowRequests asks for usage:read of every train, and for users:read where one person is asked for.
func (r *Room) allowRequests(ctx context.Context, caller identity.Caller, user string) error {
	if err := r.identity.Permit(ctx, caller, identity.UsageRead, store.Target{Kind: "usage"}); err != nil {
		return err
	}
	return r.allow(ctx, caller, Query{User: user})
}

// Request tells one request by its id. It needs usage:read of every train. That it was read is on record.
func (r *Room) Request(ctx context.Context, caller identity.Caller, id string) (Request, error) {
	if err := r.allowRequests(ctx, caller, ""); err != nil {
		return Request{}, err
	}
	_, sees, err := r.sees(ctx, caller)
	if err != nil {
		return Request{}, err
	}
	found, err := r.audit.Request(ctx, id)
	if err != nil {
		return Request{}, err
	}
	if first := &found.Attempts[0].Intent; !sees(first.OnBehalf) || textOf(first, "mcp_server") != "" {
		return Request{}, audit.NoSuchRequest()
	}
	one := []Request{r.told(&found, time.Now())}
	if err := r.name(ctx, caller, one); err != nil {
		return Request{}, err
	}
	return one[0], r.audit.RecordRead(ctx, caller.Event(store.AuditRead, store.Target{Kind: "request", ID: id}), "request", 1)
}

// sees returns of which trains the caller is told the requests, and what says it of one by its id.
func (r *Room) sees(ctx context.Context, caller identity.Caller) (reach identity.TrainReach, sees func(train string) bool, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) (err error) {
		if reach, err = identity.ReachOfTrains(tx, caller, identity.UsageRead); err == nil {
			sees, err = reach.Known(tx)
		}
		return err
	})
	return reach, sees, err
}

// part is a part of the log that is looked at: from ≤ at < end, below a place. The zero times are no bounds.
type part struct {
	from, end time.Time
	place     string
}

// cursor leads to a part.
func (p part) cursor() string {
	micro := func(t time.Time) string {
		if t.IsZero() {
			return "0"
		}
		return strconv.FormatInt(t.UnixMicro(), 10)
	}
	return micro(p.from) + "." + micro(p.end) + "." + p.place
}

// maxMicro is in the year 9999.
const maxMicro = 253_370_764_800_000_000

func readPart(cursor string) (p part, ok bool) {
	words := strings.SplitN(cursor, ".", 3)
	if len(words) != 3 {
		return part{}, false
	}
	p.place = words[2]
	for i, to := range [...]*time.Time{&p.from, &p.end} {
		micro, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil || micro < 0 || micro > maxMicro {
			return part{}, false
		}
		if micro > 0 {
			*to = time.UnixMicro(micro).UTC()
		}
	}
	return p, true
}

// check refuses what cannot be asked, and returns where in the log the answer begins.
func (q *RequestQuery) check() (part, error) {
	bad := fault.New(fault.Unprocessable, "validation_failed", "The question about requests cannot be answered as it is.")
	for _, t := range [...]struct {
		where string
		at    time.Time
	}{{"query.from", q.From}, {"query.to", q.To}} {
		if year := t.at.UTC().Year(); !t.at.IsZero() && (year < firstYear || year > lastYear) {
			bad = bad.With(t.where, "must be of a year from 1970 to 9998")
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		bad = bad.With("query.from", "must be before to")
	}
	if q.State != "" && !slices.Contains(States(), q.State) {
		bad = bad.With("query.outcome", "must be one of complete, partial, unknown, failed, pending and unsent")
	}
	if q.Limit == 0 {
		q.Limit = RequestLimit
	}
	if q.Limit < 0 || q.Limit > MaxRequests {
		bad = bad.With("query.limit", "must be from 1 to 500")
	}
	if len(bad.Fields) > 0 {
		return part{}, bad
	}
	if q.Cursor == "" {
		return part{end: q.To}, nil
	}
	p, ok := readPart(q.Cursor)
	if !ok {
		return part{}, invalid("query.cursor", "is not a cursor of this list")
	}
	return p, nil
}

// open reports whether an intent has no outcome yet, as far as it was added up.
func open(tx *store.Tx, lease string) (bool, error) {
	var n int64
	err := tx.Get(&n, `SELECT COUNT(*) FROM usage_open WHERE lease = $1`, lease)
	return n > 0, err
}

// requestSearch is the answer to one query while it is made.
type requestSearch struct {
	room   *Room
	q      *RequestQuery
	ask    audit.RequestQuery
	reach  identity.TrainReach // also of what is found in the sums: where a cursor leads would tell of them
	sees   func(train string) bool
	trains []string        // by the filter's word, where they are several
	keys   map[string]bool // of the person
	now    time.Time
	known  time.Time // everything before it was added up
}

// prepare finds out what the words of the question mean. None says that nothing can match.
func (s *requestSearch) prepare(ctx context.Context) (none bool, err error) {
	q := s.q
	err = s.room.db.Read(ctx, func(tx *store.Tx) error {
		none, s.now = false, tx.Now()
		s.ask.Train, s.trains = "", nil
		switch {
		case store.ValidID("train", q.Train):
			s.ask.Train = q.Train
			none = !s.sees(q.Train)
		case q.Train != "":
			if err := tx.Select(&s.trains, `SELECT id FROM usage_subjects WHERE name = $1 AND id LIKE 'train\_%' ESCAPE '\' ORDER BY id LIMIT 100`, q.Train); err != nil {
				return err
			}
			s.trains = slices.DeleteFunc(s.trains, func(id string) bool { return !s.sees(id) })
			if none = len(s.trains) == 0; len(s.trains) == 1 {
				s.ask.Train, s.trains = s.trains[0], nil
			}
		}
		if q.Key != "" {
			var of []string // one, or none where it was never used
			if err := tx.Select(&of, `SELECT train_id FROM client_keys WHERE id = $1 UNION SELECT train_id FROM usage_lines WHERE key_id = $1`, q.Key); err != nil {
				return err
			}
			none = none || len(of) > 0 && !slices.ContainsFunc(of, s.sees)
		}
		if q.User != "" {
			var keys []string
			if err := tx.Select(&keys, `SELECT id FROM usage_subjects WHERE owner = $1`, q.User); err != nil {
				return err
			}
			s.keys = map[string]bool{}
			for _, key := range keys {
				s.keys[key] = true
			}
			none = none || len(keys) == 0
		}
		return s.upTo(tx)
	})
	s.ask.Keep = s.keep
	return none, err
}

// upTo finds out since when not everything is in the sums.
func (s *requestSearch) upTo(tx *store.Tx) error {
	var position int64
	if err := tx.Get(&position, `SELECT position FROM usage_follower WHERE id = 1`); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	s.known, s.ask.Open = time.Time{}, nil
	if position <= 0 {
		return nil
	}
	at, err := audit.RecordedAt(tx, position)
	if err != nil {
		return err
	}
	if at.IsZero() { // nothing of the log is left
		at = s.now
	}
	s.known = at.Add(-settles)
	if s.now.Sub(s.known) < closely {
		s.ask.Open, s.ask.OpenSince = open, s.known
	}
	return nil
}

// keep reports whether a request is asked for, beyond what the search of the log looks at itself.
func (s *requestSearch) keep(found *audit.Request) (bool, error) {
	if first := &found.Attempts[0].Intent; !s.sees(first.OnBehalf) || textOf(first, "mcp_server") != "" {
		return false, nil
	}
	if s.keys == nil && s.trains == nil && s.q.Model == "" && s.q.State == "" {
		return true, nil
	}
	r := s.room.told(found, s.now)
	switch {
	case s.keys != nil && !s.keys[r.Key.ID], s.trains != nil && !slices.Contains(s.trains, r.Train.ID):
		return false, nil
	case s.q.Model != "" && r.Model != s.q.Model, s.q.State != "" && r.State != s.q.State:
		return false, nil
	case s.q.State == "" && r.State == Unsent && s.skips(): // it is in no sum, and would be told or not by what else there was in its hour
		return false, nil
	}
	return true, nil
}

// collect goes through the log, the newest part first.
func (s *requestSearch) collect(ctx context.Context, at part) (out RequestPage, err error) {
	begun := time.Now()
	for step := 1; ; step++ {
		if at.place == "" {
			found := false
			if at, found, err = s.next(ctx, at.end); err != nil || !found {
				return out, err
			}
		}
		ask := s.ask
		ask.From, ask.To, ask.Cursor, ask.Limit = latest(at.from, s.q.From), at.end, at.place, s.q.Limit-len(out.Requests)
		page, err := s.room.audit.Requests(ctx, ask)
		if err != nil {
			return out, err
		}
		for i := range page.Requests {
			out.Requests = append(out.Requests, s.room.told(&page.Requests[i], s.now))
		}
		if at.place = page.Next; at.place != "" {
			out.Next, out.Seen = at.cursor(), audit.SeenTo(page.Next)
			return out, nil
		}
		if !at.from.After(s.q.From) {
			return out, nil
		}
		at = part{end: at.from}
		if len(out.Requests) == s.q.Limit || step == stepsMost || time.Since(begun) > looksFor {
			out.Next, out.Seen = at.cursor(), at.end
			return out, nil
		}
	}
}

// next returns the part before a time that is to be looked at: all of it or, where something is asked for of which the log has no index, what was not added up yet,
// and then the newest hour in whose sums there is something like it, with the one before: a request may have begun there.
func (s *requestSearch) next(ctx context.Context, end time.Time) (p part, found bool, err error) {
	switch {
	case !s.skips() || !s.known.After(s.q.From):
		return part{from: s.q.From, end: end}, true, nil
	case end.IsZero() || end.After(s.known):
		return part{from: s.known, end: end}, true, nil
	}
	hour, found, err := s.before(ctx, end)
	if next := hour.Add(time.Hour); next.Before(end) {
		end = next
	}
	return part{from: hour.Add(-time.Hour), end: end}, found, err
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// skips reports whether something is asked for that the log has no index for, and the sums know.
func (s *requestSearch) skips() bool {
	return s.q.State != Unsent && (s.q.Model != "" || s.q.State != "" || s.q.User != "" || s.trains != nil)
}

// before returns the newest hour that begins before end in whose sums there is something like what is asked for.
func (s *requestSearch) before(ctx context.Context, end time.Time) (hour time.Time, found bool, err error) {
	err = s.room.db.Read(ctx, func(tx *store.Tx) (err error) {
		if hour, found, err = s.within(tx, months, s.q.From, end); err != nil {
			return err
		}
		return s.pending(tx, end, &hour, &found)
	})
	return hour, found, err
}

// within looks for the newest such hour in a time, by months and days first. Of those at the ends, only a part is in it.
func (s *requestSearch) within(tx *store.Tx, span int, least, before time.Time) (hour time.Time, found bool, err error) {
	for {
		at, have, err := s.newest(tx, span, least, before)
		if err != nil || !have || span == hours {
			return at, have, err
		}
		end := after(span, at)
		if before.Before(end) {
			end = before
		}
		if hour, found, err = s.within(tx, span-1, latest(least, at), end); found || err != nil {
			return hour, found, err
		}
		before = at
	}
}

// newest returns when the newest span begins, before a time, that has what is asked for in its sums.
func (s *requestSearch) newest(tx *store.Tx, span int, least, before time.Time) (time.Time, bool, error) {
	w := &store.Where{}
	w.Add(`s.span = ?`, span)
	w.Add(`s.begins < ?`, store.TimeOf(before))
	if !least.IsZero() {
		w.Add(`s.begins >= ?`, store.TimeOf(begins(span, least)))
	}
	s.narrow(w)
	if s.q.Model != "" { // what failed is under none
		w.Add(`l.model IN (?, '')`, s.q.Model)
	}
	switch s.q.State {
	case Complete, Partial, Unknown, Failed:
		w.Add(`s.` + string(s.q.State) + ` > 0`) // one of these four words
	case Pending:
		w.Add(`1 = 0`)
	}
	var at store.Time
	err := tx.Get(&at, `SELECT s.begins FROM usage_sums s JOIN usage_lines l ON l.id = s.line`+w.SQL()+` ORDER BY s.begins DESC LIMIT 1`, w.Args()...)
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, false, nil
	}
	return at.Time(), err == nil, err
}

// pending looks among the intents without an outcome as well. One may have come since, whatever it is, where the log is still looked at for it.
func (s *requestSearch) pending(tx *store.Tx, end time.Time, hour *time.Time, found *bool) error {
	w, lately := &store.Where{}, store.TimeOf(s.known.Add(-audit.OutcomeWithin))
	if s.q.State != "" && s.q.State != Pending && s.q.State != Unknown {
		w.Add(`o.granted_at >= ?`, lately)
	}
	if s.q.Model != "" { // the answer may name another one than the request
		w.Add(`(l.model IN (?, '') OR o.granted_at >= ?)`, s.q.Model, lately)
	}
	w.Add(`o.granted_at < ?`, store.TimeOf(end))
	if !s.q.From.IsZero() {
		w.Add(`o.granted_at >= ?`, store.TimeOf(s.q.From))
	}
	s.narrow(w)
	var at store.Time
	err := tx.Get(&at, `SELECT o.granted_at FROM usage_open o JOIN usage_lines l ON l.id = o.line`+w.SQL()+` ORDER BY o.granted_at DESC LIMIT 1`, w.Args()...)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if t := begins(hours, at.Time()); err == nil && (!*found || t.After(*hour)) {
		*hour, *found = t, true
	}
	return err
}

// narrow says which lines of the sums can be of the last attempt at what is asked for: of whichever account.
func (s *requestSearch) narrow(w *store.Where) {
	s.reach.Narrow(w, `l.train_id`)
	ids := s.trains
	if s.ask.Train != "" {
		ids = []string{s.ask.Train}
	}
	if len(ids) > 0 {
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		w.Add(`l.train_id IN (`+strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", ")+`)`, args...)
	}
	for _, f := range [...]struct{ column, is string }{{"l.key_id", s.q.Key}, {"l.user_id", s.q.User}} {
		if f.is != "" {
			w.Add(f.column+` = ?`, f.is)
		}
	}
}
