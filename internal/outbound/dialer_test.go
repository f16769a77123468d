package outbound_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
)

// TestDialerIsGuarded: a connection that is no HTTP meets the same guard, and only the allowed host is reached.
func TestDialerIsGuarded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	reached := make(chan struct{}, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached <- struct{}{}
			_ = c.Close()
		}
	}()
	address := l.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	for _, a := range []string{address, "localhost:" + port, "2130706433:" + port, "[::ffff:127.0.0.1]:" + port, "127.0.0.1", "127.0.0.1:0", ""} {
		c, err := outbound.NewDialer(outbound.Policy{}, outbound.Options{}).Dial(t.Context(), "tcp", a)
		require.ErrorIs(t, err, outbound.ErrRefused, a)
		require.Nil(t, c)
	}
	require.Empty(t, reached)
	p, err := outbound.ParsePolicy([]string{address})
	require.NoError(t, err)
	c, err := outbound.NewDialer(p, outbound.Options{}).Dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	<-reached
	require.NoError(t, c.Close())
}

func TestCheckServer(t *testing.T) {
	p, err := outbound.ParsePolicy([]string{"mail.lan:25", "10.1.0.0/16", "relay.lan"})
	require.NoError(t, err)
	for _, c := range []struct {
		host      string
		port      uint16
		encrypted bool
		ok        bool
	}{
		{"smtp.example.com", 465, true, true},
		{"smtp.example.com", 25, false, false}, // the login would cross the network readable
		{"mail.lan", 25, false, true},
		{"mail.lan", 587, false, false},
		{"relay.lan", 2525, false, true},
		{"10.1.2.3", 25, false, true},
		{"10.2.2.3", 25, true, false},
		{"127.0.0.1", 25, true, false},
		{"localhost", 25, true, false},
		{"[::1]", 25, true, false},
		{"2130706433", 25, true, false},
		{"smtp.example.com", 0, true, false},
		{"smtp.example.com\r\nX", 25, true, false},
		{"", 25, true, false},
	} {
		err := p.CheckServer(c.host, c.port, c.encrypted)
		name := c.host + ":" + strconv.Itoa(int(c.port))
		if c.ok {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, outbound.ErrRefused, name)
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, "upstream_refused", f.Code)
	}
}
