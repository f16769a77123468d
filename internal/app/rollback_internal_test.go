package app

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestARolledBackDatabaseIsTold puts an older copy of the database beside a checkpoint file that knows more.
func TestARolledBackDatabaseIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file, copied := filepath.Join(dir, store.FileName), filepath.Join(t.TempDir(), "copy.db")
	run := func(fn func(s *served)) {
		s := serveEnv(t, slog.LevelInfo, Environ{"SIGNALBOX_DATA_DIR": dir})
		fn(s)
		require.NoError(t, s.audit.Flush(t.Context()))
		s.stop()
		require.NoError(t, <-s.done)
		require.NoError(t, s.Close())
	}
	warnings := func(s *served) (out []string) {
		var got readiness
		status, _, body := s.get(t, "/readyz")
		require.Equal(t, http.StatusOK, status, "serving goes on")
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.Equal(t, "ready", got.Status)
		return got.Warnings
	}
	copyFile := func(from, to string) {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, b, 0o600))
	}
	run(func(*served) {})
	copyFile(file, copied)
	run(func(s *served) { require.Empty(t, warnings(s)) })
	copyFile(copied, file)
	for _, when := range []string{"at once", "after the database has signed checkpoints of its own"} {
		run(func(s *served) {
			require.Eventually(t, func() bool {
				time.Sleep(healthKept) // the answer is kept for so long
				return len(warnings(s)) == 1
			}, 15*time.Second, time.Millisecond, when)
			require.Contains(t, warnings(s)[0], "rolled back or replaced")
			require.Positive(t, s.audit.Health().RolledBack)
		})
	}
	require.NoError(t, os.Rename(filepath.Join(dir, "checkpoints.log"), filepath.Join(dir, "evidence.log")))
	run(func(s *served) {
		require.NoError(t, s.audit.Flush(t.Context()))
		require.Empty(t, warnings(s))
	})
}
