package train

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

const (
	// usesEvery is how often it is written down when credentials were last lent, and usesPatience how long the last writing may take.
	usesEvery    = 30 * time.Second
	usesPatience = 5 * time.Second
)

// writeUses writes down when credentials were last lent, until the room is closed and once more then. A process that is killed loses half a minute of
// it; the audit log has every use.
func (r *Room) writeUses() {
	tick := time.NewTicker(usesEvery)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-r.quit:
			last = true
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), usesPatience)
		err := r.vault.WriteUses(ctx)
		cancel()
		if err != nil { // not the error itself: it may be the database's own words, and the store has logged its cause
			r.log.Warn("the last uses of credentials could not be written; they wait", "code", fault.Of(err).Code)
		}
	}
}
