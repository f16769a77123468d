package identity_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

var testVerifier = strings.Repeat("planted-verifier.", 4)

func commandLine(verifier string, port int) identity.CommandLine {
	sum := sha256.Sum256([]byte(verifier))
	return identity.CommandLine{Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Port: port}
}

// agreed is the code of somebody who has agreed in this session.
func (h *house) agreed(in identity.Admission) secret.Value {
	h.t.Helper()
	code, err := h.AllowCommandLine(h.t.Context(), h.caller(in), commandLine(testVerifier, 40123))
	require.NoError(h.t, err)
	return code
}

func (h *house) exchange(code secret.Value, verifier string) (identity.Tokens, error) {
	return h.ExchangeCode(h.t.Context(), identity.Caller{Kind: identity.KindAnonymous, RequestID: "req_2", IP: "192.0.2.99", UserAgent: "signalbox-cli/1"}, code, secret.FromString(verifier))
}

// TestCommandLineSignsIn: who agreed in a browser gets a session for the command line, which is theirs like any other: listed, refreshed, ended,
// and on record with where it came from.
func TestCommandLineSignsIn(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, _ := h.admin()
		in := h.enter(email)
		code := h.agreed(in)
		require.Regexp(t, `^sbl_[A-Za-z0-9]{38}$`, code.Reveal())
		tokens, err := h.exchange(code, testVerifier)
		require.NoError(t, err)
		require.Equal(t, time.Hour, tokens.ExpiresIn)
		c := h.requireAlive(tokens.Access.Reveal())
		require.Equal(t, u.ID, c.UserID)
		require.Equal(t, []identity.Proof{identity.ProofPassword}, c.Proofs)
		require.NotEqual(t, in.Session.ID, c.SessionID)

		events := h.eventsOf(store.IdentityCLI)
		require.Len(t, events, 2)
		require.Equal(t, "agreed", detail(t, events[0], "step"))
		require.Equal(t, "40123", detail(t, events[0], "port"))
		require.Equal(t, store.Target{Kind: "session", ID: in.Session.ID}, events[0].Target)
		require.Equal(t, "192.0.2.7", events[0].IP)
		require.Equal(t, "exchange", detail(t, events[1], "step"))
		require.Equal(t, store.Target{Kind: "session", ID: c.SessionID}, events[1].Target)
		require.Equal(t, in.Session.ID, detail(t, events[1], "agreed_in"))
		require.Equal(t, "192.0.2.99", events[1].IP)
		require.Equal(t, "signalbox-cli/1", events[1].UserAgent)
		require.Equal(t, u.ID, events[1].Actor.ID)

		list, err := h.ListSessions(t.Context(), c, "")
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, identity.SessionAPI, list[0].Kind)
		require.Equal(t, "signalbox-cli/1", list[0].UserAgent)
		next, err := h.Refresh(t.Context(), door(), tokens.Refresh)
		require.NoError(t, err)
		_, err = h.Refresh(t.Context(), door(), tokens.Refresh)
		requireFault(t, "unauthenticated", err)
		h.requireDead(next.Access.Reveal()) // a token that came twice ends it

		second, err := h.exchange(h.agreed(in), testVerifier)
		require.NoError(t, err)
		require.NoError(t, h.Logout(t.Context(), h.caller(in)))
		h.requireAlive(second.Access.Reveal()) // signing out of the browser is not signing out of the command line
		fresh := h.enter(email)
		n, err := h.EndOtherSessions(t.Context(), h.caller(fresh))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		h.requireDead(second.Access.Reveal())
	})
}

// TestLoginCodeIsWorthNothingElsewhere: without its verifier, a second time, too late, or when what it rests on has ended.
func TestLoginCodeIsWorthNothingElsewhere(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, _ := h.admin()
		refused := func(in identity.Admission, code secret.Value, verifier, why string) {
			t.Helper()
			before := len(h.eventsOf(store.IdentityCLI))
			_, err := h.exchange(code, verifier)
			requireFault(t, "unauthenticated", err)
			events := h.eventsOf(store.IdentityCLI)[before:]
			if why == "" {
				require.Empty(t, events)
				return
			}
			require.Len(t, events, 1)
			require.Equal(t, store.OutcomeRefused, events[0].Outcome)
			require.Equal(t, why, events[0].Reason)
			require.Equal(t, "192.0.2.99", events[0].IP)
			_, err = h.exchange(code, testVerifier) // it is spent
			requireFault(t, "unauthenticated", err)
		}
		in := h.enter(email)
		for _, wrong := range []string{"", testVerifier[1:], testVerifier + "x", commandLine(testVerifier, 0).Challenge, strings.Repeat("a", 5000)} {
			refused(in, h.agreed(in), wrong, "verifier")
		}
		code := h.agreed(in)
		last := "0"
		if strings.HasSuffix(code.Reveal(), last) {
			last = "1"
		}
		refused(in, secret.FromString(code.Reveal()[:len(code.Reveal())-1]+last), testVerifier, "")
		refused(in, secret.FromString(""), testVerifier, "")
		newer := h.agreed(in)
		refused(in, code, testVerifier, "") // the newer one voids it
		h.clock.Add(identity.LoginCodeLife)
		refused(in, newer, testVerifier, "expired")

		code = h.agreed(in)
		require.NoError(t, h.Logout(t.Context(), h.caller(in)))
		refused(in, code, testVerifier, "")

		in = h.enter(email)
		code = h.agreed(in)
		require.NoError(t, h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE users SET active = 0 WHERE id = $1`, u.ID)
			return errorsJoin(err, tx.Record(identity.System("test").Event(store.UserUpdate, u.Target())))
		}))
		refused(in, code, testVerifier, "session")
		require.Positive(t, h.Failures()[identity.FailedCode])
	})
}

// TestLoginCodeOnce: of many that bring one code at the same moment one gets tokens.
func TestLoginCodeOnce(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		code := h.agreed(h.enter(email))
		var wg sync.WaitGroup
		got := make(chan error, 8)
		for range cap(got) {
			wg.Go(func() {
				_, err := h.exchange(code, testVerifier)
				got <- err
			})
		}
		wg.Wait()
		close(got)
		good := 0
		for err := range got {
			if err == nil {
				good++
			} else {
				require.Equal(t, fault.Unauthenticated, fault.KindOf(err), "%v", err)
			}
		}
		require.Equal(t, 1, good)
	})
}

// TestCommandLineProvesNoMore: the new session is as old in its proofs as the one in which its person agreed, an old proof does not do, and what is
// demanded since is not passed by.
func TestCommandLineProvesNoMore(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		in := h.enter(email)
		h.clock.Add(identity.FreshFor - time.Second)
		tokens, err := h.exchange(h.agreed(in), testVerifier)
		require.NoError(t, err)
		require.NoError(t, identity.RequireFresh(h.requireAlive(tokens.Access.Reveal()), h.clock.Now()))
		h.clock.Add(2 * time.Second)
		requireFault(t, "step_up_required", identity.RequireFresh(h.requireAlive(tokens.Access.Reveal()), h.clock.Now()))
		_, err = h.AllowCommandLine(t.Context(), h.caller(in), commandLine(testVerifier, 40123))
		requireFault(t, "step_up_required", err)

		// A program cannot agree for another one, nor can a token, or half a sign-in.
		fresh, err := h.exchange(h.agreed(h.enter(email)), testVerifier)
		require.NoError(t, err)
		_, err = h.AllowCommandLine(t.Context(), h.requireAlive(fresh.Access.Reveal()), commandLine(testVerifier, 40123))
		requireFault(t, "state_conflict", err)
		_, err = h.AllowCommandLine(t.Context(), identity.Caller{Kind: identity.KindToken, UserID: h.userID()}, commandLine(testVerifier, 40123))
		requireFault(t, "state_conflict", err)

		for _, bad := range []identity.CommandLine{{}, {Challenge: testVerifier, Port: 40123}, commandLine(testVerifier, 80), commandLine(testVerifier, 1023), commandLine(testVerifier, 65536), commandLine(testVerifier, -1)} {
			_, err = h.AllowCommandLine(t.Context(), h.caller(h.enter(email)), bad)
			requireFault(t, "validation_failed", err)
		}
		_, err = h.AllowCommandLine(t.Context(), h.caller(h.enter(email)), commandLine(testVerifier, 0)) // to be pasted
		require.NoError(t, err)

		// The session has a second factor since: its proof is one of the new session too.
		whole := h.enter(email)
		_, enrolled := h.enrolApp(h.caller(whole))
		now := h.caller(enrolled.Admission)
		code, err := h.AllowCommandLine(t.Context(), now, commandLine(testVerifier, 40123))
		require.NoError(t, err)
		strong, err := h.exchange(code, testVerifier)
		require.NoError(t, err)
		require.Equal(t, now.Proofs, h.requireAlive(strong.Access.Reveal()).Proofs)
		pending := h.enter(email)
		half, _ := h.half(pending)
		_, err = h.AllowCommandLine(t.Context(), half, commandLine(testVerifier, 40123))
		requireFault(t, "state_conflict", err)
		half.Kind, half.SteppedUpAt = identity.KindPerson, h.clock.Now() // even if a door took it for a person
		_, err = h.AllowCommandLine(t.Context(), half, commandLine(testVerifier, 40123))
		requireFault(t, "unauthenticated", err)
	})
}

// TestGuessedLoginCodes are told to wait.
func TestGuessedLoginCodes(t *testing.T) {
	each(t, func(c *identity.Config) { c.FailureLimit = 3 }, func(t *testing.T, h *house) {
		h.admin()
		in := h.enter(email)
		used := h.agreed(in)
		_, err := h.exchange(used, testVerifier)
		require.NoError(t, err)
		waits := 0
		for range 8 {
			_, err := h.exchange(used, testVerifier)
			require.Error(t, err)
			if fault.KindOf(err) == fault.TooMany {
				waits++
			}
		}
		require.Positive(t, waits)
		_, err = h.exchange(h.agreed(in), testVerifier) // a good one is served meanwhile
		require.NoError(t, err)
	})
}
