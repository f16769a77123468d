package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	cliState    = "planted-state-of-the-command-line"
	cliVerifier = "planted-verifier-planted-verifier-planted-verifier"
)

// cliPage is the address that a command line opens; port "" is for a code to be pasted.
func cliPage(port string) string {
	sum := sha256.Sum256([]byte(cliVerifier))
	q := url.Values{"challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	if port != "" {
		q.Set("port", port)
		q.Set("state", cliState)
	}
	return "/cli?" + q.Encode()
}

// ask returns the form of the page, as a click sends it.
func (s *site) ask(cookie, path string) url.Values {
	s.Helper()
	page := s.do("GET", path, nil, "Cookie", cookie)
	require.Equal(s, http.StatusOK, page.StatusCode, page.text)
	form := url.Values{}
	for name, value := range fields(page.text) {
		form.Set(name, value)
	}
	return form
}

func (s *site) exchange(code string) (identity.Tokens, error) {
	return s.rooms.ExchangeCode(s.Context(), identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.10"}, secret.FromString(code), secret.FromString(cliVerifier))
}

func (s *site) codes() (n int) {
	s.Helper()
	require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM login_codes`) }))
	return n
}

// TestCommandLinePage: who is signed in sees what is asked, and one click takes a code to the port, and nowhere else.
func TestCommandLinePage(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		page := s.do("GET", cliPage("40123"), nil, "Cookie", cookie)
		require.Equal(s, http.StatusOK, page.StatusCode)
		for _, text := range []string{"The command line of this computer asks to act as you.", "<strong>Ada</strong>", "ada@example.com", "administrator", "port 40123 of this computer"} {
			require.Contains(s, page.text, text)
		}
		h := page.Header
		require.Equal(s, "DENY", h.Get("X-Frame-Options"))
		require.Contains(s, h.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.Contains(s, h.Get("Content-Security-Policy"), "form-action 'self' http://127.0.0.1:40123;")
		require.Equal(s, "no-store", h.Get("Cache-Control"))
		require.NotContains(s, page.text, "<script")
		require.Zero(s, s.codes(), "looking at the page makes no code")

		a := s.do("POST", "/cli", s.ask(cookie, cliPage("40123")), "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		to, err := url.Parse(a.Header.Get("Location"))
		require.NoError(s, err)
		require.Equal(s, "http://127.0.0.1:40123/callback", to.Scheme+"://"+to.Host+to.Path)
		require.Equal(s, cliState, to.Query().Get("state"))
		require.Len(s, to.Query(), 2)
		require.Equal(s, "no-referrer", a.Header.Get("Referrer-Policy"))
		code := to.Query().Get("code")
		require.NotContains(s, a.text, code)
		tokens, err := s.exchange(code)
		require.NoError(s, err)
		require.Contains(s, s.do("GET", "/account", nil, "Cookie", cookie).text, tokens.Session.ID)
		_, err = s.exchange(code)
		require.Equal(s, fault.Unauthenticated, fault.KindOf(err))
		require.NotContains(s, s.log.String(), code)
		require.NotContains(s, s.log.String(), cliState)

		a = s.do("POST", "/cli/cancel", s.ask(cookie, cliPage("40123")), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.Equal(s, "http://127.0.0.1:40123/callback?error=access_denied&state="+cliState, a.Header.Get("Location"))
		require.Zero(s, s.codes())
	})
}

// TestCommandLineCodeIsPasted: without a port the page shows the code, and leads nowhere.
func TestCommandLineCodeIsPasted(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		a := s.do("POST", "/cli", s.ask(cookie, cliPage("")), "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode, a.text)
		require.Empty(s, a.Header.Get("Location"))
		require.Contains(s, a.Header.Get("Content-Security-Policy"), "form-action 'self';")
		_, rest, found := strings.Cut(a.text, `id="login-code">`)
		require.True(s, found, a.text)
		code, _, _ := strings.Cut(rest, "<")
		_, err := s.exchange(code)
		require.NoError(s, err)
		a = s.do("POST", "/cli/cancel", s.ask(cookie, cliPage("")), "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode)
		require.Zero(s, s.codes())
	})
}

// TestCommandLineLeadsNowhereElse: whatever the address or the form says, there is no code for it and no way elsewhere.
func TestCommandLineLeadsNowhereElse(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		good := s.ask(cookie, cliPage("40123"))
		for _, change := range [][2]string{
			{"port", "80"}, {"port", "1023"}, {"port", "0"}, {"port", "65536"}, {"port", "-40123"}, {"port", "040123"}, {"port", "+40123"}, {"port", "40123@evil.example"}, {"port", "40123.evil.example"},
			{"port", "evil.example:80"}, {"port", "40123/"}, {"port", " 40123"}, {"port", "٤٠١٢٣"}, {"port", "0x9cbb"}, {"port", ""}, {"state", ""}, {"state", "short"}, {"state", cliState + "\r\nSet-Cookie: a=b"},
			{"state", strings.Repeat("a", 129)}, {"challenge", ""}, {"challenge", "abc"}, {"challenge", good.Get("challenge") + "A"},
		} {
			form := url.Values{}
			for name := range good {
				form.Set(name, good.Get(name))
			}
			form.Set(change[0], change[1])
			for _, path := range []string{"/cli", "/cli/cancel"} {
				a := s.do("POST", path, form, "Cookie", cookie)
				require.Equal(s, http.StatusBadRequest, a.StatusCode, "%q: %s", change, a.text)
				require.Empty(s, a.Header.Get("Location"))
			}
			a := s.do("GET", "/cli?"+form.Encode(), nil, "Cookie", cookie)
			require.Equal(s, http.StatusBadRequest, a.StatusCode, "%q", change)
			require.NotContains(s, a.Header.Get("Content-Security-Policy"), "evil")
		}
		twice := url.Values{}
		for name := range good {
			twice.Set(name, good.Get(name))
		}
		twice.Add("port", "40124")
		require.Equal(s, http.StatusBadRequest, s.do("POST", "/cli", twice, "Cookie", cookie).StatusCode)
		require.Zero(s, s.codes())
	})
}

// TestCommandLineNeedsTheClick: what another site makes a browser send, what has no form token, and what nobody signed in for, makes no code.
func TestCommandLineNeedsTheClick(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		good := s.ask(cookie, cliPage("40123"))
		for name, header := range map[string][]string{"another site": {"Sec-Fetch-Site", "cross-site"}, "a neighbour": {"Sec-Fetch-Site", "same-site"}, "an old browser": {"Origin", "https://evil.example"}, "a frame": {"Origin", "null"}} {
			for _, path := range []string{"/cli", "/cli/cancel"} {
				a := s.do("POST", path, good, append([]string{"Cookie", cookie}, header...)...)
				require.Equal(s, http.StatusForbidden, a.StatusCode, name)
			}
		}
		for _, token := range []string{"", "AAAA", s.form(s.signIn(""), "/account").Get("form")} {
			form := url.Values{}
			for name := range good {
				form.Set(name, good.Get(name))
			}
			form.Set("form", token)
			for _, path := range []string{"/cli", "/cli/cancel"} {
				a := s.do("POST", path, form, "Cookie", cookie)
				require.Equal(s, http.StatusForbidden, a.StatusCode)
				require.Empty(s, a.Header.Get("Location"))
			}
		}
		a := s.do("POST", "/cli", good)
		require.Equal(s, "/sign-in", a.Header.Get("Location"))
		require.Zero(s, s.codes())
		require.Equal(s, http.StatusSeeOther, s.do("POST", "/cli", good, "Cookie", cookie).StatusCode, "the same form is good from the page")
		require.Equal(s, 1, s.codes())
	})
}

// TestCommandLineAsksForAWholeSignIn: a stranger signs in first, with the second factor, and comes back; an old proof is given anew.
func TestCommandLineAsksForAWholeSignIn(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		page := cliPage("40123")
		a := s.do("GET", page, nil)
		require.Equal(s, http.StatusSeeOther, a.StatusCode)
		require.Equal(s, "/sign-in?next="+url.QueryEscape(page), a.Header.Get("Location"))
		a = s.do("POST", "/sign-in", credentials(page))
		require.Equal(s, page, a.Header.Get("Location"), "the way back is the page itself")

		offer := s.do("POST", "/account/factors/app", s.form(cookie, "/account/factors"), "Cookie", cookie)
		secretOf := strings.ReplaceAll(regexp.MustCompile(`id="totp-secret">([A-Z2-7 ]+)<`).FindStringSubmatch(offer.text)[1], " ", "")
		confirm := url.Values{"form": {fields(offer.text)["form"]}, "code": {appCode(s, secretOf, -30*time.Second)}}
		done := s.do("POST", "/account/factors/app/confirm", confirm, "Cookie", cookie)
		require.Equal(s, http.StatusOK, done.StatusCode, done.text)

		a = s.do("POST", "/sign-in", credentials(page))
		require.Equal(s, "/sign-in/second?next="+url.QueryEscape(page), a.Header.Get("Location"))
		half := s.cookie(a)
		require.Equal(s, http.StatusSeeOther, s.do("GET", page, nil, "Cookie", half).StatusCode, "half a sign-in sees nothing")
		a = s.do("POST", "/cli", s.ask(s.cookie(done), page), "Cookie", half)
		require.Equal(s, "/sign-in", a.Header.Get("Location"))
		require.Zero(s, s.codes())
		second := url.Values{"form": {fields(s.do("GET", "/sign-in/second", nil, "Cookie", half).text)["form"]}, "code": {appCode(s, secretOf, 0)}, "next": {page}}
		a = s.do("POST", "/sign-in/second", second, "Cookie", half)
		require.Equal(s, page, a.Header.Get("Location"), a.text)
		whole := s.cookie(a)
		form := s.ask(whole, page)
		require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE sessions SET stepped_up_at = stepped_up_at - $1`, (10 * time.Minute).Microseconds()); err != nil {
				return err
			}
			var ids []string
			if err := tx.Select(&ids, `SELECT id FROM sessions`); err != nil {
				return err
			}
			for _, id := range ids {
				tx.Change(store.TopicSession, id)
			}
			return tx.Record(identity.System("test").Event(store.IdentityStepUp, store.Target{Kind: "session"}))
		}))
		for method, fields := range map[string]url.Values{"GET": nil, "POST": form} {
			path := page
			if method == "POST" {
				path = "/cli"
			}
			a = s.do(method, path, fields, "Cookie", whole)
			require.Equal(s, http.StatusSeeOther, a.StatusCode)
			require.Equal(s, "/step-up?next="+url.QueryEscape(page), a.Header.Get("Location"))
		}
		require.Zero(s, s.codes())
	})
}

// TestCommandLineInABrowser: in a real Chromium the page's policy lets its form lead to the command line.
func TestCommandLineInABrowser(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		came := make(chan url.Values, 1)
		listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/callback" {
				came <- r.URL.Query()
				http.Redirect(w, r, "/done", http.StatusSeeOther)
				return
			}
			_, _ = w.Write([]byte("<p>the command line</p>"))
		}))
		defer listener.Close()
		_, port, _ := strings.Cut(strings.TrimPrefix(listener.URL, "http://"), ":")
		b := s.browse()
		b.open(cliPage(port))
		b.submit("/sign-in", "email", "ada@example.com", "password", planted)
		b.until(`document.querySelector("h1").textContent === "Sign in the command line?"`)
		b.js(`document.querySelector('form[action="/cli"] button').click(); ""`) // a click that the policy forbids leads nowhere, and chromedp's own would wait for it
		b.until(`location.pathname === "/done" && document.body.innerText.includes("the command line")`)
		require.Len(s, came, 1)
		got := <-came
		require.Equal(s, cliState, got.Get("state"))
		_, err := s.exchange(got.Get("code"))
		require.NoError(s, err)
		require.Empty(s, b.js("location.search"))
	})
}
