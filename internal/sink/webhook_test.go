package sink_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestWebhookGetsEverything: whatever a receiver does, it has every record at last, in order, and the tree of what it has is the one that was signed.
func TestWebhookGetsEverything(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		codes := []int{500, 200, 503, 404, 200, 302}
		r := newReceiver(t, func(n int) int {
			if n <= len(codes) {
				return codes[n-1]
			}
			return 200
		})
		for n := range 700 {
			o.act(n)
		}
		s := o.webhook("siem", r.URL, nil)
		for n := range 700 {
			o.act(n)
		}
		size := o.complete(&r.shelf)
		require.Greater(t, size, int64(1400))
		_, ordered, _ := r.gaps(size)
		require.True(t, ordered)
		point, err := o.book.Latest(t.Context())
		require.NoError(t, err)
		var stored []tlog.Hash
		seen := map[int64]string{}
		for _, l := range r.leaves {
			seen[l.Leaf] = l.Hash
		}
		reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(at))
			for i, n := range at {
				out[i] = stored[n]
			}
			return out, nil
		})
		for i := range point.Size {
			raw, err := base64.StdEncoding.DecodeString(seen[i])
			require.NoError(t, err)
			hashes, err := tlog.StoredHashesForRecordHash(i, tlog.Hash(raw), reader)
			require.NoError(t, err)
			stored = append(stored, hashes...)
		}
		root, err := tlog.TreeHash(point.Size, reader)
		require.NoError(t, err)
		require.Equal(t, point.Root, root, "what was received leads to the signed root")

		require.Eventually(t, func() bool {
			at, _, err := o.Get(t.Context(), s.ID)
			return err == nil && at.Word(time.Now()) == "current" && at.Failures == 0 && at.Detail == ""
		}, 10*time.Second, 20*time.Millisecond)
		require.Positive(t, o.Sent()[sink.Batches{Kind: sink.Webhook, Outcome: "failed"}])
	})
}

// TestHangingSinkHoldsUpNobody: acts are recorded as quickly as without it, another sink goes on, and the failure is told in our words.
func TestHangingSinkHoldsUpNobody(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		median := func() time.Duration {
			var took []time.Duration
			for n := range 200 {
				took = append(took, o.act(n))
			}
			slices.Sort(took)
			return took[len(took)/2]
		}
		without := median()
		var healed atomic.Bool
		hangs := newReceiver(t, func(int) int {
			if healed.Load() {
				return 200
			}
			return 0
		})
		well := newReceiver(t, func(int) int { return 204 })
		s := o.webhook("hangs", hangs.URL, nil)
		o.webhook("well", well.URL, nil)
		require.Eventually(t, func() bool { hangs.mu.Lock(); defer hangs.mu.Unlock(); return hangs.posts > 0 }, 10*time.Second, 10*time.Millisecond)
		with := median()
		t.Logf("an act takes %s, and %s while a sink hangs", without, with)
		require.Less(t, with, 5*without+20*time.Millisecond)
		o.complete(&well.shelf)
		require.Zero(t, hangs.len())
		at, _, err := o.Get(t.Context(), s.ID)
		require.NoError(t, err)
		require.Positive(t, at.Behind)
		require.False(t, at.Since.IsZero())
		require.True(t, at.Late(time.Now().Add(time.Hour)))
		healed.Store(true)
		require.Eventually(t, func() bool { at, _, err = o.Get(t.Context(), s.ID); return err == nil && at.Failures > 0 }, 40*time.Second, 50*time.Millisecond)
		require.NotContains(t, at.Detail, planted)
		o.complete(&hangs.shelf)
	})
}

// TestPauseAndBegin: a paused sink gets nothing and goes on where it was; one that begins now has nothing of before.
func TestPauseAndBegin(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		ctx := t.Context()
		for n := range 10 {
			o.act(n)
		}
		require.NoError(t, o.book.Flush(ctx))
		before, err := o.book.Size(ctx)
		require.NoError(t, err)
		all, later := newReceiver(t, func(int) int { return 200 }), newReceiver(t, func(int) int { return 200 })
		s := o.webhook("all", all.URL, nil)
		o.webhook("later", later.URL, func(d *sink.Draft) { d.Beginning = false })
		o.complete(&all.shelf)
		paused := false
		_, _, err = o.Update(ctx, person{}, s.ID, sink.Patch{Enabled: &paused}, `"r7"`)
		require.Equal(t, fault.Precondition, fault.KindOf(err))
		at, _, err := o.Update(ctx, person{}, s.ID, sink.Patch{Enabled: &paused}, s.ETag())
		require.NoError(t, err)
		require.Equal(t, "paused", at.Word(time.Now()))
		had := all.len()
		for n := range 10 {
			o.act(n)
		}
		require.Eventually(t, func() bool { return later.len() >= 10 }, 20*time.Second, 20*time.Millisecond)
		require.GreaterOrEqual(t, later.leaves[0].Leaf, before)
		require.LessOrEqual(t, all.len()-had, 2, "what was on its way at the moment of the pause")
		paused = true
		_, _, err = o.Update(ctx, person{}, s.ID, sink.Patch{Enabled: &paused}, "")
		require.NoError(t, err)
		size := o.complete(&all.shelf)
		_, ordered, again := all.gaps(size)
		require.True(t, ordered)
		require.Zero(t, again)
		_, _, err = o.Update(ctx, person{}, s.ID, sink.Patch{Secrets: values("url", "https://elsewhere.example.com/"+planted)}, "")
		require.Equal(t, fault.Unprocessable, fault.KindOf(err), "a cursor belongs to its receiver")
		require.NoError(t, o.Delete(ctx, person{}, s.ID, ""))
		_, _, err = o.Get(ctx, s.ID)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		tried, err := o.Try(ctx, person{}, later.shelfSink(t, o))
		require.NoError(t, err)
		require.True(t, tried.Delivered, tried.Detail)
	})
}

func (r *receiver) shelfSink(t *testing.T, o *office) string {
	_, list, err := o.List(t.Context())
	require.NoError(t, err)
	for _, s := range list {
		if strings.HasPrefix(r.URL, s.Destination) {
			return s.ID
		}
	}
	t.Fatal("there is no such sink")
	return ""
}

// TestTheyRefuseWhatCannotBe: a draft that leads nowhere, or where nothing may go, is refused with the field that is wrong.
func TestTheyRefuseWhatCannotBe(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		for name, d := range map[string]sink.Draft{
			"/kind":                   {Kind: "pigeon", Name: "x"},
			"/carries":                {Kind: sink.Slack, Name: "x", Carries: sink.Records, Secrets: values("url", "https://hooks.example.com/"+planted)},
			"/secrets/url":            {Kind: sink.Webhook, Name: "x", Secrets: values("url", "http://10.0.0.1/"+planted, "signing_secret", signing())},
			"/secrets/signing_secret": {Kind: sink.Webhook, Name: "x", Secrets: values("url", "https://a.example.com/", "signing_secret", planted)},
			"/syslog":                 {Kind: sink.Syslog, Name: "x"},
			"/syslog/host":            {Kind: sink.Syslog, Name: "x", Syslog: &sink.SyslogServer{Transport: sink.TCP, Host: "logs.example.com", Port: 601}},
			"/syslog/transport":       {Kind: sink.Syslog, Name: "x", Syslog: &sink.SyslogServer{Transport: "pipe", Host: "localhost", Port: 601}},
			"/every_seconds":          {Kind: sink.Slack, Name: "x", Every: 1, Secrets: values("url", "https://hooks.example.com/"+planted)},
		} {
			_, _, err := o.Create(t.Context(), person{}, d)
			f, ok := fault.As(err)
			require.True(t, ok, "%s: %v", name, err)
			require.True(t, slices.ContainsFunc(f.Fields, func(x fault.Field) bool { return x.Pointer == name }), "%s: %+v", name, f)
			require.NotContains(t, err.Error(), planted)
		}
	})
}

// TestCheckpointsAreAnchored: Slack and a webhook get the newest checkpoint, again when it fails, and what they show verifies as it is.
func TestCheckpointsAreAnchored(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		ctx := t.Context()
		var mu sync.Mutex
		var posts []string
		fails := 2
		slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			if fails--; fails >= 0 {
				w.WriteHeader(500)
				return
			}
			posts = append(posts, string(b))
			_, _ = io.WriteString(w, "ok")
		}))
		defer slack.Close()
		_, s, err := o.Create(ctx, person{}, sink.Draft{Kind: sink.Slack, Name: "anchors", Secrets: values("url", slack.URL+"/services/"+planted)})
		require.NoError(t, err)
		require.Equal(t, sink.Checkpoints, s.Carries)
		r := newReceiver(t, func(int) int { return 200 })
		o.webhook("anchors too", r.URL, func(d *sink.Draft) { d.Carries = sink.Checkpoints })
		o.act(1)
		require.NoError(t, o.book.Flush(ctx))
		got := func() string { mu.Lock(); defer mu.Unlock(); return strings.Join(posts, "") }
		require.Eventually(t, func() bool { return got() != "" }, 30*time.Second, 20*time.Millisecond)
		for n := range 5 {
			o.act(n)
			require.NoError(t, o.book.Flush(ctx))
		}
		time.Sleep(200 * time.Millisecond)
		mu.Lock()
		require.Len(t, posts, 1, "one an interval")
		mu.Unlock()
		check := func(text string) {
			notes, err := audit.ParseAnchors(text)
			require.NoError(t, err, text)
			require.Len(t, notes, 1)
			report, err := audit.Verify(ctx, o.db, audit.VerifyOptions{Anchors: notes})
			require.NoError(t, err)
			require.True(t, report.OK(), "%v", report.Findings)
			require.Positive(t, report.Anchored)
		}
		text := slackMessage(t, got())
		check(text)
		// As people paste: what Slack shows has no fence, and copies end without a line end, on Windows with two characters for each.
		shown := strings.ReplaceAll(text, "```", "")
		check(shown)
		check(strings.TrimRight(shown, "\n"))
		check(strings.ReplaceAll(strings.TrimRight(shown, "\n"), "\n", "\r\n"))
		check("ada  10:15\n" + strings.TrimRight(shown, "\n") + "\nthanks!\n")
		require.Eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.ids) > 0 }, 20*time.Second, 20*time.Millisecond)
		r.mu.Lock()
		for _, body := range r.ids {
			check(body)
			check("2026-11-22T10:00:00Z host signalbox - audit.checkpoint " + body + "\n")
		}
		r.mu.Unlock()
		at, _, err := o.Get(ctx, s.ID)
		require.NoError(t, err)
		require.Positive(t, at.Position)
		require.False(t, at.Late(time.Now()))
		require.True(t, at.Late(time.Now().Add(3*time.Hour)), "an anchor that lacks a checkpoint for hours is late")
	})
}

// TestTwoInstancesOneKilled: of two processes one sends; when it dies as by kill -9 the other goes on, and nothing is missing.
func TestTwoInstancesOneKilled(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres {
			continue // one process has an SQLite database
		}
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			o := open(t, cfg, root, 3*time.Second)
			defer o.close()
			r := newReceiver(t, func(int) int { time.Sleep(20 * time.Millisecond); return 200 })
			o.webhook("siem", r.URL, nil)
			child := func() *exec.Cmd {
				c := exec.Command(os.Args[0], "-test.run=^TestChild$")
				c.Env = append(os.Environ(), "SINK_CHILD="+cfg.PostgresURL.Reveal(), "SINK_ROOT="+root.Text().Reveal())
				c.Stderr = os.Stderr
				require.NoError(t, c.Start())
				return c
			}
			stop := make(chan struct{})
			var acts sync.WaitGroup
			acts.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
						o.act(n)
						time.Sleep(2 * time.Millisecond)
					}
				}
			})
			first := child()
			for round := range 3 {
				had := r.len()
				require.Eventually(t, func() bool { return r.len() > had+50 }, 30*time.Second, 10*time.Millisecond, "round %d", round)
				second := child()
				time.Sleep(300 * time.Millisecond)
				require.NoError(t, first.Process.Kill())
				_ = first.Wait()
				first = second
			}
			close(stop)
			acts.Wait()
			size := o.complete(&r.shelf)
			require.NoError(t, first.Process.Kill())
			_ = first.Wait()
			missing, _, again := r.gaps(size)
			require.Empty(t, missing)
			t.Logf("%d records, %d of them twice, through three kills", size, again)
		})
	}
}

// TestChild is a process of TestTwoInstancesOneKilled, which ends it.
func TestChild(t *testing.T) {
	at := os.Getenv("SINK_CHILD")
	if at == "" {
		return // it was not asked for by that test
	}
	root, err := secret.ParseRootKey(secret.FromString(os.Getenv("SINK_ROOT")))
	require.NoError(t, err)
	o := open(t, store.Config{DataDir: t.TempDir(), PostgresURL: secret.FromString(at)}, root, 3*time.Second)
	o.Start(context.Background())
	time.Sleep(2 * time.Minute)
}
