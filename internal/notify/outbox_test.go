package notify_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestAMessageIsThereIfItsActIs: what is rolled back is not told.
func TestAMessageIsThereIfItsActIs(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.slack("ops", r.URL)
		rolled := errors.New("rolled back")
		m := message()
		m.DedupKey = "same"
		require.ErrorIs(t, o.act(m, rolled), rolled)
		o.Pass(t.Context())
		require.Empty(t, o.deliveries())
		require.Empty(t, r.all())
		o.say(m) // the one that was rolled back does not stand in its way
		require.Equal(t, "waiting", o.only().State)
		o.Pass(t.Context())
		require.Equal(t, "delivered", o.only().State)
		require.Len(t, r.all(), 1)
		o.Pass(t.Context())
		require.Len(t, r.all(), 1, "what was delivered is not delivered again")
	})
}

// TestWithoutAChannelNothingIsStored, nor for one that does not want it.
func TestWithoutAChannelNothingIsStored(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		count := func() (n int) {
			require.NoError(t, o.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&n, `SELECT (SELECT COUNT(*) FROM notify_messages) + (SELECT COUNT(*) FROM notify_marks) + (SELECT COUNT(*) FROM notify_deliveries)`)
			}))
			return n
		}
		m := message()
		m.DedupKey = "k"
		o.say(m)
		require.Zero(t, count())
		for i, d := range []notify.Draft{
			{Disabled: true}, {Severity: notify.Critical}, {Kinds: []notify.Kind{notify.Test}},
		} {
			d.Kind, d.Name, d.Secrets = notify.Slack, string(rune('a'+i)), values("url", "https://hooks.example.com/"+planted)
			_, err := o.CreateChannel(t.Context(), person{}, d)
			require.NoError(t, err)
		}
		o.say(m)
		require.Zero(t, count())
		m.Severity = notify.Critical
		o.say(m)
		require.Equal(t, 3, count(), "the one for what is critical: a message, its mark, its delivery")
	})
}

// TestTheChannelsOfATrain take what is about their train, and the installation's take everything.
func TestTheChannelsOfATrain(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.sql(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) VALUES ('train_1','web','web','','hash',0,0,1,1,1)`)
		o.slack("all", "https://hooks.example.com")
		own, err := o.CreateChannel(t.Context(), person{}, notify.Draft{Kind: notify.Slack, Name: "all", TrainID: "train_1", Secrets: values("url", "https://hooks.example.com/"+planted)})
		require.NoError(t, err, "a name is taken within its owner alone")
		o.say(message())
		require.Len(t, o.deliveries(), 1)
		m := message()
		m.TrainID = "train_1"
		o.say(m)
		require.Len(t, o.deliveries(), 3)
		m.TrainID = "train_2"
		o.say(m)
		require.Len(t, o.deliveries(), 4)
		o.sql(`DELETE FROM trains WHERE id = 'train_1'`)
		_, err = o.GetChannel(t.Context(), own.ID)
		requireFault(t, err, "not_found")
		require.Len(t, o.deliveries(), 3)
	})
}

// TestDeduplication: of messages alike one is sent within the window, and the others are counted.
func TestDeduplication(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.slack("ops", r.URL)
		m := message()
		m.DedupKey = "cred_1/1"
		for range 4 {
			o.say(m)
			o.clock.Add(10 * time.Minute)
		}
		require.Equal(t, int64(3), o.only().Repeats)
		require.Equal(t, o.only().CreatedAt.Add(30*time.Minute), o.only().LastAt)
		other := m
		other.DedupKey = "cred_2/1"
		o.say(other)
		require.Len(t, o.deliveries(), 2)
		o.clock.Add(20*time.Minute - time.Microsecond)
		o.say(m)
		require.Len(t, o.deliveries(), 2, "the window is not over")
		o.clock.Add(time.Microsecond)
		o.say(m)
		require.Len(t, o.deliveries(), 3)
		require.Zero(t, o.deliveries()[0].Repeats)
		without := message()
		o.say(without)
		o.say(without)
		require.Len(t, o.deliveries(), 5, "without a key nothing is alike")
	})
}

// TestDeduplicationOfMany: acts that race, some of which are rolled back, store one message.
func TestDeduplicationOfMany(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.slack("ops", "https://hooks.example.com")
		m := message()
		m.DedupKey = "race"
		rolled := errors.New("rolled back")
		var wg sync.WaitGroup
		var mu sync.Mutex
		stored := 0
		for i := range 24 {
			wg.Go(func() {
				var then error
				if i%3 == 0 {
					then = rolled
				}
				err := o.act(m, then)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					stored++
				}
			})
		}
		wg.Wait()
		require.Equal(t, 16, stored)
		require.Equal(t, int64(15), o.only().Repeats)
	})
}

// TestMessagesAreChecked: what a room gets wrong is an error, and what people have chosen cannot break a header, a table or the text's order.
func TestMessagesAreChecked(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.webhook("hook", r.URL)
		for name, m := range map[string]notify.Message{
			"unknown kind": {Kind: "nothing", Title: "x"}, "no title": {Kind: notify.AccountRefused, Title: " \n"}, "severity": {Kind: notify.AccountRefused, Title: "x", Severity: "huge"},
			"a script for a link": {Kind: notify.AccountRefused, Title: "x", Link: "javascript:alert(1)"}, "a long key": {Kind: notify.AccountRefused, Title: "x", DedupKey: strings.Repeat("k", 201)},
		} {
			require.Error(t, o.act(m, nil), name)
		}
		require.Empty(t, o.deliveries())
		o.say(notify.Message{Kind: notify.AccountRefused, Title: "a\r\nBcc: x@example.com\x00\u202e\xff" + strings.Repeat("ä", 300), Text: "one\ntwo\x1b[31m" + strings.Repeat("x", 5000),
			Facts: []notify.Fact{{Name: "na\nme", Value: "va\u2028lue"}}})
		o.Pass(t.Context())
		body := r.all()[0].body
		require.Contains(t, body, `"title":"a Bcc: x@example.com`)
		require.Contains(t, body, `"text":"one\ntwo [31m`)
		require.Contains(t, body, `{"name":"na me","value":"va lue"}`)
		require.NotContains(t, body, "\u202e")
		require.Less(t, len(body), 5000)
		require.LessOrEqual(t, len(o.only().Title), 200)
	})
}

// TestThreeInstancesDeliverOnce: of instances that all look, one delivers; the good case has no doubles.
func TestThreeInstancesDeliverOnce(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres {
			continue // SQLite has one instance
		}
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			s.every = 20 * time.Millisecond
			r := newReceiver(t)
			var offices []*office
			for range 3 {
				offices = append(offices, s.open(t))
			}
			offices[0].webhook("hook", r.URL)
			offices[0].slack("slack", r.URL)
			for _, o := range offices {
				o.Start(t.Context())
			}
			for i := range 40 {
				offices[i%3].say(message())
			}
			require.Eventually(t, func() bool {
				for _, d := range offices[0].deliveries() {
					if d.State != "delivered" {
						return false
					}
				}
				return true
			}, 30*time.Second, 20*time.Millisecond)
			seen := map[string]int{}
			for _, g := range r.all() {
				seen[g.header.Get("Signalbox-Delivery")]++
			}
			require.Len(t, seen, 80)
			for id, n := range seen {
				require.Equal(t, 1, n, id)
			}
			for _, d := range offices[0].deliveries() {
				require.Equal(t, int64(1), d.Attempts)
			}
			var total int64
			for _, o := range offices {
				for at, n := range o.Attempts() {
					require.True(t, n == 0 || at.Outcome == "delivered", at)
					total += n
				}
			}
			require.Equal(t, int64(80), total)
		})
	}
}

// TestACrashBetweenDeliveryAndItsRecord: what was delivered and not written down is delivered again, with the same id, once the claim lapses.
func TestACrashBetweenDeliveryAndItsRecord(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			o := s.open(t)
			r := newReceiver(t)
			o.webhook("hook", r.URL)
			o.say(message())
			ctx, crash := t.Context(), false
			// The process ends after the receiver has answered: its database is gone when it wants to write that down.
			r.does(func(w http.ResponseWriter, _ *http.Request) {
				if !crash {
					crash = true
					_ = o.db.Close()
				}
				w.WriteHeader(http.StatusNoContent)
			})
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			o.Pass(short)
			o.dead = true
			require.Len(t, r.all(), 1)

			again := s.open(t)
			require.Equal(t, "waiting", again.only().State)
			again.Pass(ctx)
			require.Len(t, r.all(), 1, "the claim of the crashed process still holds")
			s.clock.Add(61 * time.Second)
			again.Pass(ctx)
			require.Len(t, r.all(), 2)
			require.Equal(t, "delivered", again.only().State)
			first, second := r.all()[0], r.all()[1]
			require.Equal(t, again.only().ID, first.header.Get("Signalbox-Delivery"))
			require.Equal(t, first.header.Get("Signalbox-Delivery"), second.header.Get("Signalbox-Delivery"))
			require.Equal(t, first.header.Get("Webhook-Id"), second.header.Get("Webhook-Id"))
			require.Equal(t, first.body, second.body)
		})
	}
}

// TestOldMessagesGo after 30 days, and their marks with them.
func TestOldMessagesGo(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		o.slack("ops", r.URL)
		m := message()
		m.DedupKey = "k"
		o.say(m)
		o.Pass(t.Context())
		o.clock.Add(30*24*time.Hour - time.Second)
		require.NoError(t, o.Trim(t.Context()))
		require.Len(t, o.deliveries(), 1)
		o.clock.Add(2 * time.Second)
		require.NoError(t, o.Trim(t.Context()))
		require.Empty(t, o.deliveries())
		o.say(m)
		require.Len(t, o.deliveries(), 1)
	})
}
