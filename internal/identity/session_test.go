package identity_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func at(ip string) identity.Caller {
	return identity.Caller{Kind: identity.KindAnonymous, RequestID: "req_1", IP: ip, UserAgent: "Firefox"}
}

func (h *house) login(ip string) identity.Admission {
	h.t.Helper()
	in, err := h.Login(h.t.Context(), at(ip), email, secret.FromString(password), identity.SessionBrowser)
	require.NoError(h.t, err)
	return in
}

// who returns who is signed in with that admission.
func (h *house) who(in identity.Admission) (identity.Caller, error) {
	return h.Session(h.t.Context(), in.Secret.Reveal())
}

func TestSessionLimits(t *testing.T) {
	each(t, func(c *identity.Config) { c.SessionLife, c.SessionIdle = 3*time.Hour, time.Hour }, func(t *testing.T, h *house) {
		h.admin()
		idle, busy := h.login("192.0.2.1"), h.login("192.0.2.1")
		for range 3 {
			h.clock.Add(50 * time.Minute)
			_, err := h.who(busy)
			require.NoError(t, err)
		}
		_, err := h.who(idle)
		requireFault(t, "unauthenticated", err)
		list, err := h.ListSessions(t.Context(), identity.Caller{Kind: identity.KindPerson, UserID: busy.User.ID, Role: identity.Administrator}, "")
		require.NoError(t, err)
		require.Len(t, list, 1, "what lies idle is not listed")
		require.Equal(t, busy.Session.ID, list[0].ID)
		h.clock.Add(29 * time.Minute)
		_, err = h.who(busy)
		require.NoError(t, err)
		h.clock.Add(time.Minute)
		_, err = h.who(busy)
		requireFault(t, "unauthenticated", err) // three hours are over, however busy it was
	})
}

// TestAUseElsewhereKeepsASessionAlive: what one instance saw of a session, another asks the database for.
func TestAUseElsewhereKeepsASessionAlive(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	c := newClock()
	a := newHouse(t, cfg, c, nil)
	a.admin()
	in := a.login("192.0.2.1")
	b := newHouse(t, cfg, c, nil)
	_, err := b.who(in)
	require.NoError(t, err)
	c.Add(50 * time.Minute)
	_, err = a.who(in)
	require.NoError(t, err)
	require.NoError(t, a.Flush(t.Context()))
	c.Add(50 * time.Minute)
	_, err = b.who(in)
	require.NoError(t, err, "it was used 50 minutes ago, elsewhere")
	c.Add(time.Hour)
	_, err = b.who(in)
	requireFault(t, "unauthenticated", err)
}

// TestInvariant9ADeactivationEndsEverything: sessions and tokens of the person end within a second of the acknowledgement, on another
// instance as well, and stay ended when the person is activated again; client keys belong to the train.
func TestInvariant9ADeactivationEndsEverything(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	c := newClock()
	a, b := newHouse(t, cfg, c, nil), newHouse(t, cfg, c, nil)
	_, admin := a.admin()
	bob, _, err := a.CreateUser(t.Context(), admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Operator, Password: secret.FromString(password)})
	require.NoError(t, err)
	in, err := a.Login(t.Context(), at("192.0.2.1"), "bob@example.com", secret.FromString(password), identity.SessionBrowser)
	require.NoError(t, err)
	_, token, err := a.IssueToken(t.Context(), person(bob), identity.TokenDraft{Name: "x"})
	require.NoError(t, err)
	_, key := a.mustIssue("train_a", "bob's agent")
	require.Eventually(t, func() bool {
		_, err1 := b.who(in)
		_, err2 := b.Token(token.Reveal())
		_, err3 := b.Client(key)
		return err1 == nil && err2 == nil && err3 == nil
	}, 5*time.Second, 10*time.Millisecond)
	again, err := b.who(in)
	require.NoError(t, err)

	_, err = a.UpdateUser(t.Context(), admin, bob.ID, identity.UserPatch{Active: ptr(false)})
	require.NoError(t, err)
	acknowledged := time.Now()
	_, err = a.who(in)
	requireFault(t, "unauthenticated", err)
	for {
		_, err1 := b.who(in)
		_, err2 := b.Token(token.Reveal())
		_, err3 := b.Again(t.Context(), again)
		if err1 != nil && err2 != nil && err3 != nil {
			break
		}
		require.Less(t, time.Since(acknowledged), time.Second)
		time.Sleep(time.Millisecond)
	}
	_, err = b.Client(key)
	require.NoError(t, err, "the key is the train's")
	_, err = a.Login(t.Context(), at("192.0.2.1"), "bob@example.com", secret.FromString(password), identity.SessionBrowser)
	requireFault(t, "login_failed", err)

	_, err = a.UpdateUser(t.Context(), admin, bob.ID, identity.UserPatch{Active: ptr(true)})
	require.NoError(t, err)
	_, err = a.who(in)
	requireFault(t, "unauthenticated", err)
	_, err = a.Token(token.Reveal())
	requireFault(t, "unauthenticated", err)
	require.Len(t, a.eventsOf(store.UserDeactivate), 1)
	require.Len(t, a.eventsOf(store.IdentitySessionEnd), 1)
	require.Len(t, a.eventsOf(store.TokenRevoke), 1)
}

func TestStepUpIsNeededAndRotates(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		in := h.login("192.0.2.1")
		caller, err := h.who(in)
		require.NoError(t, err)
		require.NoError(t, identity.RequireFresh(caller, h.clock.Now()), "who has just signed in is fresh")
		h.clock.Add(5*time.Minute + time.Second)
		requireFault(t, "step_up_required", identity.RequireFresh(caller, h.clock.Now()))
		require.NoError(t, identity.RequireFresh(identity.Caller{Kind: identity.KindToken}, h.clock.Now()), "a token has its scopes")
		_, _, err = h.CreateUser(t.Context(), caller, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member})
		requireFault(t, "step_up_required", err)
		_, err = h.StepUp(t.Context(), caller, secret.FromString("wrong"))
		requireFault(t, "password_wrong", err)
		again, err := h.who(in)
		require.NoError(t, err)
		require.Equal(t, caller.SteppedUpAt, again.SteppedUpAt)
		_, err = h.StepUp(t.Context(), identity.Caller{Kind: identity.KindToken, UserID: caller.UserID}, secret.FromString(password))
		requireFault(t, "state_conflict", err)

		up, err := h.StepUp(t.Context(), caller, secret.FromString(password))
		require.NoError(t, err)
		_, err = h.who(in)
		requireFault(t, "unauthenticated", err) // the old secret
		now, err := h.who(up)
		require.NoError(t, err)
		require.Equal(t, in.Session.ID, now.SessionID)
		require.NoError(t, identity.RequireFresh(now, h.clock.Now()))
		ev := h.eventsOf(store.IdentityStepUp)
		require.Len(t, ev, 2)
		require.Equal(t, store.OutcomeRefused, ev[0].Outcome)
		require.Equal(t, store.OutcomeOK, ev[1].Outcome)
	})
}

func TestSessionsOfOneself(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		bob, _, err := h.CreateUser(t.Context(), identity.System("test"), identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(password)})
		require.NoError(t, err)
		theirs, err := h.Login(t.Context(), at("192.0.2.1"), "bob@example.com", secret.FromString(password), identity.SessionBrowser)
		require.NoError(t, err)
		mine, other := h.login("192.0.2.1"), h.login("192.0.2.2")
		bobs, err := h.who(theirs)
		require.NoError(t, err)
		admin, err := h.who(mine)
		require.NoError(t, err)

		_, err = h.ListSessions(t.Context(), bobs, admin.UserID)
		requireFault(t, "forbidden", err)
		requireFault(t, "not_found", h.EndSession(t.Context(), bobs, other.Session.ID))
		requireFault(t, "not_found", h.EndSession(t.Context(), bobs, "ses_00000000000000000000000000"))
		_, err = h.who(other)
		require.NoError(t, err)
		list, err := h.ListSessions(t.Context(), admin, bob.ID)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "Firefox", list[0].UserAgent)
		require.NoError(t, h.EndSession(t.Context(), admin, theirs.Session.ID))
		_, err = h.who(theirs)
		requireFault(t, "unauthenticated", err)
		n, err := h.EndOtherSessions(t.Context(), admin)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = h.who(other)
		requireFault(t, "unauthenticated", err)
		require.NoError(t, h.Logout(t.Context(), admin))
		_, err = h.who(mine)
		requireFault(t, "unauthenticated", err)
	})
}

func TestOnePersonHasSoManySessions(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	u, _ := h.admin()
	var all []identity.Admission
	for range identity.MaxSessions + 2 {
		require.NoError(t, h.write(func(tx *store.Tx) error {
			in, err := h.StartSession(tx, at("192.0.2.1"), u.ID, identity.SessionBrowser, identity.ProofPassword)
			all = append(all, in)
			return err
		}))
	}
	for i, in := range all {
		_, err := h.who(in)
		require.Equal(t, i < 2, err != nil, "%d", i)
	}
	require.NoError(t, h.write(func(tx *store.Tx) error {
		_, err := h.StartSession(tx, at("192.0.2.1"), u.ID, identity.SessionBrowser)
		requireFault(t, "login_failed", err) // without a proof there is no session
		return tx.Record(identity.System("test").Event(store.IdentitySetup, u.Target()))
	}))
}

// TestThrottlingHoldsOverAllInstances guesses from one address and for one account at three instances of one database at once: no more guesses
// get through to the hash than one instance would let through, and the person still signs in from where they always did.
func TestThrottlingHoldsOverAllInstances(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	c := newClock()
	houses := []*house{newHouse(t, cfg, c, nil), newHouse(t, cfg, c, nil), newHouse(t, cfg, c, nil)}
	houses[0].admin()
	_, token, err := houses[0].IssueToken(t.Context(), identity.System("test"), identity.TokenDraft{UserID: houses[0].userID(), Name: "x", Scopes: identity.Scopes{identity.AuditRead}})
	require.NoError(t, err)
	houses[0].login("198.51.100.1") // the address they always use

	// One account, from ever new addresses: the free guesses, then a wait.
	through, throttled := guess(houses, 300, func(i int) (string, string) { return "203.0.113." + itoa(i%250), email })
	require.LessOrEqual(t, through, 5, "of 300 guesses at one account")
	require.Equal(t, 300, through+throttled)
	_, err = houses[2].Login(t.Context(), at("203.0.113.251"), email, secret.FromString(password), identity.SessionBrowser)
	require.Positive(t, requireFault(t, "login_throttled", err).RetryAfter)
	houses[1].login("198.51.100.1")

	// An account that nobody has is treated alike.
	through, _ = guess(houses, 60, func(i int) (string, string) { return "192.0.2." + itoa(i), "nobody@example.com" })
	require.LessOrEqual(t, through, 5)

	// One address (one household of IPv6), ever new accounts: 10,000 guesses in a minute.
	started := c.Now()
	total := 0
	for range 6 {
		through, _ = guess(houses, 1667, func(i int) (string, string) {
			return "2001:db8:1:2::" + itoa(i+1), "person" + itoa(i) + store.NewID("u") + "@example.com"
		})
		total += through
		c.Add(10 * time.Second)
	}
	require.Equal(t, time.Minute, c.Now().Sub(started))
	require.LessOrEqual(t, total, 30, "of 10,002 guesses from one address within a minute")
	require.GreaterOrEqual(t, total, 20)
	_, err = houses[1].Token(token.Reveal())
	require.NoError(t, err, "tokens go on working")
	require.Greater(t, houses[0].Failures()[identity.FailedThrottled]+houses[1].Failures()[identity.FailedThrottled]+houses[2].Failures()[identity.FailedThrottled], int64(9000))

	// In time both are forgotten.
	c.Add(25 * time.Hour)
	houses[0].login("2001:db8:1:2::9")
}

// guess makes n guesses, spread over the houses, and returns how many were looked at and how many were not.
func guess(houses []*house, n int, where func(i int) (ip, email string)) (through, throttled int) {
	type verdict struct{ through bool }
	out := make(chan verdict)
	for w := range houses {
		go func() {
			for i := w; i < n; i += len(houses) {
				ip, who := where(i)
				_, err := houses[w].Login(context.Background(), at(ip), who, secret.FromString("planted-guess"), identity.SessionBrowser)
				out <- verdict{err != nil && !strings.Contains(err.Error(), "too many failed sign-ins")}
			}
		}()
	}
	for range n {
		if v := <-out; v.through {
			through++
		} else {
			throttled++
		}
	}
	return through, throttled
}
