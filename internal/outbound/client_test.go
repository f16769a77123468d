package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeadlines(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	})
	defer close(release)
	p := mustPolicy(t, "127.0.0.1")

	_, err := get(t, p, Options{HeaderTimeout: 30 * time.Millisecond}, u.URL)
	require.EqualError(t, Clean(err), "the upstream did not answer in time")
	require.False(t, NotSent(err))

	c := NewClient(p, Options{Timeout: 50 * time.Millisecond})
	defer c.CloseIdleConnections()
	resp, err := c.Get(u.URL + "/body")
	require.NoError(t, err)
	_, err = ReadCapped(resp, 10)
	require.EqualError(t, Clean(err), "the upstream did not answer in time")
}

func TestClientFollowsNoRedirect(t *testing.T) {
	u := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusTemporaryRedirect)
		fmt.Fprint(w, "moved")
	})
	c := NewClient(mustPolicy(t, "127.0.0.1"), Options{})
	defer c.CloseIdleConnections()
	for _, to := range []string{u.URL + "/next", "http://169.254.169.254/", "/next", "%zz://planted"} {
		before := u.requests.Load()
		resp, err := c.Post(u.URL+"?to="+url.QueryEscape(to), "text/plain", strings.NewReader("secret"))
		require.NoError(t, err, to)
		body, err := ReadCapped(resp, 100)
		require.NoError(t, err)
		require.Equal(t, "moved", string(body))
		require.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode)
		require.Equal(t, before+1, u.requests.Load())
	}
}

func TestReadCapped(t *testing.T) {
	var body io.Reader
	u := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
					return
				}
			}
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "bytes as they came")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		default:
			_, _ = io.Copy(w, body)
		}
	})
	c := NewClient(mustPolicy(t, "127.0.0.1"), Options{})
	defer c.CloseIdleConnections()
	read := func(path string, limit int64) (string, error) {
		resp, err := c.Get(u.URL + path)
		require.NoError(t, err)
		b, err := ReadCapped(resp, limit)
		return string(b), err
	}
	for size, ok := range map[int]bool{0: true, 9: true, 10: true, 11: false, 100_000: false} {
		body = strings.NewReader(strings.Repeat("x", size))
		got, err := read("/", 10)
		if ok {
			require.NoError(t, err)
			require.Len(t, got, size)
			continue
		}
		require.ErrorIs(t, err, ErrTooLarge)
		require.Empty(t, got)
	}
	_, err := read("/endless", 1<<20)
	require.ErrorIs(t, err, ErrTooLarge)
	require.EqualError(t, Clean(err), ErrTooLarge.Error())
	got, err := read("/gzip", 100)
	require.NoError(t, err)
	require.Equal(t, "bytes as they came", got, "nothing is decompressed behind the caller's back")
	_, err = read("/cut", 200)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestCleanTellsTheFailureWithoutURLOrUpstreamText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := l.Addr().String()
	require.NoError(t, l.Close())
	garbage := rawUpstream(t, "planted garbage instead of HTTP\r\n\r\n")
	nothing := rawUpstream(t, "")
	dns := newNameServer(map[string][][]netip.Addr{})
	c := NewClient(mustPolicy(t, "127.0.0.1"), Options{Resolver: dns.resolver(t)})
	defer c.CloseIdleConnections()
	for _, tc := range []struct {
		url, want string
		notSent   bool
	}{
		{"http://" + closed, "the upstream refused the connection", true},
		{"http://" + garbage, "the call to the upstream failed", false},
		{"http://" + nothing, "the upstream closed the connection before its answer was complete", false},
		{"https://" + garbage, "no trusted TLS connection to the upstream could be made", false},
		{"https://unknown.example.com", "the upstream's name does not exist", true},
	} {
		_, err := c.Get(tc.url + "/?code=planted")
		require.Error(t, err)
		require.Contains(t, err.Error(), "planted", "the raw error quotes its URL")
		require.EqualError(t, Clean(err), tc.want, tc.url)
		require.Equal(t, tc.notSent, NotSent(err), tc.url)
		require.ErrorIs(t, Clean(err), errors.Unwrap(Clean(err)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+closed, nil)
	require.NoError(t, err)
	_, err = c.Do(r)
	require.EqualError(t, Clean(err), "the call was cancelled")
	require.ErrorIs(t, Clean(err), context.Canceled)

	_, err = c.Get("https://10.0.0.1/?code=planted")
	require.ErrorIs(t, Clean(err), ErrRefused)
	require.NotContains(t, Clean(err).Error(), "planted")
	require.NoError(t, Clean(nil))
}

// rawUpstream answers whatever comes first with fixed bytes and closes.
func rawUpstream(t *testing.T, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// TestOverFollowsNothing: a client over somebody's line sends by it alone, and a redirect is an answer.
func TestOverFollowsNothing(t *testing.T) {
	asked := 0
	c := Over(lineFunc(func(r *http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"https://elsewhere.example/"}}, Body: http.NoBody, Request: r}, nil
	}))
	resp, err := c.Get("https://example.com/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Equal(t, 1, asked)
}

type lineFunc func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f lineFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
