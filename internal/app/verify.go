package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
)

// VerifyAudit checks the audit log of the database of cfg against the configured checkpoint file, if it exists, and against the given files,
// which must. It writes nothing and needs no root key, and works beside a running server and after a crash.
func VerifyAudit(ctx context.Context, cfg Config, files []string, progress func(done, total int64)) (_ audit.Report, err error) {
	anchors, err := anchorsOf(cfg.CheckpointFile, files)
	if err != nil {
		return audit.Report{}, err
	}
	sc := cfg.storeConfig()
	sc.ReadOnly = true
	db, err := store.Open(ctx, sc)
	if err != nil {
		return audit.Report{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return audit.Verify(ctx, db, audit.VerifyOptions{Anchors: anchors, Progress: progress})
}

// anchorsOf reads the checkpoints of the configured file, if it exists, and of the given ones.
func anchorsOf(configured string, files []string) ([]string, error) {
	var anchors []string
	for i, path := range append([]string{configured}, files...) {
		text, err := os.ReadFile(path)
		if i == 0 && (errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0) {
			continue // a young server has signed nothing yet
		}
		if err != nil {
			return nil, fmt.Errorf("read the checkpoints: %w", err)
		}
		notes, err := audit.ParseAnchors(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		anchors = append(anchors, notes...)
	}
	return anchors, nil
}
