package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// openKeeper makes the keeper of an address, with what this process may use.
func (c Config) openKeeper(at keeper.Address) (keeper.Keeper, error) {
	return keeper.Open(keeper.Config{Address: at, Getenv: c.getenv, Log: c.logger()})
}

// readRootKey reads the root key from where the configuration says that it is: the environment, the file beside SQLite, or the keeper. It may be
// called again at any time. Where no keyring exists yet it makes one, as far as that is allowed; the zero key says that there is none.
func readRootKey(ctx context.Context, cfg Config, db *store.DB, exists bool) (secret.RootKey, error) {
	if cfg.RootKeyKeeper.IsZero() {
		return rootKey(cfg, exists)
	}
	k, err := cfg.openKeeper(cfg.RootKeyKeeper)
	if err != nil {
		return secret.RootKey{}, err
	}
	w, err := wrapping(ctx, cfg.RootKeyKeeper, db)
	if err == nil {
		if path := cfg.dataPath(RootKeyFile); !cfg.isPostgres() && exists && isFile(path) {
			cfg.logger().Warn("the root key still lies in a file as well, which the keeper makes needless; keep a copy elsewhere if you want one, and remove it", "file", path)
		}
		return k.Unwrap(ctx, w.RootKeyID, w.Wrapped)
	}
	if f, ok := fault.As(err); exists || !ok || f.Code != "encryption_key_missing" {
		return secret.RootKey{}, err
	}
	root, err := secret.NewRootKey()
	if err != nil {
		return secret.RootKey{}, err
	}
	mine := keeper.Wrapping{RootKeyID: root.ID(), Keeper: cfg.RootKeyKeeper.String()}
	if mine.Wrapped, err = keeper.Make(ctx, k, root); err != nil {
		return secret.RootKey{}, err
	}
	counts, err := keeper.First(ctx, db, mine)
	if err != nil {
		return secret.RootKey{}, fmt.Errorf("store the wrapped root key: %w", err)
	}
	if counts.RootKeyID != root.ID() { // another instance was first
		return k.Unwrap(ctx, counts.RootKeyID, counts.Wrapped)
	}
	cfg.logger().Info("the root key was made and wrapped by its keeper", "root_key", root.ID(), "keeper", mine.Keeper, "key_version", mine.KeyVersion)
	return root, nil
}

func isFile(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// wrapping finds what a keeper has wrapped for this database: the newest root key that opens the keyring; where there is no keyring yet, what a
// first start has left that was cut off. The fault encryption_key_missing says that there is nothing.
func wrapping(ctx context.Context, at keeper.Address, db *store.DB) (keeper.Wrapping, error) {
	ids, err := keyring.RootIDs(ctx, db)
	if err != nil {
		return keeper.Wrapping{}, err
	}
	all, err := keeper.List(ctx, db)
	if err != nil {
		return keeper.Wrapping{}, err
	}
	for _, w := range all {
		if w.Keeper == at.String() && (len(ids) == 0 || slices.Contains(ids, w.RootKeyID)) {
			return w, nil
		}
	}
	return keeper.Wrapping{}, fault.New(fault.Unavailable, "encryption_key_missing",
		"The keyring of this database was made with root key "+strings.Join(ids, " and ")+", which the keeper "+at.String()+" has not wrapped. Start with the root key as it was given before; to move it: signalbox root-key wrap "+at.String())
}

// errNoKeyring answers commands on the root key of a database that is not there.
func errNoKeyring() error {
	return fault.New(fault.NotFound, "not_found", "There is no keyring here yet. To let a keeper have the root key from the beginning, set SIGNALBOX_ROOT_KEY_KEEPER and start the server.")
}

// onKeyring opens the database of cfg for one command on its root key.
func onKeyring(ctx context.Context, cfg Config, reading bool, fn func(db *store.DB) error) (err error) {
	seen, err := store.Inspect(ctx, cfg.storeConfig())
	if err != nil {
		return err
	}
	if !seen.Exists || seen.Schema == 0 {
		return errNoKeyring()
	}
	if seen.Schema != seen.Latest { // servers of another version may run beside this: no migration in passing
		return fault.New(fault.Conflict, "state_conflict", fmt.Sprintf("The database has schema %d, and this signalbox knows %d. Use the version of the servers, or bring the database to this one's schema first: signalbox migrate", seen.Schema, seen.Latest))
	}
	sc := cfg.storeConfig()
	sc.ReadOnly = reading
	db, err := store.Open(ctx, sc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(db)
}

// besideServers opens the database of cfg for an act beside servers that run.
func besideServers(ctx context.Context, cfg Config, fn func(db *store.DB) error) (err error) {
	sc := cfg.storeConfig()
	sc.Beside = true
	db, err := store.Open(ctx, sc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(db)
}

// proven returns the root key if it opens the keyring.
func proven(ctx context.Context, cfg Config, db *store.DB, root secret.RootKey) (secret.RootKey, error) {
	_, err := keyring.Open(ctx, keyring.Config{DB: db, Root: root, Log: cfg.logger()})
	return root, err
}

// configured reads the root key from where the server would, and proves it.
func configured(ctx context.Context, cfg Config, db *store.DB) (secret.RootKey, error) {
	if exists, err := keyring.Exists(ctx, db); err != nil || !exists {
		return secret.RootKey{}, errors.Join(err, errNoKeyring())
	}
	root, err := readRootKey(ctx, cfg, db, true)
	if err != nil {
		return secret.RootKey{}, err
	}
	return proven(ctx, cfg, db, root)
}

// Wrappings lists who has wrapped the root key of the database of cfg. It changes nothing and asks no keeper.
func Wrappings(ctx context.Context, cfg Config) (out []keeper.Wrapping, err error) {
	err = onKeyring(ctx, cfg, true, func(db *store.DB) (err error) {
		out, err = keeper.List(ctx, db)
		return err
	})
	return out, err
}

// WrapRootKey has a further keeper wrap the root key that the configuration gives. Servers go on as they are; each takes the keeper at its next
// start, once its configuration names it.
func WrapRootKey(ctx context.Context, cfg Config, to keeper.Address) (w keeper.Wrapping, err error) {
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		root, err := configured(ctx, cfg, db)
		if err != nil {
			return err
		}
		w = keeper.Wrapping{RootKeyID: root.ID(), Keeper: to.String()}
		k, err := cfg.openKeeper(to)
		if err != nil {
			return err
		}
		if w.Wrapped, err = keeper.Make(ctx, k, root); err != nil {
			return err
		}
		return keeper.Keep(ctx, db, w, nil)
	})
	return w, err
}

// RewrapRootKey has a keeper wrap anew what it wrapped before, under the newest version of its key.
func RewrapRootKey(ctx context.Context, cfg Config, at keeper.Address) (was, now keeper.Wrapping, err error) {
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		if was, err = wrapping(ctx, at, db); err != nil {
			return err
		}
		k, err := cfg.openKeeper(at)
		if err != nil {
			return err
		}
		root, err := k.Unwrap(ctx, was.RootKeyID, was.Wrapped)
		if err != nil {
			return err
		}
		if _, err := proven(ctx, cfg, db, root); err != nil {
			return err
		}
		now = was
		if now.Wrapped, err = keeper.Make(ctx, k, root); err != nil {
			return err
		}
		return keeper.Keep(ctx, db, now, &was)
	})
	return was, now, err
}

// ForgetWrapping removes what a keeper wrapped. It is refused while that is how the configuration has the root key, and unless the configuration
// has it in another way.
func ForgetWrapping(ctx context.Context, cfg Config, at keeper.Address) (gone []keeper.Wrapping, err error) {
	if cfg.RootKeyKeeper.String() == at.String() {
		return nil, fault.New(fault.Conflict, "state_conflict", "The configuration names this keeper ("+cfg.Origin("root-key-keeper")+"). Let it name another way to the root key first; then this one can go.")
	}
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		all, err := keeper.List(ctx, db)
		if err != nil {
			return err
		}
		ids, err := keyring.RootIDs(ctx, db)
		if err != nil {
			return err
		}
		counts := false
		for _, w := range all {
			if w.Keeper == at.String() {
				gone = append(gone, w)
				counts = counts || slices.Contains(ids, w.RootKeyID)
			}
		}
		if len(gone) == 0 {
			return fault.New(fault.NotFound, "not_found", "That keeper has wrapped nothing here. See what there is with: signalbox root-key list")
		}
		if counts {
			if _, err := configured(ctx, cfg, db); err != nil {
				return fmt.Errorf("nothing was removed, because the configuration opens the keyring in no other way: %w", err)
			}
		}
		return keeper.Forget(ctx, db, gone)
	})
	return gone, err
}

// UnwrapRootKey takes the root key back from a keeper into a new file, mode 0600. The wrapping stays until [ForgetWrapping].
func UnwrapRootKey(ctx context.Context, cfg Config, at keeper.Address, path string) (id string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", path, errors.Join(err, os.ErrExist))
	}
	err = onKeyring(ctx, cfg, false, func(db *store.DB) error {
		w, err := wrapping(ctx, at, db)
		if err != nil {
			return err
		}
		k, err := cfg.openKeeper(at)
		if err != nil {
			return err
		}
		root, err := k.Unwrap(ctx, w.RootKeyID, w.Wrapped)
		if err != nil {
			return err
		}
		if _, err := proven(ctx, cfg, db, root); err != nil {
			return err
		}
		id = root.ID()
		if err := keeper.Taken(ctx, db, w); err != nil {
			return err
		}
		return writeRootKey(path, root)
	})
	return id, err
}
