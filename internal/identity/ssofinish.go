package identity

import (
	"context"
	"crypto/subtle"
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oidc"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// SSOAnswer is what a browser comes back with from a provider.
type SSOAnswer struct {
	Provider string // by the address that it came back to
	State    secret.Value
	Code     secret.Value
	Issuer   string // the parameter iss, or ""
	// Refused says that the provider answered with an error.
	Refused bool
	Cookie  string
}

// SSOFinished is what a sign-in elsewhere led to.
type SSOFinished struct {
	Admission
	Next   string
	StepUp bool
}

// ssoVerdict refuses somebody whom a provider has made known.
type ssoVerdict struct {
	reason string
	fault  error
}

// Error is that of the fault.
func (v *ssoVerdict) Error() string { return v.fault.Error() }

// FinishSSO ends a sign-in that [Room.BeginSSO] began, in the same browser: it spends the state, asks the provider who it is, and makes a session
// or, for a step-up, renews that of the caller. Its faults are "sso_failed", "sso_unreachable", and "sso_refused" for somebody who may not enter;
// the last is recorded each time, the others are counted by source.
func (r *Room) FinishSSO(ctx context.Context, caller Caller, a SSOAnswer) (SSOFinished, error) {
	begun, p, reg, err := r.resumeSSO(ctx, caller, a)
	if err != nil {
		return SSOFinished{}, err
	}
	state := a.State.Reveal()
	ask := oidc.Answer{
		Code: a.Code, Verifier: ssoDerive(a.Cookie, state, "verifier"), Nonce: ssoDerive(a.Cookie, state, "nonce"), Issuer: a.Issuer, Want: p.wants(),
	}
	if begun.SessionID != "" {
		ask.After = begun.CreatedAt.Time()
	}
	if a.Refused {
		// The mix-up check comes first: what another provider says about this sign-in is not to be believed either.
		err := r.oidc.CheckIssuer(ctx, reg, a.Issuer)
		if err == nil {
			return SSOFinished{}, r.Refuse(ctx, caller.IP, FailedSSO, ssoFailed("The provider did not let you in, or you changed your mind there."))
		}
		return SSOFinished{}, r.ssoFailure(ctx, caller, p, err)
	}
	claims, err := r.oidc.Exchange(ctx, reg, ask)
	if err != nil {
		return SSOFinished{}, r.ssoFailure(ctx, caller, p, err)
	}
	who := p.ssoPerson(claims)
	out := SSOFinished{Next: begun.Next, StepUp: begun.SessionID != ""}
	var verdict error
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		var err error
		out.Admission, err = r.enterSSO(tx, caller, p, who, begun.SessionID)
		var refused *ssoVerdict
		if !errors.As(err, &refused) {
			return err
		}
		verdict = refused.fault
		ev := caller.Event(store.SSORefused, p.Target())
		ev.Outcome, ev.Reason = store.OutcomeRefused, refused.reason
		ev.Details = store.Details{store.Str("issuer", who.issuer), store.Str("subject", who.subject), store.Str("email", who.email)}
		return tx.Record(ev)
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return SSOFinished{}, err
	}
	return out, nil
}

// resumeSSO spends the state, and makes sure that it is this browser's, this provider's and, for a step-up, this session's.
func (r *Room) resumeSSO(ctx context.Context, caller Caller, a SSOAnswer) (ssoState, SSOProvider, oidc.Registration, error) {
	none := oidc.Registration{}
	stop := func(text string) (ssoState, SSOProvider, oidc.Registration, error) {
		return ssoState{}, SSOProvider{}, none, r.Refuse(ctx, caller.IP, FailedSSO, ssoFailed(text))
	}
	if n := a.State.Len(); n == 0 || n > 200 || a.Code.Len() > 8192 {
		return stop("This is no answer to a sign-in of ours.")
	}
	begun, found, err := r.takeState(ctx, a.State.Reveal())
	if err != nil {
		return ssoState{}, SSOProvider{}, none, err
	}
	bound := digest(a.Cookie)
	switch {
	case !found:
		return stop("This sign-in took too long, was used already, or did not begin here.")
	case a.Cookie == "" || subtle.ConstantTimeCompare(bound[:], begun.Browser) != 1:
		return stop("This sign-in did not begin in this browser.")
	case begun.SessionID != "" && begun.SessionID != caller.SessionID:
		return stop("This confirmation is of another session.")
	}
	row, p, err := r.enabledSSO(ctx, a.Provider)
	if fault.KindOf(err) == fault.NotFound || err == nil && p.ID != begun.ProviderID {
		return stop("This answer is not from the provider that was asked.")
	} else if err != nil {
		return ssoState{}, SSOProvider{}, none, err
	}
	if a.Code.IsZero() && !a.Refused {
		return stop("This is no answer to a sign-in of ours.")
	}
	reg := oidc.Registration{Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes, RedirectURI: begun.RedirectURI}
	if row.Sealed != nil {
		if reg.Secret, err = r.cfg.Ring.Open(ssoPurpose, row.Sealed, p.aad()); err != nil {
			return ssoState{}, SSOProvider{}, none, err
		}
	}
	return begun, p, reg, nil
}

// enterSSO decides whether somebody may enter, and lets them in.
func (r *Room) enterSSO(tx *store.Tx, caller Caller, p SSOProvider, who ssoPerson, session string) (Admission, error) {
	// Roles may change, and the lock on the administrators comes before that on a person. It also lets one of two first sign-ins be the first.
	// Under the second one no group is given that a change of the settings takes back at the same time.
	for _, name := range []string{"administrator", "sso"} {
		if err := lock(tx, name); err != nil {
			return Admission{}, err
		}
	}
	if _, now, err := findSSO(tx, p.ID, ""); fault.KindOf(err) == fault.NotFound || err == nil && (!now.Enabled || !now.UpdatedAt.Equal(p.UpdatedAt)) {
		return Admission{}, ssoFailed("The provider's settings were changed meanwhile.")
	} else if err != nil {
		return Admission{}, err
	} else {
		p.Groups = now.Groups // one may have been deleted meanwhile
	}
	if err := p.mayEnter(who); err != nil {
		return Admission{}, err
	}
	if session != "" {
		return r.provedSSO(tx, caller, who, session)
	}
	role, err := p.role(who)
	if err != nil {
		return Admission{}, err
	}
	if len(p.Groups) > 0 && !who.groupsKnown {
		return Admission{}, groupsMissing()
	}
	if err := p.lockGroups(tx); err != nil {
		return Admission{}, err
	}
	row, err := r.personOfSSO(tx, caller, p, who, role)
	if err != nil {
		return Admission{}, err
	}
	if row.Active != 1 {
		return Admission{}, ssoRefused("deactivated", "Your account here is deactivated. Ask an administrator of this Signalbox.")
	}
	was := row
	if role != "" && role != row.Role {
		if r.cfg.ReadOnly { // with the old role they would have what is theirs no longer
			return Admission{}, ssoReadOnly()
		}
		if err := r.roleBySSO(tx, caller, p, row, role); err != nil {
			return Admission{}, err
		}
		row.Role = role
	}
	if err := r.groupsBySSO(tx, caller, p, who, row); err != nil {
		return Admission{}, err
	}
	if err := r.endKeysOfPerson(tx, ssoActor(caller, row.ID), was, row); err != nil { // last: a group of this sign-in may be a way as well
		return Admission{}, err
	}
	return r.StartSession(tx, caller, row.ID, SessionBrowser, who.proof)
}

// provedSSO renews the session of somebody who has just signed in again as the same person.
func (r *Room) provedSSO(tx *store.Tx, caller Caller, who ssoPerson, session string) (Admission, error) {
	linked, err := linkedTo(tx, who)
	if err != nil {
		return Admission{}, err
	}
	if linked != caller.UserID {
		return Admission{}, ssoRefused("somebody_else", "You signed in as somebody else than who is signed in here. Nothing was confirmed.")
	}
	return r.Proved(tx, caller, session, who.proof)
}

// linkedTo returns the person who is that subject, "" for nobody.
func linkedTo(tx *store.Tx, who ssoPerson) (string, error) {
	var ids []string
	err := tx.Select(&ids, `SELECT user_id FROM sso_links WHERE issuer = $1 AND subject = $2`, who.issuer, who.subject)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// ssoActor is who decides at a sign-in: the provider's settings, on behalf of who signs in.
func ssoActor(caller Caller, userID string) Caller {
	c := System("sso")
	c.OnBehalf, c.RequestID, c.IP, c.UserAgent = userID, caller.RequestID, caller.IP, caller.UserAgent
	return c
}

// roleBySSO gives somebody the role that their groups give them. Their other sessions end, as with any new role.
func (r *Room) roleBySSO(tx *store.Tx, caller Caller, p SSOProvider, old userRow, role Role) error {
	if old.Role == Administrator {
		if err := anotherAdministrator(tx, old); fault.KindOf(err) == fault.Conflict {
			return ssoRefused("last_administrator", "Your groups no longer make you an administrator, and there is no other who can sign in with a password. Make another one first, or put yourself back into the group.")
		} else if err != nil {
			return err
		}
	}
	row := old
	row.Role, row.UpdatedAt = role, store.TimeOf(tx.Now())
	if _, err := tx.Exec(`UPDATE users SET role = $1, updated_at = $2 WHERE id = $3`, string(row.Role), row.UpdatedAt, row.ID); err != nil {
		return err
	}
	tx.Change(store.TopicUser, row.ID)
	return r.recordChange(tx, ssoActor(caller, row.ID), old, row, nil)
}
