package vault

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Create stores a credential with its first version. The faults are validation_failed, secret_missing and upstream_refused with the
// fields that are wrong, already_exists for an account whose name or account id is taken, and the refusals of [identity.Allow].
func (r *Room) Create(ctx context.Context, caller identity.Caller, d Draft) (Credential, error) {
	return r.CreateWith(ctx, caller, d, nil)
}

// Along is what a higher room does in the transaction of an act on a credential: it is there exactly if the act is. It is given the credential as
// the act leaves it; an error rolls the act back.
type Along func(*store.Tx, Credential) error

func (a Along) run(tx *store.Tx, c Credential) error {
	if a == nil {
		return nil
	}
	return a(tx, c)
}

// CreateWith is [Room.Create] with something along.
func (r *Room) CreateWith(ctx context.Context, caller identity.Caller, d Draft, along Along) (Credential, error) {
	reach, err := r.reach(ctx, caller, identity.CredentialWrite, "create", "")
	if err != nil {
		return Credential{}, err
	}
	ready, err := r.inForm(d)
	if err != nil {
		return Credential{}, err
	}
	secrets, found, err := r.prepare(ctx, ready.row, d)
	if err != nil {
		return Credential{}, err
	}
	var p problems
	checkSecrets(ready.row, secrets, &p)
	found.tell(&p)
	if err := p.err(); err != nil {
		return Credential{}, err
	}
	ready.draft.Secrets, ready.facts = secrets, found.facts
	if ready.meta.ExpiresAt == nil {
		ready.meta.ExpiresAt = endsOf(found.facts, slices.Collect(maps.Keys(secrets)))
	}
	var out Credential
	store1 := func(tx *store.Tx, may verbs) error {
		s, err := r.add(tx, caller, may, ready)
		if err != nil {
			return err
		}
		tx.Change(store.TopicCredential, s.ID)
		out = s.computed(tx.Now())
		return along.run(tx, out)
	}
	err = r.narrowed(ctx, caller, reach, "create", store1, func(*store.Tx, []string) (verbs, error) {
		return verbs{use: true, reveal: true, manage: true, owner: true}, nil // what one stores is one's own
	})
	if err != nil {
		return Credential{}, r.settle(ctx, caller, store.CredentialCreate, err)
	}
	return out, nil
}

// Ready is a draft that was looked at and brought into form.
type Ready struct {
	row   TypeRow
	draft Draft
	meta  Meta
	facts facts.Facts
}

// Type returns the credential's type.
func (d Ready) Type() Type { return d.row.Type }

// Meta returns the metadata as they would be stored.
func (d Ready) Meta() Meta { return cloneMeta(d.meta) }

// inForm looks at all of a draft but what its secrets say of themselves.
func (r *Room) inForm(d Draft) (Ready, error) {
	row, ok := Lookup(d.Type)
	if !ok {
		return Ready{}, invalid("/type", "is not a credential type; the types are "+typeNames())
	}
	var p problems
	meta := cloneMeta(d.Meta)
	r.normalise(row, &meta, &p)
	d.Generate.check(row, func(name string) bool { _, ok := d.Secrets[name]; return ok }, &p)
	checkSecrets(row, d.Generate.planned(d.Secrets), &p)
	checkNotes(d.Notes, &p)
	if !slices.Contains([]Status{"", Active, Disabled, Compromised}, d.State) {
		p.add("/status", "must be active, disabled or compromised")
	}
	return Ready{row: row, draft: d, meta: meta}, p.err()
}

// renamed returns it under another name, with the account id that follows from it where none was chosen.
func (r *Room) renamed(d Ready, name string) (Ready, error) {
	var p problems
	meta := cloneMeta(d.draft.Meta)
	meta.Name = name
	r.normalise(d.row, &meta, &p)
	if meta.ExpiresAt == nil {
		meta.ExpiresAt = d.meta.ExpiresAt
	}
	d.draft.Name, d.meta = name, meta
	return d, p.err()
}

// add stores what was prepared, with its first version and its owner, and records that.
func (r *Room) add(tx *store.Tx, caller identity.Caller, may verbs, d Ready) (stored, error) {
	now := tx.Now()
	s := stored{row: d.row, state: cmp.Or(d.draft.State, Active)}
	s.Credential = Credential{ID: store.NewID(credentialPrefix), Type: d.row.Type, Meta: d.Meta(), HasNotes: !d.draft.Notes.IsZero(), Version: 1, Revision: 1,
		CreatedAt: now, UpdatedAt: now}
	if err := s.free(tx, d.draft.AccountID != ""); err != nil {
		return stored{}, clashTold(err, may, store.Target{Kind: targetKind})
	}
	notes, err := r.sealNotes(&s, d.draft.Notes)
	if err != nil {
		return stored{}, err
	}
	if err := r.bind(&s); err != nil {
		return stored{}, err
	}
	if err := s.insert(tx, notes); err != nil {
		return stored{}, err
	}
	if err := r.insertVersion(tx, caller, &s, version{secrets: d.draft.Secrets, facts: d.facts}); err != nil {
		return stored{}, err
	}
	ev := caller.Event(store.CredentialCreate, s.target())
	ev.Fields = s.SecretFields
	ev.Details = append(store.Details{store.Str("type", string(s.Type)), store.Int("version", s.Version)}, d.draft.Generate.details()...)
	if err := tx.Record(ev); err != nil {
		return stored{}, err
	}
	if err := mayAdd(tx, caller, may, s.Meta, s.SecretFields); err != nil {
		return stored{}, err
	}
	return s, own(tx, caller, s.ID)
}

// mayAdd refuses to store a credential under a client or service, or with a grant, that the caller could gain by.
func mayAdd(tx *store.Tx, caller identity.Caller, may verbs, meta Meta, fields []string) error {
	if err := lockScopes(tx, meta.scopes()...); err != nil {
		return err
	}
	if err := mayMove(tx, caller, may, Meta{}, meta, store.Target{Kind: targetKind}); err != nil {
		return err
	}
	if err := belongs(tx, caller, may, Meta{}, meta); err != nil {
		return err
	}
	return asRefusal(store.Target{Kind: targetKind}, may.mayBorrow(Meta{}, false, meta, fields))
}

// MayCreate returns nil when the caller may store credentials at all, be it only their own; a refusal is recorded.
func (r *Room) MayCreate(ctx context.Context, caller identity.Caller) error {
	_, err := r.reach(ctx, caller, identity.CredentialWrite, "create", "")
	return err
}

// Serving returns how many credentials of type oauth belong to a provider.
func Serving(tx *store.Tx, provider string) (n int64, err error) {
	err = tx.Get(&n, `SELECT COUNT(*) FROM credentials WHERE type = $1 AND provider = $2`, string(OAuth), provider)
	return n, err
}

// clash is a name or an account id that another account has. Names are unique among all accounts, so who stores one learns that it is
// taken, but not by whom, nor what else that account is called.
type clash struct {
	verdict *fault.Error // what the caller is told
	by      []string     // ids of the others
}

func (c *clash) Error() string { return c.verdict.Error() }
func (c *clash) Unwrap() error { return c.verdict }

// clashTold returns what the caller hears of a clash. That somebody who does not reach every credential has met one is recorded, with the
// other's id: whoever tries names is seen.
func clashTold(err error, own verbs, target store.Target) error {
	var c *clash
	if !errors.As(err, &c) {
		return err
	}
	if own.all {
		return c.verdict
	}
	return &refusal{target: target, verdict: c.verdict, details: store.Details{store.Strs("taken_by", c.by)}}
}

// free returns a clash when another account has this one's name or id; chosen says that the caller has named the id, and that it did not come
// of the name. Two transactions that pass here together are told apart by the unique indexes.
func (s stored) free(tx *store.Tx, chosen bool) error {
	if s.AccountID == "" {
		return nil
	}
	var others []struct {
		ID        string `db:"id"`
		Name      string `db:"name"`
		AccountID string `db:"account_id"`
	}
	if err := tx.Select(&others, `SELECT id, name, account_id FROM credentials WHERE account_id IS NOT NULL AND name = $1 AND id <> $3
		UNION SELECT id, name, account_id FROM credentials WHERE account_id = $2 AND id <> $3 ORDER BY id`, s.Name, s.AccountID, s.ID); err != nil || len(others) == 0 {
		return err
	}
	c := &clash{verdict: taken()}
	name, id := false, false
	for _, o := range others {
		c.by = append(c.by, o.ID)
		name = name || o.Name == s.Name || !chosen
		id = id || o.AccountID == s.AccountID && chosen
	}
	for _, f := range []struct {
		is      bool
		pointer string
	}{{name, "/name"}, {id, "/account_id"}} {
		if f.is {
			_ = c.verdict.With(f.pointer, "is taken")
		}
	}
	return c
}

// computed returns what a caller may see, with what follows from the rest at that moment.
func (s stored) computed(now time.Time) Credential {
	c := s.Credential
	c.Status = statusAt(s.state, c.ExpiresAt, now)
	if s.row.OAuth {
		c.Health, c.refreshes = s.healthAt(now), s.refreshes()
	}
	return c
}

// sealNotes seals notes under the credential's present revision; no notes give NULL.
func (r *Room) sealNotes(s *stored, notes secret.Value) ([]byte, error) {
	s.HasNotes, s.notesVersion = !notes.IsZero(), s.Revision
	if notes.IsZero() {
		return nil, nil
	}
	return r.ring.Seal(sealPurpose, notes, notesAAD(s.ID, s.notesVersion))
}

// version is what a new version consists of.
type version struct {
	secrets      map[string]secret.Value
	reason       string
	restoredFrom int64
	refreshed    bool // made by a refresh, not by a person
	facts        facts.Facts
	details      store.Details // for the record
}

// insertVersion stores version s.Version, sealing each field to it, and fills the fields of s that follow from it.
func (r *Room) insertVersion(tx *store.Tx, caller identity.Caller, s *stored, v version) error {
	s.Issued = tx.Now()
	s.SecretFields = s.row.sorted(slices.Collect(maps.Keys(v.secrets)))
	s.Suffix, s.Facts = suffix(s.row, v.secrets), v.facts
	known, err := encodeFacts(v.facts)
	if err != nil {
		return err
	}
	fields, err := encodeList(s.SecretFields)
	if err != nil {
		return err
	}
	by := caller.Actor()
	if _, err := tx.Exec(`INSERT INTO credential_versions (credential_id, version, fields, suffix, token_expires_at, reason, restored_from, created_by,
		created_by_name, created_at, refreshed, facts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		s.ID, s.Version, fields, s.Suffix, store.TimePtr(s.OAuth.ExpiresAt), v.reason, v.restoredFrom, by.ID, by.Name, store.TimeOf(tx.Now()), number01(v.refreshed), known); err != nil {
		return err
	}
	for _, name := range s.SecretFields {
		box, err := r.ring.Seal(sealPurpose, v.secrets[name], secretAAD(s.ID, name, s.Version))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO credential_secrets (credential_id, version, field, sealed) VALUES ($1, $2, $3, $4)`,
			s.ID, s.Version, name, box); err != nil {
			return err
		}
	}
	return nil
}

// cloneMeta copies the metadata, so that bringing it into form never changes what the caller holds.
func cloneMeta(m Meta) Meta {
	m.Tags, m.Hosts, m.OAuth.Scopes, m.Methods, m.Paths = slices.Clone(m.Tags), slices.Clone(m.Hosts), slices.Clone(m.OAuth.Scopes), slices.Clone(m.Methods), slices.Clone(m.Paths)
	return m
}

func typeNames() string {
	var out string
	for i, row := range Types() {
		if i > 0 {
			out += ", "
		}
		out += string(row.Type)
	}
	return out
}
