package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Guessing passwords is slowed down in two ways, over all instances together. An address (IPv6: its /64) has addressBurst failures and gets one
// more each addressEvery, which makes at most 30 within any minute. An account that fails from addresses at which nobody has
// signed in to it makes such addresses wait, longer after each failure; the addresses that its person is known from do not wait, so nobody can
// be locked out from where they work. Second factors are guessed by somebody who has the password, so for them no address is familiar. A failure is counted before the password is looked at and taken back when it was right: guesses that
// run at the same time cannot pass together.
const (
	addressBurst = 20
	addressEvery = 6 * time.Second

	accountFree    = 5 // failures without a wait
	accountLongest = 15 * time.Minute
	accountForget  = 24 * time.Hour

	familiarFor  = 90 * 24 * time.Hour
	familiarMost = 20 // addresses of one person

	// waitingMost bounds the refusals that are repeated from memory.
	waitingMost = 4096

	throttlePurpose = "login throttle"
)

// accountWait is how long after the last of n failures an account takes no guess from an unfamiliar address.
func accountWait(n int64) time.Duration {
	if n < accountFree {
		return 0
	}
	return min(time.Second<<min(n-accountFree, 20), accountLongest)
}

// attempt is a guess that was let through, and is counted as a failure until it proves right.
type attempt struct {
	account, address, place string // keyed hashes; place: of the account at the address
	familiar, factor        bool
}

// waiting are refusals that memory repeats, so that guessing costs the database little.
type waiting struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (w *waiting) left(now time.Time, ids ...string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for _, id := range ids {
		longest = max(longest, w.until[id].Sub(now))
	}
	return longest
}

func (w *waiting) note(id string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until == nil || len(w.until) >= waitingMost {
		w.until = map[string]time.Time{} // the database remembers
	}
	w.until[id] = until
}

type failureRow struct {
	Failures int64      `db:"failures"`
	At       store.Time `db:"at"`
}

// attempt lets a guess of an account's password through, or returns the fault "login_throttled". It treats an account that does not exist like
// one that does.
func (r *Room) attempt(ctx context.Context, caller Caller, email string) (attempt, error) {
	a, err := r.attemptOf("", canonicalSource(caller.IP), canonicalEmail(email))
	if err != nil {
		return attempt{}, err
	}
	return r.admit(ctx, caller, a)
}

// attemptFactor lets a guess of a person's second factor through, or returns the fault "login_throttled".
func (r *Room) attemptFactor(ctx context.Context, caller Caller, userID string) (attempt, error) {
	a, err := r.attemptOf("factor ", canonicalSource(caller.IP), userID)
	if err != nil {
		return attempt{}, err
	}
	a.factor = true
	return r.admit(ctx, caller, a)
}

func (r *Room) admit(ctx context.Context, caller Caller, a attempt) (attempt, error) {
	if left := r.waiting.left(r.now(), a.address, a.place); left > 0 {
		return attempt{}, r.throttled(caller, left)
	}
	var wait time.Duration
	var who string
	err := r.cfg.DB.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		wait, who, a.familiar = 0, "", false
		now := tx.Now()
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM familiar_addresses WHERE id = $1 AND seen_at > $2`, a.place, store.TimeOf(now.Add(-familiarFor))); err != nil {
			return err
		}
		a.familiar = n > 0 && !a.factor
		var account failureRow
		if !a.familiar {
			var err error
			if account, err = failures(tx, a.account); err != nil {
				return err
			}
			if now.Sub(account.At.Time()) >= accountForget {
				account.Failures = 0
			}
			if wait = account.At.Time().Add(accountWait(account.Failures)).Sub(now); wait > 0 {
				who = a.place
				return nil
			}
		}
		address, err := failures(tx, a.address)
		if err != nil {
			return err
		}
		// at is when the last failure is worked off, and lies as far ahead as there are failures to work off.
		busy := max(address.At.Time().Sub(now), 0) + addressEvery
		if wait = busy - addressBurst*addressEvery; wait > 0 {
			who = a.address
			return nil
		}
		if err := setFailures(tx, a.address, 0, now.Add(busy)); err != nil || a.familiar {
			return err
		}
		return setFailures(tx, a.account, account.Failures+1, now)
	})
	if err != nil {
		return attempt{}, err
	}
	if wait > 0 {
		r.waiting.note(who, r.now().Add(wait))
		return attempt{}, r.throttled(caller, wait)
	}
	return a, nil
}

// failures returns a counter, locked; its row is made if need be.
func failures(tx *store.Tx, id string) (failureRow, error) {
	var row failureRow
	if _, err := tx.Exec(`INSERT INTO login_failures (id, failures, at) VALUES ($1, 0, 0) ON CONFLICT (id) DO NOTHING`, id); err != nil {
		return row, err
	}
	return row, tx.Get(&row, `SELECT failures, at FROM login_failures WHERE id = $1`+tx.ForUpdate(), id)
}

func setFailures(tx *store.Tx, id string, n int64, at time.Time) error {
	_, err := tx.Exec(`UPDATE login_failures SET failures = $1, at = $2 WHERE id = $3`, n, store.TimeOf(at), id)
	return err
}

// right takes the failure back: the password was right. The address is familiar from now on.
func (a attempt) right(tx *store.Tx, userID string) error {
	if !a.familiar {
		if _, err := tx.Exec(`UPDATE login_failures SET failures = failures - 1 WHERE id = $1 AND failures > 0`, a.account); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`UPDATE login_failures SET at = at - $1 WHERE id = $2`, addressEvery.Microseconds(), a.address); err != nil {
		return err
	}
	if userID == "" {
		return nil
	}
	return a.remember(tx, userID)
}

// familiar notes the address of somebody who is signed in now.
func (r *Room) familiar(tx *store.Tx, caller Caller, person userRow) error {
	a, err := r.attemptOf("", canonicalSource(caller.IP), person.Email)
	if err != nil {
		return err
	}
	return a.remember(tx, person.ID)
}

func (a attempt) remember(tx *store.Tx, userID string) error {
	if _, err := tx.Exec(`INSERT INTO familiar_addresses (id, user_id, seen_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET user_id = $2, seen_at = $3`,
		a.place, userID, store.TimeOf(tx.Now())); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM familiar_addresses WHERE user_id = $1 AND id NOT IN (SELECT id FROM familiar_addresses WHERE user_id = $1 ORDER BY seen_at DESC LIMIT $2)`,
		userID, familiarMost)
	return err
}

// attemptOf makes the keyed hashes: what people type for an e-mail address may be a password.
func (r *Room) attemptOf(kind, source, account string) (attempt, error) {
	var a attempt
	if r.cfg.Ring == nil {
		return a, noRing()
	}
	for _, part := range []struct {
		to   *string
		text string
	}{{&a.account, kind + "account\x00" + account}, {&a.address, "address\x00" + source}, {&a.place, kind + "place\x00" + source + "\x00" + account}} {
		mac, err := r.cfg.Ring.MAC(throttlePurpose, []byte(part.text))
		if err != nil {
			return attempt{}, err
		}
		*part.to = hex.EncodeToString(mac)
	}
	return a, nil
}

func noRing() error {
	return fault.New(fault.Unavailable, "encryption_key_missing", "Signalbox has no keyring open, so nobody can sign in. Ask an administrator to look at the server's log.")
}

func (r *Room) throttled(caller Caller, wait time.Duration) error {
	r.Failed(caller.IP, FailedThrottled)
	return fault.New(fault.TooMany, "login_throttled", "There were too many failed sign-ins from this address or for this account. Wait as long as Retry-After says, then try again. Tokens and sessions go on working.").
		After(int((wait + time.Second - 1) / time.Second))
}

// trimLogins forgets failures that no longer count.
func (r *Room) trimLogins(ctx context.Context) error {
	return r.cfg.DB.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		now := tx.Now()
		_, err := tx.Exec(`DELETE FROM login_failures WHERE at < $1 OR (failures = 0 AND at < $2)`, store.TimeOf(now.Add(-accountForget)), store.TimeOf(now))
		_, err2 := tx.Exec(`DELETE FROM familiar_addresses WHERE seen_at < $1`, store.TimeOf(now.Add(-familiarFor)))
		return errors.Join(err, err2)
	})
}
