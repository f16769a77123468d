package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"signalbox.dev/signalbox/internal/secret"
)

// outFile is the file that inject writes: for its owner only, wholly or not at all, and never what a link leads to.
type outFile struct {
	path    string
	replace bool // it may be there already
}

// check says why the file cannot be written, before anything is asked for it.
func (o outFile) check(template string) error {
	dir, err := os.Stat(filepath.Dir(o.path))
	if err != nil {
		return err
	}
	if !dir.IsDir() {
		return usage("%s is no directory to write a file in", filepath.Dir(o.path))
	}
	info, err := os.Lstat(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link; secrets are not written to where another file leads. Remove it, or name the file itself", o.path)
	}
	if !info.Mode().IsRegular() {
		return usage("%s is no file that can be written", o.path)
	}
	if in, err := os.Stat(template); err == nil && os.SameFile(in, info) {
		return usage("%s is the template itself; name another file", o.path)
	}
	if !o.replace {
		return usage("%s is there already; name another file, or add --replace to write over it", o.path)
	}
	if err := ownedBy(info, os.Geteuid()); err != nil {
		return fmt.Errorf("%s %w", o.path, err)
	}
	return nil
}

// write puts the text in place in one step.
func (o outFile) write(text secret.Value) error {
	dir := filepath.Dir(o.path)
	work, err := os.CreateTemp(dir, "."+filepath.Base(o.path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(work.Name()) }() // gone when it was renamed
	_, err = work.Write(text.Bytes())
	if err = errors.Join(err, work.Sync(), work.Close()); err != nil {
		return err
	}
	if o.replace {
		if err := o.check(""); err != nil { // as it is now
			return err
		}
		err = os.Rename(work.Name(), o.path) // in the place of a link, if there is one by now
	} else {
		err = os.Link(work.Name(), o.path) // which writes over nothing
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s was made by another program meanwhile; nothing was written", o.path)
	}
	if err != nil {
		return err
	}
	// So that it is there after a loss of power. Not every file system can do that, and the file is written all the same.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
