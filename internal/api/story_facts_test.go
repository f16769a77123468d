package api_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/client"
)

// TestStoryFacts: what may be told of a secret comes with the answer that stored it, and with each read of the credential, and not with lists.
func TestStoryFacts(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		public, private, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		block, err := ssh.MarshalPrivateKey(private, "deploy@build")
		require.NoError(t, err)
		line, err := ssh.NewPublicKey(public)
		require.NoError(t, err)
		made, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "ssh_key", Name: "deploy", Secrets: map[string]string{"private_key": string(pem.EncodeToMemory(block))}})
		require.NoError(t, err)
		want := client.SSHKeyFacts{Type: "ssh-ed25519", Bits: 256, Fingerprint: ssh.FingerprintSHA256(line), PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), Comment: "deploy@build"}
		require.Equal(t, want, *made.Facts.SSHKey)
		got, err := h.client.GetCredential(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, made.Facts, got.Facts)
		list, err := h.client.ListCredentials(ctx, client.CredentialFilter{Type: "ssh_key"})
		require.NoError(t, err)
		require.Nil(t, list.Credentials[0].Facts)

		dsn, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "connection_string", Name: "db", Secrets: map[string]string{"connection_string": "postgres://app:planted-password-77@db.example.com:5433/shop?sslmode=require"}})
		require.NoError(t, err)
		require.Equal(t, client.ConnectionFacts{Scheme: "postgres", Host: "db.example.com", Port: 5433, Database: "shop", User: "app", TLSMode: "require"}, *dsn.Facts.Connection)
		enc := base64.RawURLEncoding.EncodeToString
		token, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "jwt", Name: "t", Secrets: map[string]string{"token": enc([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + enc([]byte(`{"iss":"us","exp":4102444800,"x":"planted-claim-value"}`)) + ".cGxhbnRlZC1zaWduYXR1cmU"}})
		require.NoError(t, err)
		require.Equal(t, "us", token.Facts.JWT.Issuer)
		require.Equal(t, "2100-01-01T00:00:00Z", token.ExpiresAt.Format("2006-01-02T15:04:05Z07:00"))
		plain, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "p", Secrets: map[string]string{"password": "planted-password-77"}})
		require.NoError(t, err)
		require.Nil(t, plain.Facts)

		for _, c := range []client.Credential{made, dsn, token} {
			b, err := json.Marshal(c)
			require.NoError(t, err)
			require.NotContains(t, string(b), "planted")
			require.NotContains(t, string(b), "PRIVATE")
			require.NotContains(t, string(b), base64.StdEncoding.EncodeToString(private.Seed())[:12])
		}
	})
}

// TestStoryGenerate: a secret that the server makes is stored without anybody having seen it, but the public half of a pair.
func TestStoryGenerate(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		a := h.do(request{method: http.MethodPost, target: "/api/credentials", token: h.token,
			body: []byte(`{"type":"password","name":"made","generate":{"password":{"kind":"password","length":24,"classes":["lower","digits"]}}}`)})
		require.Equal(t, 201, a.status, "%s", a.body)
		var made struct{ Credential client.Credential }
		require.NoError(t, json.Unmarshal(a.body, &made))
		value, err := h.client.RevealCredential(ctx, made.Credential.ID, "password", "check")
		require.NoError(t, err)
		require.Regexp(t, `^[a-z0-9]{24}$`, value)
		require.NotContains(t, string(a.body), value)

		a = h.do(request{method: http.MethodPost, target: "/api/credentials/" + made.Credential.ID + "/rotate", token: h.token, body: []byte(`{"generate":{"password":{"kind":"passphrase","words":8,"separator":"_"}},"reason":"yearly"}`)})
		require.Equal(t, 200, a.status, "%s", a.body)
		next, err := h.client.RevealCredential(ctx, made.Credential.ID, "password", "check")
		require.NoError(t, err)
		require.Len(t, strings.Split(next, "_"), 8)
		require.NotContains(t, string(a.body), next)

		pair, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "ssh_key", Name: "deploy", Generate: map[string]client.Generate{"private_key": {Kind: "ed25519", Comment: "deploy@build"}}})
		require.NoError(t, err)
		_, _, _, _, err = ssh.ParseAuthorizedKey([]byte(pair.Facts.SSHKey.PublicKey))
		require.NoError(t, err)

		for body, code := range map[string]string{
			`{"type":"password","name":"x"}`: "secret_missing", `{"type":"password","name":"x","generate":{}}`: "validation_failed", `{"type":"password","name":"x","generate":{"password":{}}}`: "validation_failed",
			`{"type":"password","name":"x","generate":{"password":{"kind":"dice"}}}`: "validation_failed", `{"type":"password","name":"x","generate":{"password":{"kind":"hex","size":3}}}`: "validation_failed",
			`{"type":"password","name":"x","generate":{"password":null}}`: "validation_failed", `{"type":"password","name":"x","generate":{"password":{"kind":"password","length":4}}}`: "validation_failed",
			`{"type":"connection_string","name":"x","generate":{"connection_string":{"kind":"hex"}}}`: "validation_failed",
		} {
			a := h.do(request{method: http.MethodPost, target: "/api/credentials", token: h.token, body: []byte(body)})
			require.Equal(t, 422, a.status, "%s: %s", body, a.body)
			require.Equal(t, code, h.problem(a).Code, body)
		}
	})
}
