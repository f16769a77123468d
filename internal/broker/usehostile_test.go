package broker_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// asks sends bytes and returns the status of what comes back, 0 for none.
func (d *door) asks(text string) (int, string) {
	d.t.Helper()
	c := d.dial()
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err := io.WriteString(c, text)
	require.NoError(d.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, ""
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(body)
}

// TestNoPathLeadsOut: what two readers could read in two ways is refused before anything is lent.
func TestNoPathLeadsOut(t *testing.T) {
	d := sqliteDoor(t)
	l := d.lend("git", vault.Draft{Meta: vault.Meta{BaseURL: "UP/base"}}, http.HandlerFunc(ok))
	ask := func(target string) int {
		t.Helper()
		status, _ := d.asks("GET " + target + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + d.key + "\r\nConnection: close\r\n\r\n")
		return status
	}
	for _, target := range []string{
		"/use/git/..", "/use/git/../x", "/use/git/a/../../x", "/use/git/.", "/use/git/./x", "/use/git/%2e%2e/x", "/use/git/.%2e/x", "/use/git/%2E%2E%2Fx", "/use/git/%252e%252e/x", "/use/git/%25252e%25252e/x",
		"/use/git/..;/x", "/use/git/..;a=b/x", "/use/git/.;/x", "/use/git/;/x", "/use/git/%3b/x", "/use/git/..%3b/x", `/use/git/..\x`, "/use/git/..%5cx", "/use/git/a%5c..%5cx", "/use/git/a%2f..%2fx", "/use/git/a%2Fb", "/use/git/a%252fb",
		"/use/git//x", "/use/git/a//b", "/use/git/a///", "//use/git/x", "/use//git/x", "/./use/git/x", "/x/../use/git/x", "/%75se/git/x", "/use/git/%00", "/use/git/%0d%0aX:y", "/use/git/%0a", "/use/git/%7f", "/use/git/\x01", "/use/git/a\tb",
		"/use/git/%", "/use/git/%zz", "/use/git/%c0%ae%c0%ae/x", "/use/git/%c0%af", "/use/git/%ff", "/use/git/\xc3\xbc", "/use/git/%ef%bc%8e%ef%bc%8e/x", "/use/git/%e2%80%a4%e2%80%a4/x", "/use/git/a%ef%bc%8fb", "/use/git/%20../x", "/use/git/..%20/x", "/use/git/.../x", "/use/git/x#y", "/use/git/x?y#z",
		"/use/git/a|b", "/use/git/a\"b", "/use/git/<x>", "/use/git/{x}", "/use/", "/use", "/use//", "/use/../use/git/x", "http://127.0.0.1/use/git/x", "https://u:p@evil.example/use/git/x", "http:/use/git/x", "*",
	} {
		require.NotEqual(t, 200, ask(target), target)
		require.Empty(t, l.seen, target)
	}
	for target, want := range map[string]string{
		"/use/git": "/base", "/use/git/": "/base/", "/use/git/a/": "/base/a/", "/use/git/a.b/..c/d..": "/base/a.b/..c/d..", "/use/git/a;v=1/b": "/base/a;v=1/b", "/use/git/%C3%BC%20x": "/base/%C3%BC%20x", "/use/git/%61!$&'()*+,;=:@-._~": "/base/%61!$&'()*+,;=:@-._~", "/use/%67it/x": "/base/x",
		"/use/git/x?a=../..&b=//&c=%00": "/base/x",
	} {
		require.Equal(t, 200, ask(target), target)
		got := <-l.seen
		path, _, _ := strings.Cut(got.RequestURI, "?")
		require.Equal(t, want, path, target)
	}
}

// late are the paths of requests that were broken off: they may arrive when the next is on already.
var late = regexp.MustCompile(`^/x\d+$`)

// TestNoRequestIsSmuggled: of what could be read as two requests, the upstream sees one at most, framed anew.
func TestNoRequestIsSmuggled(t *testing.T) {
	d := sqliteDoor(t)
	var got sync.Map // by path
	l := d.lend("git", vault.Draft{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := fmt.Sprint(r.Method, " ", r.URL.Path, " ", string(body), " ", r.Header)
		got.Store(r.URL.Path, text)
	}))
	begin := "POST /use/git/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + d.key + "\r\n"
	tried := 0
	for name, rest := range map[string]string{
		"two lengths":           "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"two lengths in one":    "Content-Length: 5, 6\r\n\r\nhello!",
		"signed length":         "Content-Length: +5\r\n\r\nhello",
		"negative length":       "Content-Length: -5\r\n\r\nhello",
		"bare CR in a value":    "X-A: a\rX-B: b\r\n\r\n",
		"NUL in a value":        "X-A: a\x00b\r\n\r\n",
		"space before colon":    "X-A : a\r\n\r\n",
		"no colon":              "X-A\r\n\r\n",
		"empty name":            ": a\r\n\r\n",
		"bad coding":            "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two codings":           "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"coding twice":          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"coding with a blank":   "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"two hosts":             "Host: y\r\n\r\n",
		"chunk size with sign":  "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
		"chunk without its end": "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
	} {
		tried++
		path := fmt.Sprintf("/x%d", tried) // what an earlier one began may arrive only now
		status, body := d.asks(strings.Replace(begin, "/x ", path+" ", 1) + rest)
		require.NotEqual(t, 200, status, "%s: %s", name, body)
		if seen, reached := got.Load(path); reached && !strings.HasPrefix(name, "chunk") {
			t.Errorf("%s reached the upstream: %s", name, seen)
		}
	}
	// What net/http reads in the one way that RFC 9112 knows goes on in that reading alone.
	for name, c := range map[string][2]string{
		"length and coding": {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /use/git/second HTTP/1.1\r\n\r\n", "POST /x hello "},
		"a folded line":     {"X-A: a\r\n GET /y\r\nContent-Length: 0\r\n\r\n", "X-A:[a GET /y]"},
	} {
		for len(l.seen) > 0 {
			<-l.seen
		}
		status, body := d.asks(begin + c[0])
		if status == 200 {
			seen := 0
			for len(l.seen) > 0 {
				if r := <-l.seen; !late.MatchString(r.URL.Path) {
					seen++
					require.NotContains(t, fmt.Sprint(r.Header), "Content-Length:[4]")
				}
			}
			require.Equal(t, 1, seen, "%s: %s", name, body)
			text, _ := got.LoadAndDelete("/x")
			require.Contains(t, text, c[1], name)
		}
	}
	status, _ := d.asks("CONNECT /use/git/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + d.key + "\r\n\r\n")
	require.Equal(t, 405, status)
}

// TestExpectContinue: a body is asked for when something is lent, and not before.
func TestExpectContinue(t *testing.T) {
	d := sqliteDoor(t)
	d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["Expect"]) > 0 {
			w.WriteHeader(500)
		}
		all, _ := io.ReadAll(r.Body)
		_, _ = w.Write(all)
	}))
	for _, size := range []int{10, 100_000} {
		for _, key := range []string{d.key, "wrong-and-long-enough-to-be-a-key"} {
			c := d.dial()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err := fmt.Fprintf(c, "PUT /use/git/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", key, size)
			require.NoError(t, err)
			in := bufio.NewReader(c)
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			if key != d.key {
				require.Contains(t, line, "401")
				continue
			}
			require.Contains(t, line, "100 Continue")
			_, _ = in.ReadString('\n')
			_, err = io.WriteString(c, strings.Repeat("x", size))
			require.NoError(t, err)
			resp, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			n, err := io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.Equal(t, int64(size), n)
		}
	}
}

// TestUseStreamsBothWays: 64 MiB in each direction at once hold next to no memory, and what is answered while the request comes arrives meanwhile.
func TestUseStreamsBothWays(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		const size = 64 << 20
		d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			buf := make([]byte, 32<<10)
			for {
				n, err := r.Body.Read(buf)
				_, _ = w.Write(buf[:n])
				_ = http.NewResponseController(w).Flush()
				if err != nil {
					return
				}
			}
		}))
		block := make([]byte, 64<<10)
		_, _ = rand.Read(block)
		from, to := io.Pipe()
		r, err := http.NewRequest(http.MethodPost, d.url+"/use/git/echo", from)
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", d.key)
		go func() {
			for range size / len(block) {
				if _, err := to.Write(block); err != nil {
					return
				}
			}
			_ = to.Close()
		}()
		var most atomic.Uint64
		stop := make(chan struct{})
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		resp, err := d.client.Do(r)
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		close(stop)
		<-watched
		require.Equal(t, int64(size), n)
		require.Less(t, most.Load(), before.HeapInuse+(24<<20), "a stream is held")
		require.Equal(t, []string{"ok 200"}, d.results(1))
	})
}

// TestUseReachesNoPrivateAddress: at the dial, whatever the form of the host, and whatever it resolves to.
func TestUseReachesNoPrivateAddress(t *testing.T) {
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(inside.URL, "http://"))
	require.NoError(t, err)
	d := newDoor(t, storetest.Open(t, store.SQLite), doorOptions{allow: []string{"192.0.2.77"}})
	n := 0
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.9.9.9", "0.0.0.0", "0", "localhost", "LOCALHOST", "localhost.", "x.localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[fc00::1]", "224.0.0.1", "255.255.255.255", "198.18.0.1", "127.0.0.1.", "①②⑦.0.0.1", "user@127.0.0.1", "user:pass@localhost",
	} {
		for _, scheme := range []string{"https", "http"} {
			n++
			alias := fmt.Sprintf("a%d", n)
			c, err := d.vault.Create(t.Context(), d.admin, vault.Draft{Type: vault.SharedSecret, Meta: vault.Meta{Name: alias, BaseURL: scheme + "://" + host + ":" + port, Inject: vault.Inject{Kind: vault.InjectBearer}}, Secrets: lentSecret()})
			if err != nil {
				continue // refused when it was stored
			}
			_, _, err = d.trains.Link(t.Context(), d.admin, "web", train.LinkDraft{Credential: c.ID, Alias: &alias})
			require.NoError(t, err)
			l := &lent{door: d}
			status, body, _ := l.get("/use/" + alias + "/latest/meta-data")
			require.Contains(t, []int{403, 503}, status, "%s://%s: %s", scheme, host, body)
		}
	}
	require.Zero(t, reached.Load())
	for _, e := range d.events() {
		require.NotEqual(t, store.OutcomeOK, e.Outcome)
	}
}

// TestARedirectIsNotFollowed: the upstream cannot send Signalbox anywhere.
func TestARedirectIsNotFollowed(t *testing.T) {
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	d := sqliteDoor(t)
	l := d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.URL+"/x", http.StatusTemporaryRedirect)
	}))
	resp, err := http.DefaultTransport.RoundTrip(l.request(http.MethodPost, "/use/git/x", strings.NewReader("body")).WithContext(context.Background()))
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, 307, resp.StatusCode)
	require.Equal(t, inside.URL+"/x", resp.Header.Get("Location"))
	require.Zero(t, reached.Load())
}
