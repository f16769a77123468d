package signalboxtest_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
)

// typescriptProgram prepares a script of testdata to run beside the official TypeScript SDK, as the lock of tools/npm pins it.
func typescriptProgram(t *testing.T, script string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	home, err := exec.Command("../../scripts/npm.sh").Output()
	require.NoError(t, err, "the TypeScript SDK is not there")
	work := t.TempDir() // an import is looked for beside the script
	require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(work, "node_modules")))
	text, err := os.ReadFile(filepath.Join("testdata", script))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, script), text, 0o600))
	node := exec.CommandContext(t.Context(), "node", append([]string{script}, args...)...)
	node.Dir, node.Env = work, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work}
	var out, errs bytes.Buffer
	node.Stdout, node.Stderr = &out, &errs
	return node, &out, &errs
}

// TestTypeScriptObjects has the official TypeScript SDK make files and batches at one instance and use them at another. It takes the client key to
// wherever a batch says that its results are.
func TestTypeScriptObjects(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		other := box.URL
		if !box.Store.PostgresURL.IsZero() {
			other = box.Second(t).URL
		}
		lane := box.Lane(t, "")
		require.Eventually(t, func() bool { return ask(t, other, lane.Key) == 200 }, 5*time.Second, 20*time.Millisecond)
		node, out, errs := typescriptProgram(t, "objects.mjs", box.URL, lane.Key, other)
		require.NoError(t, node.Run(), "%s", errs)
		var told struct {
			Size               int
			Text, Read, Gone   string
			Results, Elsewhere string
			Answers            []string
			Batches            []bool
			Files              []int
		}
		require.NoError(t, json.Unmarshal(out.Bytes(), &told), "%s", out)
		require.Equal(t, 17, told.Size)
		require.Equal(t, "the line is clear", told.Text)
		require.Contains(t, told.Read, "What is it?")
		require.True(t, strings.HasPrefix(told.Results, box.URL+"/v1/messages/batches/"), told.Results)
		require.True(t, strings.HasPrefix(told.Elsewhere, other+"/v1/messages/batches/"), told.Elsewhere)
		require.Len(t, told.Answers, 2)
		require.True(t, strings.HasPrefix(told.Answers[1], "b "), told.Answers[1])
		require.Equal(t, []bool{true}, told.Batches)
		require.Equal(t, []int{3, 2, 1, 17}, told.Files)
		require.Equal(t, "NotFoundError 404", told.Gone)
	})
}
