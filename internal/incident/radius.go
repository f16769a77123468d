package incident

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// RadiusAsk says of what time a blast radius is told, and where to go on.
type RadiusAsk struct {
	// From is seven days ago if it is left out, and of an incident when that happened. To is the time before which; now if it is left out.
	From, To time.Time
	// Cursor is the next of the part before: of a subject its Next, of an incident the one beside the radii.
	Cursor string
}

// Radius is what one subject did and what was done to it, from the audit log.
type Radius struct {
	audit.Radius
	Subject  Link // the kind is token for an API token, which no incident links
	From, To time.Time
}

// ofToken is a subject that no incident links.
const ofToken LinkKind = "token"

// radiusPage is how many of an incident's links one call tells of.
const radiusPage = 10

// radiusSpan is how far back a radius goes when nobody says.
const radiusSpan = 7 * 24 * time.Hour

// subjectKinds are the kinds of things that act or are acted on, by the prefix of their ids.
func subjectKinds() map[string]LinkKind {
	return map[string]LinkKind{"cred": OfCredential, "user": OfPerson, "sa": OfServiceAccount, "train": OfTrain, "key": OfKey, "tok": ofToken}
}

// Radius tells what a person, service account, credential, train, client key or token did and what was done to it since a time: by id, a train by its slug as well.
// What is gone by now is told all the same. It needs audit:read, and is on record as a read of the log. One call does a bounded amount of work and says where the next
// goes on.
func (r *Room) Radius(ctx context.Context, caller identity.Caller, subject string, ask RadiusAsk) (Radius, error) {
	if err := r.readsLog(ctx, caller, store.Target{Kind: "audit"}); err != nil {
		return Radius{}, err
	}
	kind, known := kindOf(subject)
	link := Link{Kind: kind, ID: subject}
	now, err := r.clock(ctx, func(tx *store.Tx) (err error) {
		for _, row := range linkRows() {
			if row.kind != cmp.Or(kind, OfTrain) {
				continue
			}
			found, err := row.find(tx, sees{}, subject)
			if err != nil {
				return err
			}
			if found.ID != "" {
				link, known = found, true
			}
		}
		return nil
	})
	if err != nil {
		return Radius{}, err
	}
	if !known {
		return Radius{}, fault.New(fault.NotFound, "not_found", "There is no such person, service account, credential, train, client key or token. Name it by its id; a train may be named by its slug.")
	}
	if ask.From.IsZero() {
		ask.From = now.Add(-radiusSpan)
	}
	out, err := r.radius(ctx, link, ask, now, 1)
	if err != nil {
		return Radius{}, err
	}
	if err := r.named(ctx, []*Radius{&out}); err != nil {
		return Radius{}, err
	}
	return out, r.audit.RecordRead(ctx, caller.Event(store.AuditRead, store.Target{Kind: string(link.Kind), ID: link.ID}), "blast_radius", int(out.Counted))
}

// BlastRadius tells the radius of each credential, person, service account, train and client key that an incident touches, a few at a time: next is the cursor of
// the others, empty at the end. A radius that is not complete goes on with [Room.Radius]. It needs incidents:read and audit:read.
func (r *Room) BlastRadius(ctx context.Context, caller identity.Caller, id string, ask RadiusAsk) (list []Radius, next string, err error) {
	i, err := r.Get(ctx, caller, id)
	if err != nil {
		return nil, "", err
	}
	if err := r.readsLog(ctx, caller, i.Target()); err != nil {
		return nil, "", err
	}
	if ask.From.IsZero() {
		ask.From = i.IncidentDate
	}
	links := slices.DeleteFunc(slices.Clone(i.Links), func(l Link) bool {
		kind, known := kindOf(l.ID)
		return !known || kind != l.Kind
	})
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.ID, b.ID) })
	if ask.Cursor != "" {
		if _, known := kindOf(ask.Cursor); !known {
			var p problems
			p.add("/cursor", "is not a cursor of this list")
			return nil, "", p.listErr("")
		}
		links = slices.DeleteFunc(links, func(l Link) bool { return l.ID <= ask.Cursor })
	}
	if len(links) > radiusPage {
		links = links[:radiusPage]
		next = links[radiusPage-1].ID
	}
	now, err := r.clock(ctx, nil)
	if err != nil {
		return nil, "", err
	}
	counted := 0
	all := make([]*Radius, 0, len(links))
	list = make([]Radius, len(links))
	for n, l := range links {
		if list[n], err = r.radius(ctx, l, RadiusAsk{From: ask.From, To: ask.To}, now, len(links)); err != nil {
			return nil, "", err
		}
		counted += int(list[n].Counted)
		all = append(all, &list[n])
	}
	if err := r.named(ctx, all); err != nil {
		return nil, "", err
	}
	return list, next, r.audit.RecordRead(ctx, caller.Event(store.AuditRead, i.Target()), "blast_radius", counted)
}

// readsLog refuses whoever may not read the log, on record.
func (r *Room) readsLog(ctx context.Context, caller identity.Caller, of store.Target) error {
	err := identity.Allow(caller, identity.AuditRead)
	if err == nil || fault.KindOf(err) == fault.Unauthenticated {
		return err
	}
	if kept := r.audit.RefuseRead(ctx, caller.Event(store.AuditRead, of), err); kept != nil {
		return kept
	}
	return err
}

// clock returns the database's time, and runs fn beside it.
func (r *Room) clock(ctx context.Context, fn func(*store.Tx) error) (now time.Time, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		now = tx.Now()
		if fn == nil {
			return nil
		}
		return fn(tx)
	})
	return now, err
}

// HasRadius reports whether an id is of a kind of thing that a radius can be told of.
func HasRadius(id string) bool {
	_, known := kindOf(id)
	return known
}

// KindOf returns the kind of thing that an id is of; "" for what no radius can be told of.
func KindOf(id string) LinkKind {
	if kind, known := kindOf(id); known {
		return kind
	}
	return ""
}

func kindOf(id string) (LinkKind, bool) {
	prefix, _, _ := strings.Cut(id, "_")
	kind, known := subjectKinds()[prefix]
	return kind, known && store.ValidID(prefix, id)
}

func (r *Room) radius(ctx context.Context, l Link, ask RadiusAsk, now time.Time, share int) (Radius, error) {
	out := Radius{Subject: l, From: ask.From, To: ask.To}
	if out.To.IsZero() || out.To.After(now) {
		out.To = now
	}
	if !out.From.Before(now) { // an incident that happened just now: nothing was done since
		out.Complete = true
		return out, nil
	}
	var err error
	out.Radius, err = r.audit.Radius(ctx, audit.RadiusQuery{Subject: l.ID, From: ask.From, To: ask.To, Cursor: ask.Cursor, Share: share})
	out.Subject.Name = cmp.Or(out.Subject.Name, out.Name)
	return out, err
}

// named fills in who acted for others: records have their ids alone. Who is gone has no name any more.
func (r *Room) named(ctx context.Context, list []*Radius) error {
	ids := map[LinkKind][]string{}
	each := func(fn func(*audit.Contact, LinkKind)) {
		for _, one := range list {
			for n := range one.Contacts {
				c := &one.Contacts[n]
				if kind, known := kindOf(c.ID); known && c.Kind == "" {
					fn(c, kind)
				}
			}
		}
	}
	each(func(c *audit.Contact, kind LinkKind) { ids[kind] = append(ids[kind], c.ID) })
	if len(ids) == 0 {
		return nil
	}
	names := map[string]string{}
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		for _, row := range linkRows() {
			for part := range slices.Chunk(unique(ids[row.kind]), maxLinks) {
				if err := row.names(tx, part, names); err != nil {
					return err
				}
			}
		}
		return nil
	})
	each(func(c *audit.Contact, kind LinkKind) { c.Kind, c.Name = string(kind), names[c.ID] })
	return err
}

// names reads the names of what there is of some ids.
func (r linkRow) names(tx *store.Tx, ids []string, into map[string]string) error {
	var w store.Where
	marks, args := make([]string, len(ids)), make([]any, len(ids))
	for n, id := range ids {
		marks[n], args[n] = "?", id
	}
	w.Add(`id IN (`+strings.Join(marks, ",")+`)`, args...)
	var rows []struct {
		ID   string `db:"id"`
		Name string `db:"name"`
	}
	if err := tx.Select(&rows, `SELECT id, `+r.column+` AS name FROM `+r.table+w.SQL(), w.Args()...); err != nil {
		return err
	}
	for _, row := range rows {
		into[row.ID] = row.Name
	}
	return nil
}
