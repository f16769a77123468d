// Package oauth keeps OAuth connections alive: it refreshes access tokens exactly once, over every process that shares the database.
//
// Promise: per credential and generation (the version of its secret) the token endpoint is called at most once, except for calls that
// certainly changed nothing and for recoveries, each of them on record before it is made. What a call brought is on disk before anything else
// happens, and is stored however long the database is away. Whoever needs a fresh token waits for the one call that is under way, in whichever
// process, for 25 seconds at most. No database connection is held during a call.
//
// Limits: a process that is stopped between its last look at its claim and the first byte of its call may call after its claim has ended; a
// recovery therefore waits another 20 seconds, and a longer stop is not covered. When the disk is full and the database away at the same
// moment, what a call brought lives in memory alone until one of them is back. Spilled pairs belong to the machine: one that goes away for good
// with the database unreachable takes them along.
//
// Invariants: the rules are one table ([Rules]), which a model test checks; a generation never decreases; a failed refresh removes and weakens
// nothing; only the provider's own refusal makes a connection need a login, and only while nothing newer is stored; an unknown state is a
// refusal.
package oauth

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Endpoint makes one call of a token endpoint. [provider.Client] does.
type Endpoint interface {
	Refresh(ctx context.Context, p provider.Provider, g provider.Grant) provider.Answer
}

// Sealer is the part of the keyring that spilled pairs need.
type Sealer interface {
	Seal(purpose string, v secret.Value, aad secret.AAD) ([]byte, error)
	Open(purpose string, sealed []byte, aad secret.AAD) (secret.Value, error)
}

// Config is what a [Room] is made of. DB, Vault, Ring, Endpoint and SpillDir are required.
type Config struct {
	DB       *store.DB
	Vault    *vault.Room
	Ring     Sealer
	Endpoint Endpoint
	// Servers knows the servers that credentials name; nil means those of the catalogue.
	Servers Servers
	// SpillDir is where fresh pairs wait, sealed, until the database has them. It is made when it is missing. Processes must not share one
	// while they run.
	SpillDir string
	// Called is told of each call of a token endpoint, with what it meant and how long it took. It must not wait.
	Called func(providerName string, v provider.Verdict, took time.Duration)
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
	// Clock is the time by which access tokens end; nil means the wall clock. What instances compare is compared in the database's time.
	Clock func() time.Time
	// At is called at each step of a refresh; an error stops this process's refreshing there, as its death would. Tests use it.
	At func(Point) error
}

// Point is a step of a refresh.
type Point string

// The points, in their order.
const (
	AtClaimed   Point = "claimed"   // the claim is stored
	AtSending   Point = "sending"   // the claim was looked at; the call comes next
	AtAnswered  Point = "answered"  // the call is over
	AtSpilled   Point = "spilled"   // the pair is on disk
	AtCommitted Point = "committed" // the pair is in the database
	AtCleared   Point = "cleared"   // the spill is gone
)

// Points returns the points in their order.
func Points() []Point {
	return []Point{AtClaimed, AtSending, AtAnswered, AtSpilled, AtCommitted, AtCleared}
}

// Room refreshes. Make it with [New] before the database is started, then [Room.Start] it and end it with [Room.Close].
type Room struct {
	db       *store.DB
	vault    *vault.Room
	ring     Sealer
	endpoint Endpoint
	servers  Servers
	spills   spillDir
	called   func(string, provider.Verdict, time.Duration)
	log      *slog.Logger
	now      func() time.Time
	at       func(Point) error
	tally    tally
	patience time.Duration
	slept    atomic.Int64 // for tests: a pause of the process that no clock of theirs can make

	// base outlives every caller: a call that was begun is brought to its end.
	base   context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	flights map[string]*flight // by credential
	quiet   map[string]quiet   // by credential: what was answered lately
	debts   map[string]*debt   // by claim: what the database does not have yet
	spare   map[string][]spill // by credential: pairs that were overtaken

	dead    atomic.Bool   // a failpoint has ended this process
	closing chan struct{} // nothing new is begun
	nudge   chan struct{} // the worker has something to do
	once    sync.Once
	flying  sync.WaitGroup
	worker  sync.WaitGroup
}

// New returns a room that follows the change feed of the database.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Vault == nil || cfg.Ring == nil || cfg.Endpoint == nil || cfg.SpillDir == "" {
		return nil, errors.New("oauth: a database, a vault, a keyring, an endpoint and a directory for spilled pairs are required")
	}
	r := &Room{db: cfg.DB, vault: cfg.Vault, ring: cfg.Ring, endpoint: cfg.Endpoint, servers: cfg.Servers, spills: spillDir{path: cfg.SpillDir, ring: cfg.Ring, changing: &sync.Mutex{}}, called: cfg.Called,
		log: cfg.Log, now: cfg.Clock, at: cfg.At, flights: map[string]*flight{}, quiet: map[string]quiet{}, debts: map[string]*debt{}, spare: map[string][]spill{},
		patience: waiterLimit, closing: make(chan struct{}), nudge: make(chan struct{}, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.called == nil {
		r.called = func(string, provider.Verdict, time.Duration) {}
	}
	if r.at == nil {
		r.at = func(Point) error { return nil }
	}
	r.base, r.cancel = context.WithCancel(context.Background())
	if err := r.spills.prepare(); err != nil {
		return nil, err
	}
	r.db.Subscribe(r.follow)
	return r, nil
}

// Start takes up what an earlier process has left on disk, and begins the background work. It must be called once, after the database was
// started.
func (r *Room) Start() error {
	left, strange, err := r.spills.list()
	if err != nil {
		return err
	}
	for _, err := range strange {
		r.log.Error("a file among the refreshed tokens cannot be read and is left alone", "cause", err)
	}
	r.mu.Lock()
	for _, s := range left {
		if s.overtaken {
			r.spare[s.credential] = append(r.spare[s.credential], s)
		} else {
			r.debts[s.claim] = &debt{spill: s, paying: make(chan struct{}, 1)}
		}
	}
	r.mu.Unlock()
	if n := len(left); n > 0 {
		r.log.Warn("refreshed tokens of an earlier run are on disk and are stored now", "count", n)
	}
	r.worker.Go(r.work)
	r.poke()
	return nil
}

// closePatience bounds the wait for calls under way: what a provider has issued must not be lost for the sake of a quick end.
const closePatience = callLimit + 2*time.Second

// Close begins nothing more, waits for the calls under way and ends the background work. It may be called more than once.
func (r *Room) Close() {
	r.once.Do(func() {
		r.mu.Lock()
		close(r.closing)
		r.mu.Unlock()
		done := make(chan struct{})
		go func() { r.flying.Wait(); close(done) }()
		patience := time.NewTimer(closePatience)
		defer patience.Stop()
		select {
		case <-done:
		case <-patience.C:
		}
		r.cancel()
		<-done
		r.worker.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, d := range r.debts {
			if d.path == "" && d.has() && !r.dead.Load() {
				r.log.Error("a refreshed token could be stored neither in the database nor on disk, and is lost with this process; the next refresh recovers or asks for a login",
					"credential", d.credential)
			}
		}
	})
}

func (r *Room) isClosing() bool {
	select {
	case <-r.closing:
		return true
	default:
		return false
	}
}

// step is called at each point. It returns an error when the process is to be dead from there on.
func (r *Room) step(p Point) error {
	if r.dead.Load() {
		return errDead
	}
	if err := r.at(p); err != nil {
		r.dead.Store(true)
		return errors.Join(errDead, err)
	}
	return nil
}

var errDead = errors.New("oauth: stopped at a failpoint")

func (r *Room) poke() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

// follow takes changes from the feed: whoever waits for another process looks again.
func (r *Room) follow(_ context.Context, changes []store.Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	poke := false
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			clear(r.quiet)
			for _, f := range r.flights {
				f.wake()
			}
			poke = true
		case store.TopicCredential:
			delete(r.quiet, c.Subject)
			if f := r.flights[c.Subject]; f != nil {
				f.wake()
			}
			poke = poke || len(r.spare[c.Subject]) > 0
		}
	}
	if poke {
		r.poke()
	}
	return nil
}

func jitter() float64 { return rand.Float64() }
