package outbound

import (
	"crypto/sha256"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// routesMost bounds the transports of a [Pool]; beyond it the one that was not used for the longest time goes.
	routesMost = 256
	// routeRests is how long a transport that nobody uses is kept.
	routeRests = 5 * time.Minute
	// routeIdle bounds the idle connections of one route.
	routeIdle = 256
)

// Pool holds a transport for each distinct [Route], and one for requests without. A transport that goes leaves the requests that run on it alone; their
// connections close when they have been idle for a while.
type Pool struct {
	policy  Policy
	options Options
	usual   *http.Transport

	mu     sync.RWMutex
	routes map[[sha256.Size]byte]*pooled
	now    func() time.Time
}

type pooled struct {
	transport *http.Transport
	used      atomic.Int64 // UnixNano
}

// NewPool returns a pool whose transports are guarded by p. Its owner ends it with [Pool.CloseIdleConnections].
func NewPool(p Policy, o Options) *Pool {
	return &Pool{policy: p, options: o, usual: NewTransport(p, o), routes: map[[sha256.Size]byte]*pooled{}, now: time.Now}
}

// Over returns the transport for a route; nil is the usual way. It is to be asked for anew for each request.
func (p *Pool) Over(r *Route) http.RoundTripper {
	if r == nil {
		return p.usual
	}
	now := p.now()
	p.mu.RLock()
	have := p.routes[r.key]
	p.mu.RUnlock()
	if have == nil {
		have = p.make(r, now)
	}
	have.used.Store(now.UnixNano())
	return have.transport
}

func (p *Pool) make(r *Route, now time.Time) *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.routes[r.key]; have != nil {
		return have
	}
	p.sweep(now.Add(-routeRests))
	for len(p.routes) >= routesMost {
		p.drop(p.oldest())
	}
	o := p.options
	o.Route = r
	t := NewTransport(p.policy, o)
	t.MaxIdleConns, t.MaxIdleConnsPerHost = routeIdle, routeIdle
	have := &pooled{transport: t}
	have.used.Store(now.UnixNano())
	p.routes[r.key] = have
	return have
}

// sweep drops what was not used since.
func (p *Pool) sweep(since time.Time) {
	for key, have := range p.routes {
		if have.used.Load() < since.UnixNano() {
			p.drop(key)
		}
	}
}

func (p *Pool) oldest() (key [sha256.Size]byte) {
	least := int64(0)
	for k, have := range p.routes {
		if at := have.used.Load(); least == 0 || at < least {
			key, least = k, at
		}
	}
	return key
}

func (p *Pool) drop(key [sha256.Size]byte) {
	p.routes[key].transport.CloseIdleConnections()
	delete(p.routes, key)
}

// Routes returns how many transports there are besides the usual one.
func (p *Pool) Routes() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.routes)
}

// CloseIdleConnections closes the connections that nobody uses, of all transports.
func (p *Pool) CloseIdleConnections() {
	p.usual.CloseIdleConnections()
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, have := range p.routes {
		have.transport.CloseIdleConnections()
	}
}
