package app

import (
	"context"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Migrate brings the database of cfg to this binary's schema and tells what it did. Beside SQLite it makes the data directory if need be, and
// is refused while a server has it open.
func Migrate(ctx context.Context, cfg Config) (store.Migrated, error) {
	if !cfg.isPostgres() {
		if err := makeDataDir(cfg.DataDir, cfg.logger()); err != nil {
			return store.Migrated{}, err
		}
	}
	return store.Migrate(ctx, cfg.storeConfig())
}

// InspectDatabase looks at the database of cfg and changes nothing.
func InspectDatabase(ctx context.Context, cfg Config) (store.Inspection, error) {
	return store.Inspect(ctx, cfg.storeConfig())
}

// MakeRootKey makes a root key and its id. With a path it writes the key to that new file, mode 0600, and returns no text; a file that exists is
// never replaced ([os.ErrExist]).
func MakeRootKey(path string) (text secret.Value, id string, err error) {
	key, err := secret.NewRootKey()
	if err != nil {
		return secret.Value{}, "", err
	}
	if path == "" {
		return key.Text(), key.ID(), nil
	}
	return secret.Value{}, key.ID(), writeRootKey(path, key)
}
