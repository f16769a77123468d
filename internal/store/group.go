package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/quota"
)

const (
	// groupMax bounds the events of one commit.
	groupMax = 256
	// groupLinger is how long an outcome may wait for an intent whose commit it can ride.
	groupLinger = 15 * time.Millisecond
	// groupRetry is how long a commit whose fate is unknown is tried again with the same id before its waiters are told.
	groupRetry = 3 * time.Second
	// groupPause is how long outcomes wait after a failed commit before they are tried again.
	groupPause = 500 * time.Millisecond
	// groupBacklog bounds the outcomes that wait while the database is away; beyond it outcomes are lost (they show as unknown).
	groupBacklog = 100_000
)

// group makes lease events durable, many in one commit. There is no committing goroutine: the first caller that finds nobody committing
// commits for all that wait, on its own stack, and hands the duty on. At low load that saves two context switches a request.
type group struct {
	db *DB
	// charging says that the entries have charges: what does not fit is not written.
	charging bool

	mu       sync.Mutex
	intents  []*entry
	outcomes []*entry
	stuck    []*batch // whose fate is unknown, or that did not fit: stored again under the same id, and before newer outcomes
	leading  bool
	timer    *time.Timer
	closed   bool
	lost     int64
	done     sync.WaitGroup

	insert *sql.Stmt // of a batch, on SQLite; only the leader touches it
}

type entry struct {
	tail   []byte
	charge *quota.Charge // in a group that charges
	id     string
	err    error
	// turn is signalled with true when the event is settled and with false when its caller must lead. It is nil for outcomes.
	turn chan bool
}

func newGroup(db *DB) *group { return &group{db: db} }

const (
	// On SQLite a trigger inserts the reference for the sequencer, so that a batch is one statement here too.
	insertBatch = `INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4) ON CONFLICT DO NOTHING`
	// One statement is one round trip and its own transaction. A second try with the same id inserts no second pending row: the first
	// CTE returns nothing then.
	insertAll = `WITH batch AS (INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4) ON CONFLICT DO NOTHING RETURNING id)
 INSERT INTO audit_pending (source_id) SELECT id FROM batch`
)

func (g *group) prepare(ctx context.Context) error {
	if g.db.engine != SQLite || g.db.write == nil {
		return nil
	}
	var err error
	g.insert, err = g.db.write.DB.PrepareContext(ctx, insertBatch)
	return err
}

// Append makes one lease event durable and returns its id after the commit that holds it. Otherwise it returns the fault
// audit_unavailable and the act must not happen. When ctx ends first, the event may still become durable: it then has no outcome.
func (db *DB) Append(ctx context.Context, e Event) (string, error) {
	en, err := newEntry(db, e)
	if err != nil {
		return "", err
	}
	return db.group.append(ctx, en)
}

func (g *group) append(ctx context.Context, en *entry) (string, error) {
	en.turn = make(chan bool, 1)
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return "", auditFault(errors.New("closed"))
	}
	g.intents = append(g.intents, en)
	lead := !g.leading
	if lead {
		g.leading = true
	}
	g.mu.Unlock()
	if lead {
		g.lead()
	}
	for {
		select {
		case settled := <-en.turn:
			if settled {
				return en.id, en.err
			}
			g.lead()
		case <-ctx.Done():
			// The duty to lead may be on its way to this entry, and must not be lost.
			g.done.Go(func() {
				for settled := <-en.turn; !settled; settled = <-en.turn {
					g.lead()
				}
			})
			return "", ctx.Err()
		}
	}
}

// AppendLater records an outcome with the next commit, at the latest after some 20 ms. It never blocks. While the database is away
// outcomes wait in bounded memory; those that are lost show as unknown.
func (db *DB) AppendLater(e Event) {
	en, err := newEntry(db, e)
	if err != nil {
		db.cfg.Log.Error("an outcome was not recorded", "cause", err)
		return
	}
	db.group.appendLater(en)
}

func (g *group) appendLater(en *entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.outcomes) >= groupBacklog {
		g.lost++
		return
	}
	g.outcomes = append(g.outcomes, en)
	if !g.leading && g.timer == nil {
		g.arm(groupLinger)
	}
}

// arm starts the timer that commits outcomes which no intent carries. The caller holds mu.
func (g *group) arm(d time.Duration) {
	g.done.Add(1)
	g.timer = time.AfterFunc(d, func() {
		defer g.done.Done()
		g.mu.Lock()
		g.timer = nil
		lead := !g.leading && len(g.intents)+len(g.outcomes)+len(g.stuck) > 0
		if lead {
			g.leading = true
		}
		g.mu.Unlock()
		if lead {
			g.lead()
		}
	})
}

// LostOutcomes returns how many outcomes were dropped since the start, because the database was away for too long or would not take them.
func (db *DB) LostOutcomes() int64 {
	return db.group.losses() + db.charges.losses()
}

func (g *group) losses() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

func newEntry(db *DB, e Event) (*entry, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	now := time.Now
	if db.cfg.Clock != nil {
		now = db.cfg.Clock
	}
	e.At = now().UTC().Truncate(time.Microsecond)
	return &entry{tail: e.appendTail(make([]byte, 0, 640))}, nil
}

// batch is the events of one commit. It keeps its id through every try: where a lost answer hid a commit that stands, the next try changes
// nothing.
type batch struct {
	id      string
	at      int64
	body    []byte
	entries []*entry

	// What follows is of a group that charges: how often it was tried, which entries were refused, and the intents whose callers were told that they are not stored, while that
	// was not certain.
	tries   int
	refused []error
	orphans []*entry
}

// lead commits what waits, once, and then hands the duty to a waiter whose event came meanwhile, so that nobody's request pays for more
// than one commit after its own.
func (g *group) lead() {
	g.mu.Lock()
	entries := g.take()
	var late *batch
	if len(entries) == 0 && len(g.stuck) > 0 {
		late = g.stuck[0]
	}
	if g.timer != nil && g.timer.Stop() {
		g.timer = nil
		g.done.Done()
	}
	g.mu.Unlock()
	defer g.handOn(entries) // also when the driver panics: the duty must not be lost

	if late != nil {
		g.retry(late)
		return
	}
	g.commit(entries)
}

// take returns the entries of the next commit: intents first, since somebody waits for them, then outcomes. While a batch is stuck, younger
// outcomes wait behind it, so that an intent never pays for what the database would not take. The caller holds mu.
func (g *group) take() []*entry {
	n := min(len(g.intents), groupMax)
	entries := append([]*entry(nil), g.intents[:n]...)
	g.intents = remove(g.intents, n)
	if len(g.stuck) == 0 {
		n = min(len(g.outcomes), groupMax-n)
		entries = append(entries, g.outcomes[:n]...)
		g.outcomes = remove(g.outcomes, n)
	}
	return entries
}

// remove drops the first n entries without keeping them in memory.
func remove(list []*entry, n int) []*entry {
	if n == len(list) {
		return nil
	}
	return append([]*entry(nil), list[n:]...)
}

// handOn settles the entries of a commit and finds the next leader.
func (g *group) handOn(entries []*entry) {
	g.mu.Lock()
	var next *entry
	if len(g.intents) > 0 {
		next = g.intents[0]
	} else {
		g.leading = false
		if g.timer == nil && !g.closed && len(g.outcomes)+len(g.stuck) > 0 {
			pause := groupLinger
			if len(g.stuck) > 0 {
				pause = groupPause
			}
			g.arm(pause)
		}
	}
	g.mu.Unlock()
	for _, en := range entries {
		if en.turn == nil {
			continue
		}
		if en.id == "" && en.err == nil { // the leader did not come to it
			en.err = auditFault(errors.New("the commit broke off"))
		}
		en.turn <- true
	}
	if next != nil {
		next.turn <- false
	}
}

// retry stores a stuck batch once more.
func (g *group) retry(late *batch) {
	err := g.storeOnce(late, time.Second)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.stuck = g.stuck[1:]
	case !isUnavailable(err) && !isRetry(err):
		g.stuck = g.stuck[1:]
		for _, en := range late.entries {
			if en.turn == nil {
				g.lost++
			}
		}
		g.db.cfg.Log.Error("outcomes were refused by the database and are lost", "cause", redactCause(err))
	}
}

// commit stores the entries as one batch and gives each its id or its error.
func (g *group) commit(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	if g.charging {
		g.commitCharged(entries)
		return
	}
	b := g.newBatch(entries)
	ambiguous, err := g.store(b)
	switch {
	case err == nil:
		for i, en := range entries {
			en.id = b.id + "_" + strconv.Itoa(i)
		}
	case isUnavailable(err) || isRetry(err):
		g.db.cfg.Log.Error("the audit log cannot be written", "cause", redactCause(err))
		g.keep(b, err)
	case ambiguous || len(entries) == 1:
		for _, en := range entries {
			g.fail(en, err)
		}
	default:
		g.oneByOne(entries)
	}
}

// oneByOne stores each entry alone: one event that the database will not take must not take the others with it. The batch was rolled back
// for certain.
func (g *group) oneByOne(entries []*entry) {
	for i, en := range entries {
		b := g.newBatch([]*entry{en})
		switch _, err := g.store(b); {
		case err == nil:
			en.id = b.id + "_0"
		case isUnavailable(err):
			g.keep(b, err)
			for _, rest := range entries[i+1:] {
				if rest.turn != nil {
					g.fail(rest, err)
					continue
				}
				g.mu.Lock()
				g.outcomes = append(g.outcomes, rest)
				g.mu.Unlock()
			}
			return
		default:
			g.fail(en, err)
		}
	}
}

// keep tells the intents of a batch that they may not be used, and holds the whole batch back for its outcomes.
func (g *group) keep(b *batch, err error) {
	outcomes := false
	var rest []*entry
	for _, en := range b.entries {
		if en.turn == nil {
			outcomes, rest = true, append(rest, en)
			continue
		}
		g.fail(en, err)
	}
	if g.charging { // what its caller does not use is not stored again; where it lies there all the same, it is settled
		if b.tries > 0 {
			b.orphans = intentsOf(b)
		}
		b.entries = rest
	}
	if outcomes || len(b.orphans) > 0 {
		g.mu.Lock()
		g.stuck = append(g.stuck, b)
		g.mu.Unlock()
	}
}

func (g *group) fail(en *entry, err error) {
	en.id, en.err = "", auditFault(err)
	if en.turn == nil {
		g.mu.Lock()
		g.lost++
		g.mu.Unlock()
	}
}

func (g *group) newBatch(entries []*entry) *batch {
	at := time.Now()
	b := &batch{id: newIDAt("evt", at), at: int64(TimeOf(at)), entries: entries}
	b.body = bodyOf(b.id, entries)
	return b
}

// bodyOf writes the events of a batch, one a line.
func bodyOf(id string, entries []*entry) []byte {
	size := 0
	for _, en := range entries {
		size += len(en.tail) + 56
	}
	body := make([]byte, 0, size)
	for i, en := range entries {
		if i > 0 {
			body = append(body, '\n')
		}
		body = append(body, `{"id":"`...)
		body = append(body, id...)
		body = append(body, '_')
		body = strconv.AppendInt(body, int64(i), 10)
		body = append(body, `",`...)
		body = append(body, en.tail...)
	}
	return body
}

// store writes one batch. While the fate of the commit is unknown, or when PostgreSQL broke it off, it tries again with the same id.
// ambiguous says that the batch may lie there although the last try failed.
func (g *group) store(b *batch) (ambiguous bool, err error) {
	deadline := time.Now().Add(groupRetry)
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err = g.storeOnce(b, groupRetry)
		retry := err != nil && isRetry(err)
		if err == nil || !isUnavailable(err) && !retry || isFull(err) || time.Now().Add(wait).After(deadline) {
			return ambiguous, err
		}
		ambiguous = ambiguous || !retry
		time.Sleep(wait)
	}
}

func (g *group) storeOnce(b *batch, timeout time.Duration) error {
	started := time.Now()
	var err error
	switch {
	case g.charging:
		err = g.storeCharged(b, timeout)
	case g.db.engine == Postgres:
		err = g.storePostgres(b, timeout)
	default:
		err = g.storeSQLite(b)
	}
	g.db.cfg.Committed(len(b.entries), time.Since(started), err == nil)
	return err
}

func (g *group) storePostgres(b *batch, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx, leave := g.db.lines.enter(ctx)
	defer leave()
	g.db.open.Add(1)
	defer g.db.open.Add(-1)
	_, err := g.db.write.DB.ExecContext(ctx, insertAll, b.id, b.at, len(b.entries), b.body)
	return ended(ctx, err)
}

// storeSQLite runs one statement that is its own transaction: with one that is begun, database/sql starts a goroutine for each. It has no
// deadline for the same reason; busy_timeout bounds it.
func (g *group) storeSQLite(b *batch) error {
	g.db.open.Add(1)
	defer g.db.open.Add(-1)
	_, err := g.insert.Exec(b.id, b.at, len(b.entries), b.body)
	return err
}

// close commits what waits and refuses everything later.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for deadline := time.Now().Add(2 * groupRetry); time.Now().Before(deadline); {
		g.mu.Lock()
		busy, left := g.leading, len(g.intents)+len(g.outcomes)+len(g.stuck)
		if !busy && left > 0 {
			g.leading = true
		}
		g.mu.Unlock()
		if !busy && left == 0 {
			break
		}
		if busy {
			time.Sleep(time.Millisecond)
			continue
		}
		g.lead()
		if g.isStuck() {
			time.Sleep(groupPause / 5)
		}
	}
	g.mu.Lock()
	for _, b := range g.stuck {
		g.lost += int64(len(b.entries))
	}
	g.lost += int64(len(g.outcomes))
	g.mu.Unlock()
	g.done.Wait()
	if g.insert != nil {
		_ = g.insert.Close()
	}
}

func (g *group) isStuck() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.stuck) > 0
}

// isFull reports whether waiting a few seconds cannot help.
func isFull(err error) bool {
	r := reason(err)
	return r == "cannot write: its disk is full" || r == "is read-only"
}
