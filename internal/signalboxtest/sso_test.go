package signalboxtest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const ssoSecret = "planted-client-secret-5b1f-of-forty-bytes"

// idp is the npm package oidc-provider in a process of its own: a provider that we did not write.
type idp struct {
	t      *testing.T
	issuer string
}

func startIDP(t *testing.T, redirect string) *idp {
	t.Helper()
	install := exec.Command("../../scripts/npm.sh")
	var complaint bytes.Buffer
	install.Stderr = &complaint
	home, err := install.Output()
	require.NoError(t, err, "oidc-provider is not there: %s", complaint.String())
	work := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(work, "node_modules")))
	script, err := os.ReadFile("testdata/oidc-provider.mjs")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, "oidc-provider.mjs"), script, 0o600))
	settings, err := json.Marshal(map[string]any{"redirects": []string{redirect}, "secret": ssoSecret})
	require.NoError(t, err)
	cmd := exec.Command("node", "oidc-provider.mjs")
	cmd.Dir, cmd.Env = work, append(os.Environ(), "CLIENT="+string(settings))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // at which it ends
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the provider said: %s", said.String())
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if issuer, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
			go func() { // or it would wait for a reader
				for lines.Scan() {
				}
			}()
			return &idp{t, issuer}
		}
	}
	require.Fail(t, "the provider did not start", "%s", said.String())
	return nil
}

// person says what the provider tells of somebody.
func (p *idp) person(sub string, claims map[string]any) {
	p.t.Helper()
	b, err := json.Marshal(claims)
	require.NoError(p.t, err)
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut, p.issuer+"/"+sub, bytes.NewReader(b))
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	require.NoError(p.t, resp.Body.Close())
	require.Equal(p.t, http.StatusNoContent, resp.StatusCode)
}

// signIn begins at a page of ours and goes through the provider's pages as sub. It returns the address of the callback, which it has not opened.
func (b *browser) signIn(begun seen, sub string) string {
	b.t.Helper()
	at, next := b.walk(begun, "/callback?")
	for range 4 {
		if next != "" {
			return next
		}
		more := url.Values{}
		if strings.Contains(at.text, `name="login"`) {
			more = url.Values{"login": {sub}, "password": {"any"}}
		}
		at, next = b.walk(b.fill(at, "/interaction/", more), "/callback?")
	}
	require.Fail(b.t, "the provider did not come to an end", "%s", at.text)
	return ""
}

func (b *browser) begin(box *signalboxtest.Box, next string) seen {
	b.t.Helper()
	page := b.step("GET", box.URL+"/sign-in?next="+url.QueryEscape(next), nil)
	require.Contains(b.t, page.text, "Sign in with Work account")
	begun := b.fill(page, "/sso/work", nil)
	require.Equal(b.t, http.StatusOK, begun.StatusCode, begun.text)
	return begun
}

func ref[T any](v T) *T { return &v }

// TestSingleSignOn is a login against a provider that we did not write, with what follows from groups, from deactivation and from those who try
// to get in by it.
func TestSingleSignOn(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		box.Planted.Add("client secret", ssoSecret)
		p := startIDP(t, box.URL+"/sso/work/callback")
		admin := box.Admin()
		_, err := admin.CreateSSOProvider(t.Context(), client.SSOEdit{
			Name: "work", Label: ref("Work account"), Issuer: &p.issuer, ClientID: ref("signalbox"), ClientSecret: ref(ssoSecret), Scopes: ref([]string{"email", "profile", "groups"}),
			GroupsClaim: ref("groups"), AllowedDomains: ref([]string{"example.com", "partner.example"}), CreatePeople: ref(true),
			Roles: ref([]client.SSORole{{Group: "ops", Role: "operator"}, {Group: "boxadmins", Role: "administrator"}, {Group: "all", Role: "member"}}),
		})
		require.NoError(t, err)
		report, err := admin.TestSSOProvider(t.Context(), "work")
		require.NoError(t, err)
		require.True(t, report.OK, report.Problem)
		require.True(t, report.NamesItself)
		require.Contains(t, report.Algorithms, "RS256")
		p.person("bob", map[string]any{"email": "Bob@Example.com", "email_verified": true, "name": "Bob Builder", "groups": []string{"all", "ops", "knitting"}})

		first := newBrowser(t)
		back := first.signIn(first.begin(box, "/account"), "bob")
		query, err := url.Parse(back)
		require.NoError(t, err)
		require.Equal(t, p.issuer, query.Query().Get("iss"))
		for _, name := range []string{"code", "state"} {
			box.Planted.Add(name, query.Query().Get(name))
		}
		other := newBrowser(t)
		other.step("GET", box.URL+"/sign-in", nil)
		elsewhere := other.step("GET", back, nil)
		require.Equal(t, http.StatusForbidden, elsewhere.StatusCode, "another browser cannot end it")
		require.Contains(t, elsewhere.text, "did not begin in this browser")
		require.Empty(t, other.cookie(box.URL, identity.SessionCookie))
		require.Equal(t, http.StatusForbidden, first.step("GET", back, nil).StatusCode, "and the attempt has spent it")

		since := time.Now()
		back = first.signIn(first.begin(box, "/account"), "bob")
		in := first.step("GET", back, nil)
		require.Equal(t, http.StatusSeeOther, in.StatusCode, in.text)
		require.Equal(t, "/account", in.Header.Get("Location"))
		account := first.step("GET", box.URL+"/account", nil)
		require.Contains(t, account.text, "bob@example.com")
		require.Contains(t, account.text, "<strong>operator</strong>", "of several groups the highest counts")
		require.Equal(t, http.StatusForbidden, first.step("GET", back, nil).StatusCode, "a callback works once")
		require.Equal(t, http.StatusOK, first.step("GET", box.URL+"/account", nil).StatusCode, "and who is signed in stays so")

		box.RequireEvents(t, since, store.UserCreate, store.SSOLink, store.IdentityLogin)

		// Step-up: the provider asks again, and the session has another secret then.
		secret := first.cookie(box.URL, identity.SessionCookie)
		stepUp := first.step("GET", box.URL+"/step-up?next=/account", nil)
		require.Contains(t, stepUp.text, "Confirm with Work account")
		begun := first.fill(stepUp, "/step-up/work", nil)
		require.Contains(t, begun.to(), "max_age=0")
		done := first.step("GET", first.signIn(begun, "bob"), nil)
		require.Equal(t, http.StatusSeeOther, done.StatusCode, done.text)
		require.NotEqual(t, secret, first.cookie(box.URL, identity.SessionCookie))
		require.Equal(t, http.StatusOK, first.step("GET", box.URL+"/account", nil).StatusCode)

		// Other groups make another role at the next sign-in, at once, and end the sessions of the old one.
		p.person("bob", map[string]any{"email": "someoneelse@example.com", "email_verified": true, "groups": []string{"boxadmins"}})
		second := newBrowser(t)
		in = second.step("GET", second.signIn(second.begin(box, "//evil.example/x"), "bob"), nil)
		require.Equal(t, "/", in.Header.Get("Location"), "the way back stays here")
		account = second.step("GET", box.URL+"/account", nil)
		require.Contains(t, account.text, "<strong>administrator</strong>")
		require.Contains(t, account.text, "bob@example.com", "it is the subject that counts")
		require.Equal(t, http.StatusSeeOther, first.step("GET", box.URL+"/account", nil).StatusCode, "the operator's session ended")

		// Those who are not let in.
		for sub, c := range map[string]struct {
			claims map[string]any
			says   string
		}{
			"taker":      {map[string]any{"email": "admin@example.com", "email_verified": true, "groups": []string{"all"}}, "does not sign in with this provider"},
			"unverified": {map[string]any{"email": "new@example.com", "email_verified": false, "groups": []string{"all"}}, "does not vouch"},
			"silent":     {map[string]any{"groups": []string{"all"}}, "does not vouch"},
			"groupless":  {map[string]any{"email": "new@example.com", "email_verified": true, "groups": []string{"knitting"}}, "none of the groups"},
			"subdomain":  {map[string]any{"email": "new@evil.example.com", "email_verified": true, "groups": []string{"all"}}, "e-mail domain"},
			"suffix":     {map[string]any{"email": "new@notexample.com", "email_verified": true, "groups": []string{"all"}}, "e-mail domain"},
			"dot":        {map[string]any{"email": "new@example.com.", "email_verified": true, "groups": []string{"all"}}, "does not vouch"},
			"kelvin":     {map[string]any{"email": "new@partner.example\u212a", "email_verified": true, "groups": []string{"all"}}, "does not vouch"},
			"cyrillic":   {map[string]any{"email": "new@ex\u0430mple.com", "email_verified": true, "groups": []string{"all"}}, "does not vouch"},
			"twice":      {map[string]any{"email": "new@evil.example@example.com", "email_verified": true, "groups": []string{"all"}}, "does not vouch"},
		} {
			p.person(sub, c.claims)
			b := newBrowser(t)
			got := b.step("GET", b.signIn(b.begin(box, "/"), sub), nil)
			require.Equal(t, http.StatusForbidden, got.StatusCode, sub)
			require.Contains(t, got.text, c.says, sub)
			require.Empty(t, b.cookie(box.URL, identity.SessionCookie), sub)
		}
		users, err := admin.ListUsers(t.Context(), client.UserFilter{})
		require.NoError(t, err)
		var bob string
		for _, u := range users.Users {
			if u.Email == "bob@example.com" {
				bob = u.ID
			}
			require.NotContains(t, u.Email, "new@")
		}
		_, err = admin.UpdateUser(t.Context(), bob, client.UserPatch{Active: ref(false)})
		require.NoError(t, err)
		require.Equal(t, http.StatusSeeOther, second.step("GET", box.URL+"/account", nil).StatusCode)
		third := newBrowser(t)
		got := third.step("GET", third.signIn(third.begin(box, "/"), "bob"), nil)
		require.Equal(t, http.StatusForbidden, got.StatusCode)
		require.Contains(t, got.text, "deactivated")

		// Who is here already is linked once, for a domain of which the provider may say so, and by a verified address alone.
		_, err = admin.UpdateSSOProvider(t.Context(), "work", client.SSOEdit{AllowedDomains: ref([]string{}), LinkDomains: ref([]string{"example.com"})})
		require.NoError(t, err)
		as := func(sub string, verified bool, group string) seen {
			p.person(sub, map[string]any{"email": "Admin@example.com", "email_verified": verified, "groups": []string{group}})
			b := newBrowser(t)
			got := b.step("GET", b.signIn(b.begin(box, "/account"), sub), nil)
			if got.StatusCode != http.StatusSeeOther {
				require.Empty(t, b.cookie(box.URL, identity.SessionCookie), sub)
				return got
			}
			return b.step("GET", box.URL+"/account", nil)
		}
		require.Contains(t, as("ada-unverified", false, "boxadmins").text, "does not vouch")
		require.Contains(t, as("ada", true, "boxadmins").text, "<strong>admin@example.com</strong>")
		require.Contains(t, as("another-ada", true, "boxadmins").text, "does not sign in with this provider")
		require.Contains(t, as("ada", false, "boxadmins").text, "<strong>admin@example.com</strong>", "later the subject is enough")
		require.Contains(t, as("ada", true, "all").text, "no longer make you an administrator")
	})
}

// TestHeaderSSO: a header says who is signed in only when the connection itself is the trusted proxy's. What a request says of where it comes from
// does not count: a variant of the check that believes X-Forwarded-For lets the stranger in and fails this test.
func TestHeaderSSO(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			const header = "X-Forwarded-Email"
			near := signalboxtest.StartWith(t, e, map[string]string{
				"SIGNALBOX_SSO_HEADER": header, "SIGNALBOX_SSO_HEADER_PROXIES": "127.0.0.1", "SIGNALBOX_SSO_HEADER_CREATE": "member",
			})
			ada := newBrowser(t)
			ada.header.Set(header, "Admin@example.com")
			in := ada.step("GET", near.URL+"/account", nil)
			require.Equal(t, http.StatusSeeOther, in.StatusCode, in.text)
			require.Equal(t, "/account", in.Header.Get("Location"))
			require.Contains(t, ada.step("GET", near.URL+"/account", nil).text, "admin@example.com")
			cookie := ada.cookie(near.URL, identity.SessionCookie)
			require.NotEmpty(t, cookie)
			require.NotContains(t, string(near.Log.Bytes()), "Admin@example.com")

			// The same browser as somebody else, whom nobody has seen before; and the API knows cookies alone.
			ada.header.Set(header, "new@example.com")
			require.Equal(t, http.StatusSeeOther, ada.step("GET", near.URL+"/account", nil).StatusCode)
			require.Contains(t, ada.step("GET", near.URL+"/account", nil).text, "new@example.com")
			old := newBrowser(t)
			u, err := url.Parse(near.URL)
			require.NoError(t, err)
			old.SetCookies(u, []*http.Cookie{{Name: identity.SessionCookie, Value: cookie}})
			require.Equal(t, http.StatusSeeOther, old.step("GET", near.URL+"/account", nil).StatusCode, "the first one's session ended")
			bare := newBrowser(t)
			bare.header.Set(header, "admin@example.com")
			require.Equal(t, http.StatusUnauthorized, bare.step("GET", near.URL+"/api/whoami", nil).StatusCode)
			require.Equal(t, http.StatusForbidden, bare.step("POST", near.URL+"/account/name", url.Values{"name": {"x"}}).StatusCode, "nobody is signed in by a form")
			ada.header.Set("Sec-Fetch-Site", "cross-site")
			require.Equal(t, http.StatusForbidden, ada.step("POST", near.URL+"/api/auth/logout", url.Values{}).StatusCode, "the cookie is held to the origin as ever")

			for name, values := range map[string][]string{
				"twice": {"admin@example.com", "new@example.com"}, "two in one": {"admin@example.com, new@example.com"}, "no address": {"admin"}, "the operator": {identity.LocalOperator},
			} {
				b := newBrowser(t)
				b.header[header] = values
				got := b.step("GET", near.URL+"/account", nil)
				require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, got.StatusCode, name)
				require.Empty(t, b.cookie(near.URL, identity.SessionCookie), name)
			}
			users, err := near.Admin().ListUsers(t.Context(), client.UserFilter{})
			require.NoError(t, err)
			for _, u := range users.Users {
				if u.Email == "new@example.com" {
					require.Equal(t, "member", u.Role)
					_, err := near.Admin().UpdateUser(t.Context(), u.ID, client.UserPatch{Active: ref(false)})
					require.NoError(t, err)
				}
			}
			gone := newBrowser(t)
			gone.header.Set(header, "new@example.com")
			require.Equal(t, http.StatusForbidden, gone.step("GET", near.URL+"/account", nil).StatusCode)

			far := signalboxtest.StartWith(t, e, map[string]string{
				"SIGNALBOX_SSO_HEADER": header, "SIGNALBOX_SSO_HEADER_PROXIES": "192.0.2.7", "SIGNALBOX_TRUSTED_PROXIES": "127.0.0.1",
			})
			stranger := newBrowser(t)
			stranger.header.Set(header, "admin@example.com")
			for _, by := range []string{"", "X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
				if by != "" {
					stranger.header.Set(by, "192.0.2.7")
				}
				got := stranger.step("GET", far.URL+"/account", nil)
				require.Equal(t, "/sign-in?next=%2Faccount", got.Header.Get("Location"), by)
				require.Empty(t, stranger.cookie(far.URL, identity.SessionCookie), by)
			}
		})
	}
	for name, env := range map[string]app.Environ{
		"no proxies": {"SIGNALBOX_SSO_HEADER": "Remote-User"}, "no header": {"SIGNALBOX_SSO_HEADER_PROXIES": "10.0.0.1"},
		"everybody": {"SIGNALBOX_SSO_HEADER": "Remote-User", "SIGNALBOX_SSO_HEADER_PROXIES": "0.0.0.0/0"}, "another's header": {"SIGNALBOX_SSO_HEADER": "x-forwarded-for", "SIGNALBOX_SSO_HEADER_PROXIES": "10.0.0.1"},
		"administrators": {"SIGNALBOX_SSO_HEADER": "Remote-User", "SIGNALBOX_SSO_HEADER_PROXIES": "10.0.0.1", "SIGNALBOX_SSO_HEADER_CREATE": "administrator"},
	} {
		env["SIGNALBOX_DATA_DIR"] = t.TempDir()
		_, err := app.Load(env, nil)
		require.Error(t, err, name)
	}
}
