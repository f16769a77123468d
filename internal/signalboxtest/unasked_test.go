package signalboxtest_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestWhatUpstreamsSayUnaskedIsNotLogged: an upstream that goes on talking on a connection that lies idle, which net/http would write into
// the log word for word.
func TestWhatUpstreamsSayUnaskedIsNotLogged(t *testing.T) {
	const unasked = "PLANTED-unasked-words-of-an-upstream"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	said := make(chan error, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				time.Sleep(200 * time.Millisecond) // the connection lies idle only when the answer is through
				_, _ = io.WriteString(c, unasked)
				_, err = c.Read(make([]byte, 1)) // the other side ends it
				said <- err
			}()
		}
	}()
	p := signalboxtest.NewProcess(t, store.SQLite)
	p.Start(t)
	good := newLane(t, p.Admin(), "http://"+l.Addr().String(), secret.FromString("sk-ant-unasked"), "web", 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/v1/messages", strings.NewReader(`{"model":"claude","max_tokens":1,"messages":[]}`))
	require.NoError(t, err)
	req.Header.Set("X-Api-Key", good.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 200, resp.StatusCode, "%s", body)
	select {
	case err := <-said:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the connection was not ended")
	}
	require.NotContains(t, string(p.Log()), unasked)
	require.False(t, bytes.Contains(p.Log(), []byte("Unsolicited")), "%s", p.Log())
}
