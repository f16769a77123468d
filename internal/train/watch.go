package train

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

const (
	// watchEvery is the interval of the watchdog.
	watchEvery = 250 * time.Millisecond
	// expiryTicks is how many of them pass between two looks for expired keys.
	expiryTicks = 4
	// aheadTicks is how many pass between two looks for access tokens that end soon.
	aheadTicks = 40
	// cutOffAfter is how old the news from the database may be before running streams end: an instance that is cut off cannot hear of
	// revocations, and this is how long one may go unheard.
	cutOffAfter = 10 * time.Second
)

// watch starts the watchdog. It ends leases for reasons that no change announces: time, and silence.
func (r *Room) watch() {
	r.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-r.quit:
				return
			case <-tick.C:
			}
			if n%aheadTicks == 0 {
				r.ahead()
			}
			if r.leases.open.Load() == 0 {
				continue
			}
			// One interval early, so that the promise holds at its end.
			if r.age() > cutOffAfter-2*watchEvery {
				// After a pause of the process, or a jump of the clock, the news are only as old as nobody has asked.
				ask, cancel := context.WithTimeout(context.Background(), watchEvery)
				err := r.db.Fresh(ask)
				cancel()
				if err != nil || r.age() > cutOffAfter-2*watchEvery {
					r.cutSilent()
				}
				continue
			}
			if n%expiryTicks == 0 {
				r.cutDead() // keys that have expired
			}
		}
	})
}

func (r *Room) cutSilent() {
	f := fault.New(fault.Unavailable, "database_unavailable",
		"Signalbox has had no news from its database for ten seconds, so it cannot know which keys are revoked and ended the running requests. Send the request again once an operator has restored the database.").After(5)
	if n := r.leases.cut(func(*Lease) *fault.Error { return f }); n > 0 {
		r.log.Error("running requests were cut: no news from the database", "leases", n)
	}
}

// cutDead ends the leases whose key, train, link or credential is no longer in force.
func (r *Room) cutDead() {
	if r.leases.open.Load() == 0 {
		return
	}
	b := r.lines.Load()
	if n := r.leases.cut(func(l *Lease) *fault.Error { return r.dead(b, l) }); n > 0 {
		r.log.Info("running requests were cut", "leases", n)
	}
}

// dead says why a lease may not go on, nil when it may. A new version of the credential is no reason: the old one may have been replaced
// for the sake of order, and cutting every stream then would make people rotate less.
func (r *Room) dead(b *board, l *Lease) *fault.Error {
	if r.closed.Load() {
		return errDraining()
	}
	if !r.isKeyless(l.trip.caller) && !r.keys.KeyAlive(l.trip.caller.ID) {
		return errKeyEnded()
	}
	line := b.lines.get(l.trip.caller.TrainID)
	switch {
	case line == nil:
		return errKeyEnded()
	case line.closed():
		return errTrainDisabled(line)
	}
	g, linked := line.rung(l.account.id)
	switch {
	case !linked:
		return fault.New(fault.Forbidden, "no_account",
			"The account that served this request was unlinked from the train or deleted, so the request was ended. Send it again; another linked account will serve it.")
	case g.account.Lending.State.Cuts():
		return fault.New(fault.Forbidden, "no_account",
			"The account that served this request was paused, so the request was ended. Send it again; another linked account will serve it.")
	case g.account.withdrawn():
		return fault.New(fault.Forbidden, "no_account",
			"The account that served this request was disabled, so the request was ended. Send it again; another linked account will serve it.")
	}
	return nil
}

func errKeyEnded() *fault.Error {
	return fault.New(fault.Unauthenticated, "unauthenticated",
		"The client key has been revoked or has expired, or its train was deleted. Ask an operator of this Signalbox for a new key (`signalbox key issue`).")
}

func errTrainDisabled(l *line) *fault.Error {
	return fault.New(fault.Unauthenticated, "train_disabled",
		"The train "+l.Slug+" is disabled, so nothing is lent to it. An operator can enable it again.")
}

func errDraining() *fault.Error {
	return fault.New(fault.Unavailable, "draining", "This instance of Signalbox is shutting down. Send the request again.").After(1)
}
