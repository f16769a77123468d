package incident

import (
	"cmp"
	"slices"
	"strconv"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// plan finds out what a containment does, and with which incident. With lock it locks what it looks at: the incident, credentials, trains, the administrators, people, then service
// accounts, each kind in the order of the ids, which is the order that the rooms have: whoever issues a key holds the train, then themselves.
func (r *Room) plan(tx *store.Tx, caller identity.Caller, w which, s Scope, lock bool) (i Incident, p Plan, err error) {
	clause := ""
	if lock {
		clause = tx.ForUpdate()
	}
	if !w.opens {
		if i, err = w.get(tx, caller, Plan{}, clause); err != nil {
			return Incident{}, Plan{}, err
		}
		if i.Status == Resolved {
			return Incident{}, Plan{}, fault.New(fault.Conflict, "state_conflict", "This incident is resolved, and stays so. Open another one and contain that.")
		}
	}
	var bad problems
	if err := r.resolveScope(tx, caller, s, &p, &bad); err != nil {
		return Incident{}, Plan{}, err
	}
	if err := bad.err("This cannot be contained. Correct the parts of the scope that are named and try again; nothing was changed."); err != nil {
		return Incident{}, Plan{}, err
	}
	if w.opens {
		if i, err = w.get(tx, caller, p, ""); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	if lock {
		if err := r.hold(tx, caller, &p); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	for _, part := range []func(*store.Tx, identity.Caller, *Plan, bool) error{r.planPeople, r.planServices, r.planCredentials, r.planKeys} {
		if err := part(tx, caller, &p, lock); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	if len(p.Steps) > maxSteps {
		return Incident{}, Plan{}, fault.New(fault.Unprocessable, "validation_failed", "This would take "+strconv.Itoa(len(p.Steps))+" steps; at most "+strconv.Itoa(maxSteps)+" are done in one act. Contain it in parts; nothing was changed.").With("/scope", "is too much at once")
	}
	if !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Act != Leave }) {
		p.warn(WarnNothing, "All of this is contained already, or can be used by nobody.")
	}
	switch {
	case w.opens:
		p.Steps = append([]Step{{Act: OpenNew, Kind: targetKind, Name: i.Title, Of: string(i.Status)}}, p.Steps...)
	case i.Status != Contained:
		p.add(Advance, targetKind, i.ID, i.Title, string(Contained))
	}
	p.Tag = p.tag(i, w)
	return i, p, nil
}

func (p *Plan) add(act StepAct, kind, id, name, of string) {
	p.Steps = append(p.Steps, Step{Act: act, Kind: kind, ID: id, Name: name, Of: of})
}

func (p *Plan) warn(code, detail string) {
	w := Warning{code, detail}
	if !slices.Contains(p.Warnings, w) {
		p.Warnings = append(p.Warnings, w)
	}
}

// resolveScope finds what the scope names.
func (r *Room) resolveScope(tx *store.Tx, caller identity.Caller, s Scope, p *Plan, bad *problems) error {
	seen, err := sightOf(tx, caller)
	if err != nil {
		return err
	}
	p.scope.Deactivate, p.scope.Treat = s.Deactivate, s.Treat
	total := 0
	for _, row := range linkRows() {
		var from []string
		var to *[]string
		switch row.kind {
		case OfCredential:
			from, to = s.Credentials, &p.scope.Credentials
		case OfTrain:
			from, to = s.Trains, &p.scope.Trains
		case OfPerson:
			from, to = s.People, &p.scope.People
		case OfServiceAccount:
			from, to = s.ServiceAccounts, &p.scope.ServiceAccounts
		case OfKey:
			from, to = s.ClientKeys, &p.scope.ClientKeys
		default:
			continue
		}
		var inner problems
		links, err := row.resolve(tx, seen, from, nil, &inner)
		if err != nil {
			return err
		}
		for _, f := range inner.fields {
			bad.add("/scope"+f.Pointer, f.Message)
		}
		for _, l := range links {
			*to = append(*to, l.ID)
		}
		*to = unique(*to)
		p.links = append(p.links, links...)
		total += len(from)
	}
	if total == 0 {
		bad.add("/scope", "needs something to contain")
	}
	if s.Deactivate && len(s.People) == 0 {
		bad.add("/scope/deactivate", "needs user_ids")
	}
	switch {
	case s.Treat != "" && !slices.Contains(Treatments(), s.Treat):
		bad.add("/scope/credentials", "must be one of "+words(Treatments(), func(t Treatment) string { return string(t) }))
	case s.Treat == Rotate && len(s.Credentials) == 0:
		bad.add("/scope/credentials", "needs credential_ids to rotate")
	}
	return nil
}

// hold locks the credentials and the trains of a plan, since those come before people.
func (r *Room) hold(tx *store.Tx, caller identity.Caller, p *Plan) error {
	for _, id := range p.scope.Credentials {
		if _, _, err := r.vault.Survey(tx, id, true); err != nil {
			return err
		}
	}
	_, err := r.trainsOf(tx, caller, p, true)
	return err
}

// trainsOf finds the trains whose keys a plan looks at, and locks them if asked to; it returns their ids in order.
func (r *Room) trainsOf(tx *store.Tx, caller identity.Caller, p *Plan, lock bool) ([]string, error) {
	trains := slices.Clone(p.scope.Trains)
	for _, id := range p.scope.ClientKeys {
		of, err := r.identity.TrainOfKey(tx, id)
		if err != nil {
			return nil, err
		}
		trains = append(trains, of)
	}
	trains = unique(trains)
	for _, id := range trains {
		if _, err := train.Find(tx, caller, id, lock); err != nil {
			return nil, err
		}
	}
	return trains, nil
}

func (r *Room) planPeople(tx *store.Tx, caller identity.Caller, p *Plan, lock bool) error {
	if p.scope.Deactivate && lock {
		if err := identity.LockAdministrators(tx); err != nil {
			return err
		}
	}
	leaving := 0
	for _, id := range p.scope.People {
		held, err := r.identity.HeldBy(tx, identity.PartyPerson, id, lock)
		if err != nil {
			return err
		}
		p.heldBy(held)
		if id == caller.UserID {
			p.warn(WarnYourself, "You are among the people: your own sessions and tokens end with this act.")
		}
		if p.scope.Deactivate && held.Active {
			if err := r.identity.MayGo(tx, id); err != nil {
				return err
			}
			leaving++
			p.add(Deactivate, "user", id, held.Target.Name, "")
			keys, err := r.identity.KeysLostBy(tx, caller, id)
			if err != nil {
				return err
			}
			for _, k := range keys {
				p.add(RevokeKey, "key", k.ID, k.Name, k.TrainID)
			}
		}
	}
	if leaving > 1 { // each may go, but perhaps not all of them
		return r.identity.MayAllGo(tx, p.scope.People)
	}
	return nil
}

func (p *Plan) heldBy(held identity.Held) {
	for _, s := range held.Sessions {
		p.add(EndSession, "session", s.ID, string(s.Kind), held.Target.ID)
	}
	for _, t := range held.Tokens {
		p.add(RevokeToken, "token", t.ID, t.Name, held.Target.ID)
	}
}

func (r *Room) planServices(tx *store.Tx, caller identity.Caller, p *Plan, lock bool) error {
	for _, id := range p.scope.ServiceAccounts {
		held, err := r.identity.HeldBy(tx, identity.PartyService, id, lock)
		if err != nil {
			return err
		}
		if id == caller.ServiceID {
			p.warn(WarnYourself, "You are among the service accounts: your own token ends with this act.")
		}
		p.heldBy(held)
	}
	return nil
}

func (r *Room) planCredentials(tx *store.Tx, _ identity.Caller, p *Plan, _ bool) error {
	for _, id := range p.scope.Credentials {
		c, known, err := r.vault.Survey(tx, id, false)
		if err != nil {
			return err
		}
		if c.Tampered || !known {
			p.add(Leave, "credential", id, c.Name, "it is lent to nobody: it was changed outside Signalbox, or a newer one stored it")
			continue
		}
		rotate := p.scope.Treat == Rotate
		if rotate && replaceable(c) {
			replaced, err := r.planRefresh(tx, p, c)
			if err != nil {
				return err
			}
			if replaced {
				continue
			}
		}
		marked := c.Status == vault.Compromised
		if !marked {
			p.add(MarkCompromise, "credential", id, c.Name, "")
		}
		if rotate && c.RotateAt == nil {
			p.add(RotateDue, "credential", id, c.Name, "")
		}
		grant, err := r.grantToEnd(tx, id, marked)
		if err != nil {
			return err
		}
		if grant == nil {
			continue
		}
		p.add(RevokeUpstream, "credential", id, c.Name, grant.Provider)
		if grant.Wide {
			p.warn(WarnWide, "The provider "+grant.Provider+" ends the other grants of the same person with this one.")
		}
	}
	return nil
}

// grantToEnd returns the grant of a credential that is to be ended at its provider, nil when there is none. Of one that was marked before there is none to end either while
// that is owed, or when the provider has ended the grant of its present version.
func (r *Room) grantToEnd(tx *store.Tx, id string, marked bool) (*oauth.Grant, error) {
	grant, err := r.logins.GrantOf(tx, id)
	if err != nil || grant == nil || !marked {
		return grant, err
	}
	n := 0
	if err := tx.Get(&n, `SELECT (SELECT COUNT(*) FROM incident_revocations WHERE credential_id = $1 AND act = $2) + (SELECT COUNT(*) FROM incident_ended WHERE credential_id = $1 AND version = $3)`,
		id, string(RevokeUpstream), grant.Version); err != nil || n > 0 {
		return nil, err
	}
	return grant, nil
}

// replaceable reports whether Signalbox can by itself get other tokens for a credential in the place of those that leaked: it is lent, and its provider takes the refresh
// token. Tokens that come by client credentials come by a secret that stays the same, so that others help nobody.
func replaceable(c vault.Credential) bool {
	return c.Type == vault.OAuth && (c.Status == vault.Active || c.Status == vault.Expiring) && c.Health != vault.NeedsLogin && c.Refreshes() && c.OAuth.GrantType != vault.GrantClientCredentials
}

// planRefresh has the tokens of a credential replaced, unless that is owed already. It reports false, and plans nothing, where the provider is known to give no other refresh
// token: the one that leaked would go on.
func (r *Room) planRefresh(tx *store.Tx, p *Plan, c vault.Credential) (bool, error) {
	how, err := r.logins.Renewing(tx, c)
	if err != nil || how.Known && !how.Rotates {
		return false, err
	}
	owed := 0
	if err := tx.Get(&owed, `SELECT COUNT(*) FROM incident_refreshes WHERE credential_id = $1 AND version = $2`, c.ID, c.Version); err != nil {
		return false, err
	}
	if owed > 0 {
		p.add(Leave, "credential", c.ID, c.Name, "its tokens are being replaced already")
		return true, nil
	}
	p.add(RefreshTokens, "credential", c.ID, c.Name, c.Provider)
	p.warn(WarnLeaked, "A credential whose tokens are replaced goes on being lent, and an access token that leaked may work at its provider until it ends. Where that must not be, disable the credential instead.")
	if how.Grace > 0 {
		p.warn(WarnLeaked, "At the provider "+how.Provider+" a refresh token that leaked may work for up to "+strconv.Itoa(int(how.Grace.Hours()))+" hours after another one has taken its place.")
	}
	if !how.Known {
		p.warn(WarnKept, "Whether "+cmp.Or(how.Provider, "its provider")+" gives a new refresh token with the new access token is not known. If it does not, the one that leaked still works: the credential is then disabled after all, and its grant ended there.")
	}
	grant, err := r.logins.GrantOf(tx, c.ID)
	if err != nil {
		return false, err
	}
	if grant != nil && grant.Wide {
		p.warn(WarnWide, "If the tokens cannot be replaced, the grant is ended, and the provider "+grant.Provider+" ends the other grants of the same person with it.")
	}
	return true, nil
}

// planKeys finds the keys of the trains, and the keys that are named.
func (r *Room) planKeys(tx *store.Tx, caller identity.Caller, p *Plan, _ bool) error {
	trains, err := r.trainsOf(tx, caller, p, false)
	if err != nil {
		return err
	}
	for _, id := range trains {
		keys, err := r.identity.LivingKeys(tx, id)
		if err != nil {
			return err
		}
		for _, k := range keys {
			named := slices.Contains(p.scope.Trains, id) || slices.Contains(p.scope.ClientKeys, k.ID)
			if named && !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Act == RevokeKey && s.ID == k.ID }) {
				p.add(RevokeKey, "key", k.ID, k.Name, id)
			}
		}
	}
	return nil
}
