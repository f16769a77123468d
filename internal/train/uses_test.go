package train_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// TestLastLentSurvivesARestart: a credential shows when it was last lent, at once, and still does when the instance was stopped in good order.
func TestLastLentSurvivesARestart(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			y.train("web", train.Priority)
			lent, idle := y.account("lent"), y.account("idle")
			y.linkAt("web", lent, 1)
			y.linkAt("web", idle, 2)
			caller, _ := y.key("web")
			last := func(y *yard, id string) *time.Time {
				c, err := y.vault.Get(t.Context(), y.admin, id)
				require.NoError(t, err)
				return c.LastUsedAt
			}
			require.Nil(t, last(y, lent))
			began := time.Now().Truncate(time.Microsecond)
			for range 3 {
				y.lend(caller, want()).Done(train.Outcome{Result: train.OK, Status: 200})
			}
			at := last(y, lent)
			require.WithinRange(t, *at, began, time.Now())
			require.Nil(t, last(y, idle))
			y.Close()
			y.Close()
			require.NoError(t, y.ids.Close())
			require.NoError(t, y.db.Close())

			again := s.open(t)
			require.Equal(t, at.UnixMicro(), last(again, lent).UnixMicro())
			require.Nil(t, last(again, idle))
		})
	}
}
