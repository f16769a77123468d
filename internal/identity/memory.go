package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/quota"
)

// holder is one living client key, token or session in memory. Everything but the last use is fixed; a change makes a new holder.
type holder struct {
	id, owner, name string // owner: the train of a key, the person or service account of a token
	scopes          Scopes
	sum             [sha256.Size]byte
	expires         int64 // µs since the epoch; 0: never
	// limits and maker are of a key: its own limits, nil for none, and the person who made it, "" for nobody.
	limits *quota.Limits
	maker  string

	used    atomic.Int64 // last use, µs; 0: not since it was loaded
	waiting atomic.Bool  // in the list of last uses to write

	session *signedIn // of a session; nil for others

	next *holder // another one whose hash begins alike
}

func (h *holder) expired(now time.Time) bool { return h.expires != 0 && now.UnixMicro() >= h.expires }

// until is when it expires, zero for never.
func (h *holder) until() time.Time {
	if h.expires == 0 {
		return time.Time{}
	}
	return time.UnixMicro(h.expires).UTC()
}

// pack moves the texts into one allocation: what lives long and is many costs the garbage collector by the piece.
func (h *holder) pack() {
	all, owner, name := h.id+h.owner+h.name+h.maker, len(h.id), len(h.id)+len(h.owner)
	maker := name + len(h.name)
	h.id, h.owner, h.name, h.maker = all[:owner], all[owner:name], all[name:maker], all[maker:]
}

// idle reports whether a session has lain unused for longer than it may.
func (h *holder) idle(now time.Time) bool {
	return now.Sub(time.UnixMicro(h.used.Load())) >= h.session.idle
}

// usedAt notes a use, unless a later one is known.
func (h *holder) usedAt(at int64) {
	for {
		known := h.used.Load()
		if at <= known || h.used.CompareAndSwap(known, at) {
			return
		}
	}
}

// register finds holders by the hash of their secret and by id, in memory.
type register struct {
	mu sync.RWMutex
	// sums is keyed by the first 8 bytes of the hash, which the map may compare as it likes: they tell nothing of the secret, and
	// the whole hash is then compared in constant time.
	sums map[uint64]*holder
	ids  map[string]*holder
}

func bucket(sum *[sha256.Size]byte) uint64 { return binary.LittleEndian.Uint64(sum[:8]) }

// find returns the holder of the secret with that hash, or nil.
func (g *register) find(sum *[sha256.Size]byte) *holder {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for h := g.sums[bucket(sum)]; h != nil; h = h.next {
		if subtle.ConstantTimeCompare(h.sum[:], sum[:]) == 1 {
			return h
		}
	}
	return nil
}

// get returns the holder with that id, or nil.
func (g *register) get(id string) *holder {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.ids[id]
}

func (g *register) size() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.ids)
}

// Sessions returns how many sessions are in memory: those that have not been ended.
func (r *Room) Sessions() int { return r.sessions.size() }

// Held returns how many client keys and tokens are in memory: those that are not revoked.
func (r *Room) Held() (keys, tokens int) { return r.keys.size(), r.tokens.size() }

// put adds h, or replaces the holder with its id.
func (g *register) put(h *holder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.ids[h.id]; ok {
		h.usedAt(old.used.Load())
		g.drop(h.id)
	}
	insert(g.sums, g.ids, h)
}

// remove forgets the holder with that id.
func (g *register) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(id)
}

func (g *register) drop(id string) {
	old, ok := g.ids[id]
	if !ok {
		return
	}
	delete(g.ids, id)
	b := bucket(&old.sum)
	var kept *holder
	for h := g.sums[b]; h != nil; {
		next := h.next
		if h != old {
			h.next, kept = kept, h
		}
		h = next
	}
	if kept == nil {
		delete(g.sums, b)
		return
	}
	g.sums[b] = kept
}

// replace swaps the whole content.
func (g *register) replace(all []*holder) {
	sums, ids := make(map[uint64]*holder, len(all)), make(map[string]*holder, len(all))
	for _, h := range all {
		insert(sums, ids, h)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sums, g.ids = sums, ids
}

func insert(sums map[uint64]*holder, ids map[string]*holder, h *holder) {
	b := bucket(&h.sum)
	h.next = sums[b]
	sums[b] = h
	ids[h.id] = h
}
