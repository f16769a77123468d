package vault

import (
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Deposit is an OAuth grant that somebody hands over without an access token: the first refresh brings one.
type Deposit struct {
	// Name, Username and PluginName of the metadata count, with the oauth block and when all of it ends.
	Name, Username, PluginName string
	OAuth                      OAuthMeta
	ExpiresAt                  *time.Time
	Refresh, ClientSecret      secret.Value // ClientSecret may be empty
	// Owner is whose a new credential is; nil: the caller's. A caller who is neither a person nor a service account of ours owns nothing.
	Owner *identity.Caller
}

// depositedKept is how many versions of a deposited grant stay; each deposit makes the ones before it worthless.
const depositedKept = 5

// CheckDeposit says what is wrong with a deposit, as [Room.Create] says it of a draft; nil when it can be stored.
func (r *Room) CheckDeposit(d Deposit) []fault.Field {
	_, p := r.depositMeta(Meta{}, d)
	return p.fields
}

func (r *Room) depositMeta(m Meta, d Deposit) (Meta, *problems) {
	row, _ := Lookup(OAuth)
	m.Name, m.Username, m.PluginName, m.OAuth, m.ExpiresAt = d.Name, d.Username, d.PluginName, d.OAuth, d.ExpiresAt
	m.OAuth.Scopes = slices.Clone(d.OAuth.Scopes)
	// With a token endpoint of its own the provider would add nothing but its name.
	m.Provider = ""
	var p problems
	r.normalise(row, &m, &p)
	if m.OAuth.TokenEndpoint == "" {
		p.add("/oauth/token_endpoint", "is needed")
	}
	if d.Refresh.IsZero() {
		p.add("/secrets/refresh_token", "must not be empty")
	}
	if d.Refresh.Len() > maxSecret {
		p.add("/secrets/refresh_token", "is too long; at most "+number(maxSecret)+" bytes")
	}
	if d.ClientSecret.Len() > maxSecret {
		p.add("/secrets/client_secret", "is too long; at most "+number(maxSecret)+" bytes")
	}
	return m, &p
}

func (d Deposit) secrets() map[string]secret.Value {
	out := map[string]secret.Value{"refresh_token": d.Refresh}
	if !d.ClientSecret.IsZero() {
		out["client_secret"] = d.ClientSecret
	}
	return out
}

// TakeDeposit stores a deposited grant in the transaction of whoever takes it, who has checked the caller's permission: in a new credential, which is
// the caller's own when they are one of ours, or as a new version of the one that is named. state is that of a new one. A credential that was
// disabled or marked as compromised stays so, and one that was changed outside Signalbox is disabled by it: a deposit names no person who has
// looked.
func (r *Room) TakeDeposit(tx *store.Tx, caller identity.Caller, id string, state Status, d Deposit) (Credential, error) {
	if id == "" {
		return r.newDeposit(tx, caller, state, d)
	}
	s, err := load(tx, id, true)
	if err != nil {
		return Credential{}, err
	}
	if err := s.familiar(); err != nil {
		return Credential{}, err
	}
	if s.Type != OAuth {
		return Credential{}, fault.New(fault.Conflict, "state_conflict", "The credential of this connection is not of type oauth, so nothing was stored. Delete the connection and deposit anew.")
	}
	whole, err := r.intact(s)
	if err != nil {
		return Credential{}, err
	}
	if !whole {
		s.Meta = Meta{} // nothing of what somebody else has written is vouched for
		if s.state == Active {
			s.state = Disabled
		}
	}
	meta, p := r.depositMeta(s.Meta, d)
	if err := p.err(); err != nil {
		return Credential{}, err
	}
	now := tx.Now()
	s.Meta = meta
	s.OAuth.ExpiresAt = &now // there is no access token yet
	s.Version++
	s.Revision++
	s.UpdatedAt, s.LastRotatedAt, s.RotateAt = now, &now, nil
	if err := r.insertVersion(tx, caller, &s, version{secrets: d.secrets(), reason: deposited}); err != nil {
		return Credential{}, err
	}
	if err := r.bind(&s); err != nil {
		return Credential{}, err
	}
	if err := s.update(tx); err != nil {
		return Credential{}, err
	}
	if _, err := tx.Exec(`DELETE FROM credential_versions WHERE credential_id = $1 AND version <= $2`, s.ID, s.Version-depositedKept); err != nil {
		return Credential{}, err
	}
	tx.Change(store.TopicCredential, s.ID)
	ev := caller.Event(store.CredentialRotate, s.target())
	ev.Fields, ev.Reason = s.SecretFields, deposited
	ev.Details = store.Details{store.Int("version", s.Version)}
	return s.computed(now), tx.Record(ev)
}

// deposited is why a version is there.
const deposited = "deposited"

func (r *Room) newDeposit(tx *store.Tx, caller identity.Caller, state Status, d Deposit) (Credential, error) {
	meta, p := r.depositMeta(Meta{}, d)
	if !slices.Contains([]Status{Active, Disabled, Compromised}, state) {
		p.add("/status", "must be active, disabled or compromised")
	}
	if err := p.err(); err != nil {
		return Credential{}, err
	}
	row, _ := Lookup(OAuth)
	now := tx.Now()
	s := stored{row: row, state: state}
	s.Credential = Credential{ID: store.NewID(credentialPrefix), Type: OAuth, Meta: meta, Version: 1, Revision: 1, CreatedAt: now, UpdatedAt: now}
	s.OAuth.ExpiresAt = &now // there is no access token yet
	s.notesVersion = s.Revision
	if err := r.bind(&s); err != nil {
		return Credential{}, err
	}
	if err := s.insert(tx, nil); err != nil {
		return Credential{}, err
	}
	if err := r.insertVersion(tx, caller, &s, version{secrets: d.secrets(), reason: deposited}); err != nil {
		return Credential{}, err
	}
	tx.Change(store.TopicCredential, s.ID)
	ev := caller.Event(store.CredentialCreate, s.target())
	ev.Fields, ev.Reason = s.SecretFields, deposited
	ev.Details = store.Details{store.Str("type", string(s.Type)), store.Int("version", s.Version)}
	if err := tx.Record(ev); err != nil {
		return Credential{}, err
	}
	owner := caller
	if d.Owner != nil {
		owner = *d.Owner
	}
	return s.computed(now), own(tx, owner, s.ID)
}

// EndDeposit destroys a credential that was deposited, in the transaction of whoever ends it, who has checked the caller's permission. It returns the
// state that somebody has put it in: active, or disabled or compromised, which its end must not make forgotten. One that was changed outside
// Signalbox counts as disabled. [store.DB.Scrub] belongs behind the commit.
func (r *Room) EndDeposit(tx *store.Tx, caller identity.Caller, id string) (Status, error) {
	s, err := load(tx, id, true)
	if err != nil {
		return "", err
	}
	whole, err := r.intact(s)
	if err != nil {
		return "", err
	}
	state := s.state
	if state == Active && (!whole || s.foreign) {
		state = Disabled
	}
	if err := s.destroy(tx, caller); err != nil {
		return "", err
	}
	return state, nil
}

// destroy removes a credential with everything that hangs on it, and records that.
func (s stored) destroy(tx *store.Tx, caller identity.Caller) error {
	// Versions, secrets, tags and links go with it (ON DELETE CASCADE).
	if _, err := tx.Exec(`DELETE FROM credentials WHERE id = $1`, s.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM grants WHERE scope = 'credential' AND scope_id = $1`, s.ID); err != nil {
		return err
	}
	ev := caller.Event(store.CredentialDelete, s.target())
	ev.Details = store.Details{store.Str("type", string(s.Type)), store.Int("versions_destroyed", s.Version)}
	if err := tx.Record(ev); err != nil {
		return err
	}
	tx.Change(store.TopicCredential, s.ID)
	return nil
}
