package web_test

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// consents is an OAuth server whose token endpoint counts what it is asked.
type consents struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values
}

func (c *consents) calls() []url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]url.Values{}, c.asked...)
}

// openLogins makes the logins, with a provider "work" and one that is another server, "paste" among them.
func (s *site) openLogins(ring *keyring.Ring) {
	s.Helper()
	s.consents = &consents{}
	s.consents.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if r.Method == http.MethodGet { // its page
			q := url.Values{"state": r.Form["state"], "code": {"planted-code"}}
			_, _ = io.WriteString(w, `<!DOCTYPE html><title>Consent</title><a id="agree" href="`+html.EscapeString(r.Form.Get("redirect_uri")+"?"+q.Encode())+`">Agree</a>`)
			return
		}
		s.consents.mu.Lock()
		s.consents.asked = append(s.consents.asked, r.PostForm)
		s.consents.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"planted-access-0123456789","refresh_token":"planted-refresh-0123456789","token_type":"bearer","expires_in":3600}`)
	}))
	s.Cleanup(s.consents.Close)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(s, err)
	s.vault, err = vault.New(vault.Config{DB: s.db, Ring: ring, Binder: ring, CheckURL: policy.CheckURL})
	require.NoError(s, err)
	wire := provider.New(provider.Config{Policy: policy})
	s.logins, err = oauth.NewLogins(oauth.LoginsConfig{DB: s.db, Vault: s.vault, Ring: ring, Binder: ring, Wire: wire, CheckURL: policy.CheckURL})
	require.NoError(s, err)
	s.Cleanup(s.logins.Close)
	s.oauth, err = oauth.New(oauth.Config{DB: s.db, Vault: s.vault, Ring: ring, Endpoint: wire, Servers: s.logins, SpillDir: s.TempDir()})
	require.NoError(s, err)
	s.Cleanup(s.oauth.Close)
}

var boss = identity.Caller{Kind: identity.KindPerson, ID: "user_boss", UserID: "user_boss", Name: "boss", Role: identity.Administrator, SteppedUpAt: time.Now().Add(time.Hour)}

func (s *site) provider(e oauth.ProviderEdit) {
	s.Helper()
	u, id, key := s.consents.URL, "client-1", secret.FromString("planted-client-secret")
	e.AuthorizeURL, e.TokenURLs, e.ClientID, e.ClientSecret = &u, &[]string{u + "/token"}, &id, &key
	_, err := s.logins.AddProvider(s.Context(), boss, e)
	require.NoError(s, err)
}

// goes submits the form of the connect page and returns where the browser is led.
func (s *site) goes(cookie string, fill ...string) *url.URL {
	s.Helper()
	a := s.do("POST", "/connect", s.form(cookie, "/connect", fill...), "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	require.Equal(s, http.StatusOK, a.StatusCode, a.text)
	require.Equal(s, "no-referrer", a.Header.Get("Referrer-Policy"))
	there, ok := strings.CutPrefix(a.Header.Get("Refresh"), "0;url=")
	require.True(s, ok)
	u, err := url.Parse(there)
	require.NoError(s, err)
	return u
}

// comes is the way back from the provider, with a code.
func comes(u *url.URL, change func(url.Values)) string {
	q := url.Values{"code": {"planted-code"}, "state": {u.Query().Get("state")}}
	if change != nil {
		change(q)
	}
	back, _ := url.Parse(u.Query().Get("redirect_uri"))
	return back.Path + "?" + q.Encode()
}

// TestConnect: from the page to the provider and back to where the login began, in this session alone and once; and again for the same credential.
func TestConnect(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		require.Contains(s, s.do("GET", "/connect", nil, "Cookie", cookie).text, "There is no provider to log in at yet")
		name, title := "work", "Work"
		s.provider(oauth.ProviderEdit{Name: &name, Title: &title, Scopes: &[]string{"read"}})
		page := s.do("GET", "/connect?provider=work&name=Mine&next=/account&plugin=p1", nil, "Cookie", cookie)
		require.Contains(s, page.text, `<option value="work" selected>Work</option>`)
		require.NotContains(s, page.text, "anthropic", "it is off")
		require.Equal(s, "/account", fields(page.text)["next"])

		u := s.goes(cookie, "provider", "work", "name", "Mine", "next", "/account?x=1", "plugin", "p1")
		require.Equal(s, s.url+"/api/auth/oauth/callback", u.Query().Get("redirect_uri"))
		require.Equal(s, "S256", u.Query().Get("code_challenge_method"))

		other := s.signIn("")
		for who, c := range map[string]string{"nobody": "", "another session": other} {
			a := s.do("GET", comes(u, nil), nil, "Cookie", c)
			require.Contains(s, []int{403, 409}, a.StatusCode, "%s: %s %s", who, a.text, s.log.String())
			require.Empty(s, s.consents.calls(), who)
		}
		a := s.do("GET", comes(u, nil), nil, "Cookie", cookie)
		require.Equal(s, http.StatusConflict, a.StatusCode, "it was seen in another session")

		u = s.goes(cookie, "provider", "work", "name", "Mine", "next", "/account?x=1", "plugin", "p1")
		a = s.do("GET", comes(u, func(q url.Values) { q.Set("next", "https://evil.example"); q.Set("return_to", "//evil.example") }), nil, "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		require.Equal(s, "/account?x=1", a.Header.Get("Location"))
		again := s.do("GET", comes(u, nil), nil, "Cookie", cookie)
		require.Equal(s, http.StatusConflict, again.StatusCode)
		require.Contains(s, again.text, "finished already")
		require.Len(s, s.consents.calls(), 1)
		require.NotEmpty(s, s.consents.calls()[0].Get("code_verifier"))

		list := s.do("GET", "/connections", nil, "Cookie", cookie)
		require.Regexp(s, `<th scope="row"><a href="/connections/cred_[0-9a-z]+">Mine</a></th><td[^>]*>work</td>`, list.text)
		require.Regexp(s, `</svg> ?healthy</span>`, list.text)
		id := regexp.MustCompile(`/connect\?credential=(cred_[0-9a-z]+)&amp;next=`).FindStringSubmatch(list.text)
		require.NotNil(s, id)
		require.Contains(s, s.do("GET", "/connect?credential="+id[1], nil, "Cookie", cookie).text, "You log in again for <strong>Mine</strong>")
		u = s.goes(cookie, "credential", id[1])
		a = s.do("GET", comes(u, nil), nil, "Cookie", cookie)
		require.Equal(s, "/connections?done=connected", a.Header.Get("Location"), a.text)
		c, err := s.vault.Get(s.Context(), boss, id[1])
		require.NoError(s, err)
		require.EqualValues(s, 2, c.Version)
		require.Equal(s, "p1", c.PluginName)
		require.NotContains(s, s.log.String()+list.text+a.text, "planted-access")
	})
}

// TestReturnPathsStayHere: where the browser goes after a login is a page of this server, whatever the link said.
func TestReturnPathsStayHere(t *testing.T) {
	each(t, func(s *site) {
		cookie, name := s.administrator(), "work"
		s.provider(oauth.ProviderEdit{Name: &name})
		for _, next := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/sign-out", "/a b", "\thttps://evil.example"} {
			u := s.goes(cookie, "provider", "work", "name", "x", "next", next)
			a := s.do("GET", comes(u, nil), nil, "Cookie", cookie)
			require.Equal(s, http.StatusSeeOther, a.StatusCode, next)
			require.Equal(s, "/", a.Header.Get("Location"), next)
		}
	})
}

// TestCallbacksThatAreNone: what is no answer, an answer that says no, and an answer of another server store nothing.
func TestCallbacksThatAreNone(t *testing.T) {
	each(t, func(s *site) {
		cookie, name, issuer := s.administrator(), "work", s.consents.URL
		s.provider(oauth.ProviderEdit{Name: &name, Issuer: &issuer})
		for what, c := range map[string]struct {
			change func(url.Values)
			status int
			text   string
		}{
			"no code":    {func(q url.Values) { q.Del("code") }, 400, "holds no code"},
			"no state":   {func(q url.Values) { q.Del("state") }, 400, "does not belong"},
			"two states": {func(q url.Values) { q.Add("state", "x") }, 400, "says something twice"},
			"two codes":  {func(q url.Values) { q.Add("code", "x") }, 400, "says something twice"},
			"yes and no": {func(q url.Values) { q.Set("error", "access_denied") }, 400, "both yes and no"},
			"no": {func(q url.Values) {
				q.Del("code")
				q.Set("error", "access_denied")
				q.Set("error_description", "planted text")
			}, 422, "said no"},
			"another's":    {func(q url.Values) { q.Set("iss", "https://other.example") }, 409, "another provider"},
			"unknown":      {func(q url.Values) { q.Set("state", "planted-unknown") }, 409, "no login that was begun here"},
			"odd failures": {func(q url.Values) { q.Del("code"); q.Set("error", "<script>planted") }, 422, "refused the login"},
		} {
			u := s.goes(cookie, "provider", "work", "name", "x")
			a := s.do("GET", comes(u, c.change), nil, "Cookie", cookie)
			require.Equal(s, c.status, a.StatusCode, "%s: %s", what, a.text)
			require.Contains(s, a.text, c.text, what)
			require.NotContains(s, a.text, "planted", what)
			require.NotContains(s, a.text, "<script", what)
		}
		require.Empty(s, s.consents.calls())
		require.NotContains(s, s.log.String(), "planted-code")
	})
}

// TestPasteBack: where the provider's page shows a code, the person brings it here.
func TestPasteBack(t *testing.T) {
	each(t, func(s *site) {
		cookie, name, page, yes := s.administrator(), "paste", "https://id.example.com/code", true
		s.provider(oauth.ProviderEdit{Name: &name, PasteBack: &yes, RedirectURL: &page, StateInExchange: &yes})
		a := s.do("POST", "/connect", s.form(cookie, "/connect", "provider", "paste", "name", "x"), "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode, a.text)
		state := regexp.MustCompile(`state=([A-Za-z0-9_-]{20,})`).FindStringSubmatch(a.text)
		require.NotNil(s, state)
		form := url.Values{"form": {fields(a.text)["form"]}, "pasted": {"planted-code"}}
		bad := s.do("POST", "/connect/paste", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, bad.StatusCode)
		require.Contains(s, bad.text, "lacks the part after the #")
		require.NotContains(s, bad.text, "planted-code")
		form.Set("pasted", "planted-code#"+state[1])
		done := s.do("POST", "/connect/paste", form, "Cookie", cookie)
		require.Equal(s, "/connections?done=connected", done.Header.Get("Location"), done.text)
		sent := s.consents.calls()[0]
		require.Equal(s, page, sent.Get("redirect_uri"))
		require.Equal(s, state[1], sent.Get("state"))
	})
}

// TestConnectNeedsWhoIsAsked: strangers are sent to sign in, and forms of others do nothing.
func TestConnectNeedsWhoIsAsked(t *testing.T) {
	each(t, func(s *site) {
		cookie, name := s.administrator(), "work"
		s.provider(oauth.ProviderEdit{Name: &name})
		for _, path := range []string{"/connect", "/connections"} {
			a := s.do("GET", path, nil)
			require.Equal(s, http.StatusSeeOther, a.StatusCode)
			require.Contains(s, a.Header.Get("Location"), "/sign-in")
		}
		good := s.form(cookie, "/connect", "provider", "work", "name", "x")
		require.Equal(s, 403, s.do("POST", "/connect", good, "Cookie", cookie, "Sec-Fetch-Site", "cross-site").StatusCode)
		good.Set("form", "AAAA")
		require.Equal(s, 403, s.do("POST", "/connect", good, "Cookie", cookie).StatusCode)
		// A name that is missing is told beside its field.
		a := s.do("POST", "/connect", s.form(cookie, "/connect", "provider", "work", "name", ""), "Cookie", cookie)
		require.Equal(s, 422, a.StatusCode)
		require.Contains(s, a.text, `aria-invalid="true"`)
	})
}

// TestALinkToConnectSaysWhatItAsksFor: whoever follows a link sees where the token goes, what it allows and what it is for, and is warned of a host that
// is not the provider's own.
func TestALinkToConnectSaysWhatItAsksFor(t *testing.T) {
	each(t, func(s *site) {
		cookie, base := s.administrator(), "https://api.example.com/v1"
		for _, name := range []string{"work", "other"} {
			s.provider(oauth.ProviderEdit{Name: &name, BaseURL: &base, Hosts: &[]string{"api.example.com", "files.example.com"}})
		}
		page := func(q url.Values) string {
			a := s.do("GET", "/connect?"+q.Encode(), nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, a.StatusCode, a.text)
			text, _, ok := strings.Cut(a.text, "Go to the provider") // before the button
			require.True(s, ok)
			return text
		}
		const warning = "is not known to belong to the provider"
		plain := page(url.Values{"provider": {"work"}, "name": {"Mine"}})
		require.NotContains(s, plain, warning)
		require.NotContains(s, plain, "asks for this")
		require.Contains(s, plain, `value="other"`)

		for _, evil := range []string{"https://evil.example/x", "https://api.example.com.evil.example", "https://api.example.com@evil.example", "http://files.example.com", "http://api.example.com", "//evil.example"} {
			for _, of := range []string{"work", "", "none"} {
				text := page(url.Values{"provider": {of}, "base_url": {evil}})
				require.Contains(s, text, "The token is sent to: <code>"+evil+"</code>")
				require.Contains(s, text, warning, evil)
			}
		}
		require.NotContains(s, page(url.Values{"provider": {"work"}, "base_url": {"https://evil.example"}}), `value="other"`, "the warning is for one provider")
		for _, own := range []string{"https://api.example.com/other", "https://FILES.example.com"} {
			text := page(url.Values{"provider": {"work"}, "base_url": {own}})
			require.Contains(s, text, "<code>"+own+"</code>")
			require.NotContains(s, text, warning, own)
		}
		text := page(url.Values{"provider": {"work"}, "scope": {"admin <b>"}, "resource": {"https://mcp.example.com/x"}})
		require.Contains(s, text, "<code>admin &lt;b&gt;</code>")
		require.Contains(s, text, "<code>https://mcp.example.com/x</code>")

		// The page that says what was wrong says it again.
		a := s.do("POST", "/connect", s.form(cookie, "/connect", "provider", "work", "name", "", "base_url", "https://evil.example"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(s, a.text, warning)
	})
}
