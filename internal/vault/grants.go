package vault

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// ScopeKind says on what a grant stands.
type ScopeKind string

// The kinds. What is granted on a client or a service holds for every credential that belongs to it at that moment.
const (
	OnCredential ScopeKind = "credential"
	OnClient     ScopeKind = "client"
	OnService    ScopeKind = "service"
)

// Scope is what a grant stands on.
type Scope struct {
	Kind ScopeKind
	ID   string
}

// PartyTrain is the kind of a grantee that is a train; the other kinds are identity's.
const PartyTrain identity.PartyKind = "train"

// Grant says what one party may do. The three verbs are apart: none includes another.
type Grant struct {
	Party identity.Party // in an input, the ID may also be an e-mail address, a name or a train's slug
	// Use: be lent the credential. Reveal: see its secret fields. Manage: change, rotate and delete it, and say who else may what.
	Use, Reveal, Manage bool
	// Owner: whose the credential is. An owner has all three verbs, and only an owner, or somebody whose role reaches every credential, makes
	// or unmakes one.
	Owner bool
	// By is the id of who granted it.
	By string
	At time.Time
}

// Grants are what stands on a scope, in the order of the parties' kinds and names.
type Grants struct {
	Scope  Scope
	Grants []Grant
	// Inherited is what a credential has from its client and its service.
	Inherited []Grants
}

// MaxGrants is how many parties may have a grant on one scope.
const MaxGrants = 500

// ETag is the validator of what stands on the scope itself (RFC 9110, section 8.8.3).
func (g Grants) ETag() string {
	parts := []string{string(g.Scope.Kind), g.Scope.ID}
	for _, x := range g.Grants {
		parts = append(parts, x.Party.ID, x.Party.Name, x.verbs(), x.At.Format(store.TimeFormat))
	}
	for _, i := range g.Inherited {
		parts = append(parts, i.ETag())
	}
	return etag.Of(parts...)
}

// verbs names what the grant allows, as records do.
func (g Grant) verbs() string {
	var out []string
	for _, v := range []struct {
		has  bool
		name string
	}{{g.Owner, "owner"}, {g.Use, "use"}, {g.Reveal, "reveal"}, {g.Manage, "manage"}} {
		if v.has {
			out = append(out, v.name)
		}
	}
	return strings.Join(out, "+")
}

// Trains is what the vault must know of trains, which are on a higher floor.
type Trains interface {
	// TrainRef returns the id and the slug of a train by either; one that is unknown, or may not be named to the caller, is the fault not_found.
	TrainRef(tx *store.Tx, caller identity.Caller, ref string) (id, slug string, err error)
	// Slugs returns the slugs of trains by their ids, of those that may not be named to the caller a word for all; what is gone is left out.
	Slugs(tx *store.Tx, caller identity.Caller, ids []string) (map[string]string, error)
	// Withdraw unlinks the credentials from the train, which may use them no longer, and records that.
	Withdraw(tx *store.Tx, caller identity.Caller, trainID string, credentials []string) error
}

type grantRow struct {
	Scope   ScopeKind  `db:"scope"`
	ScopeID string     `db:"scope_id"`
	Party   string     `db:"grantee_id"`
	Kind    string     `db:"kind"`
	Use     int64      `db:"may_use"`
	Reveal  int64      `db:"may_reveal"`
	Manage  int64      `db:"may_manage"`
	Owner   int64      `db:"owner"`
	By      string     `db:"granted_by"`
	At      store.Time `db:"granted_at"`
}

const grantColumns = `scope, scope_id, grantee_id, CASE WHEN user_id IS NOT NULL THEN 'person' WHEN group_id IS NOT NULL THEN 'group'
	WHEN train_id IS NOT NULL THEN 'train' ELSE 'service_account' END AS kind, may_use, may_reveal, may_manage, owner, granted_by, granted_at`

// readGrants reads what stands on a scope.
func (r *Room) readGrants(tx *store.Tx, caller identity.Caller, scope Scope) (Grants, error) {
	out := Grants{Scope: scope, Grants: []Grant{}}
	var rows []grantRow
	if err := tx.Select(&rows, `SELECT `+grantColumns+` FROM grants WHERE scope = $1 AND scope_id = $2`, string(scope.Kind), scope.ID); err != nil {
		return Grants{}, err
	}
	var parties, lines []string
	for _, w := range rows {
		if w.Kind == string(PartyTrain) {
			lines = append(lines, w.Party)
		} else {
			parties = append(parties, w.Party)
		}
	}
	names, err := identity.PartyNames(tx, parties)
	if err != nil {
		return Grants{}, err
	}
	slugs, err := r.trains.Slugs(tx, caller, lines)
	if err != nil {
		return Grants{}, err
	}
	for _, w := range rows {
		g := Grant{Party: identity.Party{Kind: identity.PartyKind(w.Kind), ID: w.Party, Name: names[w.Party]}, Use: w.Use == 1, Reveal: w.Reveal == 1,
			Manage: w.Manage == 1, Owner: w.Owner == 1, By: w.By, At: w.At.Time()}
		if g.Party.Kind == PartyTrain {
			g.Party.Name = slugs[w.Party]
		}
		out.Grants = append(out.Grants, g)
	}
	slices.SortFunc(out.Grants, func(a, b Grant) int {
		return strings.Compare(string(a.Party.Kind)+"\x00"+a.Party.Name+"\x00"+a.Party.ID, string(b.Party.Kind)+"\x00"+b.Party.Name+"\x00"+b.Party.ID)
	})
	return out, nil
}

// Grants returns who may use, reveal and manage a credential, or what a client or a service has. Whose reach is what they own and were
// granted must be one who manages it. The read is recorded.
func (r *Room) Grants(ctx context.Context, caller identity.Caller, scope Scope) (Grants, error) {
	var out Grants
	err := r.onScope(ctx, caller, identity.CredentialRead, "grants", scope, false, func(tx *store.Tx, target store.Target, s *stored, _ verbs) (err error) {
		if out, err = r.withInherited(tx, caller, scope, s); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialView, target)
		ev.Details = store.Details{store.Str("part", "grants")}
		return tx.Record(ev)
	})
	return out, err
}

func (r *Room) withInherited(tx *store.Tx, caller identity.Caller, scope Scope, s *stored) (Grants, error) {
	out, err := r.readGrants(tx, caller, scope)
	if err != nil || s == nil {
		return out, err
	}
	for _, from := range inherits(s.Meta) {
		if from.ID == "" {
			continue
		}
		inherited, err := r.readGrants(tx, caller, from)
		if err != nil {
			return Grants{}, err
		}
		if len(inherited.Grants) > 0 {
			out.Inherited = append(out.Inherited, inherited)
		}
	}
	return out, nil
}

// SetGrants makes what stands on a scope what is given, and nothing else. It needs credentials:grant; whose reach is what they own and
// were granted must manage the scope, give nothing that they do not have themselves, and leave owners alone unless they are one. A train
// that may not use a credential any more is unlinked from it, which cuts what it was lent. With ifMatch it changes only the state that the
// caller has seen.
func (r *Room) SetGrants(ctx context.Context, caller identity.Caller, scope Scope, grants []Grant, ifMatch string) (Grants, error) {
	var out Grants
	err := r.onScope(ctx, caller, identity.CredentialGrant, "grant", scope, true, func(tx *store.Tx, target store.Target, s *stored, own verbs) error {
		before, err := r.withInherited(tx, caller, scope, s)
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, before.ETag()) {
			return fault.New(fault.Precondition, "etag_mismatch", "The grants changed since they were read. Read them again, then repeat the change on what they are now.")
		}
		after, err := r.settleGrants(tx, caller, scope, before.Grants, grants)
		if err != nil {
			return err
		}
		given, taken, lost := difference(before.Grants, after)
		if verdict := own.mayGive(before.Grants, after); verdict != nil {
			return &refusal{target: target, verdict: verdict}
		}
		if _, err := tx.Exec(`DELETE FROM grants WHERE scope = $1 AND scope_id = $2`, string(scope.Kind), scope.ID); err != nil {
			return err
		}
		for _, g := range after {
			if err := insertGrant(tx, scope, g); err != nil {
				return err
			}
		}
		for _, train := range lost {
			if err := r.withdraw(tx, caller, scope, train); err != nil {
				return err
			}
		}
		if out, err = r.withInherited(tx, caller, scope, s); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialGrant, target)
		ev.Details = store.Details{store.Strs("given", given), store.Strs("taken", taken)}
		return tx.Record(ev)
	})
	return out, err
}

// settleGrants resolves and checks the grants that are asked for. What stays as it is keeps who granted it, and when.
func (r *Room) settleGrants(tx *store.Tx, caller identity.Caller, scope Scope, before, asked []Grant) ([]Grant, error) {
	var bad problems
	if len(asked) > MaxGrants {
		return nil, invalid("/grants", "has too many entries; at most "+number(MaxGrants)+"; grant to a group instead")
	}
	out := make([]Grant, 0, len(asked))
	seen := map[string]bool{}
	for i, g := range asked {
		at := "/grants/" + strconv.Itoa(i)
		if g.Owner {
			g.Use, g.Reveal, g.Manage = true, true, true
		}
		party, err := r.findParty(tx, caller, g.Party.Kind, g.Party.ID)
		if k := slices.IndexFunc(before, func(b Grant) bool { return b.Party.Kind == g.Party.Kind && b.Party.ID == g.Party.ID }); k >= 0 && fault.KindOf(err) == fault.NotFound {
			party, err = before[k].Party, nil // a train that the caller does not reach may keep what it has
		}
		switch {
		case fault.KindOf(err) == fault.NotFound:
			bad.add(at+"/grantee/id", "is none that there is: give the id, or a person's e-mail address, a group's or service account's name, a train's slug")
			continue
		case err != nil:
			return nil, err
		case seen[party.ID]:
			bad.add(at+"/grantee/id", "has an entry already; put the verbs into one")
		case !g.Use && !g.Reveal && !g.Manage:
			bad.add(at, "grants nothing; leave the entry out instead")
		case party.Kind == PartyTrain && (g.Reveal || g.Manage):
			bad.add(at, "lets a train do more than use; a train can only be lent credentials")
		case g.Owner && scope.Kind != OnCredential:
			bad.add(at+"/owner", "is only for a credential; a client or service has no owner here")
		case g.Owner && party.Kind == identity.PartyGroup:
			bad.add(at+"/owner", "must be a person or a service account, so that it is clear whose the credential is")
		}
		seen[party.ID] = true
		g.Party, g.By, g.At = party, granter(caller), tx.Now()
		if n := slices.IndexFunc(before, func(b Grant) bool { return b.Party.ID == party.ID && b.verbs() == g.verbs() }); n >= 0 {
			g.By, g.At = before[n].By, before[n].At
		}
		out = append(out, g)
	}
	return out, bad.err()
}

func (r *Room) findParty(tx *store.Tx, caller identity.Caller, kind identity.PartyKind, ref string) (identity.Party, error) {
	if kind != PartyTrain {
		return identity.FindParty(tx, kind, ref)
	}
	id, slug, err := r.trains.TrainRef(tx, caller, ref)
	return identity.Party{Kind: PartyTrain, ID: id, Name: slug}, err
}

// granter names who granted: whom a token acts for, not the token.
func granter(c identity.Caller) string {
	for _, id := range []string{c.UserID, c.ServiceID} {
		if id != "" {
			return id
		}
	}
	return c.ID
}

// difference says what a change gives and takes, as the record tells it, and which trains may not use the scope by it any more.
func difference(before, after []Grant) (given, taken, lost []string) {
	name := func(g Grant) string { return string(g.Party.Kind) + ":" + g.Party.ID + ":" + g.verbs() }
	have := map[string]bool{}
	uses := map[string]bool{}
	for _, g := range after {
		have[name(g)] = true
		uses[g.Party.ID] = g.Use
	}
	had := map[string]bool{}
	for _, g := range before {
		had[name(g)] = true
		if !have[name(g)] {
			taken = append(taken, name(g))
		}
		if g.Party.Kind == PartyTrain && !uses[g.Party.ID] {
			lost = append(lost, g.Party.ID)
		}
	}
	for _, g := range after {
		if !had[name(g)] {
			given = append(given, name(g))
		}
	}
	slices.Sort(lost) // trains are locked in this order
	return given, taken, lost
}

func insertGrant(tx *store.Tx, scope Scope, g Grant) error {
	column := map[identity.PartyKind]string{identity.PartyPerson: "user_id", identity.PartyGroup: "group_id", PartyTrain: "train_id", identity.PartyService: "service_account_id"}[g.Party.Kind]
	if column == "" {
		return errors.New("vault: a grant to a party of unknown kind")
	}
	_, err := tx.Exec(`INSERT INTO grants (scope, scope_id, grantee_id, `+column+`, may_use, may_reveal, may_manage, owner, granted_by, granted_at)
		VALUES ($1,$2,$3,$3,$4,$5,$6,$7,$8,$9)`, string(scope.Kind), scope.ID, g.Party.ID, number01(g.Use), number01(g.Reveal), number01(g.Manage), number01(g.Owner),
		g.By, store.TimeOf(g.At))
	return err
}

// withdraw unlinks from a train what it may use no longer: the credentials of the scope on which no other grant lets it.
func (r *Room) withdraw(tx *store.Tx, caller identity.Caller, scope Scope, train string) error {
	column := map[ScopeKind]string{OnCredential: "c.id", OnClient: "c.client_id", OnService: "c.service_id"}[scope.Kind]
	var ids []string
	if err := tx.Select(&ids, `SELECT c.id FROM credentials c WHERE `+column+` = $1 AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.grantee_id = $2 AND g.may_use = 1
		AND `+onCredential+`) ORDER BY c.id`, scope.ID, train); err != nil {
		return err
	}
	return r.trains.Withdraw(tx, caller, train, ids)
}

// TrainMayUse reports whether a grant lets the train use the credential: its own, its client's or its service's. It is asked in the
// transaction of the act.
func TrainMayUse(tx *store.Tx, trainID, credentialID string) (bool, error) {
	v, err := held(tx, []string{trainID}, credentialID)
	return v.use, err
}

// MayUse reports whether the caller may use the credential by what they own and were granted. What their role reaches is not asked here.
func MayUse(tx *store.Tx, caller identity.Caller, credentialID string) (bool, error) {
	if _, err := identity.Within(caller, identity.CredentialRead); err != nil {
		return false, nil // the token lacks the scope
	}
	parties, err := identity.Principals(tx, caller)
	if err != nil {
		return false, err
	}
	v, err := held(tx, parties, credentialID)
	return v.use, err
}
