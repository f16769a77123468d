package incident

import (
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// Update merges a patch into an incident. It needs incidents:write. A move that [Moves] does not have is state_conflict; with ifMatch it changes only the
// state that the caller has seen.
func (r *Room) Update(ctx context.Context, caller identity.Caller, id string, p Patch, ifMatch string) (Incident, error) {
	if err := r.allow(ctx, caller, identity.IncidentWrite, "update", id); err != nil {
		return Incident{}, err
	}
	var out Incident
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		i, err := load(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, i.ETag()) {
			return changedMeanwhile()
		}
		s, err := sightOf(tx, caller)
		if err != nil {
			return err
		}
		read, names, err := s.one(tx, i)
		if err != nil {
			return err
		}
		asked := p
		if names != nil {
			asked = p.keep(read.Meta)
		}
		if out, err = i.patch(tx, caller, s, asked); err != nil {
			return err
		}
		out, _, err = s.one(tx, out)
		return err
	})
	return out, err
}

// patch applies a patch to an incident that is locked.
func (i Incident) patch(tx *store.Tx, caller identity.Caller, s sees, p Patch) (Incident, error) {
	before, now := i, tx.Now()
	var bad problems
	bad.add("/note", text(p.Note, maxNote, true))
	i.Meta = p.merge(i.Meta)
	i.Meta.normalise(now, &bad)
	if p.Status != nil && !slices.Contains(Statuses(), *p.Status) {
		bad.add("/status", "must be one of "+words(Statuses(), func(s Status) string { return string(s) }))
	}
	relinked, err := i.relinked(tx, s, p, &bad)
	if err != nil {
		return Incident{}, err
	}
	if err := bad.err(notLikeThis); err != nil {
		return Incident{}, err
	}
	if p.Status != nil && *p.Status != i.Status {
		if err := i.moves(*p.Status); err != nil {
			return Incident{}, err
		}
		i.Status = *p.Status
		if i.Status == Resolved {
			i.ResolvedAt = &now
		}
	}
	if err := i.resolvedAt(p.ResolvedAt, now); err != nil {
		return Incident{}, err
	}
	fields := before.Meta.changed(i.Meta)
	fields = append(fields, relinked...)
	if before.Status == i.Status && !sameTime(before.ResolvedAt, i.ResolvedAt) {
		fields = append(fields, "resolved_at")
	}
	return i, i.store(tx, caller, before, fields, p.Note)
}

// store writes what a patch made of an incident, its entries, its records and the message to people.
func (i *Incident) store(tx *store.Tx, caller identity.Caller, before Incident, fields []string, note string) error {
	moved := before.Status != i.Status
	if len(fields) > 0 || moved {
		i.touched(tx.Now())
		if err := i.update(tx); err != nil {
			return err
		}
		if !slices.Equal(before.Links, i.Links) {
			if err := i.relink(tx); err != nil {
				return err
			}
		}
		tx.Change(store.TopicIncident, i.ID)
	}
	if moved {
		if err := i.recordMove(tx, caller, before.Status, note); err != nil {
			return err
		}
	}
	if len(fields) > 0 {
		if _, err := enter(tx, i.ID, Changed, caller.Actor(), unless(moved, note), store.Details{store.Strs("fields", fields)}); err != nil {
			return err
		}
	}
	if len(fields) > 0 || !moved && note == "" {
		ev := caller.Event(store.IncidentUpdate, i.Target())
		ev.Fields = fields
		if len(fields) == 0 {
			ev.Reason = "a patch that changes nothing"
		}
		return tx.Record(ev)
	}
	if moved {
		return nil
	}
	_, err := i.note(tx, caller, note)
	return err
}

// recordMove writes down a move that was made.
func (i Incident) recordMove(tx *store.Tx, caller identity.Caller, from Status, note string) error {
	details := store.Details{store.Str("from", string(from)), store.Str("to", string(i.Status))}
	if _, err := enter(tx, i.ID, Moved, caller.Actor(), note, details); err != nil {
		return err
	}
	if err := notify.Enqueue(tx, i.message(notify.IncidentMoved, "Incident is "+string(i.Status)+": "+i.Title, "It was "+string(from)+". See why: signalbox incident show "+i.ID)); err != nil {
		return err
	}
	ev := caller.Event(store.IncidentAdvance, i.Target())
	ev.Details = details
	return tx.Record(ev)
}

// moves returns nil when the incident may go to the status.
func (i Incident) moves(to Status) error {
	next := Moves()[i.Status]
	if slices.Contains(next, to) {
		return nil
	}
	if len(next) == 0 {
		return fault.New(fault.Conflict, "state_conflict", "This incident is resolved, and stays so. Open another one that names it if it has come back.")
	}
	return fault.New(fault.Conflict, "state_conflict", "An incident that is "+string(i.Status)+" cannot become "+string(to)+". From here it can become: "+words(next, func(s Status) string { return string(s) })+".")
}

// resolvedAt takes the time at which an incident was over.
func (i *Incident) resolvedAt(at *time.Time, now time.Time) error {
	if at == nil {
		return nil
	}
	var bad problems
	when := at.UTC().Truncate(time.Microsecond)
	switch {
	case i.Status != Resolved:
		bad.add("/resolved_at", "can be given only of an incident that is, or becomes, resolved")
	case when.Before(i.IncidentDate):
		bad.add("/resolved_at", "must not be before incident_date")
	default:
		bad.add("/resolved_at", date(when, now))
	}
	i.ResolvedAt = &when
	return bad.err(notLikeThis)
}

func (p Patch) merge(m Meta) Meta {
	set := func(to *string, v *string) {
		if v != nil {
			*to = *v
		}
	}
	set(&m.Title, p.Title)
	set(&m.Description, p.Description)
	set(&m.Findings, p.Findings)
	set(&m.Remediation, p.Remediation)
	if p.Type != nil {
		m.Type = *p.Type
	}
	if p.Severity != nil {
		m.Severity = *p.Severity
	}
	if p.IncidentDate != nil {
		m.IncidentDate = *p.IncidentDate
	}
	return m
}

// relinked puts the links of a patch in the place of those that there are, and names the kinds that changed.
func (i *Incident) relinked(tx *store.Tx, s sees, p Patch, bad *problems) (fields []string, err error) {
	var all []Link
	hidden, err := s.hidden(tx, i.Links)
	if err != nil {
		return nil, err
	}
	for _, row := range linkRows() {
		var have []Link
		refs, set := row.patched(p)
		for _, l := range i.Links {
			switch {
			case l.Kind != row.kind:
			case set && hidden[l.ID]: // what the caller does not see stays
				all = append(all, l)
			default:
				have = append(have, l)
			}
		}
		if !set {
			all = append(all, have...)
			continue
		}
		links, err := row.resolve(tx, s, refs, have, bad)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(links, have) {
			fields = append(fields, row.field)
		}
		all = append(all, links...)
	}
	i.Links = all
	i.sortLinks()
	return fields, nil
}

// AddNote writes an entry into the timeline by hand. It needs incidents:write, also of an incident that is resolved.
func (r *Room) AddNote(ctx context.Context, caller identity.Caller, id, note string) (Entry, error) {
	if err := r.allow(ctx, caller, identity.IncidentWrite, "note", id); err != nil {
		return Entry{}, err
	}
	var out Entry
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		i, err := load(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		var bad problems
		if note == "" {
			bad.add("/text", "is needed")
		}
		bad.add("/text", text(note, maxNote, true))
		if err := bad.err("The entry cannot be stored like this; nothing was changed."); err != nil {
			return err
		}
		out, err = i.note(tx, caller, note)
		return err
	})
	return out, err
}

func (i Incident) note(tx *store.Tx, caller identity.Caller, words string) (Entry, error) {
	e, err := enter(tx, i.ID, Note, caller.Actor(), words, nil)
	if err != nil {
		return Entry{}, err
	}
	tx.Change(store.TopicIncident, i.ID)
	return e, tx.Record(caller.Event(store.IncidentNote, i.Target()))
}

// Delete removes an incident with its timeline. It needs incidents:delete. With ifMatch it removes only the state that the caller has seen.
func (r *Room) Delete(ctx context.Context, caller identity.Caller, id, ifMatch string) error {
	if err := r.allow(ctx, caller, identity.IncidentDelete, "delete", id); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		i, err := load(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, i.ETag()) {
			return changedMeanwhile()
		}
		if _, err := tx.Exec(`DELETE FROM incidents WHERE id = $1`, id); err != nil { // links and timeline go with it
			return err
		}
		tx.Change(store.TopicIncident, id)
		ev := caller.Event(store.IncidentDelete, i.Target())
		ev.Details = store.Details{store.Str("status", string(i.Status)), store.Str("severity", string(i.Severity))}
		return tx.Record(ev)
	})
}

func unless(not bool, s string) string {
	if not {
		return ""
	}
	return s
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}
