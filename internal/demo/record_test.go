package demo_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
)

func TestRequestsAreRecordedWithinBounds(t *testing.T) {
	now := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	u, url := start(t, demo.Options{Keep: 3, KeepBody: 10, Clock: func() time.Time { return now }})
	for i := range 5 {
		resp, _, err := exchange(t, fmt.Sprintf("%s/v1/messages?beta=true&n=%d", url, i), body("claude-x", false), "X-Custom", "kept", "Cookie", "c=planted", "Authorization", "Bearer planted-client-key")
		require.NoError(t, err)
		if i == 4 {
			require.Equal(t, resp.Header.Get("Request-Id"), u.Requests()[2].ID)
		}
	}
	got := u.Requests()
	require.Len(t, got, 3)
	for i, r := range got {
		require.Equal(t, fmt.Sprintf("beta=true&n=%d", i+2), r.Query, "the latest, oldest first")
		require.Equal(t, "/v1/messages", r.Path)
		require.Equal(t, "POST", r.Method)
		require.Equal(t, now, r.At)
		require.Equal(t, url, "http://"+r.Host)
		require.True(t, r.Accepted)
		require.Equal(t, "kept", r.Header.Get("X-Custom"))
		require.Equal(t, testKey, r.Credential().Reveal())
		require.Equal(t, "Bearer planted-client-key", r.Credentials["Authorization"][0].Reveal())
		require.Equal(t, "c=planted", r.Credentials["Cookie"][0].Reveal())
		require.Equal(t, len(body("claude-x", false)), r.BodySize)
		require.Equal(t, sha256.Sum256([]byte(body("claude-x", false))), r.BodySHA256)
		require.Equal(t, body("claude-x", false)[:10], string(r.Body))
		printed := fmt.Sprintf("%v %+v %#v", r, r, r)
		require.NotContains(t, printed, "planted", "a record can be printed")
		require.NotContains(t, printed, testKey)
	}
	_, _, err := exchange(t, url+"/v1/messages", "{}", "X-Api-Key", "wrong")
	require.NoError(t, err)
	refused := u.Requests()[2]
	require.False(t, refused.Accepted)
	require.Equal(t, "wrong", refused.Credential().Reveal())
	require.Equal(t, 6, u.Stats().Received)
	u.Forget()
	require.Empty(t, u.Requests())

	silent, url := start(t, demo.Options{})
	_, _, err = exchange(t, url+"/v1/messages", body("claude-x", false))
	require.NoError(t, err)
	require.Empty(t, silent.Requests(), "nothing is recorded unless asked for")
	require.Equal(t, 1, silent.Stats().Received)
}

func TestCancelledClientsAreCounted(t *testing.T) {
	u, url := start(t, demo.Options{})
	for i, model := range []string{"fake-stream-1000-slow-10", "fake-hang", "fake-slow-600000"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			resp, err := post(t, ctx, url+"/v1/messages", body(model, i == 0))
			if err == nil {
				_, _ = io.Copy(io.Discard, iotest.OneByteReader(resp.Body))
				resp.Body.Close()
			}
		}()
		require.Eventually(t, func() bool { return u.Stats().Open == 1 }, 5*time.Second, time.Millisecond)
		cancel()
		<-done
		require.Eventually(t, func() bool { return u.Stats().Open == 0 }, 5*time.Second, time.Millisecond)
		require.Equal(t, i+1, u.Stats().Cancelled, model)
	}
	_, _, err := exchange(t, url+"/v1/messages", body("fake-cut", true))
	require.Error(t, err)
	require.Equal(t, 3, u.Stats().Cancelled, "a cut of ours is no cancel of the client")
}

func TestShutdownWaitsThenCuts(t *testing.T) {
	u := demo.NewUpstream(demo.Options{Keys: []secret.Value{secret.FromString(testKey)}})
	first, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	second, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 2)
	for _, l := range []net.Listener{first, second} {
		go func() { served <- u.Serve(l) }()
	}
	finished := make(chan error, 2)
	for model, l := range map[string]net.Listener{"fake-stream-10-slow-10": first, "fake-stream-1000-slow-600": second} {
		go func() {
			resp, err := post(t, context.Background(), "http://"+l.Addr().String()+"/v1/messages", body(model, true))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			finished <- err
		}()
	}
	require.Eventually(t, func() bool { return u.Stats().Open == 2 }, 5*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, u.Shutdown(ctx), context.DeadlineExceeded)
	require.Zero(t, u.Stats().Open)
	require.NoError(t, <-finished, "the short stream was let finish")
	require.Error(t, <-finished, "the long one was cut")
	require.NoError(t, <-served)
	require.NoError(t, <-served)
	_, err = net.Dial("tcp", first.Addr().String())
	require.Error(t, err)
}
