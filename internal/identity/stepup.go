package identity

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// FreshFor is how long a proof of who somebody is opens what [RequireFresh] guards.
const FreshFor = 5 * time.Minute

// RequireFresh returns nil unless the caller is a person whose last proof is older than [FreshFor] at the time now: whoever finds a browser
// open, or has stolen a cookie, must not be able to take secrets out or to change who may do what. The fault is "step_up_required".
// A token has no need of it: it can do what its scopes name, and was issued for that.
func RequireFresh(c Caller, now time.Time) error {
	if c.Kind == KindPerson && (c.SteppedUpAt.IsZero() || now.Sub(c.SteppedUpAt) > FreshFor) {
		return stepUpRequired()
	}
	return nil
}

func stepUpRequired() error {
	return fault.New(fault.Forbidden, "step_up_required", "This needs a proof of who you are that is not older than five minutes. Confirm your second factor, or your password if you have none, at /step-up or with POST /api/auth/step-up, and repeat it.")
}

// StepUp takes the password of the person whose session the caller has. The session is fresh from now on and has a new secret. Its faults are
// "password_wrong", "login_throttled", and "step_up_required" for somebody whose password alone proves too little.
func (r *Room) StepUp(ctx context.Context, caller Caller, password secret.Value) (Admission, error) {
	if caller.Kind != KindPerson || caller.SessionID == "" {
		return Admission{}, noSession()
	}
	_, try, err := r.ownPassword(ctx, caller, password, store.IdentityStepUp)
	if err != nil {
		return Admission{}, err
	}
	var in Admission
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if in, err = r.Proved(tx, caller, caller.SessionID, ProofPassword); err != nil {
			return err
		}
		return try.right(tx, caller.UserID)
	})
	if err != nil {
		return Admission{}, err
	}
	return in, nil
}

// ownPassword checks the password of the caller's person; that it is wrong is recorded as a refused act.
func (r *Room) ownPassword(ctx context.Context, caller Caller, password secret.Value, act store.Action) (userRow, attempt, error) {
	var row userRow
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`, caller.UserID)
	})
	if err != nil {
		return userRow{}, attempt{}, err
	}
	let := r.attempt
	if caller.Kind == KindPerson && caller.SessionID != "" {
		let = r.attemptWithin
	}
	try, err := let(ctx, caller, row.Email)
	if err != nil {
		return userRow{}, attempt{}, err
	}
	ok, err := r.verify(ctx, password, row.PasswordHash)
	if err != nil || ok && row.Active == 1 {
		return row, try, err
	}
	verdict := fault.New(fault.Forbidden, "password_wrong", "That is not your current password. Nothing was done; try again.")
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		ev := caller.Event(act, row.user().Target())
		ev.Outcome, ev.Reason = store.OutcomeRefused, verdict.Code
		return tx.Record(ev)
	})
	if err != nil {
		return userRow{}, attempt{}, err
	}
	return userRow{}, attempt{}, r.Refuse(ctx, caller.IP, FailedLogin, verdict)
}

func noSession() error {
	return fault.New(fault.Conflict, "state_conflict", "Only somebody who is signed in has a session. A token does what its scopes allow, and has nothing to confirm or to end here.")
}
