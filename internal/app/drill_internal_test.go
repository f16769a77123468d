package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestADrillRemovesWhatAKilledOneLeft: not what another one uses, was just made, or is something else.
func TestADrillRemovesWhatAKilledOneLeft(t *testing.T) {
	in := t.TempDir()
	dir := func(name string) string {
		path := filepath.Join(in, name)
		require.NoError(t, os.MkdirAll(filepath.Join(path, "1", "spill"), 0o700))
		return path
	}
	abandoned, used, other := dir("signalbox-drill-1"), dir("signalbox-drill-2"), dir("something-else")
	lock, err := store.LockDir(used)
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	removeAbandoned(in, time.Now())
	require.DirExists(t, abandoned, "it may have been made just now")
	removeAbandoned(in, time.Now().Add(2*time.Minute))
	require.NoDirExists(t, abandoned)
	require.DirExists(t, used)
	require.DirExists(t, other)
}
