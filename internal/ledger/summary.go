package ledger

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// key is what a row is told apart by.
type key struct {
	at                           int64
	train, credential, key, user string
	model                        string
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.at, o.at), cmp.Compare(k.train, o.train), cmp.Compare(k.credential, o.credential), cmp.Compare(k.key, o.key), cmp.Compare(k.user, o.user), cmp.Compare(k.model, o.model))
}

// summary is the answer to one query while it is made.
type summary struct {
	tx     *store.Tx
	q      Query
	sees   identity.TrainReach
	own    bool            // the caller may read what is theirs, and of client keys
	maker  string          // those that this person made
	owned  map[string]bool // or of these trains
	hides  bool            // there is something that the caller does not reach
	now    time.Time
	by     map[Group]bool
	after  *key
	trains []string // by the filter's word
	groups map[key]*Used
	prices *price.Table
}

func newSummary(tx *store.Tx, caller identity.Caller, q Query, prices *price.Table) (*summary, error) {
	sees, err := identity.ReachOfTrains(tx, caller, identity.UsageRead)
	if err != nil {
		return nil, err
	}
	s := &summary{tx: tx, q: q, sees: sees, prices: prices, now: tx.Now(), by: map[Group]bool{}, groups: map[key]*Used{}}
	if s.hides, err = sees.Hides(tx); err != nil {
		return nil, err
	}
	if identity.Allow(caller, identity.UsageRead) != nil {
		s.own, s.maker = true, caller.UserID
		if s.owned, err = sees.Owned(tx); err != nil {
			return nil, err
		}
	}
	for _, g := range q.By {
		s.by[g] = true
	}
	if err := s.q.bounds(s.now); err != nil {
		return nil, err
	}
	if q.Cursor != "" {
		after, err := readCursor(q.Cursor)
		if err != nil {
			return nil, err
		}
		s.after = &after
	}
	if q.Train != "" {
		// A slug of a train that is gone may be another train's now: both were called so.
		if err := tx.Select(&s.trains, `SELECT id FROM usage_subjects WHERE id = $1 OR (name = $1 AND id LIKE 'train\_%' ESCAPE '\') ORDER BY id LIMIT 100`, q.Train); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// row is what the database answers.
type row struct {
	At         int64  `db:"at"`
	Train      string `db:"train_id"`
	Credential string `db:"credential_id"`
	Key        string `db:"key_id"`
	User       string `db:"user_id"`
	Model      string `db:"model"`
	Complete   int64  `db:"complete"`
	Partial    int64  `db:"partial"`
	Unknown    int64  `db:"unknown"`
	Failed     int64  `db:"failed"`
	Pending    int64  `db:"pending"`
	Input      int64  `db:"input"`
	Output     int64  `db:"output"`
	CacheRead  int64  `db:"cache_read"`
	Cache5m    int64  `db:"cache_5m"`
	Cache1h    int64  `db:"cache_1h"`
	ToolCalls  int64  `db:"tool_calls"`
}

// stretch is a part of the time that is asked for whose sums are of one span.
type stretch struct {
	span     int
	from, to time.Time
}

// stretches cuts the time into as few sums as tell it: whole months where they are, whole days around them and hours at the ends. What is told by the hour
// or by the day is made of those.
func stretches(from, to time.Time, largest int) []stretch {
	if largest == hours {
		return []stretch{{hours, from, to}}
	}
	first := begins(largest, from)
	if first.Before(from) {
		first = after(largest, first)
	}
	last := begins(largest, to)
	if !first.Before(last) {
		return stretches(from, to, largest-1)
	}
	var out []stretch
	if from.Before(first) {
		out = stretches(from, first, largest-1)
	}
	out = append(out, stretch{largest, first, last})
	if last.Before(to) {
		out = append(out, stretches(last, to, largest-1)...)
	}
	return out
}

// after is when the next span begins.
func after(span int, at time.Time) time.Time {
	switch span {
	case hours:
		return at.Add(time.Hour)
	case days:
		return at.AddDate(0, 0, 1)
	}
	return at.AddDate(0, 1, 0)
}

// read fills the groups.
func (s *summary) read() error {
	largest := months
	switch {
	case s.by[ByHour]:
		largest = hours
	case s.by[ByDay]:
		largest = days
	}
	for _, part := range stretches(s.q.From, s.q.To, largest) {
		if err := s.sums(part); err != nil {
			return err
		}
	}
	return s.open()
}

// columns are what rows are told apart by in the database. The model is always among them.
func (s *summary) columns() []string {
	whose := s.own && s.ofKeys() // to say of a key whether it is the caller's
	out := []string{"l.model"}
	for _, g := range [...]struct {
		is     bool
		column string
	}{{s.by[ByTrain] || whose, "l.train_id"}, {s.by[ByCredential], "l.credential_id"}, {s.by[ByKey], "l.key_id"}, {s.by[ByUser] || whose, "l.user_id"}} {
		if g.is {
			out = append(out, g.column)
		}
	}
	return out
}

// ofKeys reports whether the question tells client keys apart, or asks for one.
func (s *summary) ofKeys() bool { return s.by[ByKey] || s.q.Key != "" }

// theirs reports whether the caller may be told which client key a row is of.
func (s *summary) theirs(r *row) bool {
	return !s.own || r.User != "" && r.User == s.maker || s.owned[r.Train]
}

// ofModels reports whether the sums of models over all lines are enough.
func (s *summary) ofModels() bool {
	return !s.hides && !s.by[ByTrain] && !s.by[ByCredential] && !s.by[ByKey] && !s.by[ByUser] && s.q.Train == "" && s.q.Credential == "" && s.q.Key == "" && s.q.User == ""
}

func (s *summary) timed() bool { return s.by[ByHour] || s.by[ByDay] || s.by[ByMonth] }

// narrow adds what narrows the lines.
func (s *summary) narrow(w *store.Where) {
	if s.hides {
		s.sees.Narrow(w, `l.train_id`)
	}
	if s.q.Train != "" {
		if len(s.trains) == 0 {
			w.Add(`1 = 0`)
			return
		}
		marks, args := make([]string, len(s.trains)), make([]any, len(s.trains))
		for i, id := range s.trains {
			marks[i], args[i] = "?", id
		}
		w.Add(`l.train_id IN (`+strings.Join(marks, ", ")+`)`, args...)
	}
	for _, f := range [...]struct{ column, is string }{{"l.credential_id", s.q.Credential}, {"l.key_id", s.q.Key}, {"l.user_id", s.q.User}, {"l.model", s.q.Model}} {
		if f.is != "" {
			w.Add(f.column+` = ?`, f.is)
		}
	}
}

const sumsOf = `CAST(SUM(s.complete) AS BIGINT) AS complete, CAST(SUM(s.partial) AS BIGINT) AS partial, CAST(SUM(s.unknown) AS BIGINT) AS unknown, CAST(SUM(s.failed) AS BIGINT) AS failed,
	CAST(SUM(s.input_tokens) AS BIGINT) AS input, CAST(SUM(s.output_tokens) AS BIGINT) AS output, CAST(SUM(s.cache_read_tokens) AS BIGINT) AS cache_read,
	CAST(SUM(s.cache_creation_5m_tokens) AS BIGINT) AS cache_5m, CAST(SUM(s.cache_creation_1h_tokens) AS BIGINT) AS cache_1h, CAST(SUM(s.tool_calls) AS BIGINT) AS tool_calls`

// sums adds the sums of a stretch.
func (s *summary) sums(part stretch) error {
	w := &store.Where{}
	span := part.span
	if s.ofModels() {
		span += ofModels
	}
	w.Add(`s.span = ?`, span)
	w.Add(`s.begins >= ?`, store.TimeOf(part.from))
	w.Add(`s.begins < ?`, store.TimeOf(part.to))
	s.narrow(w)
	columns := strings.Join(s.columns(), ", ")
	query := `SELECT ` + columns + `, ` + sumsOf
	if s.timed() {
		query += `, s.begins AS at`
		columns = `s.begins, ` + columns // first: the rows come in this order, and need be sorted within a time only
	}
	return s.gather(query+` FROM usage_sums s JOIN usage_lines l ON l.id = s.line`+w.SQL()+` GROUP BY `+columns, w)
}

// open adds the intents without an outcome.
func (s *summary) open() error {
	w := &store.Where{}
	old := w.Arg(store.TimeOf(s.now.Add(-pendingFor)))
	w.Add(`o.granted_at >= ?`, store.TimeOf(s.q.From))
	w.Add(`o.granted_at < ?`, store.TimeOf(s.q.To))
	s.narrow(w)
	columns := strings.Join(s.columns(), ", ")
	query := `SELECT ` + columns + `, CAST(SUM(CASE WHEN o.granted_at <= ` + old + ` THEN 1 ELSE 0 END) AS BIGINT) AS unknown,
		CAST(SUM(CASE WHEN o.granted_at <= ` + old + ` THEN 0 ELSE 1 END) AS BIGINT) AS pending`
	if s.timed() {
		const hour = `o.granted_at - o.granted_at % 3600000000`
		query += `, ` + hour + ` AS at`
		columns += `, ` + hour
	}
	return s.gather(query+` FROM usage_open o JOIN usage_lines l ON l.id = o.line`+w.SQL()+` GROUP BY `+columns, w)
}

// gather adds what a statement answers to the groups.
func (s *summary) gather(query string, w *store.Where) error {
	rows, err := s.tx.Query(query, w.Args()...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r row
		if err := rows.StructScan(&r); err != nil {
			return err
		}
		if s.ofKeys() && !s.theirs(&r) {
			if s.q.Key != "" {
				continue
			}
			r.Key = ""
		}
		k := s.key(&r)
		u := s.groups[k]
		if u == nil {
			if len(s.groups) == groupsMost {
				return fault.New(fault.Unprocessable, "validation_failed", "That are more than 100,000 sums. Ask about a shorter time, or tell less apart.").With("query.group_by", "leads to too many sums")
			}
			u = &Used{}
			s.groups[k] = u
		}
		of := Used{
			Requests: price.Sum(r.Complete, r.Partial, r.Unknown, r.Failed, r.Pending), Complete: r.Complete, Partial: r.Partial, Unknown: r.Unknown, Failed: r.Failed, Pending: r.Pending,
			Input: r.Input, Output: r.Output, CacheRead: r.CacheRead, CacheWrite5m: r.Cache5m, CacheWrite1h: r.Cache1h, ToolCalls: r.ToolCalls,
		}
		of.Cost.Add(s.prices, r.Model, price.Tokens{Input: r.Input, Output: r.Output, CacheRead: r.CacheRead, CacheWrite5m: r.Cache5m, CacheWrite1h: r.Cache1h})
		u.add(&of)
	}
	return rows.Err()
}

func (u *Used) add(o *Used) {
	for _, n := range [...]struct{ to, by *int64 }{
		{&u.Requests, &o.Requests}, {&u.Complete, &o.Complete}, {&u.Partial, &o.Partial}, {&u.Unknown, &o.Unknown}, {&u.Failed, &o.Failed}, {&u.Pending, &o.Pending}, {&u.Input, &o.Input},
		{&u.Output, &o.Output}, {&u.CacheRead, &o.CacheRead}, {&u.CacheWrite5m, &o.CacheWrite5m}, {&u.CacheWrite1h, &o.CacheWrite1h}, {&u.ToolCalls, &o.ToolCalls},
	} {
		*n.to = price.Sum(*n.to, *n.by)
	}
	u.Cost.Plus(o.Cost)
}

// key is the group of a row.
func (s *summary) key(r *row) key {
	k := key{credential: r.Credential, key: r.Key}
	if s.by[ByTrain] {
		k.train = r.Train
	}
	if s.by[ByUser] {
		k.user = r.User
	}
	if s.by[ByModel] {
		k.model = r.Model
	}
	at := store.Time(r.At).Time()
	switch {
	case s.by[ByHour]:
		k.at = begins(hours, at).UnixMicro()
	case s.by[ByDay]:
		k.at = begins(days, at).UnixMicro()
	case s.by[ByMonth]:
		k.at = begins(months, at).UnixMicro()
	}
	return k
}

// report makes the page.
func (s *summary) report() (Report, error) {
	out := Report{From: s.q.From, To: s.q.To, PricesOf: s.prices.AsOf, OwnKeys: s.own}
	var err error
	if out.Progress, err = progress(s.tx); err != nil {
		return Report{}, err
	}
	keys := slices.SortedFunc(maps.Keys(s.groups), key.compare)
	for _, k := range keys {
		out.Total.add(s.groups[k])
	}
	if s.after != nil {
		n, found := slices.BinarySearchFunc(keys, *s.after, key.compare)
		if found {
			n++
		}
		keys = keys[n:]
	}
	if len(keys) > s.q.Limit {
		keys = keys[:s.q.Limit]
		if out.Next, err = keys[len(keys)-1].cursor(); err != nil {
			return Report{}, err
		}
	}
	names, err := s.names(keys)
	if err != nil {
		return Report{}, err
	}
	named := func(id string) Named { return Named{id, names[id]} }
	for _, k := range keys {
		r := Row{Train: named(k.train), Credential: named(k.credential), Key: named(k.key), User: named(k.user), Model: k.model, Used: *s.groups[k]}
		if s.timed() {
			r.Begins = store.Time(k.at).Time()
		}
		out.Rows = append(out.Rows, r)
	}
	return out, nil
}

// names returns what everything in a page is called: people by their address as long as they are there, everything else as it was last called in the log.
func (s *summary) names(keys []key) (map[string]string, error) {
	ids, people := map[string]bool{}, map[string]bool{}
	for _, k := range keys {
		for _, id := range [...]string{k.train, k.credential, k.key, k.user} {
			if id != "" {
				ids[id] = true
			}
		}
		if k.user != "" {
			people[k.user] = true
		}
	}
	out := map[string]string{}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(ids)), 500) {
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		var rows []struct {
			ID   string `db:"id"`
			Name string `db:"name"`
		}
		if err := s.tx.Select(&rows, `SELECT id, name FROM usage_subjects WHERE id IN (`+places(len(part))+`)`, args...); err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.ID] = r.Name
		}
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(people)), 500) {
		now, err := identity.PartyNames(s.tx, part)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, now)
	}
	return out, nil
}

// cursor leads behind a key.
func (k key) cursor() (string, error) {
	b, err := json.Marshal([]any{k.at, k.train, k.credential, k.key, k.user, k.model})
	return base64.RawURLEncoding.EncodeToString(b), err
}

func readCursor(text string) (key, error) {
	var k key
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		var parts []json.RawMessage
		if err = json.Unmarshal(b, &parts); err == nil && len(parts) == 6 {
			for i, to := range [...]any{&k.at, &k.train, &k.credential, &k.key, &k.user, &k.model} {
				if err == nil {
					err = json.Unmarshal(parts[i], to)
				}
			}
			if err == nil {
				return k, nil
			}
		}
	}
	return key{}, invalid("query.cursor", "is not a cursor of this list")
}
