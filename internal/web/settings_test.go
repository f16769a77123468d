package web_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeysAndSettingsInABrowser: a group gets a member, a service account a token that is shown once and revoked, a provider and an issuer are added with what
// was wrong beside the fields, a channel is made, switched off and deleted.
func TestKeysAndSettingsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/groups")
		b.inspect("groups-empty")
		b.click(`.empty a`)
		b.submitIn(`form[method="post"][action="/groups"]`, "name", "Night shift", "description", "who answers at night")
		b.until(`location.pathname.startsWith("/groups/grp_")`)
		b.click(`#member-list .empty a`)
		b.submitIn(`form[action$="/members"]`, "user_id", "nobody@example.com")
		b.until(`document.querySelector(".error, .alert, .trouble")`)
		b.open(`/groups`)
		b.click(`#groups tbody a`)
		b.until(`location.pathname.startsWith("/groups/grp_")`)
		b.click(`#member-list .empty a`)
		b.submitIn(`form[action$="/members"]`, "user_id", "ada@example.com")
		b.until(`location.search === "?done=added"`)
		b.inspect("group")

		b.open("/service-accounts/~new")
		b.submitIn(`form[method="post"][action="/service-accounts"]`, "name", "ci", "description", "builds", "role", "operator")
		b.until(`location.pathname.startsWith("/service-accounts/sa_")`)
		b.click(`#token-list .empty a`)
		b.until(`document.querySelector('form[method="post"][action="/tokens"]')`)
		b.inspect("token-form")
		b.submitIn(`form[method="post"][action="/tokens"]`, "name", "runner", "days", "30")
		b.until(`document.querySelector("#access-token")`)
		token := b.js(`document.querySelector("#access-token").textContent`)
		_, err := s.rooms.Token(token)
		require.NoError(b, err)
		b.inspect("token-once")
		b.click("#stored")
		b.click(".stored button")
		b.until(`location.pathname.startsWith("/service-accounts/sa_") && document.querySelectorAll("#token-list tbody tr").length === 1`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), token)
		b.inspect("service-account")
		b.click(`a[href*="/revoke"]`)
		b.submitIn(`form[action$="/revoke"]`)
		b.until(`location.search === "?done=revoked"`)
		_, err = s.rooms.Token(token)
		require.Error(b, err)
		b.open("/tokens?whose=all")
		b.inspect("tokens")

		b.open("/settings")
		b.inspect("settings")
		b.open("/settings/checks")
		b.inspect("settings-checks")
		b.open("/settings/sso/~new")
		b.submitIn(`form[action="/settings/sso"]`, "name", "Bad Name", "issuer", "https://login.example.com", "client_id", "signalbox")
		b.until(`document.querySelector("#name-error")`)
		b.inspect("sso-form")
		b.submitIn(`form[action="/settings/sso"]`, "name", "work", "client_secret", "planted-client-secret-1")
		b.until(`location.search === "?done=made"`)
		b.open("/settings/issuers/~new")
		b.js(`document.querySelector('input[name="algorithms"][value="ES256"]').checked = true; ""`)
		b.submitIn(`form[action="/settings/issuers"]`, "name", "forge", "issuer", "https://forge.example.com", "audience", "signalbox", "jwks_url", "not an address", "subject_is", "email")
		if !scripts {
			b.until(`document.querySelector("#jwks_url-error") || document.querySelector("#jwks_url:invalid")`)
		}
		b.submitIn(`form[action="/settings/issuers"]`, "jwks_url", "https://forge.example.com/keys")
		b.until(`location.search === "?done=issuer-made"`)
		b.inspect("settings-sign-in")
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-client-secret-1")
		b.open("/settings/sign-in/factors")
		b.inspect("policy")

		b.open("/settings/channels/~new")
		b.submitIn(`form[action="/settings/channels"]`, "name", "ops", "kind", "slack", "url", "http://hooks.example.com/planted-hook-1")
		b.until(`document.querySelector("#url-error")`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-hook-1")
		b.inspect("channel-form")
		b.submitIn(`form[action="/settings/channels"]`, "url", "https://hooks.example.com/planted-hook-2")
		b.until(`location.search === "?done=made"`)
		b.submitIn(`form[action$="/switch"]`)
		b.until(`location.search === "?done=switched"`)
		b.inspect("notifications")
		b.click(`a[href$="/delete"]`)
		b.submitIn(`form[action$="/delete"]`)
		b.until(`location.search === "?done=deleted"`)
		for _, secret := range []string{token, "planted-client-secret-1", "planted-hook-1", "planted-hook-2"} {
			require.NotContains(b, s.log.String(), secret)
		}
	})
}

// TestAFreshProofByScript: what a script asks before it sends a form, and that only the session's own browser hears the token.
func TestAFreshProofByScript(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		mine := regexp.MustCompile(`data-person="(user_[0-9a-z]+)"`).FindStringSubmatch(s.do("GET", "/account", nil, "Cookie", cookie).text)[1]
		a := s.do("GET", "/step-up/fresh", nil, "Cookie", cookie, "X-Signalbox-Person", mine)
		require.Equal(s, http.StatusOK, a.StatusCode)
		require.Equal(s, s.form(cookie, "/account").Get("form"), a.text)
		require.Equal(s, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(s, "same-origin", a.Header.Get("Cross-Origin-Resource-Policy"))
		for _, other := range []string{"", "user_0000000000000000000000000"} { // a page that was made for somebody who has left
			a = s.do("GET", "/step-up/fresh", nil, "Cookie", cookie, "X-Signalbox-Person", other)
			require.Equal(s, http.StatusConflict, a.StatusCode)
			require.Empty(s, a.text)
		}
		s.age()
		a = s.do("GET", "/step-up/fresh", nil, "Cookie", cookie, "X-Signalbox-Person", mine)
		require.Equal(s, http.StatusForbidden, a.StatusCode)
		require.Empty(s, a.text)
		require.Equal(s, http.StatusSeeOther, s.do("GET", "/step-up/fresh", nil).StatusCode)
		form := s.form(cookie, "/account", "email", "late@example.com", "name", "Late", "role", "member")
		late := s.do("POST", "/people", form, "Cookie", cookie)
		require.Equal(s, "/step-up?next=%2Fpeople%2F~invite", late.Header.Get("Location"), "without the script")
	})
}
