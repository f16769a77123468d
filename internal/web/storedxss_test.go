package web_test

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// sown is what was typed into the fields of forms: each text of its own, so that a page that shows one tells where it came from.
type sown struct {
	*site
	cookie string
	n      int
	from   map[string]string // by the text, the form and the field that took it
	secret []string          // what was typed where it is not to be seen
}

func (w *sown) next(where string) string {
	w.n++
	text := fmt.Sprintf(`"><script>x%d</script>`, w.n)
	w.from[text] = where
	return text
}

// submits sends a form with markup in each of its fields. A field that refuses it gets what it wants instead, after the address of a script where it wants
// an address, and is left out when it refuses that as well: the page that says so shows what was typed as text.
func (w *sown) submits(f asked) {
	w.Helper()
	w.n++
	mend, typed, refusals := mended(w.n), map[string]string{}, map[string]int{}
	for _, name := range f.texts {
		typed[name] = w.next(f.kind() + ": " + name)
	}
	for range 10 {
		forms := formsOf(f.page, w.do("GET", f.page, nil, "Cookie", w.cookie).text)
		i := slices.IndexFunc(forms, func(one asked) bool { return one.action == f.action })
		if !assert.GreaterOrEqual(w, i, 0, "the form %s is gone from %s", f.kind(), f.page) {
			return
		}
		now := forms[i].values
		for name, text := range typed {
			now.Set(name, text)
		}
		w.secrets(forms[i])
		if f.action == "/settings/channels" { // seeded makes one of another kind
			now.Set("kind", "email")
			now.Del("url")
		}
		a := w.do("POST", f.action, now, "Cookie", w.cookie)
		w.harmless(f.action, a)
		if a.StatusCode == http.StatusSeeOther || a.StatusCode == http.StatusOK {
			require.NotContains(w, a.Header.Get("Location"), "/step-up", f.action)
			return
		}
		said := fmt.Sprintf("%s of %s: %v: %v", f.kind(), f.page, now, wrong.FindAllString(a.text, -1))
		if !assert.Equal(w, http.StatusUnprocessableEntity, a.StatusCode, said) {
			return
		}
		before := maps.Clone(refusals)
		for _, name := range refused(f, a.text) {
			value, known := mend[f.action+" "+name]
			if !known {
				value, known = mend[name]
			}
			assert.True(w, known, "the field %s of %s refuses markup: say in mended what it takes", name, f.kind())
			was := f.values.Get(name)
			if was != "" { // what it has is good, also when another field of its row is refused again
				value = was
			}
			refusals[name]++
			switch n := refusals[name]; {
			case strings.HasPrefix(value, "https://") && n == 1:
				value = "javascript:alert(1)" // where an address is wanted
			case strings.HasPrefix(value, "https://") && n == 2:
			case n > 1 && name != "name" && was == "": // a name is never left out
				value = ""
			}
			delete(w.from, typed[name])
			typed[name] = value
		}
		if !assert.NotEqual(w, before, refusals, said) {
			return
		}
	}
	assert.Fail(w, "the form is never content", "%s of %s: typed %v, refused %v", f.kind(), f.page, typed, refusals)
}

// refused names the fields beside which a page says what is wrong with them.
func refused(f asked, page string) (out []string) {
	for _, m := range regexp.MustCompile(`id="([^"]+)-error"`).FindAllStringSubmatch(page, -1) {
		names := []string{html.UnescapeString(m[1])}
		switch {
		case anyID.MatchString(m[1]): // a form in a row says it once for all of its fields
			names = f.texts
		case m[1] == "secrets": // beside the value of a secret field, about its name
			names = []string{"field"}
		}
		for _, name := range names {
			if slices.Contains(f.texts, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// secrets fills the fields of secrets with what no page may show.
func (w *sown) secrets(f asked) {
	for _, name := range f.passwords {
		secret := fmt.Sprintf("planted-typed-%d-0123456789", w.n)
		switch {
		case name == "signing_secret" || name == "password" || name == "shared_secret": // optional where they stand beside texts
			f.values.Del(name)
			continue
		case name == "url" || name == "webhook_url":
			secret = "https://hooks.example.com/" + secret
		}
		w.secret = append(w.secret, secret)
		f.values.Set(name, secret)
	}
}

// wrong is where a page says what is wrong.
var wrong = regexp.MustCompile(`(?s)<[a-z]+ class="(?:alert|error|trouble|notice)"[^>]*>.*?</(?:p|div)>`)

// harmless: whatever a page shows of what was typed is text, in attributes as well, and leads nowhere but to the web.
func (w *sown) harmless(path string, a answer) {
	w.Helper()
	require.NotRegexp(w, `<script>(?:x\d|alert)|<img src=x`, a.text, path)
	require.NotRegexp(w, `(?i)(?:href|src|action|data-from)="\s*(?:javascript|data|vbscript):`, a.text, path)
	for _, text := range w.secret {
		require.NotContains(w, a.text, text, path)
	}
}

// TestStoredMarkupIsText: markup is typed into every text field of every form that the pages have, with whatever each form needs beside it, and into what
// comes from elsewhere; every page that links lead to shows it as text, and every field that took it is seen again somewhere. A new field is tried without
// a word here, and must be shown, or be named with the reason why it is not.
func TestStoredMarkupIsText(t *testing.T) {
	acts := []string{"typed"}    // forms whose only field says yes to something
	unseen := map[string]string{ // what no page shows, and why
		"/connect name: name": "a login that nobody finishes stores nothing; seeded finishes one",
	}
	onOne(t, func(s *site) {
		w := &sown{site: s, cookie: s.administrator(), from: map[string]string{}}
		s.prove(time.Hour)
		s.seeded(w)
		forms := map[string]asked{}
		s.walk(w.cookie, func(path string, a answer) {
			w.harmless(path, a)
			for _, f := range formsOf(path, a.text) {
				switch {
				case len(f.texts) == 0:
				case f.method == "get":
					for _, name := range f.texts {
						f.values.Set(name, `"><script>x0</script>`)
					}
					w.harmless(f.action, s.do("GET", f.action+"?"+f.values.Encode(), nil, "Cookie", w.cookie))
				case strings.HasSuffix(f.action, "contain"): // it only looks: what it takes is stored nowhere
					for _, name := range f.texts {
						f.values.Set(name, `"><script>x0</script>`)
					}
					f.values.Set("look", "yes")
					w.harmless(f.action, s.do("POST", f.action, f.values, "Cookie", w.cookie))
				case strings.HasPrefix(f.action, "/account/factors"): // see TestPasskeysInABrowser
				case f.action == "/import": // a form with files: see TestImportInABrowser
				case forms[f.kind()].action == "":
					forms[f.kind()] = f
				}
			}
		})
		for _, kind := range slices.Sorted(maps.Keys(forms)) {
			if f := forms[kind]; !slices.Contains(acts, f.texts[0]) {
				w.submits(f)
			}
		}
		s.Logf("%d forms, %d texts that were taken", len(forms), len(w.from))
		require.Greater(s, len(forms), 25)

		require.NoError(s, s.audit.Flush(s.Context()))
		left := maps.Clone(w.from)
		s.walk(w.cookie, func(path string, a answer) {
			w.harmless(path, a)
			for text := range left {
				if strings.Contains(a.text, html.EscapeString(text)) {
					delete(left, text)
				}
			}
		})
		var lost []string
		for _, where := range left {
			if unseen[where] == "" {
				lost = append(lost, where)
			}
		}
		slices.Sort(lost)
		require.Empty(s, lost, "no page shows what these fields took")
		for _, text := range w.secret {
			require.NotContains(s, s.log.String(), text)
		}
	})
}

// seeded makes one of everything that has a page, and what comes from elsewhere: what browsers call themselves, what providers say.
func (s *site) seeded(w *sown) {
	s.Helper()
	_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
	require.NoError(s, err)
	name, title := "work", evil
	s.provider(oauth.ProviderEdit{Name: &name, Title: &title})
	ada := boss // a person who is there: what is hers can be shared
	ada.ID, ada.UserID = s.me(w.cookie), s.me(w.cookie)
	u := s.goes(w.cookie, "provider", "work", "name", evil)
	require.Equal(s, http.StatusSeeOther, s.do("GET", comes(u, nil), nil, "Cookie", w.cookie).StatusCode)
	client := s.home(vault.HomeClient, vault.HomeMeta{Name: evil + "client", Contact: evil, Description: evil})
	shop := s.home(vault.HomeService, vault.HomeMeta{Name: evil + "service", ClientID: client.ID, Description: evil})
	host := s.home(vault.HomeInfrastructure, vault.HomeMeta{Name: evil + "host", ClientID: client.ID, Address: evil, Description: evil})
	s.home(vault.HomeClient, vault.HomeMeta{Name: "nobody's"})
	for i, row := range vault.Types() {
		m := vault.Meta{Name: evil + string(row.Type), PluginName: evil}
		if i < 3 { // which stand in the way of deleting those
			at := time.Now().Add(time.Duration(i) * 9 * 24 * time.Hour)
			m.ClientID, m.ServiceID, m.InfrastructureID, m.RotateEvery, m.ExpiresAt = client.ID, shop.ID, host.ID, i+1, &at
		}
		c := s.storedBy(ada, row.Type, m)
		if row.Type == vault.APIKey {
			_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: c.ID})
			require.NoError(s, err)
			_, err = s.vault.SetGrants(s.Context(), boss, vault.Scope{Kind: vault.OnCredential, ID: c.ID}, []vault.Grant{{Party: identity.Party{Kind: vault.PartyTrain, ID: "web"}, Use: true}}, "")
			require.NoError(s, err)
		}
	}
	_, err = s.incidents.Open(s.Context(), boss, incident.Draft{Meta: incident.Meta{Title: evil + "incident", Description: evil, Findings: evil, Remediation: evil}, Touch: incident.Touch{ClientID: client.ID}})
	require.NoError(s, err)
	account := s.account("team-alpha")
	key, _, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: evil})
	require.NoError(s, err)
	account.Name = evil
	s.lent(tries{"web", key.ID, evil, evil, []vault.Credential{account, account}, []store.Details{overloaded(), answered()}})
	s.addUp()
	_, _, err = s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "mia@example.com", Name: evil, Role: identity.Member})
	require.NoError(s, err)
	s.filledPeople()
	form := credentials("/")
	require.Equal(s, http.StatusSeeOther, s.do("POST", "/sign-in", form, "Origin", s.url, "User-Agent", w.next("what a browser calls itself")).StatusCode)
	_, err = s.rooms.SaveFilter(s.Context(), ada, "trains", "Web", url.Values{"q": {evil}})
	require.NoError(s, err)
	s.happened(2)
}
