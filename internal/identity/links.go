package identity

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// InviteLife is how long the link of an invitation works, ResetLife that of a reset.
	InviteLife = 7 * 24 * time.Hour
	ResetLife  = 24 * time.Hour

	linkPrefix = "sbi_"
)

// Link is a one-time link by which a person sets their password. Its secret is known only when it is made.
type Link struct {
	Secret    secret.Value
	ExpiresAt time.Time
}

// newLink makes the link of a person, in the place of any earlier one, and records it.
func newLink(tx *store.Tx, caller Caller, person userRow, act store.Action, life time.Duration) (Link, error) {
	value := newBearer(linkPrefix)
	sum := digest(value.Reveal())
	ends := tx.Now().Add(life)
	if _, err := tx.Exec(`DELETE FROM user_links WHERE user_id = $1`, person.ID); err != nil {
		return Link{}, err
	}
	if _, err := tx.Exec(`INSERT INTO user_links (id, user_id, hash, created_at, expires_at) VALUES ($1,$2,$3,$4,$5)`,
		store.NewID("link"), person.ID, sum[:], store.TimeOf(tx.Now()), store.TimeOf(ends)); err != nil {
		return Link{}, err
	}
	ev := caller.Event(act, person.user().Target())
	ev.Details = store.Details{store.Str("expires_at", ends.Format(store.TimeFormat))}
	return Link{Secret: value, ExpiresAt: ends}, tx.Record(ev)
}

// ResetPassword voids a person's password, ends their sessions and returns a link by which they set a new one; for somebody who was invited
// it is a new invitation. It needs [UserWrite]; one's own password is changed with [Room.ChangePassword] instead. Its faults are "forbidden",
// "step_up_required", "not_found" and "state_conflict".
func (r *Room) ResetPassword(ctx context.Context, caller Caller, id string) (User, Link, error) {
	if err := r.allowFresh(ctx, caller, UserWrite, store.Target{Kind: "user", ID: id}); err != nil {
		return User{}, Link{}, err
	}
	var user User
	var link Link
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		row, err := lockUser(tx, id)
		if err != nil {
			return err
		}
		switch {
		case id == caller.UserID:
			return fault.New(fault.Conflict, "state_conflict", "Change your own password instead, on your account page or with POST /api/auth/password.")
		case row.Active != 1:
			return fault.New(fault.Conflict, "state_conflict", "This person is deactivated. Activate them first.")
		case row.Email == LocalOperator:
			return fault.New(fault.Conflict, "state_conflict", "Nobody signs in as the local operator, so there is no password to reset.")
		}
		act, life := store.PasswordReset, ResetLife
		if row.PasswordHash == "" {
			act, life = store.UserInvite, InviteLife
		}
		row.PasswordHash = ""
		if _, err := tx.Exec(`UPDATE users SET password_hash = '', updated_at = $1 WHERE id = $2`, store.TimeOf(tx.Now()), id); err != nil {
			return err
		}
		if link, err = newLink(tx, caller, row, act, life); err != nil {
			return err
		}
		user = row.user()
		_, err = r.endSessions(tx, caller, id, "", "password_reset")
		return err
	})
	if err != nil {
		return User{}, Link{}, err
	}
	return user, link, nil
}

// SetPassword uses a one-time link: it sets the password of its person, whom the address is familiar from then on, so that nobody who guesses
// at them can make their first sign-in wait. Its faults are "link_refused", "rate_limited" and "validation_failed"; the link is used up only when
// it succeeds.
func (r *Room) SetPassword(ctx context.Context, caller Caller, link, password secret.Value) (User, error) {
	user, err := r.setPassword(ctx, caller, link, password)
	if f, ok := fault.As(err); ok && f.Code == "link_refused" {
		err = r.Refuse(ctx, caller.IP, FailedLink, err)
	}
	return user, err
}

func (r *Room) setPassword(ctx context.Context, caller Caller, link, password secret.Value) (User, error) {
	text := link.Reveal()
	if !wellFormed(linkPrefix, text) {
		return User{}, linkRefused()
	}
	sum := digest(text)
	// The link is looked at before the costly hash, so that nobody without it can cause one; what counts is asked again under the lock.
	var id string
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		id, err = linkOf(tx, sum[:], "")
		return err
	})
	if err != nil {
		return User{}, err
	}
	var p problems
	if err := r.password(&p, "/password", password); err != nil {
		return User{}, err
	}
	if err := p.result(); err != nil {
		return User{}, err
	}
	hash, err := r.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	var user User
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		row, err := lockUser(tx, id)
		if err != nil {
			return err
		}
		if _, err := linkOf(tx, sum[:], tx.ForUpdate()); err != nil {
			return err
		}
		if row.Active != 1 {
			return linkRefused()
		}
		row.PasswordHash, row.UpdatedAt = hash, store.TimeOf(tx.Now())
		if _, err := tx.Exec(`UPDATE users SET password_hash = $1, updated_at = $2 WHERE id = $3`, row.PasswordHash, row.UpdatedAt, row.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM user_links WHERE user_id = $1`, row.ID); err != nil {
			return err
		}
		user = row.user()
		if err := tx.Record(user.caller(caller).Event(store.PasswordSet, user.Target())); err != nil {
			return err
		}
		if err := r.familiar(tx, caller, row); err != nil {
			return err
		}
		_, err = r.endSessions(tx, user.caller(caller), row.ID, "", "password_changed")
		return err
	})
	if err != nil {
		return User{}, err
	}
	return user, nil
}

// linkOf returns whose link that is while it works.
func linkOf(tx *store.Tx, sum []byte, lock string) (string, error) {
	var link struct {
		UserID    string     `db:"user_id"`
		ExpiresAt store.Time `db:"expires_at"`
	}
	err := tx.Get(&link, `SELECT user_id, expires_at FROM user_links WHERE hash = $1`+lock, sum)
	if errors.Is(err, store.ErrNotFound) || err == nil && !tx.Now().Before(link.ExpiresAt.Time()) {
		return "", linkRefused()
	}
	return link.UserID, err
}

func linkRefused() error {
	return fault.New(fault.Unauthenticated, "link_refused", "This link does not work: it was used, is too old, or a newer one was made. Ask an administrator of this Signalbox for another.")
}

// ChangePassword sets a new password for the caller's person, who gives the current one. All their other sessions end; the caller's session
// goes on with a new secret, which is in the answer. Its faults are "password_wrong", "login_throttled" and "validation_failed".
func (r *Room) ChangePassword(ctx context.Context, caller Caller, current, next secret.Value) (Admission, error) {
	if err := r.allow(ctx, caller, ProfileWrite, store.Target{Kind: "user", ID: caller.UserID}); err != nil {
		return Admission{}, err
	}
	var p problems
	if err := r.password(&p, "/new_password", next); err != nil {
		return Admission{}, err
	}
	if err := p.result(); err != nil {
		return Admission{}, err
	}
	old, try, err := r.ownPassword(ctx, caller, current, store.PasswordChange)
	if err != nil {
		return Admission{}, err
	}
	hash, err := r.hasher.hash(ctx, next)
	if err != nil {
		return Admission{}, err
	}
	var in Admission
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		row, err := lockUser(tx, caller.UserID)
		if err != nil {
			return err
		}
		if row.PasswordHash != old.PasswordHash || row.Active != 1 {
			return fault.New(fault.Conflict, "state_conflict", "The password was changed at the same time by somebody else. Nothing was done; sign in again.")
		}
		if _, err := tx.Exec(`UPDATE users SET password_hash = $1, updated_at = $2 WHERE id = $3`, hash, store.TimeOf(tx.Now()), row.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM user_links WHERE user_id = $1`, row.ID); err != nil {
			return err
		}
		if err := tx.Record(caller.Event(store.PasswordChange, row.user().Target())); err != nil {
			return err
		}
		if _, err := r.endSessions(tx, caller, row.ID, caller.SessionID, "password_changed"); err != nil {
			return err
		}
		in = Admission{User: row.user()}
		if caller.SessionID != "" {
			if in.Secret, err = rotate(tx, caller.SessionID); err != nil {
				return err
			}
		}
		return try.right(tx, row.ID)
	})
	if err != nil {
		return Admission{}, err
	}
	return in, nil
}

// rotate gives a session a new secret.
func rotate(tx *store.Tx, id string) (secret.Value, error) {
	value := newBearer(sessionPrefix)
	sum := digest(value.Reveal())
	n, err := tx.Exec(`UPDATE sessions SET hash = $1 WHERE id = $2`, sum[:], id)
	if err == nil && n != 1 {
		err = sessionOver()
	}
	tx.Change(store.TopicSession, id)
	return value, err
}
