package web_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web"
)

// endless is a provider whose answer never ends by itself. It returns how many answers are under way.
func (s *site) endless() (string, *atomic.Int64) {
	s.Helper()
	open := &atomic.Int64{}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			if _, err := io.WriteString(w, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	s.Cleanup(up.Close)
	return up.URL, open
}

// agents serves the LLM proxy on a listener of its own, and returns where.
func (s *site) agents() string {
	s.Helper()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(s, err)
	b, err := broker.New(broker.Config{Trains: s.trains, Identity: s.rooms, Transport: outbound.NewTransport(policy, outbound.Options{})})
	require.NoError(s, err)
	server := httptest.NewServer(b)
	s.Cleanup(server.Close)
	return server.URL
}

// TestRevokingAKeyCutsItsStream: while an agent reads an answer, the key that it came with is revoked on its page; the answer ends within a second of the
// click, there and at the provider, and the key opens nothing any more.
func TestRevokingAKeyCutsItsStream(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		upstream, open := s.endless()
		c, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: "team-alpha", Provider: "anthropic", BaseURL: upstream}, Secrets: map[string]secret.Value{"api_key": secret.FromString("planted-key-0123456789")}})
		require.NoError(s, err)
		_, err = s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: c.ID})
		require.NoError(s, err)
		keys := map[string]string{}
		for _, name := range []string{"laptop", "other"} {
			_, key, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: name})
			require.NoError(s, err)
			keys[name] = key.Reveal()
		}
		agents := s.agents()
		ask := func(name string) *http.Response {
			req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, agents+"/v1/messages", strings.NewReader(`{"model":"m","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"Hello"}]}`))
			require.NoError(s, err)
			req.Header.Set("Authorization", "Bearer "+keys[name])
			req.Header.Set("Content-Type", "application/json")
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			require.NoError(s, err)
			s.Cleanup(func() { _ = resp.Body.Close() })
			return resp
		}
		read := func(resp *http.Response) (*bufio.Reader, chan time.Time) {
			require.Equal(s, http.StatusOK, resp.StatusCode)
			told, ended := bufio.NewReader(resp.Body), make(chan time.Time, 1)
			_, err := told.ReadString('\n')
			require.NoError(s, err)
			go func() { _, _ = io.Copy(io.Discard, told); ended <- time.Now() }()
			return told, ended
		}
		b := s.window(true)
		b.signInHere("/trains/web")
		b.click(`#key-list a[aria-label="Revoke laptop"]`)
		b.until(`document.querySelector("dialog[open] form")`)
		require.Contains(b, b.text(), "its open uses are cut")
		_, laptop := read(ask("laptop"))
		_, other := read(ask("other"))
		require.EqualValues(s, 2, open.Load())

		clicked := time.Now()
		b.click(`dialog[open] button.danger`)
		select {
		case at := <-laptop:
			s.Logf("the stream ended %s after the click", at.Sub(clicked))
		case <-time.After(20 * time.Second): // a second is promised; a busy machine takes longer to click
			s.Fatal("the agent goes on reading with a key that was revoked")
		}
		b.until(`location.search === "?done=revoked"`)
		require.Eventually(s, func() bool { return open.Load() == 1 }, 20*time.Second, 10*time.Millisecond, "the provider is asked no longer")
		select {
		case <-other:
			s.Fatal("the answer to another key was cut")
		default:
		}
		require.Equal(s, http.StatusUnauthorized, ask("laptop").StatusCode)
	})
}

// TestAPasskeyInTheStepUpDialog: whoever has a passkey gives the fresh proof with it over the page, and what was typed is sent.
func TestAPasskeyInTheStepUpDialog(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		b := s.browse()
		b.open("/account/factors")
		b.submit("/sign-in", "email", "ada@example.com", "password", planted)
		b.until(`document.querySelector("h1").textContent === "Second factors"`)
		b.submit("/account/factors/passkeys", "name", "Laptop")
		b.until(`document.querySelector("#recovery-codes")`)

		b.open("/people")
		b.click(`.heading a[href="/people/~invite"]`)
		b.until(`document.querySelector("#dialog[open] form")`)
		s.age()
		b.submitIn(`form[method="post"][action="/people"]`, "email", "mia@example.com", "name", "Mia", "role", "member")
		b.until(`document.querySelector("#proof[open] form[data-passkey]")`)
		require.Empty(b, b.js(`document.querySelector("#proof input[type=password]") ? "there" : ""`), "the password proves too little")
		b.inspect("step-up-dialog-passkey")
		b.submitIn(`#proof form[action="/step-up/passkey"]`)
		b.until(`document.querySelector("#password-link")`)
		require.NotEmpty(b, s.someone("mia@example.com").ID)
	})
}

// TestAReadOnlyServerInABrowser: every page says that nothing can be changed and offers no change, what is forced is refused in words, and reading,
// revealing and signing out go on.
func TestAReadOnlyServerInABrowser(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		c := s.stored(vault.Password, vault.Meta{Name: "Router"})
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: s.account("team-alpha").ID})
		require.NoError(s, err)
		writable := s.url
		handler, err := web.New(web.Config{Identity: s.rooms, Logins: s.logins, Vault: s.vault, Trains: s.trains, OAuth: s.oauth, Notify: s.notify, Audit: s.audit, Operations: operations(), ReadOnly: true})
		require.NoError(s, err)
		server := httptest.NewServer(handler)
		s.Cleanup(server.Close)
		s.url = server.URL

		b := s.window(true)
		b.signInHere("/trains/web")
		for _, path := range []string{"/", "/trains", "/trains/web", "/accounts", "/credentials", "/credentials/" + c.ID, "/connections", "/connections/providers", "/people", "/groups", "/service-accounts", "/tokens", "/audit", "/settings", "/account", "/account/factors"} {
			b.open(path)
			b.until(`[...document.querySelectorAll(".top .badge")].some((one) => one.textContent.includes("Read-only"))`)
			require.Empty(b, b.js(`[...document.querySelectorAll('main form[method="post"], main a')].map((one) => one.getAttribute("action") || one.getAttribute("href"))
				.filter((to) => to && /~new|~invite|~bulk|~act|[/](new|edit|delete|rotate|revoke|destination|settings|link|pause|drain|resume|refresh|deactivate|password|name|factors[/].+)([?]|$)/.test(to) && !to.startsWith("/settings") && !to.endsWith("/reveal")).join(" ")`), path)
		}
		b.open("/settings")
		b.inspect("read-only")

		b.open("/trains/web")
		token := b.js(`document.querySelector('input[name="form"]').value`)
		refused := b.js(`fetch("/trains/web/keys", {method: "POST", body: new URLSearchParams({form: ` + quoted(token) + `, name: "forced"})}).then(async (reply) => reply.status + " " + await reply.text())`)
		require.True(b, strings.HasPrefix(refused, "403 "), refused)
		require.Contains(b, refused, "This Signalbox is read-only, so nothing was changed.")
		keys, _, err := s.trains.ListKeys(s.Context(), boss, "web", identity.KeyFilter{})
		require.NoError(s, err)
		require.Empty(s, keys)

		b.open("/credentials/" + c.ID)
		b.click(`a[href*="/reveal?field=password"]`)
		b.submitIn(`dialog[open] form`, "reason", "hand-over")
		b.until(`document.querySelector("#revealed")`)
		b.open("/sign-out")
		b.submit("/sign-out")
		b.until(`location.pathname === "/sign-in"`)
		s.url = writable
	})
}
