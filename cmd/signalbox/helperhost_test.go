package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestUnbound: a secret goes to the hosts that its credential is bound to, and to no other that is written like one of them.
func TestUnbound(t *testing.T) {
	path := func(p string) *string { return &p }
	cases := []struct {
		scheme, host string
		path         *string
		cred         client.Credential
		bound        bool
	}{
		{"https", "git.example.com", nil, client.Credential{Hosts: []string{"git.example.com"}}, true},
		{"https", "GIT.example.com:443", nil, client.Credential{Hosts: []string{"git.example.com"}}, true},
		{"https", "git.example.com", nil, client.Credential{Hosts: []string{"git.example.com:443"}}, true},
		{"https", "git.example.com:8443", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"https", "git.example.com", nil, client.Credential{Hosts: []string{"git.example.com:8443"}}, false},
		{"https", "git.example.com.", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"https", "evilgit.example.com", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"https", "x.git.example.com", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"http", "git.example.com", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"ssh", "git.example.com", nil, client.Credential{Hosts: []string{"git.example.com"}}, false},
		{"http", "git.example.com", nil, client.Credential{BaseURL: "http://git.example.com"}, false},
		{"http", "127.0.0.1:3000", nil, client.Credential{Hosts: []string{"127.0.0.1:3000"}}, true},
		{"http", "[::1]:3000", nil, client.Credential{BaseURL: "http://[::1]:3000"}, true},
		{"https", "127.0.0.1", nil, client.Credential{BaseURL: "http://127.0.0.1"}, false}, // another port
		{"https", "git.example.com", nil, client.Credential{}, false},
		{"https", "git.example.com", nil, client.Credential{ExternalURL: "https://git.example.com"}, false}, // a link that people follow
		{"https", "git.example.com", nil, client.Credential{BaseURL: "https://git.example.com"}, true},
		{"https", "api.example.com", nil, client.Credential{BaseURL: "https://git.example.com", Hosts: []string{"git.example.com", "api.example.com"}}, true},
		{"https", "git.example.com", nil, client.Credential{BaseURL: "https://git.example.com/team"}, false},
		{"https", "git.example.com", path("team/app.git"), client.Credential{BaseURL: "https://git.example.com/team"}, true},
		{"https", "git.example.com", path("/team/"), client.Credential{BaseURL: "https://git.example.com/team"}, true},
		{"https", "git.example.com", path("teams/app.git"), client.Credential{BaseURL: "https://git.example.com/team"}, false},
		{"https", "git.example.com", path("team/../other"), client.Credential{BaseURL: "https://git.example.com/team"}, false},
		{"https", "git.example.com", path(""), client.Credential{BaseURL: "https://git.example.com/team"}, false},
		{"https", "git.example.com", path("other"), client.Credential{BaseURL: "https://git.example.com/team", Hosts: []string{"git.example.com"}}, false},
	}
	for _, c := range cases {
		at, err := newOrigin(c.scheme, c.host)
		require.NoError(t, err)
		at.path = c.path
		why := unbound(c.cred, at)
		require.Equal(t, c.bound, why == "", "%s %v: %s", at, c.cred, why)
	}
	for _, wrong := range []string{"", "a@b", "a/b", "a?b", "a#b", "a b", ":443", "a\nb", "%67it.example.com", "a:b", "g\u0130thub.com", "\u212aernel.org", "m\u00fcller.example"} {
		_, err := newOrigin("https", wrong)
		require.Error(t, err, wrong)
	}
}

// FuzzReadAttributes: whatever git is told to send on, what is read has no line break, and no value that git did not give.
func FuzzReadAttributes(f *testing.F) {
	f.Add("protocol=https\nhost=git.example.com\n\nhost=evil.example\n")
	f.Add("capability[]=authtype\npath=a=b")
	f.Add("=x\n")
	f.Add("a=\x00\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readAttributes(strings.NewReader(text))
		if err != nil {
			return
		}
		head, _, _ := strings.Cut("\n"+text+"\n\n", "\n\n")
		for key, value := range got {
			require.NotContains(t, key+value, "\n")
			require.NotContains(t, key+value, "\x00")
			require.Contains(t, head+"\n", "\n"+key+"="+value+"\n")
		}
	})
}

// FuzzParseTemplate: what has no reference comes out as it went in; what is taken apart has no reference left in its text.
func FuzzParseTemplate(f *testing.F) {
	f.Add("a {{ signalbox://gitea/password | json }} b\n{{ .Other }}")
	f.Add("{{signalbox://a%2Fb}}")
	f.Add("{{ signalbox:// }}")
	f.Add("signalbox://x")
	f.Add("{{ signalbox://x }")
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := parseTemplate(text)
		if err != nil {
			require.Contains(t, text, referenceScheme)
			return
		}
		plain, references := "", 0
		for _, p := range parts {
			plain += p.text
			if p.isReference() {
				references++
				require.Empty(t, p.text)
			}
		}
		require.Equal(t, strings.Count(text, referenceScheme), references)
		if references == 0 {
			require.Equal(t, text, plain)
		}
	})
}
