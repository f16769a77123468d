package broker_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// These are defects that a review found; the engine makes no difference to them, so one is enough.
func sqliteDoor(t *testing.T) *door {
	t.Helper()
	return newDoor(t, storetest.Open(t, store.SQLite), doorOptions{})
}

// use puts another guarded transport under the door.
func (d *door) use(o outbound.Options) {
	p, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(d.t, err)
	d.line.next = outbound.NewTransport(p, o)
}

func (d *door) dial() net.Conn {
	c, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (d *door) raw(length int, body string) string {
	return fmt.Sprintf("POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", d.key, length, body)
}

func TestLastUpstreamAnswerIsPassedOnThoughALaterAccountIsDead(t *testing.T) {
	d := sqliteDoor(t)
	d.account("web", "dead", "http://127.0.0.1:1", 2)
	d.up.SetKeyBehaviour(d.secrets[0], demo.Status(500))
	status, _, _ := d.do(d.request(hello))
	require.Equal(t, 500, status)
}

func TestHalfClosedClientIsNotToldAllIsWell(t *testing.T) {
	d := sqliteDoor(t)
	d.line.look = func(*http.Request) { time.Sleep(300 * time.Millisecond) }
	c := d.dial()
	_, err := io.WriteString(c, d.raw(len(hello), hello))
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, _ := io.ReadAll(c)
	require.NotContains(t, string(got), "200 OK")
}

func TestUpstreamStatusThatCannotBePassedOn(t *testing.T) {
	for _, line := range []string{"HTTP/1.1 099 X", "HTTP/1.1 101 Switching Protocols"} {
		d := sqliteDoor(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, line+"\r\nContent-Length: 2\r\n\r\nhi")
					time.Sleep(time.Second)
					_ = c.Close()
				}()
			}
		}()
		d.account("web", "odd", "http://"+l.Addr().String(), 0)
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status, "%s: the next account answers", line)
	}
}

func TestRefusalDoesNotWaitForABodyThatNeverComes(t *testing.T) {
	d := sqliteDoor(t)
	c := d.dial()
	_, err := io.WriteString(c, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: nope\r\nContent-Length: 1000\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "401")
}

func TestClientThatDoesNotReadDoesNotOutliveItsKey(t *testing.T) {
	d := sqliteDoor(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		event := []byte("data: " + strings.Repeat("x", 60000) + "\n\n")
		for {
			if _, err := w.Write(event); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer func() { up.CloseClientConnections(); up.Close() }()
	d.account("web", "flood", up.URL, 0)
	c := d.dial()
	_, err := io.WriteString(c, d.raw(len(hello), hello))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1000))
	require.NoError(t, err)
	time.Sleep(time.Second) // every buffer on the way is full now
	_, err = d.trains.RevokeKey(context.Background(), d.admin, "web", d.keyID, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return d.broker.InFlight() == 0 && d.trains.OpenLeases() == 0 }, 2*time.Second, 20*time.Millisecond)
	require.Equal(t, "revoked 200", d.results(1)[0])
}

// TestOneClientsHeaderCoolsNoAccount sends a header that is larger than an HTTP/2 upstream takes.
func TestOneClientsHeaderCoolsNoAccount(t *testing.T) {
	d := sqliteDoor(t)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	up.EnableHTTP2 = true
	up.Config.MaxHeaderBytes = 8 << 10
	up.StartTLS()
	defer up.Close()
	pool := x509.NewCertPool()
	pool.AddCert(up.Certificate())
	d.use(outbound.Options{RootCAs: pool})
	d.account("web", "h2a", up.URL, 0)
	d.account("web", "h2b", up.URL, 0)
	status, _, _ := d.do(d.request(hello))
	require.Equal(t, 200, status)
	r := d.request(hello)
	r.Header.Set("X-Big", strings.Repeat("a", 30000))
	status, body, _ := d.do(r)
	require.Equal(t, 400, status)
	kind, _ := errorOf(t, body)
	require.Equal(t, "invalid_request_error", kind)
	ex, err := d.trains.Explain(context.Background(), d.admin, "web")
	require.NoError(t, err)
	for _, a := range ex.Accounts {
		require.Nil(t, a.CoolingUntil, a.Why)
	}
}

func TestUpstreamThatTookTheRequestIsNotFollowedByAnother(t *testing.T) {
	d := sqliteDoor(t)
	var taken atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		taken.Add(1)
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}))
	defer up.Close()
	d.use(outbound.Options{HeaderTimeout: 500 * time.Millisecond})
	d.account("web", "slow-1", up.URL, 0)
	d.account("web", "slow-2", up.URL, 0)
	status, _, _ := d.do(d.request(hello))
	require.Equal(t, 503, status)
	require.EqualValues(t, 1, taken.Load())
	require.Equal(t, "upstream_unreachable 0", d.results(1)[0])
	require.Equal(t, []bool{false}, d.unsent(), "it may be charged")
}

// TestACutRequestMayBeCharged: what was revoked while the upstream thought about it was sent; a client that hangs up meanwhile has sent it as well.
func TestACutRequestMayBeCharged(t *testing.T) {
	d := sqliteDoor(t)
	taken := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		taken <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}))
	defer up.Close()
	d.account("web", "slow", up.URL, 0)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	for i, end := range []func(){hangUp, func() {
		_, err := d.trains.RevokeKey(t.Context(), d.admin, "web", d.keyID, "")
		require.NoError(t, err)
	}} {
		r := d.request(hello)
		if i == 0 {
			r = r.WithContext(ctx)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := d.client.Do(r); err == nil {
				_ = resp.Body.Close()
			}
		}()
		select {
		case <-taken:
		case <-time.After(5 * time.Second):
			t.Fatal("the upstream was not asked")
		}
		end()
		<-done
		require.Equal(t, []string{"client_cancelled 0", "revoked 0"}[i], d.results(i + 1)[i])
	}
	require.Equal(t, []bool{false, false}, d.unsent())
}

// TestOneIntentIsOneSend uses an upstream that closes a reused connection after it has read the request, and a client that vouches for
// repetition.
func TestOneIntentIsOneSend(t *testing.T) {
	d := sqliteDoor(t)
	var sent atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				in := bufio.NewReader(c)
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					sent.Add(1)
					if i == 1 {
						_ = c.Close()
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
			}()
		}
	}()
	d.account("web", "odd", "http://"+l.Addr().String(), 0)
	var fromFake int
	for range 2 {
		r := d.request(hello)
		r.Header.Set("Idempotency-Key", "a")
		d.do(r)
	}
	fromFake = len(d.up.Requests())
	granted := 0
	require.Eventually(t, func() bool {
		granted = 0
		for _, e := range d.events() {
			if e.Action == store.LeaseGranted {
				granted++
			}
		}
		return granted > 0
	}, time.Second, 10*time.Millisecond)
	require.EqualValues(t, granted, int(sent.Load())+fromFake)
}

func TestAnnouncedBodiesDoNotUseUpTheBudget(t *testing.T) {
	d := sqliteDoor(t)
	for range 20 {
		_, err := io.WriteString(d.dial(), d.raw(32<<20, "{"))
		require.NoError(t, err)
	}
	time.Sleep(300 * time.Millisecond)
	status, body, _ := d.do(d.request(hello))
	require.Equal(t, 200, status, body)
}

func TestUpstreamCannotTakeOurRequestIDAway(t *testing.T) {
	d := sqliteDoor(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "X-Request-Id")
		_, _ = io.WriteString(w, "{}")
	}))
	defer up.Close()
	d.account("web", "odd", up.URL, 0)
	_, _, header := d.do(d.request(hello))
	require.True(t, store.ValidID("req", header.Get("X-Request-Id")))
}

// TestBodiesAreNotMixed has an upstream that answers before it has read, over HTTP/1.1 and HTTP/2: no byte of one client's prompt may come
// with another's.
func TestBodiesAreNotMixed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			d := sqliteDoor(t)
			var mixed, whole, n atomic.Int64
			up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i := n.Add(1)
				if i%3 == 0 {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				if i%5 == 0 {
					_ = http.NewResponseController(w).Flush()
					time.Sleep(2 * time.Millisecond)
				}
				b, err := io.ReadAll(r.Body)
				if err == nil {
					whole.Add(1)
				}
				if strings.Trim(string(b), r.Header.Get("X-Tag")) != "" {
					mixed.Add(1)
				}
			}))
			o := outbound.Options{}
			if up.EnableHTTP2 = h2; h2 {
				up.StartTLS()
				o.RootCAs = x509.NewCertPool()
				o.RootCAs.AddCert(up.Certificate())
			} else {
				up.Start()
			}
			defer func() { up.CloseClientConnections(); up.Close() }()
			d.use(o)
			d.account("web", "odd", up.URL, 0)
			var wg sync.WaitGroup
			for g := range 12 {
				wg.Go(func() {
					tag := string(rune('a' + g))
					for range 30 {
						r := d.request(strings.Repeat(tag, 200_000))
						r.Header.Set("X-Tag", tag)
						if resp, err := http.DefaultClient.Do(r); err == nil {
							_, _ = io.Copy(io.Discard, resp.Body)
							_ = resp.Body.Close()
						}
					}
				})
			}
			wg.Wait()
			require.Positive(t, whole.Load())
			require.Zero(t, mixed.Load())
		})
	}
}
