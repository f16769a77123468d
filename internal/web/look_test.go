package web_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/train"
)

// TestPagesLookRight: the pages that have no story of their own in a browser, in both themes and widths, by axe-core.
func TestPagesLookRight(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		b := s.window(true)
		b.open("/sign-in")
		b.inspect("sign-in")
		b.signInHere("/")
		b.inspect("overview")
		b.js(`document.querySelector(".person").open = true; ""`)
		b.inspect("person-menu")
		b.open("/account")
		b.inspect("account")
		b.open("/account/factors")
		b.inspect("factors")
		b.open("/connections")
		b.inspect("connections")
		b.open("/search?q=nothing")
		b.inspect("search")
		b.open("/trains/none")
		b.inspect("not-found")
		b.open("/styleguide")
		b.inspect("styleguide")
	})
}

// TestKeysOfTheKeyboard: search, help, going to a page, and a menu that Escape closes.
func TestKeysOfTheKeyboard(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		b := s.window(true)
		b.signInHere("/account")
		press := func(key string) {
			b.js(`(document.activeElement || document.body).dispatchEvent(new KeyboardEvent("keydown", {key: "` + key + `", bubbles: true, cancelable: true})); ""`)
		}
		b.js(`document.activeElement.blur(); ""`)
		press("?")
		b.until(`document.querySelector("#help").open`)
		require.Contains(b, b.text(), "This list")
		b.js(`document.querySelector("#help button").click(); ""`)
		b.until(`!document.querySelector("#help").open`)
		press("/")
		b.until(`document.activeElement.id === "search"`)
		press("g") // typed into the search
		press("t")
		require.Equal(b, "/account", b.js(`location.pathname`))
		b.js(`document.activeElement.blur(); ""`)
		press("g")
		press("t")
		b.until(`location.pathname === "/trains"`)
	})
}

// TestOpenPagesAreReadAgain: what somebody else changes appears in an open page, where the focus and what is being typed stay.
func TestOpenPagesAreReadAgain(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		first, second := s.account("team-alpha"), s.account("team-beta")
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: first.ID})
		require.NoError(s, err)
		b := s.window(true)
		b.signInHere("/trains/web")
		b.until(`document.documentElement.dataset.live === "on"`)
		b.js(`window.field = document.querySelector("#accounts input[name=alias]"); field.focus(); field.value = "half-typed";
			window.asked = []; const fetches = window.fetch; window.fetch = (to, how) => { asked.push(new Headers((how || {}).headers).get("X-Signalbox-Unattended")); return fetches(to, how); }; ""`)
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: second.ID})
		require.NoError(s, err)
		b.until(`document.querySelectorAll("#accounts tbody tr").length === 2`)
		require.Equal(b, "alias true half-typed", b.js(`[document.activeElement.name, document.activeElement === window.field, document.activeElement.value].join(" ")`))
		require.Equal(b, "1", b.js(`[...new Set(asked)].join(",") || "nothing was asked"`), "each time the page says that nobody sits there")
		require.Equal(b, http.StatusBadRequest, s.do("GET", "/live?topics=passwords", nil, "Cookie", s.signIn("")).StatusCode)
	})
}
