package web_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// uploads sends the form of an import with files, as a browser does: what is typed first.
func (s *site) uploads(cookie string, typed map[string]string, files map[string]string) answer {
	s.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, text := range typed {
		require.NoError(s, w.WriteField(name, text))
	}
	for name, text := range files {
		part, err := w.CreateFormFile("files", name)
		require.NoError(s, err)
		_, err = io.WriteString(part, text)
		require.NoError(s, err)
	}
	require.NoError(s, w.Close())
	req, err := http.NewRequestWithContext(s.Context(), "POST", s.url+"/import", &b)
	require.NoError(s, err)
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Cookie", cookie)
	return s.send(req)
}

const importedEnv = "GITEA_TOKEN=planted-import-one-0123456789\nSHOP_PASSWORD=planted-import-two-0123456789\n"

// TestImportInABrowser: a look shows what would become of each entry and stores nothing; the import does exactly that; a second look finds everything here
// already. No secret stands in a page.
func TestImportInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/import")
		b.until(`document.querySelector("#import")`)
		b.inspect("import")
		path := filepath.Join(s.TempDir(), "shop.env")
		require.NoError(b, os.WriteFile(path, []byte(importedEnv), 0o600))
		choose := func() {
			b.Helper()
			must(b, "choose a file", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{path}))
		}
		stored := func() int {
			b.Helper()
			list, _, err := s.vault.List(s.Context(), boss, vault.Filter{})
			require.NoError(b, err)
			return len(list)
		}
		choose()
		b.click(`#import button[value="look"]`)
		b.until(`document.querySelectorAll("#entries tbody tr").length === 2 && document.querySelector('button[value="store"]')`)
		require.Contains(b, b.text(), "Import 2 new entries")
		require.Zero(b, stored())
		b.inspect("import-look")
		if !scripts {
			choose() // a browser sends no file that was chosen for another page
		}
		b.click(`button[value="store"]`)
		b.until(`document.querySelector("#report h2").textContent === "Imported"`)
		require.Equal(b, 2, stored())
		b.inspect("imported")
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-import")

		b.open("/import")
		choose()
		b.click(`#import button[value="look"]`)
		b.until(`document.querySelectorAll("#entries tbody tr").length === 2`)
		require.Contains(b, b.text(), "nothing new in the files")
		require.Equal(b, "null", b.js(`String(document.querySelector('button[value="store"]'))`))
		path = filepath.Join(s.TempDir(), "x.bin")
		require.NoError(b, os.WriteFile(path, []byte("\x00\x01\xff"), 0o600))
		b.open("/import")
		choose()
		b.click(`#import button[value="look"]`)
		b.until(`document.querySelector("#files-error")`)
		b.inspect("import-error")
		require.NotContains(b, s.log.String(), "planted-import")
	})
}

// TestAnImportDoesWhatWasShown: other files, another reading of them, or a vault that has changed meanwhile, store nothing.
func TestAnImportDoesWhatWasShown(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		form := s.form(cookie, "/import").Get("form")
		look := s.uploads(cookie, map[string]string{"form": form, "act": "look"}, map[string]string{"a.env": importedEnv})
		require.Equal(s, http.StatusOK, look.StatusCode, look.text)
		shown := fields(look.text)
		require.NotEmpty(s, shown["sum"])
		do := func(change map[string]string, files map[string]string) answer {
			typed := map[string]string{"form": form, "act": "store", "sum": shown["sum"], "decided": shown["decided"]}
			for name, text := range change {
				typed[name] = text
			}
			return s.uploads(cookie, typed, files)
		}
		same := map[string]string{"a.env": importedEnv}
		for name, a := range map[string]answer{
			"other files":    do(nil, map[string]string{"a.env": strings.Replace(importedEnv, "one", "six", 1)}),
			"another name":   do(nil, map[string]string{"b.env": importedEnv}),
			"another format": do(map[string]string{"format": "env"}, same),
			"no look":        do(map[string]string{"sum": "", "decided": ""}, same),
			"another look":   do(map[string]string{"decided": strings.Repeat("0", 64)}, same),
		} {
			require.Equal(s, http.StatusConflict, a.StatusCode, "%s: %s", name, a.text)
			require.NotContains(s, a.text, "planted-import", name)
		}
		for name, a := range map[string]answer{
			"no file": s.uploads(cookie, map[string]string{"form": form, "act": "look"}, nil), "an unknown format": s.uploads(cookie, map[string]string{"form": form, "act": "look", "format": "x"}, same),
			"no such file": s.uploads(cookie, map[string]string{"form": form, "act": "look"}, map[string]string{"x.bin": "\x00\x01planted-import"}),
		} {
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, "%s: %s", name, a.text)
			require.NotContains(s, a.text, "planted-import", name)
		}
		require.Equal(s, http.StatusForbidden, s.uploads(cookie, map[string]string{"form": "x", "act": "look"}, same).StatusCode)
		require.Equal(s, http.StatusForbidden, s.uploads(cookie, nil, same).StatusCode)
		require.Equal(s, http.StatusRequestEntityTooLarge, s.uploads(cookie, map[string]string{"form": form, "name": strings.Repeat("x", 9<<10)}, same).StatusCode)
		require.Equal(s, http.StatusBadRequest, s.do("POST", "/import", url.Values{"form": {form}}, "Cookie", cookie).StatusCode)

		list, _, err := s.vault.List(s.Context(), boss, vault.Filter{})
		require.NoError(s, err)
		require.Empty(s, list)
		s.keep(vault.APIKey, vault.Meta{Name: "GITEA_TOKEN"}, map[string]string{"api_key": "planted-else-0123456789"})
		s.keep(vault.Password, vault.Meta{Name: "GITEA_TOKEN"}, map[string]string{"password": "planted-else-0123456789"})
		s.keep(vault.SharedSecret, vault.Meta{Name: "GITEA_TOKEN"}, map[string]string{"secret": "planted-else-0123456789"})
		changed := do(nil, same)
		require.Equal(s, http.StatusConflict, changed.StatusCode, changed.text)
		require.Contains(s, changed.text, "Look again")
		list, _, err = s.vault.List(s.Context(), boss, vault.Filter{})
		require.NoError(s, err)
		require.Len(s, list, 3)
		require.NotContains(s, s.log.String(), "planted-import")
	})
}

// TestExportFromThePage: what one may reveal leaves encrypted, on record with the reason; what is asked wrongly is said beside its field, and nothing leaves.
func TestExportFromThePage(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		c := s.keep(vault.APIKey, vault.Meta{Name: "Forge"}, map[string]string{"api_key": "planted-export-0123456789"})
		page := s.do("GET", "/export", nil, "Cookie", cookie)
		require.Equal(s, http.StatusOK, page.StatusCode)
		s.weigh(cookie, "/export")
		s.weigh(cookie, "/import")
		const passphrase = "planted long passphrase"
		for field, fill := range map[string][]string{
			"reason": {"passphrase", passphrase, "again", passphrase}, "again": {"reason", "move", "passphrase", passphrase, "again", "other"}, "passphrase": {"reason", "move", "passphrase", "short", "again", "short"},
			"recipients": {"reason", "move", "recipients", "age1nobody"},
		} {
			a := s.do("POST", "/export", s.form(cookie, "/export", fill...), "Cookie", cookie)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, field)
			require.Contains(s, a.text, `id="`+field+`-error"`)
			require.NotContains(s, a.text, passphrase)
		}
		require.Empty(s, s.ends(c.ID, store.CredentialReveal))
		a := s.do("POST", "/export", s.form(cookie, "/export", "reason", "to the new server", "passphrase", passphrase, "again", passphrase), "Cookie", cookie)
		require.Equal(s, http.StatusOK, a.StatusCode, a.text)
		require.Equal(s, "application/octet-stream", a.Header.Get("Content-Type"))
		require.Equal(s, "no-store", a.Header.Get("Cache-Control"))
		require.NotContains(s, a.text, "planted-export")
		id, err := age.NewScryptIdentity(passphrase)
		require.NoError(s, err)
		plain, err := age.Decrypt(strings.NewReader(a.text), id)
		require.NoError(s, err)
		text, err := io.ReadAll(plain)
		require.NoError(s, err)
		require.Contains(s, string(text), "planted-export-0123456789")
		require.Equal(s, "to the new server", s.ends(c.ID, store.CredentialReveal)[0].Reason)

		s.prove(-time.Hour)
		stale := s.do("POST", "/export", s.form(cookie, "/account", "reason", "x", "passphrase", passphrase, "again", passphrase), "Cookie", cookie)
		require.Equal(s, "/step-up?next=%2Fexport", stale.Header.Get("Location"))
		form := s.form(cookie, "/account").Get("form")
		require.Equal(s, "/step-up?next=%2Fimport", s.uploads(cookie, map[string]string{"form": form, "act": "look"}, map[string]string{"a.env": importedEnv}).Header.Get("Location"))
	})
}

// TestTransferByRole: whoever may not store, or not reveal, neither sees the pages nor gets further when they are forced.
func TestTransferByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		s.stored(vault.Password, vault.Meta{Name: "not theirs"})
		for role, may := range map[identity.Role]struct{ in, out bool }{
			identity.Administrator: {true, true}, identity.Operator: {true, true}, identity.Auditor: {false, false}, identity.Member: {true, true},
		} {
			cookie := s.person(role)
			require.Equal(s, may.in, strings.Contains(s.do("GET", "/", nil, "Cookie", cookie).text, `href="/import"`), role)
			require.Equal(s, may.in, s.do("GET", "/import", nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			require.Equal(s, may.out, s.do("GET", "/export", nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			form := s.form(cookie, "/account").Get("form")
			look := s.uploads(cookie, map[string]string{"form": form, "act": "look"}, map[string]string{"a.env": importedEnv})
			require.Equal(s, may.in, look.StatusCode == http.StatusOK, "%s %d", role, look.StatusCode)
			require.Equal(s, !may.in, look.StatusCode == http.StatusForbidden, "%s %d", role, look.StatusCode)
			out := s.do("POST", "/export", url.Values{"form": {form}, "reason": {"x"}, "passphrase": {"a long passphrase of ours"}, "again": {"a long passphrase of ours"}}, "Cookie", cookie)
			require.Equal(s, may.out, out.StatusCode == http.StatusOK, "%s %d", role, out.StatusCode)
			require.Equal(s, http.StatusForbidden, s.do("POST", "/export", url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
		}
	})
}
