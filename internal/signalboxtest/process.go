package signalboxtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// Process is the real binary, run as a user runs it. It can be killed and started again on the same data and address.
type Process struct {
	URL     string
	Token   string
	DataDir string

	bin, addr string
	env       []string
	store     store.Config
	cmd       *exec.Cmd
	log       *Buffer
	planted   *Planted
}

// AdminPassword is that of admin@example.com, the administrator of every box and process.
const AdminPassword = "a long enough passphrase"

// built is a program that is built once a test binary.
type built struct {
	once sync.Once
	path string
	err  error
	out  []byte
}

// program builds the package in a directory, or in this module when that is "", and returns the path of what came of it.
func (b *built) program(t testing.TB, dir string, args ...string) string {
	t.Helper()
	b.once.Do(func() {
		home, err := os.MkdirTemp("", "signalbox-bin-")
		if err != nil {
			b.err = err
			return
		}
		b.path = filepath.Join(home, "program")
		build := exec.Command("go", append([]string{"build", "-o", b.path}, args...)...)
		build.Dir = dir
		b.out, b.err = build.CombinedOutput()
	})
	require.NoError(t, b.err, "%s", b.out)
	return b.path
}

var delivered, failing, fosite built

const command = "signalbox.dev/signalbox/cmd/signalbox"

// Binary builds the command once a test binary and returns its path.
func Binary(t testing.TB) string { t.Helper(); return delivered.program(t, "", command) }

// RemoveBinary removes what was built; TestMain calls it.
func RemoveBinary() {
	for _, path := range []string{delivered.path, failing.path, fosite.path} {
		if path != "" {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
}

// NewProcess initialises a fresh database with the real binary. It is not running yet.
func NewProcess(t testing.TB, e store.Engine, env ...string) *Process {
	t.Helper()
	return newProcess(t, storetest.Config(t, e), env)
}

// NewProcessOn is NewProcess on a PostgreSQL database that the test brings.
func NewProcessOn(t testing.TB, databaseURL string, env ...string) *Process {
	t.Helper()
	return newProcess(t, store.Config{DataDir: t.TempDir(), PostgresURL: secret.FromString(databaseURL)}, env)
}

// Peer is another instance of the fleet that p belongs to: the same database, perhaps by another way, the same root key and tokens, a data
// directory of its own. It is not running yet.
func (p *Process) Peer(t testing.TB, databaseURL string, env ...string) *Process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	q := &Process{addr: l.Addr().String(), DataDir: t.TempDir(), Token: p.Token, bin: p.bin, store: p.store, log: &Buffer{}, planted: p.planted}
	require.NoError(t, l.Close())
	q.URL = "http://" + q.addr
	q.env = q.environment(databaseURL, env)
	t.Cleanup(func() { q.end() })
	return q
}

// Elsewhere is another installation with the root key and the tokens of p, whose database is empty: for what is restored. It is not running yet.
func (p *Process) Elsewhere(t testing.TB, e store.Engine) *Process {
	t.Helper()
	cfg := storetest.Config(t, e)
	q := p.Peer(t, cfg.PostgresURL.Reveal())
	q.DataDir, q.store = cfg.DataDir, cfg
	q.env = q.environment(cfg.PostgresURL.Reveal(), nil)
	return q
}

// Within has the process run in a network namespace (ip-netns(8)), where it serves at the address. Call it before [Process.Start].
func (p *Process) Within(t testing.TB, namespace, address string) {
	t.Helper()
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "within")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec ip netns exec "+namespace+" "+p.bin+" \"$@\"\n"), 0o700)) // exec: signals reach the process
	p.bin, p.addr = script, net.JoinHostPort(address, port)
	p.URL = "http://" + p.addr
}

// Command is a command of the real binary with the environment of p, such as one that opens its database.
func (p *Process) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.bin, args...)
	cmd.Env = p.env
	return cmd
}

// end kills the process, one that stands still among them.
func (p *Process) end() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	p.signal(syscall.SIGKILL)
}

func (p *Process) environment(databaseURL string, more []string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.DataDir, "SIGNALBOX_DATA_DIR=" + p.DataDir, "SIGNALBOX_ROOT_KEY=" + rootKey, "DATABASE_URL=" + databaseURL,
		"SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS=127.0.0.1", "SIGNALBOX_LOG_LEVEL=debug", "SIGNALBOX_LOG_FORMAT=json",
		"SIGNALBOX_CALLER_LIMIT=1000000", "SIGNALBOX_REVEAL_LIMIT=1000000", "SIGNALBOX_FAILURE_LIMIT=1000000", "SIGNALBOX_DETECTORS=" + Undetected,
	}, more...)
}

func newProcess(t testing.TB, cfg store.Config, env []string) *Process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Process{addr: l.Addr().String(), DataDir: cfg.DataDir, bin: Binary(t), store: cfg, log: &Buffer{}, planted: &Planted{}}
	require.NoError(t, l.Close())
	p.URL = "http://" + p.addr
	p.env = p.environment(cfg.PostgresURL.Reveal(), env)
	init := exec.Command(p.bin, "init", "--admin-email", "admin@example.com", "--password-stdin", "--json")
	init.Env, init.Stdin = p.env, strings.NewReader(AdminPassword+"\n")
	var stderr bytes.Buffer
	init.Stderr = &stderr
	out, err := init.Output()
	require.NoError(t, err, "%s", stderr.String())
	var made struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(out, &made), "%s", out)
	require.NotEmpty(t, made.AccessToken)
	p.Token = made.AccessToken
	p.planted.Add("password", AdminPassword)
	p.planted.Add("access token", p.Token)
	p.planted.Add("root key", rootKey)
	t.Cleanup(func() { p.end() })
	return p
}

// Start starts the process and returns how long it took until it was ready to serve.
func (p *Process) Start(t testing.TB) time.Duration {
	t.Helper()
	return p.start(t, func(resp *http.Response) bool { return resp.StatusCode == http.StatusOK })
}

// StartSealed starts the process and waits until it says that it is sealed.
func (p *Process) StartSealed(t testing.TB) {
	t.Helper()
	p.start(t, func(resp *http.Response) bool {
		var told struct {
			Status string `json:"status"`
		}
		return json.NewDecoder(resp.Body).Decode(&told) == nil && told.Status == "sealed"
	})
}

// start starts the process and returns how long it took until /readyz answered so.
func (p *Process) start(t testing.TB, is func(*http.Response) bool) time.Duration {
	t.Helper()
	p.cmd = exec.Command(p.bin, "serve", "--listen", p.addr)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, p.log, p.log
	began := time.Now()
	require.NoError(t, p.cmd.Start())
	for time.Since(began) < 20*time.Second {
		resp, err := http.Get(p.URL + "/readyz")
		if err == nil {
			right := is(resp)
			_ = resp.Body.Close()
			if right {
				return time.Since(began)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	tail := p.log.Bytes()
	t.Fatalf("the server is not as it should be after its start:\n%s", tail[max(0, len(tail)-3000):])
	return 0
}

func (p *Process) signal(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(s)
	_ = p.cmd.Wait()
	p.cmd = nil
}

// Kill ends the process with SIGKILL, as a crash does.
func (p *Process) Kill(t testing.TB) { t.Helper(); p.signal(syscall.SIGKILL) }

// Signal sends a signal without waiting.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
	if s != syscall.SIGSTOP {
		return
	}
	// One of its threads takes the signal when it is its turn; until then the others go on.
	require.Eventually(t, func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
		return err == nil && len(tasks) > 0 && !slices.ContainsFunc(tasks, func(path string) bool {
			stat, err := os.ReadFile(path)
			_, state, found := bytes.Cut(stat, []byte(") "))
			return err == nil && (!found || state[0] != 'T')
		})
	}, time.Minute, time.Millisecond, "it does not stop")
}

// Wait waits for the process to end by itself and returns its error.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	p.cmd = nil
	return err
}

// Pid returns the id of the running process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Admin returns a client with every scope.
func (p *Process) Admin() *client.Client { return client.New(p.URL, p.Token) }

// OpenReadOnly opens the database for looking, beside the process or after its end.
func (p *Process) OpenReadOnly(t testing.TB) *store.DB {
	t.Helper()
	cfg := p.store
	cfg.ReadOnly = true
	return storetest.OpenConfig(t, cfg)
}

// OpenBeside opens the database for writing, beside the process or after its end.
func (p *Process) OpenBeside(t testing.TB) *store.DB {
	t.Helper()
	cfg := p.store
	cfg.Beside = true
	return storetest.OpenConfig(t, cfg)
}

// CheckpointFile is where the process appends signed checkpoints.
func (p *Process) CheckpointFile() string { return filepath.Join(p.DataDir, "checkpoints.log") }

// Log returns what the process has written so far.
func (p *Process) Log() []byte { return p.log.Bytes() }

// Planted returns the secrets that the process was given.
func (p *Process) Planted() *Planted { return p.planted }

// Secret plants a secret in this process's set.
func (p *Process) Secret(t testing.TB, label string) secret.Value {
	t.Helper()
	return secret.FromString(p.planted.Secret(t, label))
}

// DatabaseURL returns the URL of the PostgreSQL database that p was made on.
func (p *Process) DatabaseURL() string { return p.store.PostgresURL.Reveal() }
