// Package identity knows who asks: people and their groups, service accounts, the tokens of both, and the client keys of trains. It turns a bearer secret into a
// [Caller] and says what a caller may do.
//
// Promise: [Room.Client] and [Room.Token] answer from memory, without a database, and refuse garbage by its checksum before any look-up. Of
// a bearer secret only the SHA-256 is kept, of a password only the Argon2id hash; either is shown to nobody. A revocation is obeyed by this
// instance when the call that revoked returns, and by the others when the change feed brings it, within a second; [store.DB.Fresh] says
// whether the feed can be trusted, and the doors ask it. Whatever is unknown (a kind, role, scope or permission) is refused.
//
// Limits: the memory holds every key and token that is not revoked, some 300 bytes each, and every person. Expiry is compared with this
// instance's clock, revocation with the database. A last use is written within a minute, in batches, and may be lost by a crash.
//
// Invariants: at most as many active client keys as the limits say, however many are issued at once, and at most twice as many while
// replaced keys overlap; a first administrator is made only while there is none; a set-up link works once.
package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oidc"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] needs. DB is required.
type Config struct {
	DB  *store.DB
	Log *slog.Logger
	// Clock tells the time outside transactions; nil means time.Now.
	Clock func() time.Time
	// MaxKeysPerTrain bounds the active client keys of a train that sets no limit of its own; 0 means 10.
	MaxKeysPerTrain int
	// MaxKeys bounds the active client keys of all trains together; 0 means no bound.
	MaxKeys int
	// ReadOnly keeps sign-ins from changing who there is: whoever is here signs in, and single sign-on neither adds nor links anybody, nor changes
	// a role or a membership. Who would need that is refused.
	ReadOnly bool
	// FailureLimit is how many authentications from one address may fail in a minute before further failures are told to wait; 0 means 300.
	FailureLimit int
	// Ring makes the keyed hashes under which failed logins and familiar addresses are kept. Without it, as with a sealed one, nobody can sign in.
	Ring *keyring.Ring
	// PublicURL is where browsers reach this Signalbox: passkeys are bound to its host, and it is who we are in our access tokens. nil leaves passkeys
	// to http://localhost, and the tokens to a URN that the database keeps.
	PublicURL *url.URL
	// Outgoing says which outside issuers and providers of single sign-on may be called besides public ones.
	Outgoing outbound.Policy
	// RootCAs replaces the system's certificate authorities for that; nil keeps them.
	RootCAs *x509.CertPool
	// SessionLife is how long a session lasts at most, SessionIdle how long it may lie unused; 0 means 12 hours and 1 hour.
	SessionLife, SessionIdle time.Duration
	// Breached is a list of passwords that nobody may choose; nil means none.
	Breached *Breached
	// Tell hands on what people should hear of, in the transaction of the act; nil tells nobody.
	Tell func(*store.Tx, News) error
	// Spent tells what a train, a client key or a person has used in the month of the transaction: tokens, and their cost in micro-dollars. nil knows nothing, so that
	// a budget begins to count when it is set.
	Spent func(tx *store.Tx, subject string) (tokens, cost int64, err error)
	// Every is how often last uses are written that have waited for six times as long; 0 means 10 s. Failed authentications are written at
	// every sixth time.
	Every time.Duration
}

// Room holds the people and every bearer secret. Make it with [New] before the database is started, [Room.Start] it afterwards, and
// [Room.Close] it before the database is closed.
type Room struct {
	cfg    Config
	hasher hasher

	loaded   atomic.Bool
	keys     register
	tokens   register
	sessions register
	peopleMu sync.RWMutex
	people   map[string]person
	services map[string]person // service accounts, under the same lock
	emails   map[string]string // id by address
	limited  atomic.Int64      // how many people have limits
	web      webTokens
	oidc     *oidc.Client
	outgoing *http.Client

	limits *rate.Limiter

	waiting waiting
	touches touches
	guesses guesses
	failed  [len(attempts)]atomic.Int64 // since the start

	cancel context.CancelFunc
	worker sync.WaitGroup
	closed sync.Once
}

const (
	defaultKeysPerTrain = 10
	defaultFailures     = 300
	defaultEvery        = 10 * time.Second
	defaultSessionLife  = 12 * time.Hour
	defaultSessionIdle  = time.Hour
	// guessesEvery is how many rounds of the worker make one window of failed authentications.
	guessesEvery = 6
	// fetchTime bounds a call to an outside issuer, or to a provider of single sign-on.
	fetchTime = 8 * time.Second
	// closing bounds the last flush.
	closing = 5 * time.Second
)

// New returns a room that follows the changes of the database. It reads nothing yet: the memory is loaded when the database is started.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil {
		return nil, errors.New("identity: a database is needed")
	}
	if cfg.MaxKeysPerTrain < 0 || cfg.MaxKeys < 0 || cfg.Every < 0 || cfg.FailureLimit < 0 || cfg.SessionLife < 0 || cfg.SessionIdle < 0 {
		return nil, errors.New("identity: a limit cannot be negative")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxKeysPerTrain == 0 {
		cfg.MaxKeysPerTrain = defaultKeysPerTrain
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.SessionLife == 0 {
		cfg.SessionLife = defaultSessionLife
	}
	if cfg.SessionIdle == 0 {
		cfg.SessionIdle = defaultSessionIdle
	}
	if cfg.FailureLimit == 0 {
		cfg.FailureLimit = defaultFailures
	}
	limits, err := rate.New(rate.Config{DB: cfg.DB, Clock: cfg.Clock})
	if err != nil {
		return nil, err
	}
	r := &Room{cfg: cfg, limits: limits, hasher: newHasher(), people: map[string]person{}, services: map[string]person{}}
	r.keys.replace(nil)
	r.tokens.replace(nil)
	r.sessions.replace(nil)
	r.guesses.sources = map[string]*tally{}
	r.outgoing = outbound.NewClient(cfg.Outgoing, outbound.Options{Timeout: fetchTime, HeaderTimeout: fetchTime, ConnectTimeout: fetchTime / 2, RootCAs: cfg.RootCAs})
	if r.oidc, err = oidc.New(oidc.Config{HTTP: r.outgoing, CheckURL: cfg.Outgoing.CheckURL, Clock: cfg.Clock}); err != nil {
		return nil, err
	}
	cfg.DB.Subscribe(r.follow)
	return r, nil
}

// Start begins writing last uses and failed authentications in the background. It is called once.
func (r *Room) Start(ctx context.Context) error {
	if r.cancel != nil {
		return errors.New("identity: started already")
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.firstSigningKeys(ctx)
	r.worker.Go(func() { r.work(run) })
	return nil
}

func (r *Room) work(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.flushTouches(ctx, false)
		if round%guessesEvery == 0 {
			err = errors.Join(err, r.flushGuesses(ctx), r.trimLogins(ctx), r.trimSessions(ctx), r.trimChallenges(ctx), r.keepSigningKeys(ctx))
		}
		if err != nil && ctx.Err() == nil {
			// Not the error itself: it may be the database's own words. The store has logged its cause.
			r.cfg.Log.Warn("last uses or failed authentications could not be written; they wait", "code", fault.Of(err).Code)
		}
	}
}

// Flush writes the last uses and the failed authentications that wait. What cannot be written waits further.
func (r *Room) Flush(ctx context.Context) error {
	return errors.Join(r.flushTouches(ctx, true), r.flushGuesses(ctx))
}

// Close stops the worker and writes what waits. Calls after the first do nothing.
func (r *Room) Close() error {
	var err error
	r.closed.Do(func() {
		if r.cancel != nil {
			r.cancel()
		}
		r.worker.Wait()
		r.closeWebTokens()
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		err = r.Flush(ctx)
	})
	return err
}

func (r *Room) now() time.Time { return r.cfg.Clock() }
