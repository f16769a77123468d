package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatAnotherProgramWritesStays: Claude Code writes its settings by itself, also while a key is issued for them. What is merged is what is there when it is
// written; where that is nothing that can be merged into, it stays and the key is revoked.
func TestWhatAnotherProgramWritesStays(t *testing.T) {
	d := newDesk(t)
	l := d.line()
	token, err := os.ReadFile(filepath.Join(strings.TrimPrefix(d.admin[1], "SIGNALBOX_DATA_DIR="), "operator.token"))
	require.NoError(t, err)
	env := append(d.env, "SIGNALBOX_URL="+l.URL, "SIGNALBOX_TOKEN="+strings.TrimSpace(string(token)))
	file := filepath.Join(t.TempDir(), "settings.json")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(text), mode))
		require.NoError(t, os.Chmod(file, mode))
	}
	read := func(mode os.FileMode) string {
		t.Helper()
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm())
		return string(text)
	}
	through := l.Config.Handler
	meanwhile := func(text string) {
		l.Config.Handler = first(through, func(r *http.Request) {
			if r.Method == http.MethodPost {
				_ = os.WriteFile(file, []byte(text), 0o600)
			}
		})
	}
	theirs := `{"env":{"A":"1"},"theme":"dark","model":"new"}`

	write(`{"model":"old"}`, 0o644)
	meanwhile(theirs)
	_, errs, code := d.run(env, "", "connect", "claude-code", "--train", "web", "--write", "--file", file)
	require.Zero(t, code, errs)
	got := read(0o600)
	for _, part := range []string{`"theme": "dark"`, `"model": "new"`, `"A": "1"`, `"ANTHROPIC_AUTH_TOKEN": "sbx_live_`} {
		require.Contains(t, got, part)
	}

	// The helper's settings hold no key, so that the file stays as open as it was.
	write(`{"model":"old"}`, 0o644)
	_, errs, code = d.run(env, "", "connect", "claude-code", "--train", "web", "--helper", "--write", "--file", file)
	require.Zero(t, code, errs)
	got = read(0o644)
	require.Contains(t, got, `"theme": "dark"`)
	require.Contains(t, got, `"apiKeyHelper"`)

	for _, bad := range []string{`{"half":`, `{"env":{"ANTHROPIC_API_KEY":"sk-ant-theirs"}}`} {
		write(`{}`, 0o600)
		meanwhile(bad)
		before, _, _ := d.run(d.admin, "", "key", "list", "web", "--json")
		_, errs, code = d.run(env, "", "connect", "claude-code", "--train", "web", "--name", "later", "--write", "--file", file)
		require.Equal(t, 1, code)
		require.Contains(t, errs, "settings.json: ")
		require.NotContains(t, errs, "sk-ant-theirs")
		require.Equal(t, bad, read(0o600))
		after, _, _ := d.run(d.admin, "", "key", "list", "web", "--json")
		require.Equal(t, strings.Count(before, `"status": "active"`), strings.Count(after, `"status": "active"`), "nobody has it")
		require.NotEqual(t, before, after)
	}

	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, left, 1, "and nothing half written")
}

// first has a handler look at each request before another answers it.
func first(then http.Handler, look func(*http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		look(r)
		then.ServeHTTP(w, r)
	})
}

// TestRewriteTakesTheNewestText: a file that is written between its reading and its replacing is merged anew, and not for ever.
func TestRewriteTakesTheNewestText(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	require.NoError(t, os.WriteFile(file, []byte("A=1\n"), 0o600))
	calls := 0
	require.NoError(t, rewrite(file, true, func(old []byte) ([]byte, error) {
		if calls++; calls == 1 {
			require.NoError(t, os.WriteFile(file, []byte("A=2\n"), 0o600))
		}
		return append(old, "B=1\n"...), nil
	}))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "A=2\nB=1\n", string(got))
	require.Equal(t, 2, calls)

	err = rewrite(file, true, func(old []byte) ([]byte, error) {
		require.NoError(t, os.WriteFile(file, append(old, '#'), 0o600))
		return old, nil
	})
	require.ErrorContains(t, err, "other programs keep writing it")
	got, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "A=2\nB=1\n#####", string(got))
}

// TestAFileOfSomebodyElse is not replaced: it would belong to whoever runs the command.
func TestAFileOfSomebodyElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, ownedBy(info, os.Geteuid()))
	require.ErrorContains(t, ownedBy(info, os.Geteuid()+1), "Run this as its owner, without sudo")
}
