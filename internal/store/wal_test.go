package store_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestWALIsMovedBesideTheCommits(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	wal := filepath.Join(cfg.DataDir, store.FileName+"-wal")
	size := func(path string) int64 {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Size()
	}
	for range 300 {
		_, err := db.Append(t.Context(), lease("k", "c"))
		require.NoError(t, err)
	}
	before := size(wal)
	require.Eventually(t, func() bool { return size(filepath.Join(cfg.DataDir, store.FileName)) > 100_000 }, 4*time.Second, 50*time.Millisecond)
	time.Sleep(1500 * time.Millisecond) // one more round, without writes
	for range 50 {
		_, err := db.Append(t.Context(), lease("k", "c"))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, size(wal), before, "the log starts over once it has been moved")
}

// TestWALIsEmptiedUnderSteadyWrites: writers that never pause leave no moment at which the log would start over by itself.
func TestWALIsEmptiedUnderSteadyWrites(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	db.BoundWAL(200)
	require.NoError(t, db.Start(t.Context()))
	wal := filepath.Join(cfg.DataDir, store.FileName+"-wal")
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := db.Append(context.WithoutCancel(ctx), lease("k", "c")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 { // twice: once could be the first pause of a writer
		most := int64(0)
		require.Eventually(t, func() bool {
			info, err := os.Stat(wal)
			if err != nil {
				return false
			}
			shrunk := info.Size() < most
			most = max(most, info.Size())
			return shrunk && most > 200*4096
		}, 20*time.Second, time.Millisecond)
	}
}

// TestScrubDoesNotHoldUpWriters has a reader sit on an old snapshot: scrubbing must give way, and be made up for when the reader is gone.
func TestScrubDoesNotHoldUpWriters(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	wal := filepath.Join(cfg.DataDir, store.FileName+"-wal")
	reading, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- db.Read(context.Background(), func(tx *store.Tx) error {
			var n int
			if err := tx.Get(&n, `SELECT count(*) FROM audit_batches`); err != nil {
				return err
			}
			close(reading)
			<-leave
			return nil
		})
	}()
	<-reading
	_, err := db.Append(t.Context(), lease("k", "c"))
	require.NoError(t, err)
	start := time.Now()
	db.Scrub(t.Context())
	_, err = db.Append(t.Context(), lease("k", "c"))
	require.NoError(t, err)
	require.Less(t, time.Since(start), 2*time.Second)
	close(leave)
	require.NoError(t, <-done)
	require.Eventually(t, func() bool {
		info, err := os.Stat(wal)
		return err == nil && info.Size() == 0
	}, 5*time.Second, 50*time.Millisecond)
}
