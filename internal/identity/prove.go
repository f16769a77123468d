package identity

import (
	"context"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Code is a second factor that is typed: of an authenticator app or, when TOTP is empty, a recovery code.
type Code struct{ TOTP, Recovery secret.Value }

// IsZero reports whether neither was given.
func (c Code) IsZero() bool { return c.TOTP.IsZero() && c.Recovery.IsZero() }

func (c Code) proof() Proof {
	if c.TOTP.IsZero() {
		return ProofRecovery
	}
	return ProofTOTP
}

// Prove takes a code of the person whose session the caller has: of a pending sign-in ([Room.Pending]), which it completes, or of a session,
// which it steps up. The session has a new secret. Its faults are "second_factor_wrong" and "login_throttled".
func (r *Room) Prove(ctx context.Context, caller Caller, code Code) (Admission, error) {
	if caller.SessionID == "" || caller.Kind != KindPerson && caller.Kind != KindAnonymous {
		return Admission{}, noSession()
	}
	act := store.IdentityStepUp
	if caller.Kind == KindAnonymous {
		act = store.IdentityLogin
	}
	try, err := r.attemptFactor(ctx, caller, caller.UserID)
	if err != nil {
		return Admission{}, err
	}
	var in Admission
	var verdict error
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		in, verdict = Admission{}, nil
		person, err := lockUser(tx, caller.UserID)
		if err != nil {
			return err
		}
		good, err := r.use(tx, caller, person, code)
		if err != nil {
			return err
		}
		if !good {
			verdict = factorWrong()
			return r.recordWrong(tx, caller, person, act, code.proof())
		}
		if in, err = r.Proved(tx, caller, caller.SessionID, code.proof()); err != nil {
			return err
		}
		if err := try.right(tx, ""); err != nil {
			return err
		}
		return r.familiar(tx, caller, person)
	})
	if err == nil && verdict != nil {
		err = r.Refuse(ctx, caller.IP, FailedFactor, verdict)
	}
	return in, err
}

// LoginWith signs a person in with the password and, where one is demanded, a second factor in one step: for callers that keep no pending
// session, so that the answer never is one. Besides the faults of [Room.Login] there are "second_factor_required" (none was given; what the person can
// give is not told), "second_factor_wrong", and "second_factor_missing" for somebody who must enrol one first.
func (r *Room) LoginWith(ctx context.Context, caller Caller, email string, password secret.Value, code Code, kind SessionKind) (Admission, error) {
	row, try, err := r.checkPassword(ctx, caller, email, password)
	if err != nil {
		return Admission{}, err
	}
	var have []Proof
	demanded := false
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		if have, err = enrolled(tx, row.ID); err != nil {
			return err
		}
		demanded, err = factorDemanded(tx, row.ID)
		return err
	})
	switch {
	case err != nil:
		return Admission{}, err
	case len(have) == 0 && demanded:
		return Admission{}, r.passwordWasRight(ctx, caller, try, fault.New(fault.Forbidden, "second_factor_missing", "Your role must have a second factor, and you have none. Sign in at /sign-in in a browser, where you enrol one."))
	case len(have) > 0 && code.IsZero():
		return Admission{}, r.passwordWasRight(ctx, caller, try, secondFactor())
	}
	proofs, factor := []Proof{ProofPassword}, attempt{}
	if len(have) > 0 {
		if factor, err = r.attemptFactor(ctx, caller, row.ID); err != nil {
			return Admission{}, err
		}
		proofs = append(proofs, code.proof())
	}
	better, err := r.rehash(ctx, password, row.PasswordHash)
	if err != nil {
		return Admission{}, err
	}
	var in Admission
	var verdict error
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		in, verdict = Admission{}, nil
		person, err := lockUser(tx, row.ID)
		if err != nil {
			return err
		}
		if person.PasswordHash != row.PasswordHash { // changed while this one was being checked
			return loginFailed()
		}
		if len(have) > 0 {
			good, err := r.use(tx, caller, person, code)
			if err != nil {
				return err
			}
			if !good {
				verdict = factorWrong()
				if err := r.recordWrong(tx, caller, person, store.IdentityLogin, code.proof()); err != nil {
					return err
				}
				return try.right(tx, "")
			}
			if err := factor.right(tx, ""); err != nil {
				return err
			}
		}
		if in, err = r.StartSession(tx, caller, row.ID, kind, proofs...); err != nil {
			return err
		}
		if in.Pending() { // enrolled or demanded at this moment
			return secondFactor()
		}
		if err := keepHash(tx, row.ID, better); err != nil {
			return err
		}
		return try.right(tx, row.ID)
	})
	if err == nil && verdict != nil {
		err = r.Refuse(ctx, caller.IP, FailedFactor, verdict)
	}
	if err != nil {
		return Admission{}, err
	}
	return in, nil
}

// passwordWasRight takes back the failure that was counted before the password was looked at, and returns the verdict.
func (r *Room) passwordWasRight(ctx context.Context, caller Caller, try attempt, verdict error) error {
	if err := r.cfg.DB.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error { return try.right(tx, "") }); err != nil {
		return err
	}
	return verdict
}

// use uses up a code of a person, who is locked, and reports whether it was good.
func (r *Room) use(tx *store.Tx, caller Caller, person userRow, code Code) (bool, error) {
	if code.proof() == ProofTOTP {
		return r.useTOTP(tx, person.ID, code.TOTP)
	}
	// Codes that were left behind when the last factor went stand in for nothing.
	if have, err := enrolled(tx, person.ID); err != nil || len(have) == 0 {
		return false, err
	}
	return r.useCode(tx, caller, person.user(), code.Recovery)
}

// recordWrong records that a factor was not right.
func (r *Room) recordWrong(tx *store.Tx, caller Caller, person userRow, act store.Action, proof Proof) error {
	user := person.user()
	ev := caller.Event(act, user.Target())
	ev.Outcome, ev.Reason = store.OutcomeRefused, "second_factor_wrong"
	ev.Details = store.Details{store.Str("proof", string(proof))}
	return tx.Record(ev)
}
