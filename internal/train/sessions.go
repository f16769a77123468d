package train

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// sessionFor is how long a conversation is remembered after its last request, at least; twice as long at most.
	sessionFor = time.Hour
	// sessionRoom is how many conversations each part holds before it lets go of those that were silent longest.
	sessionRoom = 2048
	// sessionMost bounds a client's name of a conversation. A longer one is none.
	sessionMost = 256
)

// sessionKey stands for a conversation of a client key. What the client calls it is not kept.
type sessionKey [16]byte

// keyOf returns the key of a request's conversation. It hangs on the client key, so that no client can name a conversation of another, and on the train.
func keyOf(t *trip) (k sessionKey, ok bool) {
	s := t.want.Session
	if s == "" || len(s) > sessionMost {
		return k, false
	}
	var room [512]byte
	b := append(room[:0], t.caller.TrainID...)
	b = append(append(b, 0), t.caller.ID...)
	b = append(append(b, 0), s...)
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k, true
}

// spread is the conversation's place among the accounts that are as good as each other, the same on every instance.
func (k sessionKey) spread() uint64 { return binary.BigEndian.Uint64(k[:]) }

// home is the account that a conversation is on.
type home struct{ train, credential string }

// sessions remembers which account a conversation is on. It is split, so that requests on different processors rarely meet at a lock, and forgets: each part
// is two maps, of which the older goes when the younger is full or old.
type sessions struct{ parts [16]sessionPart }

type sessionPart struct {
	mu         sync.Mutex
	young, old map[sessionKey]home
	turned     time.Time
	_          [16]byte
}

func (s *sessions) part(k sessionKey) *sessionPart { return &s.parts[k[15]%16] }

// get returns the account of a conversation; "" when it has none.
func (s *sessions) get(k sessionKey, now time.Time) string {
	p := s.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	h, ok := p.young[k]
	if !ok {
		h = p.old[k]
	}
	return h.credential
}

// put remembers the account of a conversation.
func (s *sessions) put(k sessionKey, h home, now time.Time) {
	p := s.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	if p.young == nil {
		p.young = map[sessionKey]home{}
	}
	p.young[k] = h
}

// turn forgets what is old.
func (p *sessionPart) turn(now time.Time) {
	switch age := now.Sub(p.turned); {
	case age >= 2*sessionFor || age < -sessionFor: // a little ahead is another request's clock
		p.young, p.old, p.turned = nil, nil, now
	case age >= sessionFor, len(p.young) >= sessionRoom:
		p.young, p.old, p.turned = nil, p.young, now
	}
}

// on counts the conversations of a train by the account that they are on.
func (s *sessions) on(train string, now time.Time) map[string]int {
	out := map[string]int{}
	for i := range s.parts {
		p := &s.parts[i]
		p.mu.Lock()
		p.turn(now)
		for _, h := range p.young {
			if h.train == train {
				out[h.credential]++
			}
		}
		for k, h := range p.old {
			if _, younger := p.young[k]; h.train == train && !younger {
				out[h.credential]++
			}
		}
		p.mu.Unlock()
	}
	return out
}
