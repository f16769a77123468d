package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// keep stores a credential with these secret fields.
func (s *site) keep(t vault.Type, m vault.Meta, secrets map[string]string) vault.Credential {
	s.Helper()
	d := vault.Draft{Type: t, Meta: m, Secrets: map[string]secret.Value{}}
	for name, text := range secrets {
		d.Secrets[name] = secret.FromString(text)
	}
	c, err := s.vault.Create(s.Context(), boss, d)
	require.NoError(s, err)
	return c
}

// certificate makes one that names a host and ends so soon.
func certificate(t *testing.T, ends time.Duration) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "vpn.example.com <b>", Organization: []string{"Northwind"}}, DNSNames: []string{"vpn.example.com", "gate.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ends)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	bare, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bare}))
}

// TestSecretsSayWhatTheyAre: a certificate, a token, an SSH key and a connection string show what they say of themselves, as text, and nothing secret.
func TestSecretsSayWhatTheyAre(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		cert, key := certificate(t, 5*24*time.Hour)
		part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		token := part(`{"alg":"ES256","kid":"k1"}`) + "." + part(`{"iss":"https://issuer.example.com/<script>alert(1)</script>","sub":"ada","aud":["one","two"],"exp":4102444800}`) + "." + part("planted-signature")
		for _, one := range []struct {
			c     vault.Credential
			wants []string
			never []string
		}{
			{s.keep(vault.Certificate, vault.Meta{Name: "VPN"}, map[string]string{"certificate": cert, "private_key": key}), []string{"gate.example.com", "belongs to this certificate", "this week", "It ends in"}, []string{"BEGIN CERT", "com <b>"}},
			{s.keep(vault.JWT, vault.Meta{Name: "Token"}, map[string]string{"token": token}), []string{"issuer.example.com/&lt;script&gt;", "one, two", "ES256", "k1"}, []string{part("planted-signature"), "<script>alert"}},
			{s.keep(vault.ConnectionString, vault.Meta{Name: "Database"}, map[string]string{"connection_string": "postgres://shop:planted-db-password@db.example.com:6432/orders?sslmode=verify-full"}),
				[]string{"db.example.com, port 6432", "orders", "verify-full"}, []string{"planted-db-password"}},
		} {
			page := s.do("GET", "/credentials/"+one.c.ID, nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, page.StatusCode)
			for _, text := range one.wants {
				require.Contains(s, page.text, text, one.c.Name)
			}
			for _, text := range one.never {
				require.NotContains(s, page.text, text, one.c.Name)
			}
			s.weigh(cookie, "/credentials/"+one.c.ID)
		}
	})
}

// TestSignalboxMakesSecretsInABrowser: a password and a key pair are made when a credential is stored and when it is rotated, with scripts and without; the
// public half is shown, the secret is nowhere; what is typed and made at once is refused beside the list.
func TestSignalboxMakesSecretsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/credentials")
		b.open("/credentials/~new?type=ssh_key")
		b.submitIn(`form[action="/credentials"]`, "name", "Deploy", "generate/private_key", "ed25519", "secrets/private_key", "planted-typed-key")
		b.until(`document.querySelector("[id='generate/private_key-error']")`)
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-typed-key")
		b.inspect("credential-make-error")
		b.submitIn(`form[action="/credentials"]`, "generate/private_key", "ed25519", "generate/passphrase", "passphrase")
		b.until(`location.search === "?done=made"`)
		require.Contains(b, b.text(), "ssh-ed25519 AAAA")
		require.Contains(b, b.text(), "encrypts the key")
		b.inspect("credential-ssh")

		id := strings.TrimPrefix(b.js("location.pathname"), "/credentials/")
		before, err := s.vault.Get(s.Context(), boss, id)
		require.NoError(b, err)
		b.click(`a[href$="/rotate"]`)
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("rotate-dialog")
		}
		b.submitIn(`form[action="/credentials/`+id+`/rotate"]`, "generate/private_key", "rsa", "reason", "yearly")
		b.until(`location.search === "?done=rotated"`)
		require.Contains(b, b.text(), "ssh-rsa AAAA")
		after, err := s.vault.Get(s.Context(), boss, id)
		require.NoError(b, err)
		require.NotEqual(b, before.Facts.SSHKey.Fingerprint, after.Facts.SSHKey.Fingerprint)

		cookie := s.signIn("")
		form := s.form(cookie, "/credentials/~new?type=custom", "type", "custom", "name", "Pins", "field", "pin", "generate", "hex")
		made := s.do("POST", "/credentials", form, "Cookie", cookie)
		require.Equal(b, http.StatusSeeOther, made.StatusCode, made.text)
		form.Set("field", "Not A Name")
		wrong := s.do("POST", "/credentials", form, "Cookie", cookie)
		require.Equal(b, http.StatusUnprocessableEntity, wrong.StatusCode)
		form.Set("field", "pin")
		form.Set("generate", "a wish")
		wrong = s.do("POST", "/credentials", form, "Cookie", cookie)
		require.Equal(b, http.StatusUnprocessableEntity, wrong.StatusCode)
		require.Contains(b, wrong.text, `id="generate-error"`)
		require.Len(b, s.ends(id, store.CredentialRotate), 1)
	})
}

// TestCredentialsAreTestedInABrowser: a key is tried where it is used, and the page says what came of it, whether it works or not; its status is set there.
func TestCredentialsAreTestedInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer planted-good-0123456789" || r.URL.Path != "/me" {
				w.WriteHeader(http.StatusUnauthorized)
			}
			_, _ = w.Write([]byte("planted-answer"))
		}))
		s.Cleanup(server.Close)
		c := s.keep(vault.APIKey, vault.Meta{Name: "Forge", Provider: "forge", BaseURL: server.URL}, map[string]string{"api_key": "planted-good-0123456789"})
		b := s.window(scripts)
		b.signInHere("/credentials/" + c.ID)
		b.click(`a[href$="/test"]`)
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("test-dialog")
		}
		b.submitIn(`form[action$="/test"]`, "path", "../x")
		b.until(`document.querySelector("#path-error")`)
		b.submitIn(`form[action$="/test"]`, "path", "/me")
		b.until(`document.querySelector("#outcome .badge.good")`)
		require.Contains(b, b.text(), "it works")
		require.NotContains(b, b.js(`document.documentElement.outerHTML`), "planted-")
		b.inspect("tested")
		b.click(`a[href$="/test"]`)
		b.submitIn(`form[action$="/test"]`, "path", "/elsewhere")
		b.until(`document.querySelector("#outcome .badge.bad")`)
		require.Contains(b, b.text(), "not accepted")
		var outcomes []string
		for _, e := range s.ends(c.ID, store.CredentialTest) {
			outcomes = append(outcomes, e.Outcome)
		}
		require.Len(b, outcomes, 4, "each try has its intent and its end")

		b.open("/credentials/" + c.ID)
		b.click(`a[href$="/status?to=compromised"]`)
		b.submitIn(`form[action$="/status"]`)
		b.until(`location.search === "?done=changed" && document.querySelector(".standing .badge.bad")`)
		b.inspect("credential-compromised")
		b.click(`.standing a[href$="/status?to=active"]`)
		b.submitIn(`form[action$="/status"]`)
		b.until(`location.search === "?done=changed" && !document.querySelector(".standing")`)
		b.click(`a[href$="/status?to=disabled"]`)
		b.submitIn(`form[action$="/status"]`)
		b.until(`document.querySelector(".standing .badge.idle")`)
		one, err := s.vault.Get(s.Context(), boss, c.ID)
		require.NoError(b, err)
		require.Equal(b, vault.Disabled, one.Status)
	})
}

// TestTestsAndStatusByRole: what a role may not do is not shown, and refused when forced.
func TestTestsAndStatusByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		c := s.stored(vault.Password, vault.Meta{Name: "theirs"})
		for role, may := range map[identity.Role]struct{ see, use, manage bool }{
			identity.Administrator: {true, true, true}, identity.Operator: {true, true, true}, identity.Auditor: {true, false, false}, identity.Member: {false, false, false},
		} {
			cookie := s.person(role)
			here := "/credentials/" + c.ID
			page := s.do("GET", here, nil, "Cookie", cookie)
			require.Equal(s, may.see, page.StatusCode == http.StatusOK, role)
			require.Equal(s, may.use, strings.Contains(page.text, `href="`+here+`/test"`), role)
			require.Equal(s, may.manage, strings.Contains(page.text, "/status?to="), role)
			require.Equal(s, may.use, s.do("GET", here+"/test", nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			require.Equal(s, may.manage, s.do("GET", here+"/status?to=disabled", nil, "Cookie", cookie).StatusCode == http.StatusOK, role)
			form := s.form(cookie, "/account")
			test := s.do("POST", here+"/test", url.Values{"form": form["form"]}, "Cookie", cookie)
			require.Equal(s, may.use, test.StatusCode == http.StatusOK, "%s %d", role, test.StatusCode)
			for _, to := range []string{"disabled", "active"} {
				a := s.do("POST", here+"/status", url.Values{"form": form["form"], "to": {to}}, "Cookie", cookie)
				require.Equal(s, may.manage, a.StatusCode == http.StatusSeeOther, "%s %d", role, a.StatusCode)
			}
			require.Equal(s, http.StatusForbidden, s.do("POST", here+"/test", url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			require.Equal(s, http.StatusForbidden, s.do("POST", here+"/status", url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
		}
		cookie := s.signIn("")
		require.Equal(s, http.StatusNotFound, s.do("GET", "/credentials/"+c.ID+"/status?to=expired", nil, "Cookie", cookie).StatusCode)
	})
}
