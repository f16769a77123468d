package storetest

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Line is a TCP relay before a PostgreSQL that can be cut, or swallow what is sent, as a broken network does. What was swallowed never
// arrives: a connection that lost something stays silent for ever, and new ones work once the line is mended.
type Line struct {
	// URL leads through the line to the database that it was made for.
	URL string

	target string
	mu     sync.Mutex
	state  int
	open   map[net.Conn]*bool // whether the connection has lost something
}

const (
	lineWhole = iota
	lineCut
	lineSwallows
	lineSwallowsAnswers
)

// NewLine relays to the server of a URL until the test ends.
func NewLine(t testing.TB, target string) *Line {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	line := &Line{target: u.Host, open: map[net.Conn]*bool{}}
	u.Host = l.Addr().String()
	line.URL = u.String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go line.relay(in)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		line.Cut()
	})
	return line
}

func (l *Line) relay(in net.Conn) {
	out, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		_ = in.Close()
		return
	}
	lost := new(bool)
	l.mu.Lock()
	if l.state == lineCut {
		l.mu.Unlock()
		_, _ = in.Close(), out.Close()
		return
	}
	l.open[in], l.open[out] = lost, lost
	l.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { l.copy(out, in, lost, false) })
	wg.Go(func() { l.copy(in, out, lost, true) })
	wg.Wait()
	l.mu.Lock()
	delete(l.open, in)
	delete(l.open, out)
	l.mu.Unlock()
}

func (l *Line) copy(to, from net.Conn, lost *bool, answers bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		if n > 0 && (l.state == lineSwallows || l.state == lineSwallowsAnswers && answers) {
			*lost = true
		}
		swallow := *lost && (answers || l.state != lineSwallowsAnswers)
		l.mu.Unlock()
		if swallow {
			n = 0
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if !swallow || !answers { // the client does not hear of an end that is swallowed
				_ = to.Close()
			}
			return
		}
	}
}

// Cut closes every connection and refuses new ones.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = lineCut
	for c := range l.open {
		_ = c.Close()
	}
}

// Swallow lets nothing through any more; connections stay open, and new ones are taken and hear nothing.
func (l *Line) Swallow() { l.set(lineSwallows) }

// SwallowAnswers lets everything through to the server and nothing back.
func (l *Line) SwallowAnswers() { l.set(lineSwallowsAnswers) }

// Mend lets new connections, and those that lost nothing, through again.
func (l *Line) Mend() { l.set(lineWhole) }

func (l *Line) set(state int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
}
