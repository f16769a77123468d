package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// BackedUp tells of a backup that was taken.
type BackedUp struct {
	Head  backup.Head
	File  string
	Bytes int64
}

// Backup writes the database of cfg, as it is at one moment, into a sealed file. It works beside running servers. A file that exists is replaced only
// when that is said, and in one step.
func Backup(ctx context.Context, cfg Config, output string, replace bool, progress func(done, total int64)) (_ BackedUp, err error) {
	if _, err := os.Lstat(output); err == nil && !replace {
		return BackedUp{}, errExists(output)
	}
	sc := cfg.storeConfig()
	sc.Beside = true
	db, err := store.Open(ctx, sc)
	if err != nil {
		return BackedUp{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	root, wrappings, err := knownRoot(ctx, cfg, db)
	if err != nil {
		return BackedUp{}, err
	}
	id := store.NewID("bak")
	// The room is made before the record, so that a place that cannot be written to leaves no trace in the log.
	file, err := newBackupFile(output)
	if err != nil {
		return BackedUp{}, err
	}
	defer func() { err = errors.Join(err, file.discard()) }()
	if err := backup.Begin(ctx, db, id); err != nil {
		return BackedUp{}, fmt.Errorf("a backup is recorded before it is taken: %w", err)
	}
	head, err := backup.Write(ctx, db, file, backup.Options{ID: id, Root: root, Version: Version(), Wrappings: wrappings, Progress: noteProgress(ctx, cfg, db, id, progress)})
	if err == nil {
		err = file.keep(replace)
	}
	if err != nil {
		// Also after an interruption it is on record that nothing came of it, as far as the database still takes it.
		return BackedUp{}, errors.Join(err, backup.Failed(context.WithoutCancel(ctx), db, id))
	}
	out := BackedUp{Head: head, File: output, Bytes: file.size}
	if err := backup.Done(ctx, db, head, file.size); err != nil {
		return out, fmt.Errorf("the backup %s is whole, but the database does not remember it: %w", output, err)
	}
	return out, nil
}

const (
	// noteEvery is how often a backup writes down how far it is, for the pages of servers.
	noteEvery = time.Second
	// notePatience bounds that; the backup itself is more important.
	notePatience = 2 * time.Second
)

// noteProgress writes down how far a backup is, and then tells progress, which may be nil.
func noteProgress(ctx context.Context, cfg Config, db *store.DB, id string, progress func(done, total int64)) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if time.Since(last) >= noteEvery {
			ctx, cancel := context.WithTimeout(ctx, notePatience)
			defer cancel()
			if err := backup.Note(ctx, db, id, done, total); err != nil {
				cfg.logger().Debug("how far the backup is could not be written down", "cause", err)
			}
			last = time.Now()
		}
		if progress != nil {
			progress(done, total)
		}
	}
}

// knownRoot is the root key, when it opens the keyring of db, with what keepers have wrapped of it.
func knownRoot(ctx context.Context, cfg Config, db *store.DB) (root secret.RootKey, wrapped []backup.Wrapping, err error) {
	exists, err := keyring.Exists(ctx, db)
	if err != nil {
		return root, nil, err
	}
	if !exists {
		return root, nil, errors.New("there is nothing to back up: no Signalbox has served this database yet")
	}
	if root, err = readRootKey(ctx, cfg, db, true); err != nil {
		return root, nil, err
	}
	if _, err = proven(ctx, cfg, db, root); err != nil {
		return root, nil, err
	}
	all, err := keeper.List(ctx, db)
	for _, w := range all {
		if w.RootKeyID == root.ID() {
			wrapped = append(wrapped, backup.Wrapping{Keeper: w.Keeper, KeyVersion: w.KeyVersion, Wrapped: w.Blob})
		}
	}
	return root, wrapped, err
}

// rootOf finds the root key of a backup: where the configuration says that it is, or, when that is a keeper, as the keeper has wrapped it for the
// database that was backed up.
func rootOf(ctx context.Context, cfg Config, input string) (secret.RootKey, error) {
	if cfg.RootKeyKeeper.IsZero() {
		return rootKey(cfg, true)
	}
	f, err := os.Open(input)
	if err != nil {
		return secret.RootKey{}, err
	}
	defer func() { _ = f.Close() }()
	h, _, err := backup.ReadHead(bufio.NewReader(f))
	if err != nil {
		return secret.RootKey{}, fmt.Errorf("%s: %w", input, err)
	}
	for _, w := range h.Wrappings {
		if w.Keeper == cfg.RootKeyKeeper.String() {
			k, err := cfg.openKeeper(cfg.RootKeyKeeper)
			if err != nil {
				return secret.RootKey{}, err
			}
			return k.Unwrap(ctx, h.RootKey, keeper.Wrapped{Blob: w.Wrapped, KeyVersion: w.KeyVersion})
		}
	}
	return secret.RootKey{}, fmt.Errorf("the backup was made with root key %s, which the keeper %s had not wrapped; give the root key itself in SIGNALBOX_ROOT_KEY_FILE, without SIGNALBOX_ROOT_KEY_KEEPER", h.RootKey, cfg.RootKeyKeeper)
}

func errExists(path string) error {
	return fmt.Errorf("%s exists; name another file, or replace it with --force", path)
}

// backupFile is a backup that is being written, beside the place that it will have.
type backupFile struct {
	path, work string
	file       *os.File
	out        *bufio.Writer
	size       int64
}

func newBackupFile(path string) (*backupFile, error) {
	work := path + ".part"
	f, err := os.OpenFile(work, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	// What a killed backup has left is used again; what a running one has is not.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another backup is being written to %s", work)
	}
	if err := errors.Join(f.Chmod(0o600), f.Truncate(0)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	return &backupFile{path: path, work: work, file: f, out: bufio.NewWriterSize(f, 256<<10)}, nil
}

// Write takes a piece of the file.
func (b *backupFile) Write(p []byte) (int, error) {
	n, err := b.out.Write(p)
	b.size += int64(n)
	return n, err
}

// keep brings the file to the disk and gives it its name.
func (b *backupFile) keep(replace bool) error {
	if err := errors.Join(b.out.Flush(), b.file.Sync()); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if replace {
		if err := os.Rename(b.work, b.path); err != nil {
			return err
		}
		b.work = ""
	} else if err := os.Link(b.work, b.path); errors.Is(err, fs.ErrExist) { // unlike a rename it replaces nothing
		return errExists(b.path)
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(b.path))
}

// discard removes what has not got its name.
func (b *backupFile) discard() error {
	var err error
	if b.work != "" {
		err = os.Remove(b.work)
	}
	return errors.Join(err, b.file.Close())
}

// CheckedBackup tells what a check of a backup found.
type CheckedBackup struct {
	Head  backup.Head
	Bytes int64
	// Contents is what it holds.
	Contents store.Contents
	// Proofs tell of everything that lies under data keys: what opened, and what did not.
	Proofs []keyring.Proof
	Audit  audit.Report
}

// Opened returns how many sealed places of records opened, or fitted.
func (c CheckedBackup) Opened() (n int64) {
	for _, p := range c.Proofs {
		n += p.Opened
	}
	return n
}

// Damaged returns how many did not, and where they are: the names of tables and columns.
func (c CheckedBackup) Damaged() (n int64, where []string) {
	for _, p := range c.Proofs {
		if n += p.Damaged; p.Damaged > 0 {
			where = append(where, p.Place)
		}
	}
	return n, where
}

// OK reports that the backup can be relied on.
func (c CheckedBackup) OK() bool {
	damaged, _ := c.Damaged()
	return damaged == 0 && c.Audit.OK()
}

// CheckBackup reads a whole backup, restores it into a database of its own below scratch, which is removed again, opens its keyring and everything that
// is sealed in it, and verifies its audit log. "" is the usual directory for temporary files.
func CheckBackup(ctx context.Context, cfg Config, input, scratch string, progress func(done, total int64)) (out CheckedBackup, err error) {
	root, err := rootOf(ctx, cfg, input)
	if err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp(scratch, "signalbox-check-")
	if err != nil {
		return out, fmt.Errorf("make room for the check: %w; name another directory with --scratch", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sc := store.Config{DataDir: dir, Log: cfg.logger()}
	restored, err := load(ctx, sc, input, root, RestoreOptions{Progress: progress})
	if err != nil {
		return out, err
	}
	out.Head, out.Bytes = restored.Head, restored.Bytes
	db, err := store.Open(ctx, sc)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if out.Contents, err = db.Contents(ctx); err != nil {
		return out, err
	}
	ring, err := keyring.Open(ctx, keyring.Config{DB: db, Root: root, Log: cfg.logger()})
	if err != nil {
		return out, err
	}
	anyURL := func(*url.URL) error { return nil } // nothing is called
	safe, err := vault.New(vault.Config{DB: db, Ring: ring, Binder: ring, Log: cfg.logger(), CheckURL: anyURL})
	if err != nil {
		return out, err
	}
	logins, err := oauth.NewLogins(oauth.LoginsConfig{DB: db, Vault: safe, Ring: ring, Binder: ring, Wire: provider.New(provider.Config{}), CheckURL: anyURL, Log: cfg.logger()})
	if err != nil {
		return out, err
	}
	if out.Proofs, err = keyring.Prove(ctx, db, ring, sealed(ring, safe, logins)); err != nil {
		return out, err
	}
	out.Audit, err = audit.Verify(ctx, db, audit.VerifyOptions{})
	return out, err
}

// RestoreOptions say how a backup is restored.
type RestoreOptions struct {
	// Replace gives up what the database holds.
	Replace bool
	// Moved says that nothing was served between the backup and now.
	Moved    bool
	Progress func(done, total int64)
}

// RestoredBackup tells of a restore.
type RestoredBackup struct {
	Head   backup.Head
	Bytes  int64
	Loaded store.Loaded
}

// Restore makes the database of cfg what a backup holds. It is refused while a server runs on it, and where there is something unless it may be
// replaced.
func Restore(ctx context.Context, cfg Config, input string, o RestoreOptions) (RestoredBackup, error) {
	if !cfg.isPostgres() {
		if err := makeDataDir(cfg.DataDir, cfg.logger()); err != nil {
			return RestoredBackup{}, err
		}
	}
	root, err := rootOf(ctx, cfg, input)
	if err != nil {
		return RestoredBackup{}, err
	}
	out, err := load(ctx, cfg.storeConfig(), input, root, o)
	if err != nil || cfg.isPostgres() {
		return out, err
	}
	// A first start that was begun here is not to be finished in what was restored.
	if err := os.Remove(cfg.dataPath(firstStartFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	return out, nil
}

func load(ctx context.Context, sc store.Config, input string, root secret.RootKey, o RestoreOptions) (out RestoredBackup, err error) {
	f, err := os.Open(input)
	if err != nil {
		return out, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil {
		out.Bytes = info.Size()
	}
	r, err := backup.Open(f, root, o.Progress)
	if err != nil {
		return out, fmt.Errorf("%s: %w", input, err)
	}
	out.Head = r.Head
	lo := store.LoadOptions{Schema: r.Head.Schema, Replace: o.Replace, Finish: func(tx *store.Tx) error { return backup.Mark(tx, r.Head, o.Moved) }}
	if !o.Moved {
		lo.Without = backup.Passing()
	}
	out.Loaded, err = store.Load(ctx, sc, lo, r)
	if errors.Is(err, backup.ErrDamaged) {
		err = fmt.Errorf("%s: %w", input, err)
	}
	return out, err
}

// recordRestore records what the first start after a restore finds, and lets the rooms take account of it.
func (a *App) recordRestore(ctx context.Context) error {
	doubtful := 0
	done, err := backup.Record(ctx, a.db, func(tx *store.Tx, _ time.Time) (err error) {
		if err := a.identity.Restored(tx); err != nil {
			return err
		}
		doubtful, err = a.oauth.Restored(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the restore of this database: %w", err)
	}
	if done != nil {
		a.log.Warn("this database was restored from a backup", "backup", done.BackupID, "backup_time", done.BackupAt.Time(), "moved", done.Moved != 0, "oauth_connections_in_doubt", doubtful)
	}
	return nil
}
