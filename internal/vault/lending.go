package vault

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// LendingState says whether an account is lent to agents. It is apart from the status: a paused account is as good as before, and its tokens are
// kept fresh.
type LendingState string

// The states. Whatever is none of them counts as [Paused].
const (
	Lent    LendingState = ""        // as usual
	Paused  LendingState = "paused"  // to no new request, and running ones are cut
	Drained LendingState = "drained" // to no new request; running ones finish
)

// Lending is the state with who set it, and why.
type Lending struct {
	State  LendingState
	Reason string
	By     string // the name of who paused or drained it
	Since  *time.Time
}

// Held says in words for a person why an account is lent to no new request; "" when it is.
func (s LendingState) Held() string {
	switch s {
	case Lent:
		return ""
	case Drained:
		return "it is drained"
	}
	return "it is paused"
}

// Cuts reports whether running requests must not go on either.
func (s LendingState) Cuts() bool { return s != Lent && s != Drained }

// lendingAct is what an act that sets the state is called, and how it is recorded.
func (s LendingState) act() (string, store.Action, bool) {
	switch s {
	case Lent:
		return "resume", store.CredentialResume, true
	case Paused:
		return "pause", store.CredentialPause, true
	case Drained:
		return "drain", store.CredentialDrain, true
	}
	return "", "", false
}

// SetLending pauses, drains or resumes an account, wherever it is linked. It needs the right to change the credential. An account that is disabled,
// compromised or expired is not resumed, since it would not be lent: the fault is state_conflict, as for what is no account. Pausing or draining once more
// without a reason is recorded, and leaves who did it first, why and since when.
func (r *Room) SetLending(ctx context.Context, caller identity.Caller, id string, to LendingState, reason string) (Credential, error) {
	act, action, known := to.act()
	if !known {
		return Credential{}, fault.New(fault.Unprocessable, "validation_failed", "An account is paused, drained or resumed; this is none of them.")
	}
	return r.change(ctx, caller, id, act, action, func(tx *store.Tx, s *stored) error {
		var bad problems
		checkReason(reason, false, &bad)
		if err := bad.err(); err != nil {
			return err
		}
		if !s.IsAccount() {
			return fault.New(fault.Conflict, "state_conflict", "Only an account is lent to agents, so only an account can be paused, drained and resumed. Disable the credential instead.")
		}
		if err := r.vouched(s, Patch{}, false); err != nil {
			return err
		}
		if to == Lent {
			if err := s.resumable(tx.Now()); err != nil {
				return err
			}
		}
		return r.lend(tx, caller, s, Lending{State: to, Reason: reason}, action)
	})
}

// resumable returns why an account would not be lent although nobody pauses it, as the refusal of a resume.
func (s stored) resumable(now time.Time) error {
	switch statusAt(s.state, s.ExpiresAt, now) {
	case Compromised:
		return stillCompromised(s.Name)
	case Disabled:
		return fault.New(fault.Conflict, "state_conflict", "The account "+s.Name+" is disabled, so resuming it would not have it lent. Enable it: signalbox cred edit --status active.")
	case Expired:
		return fault.New(fault.Conflict, "state_conflict", "The account "+s.Name+" has expired, so resuming it would not have it lent. Rotate it, or give it another expires_at.")
	}
	return nil
}

func (r *Room) lend(tx *store.Tx, caller identity.Caller, s *stored, to Lending, action store.Action) error {
	before := s.Lending.State
	if to.State != Lent {
		now := tx.Now()
		to.By, to.Since = caller.Actor().Name, &now
	}
	ev := caller.Event(action, s.target())
	ev.Reason = to.Reason
	ev.Details = store.Details{store.Str("before", lendingWord(before))}
	if to.State == Lent {
		to.Reason = "" // it is in the record; an account that is lent as usual has nothing to explain
	}
	if to.State != s.Lending.State || to.State == Lent || to.Reason != "" { // repeated without a reason, it says nothing new of who, why and since when
		s.Lending = to
	}
	s.Revision++
	s.UpdatedAt = tx.Now()
	if err := r.bind(s); err != nil {
		return err
	}
	if err := s.update(tx); err != nil {
		return err
	}
	tx.Change(store.TopicCredential, s.ID)
	return tx.Record(ev)
}

// lendingWord names a state in records. What is not known is not repeated.
func lendingWord(s LendingState) string {
	switch s {
	case Lent:
		return "lent"
	case Drained:
		return "drained"
	}
	return "paused"
}
