package probe_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startMariaDB starts a real MariaDB on a free port, which ends with the test, and returns its address. It is set up with statements, a line each.
func startMariaDB(t *testing.T, cert, key string, statements ...string) string {
	t.Helper()
	const advice = "MariaDB is not installed; run: apt-get install mariadb-server-core"
	for _, program := range []string{"/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db"} {
		_, err := os.Stat(program)
		require.NoError(t, err, advice)
	}
	dir, err := os.MkdirTemp("", "sbx-my-") // short: a unix socket's path has some hundred characters at most
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	files := map[string]string{"server.crt": cert, "server.key": key, "init.sql": strings.Join(statements, "\n") + "\n"}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	as := nobody(t)
	for _, name := range []string{"", "server.crt", "server.key", "init.sql"} {
		if as != nil {
			require.NoError(t, os.Chown(filepath.Join(dir, name), int(as.Uid), int(as.Gid)))
		}
	}
	data, log := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	small := []string{"--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"}
	install := exec.Command("/usr/bin/mariadb-install-db", append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + dir, "--auth-root-authentication-method=normal", "--skip-test-db"}, small...)...)
	install.Dir, install.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	server := exec.Command("/usr/sbin/mariadbd", append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + dir, "--socket=" + filepath.Join(dir, "s"), "--pid-file=" + filepath.Join(dir, "pid"),
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "--log-error=" + log, "--init-file=" + filepath.Join(dir, "init.sql"),
		"--ssl-cert=" + filepath.Join(dir, "server.crt"), "--ssl-key=" + filepath.Join(dir, "server.key"), "--disconnect-on-expired-password=ON", "--secure-auth=OFF"}, small...)...)
	server.Dir, server.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	require.NoError(t, server.Start())
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
	})
	said := func() string {
		b, _ := os.ReadFile(log)
		return string(b)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // the init file is through before it listens
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			_ = c.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("MariaDB did not start: %v\n%s", err, said())
		default:
		}
		require.True(t, time.Now().Before(deadline), "MariaDB does not answer\n%s", said())
	}
	require.NotContains(t, said(), "[ERROR]", "a statement was refused")
	return address
}

// nobody is the user that a server runs as which refuses to run as root; nil where the test does not run as root.
func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// mariadbClient signs in with MariaDB's own client, and returns what it says in the end.
func mariadbClient(t *testing.T, address, user, password string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("mariadb")
	require.NoError(t, err, "MariaDB's client is not installed; run: apt-get install mariadb-client-core")
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--no-defaults", "--protocol=tcp", "--host=" + host, "--port=" + port, "--user=" + user, "--execute=SELECT 1"}, args...)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+password)
	out, err := cmd.CombinedOutput()
	return fmt.Sprintf("%s %v", out, err)
}
