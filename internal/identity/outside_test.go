package identity_test

import (
	"testing"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestNobodyOutsideIsTheLocalOperator: no issuer speaks for whoever works on the server's machine, however it names its subjects.
func TestNobodyOutsideIsTheLocalOperator(t *testing.T) {
	each(t, localPolicy(t), func(t *testing.T, h *house) {
		ada, admin := h.admin()
		value, err := h.OperatorToken(t.Context(), admin)
		require.NoError(t, err)
		local := h.requireAlive(value.Reveal()).UserID
		o := newOutsideIssuer(t)
		d := draft(o)
		d.Subjects = &[]identity.ListedSubject{{Subject: "ada", UserID: ada.ID}, {Subject: "root", UserID: local}}
		i, err := h.CreateIssuer(t.Context(), admin, d)
		require.NoError(t, err)
		token := func(change gojwt.MapClaims) string { return o.token(t, "k1", h.outsideClaims(change)) }
		h.requireAlive(token(nil))
		h.requireDead(token(gojwt.MapClaims{"sub": "root"}))
		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{SubjectIs: ptr(identity.SubjectUserID), Subjects: ptr([]identity.ListedSubject(nil))})
		require.NoError(t, err)
		h.requireAlive(token(gojwt.MapClaims{"sub": ada.ID}))
		h.requireDead(token(gojwt.MapClaims{"sub": local}))
	})
}

// TestGuessedRefreshTokensAreLimited: whoever tries refresh tokens is told to wait, and a good one is served meanwhile.
func TestGuessedRefreshTokensAreLimited(t *testing.T) {
	each(t, func(c *identity.Config) { c.FailureLimit = 3 }, func(t *testing.T, h *house) {
		h.admin()
		good := h.signIn().Refresh
		bad := secret.FromString("sbr_planted-not-a-token")
		for range 3 {
			_, err := h.Refresh(t.Context(), door(), bad)
			requireFault(t, "unauthenticated", err)
		}
		_, err := h.Refresh(t.Context(), door(), bad)
		requireFault(t, "rate_limited", err)
		requireFault(t, "rate_limited", h.LogoutRefresh(t.Context(), door(), bad))
		_, err = h.Refresh(t.Context(), door(), good)
		require.NoError(t, err)
	})
}

// TestAServiceAccountIsAskedForAgain: what takes long goes on for a service account, until its token ends.
func TestAServiceAccountIsAskedForAgain(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		a, err := h.CreateServiceAccount(t.Context(), admin, identity.ServiceAccountDraft{Name: "ci", Role: identity.Auditor})
		require.NoError(t, err)
		issued, value, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{ServiceID: a.ID, Name: "t"})
		require.NoError(t, err)
		c := h.requireAlive(value.Reveal())
		again, err := h.Again(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, c, again)
		requireFault(t, "scope_missing", identity.Allow(identity.Caller{Kind: identity.KindService, Role: identity.Administrator}, identity.UserRead))
		require.NoError(t, h.RevokeToken(t.Context(), admin, issued.ID))
		_, err = h.Again(t.Context(), c)
		requireFault(t, "unauthenticated", err)
	})
}

// TestKeysOfAnotherInstanceSign: an instance that has not heard of the first keys yet signs with them, rather than turn away who signs in.
func TestKeysOfAnotherInstanceSign(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg, c := storetest.Config(t, e), newClock()
			h := newHouse(t, cfg, c, nil)
			h.admin()
			if e != store.Postgres {
				h.requireAlive(h.signIn().Access.Reveal()) // there is only one instance on SQLite
				return
			}
			deaf := coldHouse(t, cfg, c, nil)
			first := h.signIn()
			got, err := deaf.Refresh(t.Context(), door(), first.Refresh)
			require.NoError(t, err)
			require.Equal(t, kid(t, first.Access.Reveal()), kid(t, got.Access.Reveal()))
			h.requireAlive(got.Access.Reveal())
		})
	}
}
