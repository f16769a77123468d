package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
)

// feedSilent is the silence after which nothing is expected any more on the connections that are open. It is over the second after which
// nothing new is lent, and far under what the kernel takes to notice that packets lead nowhere.
const feedSilent = 2 * time.Second

// errSilent is the cause of an end that [lines.cut] made.
var errSilent = errors.New("store: the database has fallen silent")

// lines are the statements under way on PostgreSQL. A network that swallows packets tells nobody: without an end to the wait, requests, and
// the connections that they hold, would hang for a quarter of an hour, also after the line is back.
type lines struct {
	mu   sync.Mutex
	next uint64
	open map[uint64]context.CancelCauseFunc
}

// enter returns a context that ends when the database falls silent. Call leave when the statements are over.
func (l *lines) enter(ctx context.Context) (_ context.Context, leave func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[uint64]context.CancelCauseFunc{}
	}
	l.next++
	id := l.next
	l.open[id] = cancel
	return ctx, func() {
		l.mu.Lock()
		delete(l.open, id)
		l.mu.Unlock()
		cancel(nil)
	}
}

func (l *lines) cut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cancel := range l.open {
		cancel(errSilent)
	}
	return len(l.open)
}

// ended returns errSilent instead of an error that the end of ctx by [lines.cut] has made.
func ended(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSilent) && !errors.Is(err, errUncertain) {
		return errSilent
	}
	return err
}

// silence tells stale news from a database that does not answer: a cache that cannot follow, or a server that lets nobody new in, is no
// reason to end the statements of those that it serves.
type silence struct {
	last atomic.Pointer[time.Time] // when the end of a question was last seen
	mute atomic.Pointer[time.Time] // since when no question was answered; nil: they are
}

// asked notes what became of a question that was asked at a moment.
func (s *silence) asked(at time.Time, err error) {
	now := time.Now()
	s.last.Store(&now)
	if err == nil || isAnswer(err) {
		s.mute.Store(nil)
		return
	}
	s.mute.CompareAndSwap(nil, &at)
}

func (s *silence) hangUp(db *DB) {
	if mute := s.mute.Load(); mute != nil && since(*mute) > feedSilent {
		db.hangUp()
	}
}

// watch asks the database while the loop of the feed does not, because a cache takes long to load: whoever ends the waits must not wait.
func (f *feed) watch(ctx context.Context) {
	tick := time.NewTicker(feedInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if last := f.heard.last.Load(); last != nil && since(*last) < feedStale {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, feedStale)
		started := time.Now()
		var one int
		err := f.db.news.GetContext(limited, &one, "SELECT 1")
		cancel()
		if ctx.Err() != nil {
			return
		}
		f.heard.asked(started, err)
		f.heard.hangUp(f.db)
	}
}

// hangUp ends what waits for a database that has fallen silent, and closes the idle connections, so that the next statements open new ones.
func (db *DB) hangUp() {
	n := db.lines.cut()
	for pool, conns := range map[*sqlx.DB]int{db.write: db.conns, db.news: newsConns} {
		if pool != nil {
			pool.SetMaxIdleConns(0)
			pool.SetMaxIdleConns(conns)
		}
	}
	if n > 0 {
		db.cfg.Log.Warn("the database has fallen silent; what waited for it was ended", "waiting", n)
	}
}
