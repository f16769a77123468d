package app

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noting remembers until when its one connection was last allowed to be written to.
type noting struct {
	net.Listener
	until atomic.Pointer[time.Time]
}

type noted struct {
	net.Conn
	by *noting
}

func (n *noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	return noted{c, n}, err
}

func (n noted) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() { // with which the server lifts it when the answer was sent
		n.by.until.Store(&t)
	}
	return n.Conn.SetWriteDeadline(t)
}

// TestAnswersHaveAnEnd: what is no stream must be received in time; a stream lasts as long as it lasts.
func TestAnswersHaveAnEnd(t *testing.T) {
	s := serve(t, slog.LevelInfo)
	server := httptest.NewUnstartedServer(s.handler())
	line := &noting{Listener: server.Listener}
	server.Listener = line
	server.Start()
	defer server.Close()
	alone := &http.Transport{MaxConnsPerHost: 1}
	defer alone.CloseIdleConnections()
	for _, path := range []string{"/sign-in", "/v1/models", "/api/whoami", "/v1/messages", "/healthz", "/assets/style.css", "/v1/models"} {
		began := time.Now()
		line.until.Store(nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		resp, err := alone.RoundTrip(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		until := line.until.Load()
		if doorOf(path) == "v1" {
			require.Nil(t, until, path)
			continue
		}
		require.NotNil(t, until, path)
		require.WithinRange(t, *until, began, time.Now().Add(shortAnswer), path)
	}
}
