package vault

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// A sealed secret is bound to its row, but it goes where the rest of the row says. So everything that decides that is bound to the
// credential as well, by a MAC under a subkey of the data key: whoever can write the database but lacks the root key cannot make one. A
// credential whose MAC does not fit is neither lent nor revealed, and nothing new is stored in it, until somebody who may write it, and
// reveal it, has set its destinations anew.
//
// What remains possible to them: to put back, whole, a state that this very credential once had, since that state's MAC fits (its version
// is in the MAC, so the secret is that version's too). They reach destinations, and a status, that somebody with the right to do so had set.

const (
	bindingPurpose = "credential-binding"
	// bindingFormat is the first byte of what is stored and of what is hashed. Another list of claims needs another number.
	bindingFormat = 1
)

// claim is one thing that the MAC vouches for.
type claim struct {
	name   string
	values []string
}

// claims is everything that decides where, how and whether a secret goes.
//
// In are: the id, so that no MAC fits another row; the type (it says which field goes into which header), provider, base_url, hosts and
// account_id (where agents' requests go, and who may be asked for), the CA bundle, the proxy and its user name (who is believed to be the upstream, and who
// carries the way there), the injection rule, the methods and the paths (how the secret goes, and into which requests), the oauth block (where a refresh sends its token and client secret, how,
// and for what scopes); name, username, port, external_url and internal_url (they tell a person where to type what they reveal); client_id,
// service_id, infrastructure_id, owner and plugin_name (whose it is, and what it was made for); state, expires_at and lending (a credential that was
// disabled or paused stays so); version (an older secret does not come back by its number) and revision.
//
// Out are: description, tags, requires_vpn, requires_2fa, rotate_every_days, rotate_at (advice that nothing obeys); notes and notes_version (sealed, bound
// to their row and to one another); search, created_at, updated_at, last_rotated_at (they follow from the rest, or decide nothing); why, since when and
// by whom it was paused (shown only); the upstream's timeouts (they say how long is waited, not for whom); of the version, its fields (each name is bound by its sealed value), suffix, facts, reason and maker (shown only) and token_expires_at (the provider
// judges its token itself; a wrong time can only make a good one rest).
//
// A text that is added to the metadata is in until somebody takes it out.
func (s stored) claims() []claim {
	out := []claim{
		{"id", []string{s.ID}}, {"type", []string{string(s.Type)}}, {"state", []string{string(s.state)}},
		{"version", []string{strconv.FormatInt(s.Version, 10)}}, {"revision", []string{strconv.FormatInt(s.Revision, 10)}},
		{"port", []string{strconv.Itoa(s.Port)}}, {"hosts", s.Hosts}, {"oauth_scopes", s.OAuth.Scopes}, {"expires_at", instantOf(s.ExpiresAt)},
	}
	if s.Lending.State != Lent { // it came later, like those below
		out = append(out, claim{"lending", []string{string(s.Lending.State)}})
	}
	if len(s.Methods) > 0 {
		out = append(out, claim{"methods", s.Methods})
	}
	if len(s.Paths) > 0 {
		out = append(out, claim{"paths", s.Paths})
	}
	for _, t := range s.texts() {
		switch {
		case t.column == "description":
		case *t.value == "" && (t.column == "oauth_resource" || t.column == "oauth_grant" || strings.HasPrefix(t.column, "upstream_") || strings.HasPrefix(t.column, "inject_")):
			// They came later: the MACs of credentials without them are those of before.
		default:
			out = append(out, claim{t.column, []string{*t.value}})
		}
	}
	return out
}

// instantOf is a time as the database holds it, or nothing.
func instantOf(t *time.Time) []string {
	if t == nil {
		return nil
	}
	return []string{strconv.FormatInt(int64(store.TimeOf(*t)), 10)}
}

// bindingText is what the MAC is made over. Every part stands behind its length, so that no two credentials have one text.
func (s stored) bindingText() []byte {
	put := func(b []byte, text string) []byte { return append(binary.AppendUvarint(b, uint64(len(text))), text...) }
	out := []byte{bindingFormat}
	for _, c := range s.claims() {
		out = binary.AppendUvarint(put(out, c.name), uint64(len(c.values)))
		for _, v := range c.values {
			out = put(out, v)
		}
	}
	return out
}

// bind makes the MAC of s as it is now. A change that is written without it is refused from then on.
func (r *Room) bind(s *stored) error {
	mac, err := r.binder.MAC(bindingPurpose, s.bindingText())
	if err != nil {
		return err
	}
	s.binding, s.Tampered = append([]byte{bindingFormat}, mac...), false
	return nil
}

// intact reports whether the credential is as this room has written it. An error is the keyring's: it is not open.
func (r *Room) intact(s stored) (bool, error) {
	if len(s.binding) == 0 || s.binding[0] != bindingFormat {
		return false, nil
	}
	same, err := r.binder.SameMAC(bindingPurpose, s.binding[1:], s.bindingText())
	if _, closed := fault.As(err); closed {
		return false, err
	}
	return same && err == nil, nil // a MAC under a key that is not in the ring fits nothing
}

// destinations are what a change must name to mend a tampered credential of a type, as its input names them, each with whether p does. led says that
// something of its upstream lies there.
func (p Patch) destinations(row TypeRow, led bool) (missing []string) {
	type part struct {
		pointer string
		named   bool
	}
	parts := []part{{"/provider", p.Provider.IsSet()}, {"/base_url", p.BaseURL.IsSet()}, {"/hosts", p.Hosts.IsSet()}, {"/status", p.State.IsSet()}}
	if row.OAuth {
		o := p.OAuth
		named := o.Clear || o.ClientID.IsSet() || o.TokenEndpoint.IsSet() || o.AuthMethod.IsSet() || o.RequestFormat.IsSet() || o.Resource.IsSet() || o.GrantType.IsSet()
		parts = append(parts, part{"/oauth", named})
	}
	if led {
		parts = append(parts, part{"/upstream", p.Upstream.named()})
	}
	if row.Lends() { // also where nothing lies there: empty methods and paths admit all, so that to empty them is to widen them
		parts = append(parts, part{"/inject", p.Inject.named()}, part{"/methods", p.Methods.IsSet()}, part{"/paths", p.Paths.IsSet()})
	}
	for _, d := range parts {
		if !d.named {
			missing = append(missing, d.pointer)
		}
	}
	return missing
}

// wholly makes the oauth block of a patch that mends a credential say everything: what it does not name is the provider's again, not what lies
// there.
func (o *OAuthPatch) wholly() {
	for _, e := range []*Edit[string]{&o.ClientID, &o.TokenEndpoint, &o.AuthMethod, &o.RequestFormat, &o.Resource, &o.GrantType} {
		e.set = true
	}
	o.Scopes.set = true
}

// vouched returns nil when the credential may be changed by a patch: it is intact, or the patch mends it. Anything less would vouch for what
// somebody else has put there, and might store a fresh secret for them.
func (r *Room) vouched(s *stored, p Patch, mends bool) error {
	ok, err := r.intact(*s)
	if err != nil || ok {
		return err
	}
	s.Tampered = true
	missing := []string{}
	if mends {
		missing = p.destinations(s.row, s.Upstream.leads())
	}
	if !mends || len(missing) > 0 {
		return &damage{target: s.target(), version: s.Version, tampered: true, missing: missing}
	}
	return nil
}

// latest makes the newest stored version of a tampered credential the current one, since its number may have been turned back. Mending goes
// on from there.
func (r *Room) latest(tx *store.Tx, s *stored) error {
	var n int64
	if err := tx.Get(&n, `SELECT COALESCE(MAX(version), 0) FROM credential_versions WHERE credential_id = $1`, s.ID); err != nil {
		return err
	}
	if n == s.Version {
		return nil
	}
	if _, err := tx.Exec(`UPDATE credentials SET version = $1 WHERE id = $2`, n, s.ID); err != nil {
		return err
	}
	fresh, err := loadWhere(tx, `c.id = $1`, s.ID)
	if err == nil {
		*s, s.Tampered = fresh, true
	}
	return err
}

// settleTampered records that an act was refused because of the credential's state, and says how to mend it.
func (r *Room) settleTampered(ctx context.Context, caller identity.Caller, action store.Action, d *damage) error {
	r.log.Error("a credential was changed outside Signalbox; nothing of it was used", "credential", d.target.ID)
	out := fault.New(fault.Conflict, "credential_tampered",
		"This credential was changed outside Signalbox, so it is neither lent nor revealed, and nothing was changed now. Read it, compare it with what the audit log says of it, then set its destinations anew: a change that names status, provider, base_url and hosts, of type oauth the oauth block, the upstream block if it has one, and, of types that go into requests, inject, methods and paths, even if they stay. That needs the right to reveal it. Or delete it.")
	for _, pointer := range d.missing {
		out = out.With(pointer, "must be named to mend the credential, even if it stays")
	}
	ev := caller.Event(action, d.target)
	ev.Outcome, ev.Reason = store.OutcomeFailed, "credential_tampered"
	if err := r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return out
}

// CheckAll looks at every stored credential and returns how many there are and the ids of those that were changed outside Signalbox. It
// checks no permission and records nothing: it is for the operator of the server.
func (r *Room) CheckAll(ctx context.Context) (all int, tampered []string, err error) {
	after := ""
	for {
		var rows []row
		if err := r.db.Read(ctx, func(tx *store.Tx) error {
			rows = nil
			return tx.Select(&rows, selectRow+` WHERE c.id > $1 ORDER BY c.id LIMIT `+number(maxPage), after)
		}); err != nil {
			return 0, nil, err
		}
		for _, w := range rows {
			s, err := w.decode(time.Time{})
			ok := false
			if err == nil { // a row that this version cannot read was not written by it
				if ok, err = r.intact(s); err != nil {
					return 0, nil, err
				}
			}
			if !ok {
				tampered = append(tampered, w.ID)
			}
			after = w.ID
		}
		all += len(rows)
		if len(rows) < maxPage {
			return all, slices.Clip(tampered), nil
		}
	}
}
