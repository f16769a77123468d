package signalboxtest

import (
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	formTag  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputTag = regexp.MustCompile(`(?s)<input\b([^>]*)>`)
	attr     = regexp.MustCompile(`([a-z_-]+)="([^"]*)"`)
)

func attributes(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attr.FindAllStringSubmatch(tag, -1) {
		out[m[1]] = html.UnescapeString(m[2])
	}
	return out
}

// Authorize opens an authorization request in a new browser, logs in, agrees to everything, and returns the address to which the server sends
// the browser back, which begins with redirect and has not been opened.
func (s *OAuthServer) Authorize(t testing.TB, address, redirect string) string {
	t.Helper()
	_, back := s.browse(t, address, redirect)
	require.NotEmpty(t, back, "the server did not come to an end")
	return back
}

// ApproveDevice opens the page of a device flow (verification_uri_complete) in a new browser, logs in and agrees. It returns the last page.
func (s *OAuthServer) ApproveDevice(t testing.TB, address string) string {
	t.Helper()
	page, _ := s.browse(t, address, "never:")
	return page
}

// browse fills in one form after the other until there is none, or until the server sends the browser to redirect.
func (s *OAuthServer) browse(t testing.TB, address, redirect string) (page, back string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	away := errors.New("sent back")
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			back = r.URL.String()
			return away
		}
		return nil
	}}
	resp, err := browser.Get(address)
	for range 8 {
		if errors.Is(err, away) {
			return "", back
		}
		require.NoError(t, err)
		text, err2 := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.NoError(t, err2)
		page = string(text)
		require.Less(t, resp.StatusCode, 400, "%s", page)
		form := formTag.FindStringSubmatch(page)
		if form == nil {
			return page, ""
		}
		fields := url.Values{}
		for _, input := range inputTag.FindAllStringSubmatch(form[2], -1) {
			a := attributes(input[1])
			fields.Set(a["name"], a["value"])
		}
		if fields.Has("login") {
			fields.Set("login", "ada")
			fields.Set("password", "any")
		}
		to, err3 := resp.Request.URL.Parse(attributes(form[1])["action"])
		require.NoError(t, err3)
		resp, err = browser.PostForm(to.String(), fields)
	}
	require.Fail(t, "the server asks without end", "%s", page)
	return "", ""
}
