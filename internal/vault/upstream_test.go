package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
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
