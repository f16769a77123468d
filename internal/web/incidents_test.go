package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/vault"
)

// TestIncidentsInABrowser: an incident is opened with what it touches, noted about, moved along its workflow and edited; the board has it where it is.
func TestIncidentsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		client := s.home(vault.HomeClient, vault.HomeMeta{Name: "Northwind"})
		c := s.stored(vault.APIKey, vault.Meta{Name: "Leaked key", ClientID: client.ID})
		b := s.window(scripts)
		b.signInHere("/incidents")
		b.until(`document.querySelectorAll("#board section").length === 4`)
		b.inspect("incidents-empty")
		b.click(`a[href="/incidents/~new"]`)
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("incident-dialog")
		}
		b.submitIn(`form[method="post"][action="/incidents"]`, "title", "Key <b>in a paste</b>", "credential_ids", "cred_none", "severity", "high", "incident_type", "credential_leak", "client_id", client.ID)
		b.until(`document.querySelector("#credential_ids-error")`)
		b.submitIn(`form[method="post"][action="/incidents"]`, "credential_ids", c.ID)
		b.until(`location.search === "?done=opened" && document.querySelectorAll("#touched tbody tr").length === 2`)
		require.Contains(b, b.text(), "Key <b>in a paste</b>")
		here := b.js(`location.pathname`)
		b.inspect("incident")
		b.click(`a[href$="/note"]`)
		b.submitIn(`form[action$="/note"]`, "text", "Found by a colleague")
		b.until(`location.search === "?done=noted"`)
		require.Contains(b, b.text(), "Found by a colleague")
		b.click(`a[href$="/move?to=contained"]`)
		b.submitIn(`form[action$="/move"]`, "note", "the key was rotated")
		b.until(`location.search === "?done=moved" && document.querySelector('a[href$="/move?to=resolved"]')`)
		require.Contains(b, b.text(), "the key was rotated")
		b.click(`a[href$="/edit"]`)
		b.submitIn(`form[action$="/edit"]`, "findings", "It was in a log")
		b.until(`location.search === "?done=changed"`)
		b.open("/incidents")
		b.until(`document.querySelector('section[aria-label="Contained"] a[href="` + here + `"]')`)
		b.inspect("incidents")
		b.open("/incidents?status=contained")
		b.until(`document.querySelectorAll("#incidents tbody tr").length === 1`)
		b.inspect("incidents-list")
		b.open(here)
		b.click(`a[href$="/delete"]`)
		b.submitIn(`form[action$="/delete"]`)
		b.until(`location.pathname === "/incidents" && document.querySelector(".flash")`)
	})
}

// TestIncidentPagesByRole: what a role may not do is not shown, and refused when forced.
func TestIncidentPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		i, err := s.incidents.Open(s.Context(), boss, incident.Draft{Meta: incident.Meta{Title: "Something leaked"}})
		require.NoError(s, err)
		here := "/incidents/" + i.ID
		for role, may := range map[identity.Role]struct{ read, write, remove bool }{
			identity.Operator: {true, true, false}, identity.Auditor: {true, false, false}, identity.Member: {false, false, false}, identity.Administrator: {true, true, true},
		} {
			cookie := s.person(role)
			require.Equal(s, may.read, strings.Contains(s.do("GET", "/", nil, "Cookie", cookie).text, `href="/incidents"`), role)
			for _, path := range []string{"/incidents", "/incidents?status=investigating", here} {
				a := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, may.read, a.StatusCode == http.StatusOK, "%s %s", role, path)
				require.Equal(s, may.read, strings.Contains(a.text, "Something leaked"), "%s %s", role, path)
				if may.read {
					s.weigh(cookie, path)
				}
			}
			page := s.do("GET", here, nil, "Cookie", cookie)
			require.Equal(s, may.write, strings.Contains(page.text, "/move?to="), role)
			require.Equal(s, may.remove, strings.Contains(page.text, here+"/delete"), role)
			form := s.form(cookie, "/account").Get("form")
			for path, ok := range map[string]bool{"/incidents": may.write, here + "/note": may.write, here + "/edit": may.write} {
				a := s.do("POST", path, url.Values{"form": {form}, "title": {"Something leaked"}, "text": {"x"}, "severity": {"low"}, "incident_type": {"other"}}, "Cookie", cookie)
				require.Equal(s, ok, a.StatusCode == http.StatusSeeOther, "%s %s %d %s", role, path, a.StatusCode, a.text)
				require.Equal(s, !ok, a.StatusCode == http.StatusForbidden, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			}
			if !may.remove {
				require.Equal(s, http.StatusForbidden, s.do("POST", here+"/delete", url.Values{"form": {form}}, "Cookie", cookie).StatusCode, role)
			}
		}
	})
}
