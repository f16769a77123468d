package connect_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/connect"
)

func odd() connect.Setup {
	return connect.Setup{URL: "https://box.example.com/a b", Train: "we'b", Key: "sbx_live_planted", Account: `the "team"`}
}

// TestHelperSettings: the file is JSON whatever is in it, and its command is one command of a shell with the words that are meant.
func TestHelperSettings(t *testing.T) {
	s := odd()
	var file struct {
		Helper string            `json:"apiKeyHelper"`
		Env    map[string]string `json:"env"`
	}
	text := connect.HelperSettings(s, connect.HelperCommand("/opt/my tools/signalbox", s, "--expires", "1h"))
	require.NoError(t, json.Unmarshal([]byte(text), &file), text)
	require.Equal(t, map[string]string{connect.BaseURL: s.URL, connect.HelperTTL: "300000", connect.CustomHeaders: `MSL-Account: the "team"`}, file.Env)
	require.NotContains(t, text, "sbx_live_")
	out, err := exec.Command("sh", "-c", "for w in "+file.Helper+`; do printf '%s\n' "$w"; done`).Output()
	require.NoError(t, err)
	require.Equal(t, []string{"/opt/my tools/signalbox", "helper", "anthropic", "--url", s.URL, "--train", "we'b", "--expires", "1h"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// TestExports: a shell gets the values as they are.
func TestExports(t *testing.T) {
	set, unset := connect.ClaudeCode(odd())
	out, err := exec.Command("sh", "-euc", "ANTHROPIC_API_KEY=other; export ANTHROPIC_API_KEY\n"+connect.Exports(set, unset)+
		"\nprintf '%s\\n' \"$ANTHROPIC_BASE_URL\" \"$ANTHROPIC_AUTH_TOKEN\" \"$ANTHROPIC_CUSTOM_HEADERS\" \"${ANTHROPIC_API_KEY-none}\"").Output()
	require.NoError(t, err)
	require.Equal(t, "https://box.example.com/a b\nsbx_live_planted\nMSL-Account: the \"team\"\nnone\n", string(out))
	require.Equal(t, "$env:A = 'it''s'\n$env:B = $null\n$env:C = $null", connect.PowerShell([]connect.Variable{{Name: "A", Value: "it's"}}, []string{"B", "C"}))
}

// TestCards: each card can be pasted as it is. Without a key the placeholder stands in its place, and only steps that say so hold one.
func TestCards(t *testing.T) {
	for _, s := range []connect.Setup{{URL: "https://box.example.com", Train: "web"}, {URL: "https://box.example.com", Train: "web", Key: "sbx_live_planted"}} {
		ids := map[string]bool{}
		key := s.Key
		if key == "" {
			key = connect.Placeholder
		}
		for _, c := range connect.Cards(s) {
			require.False(t, ids[c.ID], c.ID)
			ids[c.ID] = true
			require.NotEmpty(t, c.Name)
			require.NotEmpty(t, c.Lead)
			require.NotEmpty(t, c.Steps)
			for _, step := range c.Steps {
				require.False(t, ids[step.ID], step.ID)
				ids[step.ID] = true
				require.Equal(t, step.Secret, strings.Contains(step.Text, key), step.ID)
				require.Equal(t, strings.TrimSpace(step.Text)+map[bool]string{true: "\n"}[strings.HasSuffix(step.Text, "\n")], step.Text)
			}
		}
		for _, id := range []string{"claude-code", "claude-code-helper", "typescript", "python", "go", "curl"} {
			require.True(t, ids[id], id)
		}
	}
	_, ok := connect.ProgramIn("cobol")
	require.False(t, ok)
	require.Equal(t, "typescript, python, go", connect.Languages())
	require.NotContains(t, connect.Curl(odd()), "sbx_live_")
}

// TestWithoutCredentials: what a user has sent besides stays, unless it would be a credential beside the client key.
func TestWithoutCredentials(t *testing.T) {
	require.Equal(t, "MSL-Account: team\nX-Team: a:b", connect.WithoutCredentials("MSL-Account: team\n AUTHORIZATION : Bearer planted\nX-Team: a:b\nx-api-key:planted"))
	require.Empty(t, connect.WithoutCredentials("Cookie: planted"))
	for _, name := range connect.Rivals() {
		for _, of := range []func(connect.Setup) ([]connect.Variable, []string){connect.ClaudeCode, connect.SDK, connect.Helper} {
			set, _ := of(odd())
			for _, v := range set {
				require.NotEqual(t, v.Name, name, "it would take out what it sets")
			}
		}
	}
}
