package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestInitAdministratorMakesBothOrNeither: an administrator whose token could not be issued would block every further try.
func TestInitAdministratorMakesBothOrNeither(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		room, err := identity.New(identity.Config{DB: db})
		require.NoError(t, err)
		require.NoError(t, db.Start(t.Context()))
		require.NoError(t, room.Start(t.Context()))
		t.Cleanup(func() { _ = room.Close() })
		caller, password := identity.System("init"), secret.FromString("planted-password-8f3k2")
		_, _, err = room.InitAdministrator(t.Context(), caller, "ada@example.com", "Ada", password, time.Now().Add(-time.Hour))
		require.Equal(t, fault.Unprocessable, fault.KindOf(err), "a token that has ended is refused")
		has, err := room.HasAdministrator(t.Context())
		require.NoError(t, err)
		require.False(t, has)

		user, token, err := room.InitAdministrator(t.Context(), caller, "ada@example.com", "Ada", password, time.Now().Add(time.Hour))
		require.NoError(t, err)
		got, err := room.Token(token.Reveal())
		require.NoError(t, err)
		require.Equal(t, user.ID, got.UserID)
		_, _, err = room.InitAdministrator(t.Context(), caller, "eve@example.com", "Eve", password, time.Now().Add(time.Hour))
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, "already_set_up", f.Code)
	})
}
