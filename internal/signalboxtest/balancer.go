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
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// Balancer runs a real HAProxy before the instances of a fleet until the test ends, with the configuration that docs/operations/fleet.md
// tells, for three, and returns its address. Each answer names the instance that gave it in the header X-Served-By, by its number from 1; HAProxy's own answers have none.
func Balancer(t testing.TB, fleet ...*Process) string {
	t.Helper()
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		bin = "/usr/sbin/haproxy"
	}
	_, err = os.Stat(bin)
	require.NoError(t, err, "HAProxy is not installed; run: apt-get install haproxy")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listen := l.Addr().String()
	require.NoError(t, l.Close())
	guide, err := os.ReadFile(filepath.Join(home(t), "docs", "operations", "fleet.md"))
	require.NoError(t, err)
	_, told, found := strings.Cut(string(guide), "```haproxy\n")
	require.True(t, found)
	told, _, _ = strings.Cut(told, "```")
	told = strings.Replace(told, "bind :8420", "bind "+listen, 1)
	for i, p := range fleet {
		server := fmt.Sprintf("server %d 10.0.0.%d:8420", i+1, 11+i)
		require.Contains(t, told, server)
		told = strings.Replace(told, server, fmt.Sprintf("server %d %s", i+1, p.addr), 1)
	}
	require.NotContains(t, told, "10.0.0.", "there is a server for each instance")
	dir := t.TempDir()
	conf := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(conf, []byte("global\n  maxconn 8000\n"+told), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(bin, "-db", "-f", conf)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("what HAProxy said:\n%s", said[max(0, len(said)-4000):])
		}
	})
	url := "http://" + listen
	require.Eventually(t, func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 10*time.Second, 50*time.Millisecond, "HAProxy does not answer")
	return url
}

// home is the top directory of the repository.
func home(t testing.TB) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	require.True(t, ok)
	return filepath.Join(filepath.Dir(here), "..", "..")
}

// Next builds the command as a later version would be: the same code with one more migration, whose SQL is given. It returns the program's path
// and the number of that migration.
func Next(t testing.TB, sql string) (program string, schema int64) {
	t.Helper()
	latest, err := store.Latest()
	require.NoError(t, err)
	dir := t.TempDir()
	text := filepath.Join(dir, "next.sql")
	require.NoError(t, os.WriteFile(text, []byte(sql), 0o600))
	name := filepath.Join(home(t), "internal", "store", "migrations", fmt.Sprintf("%05d_next.sql", latest+1))
	table, err := json.Marshal(map[string]map[string]string{"Replace": {name: text}})
	require.NoError(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, table, 0o600))
	program = filepath.Join(dir, "signalbox-next")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, command)
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	require.NoError(t, build.Run(), "%s", out.String())
	return program, latest + 1
}

// Upgrade replaces the program of a process that is not running by another one.
func (p *Process) Upgrade(program string) { p.bin = program }
