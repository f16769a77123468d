package ledger_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/ledger"
)

// TestALineTellsNothingThatNobodyKnows: of a request that is under way, or of which nobody knows what came of it, the cells of what it used are empty, and of one that used nothing they say so.
func TestALineTellsNothingThatNobodyKnows(t *testing.T) {
	used := []string{"response_bytes", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls", "cost_usd"}
	for _, state := range ledger.States() {
		r := ledger.Request{At: time.Unix(1, 0), State: state, Sent: 7, Attempts: []ledger.Attempt{{State: state}}}
		line := r.Line()
		require.Len(t, line, len(ledger.RequestColumns()))
		for _, name := range used {
			cell := line[slices.Index(ledger.RequestColumns(), name)]
			if state == ledger.Pending || state == ledger.Unknown {
				require.Empty(t, cell, "%s of one that is %s", name, state)
			} else {
				require.Contains(t, []string{"0", "0.000000"}, cell, "%s of one that is %s", name, state)
			}
		}
		require.Equal(t, "7", line[slices.Index(ledger.RequestColumns(), "request_bytes")])
	}
	r := ledger.Request{State: ledger.Unknown, Received: 9}
	require.Equal(t, "9", r.Line()[slices.Index(ledger.RequestColumns(), "response_bytes")], "what came of it is known")
}
