package vault

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestListsOfMembersReadNoTable: among many credentials, the list of somebody to whom a few were granted finds them by indexes, and what
// they may do with one is found by primary keys. The time is told, not judged: it says nothing on a busy machine.
func TestListsOfMembersReadNoTable(t *testing.T) {
	const many, few = 20_000, 1_000
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			for _, text := range []string{
				`INSERT INTO credentials (id, type, name, provider, state, version, revision, description, username, base_url, external_url, internal_url, port, requires_vpn,
					requires_2fa, tags, hosts, notes_version, rotate_every_days, owner, client_id, service_id, infrastructure_id, plugin_name, oauth_scopes, oauth_client_id,
					oauth_token_endpoint, oauth_auth_method, oauth_format, search, created_at, updated_at)
				WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
				SELECT 'cred_' || CAST(100000 + i AS TEXT), 'password', 'x', '', 'active', 1, 1, '', '', '', '', '', 0, 0, 0, '[]', '[]', 0, 0, '',
					CASE WHEN i % 50 = 0 THEN 'client_' || CAST(i % 1000 AS TEXT) ELSE '' END, '', '', '', '[]', '', '', '', '', 'x', 1, 1 FROM n`,
				`INSERT INTO credential_versions (credential_id, version, fields, suffix, reason, restored_from, created_by, created_by_name, created_at)
				SELECT id, 1, '[]', '', '', 0, '', '', 1 FROM credentials`,
				// Everything has an owner; each twentieth was granted to the member.
				`INSERT INTO grants (scope, scope_id, grantee_id, user_id, may_use, may_reveal, may_manage, owner, granted_by, granted_at)
				SELECT 'credential', id, 'user_owner', 'user_owner', 1, 1, 1, 1, '', 1 FROM credentials`,
				`INSERT INTO grants (scope, scope_id, grantee_id, user_id, may_use, may_reveal, may_manage, owner, granted_by, granted_at)
				SELECT 'credential', id, 'user_member', 'user_member', 1, 0, 0, 0, '', 1 FROM credentials WHERE CAST(SUBSTR(id, 6) AS BIGINT) % 20 = 7`,
				`INSERT INTO grants (scope, scope_id, grantee_id, user_id, may_use, may_reveal, may_manage, owner, granted_by, granted_at)
				VALUES ('client', 'client_50', 'user_member', 'user_member', 1, 0, 0, 0, '', 1)`,
				`ANALYZE`,
			} {
				if _, err := tx.Exec(text); err != nil {
					return err
				}
			}
			return nil
		}))
		parties := []string{"grp_a", "grp_b", "user_member"}
		list, args := visibleIDs(parties)

		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			plan := planOf(t, tx, list, args...)
			for _, table := range []string{"credentials", "grants"} {
				require.NotRegexp(t, `(?i)SCAN (c|g|k|`+table+`)\b|Seq Scan on `+table, plan)
			}
			one, args1 := heldQuery(parties, "cred_100050")
			plan = planOf(t, tx, one, args1...)
			if strings.Contains(plan, "CO-ROUTINE g") {
				plan = strings.Replace(plan, "SCAN g", "", 1) // of what the rest has found
			}
			for _, table := range []string{"credentials", "grants"} {
				require.NotRegexp(t, `(?i)SCAN (c|g|k|`+table+`)\b|Seq Scan on `+table, plan)
			}
			var all []string
			require.NoError(t, tx.Select(&all, list, args...))
			require.Equal(t, many/20+many/1000, len(all))

			took := make([]time.Duration, 50)
			for i := range took {
				begun := time.Now()
				var rows []string
				require.NoError(t, tx.Select(&rows, list, args...))
				took[i] = time.Since(begun)
			}
			slices.Sort(took)
			t.Logf("what is visible to a member with %d grants among %d credentials: p50 %s, p95 %s", few, many, took[25], took[47])
			return nil
		}))
	})
}

// TestMembersPayForWhatTheyHave: what a list and a look at one credential cost somebody with a thousand grants does not grow with the number
// of credentials that there are: as many statements, none of which reads a table (see above), and not a row more into memory.
func TestMembersPayForWhatTheyHave(t *testing.T) {
	const granted = 1_000
	type cost struct{ statements, rows int64 }
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			var costs []map[string]cost
			for _, many := range []int{granted, 6 * granted} {
				db := storetest.Open(t, engine)
				ids := fill(t, db, many, func(i int, m *Meta) { m.Name = "n" + strconv.Itoa(i) })
				var mine []string
				require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
					var rows []any
					for i := 0; i < many; i += many / granted {
						mine = append(mine, ids[i])
						rows = append(rows, "credential", ids[i], "user_member", "user_member", 1, 0, 0, 0, "", 1)
					}
					return tx.InsertMany(`grants (scope, scope_id, grantee_id, user_id, may_use, may_reveal, may_manage, owner, granted_by, granted_at)`, 10, rows)
				}))
				r := lists(t, db)
				who := identity.Caller{Kind: identity.KindPerson, ID: "user_member", UserID: "user_member", Role: identity.Member}
				_, _, err := r.List(t.Context(), who, Filter{}) // the first list of an instance reads every credential's metadata once
				require.NoError(t, err)
				of := map[string]cost{}
				measure := func(name string, want int, act func() ([]Credential, error)) {
					before := cost{db.Statements(), r.catalog.reads.Load()}
					begun := time.Now()
					items, err := act()
					require.NoError(t, err)
					require.Len(t, items, want, name)
					t.Logf("%s among %d: %s", name, many, time.Since(begun))
					of[name] = cost{db.Statements() - before.statements, r.catalog.reads.Load() - before.rows}
				}
				list := func(f Filter) func() ([]Credential, error) {
					return func() ([]Credential, error) {
						items, _, err := r.List(t.Context(), who, f)
						return items, err
					}
				}
				measure("a page", 100, list(Filter{}))
				measure("everything", granted, list(Filter{Limit: granted}))
				measure("a late page", 100, list(Filter{Skip: granted - 100}))
				measure("a search", granted, list(Filter{Q: "n", Limit: granted}))
				measure("one", 1, func() ([]Credential, error) {
					c, err := r.Get(t.Context(), who, mine[granted/2])
					return []Credential{c}, err
				})
				costs = append(costs, of)
			}
			require.Equal(t, costs[0], costs[1])
			for name, c := range costs[0] {
				require.Positive(t, c.statements, name)
				require.Less(t, c.statements, int64(15), name)
				require.Zero(t, c.rows, name)
			}
		})
	}
}

func planOf(t *testing.T, tx *store.Tx, query string, args ...any) string {
	t.Helper()
	var lines []string
	rows, err := tx.Query(`EXPLAIN `+map[bool]string{true: "", false: "QUERY PLAN "}[tx.ForUpdate() != ""]+query, args...)
	require.NoError(t, err)
	for rows.Next() {
		cells, err := rows.SliceScan()
		require.NoError(t, err)
		switch last := cells[len(cells)-1].(type) {
		case string:
			lines = append(lines, last)
		case []byte:
			lines = append(lines, string(last))
		}
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.NotEmpty(t, lines)
	plan := strings.Join(lines, "\n")
	t.Log(plan)
	return plan
}
