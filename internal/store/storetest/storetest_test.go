package storetest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestDatabasesAreApart: what one test writes, the next does not see.
func TestDatabasesAreApart(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			written, other := storetest.Open(t, e), storetest.Open(t, e)
			_, err := written.Append(t.Context(), store.Event{
				Actor: store.Actor{Kind: "system"}, Action: store.LeaseGranted, Target: store.Target{Kind: "credential"}, Outcome: store.OutcomePending,
			})
			require.NoError(t, err)
			for db, want := range map[*store.DB]int{written: 1, other: 0} {
				var n int
				require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM audit_batches`) }))
				require.Equal(t, want, n)
			}
		})
	}
}

// TestLine holds the broken line to what tests of outages believe of it, with a server that repeats what it hears.
func TestLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	heard := make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					text, err := in.ReadString('\n')
					if err != nil {
						return
					}
					heard <- text
					_, _ = io.WriteString(c, text)
				}
			}()
		}
	}()
	line := storetest.NewLine(t, "postgres://"+l.Addr().String()+"/db")
	u, err := url.Parse(line.URL)
	require.NoError(t, err)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", u.Host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	say := func(c net.Conn) error {
		_, err := io.WriteString(c, "ping\n")
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, err = io.ReadFull(c, make([]byte, 5))
		}
		return err
	}
	silent := func(err error) {
		t.Helper()
		var waited net.Error
		require.ErrorAs(t, err, &waited)
		require.True(t, waited.Timeout(), "the connection stays open and hears nothing: %v", err)
	}
	c := dial()
	require.NoError(t, say(c))
	<-heard
	line.SwallowAnswers()
	silent(say(c))
	require.Equal(t, "ping\n", <-heard, "the server hears it all the same")
	line.Swallow()
	silent(say(dial()))
	require.Empty(t, heard)
	line.Mend()
	silent(say(c)) // it has lost something
	require.NoError(t, say(dial()))
	c = dial()
	require.NoError(t, say(c))
	line.Cut()
	err = say(c)
	require.Error(t, err)
	var waited net.Error
	require.False(t, errors.As(err, &waited) && waited.Timeout(), "a cut is noticed at once")
}
