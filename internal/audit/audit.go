// Package audit turns the events that rooms record into a log that nobody can quietly change, and reads it.
//
// Promise: every event that was committed becomes exactly one leaf of a Merkle tree (RFC 6962), at the latest a second or so later; the
// size and root of the tree are signed into checkpoints and appended to a file off the database; [Verify] recomputes all of it from the
// records and finds any change to a record that an anchored checkpoint covers.
//
// Limits: leaf order is the order of sequencing, which is close to the order of time and not the same. A checkpoint that lies only in the
// database proves nothing against somebody who holds the database and the root key: he can sign another history. What no anchored
// checkpoint covers yet is reported as such.
//
// Invariants: leaves, nodes and checkpoints are only ever added; one instance adds them at a time, and each of its transactions first
// proves that it still is that one; nothing here holds up the transaction that records an event.
package audit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

// Config says what the log works on.
type Config struct {
	DB *store.DB
	// Ring opens the key that signs checkpoints.
	Ring *keyring.Ring
	Log  *slog.Logger
	// Instance names this process in the election; empty means a random name.
	Instance string
	// CheckpointFile is the file that signed checkpoints are appended to; empty means none, and nothing is anchored.
	CheckpointFile string
	// Every is the time between two passes of the sequencer; 0 means 200 ms.
	Every time.Duration
	// SignEvery is the least time between two checkpoints; 0 means 10 s.
	SignEvery time.Duration
}

const (
	defaultEvery     = 200 * time.Millisecond
	defaultSignEvery = 10 * time.Second
	// stepDeadline bounds each step of a pass, so that a database that hangs does not hang the sequencer with it.
	stepDeadline = 10 * time.Second
	// closeDeadline bounds the last pass when the process ends.
	closeDeadline = 5 * time.Second
	// complainEvery is the least time between two log lines about the same lasting failure.
	complainEvery = time.Minute
)

// Log is the audit log of one database. It is safe for concurrent use. Make it with [New].
type Log struct {
	db        *store.DB
	log       *slog.Logger
	signer    note.Signer
	verifier  string
	holder    string
	every     time.Duration
	signEvery time.Duration
	catchUp   int // segments of the index that one pass writes when it is behind

	mu       sync.Mutex // held during a pass; guards what follows, up to moaned
	epoch    int64      // of our term as the sequencer; 0 when another instance is or may be
	lapsed   int        // passes in a row that found the other's term over
	right    *edge      // nil when it must be read from the database first
	last     int64      // the first leaf of the newest row, -1 in an empty log
	newest   string     // its source, if this instance put it there; what is remembered must end with it to be gone on with
	signed   int64      // the size of the newest checkpoint
	index    *indexer   // nil when it must be read from the database first
	groaned  time.Time  // when it was last said that the index cannot be extended
	ghosts   int        // waiting references whose record is gone
	signedAt time.Time
	anchors  anchorFile
	moaned   time.Time

	healthMu sync.Mutex // apart from mu, so that nobody who asks waits for a pass
	health   Health

	lately lately
	loose  looseIndex

	cancel  context.CancelFunc
	stopped sync.WaitGroup
}

// Health tells how far the log has come, from memory.
type Health struct {
	// Leading says that this instance sequences.
	Leading bool
	// Size is the number of leaves that this instance last saw.
	Size int64
	// Signed is the size of the newest checkpoint that this instance made or saw.
	Signed int64
	// SignedAt is when that one was signed; zero before the first.
	SignedAt time.Time
	// Anchored is the size of the newest checkpoint in the checkpoint file; 0 without a file.
	Anchored int64
	// RolledBack is the size of the largest checkpoint in the checkpoint file that the database lacks: it was rolled back or replaced since.
	// 0 says that there is none.
	RolledBack int64
	// AnchorErr is why the checkpoint file could not be extended; nil when it was.
	AnchorErr error
	// Passed is when a pass last succeeded, by this instance or, as far as it can see, by the one that leads.
	Passed time.Time
	// Err is why the last pass failed, for the log; nil when it succeeded.
	Err error
}

// New opens the log. At the first start of a database it makes the key that signs checkpoints, and records that.
func New(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.DB == nil || cfg.Ring == nil {
		return nil, errors.New("audit: a database and a keyring are needed")
	}
	l := &Log{
		db: cfg.DB, log: cfg.Log, every: cfg.Every, signEvery: cfg.SignEvery, catchUp: catchUp, last: -1,
		holder:  strings.TrimPrefix(cfg.Instance+"/"+store.NewID("ins"), "/"), // no two processes share it, whatever they are called
		anchors: anchorFile{path: cfg.CheckpointFile},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.every <= 0 {
		l.every = defaultEvery
	}
	if l.signEvery <= 0 {
		l.signEvery = defaultSignEvery
	}
	if err := l.enrol(ctx); err != nil {
		return nil, err
	}
	var err error
	if l.signer, l.verifier, err = openSigner(ctx, cfg.DB, cfg.Ring); err != nil {
		return nil, err
	}
	return l, nil
}

// Verifier returns the public key of the checkpoints in the form of golang.org/x/mod/sumdb/note.
func (l *Log) Verifier() string { return l.verifier }

// Start begins to sequence in the background. End it with [Log.Close].
func (l *Log) Start(ctx context.Context) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	l.stopped.Go(func() {
		tick := time.NewTicker(l.every)
		defer tick.Stop()
		for {
			select {
			case <-run.Done():
				return
			case <-tick.C:
				l.pass(run)
			}
		}
	})
}

// Close ends the background work. When this instance leads, it sequences and signs what is there and lets go of the election, so that
// another takes over at once.
func (l *Log) Close() {
	if l.cancel != nil {
		l.cancel()
	}
	l.stopped.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeDeadline)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == 0 {
		return
	}
	err := l.drain(ctx, thorough)
	if err == nil {
		err = l.sign(ctx)
	}
	if err == nil {
		err = l.anchor(ctx)
	}
	if err == nil {
		err = l.resign(ctx)
	}
	if err != nil {
		l.log.Warn("the audit log was left with unsigned records; the next start signs them", "cause", err)
	}
}

// Flush sequences all that is pending at this moment, signs the result and anchors it. It takes the election over from another instance.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range flushTries {
		if err := l.stand(ctx, standNow); err != nil {
			return err
		}
		err := l.drain(ctx, thorough)
		if err == nil {
			err = l.sign(ctx)
		}
		if errors.Is(err, errFenced) {
			continue // another instance took over in between
		}
		if err != nil {
			return err
		}
		l.tell(func(h *Health) { h.Leading, h.Passed, h.Err = true, time.Now(), nil })
		return l.anchor(ctx)
	}
	return fault.New(fault.Conflict, "state_conflict", "Other instances took the audit log over again and again; it is being sequenced, but not by this one.").Because(errFenced)
}

// flushTries bounds how often Flush takes the election over when other instances take it back.
const flushTries = 10

// pass is what happens at each tick.
func (l *Log) pass(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.work(ctx)
	if errors.Is(err, errFenced) {
		l.log.Info("another instance sequences the audit log now")
		err = nil
	}
	if ctx.Err() != nil {
		return
	}
	leading := l.epoch != 0
	l.tell(func(h *Health) {
		h.Leading, h.Err = leading, err
		if err == nil {
			h.Passed = time.Now()
		}
	})
	if err == nil {
		l.moaned = time.Time{}
		return
	}
	if time.Since(l.moaned) >= complainEvery {
		l.moaned = time.Now()
		l.log.Error("the audit log cannot be sequenced; events are safe and wait", "cause", err)
	}
}

func (l *Log) work(ctx context.Context) error {
	due := time.Since(l.signedAt) >= l.signEvery
	if l.epoch == 0 {
		want := standForRecords
		if due {
			want = standForSigning
		}
		if err := l.stand(ctx, want); err != nil {
			return err
		}
	}
	if l.epoch != 0 {
		if err := l.drain(ctx, reach(due)); err != nil {
			return err
		}
		if due {
			if err := l.sign(ctx); err != nil {
				return err
			}
		}
	}
	if !due {
		return nil
	}
	l.signedAt = time.Now()
	// A checkpoint file that cannot be written does not stop the log; what it lacks is appended once it can.
	if err := l.anchor(ctx); err != nil && ctx.Err() == nil {
		l.log.Error("checkpoints cannot be anchored", "cause", err)
	}
	return nil
}

// anchor extends the checkpoint file.
func (l *Log) anchor(ctx context.Context) error {
	err := l.anchors.extend(ctx, l.db, l.log)
	l.tell(func(h *Health) { h.Anchored, h.RolledBack, h.AnchorErr = l.anchors.last, l.anchors.ahead, err })
	return err
}

// Health tells how far the log has come.
func (l *Log) Health() Health {
	l.healthMu.Lock()
	defer l.healthMu.Unlock()
	return l.health
}

func (l *Log) tell(change func(*Health)) {
	l.healthMu.Lock()
	defer l.healthMu.Unlock()
	change(&l.health)
}
