package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Factors are the second factors of a person, as they may be shown.
type Factors struct {
	// TOTPSince is when an authenticator app was confirmed, nil without one.
	TOTPSince *time.Time
	Passkeys  []Passkey
	// RecoveryCodes is how many are left.
	RecoveryCodes int
	// Demanded says that the person's role must have a second factor.
	Demanded bool
}

// Any reports whether there is a second factor. Recovery codes alone are none.
func (f Factors) Any() bool { return f.TOTPSince != nil || len(f.Passkeys) > 0 }

// Enrolment is what it led to that a person has enrolled a factor.
type Enrolment struct {
	// Admission is the session that enrolled it. It has a new secret and, if it was pending, is complete.
	Admission
	// Passkey is the one that was enrolled, if it was one.
	Passkey Passkey
	// Codes are the recovery codes that were made with a first factor, shown this once; empty with a further one.
	Codes []secret.Value
}

// Factors returns the second factors of a person; an empty userID is the caller's. Those of others need [UserRead].
func (r *Room) Factors(ctx context.Context, caller Caller, userID string) (Factors, error) {
	var none string // a service account has no factors
	if err := r.allowOn(ctx, caller, ProfileRead, UserRead, ServiceRead, &userID, &none); err != nil {
		return Factors{}, err
	}
	if userID == "" {
		return Factors{}, nil
	}
	var out Factors
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM users WHERE id = $1`, userID); err != nil {
			return err
		} else if n == 0 {
			return noPerson()
		}
		out, err = factorsOf(tx, userID)
		return err
	})
	return out, err
}

func factorsOf(tx *store.Tx, userID string) (Factors, error) {
	var out Factors
	var since []store.Time
	if err := tx.Select(&since, `SELECT confirmed_at FROM totp_secrets WHERE user_id = $1 AND confirmed_at IS NOT NULL`, userID); err != nil {
		return Factors{}, err
	}
	if len(since) > 0 {
		out.TOTPSince = since[0].Ptr()
	}
	var err error
	if out.Passkeys, err = passkeysOf(tx, userID); err != nil {
		return Factors{}, err
	}
	if out.RecoveryCodes, err = codesLeft(tx, userID); err != nil {
		return Factors{}, err
	}
	out.Demanded, err = factorDemanded(tx, userID)
	return out, err
}

// Proofs are what the person can prove themselves with besides the password, in the order in which they are asked for it.
func (f Factors) Proofs() []Proof {
	var out []Proof
	if !f.Any() {
		return nil
	}
	if len(f.Passkeys) > 0 {
		out = append(out, ProofPasskey)
	}
	if f.TOTPSince != nil {
		out = append(out, ProofTOTP)
	}
	if f.RecoveryCodes > 0 {
		out = append(out, ProofRecovery)
	}
	return out
}

// enrolled returns what a person can prove themselves with besides the password.
func enrolled(tx *store.Tx, userID string) ([]Proof, error) {
	f, err := factorsOf(tx, userID)
	return f.Proofs(), err
}

// satisfies reports whether a proof is one of those demanded. A person who must enrol first does so by proving what they enrolled.
func satisfies(demanded []Proof, given Proof) bool {
	return slices.Contains(demanded, given) || slices.Contains(demanded, ProofEnrolment) && (given == ProofTOTP || given == ProofPasskey)
}

// mayEnrol refuses whoever may not change the second factors of their own: anybody but a person in a fresh session, and somebody whose sign-in
// waits for a first factor. A token may not: who signs in how is not for whom a token was lent to.
func (r *Room) mayEnrol(ctx context.Context, caller Caller) error {
	if caller.Kind == KindAnonymous && caller.SessionID != "" {
		return nil // a pending sign-in; enrolling looks at it
	}
	return r.mayChange(ctx, caller)
}

func (r *Room) mayChange(ctx context.Context, caller Caller) error {
	if err := r.allowFresh(ctx, caller, ProfileWrite, store.Target{Kind: "user", ID: caller.UserID}); err != nil {
		return err
	}
	if caller.Kind != KindPerson || caller.SessionID == "" {
		return noSession()
	}
	return nil
}

// enrolling locks the caller's person and session, and refuses a session in which nothing may be enrolled. It returns what the person has so far.
func (r *Room) enrolling(tx *store.Tx, caller Caller) (userRow, Factors, error) {
	var row sessionRow
	person, err := r.lockSession(tx, caller.SessionID, &row)
	if errors.Is(err, store.ErrNotFound) {
		return userRow{}, Factors{}, sessionOver()
	} else if err != nil {
		return userRow{}, Factors{}, err
	}
	s, err := r.session(row)
	if err != nil {
		return userRow{}, Factors{}, err
	}
	if person.ID != caller.UserID || person.Active != 1 || !tx.Now().Before(s.ExpiresAt) {
		return userRow{}, Factors{}, sessionOver()
	}
	have, err := factorsOf(tx, person.ID)
	if err != nil {
		return userRow{}, Factors{}, err
	}
	// Of two sign-ins that wait for a first factor, the second finds one: it must prove that one, and not add its own.
	if len(s.Demanded) > 0 && (!slices.Contains(s.Demanded, ProofEnrolment) || have.Any()) {
		return userRow{}, Factors{}, secondFactor()
	}
	return person, have, nil
}

// enrol finishes an enrolment whose factor is stored: it makes recovery codes with the first one, ends the sessions that the password alone
// has opened, and lets the session of the caller have proved the factor.
func (r *Room) enrol(tx *store.Tx, caller Caller, person userRow, before Factors, proof Proof, factor store.Details) (Enrolment, error) {
	var out Enrolment
	user := person.user()
	act := user.caller(caller)
	ev := act.Event(store.FactorEnrol, user.Target())
	ev.Details = append(store.Details{store.Str("factor", string(proof))}, factor...)
	if err := tx.Record(ev); err != nil {
		return Enrolment{}, err
	}
	var err error
	if !before.Any() {
		if out.Codes, err = makeCodes(tx, act, user); err != nil {
			return Enrolment{}, err
		}
		if _, err := r.endSessions(tx, act, person.ID, caller.SessionID, "factor_enrolled"); err != nil {
			return Enrolment{}, err
		}
	}
	out.Admission, err = r.Proved(tx, caller, caller.SessionID, proof)
	return out, err
}

// removeFactor removes a factor of the caller's own with remove, which reports whether there was one. With the last one the recovery codes go. A
// person whose role must have a second factor keeps the last one.
func (r *Room) removeFactor(ctx context.Context, caller Caller, proof Proof, factor store.Details, remove func(tx *store.Tx) (bool, error)) error {
	if err := r.mayChange(ctx, caller); err != nil {
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		person, err := lockUser(tx, caller.UserID)
		if err != nil {
			return err
		}
		if was, err := remove(tx); err != nil {
			return err
		} else if !was {
			return noFactor()
		}
		left, err := factorsOf(tx, person.ID)
		if err != nil {
			return err
		}
		if !left.Any() && left.Demanded {
			return fault.New(fault.Conflict, "state_conflict", "Your role must have a second factor, and this is your last one. Enrol another first, then remove this one.")
		}
		if !left.Any() {
			if _, err := tx.Exec(`DELETE FROM recovery_codes WHERE user_id = $1`, person.ID); err != nil {
				return err
			}
		}
		ev := caller.Event(store.FactorRemove, person.user().Target())
		ev.Details = append(store.Details{store.Str("factor", string(proof))}, factor...)
		return tx.Record(ev)
	})
}

// ResetFactors removes every second factor of a person who has lost theirs, and ends their sessions. It needs [UserWrite]; nobody resets their own.
// Its faults are "forbidden", "step_up_required", "not_found" and "state_conflict".
func (r *Room) ResetFactors(ctx context.Context, caller Caller, id string) error {
	target := store.Target{Kind: "user", ID: id}
	if err := r.allowFresh(ctx, caller, UserWrite, target); err != nil {
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		person, err := lockUser(tx, id)
		if err != nil {
			return err
		}
		if id == caller.UserID {
			return fault.New(fault.Conflict, "state_conflict", "Nobody resets their own second factors. Remove them on your account page, or ask another administrator.")
		}
		had, err := factorsOf(tx, id)
		if err != nil {
			return err
		}
		for _, table := range []string{"totp_secrets", "recovery_codes", "passkeys"} {
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE user_id = $1`, id); err != nil {
				return err
			}
		}
		ev := caller.Event(store.FactorReset, person.user().Target())
		totp := int64(0)
		if had.TOTPSince != nil {
			totp = 1
		}
		ev.Details = store.Details{store.Int("totp", totp), store.Int("passkeys", int64(len(had.Passkeys)))}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if _, err := r.endSessions(tx, caller, id, "", "factors_reset"); err != nil {
			return err
		}
		return r.tell(tx, News{Kind: NewsFactorsReset, Person: person.user(), Caller: caller})
	})
}

func noFactor() error {
	return fault.New(fault.NotFound, "not_found", "You have no such second factor. Look at your account page, or at GET /api/factors.")
}

func factorWrong() *fault.Error {
	return fault.New(fault.Forbidden, "second_factor_wrong", "That code is not right, or was used before. Wait for the next one in your app and give that; a recovery code works once.")
}
