package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with a command on its other side.
type terminal struct {
	*process
	keys   *os.File
	screen *buffer
	shown  chan struct{} // closed when the screen has everything
}

// read waits until everything that was printed is on the screen; the command must have ended.
func (x *terminal) read(t *testing.T) {
	t.Helper()
	select {
	case <-x.shown:
	case <-time.After(5 * time.Second):
		require.Fail(t, "the terminal is still open", x.screen.String())
	}
}

// onTerminal starts signalbox with a terminal as all of its streams.
func onTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	return onTerminalIn(t, "", exec.Command("signalbox", args...), append([]string{"HOME=" + t.TempDir()}, env...))
}

// onTerminalIn starts cmd in a directory with a terminal as all of its streams.
func onTerminalIn(t *testing.T, dir string, cmd *exec.Cmd, env []string) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	p := &process{t: t, cmd: cmd, done: make(chan error, 1)}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}, env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, p.cmd.Start())
	require.NoError(t, tty.Close())
	x := &terminal{process: p, keys: keys, screen: &buffer{}, shown: make(chan struct{})}
	go func() {
		_, _ = io.Copy(x.screen, keys)
		close(x.shown)
	}()
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = keys.Close()
	})
	return x
}

// sees waits until the screen holds a text.
func (x *terminal) sees(text string) {
	x.t.Helper()
	require.Eventually(x.t, func() bool { return strings.Contains(x.screen.String(), text) }, time.Minute, 5*time.Millisecond, x.screen.String())
}

func (x *terminal) types(text string) {
	x.t.Helper()
	_, err := x.keys.WriteString(text)
	require.NoError(x.t, err)
}

// TestATableDoesNotSteerATerminal: a name that somebody chose reaches a file as it is, and a terminal without its control characters.
func TestATableDoesNotSteerATerminal(t *testing.T) {
	const planted = "planted \x1b[31mred\x07 \u202e"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, "train_id,requests\n"+planted+",1\n")
	}))
	t.Cleanup(server.Close)
	env := []string{"SIGNALBOX_URL=" + server.URL, "SIGNALBOX_TOKEN=sbx_pat_made-up"}
	x := onTerminal(t, env, "usage", "--csv")
	require.Zero(t, x.wait(5*time.Second), x.screen.String())
	x.read(t)
	require.Contains(t, x.screen.String(), "planted \ufffd[31mred\ufffd \ufffd,1")
	require.NotContains(t, x.screen.String(), "\x1b")
	cmd := exec.Command("signalbox", "usage", "--csv")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), planted)
}

func TestPromptsDoNotEcho(t *testing.T) {
	_, told := dev(t)
	env := []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir, "NO_COLOR=1"}

	x := onTerminal(t, env, "account", "add", "typed", "--train", "web")
	x.sees("API key of the anthropic account (not shown): ")
	x.types(" " + plantedKey + "\n")
	require.Zero(t, x.wait(5*time.Second), x.screen.String())
	x.sees("Stored account typed")
	require.NotContains(t, x.screen.String(), plantedKey)

	x = onTerminal(t, env, "cred", "reveal", "typed", "--reason", "test")
	require.Zero(t, x.wait(5*time.Second))
	x.sees(plantedKey)
	require.NotContains(t, x.screen.String(), " "+plantedKey, "space around a key comes from copying")

	x = onTerminal(t, env, "account", "add", "empty", "--train", "web")
	x.sees("not shown")
	x.types("\n")
	require.Equal(t, 2, x.wait(5*time.Second))

	x = onTerminal(t, env, "cred", "rm", "typed")
	x.sees("Delete api_key typed with all its versions, for good? [y/N] ")
	x.types("n\n")
	require.Equal(t, 1, x.wait(5*time.Second))
	x.sees("nothing was done")
	x = onTerminal(t, env, "cred", "rm", "typed")
	x.sees("[y/N] ")
	x.types("y\n")
	require.Zero(t, x.wait(5*time.Second))
}

func TestInterruptAtAPromptGivesTheEchoBack(t *testing.T) {
	_, told := dev(t)
	x := onTerminal(t, []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}, "account", "add", "--train", "web")
	x.sees("not shown")
	state, err := unix.IoctlGetTermios(int(x.keys.Fd()), unix.TCGETS)
	require.NoError(t, err)
	require.Zero(t, state.Lflag&unix.ECHO)
	x.types("\x03") // Ctrl-C
	require.Equal(t, 1, x.wait(5*time.Second))
	state, err = unix.IoctlGetTermios(int(x.keys.Fd()), unix.TCGETS)
	require.NoError(t, err)
	require.NotZero(t, state.Lflag&unix.ECHO)
	x.sees("interrupted")
}

func TestPasswordIsAskedForTwice(t *testing.T) {
	x := onTerminal(t, nil, "init", "--admin-email", "ada@example.com", "--data-dir", t.TempDir()+"/data")
	x.sees("Password of ada@example.com (not shown): ")
	x.types("planted-password-1\n")
	x.sees("again (not shown): ")
	x.types("planted-password-2\n")
	x.sees("The two entries differ. Once more.")
	require.Eventually(t, func() bool { return strings.Count(x.screen.String(), "Password of ada@example.com (not shown): ") == 2 }, 5*time.Second, 5*time.Millisecond)
	x.types("planted-password-3\n")
	require.Eventually(t, func() bool { return strings.Count(x.screen.String(), "again (not shown): ") == 2 }, 5*time.Second, 5*time.Millisecond)
	x.types("planted-password-3\n")
	require.Zero(t, x.wait(10*time.Second), x.screen.String())
	x.sees("sbp_")
	require.NotContains(t, x.screen.String(), "planted-password")
}

func TestColoursGoToATerminalOnly(t *testing.T) {
	_, told := dev(t)
	env := []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}
	coloured := onTerminal(t, env, "account", "list")
	require.Zero(t, coloured.wait(5*time.Second))
	coloured.sees("\x1b[1mNAME\x1b[0m")
	coloured.sees("\x1b[32mactive\x1b[0m")
	plain := onTerminal(t, append(env, "NO_COLOR=1"), "account", "list")
	require.Zero(t, plain.wait(5*time.Second))
	plain.sees("team-beta")
	piped := start(t, env, "account", "list")
	require.Zero(t, piped.wait(5*time.Second))
	require.NotContains(t, plain.screen.String()+piped.out.String(), "\x1b")
	require.Equal(t, piped.out.String(), strings.ReplaceAll(plain.screen.String(), "\r\n", "\n"), "the words are the same everywhere")
}

// TestPromptsForEveryField: optional fields may be left empty, a key in PEM is taken whole, and a custom credential asks for names.
func TestPromptsForEveryField(t *testing.T) {
	_, told := dev(t)
	env := []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir, "NO_COLOR=1"}
	const pem = "-----BEGIN PLANTED-----\nplanted-pem-8f3k2\n-----END PLANTED-----\n"
	reveal := func(args ...string) string {
		p := start(t, env, append([]string{"cred", "reveal", "--reason", "test"}, args...)...)
		require.Zero(t, p.wait(5*time.Second), p.err.String())
		return p.out.String()
	}

	x := onTerminal(t, env, "cred", "add", "deploy", "--type", "ssh_key")
	x.sees("private_key (not shown): ")
	x.types(pem)
	x.sees("passphrase, if there is one (not shown): ")
	x.types("\n")
	require.Zero(t, x.wait(5*time.Second), x.screen.String())
	x.sees("Stored ssh_key deploy")
	require.NotContains(t, x.screen.String(), "PLANTED")
	require.NotContains(t, x.screen.String(), "planted")
	require.Equal(t, pem, reveal("deploy"))

	x = onTerminal(t, env, "cred", "add", "odd", "--type", "custom")
	x.sees("Name of a secret field (empty to end): ")
	x.types("left\n")
	x.sees("left (not shown): ")
	x.types("planted-left\n")
	require.Eventually(t, func() bool { return strings.Count(x.screen.String(), "Name of a secret field") == 2 }, 5*time.Second, 5*time.Millisecond)
	x.types("\n")
	require.Zero(t, x.wait(5*time.Second), x.screen.String())
	require.NotContains(t, x.screen.String(), "planted-left")
	require.Equal(t, "planted-left\n", reveal("odd"))

	x = onTerminal(t, env, "cred", "add", "tokens", "--type", "oauth", "--token-expires", "1h", "--token-endpoint", "https://auth.example.com/token")
	x.sees("access_token (not shown): ")
	x.types("planted-access\n")
	x.sees("refresh_token, if there is one (not shown): ")
	x.types("planted-refresh\n")
	x.sees("client_secret, if there is one (not shown): ")
	x.types("\n")
	require.Zero(t, x.wait(5*time.Second), x.screen.String())
	require.Equal(t, "planted-refresh\n", reveal("tokens", "refresh_token"))
}
