package jwt

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// minAge and maxAge bound for how long a fetched set is taken for current, whatever the issuer says; usualAge is when it says nothing.
	minAge   = 5 * time.Minute
	usualAge = time.Hour
	maxAge   = 24 * time.Hour
	// grace is for how long a set that could not be renewed is still used: an issuer's outage must not stop everybody, and a key that it has
	// withdrawn must not live for ever.
	grace = 6 * time.Hour
	// between is the least time between two tries, so that tokens with invented key ids cannot make us a nuisance to the issuer.
	between = time.Minute
	// patience bounds one try.
	patience = 10 * time.Second
)

// ErrUnreachable says that there are no keys to verify with: the issuer's could not be fetched, or not for too long. The token may be fine.
var ErrUnreachable = errors.New("jwt: the keys of the issuer could not be fetched")

// RemoteConfig says where keys come from.
type RemoteConfig struct {
	// Fetch gets the document, and for how long the issuer says it is good (0: it does not say). Its error may be logged.
	Fetch func(context.Context) (doc []byte, age time.Duration, err error)
	// Told is told of each try: what was left out of a set, and why there is none.
	Told func(skipped []string, err error)
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Remote keeps the keys that an issuer publishes. It fetches when a token asks for what it does not have: at the first token, when the set
// has aged (the token does not wait for that), and when a token names a key that it does not know, at most once a minute.
type Remote struct {
	cfg  RemoteConfig
	ctx  context.Context
	stop context.CancelFunc
	runs sync.WaitGroup

	mu      sync.Mutex
	set     Set
	fresh   time.Time     // until when the set is current
	until   time.Time     // until when it is used at all
	tried   time.Time     // when the last try began
	running chan struct{} // closed when the try under way ends; nil: there is none
	closed  bool
}

// NewRemote returns a Remote that has fetched nothing yet. Close it.
func NewRemote(cfg RemoteConfig) *Remote {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	r := &Remote{cfg: cfg}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Stop has a try that is under way end soon. Afterwards there are no keys.
func (r *Remote) Stop() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
}

// Close is Stop, and waits for the end.
func (r *Remote) Close() {
	r.Stop()
	r.runs.Wait()
}

// Keys returns the set for a token that names this key. It waits for the issuer only when the set is missing, too old, or does not know the
// key, and for no longer than ctx. The error is [ErrUnreachable] or that of ctx.
func (r *Remote) Keys(ctx context.Context, keyID string) (Set, error) {
	for try := 0; ; try++ {
		set, usable, running := r.ask(keyID, try == 0)
		known := usable && set.knows(keyID)
		if known || running == nil || try > 0 {
			if !usable {
				return Set{}, ErrUnreachable
			}
			return set, nil
		}
		select {
		case <-running:
		case <-ctx.Done():
			return Set{}, ctx.Err()
		}
	}
}

// ask returns what there is and, when a try is under way, its end. It begins one when there is reason to and may is set.
func (r *Remote) ask(keyID string, may bool) (set Set, usable bool, running <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Clock()
	usable = r.set.Len() > 0 && now.Before(r.until) && !r.closed
	wanted := !usable || !now.Before(r.fresh) || !r.set.knows(keyID)
	// A clock that was set back must not keep us from trying.
	rested := r.tried.IsZero() || now.Sub(r.tried) >= between || now.Before(r.tried)
	if may && wanted && rested && r.running == nil && !r.closed {
		r.tried = now
		done := make(chan struct{})
		r.running = done
		r.runs.Go(func() { r.try(done) })
	}
	if r.running != nil {
		running = r.running
	}
	return r.set, usable, running
}

// try fetches once. Nobody's context ends it but its own, so that one impatient client does not fail all that wait.
func (r *Remote) try(done chan struct{}) {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	doc, age, err := r.cfg.Fetch(ctx)
	var set Set
	var skipped []string
	if err == nil {
		set, skipped, err = ParseSet(doc)
	}
	r.mu.Lock()
	if err == nil {
		if age == 0 {
			age = usualAge
		}
		now := r.cfg.Clock()
		r.set = set
		r.fresh = now.Add(min(max(age, minAge), maxAge))
		r.until = r.fresh.Add(grace)
	}
	r.running = nil
	r.mu.Unlock()
	close(done)
	if r.cfg.Told != nil && ctx.Err() != context.Canceled {
		r.cfg.Told(skipped, err)
	}
}
