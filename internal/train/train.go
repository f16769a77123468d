// Package train owns trains (projects whose agents use credentials), their links to credentials, the choice of an account for a request,
// cool-downs, and leases: the right, granted and recorded, to use one credential for one attempt of one request.
//
// Promise: [Room.Lend] returns a lease only after its intent is durable in the audit log, and a lease puts its secret only into a request
// to a host that the credential is bound to. Each attempt has exactly one intent and at most one outcome. A revoked or deleted key, train,
// link or credential cuts the leases that hang on it as soon as this instance hears of it, and all leases are cut when nothing has been
// heard from the database for ten seconds.
//
// Limits: the material of every linked account is held decrypted in memory, so that a warm request reads no row. An outcome that is lost
// with the process shows as unknown. Which account a train would choose is decided by what this instance knows, at most a second old; how
// full accounts are, by what upstreams said to this instance, and to others until some seconds ago. Which account a conversation is on is
// this instance's own knowledge.
//
// Invariants: what a client calls its conversation chooses among the accounts of its key's train and means nothing beside another key;
// nothing is lent on news that are older than a second; an account is found through the links of the caller's own train and
// in no other way; a cool-down belongs to a version of a credential and ends with it; a train's slug never changes, because the order of
// its accounts hangs on it.
package train

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Config is what a [Room] is made of. DB, Vault and Identity are required, and must have been made before: the room relies on identity
// having heard of a change to a key before it does.
type Config struct {
	DB       *store.DB
	Vault    *vault.Room
	Identity *identity.Room
	// Keyless lends to requests without a client key too, see [Room.Keyless]. The operator has switched client keys off.
	Keyless bool
	// Meters counts what becomes of the attempts; nil counts nothing.
	Meters Meters
	// Refresher brings fresh access tokens; nil brings none, and an access token that has ended is not lent.
	Refresher Refresher
	// Notify keeps the channels of trains; nil keeps none.
	Notify *notify.Room
	// Contents keeps what agents are asked and answer; nil keeps nothing.
	Contents *contents.Room
	// Prices are what budgets of money go by; nil for those that come with the program.
	Prices *price.Table
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
	// Clock is the time by which cool-downs and tokens end; nil means the wall clock.
	Clock func() time.Time
}

// Room is the one place where credentials are lent. Make it with [New] before the database is started, end it with [Room.Close].
type Room struct {
	db    *store.DB
	vault *vault.Room
	keys  *identity.Room
	log   *slog.Logger
	now   func() time.Time
	age   func() time.Duration
	// keyless says that client keys are switched off.
	keyless bool

	meters    Meters
	refresher Refresher
	notices   *notify.Room
	contents  *contents.Room
	lines     atomic.Pointer[board]
	// following is held while changes are taken in. The feed brings them one after the other; the lock is for whoever else looks at what
	// belongs to that alone.
	following sync.Mutex
	leases    registry
	sessions  sessions
	heardOf   heardOf
	refusals  lendRefusals
	owners    owners
	prices    *price.Table
	full      full
	presence  *presence
	nears     *nears

	closed atomic.Bool
	quit   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// New returns a room that follows the change feed of the database; it knows its trains once the database has been started.
func New(cfg Config) (*Room, error) {
	r, err := newRoom(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Vault.LendTo(r)
	cfg.DB.Subscribe(r.follow)
	r.watch()
	r.done.Go(r.writeUses)
	r.done.Go(r.shareWindows)
	r.done.Go(r.tellNears)
	r.done.Go(r.stayPresent)
	return r, nil
}

func newRoom(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Vault == nil || cfg.Identity == nil {
		return nil, errors.New("train: a database, a vault and identity are required")
	}
	r := &Room{db: cfg.DB, vault: cfg.Vault, keys: cfg.Identity, log: cfg.Log, now: cfg.Clock, age: cfg.DB.Age, keyless: cfg.Keyless, meters: cfg.Meters, refresher: cfg.Refresher, notices: cfg.Notify, contents: cfg.Contents, prices: cfg.Prices, quit: make(chan struct{})}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.meters == nil {
		r.meters = noMeters{}
	}
	if r.prices == nil {
		var err error
		if r.prices, err = price.BuiltIn(); err != nil {
			return nil, err
		}
	}
	r.presence, r.nears = newPresence(cfg.DB), newNears()
	r.lines.Store(r.emptyBoard())
	return r, nil
}

// Close ends the watchdog, writes down what was used, grants nothing more and cuts the leases that are still open; drain them before. It may be called more than once.
func (r *Room) Close() { r.Shut(errDraining()) }

// Shut is Close for a reason, which those whose leases are cut are told.
func (r *Room) Shut(why *fault.Error) {
	r.once.Do(func() {
		r.closed.Store(true)
		close(r.quit)
	})
	r.leases.cut(func(*Lease) *fault.Error { return why }) // before the wait: what was used is written down, and the database may be slow
	r.done.Wait()
	r.leases.cut(func(*Lease) *fault.Error { return why })
}
