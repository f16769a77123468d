package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Fleet is one Signalbox or several on one database, on throw-away data, each a process of its own. Make it with [StartFleet].
type Fleet struct {
	// URLs are the addresses of the processes.
	URLs []string
	// Token is an access token of all scopes.
	Token secret.Value

	dir       string
	lock      *os.File // by which the next drill sees that this one lives
	drop      func(context.Context) error
	instances []*instance
}

// FleetPlan says what fleet is wanted.
type FleetPlan struct {
	// Processes is how many: 1 on SQLite.
	Processes int
	// Postgres makes a database of its own on the server that the configuration names; otherwise it is SQLite.
	Postgres bool
	// Command starts one process: this program, and the arguments with which it calls [ServeInstance].
	Command []string
	// Environ is the environment of this program.
	Environ Environ
}

// instance is one process of a fleet.
type instance struct {
	cmd   *exec.Cmd
	alive io.Closer // its standard input, with whose end it ends
	log   tail
	done  chan error
}

// StartFleet starts a fleet. Whatever cfg says of data directory and root key is not used, and of its PostgreSQL only the server: nothing of a
// real installation may be touched by a trial. It ends with [Fleet.Close], or with this process.
func StartFleet(ctx context.Context, cfg Config, plan FleetPlan) (_ *Fleet, err error) {
	f := &Fleet{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(ctx))
		}
	}()
	removeAbandoned(os.TempDir(), time.Now())
	if f.dir, err = os.MkdirTemp("", fleetPrefix); err != nil {
		return nil, err
	}
	if f.lock, err = store.LockDir(f.dir); err != nil {
		return nil, err
	}
	var database secret.Value
	if plan.Postgres {
		if database, f.drop, err = store.Scratch(ctx, store.Config{PostgresURL: cfg.DatabaseURL, AllowPlaintext: cfg.AllowPlaintextDB, Log: cfg.Log}); err != nil {
			return nil, err
		}
	}
	var key [32]byte
	_, _ = rand.Read(key[:])
	root, password := base64.StdEncoding.EncodeToString(key[:]), rand.Text()
	for i := range plan.Processes {
		env := plan.Environ.without("SIGNALBOX_", "DATABASE_URL")
		for name, value := range map[string]string{
			"SIGNALBOX_DATA_DIR": filepath.Join(f.dir, fmt.Sprint(i+1)), "SIGNALBOX_ROOT_KEY": root, "SIGNALBOX_DATABASE_URL": database.Reveal(), "SIGNALBOX_LISTEN": "127.0.0.1:0",
			"SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS": "127.0.0.1", "SIGNALBOX_ALLOW_PLAINTEXT_DATABASE": fmt.Sprint(cfg.AllowPlaintextDB), "SIGNALBOX_LOG_LEVEL": "warn",
			"SIGNALBOX_CALLER_LIMIT": "1000000", "SIGNALBOX_FAILURE_LIMIT": "1000000",
		} {
			env[name] = value
		}
		if i == 0 {
			own, err := Load(env, nil)
			if err != nil {
				return nil, err
			}
			made, err := Init(ctx, own, Admin{Email: "drill@example.com", Name: "Drill", Password: secret.FromString(password), TokenLife: 24 * time.Hour})
			if err != nil {
				return nil, err
			}
			f.Token = made.AccessToken
		}
		url, err := f.start(ctx, plan.Command, env)
		if err != nil {
			return nil, err
		}
		f.URLs = append(f.URLs, url)
	}
	return f, nil
}

// fleetPrefix begins the names of the directories of fleets.
const fleetPrefix = "signalbox-drill-"

// removeAbandoned removes what fleets have left behind that were killed: directories of theirs that nobody holds locked. One that was just made may not
// be locked yet.
func removeAbandoned(in string, now time.Time) {
	left, _ := filepath.Glob(filepath.Join(in, fleetPrefix+"*"))
	for _, dir := range left {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || now.Sub(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := store.LockDir(dir)
		if err != nil {
			continue // in use, or somebody else's
		}
		_ = os.RemoveAll(dir) // what stays is tried by the next drill
		_ = lock.Close()
	}
}

// without returns the environment without the variables of these beginnings.
func (e Environ) without(prefixes ...string) Environ {
	out := Environ{}
next:
	for name, value := range e {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				continue next
			}
		}
		out[name] = value
	}
	return out
}

// instanceReady is the line that a process of a fleet says when it serves.
type instanceReady struct {
	URL string `json:"url"`
}

const instancePatience = 30 * time.Second

// start starts one process and waits until it serves.
func (f *Fleet) start(ctx context.Context, command []string, env Environ) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	i := &instance{cmd: exec.Command(self, command[1:]...), done: make(chan error, 1)}
	i.cmd.Args[0] = command[0]
	for name, value := range env {
		i.cmd.Env = append(i.cmd.Env, name+"="+value)
	}
	i.cmd.Stderr = &i.log
	if i.alive, err = i.cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := i.cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := i.cmd.Start(); err != nil {
		return "", fmt.Errorf("start another process of this program: %w", err)
	}
	f.instances = append(f.instances, i)
	said := make(chan instanceReady, 1)
	go func() {
		var ready instanceReady
		line, _ := bufio.NewReader(out).ReadBytes('\n')
		_ = json.Unmarshal(line, &ready)
		said <- ready
		_, _ = io.Copy(io.Discard, out)
		i.done <- i.cmd.Wait()
	}()
	patience := time.NewTimer(instancePatience)
	defer patience.Stop()
	select {
	case ready := <-said:
		if ready.URL != "" {
			return ready.URL, nil
		}
	case <-patience.C:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return "", fmt.Errorf("a process of the fleet did not start; it said last: %s", i.log.last())
}

// Close ends the processes and removes their data.
func (f *Fleet) Close(ctx context.Context) error {
	for _, i := range f.instances {
		_ = i.alive.Close()
	}
	end := time.NewTimer(10 * time.Second)
	defer end.Stop()
	for _, i := range f.instances {
		select {
		case <-i.done:
		case <-end.C:
			end.Reset(0) // the others have had their time as well
			_ = i.cmd.Process.Kill()
			<-i.done
		}
	}
	var errs []error
	if f.drop != nil {
		errs = append(errs, f.drop(ctx))
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	if f.dir != "" {
		errs = append(errs, os.RemoveAll(f.dir))
	}
	return errors.Join(errs...)
}

// Drill runs [demo.Drill] on a fleet.
func (f *Fleet) Drill(ctx context.Context, o demo.DrillOptions) (demo.DrillReport, error) {
	o.Instances, o.Admin = f.URLs, client.New(f.URLs[0], f.Token.Reveal())
	return demo.Drill(ctx, o)
}

// ServeInstance is one process of a fleet: it serves what cfg says, tells its address on out, and ends when in does, as it does when the process
// that started it is gone.
func ServeInstance(ctx context.Context, cfg Config, in io.Reader, out io.Writer) (err error) {
	l, err := Listen(cfg)
	if err != nil {
		return err
	}
	a, err := Open(ctx, cfg)
	if err != nil {
		_ = l.Close()
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		a.Cut()
		cancel()
	}()
	if err := json.NewEncoder(out).Encode(instanceReady{URL: cfg.LocalURL(l.Addr())}); err != nil {
		return errors.Join(err, l.Close())
	}
	return a.Serve(ctx, l)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailMost = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailMost):]
	return len(p), nil
}

// last returns the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.text), []byte("\n"))
	return string(lines[len(lines)-1])
}
