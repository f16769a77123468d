package incident

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// Open opens an incident. It needs incidents:write.
func (r *Room) Open(ctx context.Context, caller identity.Caller, d Draft) (Incident, error) {
	if err := r.allow(ctx, caller, identity.IncidentWrite, "open", ""); err != nil {
		return Incident{}, err
	}
	var out Incident
	err := r.db.Write(ctx, func(tx *store.Tx) (err error) {
		out, err = open(tx, caller, d, "", "")
		return err
	})
	return out, err
}

// Report opens an incident that a detector has found, in the transaction of whoever calls. While there is one of the same detector and subject that is not
// resolved, that one is counted up and returned instead, with opened false: of several instances that report at once, one opens. A detector's name is
// one word of ours; the subject is an id, or a word. It asks for no permission, and records either way.
func Report(tx *store.Tx, caller identity.Caller, detector, subject string, d Draft) (i Incident, opened bool, err error) {
	if detector == "" || strings.ContainsAny(detector, " \x00") || subject == "" || text(subject, maxTitle, false) != "" {
		return Incident{}, false, errors.New("incident: a report needs a detector, which is one word, and a subject")
	}
	if err := tx.Lock("incident " + detector + " " + subject); err != nil {
		return Incident{}, false, err
	}
	var id string
	err = tx.Get(&id, `SELECT id FROM incidents WHERE dedup = $1 AND status <> $2`, detector+" "+subject, string(Resolved))
	if errors.Is(err, store.ErrNotFound) {
		i, err = open(tx, caller, d, detector, subject)
		return i, true, err
	}
	if err != nil {
		return Incident{}, false, err
	}
	if i, err = load(tx, id, tx.ForUpdate()); err != nil {
		return Incident{}, false, err
	}
	if i.Status == Resolved { // by somebody who was faster than the lock
		i, err = open(tx, caller, d, detector, subject)
		return i, true, err
	}
	now := tx.Now()
	i.Repeats++
	i.LastSeenAt = &now
	i.touched(now)
	if err := i.update(tx); err != nil {
		return Incident{}, false, err
	}
	tx.Change(store.TopicIncident, i.ID)
	ev := caller.Event(store.IncidentRepeat, i.Target())
	ev.Details = store.Details{store.Str("detector", detector), store.Int("repeats", i.Repeats)}
	return i, false, tx.Record(ev)
}

// Report is the function [Report] in a transaction of its own.
func (r *Room) Report(ctx context.Context, caller identity.Caller, detector, subject string, d Draft) (i Incident, opened bool, err error) {
	err = r.db.Write(ctx, func(tx *store.Tx) (err error) {
		i, opened, err = Report(tx, caller, detector, subject, d)
		return err
	})
	return i, opened, err
}

// open stores a new incident that is investigating, with its first entry, its record and the message to people.
func open(tx *store.Tx, caller identity.Caller, d Draft, detector, subject string) (Incident, error) {
	i, err := drafted(tx, caller, d, detector, subject)
	if err != nil {
		return Incident{}, err
	}
	return i, i.begin(tx, caller, "An incident was opened. Look at what it touches, and contain it: signalbox incident show "+i.ID)
}

// drafted checks a draft and makes an incident of it, which is stored nowhere yet.
func drafted(tx *store.Tx, caller identity.Caller, d Draft, detector, subject string) (Incident, error) {
	s, err := sightOf(tx, caller)
	if err != nil {
		return Incident{}, err
	}
	now := tx.Now()
	if d.IncidentDate.IsZero() {
		d.IncidentDate = now
	}
	d.Type, d.Severity = cmp.Or(d.Type, Other), cmp.Or(d.Severity, Medium)
	var bad problems
	d.Meta.normalise(now, &bad)
	i := Incident{ID: store.NewID(idPrefix), Meta: d.Meta, Status: Investigating, Detector: detector, Subject: subject, Revision: 1, CreatedAt: now, UpdatedAt: now}
	for _, row := range linkRows() {
		links, err := row.resolve(tx, s, row.pick(d.Touch), nil, &bad)
		if err != nil {
			return Incident{}, err
		}
		i.Links = append(i.Links, links...)
	}
	i.sortLinks()
	return i, bad.err(notLikeThis)
}

// begin stores a new incident, with its first entry, its record and the message to people, whose words are told.
func (i Incident) begin(tx *store.Tx, caller identity.Caller, told string) error {
	if err := i.insert(tx); err != nil {
		return err
	}
	details := store.Details{store.Str("incident_type", string(i.Type)), store.Str("severity", string(i.Severity))}
	if i.Status != Investigating {
		details = append(details, store.Str("status", string(i.Status)))
	}
	if i.Detector != "" {
		details = append(details, store.Str("detector", i.Detector), store.Str("subject", i.Subject))
	}
	if _, err := enter(tx, i.ID, Opened, caller.Actor(), "", details); err != nil {
		return err
	}
	if err := notify.Enqueue(tx, i.message(notify.IncidentOpened, "Incident: "+i.Title, told)); err != nil {
		return err
	}
	tx.Change(store.TopicIncident, i.ID)
	ev := caller.Event(store.IncidentOpen, i.Target())
	ev.Details = append(details, i.counts()...)
	return tx.Record(ev)
}

func (i *Incident) sortLinks() {
	slices.SortFunc(i.Links, func(a, b Link) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.ID, b.ID))
	})
}

// counts tells how much the incident touches, for the record.
func (i Incident) counts() store.Details {
	var out store.Details
	for _, row := range linkRows() {
		if ids := i.Linked(row.kind); len(ids) > 0 {
			out = append(out, store.Strs(row.field, ids))
		}
	}
	return out
}

func (i *Incident) touched(now time.Time) {
	i.Revision++
	i.UpdatedAt = now
}

// message is what people are told: never what somebody wrote but the title.
func (i Incident) message(kind notify.Kind, title, words string) notify.Message {
	urgency := map[Severity]notify.Severity{Low: notify.Info, Medium: notify.Warning}[i.Severity]
	return notify.Message{
		Kind: kind, Severity: cmp.Or(urgency, notify.Critical), Title: title, Text: words, Subject: i.Target(), About: i.about(), Keys: i.Linked(OfKey),
		Facts: []notify.Fact{{Name: "Incident", Value: i.ID}, {Name: "Type", Value: string(i.Type)}, {Name: "Severity", Value: string(i.Severity)}, {Name: "Status", Value: string(i.Status)}},
	}
}

// about is what the incident touches that trains' own people hear of: trains, and credentials that trains link.
func (i Incident) about() (out []store.Target) {
	for _, l := range i.Links {
		if l.Kind == OfTrain || l.Kind == OfCredential {
			out = append(out, store.Target{Kind: string(l.Kind), ID: l.ID})
		}
	}
	return out
}

// allow asks for a permission to everything; a refusal is recorded.
func (r *Room) allow(ctx context.Context, caller identity.Caller, p identity.Permission, act, id string) error {
	return r.refuse(ctx, caller, act, id, identity.Allow(caller, p))
}

// refuse records a verdict, unless it is none or nobody's.
func (r *Room) refuse(ctx context.Context, caller identity.Caller, act, id string, verdict error) error {
	if verdict == nil || fault.KindOf(verdict) == fault.Unauthenticated {
		return verdict
	}
	target := store.Target{Kind: targetKind}
	if store.ValidID(idPrefix, id) {
		target.ID = id
	}
	ev := caller.Event(store.IncidentRefused, target)
	ev.Outcome, ev.Reason, ev.Details = store.OutcomeRefused, fault.Of(verdict).Code, store.Details{store.Str("act", act)}
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return verdict
}
