package broker_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// BenchmarkUseStream streams an answer from a TLS upstream, in pairs: through a bare reverse proxy over the same transport (the floor) and through /use, which looks for
// the lent secret in it. Its metric is the floor's throughput over ours, the median of the pairs. USE_STREAM_MIB is the size of an answer, 1024 when it is not set:
//
//	go test ./internal/broker -run '^$' -bench UseStream -benchtime 5x
func BenchmarkUseStream(b *testing.B) {
	size := int64(1 << 30)
	if n, err := strconv.ParseInt(os.Getenv("USE_STREAM_MIB"), 10, 64); err == nil {
		size = n << 20
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var record []byte
	for i := 0; len(record) < 1<<20; i++ {
		record = fmt.Appendf(record, `{"id":%d,"name":"Somebody with a name & more","text":"He said \"well\", and 100%% of it\n","url":"https:\/\/example.com\/%x"},`, i, i)
	}
	for name, piece := range map[string][]byte{"random": random, "json": record[:1<<20]} {
		b.Run(name, func(b *testing.B) {
			up := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
				for left := size; left > 0; left -= int64(len(piece)) {
					if _, err := w.Write(piece[:min(left, int64(len(piece)))]); err != nil {
						return
					}
				}
			}))
			defer up.Close()
			roots := x509.NewCertPool()
			roots.AddCert(up.Certificate())
			policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
			require.NoError(b, err)
			line := outbound.NewTransport(policy, outbound.Options{RootCAs: roots})
			d := newDoor(b, storetest.Open(b, store.SQLite), doorOptions{line: line})
			l := d.lend("big", vault.Draft{Meta: vault.Meta{BaseURL: up.URL}}, http.NotFoundHandler())
			to, err := url.Parse(up.URL)
			require.NoError(b, err)
			floor := httptest.NewServer(&httputil.ReverseProxy{Transport: line, FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(to)
				p.Out.Header.Set("Accept-Encoding", "identity")
			}})
			defer floor.Close()
			take := func(address, key string) time.Duration {
				req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
				require.NoError(b, err)
				req.Header.Set("Authorization", "Bearer "+key)
				started := time.Now()
				resp, err := http.DefaultClient.Do(req)
				require.NoError(b, err)
				n, err := io.Copy(io.Discard, resp.Body)
				require.NoError(b, err)
				require.NoError(b, resp.Body.Close())
				require.Equal(b, size, n)
				return time.Since(started)
			}
			take(floor.URL+"/x", "") // connections are there
			take(l.url+"/use/big/x", l.key)
			var ratios []float64
			var bare, ours time.Duration
			for i := 0; b.Loop(); i++ {
				first, second := take, take
				if i%2 == 0 {
					bare, ours = first(floor.URL+"/x", ""), second(l.url+"/use/big/x", l.key)
				} else {
					ours, bare = first(l.url+"/use/big/x", l.key), second(floor.URL+"/x", "")
				}
				ratios = append(ratios, float64(ours)/float64(bare))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(float64(size)/(1<<20)/bare.Seconds(), "floor-MiB/s")
			b.ReportMetric(float64(size)/(1<<20)/ours.Seconds(), "use-MiB/s")
		})
	}
}
