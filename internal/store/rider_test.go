package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// brokenOff is what PostgreSQL says when it breaks a transaction off.
type brokenOff struct{}

func (brokenOff) Error() string    { return "could not serialize access" }
func (brokenOff) SQLState() string { return "40001" }

// TestRiderIsCommittedWithTheActOrNotAtAll: what rides along is there exactly if the act is, and only the first act carries it.
func TestRiderIsCommittedWithTheActOrNotAtAll(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(`CREATE TABLE ridden (id TEXT NOT NULL)`); err != nil {
				return err
			}
			return tx.Record(lease("key_a", "cred_a"))
		}))
		rows := func() int {
			var n int
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM ridden`) }))
			return n
		}
		event := func(outcome string) store.Event {
			ev := lease("key_a", "cred_a")
			ev.Action, ev.Outcome = store.CredentialView, outcome
			return ev
		}
		acts := func(outcome string) func(*store.Tx) error {
			return func(tx *store.Tx) error { return tx.Record(event(outcome)) }
		}
		runs, fail := 0, error(nil)
		ctx, carried := store.WithRider(t.Context(), func(tx *store.Tx) error {
			runs++
			act, ok := tx.Act()
			require.True(t, ok)
			require.Equal(t, "cred_a", act.Target.ID)
			if _, err := tx.Exec(`INSERT INTO ridden (id) VALUES ('x')`); err != nil {
				return err
			}
			err := fail
			if errors.As(err, &brokenOff{}) {
				fail = nil
			}
			return err
		})

		for _, outcome := range []string{store.OutcomeRefused, store.OutcomeFailed, store.OutcomePending} {
			require.NoError(t, db.Write(ctx, acts(outcome)))
		}
		require.ErrorIs(t, db.Write(ctx, func(*store.Tx) error { return nil }), store.ErrNotRecorded)
		wrong := errors.New("wrong")
		require.ErrorIs(t, db.Write(ctx, func(tx *store.Tx) error { return errors.Join(tx.Record(event(store.OutcomeOK)), wrong) }), wrong)
		require.NoError(t, db.Read(ctx, func(*store.Tx) error { return nil }))
		require.NoError(t, db.Bookkeep(ctx, store.Cursor, func(*store.Tx) error { return nil }))
		require.Zero(t, runs, "neither a refusal nor a failure is an act")

		// The rider's error takes the act with it.
		fail = wrong
		require.ErrorIs(t, db.Write(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO ridden (id) VALUES ('act')`); err != nil {
				return err
			}
			return tx.Record(event(store.OutcomeOK))
		}), wrong)
		require.Zero(t, rows())
		require.False(t, carried())

		// A transaction that the database breaks off runs again with its rider, and leaves one row.
		runs, fail = 0, brokenOff{}
		require.NoError(t, db.Write(ctx, acts(store.OutcomeOK)))
		require.Equal(t, 2, runs)
		require.Equal(t, 1, rows())
		require.True(t, carried())

		require.NoError(t, db.Write(ctx, acts(store.OutcomeOK)))
		require.Equal(t, 1, rows(), "only the first act carries it")
	})
}

// TestSubscribersDoNotCarryTheRider: what a cache does because of a change is not the act.
func TestSubscribersDoNotCarryTheRider(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		heard := false
		db.Subscribe(func(ctx context.Context, changes []store.Change) error {
			if changes[0].Topic != store.TopicTrain {
				return nil
			}
			heard = true
			return db.Write(ctx, func(tx *store.Tx) error {
				ev := lease("key_a", "cred_b")
				ev.Action, ev.Outcome = store.CredentialView, store.OutcomeOK
				return tx.Record(ev)
			})
		})
		require.NoError(t, db.Start(t.Context()))
		var on []string
		ctx, carried := store.WithRider(t.Context(), func(tx *store.Tx) error {
			act, _ := tx.Act()
			on = append(on, act.Target.ID)
			return nil
		})
		require.NoError(t, db.Write(ctx, func(tx *store.Tx) error {
			tx.Change(store.TopicTrain, "train_x")
			ev := lease("key_a", "cred_a")
			ev.Action, ev.Outcome = store.TrainUpdate, store.OutcomeOK
			return tx.Record(ev)
		}))
		require.True(t, heard)
		require.True(t, carried())
		require.Equal(t, []string{"cred_a"}, on)
	})
}
