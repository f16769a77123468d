package web_test

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// pageKind names a page by its address, whichever thing it is about.
func pageKind(path string) string {
	path, query, _ := strings.Cut(path, "?")
	path = regexp.MustCompile(`^/connections/providers/[a-z][a-z0-9]*`).ReplaceAllString(anyID.ReplaceAllString(path, "{id}"), "/connections/providers/{name}")
	if kind := (url.Values{}); strings.HasPrefix(query, "type=") {
		kind.Set("type", strings.TrimPrefix(query, "type="))
		path += "?" + kind.Encode()
	}
	return path
}

var dialogLink = regexp.MustCompile(`<a [^>]*href="([^"]*)"[^>]* data-dialog`)

// TestEveryPageIsAccessible: each kind of page that links lead to, with and without scripts, and each dialog that a link opens over one, with text in every
// place that is as long and odd as people may write: in both themes and at 200 %, by axe-core, without scrolling to the side. Most pages are the same
// document without scripts as with them; what axe-core has just said of that is not asked again.
func TestEveryPageIsAccessible(t *testing.T) {
	on(t, storetest.Engines()[0], func(s *site) {
		w := &sown{site: s, cookie: s.administrator(), from: map[string]string{}}
		s.prove(time.Hour)
		s.seeded(w)
		require.NoError(s, s.audit.Flush(s.Context()))
		pages, dialogs := map[string]string{}, map[string][2]string{} // the address of a page by its kind; where a dialog is opened, and by which link
		s.walk(w.cookie, func(path string, a answer) {
			if kind := pageKind(path); pages[kind] == "" && strings.Contains(a.text, "<html") {
				pages[kind] = path
				for _, m := range dialogLink.FindAllStringSubmatch(a.text, -1) {
					if to := pageKind(m[1]); dialogs[to] == [2]string{} {
						dialogs[to] = [2]string{path, m[1]}
					}
				}
			}
		})
		s.Logf("%d kinds of pages, %d kinds of dialogs", len(pages), len(dialogs))
		require.Greater(s, len(pages), 60)
		require.Greater(s, len(dialogs), 15)

		views := []view{{"light", 1280, 1}, {"light", 1280, 2}, {"dark", 1280, 2}, {"light", 1280, 4}}
		b := s.window(true)
		b.signInHere("/")
		s.prove(time.Hour)
		for _, kind := range slices.Sorted(maps.Keys(dialogs)) {
			b.open(dialogs[kind][0])
			b.until(`document.querySelector("#dialog")`)
			b.js(`[...document.querySelectorAll("a[data-dialog]")].find((one) => one.getAttribute("href") === ` + quoted(strings.ReplaceAll(dialogs[kind][1], "&amp;", "&")) + `).click(); ""`) // it may be in a row far below
			b.until(`document.querySelector("#dialog[open] [data-dialog-part]")`)
			b.accessible("the dialog "+kind, views...)
		}
		scripted, again := map[string]string{}, 0
		for _, kind := range slices.Sorted(maps.Keys(pages)) {
			b.reach(pages[kind])
			scripted[kind] = b.document()
			b.accessible(kind, views...)
		}
		b = s.window(false)
		b.signInHere("/")
		s.prove(time.Hour)
		for _, kind := range slices.Sorted(maps.Keys(pages)) {
			b.reach(pages[kind])
			require.Equal(b, "undefined", b.js(`typeof htmx`))
			if now := b.document(); now != scripted[kind] || strings.Contains(now, "<noscript") { // whose text is the same and means another thing
				b.accessible(kind+" without scripts", view{"light", 1280, 1})
				again++
			}
		}
		s.Logf("%d of them are others without scripts", again)
	})
}

// document is the page as it stands, but for the mark of its session and for what says that it is kept current, of which the stylesheet knows nothing.
func (b *browser) document() string {
	b.Helper()
	return liveMark.ReplaceAllString(formMark.ReplaceAllString(b.js(`document.documentElement.outerHTML`), `$1"`), "$1>")
}

var (
	formMark = regexp.MustCompile(`(name="form" value=")[A-Za-z0-9_-]+"`)
	liveMark = regexp.MustCompile(`^(<html[^>]*) data-live="on">`)
)

// reach opens a page, and is led nowhere else.
func (b *browser) reach(path string) {
	b.Helper()
	b.open(path)
	path, _, _ = strings.Cut(path, "?")
	require.Equal(b, path, b.js(`location.pathname`))
}

// TestEverySheetIsAccessible: the pages of one thing to do, on the way from the first start to a sign-in with a second factor.
func TestEverySheetIsAccessible(t *testing.T) {
	on(t, storetest.Engines()[0], func(s *site) {
		b := s.window(false) // sheets have no scripts, but for passkeys
		look := func(name string) { b.Helper(); b.inspect("sheet-" + name) }
		b.open("/setup")
		look("setup-none")
		b.open("/setup?token=" + s.link())
		b.submit("/setup", "email", "ada", "name", "Ada", "password", planted)
		b.submit("/setup", "email", "ada@example.com", "name", "", "password", planted)
		look("setup-error")
		b.submit("/setup", "email", "ada@example.com", "name", "Ada", "password", planted)
		b.until(`document.querySelector('a[href="/"].button')`)
		look("setup-done")
		for name, path := range map[string]string{"step-up": "/step-up?next=/account", "sign-out": "/sign-out", "cli": cliPage("40123"), "cli-paste": cliPage(""), "cli-wrong": "/cli?port=1", "nowhere": "/nowhere"} {
			b.open(path)
			look(name)
		}
		_, link, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "mia@example.com", Name: "Mia", Role: identity.Member})
		require.NoError(s, err)
		b.open("/invite?token=" + link.Secret.Reveal())
		look("invite")
		b.open("/invite?token=none")
		look("invite-none")

		b.open("/account/factors")
		b.submit("/account/factors/app")
		b.until(`document.querySelector("#totp-secret")`)
		key := strings.ReplaceAll(b.js(`document.querySelector("#totp-secret").textContent`), " ", "")
		look("app")
		b.submit("/account/factors/app/confirm", "code", "000000")
		b.until(`document.querySelector(".alert")`)
		look("app-wrong")
		b.submit("/account/factors/app/confirm", "code", appCode(s, key, -30*time.Second))
		b.until(`document.querySelector("#recovery-codes")`)
		look("codes")
		b.open("/account/factors")
		look("factors")
		b.open("/step-up?next=/account")
		look("step-up-second")
		b.open("/sign-out")
		b.submit("/sign-out")
		b.until(`location.pathname === "/sign-in"`)
		look("sign-in")
		b.submit("/sign-in", "email", "ada@example.com", "password", "not-the-password-1")
		b.until(`document.body.innerText.includes("do not belong together")`)
		look("sign-in-wrong")
		b.submit("/sign-in", "email", "ada@example.com", "password", planted)
		b.until(`location.pathname === "/sign-in/second"`)
		look("second")

		require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO factor_demands (role) VALUES ('member')`); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.FactorPolicy, store.Target{Kind: "test"}))
		}))
		member := s.window(false)
		member.open("/invite?token=" + link.Secret.Reveal())
		member.submit("/invite", "password", "mias-own-password-77")
		member.until(`location.pathname === "/sign-in/second"`)
		member.inspect("sheet-enrol")
	})
}
