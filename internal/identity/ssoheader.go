package identity

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/store"
)

// HeaderLogin signs in the person whose e-mail address a trusted proxy names. Who calls has made sure that it was that proxy. With a role, somebody
// who is not here yet is added with it. Its fault is "sso_refused".
func (r *Room) HeaderLogin(ctx context.Context, caller Caller, name string, create Role) (Admission, error) {
	email, _, ok := asciiEmail(name)
	var in Admission
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		var err error
		if in, err = r.headerLogin(tx, caller, email, ok, create); err == nil {
			return nil
		}
		var refused *ssoVerdict
		if !errors.As(err, &refused) {
			return err
		}
		verdict = refused.fault
		ev := caller.Event(store.SSORefused, store.Target{Kind: "sso_header"})
		ev.Outcome, ev.Reason = store.OutcomeRefused, refused.reason
		if ok {
			ev.Details = store.Details{store.Str("email", email)}
		}
		return tx.Record(ev)
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return Admission{}, err
	}
	return in, nil
}

func (r *Room) headerLogin(tx *store.Tx, caller Caller, email string, ok bool, create Role) (Admission, error) {
	if !ok || email == LocalOperator {
		return Admission{}, ssoRefused("email_invalid", "The proxy in front of Signalbox does not name you by an e-mail address. Ask an administrator.")
	}
	if err := lock(tx, "administrator"); err != nil { // of two first requests, one is the first
		return Admission{}, err
	}
	var row userRow
	err := tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE email = $1`+tx.ForUpdate(), email)
	if errors.Is(err, store.ErrNotFound) {
		if create == "" {
			return Admission{}, ssoRefused("no_person", "There is no account for you here. Ask an administrator of this Signalbox for one.")
		}
		if r.cfg.ReadOnly {
			return Admission{}, ssoReadOnly()
		}
		row = newPersonRow(tx, email, email, create)
		err = insertUser(tx, ssoActor(caller, row.ID), row)
	}
	if err != nil {
		return Admission{}, err
	}
	if row.Active != 1 {
		return Admission{}, ssoRefused("deactivated", "Your account here is deactivated. Ask an administrator of this Signalbox.")
	}
	return r.StartSession(tx, caller, row.ID, SessionBrowser, ProofHeader)
}

// NamedBy reports whether that is the person whom a trusted proxy names.
func (r *Room) NamedBy(ctx context.Context, caller Caller, name string) (bool, error) {
	email, _, ok := asciiEmail(name)
	if !ok {
		return false, nil
	}
	var is string
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error { return tx.Get(&is, `SELECT email FROM users WHERE id = $1`, caller.UserID) })
	return is == email, err
}
