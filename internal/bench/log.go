package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	logCallers = 256
	logEvents  = 1_000_000
)

// auditLog measures the log by itself: how many intents and outcomes become durable in a second, how long the sequencer takes with them,
// and how long a verification of all of them takes.
func auditLog(rep *report, dir, url string) (err error) {
	ctx := context.Background()
	cfg := store.Config{DataDir: dir}
	if url != "" {
		cfg.PostgresURL = secret.FromString(url)
	}
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	root, err := secret.ParseRootKey(secret.FromString(rootKey))
	if err != nil {
		return err
	}
	ring, err := keyring.Open(ctx, keyring.Config{DB: db, Root: root})
	if err != nil {
		return err
	}
	log, err := audit.New(ctx, audit.Config{DB: db, Ring: ring, CheckpointFile: filepath.Join(dir, "checkpoints.log")})
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	log.Start(ctx)
	defer log.Close()

	var left atomic.Int64
	left.Store(logEvents / 2)
	var failed atomic.Pointer[error]
	began := time.Now()
	crowd(logCallers, func(worker int) {
		e := store.Event{
			Actor: store.Actor{Kind: "client_key", ID: fmt.Sprintf("key_%d", worker%50), Name: "laptop"}, OnBehalf: "train_1",
			Target: store.Target{Kind: "credential", ID: fmt.Sprintf("cred_%d", worker%7), Name: "team-alpha"}, RequestID: "req_01jd0000000000000000000000",
			IP: "192.0.2.1", UserAgent: "bench/1",
		}
		for left.Add(-1) >= 0 {
			e.Action, e.Outcome = store.LeaseGranted, store.OutcomePending
			if _, err := db.Append(ctx, e); err != nil {
				failed.Store(&err)
				return
			}
			e.Action, e.Outcome = store.LeaseOutcome, store.OutcomeOK
			db.AppendLater(e)
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	appended := time.Since(began)
	for log.Health().Size < logEvents { // the last outcomes are on their way
		if err := log.Flush(ctx); err != nil {
			return err
		}
		if lost := db.LostOutcomes(); lost > 0 || time.Since(began) > 10*time.Minute {
			return fmt.Errorf("%d of %d events are in the log and %d outcomes are lost", log.Health().Size, logEvents, lost)
		}
	}
	sequenced := time.Since(began)
	began = time.Now()
	r, err := audit.Verify(ctx, db, audit.VerifyOptions{})
	if err != nil {
		return err
	}
	if !r.OK() || r.Size < logEvents {
		return fmt.Errorf("the log of %d records does not verify: %d findings in %d records", logEvents, r.Found, r.Size)
	}
	verified := time.Since(began)
	rep.line("")
	rep.line("Audit log, %d events (an intent and an outcome each) by %d callers: **%.0f durable events/s** while the sequencer runs beside; everything is sequenced and signed %.1f s after the last; **verified in %.1f s** (%.0f events/s).",
		logEvents, logCallers, logEvents/appended.Seconds(), (sequenced - appended).Seconds(), verified.Seconds(), float64(r.Size)/verified.Seconds())
	return nil
}
