package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"sync"
	"time"
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
	// minute is the granularity of search references in microseconds.
	minute = 60_000_000
)

// group makes lease events durable, many in one commit. There is no committing goroutine: the first caller that finds nobody committing
// commits for all that wait, on its own stack, and hands the duty on. At low load that saves two context switches a request.
type group struct {
	db *DB

	mu      sync.Mutex
	queue   []*entry
	leading bool
	timer   *time.Timer
	closed  bool
	lost    int64
	done    sync.WaitGroup

	// Only the leader touches what follows.
	refs      map[string]int64 // subject → newest minute that has a search reference
	refMinute int64
	insert    [3]*sql.Stmt
}

type entry struct {
	tail     []byte
	at       time.Time
	subjects [3]string
	id       string
	err      error
	// turn is signalled with true when the event is settled and with false when its caller must lead. It is nil for outcomes.
	turn chan bool
}

func newGroup(db *DB) *group { return &group{db: db, refs: map[string]int64{}} }

const (
	insertBatch = `INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4) ON CONFLICT DO NOTHING`
	insertWait  = `INSERT INTO audit_pending (source_id) VALUES ($1) ON CONFLICT DO NOTHING`
	insertRef   = `INSERT INTO audit_refs (subject, minute) VALUES ($1,$2) ON CONFLICT DO NOTHING`
	// One statement is one round trip and its own transaction. A second try with the same id inserts no second pending row: the first
	// CTE returns nothing then.
	insertAll = `WITH batch AS (INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4) ON CONFLICT DO NOTHING RETURNING id),
 waiting AS (INSERT INTO audit_pending (source_id) SELECT id FROM batch)
 INSERT INTO audit_refs (subject, minute) SELECT unnest($5::text[]), $6 ON CONFLICT DO NOTHING`
)

func (g *group) prepare(ctx context.Context) error {
	if g.db.engine != SQLite || g.db.write == nil {
		return nil
	}
	for i, q := range [...]string{insertBatch, insertWait, insertRef} {
		stmt, err := g.db.write.DB.PrepareContext(ctx, q)
		if err != nil {
			return err
		}
		g.insert[i] = stmt
	}
	return nil
}

// Append makes one lease event durable and returns its id after the commit that holds it. Otherwise it returns the fault
// audit_unavailable and the act must not happen. When ctx ends first, the event may still become durable: it then has no outcome.
func (db *DB) Append(ctx context.Context, e Event) (string, error) {
	en, err := newEntry(db, e)
	if err != nil {
		return "", err
	}
	en.turn = make(chan bool, 1)
	g := db.group
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return "", auditUnavailable(errors.New("closed"))
	}
	g.queue = append(g.queue, en)
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
	g := db.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.queue) >= groupBacklog {
		g.lost++
		return
	}
	g.queue = append(g.queue, en)
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
		lead := !g.leading && len(g.queue) > 0
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
	db.group.mu.Lock()
	defer db.group.mu.Unlock()
	return db.group.lost
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
	en := &entry{at: e.At, subjects: [3]string{e.Actor.ID, e.Target.ID, e.OnBehalf}}
	en.tail = e.appendTail(make([]byte, 0, 640))
	return en, nil
}

// lead commits what waits, once, and then hands the duty to a waiter whose event came meanwhile, so that nobody's request pays for more
// than one commit after its own.
func (g *group) lead() {
	g.mu.Lock()
	batch := g.queue
	if len(batch) > groupMax {
		g.queue = append([]*entry(nil), batch[groupMax:]...)
		batch = batch[:groupMax:groupMax]
	} else {
		g.queue = nil
	}
	if g.timer != nil && g.timer.Stop() {
		g.timer = nil
		g.done.Done()
	}
	g.mu.Unlock()

	again := g.commit(batch)

	g.mu.Lock()
	var next *entry
	for _, en := range g.queue {
		if en.turn != nil {
			next = en
			break
		}
	}
	if len(again) > 0 && !g.closed {
		g.queue = append(again, g.queue...)
	}
	if next == nil {
		g.leading = false
		if len(g.queue) > 0 && g.timer == nil && !g.closed {
			pause := groupLinger
			if len(again) > 0 {
				pause = groupPause
			}
			g.arm(pause)
		}
	}
	g.mu.Unlock()
	for _, en := range batch {
		if en.turn != nil {
			en.turn <- true
		}
	}
	if next != nil {
		next.turn <- false
	}
}

// commit stores one batch and settles its entries. It returns the outcomes that must be tried again later.
func (g *group) commit(batch []*entry) (again []*entry) {
	if len(batch) == 0 {
		return nil
	}
	err := g.store(batch)
	if err != nil && !isUnavailable(err) && len(batch) > 1 {
		// One event that the database will not take must not take the others with it.
		for _, en := range batch {
			if err := g.store([]*entry{en}); err != nil {
				g.fail(en, err)
			}
		}
		return nil
	}
	if err == nil {
		return nil
	}
	g.db.cfg.Log.Error("the audit log cannot be written", "cause", redactCause(err))
	for _, en := range batch {
		if en.turn == nil && isUnavailable(err) {
			again = append(again, en)
			continue
		}
		g.fail(en, err)
	}
	return again
}

func (g *group) fail(en *entry, err error) {
	en.id, en.err = "", auditUnavailable(err)
	if en.turn == nil {
		g.mu.Lock()
		g.lost++
		g.mu.Unlock()
	}
}

// store writes one batch under one id. While the fate of the commit is unknown it tries again with the same id.
func (g *group) store(batch []*entry) error {
	at := time.Now()
	id := newIDAt("evt", at)
	size := 0
	for _, en := range batch {
		size += len(en.tail) + 56
	}
	body := make([]byte, 0, size)
	for i, en := range batch {
		en.id = id + "_" + strconv.Itoa(i)
		if i > 0 {
			body = append(body, '\n')
		}
		body = append(body, `{"id":"`...)
		body = append(body, en.id...)
		body = append(body, `",`...)
		body = append(body, en.tail...)
	}
	now := int64(TimeOf(at))
	refs := g.newRefs(batch, now/minute)
	deadline := at.Add(groupRetry)
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		var err error
		if g.db.engine == Postgres {
			err = g.storePostgres(id, now, len(batch), body, refs)
		} else {
			err = g.storeSQLite(id, now, len(batch), body, refs)
		}
		if err == nil {
			for _, s := range refs {
				g.refs[s] = now / minute
			}
			return nil
		}
		if !isUnavailable(err) || isFull(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		time.Sleep(wait)
	}
}

// newRefs returns the subjects that have no search reference for this minute yet. One reference a subject and minute instead of one a
// commit keeps the cost of search off the hot path; the price is a scan of that minute's batches when searching.
func (g *group) newRefs(batch []*entry, now int64) []string {
	if now != g.refMinute {
		g.refMinute = now
		clear(g.refs)
	}
	var refs []string
	for _, en := range batch {
	subjects:
		for _, s := range en.subjects {
			if s == "" || g.refs[s] == now {
				continue
			}
			for _, r := range refs {
				if r == s {
					continue subjects
				}
			}
			refs = append(refs, s)
		}
	}
	return refs
}

func (g *group) storePostgres(id string, at int64, count int, body []byte, refs []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupRetry)
	defer cancel()
	g.db.open.Add(1)
	defer g.db.open.Add(-1)
	if refs == nil {
		refs = []string{}
	}
	_, err := g.db.write.DB.ExecContext(ctx, insertAll, id, at, count, body, refs, at/minute)
	return err
}

// storeSQLite uses a context without a deadline on purpose: with one, the driver starts a goroutine for each statement. The statements
// are bounded by busy_timeout.
func (g *group) storeSQLite(id string, at int64, count int, body []byte, refs []string) error {
	g.db.open.Add(1)
	defer g.db.open.Add(-1)
	tx, err := g.db.write.DB.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after the commit
	ctx := context.Background()
	if _, err := tx.StmtContext(ctx, g.insert[0]).Exec(id, at, count, body); err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, g.insert[1]).Exec(id); err != nil {
		return err
	}
	for _, s := range refs {
		if _, err := tx.StmtContext(ctx, g.insert[2]).Exec(s, at/minute); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// close commits what waits and refuses everything later.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for deadline := time.Now().Add(2 * groupRetry); time.Now().Before(deadline); {
		g.mu.Lock()
		busy, left := g.leading, len(g.queue)
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
	}
	g.done.Wait()
	for _, stmt := range g.insert {
		if stmt != nil {
			_ = stmt.Close()
		}
	}
}

// isFull reports whether waiting a few seconds cannot help.
func isFull(err error) bool {
	r := reason(err)
	return r == "cannot write: its disk is full" || r == "is read-only"
}
