package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/train"
)

const toldAddress = "/services/T0/B0/planted-hook-4711-zQ9x"

// slack is a receiver of ours that answers as Slack documents, with ok, unless it is told to refuse.
func slack(t testing.TB, refuses *bool) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if *refuses {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "no_service")
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestWhoIsToldInABrowser: a train's Slack channel is set up, tried, has prompts told and is deleted, with scripts and without; its address is never shown.
func TestWhoIsToldInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		refuses := false
		url := slack(s, &refuses)
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/trains/web")
		b.until(`document.querySelectorAll("#told-list tbody tr").length === 2`)
		b.inspect("told-nobody")
		form := `form[method="post"][action="/trains/web/channels/slack"]`
		b.click(`#told-list a[href="/trains/web/channels/slack"]`)
		b.until(`document.querySelector('` + form + `')`)
		b.inspect("told-form")
		b.submitIn(form, "webhook_url", url+toldAddress, "icon_emoji", "robot")
		b.until(`document.querySelector("#icon_emoji-error")`)
		b.submitIn(form, "webhook_url", url+toldAddress, "icon_emoji", ":robot_face:", "channel", "#agents")
		b.until(`location.search === "?done=told"`)
		require.Contains(b, b.text(), "zQ9x")
		b.submit("/trains/web/channels/slack/test")
		b.until(`location.search === "?done=delivered"`)
		refuses = true
		b.submit("/trains/web/channels/slack/test")
		b.until(`document.body.textContent.includes("The test message was not delivered: The receiver answered 404.")`)
		b.inspect("told-refused")
		b.open("/trains/web/channels/slack")
		b.js(`document.querySelector('select[name="content"]').value = "on"; ""`)
		b.submit("/trains/web/channels/slack")
		b.until(`location.search === "?done=told"`)
		c, err := s.trains.Channel(s.Context(), boss, "web", notify.Slack)
		require.NoError(b, err)
		require.True(b, c.Content)
		require.Equal(b, ":robot_face:", c.Look.Icon)
		b.inspect("told")
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-hook")
		b.click(`a[href="/trains/web/channels/slack/delete"]`)
		b.until(`document.querySelector('form[action="/trains/web/channels/slack/delete"]')`)
		b.submitIn(`form[action="/trains/web/channels/slack/delete"]`)
		b.until(`location.search === "?done=untold"`)
		require.NotContains(b, s.log.String(), "planted-hook")
	})
}

// TestWhoIsToldByRole: what a role may not do is not shown, and refused when forced; prompts are the administrator's to have told.
func TestWhoIsToldByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		refuses := false
		url := slack(s, &refuses)
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		const one = "/trains/web/channels/slack"
		operator := s.person(identity.Operator)
		made := s.do("POST", one, s.form(operator, one, "webhook_url", url+toldAddress, "enabled", "on"), "Cookie", operator)
		require.Equal(s, "/trains/web?done=told", made.Header.Get("Location"), made.text)
		require.NotContains(s, s.do("GET", one, nil, "Cookie", operator).text, `name="content"`)
		forced := s.do("POST", one, s.form(operator, one, "content", "on"), "Cookie", operator)
		require.Equal(s, http.StatusForbidden, forced.StatusCode)
		require.Contains(s, forced.text, "only where an administrator wants that")
		for _, role := range []identity.Role{identity.Auditor, identity.Member} {
			cookie := s.person(role)
			page := s.do("GET", "/trains/web", nil, "Cookie", cookie)
			require.Equal(s, role == identity.Auditor, strings.Contains(page.text, "zQ9x"))
			require.NotContains(s, page.text, one)
			for _, path := range []string{one, one + "/delete"} {
				require.Equal(s, http.StatusForbidden, s.do("GET", path, nil, "Cookie", cookie).StatusCode)
			}
			form := s.form(cookie, "/account")
			for _, path := range []string{one, one + "/test", one + "/delete"} {
				require.Equal(s, http.StatusForbidden, s.do("POST", path, form, "Cookie", cookie).StatusCode)
			}
		}
		require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/web/channels/email", nil, "Cookie", operator).StatusCode)
		require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/nowhere/channels/slack", nil, "Cookie", operator).StatusCode)
		require.NotContains(s, s.log.String(), "planted-hook")
	})
}
