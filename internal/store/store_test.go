package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func act(target string) store.Event {
	return store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminStart, Target: store.Target{Kind: "instance", ID: target}}
}

func insertElection(tx *store.Tx, name string) error {
	_, err := tx.Exec(`INSERT INTO elections (name, holder, epoch, until) VALUES ($1,$2,$3,$4)`, name, "h", 1, 1)
	return err
}

func elections(t *testing.T, db *store.DB) []string {
	t.Helper()
	var names []string
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&names, `SELECT name FROM elections ORDER BY name`)
	}))
	return names
}

func TestWriteNeedsAnEvent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		err := db.Write(t.Context(), func(tx *store.Tx) error { return insertElection(tx, "unrecorded") })
		require.ErrorIs(t, err, store.ErrNotRecorded)
		require.Empty(t, elections(t, db))

		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
			if err := insertElection(tx, "recorded"); err != nil {
				return err
			}
			return tx.Record(act("a"))
		}))
		require.Equal(t, []string{"recorded"}, elections(t, db))

		boom := errors.New("boom")
		err = db.Write(t.Context(), func(tx *store.Tx) error {
			if err := tx.Record(act("b")); err != nil {
				return err
			}
			if err := insertElection(tx, "rolled-back"); err != nil {
				return err
			}
			return boom
		})
		require.ErrorIs(t, err, boom)
		require.Equal(t, []string{"recorded"}, elections(t, db))

		require.Error(t, db.Bookkeep(t.Context(), "fun", func(tx *store.Tx) error { return insertElection(tx, "x") }))
		require.NoError(t, db.Bookkeep(t.Context(), store.Election, func(tx *store.Tx) error { return insertElection(tx, "bookkept") }))
		require.Equal(t, []string{"bookkept", "recorded"}, elections(t, db))
		require.Zero(t, db.OpenTransactions())
	})
}

func TestTransactionsDoNotNest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			return db.Write(tx.Context(), func(tx *store.Tx) error { return tx.Record(act("x")) })
		})
		require.ErrorContains(t, err, "inside another")
	})
}

func TestRecordRefusesUnknownActionsAndReaders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		e := act("x")
		e.Action = "credential.borrow"
		err := db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(e) })
		require.ErrorContains(t, err, "no known audit action")
		err = db.Read(t.Context(), func(tx *store.Tx) error { return tx.Record(act("x")) })
		require.Error(t, err)
		_, err = db.Append(t.Context(), e)
		require.Error(t, err)
	})
}

func TestErrorsAreClassified(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			if err := insertElection(tx, "twice"); err != nil {
				return err
			}
			if err := tx.Record(act("x")); err != nil {
				return err
			}
			return insertElection(tx, "twice")
		})
		require.True(t, store.IsConflict(err), "%v", err)
		var name string
		err = db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&name, `SELECT name FROM elections WHERE name = $1`, "none") })
		require.ErrorIs(t, err, store.ErrNotFound)

		require.NoError(t, db.Close())
		err = db.Read(context.Background(), func(tx *store.Tx) error { return nil })
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		_, err = db.Append(context.Background(), lease("k", "c"))
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, "audit_unavailable", f.Code)
	})
}

func TestSecondProcessIsRefused(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	_, err := store.Open(t.Context(), cfg)
	require.ErrorIs(t, err, store.ErrLocked)
	require.ErrorContains(t, err, "--data-dir")
	require.NoError(t, db.Close())
	again, err := store.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestFilesArePrivate(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(act("x")) }))
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "*"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, f)
	}
}

func TestPostgresURLIsNeverQuoted(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2secret@127.0.0.1:1/x?connect_timeout=1", "postgres://u:hunter2secret@[::1/x", "host=127.0.0.1 password=hunter2secret port=no"} {
		var log strings.Builder
		cfg := store.Config{PostgresURL: secretOf(url), Log: textLog(&log)}
		_, err := store.Open(t.Context(), cfg)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2secret")
		require.NotContains(t, log.String(), "hunter2secret")
	}
}

func TestIDs(t *testing.T) {
	last := ""
	for range 1000 {
		id := store.NewID("cred")
		require.True(t, store.ValidID("cred", id), id)
		require.False(t, store.ValidID("train", id))
		require.Len(t, id, len("cred_")+26)
		if last != "" {
			require.GreaterOrEqual(t, id[:len("cred_")+12], last[:len("cred_")+12])
		}
		last = id
		time.Sleep(time.Microsecond)
	}
	for _, bad := range []string{"", "cred_", "cred_" + strings.Repeat("0", 25), "cred_" + strings.Repeat("u", 26), "cred_8" + strings.Repeat("0", 25), "cred_" + strings.Repeat("0", 27), "Cred_" + strings.Repeat("0", 26)} {
		require.False(t, store.ValidID("cred", bad), bad)
	}
	now := time.Now()
	require.Less(t, store.IDFloor("evt", now.Add(-time.Millisecond)), store.NewID("evt"))
	require.Greater(t, store.IDFloor("evt", now.Add(time.Minute)), store.NewID("evt"))
}

func TestRecordsAreImmutable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(act("x")) }))
		_, err := db.Append(t.Context(), lease("k", "c"))
		require.NoError(t, err)
		require.NoError(t, db.Bookkeep(t.Context(), store.Sequence, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO audit_segments (segment, lowest, highest) VALUES (0, 'a', 'b')`); err != nil {
				return err
			}
			return tx.InsertMany(`audit_postings (shard, segment, entries)`, 3, []any{0, 0, []byte{1}})
		}))
		for _, q := range []string{
			`UPDATE audit_events SET target_id = 'y'`, `DELETE FROM audit_events`, `UPDATE audit_batches SET count = 9`, `DELETE FROM audit_batches`,
			`UPDATE audit_segments SET lowest = 'x'`, `DELETE FROM audit_segments`, `UPDATE audit_postings SET shard = 1`, `DELETE FROM audit_postings`,
		} {
			err := db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { _, err := tx.Exec(q); return err })
			require.Error(t, err, q)
		}
	})
}

func TestBindsByNumber(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var got struct {
			A string `db:"a"`
			B string `db:"b"`
		}
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&got, `SELECT CAST($2 AS TEXT) AS a, CAST($1 AS TEXT) AS b`, "first", "second")
		}))
		require.Equal(t, "second", got.A)
		require.Equal(t, "first", got.B)
	})
}

func TestStartTwiceIsAnError(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Start(t.Context()))
		require.ErrorContains(t, db.Start(t.Context()), "already")
		require.NoError(t, db.Close())
	})
}

// TestCommitsAndPoolsAreTold: each try of a group commit is told of, a failed one too, and the pools tell what they have.
func TestCommitsAndPoolsAreTold(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			type try struct {
				events int
				stored bool
			}
			var mu sync.Mutex
			var tries []try
			cfg := storetest.Config(t, e)
			cfg.Committed = func(events int, took time.Duration, stored bool) {
				mu.Lock()
				defer mu.Unlock()
				require.Positive(t, took)
				tries = append(tries, try{events, stored})
			}
			db := storetest.OpenConfig(t, cfg)
			_, err := db.Append(t.Context(), lease("key_1", "cred_1"))
			require.NoError(t, err)
			require.Equal(t, []try{{1, true}}, tries)
			require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`ALTER TABLE audit_batches RENAME TO away`)
				return err
			}))
			_, err = db.Append(t.Context(), lease("key_1", "cred_1"))
			require.Error(t, err)
			require.Equal(t, []try{{1, true}, {1, false}}, tries)

			var names []string
			open := 0
			for _, p := range db.Pools() {
				names = append(names, p.Name)
				require.Positive(t, p.Max)
				require.LessOrEqual(t, p.Open, p.Max)
				open += p.Open
			}
			want := []string{"read", "write", "wal"}
			if e == store.Postgres {
				want = []string{"main", "feed"}
			}
			require.Equal(t, want, names)
			require.Positive(t, open)
		})
	}
}
