package storetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// server returns the URL of a PostgreSQL server's maintenance database.
func server(t testing.TB) string {
	t.Helper()
	if u := os.Getenv("SIGNALBOX_TEST_POSTGRES_URL"); u != "" {
		return u
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("signalbox-test-postgres-%d", os.Getuid()))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer func() { _ = lock.Close() }()
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	note := filepath.Join(dir, "url")
	if b, err := os.ReadFile(note); err == nil && answers(string(b)) {
		return string(b)
	}
	u := start(t, filepath.Join(dir, "data"))
	require.NoError(t, os.WriteFile(note, []byte(u), 0o600))
	return u
}

func answers(u string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, u)
	if err != nil {
		return false
	}
	return c.Close(ctx) == nil
}

// start starts the shared server, which outlives this test binary.
func start(t testing.TB, data string) string {
	t.Helper()
	i := installation(t)
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		i.initdb(t, data)
	}
	_ = os.Remove(filepath.Join(data, "postmaster.pid"))
	port := freePort(t)
	opts := []string{"-p " + strconv.Itoa(port), "-h 127.0.0.1", "-k ''", "-c fsync=off", "-c max_connections=300"}
	i.run(t, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(data, "log"), "-o", strings.Join(opts, " "), "start")
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// installed is the PostgreSQL of this machine, and the user that it runs as.
type installed struct {
	bin      string
	uid, gid int // -1: the user of the test
}

func installation(t testing.TB) installed {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	require.NotEmpty(t, bins, "PostgreSQL is not installed; run: apt-get install postgresql")
	sort.Strings(bins)
	i := installed{bin: filepath.Dir(bins[len(bins)-1]), uid: -1, gid: -1}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		require.NoError(t, err)
		i.uid, err = strconv.Atoi(u.Uid)
		require.NoError(t, err)
		i.gid, err = strconv.Atoi(u.Gid)
		require.NoError(t, err)
	}
	return i
}

// command prepares a program to run as PostgreSQL's user.
func (i installed) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if i.uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(i.uid), Gid: uint32(i.gid)}}
	}
	return cmd
}

func (i installed) run(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := i.command(filepath.Join(i.bin, name), args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}

// give hands a file or a directory to PostgreSQL's user.
func (i installed) give(t testing.TB, path string) {
	t.Helper()
	if i.uid >= 0 {
		require.NoError(t, os.Chown(path, i.uid, i.gid))
	}
}

func (i installed) initdb(t testing.TB, data string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(data, 0o700))
	i.give(t, data)
	i.run(t, "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D", data)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
