package web_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
)

// asked is a form of a page, as a browser would send it.
type asked struct {
	page, method, action string
	values               url.Values
	texts, passwords     []string // names of what a person types
}

// attribute reads one of a tag.
func attribute(tag, name string) string {
	m := regexp.MustCompile(`[\s]` + regexp.QuoteMeta(name) + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func has(tag, name string) bool {
	return regexp.MustCompile(`[\s]` + regexp.QuoteMeta(name) + `(?:[\s=/>]|$)`).MatchString(tag)
}

var (
	wholeForm = regexp.MustCompile(`(?s)<form[^>]*>.*?</form>`)
	openTag   = regexp.MustCompile(`<form[^>]*>`)
	inputs    = regexp.MustCompile(`<input[^>]*>`)
	texts     = regexp.MustCompile(`(?s)(<textarea[^>]*>)(.*?)</textarea>`)
	selects   = regexp.MustCompile(`(?s)(<select[^>]*>)(.*?)</select>`)
	options   = regexp.MustCompile(`<option[^>]*>`)
)

// formsOf reads the forms of a page. In each group of boxes the first is ticked, unless one is already.
func formsOf(page, text string) (out []asked) {
	for _, form := range wholeForm.FindAllString(text, -1) {
		tag := openTag.FindString(form)
		f := asked{page: page, method: attribute(tag, "method"), action: attribute(tag, "action"), values: url.Values{}}
		for _, in := range inputs.FindAllString(form, -1) {
			name, kind, value := attribute(in, "name"), attribute(in, "type"), attribute(in, "value")
			switch {
			case name == "":
				continue
			case kind == "checkbox" || kind == "radio":
				if f.values.Get(name) == "" || has(in, "checked") {
					f.values.Set(name, value)
				}
				continue
			case kind == "password" || strings.HasPrefix(name, "secrets/"):
				f.passwords = append(f.passwords, name)
			case !slices.Contains([]string{"hidden", "number", "date", "datetime-local", "file"}, kind):
				f.texts = append(f.texts, name)
			}
			f.values.Set(name, value)
		}
		for _, m := range texts.FindAllStringSubmatch(form, -1) {
			if name := attribute(m[1], "name"); strings.HasPrefix(name, "secrets/") {
				f.passwords = append(f.passwords, name)
			} else {
				f.texts = append(f.texts, name)
			}
			f.values.Set(attribute(m[1], "name"), html.UnescapeString(m[2]))
		}
		for _, m := range selects.FindAllStringSubmatch(form, -1) {
			chosen := ""
			for i, o := range options.FindAllString(m[2], -1) {
				if i == 0 || has(o, "selected") {
					chosen = attribute(o, "value")
				}
			}
			f.values.Set(attribute(m[1], "name"), chosen)
		}
		out = append(out, f)
	}
	return out
}

var anyID = regexp.MustCompile(`[a-z]+_[0-9a-z]{20,}`)

// kind names a form by where it leads and what it asks, whichever thing it is about.
func (f asked) kind() string {
	return anyID.ReplaceAllString(f.action, "{id}") + " " + strings.Join(f.texts, ",")
}

var link = regexp.MustCompile(`(?:href|data-from|hx-get)="(/[^"]*)"`)

// walk reads every page that links lead to, from the overview on, and hands each to fn.
func (s *site) walk(cookie string, fn func(path string, a answer)) {
	s.Helper()
	todo, seen := []string{"/", "/styleguide", "/tokens?whose=all", "/search?q=script", "/filters", "/trains?q=w", "/credentials?q=script"}, map[string]bool{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		require.Less(s, len(seen), 3000, "the pages have no end")
		a := s.do("GET", path, nil, "Cookie", cookie)
		require.Equal(s, "nosniff", a.Header.Get("X-Content-Type-Options"), path)
		require.NotEqual(s, http.StatusInternalServerError, a.StatusCode, path)
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			continue
		}
		fn(path, a)
		for _, m := range link.FindAllStringSubmatch(a.text, -1) {
			to, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
			if to == "" || regexp.MustCompile(`^/(assets|api|live|sign-out|audit/export)|\.csv|[?&](cursor|sort)=|^/audit\?`).MatchString(to) {
				continue
			}
			todo = append(todo, to)
		}
	}
}

// mended are the values that fields get which refuse markup, by their names: an address, a host, a word for machines. A field that comes to refuse what is
// hostile to a page, or that asks for something new of this sort, is a line here.
func mended(n int) map[string]string {
	web, word := fmt.Sprintf("https://h%d.example.com", n), fmt.Sprintf("word-%d", n)
	return map[string]string{
		"credential_ids": "", "user_ids": "", "train_ids": "", "path": "/v1/models", "header": "", "host_key": "", "recipients": "", "url": web, "email": word + "@example.com", "train_id": word, "alias": word, "account_id": "acc_" + word, "base_url": web, "external_url": web, "internal_url": web, "hosts": fmt.Sprintf("h%d.example.com", n), "tags": "tag",
		"oauth/token_endpoint": web, "oauth/resource": web, "oauth/scopes": "read", "oauth/client_id": "client", "issuer": web, "jwks_url": web, "authorize_url": web, "token_urls": web, "device_url": web, "redirect_url": web,
		"grantee": "mia@example.com", "who": "mia@example.com", "user_id": "mia@example.com", "allowed_domains": "example.com", "link_domains": "", "roles": "", "subjects": "", "audience": "signalbox", "scopes": "read", "resource": "",
		"host": "mail.example.com", "from": "box@example.com", "to": "you@example.com", "username": "box", "field": "pin", "name": word, "client_id": "client", "provider": "anthropic", "acr_values": "",
		"email_claim": "", "verified_claim": "", "name_claim": "", "groups_claim": "", "subject_claim": "", "terms_url": web, "revoke_url": web, "userinfo_url": web, "plugin_name": "plugin", "service_id": "", "infrastructure_id": "", // which there must be
		"/connections/providers issuer": "", "/connections/providers/work/settings issuer": "", // one that is given is asked at once
		"inject/name": "", "methods": "", "paths": "",
		"upstream/ca_bundle": "", "upstream/proxy_url": "", "upstream/proxy_username": "", // of accounts alone
		"/settings/keys/seal typed": "seal", // the word that is asked for
		"monthly_cost_usd":          "12.5", "models": "claude-*",
		"channel": "#agents", "icon_emoji": ":robot_face:",
	}
}
