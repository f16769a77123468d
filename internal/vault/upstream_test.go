package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// authority is a certificate of its own authority, in PEM, with its private key.
func authority(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &private.PublicKey, private)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
}

// TestUpstream: an account says how its requests go out; the record names what changed and repeats nothing, and the proxy's password is sealed like any
// other secret and lent to the proxy alone.
func TestUpstream(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		cert, _ := authority(t)
		d := apiKey("team")
		d.Upstream = vault.Upstream{ConnectTimeout: 3, ResponseTimeout: 30, CABundle: "a remark\n" + cert + "\n\n", ProxyURL: "https://Proxy.example.com:3128/", ProxyUsername: "us"}
		d.Secrets["proxy_password"] = secrets("", gitPassword)[""]
		c := f.create(t, d)
		want := vault.Upstream{ConnectTimeout: 3, ResponseTimeout: 30, CABundle: strings.TrimSpace(cert), ProxyURL: "https://proxy.example.com:3128", ProxyUsername: "us"}
		require.Equal(t, want, c.Upstream)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, want, got.Upstream)
		m := f.materials(t, c.ID)[c.ID]
		require.False(t, m.Tampered)
		route, err := m.Route()
		require.NoError(t, err)
		require.NotNil(t, route)
		list, _, err := f.List(t.Context(), admin, vault.Filter{Q: "BEGIN"})
		require.NoError(t, err)
		require.Empty(t, list, "nobody looks for what stands in PEM")

		got, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{ConnectTimeout: vault.To(5), ProxyUsername: vault.Clear[string]()}}, "")
		require.NoError(t, err)
		want.ConnectTimeout, want.ProxyUsername = 5, ""
		require.Equal(t, want, got.Upstream)
		require.Equal(t, []string{"upstream.proxy_username", "upstream.connect_timeout_seconds"}, f.lastEvent(t).Fields)

		// A new password for the proxy is a new version, and no rotation: what was to be rotated still is.
		before := got
		got, err = f.Rotate(t.Context(), admin, c.ID, secrets("proxy_password", "rotated-Planted-4711-value"), "")
		require.NoError(t, err)
		require.Equal(t, before.Version+1, got.Version)
		require.Equal(t, before.LastRotatedAt, got.LastRotatedAt)
		require.Equal(t, anthropicKey, f.reveal(t, c.ID, "api_key"))
		other, err := f.materials(t, c.ID)[c.ID].Route()
		require.NoError(t, err)
		require.False(t, route.Same(other))

		got, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{Clear: true}}, "")
		require.NoError(t, err)
		require.Equal(t, vault.Upstream{}, got.Upstream)
		route, err = f.materials(t, c.ID)[c.ID].Route()
		require.NoError(t, err)
		require.Nil(t, route)
	})
}

// TestUpstreamIsRefused: whatever is no certificate, no proxy that may be called, or out of bounds; nothing of it is repeated or stored.
func TestUpstreamIsRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		cert, key := authority(t)
		for pointer, list := range map[string][]vault.Upstream{
			"/upstream/connect_timeout_seconds":  {{ConnectTimeout: -1}, {ConnectTimeout: 61}},
			"/upstream/response_timeout_seconds": {{ResponseTimeout: -1}, {ResponseTimeout: 3601}},
			"/upstream/ca_bundle":                {{CABundle: gitPassword}, {CABundle: key}, {CABundle: cert + key}, {CABundle: strings.Repeat(cert, 21)}},
			"/upstream/proxy_url": {{ProxyURL: "https://127.0.0.1:3128"}, {ProxyURL: "http://proxy.example.com:3128"}, {ProxyURL: "socks5://proxy.example.com"}, {ProxyURL: "https://us:" + accessToken + "@proxy.example.com"},
				{ProxyURL: "https://proxy.example.com/way"}, {ProxyURL: "proxy.example.com:3128"}},
			"/upstream/proxy_username": {{ProxyUsername: "us"}, {ProxyURL: "https://proxy.example.com", ProxyUsername: "u:s"}, {ProxyURL: "https://proxy.example.com", ProxyUsername: "u\r\ns"}},
		} {
			for _, u := range list {
				d := apiKey("team")
				d.Upstream = u
				_, err := f.Create(t.Context(), admin, d)
				require.Error(t, err)
				require.Contains(t, pointers(requireAny(t, err)), pointer, "%+v", u)
			}
		}
		d := password("one")
		d.Upstream.ConnectTimeout = 5
		_, err := f.Create(t.Context(), admin, d)
		require.Equal(t, []string{"/upstream/connect_timeout_seconds"}, pointers(requireCode(t, err, "validation_failed")))
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credentials`))
	})
}

// TestABundleIsMeasuredAsItIsKept: what comes in one line is kept in lines of 64, and so is longer than it came.
func TestABundleIsMeasuredAsItIsKept(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 24000)}}}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &private.PublicKey, private)
	require.NoError(t, err)
	line := "-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----"
	require.Less(t, len(line), 32<<10)
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{CABundle: vault.To(line)}}, "")
		require.Equal(t, []string{"/upstream/ca_bundle"}, pointers(requireCode(t, err, "validation_failed")))
	})
}

// behindProxy is an account that goes out through a proxy with a password.
func behindProxy() vault.Draft {
	d := apiKey("team")
	d.Upstream = vault.Upstream{ProxyURL: "https://proxy.example.com:3128", ProxyUsername: "us"}
	d.Secrets["proxy_password"] = secret.FromString(gitPassword)
	return d
}

// TestThePasswordIsForOneProxy: another proxy gets the stored password only where somebody says so, and it goes with the proxy that is taken away.
func TestThePasswordIsForOneProxy(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, behindProxy())
		change := func(p vault.UpstreamPatch, passwords map[string]*secret.Value) (vault.Credential, error) {
			return f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: p, Secrets: passwords}, "")
		}
		refused := func(p vault.UpstreamPatch) {
			t.Helper()
			_, err := change(p, nil)
			require.Equal(t, []string{"/secrets/proxy_password"}, pointers(requireCode(t, err, "validation_failed")))
		}
		for _, other := range []string{"https://proxy.example.com:3129", "https://other.example.com:3128", "http://lan.example:3128"} {
			refused(vault.UpstreamPatch{ProxyURL: vault.To(other)})
			refused(vault.UpstreamPatch{Clear: true, ProxyURL: vault.To(other)})
		}
		got, err := change(vault.UpstreamPatch{Clear: true, ProxyURL: vault.To("https://Proxy.example.com:3128/"), ConnectTimeout: vault.To(5)}, nil)
		require.NoError(t, err, "it is the same proxy")
		require.EqualValues(t, 1, got.Version)

		next := secret.FromString("rotated-Planted-4711-value")
		_, err = change(vault.UpstreamPatch{ProxyURL: vault.To("https://other.example.com:3128")}, map[string]*secret.Value{"proxy_password": &next})
		require.NoError(t, err)
		require.Equal(t, next.Reveal(), f.reveal(t, c.ID, "proxy_password"))
		got, err = change(vault.UpstreamPatch{ProxyURL: vault.To("https://third.example.com:3128")}, map[string]*secret.Value{"proxy_password": nil})
		require.NoError(t, err)
		require.Equal(t, []string{"api_key"}, got.SecretFields)

		for _, none := range []vault.UpstreamPatch{{Clear: true}, {ProxyURL: vault.Clear[string](), ProxyUsername: vault.Clear[string]()}} {
			_, err = change(vault.UpstreamPatch{ProxyURL: vault.To("https://proxy.example.com:3128")}, map[string]*secret.Value{"proxy_password": &next})
			require.NoError(t, err)
			before, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			got, err = change(none, nil)
			require.NoError(t, err)
			require.Equal(t, []string{"api_key"}, got.SecretFields)
			require.Equal(t, before.LastRotatedAt, got.LastRotatedAt, "the key is the same")
			require.Equal(t, anthropicKey, f.reveal(t, c.ID, "api_key"))
			m := f.materials(t, c.ID)[c.ID]
			require.False(t, m.Tampered)
			require.NotContains(t, m.Secrets, "proxy_password")
		}
		_, err = f.Rotate(t.Context(), admin, c.ID, secrets("proxy_password", gitPassword), "")
		require.NoError(t, err)
		refused(vault.UpstreamPatch{ProxyURL: vault.To("https://proxy.example.com:3128")}) // who knows which it was for
	})
}

// TestARestorationLeavesTheProxyAlone: an older version of the key brings back no older password of the proxy, and takes none away.
func TestARestorationLeavesTheProxyAlone(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, behindProxy())
		rotate := func(pairs ...string) {
			t.Helper()
			_, err := f.Rotate(t.Context(), admin, c.ID, secrets(pairs...), "")
			require.NoError(t, err)
		}
		restore := func(n int64) vault.Credential {
			t.Helper()
			got, err := f.Restore(t.Context(), admin, c.ID, n)
			require.NoError(t, err)
			return got
		}
		rotate("api_key", "sk-planted-the-second-one-2")
		rotate("proxy_password", "rotated-Planted-4711-value")
		restore(1)
		require.Equal(t, anthropicKey, f.reveal(t, c.ID, "api_key"))
		require.Equal(t, "rotated-Planted-4711-value", f.reveal(t, c.ID, "proxy_password"))

		_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{Clear: true}}, "") // version 5 has none
		require.NoError(t, err)
		require.Equal(t, []string{"api_key"}, restore(2).SecretFields)
		require.Equal(t, "sk-planted-the-second-one-2", f.reveal(t, c.ID, "api_key"))

		rotate("proxy_password", gitPassword)
		require.Equal(t, []string{"api_key", "proxy_password"}, restore(5).SecretFields)
		require.Equal(t, gitPassword, f.reveal(t, c.ID, "proxy_password"))
	})
}

// TestTheWayOutIsARedirection: who may not reveal the secret does not say who is believed to be the upstream, or who carries it there.
func TestTheWayOutIsARedirection(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		cert, _ := authority(t)
		c := f.create(t, apiKey("team"))
		noReveal := fullTok
		noReveal.Scopes = identity.Scopes{identity.CredentialRead, identity.CredentialWrite}
		for _, p := range []vault.UpstreamPatch{{CABundle: vault.To(cert)}, {ProxyURL: vault.To("https://proxy.example.com")}} {
			_, err := f.Update(t.Context(), noReveal, c.ID, vault.Patch{Upstream: p}, "")
			requireCode(t, err, "scope_missing")
			_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Upstream: p}, "")
			require.NoError(t, err)
		}
		_, err := f.Update(t.Context(), noReveal, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{ConnectTimeout: vault.To(9)}}, "")
		require.NoError(t, err, "how long is waited is no matter of where it goes")
		_, err = f.Update(t.Context(), noReveal, c.ID, vault.Patch{Upstream: vault.UpstreamPatch{Clear: true}}, "")
		requireCode(t, err, "scope_missing")
	})
}

// TestMendingNamesTheWayOut: where somebody has put a proxy into the database, a change that mends the credential must say what is to become of it.
func TestMendingNamesTheWayOut(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, fullOAuth("team"))
		f.exec(t, `UPDATE credentials SET upstream_proxy_url = 'https://evil.example:3128' WHERE id = $1`, c.ID)
		_, err := f.Update(t.Context(), admin, c.ID, mend(), "")
		require.Equal(t, []string{"/upstream"}, pointers(requireCode(t, err, "credential_tampered")))
		p := mend()
		p.Upstream.ConnectTimeout = vault.To(4)
		got, err := f.Update(t.Context(), admin, c.ID, p, "")
		require.NoError(t, err)
		require.Equal(t, vault.Upstream{ConnectTimeout: 4}, got.Upstream, "what is not named is not what lies there")
		require.Empty(t, f.materials(t, c.ID)[c.ID].Usable(today))
	})
}
