package keyring_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// answers is a place without foreign keys, so that a test can fill it.
func answers() keyring.Place {
	return keyring.Sealed("idempotency_keys", "answer", "test", "id", "", "", func(row keyring.Row) (secret.AAD, error) { return answerAAD(row.ID), nil })
}

func answerAAD(id string) secret.AAD {
	return secret.AAD{Table: "idempotency_keys", ID: id, Field: "answer"}
}

func quick() keyring.Pace {
	return keyring.Pace{Tick: 5 * time.Millisecond, Known: 20 * time.Millisecond, Settle: 20 * time.Millisecond, Term: 300 * time.Millisecond, Batch: 16}
}

// member is one instance.
type member struct {
	t       *testing.T
	db      *store.DB
	ring    *keyring.Ring
	rekeyer *keyring.Rekeyer
}

func enter(t *testing.T, db *store.DB, root secret.RootKey, pace keyring.Pace, log *slog.Logger) *member {
	t.Helper()
	m := &member{t: t, db: db}
	var err error
	m.ring, err = keyring.Open(t.Context(), keyring.Config{DB: db, Root: root, Log: log, Linger: time.Millisecond})
	require.NoError(t, err)
	m.rekeyer, err = keyring.NewRekeyer(keyring.RekeyerConfig{DB: db, Ring: m.ring, Places: []keyring.Place{answers()}, Instance: store.NewID("ins"), Pace: pace, Log: log})
	require.NoError(t, err)
	t.Cleanup(m.rekeyer.Close)
	return m
}

// put stores a value in a row that may be there.
func (m *member) put(id, text string) error {
	box, err := m.ring.Seal("test", secret.FromString(text), answerAAD(id))
	if err != nil {
		return err
	}
	return m.db.Bookkeep(m.t.Context(), store.Replay, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO idempotency_keys (id, route, request, state, action, target_id, instance, request_id, answer, created_at)
			VALUES ($1,'',$2,'kept','','','','',$2,0) ON CONFLICT (id) DO UPDATE SET answer = $2`, id, box)
		return err
	})
}

func (m *member) get(id string) (string, error) {
	var box []byte
	if err := m.db.Read(m.t.Context(), func(tx *store.Tx) error { return tx.Get(&box, `SELECT answer FROM idempotency_keys WHERE id = $1`, id) }); err != nil {
		return "", err
	}
	v, err := m.ring.Open("test", box, answerAAD(id))
	return v.Reveal(), err
}

// under returns how many rows lie under each data key.
func (m *member) under() map[uint32]int {
	m.t.Helper()
	var boxes [][]byte
	require.NoError(m.t, m.db.Read(m.t.Context(), func(tx *store.Tx) error {
		return tx.Select(&boxes, `SELECT answer FROM idempotency_keys WHERE answer IS NOT NULL`)
	}))
	out := map[uint32]int{}
	for _, b := range boxes {
		out[binary.BigEndian.Uint32(b[1:])]++
	}
	return out
}

func ada() store.Event {
	return store.Event{Actor: store.Actor{Kind: "user", ID: "user_1", Name: "Ada"}, Action: store.AdminRekey, Target: store.Target{Kind: "keyring"}}
}

func (m *member) done() keyring.Rekey {
	m.t.Helper()
	var at keyring.Rekey
	require.Eventually(m.t, func() bool {
		var err error
		at, err = m.rekeyer.Status(m.t.Context())
		return err == nil && at.State == keyring.RekeyDone
	}, time.Minute, 5*time.Millisecond)
	return at
}

// TestRekeyMovesEverythingUnderLoad: rows are read and written all the while, by two instances on PostgreSQL, of which the one that works is cut off
// now and then. No read fails, no write is lost, and at the end nothing is under the old key, which is gone.
func TestRekeyMovesEverythingUnderLoad(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			const rows = 600
			root, cfg := rootKey(t), storetest.Config(t, e)
			open := func() *store.DB { return storetest.OpenConfig(t, cfg) }
			first := enter(t, open(), root, quick(), nil)
			require.NoError(t, first.db.Start(t.Context()))
			for i := range rows {
				require.NoError(t, first.put(fmt.Sprint("row", i), "0"))
			}
			var old []byte
			require.NoError(t, first.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&old, `SELECT answer FROM idempotency_keys WHERE id = 'row0'`) }))

			members := []*member{first}
			if e == store.Postgres {
				members = append(members, enter(t, open(), root, quick(), nil))
				require.NoError(t, members[1].db.Start(t.Context()))
				members[1].rekeyer.Start(t.Context())
			}
			stop, load := make(chan struct{}), sync.WaitGroup{}
			var failed atomic.Pointer[error]
			var reads, writes atomic.Int64
			var locks [rows]sync.Mutex
			var last [rows]int
			for n := range 4 {
				load.Go(func() {
					m := members[n%len(members)]
					for {
						select {
						case <-stop:
							return
						default:
						}
						i := rand.IntN(rows)
						locks[i].Lock()
						err := func() error {
							if n == 0 || rand.IntN(3) == 0 {
								if err := m.put(fmt.Sprint("row", i), fmt.Sprint(last[i]+1)); err != nil {
									return err
								}
								last[i]++
								writes.Add(1)
							}
							got, err := m.get(fmt.Sprint("row", i))
							reads.Add(1)
							if err == nil && got != fmt.Sprint(last[i]) {
								err = errors.New("a write was lost")
							}
							return err
						}()
						locks[i].Unlock()
						if err != nil {
							failed.Store(&err)
							return
						}
					}
				})
			}
			begun, err := members[len(members)-1].rekeyer.Begin(t.Context(), ada(), false)
			require.NoError(t, err)
			require.Contains(t, []string{keyring.RekeyAnnounced, keyring.RekeyMoving}, begun.State) // a member may have gone on already
			_, err = first.rekeyer.Begin(t.Context(), ada(), false)
			require.Equal(t, "rekey_running", fault.Of(err).Code)
			for range 4 { // each holds the lease for a moment and is gone
				cut, err := keyring.NewRekeyer(keyring.RekeyerConfig{DB: first.db, Ring: first.ring, Places: []keyring.Place{answers()}, Instance: store.NewID("ins"), Pace: quick()})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
				cut.Start(ctx)
				<-ctx.Done()
				cancel()
				cut.Close()
			}
			first.rekeyer.Start(t.Context())
			at := first.done()
			close(stop)
			load.Wait()
			if err := failed.Load(); err != nil {
				t.Fatal(*err)
			}
			require.Positive(t, writes.Load())
			t.Logf("%d reads and %d writes beside it", reads.Load(), writes.Load())
			require.Equal(t, map[uint32]int{2: rows}, first.under())
			require.Zero(t, at.Remaining)
			for i := range rows {
				got, err := first.get(fmt.Sprint("row", i))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(last[i]), got)
			}

			var wrapped []byte
			require.NoError(t, first.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&wrapped, `SELECT wrapped FROM keyring_keys WHERE version = 1`)
			}))
			require.Empty(t, wrapped, "the old key is destroyed")
			require.Error(t, first.db.Bookkeep(t.Context(), store.Replay, func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE idempotency_keys SET answer = $1 WHERE id = 'row0'`, old)
				return err
			}), "what is sealed under a key that is gone cannot be stored")
			for _, m := range members {
				require.Eventually(t, func() bool {
					_, err := m.ring.Open("test", old, answerAAD("row0"))
					return errors.Is(err, keyring.ErrUnknownKey)
				}, 10*time.Second, 10*time.Millisecond, "an old backup of a row does not open")
			}
			var acts []string
			for _, ev := range events(t, first.db) {
				acts = append(acts, string(ev.Action)+" "+ev.Actor.Name)
			}
			require.Equal(t, []string{"admin.keyring keyring", "admin.rekey Ada", "admin.rekeyed keyring"}, acts)

			// Once more: no number comes twice.
			_, err = first.rekeyer.Begin(t.Context(), ada(), false)
			require.NoError(t, err)
			require.Equal(t, int64(3), first.done().To)
			require.Equal(t, map[uint32]int{3: rows}, first.under())
		})
	}
}

// TestWhoComesAfterADeadHolder: beside SQLite, whose directory is locked, the next process goes on at once; in a fleet the dead one's lease has to end.
func TestWhoComesAfterADeadHolder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		pace := quick()
		pace.Term = time.Hour
		next := enter(t, db, rootKey(t), pace, nil)
		require.NoError(t, next.put("row", "text"))
		_, err := next.rekeyer.Begin(t.Context(), ada(), false)
		require.NoError(t, err)
		waiting := pace
		waiting.Known = time.Hour // holds the lease, and gets no further
		dead, err := keyring.NewRekeyer(keyring.RekeyerConfig{DB: db, Ring: next.ring, Places: []keyring.Place{answers()}, Instance: "ins_dead", Pace: waiting})
		require.NoError(t, err)
		holder := func() (name string) {
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&name, `SELECT holder FROM rekeys`) }))
			return name
		}
		dead.Start(t.Context())
		require.Eventually(t, func() bool { return holder() == "ins_dead" }, time.Minute, 5*time.Millisecond)
		dead.Close()

		next.rekeyer.Start(t.Context())
		if db.Engine() == store.Postgres {
			for range 15 { // many looks of the living one
				time.Sleep(20 * time.Millisecond)
				require.Equal(t, "ins_dead", holder())
			}
			tamper(t, db, `UPDATE rekeys SET until = 1`)
		}
		require.Equal(t, int64(1), next.done().Moved)
		require.Equal(t, map[uint32]int{2: 1}, next.under())
	})
}

// TestRekeyKeepsTheOldKeyForWhatDoesNotOpen: a damaged record may still be mended from a backup, so it holds the key, until somebody gives it up.
func TestRekeyKeepsTheOldKeyForWhatDoesNotOpen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, log := rootKey(t), &strings.Builder{}
		m := enter(t, db, root, quick(), slog.New(slog.NewJSONHandler(log, nil)))
		require.NoError(t, m.put("good", "text"))
		require.NoError(t, m.put("bad", "text"))
		tamper(t, db, `UPDATE idempotency_keys SET answer = (SELECT answer FROM idempotency_keys WHERE id = 'good') WHERE id = 'bad'`)
		_, err := m.rekeyer.Begin(t.Context(), ada(), false)
		require.NoError(t, err)
		m.rekeyer.Start(t.Context())
		require.Eventually(t, func() bool {
			at, err := m.rekeyer.Status(t.Context())
			return err == nil && at.Unreadable == 1 && at.Remaining == 1 && at.Moved == 1
		}, time.Minute, 5*time.Millisecond)
		require.Equal(t, map[uint32]int{1: 1, 2: 1}, m.under())
		time.Sleep(100 * time.Millisecond)
		at, err := m.rekeyer.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, keyring.RekeyMoving, at.State)
		_, err = m.rekeyer.Begin(t.Context(), ada(), false)
		require.Equal(t, "rekey_running", fault.Of(err).Code)
		_, err = m.rekeyer.Begin(t.Context(), ada(), true)
		require.NoError(t, err)
		m.done()
		m.rekeyer.Close()
		require.Contains(t, log.String(), "idempotency_keys.answer")
		require.Equal(t, 1, strings.Count(log.String(), "records do not open"), "told once")
		evs := events(t, db)
		require.Len(t, evs, 4)
		b, err := evs[3].Details.MarshalJSON()
		require.NoError(t, err)
		require.JSONEq(t, `{"data_key":2,"destroyed":1,"moved":1,"given_up":1}`, string(b))
	})
}

// TestAFailureIsNoReasonToLoseARecord: an error that says nothing of a record ends the pass, also of somebody who gives up what does not open.
func TestAFailureIsNoReasonToLoseARecord(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		m := enter(t, db, rootKey(t), quick(), nil)
		for i := range 40 {
			require.NoError(t, m.put(fmt.Sprint("row", i), "text"))
		}
		place, asked := answers(), atomic.Int64{}
		open, aad := place.Purpose, place.AAD
		place.Renew = func(_ *store.Tx, row keyring.Row) ([][]byte, error) {
			if asked.Add(1)%7 == 0 {
				return nil, errors.New("the database fails")
			}
			at, err := aad(row)
			require.NoError(t, err)
			v, err := m.ring.Open(open, row.A, at)
			require.NoError(t, err)
			box, err := m.ring.Seal(open, v, at)
			return [][]byte{box}, err
		}
		pace := quick()
		pace.Batch = 5 // some batches go through
		rekeyer, err := keyring.NewRekeyer(keyring.RekeyerConfig{DB: db, Ring: m.ring, Places: []keyring.Place{place}, Instance: store.NewID("ins"), Pace: pace})
		require.NoError(t, err)
		t.Cleanup(rekeyer.Close)
		_, err = rekeyer.Begin(t.Context(), ada(), true)
		require.NoError(t, err)
		rekeyer.Start(t.Context())
		m.done()
		require.Equal(t, map[uint32]int{2: 40}, m.under())
		require.Greater(t, asked.Load(), int64(40))
		evs := events(t, db)
		b, err := evs[len(evs)-1].Details.MarshalJSON()
		require.NoError(t, err)
		require.JSONEq(t, `{"data_key":2,"destroyed":1,"moved":40,"given_up":0}`, string(b))
	})
}

// TestAStaleInstanceCannotStoreUnderALostKey: an instance that slept through the change seals with the old key still; the database refuses that.
func TestAStaleInstanceCannotStoreUnderALostKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root := rootKey(t)
		m := enter(t, db, root, quick(), nil)
		require.NoError(t, m.put("row", "text"))
		asleep, err := m.ring.Seal("test", secret.FromString("late"), answerAAD("row"))
		require.NoError(t, err)
		_, err = m.rekeyer.Begin(t.Context(), ada(), false)
		require.NoError(t, err)
		m.rekeyer.Start(t.Context())
		m.done()
		for _, q := range []string{`UPDATE idempotency_keys SET answer = $1 WHERE id = 'row'`,
			`INSERT INTO idempotency_keys (id, route, request, state, action, target_id, instance, request_id, answer, created_at) VALUES ('new','','','kept','','','','',$1,0)`} {
			require.Error(t, db.Bookkeep(t.Context(), store.Replay, func(tx *store.Tx) error { _, err := tx.Exec(q, asleep); return err }))
		}
		got, err := m.get("row")
		require.NoError(t, err)
		require.Equal(t, "text", got)
	})
}

// TestInvariant12SealsAreCounted: the seals of a data key are counted over restarts; it warns half-way, refuses before 2^32, and another key
// begins anew.
func TestInvariant12SealsAreCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, log := rootKey(t), &strings.Builder{}
		m := enter(t, db, root, quick(), slog.New(slog.NewJSONHandler(log, nil)))
		for i := range 10 {
			require.NoError(t, m.put(fmt.Sprint(i), "text"))
		}
		require.Equal(t, int64(10), m.ring.Seals())
		m.rekeyer.Start(t.Context())
		m.rekeyer.Close()
		next := enter(t, db, root, quick(), slog.New(slog.NewJSONHandler(log, nil)))
		require.Equal(t, int64(10), next.ring.Seals(), "another run goes on counting")
		require.NotContains(t, log.String(), "signalbox rekey")

		tamper(t, db, `UPDATE keyring_keys SET seals = 2147483647`)
		half := enter(t, db, root, quick(), slog.New(slog.NewJSONHandler(log, nil)))
		require.NoError(t, half.put("half", "text"))
		require.Contains(t, log.String(), "signalbox rekey")

		tamper(t, db, `UPDATE keyring_keys SET seals = 4278190080`)
		full := enter(t, db, root, quick(), nil)
		_, err := full.ring.Seal("test", secret.FromString("x"), answerAAD("full"))
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, "data_key_exhausted", f.Code)
		got, err := full.get("half")
		require.NoError(t, err, "what is stored can be read")
		require.Equal(t, "text", got)
		_, err = full.rekeyer.Begin(t.Context(), ada(), false)
		require.NoError(t, err)
		full.rekeyer.Start(t.Context())
		full.done()
		require.NoError(t, full.put("full", "text"))
		require.Less(t, full.ring.Seals(), int64(100))
	})
}
