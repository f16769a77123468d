package web_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/connect"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web"
)

// TestConnectCardInABrowser: the page of a train says how each kind of program is set up, closed until it is opened and without a key; where a key was just
// made the same texts have it in them, and they are what the command line prints.
func TestConnectCardInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/trains/web")
		open := `document.querySelectorAll("details.connect").forEach((one) => { one.open = true }); ""`
		shown := func(setup connect.Setup) {
			b.Helper()
			for _, c := range connect.Cards(setup) {
				require.Contains(b, b.text(), c.Name)
				for _, step := range c.Steps {
					require.Equal(b, strings.TrimSuffix(step.Text, "\n"), strings.TrimSuffix(b.js(`document.getElementById("connect-`+step.ID+`").textContent`), "\n"), step.ID)
				}
			}
		}
		require.Equal(b, "0", b.js(`String(document.querySelectorAll("details.connect[open]").length)`))
		require.Equal(b, "6", b.js(`String(document.querySelectorAll("#connect details.connect").length)`))
		address := b.js(`location.origin`)
		b.inspect("train-connect-closed")
		b.js(open)
		shown(connect.Setup{URL: address, Train: "web"})
		require.Contains(b, b.js(`document.querySelector("#connect").textContent`), connect.Placeholder)
		b.inspect("train-connect")
		b.click(`#connect a[href="/trains/web/keys/new"]`)
		b.until(`document.querySelector('form[action="/trains/web/keys"]')`)
		b.submit("/trains/web/keys", "name", "laptop")
		b.until(`document.querySelector("#client-key")`)
		key := b.js(`document.querySelector("#client-key").textContent`)
		require.Regexp(b, `^sbx_live_`, key)
		b.inspect("key-once-closed")
		b.js(open)
		shown(connect.Setup{URL: address, Train: "web", Key: key})
		require.NotContains(b, b.text(), connect.Placeholder)
		if scripts {
			require.Equal(b, "true", b.js(`String([...document.querySelectorAll("details.connect [data-copy]")].every((one) => !one.hidden && document.getElementById(one.dataset.copy)))`))
		}
		b.inspect("key-once-open")
		b.open("/trains/web")
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), key)
		require.NotContains(b, s.log.String(), key)
	})
}

// TestConnectCardByRole: whoever sees a train sees how to connect to it, and is led to the form of a key only when they may issue one. The address is the one
// that was set; where none was, the page says from where it has it.
func TestConnectCardByRole(t *testing.T) {
	each(t, func(s *site) {
		owner := s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		plain := s.url
		public, err := url.Parse("https://box.example.com")
		require.NoError(s, err)
		handler, err := web.New(web.Config{Identity: s.rooms, Logins: s.logins, Vault: s.vault, Trains: s.trains, Notify: s.notify, Audit: s.audit, PublicURL: public})
		require.NoError(s, err)
		named := httptest.NewServer(handler)
		defer named.Close()
		for role, may := range map[identity.Role]struct{ read, issue bool }{
			identity.Administrator: {true, true}, identity.Operator: {true, true}, identity.Auditor: {true, false}, identity.Member: {false, false},
		} {
			s.url = plain
			cookie := s.person(role)
			page := html.UnescapeString(s.do("GET", "/trains/web", nil, "Cookie", cookie).text)
			require.Equal(s, may.read, strings.Contains(page, "export ANTHROPIC_BASE_URL="+plain+"\n"), role)
			require.Equal(s, may.read, strings.Contains(page, "SIGNALBOX_PUBLIC_URL"), role)
			require.Equal(s, may.issue, strings.Contains(page, "Issue a client key to connect with"), role)
			require.Equal(s, may.read && !may.issue, strings.Contains(page, "Ask for one whoever may issue client keys here"), role)
			s.url = named.URL
			page = html.UnescapeString(s.do("GET", "/trains/web", nil, "Cookie", cookie).text)
			require.Equal(s, may.read, strings.Contains(page, "export ANTHROPIC_BASE_URL=https://box.example.com\n"), role)
			require.NotContains(s, page, "SIGNALBOX_PUBLIC_URL", role)
		}
		// A name that the request alone tells, of another machine: a key is never sent there in clear.
		s.url = plain
		req, err := http.NewRequestWithContext(s.Context(), "GET", plain+"/trains/web", nil)
		require.NoError(s, err)
		req.Host = "box.example.com"
		req.Header.Set("Cookie", owner)
		page := html.UnescapeString(s.send(req).text)
		require.Contains(s, page, "export ANTHROPIC_BASE_URL=https://box.example.com\n")
		require.Contains(s, page, "<code>https://box.example.com</code>")
		require.NotContains(s, page, "http://box.example.com")
	})
}

// TestKeyTableTellsOfTheSignIn: a key that a program's sign-in ends says so beside its end, another does not, nor one that is revoked.
func TestKeyTableTellsOfTheSignIn(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		_, _, err = s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		const says = "and with the sign-in that issued it"
		require.NotContains(s, s.do("GET", "/trains/web", nil, "Cookie", cookie).text, says)
		in, err := s.rooms.Login(s.Context(), identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.1"}, "ada@example.com", secret.FromString(planted), identity.SessionAPI)
		require.NoError(s, err)
		program := identity.Caller{Kind: identity.KindPerson, ID: s.me(cookie), UserID: s.me(cookie), Name: "Ada", Role: identity.Administrator, SessionID: in.Session.ID, SessionKind: identity.SessionAPI}
		ends := time.Now().Add(time.Hour)
		k, _, err := s.trains.IssueKey(s.Context(), program, "web", identity.KeyDraft{Name: "helper", WithSession: true, ExpiresAt: &ends})
		require.NoError(s, err)
		require.Equal(s, 1, strings.Count(s.do("GET", "/trains/web", nil, "Cookie", cookie).text, says))
		_, err = s.trains.RevokeKey(s.Context(), boss, "web", k.ID, "")
		require.NoError(s, err)
		require.NotContains(s, s.do("GET", "/trains/web", nil, "Cookie", cookie).text, says)
	})
}
