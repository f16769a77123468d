package web_test

import (
	"testing"

	"github.com/stretchr/testify/require"
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
