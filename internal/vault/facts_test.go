package vault_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// certificate makes a certificate that ends then, with its key, both in PEM.
func certificate(t *testing.T, name string, ends time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// sshKey makes an SSH key, encrypted when there is a passphrase, and its fingerprint.
func sshKey(t *testing.T, passphrase string) (key, fingerprint string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "ops@example.com")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "ops@example.com", []byte(passphrase))
	}
	require.NoError(t, err)
	line, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block)), ssh.FingerprintSHA256(line)
}

func draftOf(kind vault.Type, pairs ...string) vault.Draft {
	return vault.Draft{Type: kind, Meta: vault.Meta{Name: "x"}, Secrets: secrets(pairs...)}
}

func TestCertificateExpiry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ends, later := today.AddDate(0, 3, 0), today.AddDate(1, 0, 0)
		cert, key := certificate(t, "shop.example.com", ends)
		made := f.create(t, draftOf(vault.Certificate, "certificate", cert, "private_key", key))
		require.Equal(t, "CN=shop.example.com", made.Facts.Certificate.Subject)
		require.True(t, made.Facts.Certificate.KeyMatches)
		require.True(t, ends.Equal(*made.ExpiresAt))
		got, err := f.Get(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.Equal(t, made.Facts, got.Facts)
		require.False(t, got.Tampered)
		list, _, err := f.List(t.Context(), admin, vault.Filter{})
		require.NoError(t, err)
		require.True(t, list[0].Facts.IsZero(), "lists have no facts")
		require.True(t, ends.Equal(*list[0].ExpiresAt))

		// The expiry follows the certificate, and says so in the record.
		renewed, renewedKey := certificate(t, "shop.example.com", later)
		next, err := f.Rotate(t.Context(), admin, made.ID, secrets("certificate", renewed, "private_key", renewedKey), "")
		require.NoError(t, err)
		require.True(t, later.Equal(*next.ExpiresAt))
		followed, _ := f.lastEvent(t).Details.Get("expiry_from_secret")
		require.Equal(t, store.Bool("expiry_from_secret", true), followed)

		// A restored version brings its facts and its end back.
		back, err := f.Restore(t.Context(), admin, made.ID, 1)
		require.NoError(t, err)
		require.Equal(t, made.Facts, back.Facts)
		require.True(t, ends.Equal(*back.ExpiresAt))

		// What a person chose stays, in the act itself and later.
		chosen := today.AddDate(0, 1, 0)
		_, err = f.Update(t.Context(), admin, made.ID, vault.Patch{ExpiresAt: vault.To(&chosen)}, "")
		require.NoError(t, err)
		kept, err := f.Rotate(t.Context(), admin, made.ID, secrets("certificate", renewed, "private_key", renewedKey), "")
		require.NoError(t, err)
		require.True(t, chosen.Equal(*kept.ExpiresAt))
		_, none := f.lastEvent(t).Details.Get("expiry_from_secret")
		require.False(t, none)
		kept, err = f.Update(t.Context(), admin, made.ID, vault.Patch{ExpiresAt: vault.Clear[*time.Time](), Secrets: map[string]*secret.Value{"certificate": ptr(secret.FromString(cert)), "private_key": ptr(secret.FromString(key))}}, "")
		require.NoError(t, err)
		require.Nil(t, kept.ExpiresAt)
		got, err = f.Get(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.False(t, got.Tampered)
		require.Nil(t, got.ExpiresAt)
		_, err = f.Rotate(t.Context(), admin, made.ID, secrets("certificate", "no certificate"), "")
		require.NoError(t, err, "an unknown format is stored")

		// The key of another certificate is a mistake, whichever of the two changes, and nothing is stored.
		other, otherKey := certificate(t, "other.example.com", ends)
		_, err = f.Create(t.Context(), admin, draftOf(vault.Certificate, "certificate", other, "private_key", key))
		require.Equal(t, []string{"/secrets/private_key"}, pointers(requireCode(t, err, "validation_failed")))
		_, err = f.Rotate(t.Context(), admin, made.ID, secrets("certificate", other), "")
		require.Equal(t, []string{"/secrets/private_key"}, pointers(requireCode(t, err, "validation_failed")))
		now, err := f.Get(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.Equal(t, int64(6), now.Version)
		_, err = f.Rotate(t.Context(), admin, made.ID, secrets("certificate", other, "private_key", otherKey), "")
		require.NoError(t, err)
	})
}

func TestTokenExpiry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		enc := base64.RawURLEncoding.EncodeToString
		token := func(ends time.Time) string {
			return enc([]byte(`{"alg":"HS256"}`)) + "." + enc(fmt.Appendf(nil, `{"sub":"svc","exp":%d}`, ends.Unix())) + "." + enc([]byte("planted-signature-bytes"))
		}
		ends := today.AddDate(0, 0, 10)
		made := f.create(t, draftOf(vault.JWT, "token", token(ends)))
		require.True(t, ends.Equal(*made.ExpiresAt))
		require.Equal(t, vault.Expiring, made.Status)
		signing := f.create(t, draftOf(vault.JWT, "token", token(ends), "signing_key", "planted-signing-key"))
		require.Nil(t, signing.ExpiresAt, "a token that can be signed anew does not end the credential")
		require.Equal(t, "svc", signing.Facts.JWT.Subject)
		odd := f.create(t, draftOf(vault.JWT, "token", token(time.Unix(12, 0))))
		require.Nil(t, odd.ExpiresAt)
	})
}

// TestFactsOfKeys: a passphrase is tried with the fields that stay, and a wrong one stores nothing.
func TestFactsOfKeys(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		key, fingerprint := sshKey(t, "planted-passphrase")
		made := f.create(t, draftOf(vault.SSHKey, "private_key", key))
		require.Equal(t, fingerprint, made.Facts.SSHKey.Fingerprint)
		require.True(t, made.Facts.SSHKey.Encrypted)
		_, err := f.Rotate(t.Context(), admin, made.ID, secrets("passphrase", "planted-wrong-one"), "")
		require.Equal(t, []string{"/secrets/passphrase"}, pointers(requireCode(t, err, "validation_failed")))
		next, err := f.Rotate(t.Context(), admin, made.ID, secrets("passphrase", "planted-passphrase"), "")
		require.NoError(t, err)
		require.Equal(t, fingerprint, next.Facts.SSHKey.Fingerprint)
		require.Equal(t, int64(2), next.Version)

		dsn := f.create(t, draftOf(vault.ConnectionString, "connection_string", "postgres://app:planted-pass@db.example.com/shop"))
		require.Equal(t, "db.example.com", dsn.Facts.Connection.Host)

		// A version of before there were facts has none, until the next one.
		f.exec(t, `UPDATE credential_versions SET facts = '' WHERE credential_id = $1`, made.ID)
		old, err := f.Get(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.True(t, old.Facts.IsZero())
		require.False(t, old.Tampered)
		f.exec(t, `UPDATE credential_versions SET facts = '{"ssh_key":7' WHERE credential_id = $1`, made.ID)
		old, err = f.Get(t.Context(), admin, made.ID)
		require.NoError(t, err)
		require.True(t, old.Facts.IsZero(), "what cannot be read is not known")

		var lying []string
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&lying, `SELECT facts FROM credential_versions`) }))
		for _, text := range append(lying, f.log.String()) {
			require.NotContains(t, text, "planted")
		}
	})
}

// TestGenerate: what is made is stored and not shown, but for the public half of a pair; the record says what was made.
func TestGenerate(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "made"}, Generate: vault.Generates{"password": {Kind: generate.Password, Length: 20}}}
		made := f.create(t, d)
		require.Equal(t, []string{"password"}, made.SecretFields)
		generated, _ := f.lastEvent(t).Details.Get("generated")
		require.Equal(t, store.Strs("generated", []string{"password"}), generated)
		first := f.reveal(t, made.ID, "password")
		require.Len(t, first, 20)
		_, err := f.RotateMaking(t.Context(), admin, made.ID, nil, vault.Generates{"password": {Kind: generate.Passphrase}}, "yearly")
		require.NoError(t, err)
		require.NotEqual(t, first, f.reveal(t, made.ID, "password"))

		// A key is encrypted with the passphrase beside it: one that is given, one that is made with it, one that stays.
		pair := vault.Generates{"private_key": {Kind: generate.Ed25519, Comment: "deploy"}}
		for _, d := range []vault.Draft{
			{Secrets: secrets("passphrase", "planted-passphrase"), Generate: pair},
			{Generate: vault.Generates{"private_key": pair["private_key"], "passphrase": {Kind: generate.Passphrase}}},
		} {
			d.Type, d.Name = vault.SSHKey, "deploy"
			made := f.create(t, d)
			before := *made.Facts.SSHKey
			require.True(t, before.Encrypted)
			f.opens(t, made)
			made, err = f.RotateMaking(t.Context(), admin, made.ID, nil, pair, "")
			require.NoError(t, err)
			require.NotEqual(t, before.Fingerprint, made.Facts.SSHKey.Fingerprint)
			f.opens(t, made)
		}
		plain := f.create(t, vault.Draft{Type: vault.SSHKey, Meta: vault.Meta{Name: "plain"}, Generate: pair})
		require.False(t, plain.Facts.SSHKey.Encrypted)
		require.Equal(t, "deploy", plain.Facts.SSHKey.Comment)
		f.opens(t, plain)
		custom := f.create(t, vault.Draft{Type: vault.Custom, Meta: vault.Meta{Name: "c"}, Secrets: secrets("given", "x"), Generate: vault.Generates{"made": {Kind: generate.Hex}, "pair": {Kind: generate.Ed25519}}})
		require.Equal(t, []string{"given", "made", "pair"}, custom.SecretFields)

		for name, one := range map[string]struct {
			d  vault.Draft
			at []string
		}{
			"both":             {vault.Draft{Type: vault.Password, Secrets: secrets("password", "x"), Generate: d.Generate}, []string{"/generate/password"}},
			"unknown field":    {vault.Draft{Type: vault.Password, Secrets: secrets("password", "x"), Generate: vault.Generates{"pin": {Kind: generate.Hex}}}, []string{"/generate", "/secrets"}},
			"issued elsewhere": {vault.Draft{Type: vault.OAuth, Generate: vault.Generates{"access_token": {Kind: generate.Hex}}}, []string{"/generate/access_token"}},
			"unknown kind":     {vault.Draft{Type: vault.Password, Generate: vault.Generates{"password": {Kind: "dice"}}}, []string{"/generate/password/kind"}},
			"a pair as text":   {vault.Draft{Type: vault.Password, Generate: vault.Generates{"password": {Kind: generate.RSA}}}, []string{"/generate/password/kind"}},
			"text as a key":    {vault.Draft{Type: vault.SSHKey, Generate: vault.Generates{"private_key": {Kind: generate.Hex}}}, []string{"/generate/private_key/kind"}},
			"too short":        {vault.Draft{Type: vault.Password, Generate: vault.Generates{"password": {Kind: generate.Password, Length: 4}}}, []string{"/generate/password/length"}},
			"other missing":    {vault.Draft{Type: vault.SSHKey, Generate: vault.Generates{"passphrase": {Kind: generate.Passphrase}}}, []string{"/secrets/private_key"}},
			"not for headers":  {vault.Draft{Type: vault.APIKey, Generate: vault.Generates{"api_key": {Kind: generate.Passphrase, Separator: ptr(" ")}}}, []string{"/secrets/api_key"}},
		} {
			one.d.Name = "refused"
			_, err := f.Create(t.Context(), admin, one.d)
			require.Error(t, err, name)
			require.Equal(t, one.at, pointers(requireCode(t, err, map[bool]string{true: "secret_missing", false: "validation_failed"}[name == "other missing"])), name)
		}
		_, err = f.RotateMaking(t.Context(), admin, made.ID, secrets("password", "x"), d.Generate, "")
		require.Equal(t, []string{"/generate/password"}, pointers(requireCode(t, err, "validation_failed")))
		_, err = f.RotateMaking(t.Context(), reader, made.ID, nil, d.Generate, "")
		requireCode(t, err, "scope_missing")
		_, err = f.RotateMaking(t.Context(), member, made.ID, nil, d.Generate, "")
		requireCode(t, err, "not_found")
	})
}

// opens checks that the stored key opens with the stored passphrase, and is the one whose public half was shown.
func (f *fixture) opens(t *testing.T, c vault.Credential) {
	t.Helper()
	key := []byte(f.reveal(t, c.ID, "private_key"))
	var parsed any
	var err error
	if c.Facts.SSHKey.Encrypted {
		parsed, err = ssh.ParseRawPrivateKeyWithPassphrase(key, []byte(f.reveal(t, c.ID, "passphrase")))
	} else {
		parsed, err = ssh.ParseRawPrivateKey(key)
	}
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(parsed)
	require.NoError(t, err)
	require.Equal(t, c.Facts.SSHKey.Fingerprint, ssh.FingerprintSHA256(signer.PublicKey()))
	line, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.Facts.SSHKey.PublicKey))
	require.NoError(t, err)
	require.Equal(t, signer.PublicKey().Marshal(), line.Marshal())
}
