package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	codePrefix = "sbl_"

	// LoginCodeLife is how long the command line may take to fetch its tokens once its person has agreed.
	LoginCodeLife = time.Minute

	// The ports that a program of a person, and no service of the machine, listens on.
	leastPort, highestPort = 1024, 65535
	// A verifier is 43 to 128 characters (RFC 7636, section 4.1).
	verifierMin, verifierMax = 43, 128
)

// CommandLine is a command line that asks to act as a person.
type CommandLine struct {
	// Challenge is the SHA-256 of what only that program knows, in base64url (RFC 7636, method S256).
	Challenge string
	// Port of 127.0.0.1 is where the browser takes the code; 0 when the person pastes it.
	Port int
}

// Check returns the fault "validation_failed" unless the command line can be served.
func (c CommandLine) Check() error {
	_, err := c.challenge()
	return err
}

func (c CommandLine) challenge() ([]byte, error) {
	var p problems
	sum, err := base64.RawURLEncoding.Strict().DecodeString(c.Challenge)
	if err != nil || len(sum) != sha256.Size {
		p.add("/challenge", "must be a SHA-256 in base64url")
	}
	if c.Port != 0 && (c.Port < leastPort || c.Port > highestPort) {
		p.add("/port", "must be from 1024 to 65535")
	}
	return sum, p.result()
}

// AllowCommandLine lets a command line act as the caller, who has agreed to it in a browser, and returns the code by which that program gets its
// tokens. The code works once, for [LoginCodeLife], while the caller's session lives, and with the verifier of the challenge only; it voids an earlier
// one of the session. A session of a program cannot agree to another, and an old proof is not enough: hours must not become months by a stolen
// cookie. The faults are "state_conflict", "validation_failed" and "step_up_required".
func (r *Room) AllowCommandLine(ctx context.Context, caller Caller, ask CommandLine) (secret.Value, error) {
	if caller.Kind != KindPerson || caller.SessionID == "" {
		return secret.Value{}, noSession()
	}
	sum, err := ask.challenge()
	if err != nil {
		return secret.Value{}, err
	}
	target := Session{ID: caller.SessionID}.Target()
	if err := RequireFresh(caller, r.now()); err != nil {
		return secret.Value{}, r.refused(ctx, caller, target, err)
	}
	var code secret.Value
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		var row sessionRow
		person, err := r.lockSession(tx, caller.SessionID, &row)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return sessionOver()
		case err != nil:
			return err
		case row.Kind != SessionBrowser:
			return noSession()
		case !agreeable(tx, person, row):
			return sessionOver()
		}
		now := tx.Now()
		if _, err := tx.Exec(`DELETE FROM login_codes WHERE session_id = $1 OR expires_at <= $2`, row.ID, store.TimeOf(now)); err != nil {
			return err
		}
		code = newBearer(codePrefix)
		hash := digest(code.Reveal())
		if _, err := tx.Exec(`INSERT INTO login_codes (hash, session_id, challenge, port, created_at, expires_at) VALUES ($1,$2,$3,$4,$5,$6)`,
			hash[:], row.ID, sum, ask.Port, store.TimeOf(now), store.TimeOf(now.Add(LoginCodeLife))); err != nil {
			return err
		}
		ev := caller.Event(store.IdentityCLI, target)
		ev.Details = store.Details{store.Str("step", "agreed"), store.Str("user", person.ID), store.Int("port", int64(ask.Port))}
		return tx.Record(ev)
	})
	return code, err
}

// agreeable reports whether a session can lead to another one now.
func agreeable(tx *store.Tx, person userRow, row sessionRow) bool {
	return person.Active == 1 && row.Demanded == encodeProofs(nil) && tx.Now().Before(row.ExpiresAt.Time())
}

type codeRow struct {
	SessionID string     `db:"session_id"`
	Challenge []byte     `db:"challenge"`
	Port      int64      `db:"port"`
	ExpiresAt store.Time `db:"expires_at"`
}

// ExchangeCode takes the code of a person who has agreed, and returns the tokens of a new session of theirs. The session has proved what the browser's
// had, no more and no later. Whatever comes with it, a code is spent. Every refusal is the fault "unauthenticated" and counted.
func (r *Room) ExchangeCode(ctx context.Context, caller Caller, code, verifier secret.Value) (Tokens, error) {
	var row sessionRow
	var person userRow
	var refresh secret.Value
	var verdict error
	held, err := r.findCode(ctx, code)
	if err == nil {
		err = r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
			verdict = nil
			var from sessionRow
			person, err = r.lockSession(tx, held.SessionID, &from)
			if errors.Is(err, store.ErrNotFound) {
				return badCode()
			} else if err != nil {
				return err
			}
			// Under the lock of the session: of two that bring the code at once, the second finds it spent.
			hash := digest(code.Reveal())
			if n, err := tx.Exec(`DELETE FROM login_codes WHERE hash = $1`, hash[:]); err != nil {
				return err
			} else if n != 1 {
				return badCode()
			}
			target, acting := Session{ID: from.ID}.Target(), person.user().caller(caller)
			why, proofs, err := r.whyNot(tx, held, person, from, verifier)
			if err != nil {
				return err
			}
			if why != "" {
				verdict = badCode()
				ev := caller.Event(store.IdentityCLI, target)
				ev.Outcome, ev.Reason, ev.OnBehalf = store.OutcomeRefused, why, person.ID
				ev.Details = store.Details{store.Str("step", "exchange"), store.Str("user", person.ID), store.Int("port", held.Port)}
				return tx.Record(ev)
			}
			in, err := r.startSession(tx, caller, person.ID, SessionAPI, proven{proofs, from.AuthenticatedAt.Time(), from.SteppedUpAt.Time()})
			if err != nil {
				return err
			}
			ev := acting.Event(store.IdentityCLI, in.Session.Target())
			ev.Details = store.Details{store.Str("step", "exchange"), store.Str("user", person.ID), store.Str("agreed_in", from.ID), store.Int("port", held.Port)}
			if err := tx.Record(ev); err != nil {
				return err
			}
			if person, err = r.lockTokens(tx, in.Session.ID, &row); err != nil {
				return err
			}
			refresh, err = r.addRefresh(tx, caller, person, &row, "login")
			return err
		})
	}
	if err == nil {
		err = verdict
	}
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = r.Refuse(ctx, caller.IP, FailedCode, err)
		}
		return Tokens{}, err
	}
	return r.tokensOf(ctx, person, row, refresh)
}

// whyNot says for the record why a code leads nowhere, "" when it leads on, and what its session has proved.
func (r *Room) whyNot(tx *store.Tx, held codeRow, person userRow, from sessionRow, verifier secret.Value) (string, []Proof, error) {
	proofs, err := decodeProofs(from.Proofs)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(verifier.Bytes())
	switch {
	case verifier.Len() < verifierMin || verifier.Len() > verifierMax || subtle.ConstantTimeCompare(sum[:], held.Challenge) != 1:
		return "verifier", nil, nil
	case !tx.Now().Before(held.ExpiresAt.Time()):
		return "expired", nil, nil
	case !agreeable(tx, person, from):
		return "session", nil, nil
	}
	more, err := demands(tx, person.ID, proofs)
	if err != nil || len(more) > 0 { // a factor that is demanded since
		return "second_factor", nil, err
	}
	return "", proofs, nil
}

// findCode only reads, so that guessing codes locks nothing.
func (r *Room) findCode(ctx context.Context, code secret.Value) (row codeRow, err error) {
	if !wellFormed(codePrefix, code.Reveal()) {
		return row, badCode()
	}
	hash := digest(code.Reveal())
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		err := tx.Get(&row, `SELECT session_id, challenge, port, expires_at FROM login_codes WHERE hash = $1`, hash[:])
		if errors.Is(err, store.ErrNotFound) {
			return badCode()
		}
		return err
	})
	return row, err
}

func badCode() error {
	return unauthenticated("This code does not work: it was used, is older than a minute, or belongs to another sign-in. Begin again with signalbox login.")
}
