package web_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/vault"
)

// TestUpkeepByKeyboard: a client is made and gets a service, what is due is narrowed and picked, and what cannot be deleted says why, by keyboard alone.
func TestUpkeepByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		s.stored(vault.APIKey, vault.Meta{Name: "Shop key", RotateEvery: 10})
		k := s.typist()
		k.open("/clients")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/clients"`)
		k.content()
		k.enter(`#clients .empty a`)
		k.until(`document.querySelector("dialog[open] form")`)
		k.caught()
		k.escapes(`#clients .empty a`)
		k.press(kb.Enter)
		k.has(`dialog [name="name"]`)
		k.press("Northwind" + kb.Enter)
		k.until(`location.pathname.startsWith("/clients/") && location.search === "?done=made"`)
		client := k.js(`location.pathname`)
		k.content()
		k.enter(`#of-services .empty a`)
		k.until(`document.querySelector('form[action="/services"]')`)
		k.fill(`form[method="post"][action="/services"]`, "name", "Shop", "url", "no address")
		k.press(kb.Enter)
		k.until(`document.querySelector("#url-error")`)
		k.has("#url") // what is wrong has the focus
		k.clear()
		k.press("https://shop.example.com" + kb.Enter)
		k.until(`location.pathname.startsWith("/services/") && location.search === "?done=made"`)

		k.open(client)
		k.content()
		k.enter(`.heading a[href$="/delete"]`)
		k.until(`document.body.innerText.includes("cannot be deleted while something belongs to it")`)

		k.open("/due")
		k.content()
		k.tab(`.filter select[name="within"]`)
		k.press("o") // overdue
		k.until(`document.querySelector("#due .empty")`)
		k.has(`.filter select[name="within"]`)
		k.press(kb.ArrowUp) // within 30 days
		k.until(`document.querySelectorAll("#due tbody tr").length === 1`)
		k.tick(`#due tbody input[type="checkbox"]`)
		k.enter(`#bulk button`)
		k.until(`location.pathname === "/credentials/~bulk" && document.querySelectorAll("#rotations tbody tr").length === 1`)
	})
}

// TestIncidentsByKeyboard: an incident is opened, noted about and moved along, and found again on the board, by keyboard alone.
func TestIncidentsByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		k := s.typist()
		k.open("/incidents")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/incidents"`)
		k.content()
		open := `.heading a[href="/incidents/~new"]`
		k.enter(open)
		k.until(`document.querySelector("dialog[open] form")`)
		k.escapes(open)
		k.press(kb.Enter)
		k.has(`dialog [name="title"]`)
		k.press("A key in a paste")
		k.tab(`dialog select[name="severity"]`)
		k.press("h")
		require.Equal(k, "high", k.js(`document.activeElement.value`))
		k.enter(`dialog button.primary`)
		k.until(`location.search === "?done=opened"`)
		here := k.js(`location.pathname`)
		k.content()
		k.enter(`a[href$="/note"]`)
		k.fill(`form[action$="/note"]`, "text", "Found by a colleague")
		k.enter(`form[action$="/note"] button.primary`)
		k.until(`location.search === "?done=noted"`)
		k.content()
		k.enter(`a[href$="/move?to=contained"]`)
		k.fill(`form[action$="/move"]`, "note", "the key was rotated")
		k.enter(`form[action$="/move"] button.primary`)
		k.until(`location.search === "?done=moved"`)
		i, err := s.incidents.Get(s.Context(), boss, strings.TrimPrefix(here, "/incidents/"))
		require.NoError(s, err)
		require.Equal(s, incident.Contained, i.Status)
		k.goes("i", "/incidents")
		k.content()
		k.enter(`section[aria-label="Contained"] a[href="` + here + `"]`)
		k.until(`location.pathname === ` + quoted(here))
	})
}

// TestTransferByKeyboard: files are looked at and imported, and what one may reveal is exported with what was wrong said at its field, by keyboard alone;
// the choosing of a file is the browser's own.
func TestTransferByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		path := filepath.Join(s.TempDir(), "shop.env")
		require.NoError(s, os.WriteFile(path, []byte(importedEnv), 0o600))
		k := s.typist()
		k.open("/import")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/import"`)
		k.content()
		k.tab(`#files`)
		must(k.browser, "choose a file", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{path}))
		k.enter(`#import button[value="look"]`)
		k.until(`document.querySelectorAll("#entries tbody tr").length === 2`)
		k.enter(`button[value="store"]`)
		k.until(`document.querySelector("#report h2").textContent === "Imported"`)
		list, _, err := s.vault.List(s.Context(), boss, vault.Filter{})
		require.NoError(s, err)
		require.Len(s, list, 2)

		k.open("/export")
		k.fill(`form[action="/export"]`, "reason", "to the new server", "passphrase", "a long passphrase of ours", "again", "another")
		k.press(kb.Enter)
		k.until(`document.querySelector("#again-error")`)
		k.has("#again")
	})
}

// TestFacetsInABrowser: what a search of the log finds is counted, each value leads to the search for it, with scripts and without and by keyboard.
func TestFacetsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		s.happened(5)
		require.NoError(s, s.audit.Flush(s.Context()))
		b := s.window(scripts)
		b.signInHere("/audit")
		b.click(`a[href="/audit/facets"]`)
		b.until(`location.pathname === "/audit/facets" && document.querySelector("#actions tbody tr")`)
		b.inspect("audit-facets")
		b.click(`#actions a[href="/audit?action=credential.update"]`)
		b.until(`location.pathname === "/audit" && document.querySelectorAll("#records tbody tr").length === 5`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "<img src=x")
		s.weigh(s.signIn(""), "/audit/facets")
	})
}

// TestFacetsByKeyboard: the same, by keyboard alone.
func TestFacetsByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		s.happened(3)
		require.NoError(s, s.audit.Flush(s.Context()))
		k := s.typist()
		k.open("/audit")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/audit"`)
		k.content()
		k.enter(`a[href="/audit/facets"]`)
		k.until(`location.pathname === "/audit/facets"`)
		k.content()
		k.enter(`#actions a[href="/audit?action=credential.update"]`)
		k.until(`location.pathname === "/audit" && document.querySelectorAll("#records tbody tr").length === 3`)
	})
}

// TestAMenuClosesBehindTheFocus: a menu that Tab leaves closes, in either direction, and not while the focus is in it.
func TestAMenuClosesBehindTheFocus(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		k := s.typist()
		k.open("/account")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/account"`)
		open := func() {
			k.Helper()
			k.press(kb.Enter)
			k.until(`document.querySelector(".person").open`)
		}
		k.tab(`.person summary`)
		open()
		k.tab(`.person button[value="dark"]`)
		require.Equal(k, "true", k.js(`String(document.querySelector(".person").open)`))
		k.press(kb.Tab)
		k.until(`!document.querySelector(".person").open`)
		require.Equal(k, "false", k.js(`String(!!document.activeElement.closest(".person"))`))
		k.tabBack(`.person summary`)
		open()
		k.back()
		k.until(`!document.querySelector(".person").open`)
	})
}

// TestAProviderThatCannotBeAsked: an issuer that does not answer is said beside the field that names it, with what else was typed, and no secret comes back.
func TestAProviderThatCannotBeAsked(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		gone := "http://127.0.0.1:1"
		form := s.form(cookie, "/connections/providers/~new", "name", "work", "title", "Our own", "issuer", gone, "client_id", "client-1", "client_secret", "planted-client-secret-9", "scopes", "read")
		a := s.do("POST", "/connections/providers", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, a.text)
		require.Contains(s, a.text, `id="issuer-error"`)
		kept := fields(a.text)
		require.Equal(s, []string{"work", "Our own", gone, "client-1"}, []string{kept["name"], kept["title"], kept["issuer"], kept["client_id"]})
		require.NotContains(s, a.text, "planted-client-secret-9")
		require.NotContains(s, s.log.String(), "planted-client-secret-9")
	})
}

// TestANameOfASecretFieldIsMendedBesideIt: what is wrong with the name stands beside the name, what is wrong with the value beside the value.
func TestANameOfASecretFieldIsMendedBesideIt(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		send := func(path string, form ...string) string {
			s.Helper()
			at := path
			if path == "/credentials" {
				at = "/credentials/~new?type=custom"
			}
			a := s.do("POST", path, s.form(cookie, at, form...), "Cookie", cookie)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, a.text)
			require.NotContains(s, a.text, "planted-pin")
			return a.text
		}
		long := strings.Repeat("planted-pin", 30_000)
		c := s.keep(vault.Custom, vault.Meta{Name: "Door"}, map[string]string{"pin": "planted-pin-0"})
		for _, path := range []string{"/credentials", "/credentials/" + c.ID + "/rotate"} {
			wrong := send(path, "type", "custom", "name", "Pins", "field", "Not A Name", "secrets", "planted-pin-1")
			require.Contains(s, wrong, `id="field-error"`, path)
			require.NotContains(s, wrong, `id="secrets-error"`, path)
			wrong = send(path, "type", "custom", "name", "Pins", "field", "code", "secrets", long)
			require.Contains(s, wrong, `id="secrets-error"`, path)
			require.NotContains(s, wrong, `id="field-error"`, path)
		}
		require.Contains(s, send("/credentials/"+c.ID+"/rotate", "secrets/pin", long), `id="secrets/pin-error"`)
	})
}
