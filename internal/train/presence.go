package train

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// showEvery is how often an instance with requests that count as under way says that it is there, and goneAfter after which silence they count no more. By then
	// it has cut them itself: it knows no older news than ten seconds, and a process that was stopped asks before it goes on.
	showEvery, goneAfter = 3 * time.Second, 15 * time.Second
	// unheardFor is for how long the requests of an instance stand that this one has not heard of.
	unheardFor = 60
	// restAfter is after which time without such requests an instance stops saying so, and dropAfter how long its row stays.
	restAfter, dropAfter = 10 * time.Minute, 24 * time.Hour
)

// presence says to the other instances that this one is there, while requests are under way that count against a limit of requests at once, and knows which others are. An instance
// that could not say so for long takes another name: what is counted under the old one is over.
type presence struct {
	db   *store.DB
	open atomic.Int64 // how many requests are under way here that count as such

	turn   chan struct{} // held while the row is written
	mu     sync.Mutex
	name   string
	shown  time.Time // when the row was last written
	wanted time.Time // when it was last asked for
	gone   map[string]bool
	known  map[string]bool
	swept  time.Time
}

func newPresence(db *store.DB) *presence {
	return &presence{db: db, name: store.NewID("ins"), turn: make(chan struct{}, 1)}
}

// id is under which name requests of this instance are counted.
func (p *presence) id() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.name
}

// alive reports whether the requests of an instance stand that were last counted so many seconds ago.
func (p *presence) alive(instance string, ago int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case instance == p.name:
		return true
	case p.db.Engine() == store.SQLite: // nobody else writes there
		return false
	case p.gone[instance]:
		return false
	case p.known[instance]:
		return true
	}
	return ago < unheardFor
}

// show returns when the others know of this instance, and it of them. It writes only at the begin and after a silence; else [presence.keep] does.
func (p *presence) show(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	p.wanted = now
	late := now.Sub(p.shown) > 2*showEvery
	p.mu.Unlock()
	if !late {
		return nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	late = time.Since(p.shown) > 2*showEvery
	p.mu.Unlock()
	if !late { // somebody else has
		return nil
	}
	return p.write(context.WithoutCancel(ctx))
}

// keep says that this instance is there, as long as that is wanted.
func (p *presence) keep(ctx context.Context) error {
	p.mu.Lock()
	wanted := p.open.Load() > 0 || !p.wanted.IsZero() && time.Since(p.wanted) < restAfter
	due := wanted && time.Since(p.shown) >= showEvery
	p.mu.Unlock()
	if !due {
		return nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	default:
		return nil
	}
	return p.write(ctx)
}

// stayPresent keeps the instance's presence until the room is closed. It has a goroutine of its own: whoever is late here is taken for gone.
func (r *Room) stayPresent() {
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-tick.C:
			if err := r.presence.keep(context.Background()); err != nil {
				r.log.Warn("the other instances were not told that this one is there; what it has under way may not be counted", "cause", err)
			}
		}
	}
}

// write writes the row and reads the others'. The caller holds the turn.
func (p *presence) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, showEvery)
	defer cancel()
	p.mu.Lock()
	if !p.shown.IsZero() && time.Since(p.shown) > goneAfter-showEvery {
		p.name = store.NewID("ins") // the others may have given the old one up
	}
	name, sweep := p.name, time.Since(p.swept) > time.Hour
	p.mu.Unlock()
	begun := time.Now()
	var rows []struct {
		ID   string     `db:"id"`
		Seen store.Time `db:"seen_at"`
	}
	var now time.Time
	err := p.db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		now, rows = tx.Now(), nil
		if _, err := tx.Exec(`INSERT INTO quota_instances (id, seen_at) VALUES ($1,$2) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, name, store.TimeOf(now)); err != nil {
			return err
		}
		if sweep {
			if _, err := tx.Exec(`DELETE FROM quota_instances WHERE seen_at < $1`, store.TimeOf(now.Add(-dropAfter))); err != nil {
				return err
			}
		}
		return tx.Select(&rows, `SELECT id, seen_at FROM quota_instances`)
	})
	if err != nil {
		return err
	}
	gone, known := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		known[r.ID] = true
		gone[r.ID] = now.Sub(r.Seen.Time()) > goneAfter && r.ID != name
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone, p.known, p.shown = gone, known, begun
	if sweep {
		p.swept = begun
	}
	return nil
}
