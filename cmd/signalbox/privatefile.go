package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockWait is how long one command waits for another that holds a lock.
	lockWait = 45 * time.Second
	lockPoll = 20 * time.Millisecond
)

var errNotYours = errors.New("it is not yours alone (it must be your file, with mode 0600)")

// privateDir is a directory that only its person can enter, with files that they alone can read: what the command line keeps for later commands.
type privateDir string

// configDir says where that is; false when there is no home to have it in.
func (s *shell) configDir() (privateDir, bool) {
	base := s.env["XDG_CONFIG_HOME"]
	if !filepath.IsAbs(base) { // as the XDG base directory specification has it
		if s.env["HOME"] == "" {
			return "", false
		}
		base = filepath.Join(s.env["HOME"], ".config")
	}
	return privateDir(filepath.Join(base, "signalbox")), true
}

func (d privateDir) path(name string) string { return filepath.Join(string(d), name) }

// read returns a file's text, nil when there is none. A file that others can read, or that is another's, is errNotYours: what is in it may be known.
func (d privateDir) read(name string) ([]byte, error) {
	file, err := os.OpenFile(d.path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, errNotYours
	}
	return io.ReadAll(io.LimitReader(file, maxSecret))
}

// write replaces a file, wholly or not at all. Whoever writes holds the lock.
func (d privateDir) write(name string, text []byte) error {
	work, err := os.CreateTemp(string(d), "."+name+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(work.Name()) }() // gone when it was renamed
	_, err = work.Write(text)
	if err = errors.Join(err, work.Sync(), work.Close()); err != nil {
		return err
	}
	if err := os.Rename(work.Name(), d.path(name)); err != nil {
		return err
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock makes the directory and keeps other commands out until the answer is called.
func (d privateDir) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", string(d), err)
	}
	if err := os.Chmod(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("close %s to others: %w", string(d), err)
	}
	file, err := os.OpenFile(d.path(name), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", d.path(name), err)
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
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
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
