package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// growing moves a log on by way of its tables, as a sequencer on any instance does.
type growing struct {
	*past
	b    *box
	been map[string]bool // where a record was
}

// put gives a record a place in the log, one that it never had: after a rollback, what has the same place has the same before it.
func (p *growing) put(leaf int64, id string) (next int64) {
	at := func() string { return fmt.Sprint(leaf, id) }
	for p.been[at()] {
		leaf++
	}
	p.been[at()] = true
	p.exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4)`, leaf, 1, id, make([]byte, 32))
	return leaf + 1
}

// grow adds batches, some of which get a place at once and some later, acts among them, and, if it is full, perhaps the index of a segment.
func (p *growing) grow() {
	var waiting []string
	require.NoError(p.t, p.x.Select(&waiting, `SELECT source_id FROM audit_pending`))
	for range p.r.IntN(12) {
		before, at := len(p.ids), p.now.Add(-time.Minute-time.Duration(p.r.Int64N(int64(4*time.Minute)))).Truncate(time.Millisecond)
		if p.r.IntN(3) == 0 {
			p.act(at)
			waiting = append(waiting, p.events[len(p.events)-1].ID)
			continue
		}
		var events []store.Event
		for range 1 + p.r.IntN(4) {
			events = append(events, outcome(100_000+p.r.IntN(1000), "ok"))
		}
		p.batch(at, events...)
		waiting = append(waiting, p.ids[before])
	}
	p.exec(`DELETE FROM audit_pending`)
	p.r.Shuffle(len(waiting), func(i, k int) { waiting[i], waiting[k] = waiting[k], waiting[i] })
	var leaf int64
	require.NoError(p.t, p.x.Get(&leaf, `SELECT COALESCE(MAX(first_leaf) + 1, 0) FROM audit_leaves`))
	leaf = max(leaf, p.b.indexed(p.t)*segmentLeaves)
	end := leaf
	for _, id := range waiting {
		if p.r.IntN(4) == 0 {
			p.exec(`INSERT INTO audit_pending (source_id) VALUES ($1)`, id)
			continue
		}
		end = p.put(leaf, id)
		leaf = end + p.r.Int64N(1+p.r.Int64N(segmentLeaves/6))
	}
	if next := p.b.indexed(p.t); p.r.IntN(2) == 0 && (next+1)*segmentLeaves <= end {
		p.index(p.b, next)
	}
}

// replace gives the newest rows without an index other places, or takes them out of the log, as in a database that was rolled back under a running process.
func (p *growing) replace(rows int) {
	var gone []leafRow
	require.NoError(p.t, p.x.Select(&gone, `SELECT first_leaf, source_id FROM audit_leaves WHERE first_leaf >= (SELECT COALESCE(MAX(segment) + 1, 0) FROM audit_segments) * $1
		ORDER BY first_leaf DESC LIMIT $2`, segmentLeaves, rows))
	if len(gone) == 0 {
		return
	}
	leaf := gone[len(gone)-1].First
	p.exec(`DELETE FROM audit_leaves WHERE first_leaf >= $1`, leaf)
	again := p.r.IntN(2) == 0
	p.r.Shuffle(len(gone), func(i, k int) { gone[i], gone[k] = gone[k], gone[i] })
	for _, row := range gone {
		if again {
			leaf = p.put(leaf, row.Source) + p.r.Int64N(3)
			continue
		}
		p.exec(`INSERT INTO audit_pending (source_id) VALUES ($1)`, row.Source)
	}
}

// requireSame holds a search by what an instance remembers against brute force, from page to page.
func (p *past) requireSame(read func(func(*store.Tx) error) error, memory *looseIndex, q Query, want []store.Event) {
	p.t.Helper()
	var got []store.Event
	small := p.r.IntN(3) == 0
	for pages := 0; ; pages++ {
		require.Less(p.t, pages, 2000)
		f, err := newFilter(q)
		require.NoError(p.t, err)
		f.loose = memory
		if small {
			f.budget, f.outcomeBudget = 1+p.r.IntN(20), 1+p.r.IntN(20)
		}
		var page Page
		require.NoError(p.t, read(func(tx *store.Tx) error { return f.fill(tx, &page) }))
		got = append(got, page.Events...)
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	require.Equal(p.t, ids(want), ids(got), "%+v", q)
	require.Equal(p.t, want, got, "%+v", q)
}

// TestWhatIsRememberedMissesNothing: instances that search now and then, while the log grows, is indexed, and is now and then rolled back under them, find
// what brute force finds; so does a search whose transaction sees an older state than what is remembered by then.
func TestWhatIsRememberedMissesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 5))
		p := &growing{newPast(t, b, r), b, map[string]bool{}}
		var rows []leafRow
		require.NoError(t, p.x.Select(&rows, `SELECT first_leaf, source_id FROM audit_leaves`))
		for _, row := range rows {
			p.been[fmt.Sprint(row.First, row.Source)] = true
		}
		memories := []*looseIndex{{}, {}, nil}
		now := func(fn func(*store.Tx) error) error { return b.db.Read(t.Context(), fn) }
		rounds, found, skipped := 30, 0, 0
		if testing.Short() {
			rounds = 15
		}
		query := func() Query {
			for {
				if q := p.query(); q.Actor != "" || q.Target != "" {
					q.Limit = []int{0, 3, 7, 1000}[r.IntN(4)]
					return q
				}
			}
		}
		search := func() {
			q, memory := query(), memories[r.IntN(len(memories))]
			want := p.find(q)
			p.requireSame(now, memory, q, want)
			found += len(want)
			if memory != nil {
				hash := []uint32{subjectHash(q.Actor + q.Target)}
				for _, row := range memory.now.rows {
					if !row.mayHold(hash) && row.subjects != nil {
						skipped++
					}
				}
			}
		}
		for range rounds {
			switch r.IntN(8) {
			case 0:
				p.replace(1 + r.IntN(12))
			case 1: // the search begins, and others move the log on and learn of it before it looks
				q := query()
				want := p.find(q)
				held := slices.Clone(p.events)
				require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
					if _, _, err := readSize(tx); err != nil { // here the state is chosen that it sees
						return err
					}
					for range 1 + r.IntN(4) {
						p.grow()
					}
					p.requireSame(now, memories[0], Query{Target: "nothing", Limit: 1}, nil)
					later := p.events
					p.events = held
					defer func() { p.events = later }()
					p.requireSame(func(fn func(*store.Tx) error) error { return fn(tx) }, memories[0], q, want)
					return nil
				}))
			default:
				p.grow()
			}
			for range 1 + r.IntN(5) {
				search()
			}
		}
		t.Logf("%d found, %d segments, %d batches not read", found, b.indexed(t), skipped)
		require.Positive(t, found)
		require.Positive(t, skipped)
	})
}

// TestSearchesSeeWhatWasCommitted: on every instance, while all of them record, sequence and take over from each other, a search finds each event that was
// durable before it began.
func TestSearchesSeeWhatWasCommitted(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		dbs, logs := []*store.DB{b.db}, []*Log{b.log}
		if b.db.Engine() == store.Postgres {
			for _, name := range []string{"two", "three"} {
				db := storetest.OpenConfig(t, b.cfg)
				l := b.another(t, db, name)
				l.anchors.path = "" // one file has one writer
				dbs, logs = append(dbs, db), append(logs, l)
			}
		}
		for _, l := range logs {
			l.every, l.signEvery = 5*time.Millisecond, 50*time.Millisecond
			l.Start(t.Context())
		}
		rounds := 60
		if testing.Short() {
			rounds = 15
		}
		var work sync.WaitGroup
		for w := range 6 {
			work.Go(func() {
				e := granted(w)
				e.Actor.ID = fmt.Sprintf("key_of_%d", w)
				var done atomic.Int64
				for i := range rounds {
					if _, err := dbs[(w+i)%len(dbs)].Append(t.Context(), e); err != nil {
						t.Error(err)
						return
					}
					done.Add(1)
					if w == 0 && i%10 == 0 {
						if err := logs[i/10%len(logs)].Flush(t.Context()); err != nil {
							t.Error(err)
						}
					}
					page, err := logs[i%len(logs)].Search(t.Context(), Query{Actor: e.Actor.ID, Limit: 1000})
					if err != nil || len(page.Events) != int(done.Load()) {
						t.Errorf("%d of %d events, %v", len(page.Events), done.Load(), err)
						return
					}
				}
			})
		}
		work.Wait()
		learned := 0
		for _, l := range logs {
			l.Close()
			learned += len(l.loose.now.rows)
		}
		require.Positive(t, learned)
	})
}

// TestTheSequencerGoesOnWithWhatItRemembers: what this instance puts into the log, no search has to learn of.
func TestTheSequencerGoesOnWithWhatItRemembers(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.lend(t, 0, 10)
		b.flush(t)
		b.requireFound(t, b.subjects(t))
		b.lend(t, 10, 10)
		b.fill(t, 3)
		b.flush(t)
		b.lend(t, 20, 10)
		b.flush(t)
		require.Equal(t, b.log.last, b.log.loose.now.newest())
		b.requireFound(t, b.subjects(t))

		// What another puts there, it does not take for the end of its own.
		other := b.another(t, b.db, "two")
		b.lend(t, 30, 10)
		require.NoError(t, other.Flush(t.Context()))
		other.Close()
		b.lend(t, 40, 10)
		b.flush(t)
		require.Less(t, b.log.loose.now.newest(), b.log.last)
		b.requireFound(t, b.subjects(t))
		require.Equal(t, b.log.last, b.log.loose.now.newest())

		// Full segments have an index, and are forgotten.
		b.stuff(t, b.attack(t), 40, 256)
		b.flush(t)
		require.Positive(t, b.indexed(t))
		require.GreaterOrEqual(t, b.log.loose.now.from, b.indexed(t)*segmentLeaves)
		b.requireFound(t, b.subjects(t))
		requireClean(t, b.verify(t, b.notes(t)...))
	})
}

// TestWhatIsRememberedIsBounded, in rows and in what they are about; what has no room is unknown, and so is a record that is gone.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	x := &looseIndex{}
	many := make([]uint32, looseSubjects/100)
	rows := []looseRow{{first: 1000, source: "a"}}
	for i := range int64(3 * looseLeaves) {
		rows = append(rows, looseRow{first: 1001 + i, source: "b", subjects: many})
	}
	x.learn(0, 999, rows)
	require.Len(t, x.now.rows, looseLeaves)
	total := 0
	for _, r := range x.now.rows {
		total += len(r.subjects)
		require.True(t, r.unknown || r.source == "a" || len(r.subjects) > 0)
	}
	require.Equal(t, total, x.subjects)
	require.LessOrEqual(t, total, looseSubjects)
	require.True(t, x.now.rows[looseLeaves-1].mayHold([]uint32{7}))
	x.forget(1000 + looseLeaves - 5)
	require.Len(t, x.now.rows, 5)
	require.Zero(t, x.subjects)

	// What does not follow on what is there takes its place, what others learned meanwhile is there once, and what belongs to a state that is gone is left out.
	x.learn(0, 50_000, []looseRow{{first: 50_001, source: "d"}, {first: 50_002, source: "e"}})
	x.learn(0, 50_000, []looseRow{{first: 50_001, source: "d"}, {first: 50_002, source: "e"}, {first: 50_003, source: "f"}})
	require.Equal(t, []looseRow{{first: 50_001, source: "d"}, {first: 50_002, source: "e"}, {first: 50_003, source: "f"}}, x.now.rows)
	x.learn(1, 50_003, []looseRow{{first: 50_004, source: "g"}})
	require.EqualValues(t, 50_003, x.now.newest())
	more := []leafRow{{First: 50_003, Source: "f"}, {First: 50_004, Source: "g"}}
	x.follow(looseRow{first: 50_003, source: "of another history"}, more[1:])
	require.EqualValues(t, 50_003, x.now.newest())
	seen := x.view()
	x.follow(looseRow{first: 50_002, source: "e"}, more)
	require.EqualValues(t, 50_004, x.now.newest())
	x.cut(seen, 1)
	require.Len(t, x.now.rows, 1)
	require.Len(t, seen.rows, 3)
	x.cut(seen, 2) // by a search of the life before: nothing is taken back
	require.Len(t, x.now.rows, 1)

	each(t, func(t *testing.T, b *box) {
		b.lend(t, 0, 1)
		b.record(t, act(1))
		b.flush(t)
		raw := b.attack(t)
		b.unguard(t, raw)
		_, err := raw.Exec(`DELETE FROM audit_batches`)
		require.NoError(t, err)
		b.requireFound(t, map[string]int{"key_0": 0})
		unknown := 0
		for _, r := range b.log.loose.now.rows {
			if r.unknown {
				unknown++
			}
		}
		require.Equal(t, 1, unknown)
		require.Greater(t, len(b.log.loose.now.rows), 1)
	})
}

// BenchmarkSearchWithoutIndex measures a search for a rare subject while 4,000 batches of one event have no index: by who remembers nothing, by who has just
// started, by who has searched before, and by who has and finds ten more.
func BenchmarkSearchWithoutIndex(b *testing.B) {
	for _, engine := range storetest.Engines() {
		x := newBox(b, engine)
		raw := x.attack(b)
		x.unguard(b, raw)
		events := (benchRecords(b)/segmentLeaves)*segmentLeaves + 4000
		x.longAgo(b, raw, events, 30*24*time.Hour)
		search := func(b *testing.B, memory *looseIndex) {
			f, err := newFilter(Query{Actor: "key_1234"})
			require.NoError(b, err)
			f.loose = memory
			var page Page
			require.NoError(b, x.db.Read(b.Context(), func(tx *store.Tx) error { return f.fill(tx, &page) }))
			require.GreaterOrEqual(b, len(page.Events), min(100, events/10_000))
		}
		memory := &looseIndex{}
		b.Run(fmt.Sprintf("%s/none", engine), func(b *testing.B) {
			for b.Loop() {
				search(b, nil)
			}
		})
		b.Run(fmt.Sprintf("%s/first", engine), func(b *testing.B) {
			for b.Loop() {
				search(b, &looseIndex{})
			}
		})
		b.Run(fmt.Sprintf("%s/again", engine), func(b *testing.B) {
			for b.Loop() {
				search(b, memory)
			}
		})
		b.Run(fmt.Sprintf("%s/ten-more", engine), func(b *testing.B) {
			for b.Loop() {
				memory.now.rows = memory.now.rows[: len(memory.now.rows)-10 : len(memory.now.rows)-10]
				search(b, memory)
			}
		})
	}
}
