package vault

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestDueIsInTheOrderOfItsDates: what ends and what is to be rotated, the earliest first, page by page; what has no date, or was put aside, is not due; the
// counts are of everything; one event tells of it; who may see nothing is told of nothing.
func TestDueIsInTheOrderOfItsDates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		storetest.Homes(t, db, "acme", "shop", "host")
		r := lists(t, db)
		now := time.Now()
		in := func(days int) *time.Time { at := now.Add(time.Duration(days)*24*time.Hour - time.Hour); return &at }
		ends := []*time.Time{in(40), in(-2), nil, in(5), in(-1), in(5), in(300), in(3)}
		every := []int{0, 3, 100, 20, 0, 1, 0, 20}
		ids := fill(t, db, len(ends), func(i int, m *Meta) {
			m.Name, m.ExpiresAt, m.RotateEvery = string(rune('a'+i)), ends[i], every[i]
			if i == 3 || i == 6 {
				m.ClientID = "acme"
			}
		})
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credentials SET state = 'disabled' WHERE id = $1`, ids[7])
			return err
		}))
		names := func(f DueFilter) (out string) {
			t.Helper()
			for pages := 0; ; pages++ {
				require.Less(t, pages, 20)
				d, err := r.Due(t.Context(), lister, f)
				require.NoError(t, err)
				for _, c := range d.Items {
					out += c.Name
				}
				if f.Cursor = d.Next; f.Cursor == "" {
					return out
				}
			}
		}
		require.Equal(t, "bedfag", names(DueFilter{About: AboutExpiry}), "d and f at once, by their ids")
		require.Equal(t, "bedfag", names(DueFilter{About: AboutExpiry, Limit: 1}))
		require.Equal(t, "bedf", names(DueFilter{About: AboutExpiry, Before: now.Add(30 * 24 * time.Hour), Limit: 3}))
		require.Equal(t, "dfa", names(DueFilter{About: AboutExpiry, From: now, Before: now.Add(90 * 24 * time.Hour)}))
		require.Equal(t, "dg", names(DueFilter{About: AboutExpiry, ClientID: "acme"}))
		require.Equal(t, "fbdc", names(DueFilter{About: AboutRotation, Limit: 2}))

		d, err := r.Due(t.Context(), lister, DueFilter{About: AboutExpiry, Limit: 1})
		require.NoError(t, err)
		days := 0
		for _, n := range d.Days {
			days += n
		}
		require.Equal(t, []int{2, 2, 3}, []int{d.Overdue, d.Soon, days})
		d, err = r.Due(t.Context(), lister, DueFilter{About: AboutExpiry, ClientID: "acme"})
		require.NoError(t, err)
		require.Equal(t, []int{0, 1}, []int{d.Overdue, d.Soon})

		for _, wrong := range []DueFilter{{}, {About: "all"}, {About: AboutExpiry, Limit: 1001}, {About: AboutExpiry, Limit: -1}, {About: AboutExpiry, Cursor: "x"}, {About: AboutExpiry, Cursor: encodeCursor("1 cred_x")},
			{About: AboutRotation, ClientID: strings.Repeat("x", 101)}} {
			_, err := r.Due(t.Context(), lister, wrong)
			require.Equal(t, "validation_failed", fault.Of(err).Code, "%+v", wrong)
		}
		member := identity.Caller{Kind: identity.KindPerson, ID: "user_2", UserID: "user_2", Role: identity.Member}
		d, err = r.Due(t.Context(), member, DueFilter{About: AboutExpiry})
		require.NoError(t, err)
		require.Zero(t, d.Overdue+d.Soon)
		require.Empty(t, d.Items)
		_, err = r.Due(t.Context(), identity.Caller{Kind: identity.KindAnonymous}, DueFilter{About: AboutExpiry})
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err))

		var bodies [][]byte
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY at DESC, id DESC`)
		}))
		ev, err := store.DecodeEvent(bodies[0])
		require.NoError(t, err)
		require.Equal(t, store.CredentialList, ev.Action)
	})
}

// TestHomeNamesAreOfWhatIsSeen: names by id, of what the caller may see; an id that is none's is not there.
func TestHomeNamesAreOfWhatIsSeen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := lists(t, db)
		h, err := r.CreateHome(t.Context(), lister, HomeClient, HomeMeta{Name: "Acme"})
		require.NoError(t, err)
		ids := map[HomeKind][]string{HomeClient: {h.ID, "", h.ID, "none", "\x00"}, HomeService: {h.ID}}
		named, err := r.HomeNames(t.Context(), lister, ids)
		require.NoError(t, err)
		require.Equal(t, map[string]string{h.ID: "Acme"}, named[HomeClient])
		require.Empty(t, named[HomeService])
		member := identity.Caller{Kind: identity.KindPerson, ID: "user_2", UserID: "user_2", Role: identity.Member}
		named, err = r.HomeNames(t.Context(), member, ids)
		require.NoError(t, err)
		require.Empty(t, named[HomeClient])
		_, err = r.HomeNames(t.Context(), identity.Caller{Kind: identity.KindAnonymous}, ids)
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err))
	})
}
