package train

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// nearQueue bounds what waits to be told, and nearMost what is remembered of what was.
	nearQueue, nearMost = 256, 10_000
	// nearPatience bounds one write.
	nearPatience = 5 * time.Second
	// sweepFirst is when an instance first sweeps the counts after its start, sweepEvery how often it does so then, and countsFor how long counts stay in which
	// nobody counts any more.
	sweepFirst, sweepEvery, countsFor = time.Minute, time.Hour, 40 * 24 * time.Hour
)

// nears tells people, beside the way of requests, that limits come to 80 and to 100 percent: once for a subject, a limit and a level within its time, over all instances.
type nears struct {
	queue chan quota.Crossing
	sweep *time.Timer // of the counts that nobody uses any more

	mu   sync.Mutex
	told map[string]time.Time
}

func newNears() *nears {
	return &nears{queue: make(chan quota.Crossing, nearQueue), sweep: time.NewTimer(sweepFirst), told: map[string]time.Time{}}
}

// quiet is for how long the same is not told again: a budget's month, a day, and an hour for what comes and goes by the minute.
func quiet(k quota.Kind) time.Duration {
	switch k {
	case quota.MonthlyTokens, quota.MonthlyCost:
		return 40 * 24 * time.Hour // its key names the month
	case quota.RequestsPerDay, quota.TokensPerDay:
		return 24 * time.Hour
	}
	return time.Hour
}

func nearKey(x quota.Crossing) string {
	key := x.Subject + "/" + x.Kind.String() + "/" + strconv.Itoa(x.Level)
	if x.Kind == quota.MonthlyTokens || x.Kind == quota.MonthlyCost {
		key += "/" + strconv.FormatInt(x.Month, 10)
	}
	return key
}

// note takes a limit that came to a level. It does not wait: what finds the queue full is told when it comes again.
func (n *nears) note(x quota.Crossing) {
	key, now := nearKey(x), time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if until, ok := n.told[key]; ok && now.Before(until) {
		return
	}
	select {
	case n.queue <- x:
	default:
		return
	}
	if len(n.told) >= nearMost {
		clear(n.told)
	}
	n.told[key] = now.Add(quiet(x.Kind))
}

func (n *nears) forget(x quota.Crossing) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.told, nearKey(x))
}

// tellNears works through the queue until the room is closed, and sweeps now and then.
func (r *Room) tellNears() {
	defer r.nears.sweep.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-r.nears.sweep.C:
			r.nears.sweep.Reset(sweepEvery)
			ctx, cancel := context.WithTimeout(context.Background(), nearPatience)
			if err := r.sweepCounts(ctx); err != nil {
				r.log.Warn("counts of limits that nobody uses any more were not removed", "cause", err)
			}
			cancel()
		case x := <-r.nears.queue:
			ctx, cancel := context.WithTimeout(context.Background(), nearPatience)
			if err := r.tellNear(ctx, x); err != nil && !errors.Is(err, errToldBefore) {
				r.nears.forget(x)
				r.log.Error("nobody was told of a limit", "limit", x.Kind.String(), "subject", x.Subject, "cause", err)
			}
			cancel()
		}
	}
}

// sweepCounts removes the counts of what is gone, or has long used nothing: nothing of them counts any more.
func (r *Room) sweepCounts(ctx context.Context) error {
	return r.db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		return tx.SweepCounts(tx.Now().Add(-countsFor))
	})
}

var errToldBefore = errors.New("train: this was told before")

func (r *Room) tellNear(ctx context.Context, x quota.Crossing) error {
	return r.db.Write(ctx, func(tx *store.Tx) error {
		now := tx.Now()
		n, err := tx.Exec(`INSERT INTO quota_told (id, until) VALUES ($1,$2) ON CONFLICT (id) DO UPDATE SET until = excluded.until WHERE quota_told.until <= $3`,
			nearKey(x), store.TimeOf(now.Add(quiet(x.Kind))), store.TimeOf(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return errToldBefore
		}
		if _, err := tx.Exec(`DELETE FROM quota_told WHERE until < $1`, store.TimeOf(now.Add(-quiet(quota.MonthlyTokens)))); err != nil {
			return err
		}
		target, who, trainID, err := r.limited(tx, x.Subject)
		if errors.Is(err, store.ErrNotFound) {
			return errToldBefore // it is gone
		}
		if err != nil {
			return err
		}
		if err := notify.Enqueue(tx, nearMessage(x, target, who, trainID)); err != nil {
			return err
		}
		action := store.LimitNear
		if x.Level == 100 {
			action = store.LimitReached
		}
		ev := identity.System("train").Event(action, target)
		ev.Details = store.Details{store.Str("limit", x.Kind.String()), store.Int("most", x.Most), store.Int("used", x.Used)}
		return tx.Record(ev)
	})
}

// limited names whose limit it is. What is no train is known to identity.
func (r *Room) limited(tx *store.Tx, subject string) (target store.Target, who, trainID string, err error) {
	if !store.ValidID("train", subject) {
		return r.keys.Limited(tx, subject)
	}
	var slug string
	err = tx.Get(&slug, `SELECT slug FROM trains WHERE id = $1`, subject)
	return store.Target{Kind: "train", ID: subject, Name: slug}, "The train " + slug, subject, err
}

func nearMessage(x quota.Crossing, target store.Target, who, trainID string) notify.Message {
	budget := x.Kind == quota.MonthlyTokens || x.Kind == quota.MonthlyCost
	show := number
	if x.Kind == quota.MonthlyCost {
		show = price.Dollars
	}
	m := notify.Message{
		Kind: notify.LimitNear, Severity: notify.Info, Subject: target, TrainID: trainID, Title: who + " has used 80 % of a limit",
		Text:  "Requests beyond it are refused until a part of it is free again. Raise it with: signalbox limits set",
		Facts: []notify.Fact{{Name: "Limit", Value: show(x.Most) + " " + x.Kind.Row().Noun}, {Name: "Used", Value: show(x.Used)}},
	}
	if budget {
		m.Severity, m.Title = notify.Warning, who+" has used 80 % of its budget"
		m.Text = "Requests beyond it are refused until the first of the next month (UTC). Raise it with: signalbox limits set"
	}
	if x.Level < 100 {
		return m
	}
	m.Kind, m.Severity, m.Title = notify.LimitReached, notify.Warning, who+" has reached a limit"
	if budget {
		m.Severity, m.Title = notify.Critical, who+" has spent its budget"
	}
	return m
}
