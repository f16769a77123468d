package train

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"signalbox.dev/signalbox/internal/fault"
)

// registry holds the open leases. It is split, so that requests on different processors rarely meet at a lock, and each part is a linked
// list through the leases, so that opening and ending one allocates nothing.
type registry struct {
	parts [16]part
	open  atomic.Int64
}

type part struct {
	mu   sync.Mutex
	head *Lease
	_    [48]byte // a cache line each
}

func (g *registry) add(l *Lease) {
	l.part = &g.parts[rand.Uint32N(uint32(len(g.parts)))]
	l.part.mu.Lock()
	l.next = l.part.head
	if l.next != nil {
		l.next.prev = l
	}
	l.part.head = l
	l.part.mu.Unlock()
	g.open.Add(1)
}

func (g *registry) remove(l *Lease) {
	l.part.mu.Lock()
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		l.part.head = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	l.prev, l.next = nil, nil
	l.part.mu.Unlock()
	g.open.Add(-1)
}

// cut ends every open lease for which why returns a reason. The leases stay registered until they are settled.
func (g *registry) cut(why func(*Lease) *fault.Error) int {
	n := 0
	for i := range g.parts {
		p := &g.parts[i]
		var dying []*Lease
		p.mu.Lock()
		for l := p.head; l != nil; l = l.next {
			if l.cause.Load() != nil {
				continue
			}
			if f := why(l); f != nil && l.cause.CompareAndSwap(nil, f) {
				dying = append(dying, l)
			}
		}
		p.mu.Unlock()
		for _, l := range dying { // outside the lock: cancelling runs what hangs on the context
			l.cancel(l.cause.Load())
			n++
		}
	}
	return n
}

// OpenLeases returns how many leases are granted and not settled.
func (r *Room) OpenLeases() int { return int(r.leases.open.Load()) }
