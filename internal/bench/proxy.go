package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rootKey is of databases that are thrown away.
const rootKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// proxy is a process under measurement.
type proxy struct {
	name  string
	addr  string
	key   string
	keys  []string // of many trains; empty when all requests use key
	ids   []string // of many credentials
	homes homes    // what those belong to
	cmd   *exec.Cmd
	// client has connections for every worker of grow.
	client *http.Client
	log    string
	data   string // the directory of its data
	// token and upstream are what more is made with.
	token, upstream string
	// mayBreak says that broken answers are counted and not fatal: httputil.ReverseProxy cuts a stream now and then (golang/go #40747).
	mayBreak bool
}

// cpu returns the user and system time of the process.
func (p *proxy) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// busy is cpu, by the nanosecond. Threads that have ended are missing from it; those of a Go program stay.
func (p *proxy) busy() time.Duration {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	var all int64
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // it has just ended
		}
		n, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		all += n
	}
	return time.Duration(all)
}

// rss returns the resident memory of the process in bytes.
func (p *proxy) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func (p *proxy) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func start(name, dir, addr string, env []string, bin string, args ...string) (*proxy, error) {
	p := &proxy{name: name, addr: addr, key: "none", client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, log: filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".log")}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for range 400 {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close()
			return p, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	text, _ := os.ReadFile(p.log)
	p.stop()
	return nil, fmt.Errorf("%s did not start:\n%s", name, text)
}

// grown is what a later run must know of an instance that is kept.
type grown struct {
	Token, Key string
	Keys, IDs  []string
	Homes      homes
}

const grownFile = "grown.json"

// remember writes down what [startGrown] needs. Instances of benchmarks hold nothing but made-up secrets.
func (p *proxy) remember() error {
	text, err := json.Marshal(grown{Token: p.token, Key: p.key, Keys: p.keys, IDs: p.ids, Homes: p.homes})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.data, grownFile), text, 0o600)
}

// startGrown starts the instance that an earlier run left in dir; nil when there is none.
func startGrown(name, dir, bin, upstream string) (*proxy, error) {
	data := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	text, err := os.ReadFile(filepath.Join(data, grownFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var g grown
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p, err := start(name, dir, addr, benchEnv(), bin, "serve", "--data-dir", data, "--listen", addr)
	if err != nil {
		return nil, err
	}
	p.token, p.upstream, p.key, p.keys, p.ids, p.homes = g.Token, upstream, g.Key, g.Keys, g.IDs, g.Homes
	return p, nil
}

func benchEnv() []string {
	return []string{"SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS=127.0.0.1", "SIGNALBOX_CALLER_LIMIT=1000000"} // one caller makes everything
}

// serveEnv is the environment of an instance on that database, "" for SQLite.
func serveEnv(postgres string) []string {
	env := benchEnv()
	if postgres != "" {
		env = append(env, "DATABASE_URL="+postgres, "SIGNALBOX_ROOT_KEY="+rootKey)
	}
	return env
}

// startSignalbox starts the built binary as a user would, with one account, one train and one client key.
func startSignalbox(name, dir, bin, upstream, postgres string) (*proxy, error) {
	data := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	env := serveEnv(postgres)
	init := exec.Command(bin, "init", "--data-dir", data, "--admin-email", "bench@example.com", "--password-stdin", "--json")
	init.Stdin, init.Env = strings.NewReader("a long enough passphrase\n"), append(os.Environ(), env...)
	var stderr bytes.Buffer
	init.Stderr = &stderr
	out, err := init.Output()
	if err != nil {
		return nil, fmt.Errorf("signalbox init: %w: %s", err, stderr.Bytes())
	}
	var made struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(out, &made); err != nil || made.AccessToken == "" {
		return nil, fmt.Errorf("signalbox init printed no access_token: %s", out)
	}
	p, err := start(name, dir, addr, env, bin, "serve", "--data-dir", data, "--listen", addr)
	if err != nil {
		return nil, err
	}
	p.token, p.upstream, p.data = made.AccessToken, upstream, data
	if err := p.furnish(made.AccessToken, upstream); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// startPeer starts one more instance on the database of another.
func startPeer(name, dir, bin, postgres string) (*proxy, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return start(name, dir, addr, serveEnv(postgres), bin, "serve", "--data-dir", filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), "--listen", addr)
}

func (p *proxy) furnish(token, upstream string) error {
	var cred struct {
		Credential struct{ ID string } `json:"credential"`
	}
	if err := p.call(token, "/api/credentials", map[string]any{"type": "api_key", "name": "bench", "provider": "anthropic", "base_url": upstream,
		"secrets": map[string]string{"api_key": "upstream-key"}}, &cred); err != nil {
		return err
	}
	if err := p.call(token, "/api/trains", map[string]any{"train_id": "bench", "name": "Bench"}, nil); err != nil {
		return err
	}
	if err := p.call(token, "/api/trains/bench/accounts", map[string]any{"credential_id": cred.Credential.ID}, nil); err != nil {
		return err
	}
	var key struct {
		APIKey struct {
			APIKey string `json:"api_key"`
		} `json:"api_key"`
	}
	if err := p.call(token, "/api/trains/bench/api-keys", map[string]any{"name": "bench"}, &key); err != nil {
		return err
	}
	p.key = key.APIKey.APIKey
	return nil
}

func (p *proxy) call(token, path string, in, out any) error {
	return p.do(http.MethodPost, token, path, in, out)
}

func (p *proxy) do(method, token, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+p.addr+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New(path + ": " + resp.Status)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
