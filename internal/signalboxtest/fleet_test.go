package signalboxtest_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

const longStream = `{"model":"fake-stream-2000-slow-20","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`

// stream opens a stream at an instance and returns a function that waits for its end and tells how long after since that was.
func stream(t *testing.T, url, key string) (ended func(since time.Time) time.Duration) {
	t.Helper()
	return streamOf(t, url, key, longStream)
}

// longestStream is one that lasts for a minute.
func longestStream(t *testing.T, url, key string) (ended func(since time.Time) time.Duration) {
	t.Helper()
	return streamOf(t, url, key, strings.ReplaceAll(longStream, "fake-stream-2000-slow-20", "fake-stream-300-slow-200"))
}

func streamOf(t *testing.T, url, key, body string) (ended func(since time.Time) time.Duration) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	req.Header.Set("X-Api-Key", key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	in := bufio.NewReader(resp.Body)
	for range 6 {
		_, err := in.ReadString('\n')
		require.NoError(t, err)
	}
	over := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		over <- time.Now()
		_ = resp.Body.Close()
	}()
	return func(since time.Time) time.Duration {
		select {
		case at := <-over:
			return at.Sub(since)
		case <-time.After(15 * time.Second):
			t.Fatal("the stream was not cut")
			return 0
		}
	}
}

func ask(t *testing.T, url, key string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", bytes.NewReader([]byte(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}`)))
	require.NoError(t, err)
	req.Header.Set("X-Api-Key", key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// TestInvariant09RevocationIsObeyedEverywhere takes away, one after the other, each thing that a use hangs on, while a stream is open on
// every instance: on PostgreSQL on two, the other one than where the act was acknowledged among them.
func TestInvariant09RevocationIsObeyedEverywhere(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		urls := []string{box.URL}
		if !box.Store.PostgresURL.IsZero() {
			urls = append(urls, box.Second(t).URL)
		}
		admin := box.Admin()
		ctx := context.Background()
		yes := true
		acts := []struct {
			name string
			do   func(l *signalboxtest.Lane) error
			then int
		}{
			{"revoke the key", func(l *signalboxtest.Lane) error { return admin.RevokeKey(ctx, l.Train, l.KeyID) }, 401},
			{"unlink the account", func(l *signalboxtest.Lane) error { return admin.Unlink(ctx, l.Train, l.Accounts[0].ID) }, 403},
			{"delete the credential", func(l *signalboxtest.Lane) error { return admin.DeleteCredential(ctx, l.Accounts[0].ID) }, 403},
			{"disable the train", func(l *signalboxtest.Lane) error {
				_, err := admin.UpdateTrain(ctx, l.Train, client.TrainPatch{Disabled: &yes})
				return err
			}, 401},
			{"delete the train", func(l *signalboxtest.Lane) error { return admin.DeleteTrain(ctx, l.Train, true) }, 401},
		}
		for _, act := range acts {
			lane := box.Lane(t, "")
			var waits []func(time.Time) time.Duration
			for _, u := range urls {
				require.Eventually(t, func() bool { return ask(t, u, lane.Key) == 200 }, 2*time.Second, 20*time.Millisecond, act.name)
				waits = append(waits, stream(t, u, lane.Key))
			}
			require.NoError(t, act.do(lane), act.name)
			acked := time.Now()
			for i, ended := range waits {
				took := ended(acked)
				require.Less(t, took, time.Second, "%s: the stream on instance %d", act.name, i)
			}
			for i, u := range urls {
				require.Equal(t, act.then, ask(t, u, lane.Key), "%s: a new use on instance %d", act.name, i)
			}
		}
		require.Eventually(t, func() bool {
			n := 0
			for _, e := range box.Leases(t) {
				if r, _ := e.Details.Get("result"); e.Action == store.LeaseOutcome && r.Text() == "revoked" {
					n++
				}
			}
			return n == len(acts)*len(urls)
		}, 5*time.Second, 50*time.Millisecond, "each cut is recorded as such")
	})
}

// TestRotationReachesEveryInstance rotates an account's key: what is lent afterwards is the new one, everywhere within a second.
func TestRotationReachesEveryInstance(t *testing.T) {
	box := signalboxtest.Start(t, store.Postgres)
	second := box.Second(t)
	lane := box.Lane(t, "")
	fresh := strings.NewReplacer(`"`, "", "+", "", "/", "").Replace(box.Planted.Secret(t, "rotated key"))
	box.Planted.Add("rotated key", fresh)
	box.Upstream.AddKey(secretOf(fresh))
	_, err := box.Admin().RotateCredential(t.Context(), lane.Accounts[0].ID, map[string]string{"api_key": fresh}, "test")
	require.NoError(t, err)
	box.Upstream.RemoveKey(lane.Accounts[0].Secret)
	require.Equal(t, 200, ask(t, box.URL, lane.Key), "the writing instance knows at once")
	time.Sleep(time.Second)
	require.Equal(t, 200, ask(t, second.URL, lane.Key))
}
