package notify

import (
	"context"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// claimTime is how long a claim lasts: an attempt, and its bookkeeping while the database is away for a little.
	claimTime = time.Minute
	// stale is the age at which a claim is not used any more: a process that was stopped in between could otherwise try at the same time as
	// whoever took the claim over.
	stale = claimTime - attemptTime - 10*time.Second
	// perChannel bounds the attempts of this instance at one channel at one moment.
	perChannel = 2
	// claimBatch bounds what one pass claims.
	claimBatch = 64
	// closePatience is what attempts under way get at the end of the process before they are cut.
	closePatience = 5 * time.Second
	// trimEvery and keep say when and what old messages are removed.
	trimEvery = time.Hour
	keep      = 30 * 24 * time.Hour
	trimBatch = 500
	// complainEvery bounds how often the same trouble is logged.
	complainEvery = time.Minute
)

// worker is the background work of a room.
type worker struct {
	wake     chan struct{}
	quit     chan struct{}
	begin    sync.Once
	end      sync.Once
	loop     sync.WaitGroup
	attempts sync.WaitGroup
	cut      context.CancelFunc // ends the attempts under way

	mu      sync.Mutex
	flying  map[string]int // attempts under way by channel
	moaned  time.Time
	trimmed time.Time
}

func (w *worker) prepare() {
	w.wake, w.quit, w.flying = make(chan struct{}, 1), make(chan struct{}), map[string]int{}
}

// nudge has the worker look at once.
func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// again has the worker look when some time has passed.
func (w *worker) again(after time.Duration) {
	time.AfterFunc(after, w.nudge)
}

// take reserves a place for an attempt at the channel.
func (w *worker) take(channel string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flying[channel] >= perChannel {
		return false
	}
	w.flying[channel]++
	return true
}

func (w *worker) give(channel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flying[channel]--; w.flying[channel] == 0 {
		delete(w.flying, channel)
	}
}

// Start begins to deliver in the background. End it with [Room.Close].
func (r *Room) Start(ctx context.Context) {
	r.worker.begin.Do(func() {
		// What is under way when a stop begins gets time to end.
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.worker.cut = cut
		r.worker.loop.Go(func() {
			tick := time.NewTicker(r.every)
			defer tick.Stop()
			for {
				r.pass(run)
				select {
				case <-r.worker.quit:
					return
				case <-r.worker.wake:
				case <-tick.C:
				}
			}
		})
	})
}

// Close claims nothing more and waits for the attempts under way; those that take too long are cut and tried again by whoever comes next.
// It may be called more than once, and without Start.
func (r *Room) Close() {
	w := &r.worker
	w.end.Do(func() { close(w.quit) })
	if w.cut == nil {
		return
	}
	late := time.AfterFunc(closePatience, w.cut)
	defer late.Stop()
	w.loop.Wait()
	w.attempts.Wait()
	w.cut()
	r.http.CloseIdleConnections()
}

// pass claims what is due and begins the attempts.
func (r *Room) pass(ctx context.Context) {
	claims, err := r.claim(ctx)
	for _, c := range claims {
		r.worker.attempts.Go(func() {
			defer r.worker.nudge() // a place is free
			defer r.worker.give(c.ChannelID)
			r.attempt(ctx, c)
		})
	}
	if err == nil {
		err = r.expire(ctx)
	}
	if err == nil {
		err = r.sweep(ctx)
	}
	if err == nil && time.Since(r.worker.trimmed) >= trimEvery {
		if err = r.trim(ctx); err == nil {
			r.worker.trimmed = time.Now()
		}
	}
	if err != nil && ctx.Err() == nil && time.Since(r.worker.moaned) >= complainEvery {
		r.worker.moaned = time.Now()
		r.log.Error("notifications cannot be delivered at the moment; they are stored and wait", "cause", err)
	}
}

// attempt delivers one claimed delivery and writes down what became of it.
func (r *Room) attempt(ctx context.Context, c claim) {
	if time.Since(c.begun) > stale {
		return // the claim lapses by itself
	}
	p, v := c.parcel, verdict{detail: c.broken, final: c.final}
	if c.broken == "" {
		limited, cancel := context.WithTimeout(ctx, attemptTime)
		v = r.send(limited, p)
		cancel()
	}
	if ctx.Err() != nil && !v.delivered {
		v = verdict{detail: "The server stopped during the attempt."}
	}
	// Without this the message would be delivered again.
	for {
		err := r.settle(context.WithoutCancel(ctx), c, v)
		if err == nil {
			return
		}
		if time.Since(c.begun) > claimTime || ctx.Err() != nil {
			r.log.Error("it could not be written down what became of a notification, so it will be tried again", "delivery", p.id, "channel", c.ChannelID, "delivered", v.delivered, "cause", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// trim removes messages, with their deliveries, and marks that are past their time.
func (r *Room) trim(ctx context.Context) error {
	for {
		var n int64
		err := r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
			old := store.TimeOf(tx.Now().Add(-keep))
			_, err := tx.Exec(`DELETE FROM notify_marks WHERE until < $1`, store.TimeOf(tx.Now()))
			if err != nil {
				return err
			}
			n, err = tx.Exec(`DELETE FROM notify_messages WHERE id IN (SELECT id FROM notify_messages WHERE created_at < $1 ORDER BY created_at LIMIT $2)`, old, trimBatch)
			return err
		})
		if err != nil || n < trimBatch {
			return err
		}
	}
}
