package app

import (
	"errors"
	"net"
	"sync"
	"time"
)

// doorway is one listener behind which servers take turns, one at a time, so that the port stays open between them: a connection that comes meanwhile waits
// for the next one.
type doorway struct {
	net.Listener
	setDeadline func(time.Time) error // ends an Accept that waits
}

func newDoorway(l net.Listener) (doorway, error) {
	d, ok := l.(interface{ SetDeadline(t time.Time) error })
	if !ok {
		return doorway{}, errors.New("app: the listener must be one of TCP")
	}
	return doorway{l, d.SetDeadline}, nil
}

// turn returns the listener of one server. Its end is not the doorway's.
func (d doorway) turn() (net.Listener, error) {
	return &turn{doorway: d, over: make(chan struct{})}, d.setDeadline(time.Time{})
}

type turn struct {
	doorway
	over chan struct{}
	once sync.Once
}

// Accept implements net.Listener.
func (t *turn) Accept() (net.Conn, error) {
	select {
	case <-t.over:
		return nil, net.ErrClosed
	default:
	}
	c, err := t.doorway.Accept()
	if err == nil {
		return c, nil
	}
	select {
	case <-t.over:
		return nil, net.ErrClosed
	default:
		return nil, err
	}
}

// Close ends the turn, and an Accept that waits.
func (t *turn) Close() (err error) {
	t.once.Do(func() {
		close(t.over)
		err = t.setDeadline(time.Unix(1, 0))
	})
	return err
}
