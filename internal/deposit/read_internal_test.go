package deposit

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted is in every value of a body; no answer may hold it.
const planted = "planted-77aa01c4"

// FuzzRead: whatever comes, an answer quotes nothing of it, and what is taken has the fields that are needed.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"mcpServerId":"files","refreshToken":"planted-77aa01c4","tokenEndpoint":"https://auth.example/token"}`))
	f.Add([]byte(`{"mcpServerId":1,"mcpServerId":2,"planted-77aa01c4":{}}`))
	f.Add([]byte(`{"clientSecret":"planted-77aa01c4","clientSecretExpiresAt":"planted-77aa01c4","tokenEndpointAuthMethod":"planted-77aa01c4"}`))
	f.Add([]byte(`["planted-77aa01c4"]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, bad, whole := read(text)
		if len(bad) > 0 {
			require.NotContains(t, bad.Error(), planted)
			require.True(t, strings.HasPrefix(bad.Error(), "Invalid request body — "))
			return
		}
		require.True(t, whole)
		require.NotEmpty(t, d.Server)
		require.False(t, d.Refresh.IsZero())
		require.NotEmpty(t, d.TokenEndpoint)
		require.True(t, d.ClientSecret.IsZero() || d.ClientID != "")
	})
}

// TestDates: a day and a time of RFC 3339, and nothing that two readers would read differently.
func TestDates(t *testing.T) {
	for _, good := range []string{"2027-01-31", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00.123+02:00"} {
		_, ok := date(good)
		require.True(t, ok, good)
	}
	for _, bad := range []string{"", "0", "1767225600", "31.01.2027", "2027-02-30", "tomorrow", "2027-01-31 12:00"} {
		_, ok := date(bad)
		require.False(t, ok, bad)
	}
}
