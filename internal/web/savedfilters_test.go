package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// TestFiltersAreKeptInABrowser: a person narrows a list, keeps the filter under a name, comes back to it, and deletes it; with scripts and without.
func TestFiltersAreKeptInABrowser(t *testing.T) {
	for name, scripts := range map[string]bool{"scripts": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			each(t, func(s *site) {
				s.administrator()
				for _, slug := range []string{"web", "batch"} {
					_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: slug})
					require.NoError(s, err)
				}
				b := s.window(scripts)
				b.signInHere("/trains")
				require.Equal(b, "null", b.js(`String(document.querySelector('a[href^="/filters/~new"]'))`), "there is nothing to keep yet")
				if scripts { // narrowed as one types: the link below the list goes along
					b.js(`const q = document.querySelector(".filter input[name=q]"); q.value = "we"; q.dispatchEvent(new Event("input", {bubbles: true})); ""`)
				} else {
					b.submitIn(`form.filter`, "q", "we")
				}
				b.until(`document.querySelector('a[href="/filters/~new?list=trains&q=we"]')`)
				b.click(`a[href^="/filters/~new"]`)
				if scripts {
					b.until(`document.querySelector("dialog[open] input[name=name]")`)
					b.inspect("filter-dialog")
				}
				b.submitIn(`form[action="/filters"]`, "name", "Web only")
				b.until(`location.pathname === "/trains" && location.search === "?done=filter-kept&q=we"`)
				require.Equal(b, "Web only page", b.js(`[...document.querySelectorAll(".kept [aria-current]")].map((a) => a.textContent + " page").join()`))
				b.open("/trains")
				b.click(`.kept a`)
				b.until(`location.search === "?q=we" && document.querySelectorAll("#trains tbody tr").length === 1`)
				b.click(`.kept a.manage`)
				b.until(`location.pathname === "/filters"`)
				b.inspect("filters")
				b.click(`a[href$="/delete"]`)
				b.submitIn(`form[action$="/delete"]`)
				b.until(`location.search === "?done=deleted"`)
				require.Contains(b, b.text(), "You keep no filter yet")
			})
		})
	}
}

// TestKeptFiltersBelongToOnePerson: of every list, whatever else stands in the address is left out; another person sees, renames and deletes none of them,
// and what looks like a secret is not kept.
func TestKeptFiltersBelongToOnePerson(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for path, query := range map[string]string{
			"/credentials": "status=expired&q=<b>", "/accounts": "status=disabled", "/trains": "q=web", "/connections": "health=needs_login", "/people": "role=member", "/groups": "q=a",
			"/service-accounts": "q=b", "/audit": "outcome=refused",
		} {
			page := s.do("GET", path+"?"+query+"&cursor=&done=x&secret=planted-extra", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, page.StatusCode, path)
			found := regexp.MustCompile(`href="(/filters/~new\?[^"]+)"`).FindStringSubmatch(page.text)
			if found == nil { // a list without rows has no foot
				list := strings.TrimPrefix(path, "/")
				found = []string{"", "/filters/~new?list=" + list + "&amp;" + query}
			}
			ask := strings.ReplaceAll(found[1], "&amp;", "&")
			require.NotContains(s, ask, "planted-extra", path)
			form := s.form(cookie, ask, "name", "Mine <i>")
			kept := fields(s.do("GET", ask, nil, "Cookie", cookie).text)
			form.Set("list", kept["list"])
			form.Set("query", kept["query"]+"&secret=planted-extra")
			done := s.do("POST", "/filters", form, "Cookie", cookie)
			require.Equal(s, http.StatusSeeOther, done.StatusCode, done.text)
			require.True(s, strings.HasPrefix(done.Header.Get("Location"), path+"?"), done.Header.Get("Location"))
			require.Contains(s, s.do("GET", done.Header.Get("Location"), nil, "Cookie", cookie).text, `aria-current="true">Mine &lt;i&gt;`, path)
			require.Equal(s, http.StatusConflict, s.do("POST", "/filters", form, "Cookie", cookie).StatusCode, "the name is taken")
		}
		var ids, queries []string
		require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error {
			if err := tx.Select(&ids, `SELECT id FROM saved_filters ORDER BY id`); err != nil {
				return err
			}
			return tx.Select(&queries, `SELECT query FROM saved_filters`)
		}))
		require.Len(s, ids, 8)
		require.NotContains(s, strings.Join(queries, " "), "planted")

		form := s.form(cookie, "/account", "list", "trains", "query", "q=sk-ant-api03-"+strings.Repeat("aB3dE6gH9j", 9), "name", "Key")
		refused := s.do("POST", "/filters", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, refused.StatusCode)
		for _, bad := range []url.Values{{"list": {"passwords"}, "query": {"q=a"}}, {"list": {"trains"}, "query": {"other=a"}}, {"list": {"trains"}, "query": {"%"}}} {
			form := s.form(cookie, "/account", "name", "x", "list", bad.Get("list"), "query", bad.Get("query"))
			require.Equal(s, http.StatusNotFound, s.do("POST", "/filters", form, "Cookie", cookie).StatusCode, bad)
		}

		other := s.person(identity.Operator)
		require.NotContains(s, s.do("GET", "/filters", nil, "Cookie", other).text, "Mine")
		require.NotContains(s, s.do("GET", "/trains", nil, "Cookie", other).text, "Mine")
		for path, fill := range map[string][]string{"/rename": {"name", "Taken"}, "/delete": nil} {
			require.Equal(s, http.StatusNotFound, s.do("GET", "/filters/"+ids[0]+path, nil, "Cookie", other).StatusCode, path)
			require.Equal(s, http.StatusNotFound, s.do("POST", "/filters/"+ids[0]+path, s.form(other, "/account", fill...), "Cookie", other).StatusCode, path)
		}
		again := s.do("POST", "/filters/"+ids[0]+"/rename", s.form(cookie, "/account", "name", " "), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, again.StatusCode)
		require.Contains(s, again.text, `id="name-error"`)
		require.Equal(s, "/filters?done=renamed", s.do("POST", "/filters/"+ids[0]+"/rename", s.form(cookie, "/account", "name", "New"), "Cookie", cookie).Header.Get("Location"))
		require.Equal(s, http.StatusForbidden, s.do("POST", "/filters/"+ids[0]+"/delete", url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
		require.Contains(s, s.do("GET", "/filters", nil, "Cookie", cookie).text, ">New<")
		s.weigh(cookie, "/filters")
	})
}
