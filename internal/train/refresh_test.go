package train_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// refresher stores a new access token, or fails, and remembers what it was asked.
type refresher struct {
	y    *yard
	mu   sync.Mutex
	asks []oauth.Why
	err  error
	n    int
}

func (f *refresher) Fresh(ctx context.Context, id string, generation int64, why oauth.Why) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, why)
	if why == oauth.Ahead {
		return generation, nil
	}
	if f.err != nil {
		return 0, f.err
	}
	f.n++
	ends := f.y.clock.Now().Add(10 * time.Minute)
	token := secret.FromString("at-fresh-" + planted)
	c, err := f.y.vault.Update(ctx, f.y.admin, id, vault.Patch{Secrets: map[string]*secret.Value{"access_token": &token}, OAuth: vault.OAuthPatch{ExpiresAt: vault.To(&ends)}}, "")
	return c.Version, err
}

func (f *refresher) fails(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// asked returns what was asked since the last time.
func (f *refresher) asked() []oauth.Why {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.asks
	f.asks = nil
	return out
}

// refreshing runs fn on both engines with an instance whose train has the OAuth account "alpha", whose access token ends in ten minutes.
func refreshing(t *testing.T, fn func(t *testing.T, y *yard, f *refresher, id string)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			f := &refresher{}
			s.refresher = func(y *yard) train.Refresher { f.y = y; return f }
			y := s.open(t)
			y.train("web", train.Priority)
			id := y.oauth("alpha", y.clock.Now().Add(10*time.Minute))
			y.linkAt("web", id, 1)
			fn(t, y, f, id)
		})
	}
}

func bearer(t *testing.T, l *train.Lease) string {
	t.Helper()
	req := request(t, "https://api.anthropic.com/v1/messages")
	require.NoError(t, l.Apply(req))
	return req.Header.Get("Authorization")
}

// TestAccessTokensAreKeptFresh: nothing while there is time, the background near the end, and a wait at the end; no row is read meanwhile.
func TestAccessTokensAreKeptFresh(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, id string) {
		caller, _ := y.key("web")
		reads := y.db.Reads()
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		require.Empty(t, f.asked())
		y.clock.Add(8*time.Minute + time.Second) // inside the advisory margin of two minutes
		old := y.lend(caller, want())
		require.Equal(t, []oauth.Why{oauth.Ahead}, f.asked())
		require.NotContains(t, bearer(t, old), "fresh")
		require.Equal(t, reads, y.db.Reads(), "the way of a request reads nothing")
		y.clock.Add(time.Minute + 30*time.Second) // inside the mandatory margin of half a minute
		l := y.lend(caller, want())
		require.Equal(t, []oauth.Why{oauth.Needed}, f.asked())
		require.Contains(t, bearer(t, l), "fresh")
		require.NotContains(t, bearer(t, old), "fresh", "a lease keeps what it was granted")
		y.clock.Add(time.Hour) // long past the end
		require.Contains(t, bearer(t, y.lend(caller, want())), "fresh")
		require.Equal(t, []oauth.Why{oauth.Needed}, f.asked())
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, train.Usable, e.Accounts[0].State)
	})
}

// TestNoFreshToken: what still works is lent; what has ended is passed over, and when nothing else is there the client hears why.
func TestNoFreshToken(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, id string) {
		caller, _ := y.key("web")
		f.fails(fault.New(fault.Unavailable, "refresh_failed", "Later.").After(7))
		y.clock.Add(9*time.Minute + 45*time.Second)
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		require.Equal(t, []oauth.Why{oauth.Needed}, f.asked())
		y.clock.Add(time.Minute)
		require.Equal(t, 7, y.refused("refresh_failed", caller, want()).RetryAfter)
		f.fails(fault.New(fault.Conflict, "login_required", "Log in."))
		require.Contains(t, y.refused("no_account", caller, want()).Detail, "signalbox oauth login alpha", "who hears it knows what to do next")
		y.linkAt("web", y.account("beta"), 2)
		require.Equal(t, "beta", sent(t, y.lend(caller, want())))
		f.fails(nil)
		require.Contains(t, bearer(t, y.lend(caller, want())), "fresh")
	})
}

// TestARefusedTokenIsRefreshedOnce: after a 401 the same account is tried once more with a fresh token; a second 401 lets it rest, and a 403
// is no matter of the token.
func TestARefusedTokenIsRefreshedOnce(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, id string) {
		caller, _ := y.key("web")
		y.linkAt("web", y.account("beta"), 2)
		first := y.lend(caller, want())
		next, err := first.Next(t.Context(), train.Failure{Status: 401})
		require.NoError(t, err)
		require.Equal(t, id, next.CredentialID())
		require.Equal(t, 2, next.Attempt())
		require.Contains(t, bearer(t, next), "fresh")
		require.Equal(t, []oauth.Why{oauth.Denied}, f.asked())
		third, err := next.Next(t.Context(), train.Failure{Status: 401})
		require.NoError(t, err)
		require.Equal(t, "beta", sent(t, third))
		require.Empty(t, f.asked(), "one forced refresh and one retry")
		third.Done(train.Outcome{Result: train.OK})
		require.Equal(t, "beta", sent(t, y.lend(caller, want())), "the account rests")

		y.clock.Add(time.Hour)
		l := y.lend(caller, want())
		require.Equal(t, id, l.CredentialID())
		f.asked()
		other, err := l.Next(t.Context(), train.Failure{Status: 403})
		require.NoError(t, err)
		require.Equal(t, "beta", sent(t, other))
		require.Empty(t, f.asked(), "never on 403")
	})
}

// TestARefusedTokenWithoutAFreshOne: it is a failure like any other.
func TestARefusedTokenWithoutAFreshOne(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, _ string) {
		caller, _ := y.key("web")
		f.fails(fault.New(fault.Unavailable, "refresh_failed", "Later."))
		_, err := y.lend(caller, want()).Next(t.Context(), train.Failure{Status: 401})
		require.ErrorIs(t, err, train.ErrNoOther)
		y.refused("accounts_cooling", caller, want())
		require.Equal(t, []oauth.Why{oauth.Denied}, f.asked())
	})
}

// TestAccountsInUseAreRefreshedAhead: by the clock, without a request; those that nobody uses are left alone.
func TestAccountsInUseAreRefreshedAhead(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, _ string) {
		caller, _ := y.key("web")
		y.clock.Add(9 * time.Minute)
		y.Ahead()
		require.Empty(t, f.asked(), "nobody uses it")
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		f.asked()
		y.Ahead()
		require.Equal(t, []oauth.Why{oauth.Ahead}, f.asked())
	})
}

// TestAPausedAccountKeepsItsLogin: nobody uses it, and its tokens are fresh all the same.
func TestAPausedAccountKeepsItsLogin(t *testing.T) {
	for _, state := range []vault.LendingState{vault.Paused, vault.Drained} {
		refreshing(t, func(t *testing.T, y *yard, f *refresher, id string) {
			_, err := y.vault.SetLending(t.Context(), y.admin, id, state, "")
			require.NoError(t, err)
			y.clock.Add(9 * time.Minute)
			y.Ahead()
			require.Equal(t, []oauth.Why{oauth.Ahead}, f.asked(), state)
			_, err = y.vault.Update(t.Context(), y.admin, id, vault.Patch{State: vault.To(vault.Disabled)}, "")
			require.NoError(t, err)
			y.Ahead()
			require.Empty(t, f.asked(), "what is disabled is left alone")
		})
	}
}
