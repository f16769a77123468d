package vault

import (
	"context"
	"fmt"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// refreshedKept is how many of the latest versions that refreshes made stay. The tokens of older ones are spent.
const refreshedKept = 5

// Material of a refresh is opened and replaced here, in the transactions of package oauth, which knows when. Versions that a person made are
// never touched by it.

// RefreshGrant is an OAuth credential opened for refreshing.
type RefreshGrant struct {
	ID, Name, Provider string
	// Version is what is refreshed: the current one.
	Version int64
	OAuth   OAuthMeta
	State   Status // active, disabled or compromised
	// Refreshes says that there are a refresh token and somewhere to send it.
	Refreshes bool
	// Issued is when the version was stored.
	Issued time.Time
	// RefreshToken and ClientSecret may be empty.
	RefreshToken, ClientSecret secret.Value
	// Changed is when anything of the credential was last stored.
	Changed time.Time
	// ByPerson is the newest version that no refresh made.
	ByPerson int64

	binder Binder
	stored stored
}

const markPurpose = "oauth-refresh-token"

// Mark is a keyed MAC over the refresh token, by which two versions with the same one are known.
func (g RefreshGrant) Mark() ([]byte, error) {
	return g.binder.MAC(markPurpose, g.marked())
}

// Marked reports whether a mark is that of this refresh token.
func (g RefreshGrant) Marked(mark []byte) (bool, error) {
	same, err := g.binder.SameMAC(markPurpose, mark, g.marked())
	if _, closed := fault.As(err); closed {
		return false, err
	}
	return same && err == nil, nil
}

func (g RefreshGrant) marked() []byte {
	return append([]byte(g.ID+"\n"), g.RefreshToken.Bytes()...)
}

// Target names the credential in records.
func (g RefreshGrant) Target() store.Target { return g.stored.target() }

// OpenGrant opens what refreshes an OAuth credential, in the caller's transaction, and locks the credential until it ends. It checks no
// permission and records nothing: whoever refreshes records each call. The faults are not_found, also for other types, and credential_tampered:
// nothing is sent anywhere by what somebody else has written.
func (r *Room) OpenGrant(tx *store.Tx, id string) (RefreshGrant, error) {
	s, err := load(tx, id, true)
	if err != nil {
		return RefreshGrant{}, err
	}
	if !s.row.OAuth {
		return RefreshGrant{}, fault.New(fault.NotFound, "not_found", "This credential is not of type oauth, so there is nothing to refresh.")
	}
	if ok, err := r.intact(s); err != nil {
		return RefreshGrant{}, err
	} else if !ok {
		return RefreshGrant{}, fault.New(fault.Conflict, "credential_tampered",
			"This credential was changed outside Signalbox, so it is not refreshed. Set its destinations anew, or delete it.")
	}
	g := RefreshGrant{ID: s.ID, Name: s.Name, Provider: s.Provider, Version: s.Version, OAuth: s.OAuth, State: s.state, Refreshes: s.refreshes(), Issued: s.Issued, Changed: s.UpdatedAt,
		binder: r.binder, stored: s}
	if g.ByPerson, err = r.NewestByPerson(tx, id); err != nil {
		return RefreshGrant{}, err
	}
	var keep []string
	for _, name := range s.SecretFields {
		if name == "refresh_token" || name == "client_secret" {
			keep = append(keep, name)
		}
	}
	opened, err := r.open(tx, s, s.Version, keep)
	if err != nil {
		return RefreshGrant{}, fault.New(fault.Internal, "internal",
			"The sealed refresh token does not open where it lies: it was changed outside Signalbox. Log in again, or restore the database from a backup.").Because(err)
	}
	g.RefreshToken, g.ClientSecret = opened["refresh_token"], opened["client_secret"]
	return g, nil
}

// Renewal is what a refresh brought.
type Renewal struct {
	Access secret.Value
	// Refresh is empty when the old one goes on.
	Refresh secret.Value
	// Ends is when the access token ends; nil when the provider does not say.
	Ends *time.Time
	// Action and Details are the record's; the version and what was dropped are added.
	Action  store.Action
	Details store.Details
}

// Renew stores what a refresh brought as the next version of a grant that [Room.OpenGrant] has opened in the same transaction, and records it.
// Everything else of the credential stays. Of the versions that refreshes made, those before the last few are dropped.
func (r *Room) Renew(tx *store.Tx, by identity.Caller, g RefreshGrant, n Renewal) (version int64, err error) {
	s := g.stored
	if n.Access.IsZero() {
		return 0, fmt.Errorf("renew %s: no access token", s.ID)
	}
	secrets, err := r.open(tx, s, s.Version, s.SecretFields)
	if err != nil {
		return 0, err
	}
	secrets["access_token"] = n.Access
	if !n.Refresh.IsZero() {
		secrets["refresh_token"] = n.Refresh
	}
	s.OAuth.ExpiresAt = n.Ends
	s.Version++
	s.UpdatedAt = tx.Now()
	if err := r.insertVersion(tx, by, &s, versionOf(secrets)); err != nil {
		return 0, err
	}
	if err := r.bind(&s); err != nil {
		return 0, err
	}
	if err := s.update(tx); err != nil {
		return 0, err
	}
	dropped, err := tx.Exec(`DELETE FROM credential_versions WHERE credential_id = $1 AND refreshed = 1 AND version <= $2`, s.ID, s.Version-refreshedKept)
	if err != nil {
		return 0, err
	}
	ev := by.Event(n.Action, s.target())
	ev.Details = append(n.Details, store.Int("version", s.Version), store.Int("versions_dropped", dropped))
	if err := tx.Record(ev); err != nil {
		return 0, err
	}
	tx.Change(store.TopicCredential, s.ID)
	return s.Version, nil
}

func versionOf(secrets map[string]secret.Value) version {
	return version{secrets: secrets, reason: "refreshed", refreshed: true}
}

// NewestByPerson returns the newest version of a credential that no refresh made; 0 when there is no such credential.
func (r *Room) NewestByPerson(tx *store.Tx, id string) (n int64, err error) {
	err = tx.Get(&n, `SELECT COALESCE(MAX(version), 0) FROM credential_versions WHERE credential_id = $1 AND refreshed = 0`, id)
	return n, err
}

// NewLogin reports whether a person has stored, after a version of the credential, a refresh token that no version before it has: a version that
// changes something else, or restores an earlier one, brings none. Also a version without a refresh token is taken for new after one that has one.
// The faults are those of a credential that is gone or does not open.
func (r *Room) NewLogin(tx *store.Tx, id string, after int64) (bool, error) {
	newest, err := r.NewestByPerson(tx, id)
	if err != nil || newest <= after {
		return false, err
	}
	s, err := load(tx, id, false)
	if err != nil {
		return false, err
	}
	all, err := r.refreshTokens(tx, s)
	if err != nil {
		return false, err
	}
	var known []secret.Value
	for _, v := range all {
		if v.version > after && !v.refreshed && !slices.ContainsFunc(known, v.token.Equal) {
			return true, nil
		}
		known = append(known, v.token)
	}
	return false, nil
}

// Refreshes reports whether there is something to refresh the credential with, and somewhere to do it.
func (c Credential) Refreshes() bool { return c.refreshes }

// Act runs fn in a writing transaction when the caller may do p with the credential, for rooms on higher floors. fn must record what is done.
// Refusals are recorded here.
func (r *Room) Act(ctx context.Context, caller identity.Caller, p identity.Permission, act, id string, fn func(*store.Tx) error) error {
	n := toManage
	switch p {
	case identity.CredentialRead:
		n = toSee
	case identity.CredentialReveal:
		n = toReveal
	}
	return r.act(ctx, caller, p, n, act, id, func(tx *store.Tx, _ verbs) error { return fn(tx) })
}
