package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// account stores an account of an LLM provider.
func (s *site) account(name string) vault.Credential {
	s.Helper()
	c, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic"}, Secrets: map[string]secret.Value{"api_key": secret.FromString("planted-key-" + name)}})
	require.NoError(s, err)
	return c
}

// person adds somebody of a role and returns the cookie of their session.
func (s *site) person(role identity.Role) string {
	s.Helper()
	email := string(role) + "@example.com"
	password := secret.FromString(planted)
	_, _, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: email, Name: "Some " + string(role), Role: role, Password: password})
	require.NoError(s, err)
	form := credentials("/")
	form.Set("email", email)
	a := s.do("POST", "/sign-in", form, "Origin", s.url)
	require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
	return s.cookie(a)
}

// TestTrainsInABrowser: from an empty list to a key that was issued and revoked, with scripts and without.
func TestTrainsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		s.account("team-alpha")
		s.account("team-beta")
		b := s.window(scripts)
		b.signInHere("/trains")
		b.until(`document.querySelector(".empty")`)
		b.inspect("trains-empty")

		b.click(`.empty a`)
		b.submitIn(`form[method="post"][action="/trains"]`, "train_id", "bad slug")
		b.until(`document.querySelector("#train_id-error")`)
		b.submitIn(`form[method="post"][action="/trains"]`, "train_id", "web", "name", "Web <b>shop</b>")
		b.until(`location.pathname === "/trains/web"`)
		require.Contains(b, b.text(), "Web <b>shop</b>")

		b.click(`#accounts .empty a`)
		b.until(`document.querySelector('form[action="/trains/web/link"]')`)
		b.js(`document.querySelectorAll('input[name="credential_id"]').forEach((box) => { box.checked = true }); ""`)
		b.submit("/trains/web/link")
		b.until(`location.search === "?done=linked" && document.querySelectorAll("#accounts tbody tr").length === 2`)

		b.click(`#key-list .empty a`)
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("key-dialog")
		}
		b.submit("/trains/web/keys", "name", "laptop")
		b.until(`document.querySelector("#client-key")`)
		key := b.js(`document.querySelector("#client-key").textContent`)
		require.Regexp(b, `^sbx_live_`, key)
		_, err := s.rooms.Client(key)
		require.NoError(b, err)
		if scripts {
			require.Equal(b, "true", b.js(`String(document.querySelector("[data-wait]").disabled)`))
			b.inspect("key-once")
		}
		b.click("#stored")
		b.click(`.stored button`)
		b.until(`location.pathname === "/trains/web" && document.querySelectorAll("#key-list tbody tr").length === 1`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), key)

		b.submitIn(`form[action^="/trains/web/accounts/"]`, "alias", "git", "priority", "1")
		b.until(`location.search === "?done=relinked"`)
		b.submitIn(`#accounts tbody tr:last-child form`, "alias", "git", "priority", "2")
		b.until(`document.querySelector("#accounts .error")`)
		b.inspect("train-error")
		b.open("/trains/web")
		b.inspect("train")
		b.open("/trains")
		b.until(`document.querySelectorAll("tbody tr").length === 1`)
		b.inspect("trains")

		b.open("/trains/web")
		b.click(`a[href$="/revoke"]`)
		b.until(`document.querySelector('form[action$="/revoke"]')`)
		if scripts {
			b.until(`document.querySelector("dialog[open]")`)
			b.inspect("revoke-dialog")
			b.js(`document.querySelector("dialog[open] [data-close]").click(); ""`)
			b.until(`!document.querySelector("dialog[open]") && document.activeElement.matches('a[href$="/revoke"]')`)
			b.click(`a[href$="/revoke"]`)
		}
		b.submitIn(`form[action$="/revoke"]`)
		b.until(`location.search === "?done=revoked"`)
		_, err = s.rooms.Client(key)
		require.Error(b, err)
		for _, secret := range []string{key, "planted-key-team-alpha"} {
			require.NotContains(b, s.log.String(), secret)
		}
	})
}

// TestTrainPagesByRole: what a role may not do is not shown, and refused when forced.
func TestTrainPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: s.account("team-alpha").ID})
		require.NoError(s, err)
		for role, may := range map[identity.Role]struct{ read, write bool }{
			identity.Administrator: {true, true}, identity.Operator: {true, true}, identity.Auditor: {true, false}, identity.Member: {false, false},
		} {
			cookie := s.person(role)
			home := s.do("GET", "/", nil, "Cookie", cookie)
			require.Equal(s, may.read, strings.Contains(home.text, `href="/trains"`), role)
			list, one := s.do("GET", "/trains", nil, "Cookie", cookie), s.do("GET", "/trains/web", nil, "Cookie", cookie)
			if !may.read { // whose role reads no trains but their own, and who has none
				require.Equal(s, []int{http.StatusOK, http.StatusNotFound}, []int{list.StatusCode, one.StatusCode})
				require.Contains(s, list.text, "You are a member of no train.")
				for _, a := range []answer{list, one, s.do("GET", "/trains.csv", nil, "Cookie", cookie)} {
					require.NotContains(s, a.text, "team-alpha", role)
					require.NotContains(s, a.text, `href="/trains/web"`, role)
				}
			} else {
				require.Equal(s, http.StatusOK, list.StatusCode, role)
				require.Equal(s, http.StatusOK, one.StatusCode, role)
				require.Contains(s, one.text, "team-alpha", role)
			}
			require.Equal(s, may.write, strings.Contains(list.text, newTrainPath), role)
			require.Equal(s, may.write, strings.Contains(one.text, "/keys/new"), role)
			form := s.form(cookie, "/account")
			for path, fill := range map[string][]string{
				"/trains": {"train_id", "forced-" + string(role)}, "/trains/web/settings": {"name", "Forced", "strategy", "hash"}, "/trains/web/keys": {"name", "forced"},
			} {
				filled := url.Values{"form": form["form"]}
				for i := 0; i < len(fill); i += 2 {
					filled.Set(fill[i], fill[i+1])
				}
				a := s.do("POST", path, filled, "Cookie", cookie)
				refused := http.StatusForbidden
				if role == identity.Member && strings.HasSuffix(path, "/keys") {
					refused = http.StatusNotFound // of which train
				}
				require.Equal(s, !may.write, a.StatusCode == refused, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			}
		}
	})
}

const newTrainPath = "/trains/~new"

// TestTrainPagesKeepTheBudget: what they weigh, and the parts and files of the list.
func TestTrainPagesKeepTheBudget(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for _, slug := range []string{"web", "=cmd"} {
			_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: strings.Trim(slug, "="), Name: slug})
			require.NoError(s, err)
		}
		for _, path := range []string{"/", "/trains", "/trains/web", "/search?q=web", "/account", "/connections"} {
			s.weigh(cookie, path)
		}
		part := s.do("GET", "/trains?q=we", nil, "Cookie", cookie, "HX-Request", "true")
		require.Equal(s, http.StatusOK, part.StatusCode)
		require.Regexp(s, `^<div id="trains"`, part.text)
		require.NotContains(s, part.text, ">cmd<")
		file := s.do("GET", "/trains.csv", nil, "Cookie", cookie)
		require.Contains(s, file.text, "cmd,'=cmd,")
		require.Contains(s, file.Header.Get("Content-Disposition"), `filename="trains.csv"`)

		dark := s.do("POST", "/theme", s.form(cookie, "/account", "theme", "dark", "next", "/trains"), "Cookie", cookie)
		require.Equal(s, "/trains", dark.Header.Get("Location"))
		require.Contains(s, s.do("GET", "/trains", nil, "Cookie", cookie+"; "+dark.Cookies()[0].Name+"="+dark.Cookies()[0].Value).text, `data-theme="dark"`)
	})
}
