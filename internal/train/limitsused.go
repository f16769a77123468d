package train

import (
	"context"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// LimitsUsed tells how far the limits of a train are used, over all instances. It needs trains:read.
func (r *Room) LimitsUsed(ctx context.Context, caller identity.Caller, ref string) (used []quota.Used, err error) {
	if err := identity.Allow(caller, identity.TrainRead); err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := find(tx, ref, "")
		if err != nil {
			return err
		}
		used, err = r.used(tx, t.ID, t.Limits)
		return err
	})
	return used, err
}

func (r *Room) used(tx *store.Tx, subject string, l *quota.Limits) ([]quota.Used, error) {
	var row struct {
		State []byte `db:"state"`
	}
	if err := tx.Get(&row, `SELECT state FROM quota_counts WHERE subject = $1`, subject); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	state, err := quota.Decode(row.State)
	if err != nil {
		return nil, nil // another version counts in another way: nothing is known
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
