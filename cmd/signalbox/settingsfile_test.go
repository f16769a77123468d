package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/connect"
)

func TestMergeClaudeSettingsKeepsWhatIsThere(t *testing.T) {
	vars := []connect.Variable{{Name: "ANTHROPIC_BASE_URL", Value: "http://127.0.0.1:8420"}, {Name: "ANTHROPIC_AUTH_TOKEN", Value: "k"}}
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

// TestMergeClaudeHelper: what would go before the helper goes, what else is there stays, and headers are merged by their names.
func TestMergeClaudeHelper(t *testing.T) {
	vars := []connect.Variable{{Name: connect.BaseURL, Value: "u"}, {Name: connect.CustomHeaders, Value: "MSL-Account: b"}}
	for old, want := range map[string]string{
		"": `{"apiKeyHelper":"h <x>","env":{"ANTHROPIC_BASE_URL":"u","ANTHROPIC_CUSTOM_HEADERS":"MSL-Account:b"}}`,
		`{"apiKeyHelper":"old","env":{"ANTHROPIC_API_KEY":"k","ANTHROPIC_CUSTOM_HEADERS":"X-A: 1\nmsl-account : a\n","Z":"1","ANTHROPIC_AUTH_TOKEN":"t"},"z":[]}`: `{"apiKeyHelper":"h <x>","env":{"ANTHROPIC_CUSTOM_HEADERS":"X-A:1\nMSL-Account:b","Z":"1","ANTHROPIC_BASE_URL":"u"},"z":[]}`,
	} {
		got, err := mergeClaude([]byte(old), vars, []string{connect.AuthToken, connect.APIKey}, "h <x>")
		require.NoError(t, err, old)
		require.Equal(t, want, strings.NewReplacer("\n", "", "  ", "", ": ", ":").Replace(string(got)))
		again, err := mergeClaude(got, vars, []string{connect.AuthToken, connect.APIKey}, "h <x>")
		require.NoError(t, err, old)
		require.Equal(t, string(got), string(again))
	}
}

// FuzzMergeClaudeSettings: whatever is in the file, the result is an object that holds what was there and what was to be set, or nothing is
// written.
func FuzzMergeClaudeSettings(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"env":{"A":"1"},"x":[{"y":null}]}`, `{"env":{}} `, `{"a":1,"a":2}`} {
		f.Add([]byte(seed), "value")
	}
	f.Fuzz(func(t *testing.T, old []byte, value string) {
		got, err := mergeClaudeSettings(old, []connect.Variable{{Name: "K", Value: value}})
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
	vars := []connect.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	for old, want := range map[string]string{
		"":                      "A=1\nB=2\n",
		"C=3":                   "C=3\nA=1\nB=2\n",
		"A=old\nC=3\n":          "A=1\nC=3\nB=2\n",
		"# A=no\n export A = x": "# A=no\nexport A=1\nB=2\n",
		"AA=1\n":                "AA=1\nA=1\nB=2\n",
		"export\tA = x\nB: y\n": "export A=1\nB=2\n",
		// What belongs to the file stays: endings, a mark before the first line, comments.
		"C=3\r\nA=x\r\n":           "C=3\r\nA=1\r\nB=2\r\n",
		"C=3\r\nA=x":               "C=3\r\nA=1\r\nB=2\r\n",
		"\ufeffA=x\n":              "\ufeffA=1\nB=2\n",
		"A=x # why\nB='y z'\t#b\n": "A=1 # why\nB=2\t#b\n",
		"A=x#y\nB=\"y # z\" \n":    "A=1\nB=2\n",
		// A quoted value that goes on holds no settings, and is replaced as a whole.
		"C=\"\nA=x\n\" # c\nB='\ny\n'\nD=4": "C=\"\nA=x\n\" # c\nB=2\nD=4\nA=1\n",
		"C=\"\\\"\nA=x\nB=y\n":              "C=\"\\\"\nA=1\nB=2\n", // never ends
	} {
		got, err := mergeDotenv([]byte(old), vars)
		require.NoError(t, err)
		require.Equal(t, want, string(got), old)
	}
	_, err := mergeDotenv([]byte("a\x00b"), vars)
	require.Error(t, err)
}

// TestDotenvSettings: what a file sets a variable to is what a program that loads it gets.
func TestDotenvSettings(t *testing.T) {
	for old, want := range map[string][]setting{
		"":                                  nil,
		"\ufeffA=x # c\r\nA=\"y\"\t# c\r\n": {{"x", "line 1"}, {"y", "line 2"}},
		"A= # nothing\nA=''\n":              {{"", "line 1"}, {"", "line 2"}},
		"B='\nA=hidden\n'\nexport A='x\ny'\nA=`z`": {{"x\ny", "line 4"}, {"z", "line 6"}},
		"A=\"x\\\"y\"\nA=x#y\nA='open\nA=z":        {{`x\"y`, "line 1"}, {"x#y", "line 2"}, {"open", "line 3"}, {"z", "line 4"}},
		"# A=x\nAA=x\nA\n":                         nil,
	} {
		require.Equal(t, want, dotenvSettings([]byte(old), "A"), old)
	}
}

// FuzzMergeDotenv: whatever is in the file, what was to be set is what is read back, at every place, and to do it again changes nothing.
func FuzzMergeDotenv(f *testing.F) {
	for _, seed := range []string{"", "A=1", "\ufeffA='x\r\ny'\r\n", "A=\"", "export A: 'b' # c\nB=`\nA=2\n`"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		vars := []connect.Variable{{Name: "A", Value: "sbx_live_planted"}}
		got, err := mergeDotenv(old, vars)
		if err != nil {
			return
		}
		read := dotenvSettings(got, "A")
		require.NotEmpty(t, read)
		for _, set := range read {
			require.Equal(t, "sbx_live_planted", set.value)
		}
		again, err := mergeDotenv(got, vars)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again))
	})
}

// TestForeign: what is no client key of ours is neither overwritten nor taken out, wherever it stands in the file.
func TestForeign(t *testing.T) {
	targets := targets()
	claude, sdk := targets[0], targets[1]
	for old, foreign := range map[string]bool{
		"": false, "ANTHROPIC_API_KEY=\n": false, "ANTHROPIC_API_KEY=sbx_live_x": false, "ANTHROPIC_API_KEY=YOUR_CLIENT_KEY": false, "N='\nANTHROPIC_API_KEY=sk\n'": false,
		"ANTHROPIC_API_KEY=sk": true, "ANTHROPIC_API_KEY=sk\nANTHROPIC_API_KEY=sbx_live_x": true, "ANTHROPIC_API_KEY=$OTHER": true,
	} {
		require.Equal(t, foreign, sdk.rivals([]byte(old)) != nil, old)
	}
	for old, foreign := range map[string]bool{
		"": false, `{"env":{"ANTHROPIC_AUTH_TOKEN":null,"ANTHROPIC_API_KEY":""}}`: false, `{"env":{"ANTHROPIC_AUTH_TOKEN":"sbx_live_x"}}`: false,
		`{"env":{"ANTHROPIC_AUTH_TOKEN":"sk"}}`: true, `{"env":{"ANTHROPIC_AUTH_TOKEN":"sk","ANTHROPIC_AUTH_TOKEN":"sbx_live_x"}}`: true, `{"env":{"ANTHROPIC_AUTH_TOKEN":7}}`: true,
	} {
		require.Equal(t, foreign, claude.rivals([]byte(old)) != nil, old)
		require.Equal(t, foreign, claude.lasting([]byte(old), []string{connect.AuthToken, connect.APIKey}) != nil, old)
	}
	for command, ours := range map[string]bool{
		"signalbox helper anthropic": true, "/opt/x/signalbox helper anthropic --url u": true, `'/opt/my tools/signalbox' helper anthropic --url u`: true, quote(ownName()) + " helper anthropic": true,
		"vault helper anthropic": false, "cat key": false, "echo; signalbox helper anthropic": false, "signalbox helper anthropics": false, "7": false,
	} {
		require.Equal(t, ours, isOurHelper(command), command)
	}
	require.Error(t, claude.lasting([]byte(`{"apiKeyHelper":["x"]}`), nil))
	require.NoError(t, claude.lasting([]byte(`{"apiKeyHelper":null}`), nil))
}
