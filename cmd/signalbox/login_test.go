package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

// desk is a person's computer beside a running server.
type desk struct {
	*testing.T
	server string
	file   loginFile
	env    []string // of the command line of the person
	admin  []string // of the server's own machine
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	_, told := dev(t)
	config := t.TempDir()
	d := &desk{T: t, server: told.BaseURL, file: loginFile{filepath.Join(config, "signalbox")}, admin: []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}}
	d.env = []string{
		"XDG_CONFIG_HOME=" + config, "SIGNALBOX_DATA_DIR=" + t.TempDir(), "BROWSER=fakebrowser", "FAKE_EMAIL=" + fakeEmail, "FAKE_PASSWORD=" + typedSecret, "FAKE_LOG=" + config + "/browser.log",
	}
	_, errs, code := d.run(d.admin, typedSecret, "user", "add", fakeEmail, "--role", "operator", "--password-stdin")
	require.Zero(t, code, errs)
	return d
}

// run runs a command to its end.
func (d *desk) run(env []string, stdin string, args ...string) (out, errs string, code int) {
	cmd := exec.Command("signalbox", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.TempDir(), "TMPDIR=" + d.TempDir()}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run()
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// into runs a command whose answer goes to a file, and returns its exit code.
func (d *desk) into(out *os.File, env []string, args ...string) int {
	cmd := exec.Command("signalbox", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.TempDir(), "TMPDIR=" + d.TempDir()}, env...)
	cmd.Stdout = out
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode()
}

func (d *desk) login() {
	d.Helper()
	_, errs, code := d.run(d.env, "", "login", "--server", d.server)
	require.Zero(d, code, errs)
}

// age moves the end of the access token into the past.
func (d *desk) age() {
	d.Helper()
	saved, err := d.file.read()
	require.NoError(d, err)
	saved.expires = time.Now().Add(-time.Minute)
	require.NoError(d, d.file.write(*saved))
}

// record counts the events of an action by their outcome and step.
func (d *desk) record(action string) map[string]int {
	d.Helper()
	out, errs, code := d.run(d.admin, "", "audit", "search", "--action", action, "--limit", "200", "--json")
	require.Zero(d, code, errs)
	n := map[string]int{}
	for _, step := range regexp.MustCompile(`"step": "([a-z]+)"`).FindAllStringSubmatch(out, -1) {
		n[step[1]]++
	}
	n["refused"] = strings.Count(out, `"outcome": "refused"`)
	return n
}

// TestCommandsRefreshTogether: of many commands that find the access token at its end at the same moment, one refreshes it and the others use what
// it got. Two that used the refresh token would end the sign-in.
func TestCommandsRefreshTogether(t *testing.T) {
	d := newDesk(t)
	d.login()
	for round := range 3 {
		d.age()
		type end struct {
			out, errs string
			code      int
		}
		ends := make(chan end, 6)
		var wg sync.WaitGroup
		for range cap(ends) {
			wg.Go(func() {
				out, errs, code := d.run(d.env, "", "whoami")
				ends <- end{out, errs, code}
			})
		}
		wg.Wait()
		close(ends)
		for e := range ends {
			require.Zero(t, e.code, e.errs)
			require.Contains(t, e.out, "signalbox login")
		}
		require.Equal(t, map[string]int{"login": 1, "refresh": round + 1, "refused": 0}, d.record("identity.tokens"))
	}
	left, err := os.ReadDir(d.file.dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "the file and its lock, and nothing else")
}

// TestLoginWithoutABrowser: the page shows a code, which is pasted.
func TestLoginWithoutABrowser(t *testing.T) {
	d := newDesk(t)
	for _, args := range [][]string{{"login", "--server", d.server, "--no-browser"}, {"login", "--server", d.server}} {
		env := d.env
		if len(args) == 3 {
			env = append(env, "BROWSER=", "DISPLAY=") // there is none
		}
		cmd := exec.Command("signalbox", args...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		var out, errs buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		var page string
		require.Eventually(t, func() bool {
			page = regexp.MustCompile(`http://\S+/cli\?\S+`).FindString(errs.String())
			return page != "" && strings.HasSuffix(errs.String(), "\n")
		}, 10*time.Second, 10*time.Millisecond, "%s", &errs)
		require.NotContains(t, page, "port=")
		p := &fakePerson{email: fakeEmail, password: typedSecret, log: io.Discard}
		require.NoError(t, p.visit(page))
		require.Regexp(t, `^sbl_`, p.code)
		_, err = io.WriteString(stdin, p.code+"\n")
		require.NoError(t, err)
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait(), errs.String())
		require.Contains(t, out.String(), "Signed in at "+d.server)
		require.NotContains(t, errs.String(), p.code)
		text, _, code := d.run(d.env, "", "whoami")
		require.Zero(t, code)
		require.Contains(t, text, "signalbox login")
	}
}

// TestLoopbackTakesOneAnswer: with its state, at its own name, once; then the browser is left where no code is.
func TestLoopbackTakesOneAnswer(t *testing.T) {
	b, err := listenForCode("planted-state")
	require.NoError(t, err)
	get := func(path, host string) (int, http.Header, string) {
		req, err := http.NewRequest(http.MethodGet, "http://"+b.host+path, nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		return resp.StatusCode, resp.Header, string(text)
	}
	good := "/callback?" + url.Values{"code": {"planted-code"}, "state": {"planted-state"}}.Encode()
	for path, want := range map[string]int{
		"/": 404, "/callback": 400, "/callback?code=evil": 400, "/callback?code=evil&state=": 400, "/callback?code=evil&state=planted-stat": 400, "/callback?code=evil&state=planted-state2": 400,
		"/callback?code=evil&state=planted-state&state=planted-state": 400, "/callback?code=evil&code=planted&state=planted-state": 400, "/callback?state=planted-state": 400,
		"/callback?code=evil&error=x&state=planted-state": 400,
	} {
		status, _, text := get(path, b.host)
		require.Equal(t, want, status, path)
		require.NotContains(t, text, "evil")
	}
	status, _, _ := get(good, "evil.example")
	require.Equal(t, 403, status, "another name for this machine")
	require.Empty(t, b.answers, "none of these was taken")

	type reply struct {
		status   int
		location string
	}
	replies := make(chan reply, 1)
	go func() {
		status, header, _ := get(good, b.host)
		replies <- reply{status, header.Get("Location")}
	}()
	answer, err := b.wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, "planted-code", answer.code.Reveal())
	b.answers <- answer // while one waits for its outcome, another is told so
	status, _, _ = get(good, b.host)
	require.Equal(t, 409, status)

	closed := make(chan struct{})
	go func() {
		b.close(context.Background(), true, pageDone)
		close(closed)
	}()
	require.Equal(t, reply{303, pageDone}, <-replies)
	status, _, text := get(pageDone, b.host)
	require.Equal(t, 200, status)
	require.Contains(t, text, "You can close this window")
	require.NotContains(t, text, "<script")
	require.NotContains(t, text, "planted")
	<-closed
	_, err = http.Get("http://" + b.host + "/")
	require.Error(t, err, "the port is given back")
}

// TestRefreshThatNeverArrived: a command that is cut off while it refreshes leaves how to repeat the very request, and another does.
func TestRefreshThatNeverArrived(t *testing.T) {
	var keys []string
	status := 0 // 0: the connection breaks
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", map[bool]string{true: "application/json", false: "application/problem+json"}[status == http.StatusOK])
		w.WriteHeader(status)
		if status == http.StatusOK {
			_ = json.NewEncoder(w).Encode(client.Login{AccessToken: "planted-access-2", RefreshToken: "planted-refresh-2", ExpiresIn: 3600})
			return
		}
		_, _ = io.WriteString(w, `{"code":"already_issued","status":409,"detail":"planted"}`)
	}))
	defer server.Close()
	f := loginFile{t.TempDir()}
	old := savedLogin{server: server.URL, access: secret.FromString("planted-access-1"), refresh: secret.FromString("planted-refresh-1"), expires: time.Now().Add(-time.Second)}
	require.NoError(t, f.write(old))
	ask := func() (string, error) {
		saved, err := f.read()
		require.NoError(t, err)
		return (&loginKeeper{file: f, server: server.URL, last: *saved}).token(t.Context())
	}
	_, err := ask()
	require.Error(t, err)
	kept, err := f.read()
	require.NoError(t, err)
	require.NotEmpty(t, kept.attempt)
	require.Equal(t, "planted-refresh-1", kept.refresh.Reveal())

	// Just before its end an access token is good, and does while the server is away.
	kept.expires = time.Now().Add(time.Minute)
	require.NoError(t, f.write(*kept))
	token, err := ask()
	require.NoError(t, err)
	require.Equal(t, "planted-access-1", token)

	status = http.StatusOK
	token, err = ask()
	require.NoError(t, err)
	require.Equal(t, "planted-access-2", token)
	require.Len(t, keys, 3)
	require.Equal(t, []string{keys[0], keys[0]}, keys[1:], "the same request, not another")
	kept, err = f.read()
	require.NoError(t, err)
	require.Empty(t, kept.attempt)
	require.Equal(t, "planted-refresh-2", kept.refresh.Reveal())

	status, kept.expires = http.StatusConflict, time.Now().Add(-time.Second)
	require.NoError(t, f.write(*kept))
	_, err = ask()
	require.ErrorContains(t, err, "has ended")
	require.NotContains(t, err.Error(), "planted")
	require.NotEqual(t, keys[0], keys[3])
}

// TestServerOf: one server has one spelling, and two have two.
func TestServerOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://Box.Example.com": "https://box.example.com", "https://box.example.com:443/": "https://box.example.com", "http://box.example.com:80": "http://box.example.com",
		"http://box.example.com:443": "http://box.example.com:443", "https://box.example.com/a/": "https://box.example.com/a", "http://[::1]:8420": "http://[::1]:8420", "http://box.example.com": "http://box.example.com",
	} {
		require.Equal(t, want, serverOf(address), address)
	}
	require.NotEqual(t, serverOf("https://box.example.com"), serverOf("https://box.example.com.evil.example"))
}

// TestLoginFileIsRefused: what others can read, write or have put there.
func TestLoginFileIsRefused(t *testing.T) {
	f := loginFile{t.TempDir()}
	saved := savedLogin{server: "http://127.0.0.1:1", access: secret.FromString("planted-a"), refresh: secret.FromString("planted-r"), expires: time.Now()}
	require.NoError(t, f.write(saved))
	_, err := f.read()
	require.NoError(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o666} {
		require.NoError(t, os.Chmod(f.path(), mode))
		_, err := f.read()
		require.ErrorContains(t, err, "not yours alone", "%o", mode)
		require.NotContains(t, err.Error(), "planted")
	}
	require.NoError(t, os.Rename(f.path(), f.path()+"2"))
	require.NoError(t, os.Chmod(f.path()+"2", 0o600))
	require.NoError(t, os.Symlink(f.path()+"2", f.path()))
	_, err = f.read()
	require.Error(t, err, "a link")
	require.NoError(t, os.Remove(f.path()))
	require.NoError(t, os.WriteFile(f.path(), []byte(`{"server":"planted-`), 0o600))
	_, err = f.read()
	require.ErrorContains(t, err, "is not what signalbox login writes")
	require.NotContains(t, err.Error(), "planted")
}
