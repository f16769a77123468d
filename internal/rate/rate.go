// Package rate bounds how often somebody may do something, over all instances that share a database.
//
// Promise: of one rule and one caller at most the limit is let through in each minute of the database's clock, however many instances there
// are and however the requests are spread over them. An instance takes a share of what is left from the database and counts that down in
// memory, so that most requests cost no query; whoever is over the limit costs none at all until the minute is over.
//
// Limits: two minutes that follow each other may let the double through in the seconds around their border. What an instance has taken and
// not used is lost to the others until the minute ends: with few requests over many instances up to a fiftieth of the limit each. An
// instance tells 100,000 callers and as many strangers apart in a minute; all further ones of a kind share one count a rule.
//
// Invariants: no answer without a count; a database that does not answer is a refusal; however many strangers come, callers who are known
// keep their own counts.
package rate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// period is what limits are counted by.
	period = time.Minute
	// shares is into how many parts a limit is divided among instances.
	shares = 50
	// tellApart bounds the memory: callers that are told apart in one period, and strangers besides.
	tellApart = 100_000
	// others stands for all further callers, and elsewhere for all further strangers.
	others    = "\x00others"
	elsewhere = "\x00strangers"
	// patience bounds the wait for the database.
	patience = 2 * time.Second
	// keep is how long counts that are over stay in the table.
	keep = 10 * period
)

// Config is what a [Limiter] needs. DB is required.
type Config struct {
	DB *store.DB
	// Clock tells when this instance asks the database anew; nil means time.Now. The periods are the database's.
	Clock func() time.Time
}

// Limiter counts. Make it with [New]; it needs no end.
type Limiter struct {
	db  *store.DB
	now func() time.Time

	mu      sync.Mutex
	ends    time.Time // of the period whose shares these are
	known   map[string]*share
	strange map[string]*share // apart, because anybody can fill it
	trimmed time.Time
}

// share is what this instance may still let through for one rule and caller. All but who belongs to whoever holds the turn.
type share struct {
	who  string
	turn chan struct{}
	left int
	over bool // nothing is left until the period ends
	// away is why the database gave no share, until the time until: a queue of callers must not wait for it one after the other.
	away  error
	until time.Time
}

// calm is for how long a database that did not answer is not asked again.
const calm = time.Second

// Rule is one limit. Its name separates its counts from those of others.
type Rule struct {
	Name string
	// Limit of each caller, a minute; at least 1.
	Limit int
	// Detail is what a caller over the limit is told.
	Detail string
	// Strangers says that who is counted was not authenticated, so that there can be as many as somebody has addresses. They are
	// remembered apart from callers who are known.
	Strangers bool
}

// New returns a limiter.
func New(cfg Config) (*Limiter, error) {
	if cfg.DB == nil {
		return nil, errors.New("rate: a database is needed")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Limiter{db: cfg.DB, now: cfg.Clock, known: map[string]*share{}, strange: map[string]*share{}}, nil
}

// Take counts one act of who, and returns nil when it may go on; otherwise the fault "rate_limited", which says in how many seconds to come
// again, or what kept the database from answering.
func (l *Limiter) Take(ctx context.Context, rule Rule, who string) error {
	for {
		s, ends := l.share(rule, who)
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		taken, stale, err := l.use(ctx, rule, s, ends)
		<-s.turn
		switch {
		case err != nil:
			return err
		case stale: // the period ended while we waited
			continue
		case taken:
			return nil
		}
		return fault.New(fault.TooMany, "rate_limited", rule.Detail).After(seconds(ends.Sub(l.now())))
	}
}

func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

// share finds the share of who in the current period. A period that is over is forgotten whole.
func (l *Limiter) share(rule Rule, who string) (*share, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !now.Before(l.ends) || now.Before(l.ends.Add(-2*period)) { // over, or the clock was set back
		l.known, l.strange = map[string]*share{}, map[string]*share{}
		// When the period really ends, the first answer of the database says; until then, no later than this.
		l.ends = now.Add(period)
	}
	held, rest := l.known, others
	if rule.Strangers {
		held, rest = l.strange, elsewhere
	}
	key := rule.Name + "\x00" + who
	s := held[key]
	if s == nil && len(held) >= tellApart {
		who, key = rest, rule.Name+"\x00"+rest
		s = held[key]
	}
	if s == nil {
		s = &share{who: who, turn: make(chan struct{}, 1)}
		held[key] = s
	}
	return s, l.ends
}

// use takes one from the share, asking the database for another share when it is used up. The caller holds the share's turn.
func (l *Limiter) use(ctx context.Context, rule Rule, s *share, ends time.Time) (taken, stale bool, err error) {
	if !l.now().Before(ends) {
		return false, true, nil
	}
	if s.left > 0 {
		s.left--
		return true, false, nil
	}
	if s.over {
		return false, false, nil
	}
	if s.away != nil && l.now().Before(s.until) {
		return false, false, s.away
	}
	got, rest, err := l.draw(ctx, rule, s.who)
	if err != nil {
		s.away, s.until = err, l.now().Add(calm)
		return false, false, err
	}
	s.away = nil
	l.shorten(ends, rest)
	if got == 0 {
		s.over = true
		return false, false, nil
	}
	s.left = got - 1
	return true, false, nil
}

// shorten ends this instance's period with the database's.
func (l *Limiter) shorten(ends time.Time, rest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.now().Add(rest); l.ends.Equal(ends) && e.Before(l.ends) {
		l.ends = e
	}
}

// draw takes a share from the database: how many, 0 when nothing is left, and how long the period goes on.
func (l *Limiter) draw(ctx context.Context, rule Rule, who string) (got int, rest time.Duration, err error) {
	// Whoever waits for this may go; the share is for others too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	limit := max(rule.Limit, 1)
	id := identify(rule, who)
	err = l.db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		now := tx.Now()
		number := now.Unix() / int64(period/time.Second)
		rest = time.Unix((number+1)*int64(period/time.Second), 0).Sub(now)
		want := max(limit/shares, 1)
		var rows []struct {
			Taken int `db:"taken"`
		}
		// The sum may pass the limit once, by less than a share; what is over is not given out.
		if err := tx.Select(&rows, `INSERT INTO rate_counters (id, period, taken) VALUES ($1,$2,$3)
			ON CONFLICT (id) DO UPDATE SET taken = CASE WHEN rate_counters.period = excluded.period THEN rate_counters.taken + excluded.taken ELSE excluded.taken END, period = excluded.period
			WHERE rate_counters.period <> excluded.period OR rate_counters.taken < $4 RETURNING taken`, id, number, want, limit); err != nil {
			return err
		}
		got = 0
		if len(rows) == 1 {
			got = min(want, limit-(rows[0].Taken-want))
		}
		return l.trim(tx, number)
	})
	return got, rest, err
}

// identify is the row of a rule and a caller. Addresses and ids are not kept in clear: the table is read by nobody who needs them.
func identify(rule Rule, who string) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(rule.Name)) + ":" + rule.Name + who))
	return hex.EncodeToString(sum[:16])
}

// trim removes old counts, seldom.
func (l *Limiter) trim(tx *store.Tx, number int64) error {
	l.mu.Lock()
	now := l.now()
	due := l.trimmed.IsZero() || now.Sub(l.trimmed) >= keep || now.Before(l.trimmed)
	if due {
		l.trimmed = now
	}
	l.mu.Unlock()
	if !due {
		return nil
	}
	_, err := tx.Exec(`DELETE FROM rate_counters WHERE period < $1`, number-int64(keep/period))
	return err
}
