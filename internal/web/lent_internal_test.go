package web

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/ledger"
)

// TestAFileOfRequestsEnds: of a log without end a file has so many requests, and it is looked at so often and so long; the last line says that there may be more, and where.
func TestAFileOfRequestsEnds(t *testing.T) {
	seen := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for name, c := range map[string]struct {
		most, looks, page, want, asked int
		time                           time.Duration
	}{
		"many":          {1200, 100, 500, 1200, 3, time.Hour},
		"hardly any":    {1200, 5, 1, 5, 5, time.Hour},
		"none of these": {1200, 5, 0, 0, 5, time.Hour},
		"few":           {1200, 3000, 100, 1200, 12, time.Hour},
		"slow":          {1200, 5, 2, 2, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			page := lentPages(c.most, c.looks, time.Now().Add(c.time), func(_ context.Context, _ visitor, cursor string, limit int) (ledger.RequestPage, error) {
				require.Equal(t, asked > 0, cursor != "")
				asked++
				return ledger.RequestPage{Requests: make([]ledger.Request, min(c.page, limit)), Next: strconv.Itoa(asked), Seen: seen}, nil
			})
			var rows [][]string
			for next, first := "", true; next != "" || first; first = false {
				some, to, err := page(t.Context(), visitor{}, next)
				require.NoError(t, err)
				rows, next = append(rows, some...), to
			}
			require.Equal(t, c.asked, asked)
			require.Len(t, rows, c.want+1)
			require.Contains(t, rows[c.want][0], "There may be more")
			require.Contains(t, rows[c.want][0], "2026-01-02T03:04:06Z", "not before what was looked at")
			require.Len(t, rows[c.want], len(ledger.RequestColumns()))
		})
	}
	whole := lentPages(1200, 5, time.Now(), func(context.Context, visitor, string, int) (ledger.RequestPage, error) {
		return ledger.RequestPage{Requests: make([]ledger.Request, 1)}, nil
	})
	rows, next, err := whole(t.Context(), visitor{}, "")
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, rows, 1)
}
