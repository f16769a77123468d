package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// shape is one kind of request.
type shape struct {
	name  string
	query string
	body  string
	want  int // bytes of the answer's body
}

func shapes() []shape {
	small := `{"model":"claude-x","max_tokens":64,"messages":[{"role":"user","content":"Is the line clear?"}]}`
	prompt := strings.Repeat(`func main() {\n\tfmt.Println(\"the quick brown fox\")\n}\n`, 64<<10/55)
	large := `{"model":"claude-x","max_tokens":64,"system":"` + prompt + `","messages":[{"role":"user","content":"Is the line clear?"}]}`
	return []shape{
		{name: "JSON", body: small, want: len(jsonAnswer)},
		{name: "SSE 50", query: "?stream", body: small, want: streamLength(events)},
		{name: "64 KB prompt", body: large, want: len(jsonAnswer)},
	}
}

func (s shape) bytes(addr, key string) []byte {
	return []byte("POST /v1/messages" + s.query + " HTTP/1.1\r\nHost: " + addr + "\r\nContent-Type: application/json\r\nAnthropic-Version: 2023-06-01\r\n" +
		"User-Agent: bench/1\r\nX-Api-Key: " + key + "\r\nContent-Length: " + strconv.Itoa(len(s.body)) + "\r\n\r\n" + s.body)
}

// requests returns one request for each key of the proxy.
func (s shape) requests(p *proxy) [][]byte {
	if len(p.keys) == 0 {
		return [][]byte{s.bytes(p.addr, p.key)}
	}
	out := make([][]byte, len(p.keys))
	for i, key := range p.keys {
		out[i] = s.bytes(p.addr, key)
	}
	return out
}

// peer is one connection; it speaks just enough HTTP/1.1 that the load costs little beside the proxy.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(addr string) (*peer, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &peer{conn: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends one request and reads the whole answer; anything but a complete 200 of the wanted length is an error.
func (p *peer) do(req []byte, want int) error {
	_ = p.conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := p.conn.Write(req); err != nil {
		return err
	}
	status, err := p.r.ReadString('\n')
	if err != nil {
		return err
	}
	length, chunked := -1, false
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	var n int64
	if chunked {
		if n, err = io.Copy(io.Discard, httputil.NewChunkedReader(p.r)); err == nil {
			_, err = p.r.ReadString('\n') // the end of the trailer
		}
	} else {
		n, err = io.CopyN(io.Discard, p.r, int64(length))
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200") || int(n) != want {
		return fmt.Errorf("a wrong answer: %s, %d bytes instead of %d", strings.TrimSpace(status), n, want)
	}
	return nil
}

// result of one measurement.
type result struct {
	requests int
	broken   int // answers that were not whole; only the floor may have any
	wall     time.Duration
	cpu      time.Duration
	lat      []time.Duration
}

func (r result) cpuPerRequest() float64 {
	return float64(r.cpu.Nanoseconds()) / float64(r.requests) / 1000
}

func (r result) percentile(p float64) time.Duration {
	if len(r.lat) == 0 {
		return 0
	}
	slices.Sort(r.lat)
	return r.lat[min(len(r.lat)-1, int(p*float64(len(r.lat))))]
}

// closed keeps conns requests under way for d.
func closed(p *proxy, s shape, conns int, d time.Duration) (result, error) {
	reqs := s.requests(p)
	peers := make([]*peer, conns)
	for i := range peers {
		var err error
		if peers[i], err = dial(p.addr); err != nil {
			return result{}, err
		}
	}
	defer func() {
		for _, pe := range peers {
			_ = pe.conn.Close()
		}
	}()
	run := func(d time.Duration) (result, error) {
		var res result
		var mu sync.Mutex
		var first error
		var wg sync.WaitGroup
		cpu, start := p.cpu(), time.Now()
		stop := start.Add(d)
		for i, pe := range peers {
			wg.Go(func() {
				var lat []time.Duration
				for time.Now().Before(stop) {
					t := time.Now()
					if err := pe.do(reqs[rand.IntN(len(reqs))], s.want); err != nil {
						_ = pe.conn.Close()
						again, derr := dial(p.addr)
						mu.Lock()
						res.broken++
						if !p.mayBreak || derr != nil {
							first = errors.Join(first, err, derr)
						}
						failed := first != nil
						mu.Unlock()
						if failed {
							return
						}
						pe, peers[i] = again, again
						continue
					}
					lat = append(lat, time.Since(t))
				}
				mu.Lock()
				res.lat = append(res.lat, lat...)
				mu.Unlock()
			})
		}
		wg.Wait()
		res.requests, res.wall, res.cpu = len(res.lat), time.Since(start), p.cpu()-cpu
		return res, first
	}
	if _, err := run(d / 5); err != nil { // warm-up
		return result{}, err
	}
	return run(d)
}

// open sends rate requests a second whatever the answers do, and counts the wait for a free connection into the latency.
func open(p *proxy, s shape, rate int, d time.Duration) (result, error) {
	req := s.bytes(p.addr, p.key)
	idle := make(chan *peer, 4096)
	var res result
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	cpu, start := p.cpu(), time.Now()
	n := int(d.Seconds() * float64(rate))
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			var pe *peer
			var err error
			select {
			case pe = <-idle:
			default:
				pe, err = dial(p.addr)
			}
			if err == nil {
				err = pe.do(req, s.want)
			}
			took := time.Since(due)
			mu.Lock()
			if err != nil {
				res.broken++
				if !p.mayBreak {
					first = errors.Join(first, err)
				}
			} else {
				res.lat = append(res.lat, took)
			}
			mu.Unlock()
			if err == nil {
				idle <- pe
			}
		})
	}
	wg.Wait()
	res.requests, res.wall, res.cpu = len(res.lat), time.Since(start), p.cpu()-cpu
	close(idle)
	for pe := range idle {
		_ = pe.conn.Close()
	}
	return res, first
}

// slow opens n streams at once that last about 20 s, and returns the memory that each costs while all are open.
func slow(p *proxy, n int) (perStream int64, _ result, _ error) {
	s := shape{query: "?slow", body: shapes()[0].body, want: streamLength(slowEvents)}
	req := s.bytes(p.addr, p.key)
	before := p.rss()
	var opened, failed atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	cpu, start := p.cpu(), time.Now()
	for range n {
		wg.Go(func() {
			pe, err := dial(p.addr)
			if err == nil {
				defer pe.conn.Close()
				opened.Add(1)
				err = pe.do(req, s.want)
			}
			if err != nil {
				failed.Add(1)
				mu.Lock()
				first = err
				mu.Unlock()
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var peak int64
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			if failed.Load() > 0 {
				return 0, result{}, fmt.Errorf("%d of %d slow streams failed: %w", failed.Load(), n, first)
			}
			return (peak - before) / int64(n), result{requests: n, wall: time.Since(start), cpu: p.cpu() - cpu}, nil
		case <-ctx.Done():
			return 0, result{}, ctx.Err()
		case <-time.After(500 * time.Millisecond):
			if opened.Load() == int64(n) {
				peak = max(peak, p.rss())
			}
		}
	}
}
