package identity_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// TestNews: people are told of what a theft looks like, once each, in the transaction of the act; when that cannot be stored nothing happened.
func TestNews(t *testing.T) {
	var told []identity.News
	var full error
	tell := func(c *identity.Config) {
		c.Tell = func(tx *store.Tx, n identity.News) error {
			told = append(told, n)
			return full
		}
	}
	each(t, tell, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, admin := h.admin()
		bob, _, err := h.CreateUser(ctx, admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(password)})
		require.NoError(t, err)
		only := func(kind identity.NewsKind) identity.News {
			t.Helper()
			require.Len(t, told, 1)
			n := told[0]
			told = nil
			require.Equal(t, kind, n.Kind)
			require.Equal(t, bob.ID, n.Person.ID)
			require.Equal(t, bob.Email, n.Person.Email)
			return n
		}
		told = nil
		d, e := h.enrolPasskey(h.caller(h.enter(bob.Email)))
		d.counter = 40
		_, err = h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), identity.PasskeySignIn), lies{}), identity.SessionBrowser)
		require.NoError(t, err)
		require.Empty(t, told, "what goes well is no news")

		half, _ := h.half(h.enter(bob.Email))
		full = errors.New("planted: the outbox is full")
		_, err = h.Prove(ctx, half, identity.Code{Recovery: e.Codes[0]})
		require.ErrorIs(t, err, full)
		full, told = nil, nil
		whole, err := h.Prove(ctx, half, identity.Code{Recovery: e.Codes[0]})
		require.NoError(t, err, "the code was not used up")
		session := h.caller(whole)
		n := only(identity.NewsRecoveryUsed)
		require.Equal(t, 9, n.Left)
		require.Equal(t, door().IP, n.Caller.IP)

		_, err = h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), identity.PasskeySignIn), lies{counter: -20}), identity.SessionBrowser)
		requireFault(t, "passkey_refused", err)
		n = only(identity.NewsPasskeyCopied)
		require.Equal(t, e.Passkey.ID, n.About.ID)
		require.Equal(t, "Phone", n.About.Name)

		in, err := h.LoginWith(ctx, door(), bob.Email, secret.FromString(password), identity.Code{Recovery: e.Codes[1]}, identity.SessionAPI)
		require.NoError(t, err)
		only(identity.NewsRecoveryUsed)
		tokens, err := h.IssueTokens(ctx, door(), in.Session.ID)
		require.NoError(t, err)
		_, err = h.Refresh(ctx, door(), tokens.Refresh)
		require.NoError(t, err)
		require.Empty(t, told)
		for range 2 { // there is no session any more the second time
			_, err = h.Refresh(ctx, door(), tokens.Refresh)
			requireFault(t, "unauthenticated", err)
		}
		n = only(identity.NewsRefreshReused)
		require.Equal(t, in.Session.ID, n.About.ID)

		require.NoError(t, h.ResetFactors(ctx, admin, bob.ID))
		n = only(identity.NewsFactorsReset)
		require.Equal(t, admin.ID, n.Caller.ID)
		_, err = h.Again(ctx, session)
		requireFault(t, "unauthenticated", err)
	})
}
