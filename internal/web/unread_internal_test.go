package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/a-h/templ"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
)

// pipes is a listener whose connections hold nothing: what is not read is not sent. In a bubble of synctest its deadlines pass at once.
type pipes struct {
	conns chan net.Conn
	end   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.end:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// asked sends a request to a handler and returns the connection, of which nothing was read, and when the server has ended it.
func asked(t *testing.T, h http.Handler) (net.Conn, chan time.Time) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), end: make(chan struct{})}
	ended := make(chan time.Time, 1)
	server := &http.Server{Handler: h, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			ended <- time.Now()
		}
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(p) }()
	ours, theirs := net.Pipe()
	p.conns <- theirs
	_, err := io.WriteString(ours, "GET /list HTTP/1.1\r\nHost: signalbox\r\n\r\n")
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = ours.Close()
		close(p.end)
		<-served
		require.NoError(t, server.Close())
	})
	return ours, ended
}

func page(text string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, text); return err })
}

// TestUnreadPageIsLetGo: a browser that asks for a page and does not read holds nothing for longer than a page may take, be it large or small.
func TestUnreadPageIsLetGo(t *testing.T) {
	for name, size := range map[string]int{"large": 1 << 20, "fits into the server's buffer": 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &site{Config: Config{Log: slog.New(slog.DiscardHandler)}}
				began := time.Now()
				_, ended := asked(t, s.dress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s.show(w, r, http.StatusOK, page(strings.Repeat("x", size)))
				})))
				require.Equal(t, pageTaken, (<-ended).Sub(began))
			})
		})
	}
}

// sending is a site that sends a file of so many pages of rows of a hundred bytes; from the page that fails on it cannot.
func sending(pages, fails int) (*site, http.Handler) {
	s := &site{Config: Config{Log: slog.New(slog.DiscardHandler)}, sheets: &sheets{most: sheetsMost, mostEach: sheetsEach, each: map[string]int{}}}
	s.sheets.again = func(context.Context, string) (identity.Caller, error) { return identity.Caller{Role: "again"}, nil }
	f := sheet{name: "rows", head: []string{"id", "text"}, page: func(_ context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
		n := len(cursor)
		switch {
		case n == fails:
			return nil, "", errors.New("the database is away")
		case n > 0 && v.Role != "again":
			return nil, "", errors.New("a page was read with the rights of before")
		}
		for i := range 100 {
			rows = append(rows, []string{fmt.Sprint(n*100 + i), "=" + strings.Repeat("x", 100)})
		}
		if n+1 < pages {
			next = strings.Repeat(".", n+1)
		}
		return rows, next, nil
	}}
	return s, s.dress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.sendSheet(w, r, visitor{Caller: identity.Caller{UserID: "user_1"}}, f)
	}))
}

// TestUnreadFileIsLetGo: a browser that asks for a file and does not read holds one page of rows for as long as a page of them may take, and then nothing.
func TestUnreadFileIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := sending(1000, -1)
		began := time.Now()
		_, ended := asked(t, h)
		synctest.Wait()
		require.Equal(t, 1, s.sheets.all)
		require.Equal(t, sheetTaken, (<-ended).Sub(began))
		require.Zero(t, s.sheets.all)
		require.Empty(t, s.sheets.each)
	})
}

// slowly reads a kilobyte a second.
type slowly struct{ net.Conn }

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Conn.Read(b[:min(len(b), 1024)])
}

// TestSlowFileComesWhole: the time in which a file must be received is that of each page of its rows, not of them all.
func TestSlowFileComesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := sending(20, -1)
		began := time.Now()
		conn, _ := asked(t, h)
		resp, err := http.ReadResponse(bufio.NewReader(slowly{conn}), nil)
		require.NoError(t, err)
		require.Equal(t, "text/csv; charset=utf-8", resp.Header.Get("Content-Type"))
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Greater(t, time.Since(began), 2*sheetTaken)
		lines := strings.Split(strings.TrimSpace(string(all)), "\n")
		require.Len(t, lines, 1+20*100)
		require.Equal(t, "id,text", lines[0])
		require.Equal(t, "1999,'="+strings.Repeat("x", 100), lines[2000])
	})
}

// TestBrokenFileIsNoWholeFile: what fails after the first rows breaks the connection off, so that no browser takes the part for the whole.
func TestBrokenFileIsNoWholeFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := sending(20, 2)
		conn, ended := asked(t, h)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		part, err := io.ReadAll(resp.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, 1+200, strings.Count(string(part), "\n"))
		<-ended
		require.Zero(t, s.sheets.all)
	})
}

// TestFilesAreBounded: one person cannot take all the places for files, and gets theirs back.
func TestFilesAreBounded(t *testing.T) {
	c := &sheets{most: sheetsMost, mostEach: sheetsEach, each: map[string]int{}}
	for range sheetsEach {
		require.True(t, c.begin("a"))
	}
	require.False(t, c.begin("a"))
	for i := range sheetsMost - sheetsEach {
		require.True(t, c.begin(fmt.Sprint(i)))
	}
	require.False(t, c.begin("b"))
	c.end("a")
	require.True(t, c.begin("b"))
	require.False(t, c.begin("a"))
}
