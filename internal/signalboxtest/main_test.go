package signalboxtest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	signalboxtest.RemoveBinary()
	os.Exit(code)
}

// anchors returns the signed checkpoints of a checkpoint file.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	notes, err := audit.ParseAnchors(string(b))
	require.NoError(t, err)
	require.NotEmpty(t, notes)
	return notes
}
