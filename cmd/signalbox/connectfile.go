package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"signalbox.dev/signalbox/internal/connect"
	"signalbox.dev/signalbox/internal/identity"
)

// isClientKey reports whether a value may be written over or taken out: a client key of ours, of which another can be issued at any time, or what stands in
// its place in our texts. Anything else may be the only copy that its owner has.
func isClientKey(value string) bool {
	return strings.HasPrefix(value, identity.ClientKeyPrefix) || value == connect.Placeholder
}

// foreign refuses a file in which a variable has a value that is no client key of ours.
func (t target) foreign(old []byte, names ...string) error {
	for _, name := range names {
		for _, set := range t.settings(old, name) {
			if set.value != "" && !isClientKey(set.value) {
				return fmt.Errorf("%s sets %s to something that is no client key of Signalbox and may be kept nowhere else, so that it is neither overwritten nor taken out; move it away, and run this again", set.where, name)
			}
		}
	}
	return nil
}

// rivals refuses a file that has another key where ours is to stand, or that sets a variable which must not be set beside it: a program would send that key
// before ours, or both. It is the user's, so that nobody but they takes it out.
func (t target) rivals(old []byte) error {
	if err := t.foreign(old, t.keyVariable); err != nil {
		return err
	}
	_, unset := t.vars(connect.Setup{})
	for _, name := range unset {
		set := t.read(old, name)
		if set.value == "" {
			continue
		}
		other := ""
		if t.helper && isClientKey(set.value) {
			other = ", or use --helper, which takes it out"
		}
		return fmt.Errorf("%s sets %s, which programs send in place of the client key, or beside it; take it out if nothing else needs it%s, and run this again", set.where, name, other)
	}
	return nil
}

// read returns what a file sets a variable to: of several the last counts.
func (t target) read(old []byte, name string) setting {
	all := t.settings(old, name)
	if len(all) == 0 {
		return setting{}
	}
	return all[len(all)-1]
}

// resolve follows a symbolic link, so that the file behind it is written and the link stays. A file that was not named is not followed out
// of this directory, neither by itself nor by a directory on the way, whether it is there already or not: whoever made the project would choose which file of
// this user is written.
func resolve(file string, named bool) (string, error) {
	real, err := behind(file)
	if err != nil || named {
		return real, err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if here, err = filepath.EvalSymlinks(here); err != nil {
		return "", err
	}
	whole := real
	if !filepath.IsAbs(whole) {
		whole = filepath.Join(here, whole)
	}
	if inside, err := filepath.Rel(here, whole); err != nil || !filepath.IsLocal(inside) {
		return "", fmt.Errorf("%s is a link to %s, outside this directory; nothing was done. If that file is meant, name it: --file %s", file, real, quote(real))
	}
	return real, nil
}

// behind returns the path of a file without its symbolic links. Of what is not there yet it resolves the directories that are.
func behind(file string) (string, error) {
	real, err := filepath.EvalSymlinks(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(file); err == nil {
		return "", fmt.Errorf("%s is a link to what is not there; nothing was done. Mend it or remove it, or name another file: --file", file)
	}
	dir := filepath.Dir(file)
	if dir == file {
		return file, nil
	}
	if dir, err = behind(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(file)), nil
}

// maxSettings bounds the file that is read to be merged.
const maxSettings = 1 << 20

func readOld(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSettings {
		return nil, fmt.Errorf("%s is no settings file", file)
	}
	if err := ownedBy(info, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	return os.ReadFile(file)
}

// ownedBy refuses a file of somebody else: what replaces it would belong to whoever runs this, so that its owner could not read it any more.
func ownedBy(info fs.FileInfo, user int) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != user {
		return fmt.Errorf("belongs to another user (%d) than the one who runs this (%d), and would be taken from them. Run this as its owner, without sudo", st.Uid, user)
	}
	return nil
}

// mostRewrites is how often a file is merged anew that others keep writing.
const mostRewrites = 5

// rewrite replaces the file in one step by what merge makes of its newest text: other programs write it as well, also while a key is issued. What holds a
// key is for its owner only; what holds none keeps its mode.
func rewrite(file string, key bool, merge func(old []byte) ([]byte, error)) error {
	for range mostRewrites {
		done, err := rewriteOnce(file, key, merge)
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%s: other programs keep writing it; close them and run this again", file)
}

// rewriteOnce reports false when another program wrote the file meanwhile.
func rewriteOnce(file string, key bool, merge func(old []byte) ([]byte, error)) (done bool, err error) {
	old, err := readOld(file)
	if err != nil {
		return false, err
	}
	text, err := merge(old)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	work, err := os.CreateTemp(dir, filepath.Base(file)+".new-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer func() {
		if !done {
			_ = os.Remove(work.Name())
		}
	}()
	if info, serr := os.Stat(file); serr == nil {
		mode := info.Mode().Perm()
		if key {
			mode &= 0o600
		}
		err = work.Chmod(mode)
	}
	if err == nil {
		_, err = work.Write(text)
	}
	if err = errors.Join(err, work.Sync(), work.Close()); err != nil {
		return false, err
	}
	if now, err := readOld(file); err != nil || !bytes.Equal(now, old) {
		return false, err
	}
	if err := os.Rename(work.Name(), file); err != nil {
		return false, err
	}
	// So that the new text is there after a loss of power. Not every file system can do that, and the file is written all the same.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return true, nil
}

// narrow has a file that holds a key be for its owner only, and reports whether it was for others as well.
func narrow(file string) (bool, error) {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return false, err
	}
	return true, os.Chmod(file, info.Mode().Perm()&0o600)
}
