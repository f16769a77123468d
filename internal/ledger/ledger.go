// Package ledger adds up what was used: requests and tokens by hour, train, account, client key, person and model, read from the audit log.
//
// Promise: what it tells is what the log says, but for the limits below, and no record counts twice: the sums move in one transaction with the place in the log up to which they were made, so that neither a
// crash nor a second instance loses a record or counts it twice. A request counts in the hour in which it was lent for. An intent without an outcome is under way
// for 15 minutes and then unknown, as the log itself shows it. What was used stays named by what it was last called, also when that is gone.
//
// Limits: it is a second or two behind the log, and says how many records. Hours, days and months are those of UTC. What failed without a word of its cost counts
// under no model, since nobody confirmed its name; nor does what has no answer under a name that neither an answer nor the table of prices knows. What tokens cost is told at the prices of today (package price). An outcome that comes more than a day after its intent, or before it (of instances whose clocks differ), is not counted; that
// one stays unknown.
//
// Invariants: everything here is made anew from the log when its form changes or the log is another one, by the hash of the last leaf that was added up; nothing but the follower writes it; it is
// never in the way of a request.
package ledger

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] is made of. DB, Audit, Identity and Prices are required.
type Config struct {
	DB       *store.DB
	Audit    *audit.Log
	Identity *identity.Room
	// Prices tell what tokens cost.
	Prices *price.Table
	// Instance names this process in the claim.
	Instance string
	Log      *slog.Logger
	// Every is the time between two looks at the log; 0 means half a second. Claim is how long the claim of an instance that is gone keeps others away; 0 means five.
	Every, Claim time.Duration
	// Chunk is how many records one transaction adds; 0 means 1000.
	Chunk int
}

const (
	followEvery = 500 * time.Millisecond
	claimFor    = 5 * time.Second
)

// Room keeps the sums. Make it with [New].
type Room struct {
	db       *store.DB
	audit    *audit.Log
	identity *identity.Room
	prices   *price.Table
	holder   string
	log      *slog.Logger
	every    time.Duration
	claim    time.Duration
	chunk    int

	mu       sync.Mutex // held during a pass; guards what follows
	place    place
	memory   memory
	swept    time.Time
	mustLook bool

	begin, end sync.Once
	cut        func()
	loops      sync.WaitGroup
}

// New returns a room that does not follow the log yet.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Audit == nil || cfg.Identity == nil || cfg.Prices == nil {
		return nil, errors.New("ledger: a database, the audit log, people and prices are required")
	}
	r := &Room{
		db: cfg.DB, audit: cfg.Audit, identity: cfg.Identity, prices: cfg.Prices, holder: cfg.Instance + "/" + store.NewID("ins"), log: cfg.Log, every: cfg.Every, claim: cfg.Claim, chunk: cfg.Chunk, mustLook: true,
	}
	if r.every <= 0 {
		r.every = followEvery
	}
	if r.claim <= 0 {
		r.claim = claimFor
	}
	if r.chunk <= 0 {
		r.chunk = chunkLeaves
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r, nil
}
