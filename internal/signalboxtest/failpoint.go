package signalboxtest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Failpoints are the steps at which a process can be held up.
type Failpoints struct {
	dir string
}

// Failpoints has the process run, from its next start, as a binary in which steps can be held up. The one that is delivered knows nothing of them.
func (p *Process) Failpoints(t testing.TB) *Failpoints {
	t.Helper()
	f := &Failpoints{dir: t.TempDir()}
	p.bin = FailpointBinary(t)
	p.env = append(p.env, "SIGNALBOX_FAILPOINTS="+f.dir)
	return f
}

// FailpointBinary builds the command with failpoints, once a test binary, and returns its path.
func FailpointBinary(t testing.TB) string {
	t.Helper()
	return failing.program(t, "", "-tags", "failpoints", command)
}

// Failpoint is one step at which the process that comes to it next waits.
type Failpoint struct {
	path string
	end  *os.File
}

// Arm holds up whoever comes to a step.
func (f *Failpoints) Arm(t testing.TB, step string) *Failpoint {
	t.Helper()
	p := &Failpoint{path: filepath.Join(f.dir, step)}
	require.NoError(t, syscall.Mkfifo(p.path, 0o600))
	t.Cleanup(func() { p.Release() })
	return p
}

// Reached waits until the process is held up there. Whoever comes there from then on is not.
func (p *Failpoint) Reached(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		end, err := os.OpenFile(p.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) {
			return false // nobody is there yet
		}
		p.end = end
		return err == nil
	}, time.Minute, 5*time.Millisecond, "nobody came to %s", p.path)
	require.NoError(t, os.Remove(p.path))
}

// Release lets the process go on.
func (p *Failpoint) Release() {
	if p.end != nil {
		_ = p.end.Close()
		p.end = nil
	}
}
