package oauth

import (
	"maps"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/provider"
)

// Counts are what this process has done for the connections of one provider since its start.
type Counts struct {
	// Attempts are calls of the token endpoint, by what they meant.
	Attempts map[provider.Verdict]int64
	// Stored are pairs that reached the database.
	Stored int64
	// Took is the time of all calls together.
	Took time.Duration
	Waits
}

// Waits are how often somebody waited instead of calling.
type Waits struct {
	// Coalesced: for a call of this process.
	Coalesced int64
	// Crossed: for a call of another one.
	Crossed int64
}

type tally struct {
	mu sync.Mutex
	by map[string]*Counts
}

func (t *tally) of(name string) *Counts {
	if t.by == nil {
		t.by = map[string]*Counts{}
	}
	c := t.by[name]
	if c == nil {
		c = &Counts{Attempts: map[provider.Verdict]int64{}}
		t.by[name] = c
	}
	return c
}

func (t *tally) called(name string, v provider.Verdict, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.of(name)
	c.Attempts[v]++
	c.Took += took
}

func (t *tally) stored(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(name).Stored++
}

func (t *tally) coalesced(name string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(name).Coalesced += n
}

func (t *tally) crossed(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(name).Crossed++
}

// Counts returns what this process has done, by provider, and all its waits. The providers are those of the tables, and "custom".
func (r *Room) Counts() (map[string]Counts, Waits) {
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	out, all := make(map[string]Counts, len(r.tally.by)), Waits{}
	for name, c := range r.tally.by {
		n := *c
		n.Attempts = maps.Clone(c.Attempts)
		out[name] = n
		all.Coalesced, all.Crossed = all.Coalesced+n.Coalesced, all.Crossed+n.Crossed
	}
	return out, all
}

// Owed returns how many answers of token endpoints the database does not have yet.
func (r *Room) Owed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.debts)
}
