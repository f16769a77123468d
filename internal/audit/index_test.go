package audit

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// indexed returns the number of segments in the index.
func (b *box) indexed(t testing.TB) int64 {
	t.Helper()
	var n int64
	require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
		var err error
		n, err = readIndexed(tx)
		return err
	}))
	return n
}

// requireFound searches for each subject as the actor and as the target, and wants so many events. In a short test it is four of the subjects, two
// that are nowhere among them: each search reads what has no index yet, which takes the race detector long.
func (b *box) requireFound(t testing.TB, want map[string]int) {
	t.Helper()
	keys, creds := 0, 0
	for subject, n := range want {
		if testing.Short() && n > 0 {
			kind := &creds
			if !strings.HasPrefix(subject, "cred_") {
				kind = &keys
			}
			if *kind++; *kind > 1 {
				continue
			}
		}
		for _, q := range []Query{{Actor: subject, Limit: 1000}, {Target: subject, Limit: 1000}} {
			got := map[string]bool{}
			for {
				page, err := b.log.Search(t.Context(), q)
				require.NoError(t, err)
				for _, e := range page.Events {
					require.False(t, got[e.ID], "%s is there twice", e.ID)
					got[e.ID] = true
				}
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
			}
			if (q.Actor == "") == strings.HasPrefix(subject, "cred_") {
				require.Len(t, got, n, "%+v", q)
			} else {
				require.Empty(t, got, "%+v", q)
			}
		}
	}
}

// subjects counts what is in the database by subject.
func (b *box) subjects(t testing.TB) map[string]int {
	t.Helper()
	out := map[string]int{"cred_none": 0, "key_none": 0}
	var bodies []recordRow
	require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT id, body FROM audit_events UNION ALL SELECT id, body FROM audit_batches`)
	}))
	for record := range eachLine(bodies) {
		g, ok := look(record)
		require.True(t, ok)
		for _, s := range [][]byte{g.actor, g.target, g.behalf} {
			kind, name, _ := strings.Cut(string(s), "_")
			if (kind == "key" || kind == "cred" || kind == "train") && len(name) < 26 { // those of stuff are too many to read them all
				out[string(s)]++
			}
		}
	}
	return out
}

// eachLine goes through the records of rows.
func eachLine(rows []recordRow) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, row := range rows {
			for line := range bytes.SplitSeq(row.Body, []byte("\n")) {
				if !yield(line) {
					return
				}
			}
		}
	}
}

// Whatever state the index is in, a search finds what is recorded: before anything is sequenced, sequenced without an index because
// writing it fails or because the process died in between, with the index behind, and with all of it.
func TestSearchNeedsNoIndex(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		b.stuff(t, x, 20, 256)
		b.lend(t, 0, 300)
		b.requireFound(t, b.subjects(t)) // nothing has a place in the log yet
		_, err := x.Exec(`ALTER TABLE audit_postings RENAME TO away`)
		require.NoError(t, err)
		b.flush(t)
		require.Zero(t, b.indexed(t))
		require.Contains(t, b.said.String(), "the search index of the audit log cannot be extended")
		require.NotContains(t, b.said.String(), "cannot be sequenced")
		require.NotContains(t, b.said.String(), "away", "no text of the database")
		require.Equal(t, b.log.Health().Size, b.log.Health().Signed)
		_, err = x.Exec(`ALTER TABLE away RENAME TO audit_postings`)
		require.NoError(t, err)
		b.requireFound(t, b.subjects(t))
		b.log.Close() // the process ends without an index; another takes over and reads the log
		b.open(t)
		b.lend(t, 300, 10)
		b.requireFound(t, b.subjects(t))
		b.flush(t)
		require.EqualValues(t, 1, b.indexed(t))
		b.requireFound(t, b.subjects(t))
		b.stuff(t, x, 40, 256)
		b.lend(t, 400, 10)
		b.flush(t)
		require.EqualValues(t, 3, b.indexed(t))
		b.lend(t, 500, 10)
		b.requireFound(t, b.subjects(t))
		requireClean(t, b.verify(t, b.notes(t)...))
	})
}

// An index that the leader made from memory is the one that is read from the log: verification compares it byte by byte.
func TestIndexFromMemoryIsThatOfTheLog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 3))
		x := b.attack(t)
		segments := int64(4)
		if testing.Short() {
			segments = 2
		}
		for b.indexed(t) < segments {
			b.stuff(t, x, 1+r.IntN(12), 1+r.IntN(256))
			b.stuff(t, x, r.IntN(3), 0)
			if r.IntN(6) == 0 {
				b.log.right = nil // as after a commit of unknown fate
			}
			if r.IntN(6) == 0 {
				require.NoError(t, b.log.resign(t.Context()))
			}
			b.flush(t)
		}
		require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
			for n := range b.indexed(t) {
				have, err := readIndex(tx, n)
				require.NoError(t, err)
				require.NotEmpty(t, have.postings)
			}
			return nil
		}))
		requireClean(t, b.verify(t, b.notes(t)...))
	})
}

// TestUpgradeIndexesTheLog: a log that was written before there was an index gets one, a bounded part with each pass.
func TestUpgradeIndexesTheLog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		if testing.Short() {
			b.log.catchUp = 2
		}
		segments := b.log.catchUp + 2
		b.stuff(t, x, segments*segmentLeaves/256, 256)
		b.flush(t)
		b.unguard(t, x)
		for _, table := range []string{"audit_segments", "audit_postings"} {
			_, err := x.Exec(`DELETE FROM ` + table)
			require.NoError(t, err)
		}
		b.log.index = nil
		page, err := b.log.Search(t.Context(), Query{Actor: "key_none"})
		require.NoError(t, err)
		require.Empty(t, page.Events)
		for pass := 1; ; pass++ {
			require.NoError(t, b.log.work(t.Context()))
			if got := b.indexed(t); got == int64(segments) {
				require.Greater(t, pass, 1)
				break
			}
			require.EqualValues(t, pass*b.log.catchUp, b.indexed(t))
		}
		page, err = b.log.Search(t.Context(), Query{Target: "cred_01jd0000000000000000000000", Limit: 1000})
		require.NoError(t, err)
		require.Len(t, page.Events, 1000)
		requireClean(t, b.verify(t, b.notes(t)...))
	})
}

// TestThreeInstancesIndexOnce: three instances record at once and take the log over from each other. Each full segment has one index, all
// of it is right, and every search finds everything.
func TestThreeInstancesIndexOnce(t *testing.T) {
	b := newBox(t, store.Postgres)
	dbs, logs := []*store.DB{b.db}, []*Log{b.log}
	for _, name := range []string{"two", "three"} {
		db := storetest.OpenConfig(t, b.cfg)
		l := b.another(t, db, name)
		l.anchors.path = "" // one file has one writer
		dbs, logs = append(dbs, db), append(logs, l)
	}
	for _, l := range logs {
		l.every, l.signEvery = 5*time.Millisecond, 50*time.Millisecond
		l.Start(t.Context())
	}
	const callers, each = 48, 90
	var work sync.WaitGroup
	for w := range callers {
		work.Go(func() {
			for i := range each {
				if _, err := dbs[w%len(dbs)].Append(t.Context(), granted(w*each+i)); err != nil {
					t.Error(err)
				}
				if w == 0 && i%10 == 0 { // one taker at a time: a crowd of them would only keep each other from it
					if err := logs[i/10%len(logs)].Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	work.Wait()
	for _, l := range logs {
		l.Close()
	}
	b.flush(t)
	require.Equal(t, b.log.Health().Size/segmentLeaves, b.indexed(t))
	require.Positive(t, b.indexed(t))
	b.requireFound(t, b.subjects(t))
	b.requireWholeUnanchored(t)
	require.NotContains(t, b.said.String(), "cannot be")
}

// longAgo fills a log with single events, as a quiet month leaves them, by way of its tables, and indexes it.
func (b *box) longAgo(t testing.TB, x *sqlx.DB, events int, over time.Duration) {
	tx, err := x.Beginx()
	require.NoError(t, err)
	now := time.Now()
	ids := map[string]bool{}
	for i := range events {
		at := now.Add(-over + over/time.Duration(events)*time.Duration(i))
		id := store.IDFloor(sourcePrefix, at)
		require.False(t, ids[id])
		ids[id] = true
		body := fmt.Sprintf(`{"id":"%s_0","at":"%s","actor":{"kind":"client_key","id":"key_%d","name":"laptop of ada"},"on_behalf_of":"train_%d","action":"lease.granted",`+
			`"target":{"kind":"credential","id":"cred_%d","name":"team-alpha"},"outcome":"failed","request_id":"req_%026d","ip":"10.0.0.1","user_agent":"anthropic-sdk-go/1.84.0",`+
			`"details":{"lease":"lease_%026d","train":"web","version":3,"attempt":1,"method":"POST","path":"/v1/messages","model":"claude-sonnet-4-5","host":"api.anthropic.com"}}`,
			id, at.UTC().Format(store.TimeFormat), i%10_000, i%10_000, i%20, i, i)
		_, err := tx.Exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,1,$3)`, id, at.UnixMicro(), []byte(body))
		require.NoError(t, err)
		_, err = tx.Exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,1,$2,$3)`, i, id, make([]byte, 32))
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	if b.db.Engine() == store.Postgres {
		_, err = x.Exec(`VACUUM ANALYZE`)
		require.NoError(t, err)
	}
	p := &past{t: t, x: x}
	for n := range int64(events / segmentLeaves) {
		p.index(b, n)
	}
}

// BenchmarkSearch measures searches in a month of events that lie in batches of their own (SIGNALBOX_BENCH_RECORDS): the first page for a
// subject that is everywhere, all of one that is rare, and one that is nowhere.
func BenchmarkSearch(b *testing.B) {
	for _, engine := range storetest.Engines() {
		x := newBox(b, engine)
		x.unguard(b, x.attack(b))
		x.longAgo(b, x.attack(b), benchRecords(b), 30*24*time.Hour)
		for _, q := range []Query{{Target: "cred_7"}, {Actor: "key_1234"}, {Actor: "key_none"}, {Actor: "key_1234", Target: "cred_14"}, {Actor: "key_1234", To: time.Now().Add(-15 * 24 * time.Hour)}} {
			b.Run(fmt.Sprintf("%s/actor=%s,target=%s,to=%v", engine, q.Actor, q.Target, !q.To.IsZero()), func(b *testing.B) {
				found := 0
				for b.Loop() {
					page, err := x.log.Search(b.Context(), q)
					require.NoError(b, err)
					found = len(page.Events)
				}
				b.ReportMetric(float64(found), "found")
			})
		}
	}
}
