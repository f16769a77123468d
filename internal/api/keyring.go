package api

import (
	"context"
	"errors"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

type rekeyAnswer struct {
	Body struct {
		Rekey client.Rekey `json:"rekey"`
	}
}

func (s *service) addKeyring() {
	const tag, path = "keyring", "/api/admin/rekey"
	add(s, route{method: http.MethodGet, path: path, id: "get-rekey", summary: "See how a change of the data key goes, or how the last one went", tag: tag, access: string(identity.KeyringRead),
		ownRefusal: s.refuseRekey}, s.getRekey)
	add(s, route{method: http.MethodPost, path: path, id: "begin-rekey", summary: "Change the data key", tag: tag, access: string(identity.KeyringWrite), status: http.StatusAccepted,
		description: "Makes a new data key, seals everything under it while all goes on, and destroys the old one when nothing is left under it. The answer comes at once; the work goes on by itself, also after restarts. " +
			"A person needs a fresh proof.",
		ownRefusal: s.refuseRekey}, s.beginRekey)
	add(s, route{method: http.MethodPost, path: "/api/admin/seal", id: "seal", summary: "Seal all servers", tag: tag, access: string(identity.KeyringWrite), status: http.StatusAccepted,
		description: "Within a second every server of the database cuts what is open, closes everything and drops its keys; it answers 503 encryption_key_missing to everything but the health checks, also after a restart. " +
			"Only signalbox unseal on a machine that has the root key ends that; no call of this API does. A person needs a fresh proof.",
		ownRefusal: s.refuseSeal}, s.seal)
}

type sealAnswer struct {
	Body struct {
		Seal client.Seal `json:"seal"`
	}
}

// refuseSeal records that somebody tried to seal the servers.
func (s *service) refuseSeal(ctx context.Context, caller identity.Caller, verdict error) error {
	ev := caller.Event(store.AdminSeal, keyringTarget())
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	return s.DB.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) })
}

func (s *service) seal(ctx context.Context, caller identity.Caller, in *struct {
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Recorded in the audit log, and told to whoever unseals."`
	}
}) (*sealAnswer, error) {
	if err := identity.RequireFresh(caller, s.Clock()); err != nil {
		return nil, errors.Join(s.refuseSeal(ctx, caller, err), err)
	}
	set, err := keyring.SealServers(ctx, s.DB, caller.Event(store.AdminSeal, keyringTarget()), in.Body.Reason)
	if err != nil {
		return nil, err
	}
	out := &sealAnswer{}
	out.Body.Seal = client.Seal{ID: set.ID, SealedAt: set.At}
	return out, nil
}

// refuseRekey records that somebody tried to see or to change the data key.
func (s *service) refuseRekey(ctx context.Context, caller identity.Caller, verdict error) error {
	ev := caller.Event(store.AdminRekey, keyringTarget())
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	return s.DB.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) })
}

func keyringTarget() store.Target { return store.Target{Kind: "keyring"} }

func (s *service) shownRekey(r keyring.Rekey) *rekeyAnswer {
	out := &rekeyAnswer{}
	out.Body.Rekey = client.Rekey{ID: r.ID, State: r.State, DataKey: int64(s.Ring.Active()), NewDataKey: r.To, Total: r.Total, Moved: r.Moved, Remaining: r.Remaining, Unreadable: r.Unreadable,
		Seals: s.Ring.Seals()}
	if r.ID == "" {
		out.Body.Rekey.State = "none"
		return out
	}
	out.Body.Rekey.StartedAt = &r.StartedAt
	if !r.FinishedAt.IsZero() {
		out.Body.Rekey.FinishedAt = &r.FinishedAt
	}
	return out
}

func (s *service) getRekey(ctx context.Context, _ identity.Caller, _ *struct{}) (*rekeyAnswer, error) {
	at, err := s.Rekeyer.Status(ctx)
	if err != nil {
		return nil, err
	}
	return s.shownRekey(at), nil
}

func (s *service) beginRekey(ctx context.Context, caller identity.Caller, in *struct {
	Body struct {
		GiveUp bool `json:"give_up,omitempty" doc:"Destroy the old data key even if records are left under it that do not open. A change that waits for this goes on."`
	}
}) (*rekeyAnswer, error) {
	if err := identity.RequireFresh(caller, s.Clock()); err != nil {
		return nil, errors.Join(s.refuseRekey(ctx, caller, err), err)
	}
	at, err := s.Rekeyer.Begin(ctx, caller.Event(store.AdminRekey, keyringTarget()), in.Body.GiveUp)
	if err != nil {
		return nil, err
	}
	return s.shownRekey(at), nil
}
