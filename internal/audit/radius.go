package audit

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// Relation says how another stands to the subject of a [Radius].
type Relation string

// The relations.
const (
	Did     Relation = "did"     // the subject, or somebody in its name, did something to this
	Through Relation = "through" // this did it in the subject's name: a token of a person, a key of a train
	For     Relation = "for"     // the subject acted in the name of this: the train of a key, the person of a token
	By      Relation = "by"      // this did something to the subject
	Behind  Relation = "behind"  // in the name of this something was done to the subject
)

// Relations returns the relations in the order in which a radius tells them.
func Relations() []Relation { return []Relation{Did, Through, For, By, Behind} }

// Contact is one other that the subject had to do with, with the number of records.
type Contact struct {
	Relation Relation
	// Kind, ID and Name are those that the newest record has. Of whom others act for, records tell no more than the id. Lists have no id.
	Kind, ID, Name string
	Count          int64
	// The records by what they tell; the five and Other add up to Count. Used are uses by injection and tests, Revealed what left as text, Read looking at
	// metadata and at the log, Changed what changed something, Refused what was refused, whatever it was. The rest is of chores and of signing in.
	Used, Revealed, Read, Changed, Refused, Other int64
	First, Last                                   time.Time
	// Acts are the same records by act and outcome, the most frequent first.
	Acts []ContactAct
}

// ContactAct is an act with its outcome and the number of records.
type ContactAct struct {
	Action, Outcome string
	Count           int64
}

// RadiusQuery asks for a [Radius].
type RadiusQuery struct {
	// Subject is the id of a person, service account, credential, train, client key, token, or whatever else acts or is acted on.
	Subject string
	// From and To bound the time of the records: From ≤ at < To.
	From, To time.Time
	// Cursor is Radius.Next of the part before.
	Cursor string
	// Share divides the work that one call does, for whoever asks for several subjects at once; 0 is all of it.
	Share int
}

// Radius is what a subject did and what was done to it, by whom it had to do with.
type Radius struct {
	// Counted is the number of records.
	Counted int64
	// Complete says that these are all. Otherwise they are the newest of them, down to the time Since, and Next goes on from there.
	Complete bool
	Since    time.Time
	Next     string
	// Kind and Name of the subject are as the newest record has them; empty where none does.
	Kind, Name string
	// Contacts are by relation, the last seen first.
	Contacts []Contact
}

// maxContacts bounds the contacts of one part, and with them its size.
const maxContacts = 500

// Radius tells what a subject did and what was done to it. One call reads a bounded number of records, the newest first, and says where the next goes on; the
// parts of one question add up, each record being in one of them. An intent counts with what became of it, and the record of its outcome does not count again.
func (l *Log) Radius(ctx context.Context, q RadiusQuery) (Radius, error) {
	f, err := newFilter(Query{Subject: q.Subject, From: q.From, To: q.To, Cursor: q.Cursor, Limit: maxLimit})
	if err != nil {
		return Radius{}, err
	}
	f.budget, f.outcomeBudget = max(1, f.budget/max(1, q.Share)), max(1, f.outcomeBudget/max(1, q.Share))
	var out Radius
	err = l.db.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = f.radius(tx, maxContacts)
		return err
	})
	return out, err
}

func (f *filter) radius(tx *store.Tx, most int) (Radius, error) {
	results := newOutcomes(tx, f.outcomeBudget)
	found := newFinder(tx, f, results)
	t := contacts{subject: []byte(f.Subject), rows: map[contactKey]*contactRow{}}
	last, next := f.start, place{}
	for {
		c, reached, err := found.next()
		if err != nil {
			return Radius{}, err
		}
		if c == nil {
			next = reached
			break
		}
		if len(t.rows) >= most {
			next = last
			break
		}
		if string(c.seen.action) == string(store.LeaseOutcome) { // its intent tells it
			last = c.at
			continue
		}
		outcome, settled, err := results.of(*c, last == f.start)
		if err != nil {
			return Radius{}, err
		}
		if !settled {
			next = last
			break
		}
		last = c.at
		if err := t.add(*c, outcome); err != nil {
			return Radius{}, err
		}
	}
	out := t.told()
	if out.Complete = next == (place{}); !out.Complete {
		out.Next = next.id()
		out.Since = since(next.source)
	}
	return out, nil
}

// contacts gathers the contacts of a subject.
type contacts struct {
	subject    []byte
	rows       map[contactKey]*contactRow
	counted    int64
	kind, name string
}

type contactKey struct {
	relation Relation
	kind, id string // the kind only where there is no id
}

type contactRow struct {
	Contact
	first, last string
	acts        map[[2]string]int64
}

// add counts a record for everybody who has to do with the subject in it.
func (t *contacts) add(c candidate, outcome string) error {
	g := c.seen
	var event *store.Event
	decoded := func() (store.Event, error) { // of the first record of each contact alone
		if event == nil {
			e, err := store.DecodeEvent(c.line)
			if err != nil {
				return store.Event{}, err
			}
			event = &e
		}
		return *event, nil
	}
	is := func(id []byte) bool { return bytes.Equal(id, t.subject) }
	note := func(relation Relation, id []byte, named func(store.Event) (kind, name string)) error {
		key := contactKey{relation: relation, id: string(id)}
		if len(id) == 0 {
			e, err := decoded()
			if err != nil {
				return err
			}
			key.kind, _ = named(e)
		}
		row := t.rows[key]
		if row == nil {
			e, err := decoded()
			if err != nil {
				return err
			}
			row = &contactRow{acts: map[[2]string]int64{}}
			row.Relation, row.ID = relation, key.id
			row.Kind, row.Name = named(e)
			t.rows[key] = row
		}
		row.count(string(g.action), outcome, string(g.at))
		return nil
	}
	actor := func(e store.Event) (string, string) { return e.Actor.Kind, e.Actor.Name }
	target := func(e store.Event) (string, string) { return e.Target.Kind, e.Target.Name }
	nobody := func(store.Event) (string, string) { return "", "" }
	t.counted++
	if t.name == "" && (is(g.actor) || is(g.target)) {
		e, err := decoded()
		if err != nil {
			return err
		}
		named := actor
		if is(g.target) {
			named = target
		}
		t.kind, t.name = named(e)
	}
	if is(g.actor) || is(g.behalf) {
		if err := note(Did, g.target, target); err != nil {
			return err
		}
	}
	switch {
	case is(g.behalf) && !is(g.actor):
		if err := note(Through, g.actor, actor); err != nil {
			return err
		}
	case is(g.actor) && len(g.behalf) > 0 && !is(g.behalf):
		if err := note(For, g.behalf, nobody); err != nil {
			return err
		}
	}
	if !is(g.target) || is(g.actor) {
		return nil
	}
	if err := note(By, g.actor, actor); err != nil || len(g.behalf) == 0 || is(g.behalf) || bytes.Equal(g.behalf, g.actor) {
		return err
	}
	return note(Behind, g.behalf, nobody)
}

func (r *contactRow) count(action, outcome, at string) {
	r.Count++
	r.acts[[2]string{action, outcome}]++
	if r.first == "" || at < r.first {
		r.first = at
	}
	r.last = max(r.last, at)
	switch tells(action, outcome) {
	case "used":
		r.Used++
	case "revealed":
		r.Revealed++
	case "read":
		r.Read++
	case "changed":
		r.Changed++
	case "refused":
		r.Refused++
	default:
		r.Other++
	}
}

// tells says what a record tells of: the word of the count that it belongs to. What is not known here is a change, so that nothing new passes for harmless.
func tells(action, outcome string) string {
	if outcome == store.OutcomeRefused || strings.HasSuffix(action, "refused") {
		return "refused"
	}
	switch store.Action(action) {
	case store.LeaseGranted, store.CredentialTest:
		return "used"
	case store.CredentialReveal, store.CredentialExport:
		return "revealed"
	case store.CredentialList, store.CredentialView, store.CredentialCompare, store.ContentRead, store.AuditRead, store.AuditExport:
		return "read"
	case store.IdentityLogin, store.IdentityLoginBegun, store.IdentityLogout, store.IdentityStepUp, store.IdentityFailed, store.IdentitySessionEnd, store.CredentialReminder, store.CredentialCooling, store.LimitNear, store.LimitReached,
		store.OAuthRefresh, store.OAuthRecovery, store.OAuthNeedsLogin, store.NotifyFailed, store.AdminStart, store.AdminStop:
		return "other"
	}
	return "changed"
}

// told puts the contacts in order.
func (t *contacts) told() Radius {
	out := Radius{Counted: t.counted, Kind: t.kind, Name: t.name, Contacts: make([]Contact, 0, len(t.rows))}
	for _, r := range t.rows {
		r.First, _ = time.Parse(store.TimeFormat, r.first)
		r.Last, _ = time.Parse(store.TimeFormat, r.last)
		for act, n := range r.acts {
			r.Acts = append(r.Acts, ContactAct{act[0], act[1], n})
		}
		slices.SortFunc(r.Acts, func(a, b ContactAct) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Outcome, b.Outcome))
		})
		out.Contacts = append(out.Contacts, r.Contact)
	}
	order := Relations()
	slices.SortFunc(out.Contacts, func(a, b Contact) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Relation), slices.Index(order, b.Relation)), b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}
