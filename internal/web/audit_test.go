package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// happened puts events of somebody whose name is hostile into the log.
func (s *site) happened(n int) {
	s.Helper()
	for i := range n {
		require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
			return tx.Record(store.Event{
				Actor: store.Actor{Kind: "person", ID: fmt.Sprintf("user_%d", i%2), Name: `<script>alert(1)</script>`}, Action: store.CredentialUpdate,
				Target: store.Target{Kind: "credential", ID: "cred_x", Name: `"><img src=x>`}, Outcome: store.OutcomeOK, Reason: "<i>why</i>", RequestID: "req_of_test", IP: "192.0.2.1", UserAgent: `<b>Agent</b>`,
				Fields: []string{"<u>field</u>"}, Details: store.Details{store.Str("note", "<em>detail</em>")},
			})
		}))
	}
}

// TestAuditPages: the facets narrow, pages go on, a record has a page of its own with a proof that the server has checked, hostile text stays text, and
// each read is on record.
func TestAuditPages(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		s.happened(60)
		require.NoError(s, s.audit.Flush(s.Context()))
		get := func(path string) answer { return s.do("GET", path, nil, "Cookie", cookie) }
		rows := func(a answer) int { return strings.Count(a.text, `href="/audit/evt_`) }

		all := get("/audit?target=cred_x")
		require.Equal(s, http.StatusOK, all.StatusCode, all.text)
		require.Equal(s, 50, rows(all))
		for _, raw := range []string{"<script>alert", "<img src=x", "<i>why", "style=", "onclick"} {
			require.NotContains(s, all.text, raw)
		}
		next := regexp.MustCompile(`href="(/audit\?cursor=[^"]+)" rel="next"`).FindStringSubmatch(all.text)
		require.NotNil(s, next, all.text)
		second := get(strings.ReplaceAll(next[1], "&amp;", "&"))
		require.Equal(s, 10, rows(second))
		require.Contains(s, second.text, "First page")

		require.Equal(s, 30, rows(get("/audit?target=cred_x&actor=user_1")))
		require.Equal(s, 50, rows(get("/audit?action=credential.update&request_id=req_of_test")))
		require.Equal(s, 0, rows(get("/audit?target=cred_x&outcome=failed")))
		require.Contains(s, get("/audit?target=cred_x&outcome=failed").text, "no such record")
		require.Equal(s, 0, rows(get("/audit?target=cred_x&to=2020-01-01T00:00")))
		require.Equal(s, 50, rows(get("/audit?target=cred_x&from=2020-01-01T00:00&to="+url.QueryEscape(time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04")))))
		for path, want := range map[string]string{"/audit?from=yesterday": `id="from-error"`, "/audit?action=no.such": "audit action", "/audit?cursor=x": "cursor", "/audit?from=2026-01-02T00:00&to=2026-01-01T00:00": `id="from-error"`} {
			a := get(path)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, path)
			require.Contains(s, a.text, want, path)
		}

		id := regexp.MustCompile(`/audit/(evt_[a-z0-9_]+)`).FindStringSubmatch(all.text)[1]
		counted := get("/audit/facets?target=cred_x")
		require.Equal(s, http.StatusOK, counted.StatusCode, counted.text)
		require.Contains(s, get("/audit?target=cred_x").text, `href="/audit/facets?target=cred_x"`)
		require.Contains(s, counted.text, "60 records, all that were found")
		require.Contains(s, counted.text, `href="/audit?action=credential.update&amp;target=cred_x"`)
		require.Contains(s, counted.text, `href="/audit?actor=user_1&amp;target=cred_x"`)
		require.NotContains(s, counted.text, "<script>alert")
		require.NotContains(s, counted.text, "<img src=x")
		require.Contains(s, get("/audit/facets?target=cred_none").text, "There is none.")
		require.Equal(s, http.StatusUnprocessableEntity, get("/audit/facets?from=yesterday").StatusCode)
		stranger := s.do("GET", "/audit/facets", nil, "Cookie", s.person(identity.Member))
		require.Equal(s, http.StatusForbidden, stranger.StatusCode)
		one := get("/audit/" + id)
		require.Equal(s, http.StatusOK, one.StatusCode, one.text)
		require.Contains(s, one.text, ">proved")
		require.Contains(s, one.text, "&lt;em&gt;detail")
		require.Contains(s, one.text, `href="/audit?request_id=req_of_test"`)
		for _, raw := range []string{"<script>alert", "<img src=x", "<i>why", "<b>Agent", "<u>field", "<em>detail"} {
			require.NotContains(s, one.text, raw)
		}
		require.Equal(s, http.StatusNotFound, get("/audit/evt_00000000000000000000000000").StatusCode)
		require.Equal(s, http.StatusNotFound, get("/audit/nothing").StatusCode)

		reads, err := s.audit.Search(s.Context(), audit.Query{Action: store.AuditRead, Limit: 1000})
		require.NoError(s, err)
		acts := map[string]int{}
		for _, e := range reads.Events {
			act, _ := e.Details.Get("act")
			acts[act.Text()]++
		}
		require.Equal(s, map[string]int{"search": 9, "count": 2, "get": 1, "prove": 1, "[]": 1}, acts, "the last is a refusal")
	})
}

// TestAuditSealClaimsNoMoreThanWasChecked: signed is what a checkpoint covers; a record that none covers yet has no proof; nothing says verified.
func TestAuditSealClaimsNoMoreThanWasChecked(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		require.NoError(s, s.audit.Flush(s.Context()))
		require.Eventually(s, func() bool { return s.audit.Health().Signed > 0 }, 30*time.Second, 10*time.Millisecond)
		page := s.do("GET", "/audit", nil, "Cookie", cookie)
		require.Contains(s, page.text, "no checkpoint lies outside the database")
		require.Contains(s, page.text, "signalbox audit verify")
		require.NotContains(s, strings.ToLower(page.text), "verified")
	})
}

// TestAuditExportFromThePage: the page leads to the API's export with the same filters; without a fresh proof it asks for one first.
func TestAuditExportFromThePage(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		s.happened(1)
		page := s.do("GET", "/audit?target=cred_x", nil, "Cookie", cookie)
		link := regexp.MustCompile(`href="(/audit/export\?format=csv[^"]*)"`).FindStringSubmatch(page.text)
		require.NotNil(s, link, page.text)
		path := strings.ReplaceAll(link[1], "&amp;", "&") + "&from=2026-01-02T03:04"
		a := s.do("GET", path, nil, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.Equal(s, "/api/audit/export?format=csv&from=2026-01-02T03%3A04%3A00Z&target=cred_x", a.Header.Get("Location"))
		require.Equal(s, http.StatusUnprocessableEntity, s.do("GET", "/audit/export?from=never", nil, "Cookie", cookie).StatusCode)

		require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error { // the last proof is an hour old
			if _, err := tx.Exec(`UPDATE sessions SET stepped_up_at = stepped_up_at - 3600000000`); err != nil {
				return err
			}
			tx.Change(store.TopicReset, "")
			return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminStart, Target: store.Target{Kind: "test"}, Outcome: store.OutcomeOK})
		}))
		stale := s.do("GET", path, nil, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, stale.StatusCode)
		require.Regexp(s, `^/step-up\?next=%2Faudit%2Fexport`, stale.Header.Get("Location"))
	})
}

// TestSearchFindsWhatOneMaySee: credentials, trains, people and pages, by role, with scripts (the part) and without (the page).
func TestSearchFindsWhatOneMaySee(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		s.account("needle-account")
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "needle-train", Name: "<b>Needles</b>"})
		require.NoError(s, err)
		_, _, err = s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "needle@example.com", Name: "Needle <i>Person</i>", Role: identity.Member, Password: secret.FromString(planted)})
		require.NoError(s, err)
		for role, may := range map[identity.Role]struct{ credentials, trains, people bool }{
			identity.Administrator: {true, true, true}, identity.Operator: {true, true, false}, identity.Auditor: {true, true, true}, identity.Member: {false, false, false},
		} {
			cookie := s.person(role)
			for _, header := range [][]string{nil, {"HX-Request", "true"}} {
				a := s.do("GET", "/search?q=nEEdle", nil, append([]string{"Cookie", cookie}, header...)...)
				require.Equal(s, http.StatusOK, a.StatusCode)
				for what, seen := range map[string]bool{`href="/credentials/cred_`: may.credentials, `href="/trains/needle-train"`: may.trains, `href="/people/user_`: may.people} {
					require.Equal(s, seen, strings.Contains(a.text, what), "%s %s %v", role, what, header)
				}
				require.NotContains(s, a.text, "<b>Needles")
				require.NotContains(s, a.text, "<i>Person")
				require.Equal(s, header == nil, strings.Contains(a.text, "<html"))
			}
		}
		cookie := s.signIn("")
		require.Contains(s, s.do("GET", "/search?q=over", nil, "Cookie", cookie).text, "Overview")
		require.Contains(s, s.do("GET", "/search?q=%3Cscript%3E", nil, "Cookie", cookie).text, "Nothing that you may see has “&lt;script&gt;”")
		id := store.NewID("req")
		require.Contains(s, s.do("GET", "/search?q="+id, nil, "Cookie", cookie).text, "/audit?request_id="+id)
		require.Contains(s, s.do("GET", "/search?q=%25", nil, "Cookie", cookie).text, "Nothing that you may see")
	})
}

// TestAuditAndSearchInABrowser: the palette by keyboard alone, and the pages of the log looked at.
func TestAuditAndSearchInABrowser(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		c := s.account("needle-account")
		s.expiring("also-needle", time.Hour)
		s.happened(3)
		require.NoError(s, s.audit.Flush(s.Context()))
		b := s.window(true)
		b.signInHere("/audit")
		b.until(`document.querySelectorAll("#records tbody tr").length > 3`)
		b.inspect("audit")
		b.open("/audit?target=" + "cred_x")
		b.click(`#records tbody th a`)
		b.until(`document.querySelector("#proof .good")`)
		b.inspect("audit-event")

		press := func(key string) {
			b.js(`document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "` + key + `", bubbles: true, cancelable: true})); ""`)
		}
		b.js(`document.activeElement.blur(); ""`)
		press("/")
		b.until(`document.activeElement.id === "search"`)
		b.js(`document.activeElement.value = "needle"; document.activeElement.dispatchEvent(new Event("input", {bubbles: true})); ""`)
		b.until(`document.querySelectorAll("#found a").length === 3`)
		require.Equal(b, "2 found", b.js(`document.querySelector("#found-said").textContent`))
		b.inspect("palette")
		press("Escape")
		b.until(`document.querySelector("#found").childNodes.length === 0`)
		b.js(`document.activeElement.value = "needle-account"; document.activeElement.dispatchEvent(new Event("input", {bubbles: true})); ""`)
		b.until(`document.querySelectorAll("#found a").length === 2`)
		press("ArrowDown")
		b.until(`document.activeElement.getAttribute("href") === "/credentials/` + c.ID + `"`)
		press("ArrowUp")
		b.until(`document.activeElement.id === "search"`)
		b.js(`document.activeElement.form.requestSubmit(); ""`)
		b.until(`location.pathname === "/search" && document.querySelector(".found a")`)
		b.inspect("search-found")
	})
}
