package store_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// cutter is a TCP relay before a real PostgreSQL whose line can be cut.
type cutter struct {
	url  secret.Value
	mu   sync.Mutex
	off  bool
	open map[net.Conn]bool
}

func newCutter(t *testing.T, target secret.Value) *cutter {
	t.Helper()
	u, err := url.Parse(target.Reveal())
	require.NoError(t, err)
	upstream := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = l.Addr().String()
	c := &cutter{url: secret.FromString(u.String()), open: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); c.set(true) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.relay(in, upstream)
		}
	}()
	return c
}

func (c *cutter) relay(in net.Conn, upstream string) {
	out, err := net.Dial("tcp", upstream)
	if err != nil {
		_ = in.Close()
		return
	}
	c.mu.Lock()
	if c.off {
		c.mu.Unlock()
		_, _ = in.Close(), out.Close()
		return
	}
	c.open[in], c.open[out] = true, true
	c.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
	wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
	wg.Wait()
	c.mu.Lock()
	delete(c.open, in)
	delete(c.open, out)
	c.mu.Unlock()
}

// set cuts the line, or mends it.
func (c *cutter) set(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
	if off {
		for conn := range c.open {
			_ = conn.Close()
		}
	}
}
