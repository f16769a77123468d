package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // RFC 6238's default, and the only one that every app knows; HMAC does not need it to resist collisions
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	totpPurpose = "totp"
	totpBytes   = 20
	totpDigits  = 6
	totpStep    = 30 * time.Second
	totpSkew    = 1 // steps that a clock may be off

	// FactorOfferLife is how long a secret that was shown waits for the code that confirms it, and a passkey's challenge for its answer.
	FactorOfferLife = 10 * time.Minute
)

// TOTPOffer is a secret for an authenticator app, shown this once. It counts when [Room.ConfirmTOTP] has taken a code of it.
type TOTPOffer struct {
	// Secret in base32, for typing; URI holds it as apps read it from a QR code.
	Secret, URI secret.Value
	ExpiresAt   time.Time
}

// totpCode is the code of a time step (RFC 6238, RFC 4226).
func totpCode(key []byte, step int64, digits int) string {
	mac := hmac.New(sha1.New, key)
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	_, _ = mac.Write(counter[:]) // a hash never fails
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	n, modulus := binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff, uint32(1)
	for range digits {
		modulus *= 10
	}
	return fmt.Sprintf("%0*d", digits, n%modulus)
}

// totpMatch returns the step whose code this is, among those around now and after the last one that was used; 0 for none. It compares all.
func totpMatch(key []byte, now time.Time, last int64, code string) int64 {
	step, found := now.Unix()/int64(totpStep/time.Second), int64(0)
	for s := step - totpSkew; s <= step+totpSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(key, s, totpDigits)), []byte(code)) == 1 && s > last {
			found = s
		}
	}
	return found
}

// plainCode is a code without the spaces that people type between its halves.
func plainCode(code secret.Value) string {
	return strings.ReplaceAll(strings.TrimSpace(code.Reveal()), " ", "")
}

// OfferTOTP makes the secret of an authenticator app for the caller's person, in the place of one that was never confirmed. Its faults are
// "step_up_required", and "already_exists" for somebody who has one.
func (r *Room) OfferTOTP(ctx context.Context, caller Caller) (TOTPOffer, error) {
	if err := r.mayEnrol(ctx, caller); err != nil {
		return TOTPOffer{}, err
	}
	if r.cfg.Ring == nil {
		return TOTPOffer{}, noRing()
	}
	key := make([]byte, totpBytes)
	_, _ = rand.Read(key) // crypto/rand.Read never fails since Go 1.24
	box, err := r.cfg.Ring.Seal(totpPurpose, secret.New(key), totpPlace(caller.UserID))
	if err != nil {
		return TOTPOffer{}, err
	}
	var person userRow
	var ends time.Time
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		var have Factors
		var err error
		if person, have, err = r.enrolling(tx, caller); err != nil {
			return err
		}
		if have.TOTPSince != nil {
			return fault.New(fault.Conflict, "already_exists", "You have an authenticator app already. Remove it first, then enrol the new one.")
		}
		ends = tx.Now().Add(FactorOfferLife)
		if _, err := tx.Exec(`DELETE FROM totp_secrets WHERE user_id = $1`, person.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO totp_secrets (user_id, sealed, last_step, created_at) VALUES ($1, $2, 0, $3)`, person.ID, box, store.TimeOf(tx.Now())); err != nil {
			return err
		}
		user := person.user()
		ev := user.caller(caller).Event(store.FactorOffer, user.Target())
		ev.Details = store.Details{store.Str("factor", string(ProofTOTP))}
		return tx.Record(ev)
	})
	if err != nil {
		return TOTPOffer{}, err
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	uri := url.URL{Scheme: "otpauth", Host: "totp", Path: "/Signalbox:" + person.Email, RawQuery: "secret=" + text + "&issuer=Signalbox&algorithm=SHA1&digits=6&period=30"}
	return TOTPOffer{Secret: secret.FromString(text), URI: secret.FromString(uri.String()), ExpiresAt: ends}, nil
}

// ConfirmTOTP takes the first code of the app that [Room.OfferTOTP] has made a secret for. Its faults are "second_factor_wrong",
// "login_throttled", and "state_conflict" when nothing waits to be confirmed.
func (r *Room) ConfirmTOTP(ctx context.Context, caller Caller, code secret.Value) (Enrolment, error) {
	if err := r.mayEnrol(ctx, caller); err != nil {
		return Enrolment{}, err
	}
	try, err := r.attemptFactor(ctx, caller, caller.UserID)
	if err != nil {
		return Enrolment{}, err
	}
	var out Enrolment
	var verdict error
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		out, verdict = Enrolment{}, nil
		person, have, err := r.enrolling(tx, caller)
		if err != nil {
			return err
		}
		row, err := totpOf(tx, person.ID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || row.ConfirmedAt != nil || tx.Now().Sub(row.CreatedAt.Time()) >= FactorOfferLife {
			return fault.New(fault.Conflict, "state_conflict", "No authenticator app waits to be confirmed: begin anew, and give a code within ten minutes.")
		}
		step, err := r.totpStepOf(tx, row, code)
		if err != nil {
			return err
		}
		if step == 0 {
			verdict = factorWrong()
			return r.recordWrong(tx, caller, person, store.FactorEnrol, ProofTOTP)
		}
		if _, err := tx.Exec(`UPDATE totp_secrets SET confirmed_at = $1, last_step = $2 WHERE user_id = $3`, store.TimeOf(tx.Now()), step, person.ID); err != nil {
			return err
		}
		if out, err = r.enrol(tx, caller, person, have, ProofTOTP, nil); err != nil {
			return err
		}
		return try.right(tx, "")
	})
	if err == nil && verdict != nil {
		err = r.Refuse(ctx, caller.IP, FailedFactor, verdict)
	}
	return out, err
}

// RemoveTOTP removes the authenticator app of the caller's person.
func (r *Room) RemoveTOTP(ctx context.Context, caller Caller) error {
	return r.removeFactor(ctx, caller, ProofTOTP, nil, func(tx *store.Tx) (bool, error) {
		n, err := tx.Exec(`DELETE FROM totp_secrets WHERE user_id = $1 AND confirmed_at IS NOT NULL`, caller.UserID)
		return n == 1, err
	})
}

type totpRow struct {
	UserID      string      `db:"user_id"`
	Sealed      []byte      `db:"sealed"`
	LastStep    int64       `db:"last_step"`
	CreatedAt   store.Time  `db:"created_at"`
	ConfirmedAt *store.Time `db:"confirmed_at"`
}

// totpOf reads and locks the secret of a person.
func totpOf(tx *store.Tx, userID string) (totpRow, error) {
	var row totpRow
	return row, tx.Get(&row, `SELECT user_id, sealed, last_step, created_at, confirmed_at FROM totp_secrets WHERE user_id = $1`+tx.ForUpdate(), userID)
}

// totpStepOf returns the step of a code that is right and was not used, else 0.
func (r *Room) totpStepOf(tx *store.Tx, row totpRow, code secret.Value) (int64, error) {
	if r.cfg.Ring == nil {
		return 0, noRing()
	}
	key, err := r.cfg.Ring.Open(totpPurpose, row.Sealed, totpPlace(row.UserID))
	if err != nil {
		return 0, fmt.Errorf("open the secret of an authenticator app: %w", err)
	}
	return totpMatch(key.Bytes(), tx.Now(), row.LastStep, plainCode(code)), nil
}

// useTOTP uses up a code of a person, who is locked, and reports whether it was good.
func (r *Room) useTOTP(tx *store.Tx, userID string, code secret.Value) (bool, error) {
	row, err := totpOf(tx, userID)
	if errors.Is(err, store.ErrNotFound) || err == nil && row.ConfirmedAt == nil {
		return false, nil
	} else if err != nil {
		return false, err
	}
	step, err := r.totpStepOf(tx, row, code)
	if err != nil || step == 0 {
		return false, err
	}
	n, err := tx.Exec(`UPDATE totp_secrets SET last_step = $1 WHERE user_id = $2 AND last_step < $1`, step, userID)
	return n == 1, err
}

func totpPlace(userID string) secret.AAD {
	return secret.AAD{Table: "totp_secrets", ID: userID, Field: "secret", Version: 1}
}
