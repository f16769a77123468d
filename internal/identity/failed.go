package identity

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/store"
)

// What somebody failed to authenticate with, for [Room.Failed].
const (
	FailedKey       = "client_key"
	FailedToken     = "token"
	FailedLogin     = "login"
	FailedSetup     = "setup_link"
	FailedLink      = "one_time_link"
	FailedSession   = "session"
	FailedRefresh   = "refresh_token"
	FailedFactor    = "second_factor"
	FailedSSO       = "sso"
	FailedCode      = "login_code"
	FailedThrottled = "login_throttled" // refused without being looked at
)

// attempts are the counted kinds; the last one takes whatever is unknown, so that no caller can make them grow.
var attempts = [...]string{FailedKey, FailedToken, FailedLogin, FailedSetup, FailedLink, FailedSession, FailedRefresh, FailedFactor, FailedSSO, FailedCode, FailedThrottled, "other"}

const (
	// guessSources bounds the sources that are told apart between two writings. What comes from further ones is summed.
	guessSources = 1000
	// guessBatch bounds the events of one transaction, so that writing them holds up no commit for long.
	guessBatch = 50
	// elsewhere stands for all further sources.
	elsewhere = "other sources"
	// nowhere stands for no address at all, as on the command line.
	nowhere = "unknown"
)

// tally counts the failures of one source.
type tally struct {
	source      string
	counts      [len(attempts)]int64
	first, last time.Time
}

func (t *tally) total() (n int64) {
	for _, c := range t.counts {
		n += c
	}
	return n
}

func (t *tally) add(u *tally) {
	for i, c := range u.counts {
		t.counts[i] += c
	}
	if t.first.IsZero() || u.first.Before(t.first) {
		t.first = u.first
	}
	if u.last.After(t.last) {
		t.last = u.last
	}
}

// guesses are the failed authentications since the last writing. Somebody who guesses keys must not be able to fill the disk on which every
// use of a credential depends, so however many there are, they become at most guessSources+1 events.
type guesses struct {
	mu      sync.Mutex
	sources map[string]*tally
	rest    tally
}

// add counts what t holds. t must not be used afterwards.
func (g *guesses) add(t *tally) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if have, ok := g.sources[t.source]; ok {
		have.add(t)
	} else if t.source != elsewhere && len(g.sources) < guessSources {
		g.sources[t.source] = t
	} else {
		g.rest.add(t)
	}
}

func (g *guesses) take() []*tally {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*tally, 0, len(g.sources)+1)
	for _, t := range g.sources {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *tally) int { return cmp.Compare(a.source, b.source) })
	if g.rest.total() > 0 {
		rest := g.rest
		rest.source = elsewhere
		list = append(list, &rest)
	}
	g.sources, g.rest = map[string]*tally{}, tally{}
	return list
}

// Failed counts a failed authentication, and no more: what was looked at is refused by [Room.Refuse]. source is the address it came from, what is one of the words above. The counts are written each minute as one event a source, at most 1000 of them and one for the rest. An IPv6 source stands for its /64,
// since whoever has one address of it has all.
func (r *Room) Failed(source, what string) {
	now := r.now()
	t := tally{source: canonicalSource(source), first: now, last: now}
	i := len(attempts) - 1
	for j, a := range attempts {
		if a == what {
			i = j
		}
	}
	t.counts[i] = 1
	r.failed[i].Add(1)
	r.guesses.add(&t)
}

// failureDetail is what a source is told that has failed too often.
const failureDetail = "Too many requests from this address came with keys or tokens that are not accepted. Wait as long as Retry-After says; a key or token that is valid is served meanwhile."

// Refuse is how everything is refused that somebody was to authenticate with, whatever it was: one limit of an address for all of them, so that
// nobody gets further by trying a bit of each. What guesses are slowed down by besides (throttle.go) comes before the look. It counts a failed authentication as [Room.Failed] does, and returns what to answer: verdict, or the fault "rate_limited" when the
// source has failed more often than [Config.FailureLimit] in this minute, over all instances. It is asked after the failure only, so that nobody with a
// valid key is held up by others at the same address. A session whose second factor is still wanted is real, and no failure.
func (r *Room) Refuse(ctx context.Context, source, what string, verdict error) error {
	if f, ok := fault.As(verdict); ok && f.Code == "second_factor_required" {
		return verdict
	}
	r.Failed(source, what)
	err := r.limits.Take(ctx, rate.Rule{Name: "failures", Limit: r.cfg.FailureLimit, Detail: failureDetail, Strangers: true}, canonicalSource(source))
	if err != nil && fault.KindOf(err) == fault.TooMany {
		return err
	}
	return verdict // also when the database does not answer: it is a refusal either way
}

// Failures returns how many authentications have failed since the start, by what was tried.
func (r *Room) Failures() map[string]int64 {
	out := make(map[string]int64, len(attempts))
	for i, what := range attempts {
		out[what] = r.failed[i].Load()
	}
	return out
}

// Source is an address as failures and limits are counted for it: an IPv6 address stands for its /64, and what is no address for all such.
func Source(address string) string { return canonicalSource(address) }

func canonicalSource(s string) string {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return canonicalAddr(p.Addr())
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return canonicalAddr(a)
	}
	if s == "" {
		return nowhere
	}
	return elsewhere // what is no address may be anything, a secret even
}

func canonicalAddr(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

func (r *Room) flushGuesses(ctx context.Context) error {
	list := r.guesses.take()
	for batch := range slices.Chunk(list, guessBatch) {
		err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
			for _, t := range batch {
				if err := tx.Record(t.event()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			for _, t := range list {
				r.guesses.add(t)
			}
			return err
		}
		list = list[len(batch):]
	}
	return nil
}

func (t *tally) event() store.Event {
	caller := Caller{Kind: KindAnonymous, ID: t.source}
	if t.source != elsewhere && t.source != nowhere {
		caller.IP = t.source
	}
	ev := caller.Event(store.IdentityFailed, store.Target{Kind: "authentication"})
	ev.Outcome = store.OutcomeFailed
	ev.Details = store.Details{
		store.Int("count", t.total()), store.Str("first", t.first.UTC().Format(store.TimeFormat)), store.Str("last", t.last.UTC().Format(store.TimeFormat)),
	}
	for i, what := range attempts {
		if t.counts[i] > 0 {
			ev.Details = append(ev.Details, store.Int(what, t.counts[i]))
		}
	}
	return ev
}
