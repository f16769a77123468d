package stray_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/stray"
)

// TestRedactGrowsWithItsText: the words of what stands for one value may be another value, so that one after the other a short text would take all memory.
func TestRedactGrowsWithItsText(t *testing.T) {
	text := strings.Repeat("x_pass=redacted\nx_pass=password\n", 40)
	got := stray.Redact(text)
	require.Less(t, len(got), 10*len(text))
	require.NotContains(t, got, "x_pass=redacted")
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"use sk-ant-api03-abcdefghijklmnop please":                           "use [redacted: an Anthropic API key] please",
		"sbx_live_abcDEF123 is mine":                                         "[redacted: a client key] is mine",
		"Authorization: Bearer abcdefghijkl":                                 "Authorization: Bearer [redacted]",
		"curl -H 'x-api-key: hunter22'":                                      "curl -H 'x-api-key: [redacted]'",
		`{"password": "correct-horse"}`:                                      `{"password": "[redacted]"}`,
		"it sends bearer abcdefghijklmnopqrst":                               "it sends bearer [redacted]",
		"DEPLOY_KEY=qJ8vT3xZ9wLmN4pR":                                        "DEPLOY_KEY=[redacted: a random value with a telling name]",
		"postgres://me:hunter22@db/x":                                        "[redacted: a connection string with its password]",
		"a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb": "a\n[redacted: a private key]\nb",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl":                          "[redacted: a private key]",
		"the key to the door, a token of thanks: thanks":                     "the key to the door, a token of thanks: thanks",
		"": "",
	} {
		require.Equal(t, want, stray.Redact(text))
	}
}

func FuzzRedact(f *testing.F) {
	const key = "sk-ant-api03-plantedplantedplanted"
	f.Add("a ", " b")
	f.Add("password=", "\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(stray.Redact(before+" "+key+" "+after), key) {
			t.Fatal("a key is left")
		}
	})
}
