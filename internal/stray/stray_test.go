package stray_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/stray"
)

const tail = "Pl4nt3d8f3k2Zq9W7vB1xC5m"

const pem = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + tail + "\n-----END OPENSSH PRIVATE KEY-----"

func TestFind(t *testing.T) {
	for text, want := range map[string]string{
		"ANTHROPIC_API_KEY=sk-ant-api03-" + tail:                     "1 ANTHROPIC_API_KEY an Anthropic API key",
		"\n# x\nexport OPENAI_API_KEY='sk-proj-" + tail + "' # mine": "3 OPENAI_API_KEY an API key (sk-)",
		"GH=ghp_" + tail:                                      "1 GH a GitHub token",
		"GH=github_pat_" + tail:                               "1 GH a GitHub token",
		"SLACK=xoxb-1234567890-" + tail:                       "1 SLACK a Slack token",
		"[default]\naws_access_key_id = AKIAABCDEFGHIJKLMNOP": "2 aws_access_key_id an AWS access key id",
		"G: AIza" + tail + tail[:12]:                          "1 G a Google API key",
		"J=eyJ" + tail + ".eyJ" + tail + "." + tail:           "1 J a signed token (JWT)",
		"DATABASE_URL=postgres://app:" + tail + "@db.lan/app": "1 DATABASE_URL a connection string with its password",
		"DEPLOY_KEY=\"" + pem + "\"\nB=1":                     "1 DEPLOY_KEY a private key",
		pem:                                                   "1  a private key",
		"WEBHOOK_SECRET=" + tail:                              "1 WEBHOOK_SECRET a random value with a telling name",
		"DB_PASSWORD=hunter2hunter2":                          "1 DB_PASSWORD a password",
		"TOKEN=sbp_" + tail:                                   "1 TOKEN a Signalbox token",
		"https://me:" + tail + "@github.com":                  "1  a connection string with its password",
		"//registry.npmjs.org/:_authToken=npm_" + tail + tail: "1  an npm token",
		"sk-ant-api03-" + tail + "=1 sk-ant-api03-" + tail:    "1  an Anthropic API key",
		"{\"mcpServers\":{\"git\":{\"env\":{\n\"GH\":\"ghp_" + tail + "\"}}}}": "2 mcpServers.git.env.GH a GitHub token",
		"{\"args\":[\"-H\",\n\"Authorization: Bearer sk-" + tail + "\"]}":      "2 args an API key (sk-)",
		"{\"headers\":{\"Authorization\":\"Bearer " + tail + "\"}}":            "1 headers.Authorization a token in a header",
		"{\"claudeAiOauth\":{\"accessToken\":\"sk-ant-oat01-" + tail + "\"}}":  "1 claudeAiOauth.accessToken an Anthropic access token",
		"{\"" + tail + tail + "\":{\"apiKey\":\"" + tail + "\"}}":              "1  a random value with a telling name",
		"{\"api_key\":\"" + tail + "\",":                                       "1  a random value with a telling name",
	} {
		got := stray.Find(text)
		if strings.HasSuffix(text, ",") { // broken JSON goes by lines, where this one has no form that is known
			require.Empty(t, got)
			continue
		}
		require.Len(t, got, 1, text)
		require.Equal(t, want, fmt.Sprintf("%d %s %s", got[0].Line, got[0].Name, got[0].Kind))
	}
	for _, text := range []string{
		"", "A=1", "ANTHROPIC_API_KEY=sk-ant-your-key-goes-here", "API_KEY=${OTHER_KEY_WITH_A_LONG_NAME}", "PASSWORD=<your password>", "PASSWORD=changeme1",
		"ANTHROPIC_AUTH_TOKEN=sbx_live_" + tail, "ROOT_KEY_FILE=/run/secrets/" + tail, "SSH_KEY=~/.ssh/id_ed25519_for_deploys", "DATABASE_URL=postgres://localhost/app",
		"DATABASE_URL=postgres://app:${PW}@db/app", "{\"headers\":{\"Authorization\":\"Bearer ${SOME_TOKEN_OF_MINE}\"}}", "MONKEY=likes bananas very much", "API_TOKEN=aaaaaaaaaaaaaaaaaaaaaaaa", "BASE_URL=https://api.anthropic.com",
	} {
		require.Empty(t, stray.Find(text), text)
	}
	require.Len(t, stray.Find(strings.Repeat("A=ghp_"+tail+"\n", 1000)), stray.MaxFound)
}

// TestLook plants a secret in every place that is looked at, and finds each without showing any.
func TestLook(t *testing.T) {
	here, home := t.TempDir(), t.TempDir()
	inHere, inHome := stray.Places()
	want := map[string]bool{}
	put := func(dir, name string) {
		name = strings.ReplaceAll(name, "*", "local")
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		text := "SOME_TOKEN=ghp_" + tail + "\n"
		if strings.HasSuffix(name, ".json") {
			text = `{"a":{"SOME_TOKEN":"ghp_` + tail + `"}}`
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		want[path] = true
	}
	for _, name := range inHere {
		put(here, name)
	}
	for _, name := range inHome {
		put(home, name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(here, "notes.txt"), []byte("ghp_"+tail), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(here, ".env.huge"), make([]byte, stray.MaxSize+1), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(here, ".env.d"), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(here, ".env"), 0o644))
	found, looked, skipped := stray.Look(here, home)
	require.Equal(t, len(want), looked)
	require.Equal(t, 2, skipped)
	for _, f := range found {
		require.True(t, want[f.File], f.File)
		delete(want, f.File)
		require.Equal(t, f.File == filepath.Join(here, ".env"), f.Open)
		v, err := stray.Read(f.File, f.Name)
		require.NoError(t, err)
		require.Equal(t, "ghp_"+tail, v.Reveal())
	}
	require.Empty(t, want)
	text, err := json.Marshal(found)
	require.NoError(t, err)
	require.NotContains(t, string(text), tail)

	again, _, _ := stray.Look(home, home)
	require.Len(t, again, len(inHome), "a home that is the working directory is read once")
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	require.NoError(t, os.WriteFile(path, []byte("H=Bearer ghp_"+tail+"\nK=\""+pem+"\"\nB=1\nB=2\nPLAIN=x y\n"), 0o644))
	for name, want := range map[string]string{"H": "ghp_" + tail, "K": pem + "\n", "PLAIN": "x y"} {
		v, err := stray.Read(path, name)
		require.NoError(t, err)
		require.Equal(t, want, v.Reveal())
	}
	for _, name := range []string{"B", "C", ""} {
		_, err := stray.Read(path, name)
		require.Error(t, err)
		require.NotContains(t, err.Error(), tail)
	}
}

// TestLargeFiles: settings of agents grow to megabytes, and nobody waits for a doctor.
func TestLargeFiles(t *testing.T) {
	for name, text := range map[string]string{
		"values":   `{"a":[` + strings.Repeat(`{"api_key":"x","text":"some words"},`, stray.MaxSize/40) + `{}]}`,
		"long key": `{"` + strings.Repeat("k", stray.MaxSize/4) + `":{` + strings.Repeat(`"a":"b",`, stray.MaxSize/16) + `"a":"b"}}`,
		"lines":    strings.Repeat("-----BEGIN RSA PRIVATE KEY-----\n", stray.MaxSize/32),
		"one line": strings.Repeat("a://b:", stray.MaxSize/6),
		"deep":     strings.Repeat(`{"a":`, stray.MaxSize/5),
	} {
		began := time.Now()
		stray.Find(text)
		require.Less(t, time.Since(began), 20*time.Second, name)
		t.Logf("%s: %s", name, time.Since(began))
	}
}

func FuzzFind(f *testing.F) {
	f.Add("A=ghp_" + tail)
	f.Add(`{"a":[{"b":"` + tail + `"}]}`)
	f.Add(pem)
	f.Fuzz(func(t *testing.T, text string) {
		for _, found := range stray.Find(text + "\n\nX_TOKEN=ghp_" + tail + "\n") {
			out, err := json.Marshal(found)
			require.NoError(t, err)
			require.NotContains(t, string(out), tail)
		}
	})
}
