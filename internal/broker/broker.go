// Package broker holds the doors through which credentials are lent. This one is the LLM proxy under /v1.
//
// Promise: a request's body and an answer's body pass byte for byte and unbuffered; no credential of the caller goes upstream and none of
// ours goes to the caller; the intent of each attempt is durable before a byte leaves; a failure before the answer's first byte goes on to
// the next account of the train, after it never.
//
// Limits: the request body is held in memory once (bounded by BodyLimit each and by [MemoryBudget] together) until the upstream answers,
// because fail-over needs it and because Go's transport may cut a stream whose upstream answers before the body was read
// (golang/go #40747, #57786).
//
// Invariants: an error that we make has Anthropic's shape and says what to do next; no upstream or database text of a failure reaches a
// client except the upstream's own answer; the proxy follows no redirect.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/relay"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// MemoryBudget bounds the bytes of all request bodies that are held at one moment.
const MemoryBudget = 512 << 20

// Config is what a broker is made of.
type Config struct {
	Trains   *train.Room
	Identity *identity.Room
	// Transport sends requests upstream; the guarded transport of package outbound.
	Transport http.RoundTripper
	// Routes returns the transport of accounts that go out by a way of their own; without it they are refused.
	Routes func(*outbound.Route) http.RoundTripper
	Log    *slog.Logger
	// BodyLimit is the largest request body in bytes; 0 means 32 MiB.
	BodyLimit int64
	// NoClientAuth lends without a client key to the train that the request or DefaultTrain names. The caller of New has made sure that
	// only this machine can connect, or that the operator insisted.
	NoClientAuth bool
	DefaultTrain string
	// ClientIP tells whose address a request has; nil means the peer's.
	ClientIP func(*http.Request) string
	// Secure says that clients reach this instance over TLS, also where somebody before it ends that.
	Secure bool
	// Relay has the people of trains told what happens there; nil tells nobody.
	Relay *relay.Room
	// Contents keeps what agents are asked and answer where a train wants that; nil keeps nothing.
	Contents *contents.Room
	// MCP knows the servers under /mcp; without it none is served. Admit refuses a caller there who asks too often; nil admits all.
	MCP   *mcp.Room
	Admit func(context.Context, identity.Caller) error
	// PublicURL is where clients reach this instance; nil means where they say that they do.
	PublicURL *url.URL
	// Closed is the answer to every request of an instance that lends nothing, which needs no room and no transport; nil lends.
	Closed error
}

// Broker is the handler of /v1.
type Broker struct {
	trains       *train.Room
	identity     *identity.Room
	transport    http.RoundTripper
	routes       func(*outbound.Route) http.RoundTripper
	log          *slog.Logger
	bodyLimit    int64
	noAuth       bool
	defaultTrain string
	clientIP     func(*http.Request) string
	secure       bool
	relay        *relay.Room
	contents     *contents.Room
	mcp          *mcp.Room
	admit        func(context.Context, identity.Caller) error
	publicURL    *url.URL
	closed       error

	draining atomic.Bool
	inFlight atomic.Int64
	refused  map[string]*atomic.Int64 // by code; not changed after New
	bodies   bodyStore
}

// New returns the broker.
func New(cfg Config) (*Broker, error) {
	if cfg.Closed == nil && (cfg.Trains == nil || cfg.Identity == nil || cfg.Transport == nil) {
		return nil, errors.New("broker: trains, identity and a transport are required")
	}
	b := &Broker{
		trains: cfg.Trains, identity: cfg.Identity, transport: cfg.Transport, routes: cfg.Routes, log: cfg.Log, bodyLimit: cfg.BodyLimit,
		noAuth: cfg.NoClientAuth, defaultTrain: cfg.DefaultTrain, clientIP: cfg.ClientIP, secure: cfg.Secure, relay: cfg.Relay, contents: cfg.Contents, mcp: cfg.MCP, admit: cfg.Admit, publicURL: cfg.PublicURL, closed: cfg.Closed,
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.bodyLimit <= 0 {
		b.bodyLimit = 32 << 20
	}
	if b.defaultTrain == "" {
		b.defaultTrain = "default"
	}
	if b.clientIP == nil {
		b.clientIP = peerIP
	}
	b.bodies.budget = MemoryBudget
	b.refused = map[string]*atomic.Int64{otherCode: {}}
	for _, c := range fault.Codes() {
		b.refused[c.Name] = new(atomic.Int64)
	}
	return b, nil
}

// Drain makes every new request fail with an answer that a client retries elsewhere. Requests under way go on.
func (b *Broker) Drain() { b.draining.Store(true) }

// InFlight returns how many requests are under way.
func (b *Broker) InFlight() int64 { return b.inFlight.Load() }

// otherCode stands for codes that are not in the table of package fault.
const otherCode = "other"

// Refusals returns how many requests were answered with an error of our own since the start, by its code.
func (b *Broker) Refusals() map[string]int64 {
	out := make(map[string]int64, len(b.refused))
	for code, n := range b.refused {
		out[code] = n.Load()
	}
	return out
}

// BodyBytes returns how much of [MemoryBudget] the bodies of requests under way hold.
func (b *Broker) BodyBytes() int64 { return b.bodies.held.Load() }

func (b *Broker) countRefusal(code string) {
	n, ok := b.refused[code]
	if !ok {
		n = b.refused[otherCode]
	}
	n.Add(1)
}

// ServeHTTP serves /v1.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.inFlight.Add(1)
	defer b.inFlight.Add(-1)
	rid := store.NewID("req")
	w.Header()["X-Request-Id"] = []string{rid}
	if err := b.serve(w, r, rid); err != nil {
		b.fail(w, r, rid, err)
	}
}

// serve answers the request, or returns an error when nothing was answered.
func (b *Broker) serve(w http.ResponseWriter, r *http.Request, rid string) error {
	if b.draining.Load() {
		return fault.New(fault.Unavailable, "draining", "This Signalbox instance is shutting down. Send the request again: another instance, or this one after its restart, will serve it.").After(1)
	}
	if b.closed != nil {
		return b.closed
	}
	on, err := checkRoute(r)
	if err != nil {
		return err
	}
	caller, err := b.caller(r, rid)
	if err != nil {
		return err
	}
	if compressed(r.Header) {
		return fault.New(fault.UnsupportedMedia, "unsupported_media", "The request body is compressed, so Signalbox cannot see which model and which files it names. Send it without Content-Encoding.")
	}
	if on.kind != "" {
		return b.objects(w, r, rid, caller, on)
	}
	body, err := b.bodies.read(w, r, b.bodyLimit)
	if err != nil {
		return err
	}
	defer body.release()
	want := train.Want{
		Train: trainHeader(r.Header), Account: r.Header.Get("MSL-Account"), Method: r.Method, Path: r.URL.Path, BodyBytes: int64(body.len()),
		Session: sessionHeader(r.Header),
	}
	if want.Model, want.MaxTokens, err = topLevel(body.bytes()); err != nil {
		return err
	}
	if err := b.pin(r.Context(), caller, &want, body.bytes()); err != nil {
		return err
	}
	return b.refusedTo(caller, b.forward(w, r, caller, want, body))
}

// caller finds out who asks, from memory.
func (b *Broker) caller(r *http.Request, rid string) (identity.Caller, error) {
	return b.callerWith(r, rid, b.authenticate)
}

func (b *Broker) callerWith(r *http.Request, rid string, authenticate func(*http.Request) (identity.Caller, error)) (identity.Caller, error) {
	ip := b.clientIP(r)
	caller, err := authenticate(r)
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = b.identity.Refuse(r.Context(), ip, identity.FailedKey, err)
		}
		return identity.Caller{}, err
	}
	caller.RequestID, caller.IP, caller.UserAgent = rid, ip, r.UserAgent()
	return caller, nil
}

func (b *Broker) authenticate(r *http.Request) (identity.Caller, error) {
	keys := clientKeys(r.Header)
	if len(keys) == 0 {
		if b.noAuth {
			name := trainHeader(r.Header)
			if name == "" {
				name = b.defaultTrain
			}
			return b.trains.Keyless(name)
		}
		return identity.Caller{}, unauthenticated("No Signalbox client key came with the request. Send one as \"Authorization: Bearer sbx_live_…\" or as x-api-key; signalbox connect claude-code prints the settings, signalbox key issue makes a key.")
	}
	return b.known(keys)
}

// known is the caller by the first of the keys that is one.
func (b *Broker) known(keys []string) (identity.Caller, error) {
	var first error
	for _, key := range keys {
		caller, err := b.identity.Client(key)
		if err == nil {
			return caller, nil
		}
		if first == nil {
			first = err
		}
	}
	return identity.Caller{}, first
}

func unauthenticated(detail string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", detail)
}

func (b *Broker) logFailure(ctx context.Context, r *http.Request, rid string, f *fault.Error) {
	level := slog.LevelInfo
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		level = slog.LevelWarn
	}
	args := []any{"request_id", rid, "method", r.Method, "path", logPath(r), "code", f.Code, "status", statusOf(f)}
	if cause := errors.Unwrap(f); cause != nil {
		args = append(args, "cause", cause.Error())
	}
	b.log.Log(ctx, level, "not lent", args...)
}
