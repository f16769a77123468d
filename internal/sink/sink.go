// Package sink sends the audit log elsewhere: its records to webhooks and to syslog servers, and its signed checkpoints to webhooks, syslog servers and Slack.
//
// Promise: each sink gets every record from where it began, in the order of the log, at least once, each with its leaf index and hash; a sink of checkpoints
// gets the newest signed one at least once an interval in which it changed. A receiver that is away, hangs or refuses holds up its own sink alone and never an
// act: the log is read after it was committed. When the receiver is back, the sink goes on where it stopped. Of several instances on one database one sends.
//
// Limits: a crash between a delivery and its bookkeeping, and a process that is stopped for longer than a claim lasts, make records come again. What a syslog
// server has read and then lost is lost; what was on its way to one is not, as a batch counts once the server has closed the connection that it came on. Over
// UDP nobody knows what arrives.
//
// Invariants: no network inside a transaction; each batch is sent under a claim with an epoch, and the cursor moves only for the holder of that epoch, past what
// the receiver took and never past anything else; secrets are sealed, in no answer and no event, and sent to no other place than the one that they were given
// for; only words of our own say why something was not sent.
package sink

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
)

// Config is what a [Room] is made of. DB, Ring and Audit are required.
type Config struct {
	DB    *store.DB
	Ring  *keyring.Ring
	Audit *audit.Log
	// Policy and Outbound guard every connection; the zero values allow what is public and encrypted.
	Policy   outbound.Policy
	Outbound outbound.Options
	// Instance names this process in the claims; it need not be unique.
	Instance string
	// Every is how often this instance looks for what is new; default 1 s.
	Every time.Duration
	// Claim is how long a claim lasts without being prolonged; default 1 minute. Another instance takes over after it.
	Claim time.Duration
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
	// Clock is the time that receivers are told; nil means the wall clock. What is due is decided by the database's time.
	Clock func() time.Time
}

const (
	defaultEvery = time.Second
	defaultClaim = time.Minute
	// attemptTime bounds one delivery, from the dial to the answer, and headerTime the wait for the beginning of an answer.
	attemptTime = 20 * time.Second
	headerTime  = 10 * time.Second
)

// Room holds the sinks and sends. Make it with [New], begin with [Room.Start], end with [Room.Close].
type Room struct {
	db     *store.DB
	ring   *keyring.Ring
	audit  *audit.Log
	log    *slog.Logger
	now    func() time.Time
	every  time.Duration
	claim  time.Duration
	holder string
	host   string // as syslog servers are told it

	policy outbound.Policy
	dialer *outbound.Dialer
	http   *http.Client
	roots  *x509.CertPool

	worker worker
	seen   seen
}

// New returns a room. It sends nothing before [Room.Start].
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Ring == nil || cfg.Audit == nil {
		return nil, errors.New("sink: a database, a keyring and an audit log are required")
	}
	r := &Room{
		db: cfg.DB, ring: cfg.Ring, audit: cfg.Audit, log: cfg.Log, now: cfg.Clock, every: cfg.Every, claim: cfg.Claim, holder: store.NewID("ins"),
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
	if r.claim <= 0 {
		r.claim = defaultClaim
	}
	if name, err := os.Hostname(); err == nil {
		r.host = headerName(name, 255)
	} else {
		r.host = "-"
	}
	options := cfg.Outbound
	options.Timeout, options.HeaderTimeout = attemptTime, headerTime
	r.http = outbound.NewClient(cfg.Policy, options)
	r.worker.prepare()
	return r, nil
}

// Caller is who acts, an identity.Caller: it names itself in the record. Whether it may act is asked at the door.
type Caller interface {
	Event(store.Action, store.Target) store.Event
}

// Kind says how a sink is reached.
type Kind string

// The kinds.
const (
	Webhook Kind = "webhook"
	Slack   Kind = "slack"
	Syslog  Kind = "syslog"
)

// Carries says what a sink gets.
type Carries string

// What there is.
const (
	Records     Carries = "records"
	Checkpoints Carries = "checkpoints"
)

// The secret fields.
const (
	secretURL     = "url"
	secretSigning = "signing_secret"
	secretHeader  = "authorization"
	secretKey     = "client_key"
)

// KindRow explains one kind of sink.
type KindRow struct {
	Kind    Kind
	Meaning string
	Carries []Carries
	Secrets []SecretField
}

// SecretField is one secret field of a sink.
type SecretField struct {
	Name     string
	Required bool
	Meaning  string
}

// Kinds returns the table of sinks.
func Kinds() []KindRow { return slices.Clone(kinds[:]) }

var kinds = [...]KindRow{
	{Webhook, "a POST of lines of JSON, signed as the Standard Webhooks say", []Carries{Records, Checkpoints}, []SecretField{
		{secretURL, true, "where to POST; shown only as scheme and host, since paths and queries often hold a token"},
		{secretSigning, true, "whsec_ and 24 to 64 random bytes in base64"},
		{secretHeader, false, "the value of the header Authorization, such as Bearer and a token"},
	}},
	{Slack, "an incoming webhook of Slack, or of a service that takes the same", []Carries{Checkpoints}, []SecretField{{secretURL, true, "the address of the incoming webhook; whoever has it can post"}}},
	{Syslog, "a syslog server (RFC 5424) over TLS, TCP or UDP", []Carries{Records, Checkpoints}, []SecretField{{secretKey, false, "the PEM private key of a client certificate"}}},
}

func kindRow(k Kind) (KindRow, bool) {
	for _, row := range kinds {
		if row.Kind == k {
			return row, true
		}
	}
	return KindRow{}, false
}

// seen is what a pass of this instance saw of all sinks, and counts of what it sent.
type seen struct {
	mu     sync.Mutex
	states []State
	counts map[Batches]int64
}

// Batches names a count: the kind of sink and how sending a batch ended, delivered or failed.
type Batches struct {
	Kind    Kind
	Outcome string
}

const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed"
)

func (s *seen) count(kind Kind, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[Batches]int64{}
	}
	s.counts[Batches{kind, outcome}]++
}

// Sent returns how often this instance has sent a batch, by how that ended.
func (r *Room) Sent() map[Batches]int64 {
	r.seen.mu.Lock()
	defer r.seen.mu.Unlock()
	out := map[Batches]int64{}
	for _, row := range kinds {
		for _, outcome := range []string{outcomeDelivered, outcomeFailed} {
			out[Batches{row.Kind, outcome}] = r.seen.counts[Batches{row.Kind, outcome}]
		}
	}
	return out
}

// States returns where all sinks stood when this instance last looked, from memory.
func (r *Room) States() []State {
	r.seen.mu.Lock()
	defer r.seen.mu.Unlock()
	return slices.Clone(r.seen.states)
}

func (s *seen) saw(states []State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = states
}

// Inspect tells where the sinks of a database stand, without a room: for who looks at it from beside.
func Inspect(ctx context.Context, db *store.DB) ([]State, error) {
	var out []State
	err := db.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = states(tx)
		return err
	})
	return out, err
}
