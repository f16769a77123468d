package train_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// said are the headers of an answer of a subscription whose five hours and week are used so far.
func said(y *yard, short, long float64, more ...string) http.Header {
	h := http.Header{}
	reset := fmt.Sprint(y.clock.Now().Add(2 * time.Hour).Unix())
	for name, value := range map[string]string{
		"status": "allowed", "5h-status": "allowed", "5h-utilization": fmt.Sprint(short), "5h-reset": reset,
		"7d-status": "allowed", "7d-utilization": fmt.Sprint(long), "7d-reset": reset,
	} {
		h.Set("anthropic-ratelimit-unified-"+name, value)
	}
	for i := 0; i < len(more); i += 2 {
		h.Set("anthropic-ratelimit-unified-"+more[i], more[i+1])
	}
	return h
}

// used has one request of a train answered by an account with these headers.
func (y *yard) used(caller identity.Caller, account string, h http.Header) {
	y.t.Helper()
	w := want()
	w.Account = account
	l := y.lend(caller, w)
	require.Equal(y.t, train.Spent{}, l.Heard(http.StatusOK, h))
	l.Done(train.Outcome{Result: train.OK, Status: 200})
}

// leastLoaded makes the train web, with these accounts, and a key of it.
func (y *yard) leastLoaded(accounts ...string) identity.Caller {
	y.t.Helper()
	y.train("web", train.LeastLoaded)
	for _, a := range accounts {
		y.link("web", y.account(a))
	}
	caller, _ := y.key("web")
	return caller
}

// next is the account of the train's next request.
func (y *yard) next(caller identity.Caller, session, model string) string {
	y.t.Helper()
	w := want()
	w.Session, w.Model = session, model
	l := y.lend(caller, w)
	defer l.Done(train.Outcome{Result: train.OK})
	return sent(y.t, l)
}

// TestLeastLoaded: answers say how far accounts are used, and the next request goes by that, with every number in the explanation.
func TestLeastLoaded(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller := y.leastLoaded("alpha", "beta", "gamma")
		y.used(caller, "alpha", said(y, 0.30, 0.10))
		y.used(caller, "beta", said(y, 0.20, 0.60))
		y.used(caller, "gamma", said(y, 0.91, 0.10))
		require.Equal(t, "alpha", y.next(caller, "", "claude-opus-5"))

		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Contains(t, e.Summary, "served by alpha, or by the account that its conversation is on")
		order := func() (names []string) {
			for _, a := range e.Accounts {
				names = append(names, a.Name)
			}
			return names
		}
		require.Equal(t, []string{"alpha", "beta", "gamma"}, order())
		require.Equal(t, []int{3000, 6000, 9100}, []int{e.Accounts[0].Load, e.Accounts[1].Load, e.Accounts[2].Load})
		require.True(t, e.Accounts[0].Chosen)
		require.Contains(t, e.Accounts[0].Order, "used to 30 % (window 5h); 0 in flight")
		require.Contains(t, e.Accounts[1].Order, "used to 60 % (window 7d)")
		require.Contains(t, e.Accounts[2].Order, "its window 5h is used to 91 %, and from 90 % on others go first")
		require.Equal(t, "5h", e.Accounts[2].Over)
		require.Equal(t, train.Usable, e.Accounts[2].State)
		w := e.Accounts[2].Windows
		require.Len(t, w, 2)
		require.Equal(t, train.Window{Name: "5h", Used: 9100, Status: "allowed", Reset: y.clock.Now().Add(2 * time.Hour), Heard: y.clock.Now()}, w[0])

		// What is in flight counts: thirty requests make up for the difference between alpha and beta.
		var held []*train.Lease
		for i := range 31 {
			w := want()
			w.Model = "claude-opus-5"
			if i == 30 { // they are equal then
				w.Account = "alpha"
			}
			l := y.lend(caller, w)
			require.Equal(t, "alpha", sent(t, l))
			held = append(held, l)
		}
		require.Equal(t, "beta", y.next(caller, "", "claude-opus-5"))
		e, err = y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, []string{"beta", "alpha", "gamma"}, order())
		require.Equal(t, 31, e.Accounts[1].InFlight)
		require.Equal(t, 6100, e.Accounts[1].Load)
		for _, l := range held {
			l.Done(train.Outcome{Result: train.OK})
		}
		require.Equal(t, "alpha", y.next(caller, "", "claude-opus-5"))

		// A window of one model's counts for that model.
		y.used(caller, "alpha", said(y, 0.30, 0.10, "7d_sonnet-utilization", "0.96", "7d_sonnet-reset", fmt.Sprint(y.clock.Now().Add(time.Hour).Unix())))
		require.Equal(t, "alpha", y.next(caller, "", "claude-opus-5"))
		require.Equal(t, "beta", y.next(caller, "", "claude-sonnet-5-5"))
		e, err = y.ExplainFor(t.Context(), y.admin, "web", "claude-sonnet-5-5")
		require.NoError(t, err)
		require.Equal(t, []string{"beta", "gamma", "alpha"}, order())

		// After the reset nothing is known, which counts as the mean of the others: neither nothing nor all.
		y.clock.Add(2 * time.Hour)
		y.used(caller, "alpha", said(y, 0.2, 0.2))
		y.used(caller, "beta", said(y, 0.4, 0.2))
		e, err = y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, []string{"alpha", "gamma", "beta"}, order())
		require.Equal(t, 3000, e.Accounts[1].Load)
		require.Empty(t, e.Accounts[1].Windows)
		require.Contains(t, e.Accounts[1].Order, "nothing is known of how far it is used, which counts as 30 %: the mean of those below their limits")
		// A new key may be another account's.
		y.rotate("beta")
		require.Eventually(t, func() bool {
			e, err := y.Explain(t.Context(), y.admin, "web")
			return err == nil && e.Accounts[0].Load == 2000 && e.Accounts[1].Load == 2000 && e.Accounts[2].Load == 2000
		}, 2*time.Second, 5*time.Millisecond)

		// The other strategies are told the same and keep their order.
		y.used(caller, "alpha", said(y, 0.99, 0.99))
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Strategy: ptr(train.Priority)}, "")
		require.NoError(t, err)
		first := ""
		for range 3 {
			name := y.next(caller, "", "")
			require.True(t, first == "" || first == name)
			first = name
		}
	})
}

// TestConversationStays: one conversation of one client key stays on its account while that can be used and is below its limits, whatever the others are.
func TestConversationStays(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller := y.leastLoaded("alpha", "beta", "gamma")
		for _, a := range []string{"alpha", "beta", "gamma"} {
			y.used(caller, a, said(y, 0.5, 0.1))
		}
		y.used(caller, "beta", said(y, 0.1, 0.1))
		require.Equal(t, "beta", y.next(caller, "talk", ""))
		y.used(caller, "beta", said(y, 0.89, 0.1))
		for range 5 {
			require.Equal(t, "beta", y.next(caller, "talk", ""))
			require.NotEqual(t, "beta", y.next(caller, "", ""))
		}
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, "beta", e.Accounts[2].Name)
		require.Equal(t, 1, e.Accounts[2].Conversations)
		require.Contains(t, e.Accounts[2].Order, "; 1 conversations are kept on it")

		// Another key's conversation of that name is another one.
		other, _, err := y.IssueKey(t.Context(), y.admin, "web", identity.KeyDraft{Name: "other"})
		require.NoError(t, err)
		foreign := caller
		foreign.ID = other.ID
		require.NotEqual(t, "beta", y.next(foreign, "talk", ""))

		// Beyond its limit the conversation goes to another and stays there.
		y.used(caller, "beta", said(y, 0.90, 0.1))
		moved := y.next(caller, "talk", "")
		require.NotEqual(t, "beta", moved)
		y.used(caller, "beta", said(y, 0.01, 0.01))
		require.Equal(t, moved, y.next(caller, "talk", ""))

		// So it does when its account cools down.
		w := want()
		w.Session = "talk"
		l := y.lend(caller, w)
		next, err := l.Next(t.Context(), train.Failure{Status: 500})
		require.NoError(t, err)
		now := sent(t, next)
		next.Done(train.Outcome{Result: train.OK})
		require.NotEqual(t, moved, now)
		y.clock.Add(time.Minute)
		require.Equal(t, now, y.next(caller, "talk", ""))
	})
}

// TestUsedUp: a limit that is used up is no burst: the request goes on to every account, each rests until its window begins anew, and when all do the client is
// told the earliest of them.
func TestUsedUp(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller := y.leastLoaded("alpha", "beta", "gamma")
		reset := func(d time.Duration) string { return fmt.Sprint(y.clock.Now().Add(d).Unix()) }
		refusal := func(window string, d time.Duration) http.Header {
			return said(y, 0.2, 0.2, "status", "rejected", window+"-status", "rejected", window+"-utilization", "1.0", window+"-reset", reset(d))
		}
		ends := map[string]time.Duration{"alpha": 3 * time.Hour, "beta": 90 * time.Minute, "gamma": 50 * time.Hour}
		l := y.lend(caller, want())
		for i := range 3 {
			name := sent(t, l)
			window := "5h"
			if name == "gamma" {
				window = "7d"
			}
			spent := l.Heard(http.StatusTooManyRequests, refusal(window, ends[name]))
			require.Equal(t, train.Spent{Window: window, For: ends[name]}, spent)
			next, err := l.Next(t.Context(), train.Failure{Status: http.StatusTooManyRequests, RetryAfter: time.Minute})
			if i == 2 {
				require.ErrorIs(t, err, train.ErrNoOther)
				break
			}
			require.NoError(t, err)
			l = next
		}
		require.Equal(t, 90*60, y.refused("accounts_cooling", caller, want()).RetryAfter)
		events := y.events(store.CredentialCooling)
		require.Len(t, events, 3)
		for _, ev := range events {
			require.Contains(t, ev.Reason, "the upstream says that its window ")
			until := min(ends[ev.Target.Name], 6*time.Hour)
			require.Equal(t, y.clock.Now().Add(until).Format(store.TimeFormat), detail(t, ev, "until"))
		}
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		for _, a := range e.Accounts {
			require.Equal(t, train.Cooling, a.State)
			require.Equal(t, 429, a.CoolingStatus)
		}
		require.Contains(t, e.Summary, "the first is free in 1h30m0s")
		y.clock.Add(90 * time.Minute)
		require.Equal(t, "beta", y.next(caller, "", ""))
		y.refuseUp(caller, "beta", train.Failure{Status: http.StatusForbidden})
		// Of gamma it is told when its week begins, although it is tried earlier.
		require.Equal(t, 15*60, y.refused("accounts_cooling", caller, want()).RetryAfter)
		y.clock.Add(6 * time.Hour)
		require.NotEmpty(t, y.next(caller, "", ""))

		// A model's window rests for the model; the account serves others, and its cool-down is none.
		w := want()
		w.Account, w.Model = "alpha", "claude-sonnet-5-5"
		l = y.lend(caller, w)
		spent := l.Heard(http.StatusTooManyRequests, refusal("7d_sonnet", 5*time.Hour))
		require.Equal(t, train.Spent{Model: true}, spent)
		_, err = l.Next(t.Context(), train.Failure{Status: http.StatusTooManyRequests})
		require.ErrorIs(t, err, train.ErrNoOther)
		require.Equal(t, 5*60*60, y.refused("accounts_cooling", caller, w).RetryAfter)
		w.Model = "claude-opus-5"
		y.lend(caller, w).Done(train.Outcome{Result: train.OK})
		e, err = y.ExplainFor(t.Context(), y.admin, "web", "claude-sonnet-5-5")
		require.NoError(t, err)
		require.Equal(t, "alpha", e.Accounts[2].Name)
		require.Equal(t, train.Cooling, e.Accounts[2].State)
		require.Contains(t, e.Accounts[2].Why, "other models are served")
		require.Len(t, y.events(store.CredentialCooling), 4)
	})
}

// refuseUp has a request at an account fail.
func (y *yard) refuseUp(caller identity.Caller, account string, f train.Failure) {
	y.t.Helper()
	w := want()
	w.Account = account
	_, err := y.lend(caller, w).Next(y.t.Context(), f)
	require.ErrorIs(y.t, err, train.ErrNoOther)
}

// TestBurstThatIsTold: a rate limit that no window explains leads to one other account.
func TestBurstThatIsTold(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller := y.leastLoaded("alpha", "beta", "gamma")
		l := y.lend(caller, want())
		spent := l.Heard(http.StatusTooManyRequests, said(y, 0.5, 0.5))
		require.Equal(t, train.Spent{}, spent)
		next, err := l.Next(t.Context(), train.Failure{Status: http.StatusTooManyRequests})
		require.NoError(t, err)
		require.Equal(t, train.Spent{}, next.Heard(http.StatusTooManyRequests, http.Header{}))
		_, err = next.Next(t.Context(), train.Failure{Status: http.StatusTooManyRequests})
		require.ErrorIs(t, err, train.ErrNoOther)
		require.Equal(t, 1, len(y.accountsThatCanBeUsed()))
	})
}

func (y *yard) accountsThatCanBeUsed() (names []string) {
	y.t.Helper()
	e, err := y.Explain(y.t.Context(), y.admin, "web")
	require.NoError(y.t, err)
	for _, a := range e.Accounts {
		if a.State == train.Usable {
			names = append(names, a.Name)
		}
	}
	return names
}
