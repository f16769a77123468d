package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// batchCount and batchBytes bound what is sent at once, and so how much comes again after a crash.
	batchCount = 500
	batchBytes = 1 << 20
	// backoffFirst and backoffMost bound the wait after a failure. It is tried for ever: the log waits.
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
	// closePatience is what deliveries under way get at the end of the process before they are cut.
	closePatience = 5 * time.Second
	// complainEvery bounds how often the same trouble is logged.
	complainEvery = time.Minute
	// beyond is how many times its length a claim can last at most. One that lasts longer was made before the clock was set back, and its holder may be gone: it has lapsed.
	beyond = 2
	// settleTime bounds the write that says what became of a delivery.
	settleTime = 10 * time.Second
)

// worker is the background work of a room.
type worker struct {
	begin, end sync.Once
	quit       chan struct{}
	loop, runs sync.WaitGroup
	cut        context.CancelFunc // ends the deliveries under way

	mu      sync.Mutex
	running map[string]bool
	held    map[string]held // claims that this instance has, so that it need not write them anew with each batch
	moaned  time.Time
}

// held is a claim: its epoch, and when it was last written by the clock of this process.
type held struct {
	epoch int64
	at    time.Time
}

func (w *worker) prepare() {
	w.quit, w.running, w.held = make(chan struct{}), map[string]bool{}, map[string]held{}
}

// Start begins to send in the background. End it with [Room.Close].
func (r *Room) Start(ctx context.Context) {
	w := &r.worker
	w.begin.Do(func() {
		// What is under way when a stop begins gets time to end.
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		w.cut = cut
		w.loop.Go(func() {
			tick := time.NewTicker(r.every)
			defer tick.Stop()
			for {
				r.pass(run)
				select {
				case <-w.quit:
					return
				case <-tick.C:
				}
			}
		})
	})
}

// Close begins nothing more, waits for the deliveries under way, cuts those that take too long, and gives the claims back so that another instance goes on at
// once. It may be called more than once, and without Start.
func (r *Room) Close() {
	w := &r.worker
	w.end.Do(func() { close(w.quit) })
	if w.cut == nil {
		return
	}
	late := time.AfterFunc(closePatience, w.cut)
	defer late.Stop()
	w.loop.Wait()
	w.runs.Wait()
	w.cut()
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	if err := r.release(ctx); err != nil {
		r.log.Warn("claims of audit sinks were not given back; another instance takes them over in a minute", "cause", err)
	}
}

// pass looks where the sinks stand and has those sent to that lack something.
func (r *Room) pass(ctx context.Context) {
	var list []State
	var now time.Time
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		now = tx.Now()
		list, err = states(tx)
		return err
	})
	if err != nil {
		r.moan(ctx, "it cannot be seen where the audit sinks stand; what they lack waits", err)
		return
	}
	r.seen.saw(list)
	for _, s := range list {
		if !s.Enabled || s.Behind <= 0 || now.Before(s.NextAt) || s.holder != r.holder && now.Before(s.until) && !s.until.After(now.Add(beyond*r.claim)) || !r.worker.take(s.ID) {
			continue
		}
		r.worker.runs.Go(func() {
			defer r.worker.give(s.ID)
			if err := r.run(ctx, s); err != nil {
				r.moan(ctx, "an audit sink is not served at the moment; what it lacks waits", err)
			}
		})
	}
}

// take reserves a sink for one run at a time.
func (w *worker) take(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[id] {
		return false
	}
	w.running[id] = true
	return true
}

func (w *worker) give(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, id)
}

func (w *worker) claimOf(id string) (held, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, ok := w.held[id]
	return h, ok
}

func (w *worker) keep(id string, h held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[id] = h
}

func (w *worker) drop(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.held, id)
}

func (r *Room) moan(ctx context.Context, text string, err error) {
	r.worker.mu.Lock()
	defer r.worker.mu.Unlock()
	if ctx.Err() == nil && time.Since(r.worker.moaned) >= complainEvery {
		r.worker.moaned = time.Now()
		r.log.Error(text, "cause", err)
	}
}

var (
	// errTaken says that another instance has the claim, or that the sink was deleted, paused or changed.
	errTaken = errors.New("sink: another instance serves it, or it was changed")
)

// run sends batch after batch until the sink has everything, or one fails.
func (r *Room) run(ctx context.Context, s State) error {
	h, mine := r.worker.claimOf(s.ID)
	if !mine || h.epoch != s.epoch {
		begun := time.Now() // before the claim is written, so that it ends here no later than for others
		epoch, err := r.takeOver(ctx, s)
		if errors.Is(err, errTaken) {
			return nil
		}
		if err != nil {
			return err
		}
		h = held{epoch, begun}
		r.worker.keep(s.ID, h)
	}
	for position := s.Position; ; {
		select {
		case <-r.worker.quit:
			return nil
		default:
		}
		more, next, err := r.one(ctx, s, h, position)
		if err != nil {
			r.worker.drop(s.ID)
			if errors.Is(err, errTaken) {
				err = nil
			}
			return err
		}
		if !more {
			return nil
		}
		position = next
		h, _ = r.worker.claimOf(s.ID)
	}
}

// one sends one batch from a position on.
func (r *Room) one(ctx context.Context, s State, h held, position int64) (more bool, next int64, err error) {
	p, revision, err := r.load(ctx, s.ID)
	if err != nil {
		return false, 0, err
	}
	switch {
	case !p.sink.Enabled:
		return false, 0, errTaken
	case p.sink.Carries == Checkpoints:
		c, err := r.audit.Latest(ctx)
		if err != nil {
			return false, 0, err
		}
		if c.Size <= position {
			return false, 0, nil
		}
		p.point, next = &c, c.Size
	default:
		if p.leaves, err = r.audit.Leaves(ctx, position, batchCount, batchBytes); err != nil || len(p.leaves) == 0 {
			return false, 0, err
		}
		next = p.leaves[len(p.leaves)-1].Index + 1
		more = true
	}
	// A process that was stopped since may have lost the claim and not know it yet; the write below would tell, but only after the sending.
	if time.Since(h.at) > r.claim-attemptTime-settleTime && time.Since(h.at) > r.claim/2 {
		begun := time.Now()
		if err := r.prolong(ctx, s.ID, h.epoch); err != nil {
			return false, 0, err
		}
		h = held{h.epoch, begun}
		r.worker.keep(s.ID, h)
	}
	v := verdict{}
	if p.secrets == nil {
		v.detail = "The sealed secrets of the sink do not open: the row was damaged or changed. Delete it, and make it anew."
	} else {
		v = r.send(ctx, p)
	}
	if ctx.Err() != nil && !v.delivered {
		return false, 0, ctx.Err() // the process ends; nothing failed
	}
	begun := time.Now()
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	if !v.delivered {
		r.seen.count(s.Kind, outcomeFailed)
		return false, 0, r.failed(settle, s.ID, h.epoch, v)
	}
	if err := r.advance(settle, p.sink, h.epoch, position, next, revision); err != nil {
		return false, 0, err
	}
	r.seen.count(s.Kind, outcomeDelivered)
	r.worker.keep(s.ID, held{h.epoch, begun})
	return more, next, nil
}

// load reads a sink as it is now. Secrets that do not open are left out.
func (r *Room) load(ctx context.Context, id string) (parcel, int64, error) {
	var p parcel
	var sealed []byte
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		p.sink, sealed, err = loadSink(tx, id, "")
		return err
	})
	if fault.KindOf(err) == fault.NotFound {
		return parcel{}, 0, errTaken
	}
	if err != nil {
		return parcel{}, 0, err
	}
	secrets, err := r.open(p.sink, sealed)
	if err != nil {
		r.moan(ctx, "the secrets of an audit sink do not open; nothing is sent there", err)
		return p, p.sink.Revision, nil
	}
	p.secrets = secrets
	return p, p.sink.Revision, nil
}

// takeOver claims a sink, if nobody has claimed it since it was looked at.
func (r *Room) takeOver(ctx context.Context, s State) (epoch int64, err error) {
	err = r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		now := tx.Now()
		n, err := tx.Exec(`UPDATE audit_sink_cursors SET holder = $1, epoch = epoch + 1, until = $2 WHERE sink_id = $3 AND epoch = $4 AND position = $5 AND (holder = $1 OR until <= $6 OR until > $7)`,
			r.holder, store.TimeOf(now.Add(r.claim)), s.ID, s.epoch, s.Position, store.TimeOf(now), store.TimeOf(now.Add(beyond*r.claim)))
		if err == nil && n != 1 {
			err = errTaken
		}
		return err
	})
	return s.epoch + 1, err
}

// prolong has a claim last on, if it is still there.
func (r *Room) prolong(ctx context.Context, id string, epoch int64) error {
	return r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		n, err := tx.Exec(`UPDATE audit_sink_cursors SET until = $1 WHERE sink_id = $2 AND holder = $3 AND epoch = $4`, store.TimeOf(tx.Now().Add(r.claim)), id, r.holder, epoch)
		if err == nil && n != 1 {
			err = errTaken
		}
		return err
	})
}

// advance moves the cursor past what the receiver took, if the claim still holds, and prolongs it. A sink that was changed meanwhile is read anew: the error is
// errTaken, though what was sent counts.
func (r *Room) advance(ctx context.Context, s Sink, epoch, from, to, revision int64) error {
	var now int64
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		next := store.Time(0)
		if s.Carries == Checkpoints {
			next = store.TimeOf(tx.Now().Add(time.Duration(s.Every) * time.Second))
		}
		n, err := tx.Exec(`UPDATE audit_sink_cursors SET position = $1, until = $2, failures = 0, detail = '', next_at = $3, sent_at = $4 WHERE sink_id = $5 AND holder = $6 AND epoch = $7 AND position = $8`,
			to, store.TimeOf(tx.Now().Add(r.claim)), next, store.TimeOf(tx.Now()), s.ID, r.holder, epoch, from)
		if err != nil {
			return err
		}
		if n != 1 {
			return errTaken
		}
		return tx.Get(&now, `SELECT revision FROM audit_sinks WHERE id = $1`, s.ID)
	})
	if err == nil && now != revision {
		err = errTaken
	}
	return err
}

// failed says when the sink is tried again and gives the claim back: another instance may reach it.
func (r *Room) failed(ctx context.Context, id string, epoch int64, v verdict) error {
	r.worker.drop(id)
	var failures int64
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		if err := tx.Get(&failures, `SELECT failures FROM audit_sink_cursors WHERE sink_id = $1 AND holder = $2 AND epoch = $3`, id, r.holder, epoch); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return errTaken
			}
			return err
		}
		failures++
		wait := max(backoff(failures, rand.Float64()), v.after)
		_, err := tx.Exec(`UPDATE audit_sink_cursors SET holder = '', until = 0, failures = $1, next_at = $2, detail = $3 WHERE sink_id = $4 AND holder = $5 AND epoch = $6`,
			failures, store.TimeOf(tx.Now().Add(wait)), v.detail, id, r.holder, epoch)
		return err
	})
	if err == nil && failures == 1 {
		r.log.Warn("an audit sink did not take what was sent; it is tried again, and nothing is left out", "sink", id, "detail", v.detail)
	}
	return err
}

// backoff is how long to wait after the n-th failure, from 1: twice as long as before, at most five minutes, with up to a fifth more or less.
func backoff(n int64, random float64) time.Duration {
	d := backoffFirst
	for i := int64(1); i < n && d < backoffMost; i++ {
		d *= 2
	}
	return time.Duration(float64(min(d, backoffMost)) * (0.8 + 0.4*random))
}

// release gives back all claims of this instance.
func (r *Room) release(ctx context.Context) error {
	r.worker.mu.Lock()
	n := len(r.worker.held)
	clear(r.worker.held)
	r.worker.mu.Unlock()
	if n == 0 {
		return nil
	}
	return r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE audit_sink_cursors SET holder = '', until = 0 WHERE holder = $1`, r.holder)
		return err
	})
}
