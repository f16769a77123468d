package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestLendingByKeyboard: a person without a pointer signs in, makes a train, stores an account, links it, issues a key, copies it and revokes it; each
// dialog keeps the focus while it is open and gives it back.
func TestLendingByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		k := s.typist()
		k.open("/trains")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/trains" && document.querySelector(".empty")`)

		k.content()
		k.enter(`.heading a[href="/trains/~new"]`)
		k.until(`document.querySelector("dialog[open] form")`)
		k.caught()
		k.escapes(`.heading a[href="/trains/~new"]`)
		k.press(kb.Enter)
		k.until(`document.querySelector("dialog[open] form")`)
		k.has(`dialog [name="train_id"]`)
		k.fill(`dialog form`, "train_id", "web", "name", "Web shop")
		k.tab(`dialog select[name="strategy"]`)
		k.press(kb.ArrowDown)
		require.Equal(k, "priority", k.js(`document.querySelector("dialog select").value`))
		k.enter(`dialog button.primary`)
		k.until(`location.pathname === "/trains/web"`)

		k.goes("a", "/accounts")
		k.content()
		k.enter(`.heading a[href="/accounts/~new"]`)
		k.fill(`form[action="/accounts"]`, "name", "team-alpha", "api_key", "planted-key-0123456789")
		k.tick(`form[action="/accounts"] input[name="train"]`)
		k.press(kb.Enter)
		k.until(`location.search === "?done=made"`)
		require.Contains(k, k.text(), "team-alpha")

		k.goes("t", "/trains")
		k.content()
		k.enter(`#trains tbody th a`)
		k.until(`location.pathname === "/trains/web"`)
		k.content()
		k.fill(`#accounts tbody form`, "alias", "git", "priority", "3")
		k.enter(`#accounts tbody form button`)
		k.until(`location.search === "?done=relinked"`)

		k.content()
		k.enter(`#key-list .empty a`)
		k.until(`document.querySelector("dialog[open] form")`)
		k.has(`dialog [name="name"]`)
		k.press("laptop" + kb.Enter)
		k.until(`document.querySelector("#client-key")`)
		key := k.js(`document.querySelector("#client-key").textContent`)
		k.content()
		k.enter(`button[data-copy="client-key"]`)
		k.until(`document.querySelector('button[data-copy="client-key"]').textContent === "Copied"`)
		k.has(`button[data-copy="client-key"]`)
		k.tick(`#stored`)
		k.enter(`.stored button`)
		k.until(`location.pathname === "/trains/web" && document.querySelectorAll("#key-list tbody tr").length === 1`)
		k.press("/")
		k.has("#search")
		k.paste()
		require.Equal(k, key, k.js(`document.activeElement.value`), "what was copied is the key")
		k.press(kb.Escape)

		k.enter(`#key-list a[href$="/revoke"]`)
		k.until(`document.querySelector("dialog[open] form")`)
		k.caught()
		k.escapes(`#key-list a[href$="/revoke"]`)
		k.press(kb.Enter)
		k.enter(`dialog[open] button.danger`)
		k.until(`location.search === "?done=revoked"`)
		_, err := s.rooms.Client(key)
		require.Error(k, err)
	})
}

// TestSecretsByKeyboard: a credential is stored and revealed by keyboard, through the dialog that asks for a fresh proof; while it hides itself, the focus
// stays in the page.
func TestSecretsByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		const secret = "planted-typed-by-keys-0123456789"
		s.administrator()
		k := s.typist()
		k.open("/credentials")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/credentials"`)
		k.content()
		k.enter(`.empty a`)
		k.until(`document.querySelector(".kinds")`)
		k.content()
		k.enter(`.kinds a[href$="type=password"]`)
		k.fill(`form[action="/credentials"]`, "secrets/password", secret, "name", "Router", "username", "root")
		k.tab(`form[action="/credentials"] details.card summary`)
		k.press(" ")
		k.fill(`form[action="/credentials"]`, "internal_url", "no address")
		k.press(kb.Enter)
		k.until(`document.querySelector("#internal_url-error")`)
		k.has("#internal_url") // what is wrong has the focus
		k.fill(`form[action="/credentials"]`, "internal_url", "https://router.internal.example.com", "secrets/password", secret)
		k.press(kb.Enter)
		k.until(`location.search === "?done=made"`)
		page := k.js(`location.pathname`)

		s.age()
		k.content()
		reveal := `a[href*="/reveal?field=password"]`
		k.enter(reveal)
		k.until(`document.querySelector("#proof[open] #proof-password")`)
		k.has(`#proof-password`)
		k.caught()
		k.escapes(reveal)
		k.press(kb.Enter)
		k.has(`#proof-password`)
		k.press("not-the-password-1" + kb.Enter)
		k.until(`document.querySelector("#proof[open] .alert")`)
		k.has(`#proof-password`)
		k.press(planted + kb.Enter)
		k.until(`!document.querySelector("#proof[open]") && document.querySelector("#dialog[open] form")`)
		k.has(`dialog [name="reason"]`)
		k.press("hand-over")
		k.enter(`dialog[open] button.primary`)
		k.until(`document.querySelector("#revealed")`)
		require.Equal(k, secret, k.js(`document.querySelector("#revealed").textContent`))
		k.content()
		k.tab(`[data-copy="revealed"]`)
		k.js(`(() => { const now = Date.now; Date.now = () => now() + 31000; return "" })()`)
		k.until(`!document.querySelector("#revealed")`)
		k.has(`.reveal a`)
		k.press(kb.Enter)
		k.until(`location.pathname === ` + quoted(page))
		require.Len(k, s.ends(strings.TrimPrefix(page, "/credentials/"), store.CredentialReveal), 1)

		k.content()
		k.tab(`#about summary`)
		k.press(kb.Enter)
		k.fill(`#about form`, "name", "Router 2")
		k.press(kb.Enter)
		k.until(`location.search === "?done=changed"`)
		require.Contains(k, k.text(), "Router 2")

		k.goes("c", "/credentials")
		k.content()
		k.tick(`#credentials tbody input[type="checkbox"]`)
		k.tab(`#bulk select`)
		k.press("t") // the option that begins so
		require.Equal(k, "tag", k.js(`document.activeElement.value`))
		k.enter(`#bulk button`)
		k.fill(`form[method="post"][action="/credentials/~bulk"]`, "tags", "home")
		k.press(kb.Enter)
		k.until(`document.body.innerText.includes("Done to 1 credential.")`)
	})
}

// TestListsByKeyboard: a filter narrows a list while the field keeps the focus, what changes elsewhere takes it from nobody, and what is beside a field is
// reached from it.
func TestListsByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		for _, slug := range []string{"alpha", "beta"} {
			_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: slug})
			require.NoError(s, err)
		}
		s.account("first")
		k := s.typist()
		k.open("/trains")
		k.signIn("ada@example.com", planted)
		k.until(`document.querySelectorAll("#trains tbody tr").length === 2`)
		k.content()
		k.fill(`.filter`, "q", "bet")
		k.until(`document.querySelectorAll("#trains tbody tr").length === 1`)
		k.has(`.filter [name="q"]`)
		k.enter(`#trains tbody th a`)
		k.until(`location.pathname === "/trains/beta"`)

		k.goes("a", "/accounts")
		k.until(`document.documentElement.dataset.live === "on"`)
		k.content()
		for _, at := range []string{`#llm-accounts input[name="base_url"]`, `#llm-accounts tbody th a`, `#llm-accounts .pick input`} {
			k.tab(at)
			k.js(`window.before = document.querySelectorAll("#llm-accounts tbody tr").length; ""`)
			s.account("next-" + store.NewID("x"))
			k.until(`document.querySelectorAll("#llm-accounts tbody tr").length === window.before + 1`)
			k.has(at)
		}
		k.press(" ")
		k.enter(`button[value="pause"]`)
		k.until(`document.querySelectorAll("#outcomes tbody tr").length === 1`)

		k.content()
		k.tabBack(`.person summary`)
		k.press(kb.Enter)
		k.until(`document.querySelector(".person").open`)
		k.enter(`.person a[href="/account/factors"]`)
		k.until(`location.pathname === "/account/factors"`)
	})
}

// TestConnectingByKeyboard: an account is connected at its provider and again on another device, and the page that waits leaves the focus where it is.
func TestConnectingByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		name, title := "work", "Work"
		s.provider(oauth.ProviderEdit{Name: &name, Title: &title})
		agree := s.deviceServer()
		k := s.typist()
		k.open("/connections")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/connections"`)
		k.content()
		k.enter(`main a[href^="/connect"]`)
		k.until(`location.pathname === "/connect"`)
		k.content()
		k.tab(`select[name="provider"]`)
		k.press("w")
		require.Equal(k, "work", k.js(`document.activeElement.value`))
		k.fill(`form[action="/connect"]`, "name", "Mine")
		k.enter(`button[value="browser"]`)
		k.until(`document.querySelector("#agree")`)
		k.tab(`#agree`)
		k.press(kb.Enter)
		k.until(`location.pathname === "/connections" && document.querySelector("#connections tbody tr")`)

		k.open("/connect?provider=tv&next=/connections")
		k.content()
		k.fill(`form[action="/connect"]`, "name", "Living room")
		k.enter(`button[value="device"]`)
		k.until(`document.querySelector("#user-code")`)
		k.content()
		k.tab(`#device a`)
		k.js(`window.asked = 0; document.addEventListener("htmx:after:swap", () => { asked++ }); ""`)
		k.until(`asked >= 2`)
		k.has(`#device a`)
		agree.Store(true)
		k.until(`location.pathname === "/connections" && document.querySelectorAll("#connections tbody tr").length === 2`)
	})
}

// TestPeopleByKeyboard: somebody is invited, with the proof asked for over the dialog, a group gets a member, and the log is searched, by keyboard alone.
func TestPeopleByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		k := s.typist()
		k.open("/people")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/people"`)
		k.content()
		invite := `.heading a[href="/people/~invite"]`
		k.enter(invite)
		k.has(`dialog [name="email"]`)
		s.age()
		k.press("mia@example.com")
		k.fill(`#dialog form`, "name", "Mia")
		k.tab(`#dialog select[name="role"]`)
		k.press("m")
		k.enter(`#dialog button.primary`)
		k.has(`#proof-password`)
		k.caught()
		k.press(kb.Escape)
		k.until(`!document.querySelector("#proof[open]")`)
		k.has(`#dialog button.primary`)
		k.press(kb.Enter)
		k.has(`#proof-password`)
		k.press(planted + kb.Enter)
		k.until(`document.querySelector("#password-link")`)
		k.content()
		k.tick(`#stored`)
		k.enter(`.stored button`)
		k.until(`location.pathname.startsWith("/people/user_")`)

		k.goes("g", "/groups")
		k.content()
		k.enter(`.empty a`)
		k.until(`document.querySelector("dialog[open] form")`)
		k.fill(`dialog form`, "name", "Night shift")
		k.press(kb.Enter)
		k.until(`location.pathname.startsWith("/groups/grp_")`)
		k.content()
		k.enter(`#member-list .empty a`)
		k.has(`dialog [name="user_id"]`)
		k.press("mia@example.com" + kb.Enter)
		k.until(`location.search === "?done=added"`)

		require.NoError(s, s.audit.Flush(s.Context()))
		k.goes("l", "/audit")
		k.content()
		k.fill(`.facets`, "actor", s.someone("ada@example.com").ID)
		k.press(kb.Enter)
		k.until(`location.search.includes("actor=user_") && document.querySelector("#records tbody tr")`)
		k.content()
		k.enter(`#records tbody th a`)
		k.until(`location.pathname.startsWith("/audit/evt_")`)

		k.goes("s", "/settings")
		k.content()
		k.enter(`.tabs a[href="/settings/notifications"]`)
		k.until(`location.pathname === "/settings/notifications"`)
		k.content()
		k.enter(`main a[href="/settings/channels/~new"]`)
		k.until(`document.querySelector('form[action="/settings/channels"]')`)
		k.fill(`form[action="/settings/channels"]`, "name", "ops", "url", "https://hooks.example.com/planted-hook-3")
		k.press(kb.Enter)
		k.until(`location.search === "?done=made"`)
	})
}

// someone is a person by their address.
func (s *site) someone(email string) identity.User {
	s.Helper()
	list, _, err := s.rooms.Users(s.Context(), boss, identity.UserFilter{Q: email})
	require.NoError(s, err)
	require.Len(s, list, 1)
	return list[0]
}

// TestPaletteByKeyboard: the search finds as one types, arrows go through it, Escape takes it away, and Enter opens what was chosen; a menu and the list of
// keys close again.
func TestPaletteByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		c := s.stored(vault.Password, vault.Meta{Name: "needle"})
		k := s.typist()
		k.open("/account")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/account"`)
		k.press("?")
		k.until(`document.querySelector("#help[open]")`)
		k.caught()
		k.press(kb.Escape)
		k.until(`!document.querySelector("#help[open]")`)

		k.press("/")
		k.has("#search")
		k.press("needle")
		k.until(`document.querySelectorAll("#found a").length === 2`)
		k.press(kb.ArrowDown)
		k.has(`#found a[href="/credentials/` + c.ID + `"]`)
		k.press(kb.ArrowDown)
		k.has(`#found a[href="/search?q=needle"]`)
		k.press(kb.ArrowUp + kb.ArrowUp)
		k.has("#search")
		k.press(kb.ArrowDown + kb.Escape)
		k.until(`!document.querySelector("#found a")`)
		k.has("#search")
		k.clear()
		k.press("needle")
		k.until(`document.querySelectorAll("#found a").length === 2`)
		k.press(kb.ArrowDown + kb.Enter)
		k.until(`location.pathname === "/credentials/` + c.ID + `"`)

		k.open("/search?q=needle")
		k.content()
		k.tabBack(`.person summary`)
		k.press(kb.Enter)
		k.until(`document.querySelector(".person").open`)
		k.press(kb.Tab + kb.Escape)
		k.until(`!document.querySelector(".person").open`)
		k.has(`.person summary`)
		k.press(kb.Enter)
		k.enter(`.person button[value="dark"]`)
		k.until(`document.documentElement.dataset.theme === "dark"`)
		k.content()
		k.tabBack(`.person summary`)
		k.press(kb.Enter)
		k.enter(`.person a[href="/sign-out"]`)
		k.until(`location.pathname === "/sign-out"`)
		k.enter(`main button`)
		k.until(`location.pathname === "/sign-in"`)
	})
}
