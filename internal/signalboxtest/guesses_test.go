package signalboxtest_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestKeyGuesses: somebody guesses client keys and tokens at three instances at once. In a minute no more than the limit are answered as
// guesses, the rest is told to wait; a valid key and a valid token from the same address are served all the time.
func TestKeyGuesses(t *testing.T) {
	const limit, guessers = 200, 6
	guesses := 6000
	if os.Getenv("SIGNALBOX_SOAK") != "" {
		guesses = 100_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d guesses", seed, guesses)
	first := signalboxtest.StartWith(t, store.Postgres, map[string]string{"SIGNALBOX_FAILURE_LIMIT": strconv.Itoa(limit)})
	boxes := []*signalboxtest.Box{first, first.Second(t), first.Second(t)}
	l := first.Lane(t, "")
	for _, b := range boxes {
		require.Eventually(t, func() bool {
			a, err := lend(http.DefaultClient, b.URL, l.Key, shortPrompt)
			return err == nil && a.status == http.StatusOK
		}, 5*time.Second, 20*time.Millisecond)
	}
	pool := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer pool.CloseIdleConnections()

	measure := func() (took []time.Duration) { // of somebody with a valid key
		for i := range 200 {
			begun := time.Now()
			a, err := lend(pool, boxes[i%3].URL, l.Key, shortPrompt)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, a.status, a.body)
			took = append(took, time.Since(begun))
			if i%20 == 0 {
				_, err := first.Admin().WhoAmI(t.Context())
				require.NoError(t, err, "a valid token was held up")
			}
		}
		slices.Sort(took)
		return took
	}
	calm := measure()
	minutes := map[int64]bool{minuteOf(t, first): true}
	var refused, told atomic.Int64
	var wg sync.WaitGroup
	for g := range guessers {
		rng := rand.New(rand.NewPCG(seed, uint64(g)))
		wg.Go(func() {
			for range guesses / guessers {
				status, after, body := guess(t, pool, boxes[rng.IntN(3)].URL, rng)
				switch status {
				case http.StatusUnauthorized:
					refused.Add(1)
				case http.StatusTooManyRequests:
					told.Add(1)
					if n, err := strconv.Atoi(after); err != nil || n < 1 || n > 60 || !strings.Contains(body, "Wait as long as Retry-After says") {
						t.Errorf("Retry-After %q: %s", after, body)
					}
				default:
					t.Errorf("a guess was answered with %d: %s", status, body)
				}
			}
		})
	}
	busy := measure()
	wg.Wait()
	minutes[minuteOf(t, first)] = true
	from, to := int64(1<<62), int64(0)
	for m := range minutes {
		from, to = min(from, m), max(to, m)
	}
	most := limit * (to - from + 1)
	t.Logf("%d guesses were refused, %d told to wait, in %d minutes of the clock; p50 %v, p99 %v; without guesses %v, %v", refused.Load(), told.Load(), to-from+1,
		busy[len(busy)/2], busy[len(busy)*99/100], calm[len(calm)/2], calm[len(calm)*99/100])
	require.LessOrEqual(t, refused.Load(), most)
	require.EqualValues(t, guesses/guessers*guessers, refused.Load()+told.Load())
	require.Greater(t, told.Load(), int64(guesses/2))
}

// minuteOf is the minute by which limits are counted.
func minuteOf(t *testing.T, b *signalboxtest.Box) (n int64) {
	t.Helper()
	db := b.OpenReadOnly(t)
	defer func() { _ = db.Close() }()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { n = tx.Now().Unix() / 60; return nil }))
	return n
}

// guess sends one key or token that could be real as far as its shape goes.
func guess(t *testing.T, c *http.Client, url string, rng *rand.Rand) (status int, after, body string) {
	key := "imported-" + strconv.FormatUint(rng.Uint64(), 36) + strconv.FormatUint(rng.Uint64(), 36)
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(shortPrompt))
	if rng.IntN(4) == 0 {
		req, err = http.NewRequest(http.MethodGet, url+"/api/whoami", nil)
		key = "sbp_" + key
	}
	if err != nil {
		t.Error(err)
		return 0, "", ""
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return 0, "", ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(b)
}
