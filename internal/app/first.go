package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
)

// DefaultTrain is the train that a first start makes.
const DefaultTrain = "default"

// First tells what a first start has made. The zero First says that this was no first start.
type First struct {
	// Done says that this was a first start.
	Done bool
	// RootKeyID names the root key; RootKeyFile is where it lies, or "" when it was given from outside.
	RootKeyID, RootKeyFile string
	// RootKeyKeeper is the keeper that has wrapped it, or "".
	RootKeyKeeper string
	// OperatorTokenFile holds a token of all scopes for commands on this machine; "" beside PostgreSQL.
	OperatorTokenFile string
	// Setup is the token of the one-time set-up link; zero when there is an administrator.
	Setup secret.Value
}

func (c Config) dataPath(name string) string { return filepath.Join(c.DataDir, name) }

// pendingFirstStart reports whether the first start is still to be finished. Beside SQLite a file remembers it until it is done, so that
// it is also finished after a signalbox init that failed.
func (a *App) pendingFirstStart(keyring bool) (bool, error) {
	if a.cfg.isPostgres() {
		return !keyring, nil
	}
	marker := a.cfg.dataPath(firstStartFile)
	if _, err := os.Lstat(marker); err == nil {
		return true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if keyring {
		return false, nil
	}
	if err := secret.WriteFile(marker, secret.Value{}); err != nil {
		return false, fmt.Errorf("write to the data directory: %w", err)
	}
	return true, syncDir(a.cfg.DataDir)
}

// firstStart makes what a server needs to be of use at once. Every step may be repeated: a start that was cut off goes on at the next.
func (a *App) firstStart(ctx context.Context, root interface{ ID() string }, serving bool) error {
	caller := identity.System("first start")
	_, err := a.trains.CreateTrain(ctx, caller, train.Draft{Slug: DefaultTrain, Name: "Default"})
	if err != nil && fault.KindOf(err) != fault.Conflict {
		return err
	}
	a.first = First{Done: true, RootKeyID: root.ID(), RootKeyFile: a.cfg.rootKeyPath(), RootKeyKeeper: a.cfg.RootKeyKeeper.String()}
	if !serving {
		return nil
	}
	a.first.Setup, err = a.identity.NewSetupLink(ctx)
	if f, ok := fault.As(err); ok && f.Code == "already_set_up" {
		err = nil // signalbox init came between
	}
	if err != nil || a.cfg.isPostgres() {
		return err
	}
	token, err := a.identity.OperatorToken(ctx, caller)
	if err != nil {
		return err
	}
	a.first.OperatorTokenFile = a.cfg.dataPath(OperatorTokenFile)
	return a.keepOperatorToken(token)
}

// keepOperatorToken writes the token file, whole or not at all, and with it the first start is done.
func (a *App) keepOperatorToken(token secret.Value) error {
	work := a.cfg.dataPath(OperatorTokenFile + ".tmp")
	if err := os.Remove(work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := secret.WriteFile(work, secret.FromString(token.Reveal()+"\n")); err != nil {
		return err
	}
	if err := os.Rename(work, a.cfg.dataPath(OperatorTokenFile)); err != nil {
		return err
	}
	return a.endFirstStart()
}

// endFirstStart forgets that a first start is to be finished.
func (a *App) endFirstStart() error {
	if a.cfg.isPostgres() {
		return nil
	}
	if err := os.Remove(a.cfg.dataPath(firstStartFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(a.cfg.DataDir)
}
