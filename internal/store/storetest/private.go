package storetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Server is a PostgreSQL of one test, which may be stopped, started and set up at will. Its unix socket is in Dir.
type Server struct {
	// URL names its maintenance database for the superuser, without TLS.
	URL  string
	Dir  string
	Port int

	installed installed
}

// Private starts a PostgreSQL that ends with the test. Each setting is a line of postgresql.conf; files are put into its data directory,
// readable by it alone.
func Private(t testing.TB, files map[string][]byte, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "sbx-pg-") // short: a unix socket's path has some hundred characters at most
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	s := &Server{Dir: dir, Port: freePort(t), installed: installation(t)}
	s.installed.give(t, dir)
	s.installed.initdb(t, s.data())
	for name, content := range files {
		path := filepath.Join(s.data(), name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		s.installed.give(t, path)
	}
	conf, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	lines := append([]string{
		"listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", s.Port), "unix_socket_directories = '" + dir + "'", "fsync = off", "max_connections = 200",
	}, settings...)
	_, err = conf.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	require.NoError(t, err)
	require.NoError(t, conf.Close())
	s.URL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
	s.Start(t)
	t.Cleanup(func() { _ = s.ctl("immediate", "stop").Run() })
	return s
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

func (s *Server) ctl(mode string, args ...string) *exec.Cmd {
	return s.installed.command(filepath.Join(s.installed.bin, "pg_ctl"), append([]string{"-D", s.data(), "-m", mode, "-w", "-l", filepath.Join(s.Dir, "log")}, args...)...)
}

// Start starts the server and waits until it takes connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	// The server keeps the output of pg_ctl open, so that nobody may wait for its end.
	out, err := os.Create(filepath.Join(s.Dir, "start.log"))
	require.NoError(t, err)
	defer func() { _ = out.Close() }()
	cmd := s.ctl("fast", "start")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		t.Fatalf("PostgreSQL did not start: %v\n%s", err, log)
	}
}

// Stop ends the server; the mode is pg_ctl's: smart, fast or immediate, which is a crash.
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	out, err := s.ctl(mode, "stop").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Database makes a migrated database on this server and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return database(t, s.URL)
}

// poolerFalls is how often a PgBouncer may end by itself before that is a failure.
const poolerFalls = 4

// Pooler runs a real PgBouncer in transaction mode before the database of a URL until the test ends, and returns the URL through it. Each
// setting is a line of its configuration.
func Pooler(t testing.TB, target string, settings ...string) string {
	t.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin = "/usr/sbin/pgbouncer"
	}
	_, err = os.Stat(bin)
	require.NoError(t, err, "PgBouncer is not installed; run: apt-get install pgbouncer")
	host, port, name := parts(t, target)
	i := installation(t)
	dir, err := os.MkdirTemp("", "sbx-bouncer-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	i.give(t, dir)
	listen := freePort(t)
	lines := append([]string{
		"[databases]", fmt.Sprintf("%s = host=%s port=%s dbname=%s user=postgres", name, host, port, name),
		"[pgbouncer]", "listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", listen), "unix_socket_dir =", "auth_type = any", "pool_mode = transaction",
		"max_client_conn = 500", "default_pool_size = 10", "logfile = " + filepath.Join(dir, "log"),
	}, settings...)
	ini := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(ini, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	cmd := i.command(bin, ini)
	require.NoError(t, cmd.Start())
	var mu sync.Mutex
	stopped, fell := false, 0
	over := make(chan struct{})
	go func() { // PgBouncer 1.18 falls now and then over a client that leaves while its cancel request is on the way ("bad client state"); whoever runs it has it started again, as here
		defer close(over)
		for {
			_ = cmd.Wait()
			mu.Lock()
			if stopped || fell == poolerFalls {
				mu.Unlock()
				return
			}
			fell++
			cmd = i.command(bin, ini)
			err := cmd.Start()
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		mu.Lock()
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGKILL)
		if fell > 0 {
			t.Logf("PgBouncer ended by itself and was started again, %d times", fell)
		}
		if fell == poolerFalls {
			t.Error("PgBouncer ends by itself again and again")
		}
		mu.Unlock()
		<-over
		if t.Failed() {
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("what PgBouncer said:\n%s", said[max(0, len(said)-4000):])
		}
	})
	through := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", listen, name)
	require.Eventually(t, func() bool { return answers(through) }, 10*time.Second, 20*time.Millisecond, "PgBouncer does not answer")
	return through
}
