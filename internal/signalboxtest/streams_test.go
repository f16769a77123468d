package signalboxtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
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

// echoStreams is an upstream that streams random events drawn from the request's hash, so that the client can tell whether a byte of either
// direction was lost or changed. It answers before it has read the body as often as after it: both happen in the world.
func echoStreams(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		f := w.(http.Flusher)
		for _, ev := range eventsFor(body) {
			if _, err := w.Write(ev); err != nil {
				return
			}
			f.Flush()
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + l.Addr().String()
}

func eventsFor(body []byte) [][]byte {
	sum := sha256.Sum256(body)
	rng := rand.New(rand.NewChaCha8(sum))
	out := [][]byte{[]byte("event: message_start\ndata: {\"sha256\":\"" + hex.EncodeToString(sum[:]) + "\"}\n\n")}
	for range 3 + rng.IntN(20) {
		text := make([]byte, rng.IntN(1200))
		for i := range text {
			text[i] = "abcdefghijklmnopqrstuvwxyz \\n{}[]"[rng.IntN(33)]
		}
		ev := []byte("event: content_block_delta\ndata: " + strconv.Quote(string(text)) + "\n\n")
		if rng.IntN(4) == 0 && len(ev) > 10 { // a cut within an event is nobody's business but the parser's
			cut := 1 + rng.IntN(len(ev)-2)
			out = append(out, ev[:cut])
			ev = ev[cut:]
		}
		out = append(out, ev)
	}
	return append(out, []byte("event: message_stop\ndata: {}\n\n"))
}

func wantStream(body []byte) []byte { return bytes.Join(eventsFor(body), nil) }

// TestStreamsArePassedByteForByte sends many streams at once, real prompts of 64 KB among them, and cancels some: no stream may be cut or
// changed, and a client that hangs up may not make an account rest.
func TestStreamsArePassedByteForByte(t *testing.T) {
	total := 10_000 // on each engine
	switch {
	case os.Getenv("SIGNALBOX_SOAK") != "":
		total = 500_000
	case testing.Short():
		total = 1000
	}
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		lane := box.Lane(t, echoStreams(t))
		large := strings.Repeat(`func main() {\n\tfmt.Println(\"the line is clear\")\n}\n`, 64<<10/54)
		var next, cancelled, bad atomic.Int64
		var wg sync.WaitGroup
		const workers = 48
		for w := range workers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(w)))
				c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}, Timeout: time.Minute}
				defer c.CloseIdleConnections()
				for n := next.Add(1); n <= int64(total) && bad.Load() < 5; n = next.Add(1) {
					prompt := fmt.Sprintf("request %d of %d: %x", n, seed, rng.Uint64())
					if rng.IntN(4) == 0 {
						prompt = large + prompt
					}
					body := []byte(`{"model":"claude-x","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"` + prompt + `"}]}`)
					if rng.IntN(20) == 0 {
						cancelled.Add(1)
						cancelStream(lane, c, body, rng)
						continue
					}
					if err := wholeStream(lane, c, body); err != nil {
						bad.Add(1)
						t.Errorf("request %d: %v", n, err)
					}
				}
			})
		}
		wg.Wait()
		require.Positive(t, cancelled.Load())
		for _, e := range lane.Explain(t) {
			require.Nil(t, e.CoolingUntil, "a client's cancel must cool nothing down: %s", e.Why)
			require.Equal(t, "usable", e.State, e.Why)
		}
		t.Logf("%d streams, %d of them cancelled by the client", total, cancelled.Load())
	})
}

func wholeStream(lane *signalboxtest.Lane, c *http.Client, body []byte) error {
	resp, err := c.Do(lane.Request(context.Background(), body))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", len(got), err)
	}
	if want := wantStream(body); resp.StatusCode != 200 || !bytes.Equal(got, want) {
		return fmt.Errorf("status %d, %d bytes, want %d: %.200q", resp.StatusCode, len(got), len(want), got)
	}
	return nil
}

func cancelStream(lane *signalboxtest.Lane, c *http.Client, body []byte, rng *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rng.IntN(2) == 0 {
		time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, cancel)
	}
	resp, err := c.Do(lane.Request(ctx, body))
	if err != nil {
		return
	}
	_, _ = bufio.NewReader(resp.Body).ReadString('\n')
	cancel()
	_ = resp.Body.Close()
}

// TestBrokenStreamsEndHonestly breaks the upstream's answer off between two events and within one.
func TestBrokenStreamsEndHonestly(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		lane := box.Lane(t, "")
		ask := func(model string) ([]byte, error) {
			resp, err := http.DefaultClient.Do(lane.Request(t.Context(), []byte(`{"model":"`+model+`","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"hello there, signalman"}]}`)))
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			require.Equal(t, 200, resp.StatusCode)
			return io.ReadAll(resp.Body)
		}
		got, err := ask("fake-stream-10-cut-boundary")
		require.NoError(t, err, "an event stream that breaks between events ends in order")
		events := strings.Split(strings.TrimSpace(string(got)), "\n\n")
		last := events[len(events)-1]
		require.True(t, strings.HasPrefix(last, "event: error\ndata: "), last)
		var e struct {
			Type  string
			Error struct{ Type, Message string }
		}
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(last, "event: error\ndata: ")), &e))
		require.Equal(t, "api_error", e.Error.Type)
		require.Contains(t, e.Error.Message, "send the request again")

		_, err = ask("fake-stream-10-cut")
		require.Error(t, err, "a stream that breaks within an event must not look whole")
		require.True(t, errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset"), "%v", err)

		require.Eventually(t, func() bool {
			n := 0
			for _, ev := range box.Leases(t) {
				if r, _ := ev.Details.Get("result"); ev.Action == store.LeaseOutcome && r.Text() == "upstream_broke" {
					n++
				}
			}
			return n == 2
		}, 5*time.Second, 20*time.Millisecond)
	})
}
