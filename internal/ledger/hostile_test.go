package ledger_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

// all asks for one sum of everything.
func (o *office) all(r *ledger.Room) ledger.Used {
	o.t.Helper()
	report, err := r.Read(o.t.Context(), auditor(), ledger.Query{})
	require.NoError(o.t, err)
	require.Zero(o.t, report.Behind())
	return report.Total
}

// ended records an intent and what became of it.
func (o *office) ended(model, result string, told ...store.Detail) {
	o.t.Helper()
	e := o.intent("train_1", "key_1", "cred_1", "/v1/messages", model)
	o.lend(e)
	o.lend(outcome(e, result, told...))
}

// TestNoNumberStopsTheFollower: what no answer can cost is unknown, and a sum stays in range whatever is added to it.
func TestNoNumberStopsTheFollower(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := o.room(o.db)
		for _, n := range []int64{math.MaxInt64, math.MaxInt64 / 2, usage.Most + 1, -1, math.MinInt64} {
			o.ended("claude-a", "ok", cost("complete", "claude-a", n, 1, 0, 0, 0, 0)...)
			o.ended("claude-a", "ok", cost("partial", "claude-a", 1, n, 0, 0, 0, 0)...)
		}
		o.ended("claude-a", "ok", cost("complete", "claude-a", 1, 1, 0, 0, 0, math.MaxInt64)...)
		o.ended("claude-a", "ok", cost("complete", "claude-a", usage.Most/2, usage.Most/2, 1, 0, 0, 0)...)
		o.follow(r)
		require.Equal(t, ledger.Used{Requests: 12, Unknown: 12}, o.all(r))

		o.ended("claude-a", "ok", cost("complete", "claude-a", usage.Most, 0, 0, 0, 0, 3)...)
		o.follow(r)
		require.EqualValues(t, usage.Most, o.all(r).Input)
		for _, near := range []int64{math.MaxInt64, math.MaxInt64 - 5, 1_000_000_000_000_000_000 - usage.Most - 1} {
			require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE usage_sums SET input_tokens = $1, output_tokens = $1, tool_calls = $1`, near)
				return err
			}))
			for range 3 {
				o.ended("claude-a", "ok", cost("complete", "claude-a", usage.Most, 0, 0, 0, 0, 3)...)
			}
			o.follow(r)
			u := o.all(r)
			require.EqualValues(t, 1_000_000_000_000_000_000, u.Input)
			require.Positive(t, u.Output)
			require.Positive(t, u.Cost.Micro())
		}
		o.wait(time.Minute)
		o.ended("claude-a", "ok", cost("complete", "claude-a", 1, 0, 0, 0, 0, 0)...)
		o.follow(r)
		require.EqualValues(t, 1_000_000_000_000_000_000, o.all(r).Input, "the follower goes on")
	})
}

// TestAClientCannotMakeUpModels: a name that was only asked for counts as far as the table of prices knows it, or where an answer has named it; every other is none.
func TestAClientCannotMakeUpModels(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := o.room(o.db)
		for i := range 50 {
			o.ended(fmt.Sprintf("made-up-%d", i), "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...)
			o.ended(fmt.Sprintf("claude-a-%08d", i), "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...)
			o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", fmt.Sprintf("pending-%d", i)))
		}
		for _, name := range []string{"\x00", "a\x00b", "\x1b[31mclaude-a", "claude-a\n", "claude a", strings.Repeat("m", 128), "\u202eclaude-a", "<b>"} {
			o.ended(name, "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...)
			o.ended(name, "ok", cost("complete", "", 1, 1, 0, 0, 0, 0)...)
		}
		o.ended("claude-a[1m]", "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...)
		o.ended("new", "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...) // nobody has heard of it yet
		o.follow(r)
		models := func() map[string]int64 {
			report, err := r.Read(t.Context(), auditor(), ledger.Query{By: []ledger.Group{ledger.ByModel}})
			require.NoError(t, err)
			out := map[string]int64{}
			for _, row := range report.Rows {
				out[row.Model] = row.Requests
			}
			return out
		}
		require.Equal(t, map[string]int64{"": 50 + 50 + 16 + 1, "claude-a": 51}, models())
		o.ended("new", "ok", cost("complete", "new", 1, 1, 0, 0, 0, 0)...)
		o.follow(r)
		o.ended("new", "ok", cost("unknown", "", 0, 0, 0, 0, 0, 0)...) // an answer has named it
		o.wait(time.Minute)
		o.follow(o.room(o.db)) // which has to look it up
		require.Equal(t, map[string]int64{"": 117, "claude-a": 51, "new": 2}, models())
		var lines int
		require.NoError(t, o.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&lines, `SELECT COUNT(*) FROM usage_lines`) }))
		require.Equal(t, 6, lines, "each name once for the line and once for all")
	})
}

// TestSumsAreDroppedInSlices: what is made anew holds up the database for moments only, and whoever dies meanwhile leaves it to another.
func TestSumsAreDroppedInSlices(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.ended("claude-a", "ok", cost("complete", "claude-a", 5, 1, 0, 0, 0, 0)...)
		r := o.room(o.db)
		o.follow(r)
		want := o.all(r)
		require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			var rows []any
			for i := range 11_000 {
				rows = append(rows, fmt.Sprintf("made_%d", i), "", "")
			}
			return tx.InsertMany(`usage_subjects (id, name, owner)`, 3, rows)
		}))
		left := func() (n int) {
			require.NoError(t, o.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM usage_subjects`) }))
			return n
		}
		o.rebuild(r)
		before := left()
		require.Greater(t, before, 11_000, "nothing is dropped by the order")
		more, err := r.Pass(t.Context())
		require.NoError(t, err)
		require.True(t, more)
		require.Positive(t, left())
		require.Less(t, left(), before)
		report, err := r.Read(t.Context(), auditor(), ledger.Query{})
		require.NoError(t, err)
		require.EqualValues(t, o.book.Health().Size, report.Behind())
		o.wait(time.Minute) // it is killed, and its claim ends
		second := o.room(o.db)
		o.follow(second)
		require.Less(t, left(), 10)
		require.Equal(t, want, o.all(second))
	})
}

// TestAClockThatWasSetBack: the claim of an instance that is gone, made when the clock was ahead, keeps nobody away until that time comes again; one that can be is kept.
func TestAClockThatWasSetBack(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		o.follow(o.room(o.db)) // and is killed
		require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE usage_follower SET until = $1`, store.TimeOf(tx.Now().Add(300*24*time.Hour)))
			return err
		}))
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		second, third := o.room(o.db), o.room(o.db)
		o.follow(second)
		require.EqualValues(t, 2, o.all(second).Requests)
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		o.follow(third)
		report, err := third.Read(t.Context(), auditor(), ledger.Query{})
		require.NoError(t, err)
		require.Positive(t, report.Behind(), "the second instance has the claim")
	})
}

// TestARecordOfTheFutureSweepsNothing: an old log that is added up in chunks has the outcomes of its intents further on, whatever time one record of it tells.
func TestARecordOfTheFutureSweepsNothing(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		e := o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a")
		o.lend(e)
		o.follow(o.room(o.db)) // and is killed
		now := o.now()
		o.wait(48 * time.Hour)
		o.act(store.Event{Actor: person("user_1", "Ada"), Action: store.CredentialUpdate, Target: store.Target{Kind: "credential", ID: "cred_1", Name: "one"}})
		require.NoError(t, o.book.Flush(t.Context()))
		o.set(now.Add(time.Minute))
		o.lend(outcome(e, "ok", cost("complete", "claude-a", 7, 1, 0, 0, 0, 0)...))
		o.wait(49 * time.Hour)  // all of it is old when it is added up
		r := o.another(o.db, 1) // one record at a time
		o.follow(r)
		report, err := r.Read(t.Context(), auditor(), ledger.Query{From: now.Add(-time.Hour)})
		require.NoError(t, err)
		require.EqualValues(t, 1, report.Total.Complete)
		require.EqualValues(t, 7, report.Total.Input)
	})
}

// TestALineThatIsGone: an intent whose line somebody has deleted counts for nothing, with or without an outcome, and what comes after it is added up as ever.
func TestALineThatIsGone(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		lost, swept := o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"), o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a")
		o.lend(lost)
		o.lend(swept)
		o.lend(o.intent("train_1", "key_3", "cred_1", "/v1/messages", "claude-a")) // so that its number is given to no other
		o.follow(o.room(o.db))
		require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			n, err := tx.Exec(`DELETE FROM usage_lines WHERE key_id = 'key_1'`)
			require.EqualValues(t, 1, n)
			return err
		}))
		o.db.AppendLater(outcome(lost, "ok", cost("complete", "claude-a", 1, 2, 0, 0, 0, 0)...))
		later := o.intent("train_2", "key_2", "cred_1", "/v1/messages", "claude-a")
		o.lend(later)
		o.db.AppendLater(outcome(later, "ok", cost("complete", "claude-a", 30, 40, 0, 0, 0, 0)...))
		o.commit()
		o.wait(30 * time.Hour) // and what has no outcome has none for good
		o.lend(o.intent("train_2", "key_2", "cred_1", "/v1/messages", "claude-a"))
		r := o.room(o.db)
		o.follow(r)
		report, err := r.Read(t.Context(), auditor(), ledger.Query{Train: "train_2", From: o.now().Add(-40 * time.Hour)})
		require.NoError(t, err)
		require.Zero(t, report.Behind())
		require.EqualValues(t, 1, report.Total.Complete)
		require.EqualValues(t, 40, report.Total.Output)
	})
}
