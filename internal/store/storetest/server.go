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

func start(t testing.TB, data string) string {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	require.NotEmpty(t, bins, "PostgreSQL is not installed; run: apt-get install postgresql")
	sort.Strings(bins)
	bin := filepath.Dir(bins[len(bins)-1])
	var as *syscall.SysProcAttr
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		require.NoError(t, err)
		uid, err := strconv.Atoi(u.Uid)
		require.NoError(t, err)
		gid, err := strconv.Atoi(u.Gid)
		require.NoError(t, err)
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		require.NoError(t, os.MkdirAll(data, 0o700))
		require.NoError(t, os.Chown(data, uid, gid))
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.SysProcAttr, cmd.Dir = as, "/"
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-D", data)
	}
	_ = os.Remove(filepath.Join(data, "postmaster.pid"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	opts := []string{"-p " + strconv.Itoa(port), "-h 127.0.0.1", "-k ''", "-c fsync=off", "-c max_connections=300"}
	run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(data, "log"), "-o", strings.Join(opts, " "), "start")
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}
