package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/keeper/keepertest"
	"signalbox.dev/signalbox/internal/secret"
)

// TestMain lets scripts and tests run this very program as the command signalbox.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"signalbox": main, "fakebrowser": fakeBrowser, "sdkask": sdkAsk})
}

// plantedKey is the upstream key of the tests; it may appear nowhere but at the fake upstream and in a reveal.
const plantedKey = "sk-ant-planted-8f3k2-0123456789"

// fake starts the fake upstream, which accepts plantedKey, and returns its address.
func fake(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u := demo.NewUpstream(demo.Options{Keys: []secret.Value{secret.FromString(plantedKey)}})
	served := make(chan error, 1)
	go func() { served <- u.Serve(l) }()
	t.Cleanup(func() {
		_ = u.Shutdown(t.Context()) // the context has ended: what is open is cut
		require.NoError(t, <-served)
	})
	return l.Addr().String()
}

// vaultToken is the one that the fake Vault takes.
const vaultToken = "hvs.planted-8f3k2"

// fakeVault starts a Vault with some keys, and returns the address of its transit engine as a keeper of root keys.
func fakeVault(t testing.TB) string {
	t.Helper()
	v := keepertest.StartVault(t, vaultToken)
	for _, name := range []string{"one", "two", "t", "p", "signalbox", "signalbox-2"} {
		v.MakeKey(name)
	}
	return strings.TrimSuffix(v.Keeper("one"), "/one")
}

// freePort returns an address that nothing listens on at this moment.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestScripts(t *testing.T) {
	upstream := fake(t)
	consents := consentServer(t).URL
	vault := fakeVault(t)
	git := gitHost(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			address := freePort(t)
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("SIGNALBOX_DATA_DIR", env.WorkDir+"/data")
			env.Setenv("SIGNALBOX_LISTEN", address)
			env.Setenv("SIGNALBOX_URL", "http://"+address)
			env.Setenv("SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS", upstream+","+strings.TrimPrefix(consents, "http://")+","+strings.TrimPrefix(git, "http://"))
			env.Setenv("GIT_HOST", strings.TrimPrefix(git, "http://"))
			env.Setenv("CONSENTS", consents)
			env.Setenv("KEEPER", vault)
			env.Setenv("VAULT_TOKEN", vaultToken)
			env.Setenv("UPSTREAM", "http://"+upstream)
			env.Setenv("FREE", freePort(t))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "ask": ask, "capture": capture, "mode": mode, "until": untilMatch,
		},
	})
}

// exits CODE COMMAND… runs a command and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// ready waits until the server of the script is ready.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	for range 100 {
		resp, err := http.Get(ts.Getenv("SIGNALBOX_URL") + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the server is not ready within 5 s")
}

// untilMatch is until PATTERN COMMAND… runs a command again and again, for at most 5 s, until it succeeds and its standard output matches.
func untilMatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND…")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	for range 50 {
		if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("no %q within 5 s", args[0])
}

// ask KEY STATUS PATTERN sends a message through the proxy with a client key and checks the answer.
func ask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ask KEY STATUS PATTERN")
	}
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("SIGNALBOX_URL")+"/v1/messages",
		strings.NewReader(`{"model":"claude-fake","max_tokens":20,"messages":[{"role":"user","content":"tokens for trains"}]}`))
	ts.Check(err)
	if args[0] != "" {
		req.Header.Set("X-Api-Key", args[0])
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[1] || !regexp.MustCompile(args[2]).Match(body) {
		ts.Fatalf("answer %d %s, want %s %s", resp.StatusCode, body, args[1], args[2])
	}
}

// capture NAME PATTERN sets a variable to the first group of a pattern in the standard output of the last command.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("%q is not in the output", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// mode MODE FILE checks the permissions of a file.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode MODE FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
