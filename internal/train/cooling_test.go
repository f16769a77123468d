package train_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// coolestMinute is longer than every cool-down that these tests cause by the upstream being away.
const coolestMinute = time.Minute

func TestCoolDowns(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, id := y.line()
		for _, c := range []struct {
			failure train.Failure
			rest    time.Duration
			reason  string
		}{
			{train.Failure{Status: 429, RetryAfter: 12 * time.Second}, 12 * time.Second, "the upstream limits its rate (429)"},
			{train.Failure{Status: 429}, 30 * time.Second, "the upstream limits its rate (429)"},
			{train.Failure{Status: 429, RetryAfter: 48 * time.Hour}, 6 * time.Hour, "the upstream limits its rate (429)"},
			{train.Failure{Status: 401, RetryAfter: time.Second}, 15 * time.Minute, "the upstream refuses its credential (401)"},
			{train.Failure{Status: 403}, 15 * time.Minute, "the upstream refuses its credential (403)"},
			{train.Failure{Status: 500}, 20 * time.Second, "the upstream failed (500)"},
			{train.Failure{Status: 529, RetryAfter: time.Hour}, 20 * time.Second, "the upstream failed (529)"},
			{train.Failure{Dial: true}, 20 * time.Second, "the upstream could not be reached"},
		} {
			before := len(y.events(store.CredentialCooling))
			start := y.clock.Now()
			_, err := y.lend(caller, want()).Next(t.Context(), c.failure)
			require.ErrorIs(t, err, train.ErrNoOther)
			require.Equal(t, int(c.rest/time.Second), y.refused("accounts_cooling", caller, want()).RetryAfter)

			events := y.events(store.CredentialCooling)
			require.Len(t, events, before+1)
			ev := events[before]
			require.Equal(t, store.Target{Kind: "credential", ID: id, Name: "alpha"}, ev.Target)
			require.Equal(t, "system", ev.Actor.Kind)
			require.Equal(t, c.reason, ev.Reason)
			require.Equal(t, start.Add(c.rest).Format(store.TimeFormat), detail(t, ev, "until"))

			e, err := y.Explain(t.Context(), y.admin, "web")
			require.NoError(t, err)
			require.Equal(t, train.Cooling, e.Accounts[0].State)
			require.Equal(t, c.reason, e.Accounts[0].Why)
			require.Equal(t, c.failure.Status, e.Accounts[0].CoolingStatus)
			require.Equal(t, start.Add(c.rest), *e.Accounts[0].CoolingUntil)
			require.Contains(t, e.Summary, "cooling down")

			y.clock.Add(c.rest - 100*time.Millisecond)
			require.Equal(t, 1, y.refused("accounts_cooling", caller, want()).RetryAfter)
			y.clock.Add(100 * time.Millisecond)
			y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		}
	})
}

// TestCoolDownIsWrittenOnce: requests that fail together cost one write, a clearly longer rest another.
func TestCoolDownIsWrittenOnce(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		var leases []*train.Lease
		for range 8 {
			leases = append(leases, y.lend(caller, want()))
		}
		fail := func(i int, f train.Failure) {
			_, err := leases[i].Next(t.Context(), f)
			require.ErrorIs(t, err, train.ErrNoOther)
		}
		for i := range 5 {
			y.clock.Add(100 * time.Millisecond)
			fail(i, train.Failure{Status: 429, RetryAfter: 30 * time.Second})
		}
		require.Len(t, y.events(store.CredentialCooling), 1)
		fail(5, train.Failure{Status: 500})
		require.Len(t, y.events(store.CredentialCooling), 1, "a shorter rest changes nothing")
		fail(6, train.Failure{Status: 429, RetryAfter: 5 * time.Minute})
		require.Len(t, y.events(store.CredentialCooling), 2)
		require.Equal(t, 300, y.refused("accounts_cooling", caller, want()).RetryAfter)
		// The last of them was for the secret of an older version: it says nothing about the new one.
		y.rotate("alpha")
		fail(7, train.Failure{Status: 401})
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		require.Len(t, y.events(store.CredentialCooling), 2)
	})
}

// TestRotationEndsTheCoolDown, and a restart does not.
func TestRotationEndsTheCoolDown(t *testing.T) {
	for _, e := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			caller, _, _ := y.line()
			_, err := y.lend(caller, want()).Next(t.Context(), train.Failure{Status: 401})
			require.ErrorIs(t, err, train.ErrNoOther)
			y.Close()
			require.NoError(t, y.db.Close())

			y = s.open(t)
			require.Equal(t, 900, y.refused("accounts_cooling", caller, want()).RetryAfter)
			y.rotate("alpha")
			l := y.lend(caller, want())
			require.Equal(t, "alpha", sent(t, l)[:len("alpha")])
			require.Equal(t, "2", detail(t, y.events(store.LeaseGranted)[1], "version"))
			l.Done(train.Outcome{Result: train.OK})
		})
	}
}

// TestCoolDownIsShared by instances on one database.
func TestCoolDownIsShared(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Postgres)
	one, two := s.open(t), s.open(t)
	caller, _, _ := one.line()
	two.eventuallyLends(caller)
	_, err := one.lend(caller, want()).Next(t.Context(), train.Failure{Status: 429, RetryAfter: time.Minute})
	require.ErrorIs(t, err, train.ErrNoOther)
	require.Eventually(t, func() bool {
		l, err := two.Lend(context.Background(), caller, want())
		if err == nil {
			l.Done(train.Outcome{Result: train.OK})
			return false
		}
		return requireFault(t, "accounts_cooling", err).RetryAfter == 60
	}, time.Second, 20*time.Millisecond)
	one.rotate("alpha")
	two.eventuallyLends(caller)
}

// TestCoolDownWithoutDatabase still holds in this process.
func TestCoolDownWithoutDatabase(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, id := y.line()
		l := y.lend(caller, want())
		y.rename("cool_downs", "cool_downs_away")
		_, err := l.Next(t.Context(), train.Failure{Status: 503})
		require.ErrorIs(t, err, train.ErrNoOther)
		y.rename("cool_downs_away", "cool_downs")
		require.Equal(t, 20, y.refused("accounts_cooling", caller, want()).RetryAfter)
		require.Empty(t, y.events(store.CredentialCooling))
		// A reload finds nothing in the database, and does not forget what only the memory knows.
		y.sql(`UPDATE credentials SET description = 'x'`, store.TopicCredential, id)
		y.refused("accounts_cooling", caller, want())
		y.clock.Add(20 * time.Second)
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
	})
}
