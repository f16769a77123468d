package audit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// lease makes the records of one batch as package store writes them, some 560 bytes each.
func leaseLines(source string, n int, at time.Time) []byte {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, `{"id":"%s_%d","at":"%s","actor":{"kind":"client_key","id":"key_01jd0000000000000000000000","name":"laptop of ada"},"on_behalf_of":"train_01jd0000000000000000000000",`+
			`"action":"lease.granted","target":{"kind":"credential","id":"cred_01jd0000000000000000000000","name":"team-alpha"},"outcome":"pending","request_id":"req_01jd%022d","ip":"10.0.0.1",`+
			`"user_agent":"anthropic-sdk-go/1.84.0","details":{"lease":"lease_01jd%022d","train":"web","version":3,"attempt":1,"method":"POST","path":"/v1/messages","model":"claude-sonnet-4-5","host":"api.anthropic.com"}}`,
			source, i, at.UTC().Format(store.TimeFormat), i, i)
	}
	return []byte(b.String())
}

// stuff puts sources with n records each into the database, waiting; n = 0 means events of their own.
func (b *box) stuff(t testing.TB, x *sqlx.DB, sources, n int) {
	t.Helper()
	tx, err := x.Beginx()
	require.NoError(t, err)
	exec := func(q string, args ...any) {
		if _, err := tx.Exec(q, args...); err != nil {
			require.NoError(t, err)
		}
	}
	for range sources {
		id := store.NewID(sourcePrefix)
		made, _ := store.IDTime(sourcePrefix, id)
		us := made.UnixMicro()
		if n > 0 {
			exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4)`, id, us, n, leaseLines(id, n, made))
		} else {
			body := strings.Replace(string(leaseLines(id, 1, time.UnixMicro(us))), id+"_0", id, 1)
			g, ok := look([]byte(body))
			require.True(t, ok)
			exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
				id, us, string(g.action), string(g.actor), string(g.target), string(g.behalf), string(g.request), []byte(body))
		}
		exec(`INSERT INTO audit_pending (source_id) VALUES ($1) ON CONFLICT DO NOTHING`, id)
	}
	require.NoError(t, tx.Commit())
	tidy := `PRAGMA wal_checkpoint(PASSIVE)` // a started server does both by itself
	if b.db.Engine() == store.Postgres {
		tidy = `ANALYZE`
	}
	_, err = x.Exec(tidy)
	require.NoError(t, err)
}

// cpu is the processor time that this process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSequence measures what one source (a group commit with so many records) costs to sequence, 128 sources a transaction.
func BenchmarkSequence(b *testing.B) {
	for _, engine := range storetest.Engines() {
		for _, n := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/records=%d", engine, n), func(b *testing.B) {
				x := newBox(b, engine)
				x.flush(b)
				attack := x.attack(b)
				for done := 0; done < b.N; done += 2000 {
					x.stuff(b, attack, min(2000, b.N-done), n)
				}
				began := cpu(b)
				b.ResetTimer()
				x.flush(b)
				b.StopTimer()
				b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-µs/source")
			})
		}
	}
}

// BenchmarkIdle measures a pass that finds nothing to do.
func BenchmarkIdle(b *testing.B) {
	for _, engine := range storetest.Engines() {
		b.Run(string(engine), func(b *testing.B) {
			x := newBox(b, engine)
			x.flush(b)
			x.log.signedAt = time.Now()
			began := cpu(b)
			for b.Loop() {
				x.log.pass(b.Context())
			}
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-µs/pass")
		})
	}
}

func benchRecords(b *testing.B) int {
	text := os.Getenv("SIGNALBOX_BENCH_RECORDS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	require.NoError(b, err)
	return n
}

// BenchmarkVerify measures the verification of a log, by default of 100,000 records (SIGNALBOX_BENCH_RECORDS).
func BenchmarkVerify(b *testing.B) {
	total := benchRecords(b)
	for _, engine := range storetest.Engines() {
		for _, n := range []int{0, 1, 16} {
			b.Run(fmt.Sprintf("%s/batch=%d", engine, n), func(b *testing.B) {
				x := newBox(b, engine)
				attack := x.attack(b)
				for left := total; left > 0; left -= 20_000 {
					x.stuff(b, attack, min(left, 20_000)/max(n, 1), n)
					x.flush(b)
				}
				notes := x.notes(b)
				began := cpu(b)
				b.ResetTimer()
				for b.Loop() {
					r := x.verify(b, notes...)
					requireClean(b, r)
					require.GreaterOrEqual(b, r.Anchored, int64(total))
				}
				events := float64(total) * float64(b.N)
				b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/1000/events, "cpu-µs/record")
				b.ReportMetric(events/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkManySubjects measures what an intent and its outcome cost, sequencing and indexing included, when they are about so many keys,
// trains and accounts in turn.
func BenchmarkManySubjects(b *testing.B) {
	for _, engine := range storetest.Engines() {
		for _, n := range []int{10, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s/subjects=%d", engine, n), func(b *testing.B) {
				x := newBox(b, engine)
				require.NoError(b, x.db.Start(b.Context()))
				x.log.Start(b.Context())
				began := cpu(b)
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var work sync.WaitGroup
				for range 32 {
					work.Go(func() {
						for left.Add(-1) >= 0 {
							e := granted(0)
							k := rand.IntN(n)
							e.Actor.ID, e.OnBehalf, e.Target.ID = fmt.Sprintf("key_01jd%020d", k), fmt.Sprintf("train_01jd%020d", k), fmt.Sprintf("cred_01jd%020d", k)
							if _, err := x.db.Append(b.Context(), e); err != nil {
								b.Error(err)
							}
							e.Action, e.Outcome = store.LeaseOutcome, store.OutcomeOK
							x.db.AppendLater(e)
						}
					})
				}
				work.Wait()
				x.log.Close()
				b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}
