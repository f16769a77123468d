package train

import (
	"context"
	"slices"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// LimitsUsed tells how far the limits of a train are used, over all instances. It needs trains:read.
func (r *Room) LimitsUsed(ctx context.Context, caller identity.Caller, ref string) (used []quota.Used, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		used, err = r.used(tx, t.ID, t.Limits)
		return err
	})
	return used, err
}

// PersonLimitsUsed tells how far the limits of a person are used, by all client keys that they made, over all instances. Who may see the person may see it.
func (r *Room) PersonLimitsUsed(ctx context.Context, caller identity.Caller, id string) (used []quota.Used, err error) {
	u, err := r.keys.User(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		used, err = r.used(tx, u.ID, u.Limits)
		return err
	})
	return used, err
}

func (r *Room) used(tx *store.Tx, subject string, l *quota.Limits) ([]quota.Used, error) {
	state, known, err := tx.Counts(subject)
	if err != nil || !known {
		return nil, err
	}
	alive := r.presence.alive
	if r.db.Engine() == store.Postgres { // this instance may have nothing under way itself, and not know the others
		var here []string
		if err := tx.Select(&here, `SELECT id FROM quota_instances WHERE seen_at > $1`, store.TimeOf(tx.Now().Add(-goneAfter))); err != nil {
			return nil, err
		}
		alive = func(instance string, _ int64) bool { return slices.Contains(here, instance) }
	}
	return state.Look(tx.Now(), l, alive), nil
}
