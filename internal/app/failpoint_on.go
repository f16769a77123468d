//go:build failpoints

package app

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// failpoint holds a refresh or a containment up at each step for which there is a fifo of its name in the directory that SIGNALBOX_FAILPOINTS names, from the moment
// at which a test opens the other end until it closes that. What happens in between is the test's affair: it may kill the process, stop it, take its
// database or its disk away.
func failpoint[P ~string]() func(P) error {
	dir := os.Getenv("SIGNALBOX_FAILPOINTS")
	if dir == "" {
		return nil
	}
	return func(p P) error {
		f, err := os.OpenFile(filepath.Join(dir, string(p)), os.O_RDONLY, 0) // it waits for the other end
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	}
}
