package web_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// leaked opens an incident about a train with a key, a credential and a person.
func (s *site) leaked() (i incident.Incident, c vault.Credential) {
	s.Helper()
	c = s.stored(vault.APIKey, vault.Meta{Name: "Leaked <b>key"})
	_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web", Name: "Web"})
	require.NoError(s, err)
	_, _, err = s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "agent"})
	require.NoError(s, err)
	i, err = s.incidents.Open(s.Context(), boss, incident.Draft{Meta: incident.Meta{Title: "Key in a paste"}, Touch: incident.Touch{Trains: []string{"web"}, Credentials: []string{c.ID}}})
	require.NoError(s, err)
	return i, c
}

// TestContainInABrowser: the dry run says what would be done and does nothing; what changed since is refused and shown anew; then exactly that is done.
func TestContainInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		i, c := s.leaked()
		b := s.window(scripts)
		b.signInHere("/incidents/" + i.ID)
		b.click(`a[href$="/contain"]`)
		b.until(`document.querySelector("#contain-scope")`)
		require.Equal(b, "2", b.js(`String(document.querySelectorAll("#contain-scope input[type=checkbox]:checked").length)`))
		b.inspect("contain")
		b.submitIn(`#contain-scope`, "more_credential_ids", "cred_none")
		b.until(`document.querySelector(".alert")`)
		require.Contains(b, b.text(), "Credentials: must be the id of a credential that there is.")
		b.submitIn(`#contain-scope`, "more_credential_ids", "")
		b.until(`document.querySelectorAll("#steps tbody tr").length === 3`)
		require.Contains(b, b.text(), "3 steps. mark as compromised: 1; revoke the client key: 1; move the incident: 1.")
		require.Contains(b, b.text(), "Leaked <b>key")
		b.inspect("contain-plan")
		got, err := s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.NotEqual(s, vault.Compromised, got.Status, "a dry run does nothing")

		_, _, err = s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "meanwhile"})
		require.NoError(s, err)
		b.submitIn(`#contain-act`, "note", "found in a paste")
		b.until(`document.querySelectorAll("#steps tbody tr").length === 4`)
		require.Contains(b, b.text(), "nothing was contained")
		require.Contains(b, b.text(), "meanwhile")
		got, err = s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.NotEqual(s, vault.Compromised, got.Status)
		b.submitIn(`#contain-act`)
		b.until(`location.search === "?done=contained"`)
		require.Contains(b, b.text(), "found in a paste")
		b.inspect("contained")
		got, err = s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.Equal(s, vault.Compromised, got.Status)
		keys, _, err := s.trains.ListKeys(s.Context(), boss, "web", identity.KeyFilter{})
		require.NoError(s, err)
		for _, k := range keys {
			require.NotNil(s, k.RevokedAt, k.Name)
		}
	})
}

// TestContainByKeyboard: without a pointer.
func TestContainByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		i, _ := s.leaked()
		k := s.typist()
		k.open("/incidents/" + i.ID)
		k.signIn("ada@example.com", planted)
		k.until(`document.querySelector('a[href$="/contain"]')`)
		k.content()
		k.enter(`#links a[href$="/contain"]`)
		k.until(`document.querySelector("#contain-scope")`)
		k.content()
		k.tab(`#credential_ids-0`)
		k.press(" ")
		k.enter(`#contain-scope button`)
		k.until(`document.querySelectorAll("#steps tbody tr").length === 2`)
		k.content()
		k.tab(`#note`)
		k.tab(`#contain-act button.danger`)
		k.press(kb.Enter)
		k.until(`location.search === "?done=contained"`)
	})
}

// TestContainByRole: who may not contain sees no way to it, and is refused when they force one; nothing is contained that was not seen, by nobody without a proof.
func TestContainByRole(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		i, c := s.leaked()
		here := "/incidents/" + i.ID
		scope := url.Values{"look": {"yes"}, "train_ids": {"web"}, "credential_ids": {c.ID}}
		for role, may := range map[identity.Role]bool{identity.Operator: true, identity.Auditor: false, identity.Member: false} {
			cookie := s.person(role)
			require.Equal(s, may, strings.Contains(s.do("GET", here, nil, "Cookie", cookie).text, here+"/contain"), role)
			a := s.do("GET", here+"/contain?"+scope.Encode(), nil, "Cookie", cookie)
			require.Equal(s, may, a.StatusCode == http.StatusOK, "%s %d", role, a.StatusCode)
			require.Equal(s, may, strings.Contains(a.text, "Do exactly this"), role)
			require.NotContains(s, a.text, "more_user_ids", "operators contain no people")
			form := s.form(cookie, "/account").Get("form")
			forced := url.Values{"form": {form}, "train_ids": {"web"}, "plan": {"*"}}
			if !may {
				require.Equal(s, http.StatusForbidden, s.do("POST", here+"/contain", forced, "Cookie", cookie).StatusCode, role)
				continue
			}
			forced.Set("user_ids", "user_00000000000000000000000000")
			require.Equal(s, http.StatusForbidden, s.do("POST", here+"/contain", forced, "Cookie", cookie).StatusCode, "people need users:write")
		}
		form := s.form(cookie, "/account").Get("form")
		for _, tag := range []string{"", "*", `"x", *`, `"x"`} {
			a := s.do("POST", here+"/contain", url.Values{"form": {form}, "train_ids": {"web"}, "plan": {tag}}, "Cookie", cookie)
			require.Equal(s, http.StatusPreconditionFailed, a.StatusCode, "%q was never shown", tag)
		}
		require.Equal(s, http.StatusForbidden, s.do("POST", here+"/contain", url.Values{"train_ids": {"web"}}, "Cookie", cookie).StatusCode, "without the form's token")
		a := s.do("GET", here+"/contain?look=yes", nil, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, "needs something to contain")
		s.weigh(cookie, here+"/contain?"+scope.Encode())
		s.age()
		a = s.do("GET", here+"/contain?"+scope.Encode(), nil, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.True(s, strings.HasPrefix(a.Header.Get("Location"), "/step-up?next="), a.Header.Get("Location"))
		a = s.do("POST", here+"/contain", url.Values{"form": {form}, "train_ids": {"web"}, "plan": {`"x"`}}, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.Contains(s, a.Header.Get("Location"), "train_ids")
		got, err := s.incidents.Get(s.Context(), boss, i.ID)
		require.NoError(s, err)
		require.Equal(s, incident.Investigating, got.Status)
	})
}

// TestContainNowInABrowser: from the list of incidents, without one: the dry run opens nothing, and the act opens the incident that is contained and does exactly that.
func TestContainNowInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		_, c := s.leaked()
		b := s.window(scripts)
		b.signInHere("/incidents")
		b.click(`a[href="/incidents/~contain"]`)
		b.until(`document.querySelector("#contain-scope")`)
		b.inspect("contain-now")
		b.submitIn(`#contain-scope`, "title", "Laptop gone", "severity", "critical", "more_credential_ids", c.ID+", cred_none")
		b.until(`document.querySelector(".alert")`)
		require.Contains(b, b.text(), "Credentials: must be the id of a credential that there is.")
		require.Equal(b, "Laptop gone", b.js(`document.querySelector('[name="title"]').value`), "what was typed is kept")
		b.submitIn(`#contain-scope`, "more_credential_ids", c.ID, "more_train_ids", "web")
		b.until(`document.querySelectorAll("#steps tbody tr").length === 3`)
		require.Contains(b, b.text(), "3 steps. open an incident: 1; mark as compromised: 1; revoke the client key: 1.")
		b.inspect("contain-now-plan")
		list, _, err := s.incidents.List(s.Context(), boss, incident.Filter{})
		require.NoError(s, err)
		require.Len(s, list, 1, "a dry run opens nothing")

		_, _, err = s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "meanwhile"})
		require.NoError(s, err)
		b.submitIn(`#contain-act`, "note", "left in a train")
		b.until(`document.querySelectorAll("#steps tbody tr").length === 4`)
		require.Contains(b, b.text(), "nothing was contained")
		b.submitIn(`#contain-act`)
		b.until(`location.search === "?done=contained"`)
		require.Contains(b, b.text(), "Laptop gone")
		require.Contains(b, b.text(), "left in a train")
		list, _, err = s.incidents.List(s.Context(), boss, incident.Filter{Status: incident.Contained})
		require.NoError(s, err)
		require.Len(s, list, 1)
		require.Equal(s, incident.Critical, list[0].Severity)
		require.Equal(s, []string{c.ID}, list[0].Linked(incident.OfCredential))
		got, err := s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(s, err)
		require.Equal(s, vault.Compromised, got.Status)
	})
}

// TestContainRotatesOnItsPage: the choice stays with the dry run and the act, what cannot be renewed from here is due at once, and its pages say why.
func TestContainRotatesOnItsPage(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		i, c := s.leaked()
		here := "/incidents/" + i.ID + "/contain"
		form := url.Values{"form": {s.form(cookie, "/account").Get("form")}, "look": {"yes"}, "credential_ids": {c.ID}, "credentials": {"rotate"}}
		a := s.do("POST", here, form, "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode)
		require.Contains(s, a.text, "mark as compromised: 1; make it due to be rotated at once: 1; move the incident: 1.")
		act := formsOf(here, a.text)
		n := slices.IndexFunc(act, func(one asked) bool { return one.values.Has("plan") })
		require.Equal(s, "rotate", act[n].values.Get("credentials"))
		values := act[n].values
		values.Set("credentials", "")
		require.Equal(s, http.StatusPreconditionFailed, s.do("POST", here, values, "Cookie", cookie).StatusCode, "that is another plan")
		values.Set("credentials", "rotate")
		a = s.do("POST", here, values, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		require.Contains(s, s.do("GET", "/due?within=0", nil, "Cookie", cookie).text, "at once: it was contained")
		require.Contains(s, s.do("GET", "/credentials/"+c.ID, nil, "Cookie", cookie).text, "at once: it was contained")
		a = s.do("POST", here, url.Values{"form": form["form"], "look": {"yes"}, "train_ids": {"web"}, "credentials": {"rotate"}}, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, "credentials: needs credential_ids to rotate.")
	})
}

// TestContainNowByRole: who may not contain is not led to it, and is refused when they force it; without an incident too nothing is contained that was not seen.
func TestContainNowByRole(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		_, c := s.leaked()
		const here = "/incidents/~contain"
		for role, may := range map[identity.Role]bool{identity.Operator: true, identity.Auditor: false, identity.Member: false} {
			cookie := s.person(role)
			require.Equal(s, may, strings.Contains(s.do("GET", "/incidents", nil, "Cookie", cookie).text, here), role)
			a := s.do("GET", here+"?look=yes&credential_ids="+c.ID, nil, "Cookie", cookie)
			require.Equal(s, may, a.StatusCode == http.StatusOK, "%s %d", role, a.StatusCode)
			require.Equal(s, may, strings.Contains(a.text, "Do exactly this"), role)
			require.NotContains(s, a.text, "more_user_ids", "operators contain no people")
			form := s.form(cookie, "/account").Get("form")
			a = s.do("POST", here, url.Values{"form": {form}, "user_ids": {"user_00000000000000000000000000"}, "plan": {"*"}}, "Cookie", cookie)
			require.Equal(s, http.StatusForbidden, a.StatusCode, role)
			a = s.do("POST", here, url.Values{"form": {form}, "credential_ids": {c.ID}, "look": {"yes"}}, "Cookie", cookie)
			require.Equal(s, may, a.StatusCode == http.StatusOK, "%s %d", role, a.StatusCode)
		}
		form := s.form(cookie, "/account").Get("form")
		for _, tag := range []string{"", "*", `"x", *`, `"x"`} {
			a := s.do("POST", here, url.Values{"form": {form}, "train_ids": {"web"}, "plan": {tag}}, "Cookie", cookie)
			require.Equal(s, http.StatusPreconditionFailed, a.StatusCode, "%q was never shown", tag)
		}
		a := s.do("POST", here, url.Values{"form": {form}, "train_ids": {"web"}, "look": {"yes"}, "title": {strings.Repeat("x", 201)}}, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, "title: is too long")
		require.Equal(s, http.StatusForbidden, s.do("POST", here, url.Values{"train_ids": {"web"}, "look": {"yes"}}, "Cookie", cookie).StatusCode, "without the form's token")
		s.weigh(cookie, here+"?look=yes&train_ids=web")
		s.age()
		a = s.do("POST", here, url.Values{"form": {form}, "train_ids": {"web"}, "title": {"Lost"}, "plan": {`"x"`}}, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.Contains(s, a.Header.Get("Location"), "train_ids")
		require.Contains(s, a.Header.Get("Location"), "Lost")
		list, _, err := s.incidents.List(s.Context(), boss, incident.Filter{})
		require.NoError(s, err)
		require.Len(s, list, 1)
	})
}

// TestContainAfterAStepUp: a scope that is too long for an address goes through the step-up as a form, with the note, and nothing of it is lost; the password is in no page.
func TestContainAfterAStepUp(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		i, _ := s.leaked()
		scope := url.Values{}
		for n := range 40 { // a train has ten at most
			slug := "train" + strconv.Itoa(n/10)
			if n%10 == 0 {
				_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: slug})
				require.NoError(s, err)
			}
			k, _, err := s.trains.IssueKey(s.Context(), boss, slug, identity.KeyDraft{Name: "k" + strconv.Itoa(n)})
			require.NoError(s, err)
			scope.Add("key_ids", k.ID)
		}
		for _, here := range []string{"/incidents/" + i.ID + "/contain", "/incidents/~contain"} {
			form := maps.Clone(scope)
			form.Set("form", s.form(cookie, "/account").Get("form"))
			form.Set("look", "yes")
			form.Set("note", "a long list")
			s.age()
			a := s.do("POST", here, form, "Cookie", cookie)
			require.Equal(s, http.StatusOK, a.StatusCode, a.Header.Get("Location"))
			forms := formsOf(here, a.text)
			n := slices.IndexFunc(forms, func(one asked) bool { return one.action == here+"/prove" })
			require.GreaterOrEqual(s, n, 0, a.text)
			prove := forms[n].values
			carried := func(text string) []string { // formsOf has one value of a name
				var out []string
				for _, m := range regexp.MustCompile(`name="key_ids" value="([^"]+)"`).FindAllStringSubmatch(text, -1) {
					if !slices.Contains(out, m[1]) {
						out = append(out, m[1])
					}
				}
				return out
			}
			prove["key_ids"] = carried(a.text)
			require.ElementsMatch(s, scope["key_ids"], prove["key_ids"])
			prove.Set("password", "not this one")
			a = s.do("POST", here+"/prove", prove, "Cookie", cookie)
			require.Equal(s, http.StatusForbidden, a.StatusCode)
			require.NotContains(s, a.text, "not this one")
			require.ElementsMatch(s, scope["key_ids"], carried(a.text), "what was chosen is kept also after a wrong password")
			prove.Set("password", planted)
			a = s.do("POST", here+"/prove", prove, "Cookie", cookie)
			require.Equal(s, http.StatusOK, a.StatusCode)
			require.NotContains(s, a.text, planted)
			require.Contains(s, a.text, "a long list")
			cookie = s.cookie(a)
			forms = formsOf(here, a.text)
			act := forms[slices.IndexFunc(forms, func(one asked) bool { return one.values.Has("plan") })].values
			act["key_ids"] = carried(a.text)
			require.ElementsMatch(s, scope["key_ids"], act["key_ids"])
			if here == "/incidents/~contain" {
				continue // they are revoked by now
			}
			a = s.do("POST", here, act, "Cookie", cookie)
			require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
			keys, _, err := s.trains.ListKeys(s.Context(), boss, "train3", identity.KeyFilter{Status: identity.StatusRevoked, Limit: 100})
			require.NoError(s, err)
			require.Len(s, keys, 10)
		}
		// A short scope comes back by its address, which is no place for a note: with one it goes by the form as well.
		here := "/incidents/" + i.ID + "/contain"
		short := url.Values{"form": {s.form(cookie, "/account").Get("form")}, "look": {"yes"}, "train_ids": {"web"}}
		s.age()
		a := s.do("POST", here, short, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		short.Del("look")
		short.Set("plan", `"seen"`)
		short.Set("note", "found in a paste")
		a = s.do("POST", here, short, "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode, a.Header.Get("Location"))
		forms := formsOf(here, a.text)
		prove := forms[slices.IndexFunc(forms, func(one asked) bool { return one.action == here+"/prove" })].values
		require.Equal(s, []string{"found in a paste", "web"}, []string{prove.Get("note"), prove.Get("train_ids")})
		prove.Set("password", planted)
		a = s.do("POST", here+"/prove", prove, "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode)
		require.Contains(s, a.text, "found in a paste")
		cookie = s.cookie(a)
		without := maps.Clone(scope)
		without.Set("password", planted)
		require.Equal(s, http.StatusForbidden, s.do("POST", "/incidents/~contain/prove", without, "Cookie", cookie).StatusCode, "without the form's token")
	})
}
