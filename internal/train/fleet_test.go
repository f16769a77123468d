package train_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// windows tells of a train's accounts how far they are used, as "name window=percent …", by name.
func (y *yard) windows() map[string]string {
	y.t.Helper()
	e, err := y.Explain(context.Background(), y.admin, "web")
	require.NoError(y.t, err)
	out := map[string]string{}
	for _, a := range e.Accounts {
		var parts []string
		for _, w := range a.Windows {
			parts = append(parts, fmt.Sprintf("%s=%d", w.Name, w.Used/100))
		}
		out[a.Name] = strings.Join(parts, " ")
	}
	return out
}

// TestFleetKnowsHowFull: what one instance hears of the accounts the others go by within seconds, also when several hear different things at the same time, and
// one that starts later.
func TestFleetKnowsHowFull(t *testing.T) {
	if !slices.Contains(storetest.Engines(), store.Postgres) {
		return
	}
	s := newSite(t, store.Postgres)
	rooms := []*yard{s.open(t), s.open(t), s.open(t)}
	one := rooms[0]
	caller := one.leastLoaded("alpha", "beta", "gamma")
	for _, y := range rooms {
		y.eventuallyLends(caller)
		for _, account := range []string{"alpha", "beta", "gamma"} { // each has heard of each link
			w := want()
			w.Account = account
			require.Eventually(t, func() bool {
				l, err := y.Lend(t.Context(), caller, w)
				if err == nil {
					l.Done(train.Outcome{Result: train.Refused})
				}
				return err == nil
			}, 10*time.Second, 10*time.Millisecond)
		}
	}
	one.used(caller, "alpha", said(one, 0.50, 0.10))
	rooms[1].used(caller, "beta", said(one, 0.20, 0.10))
	rooms[2].used(caller, "gamma", said(one, 0.95, 0.10))
	agree := func(want map[string]string) {
		t.Helper()
		for _, y := range rooms {
			require.Eventually(t, func() bool {
				got := y.windows()
				for name, text := range want {
					if got[name] != text {
						return false
					}
				}
				return true
			}, 10*time.Second, 20*time.Millisecond, "%v, want %v", y.windows(), want)
		}
	}
	agree(map[string]string{"alpha": "5h=50 7d=10", "beta": "5h=20 7d=10", "gamma": "5h=95 7d=10"})
	for _, y := range rooms {
		require.Equal(t, "beta", y.next(caller, "", ""))
		for i := range 20 {
			require.Equal(t, "beta", y.next(caller, fmt.Sprintf("new %d", i), ""))
		}
	}

	// Each hears of another window of the same account at the same time; nothing is lost.
	var wg sync.WaitGroup
	for i, model := range []string{"opus", "sonnet", "haiku"} {
		wg.Go(func() {
			y := rooms[i]
			w := want()
			w.Account = "alpha"
			l, err := y.Lend(context.Background(), caller, w)
			if err != nil {
				t.Error(err)
				return
			}
			l.Heard(200, said(one, 0.5, 0.1, "7d_"+model+"-utilization", fmt.Sprint(0.3+float64(i)/10)))
			l.Done(train.Outcome{Result: train.OK})
			if err := y.WriteWindows(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	agree(map[string]string{"alpha": "5h=50 7d=10 7d_haiku=50 7d_opus=30 7d_sonnet=40"})

	// One that starts later knows it from the start.
	late := s.open(t)
	require.Equal(t, "5h=50 7d=10 7d_haiku=50 7d_opus=30 7d_sonnet=40", late.windows()["alpha"])
	require.Equal(t, "5h=95 7d=10", late.windows()["gamma"])

	// A model's window that refuses is refused everywhere.
	w := want()
	w.Account = "beta"
	l := rooms[2].lend(caller, w)
	l.Heard(http.StatusTooManyRequests, said(one, 0.2, 0.1, "status", "rejected", "7d_sonnet-status", "rejected", "7d_sonnet-reset", fmt.Sprint(one.clock.Now().Add(time.Hour).Unix())))
	_, err := l.Next(t.Context(), train.Failure{Status: 429})
	require.ErrorIs(t, err, train.ErrNoOther)
	rooms = append(rooms, late)
	for _, y := range rooms {
		require.Eventually(t, func() bool {
			_, err := y.Lend(t.Context(), caller, w)
			return err != nil
		}, 10*time.Second, 20*time.Millisecond)
		require.Equal(t, 3600, y.refused("accounts_cooling", caller, w).RetryAfter)
	}
}

// TestWindowsSurviveARestart: also what was heard in the last moment, and only for the secret that it was heard of.
func TestWindowsSurviveARestart(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			caller := y.leastLoaded("alpha", "beta")
			y.used(caller, "alpha", said(y, 0.50, 0.10))
			y.used(caller, "beta", said(y, 0.25, 0.10))
			y.Close()
			require.NoError(t, y.db.Close())

			y = s.open(t)
			require.Equal(t, map[string]string{"alpha": "5h=50 7d=10", "beta": "5h=25 7d=10"}, y.windows())
			y.rotate("beta")
			require.Eventually(t, func() bool { return y.windows()["beta"] == "" }, 5*time.Second, 5*time.Millisecond)
			y.Close()
			require.NoError(t, y.db.Close())

			y = s.open(t)
			require.Equal(t, map[string]string{"alpha": "5h=50 7d=10", "beta": ""}, y.windows())
			y.clock.Add(2 * time.Hour)
			require.Equal(t, map[string]string{"alpha": "", "beta": ""}, y.windows())
		})
	}
}

// TestWindowsAreWrittenSeldom: only what differs by a percent, and never on a request's way; while nothing can be written this instance goes by what it knows
// and writes it afterwards.
func TestWindowsAreWrittenSeldom(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller := y.leastLoaded("alpha")
		wrote := func() (at int64) {
			t.Helper()
			require.NoError(t, y.WriteWindows(t.Context()))
			require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&at, `SELECT COALESCE(MAX(at), 0) FROM account_windows`)
			}))
			return at
		}
		require.Zero(t, wrote())
		y.used(caller, "alpha", said(y, 0.500, 0.10))
		first := wrote()
		require.NotZero(t, first)
		reset := y.clock.Now().Add(2 * time.Hour)
		for i := range 9 {
			y.clock.Add(time.Second)
			h := said(y, 0.500+float64(i)/1000, 0.10)
			for _, w := range []string{"5h", "7d"} {
				h.Set("anthropic-ratelimit-unified-"+w+"-reset", fmt.Sprint(reset.Unix()))
			}
			y.used(caller, "alpha", h)
			require.Equal(t, first, wrote())
		}
		y.clock.Add(time.Second)
		y.used(caller, "alpha", said(y, 0.51, 0.10))
		second := wrote()
		require.Greater(t, second, first)

		y.clock.Add(time.Second)
		y.rename("account_windows", "account_windows_away")
		y.used(caller, "alpha", said(y, 0.60, 0.10))
		require.Error(t, y.WriteWindows(t.Context()))
		require.Equal(t, "5h=60 7d=10", y.windows()["alpha"])
		y.rename("account_windows_away", "account_windows")
		require.Greater(t, wrote(), second)

		// What lies there is not believed because it lies there.
		for _, text := range []string{`{`, `[{"n":"5h","u":-1}]`, `[{"n":"5h","u":99999999}]`, `[{"n":"x","u":1}]`, `[{"n":"5h","u":1,"h":1,"r":9000000000000000000}]`, `null`} {
			y.sql(`UPDATE account_windows SET windows = '`+text+`'`, store.TopicWindows, y.accountID("alpha"))
			require.Equal(t, "5h=60 7d=10", y.windows()["alpha"], text)
		}
	})
}

func (y *yard) accountID(name string) string {
	y.t.Helper()
	e, err := y.Explain(y.t.Context(), y.admin, "web")
	require.NoError(y.t, err)
	for _, a := range e.Accounts {
		if a.Name == name {
			return a.CredentialID
		}
	}
	return ""
}
