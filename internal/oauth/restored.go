package oauth

import (
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Restored takes account of a database that was restored from a backup. Which refresh tokens were sent to their providers since then is not known any
// more, so each counts as one that may be spent: it is sent once more, on record as a recovery, when the stored access token has ended; a provider that
// refuses it then makes the connection need a login, and people hear of it. A connection that needs a login anyway goes on to.
func (r *Room) Restored(tx *store.Tx) (doubtful int, err error) {
	var ids []string
	if err := tx.Select(&ids, `SELECT id FROM credentials WHERE type = $1 ORDER BY id`, string(vault.OAuth)); err != nil {
		return 0, err
	}
	for _, id := range ids {
		g, err := r.vault.OpenGrant(tx, id)
		if _, ok := fault.As(err); ok && fault.KindOf(err) != fault.Unavailable {
			continue // it does not open, or was changed by others: it is refreshed by nobody
		}
		if err != nil {
			return doubtful, err
		}
		if !g.Refreshes || g.OAuth.GrantType == vault.GrantClientCredentials {
			continue // no token that could be spent
		}
		c, err := loadConnection(tx, id)
		if err != nil {
			return doubtful, err
		}
		before := c
		if err := c.align(g); err != nil {
			return doubtful, err
		}
		if c.State == Lost || c.State == Uncertain && !c.SafeAt.IsZero() {
			continue
		}
		if !c.State.held() {
			c.State = Claimed // by the history that is lost
		}
		if c.FirstAt.IsZero() {
			c.FirstAt = tx.Now()
		}
		// No provider's grace is asked: it speaks of moments, and a backup is older.
		if err := c.lapse(tx, g, facts{now: tx.Now(), ends: endsOf(g)}, "restored"); err != nil {
			return doubtful, err
		}
		if err := c.save(tx, before); err != nil {
			return doubtful, err
		}
		doubtful++
	}
	return doubtful, nil
}
