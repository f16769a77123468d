package broker_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// chatter is a server that tells the headers and the target of its request, and then what it hears.
func chatter(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(2 << 20)
	ctx := r.Context()
	if err := c.Write(ctx, websocket.MessageText, []byte(fmt.Sprint(r.Header, " ", r.URL.RawQuery))); err != nil {
		return
	}
	for {
		kind, data, err := c.Read(ctx)
		if err != nil {
			return
		}
		switch string(data) {
		case "piecewise": // the secret over many fragments, with pings between
			out, err := c.Writer(ctx, websocket.MessageBinary)
			if err != nil {
				return
			}
			for i := range "x" + r.URL.Query().Get("key") + "y" {
				if _, err := io.WriteString(out, ("x" + r.URL.Query().Get("key") + "y")[i:i+1]); err != nil {
					return
				}
			}
			_ = out.Close()
		case "close":
			_ = c.Close(websocket.StatusNormalClosure, "bye "+r.URL.Query().Get("key"))
			return
		default:
			if c.Write(ctx, kind, data) != nil {
				return
			}
		}
	}
}

func (l *lent) dialSocket(target string) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(l.t.Context(), l.url+target, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + l.key}}, Subprotocols: []string{"other", "chat"}, CompressionMode: websocket.CompressionContextTakeover,
	})
}

// TestWebSocketUnderUse: a client and a server that are not ours talk through it, and the server's echo of what was lent comes masked.
func TestWebSocketUnderUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		l := d.lend("chat", vault.Draft{Meta: vault.Meta{Inject: vault.Inject{Kind: vault.InjectQuery, Name: "key"}}, Secrets: lentSecret()}, http.HandlerFunc(chatter))
		c, resp, err := l.dialSocket("/use/chat/talk?a=1")
		require.NoError(t, err)
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(2 << 20)
		require.Equal(t, "chat", c.Subprotocol())
		require.Empty(t, resp.Header["Sec-Websocket-Extensions"])
		require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
		read := func() string {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, data, err := c.Read(ctx)
			require.NoError(t, err)
			return string(data)
		}
		say := func(text string) {
			t.Helper()
			require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(text)))
		}
		first := read()
		require.Contains(t, first, "a=1&key=**************")
		require.NotContains(t, first, "plain-secret")
		require.NotContains(t, first, l.key)
		say("hello")
		require.Equal(t, "hello", read())
		long := strings.Repeat("0123456789abcdef", 64<<10) + "plain-secret-1"
		say(long)
		require.Equal(t, strings.ReplaceAll(long, "plain-secret-1", "**************"), read())
		say("piecewise")
		require.Equal(t, "x**************y", read())
		// The pong comes while a read is under way.
		reading := c.CloseRead(t.Context())
		require.NoError(t, c.Ping(reading))
		say("close")
		select {
		case <-reading.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("the close frame did not come")
		}
		require.Equal(t, []string{"ok 101"}, d.results(1))
		require.NotContains(t, d.log.String(), "plain-secret")

		c, _, err = l.dialSocket("/use/chat/talk")
		require.NoError(t, err)
		_, _, err = c.Read(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("close")))
		_, _, err = c.Read(t.Context())
		var closed websocket.CloseError
		require.ErrorAs(t, err, &closed)
		require.Equal(t, "bye **************", closed.Reason)
		require.Equal(t, websocket.StatusNormalClosure, closed.Code)
	})
}

// TestARevocationEndsAWebSocket: within a second, and the record says so.
func TestARevocationEndsAWebSocket(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		l := d.lend("chat", vault.Draft{Secrets: lentSecret()}, http.HandlerFunc(chatter))
		c, _, err := l.dialSocket("/use/chat/talk")
		require.NoError(t, err)
		_, _, err = c.Read(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, d.broker.InFlight())
		_, err = d.trains.RevokeKey(t.Context(), d.admin, "web", d.keyID, "")
		require.NoError(t, err)
		began := time.Now()
		_, _, err = c.Read(t.Context())
		require.Error(t, err)
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, []string{"revoked 101"}, d.results(1))
		require.Eventually(t, func() bool { return d.broker.InFlight() == 0 }, 2*time.Second, 5*time.Millisecond)

		// A client that goes away is one.
		k, v, err := d.trains.IssueKey(t.Context(), d.admin, "web", keyDraft())
		require.NoError(t, err)
		d.key, d.keyID = v.Reveal(), k.ID
		c, _, err = l.dialSocket("/use/chat/talk")
		require.NoError(t, err)
		_ = c.CloseNow()
		require.Equal(t, "client_cancelled 101", d.results(2)[1])
	})
}

// TestNoHalfWebSocket: a handshake that is none is refused, ours and theirs.
func TestNoHalfWebSocket(t *testing.T) {
	d := sqliteDoor(t)
	answer := make(chan string, 1)
	l := d.lend("chat", vault.Draft{Secrets: lentSecret()}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, <-answer)
		time.Sleep(100 * time.Millisecond)
	}))
	key := base64.StdEncoding.EncodeToString(make([]byte, 16))
	begin := "GET /use/chat/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + d.key + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	for name, rest := range map[string]string{
		"a body":       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\nContent-Length: 5\r\n\r\nhello",
		"chunks":       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no key":       "Sec-WebSocket-Version: 13\r\n\r\n",
		"two keys":     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Key: " + key + "\r\n\r\n",
		"short key":    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n",
		"old version":  "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " + key + "\r\n\r\n",
		"two versions": "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " + key + "\r\n\r\n",
	} {
		status, body := d.asks(begin + rest)
		require.Equal(t, 400, status, "%s: %s", name, body)
		require.Empty(t, l.seen, name)
	}
	good := begin + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
	for name, text := range map[string]string{
		"no accept":       "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"another accept":  "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + key + "\r\n\r\n",
		"another upgrade": "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n",
		"an extension":    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n",
		"a protocol":      "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n",
	} {
		answer <- text
		status, body := d.asks(good)
		require.Equal(t, 502, status, "%s: %s", name, body)
	}
	answer <- "HTTP/1.1 403 No\r\nContent-Length: 16\r\n\r\nplain-secret-1 x"
	status, body := d.asks(good)
	require.Equal(t, 403, status)
	require.Equal(t, "************** x", body)
	answer <- "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n\x81\x05hello\xc1\x05hello"
	c := d.dial()
	_, err := io.WriteString(c, good)
	require.NoError(t, err)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	rest, _ := io.ReadAll(in)
	require.Equal(t, "\x81\x05hello", string(rest), "a frame with an extension's bit does not pass")
	require.Equal(t, string(train.Refused)+" 101", last(d.results(7)))
}

func last(all []string) string { return all[len(all)-1] }
