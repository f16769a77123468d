package signalboxtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const shortPrompt = `{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}`

// lane is a train with accounts and a key on a fleet.
type lane struct {
	train, key, keyID string
	accounts          []string
}

func newLane(t *testing.T, admin *client.Client, upstream string, key secret.Value, name string, accounts int) lane {
	t.Helper()
	l := lane{train: name}
	_, err := admin.CreateTrain(t.Context(), client.TrainDraft{TrainID: name, Name: name})
	require.NoError(t, err)
	for range accounts {
		c, err := admin.CreateCredential(t.Context(), client.CredentialDraft{
			Type: "api_key", Name: name + string(rune('a'+len(l.accounts))), Provider: "anthropic", BaseURL: upstream, Secrets: map[string]string{"api_key": key.Reveal()},
		})
		require.NoError(t, err)
		_, _, err = admin.Link(t.Context(), name, client.LinkDraft{CredentialID: c.ID})
		require.NoError(t, err)
		l.accounts = append(l.accounts, c.ID)
	}
	k, err := admin.IssueKey(t.Context(), name, client.KeyDraft{Name: "agent"})
	require.NoError(t, err)
	l.key, l.keyID = k.APIKey, k.ID
	return l
}

// answer is what an instance said to one request.
type answer struct {
	begun   time.Time
	status  int
	retry   bool
	after   string // when to try again
	message string
	body    string
}

// lend asks an instance for one use. An error is one of the connection.
func lend(c *http.Client, url, key, body string) (answer, error) {
	a := answer{begun: time.Now()}
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("X-Api-Key", key)
	resp, err := c.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	a.status, a.retry, a.after, a.body = resp.StatusCode, resp.Header.Get("X-Should-Retry") == "true", resp.Header.Get("Retry-After"), string(b)
	var e struct{ Error struct{ Message string } }
	if a.status != http.StatusOK && json.Unmarshal(b, &e) == nil {
		a.message = e.Error.Message
	}
	return a, err
}

// legible reports whether an answer is right for a good key, or a refusal that an agent's user can act on.
func (a answer) legible() bool {
	says := strings.ToLower(a.message)
	return a.status == 200 || a.status == http.StatusServiceUnavailable && a.retry && (strings.Contains(says, "try again") || strings.Contains(says, "send the request again"))
}

// heardWithin waits until the fleet knows: whoever asks later than a second after the acknowledgement must get the new answer.
func heardWithin(t *testing.T, acked time.Time, what string, knows func() bool) {
	t.Helper()
	for {
		asked := time.Now()
		if knows() {
			return
		}
		require.Less(t, asked.Sub(acked), time.Second, what)
	}
}

// balancer spreads requests over instances as a load balancer with SDK clients behind it does.
type balancer struct {
	urls   []string
	away   []atomic.Bool
	served atomic.Int64
	mu     sync.Mutex
	failed []string
}

// run sends requests until stop is closed. A request is sent again, as the official SDKs do, when the answer says so, and elsewhere when
// the connection was refused; everything else that is not 200 has failed.
func (b *balancer) run(key string, stop <-chan struct{}) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	for n := rand.IntN(len(b.urls)); ; {
		select {
		case <-stop:
			return
		default:
		}
		var last string
		ok := false
		for try := 0; try < 12 && !ok; try++ {
			for n++; b.away[n%len(b.urls)].Load(); n++ {
			}
			i := n % len(b.urls)
			a, err := lend(c, b.urls[i], key, shortPrompt)
			switch {
			case err != nil && errors.Is(err, syscall.ECONNREFUSED):
				b.away[i].Store(true)
				try--
			case err != nil:
				last, try = "instance "+string(rune('1'+i))+": "+err.Error(), 99
			case a.status == 200:
				ok = true
			case a.retry:
				last = a.message
				if strings.Contains(a.message, "shutting down") {
					b.away[i].Store(true)
					try--
				} else {
					time.Sleep(100 * time.Millisecond)
				}
			default:
				last, try = a.body, 99
			}
		}
		if ok {
			b.served.Add(1)
			continue
		}
		b.mu.Lock()
		b.failed = append(b.failed, last)
		b.mu.Unlock()
	}
}

// TestThreeInstancesAgree runs three real instances on one PostgreSQL under load. What one of them learns or is told, the others obey within
// a second of the acknowledgement; one that stood still serves nothing old; one that drains costs nobody a request.
func TestThreeInstancesAgree(t *testing.T) {
	for range postgresOnly() {
		upKey := secret.FromString("sk-upstream-fleet-test-key")
		_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
		p1 := signalboxtest.NewProcess(t, "postgres", "SIGNALBOX_DRAIN_DELAY=700ms")
		fleet := []*signalboxtest.Process{p1, p1.Peer(t, p1.DatabaseURL(), "SIGNALBOX_DRAIN_DELAY=700ms"), p1.Peer(t, p1.DatabaseURL())}
		b := &balancer{away: make([]atomic.Bool, 3)}
		for _, p := range fleet {
			p.Start(t)
			b.urls = append(b.urls, p.URL)
		}
		admin := p1.Admin()
		steady := newLane(t, admin, upURL, upKey, "steady", 2)
		limited := newLane(t, admin, upURL, upKey, "limited", 1)
		moving := newLane(t, admin, upURL, upKey, "moving", 1)
		doomed := newLane(t, admin, upURL, upKey, "doomed", 1)
		asleep := newLane(t, admin, upURL, upKey, "asleep", 1)
		for _, p := range fleet { // everybody has heard of everything
			for _, l := range []lane{steady, limited, moving, doomed, asleep} {
				require.Eventually(t, func() bool { return ask(t, p.URL, l.key) == 200 }, 5*time.Second, 10*time.Millisecond)
			}
		}
		stop := make(chan struct{})
		var load sync.WaitGroup
		for range 6 {
			load.Go(func() { b.run(steady.key, stop) })
		}
		defer load.Wait()
		ended := sync.OnceFunc(func() { close(stop) })
		defer ended()

		// A cool-down that one instance learnt.
		a, err := lend(http.DefaultClient, fleet[0].URL, limited.key, `{"model":"fake-error-429","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}`)
		require.NoError(t, err)
		require.Equal(t, 429, a.status)
		acked := time.Now()
		for _, p := range fleet {
			heardWithin(t, acked, "a cool-down", func() bool {
				e, err := p.Admin().Explain(t.Context(), "limited")
				require.NoError(t, err)
				return e.Accounts[0].State == "cooling" && e.Accounts[0].CoolingUntil != nil
			})
		}
		a, err = lend(http.DefaultClient, fleet[2].URL, limited.key, shortPrompt)
		require.NoError(t, err)
		require.Equal(t, 429, a.status)
		require.Contains(t, a.message, "cooling down", "it is Signalbox that answers, not the upstream")

		// A link, taken away and given back at different instances.
		require.NoError(t, fleet[1].Admin().Unlink(t.Context(), "moving", moving.accounts[0]))
		acked = time.Now()
		for _, p := range fleet {
			heardWithin(t, acked, "an unlinked account", func() bool { return ask(t, p.URL, moving.key) == 403 })
		}
		_, _, err = fleet[2].Admin().Link(t.Context(), "moving", client.LinkDraft{CredentialID: moving.accounts[0]})
		require.NoError(t, err)
		acked = time.Now()
		for _, p := range fleet {
			heardWithin(t, acked, "a linked account", func() bool { return ask(t, p.URL, moving.key) == 200 })
		}

		// A revoked key.
		require.NoError(t, fleet[2].Admin().RevokeKey(t.Context(), "doomed", doomed.keyID))
		acked = time.Now()
		for _, p := range fleet {
			heardWithin(t, acked, "a revoked key", func() bool { return ask(t, p.URL, doomed.key) == 401 })
		}

		// An instance that stands still while a key is revoked elsewhere.
		stillStreaming := stream(t, fleet[2].URL, asleep.key)
		b.away[2].Store(true)
		fleet[2].Signal(t, syscall.SIGSTOP)
		require.NoError(t, admin.RevokeKey(t.Context(), "asleep", asleep.keyID))
		time.Sleep(1100 * time.Millisecond) // the second that the promise allows
		waiting := make(chan answer, 20)
		for range 10 { // these wait in the socket of the sleeper
			go func() { waiting <- mustLend(t, fleet[2].URL, asleep.key) }()
		}
		time.Sleep(50 * time.Millisecond)
		resumed := time.Now()
		fleet[2].Signal(t, syscall.SIGCONT)
		for range 10 {
			go func() { waiting <- mustLend(t, fleet[2].URL, asleep.key) }()
		}
		for range 20 {
			a := <-waiting
			require.Contains(t, []int{401, 503}, a.status, "nothing is lent on news from before the sleep: %s", a.body)
		}
		require.Less(t, stillStreaming(resumed), time.Second, "an open stream ends as soon as the sleeper has asked")
		b.away[2].Store(false)

		// A drain.
		fleet[1].Signal(t, syscall.SIGTERM)
		require.NoError(t, fleet[1].Wait())
		ended()
		load.Wait()
		require.Empty(t, b.failed, "no request may fail because an instance drains")
		require.Greater(t, b.served.Load(), int64(100))
		t.Logf("%d requests served", b.served.Load())
		fleet[2].Kill(t)
		fleet[0].Signal(t, syscall.SIGTERM)
		require.NoError(t, fleet[0].Wait())
		verifyFleet(t, fleet)
	}
}

func mustLend(t *testing.T, url, key string) answer {
	a, err := lend(http.DefaultClient, url, key, shortPrompt)
	if err != nil {
		t.Error(err)
	}
	return a
}

// ready asks /readyz.
func ready(url string) (status int, checks map[string]string) {
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct{ Checks map[string]string }
	_ = json.NewDecoder(resp.Body).Decode(&got)
	return resp.StatusCode, got.Checks
}

func requireNothingInternal(t *testing.T, fleet []*signalboxtest.Process) {
	t.Helper()
	for _, p := range fleet {
		for line := range bytes.Lines(p.Log()) {
			gone := bytes.Contains(line, []byte(`"level":"DEBUG"`)) // the client had gone, so that nobody was answered
			if !gone && bytes.Contains(line, []byte(`"code":"internal"`)) || bytes.Contains(line, []byte("panicked")) {
				t.Errorf("an answer was neither right nor legible: %s", line)
			}
		}
		p.Planted().Absent(t, "the log", p.Log())
	}
}

// TestAFleetBehindAPooler runs two instances through a real PgBouncer in transaction mode, from the migration to the proof of the log.
func TestAFleetBehindAPooler(t *testing.T) {
	for range postgresOnly() {
		upKey := secret.FromString("sk-upstream-pooler-test-key")
		_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
		pooled := storetest.Pooler(t, storetest.PostgresURL(t), "default_pool_size = 30")
		p1 := signalboxtest.NewProcessOn(t, pooled)
		fleet := []*signalboxtest.Process{p1, p1.Peer(t, pooled)}
		for _, p := range fleet {
			p.Start(t)
			require.Contains(t, string(p.Log()), "a connection pooler stands before PostgreSQL")
		}
		l := newLane(t, p1.Admin(), upURL, upKey, "pooled", 2)
		linked := time.Now()
		for _, p := range fleet {
			heardWithin(t, linked, "a new key", func() bool { return ask(t, p.URL, l.key) == 200 })
		}
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() {
				for range 50 {
					for _, p := range fleet {
						if a := mustLend(t, p.URL, l.key); a.status != 200 {
							t.Errorf("%d %s", a.status, a.body)
						}
					}
				}
			})
		}
		load.Wait()
		open := stream(t, fleet[1].URL, l.key)
		require.NoError(t, p1.Admin().RevokeKey(t.Context(), "pooled", l.keyID))
		acked := time.Now()
		for _, p := range fleet {
			heardWithin(t, acked, "a revoked key", func() bool { return ask(t, p.URL, l.key) == 401 })
		}
		require.Less(t, open(acked), time.Second)
		for _, p := range fleet {
			p.Signal(t, syscall.SIGTERM)
			require.NoError(t, p.Wait())
		}
		verifyFleet(t, fleet)
	}
}
