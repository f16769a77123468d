package signalboxtest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
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

// BenchmarkBackup takes, checks and restores a backup of 100,000 credentials and a million audit events with the real binary, on and from each engine, and
// tells how long each took, how much memory, and how large the file is. One round is enough: -benchtime 1x.
func BenchmarkBackup(b *testing.B) {
	const credentials, events = 100_000, 1_000_000
	for _, from := range storetest.Engines() {
		b.Run(string(from), func(b *testing.B) {
			p := signalboxtest.NewProcess(b, from)
			p.Start(b)
			rows := []byte("Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n")
			for i := range credentials {
				rows = fmt.Appendf(rows, "entry %06d,https://host%d.example.com,user%d@example.com,secret-%d,,false,false,team,some words of a note\n", i, i, i, i)
			}
			_, err := p.Admin().Import(b.Context(), client.ImportDraft{Files: []client.ImportFile{{Name: "p.csv", Content: rows}}})
			require.NoError(b, err)
			p.Kill(b)
			db := p.OpenBeside(b)
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for range events / 64 {
						if _, err := db.Append(b.Context(), store.Event{
							Actor: store.Actor{Kind: "client_key", ID: store.NewID("key"), Name: "laptop"}, OnBehalf: "train_x", Action: store.LeaseGranted,
							Target: store.Target{Kind: "credential", ID: store.NewID("cred"), Name: "team"}, Outcome: store.OutcomePending, RequestID: store.NewID("req"),
							Details: store.Details{store.Str("lease", store.NewID("lease")), store.Str("model", "claude"), store.Int("attempt", 1)},
						}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			file := filepath.Join(b.TempDir(), "b.sealed")
			measured := func(q *signalboxtest.Process, what string, args ...string) {
				began := time.Now()
				cmd := q.Command(args...)
				out, err := cmd.CombinedOutput()
				require.NoError(b, err, "%s", out)
				most := int64(0)
				if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
					most = use.Maxrss >> 10
				}
				b.Logf("%s: %v, %v of CPU, at most %d MiB", what, time.Since(began).Round(10*time.Millisecond), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(10*time.Millisecond), most)
			}
			for range b.N {
				measured(p, "backup of "+string(from), "backup", "--output", file, "--force")
				info, err := os.Stat(file)
				require.NoError(b, err)
				b.Logf("the file has %d MiB", info.Size()>>20)
				measured(p, "check", "restore", "--check", "--input", file)
				for _, into := range storetest.Engines() {
					measured(p.Elsewhere(b, into), "restore into "+string(into), "restore", "--input", file)
				}
			}
		})
	}
}
