package oauth

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// leaveTime bounds a revocation and its record.
const leaveTime = 30 * time.Second

// leaving is what is known of a credential that is deleted, to end its grant at the provider.
type leaving struct {
	k      Known
	target store.Target
	send   provider.Leaving
}

// Delete deletes a credential of any type, as [vault.Room.Delete] does. What an OAuth provider had issued for it is revoked afterwards (RFC 7009),
// if the provider has a place for that: as well as may be, once, on record, and without the deletion waiting for it.
func (l *Logins) Delete(ctx context.Context, caller identity.Caller, id, ifMatch string) error {
	var end *leaving
	err := l.vault.DeleteWith(ctx, caller, id, ifMatch, func(tx *store.Tx, c vault.Credential) (err error) {
		end, err = l.leaves(tx, c)
		if err != nil || end == nil {
			return err
		}
		ev := caller.Event(store.OAuthRevoke, end.target)
		ev.Outcome = store.OutcomePending
		ev.Details = store.Details{store.Str("provider", end.k.Name)}
		return tx.Record(ev)
	})
	if err != nil || end == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil // the intent stays without an outcome
	}
	l.leavings.Go(func() { l.leave(ctx, caller, *end) })
	return nil
}

// leaves returns what a revocation needs, nil when there is nothing to revoke or nowhere to do it. A credential or a provider that was changed outside
// Signalbox is only deleted: nothing of it is sent anywhere.
func (l *Logins) leaves(tx *store.Tx, c vault.Credential) (*leaving, error) {
	if c.Type != vault.OAuth || c.Provider == "" || c.OAuth.TokenEndpoint != "" {
		return nil, nil
	}
	k, err := l.find(tx, c.Provider, "")
	if err != nil || k.Tampered || k.RevokeURL == "" {
		return nil, ifNotFound(err)
	}
	material, err := l.vault.Parting(tx, c.ID)
	if err != nil || material == nil {
		return nil, err
	}
	end := &leaving{k: k, target: store.Target{Kind: "credential", ID: c.ID, Name: c.Name}, send: provider.Leaving{
		ClientID: c.OAuth.ClientID, ClientSecret: material["client_secret"], Access: material["access_token"], Refresh: material["refresh_token"],
	}}
	if end.send.ClientID == "" {
		end.send.ClientID = k.ClientID
	}
	if end.send.ClientSecret.IsZero() && end.send.ClientID == k.ClientID {
		end.send.ClientSecret = k.secret
	}
	return end, nil
}

// giveBack has tokens revoked that a login brought and that were refused here, so that nobody's grant lies about that nobody knows of: as well as may
// be, once, on record. Not where a failure leaves open whether they are stored, nor where the provider would end the person's other grants with them.
func (l *Logins) giveBack(ctx context.Context, caller identity.Caller, f flow, k Known, t provider.Tokens, cause error) {
	refusal, plain := fault.As(cause)
	if !plain || refusal.Kind == fault.Unavailable || refusal.Kind == fault.Internal || k.RevokeURL == "" || k.Revoke.Wide {
		return
	}
	end := leaving{k: k, target: l.targetOf(f, k), send: provider.Leaving{ClientID: f.ClientID, ClientSecret: k.secret, Access: t.Access, Refresh: t.Refresh}}
	ev := caller.Event(store.OAuthRevoke, end.target)
	ev.Outcome, ev.Reason = store.OutcomePending, refusal.Code
	ev.Details = store.Details{store.Str("provider", k.Name)}
	if err := l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		l.log.Error("tokens that could not be stored are not revoked at their provider, since that cannot be recorded", "provider", k.Name)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.leavings.Go(func() { l.leave(ctx, caller, end) })
	}
}

func (l *Logins) leave(ctx context.Context, caller identity.Caller, end leaving) {
	ctx, cancel := background(ctx, leaveTime)
	defer cancel()
	answer := l.wire.Revoke(ctx, end.k.Provider, end.send)
	end.send = provider.Leaving{}
	ev := caller.Event(store.OAuthRevoke, end.target)
	ev.Details = store.Details{store.Str("provider", end.k.Name), store.Int("status", int64(answer.Status))}
	if answer.Verdict != provider.Revoked {
		ev.Outcome, ev.Reason = store.OutcomeFailed, answer.Code
	}
	// The time that the provider took is not the database's.
	ctx, done := background(ctx, leaveTime)
	defer done()
	if err := l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		l.log.Error("a revocation could not be recorded", "credential", end.target.ID, "revoked", answer.Verdict == provider.Revoked)
	}
}

// ifNotFound is nil when something is just not there.
func ifNotFound(err error) error {
	if fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}
