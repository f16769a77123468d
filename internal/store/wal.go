package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
)

// walKeeper moves SQLite's write-ahead log into the database file beside the commits. Inside a commit, as SQLite does it by default, it
// would make one request in some hundred pay for all.
type walKeeper struct {
	// pool is one connection with a short patience: a reader that takes long must not hold up the writers through a checkpoint.
	pool    *sqlx.DB
	wanted  atomic.Int64 // scrubs asked for
	done    atomic.Int64 // the last of them that is done
	most    int          // frames (pages) of the log beyond which it is emptied
	cancel  context.CancelFunc
	stopped sync.WaitGroup
}

const (
	walInterval = time.Second
	// walPatience is how long, in milliseconds, a checkpoint waits for readers.
	walPatience = "200"
	// walMost is 64 MiB of pages. A log that is only moved starts over when a writer finds all of it moved, which under steady writes never
	// happens: it grows without end.
	walMost = 64 << 20 / 4096
	// walTurn is how long emptying the log waits for the writers before it.
	walTurn = 5 * time.Second
	// walPauseMost bounds the pause after an attempt to empty the log that a reader stood in the way of: each holds up the writers for as
	// long as its patience lasts.
	walPauseMost = time.Minute
)

func (w *walKeeper) start(db *DB) {
	if w.most == 0 {
		w.most = walMost
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.stopped.Go(func() {
		tick := time.NewTicker(walInterval)
		defer tick.Stop()
		var pause time.Duration
		var next time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if w.wanted.Load() > w.done.Load() {
				db.scrub(ctx)
				continue
			}
			size, _ := db.checkpointWAL(ctx, "PASSIVE")
			if size <= w.most || time.Now().Before(next) {
				continue
			}
			if db.emptyWAL(ctx) { // short: most of it is moved already
				pause = 0
				continue
			}
			pause = min(max(2*pause, walInterval), walPauseMost)
			next = time.Now().Add(pause)
		}
	})
}

func (w *walKeeper) close() {
	if w.cancel != nil {
		w.cancel()
	}
	w.stopped.Wait()
}

// Scrub empties SQLite's write-ahead log after sealed material was destroyed, so that the old pages do not lie on in it. When a reader is in
// the way it is tried again each second until it succeeds. It has no effect on PostgreSQL, whose vacuum does that in its own time.
func (db *DB) Scrub(ctx context.Context) {
	if db.engine == SQLite && db.wal.pool != nil {
		db.wal.wanted.Add(1)
		db.scrub(ctx)
	}
}

func (db *DB) scrub(ctx context.Context) {
	upTo := db.wal.wanted.Load()
	if !db.emptyWAL(ctx) {
		return
	}
	for done := db.wal.done.Load(); done < upTo && !db.wal.done.CompareAndSwap(done, upTo); done = db.wal.done.Load() {
	}
}

// emptyWAL moves the whole log into the database file and cuts it, and reports whether it could. Writers wait for that in their pool's queue,
// whose order is fair: in SQLite itself whoever asks for the writer's turn asks again now and then, and beside writers that never pause finds
// it taken each time.
func (db *DB) emptyWAL(ctx context.Context) bool {
	waiting, cancel := context.WithTimeout(ctx, walTurn)
	defer cancel()
	turn, err := db.write.DB.Conn(waiting)
	if err != nil {
		return false
	}
	defer turn.Close()
	_, done := db.checkpointWAL(ctx, "TRUNCATE")
	return done
}

// checkpointWAL returns how many frames the log has and whether the checkpoint is complete.
func (db *DB) checkpointWAL(ctx context.Context, mode string) (size int, complete bool) {
	var busy, moved int
	if err := db.wal.pool.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &size, &moved); err != nil {
		if ctx.Err() == nil {
			db.cfg.Log.Warn("the write-ahead log could not be moved into the database", "cause", redactCause(err))
		}
		return 0, false
	}
	return size, busy == 0
}
