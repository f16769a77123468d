package relay_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/relay"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/usage"
)

// hall is a relay on a database with one train whose webhook, a receiver of ours, is told everything.
type hall struct {
	*relay.Room
	t    testing.TB
	db   *store.DB
	desk *notify.Room

	mu     sync.Mutex
	bodies []string
}

type person struct{}

// Event begins a record.
func (person) Event(a store.Action, t store.Target) store.Event {
	return store.Event{Actor: store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, Action: a, Target: t}
}

func newHall(t testing.TB, db *store.DB) *hall {
	t.Helper()
	h := &hall{t: t, db: db}
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	h.desk, err = notify.New(notify.Config{DB: db, Ring: ring, Policy: policy, Every: 10 * time.Millisecond})
	require.NoError(t, err)
	h.Room, err = relay.New(relay.Config{DB: db, Notify: h.desk})
	require.NoError(t, err)
	require.NoError(t, db.Start(context.Background()))
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bodies = append(h.bodies, string(b))
	}))
	t.Cleanup(func() {
		h.Close()
		h.desk.Close()
		server.Close()
	})
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		for _, id := range []string{"train_1", "train_2"} {
			if _, err := tx.Exec(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) VALUES ($1,$2,'','','hash',0,0,1,1,1)`, id, id+"-slug"); err != nil {
				return err
			}
		}
		url, signing, on := secret.FromString(server.URL), secret.FromString("whsec_cGxhbnRlZC1zaWduaW5nLTEyMzQ1Njc4"), true
		tx.Change(store.TopicTrain, "train_1")
		_, _, err := h.desk.PutTrainChannel(tx, person{}, notify.Owner{ID: "train_1", Slug: "web"}, notify.Webhook,
			notify.TrainPatch{Content: &on, Secrets: map[string]*secret.Value{"url": &url, "signing_secret": &signing}}, "", func() error { return nil })
		return err
	}))
	require.Eventually(t, func() bool { return h.Listen("train_1", true, about) != nil }, 10*time.Second, 5*time.Millisecond)
	return h
}

func about() relay.About {
	return relay.About{TrainID: "train_1", Train: "web", KeyID: "key_1", Key: "agent", Account: "alpha", Keys: []string{"sbx_live_planted"}, Hide: func(s string) string { return strings.ReplaceAll(s, "planted-lent", "[x]") }}
}

// say has the train's agent asked and answered.
func (h *hall) say(prompt, answer string) {
	tap := h.Listen("train_1", false, about)
	require.NotNil(h.t, tap)
	tap.Ask([]byte(`{"messages":[{"role":"user","content":"`+prompt+`"}]}`), func() {})
	tap.Add([]byte(`{"content":[{"type":"text","text":"` + answer + `"}]}`))
	tap.Done(relay.End{Usage: usage.Count{State: usage.Complete, Input: 1, Output: 2}, Model: "claude-x"})
}

func (h *hall) until(n int) []string {
	h.t.Helper()
	have := func() []string { h.mu.Lock(); defer h.mu.Unlock(); return append([]string(nil), h.bodies...) }
	require.Eventually(h.t, func() bool { return len(have()) >= n }, 30*time.Second, 5*time.Millisecond)
	return have()
}

func TestNobodyWhoDoesNotWantItIsHeard(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := newHall(t, db)
		asked := false
		require.Nil(t, h.Listen("train_2", true, func() relay.About { asked = true; return about() }))
		require.Nil(t, h.Listen("", true, about))
		require.False(t, asked)
		var none *relay.Room
		require.Nil(t, none.Listen("train_1", true, about))
		none.Failed("train_1", "web", "x")
		var deaf *relay.Tap
		deaf.Add([]byte("x"))
		deaf.Done(relay.End{})
		before := db.Reads()
		for range 1000 {
			h.Listen("train_2", true, about)
			h.Failed("train_2", "x", "y")
			h.Listen("train_1", true, about)
		}
		require.Equal(t, before, db.Reads(), "it is known from memory")

		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
			tx.Change(store.TopicTrain, "train_1")
			if _, err := tx.Exec(`DELETE FROM trains WHERE id = 'train_1'`); err != nil {
				return err
			}
			return tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "test"}, Action: store.TrainDelete, Target: store.Target{Kind: "train"}})
		}))
		require.Eventually(t, func() bool { return h.Listen("train_1", true, about) == nil }, 10*time.Second, 5*time.Millisecond)
	})
}

// TestWhatDoesNotFitIsDroppedAndTold: before anybody works nothing waits for it, bodies beyond the bound are let go at once, and the number of what was lost is told with what comes next.
func TestWhatDoesNotFitIsDroppedAndTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := newHall(t, db)
		began := time.Now()
		large, freed := make([]byte, 20<<20), 0
		for range 3 {
			tap := h.Listen("train_1", true, about)
			tap.Ask(large, func() { freed++ })
			tap.Done(relay.End{})
		}
		require.Equal(t, 2, freed, "one is held, two are not")
		require.EqualValues(t, 2, h.Lost())
		for i := range 2000 {
			h.say(fmt.Sprint("p", i), "a")
		}
		require.Less(t, time.Since(began), 5*time.Second, "nobody waits for the worker, whom nobody has started")
		lost := h.Lost()
		require.Greater(t, lost, int64(1000))
		h.Start(t.Context())
		h.desk.Start(t.Context())
		told := strings.Join(h.until(10), "\n")
		require.Regexp(t, `"not_told":[1-9]\d{3}\D`, told)
		require.Contains(t, told, `"type":"train.conversation"`)
		require.Contains(t, told, `"conversation":{"prompt":"p0","reply":"a"`)
		require.Contains(t, told, `{"name":"Tokens","value":"1 in, 2 out"}`)
	})
}

// TestTheEndStoresWhatWaits: what was said before an orderly end is told after it, by whoever comes next.
func TestTheEndStoresWhatWaits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := newHall(t, db)
		h.Start(t.Context())
		h.say("sbx_live_planted planted\\u200b-lent sk-ant-api03-plantedplantedplanted "+strings.Repeat("é", 4000), "short")
		h.Failed("train_1", "web", "refused: account_cooling")
		h.Close()
		h.Close()
		h.desk.Start(t.Context())
		told := strings.Join(h.until(2), "\n")
		require.Contains(t, told, "[redacted: the client key] [x] [redacted: an Anthropic API key] é")
		require.NotContains(t, told, "plantedplanted")
		require.Contains(t, told, `"prompt_bytes":`)
		require.NotContains(t, told, `"reply_bytes":`)
		require.Equal(t, 1, strings.Count(told, `"type":"train.failures"`))
		require.Contains(t, told, `{"name":"refused: account_cooling","value":"1"}`)
		require.Less(t, strings.Count(told, "é"), 3001)
	})
}

// TestFailuresAreCounted: many failures of a train are one message, and what is no train's is none.
func TestFailuresAreCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := newHall(t, db)
		for i := range 5000 {
			h.Failed("train_1", "web", fmt.Sprint("kind ", i%50))
			h.Failed("train_2", "other", "x")
		}
		h.Start(t.Context())
		h.desk.Start(t.Context())
		told := h.until(1)
		require.Contains(t, told[0], "Requests of train web failed")
		require.Equal(t, 20, strings.Count(told[0], `{"name":"`))
		require.Contains(t, told[0], `{"name":"kind 0","value":"100"}`)
		time.Sleep(3 * time.Second)
		require.Len(t, h.until(1), 1)
	})
}

// BenchmarkTap is what a stream of a hundred pieces costs its request: where nobody is told nothing but the look into memory.
func BenchmarkTap(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprint("content=", on), func(b *testing.B) {
			h := newHall(b, storetest.Open(b, store.SQLite))
			train := "train_2"
			if on {
				train = "train_1"
			}
			piece := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"some words of an answer\"}}\n\n")
			b.ReportAllocs()
			for b.Loop() {
				tap := h.Listen(train, true, about)
				for range 100 {
					tap.Add(piece)
				}
			}
		})
	}
}
