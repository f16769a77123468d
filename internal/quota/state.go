package quota

import (
	"slices"
	"time"
)

// span is a window: parts of a width in seconds. One part more than that is counted, so that what is in any window of that length is counted whole wherever it begins.
type span struct{ width, parts int64 }

// spans are the windows of the three kinds of requests, and of the three of tokens.
var spans = [...]span{{1, 60}, {60, 60}, {900, 96}}

const (
	// owedWidth is the part of time, in seconds, by which what requests of this month may still use is kept, and owedFor how long it stays when nobody tells what they used.
	owedWidth, owedFor = 600, 2 * 3600
	// early is how far a clock may be behind the last one without more being made of it: instances ask one after the other.
	early = 5
)

// bucket is a count in one part of time.
type bucket struct{ at, n int64 }

// window is the counts of a window, the oldest first.
type window []bucket

func (w *window) trim(s span, now int64) {
	first := now/s.width - s.parts
	drop := 0
	for drop < len(*w) && (*w)[drop].at < first {
		drop++
	}
	*w = slices.Delete(*w, 0, drop)
}

func (w window) sum() (n int64) {
	for _, b := range w {
		n += b.n
	}
	return n
}

// add counts in the part of a moment, which may be one that is over; a negative number takes back what is still there.
func (w *window) add(s span, at, n int64) {
	at /= s.width
	i, found := slices.BinarySearchFunc(*w, at, func(b bucket, at int64) int { return int(b.at - at) })
	switch {
	case found:
		(*w)[i].n = max(0, (*w)[i].n+n)
	case n > 0:
		*w = slices.Insert(*w, i, bucket{at, n})
	}
}

// free returns in how many seconds so many have fallen out of the window.
func (w window) free(s span, now, need int64) int64 {
	for _, b := range w {
		if need -= b.n; need <= 0 {
			return max(1, (b.at+s.parts+1)*s.width-now)
		}
	}
	return 1
}

// owed is what requests may still use that began in one part of time.
type owed struct{ at, tokens, cost int64 }

// stream is how many requests are under way at one instance.
type stream struct {
	instance string
	n, at    int64
}

// State is what one train, key or person has used. It is not safe for several goroutines.
type State struct {
	last             int64 // the latest time, in seconds since the epoch
	requests, tokens [len(spans)]window
	month            int64 // since the year 0
	spent, cost      int64 // of this month, of what is settled
	owed             []owed
	streams          []stream
}

// at takes the state to a moment.
func (s *State) at(now time.Time) int64 {
	sec := now.Unix()
	if sec < s.last {
		if s.last-sec <= early {
			return s.last
		}
		s.shift(s.last - sec)
	}
	s.last = sec
	for i, sp := range spans {
		s.requests[i].trim(sp, sec)
		s.tokens[i].trim(sp, sec)
	}
	if m := monthOf(sec); m != s.month {
		if m > s.month { // set back, the clock gives nothing back
			s.spent, s.cost, s.owed = 0, 0, nil
		}
		s.month = m
	}
	s.owed = slices.DeleteFunc(s.owed, func(o owed) bool { return (o.at+1)*owedWidth+owedFor <= sec })
	return sec
}

// shift moves everything back by so many seconds, when the clock was set back.
func (s *State) shift(by int64) {
	for i, sp := range spans {
		for _, w := range [...]window{s.requests[i], s.tokens[i]} {
			for j := range w {
				w[j].at -= by / sp.width
			}
		}
	}
	for i := range s.owed {
		s.owed[i].at -= by / owedWidth
	}
	for i := range s.streams {
		s.streams[i].at -= by
	}
}

// monthOf numbers the months of UTC.
func monthOf(sec int64) int64 {
	t := time.Unix(sec, 0).UTC()
	return int64(t.Year())*12 + int64(t.Month()) - 1
}

// nextMonth is how many seconds there are until the next one.
func nextMonth(sec int64) int64 {
	t := time.Unix(sec, 0).UTC()
	return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC).Unix() - sec
}

func (s *State) owes() (tokens, cost int64) {
	for _, o := range s.owed {
		tokens, cost = tokens+o.tokens, cost+o.cost
	}
	return tokens, cost
}

// owe adds to what requests of a moment may still use, or takes it back.
func (s *State) owe(sec, tokens, cost int64) {
	at := sec / owedWidth
	for i := range s.owed {
		if o := &s.owed[i]; o.at == at {
			o.tokens, o.cost = max(0, o.tokens+tokens), max(0, o.cost+cost)
			return
		}
	}
	if tokens > 0 || cost > 0 {
		s.owed = append(s.owed, owed{at, tokens, cost})
	}
}

// Alive tells whether the requests of an instance still stand that were last counted so many seconds ago.
type Alive func(instance string, ago int64) bool

// open returns how many requests are under way, and forgets those of instances that are gone.
func (s *State) open(alive Alive) (n int64) {
	s.streams = slices.DeleteFunc(s.streams, func(o stream) bool {
		return o.n <= 0 || alive != nil && !alive(o.instance, s.last-o.at)
	})
	for _, o := range s.streams {
		n += o.n
	}
	return n
}

func (s *State) stream(instance string, by int64) {
	for i := range s.streams {
		if o := &s.streams[i]; o.instance == instance {
			o.n, o.at = max(0, o.n+by), s.last
			return
		}
	}
	if by > 0 {
		s.streams = append(s.streams, stream{instance, by, s.last})
	}
}

// used returns what counts against a limit at the moment to which the state was taken.
func (s *State) used(k Kind, alive Alive) int64 {
	switch {
	case k <= RequestsPerDay:
		return s.requests[k].sum()
	case k <= TokensPerDay:
		return s.tokens[k-TokensPerMinute].sum()
	}
	tokens, cost := s.owes()
	switch k {
	case MonthlyTokens:
		return s.spent + tokens
	case MonthlyCost:
		return s.cost + cost
	case ConcurrentStreams:
		return s.open(alive)
	}
	return 0
}

// frees returns in how many seconds something is free again under a limit of which all is used.
func (s *State) frees(k Kind, most, used int64) int64 {
	need := used - most + 1
	switch {
	case k <= RequestsPerDay:
		return s.requests[k].free(spans[k], s.last, need)
	case k <= TokensPerDay:
		tokens, _ := s.owes()
		if tokens >= need { // requests under way may use less than they asked for
			return min(UnderWay, s.tokens[k-TokensPerMinute].free(spans[k-TokensPerMinute], s.last, need))
		}
		return s.tokens[k-TokensPerMinute].free(spans[k-TokensPerMinute], s.last, need)
	case k == ConcurrentStreams:
		return UnderWay
	}
	tokens, cost := s.owes()
	if owes := map[Kind]int64{MonthlyTokens: tokens, MonthlyCost: cost}[k]; owes >= need {
		return UnderWay
	}
	return nextMonth(s.last)
}

// UnderWay is after how many seconds to come again when what is used up may be given back by requests that end.
const UnderWay = 2

// Used is how far one limit is used.
type Used struct {
	Kind       Kind
	Most, Used int64
	// Frees is in how many seconds something is free again; 0 while nothing is used.
	Frees int64
}

// Look tells how far limits are used at a moment.
func (s *State) Look(now time.Time, l *Limits, alive Alive) []Used {
	s.at(now)
	var out []Used
	for _, r := range rows[:MaxTokens] {
		most, ok := l.Of(r.Kind)
		if !ok {
			continue
		}
		u := Used{Kind: r.Kind, Most: most, Used: s.used(r.Kind, alive)}
		if u.Used > 0 {
			u.Frees = s.frees(r.Kind, min(most, u.Used), u.Used)
		}
		out = append(out, u)
	}
	return out
}

// Begin takes over what was used in the month of a moment before it was counted here.
func (s *State) Begin(now time.Time, tokens, cost int64) {
	s.at(now)
	s.spent, s.cost = max(s.spent, tokens), max(s.cost, cost)
}

// Heir returns the state for a successor: what requests under way hold stays with the one that they were counted for.
func (s *State) Heir() *State {
	next := *s
	tokens, cost := s.owes()
	next.spent, next.cost = s.spent+tokens, s.cost+cost
	next.owed, next.streams = nil, nil
	return &next
}
