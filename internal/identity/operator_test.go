package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

func TestOperatorTokenLeavesTheSetUpOpen(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, err := h.OperatorToken(t.Context(), door())
		requireFault(t, "unauthenticated", err)

		first, err := h.OperatorToken(t.Context(), identity.System("first start"))
		require.NoError(t, err)
		caller, err := h.Token(first.Reveal())
		require.NoError(t, err)
		for _, row := range identity.Permissions() {
			require.NoError(t, identity.Allow(caller, row.Permission), row.Permission)
		}
		has, err := h.HasAdministrator(t.Context())
		require.NoError(t, err)
		require.False(t, has, "the local operator is not the administrator that the set-up makes")

		for _, guess := range []string{"", "operator", password} {
			_, err = h.Login(t.Context(), door(), identity.LocalOperator, secret.FromString(guess), identity.SessionBrowser)
			requireFault(t, "login_failed", err)
		}

		second, err := h.OperatorToken(t.Context(), identity.System("first start"))
		require.NoError(t, err)
		_, err = h.Token(first.Reveal())
		requireFault(t, "unauthenticated", err)
		again, err := h.Token(second.Reveal())
		require.NoError(t, err)
		require.Equal(t, caller.UserID, again.UserID, "there is one local operator")
		require.Len(t, h.eventsOf(store.TokenIssue), 2)
		require.Len(t, h.eventsOf(store.TokenRevoke), 1)
		require.Len(t, h.eventsOf(store.UserCreate), 1)

		link, err := h.NewSetupLink(t.Context())
		require.NoError(t, err)
		_, _, err = h.Setup(t.Context(), door(), link, identity.LocalOperator, "Ada", secret.FromString(password))
		requireFault(t, "already_exists", err)
		_, _, err = h.Setup(t.Context(), door(), link, email, "Ada", secret.FromString(password))
		require.NoError(t, err)
		has, err = h.HasAdministrator(t.Context())
		require.NoError(t, err)
		require.True(t, has)
		_, err = h.Token(second.Reveal())
		require.NoError(t, err, "the set-up does not end the operator's token")
	})
}
