package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// backupEvery is how often an instance looks whether somebody has taken a backup.
	backupEvery = time.Minute
	// backupOld is when the doctor says that the last one is long ago.
	backupOld = 7 * 24 * time.Hour
)

// lastBackup knows when a backup was last taken, for the metrics.
type lastBackup struct {
	db     *store.DB
	log    *slog.Logger
	taken  atomic.Pointer[backup.Taken]
	begin  sync.Once
	cut    context.CancelFunc
	loop   sync.WaitGroup
	failed bool
}

// Start looks now and then, in the background. End it with Close.
func (l *lastBackup) Start(ctx context.Context) {
	l.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		l.cut = cut
		l.loop.Go(func() {
			tick := time.NewTicker(backupEvery)
			defer tick.Stop()
			for {
				l.look(run)
				select {
				case <-run.Done():
					return
				case <-tick.C:
				}
			}
		})
	})
}

// Close ends the looking. It may be called more than once, and without Start.
func (l *lastBackup) Close() {
	if l.cut != nil {
		l.cut()
	}
	l.loop.Wait()
}

func (l *lastBackup) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backupEvery/2)
	defer cancel()
	t, err := readLastBackup(ctx, l.db)
	if err == nil {
		l.taken.Store(t)
	} else if !l.failed && ctx.Err() == nil {
		l.log.Warn("it cannot be read when a backup was last taken", "cause", err)
	}
	l.failed = err != nil
}

// at returns when the last backup was taken, as Unix time, and its size; zeros when there is none.
func (l *lastBackup) at() (seconds, bytes float64) {
	t := l.taken.Load()
	if t == nil {
		return 0, 0
	}
	return float64(t.At.Time().UnixMilli()) / 1000, float64(t.Bytes)
}

func readLastBackup(ctx context.Context, db *store.DB) (t *backup.Taken, err error) {
	err = db.Read(ctx, func(tx *store.Tx) error { t, err = backup.Last(tx); return err })
	return t, err
}

func lookAtBackups(ctx context.Context, p *patient) []Check {
	if p.db == nil || p.database.Schema != p.database.Latest {
		return nil
	}
	t, err := readLastBackup(ctx, p.db)
	if err != nil {
		return []Check{{State: Skipped, Found: "it cannot be read when one was taken"}}
	}
	const do = "Run signalbox backup --output FILE every day, and keep the files on another machine, apart from the root key."
	if t == nil {
		return []Check{{State: Advice, Found: "none was taken with signalbox backup", Do: do}}
	}
	since := time.Since(t.At.Time())
	c := Check{State: Fine, Found: fmt.Sprintf("the last was taken %s ago, %d bytes", age(since), t.Bytes)}
	if since > backupOld {
		c.State, c.Do = Warning, do
	}
	return []Check{c}
}
