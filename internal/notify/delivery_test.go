package notify_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestSlackTakesIt: the form of an incoming webhook, by a receiver of ours that answers as Slack does. What people chose cannot become a
// mention, a link or an entity.
func TestSlackTakesIt(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.slack("ops", r.URL)
		m := message()
		m.Title, m.Text, m.Link = "<!channel> *a* & b", "see <https://evil.example|this>", "https://box.example.com/a?b=1|2"
		m.Facts = []notify.Fact{{Name: "Account", Value: "<@U1>"}}
		o.say(m)
		o.Pass(t.Context())
		got := r.all()[0]
		require.Equal(t, "/services/"+planted, got.path)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		var body map[string]any
		require.NoError(t, json.Unmarshal([]byte(got.body), &body))
		require.Equal(t, map[string]any{
			"text": "*&lt;!channel&gt; ∗a∗ &amp; b* (warning)\nsee &lt;https://evil.example|this&gt;\n• Account: &lt;@U1&gt;\n<https://box.example.com/a?b=1%7C2|More>", "unfurl_links": false, "unfurl_media": false,
		}, body)
		require.Equal(t, "delivered", o.only().State)
	})
}

// TestWebhooksVerify with the official library of the Standard Webhooks, and with no other secret, id, time or body.
func TestWebhooksVerify(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		r.status(http.StatusAccepted)
		o.webhook("hook", r.URL)
		o.say(message())
		o.Pass(t.Context())
		require.Equal(t, "delivered", o.only().State)
		got := r.all()[0]
		verifier, err := standardwebhooks.NewWebhook(signing())
		require.NoError(t, err)
		require.NoError(t, verifier.Verify([]byte(got.body), got.header), "the time is that of the wall clock, so the library's tolerance is tested too")
		require.Error(t, verifier.Verify([]byte(got.body+" "), got.header))
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp"} {
			h := got.header.Clone()
			h.Set(name, "1763800000")
			require.Error(t, verifier.Verify([]byte(got.body), h), name)
		}
		other, err := standardwebhooks.NewWebhook("whsec_" + strings.Repeat("A", 32))
		require.NoError(t, err)
		require.Error(t, other.Verify([]byte(got.body), got.header))
		require.Equal(t, o.only().ID, got.header.Get("Webhook-Id"))
		require.Equal(t, o.only().ID, got.header.Get("Signalbox-Delivery"))
		var body struct {
			Type      string
			Timestamp time.Time
			Data      struct {
				Delivery, Severity, Title, Text string
				Subject                         store.Target
			}
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &body))
		require.Equal(t, "account.refused", body.Type)
		require.Equal(t, message().Title, body.Data.Title)
		require.Equal(t, message().Subject, body.Data.Subject)
		require.Equal(t, "warning", body.Data.Severity)
	})
}

// TestBackoff: 5 s, three times as much each time, an hour at most, give or take a fifth.
func TestBackoff(t *testing.T) {
	for n, want := range map[int64]time.Duration{1: 5 * time.Second, 2: 15 * time.Second, 3: 45 * time.Second, 4: 135 * time.Second, 6: 1215 * time.Second, 7: time.Hour, 8: time.Hour, 1000: time.Hour} {
		require.Equal(t, want*8/10, notify.Backoff(n, 0), n)
		require.Equal(t, want, notify.Backoff(n, 0.5), n)
		require.Equal(t, want*12/10, notify.Backoff(n, 1), n)
	}
}

// TestRetriesUntilADayIsOver: each wait is longer than the last, nothing is tried before its time, and after a day it is given up, on record.
func TestRetriesUntilADayIsOver(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		r.status(http.StatusInternalServerError)
		c := o.slack("ops", r.URL)
		o.say(message())
		began := o.clock.Now()
		var last time.Duration
		for n := 1; ; n++ {
			o.Pass(t.Context())
			require.Len(t, r.all(), n)
			d := o.only()
			require.Equal(t, int64(n), d.Attempts)
			require.Equal(t, "The receiver answered 500.", d.Detail)
			if d.State == "failed" {
				require.Nil(t, d.NextAt)
				require.NotNil(t, d.SettledAt)
				break
			}
			wait := d.NextAt.Sub(o.clock.Now())
			if n < 6 {
				require.Greater(t, wait, last)
			}
			last = wait
			o.clock.Add(wait - time.Microsecond)
			o.Pass(t.Context())
			require.Len(t, r.all(), n, "it was tried before its time")
			o.clock.Add(time.Microsecond)
			require.Less(t, o.clock.Now().Sub(began), 24*time.Hour)
		}
		require.Greater(t, o.clock.Now().Sub(began), 22*time.Hour)
		ev := o.events(store.NotifyFailed)
		require.Len(t, ev, 1)
		require.Equal(t, c.ID, ev[0].Target.ID)
		require.Equal(t, store.OutcomeFailed, ev[0].Outcome)
		require.Equal(t, "The receiver answered 500.", ev[0].Reason)
		o.clock.Add(48 * time.Hour)
		o.Pass(t.Context())
		require.Len(t, o.events(store.NotifyFailed), 1)
		require.Equal(t, int64(1), o.Attempts()[notify.Attempts{Channel: notify.Slack, Outcome: "failed"}])
		require.True(t, o.OldestWaiting().IsZero())
	})
}

// TestWhatNobodyTriedExpires: a disabled channel gets nothing, what waits for it is given up after a day, and it goes out if it is enabled before.
func TestWhatNobodyTriedExpires(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		c := o.slack("ops", r.URL)
		turn := func(on bool) {
			_, err := o.UpdateChannel(t.Context(), person{}, c.ID, notify.Patch{Enabled: &on}, "")
			require.NoError(t, err)
		}
		o.say(message())
		turn(false)
		o.Pass(t.Context())
		require.Empty(t, r.all())
		require.True(t, o.OldestWaiting().IsZero())
		turn(true)
		o.Pass(t.Context())
		require.Len(t, r.all(), 1)
		o.say(message())
		turn(false)
		o.clock.Add(24 * time.Hour)
		o.Pass(t.Context())
		require.Equal(t, "failed", o.deliveries()[0].State)
		require.Contains(t, o.deliveries()[0].Detail, "never tried")
		require.Len(t, o.events(store.NotifyFailed), 1)
	})
}

// TestRetryAfterIsObeyed, by every message of the channel, and gone is gone.
func TestRetryAfterIsObeyed(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.slack("ops", r.URL)
		r.status(http.StatusTooManyRequests, "Retry-After", "600")
		o.say(message())
		o.Pass(t.Context())
		require.Equal(t, o.clock.Now().Add(10*time.Minute), *o.only().NextAt)
		o.say(message())
		o.clock.Add(10*time.Minute - time.Microsecond)
		o.Pass(t.Context())
		require.Len(t, r.all(), 1, "another message must not disturb the receiver either")
		o.clock.Add(time.Microsecond)
		r.status(http.StatusServiceUnavailable, "Retry-After", "Sun, 22 Nov 2026 12:10:00 GMT", "Date", "Sun, 22 Nov 2026 12:00:00 GMT")
		o.Pass(t.Context())
		require.Len(t, r.all(), 3)
		require.Equal(t, o.clock.Now().Add(10*time.Minute), *o.deliveries()[0].NextAt)
		o.clock.Add(10 * time.Minute)
		r.status(http.StatusTooManyRequests, "Retry-After", "99999999")
		o.Pass(t.Context())
		require.Equal(t, o.clock.Now().Add(6*time.Hour), *o.deliveries()[0].NextAt, "a message lives for a day, so nobody may ask for more than a part of it")
		o.clock.Add(6 * time.Hour)
		r.status(http.StatusGone)
		o.Pass(t.Context())
		for _, d := range o.deliveries() {
			require.Equal(t, "failed", d.State)
			require.Contains(t, d.Detail, "410")
		}
	})
}

// TestHostileReceivers: whatever a receiver does, its own words are kept nowhere, no redirect is followed and no flood is read.
func TestHostileReceivers(t *testing.T) {
	elsewhere := newReceiver(t)
	for name, c := range map[string]struct {
		does func(http.ResponseWriter, *http.Request)
		says string
	}{
		"refuses": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, planted, http.StatusForbidden) }, "The receiver answered 403."},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/"+planted, http.StatusTemporaryRedirect)
		}, "a redirect, which is not followed"},
		"is no Slack": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>"+planted) }, "not with Slack's ok"},
		"floods": {func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat("x", 1<<20))
			for range 10 << 10 { // 10 GiB, if anybody took them
				if _, err := w.Write(block); err != nil {
					return
				}
			}
			panic(http.ErrAbortHandler)
		}, "not with Slack's ok"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "closed the connection"},
		"talks garbage": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0-"+planted+"\r\n")
				_ = conn.Close()
			}
		}, "The call to the upstream failed."},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, o *office) {
				r := newReceiver(t)
				r.does(c.does)
				o.slack("ops", r.URL)
				o.say(message())
				o.Pass(t.Context())
				require.Equal(t, "waiting", o.only().State)
				require.Contains(t, o.only().Detail, c.says)
				require.Empty(t, elsewhere.all())
			})
		})
	}
}

// TestTheGuardHoldsForChannels: an address that is not public is refused when it is given, and at the dial if it became one later.
func TestTheGuardHoldsForChannels(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			o := s.open(t)
			r := newReceiver(t)
			for _, u := range []string{"http://example.com/x", "https://10.0.0.1/x", "https://169.254.169.254/", "https://localhost/", "https://u:p@example.com/", "ftp://example.com/", "https:///x", "x", "https://2130706433/"} {
				_, err := o.CreateChannel(t.Context(), person{}, notify.Draft{Kind: notify.Slack, Name: "x", Secrets: values("url", u)})
				require.Error(t, err, u)
			}
			for _, host := range []string{"10.0.0.1", "localhost", "", "2130706433"} {
				_, err := o.CreateChannel(t.Context(), person{}, notify.Draft{Kind: notify.Mail, Name: "x", Email: &notify.Email{Host: host, Port: 25, TLS: notify.StartTLS, From: "a@example.com", To: []string{"b@example.com"}}})
				require.Error(t, err, host)
			}
			o.slack("ops", r.URL) // allowed now
			o.say(message())
			require.NoError(t, o.db.Close())
			o.dead = true
			s.allow = nil
			strict := s.open(t)
			strict.Pass(t.Context())
			require.Empty(t, r.all())
			require.Contains(t, strict.only().Detail, "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS")
		})
	}
}

// TestADeadChannelHoldsUpNobody: receivers that hang keep two attempts each and nothing of the others', and the end of the process does not
// wait for them for long.
func TestADeadChannelHoldsUpNobody(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			s.every = 20 * time.Millisecond
			o := s.open(t)
			hang := make(chan struct{})
			begun := make(chan struct{}, 100)
			dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				select {
				case <-hang:
				case <-r.Context().Done():
				}
			}))
			defer dead.Close()
			defer close(hang)
			silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
			require.NoError(t, err)
			defer func() { _ = silent.Close() }()
			live := newReceiver(t)
			o.slack("dead", dead.URL)
			o.slack("silent", "http://"+silent.Addr().String())
			well := o.slack("live", live.URL)
			for range 8 {
				o.say(message())
			}
			o.Start(t.Context())
			require.Eventually(t, func() bool { return len(live.all()) == 8 }, 15*time.Second, 10*time.Millisecond)
			require.Eventually(t, func() bool {
				done, _, err := o.ListDeliveries(t.Context(), notify.Filter{State: "delivered", ChannelID: well.ID})
				return err == nil && len(done) == 8
			}, 15*time.Second, 10*time.Millisecond)
			require.Len(t, begun, 2, "an instance bothers a channel twice at a time")
			o.Close()
			for _, d := range o.deliveries() {
				if d.ChannelID != well.ID {
					require.Equal(t, "waiting", d.State, "what was cut is tried again")
				}
			}
		})
	}
}

// TestSealedSecretsStayInTheirPlace: who can write the database but lacks the root key cannot swap the secrets of two channels, bring old ones
// back, or have one sent elsewhere.
func TestSealedSecretsStayInTheirPlace(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		for i, change := range []string{
			`UPDATE notify_channels SET sealed = (SELECT sealed FROM notify_channels WHERE id = $2) WHERE id = $1`,
			`UPDATE notify_channels SET secret_version = secret_version + 1 WHERE id = $1 AND $2 <> ''`,
			`UPDATE notify_channels SET settings = '{"destination":"https://evil.example.com"}' WHERE id = $1 AND $2 <> ''`,
		} {
			a, b := o.slack("a"+strconv.Itoa(i), r.URL), o.slack("b"+strconv.Itoa(i), r.URL)
			off := false
			_, err := o.UpdateChannel(t.Context(), person{}, b.ID, notify.Patch{Enabled: &off}, "")
			require.NoError(t, err)
			o.sql(change, a.ID, b.ID)
			o.say(message())
			o.Pass(t.Context())
			require.Empty(t, r.all())
			require.Contains(t, o.deliveries()[0].Detail, "do not open")
			_, err = o.TryChannel(t.Context(), person{}, a.ID)
			requireFault(t, err, "internal")
			on := true
			_, err = o.UpdateChannel(t.Context(), person{}, a.ID, notify.Patch{Enabled: &on}, "")
			requireFault(t, err, "internal")
			require.NoError(t, o.DeleteChannel(t.Context(), person{}, a.ID, ""))
			require.NoError(t, o.DeleteChannel(t.Context(), person{}, b.ID, ""))
		}
	})
}
