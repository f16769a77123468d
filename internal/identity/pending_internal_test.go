package identity

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestAPendingSignInIsGoodForNothing: whoever has enrolled a second factor is not signed in before it was given, and their password alone
// steps nothing up.
func TestAPendingSignInIsGoodForNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		root, err := secret.NewRootKey()
		require.NoError(t, err)
		ring, err := keyring.Open(t.Context(), keyring.Config{DB: db, Root: root})
		require.NoError(t, err)
		r, err := New(Config{DB: db, Ring: ring})
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Close() })
		const second = Proof("second")
		r.enrolled = func(*store.Tx, string) ([]Proof, error) { return []Proof{second}, nil }
		require.NoError(t, db.Start(t.Context()))
		const password = "correct horse battery"
		u, err := r.CreateAdministrator(t.Context(), System("test"), "ada@example.com", "Ada", secret.FromString(password))
		require.NoError(t, err)
		door := Caller{Kind: KindAnonymous, IP: "192.0.2.1"}
		code := func(err error) string {
			t.Helper()
			require.Error(t, err)
			return fault.Of(err).Code
		}

		in, err := r.Login(t.Context(), door, "ada@example.com", secret.FromString(password), SessionBrowser)
		require.NoError(t, err)
		require.True(t, in.Pending())
		require.Equal(t, PendingLife, in.Session.ExpiresAt.Sub(in.Session.CreatedAt))
		_, err = r.Session(t.Context(), in.Secret.Reveal())
		require.Equal(t, "second_factor_required", code(err))
		_, err = r.Again(t.Context(), Caller{Kind: KindPerson, SessionID: in.Session.ID})
		require.Equal(t, "unauthenticated", code(err))
		half, demanded, err := r.Pending(t.Context(), in.Secret.Reveal())
		require.NoError(t, err)
		require.Equal(t, []Proof{second}, demanded)
		require.Equal(t, "unauthenticated", code(Allow(half, ProfileRead)))
		prove := func(p Proof) (out Admission, err error) {
			err = db.Write(context.Background(), func(tx *store.Tx) (err error) {
				out, err = r.Proved(tx, door, in.Session.ID, p)
				return err
			})
			return out, err
		}
		_, err = prove(ProofPassword)
		require.Equal(t, "second_factor_required", code(err)) // the same proof twice is one
		whole, err := prove(second)
		require.NoError(t, err)
		require.False(t, whole.Pending())
		_, _, err = r.Pending(t.Context(), in.Secret.Reveal())
		require.Equal(t, "unauthenticated", code(err)) // the secret of the half is void
		caller, err := r.Session(t.Context(), whole.Secret.Reveal())
		require.NoError(t, err)
		require.Equal(t, u.ID, caller.UserID)
		require.Equal(t, []Proof{ProofPassword, second}, caller.Proofs)
		require.Equal(t, 12*time.Hour, whole.Session.ExpiresAt.Sub(whole.Session.AuthenticatedAt))
		_, err = r.StepUp(t.Context(), caller, secret.FromString(password))
		require.Equal(t, "step_up_required", code(err))
		_, err = prove(second)
		require.NoError(t, err)
	})
}
