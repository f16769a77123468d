package sink_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestAClockThatWasSetBack: the claim of an instance that is gone, made when the clock was ahead, keeps nobody away until that time comes again; one that can be is kept.
func TestAClockThatWasSetBack(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		claimed := func(ahead time.Duration) {
			require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE audit_sink_cursors SET holder = 'ins_gone', epoch = epoch + 1, until = $1`, store.TimeOf(tx.Now().Add(ahead)))
				return err
			}))
		}
		r := newReceiver(t, func(int) int { return 200 })
		o.webhook("siem", r.URL, nil)
		o.act(1)
		o.complete(&r.shelf)
		claimed(300 * 24 * time.Hour)
		o.act(2)
		o.complete(&r.shelf)
		time.Sleep(300 * time.Millisecond) // it has nothing left to send
		claimed(time.Minute)               // as long as a claim lasts
		had := r.len()
		o.act(3)
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, had, r.len(), "another instance has the claim")
		claimed(-time.Second)
		o.complete(&r.shelf)
	})
}
