package quota

import (
	"slices"
	"strings"
	"time"
)

// Due is one whose limits a request is held against: the id of a train, of a client key or of a person.
type Due struct {
	Subject string
	Limits  *Limits
}

// Charge is what one request takes from everybody whose limits it is held against: all of it or nothing. It is used by one goroutine at a time: first it is
// taken, and when the request is over it is settled.
type Charge struct {
	// Dues are in the order of their subjects, each of them once.
	Dues []Due
	// Costs says that the answer costs tokens; only then the request is held against limits of tokens, money and requests at once.
	Costs bool
	// Tokens and Cost are what it may use at most, in tokens and in micro-dollars.
	Tokens, Cost int64
	// Instance is where it is under way, and Alive tells of which instances the requests still stand; nil of all.
	Instance string
	Alive    Alive
	// Stored is called when the commit that took it turns out to stand after the request was refused because nobody knew; nil for nobody. It must not wait.
	Stored func()
	// Near hears of limits that come to 80 and to 100 percent, after the commit; nil for nobody. It must not wait.
	Near func(Crossing)

	at       int64 // when it was taken, in seconds; 0 before
	month    int64
	left     Standing
	crossed  []Crossing
	closing  bool
	used     int64
	usedCost int64
}

// Crossing says that a limit came to a level.
type Crossing struct {
	Subject    string
	Kind       Kind
	Level      int // 80 or 100, in percent
	Most, Used int64
	// Month numbers the month of a budget.
	Month int64
}

// Left is how much of a limit is left.
type Left struct {
	Most, Left int64
	// Frees is in how many seconds a part of it is free again.
	Frees int64
}

// Standing is what is left after a request was taken, of the limit of requests and of the limit of tokens that leave the least.
type Standing struct{ Requests, Tokens *Left }

// Refusal says which limit keeps a request from being taken.
type Refusal struct {
	Subject    string
	Kind       Kind
	Most, Used int64
	// After is in how many seconds to come again.
	After int64
}

// Error implements error. It names ids and numbers, for the log.
func (r *Refusal) Error() string {
	return "quota: " + r.Kind.String() + " of " + r.Subject + " is used up"
}

// Sort brings the dues into order and drops those that count nothing; nil when there is none left.
func Sort(dues []Due) []Due {
	dues = slices.DeleteFunc(dues, func(d Due) bool { return !d.Limits.Counts() })
	slices.SortFunc(dues, func(a, b Due) int { return strings.Compare(a.Subject, b.Subject) })
	return dues
}

// Late reports whether anything of the charge is known only when the request is over.
func (c *Charge) Late() bool {
	if !c.Costs {
		return false
	}
	for _, d := range c.Dues {
		for k := TokensPerMinute; k <= ConcurrentStreams; k++ {
			if _, ok := d.Limits.Of(k); ok {
				return true
			}
		}
	}
	return false
}

// Taken reports whether it was taken.
func (c *Charge) Taken() bool { return c.at != 0 }

// Left returns what was left when it was taken.
func (c *Charge) Left() Standing { return c.left }

// Close makes it one that is to be settled: the request is over and used so much. What is not known counts as what it might have used.
func (c *Charge) Close(tokens, cost int64, known bool) {
	if !known {
		tokens, cost = c.Tokens, c.Cost
	}
	c.closing, c.used, c.usedCost = true, tokens, cost
}

// Closing reports whether it is to be settled, and not taken.
func (c *Charge) Closing() bool { return c.closing }

// limited goes through the limits that the request is held against.
func (c *Charge) limited(l *Limits, do func(k Kind, most int64)) {
	for k := range MaxTokens {
		if most, ok := l.Of(k); ok && (c.Costs || k <= RequestsPerDay) {
			do(k, most)
		}
	}
}

// Take holds it against all limits and counts it, or returns the refusal that lasts longest and changes nothing.
func (c *Charge) Take(now time.Time, of func(subject string) *State) (refusal *Refusal) {
	c.crossed, c.left, c.at = c.crossed[:0], Standing{}, 0
	for _, d := range c.Dues {
		s := of(d.Subject)
		s.at(now)
		c.limited(d.Limits, func(k Kind, most int64) {
			used := s.used(k, c.Alive)
			if used < most {
				return
			}
			c.crossed = append(c.crossed, Crossing{d.Subject, k, 100, most, used, s.month})
			if after := s.frees(k, most, used); refusal == nil || after > refusal.After {
				refusal = &Refusal{d.Subject, k, most, used, after}
			}
		})
	}
	if refusal != nil {
		return refusal
	}
	for _, d := range c.Dues {
		s := of(d.Subject)
		sec := s.at(now)
		c.at, c.month = max(c.at, sec), s.month
		for k := RequestsPerMinute; k <= RequestsPerDay; k++ {
			if most, ok := d.Limits.Of(k); ok {
				before := s.requests[k].sum()
				s.requests[k].add(spans[k], sec, 1)
				c.cross(d.Subject, k, most, before, before+1, s.month)
			}
		}
		if c.Costs {
			c.reserve(d, s, sec)
		}
		c.limited(d.Limits, func(k Kind, most int64) { c.stands(k, most, s) })
	}
	return nil
}

// reserve counts what the request may use at most.
func (c *Charge) reserve(d Due, s *State, sec int64) {
	for k := TokensPerMinute; k <= TokensPerDay; k++ {
		if _, ok := d.Limits.Of(k); ok {
			s.tokens[k-TokensPerMinute].add(spans[k-TokensPerMinute], sec, c.Tokens)
		}
	}
	s.owe(sec, c.Tokens, c.Cost)
	if most, ok := d.Limits.Of(ConcurrentStreams); ok {
		before := s.open(nil)
		s.stream(c.Instance, 1)
		c.cross(d.Subject, ConcurrentStreams, most, before, before+1, s.month)
	}
}

// Settle puts what the request used in the place of what it might have used.
func (c *Charge) Settle(now time.Time, of func(subject string) *State) {
	c.crossed = c.crossed[:0]
	for _, d := range c.Dues {
		s := of(d.Subject)
		sec := s.at(now)
		for k := TokensPerMinute; k <= TokensPerDay; k++ {
			most, ok := d.Limits.Of(k)
			if !ok {
				continue
			}
			w, sp := &s.tokens[k-TokensPerMinute], spans[k-TokensPerMinute]
			before := w.sum()
			w.add(sp, c.at, -c.Tokens)
			w.add(sp, sec, c.used)
			c.cross(d.Subject, k, most, min(before, most*8/10-1), w.sum(), s.month)
		}
		s.owe(c.at, -c.Tokens, -c.Cost)
		if c.month == s.month { // what began in the last month belongs there, as in the sums of usage
			tokens, cost := s.spent, s.cost
			s.spent, s.cost = s.spent+c.used, s.cost+c.usedCost
			if most, ok := d.Limits.Of(MonthlyTokens); ok {
				c.cross(d.Subject, MonthlyTokens, most, tokens, s.spent, s.month)
			}
			if most, ok := d.Limits.Of(MonthlyCost); ok {
				c.cross(d.Subject, MonthlyCost, most, cost, s.cost, s.month)
			}
		}
		if _, ok := d.Limits.Of(ConcurrentStreams); ok {
			s.stream(c.Instance, -1)
		}
	}
}

// cross notes that a limit came to a level.
func (c *Charge) cross(subject string, k Kind, most, before, after, month int64) {
	level := 0
	switch near := (most*8 + 9) / 10; {
	case before < most && after >= most:
		level = 100
	case before < near && after >= near:
		level = 80
	}
	if level > 0 {
		c.crossed = append(c.crossed, Crossing{subject, k, level, most, after, month})
	}
}

// Tell hands on the limits that came to a level, after the commit.
func (c *Charge) Tell() {
	if c.Near == nil {
		return
	}
	for _, x := range c.crossed {
		c.Near(x)
	}
	c.crossed = nil
}

// stands notes what is left of a limit, where no other one leaves less.
func (c *Charge) stands(k Kind, most int64, s *State) {
	into := &c.left.Requests
	switch {
	case k >= TokensPerMinute && k <= MonthlyTokens:
		into = &c.left.Tokens
	case k > RequestsPerDay:
		return
	}
	used := s.used(k, nil)
	left := max(0, most-used)
	if *into == nil || left < (*into).Left {
		*into = &Left{Most: most, Left: left, Frees: s.frees(k, min(most, used), used)}
	}
}
