// Package relay has the people of a train told what its agents are asked and what they answer, where that is switched on, and that requests failed.
//
// Promise: it is in no request's way. What a request does for it is a look into memory, and where content is told the reading of the answer as it passes; all else happens
// beside the requests, in bounded memory. What does not fit is dropped, and the number of what was dropped is told. What is told holds neither the credential that was lent nor the
// client key that asked, nor anything that looks like a secret.
//
// Limits: a process that dies takes with it what was not stored yet, at most what its requests were asked in its last moments. What looks like a secret is a guess ([stray.Redact]). A
// prompt that is sent a second time within ten minutes with the same key, in the same place of a conversation, is told once. Of an agent that calls tools the first answer to a
// prompt and the last are told, and in between only the names of the tools.
//
// Invariants: without a train that wants it, nothing is read and nothing kept; what was said is written nowhere but sealed, and never logged.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] is made of. DB and Notify are required.
type Config struct {
	DB     *store.DB
	Notify *notify.Room
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
}

const (
	// queueMost is how much work may wait, and heldMost how many bytes of requests' bodies.
	queueMost = 1024
	heldMost  = 32 << 20
	// batchMost is how many are stored at once, and gather how long the first of them waits for others: a commit for each would be felt by the requests.
	batchMost = 50
	gather    = time.Second
	// tries is how often storing is tried while the database is away, patience apart.
	tries    = 3
	patience = 2 * time.Second
	// failuresEvery is how often it is looked whether failures are to be told, and failuresWindow how often those of a train are.
	failuresEvery  = 2 * time.Second
	failuresWindow = 5*time.Minute + 15*time.Second // more than what is told alike is kept back for
	// codesMost bounds the kinds of failures of a train that are counted apart.
	codesMost = 20
	// closePatience is how long the end of the process waits for what is being stored.
	closePatience = 3 * time.Second
)

// Room knows which trains want what, and tells. Make it with [New] before the database is started, begin with [Room.Start], end with [Room.Close]. A nil Room tells nothing.
type Room struct {
	db     *store.DB
	notify *notify.Room
	log    *slog.Logger

	wants atomic.Pointer[map[string]notify.Wants]
	queue chan job
	held  atomic.Int64 // bytes of bodies in the queue
	lost  atomic.Int64 // since the start

	mu       sync.Mutex
	missed   map[string]int64 // lost and not told yet, by train
	failures map[string]*failures

	begin, end sync.Once
	quit       chan struct{}
	cut        context.CancelFunc
	done       sync.WaitGroup
	moaned     time.Time
}

// New returns a room that follows the change feed. It tells nothing before [Room.Start].
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Notify == nil {
		return nil, errors.New("relay: a database and a notify room are required")
	}
	r := &Room{db: cfg.DB, notify: cfg.Notify, log: cfg.Log, queue: make(chan job, queueMost), missed: map[string]int64{}, failures: map[string]*failures{}, quit: make(chan struct{})}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.wants.Store(&map[string]notify.Wants{})
	cfg.DB.Subscribe(r.follow)
	return r, nil
}

// follow learns which trains want what. The channel of a train changes with its train.
func (r *Room) follow(ctx context.Context, changes []store.Change) error {
	var ids []string
	seen := map[string]bool{}
	for _, c := range changes {
		switch {
		case c.Topic == store.TopicReset:
			return r.learn(ctx, nil)
		case c.Topic == store.TopicTrain && !seen[c.Subject]:
			seen[c.Subject] = true
			ids = append(ids, c.Subject)
		}
	}
	const chunk = 500
	for len(ids) > 0 {
		n := min(len(ids), chunk)
		if err := r.learn(ctx, ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// learn reads what trains want; nil means all.
func (r *Room) learn(ctx context.Context, ids []string) error {
	var news map[string]notify.Wants
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		news, err = notify.Wanting(tx, ids)
		return err
	}); err != nil {
		return err
	}
	if ids != nil {
		before := *r.wants.Load()
		changed := len(news) > 0
		for _, id := range ids {
			_, had := before[id]
			changed = changed || had
		}
		if !changed {
			return nil
		}
		next := maps.Clone(before)
		for _, id := range ids {
			delete(next, id)
		}
		maps.Copy(next, news)
		news = next
	}
	r.wants.Store(&news)
	return nil
}

// want is what a train wants, from memory.
func (r *Room) want(train string) notify.Wants {
	if r == nil || train == "" {
		return notify.Wants{}
	}
	return (*r.wants.Load())[train]
}

// Lost returns how many conversations of this instance were dropped since the start, because too many waited or because they could not be stored.
func (r *Room) Lost() int64 { return r.lost.Load() }

// Start begins to tell.
func (r *Room) Start(ctx context.Context) {
	r.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.cut = cut
		r.done.Go(func() { r.work(run) })
	})
}

// Close stores what waits and ends. It may be called more than once, and without Start.
func (r *Room) Close() {
	r.end.Do(func() { close(r.quit) })
	if r.cut == nil {
		return
	}
	late := time.AfterFunc(closePatience, r.cut)
	defer late.Stop()
	r.done.Wait()
	r.cut()
}

// job is a request that was asked, or one that was answered.
type job struct {
	tap  *Tap
	body []byte
	free func()
}

// work takes jobs in their order: what a tap was asked is read before its end is told.
func (r *Room) work(ctx context.Context) {
	tick := time.NewTicker(failuresEvery)
	defer tick.Stop()
	var batch []notify.Telling
	full := time.NewTimer(time.Hour)
	full.Stop()
	store := func() {
		full.Stop()
		if len(batch) > 0 {
			r.store(ctx, batch)
			batch = nil
		}
	}
	for {
		empty := len(batch) == 0
		select {
		case j := <-r.queue:
			batch = r.take(batch, j)
		case <-tick.C:
			batch = r.tellFailures(batch, time.Now())
		case <-full.C:
			store()
		case <-r.quit:
			for len(r.queue) > 0 {
				batch = r.take(batch, <-r.queue)
			}
			batch = r.tellFailures(batch, time.Now().Add(failuresWindow))
			store()
			return
		}
		switch {
		case len(batch) >= batchMost:
			store()
		case empty && len(batch) > 0:
			full.Reset(gather)
		}
	}
}

func (r *Room) take(batch []notify.Telling, j job) []notify.Telling {
	if j.free != nil {
		j.tap.read(j.body)
		r.held.Add(-int64(len(j.body)))
		j.free()
		return batch
	}
	t, ok := j.tap.telling()
	if !ok {
		return batch
	}
	t.Lost = r.missing(t.TrainID)
	return append(batch, t)
}

// missing takes the number of a train's conversations that were lost and not told yet.
func (r *Room) missing(train string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.missed[train]
	delete(r.missed, train)
	return n
}

// lose counts what could not be told.
func (r *Room) lose(train string, n int64) {
	r.lost.Add(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed[train] += n
}

// store stores a batch, and tries again while the database is away for a little.
func (r *Room) store(ctx context.Context, batch []notify.Telling) {
	var err error
	for n := range tries {
		if err = r.notify.Tell(ctx, batch); err == nil {
			return
		}
		if n == tries-1 || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-r.quit:
		case <-time.After(patience):
		}
	}
	for _, t := range batch {
		if t.Talk != nil {
			r.lose(t.TrainID, 1)
			r.mu.Lock()
			r.missed[t.TrainID] += t.Lost // counted as lost before
			r.mu.Unlock()
		}
	}
	if time.Since(r.moaned) >= time.Minute {
		r.moaned = time.Now()
		r.log.Error("what happened on trains could not be stored for those who are told; the number of it is told later", "messages", len(batch), "cause", err)
	}
}
