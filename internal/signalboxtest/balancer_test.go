package signalboxtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

const (
	// pieces is how many pieces of text each stream has, pace the milliseconds between two.
	pieces, pace = 40, 500
	// streamsAtOnce is how many streams are open through the load balancer: raw ones, and some of each SDK.
	streamsAtOnce, streamsOfAnSDK = 1000, 50
)

// received is what a client was told of one stream, and how that ended.
type received struct {
	Request  string `json:"request"`  // our id
	Upstream string `json:"upstream"` // the upstream's
	Served   string `json:"served"`   // the number of the instance
	Pieces   int    `json:"pieces"`
	Whole    bool   `json:"whole"`
	Failed   string `json:"failed"`
}

// looking remembers which of our requests led to which of the upstream's.
type looking struct {
	mu   sync.Mutex
	base http.RoundTripper
	list []received
}

func (l *looking) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(r)
	if err == nil {
		l.mu.Lock()
		l.list = append(l.list, toldBy(resp))
		l.mu.Unlock()
	}
	return resp, err
}

func toldBy(resp *http.Response) received {
	return received{Request: resp.Header.Get("X-Request-Id"), Upstream: resp.Header.Get("Request-Id"), Served: resp.Header.Get("X-Served-By")}
}

// rawStream reads one stream by hand. begun is called at its first event.
func rawStream(c *http.Client, url, key, body string, begun func()) received {
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return received{Failed: err.Error()}
	}
	req.Header.Set("X-Api-Key", key)
	resp, err := c.Do(req)
	if err != nil {
		return received{Failed: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	got := toldBy(resp)
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		got.Failed = fmt.Sprint(resp.StatusCode, " ", string(b))
		return got
	}
	in := bufio.NewReader(resp.Body)
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if first {
			begun()
		}
		switch {
		case err == io.EOF:
			return got
		case err != nil:
			got.Failed = err.Error()
			return got
		case strings.HasPrefix(line, "event: content_block_delta"):
			got.Pieces++
		case strings.HasPrefix(line, "event: message_stop"):
			got.Whole = true
		}
	}
}

// sdkStream reads one stream with the official Go SDK.
func sdkStream(c anthropic.Client, see *looking, n int, begun func()) received {
	var got received
	stream := c.Messages.NewStreaming(context.Background(), prompt(streamModel(), fmt.Sprint("go ", n, strings.Repeat("y", n%89))),
		option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			resp, err := next(r)
			if err == nil {
				got = toldBy(resp)
			}
			return resp, err
		}))
	defer func() { _ = stream.Close() }()
	for first := true; stream.Next(); first = false {
		if first {
			begun()
		}
		switch stream.Current().Type {
		case "content_block_delta":
			got.Pieces++
		case "message_stop":
			got.Whole = true
		}
	}
	if err := stream.Err(); err != nil {
		got.Failed = err.Error()
	}
	return got
}

func streamModel() string { return fmt.Sprintf("fake-stream-%d-slow-%d", pieces, pace) }

// typescriptStreams opens streams with the official TypeScript SDK. begun is called at the first event of each.
func typescriptStreams(t *testing.T, url, key string, n int, begun func()) (wait func() []received) {
	t.Helper()
	node, _, errs := typescriptProgram(t, "streams.mjs", url, key, streamModel(), strconv.Itoa(n))
	node.Stdout = nil
	out, err := node.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	var list []received
	var wrong error
	read := make(chan struct{})
	go func() {
		defer close(read)
		in := bufio.NewScanner(out)
		for in.Scan() {
			if in.Text() == `"begun"` {
				begun()
				continue
			}
			var r received
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				wrong = fmt.Errorf("%q: %w", in.Text(), err)
			}
			list = append(list, r)
		}
		if wrong == nil {
			wrong = in.Err()
		}
	}()
	return func() []received {
		<-read
		require.NoError(t, node.Wait(), "%s", errs.String())
		require.NoError(t, wrong)
		require.Len(t, list, n)
		return list
	}
}

// TestAFleetBehindALoadBalancer puts a real HAProxy before three real instances on a PostgreSQL of their own. A thousand streams are open, of a raw client and
// of both official SDKs, and more requests keep coming, while one instance is killed and another is drained and comes back as a later version
// with a newer schema. No stream of an instance that lives breaks, no request of an SDK fails, and audit log and usage agree to the token with what the
// upstream itself counted.
func TestAFleetBehindALoadBalancer(t *testing.T) {
	for range postgresOnly() {
		next, schema := signalboxtest.Next(t, "ALTER TABLE trains ADD COLUMN next_version TEXT;\nCREATE TABLE next_things (id TEXT PRIMARY KEY);\n")
		upKey := secret.FromString("sk-upstream-balancer-test-key")
		up, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}, Keep: 100_000})
		const delay, patience = "SIGNALBOX_DRAIN_DELAY=2s", "SIGNALBOX_DRAIN_TIMEOUT=2m"
		p1 := signalboxtest.NewProcess(t, "postgres", delay, patience)
		fleet := []*signalboxtest.Process{p1, p1.Peer(t, p1.DatabaseURL(), delay, patience), p1.Peer(t, p1.DatabaseURL(), delay, patience)}
		for _, p := range fleet {
			p.Start(t)
		}
		url := signalboxtest.Balancer(t, fleet...)
		l := newLane(t, p1.Admin(), upURL, upKey, "balanced", 2)
		for _, p := range fleet {
			require.Eventually(t, func() bool { return ask(t, p.URL, l.key) == 200 }, 5*time.Second, 10*time.Millisecond)
		}
		asked := len(up.Requests()) // of which the clients below know nothing

		lines := &http.Transport{MaxIdleConnsPerHost: streamsAtOnce}
		defer lines.CloseIdleConnections()
		see := &looking{base: lines}
		official := anthropic.NewClient(option.WithBaseURL(url), option.WithAPIKey(l.key), option.WithHTTPClient(&http.Client{Transport: see}))

		// Requests that keep coming, as an agent with the SDK's own retries sends them.
		stop := make(chan struct{})
		halt := sync.OnceFunc(func() { close(stop) })
		var load sync.WaitGroup
		defer load.Wait()
		defer halt()
		var served atomic.Int64
		for w := range 4 {
			load.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
					if _, err := official.Messages.New(context.Background(), prompt("claude-x", fmt.Sprint("load ", w, " ", n))); err != nil {
						t.Errorf("a request failed: %v", err)
						return
					}
					served.Add(1)
				}
			})
		}

		var begun atomic.Int64
		streams := make([]received, streamsAtOnce-streamsOfAnSDK)
		var open sync.WaitGroup
		started := time.Now()
		for n := range streams {
			open.Go(func() {
				count := func() { begun.Add(1) }
				if n < streamsOfAnSDK {
					streams[n] = sdkStream(anthropic.NewClient(option.WithBaseURL(url), option.WithAPIKey(l.key), option.WithHTTPClient(&http.Client{Transport: lines}), option.WithMaxRetries(0)), see, n, count)
					return
				}
				body := fmt.Sprintf(`{"model":"%s","stream":true,"max_tokens":512,"messages":[{"role":"user","content":"raw %d %s"}]}`, streamModel(), n, strings.Repeat("z", n%101))
				streams[n] = rawStream(&http.Client{Transport: lines}, url, l.key, body, count)
			})
		}
		typescript := typescriptStreams(t, url, l.key, streamsOfAnSDK, func() { begun.Add(1) })
		require.Eventually(t, func() bool { return begun.Load() == streamsAtOnce && up.Stats().Open >= streamsAtOnce }, 25*time.Second, 20*time.Millisecond,
			"the streams do not begin")
		t.Logf("%d streams are open after %v", up.Stats().Open, time.Since(started).Round(time.Millisecond))

		before := served.Load()
		fleet[1].Kill(t)
		fleet[2].Signal(t, syscall.SIGTERM)
		drained := time.Now()
		require.NoError(t, fleet[2].Wait(), "the one that drains")
		t.Logf("drained in %v", time.Since(drained).Round(time.Millisecond))
		fleet[2].Upgrade(next)
		fleet[2].Start(t)
		open.Wait()
		require.Eventually(t, func() bool { // the one of the later version takes its share
			resp, err := http.Get(url + "/readyz")
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			return resp.Header.Get("X-Served-By") == "3"
		}, 10*time.Second, 50*time.Millisecond)
		time.Sleep(time.Second)
		halt()
		load.Wait()
		require.Greater(t, served.Load()-before, int64(100), "requests went on")
		_, err := fleet[2].Admin().UpdateTrain(t.Context(), l.train, client.TrainPatch{Name: text("Balanced by two versions")})
		require.NoError(t, err)
		require.Equal(t, 200, ask(t, fleet[0].URL, l.key), "the older version goes on")
		require.Contains(t, string(fleet[2].Log()), strconv.FormatInt(schema, 10))

		all := append(streams, typescript()...)
		broken := map[string]int{}
		whole := map[string]int{}
		for _, s := range all {
			switch {
			case s.Whole && s.Failed == "":
				require.Equal(t, pieces, s.Pieces)
				whole[s.Served]++
			default:
				require.Equal(t, "2", s.Served, "a stream of an instance that lives broke: %+v", s)
				broken[s.Served]++
			}
		}
		require.NotZero(t, whole["1"])
		require.NotZero(t, whole["3"])
		require.NotZero(t, broken["2"])
		t.Logf("whole by instance: %v; broken: %v; %d requests beside them", whole, broken, served.Load())
		reckon(t, fleet, l, up, append(all, see.list...), asked+1)
	}
}

func text(s string) *string { return &s }

// reckon holds the audit log and the sums of usage against what the upstream counted itself. others is how many requests were made besides those that the
// clients tell of.
func reckon(t *testing.T, fleet []*signalboxtest.Process, l lane, up *demo.Upstream, told []received, others int) {
	t.Helper()
	admin := fleet[2].Admin()
	upstream := map[string]demo.Request{}
	for _, r := range up.Requests() {
		require.True(t, r.Accepted)
		upstream[r.ID] = r
	}
	leads := map[string]received{}
	for _, r := range told {
		if r.Upstream != "" {
			leads[r.Request] = r
		}
	}
	var intents, ended map[string]bool
	var complete, input, output, unjoined int64
	read := func() {
		intents, ended = map[string]bool{}, map[string]bool{}
		complete, input, output, unjoined = 0, 0, 0, 0
		stream, err := admin.AuditEvents(t.Context(), client.AuditExportFilter{})
		require.NoError(t, err)
		for e, err := range stream.All() {
			require.NoError(t, err)
			lease, _ := e.Details["lease"].(string)
			switch e.Action {
			case "lease.granted":
				intents[lease] = true
			case "lease.outcome":
				require.False(t, ended[lease], "two outcomes of one lease")
				ended[lease] = true
				require.Equal(t, "complete", e.Details["usage"], "%+v", e)
				in, out := number(t, e.Details["input_tokens"]), number(t, e.Details["output_tokens"])
				complete, input, output = complete+1, input+in, output+out
				lead, ok := leads[e.RequestID]
				if !ok {
					unjoined++
					continue
				}
				there := upstream[lead.Upstream]
				require.True(t, there.Answered, "the upstream did not end this answer: %+v", e)
				require.EqualValues(t, there.Input, in)
				require.EqualValues(t, there.Output, out)
			}
		}
	}
	// The outcome of a request is stored after its client has the answer: sums that are the same before and after the log was read, and behind nothing, speak of the log that was read.
	var report client.UsageReport
	require.Eventually(t, func() bool {
		before, err := admin.Usage(t.Context(), client.UsageQuery{})
		require.NoError(t, err)
		if before.Behind > 0 {
			return false
		}
		read()
		report, err = admin.Usage(t.Context(), client.UsageQuery{})
		require.NoError(t, err)
		return report.Behind == 0 && report.Total == before.Total && unjoined >= int64(others)
	}, 30*time.Second, 100*time.Millisecond)
	for lease := range ended {
		require.True(t, intents[lease], "an outcome without an intent")
	}
	lost := int64(len(intents) - len(ended))
	require.NotZero(t, lost, "the killed instance had streams")
	require.EqualValues(t, others, unjoined, "outcomes of requests that no client knows")

	require.EqualValues(t, complete, report.Total.Complete)
	require.EqualValues(t, input, report.Total.InputTokens)
	require.EqualValues(t, output, report.Total.OutputTokens)
	require.Zero(t, report.Total.Failed+report.Total.Partial)
	require.EqualValues(t, lost, report.Total.Pending+report.Total.Unknown)

	// A quarter of an hour later nobody expects their outcomes any more.
	db, err := pgx.Connect(t.Context(), fleet[0].DatabaseURL())
	require.NoError(t, err)
	defer func() { _ = db.Close(context.Background()) }()
	_, err = db.Exec(t.Context(), `UPDATE usage_open SET granted_at = granted_at - 16 * 60 * 1000000::bigint`)
	require.NoError(t, err)
	report, err = admin.Usage(t.Context(), client.UsageQuery{})
	require.NoError(t, err)
	require.EqualValues(t, lost, report.Total.Unknown)
	require.Zero(t, report.Total.Pending)
	t.Logf("%d requests with an outcome: %d tokens in, %d out, as the upstream counted; %d of the killed instance are unknown", complete, input, output, lost)
	for i, p := range []*signalboxtest.Process{fleet[0], fleet[2]} {
		p.Signal(t, syscall.SIGTERM)
		require.NoError(t, p.Wait(), "instance %d", i)
	}
	verify := fleet[2].Command("audit", "verify")
	out, err := verify.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "none changed, missing or moved")
	requireNothingInternal(t, fleet)
}

func number(t *testing.T, v any) int64 {
	t.Helper()
	f, ok := v.(float64)
	require.True(t, ok, "%v", v)
	return int64(f)
}
