package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	events     = 50
	slowEvents = 20
	slowPause  = time.Second
)

var jsonAnswer = []byte(`{"id":"msg_01","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"` +
	strings.Repeat("All signals green. ", 40) + `"}],"stop_reason":"end_turn","usage":{"input_tokens":12,"output_tokens":200}}`)

func event(i int) []byte {
	return []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"token " + strconv.Itoa(i) + "\"}}\n\n")
}

// streamLength is the length of a whole stream of n events.
func streamLength(n int) int {
	total := 0
	for i := range n {
		total += len(event(i))
	}
	return total
}

func listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

// serveUpstream answers at once with the same bytes. The query chooses JSON, a stream, or a slow stream.
func serveUpstream(addr string) error {
	l, err := listen(addr)
	if err != nil {
		return err
	}
	var lines [events][]byte
	for i := range lines {
		lines[i] = event(i)
	}
	return (&http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		kind := r.URL.RawQuery
		if kind == "" {
			w.Header()["Content-Type"] = []string{"application/json"}
			w.Header()["Content-Length"] = []string{strconv.Itoa(len(jsonAnswer))}
			_, _ = w.Write(jsonAnswer)
			return
		}
		w.Header()["Content-Type"] = []string{"text/event-stream"}
		f := w.(http.Flusher)
		n := events
		if kind == "slow" {
			n = slowEvents
		}
		for i := range n {
			if kind == "slow" {
				time.Sleep(slowPause)
			}
			if _, err := w.Write(lines[i]); err != nil {
				return
			}
			f.Flush()
		}
	})}).Serve(l)
}

// serveFloor is the least that a proxy written in Go without thought does: httputil.ReverseProxy with one header set.
// With a journal it also does, before each request goes on, the least that durability costs: it writes one record into a file that is
// long enough already, and waits until the disk has it.
func serveFloor(addr, target, journal string) error {
	to, err := url.Parse(target)
	if err != nil {
		return err
	}
	l, err := listen(addr)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Set("X-Api-Key", "upstream-key")
		},
		Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 90 * time.Second, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	var handler http.Handler = proxy
	if journal != "" {
		j, err := openJournal(journal)
		if err != nil {
			return err
		}
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := j.append(); err != nil {
				http.Error(w, "journal", http.StatusInternalServerError)
				return
			}
			proxy.ServeHTTP(w, r)
		})
	}
	return (&http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}).Serve(l)
}

const (
	journalSize = 16 << 20
	recordSize  = 1 << 10 // an intent and an outcome
)

type journal struct {
	mu   sync.Mutex
	file *os.File
	at   int64
}

// openJournal makes a file whose blocks are all written, so that a sync moves no metadata.
func openJournal(path string) (*journal, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, journalSize)); err != nil {
		return nil, err
	}
	return &journal{file: f}, f.Sync()
}

func (j *journal) append() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.WriteAt(make([]byte, recordSize), j.at); err != nil {
		return err
	}
	j.at = (j.at + recordSize) % journalSize
	return syscall.Fdatasync(int(j.file.Fd()))
}
