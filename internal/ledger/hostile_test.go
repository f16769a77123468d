package ledger_test

import (
	"math"
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
	require.Zero(o.t, report.Behind)
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
