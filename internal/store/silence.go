package store

import (
	"context"
	"errors"
	"sync"
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
