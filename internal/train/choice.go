package train

import (
	"slices"
	"strconv"
	"time"
)

// band is how much more than the least used account another may be used and still be given new conversations, in ten-thousandths. Those within it share them
// by a hash, so that instances that know nearly the same choose the same.
const band = whole / 10

// pick finds the account of the next attempt on a line, and remembers which one the conversation is on.
func (r *Room) pick(l *line, t *trip, now time.Time) (*rung, error) {
	if l.Strategy != LeastLoaded || t.want.Account != "" || t.want.Pinned != "" {
		return l.choose(t, false, now)
	}
	key, talks := keyOf(t)
	if talks {
		t.home, t.spread = r.sessions.get(key, now), key.spread()
	}
	g, err := l.choose(t, talks, now)
	if talks && err == nil {
		r.sessions.put(key, home{l.ID, g.account.id}, now)
	}
	return g, err
}

// free says whether an attempt may use the account of a rung at that moment, and how full that is. until is when an account that only rests is free again;
// zero for one that cannot be used, and for one that can.
func (l *line) free(t *trip, g *rung, now time.Time) (f fill, until time.Time, ok bool) {
	a := g.account
	if slices.Contains(t.tried, a.id) || slices.Contains(t.stale, a.id) || t.only != "" && t.only != a.id || a.barred(now) != "" {
		return f, until, false
	}
	f = a.fill(t.want.Model, now)
	if until = a.restsUntil(f, t.want.Model, now); !until.IsZero() {
		return f, until, false
	}
	return f, until, true
}

// restsUntil returns until when the account serves no request for the model: while it cools down, and while a window of the model refuses. It tells the
// reset of what is used up where that is later, since only then a request will be served.
func (a *account) restsUntil(f fill, model string, now time.Time) time.Time {
	until := f.refused
	if c := a.coolsUntil(now); c != nil && c.until.After(until) {
		until = c.until
	}
	if until.IsZero() {
		return until
	}
	if at := a.freeAt(model, now); at.After(until) {
		return at
	}
	return until
}

// offer is an account as [LeastLoaded] compares it.
type offer struct {
	rung *rung
	fill fill
	// used is how far the account is used, or what stands for it.
	used, flying int
}

func (g *rung) offer(f fill) offer {
	return offer{rung: g, fill: f, used: f.used, flying: int(min(max(g.account.gauge.flying.Load(), 0), 1<<20))}
}

// load is what offers are compared by: what is used up, and a reservation for what is under way.
func (o *offer) load() int { return o.used + o.flying*flightCost }

// better reports whether an offer goes before another: the train's default account before all others, then below its limits before beyond them, then by load. The rank decides among equals.
func (o *offer) better(than *offer) bool {
	if o.rung.first != than.rung.first {
		return o.rung.first
	}
	if over := o.fill.over != nil; over != (than.fill.over != nil) {
		return !over
	}
	return o.load() < than.load()
}

// level lets accounts of which nothing is known count as the mean of the others below their limits, so that they neither draw every request nor get none.
func level(offers []offer, mean int) {
	for i := range offers {
		if !offers[i].fill.known {
			offers[i].used = mean
		}
	}
}

// mean returns how far the accounts are used of which something is known and that are below their limits.
func mean(offers []offer) int {
	sum, n := 0, 0
	for i := range offers {
		if offers[i].fill.known && offers[i].fill.over == nil {
			sum, n = sum+offers[i].used, n+1
		}
	}
	if n == 0 {
		return unknownUsed
	}
	return sum / n
}

// least returns the best of some offers, of which there is one at least.
func least(offers []offer) *offer {
	best := &offers[0]
	for i := range offers {
		if offers[i].better(best) {
			best = &offers[i]
		}
	}
	return best
}

// stay keeps a conversation where it is, and gives a new one to the account that the hash names among those that are used about as little as the least used.
// What is under way does not count there: every instance has other requests under way, and the hash spreads by itself.
func stay(offers []offer, t *trip) *offer {
	best := least(offers)
	over := best.fill.over != nil
	low := -1
	for i := range offers {
		o := &offers[i]
		switch {
		case (o.fill.over != nil) != over:
		case o.rung.account.id == t.home:
			return o
		case low < 0 || o.used < low:
			low = o.used
		}
	}
	var highest uint64
	for i := range offers {
		o := &offers[i]
		if (o.fill.over != nil) != over || o.used > low+band {
			continue
		}
		if place := mix(t.spread ^ o.rung.score); place >= highest {
			best, highest = o, place
		}
	}
	return best
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of what it takes changes half of those it gives.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// inOrder returns a line's accounts as they are tried for a request that names a model and no conversation. Those that cannot be used stand where they would
// if they could. Their loads are told with every strategy; only one goes by them.
func (l *line) inOrder(model string, now time.Time) []offer {
	all, free := make([]offer, 0, len(l.rungs)), make([]offer, 0, len(l.rungs))
	t := &trip{want: Want{Model: model}}
	for i := range l.rungs {
		g := &l.rungs[i]
		o := g.offer(g.account.fill(model, now))
		all = append(all, o)
		if _, _, ok := l.free(t, g, now); ok && g.account.isAccount() && g.account.held() == "" {
			free = append(free, o)
		}
	}
	level(all, mean(free))
	if l.Strategy != LeastLoaded {
		return all
	}
	slices.SortStableFunc(all, func(a, b offer) int {
		switch {
		case a.better(&b):
			return -1
		case b.better(&a):
			return 1
		}
		return 0
	})
	return all
}

// why says what the load of an account is made of.
func (o *offer) why() string {
	f, text := &o.fill, ""
	switch {
	case f.over != nil:
		text = "after those below their limits: its window " + f.over.Name + " is used to " + f.over.UsedText() + ", and from " + percent(f.over.Limit()) + " on others go first"
	case f.known:
		text = "used to " + f.most.UsedText() + " (window " + f.most.Name + ")"
	default:
		text = "nothing is known of how far it is used, which counts as " + percent(o.used) + ": the mean of those below their limits"
	}
	return text + "; " + strconv.Itoa(o.flying) + " in flight, " + percent(flightCost) + " each"
}
