package oauth

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Why says what a fresh token is wanted for.
type Why int

// The reasons.
const (
	// Ahead: the token is inside its advisory margin. Nobody waits.
	Ahead Why = iota
	// Needed: the token is inside its mandatory margin, or past its end.
	Needed
	// Denied: the resource server answered 401 to a token that should be good.
	Denied
)

func (w Why) happening() Happening {
	if w == Denied {
		return Rejected
	}
	return Due
}

const (
	// waiterLimit is how long anybody waits for a fresh token.
	waiterLimit = 25 * time.Second
	// pollEvery is how often another process's call is looked after; the change feed is mostly quicker.
	pollEvery = 250 * time.Millisecond
	// quietMost bounds how long an answer is repeated without asking the database.
	quietMost  = 5 * time.Second
	quietLeast = 250 * time.Millisecond
)

// flight is one effort to refresh one credential in this process. Those who want the same wait for it; it belongs to none of them, so that the
// first one's going away fails nobody.
type flight struct {
	on Happening
	// provider is what the connection counts as; it is set before done is closed.
	provider string
	done     chan struct{}
	joined   atomic.Int64 // those who wait, but for the one who began it
	woken    chan struct{}
	version  int64
	err      error
}

func (f *flight) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// quiet is an answer that is good for a while.
type quiet struct {
	generation int64
	until      time.Time
	err        error
}

// Fresh brings a generation of the credential that is newer than the one that the caller has, and returns its number: by the one call of its
// token endpoint that may be made, or by waiting for whoever makes it. With [Ahead] it begins that in the background and returns at once. It checks no
// permission: it is for rooms that lend. Faults: login_required, refresh_failed, refresh_pending after 25 seconds, and those of the database.
func (r *Room) Fresh(ctx context.Context, credentialID string, generation int64, why Why) (int64, error) {
	w := want{credential: credentialID, generation: generation, on: why.happening(), caller: chore()}
	if why != Denied {
		if q, ok := r.lately(credentialID, generation); ok {
			if why == Ahead {
				return generation, nil
			}
			return 0, q.err
		}
	}
	if why == Ahead {
		r.background(w)
		return generation, nil
	}
	return r.await(ctx, w)
}

// lately returns what was answered about a generation a moment ago.
func (r *Room) lately(id string, generation int64) (quiet, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q, ok := r.quiet[id]
	if !ok || q.generation != generation || !time.Now().Before(q.until) {
		return quiet{}, false
	}
	return q, true
}

// background begins a flight for nobody.
func (r *Room) background(w want) { _, _ = r.flight(w) }

// flight returns the flight under way for a credential, or begins one. joined says that it was there.
func (r *Room) flight(w want) (f *flight, joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[w.credential]; f != nil {
		return f, true
	}
	f = &flight{on: w.on, provider: CustomProvider, done: make(chan struct{}), woken: make(chan struct{}, 1)}
	if r.isClosing() {
		f.err = errClosing()
		close(f.done)
		return f, false
	}
	r.flights[w.credential] = f
	r.flying.Add(1)
	go r.fly(f, w)
	return f, false
}

func errClosing() error {
	return fault.New(fault.Unavailable, "draining", "This instance of Signalbox is shutting down. Send the request again.").After(1)
}

// fly runs a flight to its end.
func (r *Room) fly(f *flight, w want) {
	defer r.flying.Done()
	f.version, f.err = r.bring(f, w)
	r.mu.Lock()
	delete(r.flights, w.credential)
	r.tally.coalesced(f.provider, f.joined.Load())
	if e, ok := fault.As(f.err); ok && w.on == Due && (e.Code == "refresh_failed" || e.Code == "login_required") { // not of the database, which may be back at once
		r.quiet[w.credential] = quiet{generation: w.generation, until: time.Now().Add(quietFor(e)), err: e}
	}
	r.mu.Unlock()
	close(f.done)
}

// quietFor is how long a refusal need not be asked for again.
func quietFor(e *fault.Error) time.Duration {
	d := quietMost
	if e.RetryAfter > 0 {
		d = min(d, time.Duration(e.RetryAfter)*time.Second)
	}
	return max(d, quietLeast)
}

// bring asks until there is a newer generation, or a reason why there is none.
func (r *Room) bring(f *flight, w want) (int64, error) {
	end := time.NewTimer(r.patience)
	defer end.Stop()
	waiting := false
	for {
		if version, err := r.payFirst(w.credential); version > w.generation || err != nil {
			return version, err
		}
		rep, err := r.look(f, w)
		if err == nil && rep.claim == nil && rep.moved == 0 && !rep.busy {
			rep, err = r.ask(r.base, w)
		}
		switch {
		case err != nil:
			return 0, err
		case rep.moved > 0:
			return rep.moved, nil
		case rep.claim != nil:
			version, err := r.run(rep.claim)
			if version > 0 || err != nil && !errors.Is(err, errOvertaken) {
				return version, err
			}
			if w.on == Forced {
				w.on = Due // a person has asked for one call: what somebody else has made of the connection meanwhile is the answer
			}
			continue
		case !rep.busy:
			return 0, errNotRefreshed(rep.state, rep.code, rep.until.Sub(r.now()))
		}
		if !waiting {
			waiting = true
			r.tally.crossed(f.provider)
		}
		poll := time.NewTimer(pollEvery)
		select {
		case <-f.woken:
		case <-poll.C:
		case <-end.C:
			poll.Stop()
			return 0, errPending()
		case <-r.closing:
			poll.Stop()
			return 0, errClosing()
		}
		poll.Stop()
	}
}

// look reads without the lock whether there is something newer or somebody at work: most of those who wait find that.
func (r *Room) look(f *flight, w want) (out reply, err error) {
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out = reply{}
		cred, err := r.vault.Resolve(tx, w.credential)
		if err != nil {
			return err
		}
		if f.provider, err = r.counted(tx, cred.Provider); err != nil {
			return err
		}
		if cred.Version > w.generation && w.on != Forced && w.on != Found {
			out.moved = cred.Version
			return nil
		}
		c, err := loadConnection(tx, w.credential)
		if err != nil {
			return err
		}
		out.busy = c.generation == cred.Version && c.State.held() && tx.Now().Before(c.claimUntil.Add(takeoverAfter))
		return nil
	})
	return out, err
}

// await waits for a flight that does what is wanted, or begins one.
func (r *Room) await(ctx context.Context, w want) (int64, error) {
	end := time.NewTimer(r.patience)
	defer end.Stop()
	for {
		f, joined := r.flight(w)
		if joined {
			f.joined.Add(1)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-end.C:
			return 0, errPending()
		}
		switch {
		case f.err == nil && f.version > w.generation:
			return f.version, nil
		case joined && (f.err == nil || f.on != w.on):
			continue // it was about something else: an older generation, or with less right to call
		case f.err == nil:
			return f.version, nil
		}
		return 0, f.err
	}
}

// Refresh has a connection refreshed now because a person wants it: it ends the cool-down, but does not send a token that may be spent. It
// needs credentials:write on the credential, and returns the connection afterwards.
func (r *Room) Refresh(ctx context.Context, caller identity.Caller, id string) (Connection, error) {
	var version int64
	err := r.vault.Act(ctx, caller, identity.CredentialWrite, "refresh", id, func(tx *store.Tx) error {
		cred, err := r.vault.Resolve(tx, id)
		if err != nil {
			return err
		}
		if cred.Type != vault.OAuth {
			return errNothingToRefresh()
		}
		version = cred.Version
		return tx.Record(caller.Event(store.OAuthForce, store.Target{Kind: "credential", ID: cred.ID, Name: cred.Name}))
	})
	if err != nil {
		return Connection{}, err
	}
	if _, err := r.await(ctx, want{credential: id, generation: version, on: Forced, caller: caller}); err != nil {
		return Connection{}, err
	}
	return r.read(ctx, id)
}

// Connection is what people may know of the refreshing of a credential.
type Connection struct {
	CredentialID, Name string
	// Generation is the version of the secret that is current.
	Generation int64
	Health     vault.Health
	State      State
	// Code says what the last call came to, of the closed list of package provider and "claim_lapsed" and "restored" (the token may have been spent, in a history that a restore has ended); "" when it brought a token.
	Code string
	// Failures in a row, and when the next call may be made; nil when it may be made now, or when only a person can help.
	Failures int
	RetryAt  *time.Time
	// AttemptedAt is when the last call was begun, RefreshedAt when one last brought a token.
	AttemptedAt, RefreshedAt *time.Time
	// TokenExpires is when the access token ends; nil for unknown.
	TokenExpires *time.Time
	// Refreshes says that the credential can be refreshed at all.
	Refreshes bool
	// dueAt is when a refresh is due.
	dueAt time.Time
}

// Connection returns what is known of the refreshing of a credential, and records that it was read. It needs credentials:read on it.
func (r *Room) Connection(ctx context.Context, caller identity.Caller, id string) (Connection, error) {
	var out Connection
	err := r.vault.Act(ctx, caller, identity.CredentialRead, "connection", id, func(tx *store.Tx) error {
		var err error
		if out, err = r.describe(tx, id); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialView, store.Target{Kind: "credential", ID: out.CredentialID, Name: out.Name})
		ev.Details = store.Details{store.Str("part", "connection")}
		return tx.Record(ev)
	})
	return out, err
}

func (r *Room) read(ctx context.Context, id string) (out Connection, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out, err = r.describe(tx, id)
		return err
	})
	return out, err
}

func (r *Room) describe(tx *store.Tx, id string) (Connection, error) {
	cred, err := r.vault.Resolve(tx, id)
	if err != nil {
		return Connection{}, err
	}
	if cred.Type != vault.OAuth {
		return Connection{}, fault.New(fault.NotFound, "not_found", "This credential is not of type oauth, so it has no connection.")
	}
	c, err := loadConnection(tx, id)
	if err != nil {
		return Connection{}, err
	}
	return described(cred, c, tx.Now()), nil
}

func described(cred vault.Credential, c connection, now time.Time) Connection {
	out := Connection{CredentialID: cred.ID, Name: cred.Name, Generation: cred.Version, Health: cred.Health, State: Ready, TokenExpires: cred.OAuth.ExpiresAt,
		RefreshedAt: optional(c.refreshed), AttemptedAt: optional(c.attempted), Refreshes: cred.Refreshes()}
	if ends := cred.OAuth.ExpiresAt; ends != nil {
		advisory, _ := Margins(ends.Sub(cred.Issued))
		out.dueAt = ends.Add(-advisory)
	}
	if c.generation == cred.Version {
		out.State, out.Code, out.Failures = c.State, c.code, c.Failures
		if d := wait(c.standing, now); d > 0 && c.State != Lost {
			out.RetryAt = optional(now.Add(d))
		}
	}
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
