package vault

import (
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// Survey returns a credential as it is, in the transaction of whoever asks, who has checked the caller's permission. With lock its row is locked. Known says
// that this version knows the type; Tampered is set for one that was changed outside Signalbox.
func (r *Room) Survey(tx *store.Tx, id string, lock bool) (c Credential, known bool, err error) {
	s, err := load(tx, id, lock)
	if err != nil {
		return Credential{}, false, err
	}
	whole, err := r.intact(s)
	if err != nil {
		return Credential{}, false, err
	}
	c = s.computed(tx.Now())
	c.Tampered = !whole
	return c, !s.foreign, nil
}

// Compromise marks a credential as compromised, in the transaction of whoever contains an incident, who has checked the caller's permission. From then on it
// is lent to nobody, and what uses it is cut. One that was changed outside Signalbox is refused: vouching for it would make it fit again.
func (r *Room) Compromise(tx *store.Tx, caller identity.Caller, id string) error {
	_, err := r.contained(tx, caller, id, "status", func(s *stored) { s.state = Compromised })
	return err
}

// RotateNow says that a credential is to be rotated at once, whatever its plan, in the transaction of whoever contains an incident, who has checked the caller's permission:
// it is first among what is due, and people are told, until it has a new secret. One that was changed outside Signalbox is refused.
func (r *Room) RotateNow(tx *store.Tx, caller identity.Caller, id string) error {
	now := tx.Now()
	s, err := r.contained(tx, caller, id, "rotation_due_at", func(s *stored) { s.RotateAt = &now })
	if err != nil {
		return err
	}
	return notify.Enqueue(tx, notify.Message{
		Kind: notify.CredentialRotation, Severity: notify.Critical, Subject: s.target(), Title: "Credential " + s.Name + " is to be rotated at once",
		Text:  "It was contained in an incident: somebody else may know its secret, and it is lent to nobody. Change the secret where it is used, rotate it here (cred rotate), and then take the mark back (cred edit --status active).",
		Facts: []notify.Fact{{Name: "Credential", Value: s.Name}, {Name: "Type", Value: string(s.Type)}, {Name: "Date", Value: now.UTC().Format(time.RFC3339)}},
	})
}

// contained changes one thing about a credential that is contained, and records it.
func (r *Room) contained(tx *store.Tx, caller identity.Caller, id, field string, change func(*stored)) (stored, error) {
	s, err := load(tx, id, true)
	if err != nil {
		return stored{}, err
	}
	if err := s.familiar(); err != nil {
		return stored{}, err
	}
	if err := r.vouched(&s, Patch{}, false); err != nil {
		return stored{}, err
	}
	change(&s)
	s.Revision++
	s.UpdatedAt = tx.Now()
	if err := r.bind(&s); err != nil {
		return stored{}, err
	}
	if err := s.update(tx); err != nil {
		return stored{}, err
	}
	tx.Change(store.TopicCredential, s.ID)
	ev := caller.Event(store.CredentialUpdate, s.target())
	ev.Fields, ev.Reason = []string{field}, "contained"
	ev.Details = store.Details{store.Int("revision", s.Revision)}
	return s, tx.Record(ev)
}
