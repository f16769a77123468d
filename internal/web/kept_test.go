package web_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// keeps has something kept of a request of the train, and returns the request's id.
func (s *site) keeps(slug, asked, answered string) string {
	id := store.NewID("req")
	s.keepsOf(slug, id, asked, answered)
	return id
}

// keepsOf is keeps for a request that there is.
func (s *site) keepsOf(slug, id, asked, answered string) {
	s.Helper()
	on := true
	_, err := s.trains.PutLogging(s.Context(), boss, slug, contents.Patch{Enabled: &on}, "")
	require.NoError(s, err)
	s.contents.Start(context.Background())
	e, err := s.trains.Explain(s.Context(), boss, slug)
	require.NoError(s, err)
	var tap *contents.Tap
	require.Eventually(s, func() bool {
		tap = s.contents.Listen(e.Train.ID, []byte(asked), func() contents.About { return contents.About{Request: id} })
		return tap != nil
	}, 10*time.Second, 5*time.Millisecond)
	tap.Add([]byte(answered))
	tap.Done()
	require.Eventually(s, func() bool {
		_, err := s.trains.Content(s.Context(), boss, id)
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
}

// TestRequestLoggingInABrowser: it is switched on, read, deleted and switched off, with scripts and without; what was said is shown as text.
func TestRequestLoggingInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/trains/web")
		b.until(`document.querySelector("#kept-list").textContent.includes("nothing is kept")`)
		const one = "/trains/web/request-logging"
		form := `form[method="post"][action="` + one + `"]`
		b.click(`#kept-list a[href="` + one + `"]`)
		b.until(`document.querySelector('` + form + `')`)
		b.inspect("kept-form")
		b.submitIn(form, "retention_days", "91")
		b.until(`document.querySelector("#retention_days-error")`)
		b.submitIn(form, "retention_days", "2")
		b.until(`location.search === "?done=kept"`)
		id := s.keeps("web", `{"messages":[{"role":"user","content":"<script>document.title='evil'</script> mend it"}]}`, "event: message_stop\ndata: {}\n\n")
		b.open("/requests/" + id + "/content")
		b.until(`document.querySelector("#asked-text").textContent.includes("</script> mend it")`)
		require.NotEqual(b, "evil", b.js(`document.title`))
		b.inspect("kept-content")
		b.open("/trains/web")
		b.until(`document.querySelector("#kept-list").textContent.includes("1 request,")`)
		b.inspect("kept")
		b.click(`a[href="` + one + `/purge"]`)
		b.until(`document.querySelector('form[action="` + one + `/purge"]')`)
		b.submitIn(`form[action="` + one + `/purge"]`)
		b.until(`location.search === "?done=purged"`)
		b.open("/requests/" + id + "/content")
		b.until(`document.body.textContent.includes("not kept")`)
		b.open(one)
		b.js(`document.querySelector('select[name="enabled"]').value = "off"; ""`)
		b.submit(one)
		b.until(`location.search === "?done=kept"`)
		l, err := s.trains.Logging(s.Context(), boss, "web")
		require.NoError(s, err)
		require.False(s, l.Enabled)
		require.Equal(s, int64(2), l.RetentionDays)
		require.NotContains(s, s.log.String(), "mend it")
	})
}

// TestRequestLoggingByRole: what was said is for administrators with a fresh proof; whoever keeps the train may switch it off.
func TestRequestLoggingByRole(t *testing.T) {
	each(t, func(s *site) {
		admin := s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		id := s.keeps("web", "planted-asked", "planted-answered")
		const one = "/trains/web/request-logging"
		operator := s.person(identity.Operator)
		require.NotContains(s, s.do("GET", one, nil, "Cookie", operator).text, `name="max_bytes"`)
		forced := s.do("POST", one, s.form(operator, one, "max_bytes", "4096"), "Cookie", operator)
		require.Equal(s, http.StatusForbidden, forced.StatusCode)
		for _, role := range []identity.Role{identity.Operator, identity.Auditor, identity.Member} {
			cookie := operator
			if role != identity.Operator {
				cookie = s.person(role)
			}
			for _, path := range []string{"/requests/" + id + "/content", one + "/purge"} {
				got := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, http.StatusForbidden, got.StatusCode)
				require.NotContains(s, got.text, "planted-")
			}
			require.Equal(s, http.StatusForbidden, s.do("POST", one+"/purge", s.form(cookie, "/account"), "Cookie", cookie).StatusCode)
			if role != identity.Operator {
				require.Equal(s, http.StatusForbidden, s.do("POST", one, s.form(cookie, "/account", "enabled", "off"), "Cookie", cookie).StatusCode)
			}
		}
		got := s.do("GET", "/requests/"+id+"/content", nil, "Cookie", admin)
		if got.StatusCode == http.StatusSeeOther {
			require.True(s, strings.HasPrefix(got.Header.Get("Location"), "/step-up"))
		} else {
			require.Contains(s, got.text, "planted-asked")
			require.Contains(s, got.text, "planted-answered")
		}
		off := s.do("POST", one, s.form(operator, one, "enabled", "off"), "Cookie", operator)
		require.Equal(s, "/trains/web?done=kept", off.Header.Get("Location"), off.text)
	})
}
