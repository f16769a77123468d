package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// cookie returns the session's cookie that an answer sets, as a Cookie header; the test fails when it lacks what protects it.
func (s *site) cookie(a answer) string {
	s.Helper()
	all := a.Cookies()
	require.Len(s, all, 1, "%d %s", a.StatusCode, a.text)
	c := all[0]
	require.Equal(s, "__Host-signalbox", c.Name)
	require.True(s, c.Secure && c.HttpOnly, "%v", c)
	require.Equal(s, "/", c.Path)
	require.Empty(s, c.Domain, "a __Host- cookie has none")
	require.Equal(s, http.SameSiteLaxMode, c.SameSite)
	require.Regexp(s, `^sbc_[A-Za-z0-9]{38}$`, c.Value)
	return c.Name + "=" + c.Value
}

// administrator sets up and returns the cookie of a new session.
func (s *site) administrator() string {
	s.Helper()
	_, _, err := s.rooms.Setup(s.Context(), identity.Caller{Kind: identity.KindAnonymous}, secret.FromString(s.link()), "ada@example.com", "Ada", secret.FromString(planted))
	require.NoError(s, err)
	return s.signIn("")
}

func credentials(next string) url.Values {
	return url.Values{"email": {"ada@example.com"}, "password": {planted}, "next": {next}}
}

// signIn signs the administrator in from a browser that has this Cookie header, and returns the one it has then.
func (s *site) signIn(before string) string {
	s.Helper()
	a := s.do("POST", "/sign-in", credentials("/"), "Origin", s.url, "Sec-Fetch-Site", "same-origin", "Cookie", before)
	require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
	require.Equal(s, "/", a.Header.Get("Location"))
	return s.cookie(a)
}

// form returns the fields of a page's first form that has a token, filled.
func (s *site) form(cookie, path string, fill ...string) url.Values {
	s.Helper()
	page := s.do("GET", path, nil, "Cookie", cookie)
	require.Equal(s, http.StatusOK, page.StatusCode, page.text)
	form := url.Values{"form": {fields(page.text)["form"]}}
	require.NotEmpty(s, form.Get("form"))
	for i := 0; i < len(fill); i += 2 {
		form.Set(fill[i], fill[i+1])
	}
	return form
}

func (s *site) isSignedIn(cookie string) bool {
	s.Helper()
	a := s.do("GET", "/account", nil, "Cookie", cookie)
	if a.StatusCode == http.StatusOK {
		return true
	}
	require.Equal(s, http.StatusSeeOther, a.StatusCode)
	require.Equal(s, "/sign-in?next=%2Faccount", a.Header.Get("Location"))
	return false
}

func TestSignInAndOut(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		page := s.do("GET", "/sign-in", nil)
		require.Equal(s, http.StatusOK, page.StatusCode)
		require.Contains(s, page.text, `type="password"`)
		require.NotContains(s, page.text, "<script")

		wrong := credentials("/")
		wrong.Set("password", "planted-wrong-password")
		a := s.do("POST", "/sign-in", wrong)
		require.Equal(s, http.StatusForbidden, a.StatusCode)
		require.Empty(s, a.Cookies())
		require.NotContains(s, a.text, "planted-wrong-password")
		require.Contains(s, a.text, `value="ada@example.com"`)

		require.True(s, s.isSignedIn(cookie))
		for _, broken := range []string{
			strings.Replace(cookie, "__Host-", "", 1), strings.Replace(cookie, "__Host-", "__Secure-", 1), cookie + "x", cookie[:len(cookie)-1],
			cookie + "; " + cookie, "__Host-signalbox=", "",
		} {
			require.False(s, s.isSignedIn(broken), broken)
		}
		require.Equal(s, http.StatusOK, s.do("GET", "/sign-out", nil, "Cookie", cookie).StatusCode)
		require.True(s, s.isSignedIn(cookie), "looking at the page signs nobody out")
		out := s.do("POST", "/sign-out", s.form(cookie, "/sign-out"), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, out.StatusCode)
		require.Equal(s, -1, out.Cookies()[0].MaxAge)
		require.False(s, s.isSignedIn(cookie))
		require.NotContains(s, s.log.String(), strings.TrimPrefix(cookie, "__Host-signalbox="))
		require.NotContains(s, s.log.String(), "planted-wrong-password")
	})
}

// TestSessionFixation: a cookie that somebody planted in the browser is not what the person is signed in with, and a sign-in ends the session
// that the browser had.
func TestSessionFixation(t *testing.T) {
	each(t, func(s *site) {
		attackers := s.administrator()
		victims := s.signIn(attackers)
		require.NotEqual(s, attackers, victims)
		require.True(s, s.isSignedIn(victims))
		require.False(s, s.isSignedIn(attackers))

		stepped := s.do("POST", "/step-up", s.form(victims, "/step-up", "password", planted, "next", "/account"), "Cookie", victims)
		require.Equal(s, http.StatusSeeOther, stepped.StatusCode, stepped.text)
		require.Equal(s, "/account", stepped.Header.Get("Location"))
		after := s.cookie(stepped)
		require.NotEqual(s, victims, after, "the secret changes with what it may do")
		require.False(s, s.isSignedIn(victims))
		require.True(s, s.isSignedIn(after))
	})
}

// TestForgedForms: what another site makes a browser send is refused, with the cookie and without a right form token.
func TestForgedForms(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		other := s.signIn("")
		good := func() url.Values { return s.form(cookie, "/account", "name", "Eve") }
		for name, header := range map[string][]string{
			"another site":       {"Sec-Fetch-Site", "cross-site"},
			"a neighbour":        {"Sec-Fetch-Site", "same-site"},
			"an old browser":     {"Origin", "https://evil.example"},
			"an opaque document": {"Origin", "null"},
		} {
			for _, path := range []string{"/account/name", "/sign-out", "/sign-in", "/step-up", "/invite", "/account/sessions/end-others"} {
				a := s.do("POST", path, good(), append([]string{"Cookie", cookie}, header...)...)
				require.Equal(s, http.StatusForbidden, a.StatusCode, "%s %s", name, path)
			}
		}
		for name, token := range map[string]string{"none": "", "of another session": s.form(other, "/account").Get("form"), "garbage": "AAAA"} {
			form := good()
			form.Set("form", token)
			a := s.do("POST", "/account/name", form, "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
			require.Equal(s, http.StatusForbidden, a.StatusCode, name)
			require.Contains(s, a.text, "nothing was done")
		}
		require.NotContains(s, s.do("GET", "/account", nil, "Cookie", cookie).text, "Eve")
		require.True(s, s.isSignedIn(cookie))
		require.Equal(s, http.StatusSeeOther, s.do("POST", "/account/name", good(), "Cookie", cookie, "Sec-Fetch-Site", "same-origin").StatusCode)
		require.Contains(s, s.do("GET", "/account", nil, "Cookie", cookie).text, "Eve")
		require.NotContains(s, s.form(cookie, "/account").Get("form"), cookie[len(cookie)-8:])
	})
}

// TestOpenRedirect: after a sign-in nobody lands elsewhere than on this server.
func TestOpenRedirect(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		require.NotEmpty(s, cookie)
		for next, want := range map[string]string{
			"/account": "/account", "/account?done=name": "/account?done=name", "/": "/", "": "/",
			"https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", `\\evil.example`: "/", "/\t/evil.example": "/", "/%2f/evil.example": "/",
			"///evil.example": "/", "http:evil.example": "/", "javascript:alert(1)": "/", "/.evil": "/", "/a//b@evil": "/", "/\r\nSet-Cookie: a=b": "/", "evil.example": "/",
			"/sign-out": "/", "/sign-in?next=/x": "/", "/" + strings.Repeat("a", 2000): "/", " /account": "/", "/@evil.example": "/",
		} {
			a := s.do("GET", "/sign-in?next="+url.QueryEscape(next), nil, "Cookie", cookie)
			require.Equal(s, http.StatusSeeOther, a.StatusCode)
			require.Equal(s, want, a.Header.Get("Location"), "%q", next)
			form := s.do("GET", "/sign-in?next="+url.QueryEscape(next), nil)
			require.Equal(s, want, fields(form.text)["next"], "%q", next)
		}
		for _, next := range []string{"//evil.example", "https://evil.example", "/account"} {
			a := s.do("POST", "/sign-in", credentials(next))
			require.Equal(s, http.StatusSeeOther, a.StatusCode)
			require.Equal(s, map[bool]string{true: "/account", false: "/"}[next == "/account"], a.Header.Get("Location"))
		}
	})
}

// TestPagesAreNotFramed: clickjacking needs a frame.
func TestPagesAreNotFramed(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for _, path := range []string{"/", "/account", "/sign-in", "/sign-out", "/step-up", "/invite?token=x", "/setup", "/nowhere", cliPage("40123")} {
			for _, c := range []string{"", cookie} {
				h := s.do("GET", path, nil, "Cookie", c).Header
				require.Equal(s, "DENY", h.Get("X-Frame-Options"), path)
				require.Contains(s, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
				require.Contains(s, h.Get("Content-Security-Policy"), "form-action 'self'", path)
				require.Equal(s, "no-store", h.Get("Cache-Control"), path)
			}
		}
	})
}

func TestAccount(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		other := s.signIn("")
		a := s.do("POST", "/account/password", s.form(cookie, "/account", "current_password", "not the password", "new_password", "another long one"), "Cookie", cookie)
		require.Equal(s, http.StatusForbidden, a.StatusCode)
		require.Contains(s, a.text, "not your current password")
		a = s.do("POST", "/account/password", s.form(cookie, "/account", "current_password", planted, "new_password", "short"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, "12 to 1024 bytes")
		require.True(s, s.isSignedIn(other))
		a = s.do("POST", "/account/password", s.form(cookie, "/account", "current_password", planted, "new_password", "another long one"), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		now := s.cookie(a)
		require.False(s, s.isSignedIn(cookie), "the secret changed")
		require.False(s, s.isSignedIn(other), "the other sessions ended")
		require.True(s, s.isSignedIn(now))

		in, err := s.rooms.Login(s.Context(), identity.Caller{Kind: identity.KindAnonymous, UserAgent: "<b>Browser</b>"}, "ada@example.com", secret.FromString("another long one"), identity.SessionBrowser)
		require.NoError(s, err)
		page := s.do("GET", "/account", nil, "Cookie", now)
		require.Contains(s, page.text, "&lt;b&gt;Browser&lt;/b&gt;")
		require.Equal(s, []string{"/account/sessions/" + in.Session.ID + "/end"}, regexp.MustCompile(`/account/sessions/ses_[a-z0-9]+/end`).FindAllString(page.text, -1), "there is no button for the own session")
		require.Equal(s, http.StatusSeeOther, s.do("POST", "/account/sessions/"+in.Session.ID+"/end", s.form(now, "/account"), "Cookie", now).StatusCode)
		require.False(s, s.isSignedIn("__Host-signalbox="+in.Secret.Reveal()))
		require.True(s, s.isSignedIn(now))
	})
}

func TestInvitation(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		_, link, err := s.rooms.CreateUser(s.Context(), identity.System("test"), identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member})
		require.NoError(s, err)
		page := s.do("GET", "/invite?token="+link.Secret.Reveal(), nil)
		require.Equal(s, http.StatusOK, page.StatusCode)
		form := url.Values{"token": {fields(page.text)["token"]}, "password": {"short"}}
		require.Equal(s, http.StatusUnprocessableEntity, s.do("POST", "/invite", form).StatusCode)
		form.Set("password", "a sentence of words")
		done := s.do("POST", "/invite", form)
		require.Equal(s, http.StatusSeeOther, done.StatusCode, done.text)
		require.True(s, s.isSignedIn(s.cookie(done)))
		again := s.do("POST", "/invite", form)
		require.Equal(s, http.StatusForbidden, again.StatusCode)
		require.Empty(s, again.Cookies())
		require.NotContains(s, s.log.String(), link.Secret.Reveal())
		require.NotContains(s, s.log.String(), "a sentence of words")
		require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error {
			var n int
			require.NoError(s, tx.Get(&n, `SELECT COUNT(*) FROM user_links`))
			require.Zero(s, n)
			return nil
		}))
	})
}

// TestPagesAreCounted: what somebody who is signed in asks of the pages counts for them, and over the limit nothing is done.
func TestPagesAreCounted(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		form := s.form(cookie, "/account", "name", "Renamed")
		s.busy.Store(true)
		for method, path := range map[string]string{"GET": "/account", "POST": "/account/name"} {
			var fields url.Values
			if method == "POST" {
				fields = form
			}
			a := s.do(method, path, fields, "Cookie", cookie)
			require.Equal(s, http.StatusTooManyRequests, a.StatusCode, a.text)
			require.Equal(s, "7", a.Header.Get("Retry-After"))
		}
		s.busy.Store(false)
		require.NotContains(s, s.do("GET", "/account", nil, "Cookie", cookie).text, "Renamed")
	})
}

// TestCookiesAreNoGuessingGame: cookies that are nobody's count as failures of their address. Beyond the limit a page says so; who is signed in goes
// on, and whoever is left with an old cookie still signs in.
func TestCookiesAreNoGuessingGame(t *testing.T) {
	const limit = 4
	eachWith(t, identity.Config{FailureLimit: limit}, func(s *site) {
		cookie := s.administrator()
		guess := "__Host-signalbox=sbc_" + strings.Repeat("0", 38)
		minute := func() (n int64) {
			require.NoError(s, s.db.Read(s.Context(), func(tx *store.Tx) error { n = tx.Now().Unix() / 60; return nil }))
			return n
		}
		for from := int64(0); from != minute(); { // when a minute ends meanwhile, the counts say nothing; then it is done again
			from = minute()
			before := s.rooms.Failures()[identity.FailedSession]
			var a answer
			for range limit {
				a = s.do("GET", "/account", nil, "Cookie", guess)
				if minute() == from {
					require.Equal(s, http.StatusSeeOther, a.StatusCode)
				}
			}
			a = s.do("GET", "/account", nil, "Cookie", guess)
			if minute() != from {
				continue
			}
			require.Equal(s, http.StatusTooManyRequests, a.StatusCode)
			require.NotEmpty(s, a.Header.Get("Retry-After"))
			require.Equal(s, http.StatusSeeOther, s.do("GET", "/account", nil).StatusCode, "no cookie is no guess")
			require.Equal(s, int64(limit+1), s.rooms.Failures()[identity.FailedSession]-before)
			require.Equal(s, http.StatusOK, s.do("GET", "/sign-in", nil, "Cookie", guess).StatusCode)
			require.True(s, s.isSignedIn(s.signIn(guess)))
			require.True(s, s.isSignedIn(cookie))
		}
	})
}
