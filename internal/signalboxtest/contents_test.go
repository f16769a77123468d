package signalboxtest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestWhatIsKeptOfARequest: with request logging on, what passed is read again by an administrator, streamed or not, failures of the upstream too; without it nothing is; neither the
// credential that was lent nor the client key is in it, and the database and the log have nothing of it but sealed.
func TestWhatIsKeptOfARequest(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		admin, ctx := box.Admin(), t.Context()
		off := false
		_, err := admin.PutTrainChannel(ctx, l.Train, "slack", client.TrainChannelPatch{Enabled: &off})
		require.NoError(t, err)
		keep := func(on bool) {
			_, err := admin.SetRequestLogging(ctx, l.Train, client.RequestLoggingPatch{Enabled: &on})
			require.NoError(t, err)
		}
		lent := l.Accounts[0].Secret.Reveal()
		ask := func(stream bool) string {
			body := `{"model":"claude-x","max_tokens":1000,"messages":[{"role":"user","content":"planted-prompt-words ` + l.Key + `"}]}`
			if stream {
				body = strings.Replace(body, "{", `{"stream":true,`, 1)
			}
			resp, err := http.DefaultClient.Do(l.Request(ctx, []byte(body)))
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, resp.Body)
			require.NoError(t, resp.Body.Close())
			return resp.Header.Get("X-Request-Id")
		}
		content := func(id string) client.RequestContent {
			t.Helper()
			var c client.RequestContent
			require.Eventually(t, func() bool {
				c, err = admin.RequestContent(ctx, id)
				return err == nil
			}, 20*time.Second, 50*time.Millisecond, "%v", err)
			return c
		}

		l.up.text("planted-reply-words " + lent)
		before := ask(false)
		keep(true)
		plain, stream := ask(false), ask(true)
		for _, id := range []string{plain, stream} {
			c := content(id)
			require.Contains(t, c.Request, `planted-prompt-words [redacted: the client key]`)
			require.NotContains(t, c.Response, lent)
			require.NotZero(t, c.RequestBytes)
			require.NotZero(t, c.ResponseBytes)
			require.Empty(t, c.Note)
		}
		require.Contains(t, content(plain).Response, "planted-reply-words [redacted: the credential that was lent]")
		require.Contains(t, content(stream).Response, "event: message_stop")

		l.up.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte("event: ping\ndata: {\"type\":\"ping\"}\n\n"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		require.Equal(t, "The upstream broke off its answer.", content(ask(true)).Note)
		l.up.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"type":"error","error":{"type":"api_error","message":"planted-failure"}}`))
		})
		require.Contains(t, content(ask(false)).Response, "planted-failure", "also when every account failed")

		_, err = admin.RequestContent(ctx, before)
		require.ErrorContains(t, err, "not kept")
		kept, err := admin.KeptContents(ctx, l.Train)
		require.NoError(t, err)
		require.GreaterOrEqual(t, kept.Requests, int64(4))
		require.NotNil(t, kept.OldestAt)

		db := box.OpenReadOnly(t)
		var sealed [][]byte
		require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error { return tx.Select(&sealed, `SELECT sealed FROM request_contents`) }))
		for _, words := range []string{"planted-prompt-words", "planted-reply-words", "planted-failure"} {
			for _, one := range sealed {
				require.NotContains(t, string(one), words)
			}
			require.NotContains(t, string(box.Log.Bytes()), words)
			box.Planted.Add("what was said", words)
		}

		keep(false)
		after := ask(false)
		require.NoError(t, admin.PurgeContents(ctx, l.Train))
		for _, id := range []string{plain, stream, after} {
			_, err = admin.RequestContent(ctx, id)
			require.ErrorContains(t, err, "not kept")
		}
	})
}
