package ledger

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

// What a chunk speaks of is read at once, and what of it is new is stored at once: where hardly any two requests are of the same key, an instance's memory knows nearly nothing of it, and asking for
// each by itself is a way to the database and back for each.

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

// subject is a row of usage_subjects, as far as something is to be said of it.
type subject struct {
	ID    string `db:"id"`
	Name  string `db:"name"`
	Owner string `db:"owner"`
}

// meet reads what is known of all that a chunk names.
func (a *adding) meet(g *grouped) error {
	var ids []string
	met, keys := map[string]bool{}, map[string]bool{}
	meet := func(id string) {
		_, named := a.had.names[id]
		if id != "" && !named && !met[id] {
			met[id] = true
			ids = append(ids, id)
		}
	}
	for i := range g.intents {
		u := &g.intents[i]
		meet(u.OnBehalf)
		meet(u.Target.ID)
		meet(u.Actor.ID)
		if _, owned := a.had.owners[u.Actor.ID]; u.Actor.Kind == keyKind && !owned {
			keys[u.Actor.ID] = true
			if !met[u.Actor.ID] {
				met[u.Actor.ID] = true
				ids = append(ids, u.Actor.ID)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.names)) {
		meet(id)
	}
	for part := range slices.Chunk(ids, most) {
		var rows []subject
		if err := a.tx.Select(&rows, `SELECT id, name, owner FROM usage_subjects WHERE id IN (`+places(len(part))+`)`, anys(part)...); err != nil {
			return err
		}
		for _, row := range rows {
			a.known.names[row.ID] = row.Name
			if keys[row.ID] {
				a.known.owners[row.ID] = row.Owner
			}
		}
	}
	for key := range keys {
		if _, have := a.known.owners[key]; !have {
			a.known.owners[key] = ""
		}
	}
	return nil
}

// owner is the person who made a key.
func (a *adding) owner(key string) string {
	if who, ok := a.known.owners[key]; ok {
		return who
	}
	return a.had.owners[key]
}

// name keeps what something is called.
func (a *adding) name(id, name string) {
	if id == "" || name == "" {
		return
	}
	is, known := a.known.names[id]
	if !known {
		is = a.had.names[id]
	}
	if is == name {
		return
	}
	a.known.names[id] = name
	a.subject(id, name, "")
}

// subject is to be stored; what is empty stays as it is.
func (a *adding) subject(id, name, owner string) {
	s := a.subjects[id]
	if name != "" {
		s.Name = name
	}
	if owner != "" {
		s.Owner = owner
	}
	a.subjects[id] = s
}

func (a *adding) storeSubjects() error {
	var rows []any
	for _, id := range slices.Sorted(maps.Keys(a.subjects)) {
		rows = append(rows, id, a.subjects[id].Name, a.subjects[id].Owner)
	}
	return a.tx.UpsertMany(`usage_subjects (id, name, owner)`, 3, rows, `ON CONFLICT (id) DO UPDATE SET
		name = CASE WHEN excluded.name = '' THEN usage_subjects.name ELSE excluded.name END, owner = CASE WHEN excluded.owner = '' THEN usage_subjects.owner ELSE excluded.owner END`)
}

// rename keeps new names of what is here. Most of what is renamed never was lent.
func (a *adding) rename(names map[string]string) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(names)), most) {
		var here []string
		if err := a.tx.Select(&here, `SELECT id FROM usage_subjects WHERE id IN (`+places(len(ids))+`)`, anys(ids)...); err != nil {
			return err
		}
		for _, id := range ids {
			if _, now := a.subjects[id]; now || slices.Contains(here, id) {
				a.name(id, names[id])
			}
		}
	}
	return nil
}

// asked is under which name a request counts whose answer names no model: the one that was asked for, where an answer has named it before, or as far as the table of prices knows it.
// Else it is none: clients ask for whatever they like, and what is once in the sums stays there.
func (a *adding) asked(model string) (string, error) {
	if name, ok := a.models[model]; ok {
		return name, nil
	}
	name, err := a.modelOf(model)
	if err == nil {
		a.models[model] = name
	}
	return name, err
}

func (a *adding) modelOf(model string) (string, error) {
	if usage.IsModel(model) {
		l := line{model: model} // that of all requests of the model
		if _, ok := a.lineID(l); ok {
			return model, nil
		}
		var id int64
		err := a.tx.Get(&id, `SELECT id FROM usage_lines WHERE train_id = '' AND credential_id = '' AND key_id = '' AND user_id = '' AND model = $1`, model)
		if err == nil {
			a.knows(id, l)
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

const (
	lineColumns = `train_id, credential_id, key_id, user_id, model`
	// linesMost bounds the lines of one statement, each of which has five values: SQLite's way from a value to its place in the text grows with their number.
	linesMost = 32
)

func (a *adding) knows(id int64, l line) { a.known.lines[l], a.known.of[id] = id, l }

// lineID is the number of a line that was met, and line returns the one with a number.
func (a *adding) lineID(l line) (int64, bool) {
	id, ok := a.known.lines[l]
	if !ok {
		id, ok = a.had.lines[l]
	}
	return id, ok
}

func (a *adding) line(id int64) (line, bool) {
	l, ok := a.known.of[id]
	if !ok {
		l, ok = a.had.of[id]
	}
	return l, ok
}

// lines sees to it that the numbers of lines are known, and makes those that are not there.
func (a *adding) lines(wanted []line) error {
	var missing []line
	met := map[line]bool{}
	for _, l := range wanted {
		if _, ok := a.lineID(l); !ok && !met[l] {
			met[l] = true
			missing = append(missing, l)
		}
	}
	for part := range slices.Chunk(missing, linesMost) {
		args := make([]any, 0, 5*len(part))
		for _, l := range part {
			args = append(args, l.train, l.credential, l.key, l.user, l.model)
		}
		var rows []lineRow
		if err := a.tx.Select(&rows, `SELECT l.id, `+lineColumns+` FROM (VALUES `+rowPlaces(len(part), 5)+`) w JOIN usage_lines l ON l.train_id = w.column1 AND l.credential_id = w.column2 AND l.key_id = w.column3 AND l.user_id = w.column4 AND l.model = w.column5`, args...); err != nil {
			return err
		}
		for _, row := range rows {
			a.knows(row.ID, line{row.Train, row.Credential, row.Key, row.User, row.Model})
		}
	}
	missing = slices.DeleteFunc(missing, func(l line) bool { _, ok := a.lineID(l); return ok })
	if len(missing) == 0 {
		return nil
	}
	var last int64
	if err := a.tx.Get(&last, `SELECT COALESCE(MAX(id), 0) FROM usage_lines`); err != nil {
		return err
	}
	rows := make([]any, 0, 6*len(missing))
	for _, l := range missing {
		last++
		rows = append(rows, last, l.train, l.credential, l.key, l.user, l.model)
		a.knows(last, l)
	}
	return a.tx.InsertMany(`usage_lines (id, `+lineColumns+`)`, 6, rows)
}

// linesOf sees to it that the lines with some numbers are known.
func (a *adding) linesOf(ids []int64) error {
	ids = slices.DeleteFunc(ids, func(id int64) bool { _, ok := a.line(id); return ok })
	slices.Sort(ids)
	for part := range slices.Chunk(slices.Compact(ids), most) {
		var rows []lineRow
		if err := a.tx.Select(&rows, `SELECT id, `+lineColumns+` FROM usage_lines WHERE id IN (`+places(len(part))+`)`, anys(part)...); err != nil {
			return err
		}
		for _, row := range rows {
			a.knows(row.ID, line{row.Train, row.Credential, row.Key, row.User, row.Model})
		}
	}
	return nil
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// places are n placeholders.
func places(n int) string { return strings.Trim(rowPlaces(1, n), "()") }

// rowPlaces are rows of placeholders.
func rowPlaces(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	return b.String() + ")"
}
