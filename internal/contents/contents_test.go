package contents_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

type person struct{}

// Event begins a record.
func (person) Event(a store.Action, t store.Target) store.Event {
	return store.Event{Actor: store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, Action: a, Target: t}
}

var owner = contents.Owner{ID: "train_1", Slug: "web"}

func ptr[T any](v T) *T { return &v }

func allowed() error { return nil }

type shelf struct {
	*contents.Room
	t  *testing.T
	db *store.DB
}

func newShelf(t *testing.T, db *store.DB) *shelf {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(context.Background(), keyring.Config{DB: db, Root: root})
	require.NoError(t, err)
	s := &shelf{t: t, db: db}
	s.Room, err = contents.New(contents.Config{DB: db, Ring: ring})
	require.NoError(t, err)
	require.NoError(t, db.Start(context.Background()))
	s.Start(context.Background())
	t.Cleanup(s.Close)
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		for _, id := range []string{"train_1", "train_2"} {
			if _, err := tx.Exec(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) VALUES ($1,$2,'','','hash',0,0,1,1,1)`, id, id+"-slug"); err != nil {
				return err
			}
		}
		return tx.Record(person{}.Event(store.TrainCreate, store.Target{Kind: "train", ID: "train_1"}))
	}))
	return s
}

func (s *shelf) put(p contents.Patch) {
	s.t.Helper()
	require.NoError(s.t, s.db.Write(s.t.Context(), func(tx *store.Tx) error {
		_, err := contents.Put(tx, person{}, owner, p, "", allowed)
		return err
	}))
	on := p.Enabled == nil || *p.Enabled
	require.Eventually(s.t, func() bool {
		tap := s.Listen("train_1", nil, func() contents.About { return contents.About{Request: store.NewID("req")} })
		tap.Mute()
		return (tap != nil) == on
	}, 10*time.Second, 5*time.Millisecond)
}

// say has a request and its answer kept, the answer in pieces, and returns the request's id.
func (s *shelf) say(asked string, answered ...string) string {
	id := store.NewID("req")
	tap := s.Listen("train_1", []byte(asked), func() contents.About {
		return contents.About{Request: id, Keys: []string{"sbx_live_planted_key"}, Hide: func(x string) string { return strings.ReplaceAll(x, "planted-lent", "[x]") }}
	})
	for _, p := range answered {
		tap.Add([]byte(p))
	}
	tap.Done()
	return id
}

func (s *shelf) read(id string) (c contents.Content, err error) {
	var opened contents.Opened
	if err = s.db.Write(s.t.Context(), func(tx *store.Tx) (err error) {
		if _, err = contents.TrainOf(tx, id); err == nil {
			opened, err = s.Open(tx, person{}, owner, id)
		}
		return err
	}); err != nil {
		return c, err
	}
	return opened.Content()
}

func (s *shelf) wait(id string) contents.Content {
	s.t.Helper()
	var c contents.Content
	require.Eventually(s.t, func() bool {
		var err error
		c, err = s.read(id)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	return c
}

func (s *shelf) stock() (out contents.Stock) {
	require.NoError(s.t, s.db.Read(s.t.Context(), func(tx *store.Tx) (err error) {
		out, err = contents.StockOf(tx, "train_1")
		return err
	}))
	return out
}

func TestNothingIsKeptUnlessATrainWantsIt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newShelf(t, db)
		asked := false
		require.Nil(t, s.Listen("train_1", []byte("x"), func() contents.About { asked = true; return contents.About{} }))
		require.Nil(t, s.Listen("", []byte("x"), nil))
		require.False(t, asked)
		var none *contents.Room
		require.Nil(t, none.Listen("train_1", nil, nil))
		var deaf *contents.Tap
		deaf.Add([]byte("x"))
		deaf.Note("x")
		deaf.Mute()
		deaf.Done()

		s.put(contents.Patch{Enabled: ptr(true)})
		require.Nil(t, s.Listen("train_2", []byte("x"), nil))
		id := s.say(`{"a":1}`, `{"b":`, `2}`)
		require.Equal(t, contents.Content{Request: "{\n  \"a\": 1\n}", Response: "{\n  \"b\": 2\n}", RequestBytes: 7, ResponseBytes: 7}, s.wait(id))

		// What ends after it was switched off is not stored, and what was kept stays until its time.
		late := store.NewID("req")
		tap := s.Listen("train_1", []byte("late"), func() contents.About { return contents.About{Request: late} })
		s.put(contents.Patch{Enabled: ptr(false)})
		tap.Done()
		s.Close()
		_, err := s.read(late)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		_, err = s.read(id)
		require.NoError(t, err)
		_, err = s.read("no id\x00\xff")
		require.Error(t, err)
		require.Zero(t, s.Lost())
	})
}

func TestWhatIsKeptIsSealedBoundAndOnRecord(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newShelf(t, db)
		s.put(contents.Patch{Enabled: ptr(true)})
		id := s.say(`{"x-api-key":"sbx_live_planted_key","text":"the hidden prompt"}`, "data: planted-lent and sk-ant-api03-"+strings.Repeat("Ab1", 30)+" and the hidden answer\xff\n\n")
		c := s.wait(id)
		require.NotContains(t, c.Request+c.Response, "planted")
		require.NotContains(t, c.Response, "sk-ant-api03-Ab1")
		require.Contains(t, c.Request, "the hidden prompt")
		require.Contains(t, c.Response, "the hidden answer")

		var sealed []byte
		var events []string
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Get(&sealed, `SELECT sealed FROM request_contents WHERE id = $1`, id); err != nil {
				return err
			}
			return tx.Select(&events, `SELECT body FROM audit_events`)
		}))
		require.NotContains(t, string(sealed), "hidden")
		require.Contains(t, strings.Join(events, "\n"), "content.read")
		require.NotContains(t, strings.Join(events, "\n"), "hidden")

		// Moved to another request or train it does not open.
		other := s.say("another")
		s.wait(other)
		require.NoError(t, db.Bookkeep(t.Context(), store.Content, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE request_contents SET sealed = $1 WHERE id = $2`, sealed, other)
			return err
		}))
		_, err := s.read(other)
		require.Error(t, err)
		require.NoError(t, db.Bookkeep(t.Context(), store.Content, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE request_contents SET train_id = 'train_2' WHERE id = $1`, id)
			return err
		}))
		require.Error(t, db.Write(t.Context(), func(tx *store.Tx) error {
			_, err := s.Open(tx, person{}, contents.Owner{ID: "train_2", Slug: "other"}, id)
			return err
		}))
	})
}

// TestBeginningAndEnd gives texts of all sizes in pieces of all sizes: what is kept is the beginning and the end, and the line between says what is missing.
func TestBeginningAndEnd(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	s := newShelf(t, db)
	s.put(contents.Patch{Enabled: ptr(true), MaxBytes: ptr(int64(1024))})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	said := map[string]string{}
	for range 200 {
		var b strings.Builder
		for n := rnd.IntN(6000); b.Len() < n; {
			fmt.Fprintf(&b, "word%d ", rnd.IntN(100000))
		}
		whole := b.String()
		var pieces []string
		for rest := whole; rest != ""; {
			n := min(len(rest), 1+rnd.IntN(900))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		said[s.say(whole, pieces...)] = whole
	}
	for id, whole := range said {
		c := s.wait(id)
		require.Equal(t, c.Request, c.Response, "pieces change nothing")
		require.Equal(t, int64(len(whole)), c.RequestBytes)
		if len(whole) <= 1024 {
			require.Equal(t, whole, c.Request)
			continue
		}
		head, tail, cut := strings.Cut(c.Request, "\n[")
		require.True(t, cut)
		number, tail, _ := strings.Cut(tail, " bytes are not kept]\n")
		require.True(t, strings.HasPrefix(whole, head) && strings.HasSuffix(whole, tail))
		require.Equal(t, fmt.Sprint(len(whole)-len(head)-len(tail)), number)
		require.Greater(t, len(head)+len(tail), 900)
		require.LessOrEqual(t, len(head)+len(tail), 1024)
	}
}

// TestNoHalfSecretAtACut moves a secret over the places where a text is cut: no part of it that is long enough to matter is kept.
func TestNoHalfSecretAtACut(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	s := newShelf(t, db)
	s.put(contents.Patch{Enabled: ptr(true), MaxBytes: ptr(int64(1024))})
	const planted = "sbx_live_planted_key"
	var ids []string
	for at := 460; at < 560; at++ {
		ids = append(ids, s.say(strings.Repeat("a ", at/2)[:at-1]+" "+planted+" "+strings.Repeat("b ", 1000)), s.say(strings.Repeat("b ", 1000)+planted+" "+strings.Repeat("a ", at/2)[:at-1]))
	}
	for _, id := range ids {
		c := s.wait(id)
		for n := 8; n <= len(planted); n++ {
			require.NotContains(t, c.Request, planted[:n])
			require.NotContains(t, c.Request, planted[len(planted)-n:])
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	s := newShelf(t, db)
	s.put(contents.Patch{Enabled: ptr(true), MaxBytes: ptr(int64(1 << 20))})
	big := []byte(strings.Repeat("x ", 1<<20))
	var taps []*contents.Tap
	for range 100 {
		taps = append(taps, s.Listen("train_1", big, func() contents.About { return contents.About{Request: store.NewID("req")} }))
	}
	require.LessOrEqual(t, s.Held(), int64(64<<20))
	require.Positive(t, s.Lost())
	lost := s.Lost()
	for _, tap := range taps {
		for range 3 {
			tap.Add(big)
		}
	}
	require.LessOrEqual(t, s.Held(), int64(64<<20))
	require.Greater(t, s.Lost(), lost)
	for _, tap := range taps {
		tap.Done()
	}
	require.Eventually(t, func() bool { return s.Held() == 0 }, time.Minute, 50*time.Millisecond, "all room is given back")
	require.Equal(t, int64(100), s.stock().Requests+s.Lost())
}

// TestManyAtOnce has many requests end at once, under the race detector with the settings changing.
func TestManyAtOnce(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	s := newShelf(t, db)
	s.put(contents.Patch{Enabled: ptr(true)})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				s.say("asked", "answered ", "in two")
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return s.stock().Requests+s.Lost() == 400 }, time.Minute, 50*time.Millisecond)
	require.Zero(t, s.Lost())
}

func TestRetention(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newShelf(t, db)
		s.put(contents.Patch{Enabled: ptr(true), RetentionDays: ptr(int64(3)), TotalBytes: ptr(int64(1 << 20))})
		old, young := s.say("old"), s.say("young")
		s.wait(old)
		s.wait(young)
		require.NoError(t, db.Bookkeep(t.Context(), store.Content, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE request_contents SET created_at = created_at - $1 WHERE id = $2`, int64(73*time.Hour/time.Microsecond), old)
			return err
		}))
		require.NoError(t, s.Sweep(t.Context()))
		_, err := s.read(old)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		_, err = s.read(young)
		require.NoError(t, err)

		// Beyond what all may take up the oldest goes first, also when it is hundreds.
		require.NoError(t, db.Bookkeep(t.Context(), store.Content, func(tx *store.Tx) error {
			for i := range 500 {
				if _, err := tx.Exec(`INSERT INTO request_contents (id, train_id, sealed, size, created_at) SELECT $1, train_id, sealed, 4096, created_at - $2 FROM request_contents WHERE id = $3`,
					store.NewID("req"), int64(1000-i), young); err != nil {
					return err
				}
			}
			return nil
		}))
		require.NoError(t, s.Sweep(t.Context()))
		left := s.stock()
		require.LessOrEqual(t, left.Bytes, int64(1<<20))
		require.Greater(t, left.Bytes, int64(1<<20-8192), "not more than need be")
		_, err = s.read(young)
		require.NoError(t, err, "the youngest stays")

		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
			n, err := contents.Purge(tx, person{}, owner)
			require.Equal(t, left.Requests, n)
			return err
		}))
		s.Wake()
		// At once nobody reads it, what was asked before is not kept any more, and it is gone soon.
		require.Zero(t, s.stock().Requests)
		_, err = s.read(young)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		rows := func() (n int) {
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM request_contents`) }))
			return n
		}
		require.Eventually(t, func() bool { return rows() == 0 }, 30*time.Second, 50*time.Millisecond)
		next := s.say("asked after it")
		s.wait(next)
		require.Equal(t, 1, rows())

		// Of a train that is gone nothing stays.
		require.NoError(t, db.Bookkeep(t.Context(), store.Content, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM trains WHERE id = 'train_1'`)
			return err
		}))
		_, err = s.read(next)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		require.NoError(t, s.Sweep(t.Context()))
		require.Zero(t, rows())
	})
}

// TestWhatWasAskedBeforeAPurgeIsNotKeptAfterIt: also of a request that ends later.
func TestWhatWasAskedBeforeAPurgeIsNotKeptAfterIt(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	s := newShelf(t, db)
	s.put(contents.Patch{Enabled: ptr(true)})
	early := store.NewID("req")
	tap := s.Listen("train_1", []byte("early"), func() contents.About { return contents.About{Request: early} })
	time.Sleep(5 * time.Millisecond)
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := contents.Purge(tx, person{}, owner)
		return err
	}))
	time.Sleep(5 * time.Millisecond)
	tap.Done()
	s.wait(s.say("later"))
	_, err := s.read(early)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

func TestSettings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newShelf(t, db)
		put := func(p contents.Patch, ifMatch string) (out contents.Settings, asked bool, err error) {
			err = db.Write(t.Context(), func(tx *store.Tx) (err error) {
				out, err = contents.Put(tx, person{}, owner, p, ifMatch, func() error { asked = true; return nil })
				return err
			})
			return out, asked, err
		}
		first, asked, err := put(contents.Patch{Enabled: ptr(true)}, contents.Defaults().ETag())
		require.NoError(t, err)
		require.True(t, asked, "to switch it on is to expose")
		require.True(t, first.Enabled)
		require.Equal(t, int64(7), first.RetentionDays)
		_, _, err = put(contents.Patch{Enabled: ptr(false)}, contents.Defaults().ETag())
		require.Equal(t, fault.Precondition, fault.KindOf(err))
		_, asked, err = put(contents.Patch{RetentionDays: ptr(int64(1))}, "")
		require.NoError(t, err)
		require.True(t, asked, "to shorten it is to delete")
		off, asked, err := put(contents.Patch{Enabled: ptr(false)}, "")
		require.NoError(t, err)
		require.False(t, asked)
		require.Equal(t, int64(1), off.RetentionDays)
		_, asked, err = put(contents.Patch{Enabled: ptr(false)}, "")
		require.NoError(t, err)
		require.False(t, asked, "nor when it is off already")
		_, asked, err = put(contents.Patch{RetentionDays: ptr(int64(2))}, "")
		require.NoError(t, err)
		require.True(t, asked)
		for _, p := range []contents.Patch{{MaxBytes: ptr(int64(1023))}, {MaxBytes: ptr(int64(1<<20 + 1))}, {RetentionDays: ptr(int64(0))}, {RetentionDays: ptr(int64(91))}, {TotalBytes: ptr(int64(1))}} {
			_, _, err := put(p, "")
			require.Equal(t, fault.Unprocessable, fault.KindOf(err))
		}
		require.Nil(t, s.Listen("train_1", nil, nil))
	})
}
