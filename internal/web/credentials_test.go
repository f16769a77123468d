package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web"
)

// evil is what somebody may put into every text field of a credential.
const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`

// stored stores a credential of a type, with a planted secret in each field that the type needs.
func (s *site) stored(t vault.Type, m vault.Meta) vault.Credential {
	s.Helper()
	return s.storedBy(boss, t, m)
}

func (s *site) storedBy(who identity.Caller, t vault.Type, m vault.Meta) vault.Credential {
	s.Helper()
	row, ok := vault.Lookup(t)
	require.True(s, ok)
	secrets := map[string]secret.Value{}
	for _, f := range row.Secrets {
		if f.Required || f.Name == "refresh_token" {
			secrets[f.Name] = secret.FromString("planted-" + f.Name + "-0123456789")
		}
	}
	if row.AnyNames {
		secrets["pin"] = secret.FromString("planted-pin-0123456789")
	}
	c, err := s.vault.Create(s.Context(), who, vault.Draft{Type: t, Meta: m, Secrets: secrets})
	require.NoError(s, err)
	return c
}

// ends finds the events of an act on a credential.
func (s *site) ends(id string, act store.Action) []store.Event {
	s.Helper()
	page, err := s.audit.Search(s.Context(), audit.Query{Target: id, Action: act})
	require.NoError(s, err)
	return page.Events
}

// TestCredentialsInABrowser: a secret is stored, revealed with a reason, hidden again, copied without being shown, rotated, restored and deleted; what is
// planted stands in no page, storage or history but the one answer.
func TestCredentialsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		const first, second = "planted-browser-first-0123456789", "planted-browser-second-0123456789"
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/credentials")
		b.until(`document.querySelector(".empty")`)
		b.inspect("credentials-empty")
		clean := func() {
			b.Helper()
			for _, planted := range []string{first, second} {
				require.NotContains(b, b.js(`document.documentElement.outerHTML + JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage}) + location.href + JSON.stringify(history.state)`), planted)
			}
		}

		b.click(`.empty a`)
		b.until(`document.querySelectorAll(".kinds li").length === 9`)
		b.inspect("credential-types")
		b.click(`.kinds a[href$="api_key"]`)
		b.submitIn(`form[action="/credentials"]`, "name", "Team key", "secrets/api_key", first, "hosts", "not a host", "provider", "gitea")
		b.until(`document.querySelector("[id='hosts-error']")`)
		clean()
		b.js(`scrollTo(0, 0); ""`)
		b.inspect("credential-new-error")
		b.submitIn(`form[action="/credentials"]`, "hosts", "git.example.com", "secrets/api_key", first)
		b.until(`location.search === "?done=made"`)
		clean()
		b.inspect("credential")
		id := strings.TrimPrefix(b.js("location.pathname"), "/credentials/")

		b.click(`a[href*="/reveal?field=api_key"]`)
		reveal := `form[action="/credentials/` + id + `/reveal"]`
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("reveal-dialog")
			b.js(`window.copied = ""; Object.defineProperty(navigator, "clipboard", {value: {write: async (items) => { window.copied = await (await items[0].getType("text/plain")).text() }}}); ""`)
			b.js(`document.querySelector('dialog[open] [name="reason"]').value = "hand-over"; ""`)
			b.click(`dialog[open] [data-copy-answer]`)
			b.until(`document.querySelector("[data-told]").textContent.startsWith("Copied")`)
			require.Equal(b, first, b.js(`window.copied`))
			b.js(`window.copied = ""`)
			clean()
		}
		b.submitIn(reveal, "reason", "hand-over")
		b.until(`document.querySelector("#revealed")`)
		require.Equal(b, first, b.js(`document.querySelector("#revealed").textContent`))
		b.inspect("revealed")
		if scripts {
			b.js(`(() => { const now = Date.now; Date.now = () => now() + 31000; return "" })()`)
			b.until(`!document.querySelector("#revealed")`)
			clean()
		}
		b.open("/credentials/" + id)
		b.until(`document.querySelector("#fields")`)
		clean()
		want := 1
		if scripts {
			want = 2
		}
		require.Len(b, s.ends(id, store.CredentialReveal), want)
		require.Equal(b, "hand-over", s.ends(id, store.CredentialReveal)[0].Reason)

		b.click(`a[href$="/rotate"]`)
		b.submitIn(`form[action="/credentials/`+id+`/rotate"]`, "secrets/api_key", second, "reason", "it leaked")
		b.until(`location.search === "?done=rotated"`)
		b.open("/credentials/" + id + "/versions")
		b.until(`document.querySelectorAll("#versions tbody tr").length === 2`)
		b.inspect("credential-versions")
		b.click(`#versions a[href$="/1/restore"]`)
		b.submitIn(`form[action$="/1/restore"]`)
		b.until(`location.search === "?done=restored" && document.querySelectorAll("#versions tbody tr").length === 3`)
		clean()
		b.open("/credentials/" + id + "/access")
		b.until(`document.querySelector("#grants-list")`)
		b.inspect("credential-access")
		b.open("/credentials/" + id + "/record")
		b.until(`document.querySelectorAll("#record tbody tr").length > 5`)
		clean()
		b.inspect("credential-record")

		b.open("/credentials")
		b.until(`document.querySelectorAll("#credentials tbody tr").length === 1`)
		b.inspect("credentials")
		b.click(`#credentials tbody input[type="checkbox"]`)
		b.js(`document.querySelector('#bulk select').value = "tag"; ""`)
		b.click(`#bulk button`)
		b.submitIn(`form[method="post"][action="/credentials/~bulk"]`, "tags", "team, git")
		b.until(`document.body.innerText.includes("Done to 1 credential.")`)

		b.open("/credentials/" + id)
		b.until(`document.querySelector("#about summary")`)
		require.Contains(b, b.text(), "team, git")
		b.click(`#about summary`)
		b.until(`document.querySelector("#about details[open]")`)
		b.submitIn(`#about form`, "name", "Team key 2", "internal_url", "no address")
		b.until(`document.querySelector("#internal_url-error")`)
		b.js(`scrollTo(0, 0); ""`)
		b.inspect("credential-edit")
		b.submitIn(`#about form`, "name", "Team key 2", "internal_url", "https://git.internal.example.com")
		b.until(`location.search === "?done=changed"`)
		require.Contains(b, b.text(), "Team key 2")
		b.open("/credentials/" + id + "/destination")
		b.until(`document.querySelector('form[action$="/destination"]')`)
		b.submitIn(`form[action$="/destination"]`, "base_url", "https://git.example.com/api", "inject/type", "header", "inject/name", "X Key", "methods", "GET, POST", "paths", "/repos/*/issues\n/user/**")
		b.until(`document.getElementById("inject/name-error")`)
		b.js(`scrollTo(0, 0); ""`)
		b.inspect("credential-destination")
		b.submitIn(`form[action$="/destination"]`, "inject/name", "X-Api-Key")
		b.until(`location.search === "?done=sent"`)
		require.Contains(b, b.text(), "header X-Api-Key")
		require.Contains(b, b.text(), "/repos/*/issues, /user/**")
		b.inspect("credential-sent")
		b.click(`a[href$="/delete"]`)
		b.until(`document.querySelector('form[action$="/delete"]')`)
		b.inspect("credential-delete")
		b.submitIn(`form[action$="/delete"]`, "typed", "delete")
		b.until(`location.pathname === "/credentials" && document.querySelector(".flash")`)
		clean()
		require.NotContains(b, s.log.String(), first)
	})
}

// TestCredentialPagesHoldNoSecret: whatever the type, no page holds what is sealed, what others wrote is text, and the one answer that holds a secret is
// kept by nobody.
func TestCredentialPagesHoldNoSecret(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		var ids []string
		storetest.Homes(s, s.db, evil, evil, evil)
		for _, row := range vault.Types() {
			c := s.stored(row.Type, vault.Meta{Name: evil, Description: evil, Username: evil, Owner: evil, ClientID: evil, ServiceID: evil, InfrastructureID: evil, PluginName: evil, Tags: []string{evil}})
			ids = append(ids, c.ID)
			_, _, err := s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: c.ID})
			require.NoError(s, err)
			for _, part := range []string{"", "/access", "/versions", "/record", "/reveal?field=" + c.SecretFields[0], "/rotate", "/destination", "/delete", "/access/give"} {
				page := s.do("GET", "/credentials/"+c.ID+part, nil, "Cookie", cookie)
				require.Equal(s, http.StatusOK, page.StatusCode, "%s %s: %s", row.Type, part, page.text)
				require.NotContains(s, page.text, "planted-", "%s %s", row.Type, part)
				require.NotContains(s, page.text, "<script>alert", "%s %s", row.Type, part)
				require.NotContains(s, page.text, "<img src=x", "%s %s", row.Type, part)
				require.Equal(s, "no-store", page.Header.Get("Cache-Control"))
			}
			for _, field := range c.SecretFields {
				form := s.form(cookie, "/credentials/"+c.ID+"/reveal?field="+field, "field", field, "reason", "a test")
				shown := s.do("POST", "/credentials/"+c.ID+"/reveal", form, "Cookie", cookie)
				require.Equal(s, http.StatusOK, shown.StatusCode, shown.text)
				require.Equal(s, "no-store", shown.Header.Get("Cache-Control"))
				require.Equal(s, 1, strings.Count(shown.text, "planted-"+field), shown.text)
				require.Equal(s, "30;url=/credentials/"+c.ID, shown.Header.Get("Refresh"))
				form.Set("as", "text")
				copied := s.do("POST", "/credentials/"+c.ID+"/reveal", form, "Cookie", cookie)
				require.Equal(s, "planted-"+field+"-0123456789", copied.text)
				require.Equal(s, "no-store", copied.Header.Get("Cache-Control"))
				require.Equal(s, "text/plain; charset=utf-8", copied.Header.Get("Content-Type"))
				require.Equal(s, "nosniff", copied.Header.Get("X-Content-Type-Options"))
				form.Set("reason", "")
				without := s.do("POST", "/credentials/"+c.ID+"/reveal", form, "Cookie", cookie)
				require.Equal(s, http.StatusUnprocessableEntity, without.StatusCode)
				require.NotContains(s, without.text, "planted-")
				require.Contains(s, without.text, `id="reason-error"`)
			}
		}
		list := s.do("GET", "/credentials", nil, "Cookie", cookie)
		require.NotContains(s, list.text, "planted-")
		require.NotContains(s, list.text, "<script>alert")
		all := "/credentials/~bulk?act=delete&id=" + strings.Join(ids, "&id=")
		asked := s.do("GET", all, nil, "Cookie", cookie)
		require.Contains(s, asked.text, "The train web loses 9 linked credentials of 9")
		form := s.form(cookie, all, "act", "delete", "typed", "delete")
		form["id"] = ids
		require.Equal(s, http.StatusUnprocessableEntity, s.do("POST", "/credentials/~bulk", form, "Cookie", cookie).StatusCode)
		form.Set("typed", "delete 9")
		require.Contains(s, s.do("POST", "/credentials/~bulk", form, "Cookie", cookie).text, "Done to 9 credentials.")
		left, _, err := s.vault.List(s.Context(), boss, vault.Filter{})
		require.NoError(s, err)
		require.Empty(s, left)
	})
}

// TestCredentialFormsMendInPlace: what is wrong stands beside its field, secrets are not sent back, and an edit does not undo another's.
func TestCredentialFormsMendInPlace(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for _, row := range vault.Types() {
			form := s.form(cookie, "/credentials/~new?type="+string(row.Type), "type", string(row.Type), "name", "Kept "+string(row.Type), "port", "70000", "field", "pin", "secrets", "planted-typed")
			for _, f := range row.Secrets {
				form.Set("secrets/"+f.Name, "planted-typed")
			}
			a := s.do("POST", "/credentials", form, "Cookie", cookie)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, a.text)
			require.Contains(s, a.text, `id="port-error"`)
			require.Contains(s, a.text, "Kept "+string(row.Type))
			require.NotContains(s, a.text, "planted-typed")
			form.Del("port")
			for name := range form {
				if strings.HasPrefix(name, "secrets") {
					form.Del(name)
				}
			}
			a = s.do("POST", "/credentials", form, "Cookie", cookie)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
			require.Contains(s, a.text, `-error"`, row.Type)
		}
		made := s.do("POST", "/credentials", s.form(cookie, "/credentials/~new?type=password", "type", "password", "name", "Router", "base_url", "https://router.example.com", "secrets/password", "planted-password"), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, made.StatusCode, made.text)
		page := strings.TrimSuffix(made.Header.Get("Location"), "?done=made")
		c, err := s.vault.Get(s.Context(), boss, strings.TrimPrefix(page, "/credentials/"))
		require.NoError(s, err)
		form := s.form(cookie, page, "if_match", c.ETag(), "name", "Router 2", "status", "active", "expires_at", "2099-01-31", "tags", "a, b")
		require.Equal(s, page+"?done=changed", s.do("POST", page, form, "Cookie", cookie).Header.Get("Location"))
		got, err := s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.Equal(s, []string{"a", "b"}, got.Tags)
		require.Equal(s, "2099-01-31T23:59:59Z", got.ExpiresAt.UTC().Format(time.RFC3339))
		require.Equal(s, "https://router.example.com", got.BaseURL, "the form of the metadata does not say where it goes")
		stale := s.do("POST", page, form, "Cookie", cookie)
		require.Equal(s, http.StatusPreconditionFailed, stale.StatusCode)
		bad := s.do("POST", page, s.form(cookie, page, "if_match", got.ETag(), "name", "", "status", "active"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, bad.StatusCode)
		require.Contains(s, bad.text, `id="name-error"`)

		sent := s.do("POST", page+"/destination", s.form(cookie, page+"/destination", "if_match", got.ETag(), "base_url", "https://other.example.com", "hosts", "other.example.com"), "Cookie", cookie)
		require.Equal(s, page+"?done=sent", sent.Header.Get("Location"), sent.text)
		shown := s.do("GET", page, nil, "Cookie", cookie).text
		require.Contains(s, shown, "Authorization: Basic, with the user name", "its type's own way")
		require.Contains(s, shown, "needs a username")
		inject := func(fill ...string) answer {
			return s.do("POST", page+"/destination", s.form(cookie, page+"/destination", append([]string{"if_match", s.tag(cookie, page+"/destination"), "base_url", "https://other.example.com"}, fill...)...), "Cookie", cookie)
		}
		odd := inject("inject/type", "header", "inject/name", "Host", "methods", "GET, TRACE", "paths", "/a/**\r\n/b/../c")
		require.Equal(s, http.StatusUnprocessableEntity, odd.StatusCode)
		for _, id := range []string{"inject/name-error", "methods-error", "paths-error"} {
			require.Contains(s, odd.text, `id="`+id+`"`)
		}
		require.Contains(s, odd.text, "/b/../c", "what was typed is there still")
		ruled := inject("inject/type", "header", "inject/name", "X-Api-Key", "methods", "get, POST", "paths", "/a/**\r\n\r\n/b,c/*\r\n")
		require.Equal(s, page+"?done=sent", ruled.Header.Get("Location"), ruled.text)
		got, err = s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.Equal(s, vault.Inject{Kind: vault.InjectHeader, Name: "X-Api-Key"}, got.Inject)
		require.Equal(s, []string{"GET", "POST"}, got.Methods)
		require.Equal(s, []string{"/a/**", "/b,c/*"}, got.Paths)
		shown = s.do("GET", page, nil, "Cookie", cookie).text
		for _, text := range []string{"header X-Api-Key", "GET, POST", "/a/**, /b,c/*"} {
			require.Contains(s, shown, text)
		}
		require.NotContains(s, shown, "needs a username")

		_, err = s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		give := func(fill ...string) answer {
			return s.do("POST", page+"/access/give", s.form(cookie, page+"/access/give", append([]string{"if_match", s.tag(cookie, page+"/access/give")}, fill...)...), "Cookie", cookie)
		}
		nobody := give("kind", "person", "grantee", "nobody@example.com", "verbs", "use")
		require.Equal(s, http.StatusUnprocessableEntity, nobody.StatusCode)
		require.Contains(s, nobody.text, `id="grantee-error"`)
		given := give("kind", "train", "grantee", "web", "verbs", "use")
		require.Equal(s, page+"/access?done=given", given.Header.Get("Location"), given.text)
		require.Contains(s, s.do("GET", page+"/access", nil, "Cookie", cookie).text, "Take back the grant of web")
		grants, err := s.vault.Grants(s.Context(), boss, vault.Scope{Kind: vault.OnCredential, ID: c.ID})
		require.NoError(s, err)
		for _, g := range grants.Grants {
			if g.Party.Kind == vault.PartyTrain {
				take := page + "/access/" + g.Party.ID + "/take"
				require.Equal(s, page+"/access?done=taken", s.do("POST", take, s.form(cookie, take, "if_match", grants.ETag()), "Cookie", cookie).Header.Get("Location"))
			}
		}
	})
}

// tag is the state that a form of a page carries.
func (s *site) tag(cookie, path string) string {
	s.Helper()
	return strings.ReplaceAll(fields(s.do("GET", path, nil, "Cookie", cookie).text)["if_match"], "&#34;", `"`)
}

// TestCredentialPagesByRole: what a role, or somebody with one grant, may not do is not shown, and refused when forced.
func TestCredentialPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		foreign := s.stored(vault.Password, vault.Meta{Name: "Foreign safe"})
		shared := s.stored(vault.Password, vault.Meta{Name: "Shared safe"})
		roles := map[identity.Role]struct{ read, write, audit bool }{
			identity.Administrator: {true, true, true}, identity.Operator: {true, true, false}, identity.Auditor: {true, false, true}, identity.Member: {false, false, false},
		}
		for role, may := range roles {
			cookie := s.person(role)
			if role == identity.Member {
				_, err := s.vault.SetGrants(s.Context(), boss, vault.Scope{Kind: vault.OnCredential, ID: shared.ID}, []vault.Grant{{Party: identity.Party{Kind: identity.PartyPerson, ID: "member@example.com"}, Use: true}}, "")
				require.NoError(s, err)
				seen := s.do("GET", "/credentials/"+shared.ID, nil, "Cookie", cookie)
				require.Equal(s, http.StatusOK, seen.StatusCode)
				for _, act := range []string{"/reveal", "/rotate", "/delete", "/destination", "<summary>Edit"} {
					require.NotContains(s, seen.text, act, "a grant to use shows no more")
				}
				access := s.do("GET", "/credentials/"+shared.ID+"/access", nil, "Cookie", cookie)
				require.Equal(s, http.StatusOK, access.StatusCode)
				require.NotContains(s, access.text, "member@example.com")
			}
			here := "/credentials/" + foreign.ID
			list, one := s.do("GET", "/credentials", nil, "Cookie", cookie), s.do("GET", here, nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, list.StatusCode, role)
			require.Equal(s, may.read, strings.Contains(list.text, "Foreign safe"), role)
			require.Equal(s, may.read, one.StatusCode == http.StatusOK, role)
			require.Equal(s, may.read, strings.Contains(s.do("GET", "/credentials.csv", nil, "Cookie", cookie).text, "Foreign safe"), role)
			require.Equal(s, may.write || role == identity.Member, strings.Contains(list.text, "/credentials/~new"), role)
			for _, act := range []string{here + "/reveal", here + "/rotate", here + "/delete"} {
				require.Equal(s, may.write, strings.Contains(one.text, act), "%s %s", role, act)
			}
			record := s.do("GET", here+"/record", nil, "Cookie", cookie)
			require.Equal(s, may.audit, record.StatusCode == http.StatusOK, role)
			require.Equal(s, may.audit, strings.Contains(one.text, here+"/record"), role)
			for _, forced := range []struct{ path, name, value string }{
				{here, "name", "Forced"}, {here + "/reveal", "field", "password"}, {here + "/rotate", "secrets/password", "forced"}, {here + "/destination", "base_url", "https://evil.example"}, {here + "/versions/1/restore", "x", "y"},
				{here + "/access/give", "grantee", string(role) + "@example.com"}, {here + "/delete", "typed", "delete"}, {"/credentials/~bulk", "typed", "delete 1"},
			} {
				form := url.Values{"form": s.form(cookie, "/account")["form"], forced.name: {forced.value}, "reason": {"forced"}, "act": {"delete"}, "id": {foreign.ID}, "kind": {"person"}, "verbs": {"use"}}
				require.Equal(s, http.StatusForbidden, s.do("POST", forced.path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
				if may.write {
					continue
				}
				a := s.do("POST", forced.path, form, "Cookie", cookie)
				require.Contains(s, []int{http.StatusForbidden, http.StatusNotFound}, a.StatusCode, "%s %s: %s", role, forced.path, a.text)
				require.NotContains(s, a.text, "planted-")
			}
			still, err := s.vault.Get(s.Context(), boss, foreign.ID)
			require.NoError(s, err)
			require.Equal(s, int64(1), still.Version)
		}
	})
}

// TestCredentialListsNarrow: filters, pages, the part that a script asks for, the file, and what the pages weigh.
func TestCredentialListsNarrow(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		soon := time.Now().Add(5 * 24 * time.Hour)
		for i := range 60 {
			s.stored(vault.Password, vault.Meta{Name: fmt.Sprintf("safe %02d", i), Tags: []string{fmt.Sprintf("t%d", i%2)}})
		}
		s.stored(vault.APIKey, vault.Meta{Name: "=cmd", Provider: "gitea", ExpiresAt: &soon})
		c := s.stored(vault.OAuth, vault.Meta{Name: "mail", Provider: "google"})
		get := func(path string, header ...string) answer {
			s.Helper()
			return s.do("GET", path, nil, append([]string{"Cookie", cookie}, header...)...)
		}
		rows := func(a answer) int { return strings.Count(a.text, `<th role="rowheader" scope="row">`) }
		first := get("/credentials")
		require.Equal(s, 50, rows(first))
		_, next, ok := strings.Cut(first.text, `href="/credentials?cursor=`)
		require.True(s, ok)
		next, _, _ = strings.Cut(next, `"`)
		require.Equal(s, 12, rows(get("/credentials?cursor="+next)))
		for query, want := range map[string]int{
			"q=safe+07": 1, "tag=t1": 30, "type=oauth": 1, "status=expiring": 1, "provider=gitea": 1, "health=healthy": 1, "expires_in_days=10": 1, "expires_in_days=1": 0, "q=nothing": 0, "tag=t0&q=safe+1": 5,
		} {
			part := get("/credentials?"+query, "HX-Request", "true")
			require.Equal(s, http.StatusOK, part.StatusCode, query)
			require.Regexp(s, `^<div id="credentials"`, part.text)
			require.Equal(s, want, rows(part), query)
			require.Equal(s, want+1, max(1, strings.Count(get("/credentials.csv?"+query).text, "\n")), query)
		}
		require.Equal(s, http.StatusUnprocessableEntity, get("/credentials?type=none").StatusCode)
		require.Equal(s, http.StatusUnprocessableEntity, get("/credentials?expires_in_days=soon").StatusCode)
		require.Contains(s, get("/credentials.csv").text, ",'=cmd,")
		for _, path := range []string{"/credentials", "/credentials/~new", "/credentials/~new?type=oauth", "/credentials/" + c.ID, "/credentials/" + c.ID + "/access", "/credentials/" + c.ID + "/versions", "/credentials/" + c.ID + "/record"} {
			s.weigh(cookie, path)
		}
		one := get("/credentials/" + c.ID)
		require.Contains(s, one.text, "/connect?credential="+c.ID)
		require.Contains(s, one.text, "Refreshes of the last 14 days")
		require.Contains(s, one.text, "/credentials/"+c.ID+"/refresh")
	})
}

// TestCredentialRefreshesAreDrawn: what the record says of refreshes stands in the chart's table, day by day, and a failure is marked.
func TestCredentialRefreshesAreDrawn(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		c := s.stored(vault.OAuth, vault.Meta{Name: "mail", Provider: "google"})
		for _, call := range [][2]string{{"1", store.OutcomePending}, {"1", store.OutcomeOK}, {"2", store.OutcomePending}, {"2", store.OutcomeOK}, {"3", store.OutcomePending}, {"3", store.OutcomeFailed}, {"4", store.OutcomePending}} {
			require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
				ev := boss.Event(store.OAuthRefresh, store.Target{Kind: "credential", ID: c.ID})
				ev.Outcome, ev.Details = call[1], store.Details{store.Str("claim", call[0])}
				return tx.Record(ev)
			}))
		}
		page := s.do("GET", "/credentials/"+c.ID, nil, "Cookie", cookie)
		require.Regexp(s, `\(with failures\)</th><td class="number">3</td>`, page.text)
		require.Contains(s, page.text, `class="bad"`)
		auditor := s.do("GET", "/credentials/"+c.ID, nil, "Cookie", s.person(identity.Operator))
		require.Equal(s, http.StatusOK, auditor.StatusCode)
		require.NotContains(s, auditor.text, "with failures", "who may not read the record is not told by the chart")
	})
}

// TestCredentialsOfAReadOnlyInstance: nothing that changes is offered or done, and a secret can still be revealed.
func TestCredentialsOfAReadOnlyInstance(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		c := s.stored(vault.Password, vault.Meta{Name: "safe"})
		handler, err := web.New(web.Config{Identity: s.rooms, Logins: s.logins, Vault: s.vault, Trains: s.trains, Audit: s.audit, ReadOnly: true})
		require.NoError(s, err)
		server := httptest.NewServer(handler)
		s.Cleanup(server.Close)
		s.url = server.URL
		here := "/credentials/" + c.ID
		list, page := s.do("GET", "/credentials", nil, "Cookie", cookie), s.do("GET", here, nil, "Cookie", cookie)
		require.NotContains(s, list.text, "/credentials/~")
		for _, act := range []string{"/rotate", "/delete", "/destination", "<summary>Edit"} {
			require.NotContains(s, page.text, act)
		}
		require.Contains(s, page.text, here+"/reveal")
		form := s.form(cookie, here+"/reveal?field=password", "field", "password", "reason", "read-only")
		require.Equal(s, http.StatusOK, s.do("POST", here+"/reveal", form, "Cookie", cookie).StatusCode)
		for _, path := range []string{"/credentials", here, here + "/rotate", here + "/delete", "/credentials/~bulk"} {
			require.Equal(s, http.StatusForbidden, s.do("POST", path, form, "Cookie", cookie).StatusCode, path)
		}
	})
}
