package oauth

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// sweepEvery is how often claims that have lapsed are looked for, and overtaken pairs looked after.
	sweepEvery = 15 * time.Second
	sweepMost  = 100
)

// sweep judges claims whose holders have said nothing, so that the health is honest also where nobody asks.
func (r *Room) sweep() {
	var ids []string
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		ids = nil
		return tx.Select(&ids, `SELECT credential_id FROM oauth_connections WHERE state IN ('claimed', 'recovering') AND claim_until <= $1 ORDER BY claim_until LIMIT $2`,
			store.TimeOf(tx.Now().Add(-takeoverAfter)), sweepMost)
	})
	if err != nil {
		return // the database is away; nothing depends on this
	}
	for _, id := range ids {
		if r.owes(id) != nil {
			continue // this process knows what became of it
		}
		if err := r.judgeLapsed(ctx, id); err != nil && r.base.Err() == nil {
			r.log.Warn("a lapsed claim could not be judged", "credential", id, "cause", err)
		}
	}
}

// judgeLapsed is the takeover without a call of its own.
func (r *Room) judgeLapsed(ctx context.Context, id string) error {
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		g, err := r.vault.OpenGrant(tx, id)
		if err != nil {
			return err
		}
		c, err := loadConnection(tx, id)
		if err != nil {
			return err
		}
		before := c
		if err := c.align(g); err != nil {
			return err
		}
		now := tx.Now()
		if !c.State.held() || now.Before(c.claimUntil.Add(takeoverAfter)) {
			return errUnchanged
		}
		way, _, err := r.resolve(tx, g)
		if err != nil {
			return err
		}
		if err := c.lapse(tx, g, facts{now: now, ends: endsOf(g), grace: way.provider.Grace}, claimLapsed); err != nil {
			return err
		}
		return c.save(tx, before)
	})
	if errors.Is(err, errUnchanged) || fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}
