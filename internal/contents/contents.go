// Package contents keeps what the agents of a train are asked and what they are answered, where that train's people have switched it on; else nothing is kept.
//
// Promise: what is kept is sealed before it is stored, bound to its request and its train, no larger than the train's settings say and deleted when they say; reading it is a
// permission of its own and goes on record. Keeping is in no request's way: a request copies what passes, up to a bound, and the rest happens beside the requests, in bounded
// memory. What does not fit there is not kept, and counted.
//
// Limits: a process that dies takes with it what was not stored yet, which is what ended in its last second. The credential that was lent and the client key that asked are
// taken out before anything is stored, where they stand in one piece, and what looks like a secret when it is read, also where an answer's stream tells it in pieces; the last is a guess ([stray.Cuts]).
// Of a text that is too long its beginning and its end are kept, and of an event that is cut nothing is shown.
//
// Invariants: without a train that wants it, nothing is copied; what is kept is written nowhere but sealed, and never logged.
package contents

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] is made of. DB and Ring are required.
type Config struct {
	DB   *store.DB
	Ring *keyring.Ring
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
}

const (
	// heldMost bounds what an instance holds of requests that are under way or not stored yet, and queueMost how many of these there are.
	heldMost  = 64 << 20
	queueMost = 1024
	// batchMost and batchBytes bound what is stored at once, and gather is how long the first of them waits for others.
	batchMost  = 50
	batchBytes = 8 << 20
	gather     = time.Second
	// tries is how often storing is tried while the database is away, patience apart.
	tries    = 3
	patience = 2 * time.Second
	// sweepEvery is how often what is past its time, or too much, is deleted, and sweepMost how much of it in one transaction.
	sweepEvery = 5 * time.Minute
	sweepMost  = 200
	// sweepBytes bounds what one transaction deletes as well, and sweepPause is the time between two of them: pages that are freed are overwritten.
	sweepBytes = 4 << 20
	sweepPause = 20 * time.Millisecond
	// growMost is how much a train may grow before it is swept out of turn.
	growMost = 64 << 20
	// closePatience is how long the end of the process waits for what is being stored.
	closePatience = 3 * time.Second
)

// ringPurpose is the purpose of the keys under which contents are sealed.
const ringPurpose = "request-contents"

// Room keeps. Make it with [New] before the database is started, begin with [Room.Start], end with [Room.Close]. A nil Room keeps nothing.
type Room struct {
	db   *store.DB
	ring *keyring.Ring
	log  *slog.Logger

	wants atomic.Pointer[map[string]Settings]
	queue chan *Tap
	held  atomic.Int64
	lost  atomic.Int64

	begin, end sync.Once
	quit       chan struct{}
	wake       chan struct{}    // has everything swept soon
	since      map[string]int64 // the worker's: what trains have grown by since they were swept out of turn
	cut        context.CancelFunc
	done       sync.WaitGroup
	moaned     time.Time // the worker's
}

// New returns a room that follows the change feed. It keeps nothing before [Room.Start].
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Ring == nil {
		return nil, errors.New("contents: a database and a keyring are required")
	}
	r := &Room{db: cfg.DB, ring: cfg.Ring, log: cfg.Log, queue: make(chan *Tap, queueMost), quit: make(chan struct{}), wake: make(chan struct{}, 1), since: map[string]int64{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.wants.Store(&map[string]Settings{})
	cfg.DB.Subscribe(r.follow)
	return r, nil
}

// Sealed lists what this room keeps under data keys.
func Sealed() []keyring.Place {
	return []keyring.Place{keyring.Sealed("request_contents", "sealed", ringPurpose, "id", "", "train_id", func(row keyring.Row) (secret.AAD, error) { return aad(row.ID, row.Text), nil })}
}

func aad(request, train string) secret.AAD {
	return secret.AAD{Table: "request_contents", ID: request, Field: "of " + train, Version: 1}
}

// follow learns which trains want what. The settings of a train change with its train.
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
	var news map[string]Settings
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		news, err = wanting(tx, ids)
		return err
	}); err != nil {
		return err
	}
	if ids != nil {
		next := maps.Clone(*r.wants.Load())
		for _, id := range ids {
			delete(next, id)
		}
		maps.Copy(next, news)
		news = next
	}
	r.wants.Store(&news)
	return nil
}

// Lost returns how many contents of this instance were dropped since the start, because too much waited or because they could not be stored.
func (r *Room) Lost() int64 { return r.lost.Load() }

// Start begins to keep, and to delete what is past its time.
func (r *Room) Start(ctx context.Context) {
	r.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.cut = cut
		r.done.Go(func() { r.work(run) })
		r.done.Go(func() { r.sweeps(run) })
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
