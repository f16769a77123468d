package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

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
	row, ok := Lookup(d.Type)
	if !ok {
		return Credential{}, invalid("/type", "is not a credential type; the types are "+typeNames())
	}
	var p problems
	meta := cloneMeta(d.Meta)
	r.normalise(row, &meta, &p)
	checkSecrets(row, d.Secrets, &p)
	checkNotes(d.Notes, &p)
	if err := p.err(); err != nil {
		return Credential{}, err
	}
	var out Credential
	store1 := func(tx *store.Tx, may verbs) error {
		now := tx.Now()
		s := stored{row: row, state: Active}
		s.Credential = Credential{ID: store.NewID(credentialPrefix), Type: row.Type, Meta: meta, HasNotes: !d.Notes.IsZero(), Version: 1, Revision: 1,
			CreatedAt: now, UpdatedAt: now}
		if err := s.free(tx); err != nil {
			return err
		}
		notes, err := r.sealNotes(&s, d.Notes)
		if err != nil {
			return err
		}
		if err := r.bind(&s); err != nil {
			return err
		}
		if err := s.insert(tx, notes); err != nil {
			return err
		}
		if err := r.insertVersion(tx, caller, &s, version{secrets: d.Secrets}); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialCreate, s.target())
		ev.Fields = s.SecretFields
		ev.Details = store.Details{store.Str("type", string(s.Type)), store.Int("version", s.Version)}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if err := mayMove(tx, caller, may, Meta{}, s.Meta, store.Target{Kind: targetKind}); err != nil {
			return err
		}
		if err := own(tx, caller, s.ID); err != nil {
			return err
		}
		tx.Change(store.TopicCredential, s.ID)
		out = s.computed(now)
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

// free returns the fault already_exists when another account has this one's name or id. Two transactions that pass here together are
// told apart by the unique indexes.
func (s stored) free(tx *store.Tx) error {
	if s.AccountID == "" {
		return nil
	}
	for _, q := range []struct{ sql, value, pointer, message string }{
		{`SELECT id FROM credentials WHERE account_id IS NOT NULL AND name = $1 AND id <> $2`, s.Name, "/name", "is the name of another account"},
		{`SELECT id FROM credentials WHERE account_id = $1 AND id <> $2`, s.AccountID, "/account_id", "is the account id of another account"},
	} {
		var id string
		err := tx.Get(&id, q.sql, q.value, s.ID)
		if err == nil {
			return taken(q.pointer, q.message)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
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
}

// insertVersion stores version s.Version, sealing each field to it, and fills the fields of s that follow from it.
func (r *Room) insertVersion(tx *store.Tx, caller identity.Caller, s *stored, v version) error {
	s.issuedAt = tx.Now()
	s.SecretFields = s.row.sorted(slices.Collect(maps.Keys(v.secrets)))
	s.Suffix = suffix(s.row, v.secrets)
	fields, err := encodeList(s.SecretFields)
	if err != nil {
		return err
	}
	by := caller.Actor()
	if _, err := tx.Exec(`INSERT INTO credential_versions (credential_id, version, fields, suffix, token_expires_at, reason, restored_from, created_by,
		created_by_name, created_at, refreshed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		s.ID, s.Version, fields, s.Suffix, store.TimePtr(s.OAuth.ExpiresAt), v.reason, v.restoredFrom, by.ID, by.Name, store.TimeOf(tx.Now()), number01(v.refreshed)); err != nil {
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
	m.Tags, m.Hosts, m.OAuth.Scopes = slices.Clone(m.Tags), slices.Clone(m.Hosts), slices.Clone(m.OAuth.Scopes)
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
