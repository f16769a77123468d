package web_test

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web"
)

// operations are what a server tells of itself.
func operations() web.Operations {
	return web.Operations{
		Settings: func() []web.Setting {
			return []web.Setting{{Name: "listen", Value: "127.0.0.1:8420", From: "SIGNALBOX_LISTEN", Doc: "address to serve on"}, {Name: "read-only", Value: "true", From: "--read-only", Doc: "refuses changes"},
				{Name: "root-key", Value: "set", From: "SIGNALBOX_ROOT_KEY", Doc: "opens the keyring"}, {Name: "public-url", From: "default", Doc: "where browsers come"}}
		},
		Check: func(context.Context) []web.Finding {
			return []web.Finding{{Name: "free space", State: "warning", Found: "900 MiB free", Do: "Make room."}, {Name: "listener", State: "ok", Found: "this machine only"}, {Name: "clock", State: "broken", Found: "slow"}}
		},
	}
}

// age makes the proofs of all sessions too old for what wants a fresh one.
func (s *site) age() { s.Helper(); s.prove(-10 * time.Minute) }

// prove moves the proofs of all sessions: to before they were given, or to later, for a test that a busy machine takes long for.
func (s *site) prove(by time.Duration) {
	s.Helper()
	require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`UPDATE sessions SET stepped_up_at = stepped_up_at + $1`, by.Microseconds()); err != nil {
			return err
		}
		var ids []string
		if err := tx.Select(&ids, `SELECT id FROM sessions`); err != nil {
			return err
		}
		for _, id := range ids {
			tx.Change(store.TopicSession, id)
		}
		return tx.Record(identity.System("test").Event(store.IdentityStepUp, store.Target{Kind: "session"}))
	}))
}

// TestWhatAnInvitedMemberSees: an administrator invites somebody in one window; in another, the invited one sets a password and sees nothing of
// administration, whatever they ask for; another role is obeyed at once. With scripts, a proof that became too old while one typed is asked for over
// the page, and what was typed is sent.
func TestWhatAnInvitedMemberSees(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		admin, member := s.window(scripts), s.window(scripts)
		admin.signInHere("/people")
		admin.inspect("people")
		admin.click(`.heading a[href="/people/~invite"]`)
		if scripts {
			admin.until(`document.querySelector("dialog[open] form")`)
			admin.inspect("invite-dialog")
			s.age()
			admin.submitIn(`form[method="post"][action="/people"]`, "email", "mia@example.com", "name", "Mia <i>Member</i>", "role", "member")
			admin.until(`document.querySelector("#proof[open] #proof-password")`)
			admin.inspect("step-up-dialog")
			admin.submitIn(`#proof form[action="/step-up"]`, "password", "not-the-password-1")
			admin.until(`document.querySelector("#proof[open] .alert")`)
			admin.submitIn(`#proof form[action="/step-up"]`, "password", planted)
		} else {
			admin.submitIn(`form[method="post"][action="/people"]`, "email", "mia@example.com", "name", "Mia <i>Member</i>", "role", "member")
		}
		admin.until(`document.querySelector("#password-link")`)
		link := admin.js(`document.querySelector("#password-link").textContent`)
		admin.inspect("invite-once")
		admin.click("#stored")
		admin.click(".stored button")
		admin.until(`location.pathname.startsWith("/people/user_")`)
		require.Contains(admin, admin.text(), "Mia <i>Member</i>")
		require.NotContains(admin, admin.js(`document.documentElement.outerHTML`), link[strings.Index(link, "token="):])

		member.open(link[strings.Index(link, "/invite"):])
		member.submit("/invite", "password", "mias-own-password-77")
		member.until(`location.pathname === "/"`)
		member.inspect("overview-member")
		nav := member.js(`document.querySelector("nav").innerText`)
		for _, hidden := range []string{"People", "Groups", "Service accounts", "Settings", "Trains"} {
			require.NotContains(member, strings.Split(nav, "\n"), hidden)
		}
		require.Contains(member, nav, "Tokens")
		for _, path := range []string{"/people", "/people/~invite", "/groups", "/service-accounts", "/settings", "/settings/sign-in", "/settings/notifications", "/settings/checks"} {
			member.open(path)
			require.Contains(member, member.text(), "No permission", path)
		}
		member.inspect("forbidden")

		admin.open("/people")
		admin.until(`document.querySelectorAll("#people tbody tr").length === 2`)
		admin.inspect("people-list")
		admin.js(`[...document.querySelectorAll("#people tbody a")].find((a) => a.textContent.includes("Mia")).click(); ""`)
		admin.until(`location.pathname.startsWith("/people/user_")`)
		admin.inspect("person")
		admin.click(`a[href$="/edit"]`)
		admin.submitIn(`form[action$="/edit"]`, "role", "operator")
		admin.until(`location.search === "?done=changed"`)
		member.open("/")
		member.until(`location.pathname === "/sign-in"`)
		member.submit("/sign-in", "email", "mia@example.com", "password", "mias-own-password-77")
		member.until(`location.pathname === "/"`)
		require.Contains(member, member.js(`document.querySelector("nav").innerText`), "Trains")

		admin.click(`a[href$="/deactivate"]`)
		admin.until(`document.querySelector('form[action$="/deactivate"]')`)
		require.Contains(admin, admin.text(), "1 session of theirs: ended at once")
		require.Contains(admin, admin.text(), "0 active tokens of theirs: revoked for good")
		admin.submitIn(`form[action$="/deactivate"]`)
		admin.until(`location.search === "?done=deactivate"`)
		member.open("/account")
		member.until(`location.pathname === "/sign-in"`)
	})
}

// filledPeople makes one of everything, with names that a page must show as text.
func (s *site) filledPeople() (person, group, service, token, channel string) {
	s.Helper()
	u, _, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "xss@example.com", Name: hostile + "person", Role: identity.Member})
	require.NoError(s, err)
	g, err := s.rooms.CreateGroup(s.Context(), boss, identity.GroupDraft{Name: hostile + "group", Description: hostile})
	require.NoError(s, err)
	_, _, err = s.rooms.AddGroupMember(s.Context(), boss, g.ID, u.ID)
	require.NoError(s, err)
	a, err := s.rooms.CreateServiceAccount(s.Context(), boss, identity.ServiceAccountDraft{Name: hostile + "service", Description: hostile, Role: identity.Member})
	require.NoError(s, err)
	tok, secret, err := s.rooms.IssueToken(s.Context(), boss, identity.TokenDraft{ServiceID: a.ID, Name: hostile + "token"})
	require.NoError(s, err)
	s.Cleanup(func() { require.NotContains(s, s.log.String(), secret.Reveal()) })
	admin := s.signIn("")
	made := s.do("POST", "/settings/channels", s.form(admin, "/settings/channels/~new", "kind", "slack", "name", hostile+"channel", "severity", "info", "url", "https://hooks.example.com/planted-hook-4711"), "Cookie", admin)
	require.Equal(s, "/settings/notifications?done=made", made.Header.Get("Location"), made.text)
	list := s.do("GET", "/settings/notifications", nil, "Cookie", admin)
	require.NotContains(s, list.text, "planted-hook-4711")
	return u.ID, g.ID, a.ID, tok.ID, regexp.MustCompile(`/settings/channels/([^/"]+)/delete`).FindStringSubmatch(list.text)[1]
}

const hostile = `<img src=x onerror=alert(1)>"'`

// TestPeopleAndSettingsByRole: each page and each form of people, keys and settings, for the four roles: shown or refused as the rooms refuse.
func TestPeopleAndSettingsByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		person, group, service, token, channel := s.filledPeople()
		all, readers, keepers := "aoum", "aou", "ao" // administrator, operator, auditor, member
		pages := map[string]string{
			"/people": "au", "/people.csv": "au", "/people/" + person: "au", "/people/~invite": "a", "/people/" + person + "/edit": "a", "/people/" + person + "/deactivate": "a", "/people/" + person + "/limits": "a",
			"/people/" + person + "/password": "a", "/groups": readers, "/groups/" + group: readers, "/groups/~new": keepers, "/groups/" + group + "/delete": keepers, "/groups/" + group + "/add": keepers,
			"/service-accounts": readers, "/service-accounts/" + service: readers, "/service-accounts/~new": keepers, "/service-accounts/" + service + "/deactivate": keepers,
			"/tokens": all, "/tokens.csv": all, "/tokens/~new": all, "/tokens/" + token + "/revoke": keepers, "/tokens/~new?service=" + service: readers,
			"/settings": readers, "/settings/checks": readers, "/settings/sign-in": "au", "/settings/sign-in/factors": "a", "/settings/sso/~new": "a", "/settings/issuers/~new": "a",
			"/settings/notifications": readers, "/settings/channels/~new": "a", "/settings/channels/" + channel + "/delete": "a",
		}
		forms := map[string]struct{ who, page string }{ // who may, and the page or the address that offers it
			"/people": {"a", "/people/~invite"}, "/people/" + person + "/edit": {"a", ""}, "/people/" + person + "/deactivate": {"a", ""}, "/people/" + person + "/factors": {"a", ""}, "/people/" + person + "/limits": {"a", ""},
			"/groups": {keepers, "/groups/~new"}, "/groups/" + group + "/delete": {keepers, ""}, "/groups/" + group + "/members": {keepers, "/groups/" + group + "/add"},
			"/service-accounts": {keepers, "/service-accounts/~new"}, "/service-accounts/" + service + "/deactivate": {keepers, ""}, "/tokens/" + token + "/revoke": {keepers, ""},
			"/settings/sign-in/factors": {"a", ""}, "/settings/sso": {"a", "/settings/sso/~new"}, "/settings/issuers": {"a", "/settings/issuers/~new"}, "/settings/channels": {"a", "/settings/channels/~new"},
			"/settings/channels/" + channel + "/test": {"a", ""}, "/settings/channels/" + channel + "/delete": {"a", ""},
		}
		for letter, role := range map[string]identity.Role{"m": identity.Member, "u": identity.Auditor, "o": identity.Operator, "a": identity.Administrator} {
			cookie := s.person(role)
			for path, who := range pages {
				a := s.do("GET", path, nil, "Cookie", cookie)
				want := http.StatusForbidden
				if strings.Contains(who, letter) {
					want = http.StatusOK
				} else {
					require.NotContains(s, a.text, "onerror", "%s %s", role, path)
				}
				if a.StatusCode == http.StatusNotFound && want == http.StatusForbidden {
					want = http.StatusNotFound // who may not see something does not hear that it is there
				}
				require.Equal(s, want, a.StatusCode, "%s %s\n%s", role, path, a.text)
				if !strings.HasSuffix(path, ".csv") {
					require.NotContains(s, a.text, "<img src=x", "%s %s: what was stored is text", role, path)
				}
				if want == http.StatusOK && !strings.HasSuffix(path, ".csv") {
					for action, one := range forms {
						if !strings.Contains(one.who, letter) {
							offer := regexp.MustCompile(`(?:action|href)="` + regexp.QuoteMeta(cmp.Or(one.page, action)) + `["?]`)
							require.NotRegexp(s, offer, a.text, "%s is offered %s at %s", role, action, path)
						}
					}
				}
			}
			if letter == "a" {
				continue
			}
			form := s.form(cookie, "/account")
			for action, one := range forms {
				if strings.Contains(one.who, letter) {
					continue
				}
				filled := url.Values{"form": form["form"], "email": {"forced@example.com"}, "name": {"forced"}, "role": {"member"}, "user_id": {person}}
				a := s.do("POST", action, filled, "Cookie", cookie)
				require.Contains(s, []int{http.StatusForbidden, http.StatusNotFound}, a.StatusCode, "%s %s %s", role, action, a.text)
				filled.Del("form")
				require.Equal(s, http.StatusForbidden, s.do("POST", action, filled, "Cookie", cookie).StatusCode, "without the form's token")
			}
		}
		require.NotEmpty(s, s.do("GET", "/people?q=XSS", nil, "Cookie", s.signIn(""), "HX-Request", "true").text)
	})
}

// TestReadOnlyRefusesEveryForm: while nothing may be changed, no page offers to change anything, each form says why it is refused, and a session can still be ended.
func TestReadOnlyRefusesEveryForm(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		person, group, service, token, channel := s.filledPeople()
		handler, err := web.New(web.Config{Identity: s.rooms, Logins: s.logins, Vault: s.vault, Trains: s.trains, Notify: s.notify, Audit: s.audit, Operations: operations(), ReadOnly: true})
		require.NoError(s, err)
		server := httptest.NewServer(handler)
		defer server.Close()
		s.url = server.URL
		for _, path := range []string{"/people", "/people/" + person, "/groups/" + group, "/service-accounts/" + service, "/tokens?whose=all", "/settings", "/settings/sign-in", "/settings/notifications"} {
			a := s.do("GET", path, nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, a.StatusCode, path)
			require.Contains(s, a.text, "Read-only", path)
			require.NotRegexp(s, `action="/(people|groups|service-accounts|tokens|settings)[^"]*"[^>]*method="post"|href="[^"]*(~new|~invite|/edit|/limits|/delete|/deactivate|/revoke)`, a.text, path)
		}
		require.Contains(s, s.do("GET", "/settings", nil, "Cookie", cookie).text, "This Signalbox is read-only: --read-only says so.")
		form := s.form(cookie, "/account")
		for _, path := range []string{"/people", "/people/" + person + "/edit", "/people/" + person + "/limits", "/people/" + person + "/deactivate", "/groups", "/groups/" + group + "/delete", "/service-accounts", "/tokens", "/tokens/" + token + "/revoke",
			"/settings/sign-in/factors", "/settings/sso", "/settings/issuers", "/settings/channels", "/settings/channels/" + channel + "/test", "/settings/channels/" + channel + "/delete"} {
			a := s.do("POST", path, form, "Cookie", cookie)
			require.Equal(s, http.StatusForbidden, a.StatusCode, path)
			require.Contains(s, a.text, "This Signalbox is read-only, so nothing was changed.", path)
		}
		other := s.signIn("")
		list, err := s.rooms.ListSessions(s.Context(), boss, s.me(cookie))
		require.NoError(s, err)
		ended := s.do("POST", "/people/"+s.me(cookie)+"/sessions/"+list[0].ID+"/end", form, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, ended.StatusCode, ended.text)
		require.False(s, s.isSignedIn(other))
	})
}

// me is the id of who has a cookie.
func (s *site) me(cookie string) string {
	s.Helper()
	_, value, _ := strings.Cut(cookie, "=")
	c, err := s.rooms.Session(s.Context(), value)
	require.NoError(s, err)
	return c.UserID
}

// TestPeoplePagesKeepTheBudget: what the pages weigh, and lists by filter and as files.
func TestPeoplePagesKeepTheBudget(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		person, group, service, _, _ := s.filledPeople()
		for _, path := range []string{"/people", "/people/" + person, "/groups", "/groups/" + group, "/service-accounts", "/service-accounts/" + service, "/tokens?whose=all", "/tokens/~new", "/settings", "/settings/keys", "/settings/keys/~change", "/settings/keys/~seal", "/settings/backups", "/settings/checks",
			"/settings/sign-in", "/settings/sso/~new", "/settings/issuers/~new", "/settings/notifications", "/settings/channels/~new"} {
			s.weigh(cookie, path)
		}
		for query, found := range map[string]string{"q=xss%40": "person", "q=ADA": "Ada", "role=member": "person", "state=deactivated": ""} {
			part := s.do("GET", "/people?"+query, nil, "Cookie", cookie, "HX-Request", "true")
			require.Regexp(s, `^<div id="people"`, part.text)
			require.Contains(s, part.text, found, query)
			require.Equal(s, found == "Ada", strings.Contains(part.text, ">Ada<"), query)
		}
		file := s.do("GET", "/tokens.csv?whose=all", nil, "Cookie", cookie)
		require.Contains(s, file.text, "onerror=alert(1)>", "a file is no page")
		require.Equal(s, "text/csv; charset=utf-8", file.Header.Get("Content-Type"))
	})
}
