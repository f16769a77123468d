package broker

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

const (
	// bodyPause is how long a client may send nothing while its body is due.
	bodyPause = 30 * time.Second
	// bodyRate is the slowest that a body may come in the long run, in bytes a second.
	bodyRate = 1 << 10
	// bodyChunk is the first buffer of a body of unknown length.
	bodyChunk = 16 << 10
	// bodyFirst is the largest first buffer of a body of announced length: real prompts fit.
	bodyFirst = 128 << 10
	// poolMax is the largest buffer that is kept for the next request.
	poolMax = 1 << 20
)

// bodyStore hands out request bodies, pooled and under one memory budget.
type bodyStore struct {
	pool   sync.Pool
	held   atomic.Int64
	budget int64
}

// body is one request's body. The transport may go on reading it after it has returned an answer, so it counts its readers, and its
// buffer goes back to the pool with the last of them.
type body struct {
	store    *bodyStore
	buf      []byte
	reserved int64
	refs     atomic.Int32
	dropped  bool // by the request's own goroutine
}

func (b *body) bytes() []byte { return b.buf }
func (b *body) len() int      { return len(b.buf) }

func (b *body) unref() {
	if b.refs.Add(-1) > 0 {
		return
	}
	b.store.held.Add(-b.reserved)
	if cap(b.buf) > 0 && cap(b.buf) <= poolMax {
		buf := b.buf[:0]
		b.store.pool.Put(&buf)
	}
	b.buf = nil
}

// release lets go of the buffer as far as the request itself needs it. A second call does nothing.
func (b *body) release() {
	if !b.dropped {
		b.dropped = true
		b.unref()
	}
}

func (b *body) again() (io.ReadCloser, error) { return b.reader(), nil }

// reader returns the body for one attempt; closing it lets go of the buffer.
func (b *body) reader() io.ReadCloser {
	b.refs.Add(1)
	return &bodyReader{body: b, rest: b.buf}
}

type bodyReader struct {
	body   *body
	rest   []byte
	mu     sync.Mutex
	closed bool
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed, r.rest = true, nil
		r.body.unref()
	}
	return nil
}

// reserve takes n more bytes of the budget for a body.
func (s *bodyStore) reserve(b *body, n int64) error {
	if s.held.Add(n) > s.budget {
		s.held.Add(-n)
		return fault.New(fault.Unavailable, "memory_budget", "Signalbox is holding as many large requests as its memory budget allows. Send the request again in a moment.").After(1)
	}
	b.reserved += n
	return nil
}

// read takes the whole body in. Its buffer is held by one reference, which the caller releases.
func (s *bodyStore) read(w http.ResponseWriter, r *http.Request, limit int64) (_ *body, err error) {
	b := &body{store: s}
	b.refs.Store(1)
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, nil
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	// What is announced is not yet sent: the budget is charged as the body comes, or announcements alone could use it up.
	want := min(r.ContentLength, bodyFirst)
	if want < 0 {
		want = bodyChunk
	}
	if err := s.reserve(b, want); err != nil {
		return nil, err
	}
	b.buf = s.buffer(int(want))
	if err := s.fill(b, w, r, limit); err != nil {
		return nil, err
	}
	return b, nil
}

func (s *bodyStore) buffer(size int) []byte {
	if p, ok := s.pool.Get().(*[]byte); ok {
		if cap(*p) >= size {
			return (*p)[:0]
		}
	}
	return make([]byte, 0, size)
}

func (s *bodyStore) fill(b *body, w http.ResponseWriter, r *http.Request, limit int64) error {
	rc := http.NewResponseController(w)
	started := time.Now()
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	for {
		if len(b.buf) == cap(b.buf) && int64(len(b.buf)) == r.ContentLength {
			// The length is known and reached; one more read only fetches the end.
			var one [1]byte
			n, err := r.Body.Read(one[:])
			if n == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			return badBody(err)
		}
		if len(b.buf) == cap(b.buf) {
			if int64(len(b.buf)) > limit {
				return tooLarge(limit)
			}
			grown := min(2*cap(b.buf), int(limit)+1)
			if r.ContentLength > 0 {
				grown = min(grown, int(r.ContentLength))
			}
			if err := s.reserve(b, int64(grown-cap(b.buf))); err != nil {
				return err
			}
			next := make([]byte, len(b.buf), grown)
			copy(next, b.buf)
			b.buf = next
		}
		_ = rc.SetReadDeadline(time.Now().Add(bodyPause))
		n, err := r.Body.Read(b.buf[len(b.buf):cap(b.buf)])
		b.buf = b.buf[:len(b.buf)+n]
		if int64(len(b.buf)) > limit {
			return tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badBody(err)
		}
		if spent := time.Since(started); spent > bodyPause && float64(len(b.buf)) < bodyRate*spent.Seconds() {
			return badBody(os.ErrDeadlineExceeded)
		}
	}
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "body_too_large", "The request body is over "+size(limit)+", the limit of this Signalbox. Shorten the conversation, or ask the operator to raise --body-limit.")
}

func badBody(cause error) error {
	detail := "The request body ended before its announced length. Send the request again."
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		detail = "The request body came too slowly and was given up. Send the request again over a better line."
	}
	f := fault.New(fault.Invalid, "malformed_request", detail)
	if cause != nil {
		f = f.Because(errors.New("reading the request body failed"))
	}
	return f
}

func size(n int64) string {
	const digits = "KMG"
	i := -1
	for n >= 1024 && n%1024 == 0 && i < len(digits)-1 {
		n /= 1024
		i++
	}
	if i < 0 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	return strconv.FormatInt(n, 10) + " " + digits[i:i+1] + "iB"
}
