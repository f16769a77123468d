package broker

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

// useBody is a client's body on its way to an upstream that may answer meanwhile: bounded in how long the client may send nothing. The transport may read it until
// [useBody.end]. Unlike an upload's, its end by the transport does not touch the connection, whose answer may still be under way.
type useBody struct {
	src  io.ReadCloser
	line *http.ResponseController
	// failed is why it ended, where that is the client's doing.
	failed atomic.Pointer[fault.Error]

	mu     sync.Mutex
	ending atomic.Bool
	whole  bool
}

// Read implements io.Reader.
func (u *useBody) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.ending.Load():
		return 0, http.ErrBodyReadAfterClose
	case u.whole:
		return 0, io.EOF
	}
	_ = u.line.SetReadDeadline(time.Now().Add(bodyPause))
	if u.ending.Load() { // meanwhile
		_ = u.line.SetReadDeadline(time.Now())
	}
	n, err := u.src.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		u.whole = true
		_ = u.line.SetReadDeadline(time.Time{}) // from now on net/http listens for a client that goes away
	case err != nil && !u.ending.Load():
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = os.ErrDeadlineExceeded
		}
		u.failed.Store(fault.Of(badBody(err)))
	}
	return n, err
}

// Close implements io.Closer.
func (u *useBody) Close() error { return nil }

// end ends it: a read that is under way is broken off. What is left of the body may take a moment.
func (u *useBody) end() {
	u.ending.Store(true)
	_ = u.line.SetReadDeadline(time.Now())
	u.mu.Lock()
	defer u.mu.Unlock()
	until := time.Time{}
	if !u.whole {
		until = time.Now().Add(leftover)
	}
	_ = u.line.SetReadDeadline(until)
}
