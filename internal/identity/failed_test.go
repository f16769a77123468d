package identity_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestFailuresAreCountedBySource(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		began := h.clock.Now()
		for _, source := range []string{"192.0.2.1", "192.0.2.1:4000", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:9"} {
			h.Failed(source, identity.FailedKey)
		}
		h.clock.Add(time.Second)
		h.Failed("192.0.2.1", identity.FailedLogin)
		h.Failed("192.0.2.1", "something else")
		for i := range 50 { // one household of IPv6 addresses
			h.Failed(fmt.Sprintf("[2001:db8:1:2::%x]:80", i+1), identity.FailedToken)
		}
		h.Failed("2001:db8:1:3::1", identity.FailedToken)
		h.Failed("::1", identity.FailedSetup)
		h.Failed("fe80::1%eth0", identity.FailedKey)
		h.Failed("", identity.FailedLogin)
		h.Failed("sbx_live_planted-by-mistake", identity.FailedKey)
		require.Empty(t, h.events())
		counted := map[string]int64{"client_key": 6, "token": 51, "login": 2, "setup_link": 1, "other": 1, "one_time_link": 0, "session": 0, "refresh_token": 0, "second_factor": 0, "sso": 0, "login_code": 0, "login_throttled": 0}
		require.Equal(t, counted, h.Failures())
		require.NoError(t, h.Flush(t.Context()))
		require.Equal(t, counted, h.Failures(), "they are counted since the start")

		got := map[string]store.Event{}
		for _, ev := range h.eventsOf(store.IdentityFailed) {
			require.Equal(t, store.OutcomeFailed, ev.Outcome)
			require.Equal(t, "anonymous", ev.Actor.Kind)
			got[ev.Actor.ID] = ev
		}
		require.Len(t, got, 7)
		v4 := got["192.0.2.1"]
		require.Equal(t, "192.0.2.1", v4.IP)
		require.Equal(t, "6", detail(t, v4, "count"))
		require.Equal(t, "4", detail(t, v4, "client_key"))
		require.Equal(t, "1", detail(t, v4, "login"))
		require.Equal(t, "1", detail(t, v4, "other"))
		require.Equal(t, began.Format(store.TimeFormat), detail(t, v4, "first"))
		require.Equal(t, began.Add(time.Second).Format(store.TimeFormat), detail(t, v4, "last"))
		require.Equal(t, "50", detail(t, got["2001:db8:1:2::/64"], "token"))
		require.Equal(t, "1", detail(t, got["2001:db8:1:3::/64"], "count"))
		require.Contains(t, got, "::1")
		require.Contains(t, got, "fe80::/64")
		require.Contains(t, got, "unknown")
		require.Equal(t, "1", detail(t, got["other sources"], "count"), "what is no address is not repeated")

		require.NoError(t, h.Flush(t.Context()))
		require.Len(t, h.eventsOf(store.IdentityFailed), 7, "nothing new, nothing written")
	})
}

// TestGuessingKeysFillsNoDisk guesses 100,000 keys from as many addresses and from one.
func TestGuessingKeysFillsNoDisk(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.mustIssue("train_a", "a")
		const guesses, guessers = 100_000, 4
		before := heap()
		var wg sync.WaitGroup
		for g := range guessers {
			wg.Go(func() {
				for i := g; i < guesses; i += guessers {
					if _, err := h.Client("sbx_live_" + fmt.Sprintf("%038d", i)); err == nil {
						t.Error("a guess was right")
					}
					source := "198.51.100.1"
					if i%2 == 0 {
						source = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
					}
					h.Failed(source, identity.FailedKey)
				}
			})
		}
		wg.Wait()
		require.Less(t, heap()-before, int64(4<<20), "the counters must not grow with the guesses")
		require.NoError(t, h.Flush(t.Context()))
		events := h.eventsOf(store.IdentityFailed)
		require.LessOrEqual(t, len(events), 1001)
		require.Greater(t, len(events), 990)
		sum := 0
		for _, ev := range events {
			n, err := strconv.Atoi(detail(t, ev, "count"))
			require.NoError(t, err)
			sum += n
		}
		require.Equal(t, guesses, sum)
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFailuresWaitForTheDatabase loses no count while the database is away.
func TestFailuresWaitForTheDatabase(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		for i := range 120 { // more than one transaction
			h.Failed("10.0.0."+strconv.Itoa(i), identity.FailedKey)
		}
		dead, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, h.Flush(dead))
		h.Failed("10.0.0.1", identity.FailedKey)
		require.NoError(t, h.Flush(t.Context()))
		events := h.eventsOf(store.IdentityFailed)
		require.Len(t, events, 120)
		for _, ev := range events {
			want := "1"
			if ev.Actor.ID == "10.0.0.1" {
				want = "2"
			}
			require.Equal(t, want, detail(t, ev, "count"))
		}
	})
}

// TestWorkerWrites runs the background worker on a short beat.
func TestWorkerWrites(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			h := newHouse(t, storetest.Config(t, e), newClock(), func(c *identity.Config) { c.Every = 5 * time.Millisecond })
			k, _ := h.mustIssue("train_a", "a")
			require.NoError(t, h.Start(t.Context()))
			require.Error(t, h.Start(t.Context()), "a second worker would be a bug")
			h.Touch(k.ID)
			h.Failed("192.0.2.1", identity.FailedKey)
			require.Eventually(t, func() bool {
				return len(h.eventsOf(store.IdentityFailed)) == 1 && storedUse(h, k.ID) != nil
			}, 10*time.Second, 10*time.Millisecond)
			require.NoError(t, h.db.Close())
			h.Failed("192.0.2.1", identity.FailedKey)
			require.Eventually(t, func() bool { return strings.Contains(h.log.String(), "they wait") }, 10*time.Second, 10*time.Millisecond)
		})
	}
}

func storedUse(h *house, id string) *store.Time {
	h.t.Helper()
	var at *store.Time
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		return tx.Get(&at, `SELECT last_used_at FROM client_keys WHERE id = $1`, id)
	}))
	return at
}

// TestEveryRefusalCountsToTheLimit: whatever somebody tries to get in with, an address has one limit of failures for it. A place that counts a
// failure without asking the limit fails its row.
func TestEveryRefusalCountsToTheLimit(t *testing.T) {
	wrong := secret.FromString("000000")
	each(t, func(c *identity.Config) { c.FailureLimit = 2 }, func(t *testing.T, h *house) {
		h.admin()
		caller := h.caller(h.enter(email))
		_, err := h.OfferTOTP(t.Context(), caller)
		require.NoError(t, err)
		site, err := h.Site("localhost:8420")
		require.NoError(t, err)
		h.clock.Add(10 * time.Second) // so that no row stands in two minutes
		for i, row := range []struct {
			name, code string
			try        func(identity.Caller) error
		}{
			{"password", "login_failed", func(c identity.Caller) error {
				_, err := h.Login(t.Context(), anonymous(c), "nobody@example.com", wrong, identity.SessionBrowser)
				return err
			}},
			{"password and code", "login_failed", func(c identity.Caller) error {
				_, err := h.LoginWith(t.Context(), anonymous(c), "somebody@example.com", wrong, identity.Code{TOTP: wrong}, identity.SessionAPI)
				return err
			}},
			{"password of a session", "password_wrong", func(c identity.Caller) error {
				_, err := h.StepUp(t.Context(), c, wrong)
				return err
			}},
			{"code of an app", "second_factor_wrong", func(c identity.Caller) error {
				_, err := h.ConfirmTOTP(t.Context(), c, wrong)
				return err
			}},
			{"second factor", "second_factor_wrong", func(c identity.Caller) error {
				_, err := h.Prove(t.Context(), c, identity.Code{Recovery: wrong})
				return err
			}},
			{"passkey", "passkey_refused", func(c identity.Caller) error {
				_, err := h.PasskeyLogin(t.Context(), anonymous(c), site, wrong, identity.SessionBrowser)
				return err
			}},
			{"single sign-on", "sso_failed", func(c identity.Caller) error {
				_, err := h.FinishSSO(t.Context(), anonymous(c), identity.SSOAnswer{Provider: "work", State: wrong, Code: wrong})
				return err
			}},
		} {
			c := caller
			c.IP = fmt.Sprintf("192.0.2.%d", 100+i)
			h.clock.Add(54 * time.Second) // each row has a minute of its own
			for _, code := range []string{row.code, row.code, "rate_limited"} {
				h.clock.Add(2 * time.Second) // for the account's own waits
				requireFault(t, code, row.try(c))
			}
		}
	})
}

func anonymous(c identity.Caller) identity.Caller {
	return identity.Caller{Kind: identity.KindAnonymous, RequestID: c.RequestID, IP: c.IP, UserAgent: c.UserAgent}
}
