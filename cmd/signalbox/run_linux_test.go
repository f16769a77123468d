package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// trailing is a command of a user under signalbox run.
type trailing struct {
	*testing.T
	told trial
	env  []string
	dir  string
}

func newTrailing(t *testing.T) (*process, *trailing) {
	t.Helper()
	p, told := dev(t)
	return p, &trailing{t, told, []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}, t.TempDir()}
}

// start runs a shell script under signalbox run, without a terminal: the session is its own.
func (x *trailing) start(script string, env ...string) *process {
	x.Helper()
	p := &process{t: x.T, cmd: exec.Command("signalbox", "run", "--train", "web", "--", "sh", "-c", script), done: make(chan error, 1)}
	p.cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + x.TempDir()}, x.env...), env...)
	p.cmd.Dir = x.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	taken := make(chan os.Signal, 1) // whoever runs the tests in the background of a script has SIGINT ignored, which a command would inherit
	signal.Notify(taken, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(taken)
	require.NoError(x, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	x.Cleanup(func() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	return p
}

// file waits for what the script writes.
func (x *trailing) file(name string) string {
	x.Helper()
	var text []byte
	require.Eventually(x, func() bool {
		text, _ = os.ReadFile(filepath.Join(x.dir, name))
		return bytes.HasSuffix(text, []byte("\n"))
	}, 20*time.Second, 10*time.Millisecond, name)
	return strings.TrimSpace(string(text))
}

// status is the answer to a request with a client key.
func (x *trailing) status(key string) int {
	x.Helper()
	told := x.told
	told.APIKey = key
	resp := message(x.T, told, "claude-fake", false)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// keys are the statuses of the keys of runs.
func (x *trailing) keys() (statuses []string) {
	x.Helper()
	cmd := exec.Command("signalbox", "key", "list", "web", "--json")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + x.TempDir()}, x.env...)
	out, err := cmd.Output()
	require.NoError(x, err)
	var list struct {
		Keys []client.Key `json:"api_keys"`
	}
	require.NoError(x, json.Unmarshal(out, &list))
	for _, k := range list.Keys {
		if strings.HasPrefix(k.Name, "run: ") {
			require.NotNil(x, k.ExpiresAt)
			statuses = append(statuses, k.Status)
		}
	}
	return statuses
}

// TestARunEndsWithItsCommand: a signal is the command's to answer; whatever becomes of it, its key is revoked, and nobody can read a secret but that key.
func TestARunEndsWithItsCommand(t *testing.T) {
	_, x := newTrailing(t)
	operator, err := os.ReadFile(filepath.Join(x.told.DataDir, "operator.token"))
	require.NoError(t, err)
	token := strings.TrimSpace(string(operator))
	for i, sig := range []struct {
		name string
		is   syscall.Signal
		trap bool
		exit int
	}{
		{"TERM", syscall.SIGTERM, true, 9}, {"HUP", syscall.SIGHUP, true, 9}, {"INT", syscall.SIGINT, true, 9}, {"USR1", syscall.SIGUSR1, true, 9},
		{"TERM", syscall.SIGTERM, false, 128 + 15}, {"INT", syscall.SIGINT, false, 128 + 2},
	} {
		script := `echo $ANTHROPIC_API_KEY >key; echo $$ >pid; while :; do sleep 0.05; done`
		if sig.trap {
			script = `trap 'echo ` + sig.name + ` >>got; exit 9' ` + sig.name + `; ` + script
		}
		for _, name := range []string{"key", "pid", "got"} {
			_ = os.Remove(filepath.Join(x.dir, name))
		}
		p := x.start(script, "SIGNALBOX_TOKEN="+token)
		pid, key := x.file("pid"), x.file("key")
		require.True(t, strings.HasPrefix(key, "sbx_live_"), key)
		require.Equal(t, http.StatusOK, x.status(key))

		environ, err := os.ReadFile("/proc/" + pid + "/environ")
		require.NoError(t, err)
		require.Contains(t, string(environ), "ANTHROPIC_API_KEY="+key+"\x00")
		require.NotContains(t, string(environ), token)
		require.NotContains(t, string(environ), x.told.APIKey)
		for _, of := range []string{pid, strconv.Itoa(p.cmd.Process.Pid)} {
			line, err := os.ReadFile("/proc/" + of + "/cmdline")
			require.NoError(t, err)
			require.NotContains(t, string(line), key)
		}

		p.signal(sig.is)
		require.Equal(t, sig.exit, p.wait(20*time.Second), p.err.String())
		if sig.trap {
			require.Equal(t, sig.name, x.file("got"), "the command gets it, once")
		}
		require.Equal(t, http.StatusUnauthorized, x.status(key))
		require.Equal(t, strings.Repeat("revoked ", i+1), strings.Join(x.keys(), " ")+" ")
		require.Equal(t, "sh runs without SIGNALBOX_TOKEN.\n", p.err.String())
		require.Empty(t, p.out.String())
	}
}

// TestARunWithoutStandardError: a word to a standard error that nobody reads any more neither ends the run nor leaves its key behind.
func TestARunWithoutStandardError(t *testing.T) {
	_, x := newTrailing(t)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.Close())
	cmd := exec.Command("signalbox", "run", "--train", "web", "--", "sh", "-c", "echo $ANTHROPIC_API_KEY >key; exit 7")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ANTHROPIC_AUTH_TOKEN=another"}, x.env...)
	cmd.Dir, cmd.Stderr = x.dir, write
	err = cmd.Run()
	require.NoError(t, write.Close())
	var ended *exec.ExitError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, 7, ended.ExitCode(), ended.String())
	require.Equal(t, http.StatusUnauthorized, x.status(x.file("key")))
	require.Equal(t, []string{"revoked"}, x.keys())
}

// TestARunWithoutAServerAtItsEnd: the command's exit code is passed on, and it is said until when the key lives.
func TestARunWithoutAServerAtItsEnd(t *testing.T) {
	server, x := newTrailing(t)
	p := x.start(`echo $ANTHROPIC_API_KEY >key; while [ ! -e stop ]; do sleep 0.05; done; exit 3`)
	key := x.file("key")
	server.signal(syscall.SIGKILL)
	server.wait(10 * time.Second)
	require.NoError(t, os.WriteFile(filepath.Join(x.dir, "stop"), nil, 0o600))
	require.Equal(t, 3, p.wait(20*time.Second), p.err.String())
	require.Regexp(t, `^The client key of this run is NOT revoked \(unreachable\): it lives, until 20\S+ \S+.*\. Revoke it with: signalbox key revoke web key_[0-9a-z]+\n$`, p.err.String())
	require.NotContains(t, p.err.String(), key)
}

// TestARunOnATerminal: the command has the terminal. What is typed there reaches it, once, and does not end what waits for it.
func TestARunOnATerminal(t *testing.T) {
	_, x := newTrailing(t)
	stop := filepath.Join(x.dir, "stop")
	caught := onTerminal(t, x.env, "run", "--train", "web", "--", "sh", "-c", `n=0; trap 'n=$((n+1)); echo got $n' INT; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo ready; while [ ! -e `+stop+` ]; do sleep 0.05; done; exit 5`)
	caught.sees("ready")
	caught.types("\x03")
	caught.sees("got 1")
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, os.WriteFile(stop, nil, 0o600))
	require.Equal(t, 5, caught.wait(20*time.Second), caught.screen.String())
	require.NotContains(t, caught.screen.String(), "got 2")

	ended := onTerminal(t, x.env, "run", "--train", "web", "--", "sh", "-c", "echo ready; exec sleep 100")
	ended.sees("ready")
	ended.types("\x03")
	require.Equal(t, 130, ended.wait(20*time.Second), ended.screen.String())
	require.Equal(t, []string{"revoked", "revoked"}, x.keys())
}

// TestARunIsAJob: Ctrl-Z gives the shell back, and fg goes on, also where the command stops itself alone, as a program does that reads keys as they are.
func TestARunIsAJob(t *testing.T) {
	_, x := newTrailing(t)
	shell := onTerminalIn(t, x.dir, exec.Command("bash", "--norc", "--noprofile", "-i"), append([]string{"HOME=" + t.TempDir(), "PS1=> ", "HISTFILE="}, x.env...))
	t.Cleanup(func() { t.Logf("%q", shell.screen.String()) })
	shell.sees("> ")
	for i, script := range []string{`echo rea""dy; read line; echo "went on" $line`, `echo rea""dy; kill -STOP $$; read line; echo "went on" $line`} {
		stops, round := strings.Count(shell.screen.String(), "Stopped"), strconv.Itoa(i)
		shell.types("signalbox run --train web -- sh -c '" + script + "'; echo ended " + round + "$?\n")
		require.Eventually(t, func() bool { return strings.Count(shell.screen.String(), "ready") == i+1 }, 20*time.Second, 10*time.Millisecond, shell.screen.String())
		if i == 0 {
			shell.types("\x1a") // Ctrl-Z
		}
		require.Eventually(t, func() bool { // and the shell reads again
			screen := shell.screen.String()
			return strings.Count(screen, "Stopped") > stops && strings.HasSuffix(screen, "> ")
		}, 20*time.Second, 10*time.Millisecond)
		shell.types("fg\n")
		time.Sleep(200 * time.Millisecond)
		shell.types("line" + round + "\n")
		require.Eventually(t, func() bool {
			screen := shell.screen.String()
			return strings.Contains(screen, "went on line"+round) && strings.HasSuffix(screen, "> ")
		}, 20*time.Second, 10*time.Millisecond)
	}
	require.Eventually(t, func() bool { return strings.Join(x.keys(), " ") == "revoked revoked" }, 20*time.Second, 100*time.Millisecond)
	shell.types("exit\n")
	shell.wait(10 * time.Second)
}
