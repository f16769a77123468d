package train

import (
	"hash/maphash"
	"iter"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// shelf holds immutable values by id. Everybody reads, the feed alone writes, and a write costs the same however many values there are. It
// is split, so that readers on different processors rarely meet at a lock and wait for one assignment at most.
type shelf[V any] struct {
	seed  maphash.Seed
	parts [64]shelfPart[V]
}

type shelfPart[V any] struct {
	mu sync.RWMutex
	m  map[string]V
	_  [32]byte // a cache line each
}

func newShelf[V any]() *shelf[V] {
	s := &shelf[V]{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].m = map[string]V{}
	}
	return s
}

func (s *shelf[V]) part(id string) *shelfPart[V] {
	return &s.parts[maphash.String(s.seed, id)%uint64(len(s.parts))]
}

// get returns the value of an id, the zero value when there is none.
func (s *shelf[V]) get(id string) V {
	p := s.part(id)
	p.mu.RLock()
	v := p.m[id]
	p.mu.RUnlock()
	return v
}

func (s *shelf[V]) set(id string, v V) {
	p := s.part(id)
	p.mu.Lock()
	p.m[id] = v
	p.mu.Unlock()
}

func (s *shelf[V]) drop(id string) {
	p := s.part(id)
	p.mu.Lock()
	delete(p.m, id)
	p.mu.Unlock()
}

// all goes through the values. No lock is held meanwhile; each part is seen as it was at one moment.
func (s *shelf[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		for i := range s.parts {
			p := &s.parts[i]
			p.mu.RLock()
			values := slices.AppendSeq(make([]V, 0, len(p.m)), maps.Values(p.m))
			p.mu.RUnlock()
			for _, v := range values {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// users are the trains that link a credential. Most credentials have few, for which a list is smaller than a map and as quick; one that all
// trains share has very many.
type users struct {
	few  []string
	many map[string]struct{}
}

const usersFew = 16

func (u users) with(trainID string) users {
	switch {
	case u.many != nil:
		u.many[trainID] = struct{}{}
	case slices.Contains(u.few, trainID):
	case len(u.few) < usersFew:
		u.few = append(u.few, trainID)
	default:
		u.many = map[string]struct{}{trainID: {}}
		for _, id := range u.few {
			u.many[id] = struct{}{}
		}
		u.few = nil
	}
	return u
}

func (u users) without(trainID string) users {
	delete(u.many, trainID)
	if i := slices.Index(u.few, trainID); i >= 0 {
		u.few = slices.Delete(u.few, i, i+1)
	}
	return u
}

func (u users) empty() bool { return len(u.few)+len(u.many) == 0 }

// list returns a copy.
func (u users) list() []string {
	return slices.AppendSeq(slices.Clone(u.few), maps.Keys(u.many))
}

// pack moves texts into one allocation: what lives long and is many costs the garbage collector by the piece.
func pack(texts ...*string) {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString(*t)
	}
	all := b.String()
	for _, t := range texts {
		n := len(*t)
		*t, all = all[:n], all[n:]
	}
}

// upstreams are where secrets go. Most accounts go to the same few places, so they share what says so. The feed alone uses it.
type upstreams map[string]upstream

type upstream struct {
	base  *url.URL
	hosts []string
}

// upstreamsMost bounds the places that are remembered; beyond it each account has its own.
const upstreamsMost = 1000

// share makes the account use what another one with the same place has.
func (u upstreams) share(a *account) {
	if a.BaseURL == nil {
		return
	}
	key := a.BaseURL.String() + " " + strings.Join(a.Hosts, " ")
	place, ok := u[key]
	switch {
	case ok && reflect.DeepEqual(place.base, a.BaseURL) && slices.Equal(place.hosts, a.Hosts):
		a.BaseURL, a.Hosts = place.base, place.hosts
	case !ok && len(u) < upstreamsMost:
		u[key] = upstream{a.BaseURL, a.Hosts}
	}
}
