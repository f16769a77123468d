package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/quota"
)

// What requests take of somebody's limits is counted in the commit that makes their intents durable: there is no request without its count and no count without its request.
// These commits are made by a group of their own, so that requests without limits neither wait for the rows that others count in nor pay for a transaction of
// several statements.

// AppendCharged is [DB.Append] for a request that is held against limits. What does not fit is not written: the error is then a [quota.Refusal]. The charge is the
// caller's again when it returns. After the fault audit_unavailable it is not used again: should the event turn out to be stored, its Stored is called.
func (db *DB) AppendCharged(e Event, c *quota.Charge) (string, error) {
	en, err := newEntry(db, e)
	if err != nil {
		return "", err
	}
	en.charge = c
	return db.charges.append(context.Background(), en)
}

// AppendSettled is [DB.AppendLater] for the outcome that ends a request which was charged; the charge was closed and is not used any more.
func (db *DB) AppendSettled(e Event, c *quota.Charge) {
	en, err := newEntry(db, e)
	if err != nil {
		db.cfg.Log.Error("an outcome was not recorded", "cause", err)
		return
	}
	en.charge = c
	db.charges.appendLater(en)
}

// commitCharged is commit for entries with charges.
func (g *group) commitCharged(entries []*entry) {
	b := &batch{id: newIDAt("evt", time.Now()), entries: entries}
	ambiguous, err := g.store(b)
	switch {
	case err == nil:
		g.settled(b)
	case isUnavailable(err) || isRetry(err):
		g.db.cfg.Log.Error("the audit log cannot be written", "cause", redactCause(err))
		g.keep(b, err)
	case ambiguous || len(entries) == 1:
		for _, en := range entries {
			g.fail(en, err)
		}
	default:
		for i, en := range entries {
			one := &batch{id: newIDAt("evt", time.Now()), entries: entries[i : i+1]}
			switch _, err := g.store(one); {
			case err == nil:
				g.settled(one)
			case isUnavailable(err) || isRetry(err):
				g.keep(one, err)
			default:
				g.fail(en, err)
			}
		}
	}
}

// settled gives the entries of a stored batch their ids, or their refusals, and hands on what their charges have to tell.
func (g *group) settled(b *batch) {
	n := 0
	for i, en := range b.entries {
		if r := b.refused[i]; r != nil {
			en.err = r
		} else {
			en.id = b.id + "_" + strconv.Itoa(n)
			n++
		}
		en.charge.Tell()
	}
}

// storeCharged decides what of a batch fits, and stores that with the counts in one transaction. A batch that may lie there from an earlier try is looked for first, under
// the locks of the counts, which that try held until its end: then its decisions stand.
func (g *group) storeCharged(b *batch, timeout time.Duration) error {
	ctx := context.Background()
	if g.db.engine == Postgres {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		var leave func()
		ctx, leave = g.db.lines.enter(limited)
		defer leave()
	}
	g.db.open.Add(1)
	defer g.db.open.Add(-1)
	tx, err := g.db.write.DB.BeginTx(ctx, nil)
	if err != nil {
		return ended(ctx, err)
	}
	done := false
	defer func() {
		if !done {
			_ = tx.Rollback()
		}
	}()
	counts, now, err := g.counts(ctx, tx, b)
	if err != nil {
		return ended(ctx, err)
	}
	if b.tries++; b.tries > 1 {
		var there int
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_batches WHERE id = $1`, b.id).Scan(&there)
		if err == nil && there > 0 {
			b.adopt()
		}
		if err != nil || there > 0 {
			return ended(ctx, err)
		}
	}
	if !b.decide(now, counts) {
		return nil
	}
	insert := insertBatch
	if g.db.engine == Postgres {
		insert = insertAll
	}
	if _, err := tx.ExecContext(ctx, insert, b.id, b.at, len(b.entries)-b.refusals(), b.body); err != nil {
		return ended(ctx, err)
	}
	if err := keepCounts(ctx, tx, counts, int64(TimeOf(now))); err != nil {
		return ended(ctx, err)
	}
	done = true
	if err := tx.Commit(); err != nil {
		_ = tx.Rollback()
		return ended(ctx, err)
	}
	return nil
}

// decide settles what is over, takes what fits and writes the batch of those. It reports whether anything is to be stored.
func (b *batch) decide(now time.Time, counts map[string]*quota.State) bool {
	b.at, b.refused = int64(TimeOf(time.Now())), make([]error, len(b.entries))
	of := func(subject string) *quota.State { return counts[subject] }
	for _, en := range b.entries {
		if en.charge.Closing() && en.charge.Taken() && b.known(en, counts) {
			en.charge.Settle(now, of)
		}
	}
	var fit []*entry
	for i, en := range b.entries {
		switch {
		case en.charge.Closing():
			fit = append(fit, en)
		case !b.known(en, counts):
			b.refused[i] = errUncounted
		default:
			if r := en.charge.Take(now, of); r != nil {
				b.refused[i] = r
			} else {
				fit = append(fit, en)
			}
		}
	}
	b.body = bodyOf(b.id, fit)
	return len(fit) > 0
}

// intentsOf are the intents of a batch that were let through at the last try.
func intentsOf(b *batch) (out []*entry) {
	for i, en := range b.entries {
		if en.turn != nil && i < len(b.refused) && b.refused[i] == nil {
			out = append(out, en)
		}
	}
	return out
}

// adopt tells of intents that lie there although their callers were told that they do not: what they took is to be given back. Each is told once.
func (b *batch) adopt() {
	for _, en := range b.orphans {
		if en.charge.Stored != nil {
			en.charge.Stored()
		}
	}
	b.orphans = nil
}

func (b *batch) refusals() (n int) {
	for _, r := range b.refused {
		if r != nil {
			n++
		}
	}
	return n
}

// known reports whether this version can read the counts of all whose limits an entry is held against.
func (b *batch) known(en *entry, counts map[string]*quota.State) bool {
	for _, d := range en.charge.Dues {
		if counts[d.Subject] == nil {
			return false
		}
	}
	return true
}

// errUncounted refuses what cannot be counted.
var errUncounted = errors.New("store: the counts of a limit were written by another version, and cannot be read")

// IsUncounted reports whether a request was refused because the counts of its limits cannot be read.
func IsUncounted(err error) bool { return errors.Is(err, errUncounted) }

// counts locks and reads the counts of all subjects of a batch, in their order. Those that cannot be read are nil.
func (g *group) counts(ctx context.Context, tx *sql.Tx, b *batch) (map[string]*quota.State, time.Time, error) {
	seen := map[string]bool{}
	for _, entries := range [...][]*entry{b.entries, b.orphans} {
		for _, en := range entries {
			for _, d := range en.charge.Dues {
				seen[d.Subject] = true
			}
		}
	}
	subjects := make([]string, 0, len(seen))
	for s := range seen {
		subjects = append(subjects, s)
	}
	slices.Sort(subjects)
	states := make(map[string]*quota.State, len(subjects))
	now, err := g.readCounts(ctx, tx, subjects, states)
	if err != nil {
		return nil, now, err
	}
	missing := slices.DeleteFunc(slices.Clone(subjects), func(s string) bool { _, there := states[s]; return there })
	if len(missing) > 0 { // a row that is not there cannot be locked
		for _, s := range missing {
			if _, err := tx.ExecContext(ctx, `INSERT INTO quota_counts (subject, state, at) VALUES ($1,$2,0) ON CONFLICT DO NOTHING`, s, []byte{}); err != nil {
				return nil, now, err
			}
		}
		later, err := g.readCounts(ctx, tx, missing, states)
		if err != nil {
			return nil, now, err
		}
		if later.After(now) {
			now = later
		}
	}
	return states, now, nil
}

// readCounts reads and locks rows; the time is the database's, told when they were locked.
func (g *group) readCounts(ctx context.Context, tx *sql.Tx, subjects []string, into map[string]*quota.State) (now time.Time, err error) {
	clock, lock := "0", ""
	if g.db.engine == Postgres {
		clock, lock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", " FOR UPDATE"
	}
	var latest int64
	for len(subjects) > 0 {
		n := min(len(subjects), chargeChunk)
		// As few different texts as there are powers of two: each is prepared once.
		size := 1
		for size < n {
			size *= 2
		}
		args := make([]any, size)
		for i := range args {
			args[i] = subjects[min(i, n-1)]
		}
		subjects = subjects[n:]
		rows, err := tx.QueryContext(ctx, `SELECT subject, state, `+clock+` FROM quota_counts WHERE subject IN (`+places(1, size)+`) ORDER BY subject`+lock, args...)
		if err != nil {
			return now, err
		}
		for rows.Next() {
			var subject string
			var state []byte
			var at int64
			if err := rows.Scan(&subject, &state, &at); err != nil {
				_ = rows.Close()
				return now, err
			}
			latest = max(latest, at)
			s, err := quota.Decode(state)
			if err != nil {
				s = nil
			}
			into[subject] = s
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return now, err
		}
	}
	switch {
	case g.db.cfg.Clock != nil:
		return g.db.cfg.Clock(), nil
	case g.db.engine == Postgres:
		return time.UnixMicro(latest), nil
	}
	return time.Now(), nil
}

// chargeChunk bounds the subjects of one statement.
const chargeChunk = 256

// keepCounts writes the counts back, in few statements of few different texts.
func keepCounts(ctx context.Context, tx *sql.Tx, counts map[string]*quota.State, at int64) error {
	subjects := make([]string, 0, len(counts))
	for s, state := range counts {
		if state != nil {
			subjects = append(subjects, s)
		}
	}
	slices.Sort(subjects)
	for len(subjects) > 0 {
		n := chargeChunk
		for n > len(subjects) {
			n /= 2
		}
		args := make([]any, 0, 3*n)
		var values strings.Builder
		for i, s := range subjects[:n] {
			if i > 0 {
				values.WriteByte(',')
			}
			values.WriteString("(" + places(3*i+1, 3) + ")")
			args = append(args, s, counts[s].Encode(), at)
		}
		subjects = subjects[n:]
		if _, err := tx.ExecContext(ctx, `INSERT INTO quota_counts (subject, state, at) VALUES `+values.String()+` ON CONFLICT (subject) DO UPDATE SET state = excluded.state, at = excluded.at`, args...); err != nil {
			return err
		}
	}
	return nil
}

// places lists so many arguments from a number on.
func places(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("$" + strconv.Itoa(from+i))
	}
	return b.String()
}
