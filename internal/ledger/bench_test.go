package ledger_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// benchLines are the lines of a busy year: 150 keys of 30 trains, each with two accounts and two models; half of them are in use in any hour. A million requests a
// day are then some 140 a line and hour.
const benchLines = 600

// BenchmarkYear reads a year of a million requests a day.
func BenchmarkYear(b *testing.B) {
	for _, e := range storetest.Engines() {
		b.Run(string(e), func(b *testing.B) {
			o := newOffice(b, e)
			begin := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
			o.fillYear(begin)
			o.set(begin.AddDate(1, 0, 0))
			r := o.room(o.db)
			for name, q := range map[string]ledger.Query{
				"total":       {},
				"month_model": {By: []ledger.Group{ledger.ByMonth, ledger.ByModel}},
				"train":       {By: []ledger.Group{ledger.ByTrain}},
				"odd_train":   {By: []ledger.Group{ledger.ByTrain}, From: begin.Add(77 * time.Hour)},
				"key":         {By: []ledger.Group{ledger.ByKey}},
				"day":         {By: []ledger.Group{ledger.ByDay}},
				"day_model":   {By: []ledger.Group{ledger.ByDay, ledger.ByModel}},
				"day_trains":  {By: []ledger.Group{ledger.ByDay, ledger.ByTrain}},
				"day_train":   {By: []ledger.Group{ledger.ByDay}, Train: "seven"},
				"hour_31days": {By: []ledger.Group{ledger.ByHour}, From: begin.AddDate(0, 11, 0)},
				"hour_93days": {By: []ledger.Group{ledger.ByHour}, From: begin.AddDate(1, 0, -93)},
			} {
				if q.From.IsZero() {
					q.From = begin
				}
				q.To = begin.AddDate(1, 0, 0)
				q.Limit = ledger.MaxLimit
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						_, err := r.Read(b.Context(), auditor(), q)
						require.NoError(b, err)
					}
				})
			}
		})
	}
}

// fillYear stores the sums of a year.
func (o *office) fillYear(begin time.Time) {
	write := func(fn func(tx *store.Tx) error) {
		require.NoError(o.t, o.db.Bookkeep(o.t.Context(), store.Cursor, fn))
	}
	write(func(tx *store.Tx) error {
		var lines []any
		for i, model := range []string{"claude-a", "claude-b"} {
			lines = append(lines, benchLines+1+i, "", "", "", "", model)
		}
		for i := range benchLines {
			key := i / 4
			lines = append(lines, i+1, fmt.Sprintf("train_%d", key/5), fmt.Sprintf("cred_%d", key%20+i%2), fmt.Sprintf("key_%d", key), fmt.Sprintf("user_%d", key/3), []string{"claude-a", "claude-b"}[i/2%2])
		}
		if _, err := tx.Exec(`INSERT INTO usage_subjects (id, name, owner) VALUES ('train_7', 'seven', '')`); err != nil {
			return err
		}
		return tx.InsertMany(`usage_lines (id, train_id, credential_id, key_id, user_id, model)`, 6, lines)
	})
	const columns = `usage_sums (span, begins, line, complete, partial, unknown, failed, input_tokens, output_tokens, cache_read_tokens, cache_creation_5m_tokens, cache_creation_1h_tokens, tool_calls)`
	sum := func(rows []any, span int, at time.Time, line int) []any {
		return append(rows, span, at.UnixMicro(), line, 130, 3, 2, 5, 60_000, 120_000, 5_000_000, 300_000, 10_000, 90)
	}
	for day := begin; day.Before(begin.AddDate(1, 0, 0)); day = day.AddDate(0, 0, 1) {
		var rows []any
		for hour := range 24 {
			for i := range benchLines / 2 {
				rows = sum(rows, 0, day.Add(time.Duration(hour)*time.Hour), 2*i+hour%2+1)
			}
			for i := range 2 {
				rows = sum(rows, 3, day.Add(time.Duration(hour)*time.Hour), benchLines+1+i)
			}
		}
		for i := range 2 {
			rows = sum(rows, 4, day, benchLines+1+i)
			if day.Day() == 1 {
				rows = sum(rows, 5, day, benchLines+1+i)
			}
		}
		for i := range benchLines {
			rows = sum(rows, 1, day, i+1)
			if day.Day() == 1 {
				rows = sum(rows, 2, day, i+1)
			}
		}
		write(func(tx *store.Tx) error { return tx.InsertMany(columns, strings.Count(columns, ",")+1, rows) })
	}
}

// BenchmarkFollow adds up leases: what one costs of the CPU beside the request itself, of a few keys, and of so many that hardly any comes twice in what is added up at once.
func BenchmarkFollow(b *testing.B) {
	for _, e := range storetest.Engines() {
		for _, keys := range []int{50, 20_000} {
			b.Run(fmt.Sprint(e, "/", keys), func(b *testing.B) {
				o := newOffice(b, e)
				leases := max(4000, 2*keys)
				at := time.Now().UTC().Add(-time.Hour).Truncate(time.Hour)
				o.set(at.Add(time.Hour))
				p := &past{o: o}
				for i := range leases {
					key := i * 7919 % keys
					begun := at.Add(time.Duration(i) * time.Millisecond)
					p.add(&asked{id: p.idAt("req", begun), train: "train_" + fmt.Sprint(key/10), key: "key_" + fmt.Sprint(key), model: "claude-a", hops: []hop{{credential: "cred_" + fmt.Sprint(key/20), at: begun,
						end: begun.Add(time.Second), result: "ok", status: 200, cost: `,"usage":"complete","model":"claude-a-20250101","input_tokens":30,"output_tokens":400,"cache_read_input_tokens":9000,"tool_calls":2`}}})
				}
				p.store()
				require.NoError(b, o.book.Flush(b.Context()))
				r := o.another(o.db, 0)
				b.ResetTimer()
				spent := cpu(b)
				for b.Loop() {
					o.rebuild(r)
					o.follow(r)
				}
				report, err := r.Read(b.Context(), auditor(), ledger.Query{})
				require.NoError(b, err)
				require.EqualValues(b, leases, report.Total.Complete, "%d are left", report.Behind)
				b.ReportMetric(float64((cpu(b)-spent).Nanoseconds())/float64(b.N)/float64(leases), "cpu-ns/lease")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(leases), "ns/lease")
			})
		}
	}
}

// cpu is what this process has taken of the CPU.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
