package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

const newAccountPath = "/accounts/~new"

// TestAccountsInABrowser: from an empty list to an account that was added, changed in its row, paused among others and deleted, with scripts and without.
func TestAccountsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		for _, slug := range []string{"web", "batch"} {
			_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: slug})
			require.NoError(s, err)
		}
		b := s.window(scripts)
		b.signInHere("/accounts")
		b.until(`document.querySelector(".empty")`)
		b.inspect("accounts-empty")

		b.click(`.empty a`)
		b.submitIn(`form[method="post"][action="/accounts"]`, "name", "Team <b>alpha</b>", "api_key", "planted-key-0123456789", "base_url", "not a url")
		b.until(`document.querySelector("#base_url-error")`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-key")
		b.inspect("account-new-error")
		b.js(`document.querySelectorAll('input[name="train"]').forEach((box) => { box.checked = true }); ""`)
		b.submitIn(`form[method="post"][action="/accounts"]`, "api_key", "planted-key-0123456789", "base_url", "")
		b.until(`location.search === "?done=made"`)
		require.Contains(b, b.text(), "Team <b>alpha</b>")
		require.Contains(b, b.text(), "batch")
		b.inspect("account-llm")

		s.account("beta")
		b.open("/accounts")
		b.until(`document.querySelectorAll("#llm-accounts tbody tr").length === 2`)
		b.submitIn(`#llm-accounts tbody tr:last-child form`, "name", "Team <b>alpha</b>")
		b.until(`document.querySelector("#llm-accounts .error")`)
		b.inspect("accounts-error")
		b.submitIn(`#llm-accounts tbody tr:last-child form`, "name", "gamma")
		b.until(`location.search === "?done=renamed"`)
		b.inspect("accounts")

		b.js(`document.querySelectorAll('#llm-accounts input[name="id"]').forEach((box) => { box.checked = true }); ""`)
		b.click(`button[value="pause"]`)
		b.until(`document.querySelectorAll("#outcomes tbody tr").length === 2`)
		require.Equal(b, "2", b.js(`String([...document.querySelectorAll("#outcomes .badge")].filter((x) => x.textContent.includes("paused")).length)`))
		b.inspect("accounts-outcome")
		b.open("/accounts")
		b.until(`[...document.querySelectorAll("#llm-accounts .badge")].filter((x) => x.textContent.includes("paused")).length === 2`)

		b.click(`#llm-accounts tbody tr:last-child th a`)
		b.until(`location.pathname.startsWith("/accounts/cred_")`)
		b.submitIn(`form[action$="/resume"]`)
		b.until(`location.search === "?done=resumed"`)
		b.submitIn(`form[action$="/drain"]`)
		b.until(`location.search === "?done=drained"`)
		require.Contains(b, b.text(), "drained")
		b.inspect("account-drained")
		require.Equal(b, "true", b.js(`String(!!document.querySelector('form[action$="/pause"]') && !document.querySelector('form[action$="/drain"]'))`))
		b.submitIn(`form[action$="/resume"]`)
		b.until(`location.search === "?done=resumed"`)
		b.click(`a[href$="/delete"]`)
		b.submitIn(`form[action$="/delete"]`, "typed", "other")
		b.until(`document.querySelector("#typed-error")`)
		b.submitIn(`form[action$="/delete"]`, "typed", "gamma")
		b.until(`location.search === "?done=deleted" || location.pathname === "/step-up"`)
		require.Equal(b, "/accounts", b.js(`location.pathname`))
		require.NotContains(s, s.log.String(), "planted-key")
	})
}

// TestCoolDownsAppearByThemselves: an open list says that an account cools down, and that is all that changes in it.
func TestCoolDownsAppearByThemselves(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		id := s.account("alpha").ID
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: id})
		require.NoError(s, err)
		_, key, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		b := s.window(true)
		b.signInHere("/accounts")
		b.until(`document.querySelector("#llm-accounts .badge.good")`)
		b.js(`const field = document.querySelector('#llm-accounts input[name="base_url"]'); field.focus(); field.value = "https://half-typed"; ""`)

		agent, err := s.rooms.Client(key.Reveal())
		require.NoError(s, err)
		lease, err := s.trains.Lend(s.Context(), agent, train.Want{Method: http.MethodPost, Path: "/v1/messages", Model: "m"})
		require.NoError(s, err)
		_, err = lease.Next(s.Context(), train.Failure{Status: 401})
		require.ErrorIs(s, err, train.ErrNoOther)

		b.until(`document.querySelector("#llm-accounts .badge.warn")?.textContent.includes("cooling")`)
		require.Contains(b, b.text(), "the upstream refuses its credential (401)")
		require.Equal(b, "base_url https://half-typed", b.js(`document.activeElement.name + " " + document.activeElement.value`))
		b.open("/accounts/" + id)
		b.until(`document.querySelector("#account-facts .badge.warn")`)
		require.Contains(b, b.text(), "Free again")
		b.inspect("account-cooling")

		require.Eventually(s, func() bool { // the outcome is recorded a moment after
			return strings.Contains(s.do("GET", "/accounts/~requests", nil, "Cookie", s.signIn("")).text, "<polyline")
		}, 30*time.Second, 50*time.Millisecond)
		b.open("/accounts/~requests?account=" + id)
		b.until(`document.querySelector(".spark svg")`)
		require.Contains(b, b.text(), "1 request,")
		b.js(`document.querySelector("details summary").closest("main") && (document.querySelector("main details").open = true); ""`)
		b.inspect("requests")
	})
}

// TestAccountPagesByRole: what a role may not do is not shown, and refused when forced; a member sees what is theirs.
func TestAccountPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		one := s.account("team-alpha")
		for role, may := range map[identity.Role]struct{ all, write, audit bool }{
			identity.Administrator: {true, true, true}, identity.Operator: {true, true, false}, identity.Auditor: {true, false, true}, identity.Member: {false, true, false},
		} {
			cookie := s.person(role)
			list, page := s.do("GET", "/accounts", nil, "Cookie", cookie), s.do("GET", "/accounts/"+one.ID, nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, list.StatusCode, role)
			require.Equal(s, may.all, strings.Contains(list.text, "team-alpha"), role)
			require.Equal(s, may.all, strings.Contains(s.do("GET", "/accounts.csv", nil, "Cookie", cookie).text, "team-alpha"), role)
			require.Equal(s, may.write, strings.Contains(list.text, newAccountPath), role)
			require.Equal(s, may.audit, strings.Contains(list.text, "/accounts/~requests"), role)
			require.Equal(s, may.audit, s.do("GET", "/accounts/~requests", nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			require.Equal(s, may.write, s.do("GET", newAccountPath, nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			if !may.all {
				require.Equal(s, http.StatusNotFound, page.StatusCode, role)
			} else {
				require.Equal(s, http.StatusOK, page.StatusCode, role)
				require.Equal(s, may.write, strings.Contains(page.text, "/pause"), role)
			}
			token := s.form(cookie, "/account").Get("form")
			for path, fill := range map[string]url.Values{
				"/accounts/" + one.ID + "/pause": {}, "/accounts/" + one.ID + "/drain": {}, "/accounts/" + one.ID + "/resume": {}, "/accounts/" + one.ID + "/edit": {"name": {"Forced"}}, "/accounts/" + one.ID + "/settings": {"name": {"Forced"}},
				"/accounts/" + one.ID + "/key": {"api_key": {"planted-forced"}}, "/accounts/" + one.ID + "/delete": {"typed": {"team-alpha"}},
			} {
				require.Equal(s, http.StatusForbidden, s.do("POST", path, fill, "Cookie", cookie).StatusCode, "%s without the form's token: %s", role, path)
				if may.all && may.write {
					continue
				}
				fill.Set("form", token)
				require.Contains(s, []int{403, 404}, s.do("POST", path, fill, "Cookie", cookie).StatusCode, "%s %s", role, path)
			}
			now, err := s.vault.Get(s.Context(), boss, one.ID)
			require.NoError(s, err)
			require.Equal(s, "team-alpha", now.Name, role)
			require.EqualValues(s, 1, now.Version, role)
			require.Equal(s, vault.Active, now.Status, role)
		}
		// What a member adds is theirs.
		cookie := s.signInAs("member@example.com")
		form := s.form(cookie, newAccountPath, "name", "mine", "provider", "anthropic", "api_key", "planted-key-of-a-member")
		made := s.do("POST", "/accounts", form, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, made.StatusCode, made.text)
		require.Contains(s, s.do("GET", "/accounts", nil, "Cookie", cookie).text, "mine")
	})
}

// signInAs signs somebody in whom [site.person] has added.
func (s *site) signInAs(email string) string {
	s.Helper()
	form := credentials("/")
	form.Set("email", email)
	a := s.do("POST", "/sign-in", form, "Origin", s.url)
	require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
	return s.cookie(a)
}

// TestAccountFormsRefuse: what is wrong is said beside its field, a change that somebody else made is not overwritten, and a resume does not undo that an
// account was called compromised.
func TestAccountFormsRefuse(t *testing.T) {
	each(t, func(s *site) {
		cookie, one := s.administrator(), s.account("alpha")
		here := "/accounts/" + one.ID
		no := func(path string, status int, text string, fill ...string) {
			s.Helper()
			a := s.do("POST", path, s.form(cookie, "/account", fill...), "Cookie", cookie)
			require.Equal(s, status, a.StatusCode, a.text)
			require.Contains(s, a.text, text)
			require.NotContains(s, a.text, "planted-key")
		}
		no("/accounts", 422, `id="api_key-error"`, "name", "x", "provider", "anthropic", "api_key", "")
		no("/accounts", 409, `id="name-error"`, "name", "alpha", "provider", "anthropic", "api_key", "planted-key-2")
		no("/accounts", 422, `&lt;script&gt;x`, "name", "<script>x", "provider", "anthropic", "api_key", "")
		no(here+"/key", 422, `id="api_key-error"`, "api_key", "")
		no(here+"/settings", 412, "alpha", "name", "beta", "if_match", `"0-0"`)
		no(here+"/trains", 422, "Tick at least one train")
		no("/accounts/~act", 422, "Nothing was picked", "act", "pause")
		no("/accounts/~act", 422, "no such act", "act", "explode", "id", one.ID)
		no(here+"/refresh", 409, "The refresh did not work")

		_, err := s.vault.Update(s.Context(), boss, one.ID, vault.Patch{State: vault.To(vault.Compromised)}, "")
		require.NoError(s, err)
		no(here+"/resume", 409, "Somebody else may know the secret of alpha")
		a := s.do("POST", "/accounts/~act", s.form(cookie, "/account", "act", "resume", "id", one.ID), "Cookie", cookie)
		require.Contains(s, a.text, "Somebody else may know the secret of alpha")
		require.NotContains(s, s.do("GET", here, nil, "Cookie", cookie).text, here+"/resume")

		other, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "no account"}, Secrets: map[string]secret.Value{"password": secret.FromString("planted-key-x")}})
		require.NoError(s, err)
		require.Equal(s, http.StatusNotFound, s.do("GET", "/accounts/"+other.ID, nil, "Cookie", cookie).StatusCode)
		require.Equal(s, http.StatusNotFound, s.do("GET", "/accounts/~requests?account="+strings.Repeat("x", 500), nil, "Cookie", cookie).StatusCode)
		for _, path := range []string{"/accounts", here, "/accounts/~requests"} {
			s.weigh(cookie, path)
		}
		part := s.do("GET", "/accounts?q=alp", nil, "Cookie", cookie, "HX-Request", "true")
		require.Regexp(s, `^<div id="llm-accounts"`, part.text)
		var reads int
		require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error {
			return tx.Get(&reads, `SELECT COUNT(*) FROM audit_events WHERE action = $1`, string(store.AuditRead))
		}))
		require.Equal(s, 1, reads, "reading the audit log is recorded")
	})
}

func secretsOf(field, value string) map[string]secret.Value {
	return map[string]secret.Value{field: secret.FromString(value)}
}
