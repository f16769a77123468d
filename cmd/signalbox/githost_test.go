package main

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gitUser and gitPassword are what the git host of the tests wants. The password has what a protocol of lines of key=value might stumble over.
const gitUser, gitPassword = "ada", "planted-8f3k2=git secret %41"

// gitHost serves a repository, team/app.git, by git's own server program to whoever signs in, and returns its address.
func gitHost(t testing.TB) string {
	t.Helper()
	root, work := t.TempDir(), t.TempDir()
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = work
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work, "GIT_CONFIG_NOSYSTEM=1"}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	require.NoError(t, os.WriteFile(filepath.Join(work, "README"), []byte("of a repository that wants a password\n"), 0o600))
	git("init", "-q", ".")
	git("add", "README")
	git("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "first")
	git("clone", "-q", "--bare", ".", filepath.Join(root, "team", "app.git"))
	backend := &cgi.Handler{Path: filepath.Join(git("--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	var mu sync.Mutex
	var seen strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		good := user == gitUser && password == gitPassword
		mu.Lock()
		seen.WriteString(r.Method + " " + r.URL.String() + " " + r.UserAgent() + "\n")
		mu.Unlock()
		if !good {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		require.NotContains(t, seen.String(), "planted", "the password stands in an address")
	})
	return server.URL
}
