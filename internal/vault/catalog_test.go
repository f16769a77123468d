package vault

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// glass seals and binds nothing: lists have nothing to do with what is sealed or bound.
type glass struct{}

func (glass) Seal(_ string, v secret.Value, _ secret.AAD) ([]byte, error) { return []byte("x"), nil }
func (glass) MAC(string, []byte) ([]byte, error)                          { return []byte("x"), nil }
func (glass) SameMAC(string, []byte, []byte) (bool, error)                { return true, nil }
func (glass) Open(string, []byte, secret.AAD) (secret.Value, error) {
	return secret.FromString("x"), nil
}

var lister = identity.Caller{Kind: identity.KindPerson, ID: "user_1", Name: "Ada", UserID: "user_1", Role: identity.Administrator}

func lists(t *testing.T, db *store.DB) *Room {
	t.Helper()
	r, err := New(Config{DB: db, Ring: glass{}, Binder: glass{}, CheckURL: func(*url.URL) error { return nil }})
	require.NoError(t, err)
	return r
}

// fill stores n credentials past the room, and announces none of them.
func fill(t *testing.T, db *store.DB, n int, draw func(i int, m *Meta)) (ids []string) {
	t.Helper()
	kind, _ := Lookup(Password)
	for ids == nil || len(ids) < n {
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			var versions, connections []any
			for range min(1000, n-len(ids)) {
				s := stored{row: kind, state: Active, Credential: Credential{ID: store.NewID(credentialPrefix), Type: Password, Version: 1, Revision: 1, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}}
				draw(len(ids), &s.Meta)
				s.binding = []byte{bindingFormat, 'x'} // as glass makes it
				if err := s.insert(tx, nil); err != nil {
					return err
				}
				ids = append(ids, s.ID)
				versions = append(versions, s.ID, 1, `["password"]`, "", "", 0, "", "", store.TimeOf(tx.Now()))
				connections = append(connections, s.ID, 1, []byte{1}, "ready", "healthy", "", 0, 0, 0, 0, 0, 0, 0, 0, "", 0, 0)
			}
			if err := tx.InsertMany(`credential_versions (credential_id, version, fields, suffix, reason, restored_from, created_by, created_by_name, created_at)`, 9, versions); err != nil {
				return err
			}
			// As many connections, so that plans are those of a table that is worth an index.
			return tx.InsertMany(`oauth_connections (credential_id, generation, mark, state, health, claim_id, claim_until, attempts, attempted_at, first_at, cool_until, safe_at,
				rejected_at, failures, code, refreshed_at, updated_at)`, 17, connections)
		}))
	}
	return ids
}

// plainScan is the list as the database alone would make it.
func plainScan(t *testing.T, db *store.DB, f Filter, after string) (ids []string) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		where := f.where(tx, after)
		return tx.Select(&ids, `SELECT c.id`+rowTables+where.SQL()+` ORDER BY c.id LIMIT `+where.Arg(f.Limit)+` OFFSET `+where.Arg(f.Skip), where.Args()...)
	}))
	return ids
}

func idsOf(items []Credential) (ids []string) {
	for _, c := range items {
		ids = append(ids, c.ID)
	}
	return ids
}

// TestListsAgreeWithAPlainScan compares lists with what the database says to the same conditions, while credentials come, change and go.
func TestListsAgreeWithAPlainScan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	vocabulary := []string{"a", "b", "ab", "Abc", "abcabd", "GitLab", "straße", "STRASSE", "İzmir", "\u212Aelvin", "kelvin", "100%", "_", `\`, "o'neill", "日本語", "日", "é", "e\u0301", "x\ty", "mail@example.com", "ꓐ"}
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			pick := func() string { return strings.ReplaceAll(vocabulary[rng.IntN(len(vocabulary))], "\t", " ") }
			text := func() string {
				var out []string
				for range rng.IntN(3) {
					out = append(out, pick())
				}
				return strings.Join(out, " ")
			}
			cfg := storetest.Config(t, engine)
			at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
			cfg.Clock = func() time.Time { return at }
			db := storetest.OpenConfig(t, cfg)
			r := lists(t, db)
			around := func() time.Time {
				return at.Add(time.Duration(rng.IntN(4)-1) * ExpiringWithin).Add(time.Duration(rng.IntN(3)-1) * time.Microsecond)
			}
			draft := func() Draft {
				d := Draft{Type: Password, Secrets: map[string]secret.Value{"password": secret.FromString("x")}}
				if rng.IntN(2) == 0 {
					d.Type, d.Secrets = APIKey, map[string]secret.Value{"api_key": secret.FromString("x")}
				}
				if rng.IntN(3) == 0 {
					d.Type, d.Secrets = OAuth, map[string]secret.Value{"access_token": secret.FromString("x")}
					if rng.IntN(2) == 0 {
						d.Secrets["refresh_token"] = secret.FromString("x")
					}
				}
				d.Meta = Meta{Name: pick() + strconv.Itoa(rng.IntN(20)), Description: text(), Owner: text(), ClientID: text(), ServiceID: text(),
					InfrastructureID: text(), PluginName: text()}
				storetest.Homes(t, db, d.ClientID, d.ServiceID, d.InfrastructureID)
				for range rng.IntN(3) {
					d.Tags = append(d.Tags, pick())
				}
				switch rng.IntN(4) {
				case 0, 1:
					d.Provider = strings.ToLower(pick())
				case 2: // an account, if the type can be one; their names are unique
					d.Provider, d.Name = Providers()[0].Name, d.Name+strconv.FormatUint(rng.Uint64(), 36)
				}
				if rng.IntN(2) == 0 {
					e := around()
					d.ExpiresAt = &e
				}
				d.RotateEvery = max(0, rng.IntN(4)-1)
				if d.Type == OAuth && rng.IntN(2) == 0 {
					e := around()
					d.OAuth.ExpiresAt = &e
				}
				return d
			}
			var ids []string
			act := func() {
				switch k := rng.IntN(10); {
				case k < 5 || len(ids) == 0:
					c, err := r.Create(t.Context(), lister, draft())
					require.NoError(t, err)
					ids = append(ids, c.ID)
				case k < 7:
					d := draft()
					p := Patch{Owner: To(d.Owner), Description: To(d.Description), Tags: To(d.Tags), ExpiresAt: To(d.ExpiresAt),
						State: To([]Status{Active, Disabled, Compromised}[rng.IntN(3)])}
					now, err := r.Get(t.Context(), lister, ids[rng.IntN(len(ids))])
					require.NoError(t, err)
					_, err = r.Update(t.Context(), lister, now.ID, p, now.ETag())
					require.NoError(t, err)
				case k < 9: // a refresh came to something, with this version or an earlier one
					require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
						for range 8 {
							id := ids[rng.IntN(len(ids))]
							tx.Change(store.TopicCredential, id)
							if _, err := tx.Exec(`INSERT INTO oauth_connections (credential_id, generation, mark, state, health, claim_id, claim_until, attempts, attempted_at, first_at,
								cool_until, safe_at, rejected_at, failures, code, refreshed_at, updated_at) VALUES ($1,$2,$3,'ready',$4,'',0,0,0,0,0,0,0,0,'',0,0)
								ON CONFLICT (credential_id) DO UPDATE SET generation = excluded.generation, health = excluded.health`,
								id, rng.IntN(3), []byte{1}, string(Healths()[rng.IntN(4)])); err != nil {
								return err
							}
						}
						return nil
					}))
				default:
					i := rng.IntN(len(ids))
					require.NoError(t, r.Delete(t.Context(), lister, ids[i], ""))
					ids = slices.Delete(ids, i, i+1)
				}
			}
			maybe := func(v string) string {
				if rng.IntN(4) > 0 {
					return ""
				}
				return strings.TrimSpace(v)
			}
			query := func() string {
				var out []string
				for range rng.IntN(3) {
					word := []rune(pick())
					from := rng.IntN(len(word))
					word = word[from : from+1+rng.IntN(len(word)-from)]
					if out = append(out, string(word)); rng.IntN(3) == 0 {
						out[len(out)-1] = strings.ToUpper(string(word))
					}
				}
				return strings.TrimSpace(strings.Join(out, " "))
			}
			found := 0
			for range 60 {
				for range rng.IntN(6) {
					act()
				}
				for range 12 {
					f := Filter{Provider: maybe(strings.ToLower(pick())), Owner: maybe(text()), ClientID: maybe(text()), ServiceID: maybe(text()), InfrastructureID: maybe(text()),
						PluginName: maybe(text()), Tag: maybe(pick()), Status: Status(maybe(string(Statuses()[rng.IntN(5)]))), Type: Type(maybe(string(Password))), Health: Health(maybe(string(Healths()[rng.IntN(4)]))),
						Q: query(), Limit: 1 + rng.IntN(12), Skip: max(0, rng.IntN(12)-6)}
					if rng.IntN(8) == 0 {
						f.Accounts, f.Provider, f.Type = true, "", ""
					}
					if rng.IntN(4) == 0 {
						e := around()
						f.ExpiresBefore = &e
					}
					if rng.IntN(4) == 0 {
						e := at.AddDate(0, 0, rng.IntN(4)).Add(time.Duration(rng.IntN(3)-1) * time.Microsecond)
						f.RotationDueBefore = &e
					}
					if rng.IntN(4) == 0 && len(ids) > 0 {
						f.IDs = []string{store.NewID(credentialPrefix)}
						for range rng.IntN(40) {
							f.IDs = append(f.IDs, ids[rng.IntN(len(ids))])
						}
					}
					after := ""
					if rng.IntN(3) == 0 && len(ids) > 0 {
						after = ids[rng.IntN(len(ids))]
						f.Cursor = encodeCursor(after)
					}
					got, next, err := r.List(t.Context(), lister, f)
					require.NoError(t, err)
					f.Limit++
					want := plainScan(t, db, f, after)
					f.Limit--
					more := len(want) > f.Limit
					want = want[:min(len(want), f.Limit)]
					require.Equal(t, want, idsOf(got), "seed %d, %+v", seed, f)
					for _, c := range got {
						require.True(t, f.Health == "" || c.Health == f.Health, "seed %d: %s in a list of %s", seed, c.Health, f.Health)
					}
					require.Equal(t, more, next != "", "seed %d, %+v", seed, f)
					if found += len(want); more {
						require.Equal(t, encodeCursor(want[len(want)-1]), next)
					}
				}
			}
			require.Greater(t, found, 100, "the comparison compared next to nothing")
			last, err := r.Create(t.Context(), lister, Draft{Type: OAuth, Meta: Meta{Name: "last"}, Secrets: map[string]secret.Value{"access_token": secret.FromString("x")}})
			require.NoError(t, err)
			for _, h := range Healths() { // whatever chance has brought
				require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
					tx.Change(store.TopicCredential, last.ID)
					_, err := tx.Exec(`INSERT INTO oauth_connections (credential_id, generation, mark, state, health, claim_id, claim_until, attempts, attempted_at, first_at,
						cool_until, safe_at, rejected_at, failures, code, refreshed_at, updated_at) VALUES ($1,1,$2,'ready',$3,'',0,0,0,0,0,0,0,0,'',0,0)
						ON CONFLICT (credential_id) DO UPDATE SET health = excluded.health`, last.ID, []byte{1}, string(h))
					return err
				}))
				for _, asked := range Healths() {
					got, _, err := r.List(t.Context(), lister, Filter{Health: asked, Q: "last", Type: OAuth, Limit: 1000})
					require.NoError(t, err)
					require.Equal(t, asked == h, slices.Contains(idsOf(got), last.ID), "%s in a list of %s", h, asked)
				}
			}
		})
	}
}

// TestListsReadOnlyThePage: with a filter the database is asked by primary key for the page alone, however many credentials there are, and
// after a change for what changed alone.
func TestListsReadOnlyThePage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const n = 6000
		ids := fill(t, db, n, func(i int, m *Meta) {
			m.Name, m.Tags, m.Owner = fmt.Sprintf("grown-%06d", i), []string{"group-" + strconv.Itoa(i%10)}, "ops"
		})
		r := lists(t, db)
		require.NoError(t, db.Start(t.Context()))
		list := func(f Filter) []Credential {
			t.Helper()
			items, _, err := r.List(t.Context(), lister, f)
			require.NoError(t, err)
			return items
		}
		require.Len(t, list(Filter{Q: "wn-00", Tag: "group-3"}), 100)
		require.EqualValues(t, n, r.catalog.reads.Load())
		filters := map[string]Filter{"tag": {Tag: "group-3"}, "q": {Q: "005999"}, "short q": {Q: "9"}, "no match": {Q: "nothing"}, "skip": {Skip: n - 50}, "status": {Status: Active},
			"health": {Health: Healthy, Type: OAuth}, "lost": {Health: NeedsLogin},
			"owner and tag": {Owner: "ops", Tag: "group-1"}}
		for _, f := range filters {
			list(f)
		}
		require.EqualValues(t, n, r.catalog.reads.Load(), "a list reads the catalog again")
		require.Equal(t, "grown-005950", list(Filter{Skip: n - 50})[0].Name)

		_, err := r.Update(t.Context(), lister, ids[77], Patch{ // its row was written past Signalbox, so all that binds it is named
			Owner: To("somebody"), State: To(Active), Provider: Clear[string](), BaseURL: Clear[string](), Hosts: Clear[[]string](),
		}, "")
		require.NoError(t, err)
		require.Equal(t, ids[77:78], idsOf(list(Filter{Owner: "somebody"})))
		require.LessOrEqual(t, r.catalog.reads.Load(), int64(n+2), "one change reads more than what changed") // the feed may tell twice

		// The planner must know the tables: of an empty one it may as well read everything.
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO credential_uses (credential_id, last_used_at) SELECT id, 1 FROM credentials`); err != nil {
				return err
			}
			_, err := tx.Exec(`ANALYZE`)
			return err
		}))
		for name, f := range filters {
			f.Limit = defaultPage
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
				generic(t, tx)
				query, args := f.among(tx, ids[3000:3011]) // few, as a page is few of the whole
				requireByKey(t, name, plan(t, tx, query, args...))
				return nil
			}))
		}
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			generic(t, tx)
			where := Filter{}.where(tx, ids[5000])
			requireByKey(t, "plain", plan(t, tx, selectPage(where, 11), where.Args()...))
			if full := plan(t, tx, `SELECT c.id FROM credentials c WHERE c.search LIKE '%005999%'`); !isScan(full) {
				t.Fatalf("the test does not know a full scan when it sees one:\n%s", full)
			}
			return nil
		}))
	})
}

// generic makes PostgreSQL plan without the values, as it does with a statement that is asked often.
func generic(t *testing.T, tx *store.Tx) {
	if tx.ForUpdate() != "" {
		_, err := tx.Exec(`SET LOCAL plan_cache_mode = force_generic_plan`)
		require.NoError(t, err)
	}
}

func plan(t *testing.T, tx *store.Tx, query string, args ...any) string {
	t.Helper()
	explain := `EXPLAIN `
	if tx.ForUpdate() == "" { // SQLite
		explain = `EXPLAIN QUERY PLAN `
	}
	rows, err := tx.Query(explain+query, args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var out strings.Builder
	for rows.Next() {
		cells, err := rows.SliceScan()
		require.NoError(t, err)
		fmt.Fprintln(&out, cells...)
	}
	require.NoError(t, rows.Err())
	return out.String()
}

// isScan reports whether a plan reads a whole table; p is the page's ids.
func isScan(plan string) bool {
	return strings.Contains(plan, "Seq Scan") || strings.Contains(strings.ReplaceAll(plan, "SCAN p", ""), "SCAN")
}

// requireByKey wants every table read by its primary key, from the page's rows on: a merge would read an index from its beginning.
func requireByKey(t *testing.T, name, plan string) {
	t.Helper()
	require.False(t, isScan(plan), "%s reads a whole table:\n%s", name, plan)
	require.NotRegexp(t, "Merge Join|Hash", plan, "%s", name)
	require.Regexp(t, `credentials_pkey|sqlite_autoindex_credentials_1`, plan, name)
	require.Regexp(t, `credential_versions_pkey|sqlite_autoindex_credential_versions_1`, plan, name)
}

// TestListsKnowWhatAnotherInstanceStored: a list with a filter shows what was acknowledged before it, by whichever instance.
func TestListsKnowWhatAnotherInstanceStored(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	var rooms [2]*Room
	for i := range rooms {
		db := storetest.OpenConfig(t, cfg)
		rooms[i] = lists(t, db)
		require.NoError(t, db.Start(t.Context()))
	}
	for i := range 40 {
		here, there := rooms[i%2], rooms[1-i%2]
		name := fmt.Sprintf("made-%d", i)
		c, err := here.Create(t.Context(), lister, Draft{Type: Password, Meta: Meta{Name: name}, Secrets: map[string]secret.Value{"password": secret.FromString("x")}})
		require.NoError(t, err)
		items, _, err := there.List(t.Context(), lister, Filter{Q: name})
		require.NoError(t, err)
		require.Equal(t, []string{c.ID}, idsOf(items), name)
		_, err = here.Update(t.Context(), lister, c.ID, Patch{Name: To("renamed-" + strconv.Itoa(i))}, "")
		require.NoError(t, err)
		items, _, err = there.List(t.Context(), lister, Filter{Q: "renamed-" + strconv.Itoa(i)})
		require.NoError(t, err)
		require.Equal(t, []string{c.ID}, idsOf(items), name)
		require.NoError(t, here.Delete(t.Context(), lister, c.ID, ""))
		items, _, err = there.List(t.Context(), lister, Filter{Q: "made"})
		require.NoError(t, err)
		require.Empty(t, items)
	}
}

// TestListsWhileManyWrite: whoever has stored a credential finds it, whatever others do at the time.
func TestListsWhileManyWrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := lists(t, db)
		require.NoError(t, db.Start(t.Context()))
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 15 {
					name := fmt.Sprintf("w%d-%d.", w, i)
					c, err := r.Create(t.Context(), lister, Draft{Type: Password, Meta: Meta{Name: name}, Secrets: map[string]secret.Value{"password": secret.FromString("x")}})
					if err != nil {
						t.Error(err)
						return
					}
					items, _, err := r.List(t.Context(), lister, Filter{Q: name})
					if err != nil || !slices.Equal([]string{c.ID}, idsOf(items)) {
						t.Errorf("%s: %v, %v", name, idsOf(items), err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestAListThatFailedIsMadeGood: what could not be read is read by the next list.
func TestAListThatFailedIsMadeGood(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ids := fill(t, db, 3, func(i int, m *Meta) { m.Name, m.Tags = "n"+strconv.Itoa(i), []string{"x"} })
		r := lists(t, db)
		list := func() ([]Credential, error) {
			items, _, err := r.List(t.Context(), lister, Filter{Tag: "x"})
			return items, err
		}
		rename := func(from, to string) {
			require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				tx.Change(store.TopicCredential, ids[1])
				_, err := tx.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to)
				return err
			}))
		}
		rename("credentials", "credentials_away")
		_, err := list()
		require.Error(t, err)
		rename("credentials_away", "credentials")
		items, err := list()
		require.NoError(t, err)
		require.Equal(t, ids, idsOf(items))
		rename("credentials", "credentials_away")
		_, err = list()
		require.Error(t, err)
		_, err = list()
		require.Error(t, err, "the mark of an unread change was lost")
		rename("credentials_away", "credentials") // the test ends with a look at it
	})
}

// TestManyChangesReadEverythingAnew: nobody lists for a long time, then somebody does.
func TestManyChangesReadEverythingAnew(t *testing.T) {
	db := storetest.Open(t, store.SQLite)
	fill(t, db, 10, func(i int, m *Meta) { m.Name = "old" })
	r := lists(t, db)
	_, err := r.catalog.current(t.Context())
	require.NoError(t, err)
	late := fill(t, db, 10, func(i int, m *Meta) { m.Name = "late" })
	marks := make([]store.Change, 0, staleLimit+1)
	for range staleLimit + 1 {
		marks = append(marks, store.Change{Topic: store.TopicCredential, Subject: store.NewID(credentialPrefix)})
	}
	require.NoError(t, r.catalog.follow(t.Context(), marks))
	require.Empty(t, r.catalog.stale, "marks without bound")
	items, _, err := r.List(t.Context(), lister, Filter{Q: "late"})
	require.NoError(t, err)
	require.Equal(t, late, idsOf(items))
}
