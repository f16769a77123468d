package vault

import (
	"cmp"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// A credential inherits what is granted on its client and its service, so whoever changes these changes who may do what with it.

// lockScopes holds up others who change what is granted on these clients and services, or which credentials belong to them, until the
// transaction ends. Whoever decides by what stands there asks after this: two who look at the same time would both go by what the other is
// about to change.
func lockScopes(tx *store.Tx, scopes ...Scope) error {
	scopes = slices.DeleteFunc(slices.Clone(scopes), func(s Scope) bool { return s.ID == "" })
	slices.SortFunc(scopes, func(a, b Scope) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID)) })
	for _, s := range slices.Compact(scopes) {
		if err := tx.Lock("grants on " + string(s.Kind) + " " + s.ID); err != nil {
			return err
		}
	}
	return nil
}

// inherits are the client and the service that a credential with this metadata has grants from.
func inherits(m Meta) []Scope { return []Scope{{OnClient, m.ClientID}, {OnService, m.ServiceID}} }

// move settles what follows from a change of what a credential belongs to, once it is written: whether the caller may, whether it exists, and which
// trains may use the credential no longer.
func (r *Room) move(tx *store.Tx, caller identity.Caller, own verbs, before Meta, s *stored) error {
	if before.homes() == s.homes() {
		return nil
	}
	if err := lockScopes(tx, append(before.scopes(), s.scopes()...)...); err != nil {
		return err
	}
	if err := mayMove(tx, caller, own, before, s.Meta, s.target()); err != nil {
		return err
	}
	if err := belongs(tx, caller, own, before, s.Meta); err != nil {
		return err
	}
	if before.ClientID == s.ClientID && before.ServiceID == s.ServiceID {
		return nil
	}
	var w store.Where
	w.Add(`g.train_id IS NOT NULL AND g.may_use = 1 AND (g.scope = 'client' AND g.scope_id = ? OR g.scope = 'service' AND g.scope_id = ?)`, before.ClientID, before.ServiceID)
	var trains []string
	if err := tx.Select(&trains, `SELECT DISTINCT g.train_id FROM grants g`+w.SQL()+` ORDER BY g.train_id`, w.Args()...); err != nil {
		return err
	}
	for _, train := range trains {
		may, err := TrainMayUse(tx, train, s.ID)
		if err == nil && !may {
			err = r.trains.Withdraw(tx, caller, train, []string{s.ID})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayMove refuses to put a credential under another client or service to a caller who could give or gain more by it than they may: what is
// granted there holds for the credential from then on.
func mayMove(tx *store.Tx, caller identity.Caller, own verbs, before, after Meta, target store.Target) error {
	if own.all || before.ClientID == after.ClientID && before.ServiceID == after.ServiceID {
		return nil
	}
	parties, err := identity.Principals(tx, caller)
	if err != nil {
		return err
	}
	for _, to := range []struct {
		scope   Scope
		changed bool
	}{{Scope{OnClient, after.ClientID}, before.ClientID != after.ClientID}, {Scope{OnService, after.ServiceID}, before.ServiceID != after.ServiceID}} {
		if !to.changed {
			continue
		}
		there := verbs{manage: true}
		if to.scope.ID != "" {
			if there, err = heldOn(tx, parties, to.scope); err != nil {
				return err
			}
		}
		if !there.manage || !own.use || !own.reveal || !own.manage {
			return &refusal{target: target, verdict: fault.New(fault.Forbidden, "forbidden",
				"Putting a credential under a client or a service gives it to whoever has a grant there. You must manage that "+string(to.scope.Kind)+" and have every right on the credential; or ask an operator of this Signalbox.")}
		}
	}
	return nil
}

// noTrains is a vault that lends to nobody.
type noTrains struct{}

// TrainRef knows no train.
func (noTrains) TrainRef(*store.Tx, identity.Caller, string) (id, slug string, err error) {
	return "", "", fault.New(fault.NotFound, "not_found", "There is no such train.")
}

// Slugs knows no train.
func (noTrains) Slugs(*store.Tx, identity.Caller, []string) (map[string]string, error) {
	return map[string]string{}, nil
}

// Withdraw fails: what is to be taken from a train must not stay because nobody was asked.
func (noTrains) Withdraw(*store.Tx, identity.Caller, string, []string) error {
	return errors.New("vault: no room of trains was named, so nothing can be taken from one")
}
