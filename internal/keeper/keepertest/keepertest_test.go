package keepertest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keeper/keepertest"
)

// transit asks the fake of Vault's transit engine.
func transit(t *testing.T, v *keepertest.Vault, token, path string, in map[string]any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.URL+"/v1/transit/"+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-Vault-Token", token)
	resp, err := v.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var out struct {
		Data map[string]any `json:"data"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	return resp.StatusCode, out.Data
}

// TestTheFakeRefuses: a fake that opened what its service would not open would let a keeper pass that binds nothing.
func TestTheFakeRefuses(t *testing.T) {
	v := keepertest.StartVault(t, "the-token")
	v.MakeKey("root")
	status, sealed := transit(t, v, "the-token", "encrypt/root", map[string]any{"plaintext": []byte("words"), "associated_data": []byte("here")})
	require.Equal(t, http.StatusOK, status)
	open := func(token, place string) (int, map[string]any) {
		return transit(t, v, token, "decrypt/root", map[string]any{"ciphertext": sealed["ciphertext"], "associated_data": []byte(place)})
	}
	status, opened := open("the-token", "here")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "d29yZHM=", opened["plaintext"])

	status, _ = open("another-token", "here")
	require.Equal(t, http.StatusForbidden, status)
	status, _ = open("the-token", "elsewhere")
	require.Equal(t, http.StatusBadRequest, status)
	v.Rotate("root")
	status, _ = open("the-token", "here")
	require.Equal(t, http.StatusOK, status, "older versions go on opening")
	v.Retire("root", 2)
	status, _ = open("the-token", "here")
	require.Equal(t, http.StatusBadRequest, status)
	v.Delete("root")
	status, _ = open("the-token", "here")
	require.Equal(t, http.StatusBadRequest, status)
	require.Len(t, v.Calls(), 7)
}
