package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// upstream is a provider that knows one key.
func (s *site) upstream(key string) *httptest.Server {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-api-key") != key {
			http.Error(w, `{"type":"error","error":{"type":"authentication_error","message":"no"}}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"type":"message","role":"assistant","content":[{"type":"text","text":"hello from upstream"}]}`)
	}))
	s.Cleanup(up.Close)
	return up
}

// asks sends a request with a client key through the LLM proxy.
func (s *site) asks(clientKey string) (int, string) {
	s.Helper()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(s, err)
	b, err := broker.New(broker.Config{Trains: s.trains, Identity: s.rooms, Transport: outbound.NewTransport(policy, outbound.Options{})})
	require.NoError(s, err)
	r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(`{"model":"claude-haiku-4-5","max_tokens":20,"messages":[{"role":"user","content":"Hello"}]}`))
	r.Header.Set("Authorization", "Bearer "+clientKey)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestFirstRunToAWorkingKeyInTenClicks: from the set-up link to a client key that the upstream's answer comes through, with no more than ten clicks,
// with scripts and without.
func TestFirstRunToAWorkingKeyInTenClicks(t *testing.T) {
	for name, scripts := range map[string]bool{"with scripts": true, "without scripts": false} {
		t.Run(name, func(t *testing.T) {
			each(t, func(s *site) {
				_, err := s.trains.CreateTrain(s.Context(), identity.System("start"), train.Draft{Slug: "default", Name: "Default"}) // as a first start does
				require.NoError(s, err)
				up := s.upstream("planted-upstream-key")
				b := s.window(scripts)
				b.see(view{theme: "light", width: 1280}) // in a narrow window the places are behind "Menu"
				clicks := 0
				click := func(selector string) {
					clicks++
					b.until(`document.querySelector(` + quoted(selector) + `)`)
					b.click(selector)
				}
				send := func(form string, fill ...string) {
					clicks++
					b.submitIn(form, fill...)
				}
				b.open("/setup?token=" + s.link())
				send(`form[action="/setup"]`, "email", "ada@example.com", "name", "Ada", "password", planted)
				click(`a[href="/"].button`)
				b.until(`document.querySelectorAll(".steps li").length === 3`)
				b.inspect("overview-first")
				click(`.steps a`)
				click(`form[action="/accounts"] label.tick`)
				send(`form[action="/accounts"]`, "name", "team-alpha", "api_key", "planted-upstream-key", "base_url", up.URL)
				b.until(`document.querySelector("h1").textContent === "team-alpha" && location.pathname.startsWith("/accounts/cred_")`)
				require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-upstream-key")
				click(`nav a[href="/"]`)
				b.until(`document.querySelectorAll(".steps .done").length === 2`)
				click(`.steps a`)
				send(`form[action="/trains/default/keys"]`, "name", "laptop")
				b.until(`document.querySelector("#client-key")`)
				key := b.js(`document.querySelector("#client-key").textContent`)
				status, answer := s.asks(key)
				require.Equal(b, http.StatusOK, status, answer)
				require.Contains(b, answer, "hello from upstream")
				require.LessOrEqual(b, clicks, 10)
				s.Logf("%d clicks", clicks)
				for _, secret := range []string{key, "planted-upstream-key", planted} {
					require.NotContains(b, s.log.String(), secret)
				}
				b.open("/")
				b.until(`document.querySelector("h1").textContent === "Overview" && !document.querySelector(".steps")`)
			})
		})
	}
}

// expiring stores an account that ends at that distance from now.
func (s *site) expiring(name string, in time.Duration) vault.Credential {
	s.Helper()
	ends := time.Now().Add(in)
	c, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic", ExpiresAt: &ends}, Secrets: map[string]secret.Value{"api_key": secret.FromString("planted-key-" + name)}})
	require.NoError(s, err)
	return c
}

// TestOverviewInABrowser: what wants somebody stands first, what was lent is counted, and what happens appears while the page stands open: focus and
// scroll stay, and a paused feed stays as it is.
func TestOverviewInABrowser(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		s.expiring("<b>ended</b>", -time.Hour)
		s.expiring("ends-soon", 5*24*time.Hour)
		key := s.lentOnce("team-alpha")
		require.NoError(s, s.audit.Flush(s.Context()))
		b := s.window(true)
		b.signInHere("/")
		b.until(`document.querySelectorAll("#wants tbody tr").length === 2`)
		require.Equal(b, "<b>ended</b>", b.js(`document.querySelector("#wants tbody th").textContent.trim()`))
		b.until(`document.querySelector("#requests .big")?.textContent === "1"`)
		b.inspect("overview")

		b.until(`document.documentElement.dataset.live === "on"`)
		b.js(`document.querySelector("[data-pause]").focus(); scrollTo(0, 120); ""`)
		status, _ := s.asks(key)
		require.Equal(b, http.StatusOK, status)
		b.until(`document.querySelector("#requests .big").textContent === "2"`)
		b.until(`[...document.querySelectorAll("#feed li a")].filter((a) => a.textContent === "lease.granted").length === 2`)
		require.Equal(b, "true 120", b.js(`document.activeElement.matches("[data-pause]") + " " + scrollY`))

		b.click(`[data-pause]`)
		b.until(`document.querySelector("[data-pause]").getAttribute("aria-pressed") === "true"`)
		newest := b.js(`document.querySelector("#feed li").id`)
		status, _ = s.asks(key)
		require.Equal(b, http.StatusOK, status)
		b.until(`document.querySelector("#requests .big").textContent === "3"`) // the other part goes on
		require.Equal(b, newest, b.js(`document.querySelector("#feed li").id`))
		b.click(`[data-pause]`)
		b.until(`document.querySelector("#feed li").id !== "` + newest + `"`)
	})
}

// lentOnce makes an account, a train that has it and a key, and lends once. It returns the key.
func (s *site) lentOnce(name string) string {
	s.Helper()
	up := s.upstream("planted-key-" + name)
	c, err := s.vault.Create(s.Context(), boss, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic", BaseURL: up.URL}, Secrets: map[string]secret.Value{"api_key": secret.FromString("planted-key-" + name)}})
	require.NoError(s, err)
	_, err = s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
	require.NoError(s, err)
	_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: c.ID})
	require.NoError(s, err)
	_, key, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
	require.NoError(s, err)
	status, answer := s.asks(key.Reveal())
	require.Equal(s, http.StatusOK, status, answer)
	return key.Reveal()
}

// TestOverviewByRole: each role sees what it may, and no more; the parts refuse when forced.
func TestOverviewByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		s.expiring("ended", -time.Hour)
		s.lentOnce("team-alpha")
		require.NoError(s, s.audit.Flush(s.Context()))
		for role, may := range map[identity.Role]struct{ wants, ended, steps, requests, feed bool }{
			identity.Administrator: {true, true, false, true, true}, identity.Operator: {true, true, false, true, false},
			identity.Auditor: {true, true, false, true, true}, identity.Member: {true, false, false, false, false},
		} {
			cookie := s.person(role)
			home := s.do("GET", "/", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, home.StatusCode, home.text)
			for what, seen := range map[string]bool{`id="attention"`: may.wants, `>ended<`: may.ended, `id="start"`: may.steps, `id="requests"`: may.requests, `id="feed"`: may.feed, `href="/audit"`: may.feed} {
				require.Equal(s, seen, strings.Contains(home.text, what), "%s %s", role, what)
			}
			for path, seen := range map[string]bool{"/overview/feed": may.feed, "/overview/requests": may.requests, "/audit": may.feed, "/live?topics=audit": may.requests} {
				if seen && strings.HasPrefix(path, "/live") {
					continue
				}
				a := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, seen, a.StatusCode == http.StatusOK, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, seen, !strings.Contains(a.text, "No permission") && a.StatusCode == http.StatusOK, "%s %s", role, path)
			}
			for _, never := range []string{"planted-key", "style=", "onclick"} {
				require.NotContains(s, home.text, never)
			}
		}
		require.Contains(s, s.do("GET", "/overview/feed", nil, "Cookie", s.signIn("")).text, `id="feed"`)
	})
}

// TestTheFeedIsRecordedOnceAMinute: that somebody follows the log is on record, and the record does not make the feed stale again.
func TestTheFeedIsRecordedOnceAMinute(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for range 5 {
			a := s.do("GET", "/overview/feed", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, a.StatusCode)
			require.NotContains(s, a.text, "audit.read")
		}
		var reads int
		require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error {
			return tx.Get(&reads, `SELECT COUNT(*) FROM audit_events WHERE action = 'audit.read'`)
		}))
		require.Equal(s, 1, reads)
	})
}

// TestFirstAccountKeepsWhatWasTyped: what is wrong stands beside its field, and the key comes back in no page.
func TestFirstAccountKeepsWhatWasTyped(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		form := s.form(cookie, "/accounts/~new", "name", `"><script>x</script>`, "provider", "anthropic", "api_key", "planted-typed-key", "base_url", "ftp://nowhere")
		a := s.do("POST", "/accounts", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, a.text)
		require.NotContains(s, a.text, "planted-typed-key")
		require.NotContains(s, a.text, "<script>x")
		require.Contains(s, a.text, `id="base_url-error"`)
		form.Set("api_key", "")
		form.Set("base_url", "")
		a = s.do("POST", "/accounts", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, `id="api_key-error"`)
		require.Equal(s, http.StatusForbidden, s.do("POST", "/accounts", url.Values{"name": {"x"}}, "Cookie", cookie).StatusCode)
		auditor := s.person(identity.Auditor)
		require.Equal(s, http.StatusForbidden, s.do("GET", "/accounts/~new", nil, "Cookie", auditor).StatusCode)
		token := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(s.do("GET", "/account", nil, "Cookie", auditor).text)[1]
		forced := url.Values{"form": {token}, "name": {"forced"}, "provider": {"anthropic"}, "api_key": {"planted-typed-key"}}
		require.Equal(s, http.StatusForbidden, s.do("POST", "/accounts", forced, "Cookie", auditor).StatusCode)
	})
}
