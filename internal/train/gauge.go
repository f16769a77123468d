package train

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// gauge is what is known of how full an account is. All versions of its credential share it, and nobody waits for it.
type gauge struct {
	known atomic.Pointer[levels]
	// flying counts the attempts that this instance has under way with the account.
	flying atomic.Int64
	// changed says that something is known here that the others should hear of.
	changed atomic.Bool
}

// levels are an account's windows, by name. They are immutable, and belong to a version of the credential: the next one may be another account's.
type levels struct {
	version int64
	windows []Window
	// marks are what the windows' names and times come to, at the same places.
	marks []mark
	// told are the windows as the database has them.
	told []Window
}

// mark is what the choice goes by of a window, so that no name is taken apart on the way of a request.
type mark struct {
	limit int
	scope string
	ends  time.Time // the first moment at which the window is unknown again
}

// hold makes the levels of a version.
func hold(version int64, windows, told []Window) *levels {
	l := &levels{version: version, windows: windows, told: told, marks: make([]mark, len(windows))}
	for i := range windows {
		w := &windows[i]
		l.marks[i] = mark{limit: w.Limit(), scope: w.Models(), ends: w.ends()}
	}
	return l
}

// unknownUsed is how far accounts count as used when nothing is known of any that is below its limits.
const unknownUsed = whole / 2

// flightCost is what each attempt under way counts beside what is used up: a reservation, until its answer tells what it cost.
const flightCost = whole / 100

// read returns what is known of that version.
func (g *gauge) read(version int64) ([]Window, []mark) {
	if l := g.known.Load(); l != nil && l.version == version {
		return l.windows, l.marks
	}
	return nil, nil
}

// hear takes in what an answer says. It reports whether something is news to others from now on, and was not before.
func (g *gauge) hear(version int64, fresh []Window, now time.Time) bool {
	if len(fresh) == 0 {
		return false
	}
	for {
		have := g.known.Load()
		var next *levels
		switch {
		case have != nil && have.version > version:
			return false // the answer to another secret
		case have != nil && have.version == version:
			next = hold(version, merge(have.windows, fresh, now), have.told)
		default:
			next = hold(version, merge(nil, fresh, now), nil)
		}
		if g.known.CompareAndSwap(have, next) {
			return !g.changed.Load() && slices.ContainsFunc(fresh, next.news) && g.changed.CompareAndSwap(false, true)
		}
	}
}

// news reports whether a window differs from what the database has by so much that others should hear of it.
func (l *levels) news(w Window) bool {
	for _, t := range l.told {
		if t.Name == w.Name {
			return t.differs(w)
		}
	}
	return true
}

// differs reports whether two readings of a window are a percent apart, or not of the same kind.
func (w Window) differs(b Window) bool {
	return w.Used/100 != b.Used/100 || w.Status != b.Status || w.Refused != b.Refused || w.Model != b.Model || w.Reset.Sub(b.Reset).Abs() > time.Minute
}

// fill is how full an account is for requests that name a model.
type fill struct {
	used  int
	known bool
	// most is the fullest window; nil when none is known.
	most *Window
	// over is the fullest window that is used beyond its limit; nil when none is.
	over *Window
	// refused is until when no request for the model is sent; zero for now.
	refused time.Time
}

// fill returns how full the account is at that moment.
func (a *account) fill(model string, now time.Time) (f fill) {
	windows, marks := a.gauge.read(a.Version)
	for i := range windows {
		w, m := &windows[i], &marks[i]
		if !m.ends.After(now) || m.scope != "" && !w.counts(model) {
			continue
		}
		if f.most == nil || w.Used > f.most.Used {
			f.most = w
		}
		if w.Used >= m.limit && (f.over == nil || w.Used > f.over.Used) {
			f.over = w
		}
		// One for all models has made the account cool down, if it does.
		if m.scope != "" && w.Refused {
			if until := w.refuses(now); until.After(f.refused) {
				f.refused = until
			}
		}
	}
	f.used = unknownUsed
	if f.most != nil {
		f.used, f.known = f.most.Used, true
	}
	return f
}

// windows returns what is known of the account's limits at that moment.
func (a *account) windows(now time.Time) []Window {
	known, _ := a.gauge.read(a.Version)
	return slices.DeleteFunc(slices.Clone(known), func(w Window) bool { return w.ended(now) })
}

// freeAt returns when the last window begins anew that refuses requests for the model; zero when none is known to.
func (a *account) freeAt(model string, now time.Time) (at time.Time) {
	windows, _ := a.gauge.read(a.Version)
	for i := range windows {
		w := &windows[i]
		if w.Refused && !w.ended(now) && w.counts(model) && w.Reset.After(at) {
			at = w.Reset
		}
	}
	return at
}

// Heard takes in what an answer's headers say of how far the account's limits are used, and tells what a refusal among them means. It is called once for
// each answer, before the lease is settled and by whoever settles it.
func (l *Lease) Heard(status int, h http.Header) Spent {
	now := l.room.now()
	fresh := readWindows(h, status, l.trip.want.Model, now)
	if l.account.gauge.hear(l.account.Version, fresh, now) {
		l.room.heardOf.add(l.account.id)
	}
	l.spent = spent(fresh, l.trip.want.Model, now)
	return l.spent
}

// Spent says what a rate limit was refused for. The zero value is a burst, which passes by itself.
type Spent struct {
	// Window is the window of the whole account that is used up, and For how long that lasts; 0 when the upstream did not say.
	Window string
	For    time.Duration
	// Model says that only the window of the model that was asked for is used up.
	Model bool
}

func (s Spent) burst() bool { return s.Window == "" && !s.Model }

// spent finds the refusal in what an answer says. Where several windows refuse, the one that does so longest counts, since each of them has to be free; what
// refuses the whole account counts before what refuses a model.
func spent(fresh []Window, model string, now time.Time) (s Spent) {
	for _, w := range fresh {
		switch d := w.Reset.Sub(now); {
		case !w.Refused:
		case w.Models() != "":
			s.Model = s.Model || !w.ended(now) && w.counts(model) // else nobody would remember it
		case s.Window == "" || d > s.For:
			s.Window, s.For = w.Name, max(d, 0)
		}
	}
	if s.Window != "" {
		s.Model = false
	}
	return s
}
