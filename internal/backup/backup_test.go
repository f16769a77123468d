package backup_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const planted = "Planted-Name-Of-Somebody-4711"

func newRoot(t *testing.T) secret.RootKey {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return root
}

func furnished(t *testing.T, e store.Engine) *store.DB {
	t.Helper()
	db := storetest.Open(t, e)
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ('usr_1', $1, $1, 'admin', '', 1, -5, 9223372036854775807)`, planted); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO setup_links (id, hash, created_at, expires_at) VALUES ('l', $1, 1, 2)`, []byte{}); err != nil {
			return err
		}
		return tx.Record(store.Event{Actor: store.Actor{Kind: "person", Name: planted}, Action: store.UserCreate, Target: store.Target{Kind: "user", ID: "usr_1", Name: planted}})
	}))
	return db
}

func taken(t *testing.T, db *store.DB, root secret.RootKey) []byte {
	t.Helper()
	var b bytes.Buffer
	head, err := backup.Write(t.Context(), db, &b, backup.Options{ID: store.NewID("bak"), Root: root, Version: "test"})
	require.NoError(t, err)
	require.Equal(t, root.ID(), head.RootKey)
	return b.Bytes()
}

// read reads a backup to its end, as a restore does.
func read(box []byte, root secret.RootKey) (map[string][][]any, error) {
	r, err := backup.Open(bytes.NewReader(box), root, nil)
	if err != nil {
		return nil, err
	}
	out := map[string][][]any{}
	for {
		t, more, err := r.Table()
		if err != nil || !more {
			return out, err
		}
		for {
			row, more, err := r.Row()
			if err != nil {
				return out, err
			}
			if !more {
				break
			}
			out[t.Name] = append(out[t.Name], append([]any{}, row...))
		}
	}
}

// TestABackupRestores: into either engine, marked as restored, without what has passed, and with it when it is a move.
func TestABackupRestores(t *testing.T) {
	root := newRoot(t)
	for _, from := range storetest.Engines() {
		box := taken(t, furnished(t, from), root)
		require.NotContains(t, string(box), planted, "names and records do not lie readable in a backup")
		for _, into := range storetest.Engines() {
			for _, moved := range []bool{false, true} {
				cfg := storetest.Config(t, into)
				r, err := backup.Open(bytes.NewReader(box), root, nil)
				require.NoError(t, err)
				o := store.LoadOptions{Schema: r.Head.Schema, Finish: func(tx *store.Tx) error { return backup.Mark(tx, r.Head, moved) }}
				if !moved {
					o.Without = backup.Passing()
				}
				_, err = store.Load(t.Context(), cfg, o, r)
				require.NoError(t, err)
				db := storetest.OpenConfig(t, cfg)
				var links, people int
				require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
					if err := tx.Get(&people, `SELECT COUNT(*) FROM users WHERE name = $1 AND created_at = -5 AND updated_at = 9223372036854775807`, planted); err != nil {
						return err
					}
					return tx.Get(&links, `SELECT COUNT(*) FROM setup_links`)
				}))
				require.Equal(t, 1, people)
				require.Equal(t, moved, links == 1, "a link that was used since must not work again")

				calls := 0
				told := func(_ *store.Tx, at time.Time) error {
					require.True(t, at.Equal(r.Head.At))
					calls++
					return nil
				}
				done, err := backup.Record(t.Context(), db, told)
				require.NoError(t, err)
				require.Equal(t, r.Head.ID, done.BackupID)
				require.Equal(t, !moved, calls == 1)
				done, err = backup.Record(t.Context(), db, told)
				require.NoError(t, err)
				require.Nil(t, done, "a restore is recorded once")
				require.Equal(t, 1, count(t, db, store.AdminRestore))
			}
		}
	}
}

func count(t *testing.T, db *store.DB, action store.Action) (n int) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Get(&n, `SELECT COUNT(*) FROM audit_events WHERE action = $1`, string(action))
	}))
	return n
}

// TestPassingTablesExist: a table that a migration renames would come back by a restore.
func TestPassingTablesExist(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	for name, why := range backup.Passing() {
		require.NotEmpty(t, why)
		var n int
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM `+name) }), name)
	}
}

// TestEveryByteCounts: flip any byte, cut at any place, and the backup is refused.
func TestEveryByteCounts(t *testing.T) {
	root := newRoot(t)
	box := taken(t, furnished(t, store.SQLite), root)
	whole, err := read(box, root)
	require.NoError(t, err)
	require.Len(t, whole["users"], 1)
	for i := range box {
		bent := bytes.Clone(box)
		bent[i] ^= 1 << (i % 8)
		_, err := read(bent, root)
		require.Error(t, err, "byte %d of %d", i, len(box))
		require.NotContains(t, err.Error(), planted)
	}
	for i := range box {
		_, err := read(box[:i], root)
		require.Error(t, err, "cut at %d", i)
	}
	_, err = read(append(bytes.Clone(box), 0), root)
	require.ErrorIs(t, err, backup.ErrDamaged)
	_, err = read(append(bytes.Clone(box), box...), root)
	require.ErrorIs(t, err, backup.ErrDamaged)
	// The head of one backup before the pieces of another.
	other := taken(t, furnished(t, store.SQLite), root)
	cut := func(b []byte) int { return bytes.IndexByte(b[17:], '\n') + 18 }
	_, err = read(append(bytes.Clone(other[:cut(other)]), box[cut(box):]...), root)
	require.ErrorIs(t, err, backup.ErrDamaged)
}

// TestTheWrongRootKey: only key ids are told.
func TestTheWrongRootKey(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	box := taken(t, furnished(t, store.SQLite), root)
	_, err := read(box, other)
	require.ErrorContains(t, err, root.ID())
	require.ErrorContains(t, err, other.ID())
	require.NotContains(t, err.Error(), other.Text().Reveal())
	_, err = read(box, secret.RootKey{})
	require.ErrorContains(t, err, "no root key is given")
	require.ErrorContains(t, err, root.ID())
	// A head that was made to name the other key helps nobody.
	_, err = read(bytes.Replace(box, []byte(root.ID()), []byte(other.ID()), 1), other)
	require.ErrorIs(t, err, backup.ErrDamaged)
	require.NotContains(t, string(box), string(root.Text().Bytes()))
}

// TestWhatIsNoBackup: other files are told as what they are, and one of a newer form says what to do.
func TestWhatIsNoBackup(t *testing.T) {
	root := newRoot(t)
	for _, text := range []string{"", "x", "SQLite format 3\x00", "signalbox", strings.Repeat("a", 1<<20)} {
		_, err := read([]byte(text), root)
		require.ErrorContains(t, err, "no backup", text[:min(len(text), 20)])
	}
	_, err := read([]byte("signalbox backup\n{\"format\": 2}\n"), root)
	require.ErrorContains(t, err, "format 2")
	for _, text := range []string{"{", "{}", "[]", `{"format":1,"format":1}`, strings.Repeat("a", 1<<20)} {
		_, err := read([]byte("signalbox backup\n"+text+"\n"), root)
		require.ErrorIs(t, err, backup.ErrDamaged)
	}
}

// FuzzOpen: no file makes it panic, or take what it is not.
func FuzzOpen(f *testing.F) {
	root, err := secret.NewRootKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("signalbox backup\n{\"format\":1}\n"))
	f.Add([]byte("signalbox backup\n{\"format\":1,\"id\":\"bak_01h00000000000000000000000\",\"schema\":1,\"root_key\":\"" + root.ID() + "\",\"key\":\"AAAA\"}\n0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := read(b, root); err == nil {
			t.Fatal("taken")
		}
	})
}

// TestBackupsAreRemembered: pending, then ok with the size, or failed.
func TestBackupsAreRemembered(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var last *backup.Taken
		look := func() *backup.Taken {
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) (err error) { last, err = backup.Last(tx); return err }))
			return last
		}
		require.Nil(t, look())
		root := newRoot(t)
		var b bytes.Buffer
		id := store.NewID("bak")
		require.NoError(t, backup.Begin(t.Context(), db, id))
		head, err := backup.Write(t.Context(), db, &b, backup.Options{ID: id, Root: root})
		require.NoError(t, err)
		require.NoError(t, backup.Done(t.Context(), db, head, int64(b.Len())))
		require.Equal(t, id, look().ID)
		require.Equal(t, int64(b.Len()), last.Bytes)
		older := head
		older.ID, older.At = store.NewID("bak"), head.At.Add(-time.Hour)
		require.NoError(t, backup.Done(t.Context(), db, older, 7))
		require.Equal(t, id, look().ID)
		var taken []backup.Taken
		var restored []backup.Restore
		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) (err error) {
			if taken, err = backup.Recent(tx, 10); err != nil {
				return err
			}
			if err = backup.Mark(tx, older, true); err != nil {
				return err
			}
			if restored, err = backup.Restores(tx, 10); err != nil {
				return err
			}
			return tx.Record(store.Event{Actor: store.Actor{Kind: "system", ID: "test"}, Action: store.AdminStart, Target: store.Target{Kind: "test"}})
		}))
		require.Len(t, taken, 2)
		require.Equal(t, []string{id, older.ID}, []string{taken[0].ID, taken[1].ID})
		require.Empty(t, restored, "no server has started on it yet")
		_, err = backup.Record(t.Context(), db, func(*store.Tx, time.Time) error { return nil })
		require.NoError(t, err)
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) (err error) { restored, err = backup.Restores(tx, 10); return err }))
		require.Len(t, restored, 1)
		require.Equal(t, older.ID, restored[0].BackupID)
		require.EqualValues(t, 1, restored[0].Moved)
		require.NoError(t, backup.Failed(t.Context(), db, store.NewID("bak")))
		require.Equal(t, id, look().ID, "one that failed is none")

		running := func() (out []backup.Run) {
			t.Helper()
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) (err error) { out, err = backup.Running(tx); return err }))
			return out
		}
		require.Empty(t, running())
		fails, ends := store.NewID("bak"), older
		ends.ID = store.NewID("bak")
		require.NoError(t, backup.Note(t.Context(), db, fails, 0, 10))
		require.NoError(t, backup.Note(t.Context(), db, ends.ID, 1, 20))
		require.NoError(t, backup.Note(t.Context(), db, fails, 7, 10))
		at := running()
		require.Len(t, at, 2)
		require.Equal(t, []any{fails, int64(7), int64(10)}, []any{at[0].ID, at[0].Done, at[0].Total})
		require.GreaterOrEqual(t, at[0].Seen, at[0].At)
		require.NoError(t, backup.Failed(t.Context(), db, fails))
		require.NoError(t, backup.Done(t.Context(), db, ends, 9))
		require.Empty(t, running())
		require.NoError(t, backup.Note(t.Context(), db, id, 3, 10))
		require.NoError(t, db.Bookkeep(t.Context(), store.Counter, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE backup_runs SET seen_at = seen_at - 31000000`)
			return err
		}))
		require.Empty(t, running(), "it was cut off")
		require.Equal(t, 6, count(t, db, store.AdminBackup))
	})
}
