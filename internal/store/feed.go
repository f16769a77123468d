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
	TopicSession    Topic = "session"
	TopicWebToken   Topic = "web_token" // a key that signs our own, or an outside issuer
	TopicCredential Topic = "credential"
	TopicTrain      Topic = "train"           // the train, its links or its cool-downs
	TopicNotify     Topic = "notify"          // something waits to be delivered
	TopicService    Topic = "service_account" // a service account
	TopicHome       Topic = "home"            // a client, a service or infrastructure
	TopicKeyring    Topic = "keyring"         // the data keys, or how a change of them goes
	TopicIncident   Topic = "incident"
	TopicWindows    Topic = "windows" // how far the limits of an account are used
	TopicMCP        Topic = "mcp"     // an MCP server, or somebody's connection to one
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

	polling chan struct{}       // holds one token; who has it owns what follows
	safe    uint64              // every transaction below it is done and seen
	seen    map[string]struct{} // ids of rows at or above safe that were dispatched
	server  string              // the server that safe belongs to
	last    atomic.Pointer[time.Time]
	heard   silence
	bad     atomic.Pointer[time.Time] // since when a subscriber could not follow; nil: they all do

	cancel  context.CancelFunc
	stopped sync.WaitGroup
}

func newFeed(db *DB) *feed {
	return &feed{db: db, seen: map[string]struct{}{}, polling: make(chan struct{}, 1)}
}

// viaNews marks the context of subscribers: their reads use the feed's own connections.
type viaNews struct{}

const (
	// reloadLimit bounds what the subscribers may take for a change.
	reloadLimit = 30 * time.Second
	// resetLimit bounds what they may take to read everything anew: some seconds for 100,000 trains, many times that on a machine that is
	// busy with other things, where a start must be slow and not impossible.
	resetLimit = 5 * time.Minute
	// trimEvery is how often old change rows are dropped.
	trimEvery = feedKeep / 10
)

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
		if err := f.restart(ctx); err != nil {
			return err
		}
	} else if err := f.dispatch(ctx, []Change{{Topic: TopicReset}}); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.stopped.Go(func() { f.loop(run) })
	if f.db.engine == Postgres {
		f.stopped.Go(func() { f.trim(run) })
		f.stopped.Go(func() { f.watch(run) })
	}
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The database is asked first: there is no sense in loading the caches from one that does not answer.
		if f.db.engine == Postgres {
			if err := f.poll(ctx); err != nil {
				if ctx.Err() == nil {
					f.heard.hangUp(f.db)
					f.db.cfg.Log.Warn("the change feed cannot be read", "age", f.db.Age().Round(time.Millisecond), "cause", redactCause(err))
				}
				continue
			}
		}
		if f.bad.Load() != nil {
			if err := f.dispatch(ctx, []Change{{Topic: TopicReset}}); err != nil && ctx.Err() == nil {
				f.db.cfg.Log.Error("the caches cannot be loaded; nothing is served until they are", "cause", redactCause(err))
			}
		}
	}
}

// trim drops old change rows, beside the feed: it uses the common connections and may have to wait for one.
func (f *feed) trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, reloadLimit)
		err := f.db.Bookkeep(limited, Cursor, func(tx *Tx) error {
			_, err := tx.Exec(`DELETE FROM changes WHERE at < $1`, TimeOf(tx.Now().Add(-feedKeep)))
			return err
		})
		cancel()
		if err != nil && ctx.Err() == nil {
			f.db.cfg.Log.Warn("old change rows could not be dropped", "cause", redactCause(err))
		}
	}
}

// newsRow is one line of an answer of the database: the oldest transaction still open, which server says so, and rows of one snapshot.
type newsRow struct {
	Xmin    string  `db:"xmin"`
	Server  string  `db:"server"`
	ID      *string `db:"id"`
	Topic   *string `db:"topic"`
	Subject *string `db:"subject"`
}

// A server is known by the moment at which it started: transaction numbers of another one, after a fail-over or a restore, may be smaller.
const newsColumns = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin, pg_postmaster_start_time()::text AS server`

// restart takes a new position and reloads everything. Until that is done the news stay as old as they are.
func (f *feed) restart(ctx context.Context) error {
	started := time.Now()
	var row newsRow
	limited, cancel := context.WithTimeout(ctx, feedStale)
	defer cancel()
	err := f.db.news.GetContext(limited, &row, newsColumns)
	f.heard.asked(started, err)
	if err != nil {
		return unavailable(err)
	}
	safe, err := strconv.ParseUint(row.Xmin, 10, 64)
	if err != nil {
		return errors.New("store: PostgreSQL told no transaction number")
	}
	// A caller that goes away must not leave the caches half-way: that would stop everybody's service.
	if err := f.dispatch(context.WithoutCancel(ctx), []Change{{Topic: TopicReset}}); err != nil {
		return err
	}
	f.safe, f.server = safe, row.Server
	clear(f.seen)
	f.last.Store(&started)
	return nil
}

// poll reads the news once and tells the subscribers. The age of the feed counts from the moment before the question was asked.
func (f *feed) poll(ctx context.Context) error {
	select {
	case f.polling <- struct{}{}:
		defer func() { <-f.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return f.ask(ctx)
}

// ask is poll for whoever has the token.
func (f *feed) ask(ctx context.Context) error {
	if f.silence() > feedKeep/2 {
		return f.restart(ctx) // rows that this instance has not read may have been trimmed
	}
	limited, cancel := context.WithTimeout(ctx, feedStale)
	defer cancel()
	started := time.Now()
	var rows []newsRow
	// One statement, hence one snapshot: xmin and the rows belong together.
	err := f.db.news.SelectContext(limited, &rows, newsColumns+`, c.id, c.topic, c.subject
		FROM (SELECT 1) AS one LEFT JOIN changes c ON c.xid >= $1::text::xid8`, strconv.FormatUint(f.safe, 10))
	f.heard.asked(started, err)
	if err != nil {
		return err
	}
	safe, err := strconv.ParseUint(rows[0].Xmin, 10, 64)
	if err != nil {
		return errors.New("store: PostgreSQL told no transaction number")
	}
	if safe < f.safe || rows[0].Server != f.server {
		return f.restart(ctx)
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
		if err := f.dispatch(context.WithoutCancel(ctx), fresh); err != nil {
			return err
		}
	}
	// Only what the next poll can read again must be remembered, and that is what this one read.
	f.seen, f.safe = seen, safe
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
	limit := reloadLimit
	if changes[0].Topic == TopicReset {
		limit = resetLimit
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, viaNews{}, true), limit)
	defer cancel()
	for _, sub := range f.subs {
		if err := sub(ctx, changes); err != nil {
			f.dirty = true
			now := time.Now()
			f.bad.CompareAndSwap(nil, &now)
			return err
		}
	}
	if changes[0].Topic == TopicReset {
		f.dirty = false
		f.bad.Store(nil)
	}
	return nil
}

// Age returns how old the news are that the caches go by: on SQLite zero, unless a subscriber could not follow a change.
func (db *DB) Age() time.Duration {
	age := db.feed.silence()
	if bad := db.feed.bad.Load(); bad != nil {
		age = max(age, since(*bad))
	}
	return age
}

// silence returns how long ago the database was last asked with success.
func (f *feed) silence() time.Duration {
	if f.db.engine == SQLite {
		return 0
	}
	last := f.last.Load()
	if last == nil {
		return 24 * time.Hour
	}
	return since(*last)
}

// since takes the larger of monotonic and wall time: the monotonic clock stands still while a machine sleeps.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// Fresh returns nil when the caches can be trusted: the news are at most a second old and every subscriber has them. After a pause of the
// process it asks the database once before it gives up. On the way of every request, it reads no row when warm.
func (db *DB) Fresh(ctx context.Context) error {
	if db.feed.bad.Load() == nil && db.feed.silence() <= feedStale {
		return nil
	}
	if db.engine == Postgres && db.feed.bad.Load() == nil {
		wait, cancel := context.WithTimeout(ctx, feedWait)
		defer cancel()
		if err := db.feed.poll(wait); err == nil && db.feed.silence() <= feedStale && db.feed.bad.Load() == nil {
			return nil
		}
	}
	return errStaleNews()
}

// CatchUp returns when the subscribers have been told of every change that was committed before the call, by whichever instance. It is for
// reads that go by a cache and must still see what was acknowledged elsewhere a moment ago.
func (db *DB) CatchUp(ctx context.Context) error {
	if db.engine == Postgres {
		if err := db.feed.catchUp(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			db.cfg.Log.Warn("the change feed cannot be read", "cause", redactCause(err))
			return unavailable(err)
		}
	}
	if db.feed.bad.Load() != nil {
		return errStaleNews()
	}
	return nil
}

// catchUp polls, unless while it waited for its turn somebody else did: many that come together share one question.
func (f *feed) catchUp(ctx context.Context) error {
	came := time.Now()
	select {
	case f.polling <- struct{}{}:
		defer func() { <-f.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if last := f.last.Load(); last != nil && last.After(came) {
		return nil
	}
	return f.ask(ctx)
}

// Heard is Fresh without asking: it judges by the news that are there.
func (db *DB) Heard() error {
	if db.Age() <= feedStale {
		return nil
	}
	return errStaleNews()
}

func errStaleNews() error {
	return fault.New(fault.Unavailable, "database_unavailable",
		"Signalbox has had no news from its database for over a second, so it cannot know which keys are revoked and lends nothing. Try again shortly; an operator finds the cause at /readyz and in the log.").After(1)
}
