package vault

import (
	"context"
	"maps"
	"net/url"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Trial is a credential opened to be tried where it is used. Its secrets are in memory, also those that are never lent.
type Trial struct {
	Credential
	Secrets map[string]secret.Value
	BaseURL *url.URL // nil: none is known
	// Hosts are where the secret may be sent.
	Hosts []string
}

// Bound reports whether the secret may be sent to the host of u.
func (t Trial) Bound(u *url.URL) bool { return bound(t.Hosts, u) }

// Try opens a credential to be tried, for whoever may use it, and records that before it is opened. One that is disabled or compromised is not tried, nor
// one that was changed outside Signalbox: its secret would leave for where somebody else wants it.
func (r *Room) Try(ctx context.Context, caller identity.Caller, id string) (Trial, error) {
	var t Trial
	err := r.act(ctx, caller, identity.CredentialUse, toUse, "test", id, func(tx *store.Tx, _ verbs) error {
		s, err := load(tx, id, true) // locked, so that a rotation at this moment does not look like damage
		if err != nil {
			return err
		}
		if err := s.familiar(); err != nil {
			return asRefusal(s.target(), err)
		}
		if ok, err := r.intact(s); err != nil {
			return err
		} else if !ok {
			return &damage{target: s.target(), version: s.Version, tampered: true}
		}
		if s.state != Active {
			return asRefusal(s.target(), fault.New(fault.Conflict, "state_conflict", "The credential is "+string(s.state)+", so its secret is sent nowhere. Make it active again if it may be used."))
		}
		opened, err := r.open(tx, s, s.Version, s.SecretFields)
		if err != nil {
			return err
		}
		t = Trial{Credential: s.computed(tx.Now()), Secrets: maps.Clone(opened), BaseURL: baseURL(s.row, s.Meta), Hosts: slices.Clone(boundHosts(s.row, s.Meta))}
		ev := caller.Event(store.CredentialTest, s.target())
		ev.Outcome = store.OutcomePending
		ev.Details = store.Details{store.Int("version", s.Version)}
		return tx.Record(ev)
	})
	if err != nil {
		return Trial{}, r.settle(ctx, caller, store.CredentialTest, err)
	}
	return t, nil
}

// Tried records what became of a trial. The outcome is a word of ours, and the target has neither path nor query.
func (r *Room) Tried(ctx context.Context, caller identity.Caller, t Trial, outcome, target string) error {
	ev := caller.Event(store.CredentialTest, store.Target{Kind: targetKind, ID: t.ID, Name: t.Name})
	ev.Outcome = store.OutcomeOK
	if outcome != "ok" {
		ev.Outcome, ev.Reason = store.OutcomeFailed, outcome
	}
	ev.Details = store.Details{store.Int("version", t.Version)}
	if target != "" {
		ev.Details = append(ev.Details, store.Str("target", target))
	}
	return r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) })
}
