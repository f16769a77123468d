package signalboxtest_test

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// browser keeps cookies as browsers do for this machine: also those that are Secure, over plain http, which Go's own jar does not.
type browser struct {
	t      *testing.T
	mu     sync.Mutex
	kept   map[string]map[string]string // by host and port, then name
	header http.Header                  // sent along
}

func newBrowser(t *testing.T) *browser {
	return &browser{t: t, kept: map[string]map[string]string{}, header: http.Header{}}
}

// SetCookies keeps them.
func (b *browser) SetCookies(u *url.URL, cookies []*http.Cookie) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[u.Host] == nil {
		b.kept[u.Host] = map[string]string{}
	}
	for _, c := range cookies {
		if c.MaxAge < 0 || c.Value == "" {
			delete(b.kept[u.Host], c.Name)
			continue
		}
		b.kept[u.Host][c.Name] = c.Value
	}
}

// Cookies returns those of a host.
func (b *browser) Cookies(u *url.URL) []*http.Cookie {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*http.Cookie
	for name, value := range b.kept[u.Host] {
		out = append(out, &http.Cookie{Name: name, Value: value})
	}
	return out
}

func (b *browser) cookie(base, name string) string {
	u, err := url.Parse(base)
	require.NoError(b.t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept[u.Host][name]
}

// seen is one page.
type seen struct {
	*http.Response
	text string
}

// step makes one request and follows nothing.
func (b *browser) step(method, address string, form url.Values) seen {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(b.t.Context()), method, address, body)
	require.NoError(b.t, err)
	for name, values := range b.header {
		req.Header[name] = values
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := http.Client{Jar: b, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return seen{resp, string(text)}
}

// to is where a page leads by itself, "" for nowhere.
func (s seen) to() string {
	address := s.Header.Get("Location")
	if _, refresh, ok := strings.Cut(s.Header.Get("Refresh"), "url="); ok {
		address = refresh
	}
	if address == "" {
		return ""
	}
	u, err := s.Request.URL.Parse(address)
	if err != nil {
		return ""
	}
	return u.String()
}

// walk goes where pages lead, until one leads nowhere or before the address that stop holds.
func (b *browser) walk(at seen, stop string) (seen, string) {
	b.t.Helper()
	for range 20 {
		next := at.to()
		if next == "" || stop != "" && strings.Contains(next, stop) {
			return at, next
		}
		at = b.step("GET", next, nil)
	}
	b.t.Fatal("the pages lead in circles")
	return seen{}, ""
}

var (
	formTag  = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)
	inputTag = regexp.MustCompile(`<input[^>]*>`)
	nameOf   = regexp.MustCompile(` name="([^"]*)"`)
	valueOf  = regexp.MustCompile(` value="([^"]*)"`)
)

// fill submits the form of a page whose action ends so.
func (b *browser) fill(page seen, action string, more url.Values) seen {
	b.t.Helper()
	for _, part := range strings.SplitAfter(page.text, "</form>") {
		at := formTag.FindStringSubmatch(part)
		if at == nil || !strings.Contains(at[1], action) {
			continue
		}
		form := url.Values{}
		for _, tag := range inputTag.FindAllString(part, -1) {
			if name := nameOf.FindStringSubmatch(tag); name != nil {
				value := ""
				if v := valueOf.FindStringSubmatch(tag); v != nil {
					value = html.UnescapeString(v[1])
				}
				form.Set(name[1], value)
			}
		}
		for name, values := range more {
			form[name] = values
		}
		u, err := page.Request.URL.Parse(html.UnescapeString(at[1]))
		require.NoError(b.t, err)
		return b.step("POST", u.String(), form)
	}
	require.Fail(b.t, "there is no such form", "%s in %s", action, page.text)
	return seen{}
}
