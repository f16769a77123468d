package incident_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestNoPageTellsOfAHiddenName: an incident that a search finds by the name of a private train only takes no place in a page, is not skipped, and has no cursor before it.
func TestNoPageTellsOfAHiddenName(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx, admin, operator := newRoom(t, db), t.Context(), somebody(identity.Administrator), somebody(identity.Operator)
		train := store.NewID("train")
		open := func(title string, hidden bool) string {
			i, err := r.Open(ctx, admin, incident.Draft{Meta: incident.Meta{Title: title}})
			require.NoError(t, err)
			if hidden {
				require.NoError(t, db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
					_, err := tx.Exec(`INSERT INTO incident_links (incident_id, kind, target_id, name) VALUES ($1, 'train', $2, 'moonshot')`, i.ID, train)
					return err
				}))
			}
			return i.ID
		}
		oldest := open("Rumours of a moonshot", false)
		for range 2 {
			open("Leak in moonshot", true)
		}
		newest := open("A moonshot again", false)
		for range 2 {
			open("Leak in moonshot", true)
		}
		require.NoError(t, db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO private_trains_gone (train_id, deleted_at) VALUES ($1, $2)`, train, store.TimeOf(tx.Now()))
			return err
		}))
		list := func(who identity.Caller, f incident.Filter) (ids []string, next string) {
			items, next, err := r.List(ctx, who, f)
			require.NoError(t, err)
			for _, i := range items {
				ids = append(ids, i.ID)
			}
			return ids, next
		}
		ids, next := list(operator, incident.Filter{Q: "moonshot leak", Limit: 1})
		require.Empty(t, ids)
		require.Empty(t, next)
		ids, next = list(operator, incident.Filter{Q: "moonshot", Limit: 1})
		require.Equal(t, []string{newest}, ids)
		require.Equal(t, newest, next)
		ids, next = list(operator, incident.Filter{Q: "moonshot", Limit: 1, Cursor: next})
		require.Equal(t, []string{oldest}, ids)
		require.Empty(t, next)
		ids, next = list(operator, incident.Filter{Q: "moonshot", Limit: 2, Skip: 1})
		require.Equal(t, []string{oldest}, ids)
		require.Empty(t, next)
		ids, next = list(operator, incident.Filter{Limit: 5})
		require.Len(t, ids, 5)
		require.NotEmpty(t, next)
		ids, _ = list(admin, incident.Filter{Q: "moonshot", Limit: 10})
		require.Len(t, ids, 6)
	})
}
