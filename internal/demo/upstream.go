// Package demo holds what `signalbox dev` and `signalbox oauth refresh-drill` ship so that a person can try Signalbox without an account anywhere:
// a fake of Anthropic's Messages API, and a hostile OAuth server ([Authority]). They are fakes that we wrote: no model is behind the API, its
// answers echo the prompt, and a token is four bytes.
//
// Promise: requests and answers have the shape of the real API (JSON, server-sent events, errors, headers), closely enough for the
// official SDKs. The model's name or a script for one key chooses how it behaves: well, slowly, with an error, overloaded in mid-stream,
// or cut off. Without a script, the same request body gets the same answer, byte for byte (headers and errors carry a fresh request id),
// so that what came through a proxy can be compared with what did not.
//
// Limits: text only, no tools, no thinking; a batch has ended when it is made, and files are kept but not read; an account keeps 500 of both and 64 MiB.
// Rate limits are told in headers but not enforced. What it records is bounded by [Options].
//
// Invariants: a key that the fake was not told is answered with 401; keys are held as hashes; recorded credentials are [secret.Value].
package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// Options configures an [Upstream].
type Options struct {
	// Keys are the API keys that are accepted, as x-api-key or as a bearer token.
	Keys []secret.Value
	// Tokens are the OAuth access tokens that are accepted: as a bearer token only, and only with the beta flag oauth-2025-04-20.
	Tokens []secret.Value
	// Keep is how many of the latest requests [Upstream.Requests] tells; 0 records none.
	Keep int
	// KeepBody is how many bytes of each recorded request's body are kept; 0 keeps none.
	KeepBody int
	// Clock tells the time for recorded requests and rate-limit headers; nil is time.Now.
	Clock func() time.Time
}

// Upstream is the fake. It is an [http.Handler]; make it with [NewUpstream]. All methods may be called at any time.
type Upstream struct {
	options Options
	server  *http.Server
	bodies  sync.Pool

	mu       sync.Mutex
	idle     *sync.Cond // no request is open
	accounts map[[sha256.Size]byte]*account
	latest   []Request // ring of at most Keep
	oldest   int
	stats    Stats
	minute   int64 // of the count below
	inMinute int
}

// account is one accepted key.
type account struct {
	oauth  bool
	until  time.Time // when an OAuth token ends; zero: never
	script Script
	calls  int
	// objects are its files and batches, the oldest first.
	objects []*object
}

// NewUpstream returns a fake that accepts the keys and tokens of o.
func NewUpstream(o Options) *Upstream {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	u := &Upstream{options: o, accounts: map[[sha256.Size]byte]*account{}}
	u.idle = sync.NewCond(&u.mu)
	u.server = &http.Server{
		Handler:           u,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	for _, k := range o.Keys {
		u.AddKey(k)
	}
	for _, k := range o.Tokens {
		u.AddToken(k)
	}
	return u
}

// Serve answers connections of l until [Upstream.Shutdown] and returns nil then; any other end is an error. It closes l. It may be
// called for several listeners.
func (u *Upstream) Serve(l net.Listener) error {
	err := u.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops all listeners and waits for open requests; when ctx ends first, they are cut off and ctx's error is returned, once they
// have ended.
func (u *Upstream) Shutdown(ctx context.Context) error {
	err := u.server.Shutdown(ctx)
	if err != nil {
		_ = u.server.Close()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.stats.Open > 0 {
		u.idle.Wait()
	}
	return err
}

// AddKey makes the fake accept an API key. A key that it knows keeps its script.
func (u *Upstream) AddKey(key secret.Value) { u.add(key, false, time.Time{}) }

// AddToken makes the fake accept an OAuth access token.
func (u *Upstream) AddToken(token secret.Value) { u.add(token, true, time.Time{}) }

// AddTokenUntil makes the fake accept an OAuth access token that ends; from then on it is answered with 401.
func (u *Upstream) AddTokenUntil(token secret.Value, until time.Time) { u.add(token, true, until) }

func (u *Upstream) add(key secret.Value, oauth bool, until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.account(key)
	a.oauth, a.until = oauth, until
}

func hashOf(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// account returns the account of a key, new if need be; u.mu is held.
func (u *Upstream) account(key secret.Value) *account {
	sum := hashOf(key.Reveal())
	a := u.accounts[sum]
	if a == nil {
		a = &account{}
		u.accounts[sum] = a
	}
	return a
}

// RemoveKey makes the fake forget a key or token: from now on it is answered with 401.
func (u *Upstream) RemoveKey(key secret.Value) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.accounts, hashOf(key.Reveal()))
}

// SetKeyBehaviour lets a script decide how requests with this key are answered, before the model's name does; the script's count starts
// anew. An unknown key is accepted as an API key from now on. A nil script takes the old one away.
func (u *Upstream) SetKeyBehaviour(key secret.Value, s Script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.account(key)
	a.script, a.calls = s, 0
}
