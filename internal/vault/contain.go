package vault

import (
	"signalbox.dev/signalbox/internal/identity"
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
	s, err := load(tx, id, true)
	if err != nil {
		return err
	}
	if err := s.familiar(); err != nil {
		return err
	}
	if err := r.vouched(&s, Patch{}, false); err != nil {
		return err
	}
	s.state = Compromised
	s.Revision++
	s.UpdatedAt = tx.Now()
	if err := r.bind(&s); err != nil {
		return err
	}
	if err := s.update(tx); err != nil {
		return err
	}
	tx.Change(store.TopicCredential, s.ID)
	ev := caller.Event(store.CredentialUpdate, s.target())
	ev.Fields, ev.Reason = []string{"status"}, "contained"
	ev.Details = store.Details{store.Int("revision", s.Revision)}
	return tx.Record(ev)
}
