package signalboxtest_test

import (
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestJoseVerifiesOurTokens: a library that we did not write fetches our keys and verifies our access tokens, before and after the keys were
// replaced, and refuses one that was changed.
func TestJoseVerifiesOurTokens(t *testing.T) {
	install := exec.Command("../../scripts/npm.sh")
	out, err := install.Output()
	require.NoError(t, err, "scripts/npm.sh")
	home := strings.TrimSpace(string(out))
	box := signalboxtest.Start(t, store.SQLite)
	admin := box.Admin()
	const email, password = "grace@example.com", "planted-password-for-jose"
	made, err := admin.CreateUser(t.Context(), client.UserDraft{Email: email, Name: "Grace", Role: "operator", Password: password})
	require.NoError(t, err)

	type verdict struct {
		Refused string            `json:"refused"`
		Payload map[string]any    `json:"payload"`
		Header  map[string]string `json:"protectedHeader"`
	}
	verify := func(token string) (v verdict) {
		t.Helper()
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		require.NoError(t, err)
		var c struct{ Iss string }
		require.NoError(t, json.Unmarshal(claims, &c))
		require.True(t, strings.HasPrefix(c.Iss, "urn:signalbox:box_"), c.Iss)
		told, err := exec.Command("node", "testdata/jose.mjs", home, box.URL+"/api/auth/jwks.json", c.Iss, token).Output()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(told, &v), "%s", told)
		return v
	}
	in, err := box.Anonymous().Login(t.Context(), email, password)
	require.NoError(t, err)
	v := verify(in.AccessToken)
	require.Empty(t, v.Refused)
	require.Equal(t, made.User.ID, v.Payload["sub"])
	require.Equal(t, in.SessionID, v.Payload["sid"])
	require.Equal(t, "at+jwt", v.Header["typ"])
	require.Contains(t, v.Payload["scope"], "trains:write")
	exp, _ := v.Payload["exp"].(float64)
	require.InDelta(t, float64(time.Now().Add(time.Hour).Unix()), exp, 120)

	parts := strings.Split(in.AccessToken, ".")
	other, err := box.Anonymous().Login(t.Context(), email, password)
	require.NoError(t, err)
	parts[1] = strings.Split(other.AccessToken, ".")[1]
	require.Equal(t, "ERR_JWS_SIGNATURE_VERIFICATION_FAILED", verify(strings.Join(parts, ".")).Refused)

	require.NoError(t, admin.RotateSigningKeys(t.Context(), true))
	require.Equal(t, "ERR_JWKS_NO_MATCHING_KEY", verify(in.AccessToken).Refused)
	next, err := box.Anonymous().Refresh(t.Context(), in.RefreshToken)
	require.NoError(t, err)
	require.Empty(t, verify(next.AccessToken).Refused)
}
