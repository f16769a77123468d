package signalboxtest_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

var shownSecret = regexp.MustCompile(`id="totp-secret">([A-Z2-7 ]+)<`)

// enrolApp enrols an authenticator app on the pages that begin with base, and returns its secret and the page that shows the recovery codes.
func (b *browser) enrolApp(box *signalboxtest.Box, page seen, base string) string {
	b.t.Helper()
	offer := b.fill(page, base+"/app", nil)
	found := shownSecret.FindStringSubmatch(offer.text)
	require.NotNil(b.t, found, offer.text)
	app := strings.ReplaceAll(found[1], " ", "")
	box.Planted.Add("authenticator app", app)
	code, err := totp.GenerateCode(app, time.Now())
	require.NoError(b.t, err)
	done := b.fill(offer, base+"/app/confirm", url.Values{"code": {code}})
	require.Equal(b.t, http.StatusOK, done.StatusCode, done.text)
	require.Contains(b.t, done.text, `id="recovery-codes"`)
	return app
}

// TestSecondFactorAfterSingleSignOn: a sign-in at a provider is one factor. Who has a second one here, or must have one, is asked for it, unless
// the provider is set to vouch for it.
func TestSecondFactorAfterSingleSignOn(t *testing.T) {
	box := signalboxtest.Start(t, store.SQLite)
	box.Planted.Add("client secret", ssoSecret)
	p := startIDP(t, box.URL+"/sso/work/callback")
	admin := box.Admin()
	_, err := admin.CreateSSOProvider(t.Context(), client.SSOEdit{
		Name: "work", Label: ref("Work account"), Issuer: &p.issuer, ClientID: ref("signalbox"), ClientSecret: ref(ssoSecret), CreatePeople: ref(true), DefaultRole: ref("operator"),
	})
	require.NoError(t, err)
	p.person("bob", map[string]any{"email": "bob@example.com", "email_verified": true, "name": "Bob Builder"})
	signIn := func(b *browser) seen {
		t.Helper()
		in := b.step("GET", b.signIn(b.begin(box, "/account"), "bob"), nil)
		require.Equal(t, http.StatusSeeOther, in.StatusCode, in.text)
		return in
	}
	signedIn := func(b *browser) bool { return b.step("GET", box.URL+"/account", nil).StatusCode == http.StatusOK }

	b := newBrowser(t)
	require.Equal(t, "/account", signIn(b).Header.Get("Location"))
	app := b.enrolApp(box, b.step("GET", box.URL+"/account/factors", nil), "/account/factors")

	half := newBrowser(t)
	in := signIn(half)
	require.Equal(t, "/sign-in/second?next=%2Faccount", in.Header.Get("Location"))
	require.False(t, signedIn(half), "half a sign-in opens nothing")
	page := half.step("GET", in.to(), nil)
	code, err := totp.GenerateCode(app, time.Now().Add(30*time.Second)) // the one after that which was used
	require.NoError(t, err)
	done := half.fill(page, "/sign-in/second", url.Values{"code": {code}})
	require.Equal(t, "/account", done.Header.Get("Location"), done.text)
	require.True(t, signedIn(half))

	// What proves little is not offered to confirm with.
	require.NotContains(t, half.step("GET", box.URL+"/step-up", nil).text, "Confirm with Work account")
	_, err = admin.UpdateSSOProvider(t.Context(), "work", client.SSOEdit{SecondFactor: ref("always")})
	require.NoError(t, err)
	require.Contains(t, half.step("GET", box.URL+"/step-up", nil).text, "Confirm with Work account")
	vouched := newBrowser(t)
	require.Equal(t, "/account", signIn(vouched).Header.Get("Location"), "the provider vouches for a second factor")
	require.True(t, signedIn(vouched))

	// Who must have a second factor and has none enrols one, here as well, and what one factor had opened ends.
	users, err := admin.ListUsers(t.Context(), client.UserFilter{})
	require.NoError(t, err)
	for _, u := range users.Users {
		if u.Email == "bob@example.com" {
			require.NoError(t, admin.ResetFactors(t.Context(), u.ID))
		}
	}
	_, err = admin.UpdateSSOProvider(t.Context(), "work", client.SSOEdit{SecondFactor: ref("never")})
	require.NoError(t, err)
	one := newBrowser(t)
	signIn(one)
	require.True(t, signedIn(one))
	_, err = admin.SetFactorPolicy(t.Context(), []string{"operator"})
	require.NoError(t, err)
	require.False(t, signedIn(one), "one factor is not enough any more")
	must := newBrowser(t)
	in = signIn(must)
	must.enrolApp(box, must.step("GET", in.to(), nil), "/sign-in/second")
	require.True(t, signedIn(must))
}

// TestSecondFactorAfterHeaderSSO: the word of a proxy is one factor as well, and it begins no second sign-in while the first waits.
func TestSecondFactorAfterHeaderSSO(t *testing.T) {
	box := signalboxtest.StartWith(t, store.SQLite, map[string]string{
		"SIGNALBOX_SSO_HEADER": "X-Forwarded-Email", "SIGNALBOX_SSO_HEADER_PROXIES": "127.0.0.1", "SIGNALBOX_SSO_HEADER_CREATE": "member",
	})
	b := newBrowser(t)
	b.header.Set("X-Forwarded-Email", "carol@example.com")
	in := b.step("GET", box.URL+"/account/factors", nil)
	require.Equal(t, "/account/factors", in.Header.Get("Location"), in.text)
	b.enrolApp(box, b.step("GET", in.to(), nil), "/account/factors")

	other := newBrowser(t)
	other.header = b.header
	in = other.step("GET", box.URL+"/account", nil)
	require.Equal(t, "/sign-in/second?next=%2Faccount", in.Header.Get("Location"))
	cookie := other.cookie(box.URL, identity.SessionCookie)
	require.NotEmpty(t, cookie)
	in = other.step("GET", box.URL+"/account", nil)
	require.Equal(t, "/sign-in/second?next=%2Faccount", in.Header.Get("Location"))
	require.Equal(t, cookie, other.cookie(box.URL, identity.SessionCookie), "the same sign-in goes on waiting")
	require.Equal(t, http.StatusOK, other.step("GET", in.to(), nil).StatusCode)
}
