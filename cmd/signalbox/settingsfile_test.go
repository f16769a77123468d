package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestMergeClaudeSettingsKeepsWhatIsThere(t *testing.T) {
	vars := [][2]string{{"ANTHROPIC_BASE_URL", "http://127.0.0.1:8420"}, {"ANTHROPIC_AUTH_TOKEN", "k"}}
	for name, c := range map[string]struct{ old, want string }{
		"no file":        {"", `{"env":{"ANTHROPIC_BASE_URL":"http://127.0.0.1:8420","ANTHROPIC_AUTH_TOKEN":"k"}}`},
		"no env":         {`{"a":1.10,"big":12345678901234567890}`, `{"a":1.10,"big":12345678901234567890,"env":{"ANTHROPIC_BASE_URL":"http://127.0.0.1:8420","ANTHROPIC_AUTH_TOKEN":"k"}}`},
		"key twice":      {`{"env":{"X":"1"},"env":{"ANTHROPIC_AUTH_TOKEN":"old"}}`, `{"env":{"X":"1"},"env":{"ANTHROPIC_AUTH_TOKEN":"k","ANTHROPIC_BASE_URL":"http://127.0.0.1:8420"}}`},
		"odd characters": {"{\"<é>\": \"\\u2028&\"}", `{"<é>":"\u2028&","env":{"ANTHROPIC_BASE_URL":"http://127.0.0.1:8420","ANTHROPIC_AUTH_TOKEN":"k"}}`},
	} {
		got, err := mergeClaudeSettings([]byte(c.old), vars)
		require.NoError(t, err, name)
		require.True(t, json.Valid(got), name)
		flat := strings.NewReplacer("\n", "", "  ", "", ": ", ":").Replace(string(got))
		require.Equal(t, c.want, flat, name)
		again, err := mergeClaudeSettings(got, vars)
		require.NoError(t, err, name)
		require.Equal(t, string(got), string(again), name)
	}
	for _, old := range []string{"[]", "null", "{", `{"a":1} x`, `{"env":[]}`, `{"env":"x"}`, "\x00", `{"a":}`} {
		_, err := mergeClaudeSettings([]byte(old), vars)
		require.Error(t, err, old)
	}
}

// FuzzMergeClaudeSettings: whatever is in the file, the result is an object that holds what was there and what was to be set, or nothing is
// written.
func FuzzMergeClaudeSettings(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"env":{"A":"1"},"x":[{"y":null}]}`, `{"env":{}} `, `{"a":1,"a":2}`} {
		f.Add([]byte(seed), "value")
	}
	f.Fuzz(func(t *testing.T, old []byte, value string) {
		got, err := mergeClaudeSettings(old, [][2]string{{"K", value}})
		if err != nil || !utf8.ValidString(value) {
			return
		}
		var before, after map[string]any
		if strings.TrimSpace(string(old)) != "" {
			require.NoError(t, json.Unmarshal(old, &before))
		}
		require.NoError(t, json.Unmarshal(got, &after))
		env, ok := after["env"].(map[string]any)
		require.True(t, ok)
		require.Equal(t, value, env["K"])
		for name, v := range before {
			if name != "env" {
				require.Equal(t, v, after[name])
			}
		}
	})
}

func TestMergeDotenv(t *testing.T) {
	vars := [][2]string{{"A", "1"}, {"B", "2"}}
	for old, want := range map[string]string{
		"":                      "A=1\nB=2\n",
		"C=3":                   "C=3\nA=1\nB=2\n",
		"A=old\nC=3\n":          "A=1\nC=3\nB=2\n",
		"# A=no\n export A = x": "# A=no\nexport A=1\nB=2\n",
		"AA=1\n":                "AA=1\nA=1\nB=2\n",
	} {
		got, err := mergeDotenv([]byte(old), vars)
		require.NoError(t, err)
		require.Equal(t, want, string(got), old)
	}
	_, err := mergeDotenv([]byte("a\x00b"), vars)
	require.Error(t, err)
}
