package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	loginFileName = "login.json"
	lockFileName  = "login.lock"

	// lockWait is how long one command waits for another that refreshes the tokens.
	lockWait = 45 * time.Second
	lockPoll = 20 * time.Millisecond
)

// savedLogin is what signalbox login keeps for the commands that follow.
type savedLogin struct {
	server          string // that the tokens came from, and the only one that they are sent to
	access, refresh secret.Value
	expires         time.Time // of the access token
	// attempt is the Idempotency-Key under which the refresh token is being used, "" when it is not. A command that was cut off leaves it, and the
	// next one sends the same request again: the server neither repeats it nor takes it for a theft.
	attempt string
}

// loginFile is where it lies: a file that its person alone can read, in a directory that only they can enter.
type loginFile struct{ dir string }

// loginFile says where the sign-in is kept; false when there is no home to keep it in.
func (s *shell) loginFile() (loginFile, bool) {
	base := s.env["XDG_CONFIG_HOME"]
	if !filepath.IsAbs(base) { // as the XDG base directory specification has it
		if s.env["HOME"] == "" {
			return loginFile{}, false
		}
		base = filepath.Join(s.env["HOME"], ".config")
	}
	return loginFile{filepath.Join(base, "signalbox")}, true
}

func (f loginFile) path() string { return filepath.Join(f.dir, loginFileName) }

// loginText is the file's own form.
type loginText struct {
	Server  string    `json:"server"`
	Access  string    `json:"access_token"`
	Refresh string    `json:"refresh_token"`
	Expires time.Time `json:"expires_at"`
	Attempt string    `json:"attempt,omitempty"`
}

// read returns what is kept, nil when nothing is. A file that others can read, or that is another's, is refused: what is in it may be known.
func (f loginFile) read() (*savedLogin, error) {
	file, err := os.OpenFile(f.path(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the sign-in that signalbox login keeps: %w", err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is not yours alone (it must be your file, with mode 0600), so the tokens in it may be known to others: end that session under /account, delete the file, and run signalbox login", f.path())
	}
	b, err := io.ReadAll(io.LimitReader(file, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path(), err)
	}
	var text loginText
	// The decoder's error may quote the text.
	if json.Unmarshal(b, &text) != nil || text.Server == "" || text.Access == "" || text.Refresh == "" {
		return nil, fmt.Errorf("%s is not what signalbox login writes; delete it and run signalbox login", f.path())
	}
	return &savedLogin{text.Server, secret.FromString(text.Access), secret.FromString(text.Refresh), text.Expires, text.Attempt}, nil
}

// write replaces what is kept, wholly or not at all. Whoever writes holds the lock.
func (f loginFile) write(l savedLogin) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the sign-in in %s: %w", f.path(), err)
		}
	}()
	b, err := json.MarshalIndent(loginText{l.server, l.access.Reveal(), l.refresh.Reveal(), l.expires.UTC(), l.attempt}, "", "  ")
	if err != nil {
		return errors.New("it cannot be encoded")
	}
	work, err := os.CreateTemp(f.dir, ".login-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(work.Name()) }() // gone when it was renamed
	_, err = work.Write(append(b, '\n'))
	if err = errors.Join(err, work.Sync(), work.Close()); err != nil {
		return err
	}
	if err := os.Rename(work.Name(), f.path()); err != nil {
		return err
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock makes the directory and keeps other commands out until the answer is called. A refresh token that two use ends the sign-in.
func (f loginFile) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the sign-in: %w", err)
	}
	if err := os.Chmod(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("close the directory of the sign-in to others: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(f.dir, lockFileName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the sign-in: %w", err)
	}
	limit := time.NewTimer(lockWait)
	defer limit.Stop()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // which unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock the sign-in: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		case <-limit.C:
			_ = file.Close()
			return nil, fmt.Errorf("another signalbox command holds %s; try again when it has ended", file.Name())
		}
	}
}

// serverOf is the address of a server in one spelling, so that a token is never sent to another.
func serverOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != map[string]string{"http": "80", "https": "443"}[scheme] {
		host += ":" + port
	}
	return scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/")
}

// keeper returns what keeps the sign-in at the configured server, nil when there is none. Where no server is named, it is that of the sign-in.
func (s *shell) keeper(cfg *app.Config) (*loginKeeper, error) {
	f, ok := s.loginFile()
	if !ok {
		return nil, nil
	}
	saved, err := f.read()
	if err != nil || saved == nil {
		return nil, err
	}
	if cfg.Origin("url") == "default" {
		cfg.URL = saved.server
	}
	if serverOf(cfg.URL) != saved.server {
		return nil, nil
	}
	return &loginKeeper{file: f, server: saved.server, last: *saved}, nil
}
