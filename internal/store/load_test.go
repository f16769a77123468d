package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// held is a dump in memory.
type held struct {
	snap store.Snapshot
	rows map[string][][]any
	at   int
	next int
	last string
	fail error // instead of the end
}

func (h *held) Begin(s store.Snapshot) error {
	h.snap, h.rows = s, map[string][][]any{}
	return nil
}
func (h *held) Table(t store.Table) error { h.last = t.Name; return nil }
func (h *held) Row(values []any) error {
	h.rows[h.last] = append(h.rows[h.last], slices.Clone(values))
	return nil
}

// again hands out what was told.
type again struct{ h *held }

func (a again) Table() (store.Table, bool, error) {
	h := a.h
	if h.at == len(h.snap.Tables) {
		return store.Table{}, false, h.fail
	}
	t := h.snap.Tables[h.at]
	h.at++
	h.next, h.last = 0, t.Name
	return t, true, nil
}

func (a again) Row() ([]any, bool, error) {
	rows := a.h.rows[a.h.last]
	if a.h.next == len(rows) {
		return nil, false, nil
	}
	a.h.next++
	return rows[a.h.next-1], true, nil
}

func dump(t *testing.T, db *store.DB) *held {
	t.Helper()
	h := &held{}
	require.NoError(t, db.Dump(t.Context(), h))
	return h
}

// sorted makes dumps comparable, in which rows have no order.
func (h *held) sorted() map[string][][]any {
	out := map[string][][]any{}
	for name, rows := range h.rows {
		out[name] = slices.SortedFunc(slices.Values(rows), func(a, b []any) int { return slices.Compare([]string{text(a)}, []string{text(b)}) })
	}
	return out
}

func text(row []any) (s string) {
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			s += "|-"
		case int64:
			s += "|" + string(rune('0'+v%10)) + time.UnixMicro(v).String()
		case string:
			s += "|" + v
		case []byte:
			s += "|" + string(v)
		}
	}
	return s
}

// furnish stores a row of every kind of value: acts, batches, what is sequenced, text that is hard to carry, an empty and a missing secret.
func furnish(t *testing.T, db *store.DB) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1,$2,$3,$4,$5,1,$6,$6)`,
			"usr_1", "a@example.org", "Ünïcode \"quoted\" \\ \t\n 名 \U0001F511", "admin", "", int64(-1)); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO oauth_flows (id, state, owner, sealed, next_at, created_at, expires_at) VALUES ('f', NULL, 'o', $1, 1, 2, 3)`, []byte{}); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES (0, 1, 'x', $1)`, []byte{0, 255, 0, 1}); err != nil {
			return err
		}
		return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminStart, Target: store.Target{Kind: "instance"}})
	}))
	for range 3 {
		appendLease(t, db)
	}
}

func appendLease(t *testing.T, db *store.DB) {
	t.Helper()
	_, err := db.Append(t.Context(), lease("key_1", "cred_1"))
	require.NoError(t, err)
}

// TestDumpLoadsIntoEitherEngine: what comes out of a database is what went in, from either engine into either, and what is immutable is so there.
func TestDumpLoadsIntoEitherEngine(t *testing.T) {
	for _, from := range storetest.Engines() {
		source := storetest.Open(t, from)
		require.NoError(t, source.Start(t.Context()))
		furnish(t, source)
		h := dump(t, source)
		require.Equal(t, from, h.snap.Engine)
		require.Len(t, h.rows["audit_batches"], 3)
		require.Len(t, h.rows["audit_pending"], 4)
		for _, into := range storetest.Engines() {
			t.Run(string(from)+" to "+string(into), func(t *testing.T) {
				h.at = 0
				cfg := storetest.Config(t, into)
				did, err := store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema, Finish: func(tx *store.Tx) error {
					_, err := tx.Exec(`UPDATE users SET name = name`)
					return err
				}}, again{h})
				require.NoError(t, err)
				require.Equal(t, h.snap.Rows(), did.Rows)
				require.Empty(t, did.Kept)
				target := storetest.OpenConfig(t, cfg)
				require.NoError(t, target.Start(t.Context()))
				got := dump(t, target)
				want := h.sorted()
				require.Equal(t, want, got.sorted())
				for _, immutable := range []string{"UPDATE audit_events SET at = 1", "DELETE FROM audit_leaves"} {
					require.Error(t, target.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { _, err := tx.Exec(immutable); return err }), immutable)
				}
				furnishMore(t, target)
				require.Len(t, dump(t, target).rows["audit_pending"], 6, "a batch that is stored there waits for its place")
			})
		}
	}
}

func furnishMore(t *testing.T, db *store.DB) {
	t.Helper()
	appendLease(t, db)
	require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminStop, Target: store.Target{Kind: "instance"}})
	}))
}

// TestDumpHasEveryTable: what a dump leaves out is listed with its reason; everything else is in it, with every column, on both engines alike.
func TestDumpHasEveryTable(t *testing.T) {
	all := map[string]map[string][]store.Column{}
	for _, e := range storetest.Engines() {
		db := storetest.Open(t, e)
		h := dump(t, db)
		tables := map[string][]store.Column{}
		var names []string
		for _, table := range h.snap.Tables {
			slices.SortFunc(table.Columns, func(a, b store.Column) int { return slices.Compare([]string{a.Name}, []string{b.Name}) })
			tables[table.Name] = table.Columns
			names = append(names, table.Name)
		}
		for name, why := range store.LeftOut() {
			require.NotContains(t, names, name)
			require.NotEmpty(t, why)
			names = append(names, name)
		}
		query := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`
		if e == store.Postgres {
			query = `SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r','p')`
		} else {
			names = slices.DeleteFunc(names, func(n string) bool { return n == "changes" })
		}
		var there []string
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&there, query) }))
		require.ElementsMatch(t, there, names, "a table is neither dumped nor in LeftOut")
		all[string(e)] = tables
	}
	if len(all) == 2 {
		require.Equal(t, all[string(store.SQLite)], all[string(store.Postgres)])
	}
}

// TestDumpIsOneMoment: transfers go on while it is told, and it shows none of them by half.
func TestDumpIsOneMoment(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Start(t.Context()))
		furnish(t, db)
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		writers.Go(func() {
			for ctx.Err() == nil {
				_ = db.Write(ctx, func(tx *store.Tx) error {
					id := store.NewID("usr")
					if _, err := tx.Exec(`INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1,$1,'','','',1,1,1)`, id); err != nil {
						return err
					}
					return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.UserCreate, Target: store.Target{Kind: "user", ID: id}})
				})
			}
		})
		for range 10 {
			h := dump(t, db)
			require.Len(t, h.rows["audit_events"], len(h.rows["users"]), "each person has their record")
			time.Sleep(5 * time.Millisecond)
		}
		stop()
		writers.Wait()
	})
}

// TestLoadIsWholeOrNothing: what breaks off in the middle, or at the very end, leaves what was there.
func TestLoadIsWholeOrNothing(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			source := storetest.Open(t, e)
			furnish(t, source)
			h := dump(t, source)
			broken := errors.New("the last piece does not open")
			cfg := storetest.Config(t, e)

			h.fail = broken
			_, err := store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			require.ErrorIs(t, err, broken)
			if e == store.SQLite {
				left, err := os.ReadDir(cfg.DataDir)
				require.NoError(t, err)
				for _, f := range left {
					require.Equal(t, store.LockName, f.Name())
				}
			}
			require.NotContains(t, dump(t, storetest.OpenConfig(t, cfg)).rows, "users")

			occupied := storetest.Config(t, e)
			there := storetest.OpenConfig(t, occupied)
			furnish(t, there)
			furnishMore(t, there)
			before := dump(t, there).sorted()
			require.NoError(t, there.Close())
			h.at, h.fail = 0, nil
			_, err = store.Load(t.Context(), occupied, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			var full *store.ErrOccupied
			require.ErrorAs(t, err, &full)
			require.ErrorContains(t, err, "people 1, recorded acts 2")
			h.at, h.fail = 0, broken
			_, err = store.Load(t.Context(), occupied, store.LoadOptions{Schema: h.snap.Schema, Replace: true}, again{h})
			require.ErrorIs(t, err, broken)
			there = storetest.OpenConfig(t, occupied)
			require.Equal(t, before, dump(t, there).sorted())
			require.NoError(t, there.Close())

			h.at, h.fail = 0, nil
			did, err := store.Load(t.Context(), occupied, store.LoadOptions{Schema: h.snap.Schema, Replace: true}, again{h})
			require.NoError(t, err)
			there = storetest.OpenConfig(t, occupied)
			require.Equal(t, h.sorted(), dump(t, there).sorted())
			if e == store.SQLite {
				kept := t.TempDir()
				require.NoError(t, os.Rename(did.Kept, filepath.Join(kept, store.FileName)))
				require.Equal(t, before, dump(t, storetest.OpenConfig(t, store.Config{DataDir: kept})).sorted(), "the old file stays")
			}
		})
	}
}

// TestLoadRefuses: a running server, a newer schema, and a dump that is not of its schema.
func TestLoadRefuses(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			there := storetest.OpenConfig(t, cfg)
			h := dump(t, there)
			h.at = 0
			_, err := store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			require.ErrorContains(t, err, "stop", "while somebody has it open")
			require.NoError(t, there.Close())

			_, err = store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema + 1}, again{h})
			require.ErrorIs(t, err, store.ErrNewer)
			h.at = 0
			whole := h.snap.Tables
			h.snap.Tables = whole[1:]
			_, err = store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			require.ErrorContains(t, err, "lacks the table")
			h.at, h.snap.Tables = 0, slices.Clone(whole)
			h.snap.Tables[2].Columns = h.snap.Tables[2].Columns[1:]
			_, err = store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			require.ErrorContains(t, err, "is not that of schema")
			h.at, h.snap.Tables = 0, slices.Clone(whole)
			h.snap.Tables[0].Rows++
			_, err = store.Load(t.Context(), cfg, store.LoadOptions{Schema: h.snap.Schema}, again{h})
			require.ErrorContains(t, err, "in place of")
		})
	}
}

// TestLoadOfAnOlderSchema: an old dump is loaded into its own schema, and that goes on to this one's.
func TestLoadOfAnOlderSchema(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			source := storetest.Open(t, e)
			furnish(t, source)
			h := dump(t, source)
			// What later steps have made is not in a dump of 31.
			texts, err := store.Schema(e)
			require.NoError(t, err)
			made := func(table string, later bool) bool {
				return slices.ContainsFunc(texts, func(text string) bool {
					return (text[:8] > "-- 00031") == later && strings.Contains(text, "CREATE TABLE "+table+" ")
				})
			}
			h.snap.Tables = slices.DeleteFunc(h.snap.Tables, func(t store.Table) bool { return made(t.Name, true) && !made(t.Name, false) })
			for i, table := range h.snap.Tables { // a table that was made anew has another column; nothing is in it here
				if table.Name == "keyring_keys" {
					require.Zero(t, table.Rows)
					h.snap.Tables[i].Columns = slices.DeleteFunc(slices.Clone(table.Columns), func(c store.Column) bool { return c.Name == "seals" })
				}
				came := map[string]bool{} // likewise columns that came later
				for _, text := range texts {
					for _, m := range regexp.MustCompile(`ALTER TABLE (\w+) ADD COLUMN (\w+)`).FindAllStringSubmatch(text, -1) {
						came[m[2]] = came[m[2]] || m[1] == table.Name && text[:8] > "-- 00031"
					}
				}
				columns := h.snap.Tables[i].Columns
				h.snap.Tables[i].Columns = slices.DeleteFunc(slices.Clone(columns), func(c store.Column) bool { return came[c.Name] })
				for n, row := range h.rows[table.Name] {
					kept := make([]any, 0, len(row))
					for at, value := range row {
						if !came[columns[at].Name] {
							kept = append(kept, value)
						}
					}
					h.rows[table.Name][n] = kept
				}
			}
			cfg := storetest.Config(t, e)
			did, err := store.Load(t.Context(), cfg, store.LoadOptions{Schema: 31}, again{h})
			require.NoError(t, err)
			latest, err := store.Latest()
			require.NoError(t, err)
			require.Equal(t, int64(31), did.Migrated.From)
			require.Equal(t, latest, did.Migrated.To)
			require.Len(t, dump(t, storetest.OpenConfig(t, cfg)).rows["users"], 1)
		})
	}
}

// TestBesideAServer: an act is recorded beside a running server, which learns of it, and no other schema is written to.
func TestBesideAServer(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			server := storetest.OpenConfig(t, cfg)
			require.NoError(t, server.Start(t.Context()))
			beside := cfg
			beside.Beside = true
			guest, err := store.Open(t.Context(), beside)
			require.NoError(t, err)
			furnishMore(t, guest)
			require.NoError(t, guest.Close())
			require.Len(t, dump(t, server).rows["audit_events"], 1)
			furnishMore(t, server)
			require.NoError(t, server.Close())
			if e == store.SQLite {
				storetest.SetSchema(t, cfg.DataDir, 31)
				_, err = store.Open(t.Context(), beside)
				require.ErrorContains(t, err, "schema 31")
				_, err = store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Beside: true})
				require.ErrorContains(t, err, "no database")
			}
		})
	}
}
