package train

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Standing is how a linked account stands, whatever train asks.
type Standing struct {
	State State
	// Why says why it would be lent or not.
	Why string
	// CoolingSince and CoolingUntil tell of the cool-down in force.
	CoolingSince, CoolingUntil *time.Time
	// Trains are the slugs of the trains that it is linked to, Hidden how many others there are that the caller does not reach, and Closed how many of all are lent nothing now.
	Trains []string
	Hidden int
	Closed int

	// Windows is what is known of how far its limits are used, and InFlight how many requests this instance has under way with it.
	Windows  []Window
	InFlight int

	status int // the upstream's, of the cool-down
}

// Standings returns how linked accounts stand, by credential, by what this instance goes by. Those that no train is linked to are left out. It needs
// trains:read of every train: who reaches some would learn of others by how many there are.
func (r *Room) Standings(ctx context.Context, caller identity.Caller, ids []string) (map[string]Standing, error) {
	if err := identity.Allow(caller, identity.TrainRead); err != nil {
		return nil, err
	}
	if err := r.db.Fresh(ctx); err != nil {
		return nil, err
	}
	var may func(string) bool
	if err := r.db.Read(ctx, func(tx *store.Tx) error {
		sees, err := identity.ReachOfTrains(tx, caller, identity.TrainRead)
		if err == nil {
			may, err = sees.Known(tx)
		}
		return err
	}); err != nil {
		return nil, err
	}
	now, b := r.now(), r.lines.Load()
	out := map[string]Standing{}
	for _, id := range ids {
		if a := b.accounts.get(id); a != nil {
			s := a.standing(now)
			if s.State == Drained {
				s.Why = r.finishing(a)
			}
			out[id] = s
		}
	}
	for l := range b.lines.all() {
		for _, g := range l.rungs {
			if s, asked := out[g.account.id]; asked {
				if may(l.ID) {
					s.Trains = append(s.Trains, l.Slug)
				} else {
					s.Hidden++
				}
				if l.closed() {
					s.Closed++
				}
				out[g.account.id] = s
			}
		}
	}
	for id, s := range out {
		if len(s.Trains)+s.Hidden == 0 {
			delete(out, id)
			continue
		}
		slices.SortFunc(s.Trains, func(a, b string) int {
			return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
		})
	}
	return out, nil
}

// standing says whether the account would be lent at that moment.
func (a *account) standing(now time.Time) Standing {
	s := Standing{State: Usable, Why: "ready", Windows: a.windows(now), InFlight: int(a.gauge.flying.Load())}
	switch c := a.coolsUntil(now); {
	case a.barred(now) != "":
		s.State, s.Why = Unusable, a.barred(now)
	case a.held() != "":
		s.State, s.Why = a.holding(), a.held()
	case c != nil:
		s.State, s.Why, s.status = Cooling, c.reason, c.status
		since, until := c.at, c.until
		s.CoolingSince, s.CoolingUntil = &since, &until
	case a.stale(now):
		s.Why = "ready; its access token has ended and is refreshed at the next request"
	case !a.baseBound:
		s.Why = "ready, but the host of its base_url is not among its hosts, so nothing can be sent"
	}
	return s
}
