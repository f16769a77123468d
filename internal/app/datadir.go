package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Files of the data directory besides the database.
const (
	RootKeyFile       = "root.key"
	OperatorTokenFile = "operator.token"
	// firstStartFile marks a first start that is not finished, so that one that was cut off goes on the next time, while a token file
	// that somebody removed later never comes back.
	firstStartFile = "first-start"
)

// isPostgres says whether the database is PostgreSQL; the data directory then holds nothing that others need.
func (c Config) isPostgres() bool { return !c.DatabaseURL.IsZero() }

func (c Config) storeConfig() store.Config {
	return store.Config{DataDir: c.DataDir, PostgresURL: c.DatabaseURL, AllowPlaintext: c.AllowPlaintextDB, Log: c.logger()}
}

// makeDataDir makes the data directory, readable by its owner only. One that exists is left as it is, because it may be a mounted volume.
func makeDataDir(dir string, log *slog.Logger) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the data directory: %w; set --data-dir to a place that this user may write to", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("the data directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("the data directory %s is a file; set --data-dir to a directory", dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		log.Warn("others may look into the data directory; run chmod 700 on it", "data_dir", dir, "mode", fmt.Sprintf("%04o", mode))
	}
	return nil
}

// rootKey finds the root key. Where no keyring exists yet it makes one beside a SQLite database; never beside PostgreSQL, whose
// instances must share it, and never for a keyring that exists, which only its own key opens. The zero key says that there is none: the
// keyring knows which one is wanted.
func rootKey(cfg Config, keyring bool) (secret.RootKey, error) {
	if !cfg.RootKey.IsZero() {
		key, err := secret.ParseRootKey(cfg.RootKey)
		if err != nil {
			return secret.RootKey{}, fmt.Errorf("%s: %w", cfg.Origin("root-key"), err)
		}
		return key, nil
	}
	if cfg.isPostgres() {
		if keyring {
			return secret.RootKey{}, nil
		}
		return secret.RootKey{}, errors.New("a root key is needed with PostgreSQL, the same one for all instances; make one with: signalbox keygen --output FILE, " +
			"keep a copy in a safe place, and set SIGNALBOX_ROOT_KEY_FILE to that file (or SIGNALBOX_ROOT_KEY to the key)")
	}
	path := filepath.Join(cfg.DataDir, RootKeyFile)
	key, err := secret.ReadRootKeyFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if keyring {
		cfg.logger().Error("the root key file is missing; put it back, with mode 0600", "file", path)
		return secret.RootKey{}, nil
	}
	key, err = secret.NewRootKey()
	if err != nil {
		return secret.RootKey{}, err
	}
	if err := writeRootKey(path, key); err != nil {
		return secret.RootKey{}, fmt.Errorf("write the root key: %w", err)
	}
	return key, nil
}

// writeRootKey makes the file appear whole or not at all: half a key would pass for a lost one at the next start.
func writeRootKey(path string, key secret.RootKey) error {
	work := path + ".new"
	if err := os.Remove(work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := secret.WriteRootKeyFile(work, key); err != nil {
		return err
	}
	// A link, unlike a rename, fails where a key exists.
	err := os.Link(work, path)
	if rerr := os.Remove(work); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ReadOperatorToken returns the token that the first start left in the data directory for commands on the same machine; the zero Value when
// there is none.
func ReadOperatorToken(dataDir string) (secret.Value, error) {
	v, err := secret.ReadFile(filepath.Join(dataDir, OperatorTokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, nil
	}
	if err != nil {
		return secret.Value{}, err
	}
	return secret.FromString(strings.TrimSpace(v.Reveal())), nil
}
