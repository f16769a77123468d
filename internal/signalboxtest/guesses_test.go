package signalboxtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
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

// siege is three instances on one database, and somebody with a valid key and a valid token who is to notice nothing of it.
type siege struct {
	t     *testing.T
	boxes []*signalboxtest.Box
	lane  *signalboxtest.Lane
	pool  *http.Client
	seed  uint64
}

func besiege(t *testing.T, env map[string]string) *siege {
	first := signalboxtest.StartWith(t, store.Postgres, env)
	s := &siege{t: t, boxes: []*signalboxtest.Box{first, first.Second(t), first.Second(t)}, lane: first.Lane(t, ""), seed: rand.Uint64()}
	for _, b := range s.boxes {
		require.Eventually(t, func() bool {
			a, err := lend(http.DefaultClient, b.URL, s.lane.Key, shortPrompt)
			return err == nil && a.status == http.StatusOK
		}, 5*time.Second, 20*time.Millisecond)
	}
	s.pool = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(s.pool.CloseIdleConnections)
	t.Logf("seed %d", s.seed)
	return s
}

// others is what others notice: they ask one after the other until done says so, and at least so often.
func (s *siege) others(least int, done func() bool) (took []time.Duration) {
	for i := 0; i < least || !done(); i++ {
		begun := time.Now()
		a, err := lend(s.pool, s.boxes[i%3].URL, s.lane.Key, shortPrompt)
		require.NoError(s.t, err)
		require.Equal(s.t, http.StatusOK, a.status, a.body)
		took = append(took, time.Since(begun))
		if i%20 == 0 {
			_, err := s.boxes[0].Admin().WhoAmI(s.t.Context())
			require.NoError(s.t, err, "a valid token was held up")
		}
	}
	slices.Sort(took)
	return took
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// run makes so many guesses with so many guessers, at most perSecond (0: as fast as they go), while others go on, and tells how those fared.
func (s *siege) run(guesses, guessers, perSecond, least int, guess func(rng *rand.Rand, n int)) {
	calm := s.others(least, func() bool { return true })
	var next, over atomic.Int64
	begun := time.Now()
	var wg sync.WaitGroup
	for g := range guessers {
		rng := rand.New(rand.NewPCG(s.seed, uint64(g)))
		wg.Go(func() {
			defer over.Add(1)
			for n := next.Add(1); n <= int64(guesses) && !s.t.Failed(); n = next.Add(1) {
				if perSecond > 0 { // they come as somebody from outside sends them, however fast they are answered
					time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
				}
				guess(rng, int(n))
			}
		})
	}
	busy := s.others(least, func() bool { return over.Load() == int64(guessers) })
	wg.Wait()
	took := time.Since(begun)
	s.t.Logf("%d guesses in %v; others meanwhile: %d requests, p50 %v, p99 %v; without guesses: %d, p50 %v, p99 %v; p99 is %.2f times as long", guesses, took.Round(time.Millisecond),
		len(busy), quantile(busy, 0.5), quantile(busy, 0.99), len(calm), quantile(calm, 0.5), quantile(calm, 0.99), float64(quantile(busy, 0.99))/float64(quantile(calm, 0.99)))
}

// TestKeyGuesses: somebody guesses client keys and tokens at three instances at once. In a minute no more than the limit are answered as
// guesses, the rest is told to wait; a valid key and a valid token from the same address are served all the time.
func TestKeyGuesses(t *testing.T) {
	const limit = 200
	guesses, perSecond, least := 6000, 0, 200
	if os.Getenv("SIGNALBOX_SOAK") != "" {
		guesses, perSecond, least = 100_000, 1000, 3000
	}
	s := besiege(t, map[string]string{"SIGNALBOX_FAILURE_LIMIT": strconv.Itoa(limit)})
	from := minuteOf(t, s.boxes[0])
	var refused, told atomic.Int64
	s.run(guesses, 16, perSecond, least, func(rng *rand.Rand, _ int) {
		status, after, body := guess(t, s.pool, s.boxes[rng.IntN(3)].URL, rng)
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
	})
	minutes := minuteOf(t, s.boxes[0]) - from + 1
	t.Logf("%d guesses: %d were refused, %d told to wait, in %d minutes of the clock, of %d a minute", guesses, refused.Load(), told.Load(), minutes, limit)
	require.LessOrEqual(t, refused.Load(), limit*minutes)
	require.EqualValues(t, guesses, refused.Load()+told.Load())
	require.Greater(t, told.Load(), int64(guesses/2))
}

// TestPasswordGuesses: somebody guesses passwords at three instances at once, of ever new accounts from one address, and of one account from ever
// new addresses. No more are looked at than one instance would look at, and everybody else goes on: agents, programs, and the person whose account
// it is, who signs in from where they always do.
func TestPasswordGuesses(t *testing.T) {
	guesses, perSecond, least := 600, 0, 200
	if os.Getenv("SIGNALBOX_SOAK") != "" {
		guesses, perSecond, least = 10_000, 100, 3000
	}
	s := besiege(t, map[string]string{"SIGNALBOX_TRUSTED_PROXIES": "127.0.0.1"})
	home := func() {
		if status, _, body := s.login("192.0.2.50", "admin@example.com", signalboxtest.AdminPassword); status != http.StatusOK {
			t.Errorf("the person was answered with %d: %s", status, body)
		}
	}
	home()
	began := time.Now()
	var looked, told [2]atomic.Int64
	s.run(guesses, 16, perSecond, least, func(rng *rand.Rand, n int) {
		from, who := "203.0.113.7", fmt.Sprintf("person%d@example.com", n)
		if n%2 == 1 {
			from, who = fmt.Sprintf("10.%d.%d.%d", rng.IntN(256), rng.IntN(256), rng.IntN(256)), "admin@example.com"
		}
		status, after, body := s.login(from, who, "planted-guess-"+strconv.Itoa(n))
		switch status {
		case http.StatusUnauthorized:
			looked[n%2].Add(1)
		case http.StatusTooManyRequests:
			told[n%2].Add(1)
			if n, err := strconv.Atoi(after); err != nil || n < 1 {
				t.Errorf("Retry-After %q: %s", after, body)
			}
		default:
			t.Errorf("a guess was answered with %d: %s", status, body)
		}
		if n%(guesses/4) == 0 {
			home()
		}
	})
	seconds := time.Since(began).Seconds() + 1
	byAddress, byAccount := 20+seconds/6+1, 5+math.Log2(seconds)+2
	t.Logf("%d guesses in %.0f s: from one address %d were looked at, of at most %.0f, and %d told to wait; at one account %d, of at most %.0f, and %d", guesses, seconds,
		looked[0].Load(), byAddress, told[0].Load(), looked[1].Load(), byAccount, told[1].Load())
	require.LessOrEqual(t, float64(looked[0].Load()), byAddress)
	require.LessOrEqual(t, float64(looked[1].Load()), byAccount)
	require.GreaterOrEqual(t, looked[1].Load(), int64(5))
	require.EqualValues(t, guesses, looked[0].Load()+looked[1].Load()+told[0].Load()+told[1].Load())
	home()
}

// login signs somebody in, through the proxy, from an address; which instance does it is left to chance.
func (s *siege) login(from, who, password string) (status int, after, body string) {
	text, err := json.Marshal(map[string]string{"email": who, "password": password})
	if err != nil {
		s.t.Error(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.boxes[rand.IntN(3)].URL+"/api/auth/login", strings.NewReader(string(text)))
	if err != nil {
		s.t.Error(err)
		return 0, "", ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", from)
	return exchange(s.t, s.pool, req)
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
	return exchange(t, c, req)
}

func exchange(t *testing.T, c *http.Client, req *http.Request) (status int, after, body string) {
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
