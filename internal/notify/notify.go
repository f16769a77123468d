// Package notify tells people what other rooms have to say: an outbox in the database, and delivery to Slack, to webhooks and by e-mail.
//
// Promise: a message that [Enqueue] stored is there if and only if the act of its transaction is, and is delivered at least once to every
// channel that wants it, or shows as failed and is on record as that after 24 hours. Of several instances on one database, one delivers.
// A receiver that hangs, refuses or floods holds up its own channel alone. What a channel keeps secret (an address that is a password in
// itself, a signing secret, the password of a mail server) is sealed, is in no answer, and is sent to no other place than the one that it
// was given for.
//
// Limits: a crash, or a database that is away, between a delivery and its bookkeeping makes it happen again, with the same id; a process
// that is stopped for longer than a claim lasts can do the same. There is no order among deliveries. Whether a mail that a server took
// reaches anybody is not known here. Messages are kept for 30 days.
//
// Invariants: no network inside a transaction; every delivery is claimed by a row with an epoch and the database's time before it is tried,
// and settled only by the holder of that epoch; only words of our own say why a delivery failed.
package notify

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] is made of. DB and Ring are required.
type Config struct {
	DB   *store.DB
	Ring *keyring.Ring
	// Policy and Outbound guard every connection; the zero values allow what is public and encrypted.
	Policy   outbound.Policy
	Outbound outbound.Options
	// Instance names this process in the claims; it need not be unique.
	Instance string
	// Every is how often this instance looks for what is due; default 2 s. Messages of its own go out at once.
	Every time.Duration
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
	// Clock is the time that receivers are told; nil means the wall clock. What is due is decided by the database's time.
	Clock func() time.Time
}

const (
	defaultEvery = 2 * time.Second
	// attemptTime bounds one delivery, from the dial to the answer.
	attemptTime = 20 * time.Second
	// headerTime bounds the wait for the beginning of an answer.
	headerTime = 10 * time.Second
)

// Room holds the channels and delivers. Make it with [New] before the database is started, begin with [Room.Start], end with [Room.Close].
type Room struct {
	db     *store.DB
	ring   *keyring.Ring
	log    *slog.Logger
	now    func() time.Time
	every  time.Duration
	holder string

	policy outbound.Policy
	dialer *outbound.Dialer
	http   *http.Client
	roots  *x509.CertPool

	worker worker
	tally  tally
}

// New returns a room. It delivers nothing before [Room.Start].
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Ring == nil {
		return nil, errors.New("notify: a database and a keyring are required")
	}
	r := &Room{
		db: cfg.DB, ring: cfg.Ring, log: cfg.Log, now: cfg.Clock, every: cfg.Every, holder: store.NewID("ins"),
		policy: cfg.Policy, dialer: outbound.NewDialer(cfg.Policy, cfg.Outbound), roots: cfg.Outbound.RootCAs,
	}
	if cfg.Instance != "" {
		r.holder = cfg.Instance + "/" + r.holder // no two processes share it, whatever they are called
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.every <= 0 {
		r.every = defaultEvery
	}
	options := cfg.Outbound
	options.Timeout, options.HeaderTimeout = attemptTime, headerTime
	r.http = outbound.NewClient(cfg.Policy, options)
	r.worker.prepare()
	cfg.DB.Subscribe(func(_ context.Context, changes []store.Change) error {
		for _, c := range changes {
			if c.Topic == store.TopicNotify || c.Topic == store.TopicReset {
				r.worker.nudge()
				break
			}
		}
		return nil
	})
	return r, nil
}

// Caller is who acts, an identity.Caller: it names itself in the record. Whether it may act is asked at the door.
type Caller interface {
	Event(store.Action, store.Target) store.Event
}

// tally counts what became of the attempts of this instance, and remembers what a pass saw.
type tally struct {
	mu     sync.Mutex
	counts map[Attempts]int64
	oldest time.Time
}

// Attempts names a count: the kind of channel and how an attempt ended, which is delivered, retried or failed.
type Attempts struct {
	Channel ChannelKind
	Outcome string
}

func (t *tally) count(kind ChannelKind, outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[Attempts]int64{}
	}
	t.counts[Attempts{kind, outcome}]++
}

func (t *tally) saw(oldest time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oldest = oldest
}

// Attempts returns how often attempts of this instance ended in which way.
func (r *Room) Attempts() map[Attempts]int64 {
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	out := map[Attempts]int64{}
	for _, row := range ChannelKinds() {
		for _, outcome := range []string{outcomeDelivered, outcomeRetried, outcomeFailed} {
			at := Attempts{row.Kind, outcome}
			out[at] = r.tally.counts[at]
		}
	}
	return out
}

// OldestWaiting returns when the oldest message that still waits for an enabled channel was stored, by any instance, as the last look at
// the database saw it; zero when none waits.
func (r *Room) OldestWaiting() time.Time {
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	return r.tally.oldest
}
