package train_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// TestWhoWaitsForARemovalHasNoKeyOfIt: whoever is taken from a private train while they issue a key of it gets none, also where their act has begun before the removal was done.
func TestWhoWaitsForARemovalHasNoKeyOfIt(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		box := y.train("secret", train.Hash)
		leaver := y.somebody("bea", identity.Operator)
		require.NoError(t, y.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO train_members (train_id, member_id, user_id, role, created_at, created_by) VALUES ($1,$2,$2,'member',$3,'user_a')`, box.ID, leaver.UserID, store.TimeOf(tx.Now())); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE trains SET visibility = 'private' WHERE id = $1`, box.ID)
			return err
		}))
		_, _, err := y.IssueKey(t.Context(), leaver, "secret", identity.KeyDraft{Name: "before"})
		require.NoError(t, err, "a member may")

		inside, leave, removed, issued := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
		go func() {
			removed <- y.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { // as RemoveMember does
				if err := tx.Get(new(string), `SELECT id FROM trains WHERE id = $1`+tx.ForUpdate(), box.ID); err != nil {
					return err
				}
				if _, err := tx.Exec(`DELETE FROM train_members WHERE train_id = $1 AND member_id = $2`, box.ID, leaver.UserID); err != nil {
					return err
				}
				close(inside)
				<-leave
				return nil
			})
		}()
		<-inside
		go func() {
			_, _, err := y.IssueKey(t.Context(), leaver, "secret", identity.KeyDraft{Name: "meanwhile"})
			issued <- err
		}()
		if y.db.Engine() == store.Postgres { // on SQLite they wait for the one writer, and there is nothing to see of it
			require.Eventually(t, func() bool {
				n := 0
				require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error {
					return tx.Get(&n, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
				}))
				return n > 0
			}, 20*time.Second, 5*time.Millisecond)
		}
		close(leave)
		require.NoError(t, <-removed)
		err = <-issued
		require.Equal(t, fault.NotFound, fault.KindOf(err), "%v", err)
		page, _, err := y.ListKeys(t.Context(), y.admin, "secret", identity.KeyFilter{})
		require.NoError(t, err)
		require.Len(t, page, 1)
	})
}

// TestADeletedPrivateTrainIsRemembered: however a private train goes, also by an instance that knows nothing of private ones, what is left of it stays hidden.
func TestADeletedPrivateTrainIsRemembered(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		open, private, deleted := y.train("open", train.Hash), y.train("private", train.Hash), y.train("deleted", train.Hash)
		exec := func(sql string, args ...any) {
			require.NoError(t, y.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(sql, args...)
				return err
			}))
		}
		exec(`UPDATE trains SET visibility = 'private' WHERE id IN ($1, $2)`, private.ID, deleted.ID)
		exec(`DELETE FROM trains WHERE id IN ($1, $2)`, open.ID, private.ID)
		require.NoError(t, y.DeleteTrain(t.Context(), y.admin, "deleted", false, ""))
		var gone []string
		var latest store.Time
		require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Get(&latest, `SELECT MAX(deleted_at) FROM private_trains_gone`); err != nil {
				return err
			}
			return tx.Select(&gone, `SELECT train_id FROM private_trains_gone`)
		}))
		require.ElementsMatch(t, []string{private.ID, deleted.ID}, gone)
		require.WithinDuration(t, time.Now(), latest.Time(), time.Minute)
	})
}
