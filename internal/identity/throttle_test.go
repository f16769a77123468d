package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
)

// besiege guesses at an account from ever new addresses until such addresses have to wait.
func (h *house) besiege(who string) {
	h.t.Helper()
	for i := range 20 {
		_, err := h.Login(h.t.Context(), at("203.0.113."+itoa(i)), who, secret.FromString("planted-guess"), identity.SessionBrowser)
		if i >= 5 {
			requireFault(h.t, "login_throttled", err)
		}
	}
}

// TestStrangersCannotKeepANewPersonWaiting: somebody guesses at an account before its person has ever signed in. Whoever sets the password by the
// one-time link signs in from there at once, and goes on to.
func TestStrangersCannotKeepANewPersonWaiting(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		const bobs = "bob@example.com"
		bob, link, err := h.CreateUser(t.Context(), admin, identity.UserDraft{Email: bobs, Name: "Bob", Role: identity.Member})
		require.NoError(t, err)
		login := func(ip string) error {
			_, err := h.Login(t.Context(), at(ip), bobs, secret.FromString(password), identity.SessionBrowser)
			return err
		}
		h.besiege(bobs)
		_, err = h.SetPassword(t.Context(), at("198.51.100.7"), link.Secret, secret.FromString(password))
		require.NoError(t, err)
		require.NoError(t, login("198.51.100.7"), "where the link was used")
		requireFault(t, "login_throttled", login("198.51.100.8"))
		h.besiege(bobs)
		require.NoError(t, login("198.51.100.7"))

		// A reset is the same.
		h.clock.Add(time.Minute)
		admin.SteppedUpAt = h.clock.Now()
		_, again, err := h.ResetPassword(t.Context(), admin, bob.ID)
		require.NoError(t, err)
		h.besiege(bobs)
		_, err = h.SetPassword(t.Context(), at("198.51.100.9"), again.Secret, secret.FromString(password))
		require.NoError(t, err)
		require.NoError(t, login("198.51.100.9"))
	})
}

// TestStrangersCannotKeepTheFirstAdministratorWaiting, whose address somebody knew before the set-up.
func TestStrangersCannotKeepTheFirstAdministratorWaiting(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		link, err := h.NewSetupLink(t.Context())
		require.NoError(t, err)
		h.besiege(email)
		_, _, err = h.Setup(t.Context(), at("198.51.100.7"), link, email, "Ada", secret.FromString(password))
		require.NoError(t, err)
		h.login("198.51.100.7")
	})
}

// TestStrangersCannotDelayAStepUp: somebody guesses at an account while its person, signed in, is at an address that nobody knows them from. They
// confirm their password and change it at once. Who has stolen the cookie of a session guesses no faster for it, from however many addresses.
func TestStrangersCannotDelayAStepUp(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		mine, other := h.login("198.51.100.1"), h.login("198.51.100.1")
		h.besiege(email)
		_, err := h.Login(t.Context(), at("192.0.2.200"), email, secret.FromString(password), identity.SessionBrowser)
		requireFault(t, "login_throttled", err) // the siege works
		within := func(in identity.Admission, ip string) identity.Caller {
			t.Helper()
			caller, err := h.who(in)
			require.NoError(t, err)
			caller.IP = ip
			return caller
		}
		mine, err = h.StepUp(t.Context(), within(mine, "192.0.2.201"), secret.FromString(password))
		require.NoError(t, err)
		mine, err = h.ChangePassword(t.Context(), within(mine, "192.0.2.202"), secret.FromString(password), secret.FromString(password+"2"))
		require.NoError(t, err)
		_, err = h.who(other)
		requireFault(t, "unauthenticated", err) // by the change

		thief, through := within(mine, ""), 0
		for i := range 200 {
			thief.IP = "203.0.114." + itoa(i)
			_, err := h.StepUp(t.Context(), thief, secret.FromString("planted-guess"))
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			if f.Code == "password_wrong" {
				through++
			} else {
				require.Equal(t, "login_throttled", f.Code)
			}
		}
		require.Equal(t, 5, through, "of 200 guesses with a stolen cookie")
		_, err = h.StepUp(t.Context(), thief, secret.FromString(password+"2"))
		requireFault(t, "login_throttled", err)
		_, err = h.ChangePassword(t.Context(), thief, secret.FromString("planted-guess"), secret.FromString(password))
		requireFault(t, "login_throttled", err) // the same bound
		fresh, err := h.Login(t.Context(), at("198.51.100.1"), email, secret.FromString(password+"2"), identity.SessionBrowser)
		require.NoError(t, err, "another session is not slowed down")
		_, err = h.StepUp(t.Context(), within(fresh, "192.0.2.203"), secret.FromString(password+"2"))
		require.NoError(t, err)

		// What the person got wrong themselves is forgotten once they get it right.
		h.clock.Add(accountLongest)
		mine, err = h.StepUp(t.Context(), within(mine, "192.0.2.204"), secret.FromString(password+"2"))
		require.NoError(t, err)
		for i := range 5 {
			_, err = h.StepUp(t.Context(), within(mine, "192.0.2."+itoa(205+i)), secret.FromString("a slip of mine"))
			requireFault(t, "password_wrong", err)
		}
	})
}

// accountLongest is the longest wait.
const accountLongest = 15 * time.Minute

// TestOneTimeLinksAreLimited: what fails with a one-time link counts as every other wrong secret does; a link that works is taken meanwhile.
func TestOneTimeLinksAreLimited(t *testing.T) {
	each(t, func(c *identity.Config) { c.FailureLimit = 3 }, func(t *testing.T, h *house) {
		_, admin := h.admin()
		_, link, err := h.CreateUser(t.Context(), admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member})
		require.NoError(t, err)
		use := func(token string) error {
			_, err := h.SetPassword(t.Context(), at("198.51.100.7"), secret.FromString(token), secret.FromString(password))
			return err
		}
		for range 3 {
			requireFault(t, "link_refused", use("sbi_"+"0000000000000000000000000000000000000000"))
		}
		require.Positive(t, requireFault(t, "rate_limited", use("sbi_x")).RetryAfter)
		require.EqualValues(t, 4, h.Failures()[identity.FailedLink])
		require.NoError(t, use(link.Secret.Reveal()))
		requireFault(t, "rate_limited", use(link.Secret.Reveal()))
	})
}

// TestAHalfSignedInSessionIsNoGuess: its secret is real.
func TestAHalfSignedInSessionIsNoGuess(t *testing.T) {
	each(t, func(c *identity.Config) { c.FailureLimit = 1 }, func(t *testing.T, h *house) {
		half := identity.SecondFactorWanted()
		for range 5 {
			require.Equal(t, half, h.Refuse(t.Context(), "198.51.100.7", identity.FailedSession, half))
		}
		require.Zero(t, h.Failures()[identity.FailedSession])
	})
}
