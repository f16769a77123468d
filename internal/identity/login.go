package identity

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Login signs a person in with e-mail address and password; caller says where they sit. What follows may be a session or, when a second
// factor is demanded, a pending one ([Admission.Pending]). Any failure is the fault "login_failed", takes the same work whether the person
// exists or not, and is counted; too many are refused before the work as "login_throttled", for anybody's address and name alike.
func (r *Room) Login(ctx context.Context, caller Caller, email string, password secret.Value, kind SessionKind) (Admission, error) {
	row, try, err := r.checkPassword(ctx, caller, email, password)
	if err != nil {
		return Admission{}, err
	}
	better, err := r.rehash(ctx, password, row.PasswordHash)
	if err != nil {
		return Admission{}, err
	}
	var in Admission
	gone := false
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		now, err := lockUser(tx, row.ID)
		if err != nil {
			return err
		}
		if gone = now.PasswordHash != row.PasswordHash; gone { // changed while this one was being checked
			return loginFailed()
		}
		if in, err = r.StartSession(tx, caller, row.ID, kind, ProofPassword); err != nil {
			return err
		}
		if err := keepHash(tx, row.ID, better); err != nil {
			return err
		}
		if in.Pending() { // the password alone makes no address familiar
			return try.right(tx, "")
		}
		return try.right(tx, row.ID)
	})
	if err != nil {
		return Admission{}, err
	}
	return in, nil
}

// CheckPassword returns the person whom the e-mail address and the password belong to, and records a login without a session: for the
// command line on the server's own machine. Its faults are those of [Room.Login].
func (r *Room) CheckPassword(ctx context.Context, caller Caller, email string, password secret.Value) (User, error) {
	row, try, err := r.checkPassword(ctx, caller, email, password)
	if err != nil {
		return User{}, err
	}
	user := row.user()
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := try.right(tx, ""); err != nil {
			return err
		}
		return tx.Record(user.caller(caller).Event(store.IdentityLogin, user.Target()))
	})
	return user, err
}

// checkPassword does the work that tells whether somebody is a person of ours.
func (r *Room) checkPassword(ctx context.Context, caller Caller, email string, password secret.Value) (userRow, attempt, error) {
	try, err := r.attempt(ctx, caller, email)
	if err != nil {
		return userRow{}, attempt{}, err
	}
	row := userRow{}
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE email = $1`, canonicalEmail(email))
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return userRow{}, attempt{}, err
	}
	ok, err := r.verify(ctx, password, row.PasswordHash)
	if err != nil {
		return userRow{}, attempt{}, err
	}
	if !ok || row.Active != 1 {
		return userRow{}, attempt{}, r.Refuse(ctx, caller.IP, FailedLogin, loginFailed())
	}
	return row, try, nil
}

// verify is the hasher's, for passwords of any length.
func (r *Room) verify(ctx context.Context, password secret.Value, hash string) (bool, error) {
	if password.Len() > MaxPassword {
		password = secret.Value{} // it cannot be right, and must not cost more than another
	}
	return r.hasher.verify(ctx, password, hash)
}

// rehash returns a hash of the password with today's parameters when those of hash are weaker, else "".
func (r *Room) rehash(ctx context.Context, password secret.Value, hash string) (string, error) {
	if !outdated(hash) {
		return "", nil
	}
	return r.hasher.hash(ctx, password)
}

// keepHash stores what [Room.rehash] returned.
func keepHash(tx *store.Tx, userID, better string) error {
	if better == "" {
		return nil
	}
	_, err := tx.Exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, better, userID)
	return err
}

func loginFailed() error {
	return fault.New(fault.Unauthenticated, "login_failed", "The e-mail address and the password do not belong together. Check both and try again.")
}
