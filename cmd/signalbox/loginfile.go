package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	loginFileName = "login.json"
	lockFileName  = "login.lock"
)

// savedLogin is what signalbox login keeps for the commands that follow.
type savedLogin struct {
	server          string // that the tokens came from, and the only one that they are sent to
	session         string // the server's id of it; "" in a file of an earlier version
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
	dir, ok := s.configDir()
	return loginFile{string(dir)}, ok
}

func (f loginFile) path() string { return filepath.Join(f.dir, loginFileName) }

// loginText is the file's own form.
type loginText struct {
	Server  string    `json:"server"`
	Session string    `json:"session,omitempty"`
	Access  string    `json:"access_token"`
	Refresh string    `json:"refresh_token"`
	Expires time.Time `json:"expires_at"`
	Attempt string    `json:"attempt,omitempty"`
}

// read returns what is kept, nil when nothing is. A file that others can read, or that is another's, is refused: what is in it may be known.
func (f loginFile) read() (*savedLogin, error) {
	b, err := privateDir(f.dir).read(loginFileName)
	switch {
	case errors.Is(err, errNotYours):
		return nil, fmt.Errorf("%s is not yours alone (it must be your file, with mode 0600), so the tokens in it may be known to others: end that session under /account, delete the file, and run signalbox login", f.path())
	case err != nil:
		return nil, fmt.Errorf("read the sign-in that signalbox login keeps: %w", err)
	case b == nil:
		return nil, nil
	}
	var text loginText
	// The decoder's error may quote the text.
	if json.Unmarshal(b, &text) != nil || text.Server == "" || text.Access == "" || text.Refresh == "" {
		return nil, fmt.Errorf("%s is not what signalbox login writes; delete it and run signalbox login", f.path())
	}
	return &savedLogin{text.Server, text.Session, secret.FromString(text.Access), secret.FromString(text.Refresh), text.Expires, text.Attempt}, nil
}

// write replaces what is kept, wholly or not at all. Whoever writes holds the lock.
func (f loginFile) write(l savedLogin) error {
	b, err := json.MarshalIndent(loginText{l.server, l.session, l.access.Reveal(), l.refresh.Reveal(), l.expires.UTC(), l.attempt}, "", "  ")
	if err != nil {
		err = errors.New("it cannot be encoded")
	} else {
		err = privateDir(f.dir).write(loginFileName, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep the sign-in in %s: %w", f.path(), err)
	}
	return nil
}

// lock makes the directory and keeps other commands out until the answer is called. A refresh token that two use ends the sign-in.
func (f loginFile) lock(ctx context.Context) (unlock func(), err error) {
	return privateDir(f.dir).lock(ctx, lockFileName)
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
