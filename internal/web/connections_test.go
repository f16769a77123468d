package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/vault"
)

// TestConnectInABrowser: an administrator adds a server that we did not write by its issuer, logs in there in the browser, refreshes, looks at what the
// refreshes came to, and logs in again, with scripts and without.
func TestConnectInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		server := signalboxtest.StartOIDCProvider(s.T, signalboxtest.OAuthOptions{Redirects: []string{b.base + oauth.CallbackPath}})
		b.signInHere("/connections/providers")
		b.inspect("providers")
		b.click(`a[href="/connections/providers/~new"]`)
		b.until(`location.pathname === "/step-up" || document.querySelector('form[action="/connections/providers"]')`)
		if b.js(`location.pathname`) == "/step-up" {
			b.submitIn(`form[action="/step-up"]`, "password", planted)
		}
		b.submitIn(`form[action="/connections/providers"]`, "name", "Not A Name", "issuer", server.Issuer)
		b.until(`document.querySelector("#name-error")`)
		b.inspect("provider-new-error")
		b.submitIn(`form[action="/connections/providers"]`, "name", "work", "title", "Work <i>id</i>", "client_id", signalboxtest.ClientConfidential, "client_secret", server.Secret,
			"scopes", "openid files:read", "auth", "client_secret_basic", "base_url", server.Issuer)
		b.until(`location.search === "?done=made"`)
		require.Contains(b, b.text(), server.TokenURL)
		require.Contains(b, b.text(), b.base+oauth.CallbackPath)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), server.Secret)
		b.inspect("provider")
		b.submitIn(`form[action$="/discover"]`)
		b.until(`location.search === "?done=discovered"`)

		b.open("/connect?provider=work")
		b.inspect("connect")
		b.submit("/connect", "name", "Mine")
		b.consent()
		b.until(`location.pathname === "/connections" && document.querySelector("#connections tbody tr")`)
		b.inspect("connections")
		b.click(`#connections tbody th a`)
		b.until(`document.querySelector("#connection-facts")`)
		require.Contains(b, b.text(), "healthy")
		b.submitIn(`form[action$="/refresh"]`)
		b.until(`location.search === "?done=refreshed" && document.querySelectorAll("#tokens tbody tr").length === 2`)
		b.inspect("connection")
		b.click(`a[href^="/connections/~refreshes"]`)
		b.until(`document.querySelectorAll(".chart svg").length === 1`)
		require.Contains(b, b.text(), "Brought a token: 1.")
		b.inspect("refreshes")

		b.open("/connections")
		b.click(`#connections a[href^="/connect?"]`)
		b.until(`document.querySelector('form[action="/connect"]')`)
		require.Contains(b, b.text(), "You log in again for Mine")
		b.submitIn(`form[action="/connect"]`)
		b.consent()
		b.until(`location.pathname === "/connections" && document.querySelectorAll("#connections tbody tr").length === 1`)
		list, err := s.logins.Credentials(s.Context(), boss)
		require.NoError(s, err)
		require.Len(s, list, 1)
		require.EqualValues(s, 3, list[0].Version)
		for _, text := range []string{s.log.String(), b.js(`document.documentElement.outerHTML`)} {
			require.NotContains(s, text, server.Secret)
		}
	})
}

// consent goes through the pages of the server, as a person does, until the browser is back here.
func (b *browser) consent() {
	b.Helper()
	back := `location.pathname === "/connections"` // at once, where the server knows the person still
	for range 6 {
		b.until(`(location.origin !== "` + b.base + `" && document.querySelector("form")) || ` + back)
		at := b.js(`location.href`)
		if strings.HasPrefix(at, b.base) {
			return
		}
		b.js(`for (const field of document.querySelectorAll('input[name="login"], input[name="password"]')) field.value = "ada"; ""`)
		b.click(`form button[type="submit"]`)
		b.until(`location.href !== ` + quoted(at))
	}
}

// deviceServer has codes that are typed on another device, and says yes once it was told to.
func (s *site) deviceServer() (agree *atomic.Bool) {
	s.Helper()
	agree = &atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/device":
			_, _ = io.WriteString(w, `{"device_code":"planted-device-code","user_code":"WDJB-<b>MJHT","verification_uri":"https://id.example.com/device","expires_in":600,"interval":1}`)
		case agree.Load():
			_, _ = io.WriteString(w, `{"access_token":"planted-access-0123456789","refresh_token":"planted-refresh-0123456789","token_type":"bearer","expires_in":3600}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"authorization_pending"}`)
		}
	}))
	s.Cleanup(server.Close)
	name, device, id := "tv", server.URL+"/device", "client-1"
	_, err := s.logins.AddProvider(s.Context(), boss, oauth.ProviderEdit{Name: &name, DeviceURL: &device, TokenURLs: &[]string{server.URL + "/token"}, ClientID: &id})
	require.NoError(s, err)
	return agree
}

// TestDeviceLoginInABrowser: the code is shown, and the page goes on by itself once somebody has agreed; without scripts, by its button.
func TestDeviceLoginInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		agree := s.deviceServer()
		b := s.window(scripts)
		b.signInHere("/connections")
		b.open("/connect?provider=tv&next=/connections")
		b.until(`document.querySelector('button[value="device"]')`)
		b.js(`document.querySelector('input[name="name"]').value = "Living room"; ""`)
		b.click(`button[value="device"]`)
		b.until(`document.querySelector("#user-code")`)
		require.Equal(b, "WDJB-<b>MJHT", b.js(`document.querySelector("#user-code").textContent`))
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-device-code")
		b.inspect("device")
		if !scripts {
			b.click(`#device button`)
			b.until(`document.querySelector("#device [role=status]").textContent.includes("Nobody has agreed")`)
			require.Equal(b, "WDJB-<b>MJHT", b.js(`document.querySelector("#user-code").textContent`))
		}
		agree.Store(true)
		if scripts {
			b.until(`location.pathname === "/connections"`)
		}
		require.Eventually(b, func() bool {
			if b.js(`location.pathname`) == "/connections" {
				return true
			}
			b.click(`#device button`)
			return false
		}, 30*time.Second, 500*time.Millisecond)
		b.until(`document.querySelector("#connections tbody tr")`)
		require.Contains(b, b.text(), "Living room")
		require.NotContains(b, s.log.String(), "planted-")
	})
}

// TestDevicePageShowsNoOtherAddress: what the form keeps is shown again to who sent it, and leads to the web alone.
func TestDevicePageShowsNoOtherAddress(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		s.deviceServer()
		a := s.do("POST", "/connect", s.form(cookie, "/connect", "provider", "tv", "name", "x", "way", "device"), "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode, a.text)
		id := fields(a.text)["login"]
		require.Regexp(s, `^oaf_`, id)
		form := s.form(cookie, "/account", "login", id, "user_code", `"><script>x`, "address", "javascript:alert(1)", "filled", "data:text/html,x", "next", "//evil.example")
		again := s.do("POST", "/connect/device", form, "Cookie", cookie)
		require.Equal(s, http.StatusOK, again.StatusCode, again.text)
		require.NotContains(s, again.text, "<script>x")
		require.NotRegexp(s, `href="(javascript|data|//)`, again.text)
		other := s.signIn("")
		form.Set("form", s.form(other, "/account").Get("form"))
		require.Equal(s, http.StatusNotFound, s.do("POST", "/connect/device", form, "Cookie", other).StatusCode, "another session")
	})
}

// TestProviderPagesByRole: everybody reads the providers; an administrator changes them, and one of consumer subscriptions is switched on only after reading why
// it is off.
func TestProviderPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		admin := s.administrator()
		name, title := "work", "<b>Work</b>"
		s.provider(oauth.ProviderEdit{Name: &name, Title: &title})
		for _, role := range []identity.Role{identity.Operator, identity.Auditor, identity.Member} {
			cookie := s.person(role)
			list, one := s.do("GET", "/connections/providers", nil, "Cookie", cookie), s.do("GET", "/connections/providers/work", nil, "Cookie", cookie)
			require.Contains(s, list.text, "&lt;b&gt;Work&lt;/b&gt;")
			require.NotContains(s, list.text, "~new", role)
			require.Equal(s, http.StatusOK, one.StatusCode)
			require.NotContains(s, one.text, "/work/settings", role)
			token := s.form(cookie, "/account").Get("form")
			for path, fill := range map[string]url.Values{"": {"name": {"forced"}}, "/work/settings": {"title": {"forced"}}, "/work/switch": {"to": {"off"}}, "/work/delete": {}, "/work/discover": {}} {
				require.Equal(s, 403, s.do("POST", "/connections/providers"+path, fill, "Cookie", cookie).StatusCode, "without the form's token")
				fill.Set("form", token)
				require.Equal(s, 403, s.do("POST", "/connections/providers"+path, fill, "Cookie", cookie).StatusCode, "%s %s", role, path)
			}
			require.Equal(s, 403, s.do("GET", "/connections/providers/~new", nil, "Cookie", cookie).StatusCode, role)
		}
		off := s.do("GET", "/connections/providers/anthropic", nil, "Cookie", admin)
		require.Contains(s, off.text, "Why it is off")
		form := s.form(admin, "/connections/providers/anthropic/switch")
		page := s.do("GET", "/connections/providers/anthropic/switch", nil, "Cookie", admin)
		form.Set("to", "on")
		form.Set("if_match", fields(page.text)["if_match"])
		no := s.do("POST", "/connections/providers/anthropic/switch", form, "Cookie", admin)
		require.Equal(s, http.StatusConflict, no.StatusCode, no.text)
		require.Contains(s, no.text, "Read it, and tick this")
		form.Set("terms_read", "yes")
		yes := s.do("POST", "/connections/providers/anthropic/switch", form, "Cookie", admin)
		require.Equal(s, "/connections/providers/anthropic?done=on", yes.Header.Get("Location"), yes.text)
		k, err := s.logins.Provider(s.Context(), boss, "anthropic")
		require.NoError(s, err)
		require.True(s, k.Enabled)

		change := s.form(admin, "/connections/providers/work/settings", "client_id", "", "token_urls", "ftp://x", "authorize_url", k.AuthorizeURL)
		wrong := s.do("POST", "/connections/providers/work/settings", change, "Cookie", admin)
		require.Equal(s, http.StatusUnprocessableEntity, wrong.StatusCode, wrong.text)
		require.Contains(s, wrong.text, `id="token_urls-error"`)
		require.NotContains(s, wrong.text, "planted-client-secret")
		gone := s.do("POST", "/connections/providers/work/delete", s.form(admin, "/account"), "Cookie", admin)
		require.Equal(s, "/connections/providers?done=deleted", gone.Header.Get("Location"), gone.text)
	})
}

// TestConnectionsPutLoginsFirst: what a person must mend is at the top, a person sees their own, and a login goes into the credential that was chosen.
func TestConnectionsPutLoginsFirst(t *testing.T) {
	each(t, func(s *site) {
		cookie, name := s.administrator(), "work"
		s.provider(oauth.ProviderEdit{Name: &name})
		past := time.Now().Add(-time.Hour)
		make := func(name string, ends *time.Time) vault.Credential {
			c, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: "work", OAuth: vault.OAuthMeta{ExpiresAt: ends}}, Secrets: secretsOf("access_token", "planted-at-"+name)})
			require.NoError(s, err)
			return c
		}
		first, last := make("first", nil), make("<i>last</i>", &past)
		list := s.do("GET", "/connections", nil, "Cookie", cookie)
		require.Less(s, strings.Index(list.text, last.ID), strings.Index(list.text, first.ID))
		require.Contains(s, list.text, "&lt;i&gt;last&lt;/i&gt;")
		require.NotContains(s, list.text, "planted-at")
		file := s.do("GET", "/connections.csv?health=needs_login", nil, "Cookie", cookie)
		require.Contains(s, file.text, last.ID)
		require.NotContains(s, file.text, first.ID)
		for role, sees := range map[identity.Role]bool{identity.Operator: true, identity.Member: false} {
			theirs := s.person(role)
			require.Equal(s, sees, strings.Contains(s.do("GET", "/connections", nil, "Cookie", theirs).text, first.ID), role)
			require.Equal(s, sees, s.do("GET", "/connections/"+first.ID, nil, "Cookie", theirs).StatusCode == http.StatusOK, role)
		}
		auditor := s.person(identity.Auditor)
		require.Equal(s, http.StatusForbidden, s.do("GET", "/connect", nil, "Cookie", auditor).StatusCode)
		require.NotContains(s, s.do("GET", "/connections", nil, "Cookie", auditor).text, "/connect?")
		page := s.do("GET", "/connect", nil, "Cookie", cookie)
		require.Contains(s, page.text, `<option value="`+first.ID+`">first (`)
		u := s.goes(cookie, "provider", "work", "existing", first.ID)
		require.Equal(s, "/connections?done=connected", s.do("GET", comes(u, nil), nil, "Cookie", cookie).Header.Get("Location"))
		now, err := s.vault.Get(s.Context(), boss, first.ID)
		require.NoError(s, err)
		require.EqualValues(s, 2, now.Version)
		for _, path := range []string{"/connections", "/connections/" + first.ID, "/connections/providers", "/connect", "/connections/~refreshes?credential=" + first.ID} {
			s.weigh(cookie, path)
		}
		failed := s.do("POST", "/connections/"+last.ID+"/refresh", s.form(cookie, "/account"), "Cookie", cookie)
		require.Equal(s, http.StatusConflict, failed.StatusCode, failed.text)
		require.Contains(s, failed.text, "Log in again")
	})
}
