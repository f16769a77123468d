package audit

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// latelyHours is how far back [Log.Lately] counts, the hour that has begun among them.
	latelyHours = 24
	// latelyChunk is how many leaves are read at a time.
	latelyChunk = 4096
	// latelyAhead and latelyBehind bound the chunks that one call reads: of what came since the last one, and of what was before the first. When more
	// came, because nobody has asked for long, the counting begins anew at the end.
	latelyAhead, latelyBehind = 8, 1
)

// Hour counts what was lent in one hour.
type Hour struct {
	Begin time.Time
	// Requests are those that an account was lent for, Attempts all attempts at them, Failed the attempts that ended otherwise than well.
	Requests, Attempts, Failed int64
}

// Lately is what was lent in the last 24 hours, as far as it is in the log.
type Lately struct {
	// Hours are in order, the one that has begun at the end.
	Hours []Hour
	// Counted is how many of them, from the end, have been counted; those before are not told yet.
	Counted int
}

// lately keeps the counts of the last hours in memory and reads each record once: those that are new at each call, and those from before the first
// call a bounded part at a time. Leaves are counted in the order of the log, which is the one in which nothing appears behind what was read. Nothing is
// read while nobody asks.
type lately struct {
	mu sync.Mutex
	tally
}

// tally is how far the counting is.
type tally struct {
	begun  bool
	lo, hi int64           // the leaves from lo to hi have been counted
	start  int64           // no leaf before it is of the time that is asked for
	oldest time.Time       // the oldest hour that a record was of
	hours  map[string]Hour // by the first 13 bytes of a record's time
}

// Lately counts the requests of the last 24 hours. After a start it may take several calls until it has read them all; each reads a bounded part, the
// newest first.
func (l *Log) Lately(ctx context.Context) (Lately, error) {
	c := &l.lately
	c.mu.Lock()
	defer c.mu.Unlock()
	var now time.Time
	var next tally
	err := l.db.Read(ctx, func(tx *store.Tx) error { // it may be run again, so what was counted before stays as it is
		now = tx.Now().UTC()
		next = c.tally
		next.hours = maps.Clone(c.hours)
		return next.advance(tx, now)
	})
	if err != nil {
		return Lately{}, err
	}
	c.tally = next
	return next.told(now), nil
}

func (c *tally) advance(tx *store.Tx, now time.Time) error {
	size, _, err := readSize(tx)
	if err != nil {
		return err
	}
	if !c.begun || size < c.hi || size-c.hi > latelyAhead*latelyChunk {
		*c = tally{lo: size, hi: size, start: size, begun: true, oldest: now.Truncate(time.Hour), hours: map[string]Hour{}}
		var first []int64
		floor := store.IDFloor(sourcePrefix, now.Add(-latelyHours*time.Hour))
		if err := tx.Select(&first, `SELECT first_leaf FROM audit_leaves WHERE source_id >= $1 ORDER BY source_id LIMIT 1`, floor); err != nil {
			return err
		}
		if len(first) == 1 {
			c.start = first[0]
		}
	}
	for c.hi < size {
		end := min(size, c.hi+latelyChunk)
		if err := c.count(tx, c.hi, end); err != nil {
			return err
		}
		c.hi = end
	}
	for n := 0; c.lo > c.start && n < latelyBehind; n++ {
		begin := max(c.start, c.lo-latelyChunk)
		if err := c.count(tx, begin, c.lo); err != nil {
			return err
		}
		c.lo = begin
	}
	return nil
}

// count counts the batches whose first leaf lies in [from, to).
func (c *tally) count(tx *store.Tx, from, to int64) error {
	rows, err := tx.Query(`SELECT (SELECT b.body FROM audit_batches b WHERE b.id = x.source_id) FROM audit_leaves x WHERE x.first_leaf >= $1 AND x.first_leaf < $2 ORDER BY x.first_leaf`, from, to)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var body blob
		if err := rows.Scan(&body); err != nil {
			return err
		}
		for line := range bytes.SplitSeq(body, newline) {
			c.add(line)
		}
	}
	return rows.Err()
}

// firstAttempt is in the intent of a request's first attempt; in a text its quotes would be escaped.
var firstAttempt = []byte(`"attempt":1,`)

// add counts one record, if it is of a lease.
func (c *tally) add(line []byte) {
	const hour = len("2006-01-02T15")
	g, ok := look(line)
	if !ok || len(g.at) < hour {
		return
	}
	granted := string(g.action) == string(store.LeaseGranted)
	if !granted && string(g.action) != string(store.LeaseOutcome) {
		return
	}
	h, have := c.hours[string(g.at[:hour])]
	if !have {
		begin, err := time.Parse(store.TimeFormat[:hour], string(g.at[:hour]))
		if err != nil {
			return
		}
		h.Begin = begin
	}
	switch {
	case granted:
		h.Attempts++
		if bytes.Contains(line, firstAttempt) {
			h.Requests++
		}
	case string(g.outcome) != store.OutcomeOK:
		h.Failed++
	}
	c.hours[string(g.at[:hour])] = h
	if h.Begin.Before(c.oldest) {
		c.oldest = h.Begin
	}
}

// told is what is known at a moment. Hours that are over are forgotten.
func (c *tally) told(now time.Time) Lately {
	const hour = len("2006-01-02T15")
	out := Lately{Hours: make([]Hour, latelyHours), Counted: latelyHours}
	first := now.Truncate(time.Hour).Add(-(latelyHours - 1) * time.Hour)
	for key, h := range c.hours {
		if h.Begin.Before(first) {
			delete(c.hours, key)
		}
	}
	for i := range out.Hours {
		out.Hours[i].Begin = first.Add(time.Duration(i) * time.Hour)
		if h, have := c.hours[out.Hours[i].Begin.Format(store.TimeFormat[:hour])]; have {
			out.Hours[i] = h
		}
	}
	if c.lo > c.start { // of the hour in which the reading stands, a part is missing
		out.Counted = min(latelyHours, int(now.Truncate(time.Hour).Sub(c.oldest)/time.Hour))
		for i := range out.Hours[:latelyHours-out.Counted] {
			out.Hours[i] = Hour{Begin: out.Hours[i].Begin}
		}
	}
	return out
}
