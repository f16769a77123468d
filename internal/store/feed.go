package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

// Topic says what kind of thing changed.
type Topic string

// The topics. The subject of a change is the id of the thing.
const (
	TopicReset      Topic = "reset" // reload everything: changes may have been missed
	TopicUser       Topic = "user"
	TopicToken      Topic = "token"
	TopicKey        Topic = "key"
	TopicCredential Topic = "credential"
	TopicTrain      Topic = "train" // the train, its links or its cool-downs
)

// Change says that a thing changed; what it is now must be read.
type Change struct {
	Topic   Topic
	Subject string
}

// Subscriber is told of changes, one call at a time and in no particular order. It must be idempotent, must read what it needs itself,
// and must not write. When it fails, the instance serves nothing until a [TopicReset] has gone through.
type Subscriber func(ctx context.Context, changes []Change) error

const (
	feedInterval = 250 * time.Millisecond
	// feedStale is the age at which news are too old for a new use.
	feedStale = time.Second
	// feedKeep is how long change rows are kept; an instance that slept longer reloads everything.
	feedKeep = 30 * time.Minute
	// feedWait is how long a request waits for news after a pause of the process.
	feedWait = 800 * time.Millisecond
)

// feed follows the changes table on PostgreSQL. Each row carries the id of its transaction; a poll reads every row whose transaction is
// not older than the oldest one still open at the last poll, and skips what it has seen. A transaction that commits late is therefore
// read late, never skipped. On SQLite one process writes, and its own dispatch is the whole feed.
type feed struct {
	db *DB

	mu    sync.Mutex // held while subscribers run: they never run concurrently, so an older read cannot overwrite a newer one
	subs  []Subscriber
	dirty bool

	pollMu sync.Mutex
	safe   uint64              // every transaction below it is done and seen
	seen   map[string]struct{} // ids of rows at or above safe that were dispatched
	last   atomic.Pointer[time.Time]
	bad    atomic.Bool // dirty, readable without the lock

	cancel  context.CancelFunc
	stopped sync.WaitGroup
}

func newFeed(db *DB) *feed { return &feed{db: db, seen: map[string]struct{}{}} }

// Subscribe adds a subscriber. It must be called before [DB.Start].
func (db *DB) Subscribe(fn Subscriber) {
	db.feed.mu.Lock()
	defer db.feed.mu.Unlock()
	db.feed.subs = append(db.feed.subs, fn)
}

// Change announces, with the commit of this transaction, that a thing changed.
func (tx *Tx) Change(topic Topic, subject string) {
	c := Change{topic, subject}
	for _, have := range tx.changes {
		if have == c {
			return
		}
	}
	tx.changes = append(tx.changes, c)
}

func (tx *Tx) storeChanges() error {
	if tx.db.engine != Postgres {
		return nil
	}
	for _, c := range tx.changes {
		if _, err := tx.Exec(`INSERT INTO changes (id, at, topic, subject) VALUES ($1,$2,$3,$4)`,
			NewID("chg"), TimeOf(tx.Now()), string(c.Topic), c.Subject); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) start(ctx context.Context) error {
	if f.cancel != nil {
		return errors.New("store: the database was started already")
	}
	if f.db.engine == Postgres {
		// The position is taken before the caches load, so that a commit in between is told twice rather than never.
		f.pollMu.Lock()
		err := f.position(ctx)
		f.pollMu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := f.dispatch(ctx, []Change{{Topic: TopicReset}}); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.stopped.Go(func() { f.loop(run) })
	return nil
}

func (f *feed) close() {
	if f.cancel != nil {
		f.cancel()
	}
	f.stopped.Wait()
}

func (f *feed) loop(ctx context.Context) {
	tick := time.NewTicker(feedInterval)
	defer tick.Stop()
	var trimmed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if f.bad.Load() {
			if err := f.dispatch(ctx, []Change{{Topic: TopicReset}}); err != nil && ctx.Err() == nil {
				f.db.cfg.Log.Error("the caches cannot be loaded; nothing is served until they are", "cause", redactCause(err))
			}
		}
		if f.db.engine != Postgres {
			continue
		}
		if err := f.poll(ctx); err != nil && ctx.Err() == nil {
			f.db.cfg.Log.Warn("the change feed cannot be read", "age", f.db.Age().Round(time.Millisecond), "cause", redactCause(err))
		}
		if time.Since(trimmed) > feedKeep/10 {
			trimmed = time.Now()
			_ = f.db.Bookkeep(ctx, Cursor, func(tx *Tx) error {
				_, err := tx.Exec(`DELETE FROM changes WHERE at < $1`, TimeOf(tx.Now().Add(-feedKeep)))
				return err
			})
		}
	}
}

// position starts the feed at this moment. The caller holds pollMu.
func (f *feed) position(ctx context.Context) error {
	started := time.Now()
	var xmin string
	if err := f.db.news.GetContext(ctx, &xmin, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text`); err != nil {
		return unavailable(err)
	}
	safe, err := strconv.ParseUint(xmin, 10, 64)
	if err != nil {
		return err
	}
	f.safe = safe
	clear(f.seen)
	f.last.Store(&started)
	return nil
}

// poll reads the news once and tells the subscribers. The age of the feed counts from the moment before the question was asked.
func (f *feed) poll(ctx context.Context) error {
	f.pollMu.Lock()
	defer f.pollMu.Unlock()
	if f.db.Age() > feedKeep/2 {
		// Rows that this instance has not read may have been trimmed.
		if err := f.position(ctx); err != nil {
			return err
		}
		return f.dispatch(ctx, []Change{{Topic: TopicReset}})
	}
	ctx, cancel := context.WithTimeout(ctx, feedStale)
	defer cancel()
	started := time.Now()
	var rows []struct {
		Xmin    string  `db:"xmin"`
		ID      *string `db:"id"`
		Topic   *string `db:"topic"`
		Subject *string `db:"subject"`
	}
	// One statement, hence one snapshot: xmin and the rows belong together.
	err := f.db.news.SelectContext(ctx, &rows, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin, c.id, c.topic, c.subject
		FROM (SELECT 1) AS one LEFT JOIN changes c ON c.xid >= $1::text::xid8`, strconv.FormatUint(f.safe, 10))
	if err != nil {
		return err
	}
	var fresh []Change
	seen := make(map[string]struct{}, len(rows))
	for _, r := range rows {
		if r.ID == nil {
			continue
		}
		seen[*r.ID] = struct{}{}
		if _, ok := f.seen[*r.ID]; !ok {
			fresh = append(fresh, Change{Topic(*r.Topic), *r.Subject})
		}
	}
	if len(fresh) > 0 {
		if err := f.dispatch(ctx, fresh); err != nil {
			return err
		}
	}
	// Only what the next poll can read again must be remembered, and that is what this one read.
	f.seen = seen
	if safe, err := strconv.ParseUint(rows[0].Xmin, 10, 64); err == nil && safe > f.safe {
		f.safe = safe
	}
	f.last.Store(&started)
	return nil
}

func (f *feed) dispatchOwn(ctx context.Context, changes []Change) {
	// The commit stands whatever the caches do; a failure is repaired by the loop and until then nothing is served.
	if err := f.dispatch(ctx, changes); err != nil {
		f.db.cfg.Log.Error("a cache could not follow a change; nothing is served until it has", "cause", redactCause(err))
	}
}

func (f *feed) dispatch(ctx context.Context, changes []Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirty && changes[0].Topic != TopicReset {
		changes = []Change{{Topic: TopicReset}}
	}
	for _, sub := range f.subs {
		if err := sub(ctx, changes); err != nil {
			f.dirty = true
			f.bad.Store(true)
			return err
		}
	}
	if changes[0].Topic == TopicReset {
		f.dirty = false
		f.bad.Store(false)
	}
	return nil
}

// Age returns how old the news from the database are: zero on SQLite. It takes the larger of monotonic and wall time, since the
// monotonic clock stands still while a machine sleeps.
func (db *DB) Age() time.Duration {
	if db.engine == SQLite {
		return 0
	}
	last := db.feed.last.Load()
	if last == nil {
		return 24 * time.Hour
	}
	now := time.Now()
	return max(now.Sub(*last), now.Round(0).Sub(last.Round(0)))
}

// Fresh returns nil when the caches can be trusted: the news are at most a second old and every subscriber has them. After a pause of the
// process it asks the database once before it gives up. On the way of every request, it reads no row when warm.
func (db *DB) Fresh(ctx context.Context) error {
	if !db.feed.bad.Load() && db.Age() <= feedStale {
		return nil
	}
	if db.engine == Postgres && !db.feed.bad.Load() {
		wait, cancel := context.WithTimeout(ctx, feedWait)
		defer cancel()
		if err := db.feed.poll(wait); err == nil && db.Age() <= feedStale && !db.feed.bad.Load() {
			return nil
		}
	}
	return fault.New(fault.Unavailable, "database_unavailable",
		"Signalbox has had no news from its database for over a second, so it cannot know which keys are revoked and lends nothing. Try again shortly; an operator finds the cause at /readyz and in the log.").After(1)
}
