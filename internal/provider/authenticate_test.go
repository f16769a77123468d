package provider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/provider"
)

func TestParseAuthenticate(t *testing.T) {
	const where = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
	for text, want := range map[string]provider.Authenticate{
		`Bearer`:           {},
		`bearer realm="x"`: {},
		`Bearer error="invalid_token", error_description="planted, \"x\" = y"`: {Error: "invalid_token"},
		`Bearer error="planted"`:                                                                  {Error: "other_error"},
		`Bearer resource_metadata="` + where + `"`:                                                {ResourceMetadata: where},
		`Bearer resource_metadata = "` + where + `" ,, scope="a b"`:                               {ResourceMetadata: where, Scopes: []string{"a", "b"}},
		`Basic realm="x", Bearer error=insufficient_scope, scope="a", Negotiate`:                  {Error: "insufficient_scope", Scopes: []string{"a"}},
		`Negotiate abc==, Bearer scope="a"`:                                                       {Scopes: []string{"a"}},
		`Negotiate , Digest a=b, c="d", Bearer RESOURCE_METADATA="` + where + `", other="Bearer"`: {ResourceMetadata: where},
		`DPoP algs="ES256", Bearer`:                                                               {},
	} {
		got, ok := provider.ParseAuthenticate([]string{text})
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		``, `Basic realm="x"`, `Bearer error="a", error="b"`, `Bearer error="a`, `Bearer scope="a", error=`, `Bearer "x"`, `="x"`, `Bearer a=b c=d`, "Bearer a=\"\x00\"",
		`Bearer resource_metadata="javascript:alert(1)"`, `Bearer resource_metadata="/relative"`, `Bearer resource_metadata="https://a@b/c"`, `Bearer resource_metadata="https://b/c#d"`,
		`Bearer resource_metadata="https://a/", Bearer resource_metadata="https://b/"`, `Bearer a="` + strings.Repeat("x", 20<<10) + `"`, `Bearer@ x=y`,
	} {
		got, ok := provider.ParseAuthenticate([]string{text})
		require.False(t, ok, text)
		require.Zero(t, got, text)
	}
	got, ok := provider.ParseAuthenticate([]string{`Bearer error="invalid_token"`, `Bearer resource_metadata="` + where + `"`})
	require.True(t, ok)
	require.Equal(t, provider.Authenticate{ResourceMetadata: where}, got)
	_, ok = provider.ParseAuthenticate([]string{`Bearer resource_metadata="` + where + `"`, `Bearer resource_metadata="` + where + `x"`})
	require.False(t, ok)
}
