package identity_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// app is somebody's authenticator app: not our own arithmetic.
type app struct {
	t      testing.TB
	secret string
	clock  *clock
}

func (a app) code() identity.Code { return identity.Code{TOTP: a.at(0)} }

func (a app) at(off time.Duration) secret.Value {
	a.t.Helper()
	text, err := totp.GenerateCode(a.secret, a.clock.Now().Add(off))
	require.NoError(a.t, err)
	return secret.FromString(text)
}

// enter signs in with the password.
func (h *house) enter(email string) identity.Admission {
	h.t.Helper()
	in, err := h.Login(h.t.Context(), door(), email, secret.FromString(password), identity.SessionBrowser)
	require.NoError(h.t, err)
	return in
}

// caller is who has the session.
func (h *house) caller(in identity.Admission) identity.Caller {
	h.t.Helper()
	c, err := h.Session(h.t.Context(), in.Secret.Reveal())
	require.NoError(h.t, err)
	c.IP = door().IP
	return c
}

// half is who is half signed in.
func (h *house) half(in identity.Admission) (identity.Caller, []identity.Proof) {
	h.t.Helper()
	c, demanded, err := h.Pending(h.t.Context(), in.Secret.Reveal())
	require.NoError(h.t, err)
	c.IP = door().IP
	return c, demanded
}

// enrolApp enrols an authenticator app in the session of c, and waits for its next code.
func (h *house) enrolApp(c identity.Caller) (app, identity.Enrolment) {
	h.t.Helper()
	offer, err := h.OfferTOTP(h.t.Context(), c)
	require.NoError(h.t, err)
	a := app{h.t, offer.Secret.Reveal(), h.clock}
	e, err := h.ConfirmTOTP(h.t.Context(), c, a.at(0))
	require.NoError(h.t, err)
	h.clock.Add(30 * time.Second)
	return a, e
}

func TestTOTP(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		u, _ := h.admin()
		other := h.caller(h.enter(email))
		c := h.caller(h.enter(email))

		_, err := h.ConfirmTOTP(ctx, c, secret.FromString("123456"))
		requireFault(t, "state_conflict", err)
		offer, err := h.OfferTOTP(ctx, c)
		require.NoError(t, err)
		uri, err := url.Parse(offer.URI.Reveal())
		require.NoError(t, err)
		require.Equal(t, "otpauth://totp/Signalbox:ada@example.com", uri.Scheme+"://"+uri.Host+uri.Path)
		require.Equal(t, offer.Secret.Reveal(), uri.Query().Get("secret"))
		require.Len(t, offer.Secret.Reveal(), 32)
		require.False(t, h.enter(email).Pending(), "an offer is no factor")

		_, err = h.ConfirmTOTP(ctx, c, secret.FromString("12345"))
		requireFault(t, "second_factor_wrong", err)
		a := app{t, offer.Secret.Reveal(), h.clock}
		first := a.at(0)
		done, err := h.ConfirmTOTP(ctx, c, first)
		require.NoError(t, err)
		require.Len(t, done.Codes, identity.RecoveryCodes)
		require.False(t, done.Pending())
		require.Equal(t, []identity.Proof{identity.ProofPassword, identity.ProofTOTP}, done.Session.Proofs)
		_, err = h.Again(ctx, other)
		requireFault(t, "unauthenticated", err) // what the password alone had opened
		_, err = h.Again(ctx, c)
		require.NoError(t, err)
		c = h.caller(done.Admission)
		_, err = h.OfferTOTP(ctx, c)
		requireFault(t, "already_exists", err)

		in := h.enter(email)
		require.True(t, in.Pending())
		require.Equal(t, []identity.Proof{identity.ProofTOTP, identity.ProofRecovery}, in.Session.Demanded)
		_, err = h.Session(ctx, in.Secret.Reveal())
		requireFault(t, "second_factor_required", err)
		_, err = h.Again(ctx, identity.Caller{Kind: identity.KindPerson, SessionID: in.Session.ID})
		requireFault(t, "unauthenticated", err)
		wait := func() { h.clock.Add(4 * time.Second) } // as an account does that has failed five times
		half, demanded := h.half(in)
		require.Equal(t, in.Session.Demanded, demanded)
		for _, row := range identity.Permissions() {
			requireFault(t, "unauthenticated", identity.Allow(half, row.Permission))
		}
		_, err = h.Prove(ctx, half, identity.Code{TOTP: first})
		requireFault(t, "second_factor_wrong", err) // the confirmation has used it
		_, err = h.OfferTOTP(ctx, half)
		requireFault(t, "second_factor_required", err) // who is half signed in adds nothing
		_, err = h.ConfirmTOTP(ctx, half, a.at(0))
		requireFault(t, "second_factor_required", err)

		h.clock.Add(time.Minute)
		_, err = h.Prove(ctx, half, identity.Code{TOTP: a.at(-time.Minute)})
		requireFault(t, "second_factor_wrong", err) // two steps old
		wait()
		_, err = h.Prove(ctx, half, identity.Code{TOTP: a.at(time.Minute)})
		requireFault(t, "second_factor_wrong", err)
		wait()
		ahead := a.at(30 * time.Second)
		whole, err := h.Prove(ctx, half, identity.Code{TOTP: ahead})
		require.NoError(t, err)
		require.False(t, whole.Pending())
		require.Equal(t, 12*time.Hour, whole.Session.ExpiresAt.Sub(whole.Session.AuthenticatedAt))
		_, _, err = h.Pending(ctx, in.Secret.Reveal())
		requireFault(t, "unauthenticated", err) // the secret of the half is void
		again, _ := h.half(h.enter(email))
		for _, used := range []secret.Value{ahead, a.at(0)} { // and what lies before it
			wait()
			_, err = h.Prove(ctx, again, identity.Code{TOTP: used})
			requireFault(t, "second_factor_wrong", err)
		}

		c = h.caller(whole)
		h.clock.Add(whole.Session.SteppedUpAt.Add(identity.FreshFor).Sub(h.clock.Now()))
		require.NoError(t, identity.RequireFresh(c, h.clock.Now()))
		h.clock.Add(time.Second)
		requireFault(t, "step_up_required", identity.RequireFresh(c, h.clock.Now()))
		err = h.RemoveTOTP(ctx, c)
		requireFault(t, "step_up_required", err)
		_, err = h.RegenerateRecoveryCodes(ctx, c)
		requireFault(t, "step_up_required", err)
		_, err = h.StepUp(ctx, c, secret.FromString(password))
		requireFault(t, "step_up_required", err) // the password is not enough for who has more
		fresh, err := h.Prove(ctx, c, a.code())
		require.NoError(t, err)
		c = h.caller(fresh)
		require.NoError(t, h.RemoveTOTP(ctx, c))
		requireFault(t, "not_found", h.RemoveTOTP(ctx, c))
		f, err := h.Factors(ctx, c, "")
		require.NoError(t, err)
		require.Equal(t, identity.Factors{Passkeys: []identity.Passkey{}}, f, "recovery codes go with the last factor")
		require.False(t, h.enter(email).Pending())
		require.Equal(t, []store.Action{
			store.UserCreate, store.IdentityLogin, store.IdentityLogin, store.FactorOffer, store.IdentityLogin, store.FactorEnrol, // the wrong code
			store.FactorEnrol, store.RecoveryMake, store.IdentitySessionEnd, store.IdentitySessionEnd, store.IdentityStepUp,
			store.IdentityLoginBegun, store.IdentityLogin, store.IdentityLogin, store.IdentityLogin, store.IdentityLogin, // three wrong ones
			store.IdentityLoginBegun, store.IdentityLogin, store.IdentityLogin, store.IdentityRefused, store.IdentityRefused, store.IdentityStepUp, store.FactorRemove,
			store.IdentityLogin,
		}, actions(h.events()))
		require.Equal(t, u.ID, h.eventsOf(store.FactorRemove)[0].Target.ID)
		require.NoError(t, h.Flush(ctx))
		require.Equal(t, "6", detail(t, h.eventsOf(store.IdentityFailed)[0], "second_factor"))
		for _, s := range append(done.Codes, offer.Secret) {
			absent(t, "the log", h.log.String(), s.Reveal())
		}
		h.absentFromEvents(offer.Secret.Reveal(), done.Codes[0].Reveal(), first.Reveal())
	})
}

// absentFromEvents looks for planted texts in every recorded event.
func (h *house) absentFromEvents(planted ...string) {
	h.t.Helper()
	var bodies [][]byte
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events`) }))
	require.NotEmpty(h.t, bodies)
	for _, b := range bodies {
		for _, p := range planted {
			require.False(h.t, strings.Contains(string(b), p), "%s", b)
		}
	}
}

// instances are two rooms on one PostgreSQL, or one twice: SQLite has one instance.
func instances(t *testing.T, fn func(t *testing.T, a, b *house)) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg, c := storetest.Config(t, e), newClock()
			a := newHouse(t, cfg, c, nil)
			b := a
			if e == store.Postgres {
				b = newHouse(t, cfg, c, nil)
			}
			fn(t, a, b)
		})
	}
}

// TestACodeIsTakenOnce: of many who send the same code at the same time to two instances, one is let in.
func TestACodeIsTakenOnce(t *testing.T) {
	instances(t, func(t *testing.T, a, b *house) {
		u, _ := a.admin()
		phone, e := a.enrolApp(a.caller(a.enter(email)))
		for _, name := range []string{"totp", "recovery"} { // in this order: what the app shows is of now
			code := identity.Code{Recovery: e.Codes[3]}
			if name == "totp" {
				code = phone.code()
			}
			var halves []identity.Caller
			for range 4 {
				half, _ := a.half(a.enter(email))
				halves = append(halves, half)
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			var in []identity.Admission
			var whys []error
			for i, half := range halves {
				wg.Go(func() {
					h := []*house{a, b}[i%2]
					got, err := h.Prove(t.Context(), half, code)
					for fault.KindOf(err) == fault.Unavailable && t.Context().Err() == nil { // on a busy machine the news from the database can be too old to be trusted
						time.Sleep(50 * time.Millisecond)
						got, err = h.Prove(t.Context(), half, code)
					}
					mu.Lock()
					defer mu.Unlock()
					whys = append(whys, err)
					if err == nil {
						in = append(in, got)
					}
				})
			}
			wg.Wait()
			require.Len(t, in, 1, "%s: %v", name, whys)
			require.Equal(t, u.ID, in[0].User.ID)
			a.clock.Add(time.Hour)
		}
		used := a.eventsOf(store.RecoveryUse)
		require.Len(t, used, 1)
		require.Equal(t, "9", detail(t, used[0], "left"))
	})
}

func TestRecoveryCodes(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.admin()
		c := h.caller(h.enter(email))
		_, err := h.RegenerateRecoveryCodes(ctx, c)
		requireFault(t, "state_conflict", err)
		_, e := h.enrolApp(c)
		seen := map[string]bool{}
		for _, code := range e.Codes {
			require.Regexp(t, `^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`, code.Reveal())
			seen[code.Reveal()] = true
		}
		require.Len(t, seen, 10)
		half, _ := h.half(h.enter(email))
		typed := strings.ToUpper(strings.ReplaceAll(e.Codes[0].Reveal(), "-", " "))
		in, err := h.Prove(ctx, half, identity.Code{Recovery: secret.FromString(typed)})
		require.NoError(t, err)
		half, _ = h.half(h.enter(email))
		for _, wrong := range []string{e.Codes[0].Reveal(), "", "aaaa-aaaa-aaaa-aaaa"} {
			_, err = h.Prove(ctx, half, identity.Code{Recovery: secret.FromString(wrong)})
			requireFault(t, "second_factor_wrong", err)
		}
		c = h.caller(in)
		f, err := h.Factors(ctx, c, "")
		require.NoError(t, err)
		require.Equal(t, 9, f.RecoveryCodes)
		fresh, err := h.RegenerateRecoveryCodes(ctx, c)
		require.NoError(t, err)
		require.Len(t, fresh, 10)
		_, err = h.Prove(ctx, half, identity.Code{Recovery: e.Codes[1]})
		requireFault(t, "second_factor_wrong", err) // of the old set
		_, err = h.Prove(ctx, half, identity.Code{Recovery: fresh[9]})
		require.NoError(t, err)
		require.Equal(t, []store.Action{store.RecoveryMake, store.RecoveryMake}, actions(h.eventsOf(store.RecoveryMake)))
		for _, code := range append(fresh, e.Codes...) {
			absent(t, "the log", h.log.String(), code.Reveal())
			h.absentFromEvents(code.Reveal(), strings.ReplaceAll(code.Reveal(), "-", ""))
		}
	})
}

// TestGuessingASecondFactor: whoever has the password gets few guesses, also at an address that the person signs in from, and passwords are not
// slowed down by it.
func TestGuessingASecondFactor(t *testing.T) {
	instances(t, func(t *testing.T, a, b *house) {
		ctx := t.Context()
		a.admin()
		phone, _ := a.enrolApp(a.caller(a.enter(email)))
		half, _ := a.half(a.enter(email))
		in, err := a.Prove(ctx, half, phone.code())
		require.NoError(t, err) // the address is familiar now
		half, _ = a.half(a.enter(email))
		guesses := 0
		var wait int
		for ; guesses < 30; guesses++ {
			h := []*house{a, b}[guesses%2]
			from := half
			from.IP = "198.51.100." + itoa(guesses)
			_, err := h.Prove(ctx, from, identity.Code{TOTP: secret.FromString("00000a")})
			if f := requireFault(t, map[bool]string{true: "second_factor_wrong", false: "login_throttled"}[guesses < 5], err); guesses >= 5 {
				wait = f.RetryAfter
				break
			}
		}
		require.Equal(t, 5, guesses)
		require.Equal(t, 1, wait)
		_, err = a.Prove(ctx, half, phone.code())
		requireFault(t, "login_throttled", err) // at the familiar address, too
		require.True(t, a.enter(email).Pending(), "the password is another matter")
		_, err = a.Again(ctx, a.caller(in))
		require.NoError(t, err)
		a.clock.Add(time.Minute)
		_, err = a.Prove(ctx, half, phone.code())
		require.NoError(t, err)
	})
}

// TestAPasswordAloneMakesNoAddressFamiliar: else whoever has it would guess on as the person does.
func TestAPasswordAloneMakesNoAddressFamiliar(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		count := func() (n int) {
			require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM familiar_addresses`) }))
			return n
		}
		phone, _ := h.enrolApp(h.caller(h.enter(email)))
		require.Equal(t, 1, count())
		from := door()
		from.IP = "198.51.100.9"
		in, err := h.Login(t.Context(), from, email, secret.FromString(password), identity.SessionBrowser)
		require.NoError(t, err)
		require.Equal(t, 1, count())
		half, _ := h.half(in)
		half.IP = from.IP
		_, err = h.Prove(t.Context(), half, phone.code())
		require.NoError(t, err)
		require.Equal(t, 2, count())
	})
}

func TestLoginWithACode(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.admin()
		with := func(password string, code identity.Code) (identity.Admission, error) {
			return h.LoginWith(ctx, door(), email, secret.FromString(password), code, identity.SessionAPI)
		}
		plain, err := with(password, identity.Code{})
		require.NoError(t, err)
		phone, e := h.enrolApp(h.caller(plain))
		_, err = with(password, identity.Code{})
		requireFault(t, "second_factor_required", err)
		_, err = with("not the password", phone.code())
		requireFault(t, "login_failed", err)
		_, err = with(password, identity.Code{TOTP: secret.FromString("12345a")})
		requireFault(t, "second_factor_wrong", err)
		in, err := with(password, phone.code())
		require.NoError(t, err)
		require.False(t, in.Pending())
		require.Equal(t, []identity.Proof{identity.ProofPassword, identity.ProofTOTP}, in.Session.Proofs)
		require.Equal(t, identity.SessionAPI, in.Session.Kind)
		_, err = with(password, phone.code())
		requireFault(t, "second_factor_wrong", err)
		in, err = with(password, identity.Code{Recovery: e.Codes[2]})
		require.NoError(t, err)
		require.Equal(t, "recovery_code", string(in.Session.Proofs[1]))
		sessions, err := h.ListSessions(ctx, h.caller(in), "")
		require.NoError(t, err)
		require.Len(t, sessions, 3, "none is left pending")
	})
}

// TestFactorsDemandedByPolicy: whose role must have a second factor enrols one before anything else, and cannot take the last one off.
func TestFactorsDemandedByPolicy(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, admin := h.admin()
		bob, _, err := h.CreateUser(ctx, admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(password)})
		require.NoError(t, err)
		before := h.caller(h.enter("bob@example.com"))
		c := h.caller(h.enter(email))
		_, err = h.SetFactorPolicy(ctx, before, []identity.Role{})
		requireFault(t, "forbidden", err)
		_, err = h.SetFactorPolicy(ctx, c, []identity.Role{"emperor"})
		requireFault(t, "validation_failed", err)
		_, err = h.SetFactorPolicy(ctx, c, identity.Roles())
		requireFault(t, "state_conflict", err) // has none themselves
		_, e := h.enrolApp(c)
		c = h.caller(e.Admission)
		roles, err := h.SetFactorPolicy(ctx, c, []identity.Role{identity.Member, identity.Administrator, identity.Member})
		require.NoError(t, err)
		require.Equal(t, []identity.Role{identity.Administrator, identity.Member}, roles)
		roles, err = h.FactorPolicy(ctx, c)
		require.NoError(t, err)
		require.Equal(t, []identity.Role{identity.Administrator, identity.Member}, roles)
		_, err = h.Again(ctx, before)
		requireFault(t, "unauthenticated", err) // the password alone had opened it
		_, err = h.Again(ctx, c)
		require.NoError(t, err)
		requireFault(t, "state_conflict", h.RemoveTOTP(ctx, c))

		_, err = h.LoginWith(ctx, door(), "bob@example.com", secret.FromString(password), identity.Code{}, identity.SessionAPI)
		requireFault(t, "second_factor_missing", err)
		in, thief := h.enter("bob@example.com"), h.enter("bob@example.com")
		half, demanded := h.half(in)
		require.Equal(t, []identity.Proof{identity.ProofEnrolment}, demanded)
		_, err = h.Prove(ctx, half, identity.Code{TOTP: secret.FromString("123456")})
		requireFault(t, "second_factor_wrong", err)
		_, e = h.enrolApp(half)
		require.False(t, e.Pending())
		require.Equal(t, bob.ID, h.caller(e.Admission).UserID)
		_, _, err = h.Pending(ctx, thief.Secret.Reveal())
		requireFault(t, "unauthenticated", err) // ended with the first factor
		_, demanded = h.half(h.enter("bob@example.com"))
		require.Contains(t, demanded, identity.ProofTOTP)

		_, err = h.SetFactorPolicy(ctx, c, nil)
		require.NoError(t, err)
		require.NoError(t, h.RemoveTOTP(ctx, c))
		require.Equal(t, `[]`, h.eventsOf(store.FactorPolicy)[1].Details[0].Text())
	})
}

// TestOfTwoPendingSignInsOneEnrols: a factor that was enrolled meanwhile is proved, and none added to it.
func TestOfTwoPendingSignInsOneEnrols(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		u, _ := h.admin()
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO factor_demands (role) VALUES ('administrator')`); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.FactorPolicy, u.Target()))
		}))
		half, _ := h.half(h.enter(email))
		offer, err := h.OfferTOTP(ctx, half)
		require.NoError(t, err)
		require.NoError(t, h.write(func(tx *store.Tx) error { // as another instance may, between two requests
			if _, err := tx.Exec(`UPDATE totp_secrets SET confirmed_at = 1`); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.FactorEnrol, u.Target()))
		}))
		_, err = h.OfferTOTP(ctx, half)
		requireFault(t, "second_factor_required", err)
		_, err = h.Prove(ctx, half, app{t, offer.Secret.Reveal(), h.clock}.code())
		require.NoError(t, err)
	})
}

func TestResetFactors(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, admin := h.admin()
		bob, _, err := h.CreateUser(ctx, admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Operator, Password: secret.FromString(password)})
		require.NoError(t, err)
		_, e := h.enrolApp(h.caller(h.enter(bob.Email)))
		c := h.caller(e.Admission)
		requireFault(t, "forbidden", h.ResetFactors(ctx, c, admin.UserID))
		requireFault(t, "state_conflict", h.ResetFactors(ctx, admin, admin.UserID))
		requireFault(t, "not_found", h.ResetFactors(ctx, admin, "user_00000000000000000000000000"))
		_, err = h.Factors(ctx, c, admin.UserID)
		requireFault(t, "forbidden", err)
		f, err := h.Factors(ctx, admin, bob.ID)
		require.NoError(t, err)
		require.NotNil(t, f.TOTPSince)
		stale := admin
		stale.SteppedUpAt = h.clock.Now().Add(-time.Hour)
		requireFault(t, "step_up_required", h.ResetFactors(ctx, stale, bob.ID))
		require.NoError(t, h.ResetFactors(ctx, admin, bob.ID))
		_, err = h.Again(ctx, c)
		requireFault(t, "unauthenticated", err)
		require.False(t, h.enter(bob.Email).Pending())
		ev := h.eventsOf(store.FactorReset)
		require.Len(t, ev, 1)
		require.Equal(t, admin.UserID, ev[0].Actor.ID)
		require.Equal(t, bob.ID, ev[0].Target.ID)
		require.Equal(t, "1", detail(t, ev[0], "totp"))
	})
}

// TestATokenChangesNoFactors: who signs in how is not for whom a token was lent to.
func TestATokenChangesNoFactors(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "all"})
		require.NoError(t, err)
		token, err := h.Token(v.Reveal())
		require.NoError(t, err)
		_, err = h.OfferTOTP(t.Context(), token)
		requireFault(t, "state_conflict", err)
		requireFault(t, "state_conflict", h.RemoveTOTP(t.Context(), token))
		requireFault(t, "state_conflict", h.RemovePasskey(t.Context(), token, "psk_00000000000000000000000000"))
		_, err = h.RegenerateRecoveryCodes(t.Context(), token)
		requireFault(t, "state_conflict", err)
	})
}

// TestASecretBelongsToItsPerson: whoever can write to the database cannot hand one person's app to another.
func TestASecretBelongsToItsPerson(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		bob, _, err := h.CreateUser(t.Context(), admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(password)})
		require.NoError(t, err)
		mallory, _ := h.enrolApp(h.caller(h.enter(bob.Email)))
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE totp_secrets SET user_id = $1`, admin.UserID); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.FactorEnrol, bob.Target()))
		}))
		half, _ := h.half(h.enter(email))
		_, err = h.Prove(t.Context(), half, mallory.code())
		require.ErrorIs(t, err, secret.ErrOpen)
	})
}
