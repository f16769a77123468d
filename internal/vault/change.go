package vault

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Update merges a patch into a credential (RFC 7396). Secrets in the patch make a new version, in which the fields that it does not name
// stay. With ifMatch (the If-Match header's text, or empty) it changes only the state that the caller has seen; otherwise the fault is
// etag_mismatch. What is marked as compromised is given another status only with an ifMatch that names its present state: whoever pauses or resumes many
// must not undo the mark unseen. A credential that was changed outside Signalbox is changed only by a patch that names status, provider, base_url, hosts and, of
// type oauth, the oauth block, and of types that go into requests inject, methods and paths, which vouches for it anew and so needs what a change of all of these needs, whatever the values; any other is the fault
// credential_tampered.
func (r *Room) Update(ctx context.Context, caller identity.Caller, id string, p Patch, ifMatch string) (Credential, error) {
	return r.UpdateWith(ctx, caller, id, p, ifMatch, nil)
}

// UpdateWith is [Room.Update] with something along.
func (r *Room) UpdateWith(ctx context.Context, caller identity.Caller, id string, p Patch, ifMatch string, along Along) (Credential, error) {
	return r.changeWith(ctx, caller, id, "update", store.CredentialUpdate, along, func(tx *store.Tx, s *stored) error {
		if !etag.Match(ifMatch, s.ETag()) {
			return changedMeanwhile()
		}
		if s.state == Compromised && p.State.IsSet() && p.State.value != Compromised && strings.Trim(ifMatch, " \t*") == "" {
			return stillCompromised(s.Name)
		}
		if err := r.vouched(s, p, true); err != nil {
			return err
		}
		if s.Tampered {
			if err := r.latest(tx, s); err != nil {
				return err
			}
			if s.row.OAuth {
				p.OAuth.wholly()
			}
			p.Upstream.wholly()
			p.Inject.wholly()
			if !s.row.Lends() { // somebody may have put there what the type does not have
				p.Methods, p.Paths = Clear[[]string](), Clear[[]string]()
			}
		}
		return r.patch(tx, caller, s, p)
	})
}

// Rotate stores a new version of the secret fields. Fields that are not named stay as they are. A credential that was changed outside
// Signalbox gets no new secret before it is mended ([Room.Update]).
func (r *Room) Rotate(ctx context.Context, caller identity.Caller, id string, secrets map[string]secret.Value, reason string) (Credential, error) {
	return r.RotateMaking(ctx, caller, id, secrets, nil, reason)
}

// RotateMaking is [Room.Rotate] with fields that are made here.
func (r *Room) RotateMaking(ctx context.Context, caller identity.Caller, id string, secrets map[string]secret.Value, generate Generates, reason string) (Credential, error) {
	p := Patch{Secrets: make(map[string]*secret.Value, len(secrets)), Generate: generate, Reason: reason}
	for name, v := range secrets {
		p.Secrets[name] = &v
	}
	return r.change(ctx, caller, id, "rotate", store.CredentialRotate, func(tx *store.Tx, s *stored) error {
		if len(secrets)+len(generate) == 0 {
			return fault.New(fault.Unprocessable, "secret_missing", "A rotation needs at least one new secret. Give the fields that change; nothing was changed.").
				With("/secrets", "needs at least one field")
		}
		if err := r.vouched(s, p, false); err != nil {
			return err
		}
		return r.patch(tx, caller, s, p)
	})
}

func stillCompromised(name string) error {
	return fault.New(fault.Conflict, "state_conflict", "Somebody else may know the secret of "+name+": it is marked as compromised. Give it a new secret (signalbox cred rotate); then take the mark back on its page, "+
		"by signalbox cred edit --status active, or over the API with If-Match of what it is now.")
}

func changedMeanwhile() error {
	return fault.New(fault.Precondition, "etag_mismatch", "The credential changed since it was read. Read it again, then repeat the change on what it is now.")
}

// Delete removes a credential and destroys the sealed material of all its versions. With ifMatch it removes only the state that the caller has
// seen, as [Room.Update] does.
func (r *Room) Delete(ctx context.Context, caller identity.Caller, id, ifMatch string) error {
	return r.DeleteWith(ctx, caller, id, ifMatch, nil)
}

// DeleteWith is [Room.Delete] with something along, which comes before the material is destroyed.
func (r *Room) DeleteWith(ctx context.Context, caller identity.Caller, id, ifMatch string, along Along) error {
	err := r.act(ctx, caller, identity.CredentialWrite, toManage, "delete", id, func(tx *store.Tx, _ verbs) error {
		s, err := load(tx, id, true)
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, s.ETag()) {
			return changedMeanwhile()
		}
		if err := along.run(tx, s.Credential); err != nil {
			return err
		}
		return s.destroy(tx, caller)
	})
	if err != nil {
		return err
	}
	r.db.Scrub(context.WithoutCancel(ctx))
	return nil
}

// Managed runs along in a transaction in which the caller was found to manage the credential, which is locked and as this room has written it.
// act says what for, should it be refused; fn must record something. What may returns of a patch is nil, or why the caller would be refused it for
// where it has secrets sent: who asks before a person goes elsewhere loses nothing by it.
func (r *Room) Managed(ctx context.Context, caller identity.Caller, id, act string, fn func(tx *store.Tx, c Credential, may func(Patch) error) error) error {
	err := r.act(ctx, caller, identity.CredentialWrite, toManage, act, id, func(tx *store.Tx, own verbs) error {
		s, err := load(tx, id, true)
		if err != nil {
			return err
		}
		if err := r.vouched(&s, Patch{}, false); err != nil {
			return err
		}
		return fn(tx, s.computed(tx.Now()), func(p Patch) error {
			return asRefusal(s.target(), r.mayRedirect(caller, own, true, s.Meta, p.merge(cloneMeta(s.Meta))))
		})
	})
	if err != nil {
		return r.settle(ctx, caller, store.CredentialUpdate, err)
	}
	return nil
}

// change is the frame of every act that changes one credential: permission, lock, the act, and what the caller sees afterwards.
func (r *Room) change(ctx context.Context, caller identity.Caller, id, act string, action store.Action, fn func(*store.Tx, *stored) error) (Credential, error) {
	return r.changeWith(ctx, caller, id, act, action, nil, fn)
}

func (r *Room) changeWith(ctx context.Context, caller identity.Caller, id, act string, action store.Action, along Along, fn func(*store.Tx, *stored) error) (Credential, error) {
	var out Credential
	work := &desk{}
	one := func(tx *store.Tx, own verbs) error {
		s, err := load(tx, id, true)
		if err != nil {
			return err
		}
		s.desk = work
		if err := s.familiar(); err != nil {
			return asRefusal(s.target(), err)
		}
		before := s.Meta
		whole, err := r.intact(s)
		if err != nil {
			return err
		}
		borrowed := whole && before.borrows(s.SecretFields)
		if err := fn(tx, &s); err != nil {
			return clashTold(err, own, s.target())
		}
		if err := own.mayBorrow(before, borrowed, s.Meta, s.SecretFields); err != nil {
			return asRefusal(s.target(), err)
		}
		if err := r.move(tx, caller, own, before, &s); err != nil {
			return err
		}
		if err := r.mayRedirect(caller, own, whole, before, s.Meta); err != nil {
			return asRefusal(s.target(), err)
		}
		out = s.computed(tx.Now())
		return along.run(tx, out)
	}
	err := r.turns(ctx, func() error { return r.act(ctx, caller, identity.CredentialWrite, toManage, act, id, one) })
	if err != nil {
		return Credential{}, r.settle(ctx, caller, action, err)
	}
	return out, nil
}

func (r *Room) patch(tx *store.Tx, caller identity.Caller, s *stored, p Patch) error {
	var bad problems
	before, state, mended := s.Meta, s.state, s.Tampered
	s.Meta = p.merge(cloneMeta(s.Meta))
	p.State.apply(&s.state)
	if !slices.Contains([]Status{Active, Disabled, Compromised}, s.state) {
		bad.add("/status", "must be active, disabled or compromised; the other statuses come with time")
	}
	if !mended && s.row.account(before.Provider) != s.row.account(s.Provider) {
		bad.add("/provider", "cannot make an account of another credential or the reverse; store a new credential instead")
	}
	if mended || len(changedFields(before, s.Meta)) > 0 {
		r.normalise(s.row, &s.Meta, &bad)
	} else {
		// Metadata that stays is not judged again: a credential whose upstream is no longer allowed must still be rotated or disabled.
		s.Meta = before
	}
	p = p.followProxy(before.Upstream, s.Upstream, s.SecretFields, &bad)
	checkNotes(p.Notes.value, &bad)
	checkReason(p.Reason, false, &bad)
	secrets, err := r.mergeSecrets(tx, *s, p, &bad)
	if err != nil {
		return err
	}
	if err := bad.err(); err != nil {
		return err
	}
	var found derived
	if p.renews() {
		if err := s.desk.fill(p.Generate, secrets); err != nil {
			return err
		}
		checkSecrets(s.row, secrets, &bad)
		if found, err = s.desk.factsOf(s.row, secrets); err != nil {
			return err
		}
		if found.tell(&bad); bad.err() != nil {
			return bad.err()
		}
	}
	if err := s.free(tx, p.AccountID.IsSet()); err != nil {
		return err
	}
	if _, replaced := p.Secrets["access_token"]; replaced && s.row.OAuth && !p.OAuth.ExpiresAt.IsSet() {
		s.OAuth.ExpiresAt = nil // the old token's expiry says nothing about the new one
	}
	fields := changedFields(before, s.Meta)
	if p.renews() {
		// The expiry comes with the new version; the old version keeps its own.
		fields = slices.DeleteFunc(fields, func(name string) bool { return name == tokenExpiry })
	}
	if s.state != state {
		fields = append(fields, "status")
	}
	if p.Notes.IsSet() {
		fields = append(fields, "notes")
	}
	if len(fields) == 0 && !p.renews() && !mended {
		ev := caller.Event(store.CredentialView, s.target())
		ev.Reason = "a patch that changes nothing"
		return tx.Record(ev)
	}
	if len(fields) > 0 || mended {
		s.Revision++
		s.UpdatedAt = tx.Now()
		if err := r.writeMeta(tx, s, p.Notes, slices.Contains(fields, tokenExpiry)); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialUpdate, s.target())
		ev.Fields = fields
		ev.Details = store.Details{store.Int("revision", s.Revision)}
		if mended {
			ev.Details = append(ev.Details, store.Bool("mended", true))
		}
		if err := tx.Record(ev); err != nil {
			return err
		}
		tx.Change(store.TopicCredential, s.ID)
	}
	if !p.renews() {
		return nil
	}
	if now := tx.Now(); p.rotates(s.row) {
		s.LastRotatedAt, s.RotateAt = &now, nil
	}
	next := version{secrets: secrets, reason: p.Reason, facts: found.facts, details: p.Generate.details()}
	return r.newVersion(tx, caller, s, next, p.ExpiresAt.IsSet())
}

// tokenExpiry is the one field of the metadata that belongs to a version.
const tokenExpiry = "oauth.expires_at"

// writeMeta stores changed metadata, and the token's expiry with the current version when that was changed.
func (r *Room) writeMeta(tx *store.Tx, s *stored, notes Edit[secret.Value], expiry bool) error {
	if notes.IsSet() {
		box, err := r.sealNotes(s, notes.value)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE credentials SET notes = $1, notes_version = $2 WHERE id = $3`, nullable(box), s.notesVersion, s.ID); err != nil {
			return err
		}
	}
	if expiry {
		if _, err := tx.Exec(`UPDATE credential_versions SET token_expires_at = $1 WHERE credential_id = $2 AND version = $3`,
			store.TimePtr(s.OAuth.ExpiresAt), s.ID, s.Version); err != nil {
			return err
		}
	}
	if err := r.bind(s); err != nil {
		return err
	}
	return s.update(tx)
}

// newVersion stores the next version and records it. The credential ends when its secret does, unless somebody chose another time.
func (r *Room) newVersion(tx *store.Tx, caller identity.Caller, s *stored, v version, chosen bool) error {
	s.Version++
	followed := !chosen && s.follow(v.facts, slices.Collect(maps.Keys(v.secrets)))
	s.UpdatedAt = tx.Now()
	if err := r.insertVersion(tx, caller, s, v); err != nil {
		return err
	}
	if err := r.bind(s); err != nil {
		return err
	}
	if err := s.update(tx); err != nil {
		return err
	}
	ev := caller.Event(store.CredentialRotate, s.target())
	ev.Fields, ev.Reason = s.SecretFields, v.reason
	ev.Details = store.Details{store.Int("version", s.Version)}
	if v.restoredFrom != 0 {
		ev.Details = append(ev.Details, store.Int("restored_from", v.restoredFrom))
	}
	ev.Details = append(ev.Details, v.details...)
	if followed {
		ev.Details = append(ev.Details, store.Bool("expiry_from_secret", true))
	}
	if err := tx.Record(ev); err != nil {
		return err
	}
	tx.Change(store.TopicCredential, s.ID)
	return nil
}

// mergeSecrets returns the full set of fields of the next version. What the patch does not name is opened and sealed anew, because a
// sealed field is bound to its version; a patch that names every field therefore also mends a damaged credential.
func (r *Room) mergeSecrets(tx *store.Tx, s stored, p Patch, bad *problems) (map[string]secret.Value, error) {
	if !p.renews() {
		return nil, nil
	}
	p.Generate.check(s.row, func(name string) bool { _, ok := p.Secrets[name]; return ok }, bad)
	var keep []string
	for _, name := range s.SecretFields {
		_, named := p.Secrets[name]
		if _, made := p.Generate[name]; !named && !made {
			keep = append(keep, name)
		}
	}
	merged, err := r.open(tx, s, s.Version, keep)
	if err != nil {
		return nil, err
	}
	for name, v := range p.Secrets {
		if v != nil {
			merged[name] = *v
		}
	}
	checkSecrets(s.row, p.Generate.planned(merged), bad)
	return merged, nil
}

// open opens the named fields of a version.
func (r *Room) open(tx *store.Tx, s stored, n int64, fields []string) (map[string]secret.Value, error) {
	out := make(map[string]secret.Value, len(fields))
	if len(fields) == 0 {
		return out, nil
	}
	var rows []secretRow
	if err := tx.Select(&rows, `SELECT credential_id, version, field, sealed FROM credential_secrets WHERE credential_id = $1 AND version = $2`, s.ID, n); err != nil {
		return nil, err
	}
	for _, name := range fields {
		i := slices.IndexFunc(rows, func(w secretRow) bool { return w.Field == name })
		if i < 0 {
			return nil, &damage{target: s.target(), field: name, version: n, cause: secret.ErrOpen}
		}
		v, err := r.openSecret(s, rows[i])
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// rotates reports whether the new version has another secret than what is beside it.
func (p Patch) rotates(row TypeRow) bool {
	for name := range p.Secrets {
		if f, _ := row.Field(name); !f.Aside {
			return true
		}
	}
	return len(p.Generate) > 0
}

// renews reports whether the patch makes a new version.
func (p Patch) renews() bool { return len(p.Secrets)+len(p.Generate) > 0 }

func (p Patch) merge(m Meta) Meta {
	p.Name.apply(&m.Name)
	p.AccountID.apply(&m.AccountID)
	p.Provider.apply(&m.Provider)
	p.Description.apply(&m.Description)
	p.Username.apply(&m.Username)
	p.BaseURL.apply(&m.BaseURL)
	p.ExternalURL.apply(&m.ExternalURL)
	p.InternalURL.apply(&m.InternalURL)
	p.Port.apply(&m.Port)
	p.RotateEvery.apply(&m.RotateEvery)
	p.RequiresVPN.apply(&m.RequiresVPN)
	p.Requires2FA.apply(&m.Requires2FA)
	p.Tags.apply(&m.Tags)
	p.Hosts.apply(&m.Hosts)
	p.Methods.apply(&m.Methods)
	p.Paths.apply(&m.Paths)
	p.ExpiresAt.apply(&m.ExpiresAt)
	p.Owner.apply(&m.Owner)
	p.ClientID.apply(&m.ClientID)
	p.ServiceID.apply(&m.ServiceID)
	p.InfrastructureID.apply(&m.InfrastructureID)
	p.PluginName.apply(&m.PluginName)
	if p.OAuth.Clear {
		m.OAuth = OAuthMeta{}
	}
	p.OAuth.ExpiresAt.apply(&m.OAuth.ExpiresAt)
	p.OAuth.Scopes.apply(&m.OAuth.Scopes)
	p.OAuth.ClientID.apply(&m.OAuth.ClientID)
	p.OAuth.TokenEndpoint.apply(&m.OAuth.TokenEndpoint)
	p.OAuth.AuthMethod.apply(&m.OAuth.AuthMethod)
	p.OAuth.RequestFormat.apply(&m.OAuth.RequestFormat)
	p.OAuth.Resource.apply(&m.OAuth.Resource)
	p.OAuth.GrantType.apply(&m.OAuth.GrantType)
	m.Upstream = p.Upstream.merge(m.Upstream)
	m.Inject = p.Inject.merge(m.Inject)
	return m
}

// changedFields names what differs, as events name it.
func changedFields(a, b Meta) []string {
	var out []string
	at, bt := a.texts(), b.texts()
	for i := range at {
		if *at[i].value != *bt[i].value {
			out = append(out, at[i].name())
		}
	}
	for _, f := range []struct {
		name string
		same bool
	}{
		{"port", a.Port == b.Port}, {"rotate_every_days", a.RotateEvery == b.RotateEvery}, {"requires_vpn", a.RequiresVPN == b.RequiresVPN},
		{"requires_2fa", a.Requires2FA == b.Requires2FA}, {"tags", slices.Equal(a.Tags, b.Tags)}, {"hosts", slices.Equal(a.Hosts, b.Hosts)},
		{"methods", slices.Equal(a.Methods, b.Methods)}, {"paths", slices.Equal(a.Paths, b.Paths)},
		{"expires_at", sameTime(a.ExpiresAt, b.ExpiresAt)}, {tokenExpiry, sameTime(a.OAuth.ExpiresAt, b.OAuth.ExpiresAt)},
		{"oauth.scopes", slices.Equal(a.OAuth.Scopes, b.OAuth.Scopes)},
		{"upstream.connect_timeout_seconds", a.Upstream.ConnectTimeout == b.Upstream.ConnectTimeout},
		{"upstream.response_timeout_seconds", a.Upstream.ResponseTimeout == b.Upstream.ResponseTimeout},
	} {
		if !f.same {
			out = append(out, f.name)
		}
	}
	return out
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}
