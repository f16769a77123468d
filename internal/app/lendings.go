package app

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox.dev/signalbox/internal/train"
)

// lendings counts what becomes of attempts, by train and account. It hands a pair to the train room once, when that learns of the link, so
// that an attempt looks nothing up and allocates nothing; a pair whose train, link or account is gone disappears with its series.
type lendings struct {
	whole, begin *prometheus.HistogramVec
	most         int

	mu    sync.Mutex
	pairs map[pairName]*pair
}

type pairName struct{ train, account string }

// pair is the counts of one train at one account, or of all that found no place.
type pair struct {
	name         pairName
	uses         int // under the lock of the lendings
	whole, begin prometheus.Observer
	attempts     [len(results) + 1][len(statuses) + len(classes)]atomic.Int64
	failOvers    atomic.Int64
	coolDowns    [len(coolReasons)]atomic.Int64
}

var (
	results = [...]train.Result{
		train.OK, train.ClientCancelled, train.UpstreamError, train.UpstreamUnreachable, train.UpstreamBroke, train.Revoked, train.Refused,
	}
	// statuses have series of their own; an upstream may answer with any number, so the others are counted by class.
	statuses    = [...]int{0, 200, 201, 202, 204, 206, 304, 400, 401, 402, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 524, 529}
	classes     = [...]string{"2xx", "3xx", "4xx", "5xx", otherLabel}
	coolReasons = [...]string{"rate_limited", "refused", "failed", "unreachable"}
)

func newLendings(whole, begin *prometheus.HistogramVec, most int) *lendings {
	return &lendings{whole: whole, begin: begin, most: most, pairs: map[pairName]*pair{}}
}

// Meter returns the pair of a train and an account, or the common one when there are too many.
func (l *lendings) Meter(trainSlug, account string) train.Meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := pairName{label(trainSlug), label(account)}
	p := l.pairs[name]
	if p == nil && len(l.pairs) >= l.most-1 { // one place is for the rest
		name = pairName{otherLabel, otherLabel}
		p = l.pairs[name]
	}
	if p != nil {
		p.uses++
		return p
	}
	p = &pair{name: name, uses: 1, whole: l.whole.WithLabelValues(name.train, name.account), begin: l.begin.WithLabelValues(name.train, name.account)}
	l.pairs[name] = p
	return p
}

// Drop forgets a pair when that was its last use. An attempt that is still under way at it is counted nowhere.
func (l *lendings) Drop(m train.Meter) {
	p, ok := m.(*pair)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.uses--; p.uses > 0 {
		return
	}
	delete(l.pairs, p.name)
	l.whole.DeleteLabelValues(p.name.train, p.name.account)
	l.begin.DeleteLabelValues(p.name.train, p.name.account)
}

// Settled counts one attempt.
func (p *pair) Settled(o train.Outcome) {
	p.attempts[resultPlace(o.Result)][statusPlace(o.Status)].Add(1)
	p.whole.Observe(o.Duration.Seconds())
	if o.FirstByte > 0 {
		p.begin.Observe(o.FirstByte.Seconds())
	}
}

// FailedOver counts a request that went on to another account.
func (p *pair) FailedOver() { p.failOvers.Add(1) }

// Cooled counts a cool-down.
func (p *pair) Cooled(f train.Failure) {
	reason := 3
	switch {
	case f.Status == 429:
		reason = 0
	case f.Status == 401 || f.Status == 403:
		reason = 1
	case f.Status != 0:
		reason = 2
	}
	p.coolDowns[reason].Add(1)
}

// resultPlace is the row of a result; the last one is for what this version does not know.
func resultPlace(r train.Result) int {
	for i, known := range results {
		if known == r {
			return i
		}
	}
	return len(results)
}

// statusPlace is the column of a status.
func statusPlace(status int) int {
	if i, ok := slices.BinarySearch(statuses[:], status); ok {
		return i
	}
	if status >= 200 && status < 600 {
		return len(statuses) + status/100 - 2
	}
	return len(statuses) + len(classes) - 1
}

func statusLabel(place int) string {
	switch {
	case place == 0:
		return "none"
	case place < len(statuses):
		return strconv.Itoa(statuses[place])
	}
	return classes[place-len(statuses)]
}

func resultLabel(place int) string {
	if place < len(results) {
		return string(results[place])
	}
	return otherLabel
}

// collect tells the counts of all pairs. What has never happened is left out, but for success and the two that alerts ask for: a series must be
// there before its first increase to show that one.
func (l *lendings) collect(put putter) {
	l.mu.Lock()
	pairs := make([]*pair, 0, len(l.pairs))
	for _, p := range l.pairs {
		pairs = append(pairs, p)
	}
	l.mu.Unlock()
	for _, p := range pairs {
		for i := range p.attempts {
			for j := range p.attempts[i] {
				n := p.attempts[i][j].Load()
				if n > 0 || i == 0 && statusLabel(j) == "200" {
					put(proxyAttempts, float64(n), p.name.train, p.name.account, resultLabel(i), statusLabel(j))
				}
			}
		}
		put(proxyFailOvers, float64(p.failOvers.Load()), p.name.train, p.name.account)
		for i, reason := range coolReasons {
			put(coolDowns, float64(p.coolDowns[i].Load()), p.name.train, p.name.account, reason)
		}
	}
}
