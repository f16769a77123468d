package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockName is the file whose lock makes one process the owner of a data directory.
const LockName = "signalbox.lock"

// ErrLocked is returned when another process has the data directory open.
var ErrLocked = errors.New("the data directory is in use by another signalbox process")

// LockDir makes this process the owner of a data directory whose database is elsewhere, until the file is closed. [Open] does it itself for a
// database that lies in the directory.
func LockDir(dir string) (*os.File, error) { return lockDir(dir) }

// lockDir takes an exclusive lock that the kernel drops when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		_ = f.Close()
		who := ""
		if pid, perr := strconv.Atoi(strings.TrimSpace(string(holder[:n]))); perr == nil {
			who = fmt.Sprintf(" (process %d)", pid)
		}
		return nil, fmt.Errorf("%s: %w%s; stop it first, or give this one another --data-dir", dir, ErrLocked, who)
	}
	if err := f.Truncate(0); err != nil {
		_ = f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
