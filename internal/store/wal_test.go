package store_test

import (
	"context"
	"os"
	"path/filepath"
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
