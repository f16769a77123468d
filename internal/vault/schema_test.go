package vault

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// columnLengths reads the CHECKs of the schema: table and column to length in characters.
func columnLengths(t *testing.T, e store.Engine) map[string]int {
	t.Helper()
	texts, err := store.Schema(e)
	require.NoError(t, err)
	out := map[string]int{}
	table := regexp.MustCompile(`(?s)CREATE TABLE (credential\w*) \((.*?)\n\)`)
	check := regexp.MustCompile(`CHECK \(length\((\w+)\) <= (\d+)\)`)
	for _, m := range table.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		for _, c := range check.FindAllStringSubmatch(m[2], -1) {
			n, err := strconv.Atoi(c[2])
			require.NoError(t, err)
			out[m[1]+"."+c[1]] = n
		}
	}
	added := regexp.MustCompile(`ALTER TABLE (credential\w*) ADD COLUMN .*CHECK \(length\((\w+)\) <= (\d+)\)`)
	for _, m := range added.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		n, err := strconv.Atoi(m[3])
		require.NoError(t, err)
		out[m[1]+"."+m[2]] = n
	}
	return out
}

func TestLengthsMirrorColumns(t *testing.T) {
	want := map[string]int{"credentials.lending_reason": maxReason, "credential_tags.tag": maxTag, "credential_versions.reason": maxReason, "credential_secrets.field": maxFieldName}
	for _, x := range (&Meta{}).texts() {
		if x.column != "oauth_auth_method" && x.column != "oauth_format" && x.column != "oauth_grant" { // closed lists, in the schema too
			want["credentials."+x.column] = x.max
		}
	}
	for _, e := range storetest.Engines() {
		require.Equal(t, want, columnLengths(t, e), e)
	}
}

// The database counts characters as the room does, and refuses what the room would refuse.
func TestTheDatabaseHoldsTheLengths(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for column, n := range columnLengths(t, db.Engine()) {
			table, name, _ := strings.Cut(column, ".")
			if table != "credentials" {
				continue
			}
			insert := func(length int) error {
				m := Meta{Name: "x"}
				for _, x := range m.texts() {
					if x.column == name {
						*x.value = strings.Repeat("ü", length)
					}
				}
				s := stored{row: Types()[0], state: Active, Credential: Credential{ID: store.NewID(credentialPrefix), Type: Password, Meta: m, Version: 1, Revision: 1}}
				if name == "lending_reason" {
					s.Lending.Reason = strings.Repeat("ü", length)
				}
				return db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { return s.insert(tx, nil) })
			}
			require.NoError(t, insert(n), column)
			require.Error(t, insert(n+1), column)
		}
	})
}

func TestTextsAtTheirLength(t *testing.T) {
	for _, x := range (&Meta{}).texts() {
		require.Empty(t, textProblem(strings.Repeat("ü", x.max), x.max, x.lines), x.column)
		require.NotEmpty(t, textProblem(strings.Repeat("ü", x.max+1), x.max, x.lines), x.column)
	}
}

func TestTheTableOfTypes(t *testing.T) {
	seen := map[Type]bool{}
	for _, row := range Types() {
		require.False(t, seen[row.Type], row.Type)
		seen[row.Type] = true
		require.NotEmpty(t, row.Meaning, row.Type)
		require.True(t, row.AnyNames != (len(row.Secrets) > 0), "%s has fields or takes any", row.Type)
		names, required := map[string]bool{}, false
		for _, f := range row.Secrets {
			require.True(t, validFieldName(f.Name), f.Name)
			require.False(t, names[f.Name], f.Name)
			names[f.Name] = true
			required = required || f.Required
			got, ok := row.Field(f.Name)
			require.True(t, ok)
			require.Equal(t, f, got)
			require.False(t, f.Header && !f.Lent, "%s: a header field is lent", f.Name)
		}
		require.True(t, required || row.AnyNames, "%s needs something", row.Type)
		_, ok := row.Field("no_such_field")
		require.Equal(t, row.AnyNames, ok)
		found, ok := Lookup(row.Type)
		require.True(t, ok)
		require.Equal(t, row, found)
	}
	_, ok := Lookup("")
	require.False(t, ok)
	for _, p := range Providers() {
		row, _ := Lookup(APIKey)
		require.True(t, row.account(p.Name))
		require.NotNil(t, baseURL(row, Meta{Provider: p.Name}))
		row, _ = Lookup(Password)
		require.False(t, row.account(p.Name))
	}
}

func TestEveryEventFieldOfAPatchIsNamed(t *testing.T) {
	a, b := Meta{}, Meta{Port: 1, RotateEvery: 1, RequiresVPN: true, Requires2FA: true, Tags: []string{"x"}, Hosts: []string{"x"}}
	for _, x := range b.texts() {
		*x.value = "x"
	}
	b.OAuth.Scopes = []string{"x"}
	now := store.Time(1).Time()
	b.ExpiresAt, b.OAuth.ExpiresAt = &now, &now
	require.Len(t, changedFields(a, b), len(b.texts())+9)
	require.Empty(t, changedFields(b, cloneMeta(b)))
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(encodeCursor("cred_01m80ewr6sf938n0h0pxj1dc0r"))
	f.Add("Y3JlZF8wMQ==")
	f.Add(encodeCursor("cred_01m80ewr6sf938n0h0pxj1dc0r") + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := decodeCursor(s)
		if err != nil {
			require.Empty(t, id)
			return
		}
		require.True(t, store.ValidID(credentialPrefix, id))
		require.Equal(t, s, encodeCursor(id), "one cursor a place")
	})
}
