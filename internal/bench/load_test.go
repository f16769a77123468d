package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPeerAcceptsWholeAnswersOnly holds the load generator against a real server: an answer that is cut, too short or refused is an error.
func TestPeerAcceptsWholeAnswersOnly(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.RawQuery {
		case "short":
			_, _ = io.WriteString(w, "abc")
		case "refused":
			w.WriteHeader(429)
			_, _ = io.WriteString(w, "abcde")
		case "chunks":
			for _, c := range []string{"ab", "cde"} {
				_, _ = io.WriteString(w, c)
				_ = http.NewResponseController(w).Flush()
			}
		case "cut":
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			c, _, _ := http.NewResponseController(w).Hijack()
			_ = c.Close()
		default:
			if len(body) == 2 && r.Header.Get("X-Api-Key") == "key" {
				_, _ = io.WriteString(w, "abcde")
			}
		}
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	for query, ok := range map[string]bool{"": true, "?chunks": true, "?short": false, "?refused": false, "?cut": false} {
		p, err := dial(addr)
		require.NoError(t, err)
		s := shape{query: query, body: "{}", want: 5}
		for range 2 {
			err = p.do(s.bytes(addr, "key"), s.want)
			require.Equal(t, ok, err == nil, "%s: %v", query, err)
			if err != nil {
				break
			}
		}
		_ = p.conn.Close()
	}
}

func TestMedianAndPercentile(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
	r := result{requests: 4, cpu: 4 * time.Millisecond, lat: []time.Duration{4, 3, 2, 1}}
	require.Equal(t, time.Duration(3), r.percentile(.5))
	require.Equal(t, time.Duration(4), r.percentile(.99))
	require.Equal(t, 1000.0, r.cpuPerRequest())
}
