package broker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"signalbox.dev/signalbox/internal/usage"
)

// ending is how the copying of an answer ended.
type ending int

const (
	clean         ending = iota
	clientGone           // the client took no more
	brokenBetween        // the upstream broke off an event stream between two events
	brokenWithin         // the upstream broke off inside an event, or anything that is no event stream
)

// pump copies the answer's body to the client: each read is passed on at once, nothing is added or held back. What passed is shown to those who listen.
func pump(w http.ResponseWriter, resp *http.Response, heard ears) (int64, ending) {
	events := isEventStream(resp.Header)
	pool := &replyBuffers
	if events || resp.ContentLength < 0 {
		pool = &streamBuffers
	}
	return copyBody(w, resp.Body, pool, resp.ContentLength < 0, events, heard)
}

func copyBody(w http.ResponseWriter, src io.Reader, pool *sync.Pool, flush, events bool, heard ears) (sent int64, end ending) {
	var flusher http.Flusher
	if flush {
		flusher, _ = w.(http.Flusher)
	}
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	if flusher != nil {
		flusher.Flush() // the client learns of the answer before its first byte
	}
	var tail tail
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			sent += int64(m)
			if werr == nil && flusher != nil {
				flusher.Flush()
			}
			heard.add((*buf)[:n]) // also what the client takes no more: it costs the same
			if werr != nil {
				return sent, clientGone
			}
			if events {
				tail.add((*buf)[:n])
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return sent, clean
		case err != nil && events && tail.complete():
			return sent, brokenBetween
		case err != nil:
			return sent, brokenWithin
		}
	}
}

// tail remembers the last bytes of an event stream: an event ends with an empty line (WHATWG HTML, section 9.2).
type tail struct {
	last [4]byte
	any  bool
}

func (t *tail) add(p []byte) {
	t.any = true
	if len(p) >= 4 {
		copy(t.last[:], p[len(p)-4:])
		return
	}
	keep := 4 - len(p)
	copy(t.last[:keep], t.last[len(p):])
	copy(t.last[keep:], p)
}

func (t *tail) complete() bool {
	s := string(t.last[:])
	return !t.any || strings.HasSuffix(s, "\n\n") || s == "\r\n\r\n" || strings.HasSuffix(s, "\r\r")
}

func isEventStream(h http.Header) bool {
	kind := h.Get("Content-Type")
	coding := h.Get("Content-Encoding")
	return len(kind) >= 17 && strings.EqualFold(kind[:17], "text/event-stream") && (coding == "" || strings.EqualFold(coding, "identity"))
}

// sendEvent ends an event stream in the shape in which the upstream itself reports an error on the way.
func sendEvent(w http.ResponseWriter, cause wireCause, rid string) error {
	data, err := json.Marshal(wireError{Type: "error", Error: cause, RequestID: rid})
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("event: error\ndata: " + string(data) + "\n\n")); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// counter returns what counts the cost of an answer: a success of the one path that costs tokens. An answer that cannot be read counts as unknown.
func counter(r *http.Request, resp *http.Response) (count *usage.Counter, costs bool) {
	if r.URL.Path != "/v1/messages" || resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, false
	}
	if isEventStream(resp.Header) {
		return usage.New(true), true
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	coding := resp.Header.Get("Content-Encoding")
	if strings.EqualFold(strings.TrimSpace(kind), "application/json") && (coding == "" || strings.EqualFold(coding, "identity")) {
		return usage.New(false), true
	}
	return nil, true
}

// abort breaks the connection off, so that a client cannot take a cut answer for a whole one.
func abort(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		// A reset, not an end: to an HTTP/1.0 client the end of the connection is the end of the answer.
		if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler) // net/http's documented way, for HTTP/2
}
