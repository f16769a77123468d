package store

import (
	"context"
	"sync"
	"time"
)

// walKeeper moves SQLite's write-ahead log into the database file beside the commits. Inside a commit, as SQLite does it by default, it
// would make one request in some hundred pay for all.
type walKeeper struct {
	cancel  context.CancelFunc
	stopped sync.WaitGroup
}

const walInterval = time.Second

func (w *walKeeper) start(db *DB) {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.stopped.Go(func() {
		tick := time.NewTicker(walInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				db.checkpointWAL(ctx, "PASSIVE")
			}
		}
	})
}

func (w *walKeeper) close() {
	if w.cancel != nil {
		w.cancel()
	}
	w.stopped.Wait()
}

// Scrub empties SQLite's write-ahead log after sealed material was destroyed, so that the old pages do not lie on in it. It has no effect
// on PostgreSQL, whose vacuum does that in its own time.
func (db *DB) Scrub(ctx context.Context) {
	if db.engine == SQLite {
		db.checkpointWAL(ctx, "TRUNCATE")
	}
}

func (db *DB) checkpointWAL(ctx context.Context, mode string) {
	var busy, size, moved int
	pool := db.read
	if mode == "TRUNCATE" {
		pool = db.write // it needs the writer's place
	}
	if err := pool.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &size, &moved); err != nil && ctx.Err() == nil {
		db.cfg.Log.Warn("the write-ahead log could not be moved into the database", "cause", redactCause(err))
	}
}
