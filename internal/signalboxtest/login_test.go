package signalboxtest_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// logged is a provider of the box that is a server which we did not write.
type logged struct {
	t      *testing.T
	server *signalboxtest.OAuthServer
	admin  *client.Client
	box    *signalboxtest.Box
}

// add makes a provider of a client of the server, by its issuer.
func (l *logged) add(name, clientID, auth string) client.OAuthProvider {
	l.t.Helper()
	e := client.OAuthProviderEdit{Name: &name, Issuer: &l.server.Issuer, ClientID: &clientID, Scopes: &[]string{"openid", "files:read"}, BaseURL: &l.server.Issuer}
	if auth != "none" {
		e.ClientSecret = &l.server.Secret
	}
	e.Auth = &auth
	p, err := l.admin.AddOAuthProvider(l.t.Context(), e)
	require.NoError(l.t, err)
	return p
}

// consent begins a login, goes through the server's pages and returns what came back.
func (l *logged) consent(d client.LoginDraft) client.LoginAnswer {
	l.t.Helper()
	d.RedirectURI = signalboxtest.OAuthRedirect
	begun, err := l.admin.StartLogin(l.t.Context(), d)
	require.NoError(l.t, err)
	back, err := url.Parse(l.server.Authorize(l.t, begun.AuthorizeURL, signalboxtest.OAuthRedirect))
	require.NoError(l.t, err)
	q := back.Query()
	l.box.Planted.Add("state", q.Get("state"))
	return client.LoginAnswer{Code: q.Get("code"), State: q.Get("state"), Issuer: q.Get("iss"), Error: q.Get("error")}
}

func (l *logged) secretOf(id, field string) string {
	l.t.Helper()
	v, err := l.admin.RevealCredential(l.t.Context(), id, field, "test")
	require.NoError(l.t, err)
	l.box.Planted.Add(field, v)
	return v
}

// TestLoginsAtServersThatAreNotOurs: each flow that they offer, from the first request to tokens that they take, a refresh, a login anew, and the end
// of the grant.
func TestLoginsAtServersThatAreNotOurs(t *testing.T) {
	for name, start := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
				ctx := t.Context()
				l := &logged{t: t, server: start(t, signalboxtest.OAuthOptions{}), admin: box.Admin(), box: box}
				box.Planted.Add("client secret", l.server.Secret)
				p := l.add("basic", signalboxtest.ClientConfidential, "client_secret_basic")
				require.Equal(t, []string{l.server.TokenURL}, p.TokenURLs)
				require.Equal(t, l.server.RevokeURL, p.RevokeURL)
				l.add("post", signalboxtest.ClientPosting, "client_secret_post")
				l.add("public", signalboxtest.ClientPublic, "none")
				l.add("machine", signalboxtest.ClientMachine, "client_secret_basic")

				for _, provider := range []string{"basic", "post", "public"} {
					made, err := l.admin.FinishLogin(ctx, l.consent(client.LoginDraft{Provider: provider, Name: "code at " + provider}))
					require.NoError(t, err, provider)
					first := l.secretOf(made.ID, "refresh_token")
					c, err := l.admin.RefreshCredential(ctx, made.ID, true)
					require.NoError(t, err, provider)
					require.EqualValues(t, 2, c.Generation)
					second := l.secretOf(made.ID, "refresh_token")
					require.NotEqual(t, first, second, "they rotate")

					again, err := l.admin.FinishLogin(ctx, l.consent(client.LoginDraft{CredentialID: made.ID}))
					require.NoError(t, err, provider)
					require.Equal(t, made.ID, again.ID)
					require.EqualValues(t, 3, again.Version)
					last := l.secretOf(made.ID, "refresh_token")
					require.NoError(t, l.admin.DeleteCredential(ctx, made.ID))
					require.Eventually(t, func() bool { // the deletion does not wait for it
						found, err := l.admin.AuditLogs(ctx, client.AuditFilter{Action: "oauth.revoke", Target: made.ID, Outcome: "ok"})
						return err == nil && len(found.Events) == 1
					}, 20*time.Second, 50*time.Millisecond, provider)
					if provider != "public" { // whose refresh the naive client of the tests cannot send
						status, _ := l.server.Refresh(t, map[string]string{"basic": signalboxtest.ClientConfidential, "post": signalboxtest.ClientPosting}[provider], last)
						require.Equal(t, http.StatusBadRequest, status, "the grant has ended there")
					}
				}

				// A code is good for the login that it was given for, and once.
				one, two := l.consent(client.LoginDraft{Provider: "basic", Name: "x"}), l.consent(client.LoginDraft{Provider: "basic", Name: "y"})
				one.Code, two.Code = two.Code, one.Code
				for _, crossed := range []client.LoginAnswer{one, two} {
					_, err := l.admin.FinishLogin(ctx, crossed)
					refusedWith(t, err, 422, "oauth_refused")
				}
				if back := l.consent(client.LoginDraft{Provider: "basic", Name: "x"}); back.Issuer != "" {
					back.Issuer = "https://honest.example"
					_, err := l.admin.FinishLogin(ctx, back)
					refusedWith(t, err, 409, "login_state_refused")
				}

				machine, err := l.admin.LoginClient(ctx, client.ClientLoginDraft{Provider: "machine", Name: "machine", Scopes: []string{"files:read"}})
				require.NoError(t, err)
				require.Equal(t, []string{"access_token"}, machine.SecretFields)
				_, err = l.admin.LoginClient(ctx, client.ClientLoginDraft{Provider: "machine", Name: "wrong", ClientID: signalboxtest.ClientMachine, ClientSecret: "planted-wrong"})
				refusedWith(t, err, 422, "oauth_refused")

				if p.DeviceURL == "" {
					require.Equal(t, "fosite", name)
					return
				}
				begun, err := l.admin.StartDeviceLogin(ctx, client.LoginDraft{Provider: "public", Name: "device", Scopes: []string{"files:read"}})
				require.NoError(t, err)
				require.NotEmpty(t, begun.VerificationURIComplete)
				require.Contains(t, l.server.ApproveDevice(t, begun.VerificationURIComplete), "Success")
				var done client.DeviceProgress
				require.Eventually(t, func() bool {
					done, err = l.admin.PollDeviceLogin(ctx, begun.ID)
					return err != nil || done.Done
				}, 40*time.Second, 500*time.Millisecond)
				require.NoError(t, err)
				require.Equal(t, []string{"files:read"}, done.Credential.OAuth.Scopes)
				_, err = l.admin.PollDeviceLogin(ctx, begun.ID)
				refusedWith(t, err, 409, "login_state_refused")
			})
		})
	}
}

func refusedWith(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, status, e.Status, e.Detail)
	require.Equal(t, code, e.Code, e.Detail)
}

// TestALoginInTheBrowser: from the dashboard to a server that we did not write and back to the page that was asked for, through the whole program.
func TestALoginInTheBrowser(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		callback := box.URL + "/api/auth/oauth/callback"
		l := &logged{t: t, server: signalboxtest.StartOIDCProvider(t, signalboxtest.OAuthOptions{Redirects: []string{callback}}), admin: box.Admin(), box: box}
		box.Planted.Add("client secret", l.server.Secret)
		p := l.add("work", signalboxtest.ClientConfidential, "client_secret_basic")
		require.Equal(t, callback, p.CallbackURL)
		password := box.Planted.Secret(t, "password")
		_, err := l.admin.CreateUser(t.Context(), client.UserDraft{Email: "bob@example.com", Name: "Bob", Role: "member", Password: password})
		require.NoError(t, err)

		browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		cookie := ""
		ask := func(method, address string, form url.Values) (*http.Response, string) {
			req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
			require.NoError(t, err)
			if form != nil {
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			req.Header.Set("Cookie", cookie)
			resp, err := browser.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp, string(text)
		}
		resp, text := ask("GET", callback+"?code=x&state=y", nil)
		require.Equal(t, http.StatusConflict, resp.StatusCode, text)
		require.Contains(t, resp.Header.Get("Content-Type"), "text/html")

		resp, text = ask("POST", box.URL+"/sign-in", url.Values{"email": {"bob@example.com"}, "password": {password}, "next": {"/"}})
		require.Equal(t, http.StatusSeeOther, resp.StatusCode, text)
		cookie = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
		_, text = ask("GET", box.URL+"/connect?provider=work", nil)
		token := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(text)
		require.NotNil(t, token, text)
		resp, text = ask("POST", box.URL+"/connect", url.Values{"form": {token[1]}, "provider": {"work"}, "name": {"Bob's"}, "next": {"/connections"}})
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
		back := l.server.Authorize(t, strings.TrimPrefix(resp.Header.Get("Refresh"), "0;url="), callback)
		resp, text = ask("GET", back, nil)
		require.Equal(t, http.StatusSeeOther, resp.StatusCode, text)
		require.Equal(t, "/connections", resp.Header.Get("Location"))
		_, text = ask("GET", box.URL+"/connections", nil)
		require.Regexp(t, `>Bob&#39;s</a></th><td[^>]*>work</td><td[^>]*><span class="badge good"><svg.*</svg> ?healthy</span></td>`, text)
		resp, text = ask("GET", back, nil)
		require.Equal(t, http.StatusConflict, resp.StatusCode, text)
	})
}
