package train_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestDrainLetsRunningRequestsFinish: a drained account is lent to no new request, what runs on it goes on, and the explanation counts it; a paused one is
// cut. Both leave the other accounts alone, and resuming lends them again.
func TestDrainLetsRunningRequestsFinish(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		alpha := y.account("alpha")
		y.linkAt("web", alpha, 1)
		caller, _ := y.key("web")
		set := func(to vault.LendingState, reason string) {
			_, err := y.vault.SetLending(t.Context(), y.admin, alpha, to, reason)
			require.NoError(t, err)
		}
		first, second := y.lend(caller, want()), y.lend(caller, want())
		set(vault.Drained, "moves away")
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, train.Drained, e.Accounts[0].State)
		require.Equal(t, "it is drained by Ada: moves away; 2 requests still run on it at this instance", e.Accounts[0].Why)
		require.Contains(t, e.Summary, "paused or drained")
		require.Contains(t, y.refused("no_account", caller, want()).Detail, "paused or drained")
		named := want()
		named.Account = "alpha"
		require.Contains(t, y.refused("no_account", caller, named).Detail, "that the request names is paused or drained")
		trains, all := y.Tallies()
		require.Equal(t, train.Tally{Unusable: 1}, all)
		require.Equal(t, train.Tally{Unusable: 1}, trains[0].Tally)

		require.NoError(t, first.Context().Err())
		require.Equal(t, "alpha", sent(t, first))
		first.Done(train.Outcome{Result: train.OK})
		stands, err := y.Standings(t.Context(), y.admin, []string{alpha})
		require.NoError(t, err)
		require.Contains(t, stands[alpha].Why, "one request still runs")
		y.linkAt("web", y.account("beta"), 2)
		other := y.lend(caller, want())
		require.Equal(t, "beta", sent(t, other))

		set(vault.Paused, "")
		require.Error(t, second.Context().Err(), "pausing cuts what draining leaves")
		require.NoError(t, other.Context().Err())
		second.Done(train.Outcome{Result: train.ClientCancelled})
		e, err = y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, train.Paused, e.Accounts[0].State)
		require.True(t, e.Accounts[1].Chosen)

		set(vault.Lent, "done")
		require.Equal(t, "alpha", sent(t, y.lend(caller, want())))
	})
}

// TestAnUnknownLendingStateIsPaused: what a newer version may write is not lent by this one.
func TestAnUnknownLendingStateIsPaused(t *testing.T) {
	require.Equal(t, "it is paused", vault.LendingState("half").Held())
	require.True(t, vault.LendingState("half").Cuts())
}

// TestHeldAccountsAreNotLentOnAnyInstance: while two instances lend as fast as they can, an account is paused or drained on one of them; a second after
// that was acknowledged neither grants it, and of a paused one nothing runs.
func TestHeldAccountsAreNotLentOnAnyInstance(t *testing.T) {
	for _, state := range []vault.LendingState{vault.Paused, vault.Drained} {
		t.Run(string(state), func(t *testing.T) {
			s := newSite(t, store.Postgres)
			one, two := s.open(t), s.open(t)
			one.train("web", train.Priority)
			alpha := one.account("alpha")
			one.linkAt("web", alpha, 1)
			one.linkAt("web", one.account("beta"), 2)
			caller, _ := one.key("web")
			two.eventuallyLends(caller)
			type grant struct {
				at    time.Time
				lease *train.Lease
			}
			var mu sync.Mutex
			var grants []grant
			stop := make(chan struct{})
			var done sync.WaitGroup
			for _, y := range []*yard{one, two} {
				for range 4 {
					done.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
							}
							l, err := y.Lend(context.Background(), caller, want())
							if err != nil {
								continue
							}
							if l.CredentialID() == alpha {
								mu.Lock()
								grants = append(grants, grant{time.Now(), l})
								mu.Unlock()
								continue
							}
							l.Done(train.Outcome{Result: train.OK})
						}
					})
				}
			}
			time.Sleep(200 * time.Millisecond)
			_, err := one.vault.SetLending(t.Context(), one.admin, alpha, state, "")
			require.NoError(t, err)
			acknowledged := time.Now()
			time.Sleep(1500 * time.Millisecond)
			close(stop)
			done.Wait()
			require.NotEmpty(t, grants, "nothing was lent before")
			for _, g := range grants {
				require.Less(t, g.at.Sub(acknowledged), time.Second, "granted too late")
				require.Equal(t, state == vault.Paused, g.lease.Context().Err() != nil)
				g.lease.Done(train.Outcome{Result: train.OK})
			}
		})
	}
}
