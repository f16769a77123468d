package ledger

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// late is how long after its intent an outcome counts; keep is when an intent without one is added up as unknown for good.
	late, keep = 24 * time.Hour, 26 * time.Hour
	// keyKind is the kind of actor that a client key is.
	keyKind = "client_key"
	// sweepMost bounds the intents that one transaction sweeps.
	sweepMost = 2000
	// most bounds the rows of one statement, remembered what an instance keeps in memory of what it has seen.
	most       = 64
	remembered = 20_000
)

// count is what is added up.
type count struct {
	complete, partial, unknown, failed                 int64
	input, output, cacheRead, cache5m, cache1h, called int64
}

func (c *count) add(l *lent, how class) {
	switch how {
	case complete:
		c.complete++
	case partial:
		c.partial++
	case unknown:
		c.unknown++
	case failed:
		c.failed++
	}
	c.input += l.Input
	c.output += l.Output
	c.cacheRead += l.CacheRead
	c.cache5m += l.CacheWrite5m
	c.cache1h += l.CacheWrite1h
	c.called += l.ToolCalls
}

// The spans of the sums, those of one line; those of a model over all lines follow in the same order.
const (
	hours = iota
	days
	months
	ofModels
)

// begins returns when the span that holds a moment begins.
func begins(span int, at time.Time) time.Time {
	at = at.UTC()
	switch span {
	case hours:
		return at.Truncate(time.Hour)
	case days:
		return time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	}
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// cell is a row of usage_sums.
type cell struct {
	span int
	at   int64
	line int64
}

// adding is one transaction that adds to the sums.
type adding struct {
	tx     *store.Tx
	known  memory // what was learned in this transaction beyond what the instance knew
	had    memory
	prices *price.Table
	cells  map[cell]*count
	open   map[string]*opened
	// subjects are to be stored; models are the names under which what was asked for counts.
	subjects map[string]subject
	models   map[string]string
	lost     int // intents whose line is not there
}

// opened is a row of usage_open.
type opened struct {
	Lease   string     `db:"lease"`
	Granted store.Time `db:"granted_at"`
	Line    int64      `db:"line"`
	Costs   int64      `db:"costs"`
	stored  bool
	gone    bool
}

// add adds a chunk of the log and moves the place behind it, in one transaction.
func (r *Room) add(ctx context.Context, leaves []audit.Leaf, sweep bool) (swept bool, err error) {
	next := r.place
	next.Position, next.Leaf = leaves[len(leaves)-1].Index+1, leaves[len(leaves)-1].Hash.String()
	g := group(leaves)
	var known memory
	var lost int
	err = r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		next.Until = store.TimeOf(tx.Now().Add(r.claim))
		if err := one(tx.Exec(`UPDATE usage_follower SET position = $1, until = $2, leaf = $3 WHERE id = 1 AND form = $4 AND position = $5 AND holder = $6 AND epoch = $7`,
			next.Position, next.Until, next.Leaf, form, r.place.Position, r.holder, r.place.Epoch)); err != nil {
			return err
		}
		a := &adding{tx: tx, had: r.memory, prices: r.prices, known: newMemory(), cells: map[cell]*count{}, open: map[string]*opened{}, subjects: map[string]subject{}, models: map[string]string{}}
		if err := a.all(g); err != nil {
			return err
		}
		if sweep {
			if swept, err = a.sweep(g.last); err != nil {
				return err
			}
		}
		known, lost = a.known, a.lost
		return a.store()
	})
	if err != nil {
		return false, err
	}
	if g.bad > 0 {
		r.log.Warn("records of the audit log could not be read; usage counts without them. See: signalbox audit verify", "records", g.bad, "before", next.Position)
	}
	if lost > 0 {
		r.log.Warn("the sums of usage lack what requests were counted under, so these count for nothing; have them made anew with: signalbox usage rebuild", "requests", lost)
	}
	r.place = next
	r.memory.learn(known)
	return swept, nil
}

// all adds the records of a chunk: who made the keys first, and outcomes last, because a clock that was set back can put them before their intents.
func (a *adding) all(g *grouped) error {
	if err := a.tx.Growing(); err != nil {
		return err
	}
	if err := a.meet(g); err != nil {
		return err
	}
	for key, owner := range g.owners {
		a.subject(key, "", owner)
		a.known.owners[key] = owner
	}
	if err := a.intents(g.intents); err != nil {
		return err
	}
	for id, name := range g.names {
		a.name(id, name)
	}
	if err := a.rename(g.renames); err != nil {
		return err
	}
	if err := a.find(g.outcomes); err != nil {
		return err
	}
	return a.outcomes(g.outcomes)
}

// intents notes intents until their outcomes are met.
func (a *adding) intents(list []use) error {
	lines := make([]line, len(list))
	for i := range list {
		u := &list[i]
		owner := ""
		if u.Actor.Kind == keyKind {
			owner = a.owner(u.Actor.ID)
		}
		model, err := a.asked(u.Model)
		if err != nil {
			return err
		}
		lines[i] = line{train: u.OnBehalf, credential: u.Target.ID, key: u.Actor.ID, user: owner, model: model}
	}
	if err := a.lines(lines); err != nil {
		return err
	}
	for i := range list {
		u := &list[i]
		a.name(u.OnBehalf, u.Train)
		a.name(u.Target.ID, u.Target.Name)
		a.name(u.Actor.ID, u.Actor.Name)
		id, _ := a.lineID(lines[i])
		o := &opened{Lease: u.Lease, Granted: store.TimeOf(u.At), Line: id}
		if u.Path == costly {
			o.Costs = 1
		}
		a.open[u.Lease] = o
	}
	return nil
}

// find reads the intents of outcomes that came in an earlier chunk.
func (a *adding) find(outcomes []use) error {
	var missing []any
	for i := range outcomes {
		if a.open[outcomes[i].Lease] == nil {
			missing = append(missing, outcomes[i].Lease)
		}
	}
	for part := range slices.Chunk(missing, most) {
		var rows []opened
		if err := a.tx.Select(&rows, `SELECT lease, granted_at, line, costs FROM usage_open WHERE lease IN (`+places(len(part))+`)`, part...); err != nil {
			return err
		}
		for _, row := range rows {
			row.stored = true
			a.open[row.Lease] = &row
		}
	}
	return nil
}

// outcomes adds what became of attempts to the sums of the hours in which they were lent for. One whose intent is not here has been added, or came too late.
func (a *adding) outcomes(list []use) error {
	type ended struct {
		of   *opened
		lent *lent
		how  class
	}
	var all []ended
	for i := range list {
		u := &list[i]
		o := a.open[u.Lease]
		if o == nil || o.gone || u.At.Sub(o.Granted.Time()) > late {
			continue
		}
		o.gone = true
		if how := u.class(o.Costs == 1); how != none {
			all = append(all, ended{o, &u.lent, how})
		}
	}
	ids := make([]int64, len(all))
	for i, e := range all {
		ids[i] = e.of.Line
	}
	if err := a.linesOf(ids); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e ended) bool { return a.lacks(e.of.Line) })
	lines := make([]line, len(all))
	for i, e := range all {
		l, _ := a.line(e.of.Line)
		if e.lent.Model != "" || e.how == failed { // the one that answered, by its word; of what failed nobody knows that there is such a model
			l.model = e.lent.Model
		}
		lines[i] = l
	}
	if err := a.lines(withModels(lines)); err != nil {
		return err
	}
	for i, e := range all {
		a.sum(e.of.Granted.Time(), lines[i], e.lent, e.how)
	}
	return nil
}

// lacks reports, and notes, that an open intent is of a line that is not there: somebody wrote into the database. It counts for nothing, because the log goes on.
func (a *adding) lacks(line int64) bool {
	_, ok := a.line(line)
	if !ok {
		a.lost++
	}
	return !ok
}

// withModels adds to lines those of their models over all lines.
func withModels(lines []line) []line {
	out := slices.Clone(lines)
	models := map[string]bool{}
	for _, l := range lines {
		if !models[l.model] {
			models[l.model] = true
			out = append(out, line{model: l.model})
		}
	}
	return out
}

// sum adds an attempt to the sums of its line, and to those of its model over all lines, from which what is not told apart by anything else is read. Both were met.
func (a *adding) sum(at time.Time, of line, l *lent, how class) {
	id, _ := a.lineID(of)
	all, _ := a.lineID(line{model: of.model})
	for span := hours; span < ofModels; span++ {
		when := begins(span, at).UnixMicro()
		for _, c := range [...]cell{{span, when, id}, {ofModels + span, when, all}} {
			if a.cells[c] == nil {
				a.cells[c] = &count{}
			}
			a.cells[c].add(l, how)
		}
	}
}

// sweep adds up as unknown what will have no outcome any more, and tells whether that was all. It is for a log that was read to its end. What is old is so by the time of the log
// up to here: nothing says that what is younger will have no outcome.
func (a *adding) sweep(last time.Time) (all bool, err error) {
	if now := a.tx.Now(); last.After(now) {
		last = now
	}
	var rows []opened
	if err := a.tx.Select(&rows, `SELECT lease, granted_at, line, costs FROM usage_open WHERE granted_at < $1 ORDER BY granted_at, lease LIMIT $2`, store.TimeOf(last.Add(-keep)), sweepMost); err != nil {
		return false, err
	}
	all = len(rows) < sweepMost
	rows = slices.DeleteFunc(rows, func(row opened) bool { return a.open[row.Lease] != nil && a.open[row.Lease].gone })
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.Line
	}
	if err := a.linesOf(ids); err != nil {
		return false, err
	}
	lines := make([]line, len(rows))
	for i, row := range rows {
		lines[i], _ = a.line(row.Line)
	}
	if err := a.lines(withModels(lines)); err != nil {
		return false, err
	}
	for i, row := range rows {
		row.stored, row.gone = true, true
		a.open[row.Lease] = &row
		if !a.lacks(row.Line) {
			a.sum(row.Granted.Time(), lines[i], &lent{}, unknown)
		}
	}
	return all, nil
}

// store writes what was added: sums, and which intents are open.
func (a *adding) store() error {
	if err := a.storeSubjects(); err != nil {
		return err
	}
	var fresh, ended []any
	for _, lease := range slices.Sorted(maps.Keys(a.open)) {
		switch o := a.open[lease]; {
		case o.gone && o.stored:
			ended = append(ended, lease)
		case !o.gone && !o.stored:
			fresh = append(fresh, o.Lease, o.Granted, o.Line, o.Costs)
		}
	}
	for part := range slices.Chunk(ended, most) {
		if _, err := a.tx.Exec(`DELETE FROM usage_open WHERE lease IN (`+places(len(part))+`)`, part...); err != nil {
			return err
		}
	}
	if err := a.tx.UpsertMany(`usage_open (lease, granted_at, line, costs)`, 4, fresh, `ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	cells := slices.SortedFunc(maps.Keys(a.cells), func(x, y cell) int {
		return slices.Compare([]int64{int64(x.span), x.at, x.line}, []int64{int64(y.span), y.at, y.line})
	})
	rows := make([]any, 0, sumColumns*len(cells))
	for _, at := range cells {
		c := a.cells[at]
		rows = append(rows, at.span, at.at, at.line, c.complete, c.partial, c.unknown, c.failed, c.input, c.output, c.cacheRead, c.cache5m, c.cache1h, c.called)
	}
	return a.tx.UpsertMany(addSums, sumColumns, rows, ontoSums)
}

const (
	sumColumns = 13
	// ceiling is where a sum stays. What a statement adds up of many stays in range as well: there would have to be nine sums of a billion answers that each cost usage.Most.
	ceiling = "1000000000000000000"
)

var (
	sumNames = [...]string{"complete", "partial", "unknown", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls"}
	addSums  = `usage_sums (span, begins, line, ` + strings.Join(sumNames[:], ", ") + `)`
	ontoSums = onto()
)

// onto says how sums are added to those that are there. A number that is out of range would fail, or become a float, and be met again with every try.
func onto() string {
	set := make([]string, len(sumNames))
	for i, name := range sumNames {
		set[i] = name + ` = CASE WHEN usage_sums.` + name + ` >= ` + ceiling + ` - excluded.` + name + ` THEN ` + ceiling + ` ELSE usage_sums.` + name + ` + excluded.` + name + ` END`
	}
	return `ON CONFLICT (span, begins, line) DO UPDATE SET ` + strings.Join(set, ", ")
}
