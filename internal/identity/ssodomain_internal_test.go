package identity

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddressesHaveOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"ada@example.com": "ada@example.com", "Ada.L+x@Example.COM": "ada.l+x@example.com",
		"": "", "ada": "", "@example.com": "", "ada@": "", "ada@example": "", "ada@example.com.": "", "ada@.example.com": "", "ada@exa..mple.com": "",
		"ada@evil.example@example.com": "", "ada@example.com ": "", " ada@example.com": "", "ada@example.com\x00": "", "ada@example.com\n": "", "ada@[127.0.0.1]": "",
		"ada@-example.com": "", "ada@example.com@": "", "Ada <ada@example.com>": "", `"ada"@example.com`: "", "ada@example.com,eve@evil.example": "",
		"ada@e\u0445ample.com": "", "ada@example\u3002com": "", "ada@\u212aexample.com": "", "\u212a@example.com": "", "ada@\uff45xample.com": "", "ada(comment)@example.com": "",
	} {
		email, domain, ok := asciiEmail(in)
		require.Equal(t, want != "", ok, "%q", in)
		if ok {
			require.Equal(t, want, email)
			require.Equal(t, "example.com", domain)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"ada@example.com", "a@b@c.d", "\u212a@example.com", "ada@example.com."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		email, domain, ok := asciiEmail(s)
		if !ok {
			return
		}
		require.Equal(t, 1, strings.Count(email, "@"))
		require.True(t, strings.HasSuffix(email, "@"+domain))
		require.Equal(t, strings.ToLower(s), email)
		for i := range len(email) {
			require.Less(t, email[i], byte(0x7f))
		}
		again, _, ok := asciiEmail(email)
		require.True(t, ok)
		require.Equal(t, email, again)
	})
}
