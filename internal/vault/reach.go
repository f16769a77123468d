package vault

import (
	"context"
	"errors"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// verbs are what the caller may do with one credential, or on one client or service.
type verbs struct {
	use, reveal, manage, owner bool
	// all says that they come from a role that reaches everything, not from grants.
	all bool
}

// everyVerb is what a role has that reaches everything.
func everyVerb() verbs { return verbs{use: true, reveal: true, manage: true, owner: true, all: true} }

// sees reports whether the metadata are visible: for whoever has any of the verbs.
func (v verbs) sees() bool { return v.use || v.reveal || v.manage }

// need is the verb that an act asks of a caller whose permission reaches only what they own and were granted.
type need int

const (
	toSee need = iota
	toUse
	toReveal
	toManage
)

// has returns nil when the verbs suffice for the act, and otherwise what the caller is told. Out of reach is as absent.
func (v verbs) has(n need) error {
	switch {
	case !v.sees():
		return notFound()
	case n == toUse && !v.use:
		return fault.New(fault.Forbidden, "forbidden", "You may see this credential but not use it. Ask its owner, or an operator of this Signalbox, to grant you that.")
	case n == toReveal && !v.reveal:
		return fault.New(fault.Forbidden, "forbidden", "You may see this credential but not reveal it. Ask its owner, or an operator of this Signalbox, to grant you that.")
	case n == toManage && !v.manage:
		return fault.New(fault.Forbidden, "forbidden", "You may see this credential but not manage it. Ask its owner, or an operator of this Signalbox, to grant you that.")
	}
	return nil
}

// mayGive returns the refusal of a change of grants that goes beyond the verbs of who makes it.
func (v verbs) mayGive(before, after []Grant) error {
	old := map[string]Grant{}
	for _, g := range before {
		old[g.Party.ID] = g
	}
	for _, g := range after {
		was := old[g.Party.ID]
		delete(old, g.Party.ID)
		if g.Owner != was.Owner && !v.owner {
			return ownersOnly()
		}
		if g.Use && !was.Use && !v.use || g.Reveal && !was.Reveal && !v.reveal || g.Manage && !was.Manage && !v.manage {
			return fault.New(fault.Forbidden, "forbidden", "You cannot grant what you may not do yourself. Leave that out, or ask the owner or an operator of this Signalbox.")
		}
	}
	for _, was := range old {
		if was.Owner && !v.owner {
			return ownersOnly()
		}
	}
	return nil
}

func ownersOnly() error {
	return fault.New(fault.Forbidden, "forbidden", "Only an owner, or an operator of this Signalbox, makes or unmakes an owner. Leave the owners as they are.")
}

// onCredential joins a grant g with a credential c that it stands on, directly or through its client or service.
const onCredential = `(g.scope = 'credential' AND g.scope_id = c.id OR g.scope = 'client' AND g.scope_id = c.client_id OR g.scope = 'service' AND g.scope_id = c.service_id)`

type verbsRow struct {
	Use    int64 `db:"use_"`
	Reveal int64 `db:"reveal_"`
	Manage int64 `db:"manage_"`
	Owner  int64 `db:"owner_"`
}

func (w verbsRow) verbs() verbs {
	return verbs{use: w.Use == 1, reveal: w.Reveal == 1, manage: w.Manage == 1, owner: w.Owner == 1}
}

const sumOfVerbs = `SELECT COALESCE(MAX(g.may_use), 0) AS use_, COALESCE(MAX(g.may_reveal), 0) AS reveal_, COALESCE(MAX(g.may_manage), 0) AS manage_,
	COALESCE(MAX(g.owner), 0) AS owner_ FROM `

// held returns what the parties together may do with a credential. For one that does not exist it is nothing, by the same one statement:
// three look-ups by the primary key for each party, however much was granted to them.
func held(tx *store.Tx, parties []string, id string) (verbs, error) {
	if len(parties) == 0 || !store.ValidID(credentialPrefix, id) {
		return verbs{}, nil
	}
	query, args := heldQuery(parties, id)
	var row verbsRow
	err := tx.Get(&row, query, args...)
	return row.verbs(), err
}

// heldQuery is the statement for what the parties may do with a credential.
func heldQuery(parties []string, id string) (query string, args []any) {
	in := "$2"
	for i := range parties[1:] {
		in += ", $" + number(i+3)
	}
	const of = `SELECT g.may_use, g.may_reveal, g.may_manage, g.owner FROM `
	return sumOfVerbs + `(` + of + `grants g WHERE g.scope = 'credential' AND g.scope_id = $1 AND g.grantee_id IN (` + in + `)
		UNION ALL ` + of + `credentials c JOIN grants g ON g.scope = 'client' AND g.scope_id = c.client_id AND g.grantee_id IN (` + in + `) WHERE c.id = $1
		UNION ALL ` + of + `credentials c JOIN grants g ON g.scope = 'service' AND g.scope_id = c.service_id AND g.grantee_id IN (` + in + `) WHERE c.id = $1) AS g`, append([]any{id}, anys(parties)...)
}

// heldOn returns what the parties together may do on a client or a service.
func heldOn(tx *store.Tx, parties []string, scope Scope) (verbs, error) {
	if len(parties) == 0 || scope.ID == "" {
		return verbs{}, nil
	}
	var w store.Where
	w.Add(`g.scope = ?`, string(scope.Kind))
	w.Add(`g.scope_id = ?`, scope.ID)
	w.Add(`g.grantee_id IN (`+marks(len(parties))+`)`, anys(parties)...)
	var row verbsRow
	err := tx.Get(&row, sumOfVerbs+`grants g`+w.SQL(), w.Args()...)
	return row.verbs(), err
}

// visible returns the ids of all credentials that the caller has any verb on, never nil; of these only, when only is not nil. Lists go by them in
// memory like by any other filter. The joins are crossed because SQLite then begins with the grants, and not with every credential that has
// a client.
func (r *Room) visible(ctx context.Context, caller identity.Caller, only []string) (ids []string, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		ids = []string{}
		parties, err := identity.Principals(tx, caller)
		if err != nil || len(parties) == 0 {
			return err
		}
		query, args := visibleIDs(parties)
		return tx.Select(&ids, query, args...)
	})
	if err != nil || only == nil {
		return ids, err
	}
	wanted := make(map[string]bool, len(only))
	for _, id := range only {
		wanted[id] = true
	}
	return slices.DeleteFunc(ids, func(id string) bool { return !wanted[id] }), nil
}

// visibleIDs is the statement for the credentials that the parties have any verb on.
func visibleIDs(parties []string) (query string, args []any) {
	in := "$1"
	for i := range parties[1:] {
		in += ", $" + number(i+2)
	}
	return `SELECT g.scope_id FROM grants g WHERE g.scope = 'credential' AND g.grantee_id IN (` + in + `)
		UNION SELECT k.id FROM grants g CROSS JOIN credentials k WHERE k.client_id = g.scope_id AND k.client_id <> '' AND g.scope = 'client' AND g.grantee_id IN (` + in + `)
		UNION SELECT k.id FROM grants g CROSS JOIN credentials k WHERE k.service_id = g.scope_id AND k.service_id <> '' AND g.scope = 'service' AND g.grantee_id IN (` + in + `)`, anys(parties)
}

func marks(n int) string { return "?" + strings.Repeat(", ?", n-1) }

func anys(texts []string) []any {
	out := make([]any, len(texts))
	for i, s := range texts {
		out[i] = s
	}
	return out
}

// refusal is a verdict that was found in a transaction whose changes must not stand; it is recorded in one of its own.
type refusal struct {
	target  store.Target
	verdict error
	details store.Details // for the record alone
}

func (r *refusal) Error() string { return r.verdict.Error() }
func (r *refusal) Unwrap() error { return r.verdict }

// act is the frame of every act on one credential: the permission, the transaction, and in it whether the caller reaches the credential.
// A refusal is recorded. Whoever has no verb on it is told what they are told of one that does not exist, after the same statements.
func (r *Room) act(ctx context.Context, caller identity.Caller, p identity.Permission, n need, act, id string, fn func(*store.Tx, verbs) error) error {
	reach, err := r.reach(ctx, caller, p, act, id)
	if err != nil {
		return err
	}
	return r.narrowed(ctx, caller, reach, act, fn, func(tx *store.Tx, parties []string) (verbs, error) {
		target := store.Target{Kind: targetKind}
		if store.ValidID(credentialPrefix, id) {
			target.ID = id
		}
		v, err := held(tx, parties, id)
		if err != nil {
			return v, err
		}
		return v, asRefusal(target, v.has(n))
	})
}

// narrowed runs fn in a writing transaction with what the caller may do: everything, or what ask finds.
func (r *Room) narrowed(ctx context.Context, caller identity.Caller, reach identity.Reach, act string, fn func(*store.Tx, verbs) error,
	ask func(*store.Tx, []string) (verbs, error)) error {
	write := func() error {
		return r.db.Write(ctx, func(tx *store.Tx) error {
			if reach == identity.Everything {
				return fn(tx, everyVerb())
			}
			parties, err := identity.Principals(tx, caller)
			if err != nil {
				return err
			}
			v, err := ask(tx, parties)
			if err != nil {
				return err
			}
			return fn(tx, v)
		})
	}
	err := write()
	if store.IsConflict(err) {
		err = write() // an account of the same name was stored at this moment; now it is found before it is in the way
	}
	var no *refusal
	if !errors.As(err, &no) {
		return err
	}
	ev := refused(caller, no.target, act, no.verdict)
	ev.Details = append(ev.Details, no.details...)
	if rerr := r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) }); rerr != nil {
		return rerr
	}
	return no.verdict
}

// MayStill returns nil when the caller may now do p to the credential, and otherwise what they would be told on trying; the refusal is
// recorded as one of act. It is for an answer that is given a second time, long after the first.
func (r *Room) MayStill(ctx context.Context, caller identity.Caller, p identity.Permission, act, id string) error {
	reach, err := r.reach(ctx, caller, p, act, id)
	if err != nil || reach == identity.Everything {
		return err
	}
	n := toManage
	switch p {
	case identity.CredentialUse:
		n = toUse
	case identity.CredentialRead:
		n = toSee
	case identity.CredentialReveal:
		n = toReveal
	}
	var v verbs
	if err := r.db.Read(ctx, func(tx *store.Tx) error {
		parties, err := identity.Principals(tx, caller)
		if err == nil {
			v, err = held(tx, parties, id)
		}
		return err
	}); err != nil {
		return err
	}
	if verdict := v.has(n); verdict != nil {
		_, err := r.refuse(ctx, caller, act, id, verdict)
		return err
	}
	return nil
}

func asRefusal(target store.Target, verdict error) error {
	if verdict == nil {
		return nil
	}
	return &refusal{target: target, verdict: verdict}
}

// onScope is [Room.act] for acts on the grants of a credential, a client or a service; for a credential, fn gets it locked. With change,
// nobody else changes what is granted there, or what the credential inherits, before the transaction ends, and the verbs are those of then.
func (r *Room) onScope(ctx context.Context, caller identity.Caller, p identity.Permission, act string, scope Scope, change bool,
	fn func(*store.Tx, store.Target, *stored, verbs) error) error {
	if scope.Kind == OnCredential {
		return r.act(ctx, caller, p, toManage, act, scope.ID, func(tx *store.Tx, v verbs) error {
			s, err := load(tx, scope.ID, true)
			if err == nil && change {
				v, err = locked(tx, caller, v, inherits(s.Meta), func(parties []string) (verbs, error) {
					now, err := held(tx, parties, scope.ID)
					if err == nil {
						err = asRefusal(s.target(), now.has(toManage))
					}
					return now, err
				})
			}
			if err != nil {
				return err
			}
			return fn(tx, s.target(), &s, v)
		})
	}
	reach, err := r.reach(ctx, caller, p, act, "")
	if err != nil {
		return err
	}
	if textProblem(scope.ID, 100, false) != "" || scope.ID == "" {
		return noScope(scope.Kind)
	}
	target := store.Target{Kind: string(scope.Kind), ID: scope.ID}
	manages := func(tx *store.Tx, parties []string) (verbs, error) {
		v, err := heldOn(tx, parties, scope)
		if err == nil && !v.manage {
			err = &refusal{target: store.Target{Kind: string(scope.Kind)}, verdict: noScope(scope.Kind)} // what is no id of ours is not repeated
		}
		return v, err
	}
	return r.narrowed(ctx, caller, reach, act, func(tx *store.Tx, v verbs) error {
		if change {
			if v, err = locked(tx, caller, v, []Scope{scope}, func(parties []string) (verbs, error) { return manages(tx, parties) }); err != nil {
				return err
			}
		}
		row, err := lookupHome(HomeKind(scope.Kind))
		if err != nil {
			return err
		}
		if there, err := row.exists(tx, scope.ID); err != nil {
			return err
		} else if !there {
			return &refusal{target: store.Target{Kind: string(scope.Kind)}, verdict: noScope(scope.Kind)}
		}
		return fn(tx, target, nil, v)
	}, manages)
}

// locked locks the scopes and asks once more what the caller may: who waited for the lock may have lost their right meanwhile.
func locked(tx *store.Tx, caller identity.Caller, v verbs, scopes []Scope, ask func(parties []string) (verbs, error)) (verbs, error) {
	if err := lockScopes(tx, scopes...); err != nil || v.all {
		return v, err
	}
	parties, err := identity.Principals(tx, caller)
	if err != nil {
		return v, err
	}
	return ask(parties)
}

func noScope(kind ScopeKind) error {
	return fault.New(fault.NotFound, "not_found", "There is no such "+string(kind)+", or you may not manage it.")
}

// mayRedirect refuses to have a stored secret sent elsewhere to a caller who could not reveal it now: whoever names the host that it goes to,
// gets to see it. Before says where it went only if the credential was whole; in any other case somebody else may have put there what after names.
func (r *Room) mayRedirect(caller identity.Caller, own verbs, whole bool, before, after Meta) error {
	if whole && before.Provider == after.Provider && before.BaseURL == after.BaseURL && slices.Equal(before.Hosts, after.Hosts) &&
		before.OAuth.TokenEndpoint == after.OAuth.TokenEndpoint && before.OAuth.ClientID == after.OAuth.ClientID && before.OAuth.AuthMethod == after.OAuth.AuthMethod && before.Upstream.sameWay(after.Upstream) &&
		before.Inject == after.Inject && slices.Equal(before.Methods, after.Methods) && slices.Equal(before.Paths, after.Paths) {
		return nil
	}
	if err := identity.RequireFresh(caller, r.now()); err != nil {
		return err
	}
	if _, err := identity.Within(caller, identity.CredentialReveal); err != nil {
		if !whole {
			return fault.New(fault.Forbidden, fault.Of(err).Code, "This credential was changed outside Signalbox. Mending it vouches for where its secret is sent, so this needs the right to reveal it (credentials:reveal). Ask somebody who has it.")
		}
		return fault.New(fault.Forbidden, fault.Of(err).Code, "Another provider, base_url, host, token endpoint, CA bundle, proxy, injection rule, method or path would have the secret sent there, or in another way, so this needs the right to reveal it (credentials:reveal). "+
			"Ask somebody who has it, or store a new credential.")
	}
	if !own.reveal {
		if !whole {
			return fault.New(fault.Forbidden, "forbidden", "This credential was changed outside Signalbox. You may manage it but not reveal it, so you cannot vouch for where its secret is sent: ask its owner, or an operator of this Signalbox.")
		}
		return fault.New(fault.Forbidden, "forbidden", "You may manage this credential but not reveal it, so you cannot have it sent elsewhere: leave provider, base_url, hosts, the token endpoint, the CA bundle, the proxy, inject, methods and paths as they are, or ask its owner.")
	}
	return nil
}

// own makes whoever stored a credential its owner. Signalbox's own chores own nothing.
func own(tx *store.Tx, caller identity.Caller, id string) error {
	g := Grant{Use: true, Reveal: true, Manage: true, Owner: true, By: granter(caller), At: tx.Now()}
	switch {
	case caller.UserID != "":
		g.Party = identity.Party{Kind: identity.PartyPerson, ID: caller.UserID}
	case caller.ServiceID != "":
		g.Party = identity.Party{Kind: identity.PartyService, ID: caller.ServiceID}
	default:
		return nil
	}
	return insertGrant(tx, Scope{OnCredential, id}, g)
}
