package web

import (
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// eventPage is one record, with the proof that it is in the log.
type eventPage struct {
	ui.Frame
	Reader  ui.Reader
	Meaning string
	Event   store.Event
	Facts   []ui.Fact
	Details []ui.Fact
	// Proof is nil while no signed checkpoint covers the record; Checkpoint is the one that it leads to. Wrong says that it does not.
	Proof      *audit.Proof
	Checkpoint audit.Checkpoint
	Wrong      bool
}

// auditEvent shows one record. Both reads are on record, as the API's are.
func (s *site) auditEvent(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	e, err := s.Audit.Get(r.Context(), r.PathValue("event"))
	if err == nil {
		err = s.Audit.RecordRead(r.Context(), v.Event(store.AuditRead, store.Target{Kind: "event", ID: e.Event.ID}), "get", 1)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &eventPage{Frame: s.frame(r, v, string(e.Event.Action)), Reader: s.reader(r), Event: e.Event}
	for _, row := range store.Actions() {
		if row.Action == e.Event.Action {
			p.Meaning = strings.ToUpper(row.Meaning[:1]) + row.Meaning[1:] + "."
		}
	}
	p.Facts, p.Details = eventFacts(p.Reader, e)
	proof, err := s.Audit.Prove(r.Context(), e.Event.ID)
	switch {
	case err == nil:
		if err := s.Audit.RecordRead(r.Context(), v.Event(store.AuditRead, store.Target{Kind: "event", ID: e.Event.ID}), "prove", 1); err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Proof = &proof
		p.Checkpoint, err = audit.CheckProof(proof)
		p.Wrong = err != nil
	case fault.Of(err).Kind != fault.Conflict: // then it is not signed yet
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, eventView(p))
}

// eventFacts are what a record says, and its details.
func eventFacts(reader ui.Reader, entry audit.Entry) (facts, details []ui.Fact) {
	e := entry.Event
	add := func(term, text string) {
		if text != "" {
			facts = append(facts, ui.Fact{Term: term, Value: ui.Text(text)})
		}
	}
	search := func(term, label, name, id string) {
		if id != "" {
			facts = append(facts, ui.Fact{Term: term, Value: ui.Link(label, auditPath(nil, name, id))})
		} else {
			add(term, label)
		}
	}
	named := func(kind, name, id string) string {
		switch {
		case name != "":
			return name + " (" + kind + ")"
		case id != "":
			return id
		}
		return kind
	}
	facts = append(facts, ui.Fact{Term: "When", Value: ui.When(reader, e.At)}, ui.Fact{Term: "Time", Value: ui.Code(e.At.UTC().Format(store.TimeFormat)), Wide: true},
		ui.Fact{Term: "Outcome", Value: outcomeBadge(e.Outcome)})
	add("Reason", e.Reason)
	search("Who", named(e.Actor.Kind, e.Actor.Name, e.Actor.ID), "actor", e.Actor.ID)
	search("On behalf of", e.OnBehalf, "actor", e.OnBehalf)
	search("What it was done to", named(e.Target.Kind, e.Target.Name, e.Target.ID), "target", e.Target.ID)
	search("Request", e.RequestID, "request_id", e.RequestID)
	add("From", e.IP)
	add("With", e.UserAgent)
	add("Changed fields", strings.Join(e.Fields, ", "))
	if entry.Leaf >= 0 {
		add("Place in the log", reader.Number(entry.Leaf))
	}
	for _, d := range e.Details {
		details = append(details, ui.Fact{Term: d.Key, Value: ui.Text(d.Text())})
	}
	return facts, details
}
