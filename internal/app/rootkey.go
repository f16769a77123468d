package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// RootKeyChange tells how a change of the root key goes.
type RootKeyChange struct {
	// Old and New name the root keys. New is "" when there was nothing to change or the change was taken back.
	Old, New string
	// Done says that the new root key alone opens the keyring; otherwise both do, until [FinishRootKey].
	Done bool
	// File holds the new root key, and KeptFile the one before, where the server has its root key in a file beside the database.
	File, KeptFile string
	// Keepers have wrapped the new root key.
	Keepers []string
}

// nextRootKeyFile holds the new root key until it takes the place of the one before.
const nextRootKeyFile = RootKeyFile + ".next"

// ChangeRootKey changes the root key, or goes on with a change that was cut off. The order is: the new key is safe (in a file, or wrapped by every
// keeper that has wrapped the present one); then both open the keyring; then the new one takes the place of the file; then the old one opens
// nothing. Between any two steps the server starts with what lies where its configuration says.
//
// Where the root key is given from outside, newFile names the new one, and the change stops when both keys open the keyring, as it does with a
// keeper on PostgreSQL: all instances must be started with the new one before [FinishRootKey].
func ChangeRootKey(ctx context.Context, cfg Config, newFile string) (out RootKeyChange, err error) {
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		present, err := configured(ctx, cfg, db)
		if err != nil {
			return err
		}
		at, err := keyring.RootsOf(ctx, db)
		if err != nil {
			return err
		}
		if at.Next == present.ID() && newFile == "" { // the server has the new key already
			out.Old, out.New = at.Present, at.Next
			if cfg.isPostgres() {
				return nil // whether every instance has it only the operator knows
			}
			return out.finish(ctx, cfg, db, present)
		}
		next, err := nextRootKey(cfg, at, newFile)
		if err != nil {
			return err
		}
		out.Old, out.New = present.ID(), next.ID()
		if out.Keepers, err = wrapEverywhere(ctx, cfg, db, present, next); err != nil {
			return err
		}
		if err := keyring.AddRoot(ctx, db, present, next); err != nil {
			return err
		}
		switch {
		case newFile != "" || cfg.isPostgres():
			return nil
		case cfg.rootKeyPath() != "":
			out.File = cfg.rootKeyPath()
			if out.KeptFile, err = exchangeRootKey(out.File, present); err != nil {
				return err
			}
		}
		return out.finish(ctx, cfg, db, next)
	})
	return out, err
}

// nextRootKey finds or makes the root key to which is changed.
func nextRootKey(cfg Config, at keyring.Roots, newFile string) (secret.RootKey, error) {
	beside := cfg.rootKeyPath()
	if newFile != "" {
		if beside != "" {
			return secret.RootKey{}, fault.New(fault.Invalid, "malformed_request", "The root key lies in "+beside+", where a new one is put as well; leave --new-key away.")
		}
		return secret.ReadRootKeyFile(newFile)
	}
	if beside == "" {
		if cfg.RootKeyKeeper.IsZero() {
			return secret.RootKey{}, fault.New(fault.Invalid, "malformed_request", "The root key is given from outside ("+cfg.Origin("root-key")+"), so the new one is as well. Make it with: signalbox keygen --output FILE, and name that file with --new-key FILE")
		}
		if at.Next != "" { // it is only in memory until it opens the keyring, and then it is the one that the keeper unwraps
			return secret.RootKey{}, fault.New(fault.Conflict, "root_key_changing", "The root key is being changed already, to one that this keeper has not wrapped. Take that back with: signalbox rekey --root --abandon")
		}
		return secret.NewRootKey()
	}
	info, err := os.Lstat(beside)
	if err != nil {
		return secret.RootKey{}, err
	}
	if !info.Mode().IsRegular() {
		return secret.RootKey{}, fmt.Errorf("%s is no regular file, so no new key is put in its place; give the root key with SIGNALBOX_ROOT_KEY_FILE instead, and the new one with --new-key FILE", beside)
	}
	path := cfg.dataPath(nextRootKeyFile)
	next, err := secret.ReadRootKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return next, err // of a change that was cut off
	}
	if at.Next != "" {
		return secret.RootKey{}, fault.New(fault.Conflict, "root_key_changing", "The root key is being changed already, to "+at.Next+", which is not in "+path+". Put it there, or take the change back with: signalbox rekey --root --abandon")
	}
	if next, err = secret.NewRootKey(); err != nil {
		return secret.RootKey{}, err
	}
	return next, writeRootKey(path, next)
}

// wrapEverywhere has every keeper that has wrapped the present root key wrap the next one, so that each goes on being a way to it.
func wrapEverywhere(ctx context.Context, cfg Config, db *store.DB, present, next secret.RootKey) (names []string, err error) {
	all, err := keeper.List(ctx, db)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, w := range all {
		have[w.Keeper] = have[w.Keeper] || w.RootKeyID == next.ID()
	}
	for _, w := range all {
		if w.RootKeyID != present.ID() {
			continue
		}
		names = append(names, w.Keeper)
		if have[w.Keeper] {
			continue
		}
		address, err := keeper.Parse(w.Keeper)
		if err != nil {
			return nil, fmt.Errorf("the keeper %s that wrapped the root key: %w", w.Keeper, err)
		}
		k, err := cfg.openKeeper(address)
		if err != nil {
			return nil, err
		}
		mine := keeper.Wrapping{RootKeyID: next.ID(), Keeper: w.Keeper}
		if mine.Wrapped, err = keeper.Make(ctx, k, next); err != nil {
			return nil, fmt.Errorf("nothing was changed, because a keeper of the present root key does not wrap the new one; if it is not used any more, remove it first with signalbox root-key forget: %w", err)
		}
		if err := keeper.Keep(ctx, db, mine, nil); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// exchangeRootKey puts the new root key in the place of the present one, which stays beside it: backups from before open with it alone.
func exchangeRootKey(path string, present secret.RootKey) (kept string, err error) {
	kept = path + "." + present.ID()
	if err := os.Link(path, kept); errors.Is(err, fs.ErrExist) {
		if old, rerr := secret.ReadRootKeyFile(kept); rerr != nil || old.ID() != present.ID() {
			return "", errors.Join(fmt.Errorf("%s exists and does not hold root key %s; move it away and run this again", kept, present.ID()), rerr)
		}
	} else if err != nil {
		return "", fmt.Errorf("keep the present root key: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(filepath.Dir(path), nextRootKeyFile), path); err != nil {
		return "", err
	}
	return kept, syncDir(filepath.Dir(path))
}

// finish leaves the keyring to one root key.
func (c *RootKeyChange) finish(ctx context.Context, cfg Config, db *store.DB, keep secret.RootKey) error {
	if path := cfg.rootKeyPath(); path != "" && c.File == "" {
		c.File = path
		if kept := path + "." + c.Old; isFile(kept) {
			c.KeptFile = kept
		}
	}
	if _, err := keyring.KeepRoot(ctx, db, keep); err != nil {
		return err
	}
	c.Done = true
	return forgetOthers(ctx, db, keep.ID())
}

// forgetOthers removes what keepers wrapped of root keys that open nothing any more.
func forgetOthers(ctx context.Context, db *store.DB, keep string) error {
	all, err := keeper.List(ctx, db)
	if err != nil {
		return err
	}
	var gone []keeper.Wrapping
	for _, w := range all {
		if w.RootKeyID != keep {
			gone = append(gone, w)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return keeper.Forget(ctx, db, gone)
}

// FinishRootKey ends a change of the root key: the one before opens nothing any more. It is refused unless the configuration gives the new one.
func FinishRootKey(ctx context.Context, cfg Config) (out RootKeyChange, err error) {
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		keep, err := configured(ctx, cfg, db)
		if err != nil {
			return err
		}
		at, err := keyring.RootsOf(ctx, db)
		switch {
		case err != nil:
			return err
		case at.Next == "":
			out = RootKeyChange{New: keep.ID(), Done: true}
			return forgetOthers(ctx, db, keep.ID()) // what an end that was cut off has left
		case at.Next != keep.ID():
			return fault.New(fault.Conflict, "root_key_changing", "The configuration still gives root key "+keep.ID()+", which this would shut out. Give root key "+at.Next+" to every instance, start each anew, and run this with it as well.")
		}
		out.Old, out.New = at.Present, at.Next
		return out.finish(ctx, cfg, db, keep)
	})
	return out, err
}

// AbandonRootKey takes a change of the root key back: the new key opens nothing. It is refused unless the configuration gives the present one.
func AbandonRootKey(ctx context.Context, cfg Config) (out RootKeyChange, err error) {
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		keep, err := configured(ctx, cfg, db)
		if err != nil {
			return err
		}
		at, err := keyring.RootsOf(ctx, db)
		if err != nil {
			return err
		}
		if at.Present != keep.ID() {
			return fault.New(fault.Conflict, "root_key_changing", "The configuration gives the new root key "+keep.ID()+" already. End the change with: signalbox rekey --root --finish, or give root key "+at.Present+" and run this again.")
		}
		out.Old = at.Present
		if _, err := keyring.KeepRoot(ctx, db, keep); err != nil {
			return err
		}
		if err := forgetOthers(ctx, db, keep.ID()); err != nil {
			return err
		}
		if cfg.rootKeyPath() == "" {
			return nil
		}
		if err := os.Remove(cfg.dataPath(nextRootKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDir(cfg.DataDir)
	})
	return out, err
}
