package signalboxtest_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// limitSize is how much the story below does: in full with SIGNALBOX_SOAK, at the rate that the design names.
func limitSize() (most, rate int, during time.Duration) {
	if os.Getenv("SIGNALBOX_SOAK") != "" {
		return 1000, 500, 125 * time.Second
	}
	return 150, 150, 5 * time.Second
}

// TestLimitsHoldOverAFleet runs three real instances on one PostgreSQL. Together they let through what one limit allows, in no window of a minute more and hardly less; requests at once
// count over all of them, and those of one that is killed count no more soon after; and a budget outlives the kill.
func TestLimitsHoldOverAFleet(t *testing.T) {
	for range postgresOnly() {
		upKey := secret.FromString("sk-upstream-limits-test-key")
		_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
		p1 := signalboxtest.NewProcess(t, "postgres")
		fleet := []*signalboxtest.Process{p1, p1.Peer(t, p1.DatabaseURL()), p1.Peer(t, p1.DatabaseURL())}
		for _, p := range fleet {
			p.Start(t)
		}
		admin := p1.Admin()
		set := func(train string, l client.Limits) {
			_, err := admin.UpdateTrain(t.Context(), train, client.TrainPatch{Limits: &client.LimitsPatch{Limits: l, ClearAll: true}})
			require.NoError(t, err)
		}
		busy, streaming, budget := newLane(t, admin, upURL, upKey, "busy", 1), newLane(t, admin, upURL, upKey, "streaming", 1), newLane(t, admin, upURL, upKey, "budget", 1)
		ending := newLane(t, admin, upURL, upKey, "ending", 1) // its key is revoked under the load
		for _, p := range fleet {
			for _, l := range []lane{busy, streaming, budget, ending} {
				require.Eventually(t, func() bool { return ask(t, p.URL, l.key) == 200 }, 5*time.Second, 10*time.Millisecond)
			}
		}
		most, rate, during := limitSize()
		long := strings.ReplaceAll(longStream, "fake-stream-2000-slow-20", fmt.Sprintf("fake-stream-%d-slow-200", 300+during/(200*time.Millisecond))) // outlasts the rate below
		n, one := int64(most), int64(1)
		set("busy", client.Limits{RequestsPerMinute: &n})
		set("streaming", client.Limits{ConcurrentStreams: ptr(int64(3))})
		set("budget", client.Limits{MonthlyTokens: &one})
		time.Sleep(time.Second) // everybody has heard

		streams := make([]*http.Response, 0, 3)
		open := func(p *signalboxtest.Process) *http.Response {
			req, err := http.NewRequest(http.MethodPost, p.URL+"/v1/messages", strings.NewReader(long))
			require.NoError(t, err)
			req.Header.Set("X-Api-Key", streaming.key)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
			return resp
		}
		for _, p := range fleet {
			resp := open(p)
			require.Equal(t, 200, resp.StatusCode)
			streams = append(streams, resp)
		}
		for _, p := range fleet {
			require.Equal(t, 429, open(p).StatusCode, "three are under way")
		}

		// The rate, spread over all of them.
		var mu sync.Mutex
		var let []time.Time
		refused, begun := 0, time.Now()
		var wg sync.WaitGroup
		line := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
		var revoked time.Time // when the answer to the revocation was there
		var late time.Duration
		seen := map[int]int{} // answers to the key that ends, by status
		wg.Go(func() {
			time.Sleep(during / 2)
			if err := admin.RevokeKey(t.Context(), ending.train, ending.keyID); err != nil {
				t.Errorf("%v", err)
			}
			mu.Lock()
			revoked = time.Now()
			mu.Unlock()
		})
		for i := range fleet { // each instance is asked with it all the time
			wg.Go(func() {
				for time.Since(begun) < during {
					at := time.Now()
					a, err := lend(line, fleet[i].URL, ending.key, shortPrompt)
					mu.Lock()
					if err != nil {
						t.Errorf("%v", err)
					} else if seen[a.status]++; a.status == 200 && !revoked.IsZero() {
						late = max(late, at.Sub(revoked))
					}
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		tick := time.NewTicker(time.Second / time.Duration(rate))
		for i := 0; time.Since(begun) < during; i++ {
			<-tick.C
			wg.Go(func() {
				a, err := lend(line, fleet[i%3].URL, busy.key, shortPrompt)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Errorf("%v", err)
				case a.status == 200:
					let = append(let, a.begun)
				case a.status == 429 && strings.Contains(a.message, "requests a minute"):
					refused++
				default:
					t.Errorf("%d %s", a.status, a.message)
				}
			})
		}
		tick.Stop()
		wg.Wait()
		slices.SortFunc(let, func(a, b time.Time) int { return a.Compare(b) })
		t.Logf("%d asked, %d let through, %d refused", len(let)+refused, len(let), refused)
		require.NotZero(t, refused)
		t.Logf("a key revoked meanwhile: %v, let through for %s at the longest after the revocation was answered", seen, late.Round(time.Millisecond))
		require.NotZero(t, seen[200])
		require.NotZero(t, seen[401])
		require.Len(t, seen, 2)
		require.Less(t, late, time.Second)
		for i := range let { // a request is counted a little after it began: half a second covers that
			j := i
			for j < len(let) && let[j].Sub(let[i]) < time.Minute-500*time.Millisecond {
				j++
			}
			require.LessOrEqual(t, j-i, most, "in the minute from %s", let[i])
		}
		first := 0
		for _, at := range let {
			if at.Sub(begun) < time.Minute {
				first++
			}
		}
		require.GreaterOrEqual(t, first, most*95/100)

		// What a killed instance had under way counts no more.
		fleet[2].Kill(t)
		killed := time.Now()
		for _, p := range fleet[:2] {
			require.Equal(t, 429, open(p).StatusCode, "nobody knows yet")
		}
		require.Eventually(t, func() bool { return open(fleet[0]).StatusCode == 200 }, 30*time.Second, 500*time.Millisecond)
		t.Logf("free %s after the kill", time.Since(killed).Round(100*time.Millisecond))
		require.Equal(t, 429, open(fleet[1]).StatusCode, "one was, and not more")

		// A budget that is spent stays so, whatever dies.
		require.Eventually(t, func() bool { return ask(t, fleet[1].URL, budget.key) == 429 }, 5*time.Second, 100*time.Millisecond)
		fleet[1].Kill(t)
		fleet[1].Start(t)
		a, err := lend(line, fleet[1].URL, budget.key, shortPrompt)
		require.NoError(t, err)
		require.Equal(t, 429, a.status)
		require.Contains(t, a.message, "spent its budget: 1 tokens a month")
		_ = streams
	}
}
