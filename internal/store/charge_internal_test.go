package store

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/quota"
)

// TestAnIntentThatStandsAllTheSame: the answer to a commit was lost for so long that its intent was refused. When it turns out that it stands, that is told once, and what else was in the
// batch is neither stored nor settled again.
func TestAnIntentThatStandsAllTheSame(t *testing.T) {
	db, err := Open(context.Background(), Config{DataDir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, db.Start(context.Background()))
	t.Cleanup(func() { _ = db.Close() })
	l, _ := quota.Patch{Set: map[quota.Kind]int64{quota.ConcurrentStreams: 5, quota.MonthlyTokens: 1000}}.Apply(nil)
	event := Event{Actor: Actor{Kind: "client_key", ID: "key_1"}, Action: LeaseGranted, Outcome: OutcomePending, Target: Target{Kind: "credential", ID: "cred_1"}}
	charge := func() *quota.Charge {
		return &quota.Charge{Dues: []quota.Due{{Subject: "train_1", Limits: l}}, Costs: true, Tokens: 100, Instance: "ins_1"}
	}
	used := func() map[quota.Kind]int64 {
		out := map[quota.Kind]int64{}
		require.NoError(t, db.Read(context.Background(), func(tx *Tx) error {
			var b []byte
			if err := tx.Get(&b, `SELECT state FROM quota_counts WHERE subject = 'train_1'`); err != nil {
				return err
			}
			s, err := quota.Decode(b)
			if err != nil {
				return err
			}
			for _, u := range s.Look(tx.Now(), l, nil) {
				out[u.Kind] = u.Used
			}
			return nil
		}))
		return out
	}
	ended := charge()
	_, err = db.AppendCharged(event, ended)
	require.NoError(t, err)
	require.Equal(t, map[quota.Kind]int64{quota.ConcurrentStreams: 1, quota.MonthlyTokens: 100}, used())

	g := db.charges
	for _, stands := range []bool{true, false} {
		told := 0
		intent, err := newEntry(db, event)
		require.NoError(t, err)
		intent.turn, intent.charge = make(chan bool, 1), charge()
		intent.charge.Stored = func() { told++ }
		outcome, err := newEntry(db, event)
		require.NoError(t, err)
		outcome.charge = charge()
		_, err = db.AppendCharged(event, outcome.charge)
		require.NoError(t, err)
		outcome.charge.Close(7, 0, true)
		before := used()
		b := &batch{id: NewID("evt"), entries: []*entry{intent, outcome}}
		if stands {
			require.NoError(t, g.storeCharged(b, groupRetry))
		} else {
			b.tries = 1
		}
		g.keep(b, errors.New("the answer was lost"))
		require.Error(t, intent.err)
		require.Len(t, g.stuck, 1)
		g.retry(g.stuck[0])
		require.Empty(t, g.stuck)
		want := map[quota.Kind]int64{quota.ConcurrentStreams: before[quota.ConcurrentStreams] - 1, quota.MonthlyTokens: before[quota.MonthlyTokens] - 93}
		if stands {
			require.Equal(t, 1, told)
			want[quota.ConcurrentStreams]++
			want[quota.MonthlyTokens] += 100
		} else {
			require.Zero(t, told)
		}
		require.Equal(t, want, used(), "stands: %t", stands)
		require.NoError(t, g.storeOnce(b, groupRetry))
		require.Equal(t, want, used(), "another try changes nothing")
	}
}
