package importer

import (
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// row is one entry of the files and what becomes of it.
type row struct {
	item
	file, format string
	// invalid is why it cannot be stored, whatever is stored already.
	invalid string
	// ready is its place among those that could be stored, or -1.
	ready int

	// What was decided in the transaction, which may run again.
	action  Action
	reason  string
	other   string // id of what is here already
	same    int    // number of the row that is like it, from 1
	id      string // of what was stored
	renamed string
	moved   bool // trains took it, so that it is no credential
}

// plan is what becomes of an import.
type plan struct {
	id      string
	dry     bool
	rows    []row
	formats []string
	files   int
	keys    int
	// connections counts those to MCP servers.
	connections int
	// ready are the credentials that could be stored, of the rows whose numbers are in of.
	ready    []vault.Ready
	of       []int
	likeness vault.Likeness
	// matched are the stored credentials of which the caller was told that they have the same secret, hidden those whose name is in the way.
	matched, hidden []string
	trains          []string // made for keys
}

// take adds what was found in a file.
func (p *plan) take(file, format string, list []item) {
	p.files++
	if !slices.Contains(p.formats, format) {
		p.formats = append(p.formats, format)
	}
	for _, i := range list {
		if i.key != nil {
			p.keys++
		}
		if i.connection != nil {
			p.connections++
		}
		p.rows = append(p.rows, row{item: i, file: file, format: format, ready: -1, invalid: i.invalid})
	}
}

// prepare looks at each credential by itself.
func (p *plan) prepare(room *vault.Room) error {
	for n := range p.rows {
		w := &p.rows[n]
		if w.credential == nil {
			continue
		}
		ready, err := room.Prepare(*w.credential)
		if f, is := fault.As(err); is && len(f.Fields) > 0 {
			w.invalid = fieldsOf(f)
			continue
		}
		if err != nil {
			return err
		}
		w.ready = len(p.ready)
		p.ready, p.of = append(p.ready, ready), append(p.of, n)
	}
	return nil
}

// fieldsOf says what is wrong with which fields; neither is taken from the file.
func fieldsOf(f *fault.Error) string {
	parts := make([]string, len(f.Fields))
	for i, field := range f.Fields {
		name := strings.TrimPrefix(field.Pointer, "/")
		if rest, is := strings.CutPrefix(name, "secrets/"); is && f.Code != "secret_missing" {
			name = "the secret field " + rest
		}
		parts[i] = strings.TrimSpace(name + " " + field.Message)
	}
	return strings.Join(parts, "; ")
}

// toldMost is of how many entries whose names are here already it is told whether their secrets are, too.
const toldMost = 1000

// names are what tells one credential from another for a person.
type names struct {
	kind           vault.Type
	name, username string
}

// decide says of each row what becomes of it, by what is stored now. It starts over at each call.
func (p *plan) decide(in *vault.Intake) error {
	p.matched, p.hidden, p.trains = nil, nil, nil
	named, accounts, ids := map[names]string{}, map[string]string{}, map[string]string{}
	for _, d := range p.ready {
		m := d.Meta()
		named[names{d.Type(), m.Name, m.Username}] = ""
		if m.AccountID != "" {
			accounts[m.Name], ids[m.AccountID] = "", ""
		}
	}
	visible := map[string]bool{}
	note := func(have map[string]string, key, id string) {
		if _, wanted := have[key]; wanted {
			have[key] = id
		}
	}
	err := in.Known(func(k vault.Known) {
		key := names{k.Type, k.Name, k.Username}
		if first, wanted := named[key]; wanted && first == "" && k.Visible {
			named[key] = k.ID
		}
		if k.AccountID != "" {
			note(accounts, k.Name, k.ID)
			note(ids, k.AccountID, k.ID)
		}
		if k.Visible {
			visible[k.ID] = true
		}
	})
	if err != nil {
		return err
	}
	mine, myAccounts, myIDs := map[names]int{}, map[string]int{}, map[string]int{}
	last := map[names]int{} // the number that was given last to entries of one name, so that very many do not try all before
	var sameNamed []int
	for n := range p.rows {
		w := &p.rows[n]
		w.action, w.reason, w.other, w.same, w.id, w.renamed, w.moved = Create, "", "", 0, "", "", false
		switch {
		case w.skip != "":
			w.action, w.reason = Skip, w.skip
			continue
		case w.invalid != "":
			w.action, w.reason = Invalid, w.invalid
			continue
		case w.ready < 0:
			continue
		}
		m := p.ready[w.ready].Meta()
		key := names{p.ready[w.ready].Type(), m.Name, m.Username}
		stored, earlier := p.likeness.Stored[w.ready], -1
		if j, ok := p.likeness.Earlier[w.ready]; ok {
			earlier = p.of[j]
		}
		other, clash := named[key], ""
		if m.AccountID != "" && other == "" {
			clash = accounts[m.Name]
			if clash == "" {
				clash = ids[m.AccountID]
			}
		}
		switch {
		case other != "":
			w.duplicate(other, "of the same name, type and user name")
			sameNamed = append(sameNamed, n)
		case clash != "" && visible[clash]:
			w.duplicate(clash, "of the same account name or account id")
			sameNamed = append(sameNamed, n)
		case clash != "":
			w.action, w.reason = Invalid, "its name or account id is taken by an account that you may not see; rename it in the file"
			p.hidden = append(p.hidden, clash)
		case stored != "":
			w.duplicate(stored, "with the same secret, under another name")
			p.matched = append(p.matched, stored)
		case earlier >= 0:
			w.action, w.same, w.reason = Duplicate, earlier+1, "the same secret stands in an earlier entry"
		default:
			name := m.Name
			free := func() bool {
				_, taken := mine[key]
				_, takenAccount := myAccounts[name]
				_, known := named[key]
				return !taken && (m.AccountID == "" || !takenAccount) && (name == m.Name || !known)
			}
			first := key
			for i := max(last[first], 1) + 1; !free(); i++ {
				last[first] = i
				name = head(m.Name, maxTitle) + " (" + strconv.Itoa(i) + ")"
				key.name = name
			}
			if name != m.Name {
				w.renamed = name
				w.reason = "an earlier entry has the same name, type and user name, and another secret"
			}
			if m.AccountID != "" {
				if _, taken := myIDs[m.AccountID]; taken && w.credential.AccountID != "" {
					w.action, w.reason = Invalid, "an earlier entry has the same account id, and another secret; change one of them in the file"
					continue
				}
				myAccounts[name], myIDs[m.AccountID] = n, n
			}
			mine[key] = n
		}
	}
	// Whether a secret is the one that was guessed is told as a reveal is: on record. Of very many it is not told at all.
	if len(sameNamed) <= toldMost {
		for _, n := range sameNamed {
			w := &p.rows[n]
			same := p.likeness.Stored[w.ready] == w.other
			w.secretOf(p.likeness, same)
			if same {
				p.matched = append(p.matched, w.other)
			}
		}
	}
	slices.Sort(p.matched)
	p.matched = slices.Compact(p.matched)
	return nil
}

func (w *row) duplicate(id, why string) {
	w.action, w.other, w.reason = Duplicate, id, "there is one "+why
}

// secretOf says whether what is here already has the same secret, where that is known.
func (w *row) secretOf(l vault.Likeness, same bool) {
	switch {
	case same:
		w.reason += ", with the same secret"
	case !l.Blind:
		w.reason += "; its secret is another, or one that you may not reveal"
	}
}

// draft is what is stored of a row, under the name that was decided.
func (p *plan) draft(w *row, room *vault.Intake) (vault.Ready, error) {
	d := p.ready[w.ready]
	if w.renamed != "" {
		var err error
		if d, err = room.Renamed(d, w.renamed); err != nil {
			return vault.Ready{}, err
		}
	}
	d, left, err := room.Homed(d)
	if len(left) > 0 {
		w.reason = strings.TrimPrefix(w.reason+"; without its "+strings.Join(left, " and ")+", which is not here", "; ")
	}
	return d, err
}

// store stores what was decided to be.
func (p *plan) store(tx *store.Tx, trains *train.Room, caller identity.Caller, in *vault.Intake) error {
	if err := p.moveSlack(tx, trains, caller); err != nil {
		return err
	}
	for n := range p.rows {
		w := &p.rows[n]
		if w.action != Create || w.ready < 0 || w.moved {
			continue
		}
		d, err := p.draft(w, in)
		if err != nil {
			return err
		}
		c, err := in.Add(d)
		if err != nil {
			return err
		}
		w.id = c.ID
	}
	return p.takeKeys(tx, trains, caller)
}

// try finds what only storing would find, and stores nothing but client keys, which the end of a dry run takes back.
func (p *plan) try(tx *store.Tx, trains *train.Room, caller identity.Caller, in *vault.Intake) error {
	if err := p.moveSlack(tx, trains, caller); err != nil {
		return err
	}
	for n := range p.rows {
		w := &p.rows[n]
		if w.action != Create || w.ready < 0 || w.moved {
			continue
		}
		d, err := p.draft(w, in)
		if err == nil {
			err = in.Try(d)
		}
		if err != nil {
			return err
		}
	}
	return p.takeKeys(tx, trains, caller)
}

func (p *plan) takeKeys(tx *store.Tx, trains *train.Room, caller identity.Caller) error {
	for n := range p.rows {
		w := &p.rows[n]
		if w.key == nil || w.action != Create {
			continue
		}
		taken, err := trains.TakeKey(tx, caller, *w.key)
		if f, is := fault.As(err); is && (f.Kind == fault.Unprocessable || f.Code == "key_limit_reached") {
			w.action, w.reason = Invalid, keyProblem(f)
			continue
		}
		if err != nil {
			return err
		}
		if taken.Known != "" {
			w.action, w.other, w.reason = Duplicate, taken.Known, "this client key is here already, of the train "+taken.KnownTrain
			continue
		}
		w.id = taken.Key.ID
		if taken.MadeTrain {
			p.trains = append(p.trains, taken.Key.TrainSlug)
			w.reason = "its train is made, and has no account linked to it yet"
		}
	}
	return nil
}

// takeConnections takes over people's connections to MCP servers. One that is here already is newer than what a file holds, and stays.
func (p *plan) takeConnections(tx *store.Tx, room *mcp.Room, caller identity.Caller) error {
	for n := range p.rows {
		w := &p.rows[n]
		if w.connection == nil || w.action != Create {
			continue
		}
		taken, err := room.TakeForeign(tx, caller, *w.connection)
		if f, is := fault.As(err); is && f.Kind == fault.Unprocessable {
			w.action, w.reason = Invalid, keyProblem(f)
			continue
		}
		if err != nil {
			return err
		}
		if taken.Known {
			w.action, w.other, w.reason = Duplicate, taken.ID, "there is a connection of this person to this server"
			continue
		}
		w.id = taken.ID
	}
	return nil
}

// keyProblem says why a key is not taken over; none of it is from the file.
func keyProblem(f *fault.Error) string {
	if len(f.Fields) == 0 {
		return f.Detail
	}
	parts := make([]string, len(f.Fields))
	for i, field := range f.Fields {
		parts[i] = strings.TrimPrefix(field.Pointer, "/") + " " + field.Message
	}
	return strings.Join(parts, "; ")
}

// invalid counts the rows that stand in the way.
func (p *plan) invalid() int { return p.count(Invalid) }

func (p *plan) count(a Action) (n int) {
	for i := range p.rows {
		if p.rows[i].action == a {
			n++
		}
	}
	return n
}

// record tells of the import: what came of it, and of every credential of which the caller was told that its secret is known. rolled says that
// nothing was stored.
func (p *plan) record(tx *store.Tx, caller identity.Caller, rolled bool) error {
	for _, id := range p.matched {
		ev := caller.Event(store.CredentialCompare, store.Target{Kind: "credential", ID: id})
		ev.Details = store.Details{store.Str("import", p.id)}
		if err := tx.Record(ev); err != nil {
			return err
		}
	}
	ev := caller.Event(store.CredentialImport, store.Target{Kind: "import", ID: p.id, Name: strings.Join(p.formats, " ")})
	made := p.count(Create)
	if rolled && !p.dry {
		ev.Outcome, ev.Reason, made = store.OutcomeFailed, "entries_invalid", 0
	}
	ev.Details = store.Details{
		store.Bool("dry_run", p.dry), store.Int("files", int64(p.files)), store.Int("entries", int64(len(p.rows))), store.Int("created", int64(made)),
		store.Int("duplicates", int64(p.count(Duplicate))), store.Int("skipped", int64(p.count(Skip))), store.Int("invalid", int64(p.invalid())),
		store.Int("compared_with", int64(p.likeness.Compared)),
	}
	if len(p.hidden) > 0 {
		ev.Details = append(ev.Details, store.Strs("taken_by", p.hidden[:min(len(p.hidden), 100)]))
	}
	return tx.Record(ev)
}

// refusalRows bounds what a refusal lists; the dry run lists more.
const refusalRows = 20

// refusal says which entries stand in the way.
func (p *plan) refusal() error {
	f := fault.New(fault.Unprocessable, "validation_failed", strconv.Itoa(p.invalid())+" of "+strconv.Itoa(len(p.rows))+
		" entries cannot be stored, so nothing was. Correct them in the file or take them out; a dry run lists all of them.")
	left := refusalRows
	for n, w := range p.rows {
		if w.action == Invalid && left > 0 {
			_ = f.With("/files", w.file+", "+w.place+" (entry "+strconv.Itoa(n+1)+"): "+w.reason)
			left--
		}
	}
	return f
}
