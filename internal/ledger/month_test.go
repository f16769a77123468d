package ledger_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestMonthOfOne: what a budget begins with is what one train, client key or person has used since the first of the month, and nothing of others or of the month before.
func TestMonthOfOne(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := o.room(o.db)
		train, other, key, person := store.NewID("train"), store.NewID("train"), store.NewID("key"), store.NewID("user")
		o.issue(key, "laptop", person)
		use := func(train, key string, in, out int64) {
			e := o.intent(train, key, "cred_1", "/v1/messages", "claude-a")
			o.lend(e)
			o.lend(outcome(e, "ok", cost("complete", "", in, out, 0, 0, 0, 0)...))
		}
		month := func(subject string) [2]int64 {
			var tokens, micro int64
			require.NoError(t, o.db.Read(t.Context(), func(tx *store.Tx) (err error) {
				tokens, micro, err = r.Month(tx, subject)
				return err
			}))
			return [2]int64{tokens, micro}
		}
		use(train, key, 1000, 100)
		o.set(time.Date(2026, 2, 3, 10, 0, 0, 0, time.UTC))
		use(train, key, 2000, 100)
		use(train, key, 10, 0)
		use(other, key, 5, 5)
		use(train, "key_other", 0, 1)
		o.follow(r)
		require.Equal(t, [2]int64{2111, 2010*3 + 101*31/2 + 1}, month(train)) // 15.5 dollars a million, half a micro-dollar is one
		require.Equal(t, [2]int64{10, 15 + 78}, month(other))
		require.Equal(t, [2]int64{2120, 2015*3 + 1628}, month(key))
		require.Equal(t, month(key), month(person))
		require.Equal(t, [2]int64{}, month(store.NewID("user")))
	})
}
