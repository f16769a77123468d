package facts

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// workshop is a directory in which real programs make keys and certificates.
type workshop struct {
	t   *testing.T
	dir string
}

func newWorkshop(t *testing.T) workshop {
	t.Helper()
	for program, pkg := range map[string]string{"openssl": "openssl", "ssh-keygen": "openssh-client"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "install %s", pkg)
	}
	return workshop{t, t.TempDir()}
}

// run runs a program in the directory and returns what it prints.
func (w workshop) run(line string, args ...string) string {
	w.t.Helper()
	words := append(strings.Fields(line), args...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = w.dir
	out, err := cmd.Output()
	var stderr string
	if exit, ok := err.(*exec.ExitError); ok {
		stderr = string(exit.Stderr)
	}
	require.NoError(w.t, err, "%s: %s", line, stderr)
	return string(out)
}

func (w workshop) file(name string) secret.Value {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	require.NoError(w.t, err)
	return secret.New(b)
}

func (w workshop) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
}

func values(pairs ...any) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case string:
			out[pairs[i].(string)] = secret.FromString(v)
		case secret.Value:
			out[pairs[i].(string)] = v
		}
	}
	return out
}

// requireNothingOf fails when what was derived, or what is wrong with it, holds a piece of a secret in any of the usual writings.
func requireNothingOf(t *testing.T, planted []byte, f Facts, problems []Problem) {
	t.Helper()
	b, err := json.Marshal(f)
	require.NoError(t, err)
	shown := string(b)
	for _, p := range problems {
		shown += p.Field + p.Message
	}
	size := min(12, len(planted))
	for i := 0; i+size <= len(planted); i++ {
		piece := planted[i : i+size]
		require.NotContains(t, shown, string(piece))
		require.NotContains(t, strings.ToLower(shown), hex.EncodeToString(piece))
	}
	for i := 0; i < 3 && i+size <= len(planted); i++ { // the alignments of base64
		text := base64.StdEncoding.EncodeToString(planted[i:])
		for j := 4; j+12 <= len(text)-4; j++ {
			require.NotContains(t, shown, text[j:j+12])
		}
	}
}
