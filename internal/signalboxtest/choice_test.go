package signalboxtest_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// fullness has an account say how far its five hours are used.
func fullness(used float64, reset time.Time) demo.Script {
	h := http.Header{}
	for name, value := range map[string]string{"Status": "allowed", "5h-Status": "allowed", "5h-Utilization": fmt.Sprint(used), "5h-Reset": fmt.Sprint(reset.Unix())} {
		h.Set("Anthropic-Ratelimit-Unified-"+name, value)
	}
	for _, of := range []string{"Requests", "Input-Tokens", "Output-Tokens"} {
		for _, what := range []string{"Limit", "Remaining", "Reset"} {
			h["Anthropic-Ratelimit-"+of+"-"+what] = nil
		}
	}
	return demo.Always(demo.Behaviour{Header: h})
}

// laneAnswers sends a request to a lane and returns the status.
func laneAnswers(t *testing.T, l *signalboxtest.Lane, header ...string) int {
	t.Helper()
	r := l.Request(t.Context(), []byte(`{"model":"claude-opus-5","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}`))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

// TestExplainTellsEveryNumber: what the accounts' upstreams said of their limits is in the explanation that REST gives, and it explains what happens.
func TestExplainTellsEveryNumber(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			box := signalboxtest.Start(t, e)
			lane := box.LaneOf(t, "", 3)
			strategy := "least-loaded"
			_, err := box.Admin().UpdateTrain(t.Context(), lane.Train, client.TrainPatch{Strategy: &strategy})
			require.NoError(t, err)
			reset := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
			for i, used := range []float64{0.93, 0.40, 0.20} {
				box.Upstream.SetKeyBehaviour(lane.Accounts[i].Secret, fullness(used, reset))
				require.Equal(t, 200, laneAnswers(t, lane, "MSL-Account", lane.Accounts[i].Name))
			}
			require.Equal(t, 200, laneAnswers(t, lane, "MSL-Session", "talk"))
			rows := lane.Explain(t)
			require.Equal(t, []string{lane.Accounts[2].Name, lane.Accounts[1].Name, lane.Accounts[0].Name}, []string{rows[0].Name, rows[1].Name, rows[2].Name})
			require.True(t, rows[0].Chosen)
			require.Equal(t, 1, rows[0].Conversations)
			require.Equal(t, "5h", rows[2].Over)
			for i, used := range []float64{0.20, 0.40, 0.93} {
				r := rows[i]
				require.InDelta(t, used, r.Load, 1e-9)
				require.Zero(t, r.InFlight)
				require.Len(t, r.Windows, 1)
				w := r.Windows[0]
				require.WithinDuration(t, time.Now(), w.HeardAt, time.Minute)
				require.Equal(t, client.Window{Name: "5h", Utilization: used, Threshold: 0.9, Above: used > 0.9, Status: "allowed", ResetsAt: &reset, HeardAt: w.HeardAt}, w)
			}
		})
	}
}
