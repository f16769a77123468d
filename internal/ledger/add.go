package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

const (
	// late is how long after its intent an outcome counts; keep is when an intent without one is added up as unknown for good.
	late, keep = 24 * time.Hour, 26 * time.Hour
	// sweepMost bounds the intents that one transaction sweeps.
	sweepMost = 2000
	// most bounds the rows of one statement, remembered what an instance keeps in memory of what it has seen.
	most       = 64
	remembered = 20_000
)

// line is who used what with which model.
type line struct{ train, credential, key, user, model string }

// memory is what an instance knows to be in the database, so that it need not ask.
type memory struct {
	lines  map[line]int64
	of     map[int64]line
	names  map[string]string
	owners map[string]string
}

func newMemory() memory {
	return memory{map[line]int64{}, map[int64]line{}, map[string]string{}, map[string]string{}}
}

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
	err = r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		next.Until = store.TimeOf(tx.Now().Add(r.claim))
		if err := one(tx.Exec(`UPDATE usage_follower SET position = $1, until = $2, leaf = $3 WHERE id = 1 AND form = $4 AND position = $5 AND holder = $6 AND epoch = $7`,
			next.Position, next.Until, next.Leaf, form, r.place.Position, r.holder, r.place.Epoch)); err != nil {
			return err
		}
		a := &adding{tx: tx, had: r.memory, prices: r.prices, known: newMemory(), cells: map[cell]*count{}, open: map[string]*opened{}}
		if err := a.all(g); err != nil {
			return err
		}
		if sweep {
			if swept, err = a.sweep(g.last); err != nil {
				return err
			}
		}
		known = a.known
		return a.store()
	})
	if err != nil {
		return false, err
	}
	if g.bad > 0 {
		r.log.Warn("records of the audit log could not be read; usage counts without them. See: signalbox audit verify", "records", g.bad, "before", next.Position)
	}
	r.place = next
	r.memory.learn(known)
	return swept, nil
}

// learn keeps what was committed.
func (m *memory) learn(of memory) {
	if m.lines == nil || len(m.lines)+len(m.names)+len(m.owners) > remembered {
		*m = newMemory()
	}
	maps.Copy(m.lines, of.lines)
	maps.Copy(m.of, of.of)
	maps.Copy(m.names, of.names)
	maps.Copy(m.owners, of.owners)
}

// all adds the records of a chunk: who made the keys first, and outcomes last, because a clock that was set back can put them before their intents.
func (a *adding) all(g *grouped) error {
	for _, key := range slices.Sorted(maps.Keys(g.owners)) {
		if err := a.subject(key, "", g.owners[key]); err != nil {
			return err
		}
		a.known.owners[key] = g.owners[key]
	}
	for i := range g.intents {
		if err := a.intent(&g.intents[i]); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.names)) {
		if err := a.name(id, g.names[id]); err != nil {
			return err
		}
	}
	if err := a.rename(g.renames); err != nil {
		return err
	}
	if err := a.find(g.outcomes); err != nil {
		return err
	}
	for i := range g.outcomes {
		if err := a.outcome(&g.outcomes[i]); err != nil {
			return err
		}
	}
	return nil
}

// rename keeps new names of what is here. Most of what is renamed never was lent.
func (a *adding) rename(names map[string]string) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(names)), most) {
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		var here []string
		if err := a.tx.Select(&here, `SELECT id FROM usage_subjects WHERE id IN (`+places(len(args))+`) ORDER BY id`, args...); err != nil {
			return err
		}
		for _, id := range here {
			if err := a.name(id, names[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// intent notes an intent until its outcome is met.
func (a *adding) intent(u *use) error {
	owner := ""
	if u.Actor.Kind == "client_key" {
		var err error
		if owner, err = a.owner(u.Actor.ID); err != nil {
			return err
		}
	}
	model, err := a.asked(u.Model)
	if err != nil {
		return err
	}
	l, err := a.line(line{train: u.OnBehalf, credential: u.Target.ID, key: u.Actor.ID, user: owner, model: model})
	if err != nil {
		return err
	}
	for id, name := range map[string]string{u.OnBehalf: u.Train, u.Target.ID: u.Target.Name, u.Actor.ID: u.Actor.Name} {
		if err := a.name(id, name); err != nil {
			return err
		}
	}
	o := &opened{Lease: u.Lease, Granted: store.TimeOf(u.At), Line: l}
	if u.Path == costly {
		o.Costs = 1
	}
	a.open[u.Lease] = o
	return nil
}

// asked is under which name a request counts whose answer names no model: the one that was asked for, where an answer has named it before, or as far as the table of prices knows it.
// Else it is none: clients ask for whatever they like, and what is once in the sums stays there.
func (a *adding) asked(model string) (string, error) {
	if usage.IsModel(model) {
		l := line{model: model} // that of all requests of the model
		for _, m := range []map[line]int64{a.known.lines, a.had.lines} {
			if _, ok := m[l]; ok {
				return model, nil
			}
		}
		var id int64
		err := a.tx.Get(&id, `SELECT id FROM usage_lines WHERE train_id = '' AND credential_id = '' AND key_id = '' AND user_id = '' AND model = $1`, model)
		if err == nil {
			a.known.lines[l], a.known.of[id] = id, l
			return model, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
	}
	if name, ok := a.prices.Name(model); ok { // also one with [1m], or of an operator's own
		return name, nil
	}
	return "", nil
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

// outcome adds what became of an attempt to the sums of the hour in which it was lent for. One whose intent is not here has been added, or came too late.
func (a *adding) outcome(u *use) error {
	o := a.open[u.Lease]
	if o == nil || o.gone || u.At.Sub(o.Granted.Time()) > late {
		return nil
	}
	o.gone = true
	how := u.class(o.Costs == 1)
	if how == none {
		return nil
	}
	l := o.Line
	if model := u.Model; model != "" || how == failed { // the one that answered, by its word; of what failed nobody knows that there is such a model
		of, err := a.lineOf(o.Line)
		if err != nil {
			return err
		}
		if of.model != model {
			of.model = model
			if l, err = a.line(of); err != nil {
				return err
			}
		}
	}
	return a.sum(o.Granted.Time(), l, &u.lent, how)
}

// sum adds an attempt to the sums of its line, and to those of its model over all lines, from which what is not told apart by anything else is read.
func (a *adding) sum(at time.Time, id int64, l *lent, how class) error {
	of, err := a.lineOf(id)
	if err != nil {
		return err
	}
	all, err := a.line(line{model: of.model})
	if err != nil {
		return err
	}
	for span := hours; span < ofModels; span++ {
		when := begins(span, at).UnixMicro()
		for _, c := range [...]cell{{span, when, id}, {ofModels + span, when, all}} {
			if a.cells[c] == nil {
				a.cells[c] = &count{}
			}
			a.cells[c].add(l, how)
		}
	}
	return nil
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
	for _, row := range rows {
		if a.open[row.Lease] != nil && a.open[row.Lease].gone {
			continue
		}
		row.stored, row.gone = true, true
		a.open[row.Lease] = &row
		if err := a.sum(row.Granted.Time(), row.Line, &lent{}, unknown); err != nil {
			return false, err
		}
	}
	return len(rows) < sweepMost, nil
}

// line returns the number of a line, which it makes if there is none.
func (a *adding) line(l line) (int64, error) {
	if id, ok := a.known.lines[l]; ok {
		return id, nil
	}
	if id, ok := a.had.lines[l]; ok {
		return id, nil
	}
	var id int64
	err := a.tx.Get(&id, `SELECT id FROM usage_lines WHERE train_id = $1 AND credential_id = $2 AND key_id = $3 AND user_id = $4 AND model = $5`, l.train, l.credential, l.key, l.user, l.model)
	if errors.Is(err, store.ErrNotFound) {
		if err = a.tx.Get(&id, `SELECT COALESCE(MAX(id), 0) + 1 FROM usage_lines`); err != nil {
			return 0, err
		}
		_, err = a.tx.Exec(`INSERT INTO usage_lines (id, train_id, credential_id, key_id, user_id, model) VALUES ($1, $2, $3, $4, $5, $6)`, id, l.train, l.credential, l.key, l.user, l.model)
	}
	if err == nil {
		a.known.lines[l], a.known.of[id] = id, l
	}
	return id, err
}

// lineOf is the line with a number.
func (a *adding) lineOf(id int64) (line, error) {
	for _, m := range []map[int64]line{a.known.of, a.had.of} {
		if l, ok := m[id]; ok {
			return l, nil
		}
	}
	var row lineRow
	err := a.tx.Get(&row, `SELECT id, train_id, credential_id, key_id, user_id, model FROM usage_lines WHERE id = $1`, id)
	l := line{row.Train, row.Credential, row.Key, row.User, row.Model}
	if err == nil {
		a.known.of[id] = l
	}
	return l, err
}

// owner is the person who made a key.
func (a *adding) owner(key string) (string, error) {
	for _, m := range []map[string]string{a.known.owners, a.had.owners} {
		if who, ok := m[key]; ok {
			return who, nil
		}
	}
	var who string
	err := a.tx.Get(&who, `SELECT owner FROM usage_subjects WHERE id = $1`, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	a.known.owners[key] = who
	return who, nil
}

// name keeps what something is called.
func (a *adding) name(id, name string) error {
	if id == "" || name == "" {
		return nil
	}
	is, known := a.known.names[id]
	if !known {
		is = a.had.names[id]
	}
	if is == name {
		return nil
	}
	a.known.names[id] = name
	return a.subject(id, name, "")
}

func (a *adding) subject(id, name, owner string) error {
	_, err := a.tx.Exec(`INSERT INTO usage_subjects (id, name, owner) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET
		name = CASE WHEN excluded.name = '' THEN usage_subjects.name ELSE excluded.name END, owner = CASE WHEN excluded.owner = '' THEN usage_subjects.owner ELSE excluded.owner END`, id, name, owner)
	return err
}

// store writes what was added: sums, and which intents are open.
func (a *adding) store() error {
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
	if err := a.insert(`INSERT INTO usage_open (lease, granted_at, line, costs) VALUES `, 4, fresh, ` ON CONFLICT DO NOTHING`); err != nil {
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
	return a.insert(addSums, sumColumns, rows, ontoSums)
}

const (
	sumColumns = 13
	// ceiling is where a sum stays. What a statement adds up of many stays in range as well: there would have to be nine sums of a billion answers that each cost usage.Most.
	ceiling = "1000000000000000000"
)

var (
	sumNames = [...]string{"complete", "partial", "unknown", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls"}
	addSums  = `INSERT INTO usage_sums (span, begins, line, ` + strings.Join(sumNames[:], ", ") + `) VALUES `
	ontoSums = onto()
)

// onto says how sums are added to those that are there. A number that is out of range would fail, or become a float, and be met again with every try.
func onto() string {
	set := make([]string, len(sumNames))
	for i, name := range sumNames {
		set[i] = name + ` = CASE WHEN usage_sums.` + name + ` >= ` + ceiling + ` - excluded.` + name + ` THEN ` + ceiling + ` ELSE usage_sums.` + name + ` + excluded.` + name + ` END`
	}
	return ` ON CONFLICT (span, begins, line) DO UPDATE SET ` + strings.Join(set, ", ")
}

// insert inserts rows, many in a statement.
func (a *adding) insert(into string, columns int, args []any, conflict string) error {
	for len(args) > 0 {
		n := most // powers of two, because the driver keeps a prepared statement of each text
		for n*columns > len(args) {
			n /= 2
		}
		var text strings.Builder
		text.WriteString(into)
		for i := range n * columns {
			switch {
			case i == 0:
				text.WriteString("(")
			case i%columns == 0:
				text.WriteString("), (")
			default:
				text.WriteString(", ")
			}
			text.WriteString("$" + strconv.Itoa(i+1))
		}
		if _, err := a.tx.Exec(text.String()+")"+conflict, args[:n*columns]...); err != nil {
			return err
		}
		args = args[n*columns:]
	}
	return nil
}

// places are n placeholders.
func places(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	return b.String()
}
