package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/secret"
)

// TestBlastRadiusInABrowser: from an incident to who used what it touches, and on to what they did besides.
func TestBlastRadiusInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		i, c := s.leaked()
		_, err := s.incidents.Update(s.Context(), boss, i.ID, incident.Patch{IncidentDate: ptrTo(time.Now().Add(-time.Hour))}, "")
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/incidents/" + i.ID)
		b.click(`a[href$="/blast-radius"]`)
		b.until(`document.querySelector("#by-` + c.ID + ` tbody tr")`)
		require.Contains(b, b.text(), "Leaked <b>key (credential)")
		require.Contains(b, b.text(), "web (train)")
		b.inspect("incident-radius")
		b.open("/audit/blast-radius?subject=web")
		b.until(`document.querySelector("table tbody tr")`)
		b.submitIn(`form.filter`, "subject", c.ID)
		b.until(`document.querySelector("#by-` + c.ID + ` tbody tr")`)
		b.inspect("radius")
		b.open("/audit/blast-radius?subject=nothing")
		b.until(`document.querySelector(".alert")`)
		require.Contains(b, b.text(), "There is no such person")
		b.open("/audit/blast-radius?subject=web&from=never")
		b.until(`document.querySelector("#from-error")`)
		b.inspect("radius-error")
	})
}

// TestBlastRadiusByKeyboard: from the page of a train to who used what of one of its keys, then of the train itself, and on to the page that contains it: without a pointer.
func TestBlastRadiusByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		s.leaked()
		k := s.typist()
		k.open("/trains/web")
		k.signIn("ada@example.com", planted)
		k.until(`document.querySelector("#key-list tbody tr")`)
		k.content()
		k.enter(`#key-list a[href^="/audit/blast-radius?subject=key_"]`)
		k.until(`location.pathname === "/audit/blast-radius"`)
		k.until(`document.body.textContent.includes("agent (key)")`)
		k.content()
		k.tab(`[name="subject"]`)
		k.clear()
		k.press("web" + kb.Enter)
		k.until(`document.querySelector('[id^="of-train_"]')`)
		k.content()
		k.enter(`a[href^="/incidents/~contain?train_ids="]`)
		k.until(`document.querySelector("#contain-scope")`)
		require.Contains(k, k.js(`document.querySelector('[name="more_train_ids"]').value`), "train_")
	})
}

// TestPagesLeadToBlastRadii: those of a credential, a person, a service account, a train and its keys, for who may read the log, and for nobody else.
func TestPagesLeadToBlastRadii(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		_, c := s.leaked()
		keys, _, err := s.trains.ListKeys(s.Context(), boss, "web", identity.KeyFilter{})
		require.NoError(s, err)
		web, err := s.trains.GetTrain(s.Context(), boss, "web")
		require.NoError(s, err)
		bob, _, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(planted)})
		require.NoError(s, err)
		program, err := s.rooms.CreateServiceAccount(s.Context(), boss, identity.ServiceAccountDraft{Name: "ci"})
		require.NoError(s, err)
		auditor, operator := s.person(identity.Auditor), s.person(identity.Operator)
		for path, ids := range map[string][]string{"/credentials/" + c.ID: {c.ID}, "/people/" + bob.ID: {bob.ID}, "/service-accounts/" + program.ID: {program.ID}, "/trains/web": {web.ID, keys[0].ID}} {
			for _, id := range ids {
				to := "/audit/blast-radius?subject=" + id
				for role, may := range map[string]bool{cookie: true, auditor: true, operator: false} {
					require.Equal(s, may, strings.Contains(s.do("GET", path, nil, "Cookie", role).text, to), "%s %s", path, id)
				}
				a := s.do("GET", to, nil, "Cookie", cookie)
				require.Equal(s, http.StatusOK, a.StatusCode, to)
				require.Contains(s, a.text, `href="/incidents/~contain?`, to)
				a = s.do("GET", to, nil, "Cookie", auditor)
				require.Equal(s, http.StatusOK, a.StatusCode, to)
				require.NotContains(s, a.text, "~contain", "auditors contain nothing")
			}
		}
	})
}

func ptrTo[T any](v T) *T { return &v }

// TestBlastRadiusByRole: who may not read the log reads none of it here, and each look is on record.
func TestBlastRadiusByRole(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		i, c := s.leaked()
		paths := []string{"/audit/blast-radius", "/audit/blast-radius?subject=" + c.ID, "/incidents/" + i.ID + "/blast-radius?from=2020-01-01"}
		for role, may := range map[identity.Role]bool{identity.Auditor: true, identity.Operator: false, identity.Member: false} {
			cookie := s.person(role)
			for _, path := range paths {
				a := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, may, a.StatusCode == http.StatusOK, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, !may, a.StatusCode == http.StatusForbidden, "%s %s %d", role, path, a.StatusCode)
				if !may {
					require.NotContains(s, a.text, "Leaked")
				}
			}
		}
		for _, path := range paths {
			s.weigh(cookie, path)
		}
		a := s.do("GET", paths[1], nil, "Cookie", cookie)
		require.Contains(s, a.text, "Who did something to it")
		require.NotContains(s, a.text, planted)
		a = s.do("GET", paths[1]+"&cursor=planted", nil, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
	})
}
