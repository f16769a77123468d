package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// backdate puts batches of so many requests each into the log, as of a time: each request has one attempt, every tenth a failed one and then another.
func (b *box) backdate(t testing.TB, at time.Time, batches, requests int) {
	t.Helper()
	x := b.attack(t)
	tx, err := x.Beginx()
	require.NoError(t, err)
	for n := range batches {
		id := store.IDFloor(sourcePrefix, at.Add(time.Duration(n)*time.Millisecond))
		var lines []string
		add := func(action, outcome string, attempt int) {
			lines = append(lines, fmt.Sprintf(`{"id":"%s_%d","at":"%s","actor":{"kind":"client_key","id":"key_1","name":"\"attempt\":1,"},"action":"%s","target":{"kind":"credential","id":"cred_1"},"outcome":"%s","details":{"lease":"l","attempt":%d,"method":"POST"}}`,
				id, len(lines), at.UTC().Format(store.TimeFormat), action, outcome, attempt))
		}
		for i := range requests {
			add("lease.granted", "pending", 1)
			if i%10 == 0 {
				add("lease.outcome", "failed", 1)
				add("lease.granted", "pending", 2)
			}
			add("lease.outcome", "ok", 1)
		}
		_, err := tx.Exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4)`, id, at.UnixMicro(), len(lines), []byte(strings.Join(lines, "\n")))
		require.NoError(t, err)
		_, err = tx.Exec(`INSERT INTO audit_pending (source_id) VALUES ($1) ON CONFLICT DO NOTHING`, id)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// TestLatelyCountsEachRequestOnce: the records of the last 24 hours by hour, whatever was asked before; new ones are added, old ones are not counted.
func TestLatelyCountsEachRequestOnce(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		var now time.Time
		require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error { now = tx.Now().UTC(); return nil }))
		hour := now.Truncate(time.Hour)
		b.backdate(t, hour.Add(-30*time.Hour), 1, 100)
		b.backdate(t, hour.Add(-5*time.Hour), 2, 100)
		b.backdate(t, hour, 1, 10)
		b.record(t, act(1))
		require.NoError(t, b.log.Flush(t.Context()))
		for range 3 {
			got, err := b.log.Lately(t.Context())
			require.NoError(t, err)
			require.Len(t, got.Hours, latelyHours)
			require.Equal(t, latelyHours, got.Counted)
			var all Hour
			for _, h := range got.Hours {
				all.Requests, all.Attempts, all.Failed = all.Requests+h.Requests, all.Attempts+h.Attempts, all.Failed+h.Failed
			}
			if got.Hours[23].Begin.Equal(hour) { // else an hour began meanwhile
				require.Equal(t, Hour{Begin: hour, Requests: 10, Attempts: 11, Failed: 1}, got.Hours[23])
				require.Equal(t, Hour{Begin: hour.Add(-5 * time.Hour), Requests: 200, Attempts: 220, Failed: 20}, got.Hours[18])
			}
			require.Equal(t, [3]int64{210, 231, 21}, [3]int64{all.Requests, all.Attempts, all.Failed})
		}
		b.backdate(t, hour.Add(-2*time.Hour), 1, 5)
		require.NoError(t, b.log.Flush(t.Context()))
		got, err := b.log.Lately(t.Context())
		require.NoError(t, err)
		var requests int64
		for _, h := range got.Hours {
			requests += h.Requests
		}
		require.Equal(t, int64(215), requests)
	})
}

// TestLatelyReadsABoundedPartACall: a log that is longer than one call may read is counted hour by hour, from the newest; no hour is told in part.
func TestLatelyReadsABoundedPartACall(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		var now time.Time
		require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error { now = tx.Now().UTC(); return nil }))
		hour := now.Truncate(time.Hour)
		const each = 1000 // requests an hour, 2,200 records
		for back := 20; back >= 0; back-- {
			b.backdate(t, hour.Add(-time.Duration(back)*time.Hour), 10, each/10)
		}
		require.NoError(t, b.log.Flush(t.Context()))
		before, calls := -1, 0
		for ; before < latelyHours; calls++ {
			require.Less(t, calls, 40)
			got, err := b.log.Lately(t.Context())
			require.NoError(t, err)
			require.GreaterOrEqual(t, got.Counted, before)
			before = got.Counted
			for _, h := range got.Hours[latelyHours-got.Counted:] {
				if age := hour.Sub(h.Begin); age >= 0 && age <= 20*time.Hour {
					require.Equal(t, int64(each), h.Requests, "%s of %s", h.Begin, hour)
				}
			}
			for _, h := range got.Hours[:latelyHours-got.Counted] {
				require.Zero(t, h.Requests)
			}
		}
		require.Greater(t, calls, 2, "one call read everything")

		b.backdate(t, hour.Add(30*time.Second), 20, 800) // more than one call reads: it begins anew, and tells no hour in part
		require.NoError(t, b.log.Flush(t.Context()))
		for range 40 {
			got, err := b.log.Lately(t.Context())
			require.NoError(t, err)
			if got.Counted == latelyHours {
				break
			}
			if at := got.Hours[latelyHours-1]; got.Counted > 0 && at.Begin.Equal(hour) {
				require.Equal(t, int64(each+16000), at.Requests)
			}
		}
	})
}

// BenchmarkLately measures one call in a log of a million records of the last day, while it is not yet counted and after it was.
func BenchmarkLately(b *testing.B) {
	for _, engine := range storetest.Engines() {
		b.Run(string(engine), func(b *testing.B) {
			box := newBox(b, engine)
			x := box.attack(b)
			for range 40 {
				box.stuff(b, x, 200, 125)
			}
			require.NoError(b, box.log.Flush(b.Context()))
			size, err := box.log.Size(b.Context())
			require.NoError(b, err)
			b.Run("first", func(b *testing.B) {
				for b.Loop() {
					box.log.lately.begun = false
					_, err := box.log.Lately(b.Context())
					require.NoError(b, err)
				}
				b.ReportMetric(float64(size), "records")
			})
			for box.log.lately.lo > box.log.lately.start {
				_, err := box.log.Lately(b.Context())
				require.NoError(b, err)
			}
			b.Run("then", func(b *testing.B) {
				for b.Loop() {
					_, err := box.log.Lately(b.Context())
					require.NoError(b, err)
				}
			})
		})
	}
}
