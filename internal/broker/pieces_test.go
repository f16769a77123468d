package broker

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

func TestRoutes(t *testing.T) {
	for path, method := range map[string]string{
		"/v1/messages": "POST", "/v1/messages/count_tokens": "POST", "/v1/models": "GET", "/v1/models/claude-x.1@2": "GET",
		"/v1/messages/batches": "GET,POST", "/v1/messages/batches/msgbatch_01": "GET,DELETE", "/v1/messages/batches/msgbatch_01/results": "GET", "/v1/messages/batches/msgbatch_01/cancel": "POST",
		"/v1/files": "GET,POST", "/v1/files/file_01-x": "GET,DELETE", "/v1/files/file_01/content": "GET",
	} {
		on, ok := routeOf(path)
		require.True(t, ok, path)
		require.Equal(t, method, strings.Join(on.methods, ","), path)
	}
	for _, path := range []string{
		"", "/", "/v1", "/v1/", "/v1/messages/", "/v1//messages", "/v1/messages/../models", "/v1/models/", "/v1/models/..", "/v1/models/a/b", "/v1/models/a%2fb",
		"/v1/models/a..b", "/v1/messages/batches/", "/v1/messages/batches/a/", "/v1/messages/batches/a/content", "/v1/messages/batches/a/results/", "/v1/messages/batches/../files", "/v1/messages/batches/a%2fb", "/v1/messages/batches/a.b",
		"/v1/files/", "/v1/files/..", "/v1/files/a/results", "/v1/files/a/content/b", "/v1/files//content", "/v1/files/" + strings.Repeat("a", 129), "/v1/complete", "/v1/Messages", "/v1/messages%20", "/v1/messages;x", "/v1/organizations/me",
	} {
		_, ok := routeOf(path)
		require.False(t, ok, path)
	}
}

func TestClientKeys(t *testing.T) {
	key := "sbx_live_abc"
	for _, c := range []struct {
		h    http.Header
		want []string
	}{
		{http.Header{"Authorization": {"Bearer " + key}}, []string{key}},
		{http.Header{"Authorization": {"bearer " + key}}, []string{key}},
		{http.Header{"X-Api-Key": {key}}, []string{key}},
		{http.Header{"X-Api-Key": {key}, "Authorization": {"Bearer " + key}}, []string{key}},
		{http.Header{"X-Api-Key": {key}, "Authorization": {"Bearer placeholder"}}, []string{key, "placeholder"}},
		{http.Header{"X-Api-Key": {"placeholder"}, "Authorization": {"Bearer " + key}}, []string{key, "placeholder"}},
		{http.Header{"Authorization": {"Basic " + key}}, nil},
		{http.Header{"Authorization": {"Bearer "}, "X-Api-Key": {" "}}, nil},
		{http.Header{"X-Api-Key": {"a", "b", "c", "d", "e", "f"}}, []string{"a", "b", "c", "d"}},
	} {
		require.Equal(t, c.want, clientKeys(c.h))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0.5": 500 * time.Millisecond, "-1": 0, "NaN": 0, "soon": 0, "1e99": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		h := http.Header{}
		h.Set("Retry-After", v)
		require.Equal(t, want, retryAfter(h, now), v)
	}
}

func TestTailKnowsTheEndOfAnEvent(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{"", true}, {"data: x\n\n", true}, {"data: x\r\n\r\n", true}, {"data: x\r\r", true}, {"data: x\n", false}, {"data: x", false}, {"\n", false}, {"event: a\ndata: b\n\nev", false},
	} {
		for size := 1; size <= 5; size++ { // whatever the cuts between reads
			var tl tail
			for rest := []byte(c.text); len(rest) > 0; {
				n := min(size, len(rest))
				tl.add(rest[:n])
				rest = rest[n:]
			}
			require.Equal(t, c.want, tl.complete(), "%q by %d", c.text, size)
		}
	}
}

func TestBodyIsReadWholeOrRefused(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for _, length := range []int64{int64(len(payload)), -1} {
		s := &bodyStore{budget: 1 << 30}
		r := httptest.NewRequest("POST", "/v1/messages", iotest.OneByteReader(bytes.NewReader(payload[:5000])))
		want := payload[:5000]
		if length < 0 {
			r = httptest.NewRequest("POST", "/v1/messages", io.MultiReader(bytes.NewReader(payload)))
			want = payload
			r.ContentLength = -1
		} else {
			r.ContentLength = 5000
		}
		b, err := s.read(httptest.NewRecorder(), r, 1<<20)
		require.NoError(t, err)
		require.Equal(t, want, b.bytes())
		one, two := b.reader(), b.reader()
		require.Positive(t, s.held.Load())
		b.release()
		b.release()
		got, err := io.ReadAll(one)
		require.NoError(t, err)
		require.Equal(t, want, got, "a reader keeps the buffer alive after the request has let go of it")
		require.NoError(t, one.Close())
		require.NoError(t, one.Close())
		require.Positive(t, s.held.Load())
		require.NoError(t, two.Close())
		require.Zero(t, s.held.Load())
		_, err = two.Read(make([]byte, 1))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	}
}

func TestBodyLimits(t *testing.T) {
	code := func(err error) string {
		f, ok := fault.As(err)
		require.True(t, ok, "%v", err)
		return f.Code
	}
	s := &bodyStore{budget: 1 << 30}
	big := strings.Repeat("x", 2000)
	r := httptest.NewRequest("POST", "/", strings.NewReader(big))
	_, err := s.read(httptest.NewRecorder(), r, 1000)
	require.Equal(t, "body_too_large", code(err))
	require.ErrorContains(t, err, "1000 bytes")
	r = httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(big)))
	r.ContentLength = -1
	_, err = s.read(httptest.NewRecorder(), r, 1000)
	require.Equal(t, "body_too_large", code(err))
	r = httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("short"), iotest.ErrReader(errors.New("reset by peer"))))
	r.ContentLength = 100
	_, err = s.read(httptest.NewRecorder(), r, 1000)
	require.Equal(t, "malformed_request", code(err))
	require.Zero(t, s.held.Load())

	tight := &bodyStore{budget: 1500}
	first, err := tight.read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(big[:1000])), 10_000)
	require.NoError(t, err)
	_, err = tight.read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(big[:1000])), 10_000)
	f, _ := fault.As(err)
	require.Equal(t, "memory_budget", code(err))
	require.True(t, retryable(f))
	first.release()
	second, err := tight.read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(big[:1000])), 10_000)
	require.NoError(t, err)
	second.release()
	require.Zero(t, tight.held.Load())
}

func TestUpstreamHeadersThatStayBehind(t *testing.T) {
	dst := http.Header{}
	copyHeader(dst, http.Header{
		"Connection": {"keep-alive, X-Hop"}, "X-Hop": {"1"}, "Set-Cookie": {"a=b"}, "Alt-Svc": {"h3"}, "Strict-Transport-Security": {"max-age=1"}, "Transfer-Encoding": {"chunked"},
		"Request-Id": {"req_up"}, "Anthropic-Ratelimit-Requests-Remaining": {"5"}, "Retry-After": {"3"}, "Content-Type": {"application/json"}, "X-Should-Retry": {"true"},
	})
	require.Equal(t, http.Header{
		"Request-Id": {"req_up"}, "Anthropic-Ratelimit-Requests-Remaining": {"5"}, "Retry-After": {"3"}, "Content-Type": {"application/json"}, "X-Should-Retry": {"true"},
	}, dst)
}
