package api_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestStoryInject: how a credential goes into requests, and into which, is stored, shown, changed by a merge patch like where it is sent, and taken back;
// what could not work is refused or said.
func TestStoryInject(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		secrets := map[string]string{"api_key": "planted-key-0123456789"}
		for body, pointer := range map[string]string{
			`"inject":{"type":"cookie"}`: "/inject/type", `"inject":{"name":"X-Key"}`: "/inject/type", `"inject":{"type":"header"}`: "/inject/name", `"inject":{"type":"bearer","name":"X"}`: "/inject/name",
			`"inject":{"type":"header","name":"Host"}`: "/inject/name", `"inject":{"type":"query","name":"a&b"}`: "/inject/name", `"inject":{"type":"bearer","more":1}`: "/inject",
			`"methods":["TRACE"]`: "/methods/0", `"paths":["/a/../b"]`: "/paths/0", `"paths":["api"]`: "/paths/0", `"paths":[""]`: "/paths/0",
		} {
			a := h.do(request{method: http.MethodPost, target: "/api/credentials", token: h.token, body: []byte(`{"type":"api_key","name":"no","secrets":{"api_key":"planted-key-0123456789"},` + body + `}`)})
			require.Equal(t, 422, a.status, "%s: %s", body, a.body)
			require.Contains(t, string(a.body), `"`+pointer+`"`, body)
			require.NotContains(t, string(a.body), "planted")
		}
		made, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "git", BaseURL: "https://git.example.com/api", Secrets: secrets,
			Inject: &client.Inject{Type: "header", Name: "X-Api-Key"}, Methods: []string{"get", "POST"}, Paths: []string{"/repos/**"}})
		require.NoError(t, err)
		require.Equal(t, client.Inject{Type: "header", Name: "X-Api-Key"}, *made.Inject)
		require.Equal(t, []string{"GET", "POST"}, made.Methods)
		require.Empty(t, made.InjectProblem)
		patch := func(body string) client.Credential {
			t.Helper()
			a := h.do(request{method: http.MethodPatch, target: "/api/credentials/" + made.ID, token: h.token, body: []byte(body)})
			require.Equal(t, 200, a.status, "%s", a.body)
			var out struct{ Credential client.Credential }
			require.NoError(t, json.Unmarshal(a.body, &out))
			return out.Credential
		}
		require.Equal(t, "X-Other", patch(`{"inject":{"name":"X-Other"}}`).Inject.Name)
		require.Equal(t, client.Inject{Type: "bearer"}, *patch(`{"inject":{"type":"bearer"}}`).Inject)
		got := patch(`{"inject":null,"methods":null,"paths":["/a/*"]}`)
		require.Nil(t, got.Inject)
		require.Empty(t, got.Methods)
		require.Equal(t, []string{"/a/*"}, got.Paths)
		got, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{Inject: &client.Inject{Type: "query", Name: "key"}, Methods: &[]string{"GET"}, Clear: []string{"paths"}})
		require.NoError(t, err)
		require.Equal(t, client.Inject{Type: "query", Name: "key"}, *got.Inject)
		list, err := h.client.ListCredentials(ctx, client.CredentialFilter{Q: "git"})
		require.NoError(t, err)
		require.Equal(t, []string{"GET"}, list.Credentials[0].Methods)
		require.Empty(t, list.Credentials[0].Paths)

		// What could not go into a request is stored, and says so to whoever stores it.
		bare, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "door", BaseURL: "https://door.example.com", Secrets: map[string]string{"password": "planted-password-77"}})
		require.NoError(t, err)
		require.Contains(t, bare.InjectProblem, "needs a username")
		user := "ada"
		bare, err = h.client.UpdateCredential(ctx, bare.ID, client.CredentialPatch{Username: &user})
		require.NoError(t, err)
		require.Empty(t, bare.InjectProblem)
	})
}
