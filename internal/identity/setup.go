package identity

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// SetupLife is how long a set-up link works.
const SetupLife = 24 * time.Hour

// NewSetupLink returns the secret of a one-time set-up link, by which whoever reads the server's output becomes the first administrator. It
// works for [SetupLife]; every earlier link stops working. When there is an administrator, it is the fault "already_set_up".
func (r *Room) NewSetupLink(ctx context.Context) (secret.Value, error) {
	value := newBearer(setupPrefix)
	sum := digest(value.Reveal())
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "administrator"); err != nil {
			return err
		}
		if has, err := hasAdministrator(tx); err != nil {
			return err
		} else if has {
			return alreadySetUp()
		}
		if _, err := tx.Exec(`DELETE FROM setup_links`); err != nil {
			return err
		}
		id, now := store.NewID("setup"), tx.Now()
		if _, err := tx.Exec(`INSERT INTO setup_links (id, hash, created_at, expires_at) VALUES ($1,$2,$3,$4)`, id, sum[:], store.TimeOf(now), store.TimeOf(now.Add(SetupLife))); err != nil {
			return err
		}
		ev := System("setup").Event(store.IdentitySetup, store.Target{Kind: "setup_link", ID: id})
		ev.Details = store.Details{store.Str("step", "made"), store.Str("expires_at", now.Add(SetupLife).Format(store.TimeFormat))}
		return tx.Record(ev)
	})
	if err != nil {
		return secret.Value{}, err
	}
	return value, nil
}

// Setup uses a set-up link: it makes the first administrator and returns the person with a personal access token of all scopes. The link
// is used up only when that succeeds. Its faults are "setup_refused", "already_set_up" and "validation_failed".
func (r *Room) Setup(ctx context.Context, caller Caller, token secret.Value, email, name string, password secret.Value) (User, secret.Value, error) {
	none := secret.Value{}
	user, bearer, err := r.setup(ctx, caller, token, email, name, password)
	if err != nil {
		if f, ok := fault.As(err); ok && f.Code == "setup_refused" {
			err = r.Refuse(ctx, caller.IP, FailedSetup, err)
		}
		return User{}, none, err
	}
	return user, bearer, nil
}

func (r *Room) setup(ctx context.Context, caller Caller, token secret.Value, email, name string, password secret.Value) (user User, bearer secret.Value, err error) {
	text := token.Reveal()
	if !wellFormed(setupPrefix, text) {
		return User{}, bearer, setupRefused()
	}
	sum := digest(text)
	// The link is looked at before the costly hash, so that nobody without it can cause one; what counts is asked again under the lock.
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		_, err := setupLink(tx, sum[:])
		return err
	})
	if err != nil {
		return User{}, bearer, err
	}
	row, err := r.newAdministrator(email, name, password)
	if err != nil {
		return User{}, bearer, err
	}
	if row.PasswordHash, err = r.hasher.hash(ctx, password); err != nil {
		return User{}, bearer, err
	}
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "administrator"); err != nil {
			return err
		}
		link, err := setupLink(tx, sum[:])
		if err != nil {
			return err
		}
		ev := caller.Event(store.IdentitySetup, store.Target{Kind: "setup_link", ID: link})
		ev.Details = store.Details{store.Str("step", "used")}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if user, err = insertAdministrator(tx, caller, row); err != nil { // this also removes the link
			return err
		}
		if err := r.familiar(tx, caller, row); err != nil { // they sign in next, and others may have guessed at the address before
			return err
		}
		_, bearer, err = r.insertToken(tx, user.caller(caller), TokenDraft{UserID: user.ID, Name: "set-up", Scopes: RoleScopes(user.Role)})
		return err
	})
	return user, bearer, err
}

// setupLink returns the id of the link with that hash while it works.
func setupLink(tx *store.Tx, sum []byte) (string, error) {
	var links []struct {
		ID        string     `db:"id"`
		ExpiresAt store.Time `db:"expires_at"`
	}
	if err := tx.Select(&links, `SELECT id, expires_at FROM setup_links WHERE hash = $1`, sum); err != nil {
		return "", err
	}
	// Asked after the link: an administrator who is made in between takes the link away, and that must not look like a bad link.
	if has, err := hasAdministrator(tx); err != nil {
		return "", err
	} else if has {
		return "", alreadySetUp()
	}
	if len(links) != 1 || !tx.Now().Before(links[0].ExpiresAt.Time()) {
		return "", setupRefused()
	}
	return links[0].ID, nil
}

func setupRefused() error {
	return fault.New(fault.Unauthenticated, "setup_refused", "This set-up link does not work: it was used, is older than 24 hours, or a newer one was made. To make the administrator without it, stop the server and run signalbox init on its machine.")
}
