package vault

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestAttentionSaysWhatWantsSomebody: under each heading once, the most pressing first, as many as asked; the counts are of all; the days are those on
// which something ends; one event tells of it; who may see nothing is told of nothing.
func TestAttentionSaysWhatWantsSomebody(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := lists(t, db)
		now := time.Now()
		in := func(d time.Duration) *time.Time { at := now.Add(d); return &at }
		ends := []*time.Time{in(-time.Hour), in(-48 * time.Hour), in(time.Hour), in(10 * 24 * time.Hour), in(40 * 24 * time.Hour), in(200 * 24 * time.Hour), nil, in(-time.Hour), in(-time.Hour), nil}
		ids := fill(t, db, len(ends), func(i int, m *Meta) { m.Name, m.ExpiresAt = string(rune('a'+i)), ends[i] })
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credentials SET state = 'disabled' WHERE id = $1`, ids[7])
			if err == nil {
				_, err = tx.Exec(`UPDATE credentials SET state = 'compromised' WHERE id = $1`, ids[8])
			}
			if err == nil {
				_, err = tx.Exec(`UPDATE credentials SET type = 'oauth' WHERE id = $1`, ids[9])
			}
			if err == nil {
				_, err = tx.Exec(`UPDATE oauth_connections SET health = 'refresh_failing' WHERE credential_id = $1`, ids[9])
			}
			return err
		}))
		a, err := r.Attention(t.Context(), lister, 4)
		require.NoError(t, err)
		require.Equal(t, []int{10, 1, 2, 0, 0, 1, 2}, []int{a.All, a.Compromised, a.Expired, a.NeedsLogin, a.Uncertain, a.Failing, a.Expiring})
		require.Equal(t, 6, a.Count())
		var names []string
		for _, c := range a.Urgent {
			names = append(names, c.Name)
		}
		require.Equal(t, []string{"i", "b", "a", "j"}, names)
		days := 0
		for n, count := range a.Due {
			days += count
			if count > 0 && n > 1 {
				require.Contains(t, []int{10, 11, 40, 41}, n)
			}
		}
		require.GreaterOrEqual(t, days, 3)
		require.LessOrEqual(t, days, 4, "what ended an hour ago is of today, or of yesterday")

		member := identity.Caller{Kind: identity.KindPerson, ID: "user_2", UserID: "user_2", Role: identity.Member}
		a, err = r.Attention(t.Context(), member, 4)
		require.NoError(t, err)
		require.Zero(t, a.All)
		require.Empty(t, a.Urgent)
		_, err = r.Attention(t.Context(), identity.Caller{Kind: identity.KindAnonymous}, 4)
		require.Error(t, err)
		var n int
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&n, `SELECT COUNT(*) FROM audit_events WHERE action = 'credential.list'`)
		}))
		require.Equal(t, 2, n)
	})
}
