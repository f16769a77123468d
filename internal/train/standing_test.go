package train_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestStandings: how each linked account stands, whichever trains it is on, for whoever may read trains.
func TestStandings(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, alpha := y.line()
		y.train("Batch", train.Hash)
		y.link("Batch", alpha)
		beta, loose := y.account("beta"), y.account("loose")
		y.link("Batch", beta)
		ids := []string{alpha, beta, loose, "cred_unknown"}
		stands := func() map[string]train.Standing {
			got, err := y.Standings(t.Context(), y.admin, ids)
			require.NoError(t, err)
			return got
		}
		got := stands()
		require.Len(t, got, 2, "what no train is linked to is left out")
		require.Equal(t, train.Standing{State: train.Usable, Why: "ready", Trains: []string{"Batch", "web"}}, got[alpha])

		start := y.clock.Now()
		_, err := y.lend(caller, want()).Next(t.Context(), train.Failure{Status: 401})
		require.ErrorIs(t, err, train.ErrNoOther)
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(true)}, "")
		require.NoError(t, err)
		disabled := vault.Disabled
		_, err = y.vault.Update(t.Context(), y.admin, beta, vault.Patch{State: vault.To(disabled)}, "")
		require.NoError(t, err)
		got = stands()
		cooling := got[alpha]
		require.Equal(t, train.Cooling, cooling.State)
		require.Equal(t, "the upstream refuses its credential (401)", cooling.Why)
		require.Equal(t, start, *cooling.CoolingSince)
		require.True(t, cooling.CoolingUntil.After(start))
		require.Equal(t, 1, cooling.Closed)
		require.Equal(t, train.Unusable, got[beta].State)
		require.NotEmpty(t, got[beta].Why)

		_, err = y.Standings(t.Context(), identity.Caller{Kind: identity.KindPerson, ID: "user_m", UserID: "user_m", Role: identity.Member}, ids)
		requireFault(t, "forbidden", err)
	})
}
