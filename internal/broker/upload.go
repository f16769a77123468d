package broker

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

// upload is a client's body on its way to the upstream: bounded in size, and in how long it may stand still. The transport may read it after it has
// answered, until [upload.end].
type upload struct {
	src  io.ReadCloser
	line *http.ResponseController
	sent int64
	// failed is why it ended, where that is the client's doing.
	failed atomic.Pointer[fault.Error]

	mu     sync.Mutex
	ending atomic.Bool // nobody wants more of it
	whole  atomic.Bool // all of it was read
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.ending.Load():
		return 0, http.ErrBodyReadAfterClose
	case u.whole.Load(): // net/http asks once more; a deadline now would be one of the connection
		return 0, io.EOF
	}
	_ = u.line.SetReadDeadline(time.Now().Add(bodyPause))
	if u.ending.Load() { // meanwhile
		_ = u.line.SetReadDeadline(time.Now())
	}
	n, err := u.src.Read(p)
	u.sent += int64(n)
	if errors.Is(err, io.EOF) {
		u.whole.Store(true)
	}
	switch {
	case u.ending.Load():
	case u.sent > uploadMost:
		u.failed.Store(errUpload())
		return 0, errors.New("the file is too large")
	case err != nil && !errors.Is(err, io.EOF):
		u.failed.Store(fault.Of(badBody(err)))
	}
	return n, err
}

// Close implements io.Closer: nobody wants more of it. A read that is under way ends.
func (u *upload) Close() error {
	u.ending.Store(true)
	if !u.whole.Load() {
		_ = u.line.SetReadDeadline(time.Now())
	}
	return nil
}

// end is Close, and waits for a read that is under way. What is left of the body may take a moment, before the answer is written.
func (u *upload) end() {
	_ = u.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	until := time.Time{}
	if !u.whole.Load() {
		until = time.Now().Add(leftover)
	}
	_ = u.line.SetReadDeadline(until)
}
