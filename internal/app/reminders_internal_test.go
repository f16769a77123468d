package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRemindersComeInTurns: at once, then each time that the interval is over, failures or not, and never after the end.
func TestRemindersComeInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes atomic.Int64
		var log strings.Builder
		r := newReminders(func(ctx context.Context) (int, error) {
			if passes.Add(1) == 2 {
				return 0, errors.New("no database")
			}
			return 1, ctx.Err()
		}, time.Minute, slog.New(slog.NewTextHandler(&log, nil)))
		r.Start(t.Context())
		r.Start(t.Context())
		synctest.Wait()
		require.Equal(t, int64(1), passes.Load())
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		require.Equal(t, int64(3), passes.Load())
		r.Close()
		r.Close()
		time.Sleep(time.Hour)
		require.Equal(t, int64(3), passes.Load())
		require.Equal(t, 1, strings.Count(log.String(), "no database"))
		newReminders(nil, time.Minute, nil).Close() // never started
	})
}

// TestRemindersEndAtOnce: who closes does not wait for a pass that hangs.
func TestRemindersEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReminders(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }, time.Minute, slog.New(slog.DiscardHandler))
		r.Start(t.Context())
		synctest.Wait()
		r.Close()
	})
}
