package broker_test

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestHeldAccountsAtTheDoor: the stream of a drained account comes to its end, that of a paused one ends with an error within a second, and the next
// request is told what to do about it.
func TestHeldAccountsAtTheDoor(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		set := func(to vault.LendingState) {
			t.Helper()
			_, err := d.vault.SetLending(t.Context(), d.admin, d.accounts[0].ID, to, "for a test")
			require.NoError(t, err)
		}
		begin := func(model string) *bufio.Reader {
			t.Helper()
			resp, err := d.client.Do(d.request(`{"model":"` + model + `","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`))
			require.NoError(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
			require.Equal(t, 200, resp.StatusCode)
			r := bufio.NewReader(resp.Body)
			_, err = r.ReadString('\n')
			require.NoError(t, err)
			return r
		}
		stream := begin("fake-stream-20-slow-20")
		set(vault.Drained)
		status, body, _ := d.do(d.request(`{"model":"m","max_tokens":5,"messages":[]}`))
		kind, message := errorOf(t, body)
		require.Equal(t, 403, status)
		require.Equal(t, "permission_error", kind)
		require.Contains(t, message, "are paused or drained")
		require.Contains(t, message, "signalbox account resume")
		rest, err := io.ReadAll(stream)
		require.NoError(t, err)
		require.Contains(t, string(rest), "message_stop", "what runs on a drained account finishes")

		set(vault.Lent)
		stream = begin("fake-stream-1000-slow-50")
		set(vault.Paused)
		acknowledged := time.Now()
		rest, _ = io.ReadAll(stream)
		require.Less(t, time.Since(acknowledged), time.Second)
		require.NotContains(t, string(rest), "message_stop")
		if strings.Contains(string(rest), "event: error") {
			require.Contains(t, string(rest), "was paused")
		}
		require.Equal(t, []string{"ok 200", "revoked 200"}, d.results(2))
	})
}

// TestADisabledTrainIsUnauthenticated: nothing is lent to it, and the agent's terminal says why.
func TestADisabledTrainIsUnauthenticated(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		off := true
		_, err := d.trains.UpdateTrain(t.Context(), d.admin, "web", train.Patch{Disabled: &off}, "")
		require.NoError(t, err)
		status, body, header := d.do(d.request(`{"model":"m","max_tokens":5,"messages":[]}`))
		kind, message := errorOf(t, body)
		require.Equal(t, 401, status)
		require.Equal(t, "authentication_error", kind)
		require.Contains(t, message, "The train web is disabled")
		require.Equal(t, `Bearer realm="Signalbox"`, header.Get("WWW-Authenticate"))
		require.Equal(t, "false", header.Get("X-Should-Retry"))
		require.Empty(t, d.up.Requests())
	})
}
