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

	mu    sync.Mutex
	ended bool
	whole atomic.Bool // all of it was read
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return 0, http.ErrBodyReadAfterClose
	}
	_ = u.line.SetReadDeadline(time.Now().Add(bodyPause))
	n, err := u.src.Read(p)
	u.sent += int64(n)
	if errors.Is(err, io.EOF) {
		u.whole.Store(true)
	}
	switch {
	case u.sent > uploadMost:
		u.failed.Store(errUpload())
		return 0, errors.New("the file is too large")
	case err != nil && !errors.Is(err, io.EOF):
		u.failed.Store(fault.Of(badBody(err)))
	}
	return n, err
}

// Close implements io.Closer. The body is the server's to close.
func (u *upload) Close() error { return nil }

// end lets no read begin any more, and ends one that is under way.
func (u *upload) end() {
	if !u.whole.Load() {
		_ = u.line.SetReadDeadline(time.Now())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	_ = u.line.SetReadDeadline(time.Time{})
}
