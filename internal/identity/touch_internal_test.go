package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSteadyUseIsWrittenOnceAMinute: a key that is used all the time is written in one round of six, one that is used once is not forgotten,
// and neither waits for longer than that.
func TestSteadyUseIsWrittenOnceAMinute(t *testing.T) {
	var list touches
	steady, once := &holder{id: "key_a"}, &holder{id: "key_b"}
	at := time.UnixMicro(1)
	const rounds = 10 * touchTurns
	writes := map[*holder][]int{}
	for round := range rounds {
		list.note(steady, at)
		list.note(steady, at)
		if round == 3 {
			list.note(once, at)
		}
		for _, h := range list.take(false) {
			writes[h] = append(writes[h], round)
		}
	}
	require.Len(t, writes[steady], rounds/touchTurns)
	require.Equal(t, touchTurns-1, writes[steady][0])
	require.Equal(t, []int{3 + touchTurns - 1}, writes[once])

	// At the end everything is written, in whatever round it came.
	for range touchTurns / 2 {
		list.note(once, at)
		list.take(false)
	}
	list.note(steady, at)
	require.ElementsMatch(t, []*holder{steady, once}, list.take(true))
	require.Empty(t, list.take(true))
}
