package signalboxtest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// BenchmarkProxy sends small JSON requests through the whole app and listener; it is for profiling (-cpuprofile). The figures that count are
// those of `make bench`, which measures the process alone.
func BenchmarkProxy(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	up := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = up.Serve(l) }()
	b.Cleanup(func() { _ = up.Close() })
	for _, e := range storetest.Engines() {
		for _, conns := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", e, conns), func(b *testing.B) {
				box := signalboxtest.Start(b, e)
				lane := box.Lane(b, "http://"+l.Addr().String())
				body := `{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}`
				req := fmt.Appendf(nil, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", lane.Key, len(body), body)
				work := make(chan struct{})
				var wg sync.WaitGroup
				for range conns {
					wg.Go(func() {
						c, err := net.Dial("tcp", strings.TrimPrefix(box.URL, "http://"))
						if err != nil {
							b.Error(err)
							return
						}
						defer c.Close()
						in := bufio.NewReader(c)
						for range work {
							if _, err := c.Write(req); err != nil {
								b.Error(err)
							}
							resp, err := http.ReadResponse(in, nil)
							if err != nil || resp.StatusCode != 200 {
								b.Error(err, resp)
								return
							}
							_, _ = io.Copy(io.Discard, resp.Body)
						}
					})
				}
				b.ResetTimer()
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
			})
		}
	}
}
