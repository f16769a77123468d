package demo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
)

// TestDrillReportTellsEachLoss: whatever is lost makes the drill fail, each by itself.
func TestDrillReportTellsEachLoss(t *testing.T) {
	good := func() demo.DrillReport {
		return demo.DrillReport{Expiries: 3, Connections: []demo.DrilledConnection{{Survived: 3, Health: "healthy"}, {Survived: 3, Health: "healthy"}}, Calls: 8, Refreshes: 6, Recoveries: 2, Answered: 100, ToldToWait: 5, Refused: 1}
	}
	require.False(t, good().Lost())
	for name, spoil := range map[string]func(*demo.DrillReport){
		"a grant":          func(r *demo.DrillReport) { r.GrantsLost = 1 },
		"a reuse":          func(r *demo.DrillReport) { r.Reuses = 1 },
		"a second call":    func(r *demo.DrillReport) { r.Doubled = 1 },
		"a record":         func(r *demo.DrillReport) { r.Unrecorded = 1 },
		"a caller":         func(r *demo.DrillReport) { r.CallersFailed = 1 },
		"the health":       func(r *demo.DrillReport) { r.Connections[0].Health = "refresh_uncertain" },
		"an expiry of one": func(r *demo.DrillReport) { r.Connections[1].Survived = 2 },
	} {
		r := good()
		spoil(&r)
		require.True(t, r.Lost(), name)
	}
}

// TestNaiveDrillLosesEverything is the control of the drill.
func TestNaiveDrillLosesEverything(t *testing.T) {
	r, err := demo.NaiveDrill(t.Context(), demo.DrillOptions{Callers: 4})
	require.NoError(t, err)
	require.True(t, r.Lost())
	require.Equal(t, len(r.Connections), r.GrantsLost)
	require.Equal(t, 3*len(r.Connections), r.CallersFailed)
	require.Equal(t, int64(len(r.Connections)), r.Answered)
}
