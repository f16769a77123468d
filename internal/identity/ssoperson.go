package identity

import (
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/store"
)

// personOfSSO returns the person who somebody at a provider is, locked. Who it is was decided when they were first here, and is kept under issuer
// and subject, which an issuer gives to nobody else. An e-mail address decides once at most, and only where an administrator has said that this
// provider may speak for addresses of that domain: otherwise whoever can have a provider vouch for an address takes over its person.
func (r *Room) personOfSSO(tx *store.Tx, caller Caller, p SSOProvider, who ssoPerson, role Role) (userRow, error) {
	linked, err := linkedTo(tx, who)
	if err != nil {
		return userRow{}, err
	}
	if linked != "" {
		return lockUser(tx, linked)
	}
	if who.email == "" || !who.verified {
		return userRow{}, ssoRefused("email_unverified", "You were not here before, and the provider does not vouch for your e-mail address. Verify it there, or ask an administrator of this Signalbox.")
	}
	var row userRow
	err = tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE email = $1`+tx.ForUpdate(), who.email)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r.createBySSO(tx, caller, p, who, role)
	case err != nil:
		return userRow{}, err
	}
	taken := ssoRefused("not_linked", "There is a person with your e-mail address here who does not sign in with this provider. Ask an administrator of this Signalbox.")
	if row.Email == LocalOperator || !slices.Contains(p.LinkDomains, who.domain) {
		return userRow{}, taken
	}
	if row.Active != 1 {
		return row, nil // who is refused gets no link
	}
	var n int
	if err := tx.Get(&n, `SELECT COUNT(*) FROM sso_links WHERE user_id = $1 AND issuer = $2`, row.ID, who.issuer); err != nil {
		return userRow{}, err
	}
	if n > 0 { // the address was given to somebody else since
		return userRow{}, taken
	}
	if r.cfg.ReadOnly {
		return userRow{}, ssoReadOnly()
	}
	return row, linkSSO(tx, caller, p, who, row)
}

// createBySSO adds somebody who was never here.
func (r *Room) createBySSO(tx *store.Tx, caller Caller, p SSOProvider, who ssoPerson, role Role) (userRow, error) {
	if role == "" {
		role = p.DefaultRole
	}
	if !p.CreatePeople || role == "" || who.email == LocalOperator {
		return userRow{}, ssoRefused("no_person", "There is no account for you here. Ask an administrator of this Signalbox for one.")
	}
	if r.cfg.ReadOnly {
		return userRow{}, ssoReadOnly()
	}
	row := newPersonRow(tx, who.email, who.name, role)
	if err := insertUser(tx, ssoActor(caller, row.ID), row); err != nil {
		return userRow{}, err
	}
	return row, linkSSO(tx, caller, p, who, row)
}

// newPersonRow is somebody without a password. A name that cannot be used gives way to the address.
func newPersonRow(tx *store.Tx, email, name string, role Role) userRow {
	var bad problems
	if name = bad.name("/name", name); bad.result() != nil {
		name = email
		if len(name) > maxName {
			name = name[:maxName]
		}
	}
	now := store.TimeOf(tx.Now())
	return userRow{ID: store.NewID("user"), Email: email, Name: name, Role: role, Active: 1, CreatedAt: now, UpdatedAt: now}
}

func linkSSO(tx *store.Tx, caller Caller, p SSOProvider, who ssoPerson, row userRow) error {
	if _, err := tx.Exec(`INSERT INTO sso_links (issuer, subject, user_id, created_at) VALUES ($1,$2,$3,$4)`, who.issuer, who.subject, row.ID, store.TimeOf(tx.Now())); err != nil {
		return err
	}
	ev := ssoActor(caller, row.ID).Event(store.SSOLink, row.user().Target())
	ev.Details = store.Details{store.Str("provider", p.Name), store.Str("issuer", who.issuer), store.Str("subject", who.subject)}
	return tx.Record(ev)
}
