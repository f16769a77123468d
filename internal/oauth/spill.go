package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// spill is a pair that a call brought, on its way to the database. Its file's name says whose it is, and what is in the file is sealed to that name.
type spill struct {
	credential      string
	generation      int64 // that was refreshed
	claim           string
	provider        string
	recovery        bool
	attempt         int64
	access, refresh secret.Value // no refresh token: the old one goes on
	ends            *time.Time
	// spent is the claim of an overtaken pair that was used up to get this one.
	spent string

	path string // "" while it is in memory alone
	// overtaken pairs are kept for the day on which the provider refuses what is stored.
	overtaken bool
}

const (
	spillPurpose  = "oauth-spill"
	spillEnding   = ".pair"
	overtakenMark = ".overtaken"
)

// spilled is what is sealed.
type spilled struct {
	Provider  string     `json:"provider"`
	Recovery  bool       `json:"recovery,omitempty"`
	Attempt   int64      `json:"attempt"`
	Access    string     `json:"access"`
	Refresh   string     `json:"refresh,omitempty"`
	Ends      *time.Time `json:"ends,omitempty"`
	Spent     string     `json:"spent,omitempty"`
	Overtaken bool       `json:"-"`
}

// spillDir is a directory of spills.
type spillDir struct {
	path     string
	ring     Sealer
	changing *sync.Mutex // held while a file is made, moved, removed or sealed anew
}

// prepare makes the directory, readable by its owner alone.
func (d spillDir) prepare() error {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return fmt.Errorf("make the directory for refreshed tokens: %w", err)
	}
	return nil
}

func (s spill) name() string {
	return s.credential + "." + strconv.FormatInt(s.generation, 10) + "." + s.claim + spillEnding
}

func (s spill) aad() secret.AAD {
	return secret.AAD{Table: "oauth_spills", ID: s.credential, Field: s.claim, Version: s.generation}
}

// write puts a pair on disk. When it returns a path, the pair survives a power cut.
func (d spillDir) write(s spill) (path string, err error) {
	text, err := json.Marshal(spilled{Provider: s.provider, Recovery: s.recovery, Attempt: s.attempt, Access: s.access.Reveal(), Refresh: s.refresh.Reveal(), Ends: s.ends, Spent: s.spent})
	if err != nil {
		return "", errors.New("a pair cannot be encoded")
	}
	box, err := d.ring.Seal(spillPurpose, secret.New(text), s.aad())
	if err != nil {
		return "", err
	}
	path = filepath.Join(d.path, s.name())
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.put(path, box); err != nil {
		return "", errors.Join(err, removed(os.Remove(path)))
	}
	return path, nil
}

// put writes a file whole or not at all.
func (d spillDir) put(path string, box []byte) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(box)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return errors.Join(err, removed(os.Remove(temporary)))
	}
	return nil
}

// removed forgives the absence of what was to be removed.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sync makes the names in the directory durable.
func (d spillDir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove drops a pair that the database has, or that is of no use any more.
func (d spillDir) remove(s spill) error {
	if s.path == "" {
		return nil
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := removed(os.Remove(s.path)); err != nil {
		return err
	}
	return d.sync()
}

// setAside marks a pair as overtaken.
func (d spillDir) setAside(s spill) (spill, error) {
	s.overtaken = true
	if s.path == "" || strings.HasSuffix(s.path, overtakenMark) {
		return s, nil
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	to := s.path + overtakenMark
	if err := os.Rename(s.path, to); err != nil {
		return s, err
	}
	s.path = to
	return s, d.sync()
}

// list reads what is there. A file that is no pair of this keyring is left alone and told: it may be somebody's only token. A file that cannot be
// read now is an error: whoever went on without it would send a token that its call has spent.
func (d spillDir) list() (out []spill, strange []error, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the directory of refreshed tokens: %w", err)
	}
	for _, e := range entries {
		base, overtaken := strings.CutSuffix(e.Name(), overtakenMark)
		if !strings.HasSuffix(base, spillEnding) {
			continue // half written: the call's answer is lost with it, and the claim lapses
		}
		s, err := d.read(e.Name(), base, overtaken)
		switch {
		case errors.Is(err, errNotRead):
			return nil, nil, err
		case err != nil:
			strange = append(strange, err)
			continue
		}
		out = append(out, s)
	}
	return out, strange, nil
}

// errNotRead says that a file is there and the machine does not give it.
var errNotRead = errors.New("a refreshed token of an earlier run cannot be read")

func (d spillDir) read(name, base string, overtaken bool) (spill, error) {
	unreadable := fmt.Errorf("%s is no refreshed token that this keyring has sealed; move it away if it belongs to another installation", filepath.Join(d.path, name))
	s, err := d.place(name, base)
	if err != nil {
		return spill{}, unreadable
	}
	s.overtaken = overtaken
	box, err := os.ReadFile(s.path)
	if err != nil {
		return spill{}, fmt.Errorf("%w: %w; start again when the cause is mended, or move the file away if its account is to be logged in anew", errNotRead, err)
	}
	v, err := d.ring.Open(spillPurpose, box, s.aad())
	if err != nil {
		return spill{}, errors.Join(unreadable, err)
	}
	var in spilled
	if err := json.Unmarshal(v.Bytes(), &in); err != nil {
		return spill{}, unreadable
	}
	s.provider, s.recovery, s.attempt, s.ends, s.spent = in.Provider, in.Recovery, in.Attempt, in.Ends, in.Spent
	s.access, s.refresh = secret.FromString(in.Access), secret.FromString(in.Refresh)
	return s, nil
}

// place reads from a file's name whose it is.
func (d spillDir) place(name, base string) (spill, error) {
	parts := strings.Split(strings.TrimSuffix(base, spillEnding), ".")
	if len(parts) != 3 {
		return spill{}, errors.New("the name is not that of a pair")
	}
	generation, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return spill{}, err
	}
	return spill{credential: parts[0], generation: generation, claim: parts[2], path: filepath.Join(d.path, name)}, nil
}
