package api_test

import (
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// factors gives a person what an operation on second factors needs: nothing, an offer, or a factor.
func (h *house) factors(o operation, w *world, user string) {
	h.t.Helper()
	h.write(func(tx *store.Tx) error {
		for _, table := range []string{"totp_secrets", "recovery_codes", "passkeys"} {
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE user_id = $1`, user); err != nil {
				return err
			}
		}
		return nil
	})
	if o.ID == "offer-totp" {
		return
	}
	ctx := h.t.Context()
	offer, err := h.as(h.session(user)).OfferTOTP(ctx)
	require.NoError(h.t, err)
	w.code, err = totp.GenerateCode(offer.Secret, time.Now())
	require.NoError(h.t, err)
	if o.ID == "confirm-totp" {
		return
	}
	h.write(func(tx *store.Tx) error { // without a code: the one that the app shows may have been used
		if _, err := tx.Exec(`UPDATE totp_secrets SET confirmed_at = 1 WHERE user_id = $1`, user); err != nil {
			return err
		}
		id := store.NewID("psk")
		if o.ID == "rename-passkey" || o.ID == "remove-passkey" {
			w.passkey = id
		}
		_, err := tx.Exec(`INSERT INTO passkeys (id, user_id, credential_id, name, sealed, sign_count, created_at) VALUES ($1, $2, $3, 'n', $3, 0, 1)`, id, user, []byte(id))
		return err
	})
}

// TestSecondFactorStory: a person enrols an app over the API, proves it, and loses it; an administrator resets it.
func TestSecondFactorStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		bob := h.person(identity.Operator)
		h.setPassword(bob)
		mail := bob + "@example.com"
		caller := identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.44"}
		session := func() string {
			in, err := h.identity.Login(ctx, caller, mail, secret.FromString(adminPassword), identity.SessionBrowser)
			require.NoError(t, err)
			return in.Secret.Reveal()
		}
		first := session()
		offer, err := h.as(first).OfferTOTP(ctx)
		require.NoError(t, err)
		_, err = h.as(first).ConfirmTOTP(ctx, "12345x")
		refused(t, err, 403, "second_factor_wrong")
		code, err := totp.GenerateCode(offer.Secret, time.Now())
		require.NoError(t, err)
		codes, err := h.as(first).ConfirmTOTP(ctx, code)
		require.NoError(t, err)
		require.Len(t, codes, 10)
		_, err = h.as(first).WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated") // the session has another secret

		pending := session()
		d := readDocument(t)
		for _, o := range d.operations(t) {
			if o.Permission == "none" {
				continue
			}
			w := world{trainSlug: "t", credential: "cred_00000000000000000000000000", key: "k", token: "t", event: "e", user: bob, session: "s", passkey: "p", code: "1",
				channel: "c", sink: "s", group: "g", member: bob, service: "s", client: "c", serviceID: "s", infrastructure: "i", incident: "i", issuer: "i", refresh: "r", login: "l", sso: "p", provider: "p", state: "s", device: "d", connected: "c", mcp: "m", tied: "t"}
			a := h.do(request{method: o.method, target: w.target(o), token: pending, body: h.body(d, o, w)})
			require.Equal(t, 401, a.status, "%s lets somebody through who is half signed in: %s", o, a.body)
			require.Equal(t, "second_factor_required", h.problem(a).Code)
		}

		code, err = totp.GenerateCode(offer.Secret, time.Now().Add(30*time.Second)) // the one after that which was used
		require.NoError(t, err)
		in, err := h.identity.LoginWith(ctx, caller, mail, secret.FromString(adminPassword), identity.Code{TOTP: secret.FromString(code)}, identity.SessionBrowser)
		require.NoError(t, err)
		signedIn := in.Secret.Reveal()
		refused(t, h.as(signedIn).StepUp(ctx, adminPassword), 403, "step_up_required")
		refused(t, h.as(signedIn).StepUpWith(ctx, code, ""), 403, "second_factor_wrong")
		require.NoError(t, h.as(signedIn).StepUpWith(ctx, "", codes[0]))

		_, err = h.client.SetFactorPolicy(ctx, []string{"operator"})
		require.NoError(t, err)
		roles, err := h.client.FactorPolicy(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"operator"}, roles)
		have, err := h.client.Factors(ctx, bob)
		require.NoError(t, err)
		require.NotNil(t, have.TOTPSince)
		require.Equal(t, 9, have.RecoveryCodes)
		require.True(t, have.Demanded)
		require.NoError(t, h.client.ResetFactors(ctx, bob))
		have, err = h.client.Factors(ctx, bob)
		require.NoError(t, err)
		require.Equal(t, client.Factors{Passkeys: []client.Passkey{}, Demanded: true}, have)
		_, demanded, err := h.identity.Pending(ctx, session())
		require.NoError(t, err)
		require.Equal(t, []identity.Proof{identity.ProofEnrolment}, demanded)
		for _, planted := range append(codes, offer.Secret) {
			require.NotContains(t, h.log.String(), planted)
		}
	})
}

// TestAProgramGivesASecondFactor: who has a second factor signs in as a program with a code of it in the same request, and what the password alone
// had opened ends when the factor comes, when it is demanded and when it is reset.
func TestAProgramGivesASecondFactor(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, anyone := t.Context(), h.as("")
		bob := h.person(identity.Operator)
		h.setPassword(bob)
		mail := bob + "@example.com"
		ended := func(in client.Login) {
			t.Helper()
			_, err := h.as(in.AccessToken).WhoAmI(ctx)
			refused(t, err, 401, "unauthenticated")
			_, err = anyone.Refresh(ctx, in.RefreshToken)
			refused(t, err, 401, "unauthenticated")
		}
		sessions := func() int {
			t.Helper()
			list, err := h.client.ListSessions(ctx, bob)
			require.NoError(t, err)
			return len(list)
		}
		before, err := anyone.Login(ctx, mail, adminPassword)
		require.NoError(t, err)
		session := h.as(h.session(bob))
		offer, err := session.OfferTOTP(ctx)
		require.NoError(t, err)
		now := time.Now()
		code := func(at time.Time) string {
			text, err := totp.GenerateCode(offer.Secret, at)
			require.NoError(t, err)
			return text
		}
		codes, err := session.ConfirmTOTP(ctx, code(now))
		require.NoError(t, err)
		ended(before)

		left := sessions()
		_, err = anyone.Login(ctx, mail, adminPassword)
		refused(t, err, 401, "second_factor_required")
		_, err = anyone.LoginWith(ctx, mail, adminPassword, code(now), "")
		refused(t, err, 403, "second_factor_wrong") // it was used
		_, err = anyone.LoginWith(ctx, mail, "planted-wrong-password", "", codes[0])
		refused(t, err, 401, "login_failed")
		require.Equal(t, left, sessions(), "a sign-in that is not complete leaves no session")
		in, err := anyone.LoginWith(ctx, mail, adminPassword, code(now.Add(30*time.Second)), "")
		require.NoError(t, err)
		who, err := h.as(in.AccessToken).WhoAmI(ctx)
		require.NoError(t, err)
		require.Equal(t, bob, who.UserID)
		again, err := anyone.LoginWith(ctx, mail, adminPassword, "", codes[0])
		require.NoError(t, err)
		_, err = anyone.LoginWith(ctx, mail, adminPassword, "", codes[0])
		refused(t, err, 403, "second_factor_wrong")
		refused(t, h.as(in.AccessToken).StepUp(ctx, adminPassword), 403, "step_up_required")
		require.NoError(t, h.as(in.AccessToken).StepUpWith(ctx, "", codes[1]))

		require.NoError(t, h.client.ResetFactors(ctx, bob))
		ended(in)
		ended(again)
		in, err = anyone.Login(ctx, mail, adminPassword)
		require.NoError(t, err)
		_, err = h.client.SetFactorPolicy(ctx, []string{"operator"})
		require.NoError(t, err)
		ended(in)
		_, err = anyone.Login(ctx, mail, adminPassword)
		refused(t, err, 403, "second_factor_missing")
		for _, planted := range append(codes, offer.Secret, in.AccessToken, in.RefreshToken) {
			require.NotContains(t, h.log.String(), planted)
		}
	})
}
