package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/connect"
)

// paste runs what connect prints in a shell of somebody who has set other keys, and then more.
func paste(t *testing.T, printed, more, dir string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", printed+"\n"+more)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "ANTHROPIC_API_KEY=other", "ANTHROPIC_AUTH_TOKEN=other"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// TestWhatConnectPrintsRuns: each text that connect prints is pasted into a shell, and each program is run with its real SDK against a real server. The Python
// SDK cannot be had from here, so of that program only the syntax is looked at.
func TestWhatConnectPrintsRuns(t *testing.T) {
	_, told := dev(t)
	env := []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}
	printed := func(args ...string) string {
		t.Helper()
		p := start(t, env, append([]string{"connect"}, args...)...)
		require.Zero(t, p.wait(20*time.Second), p.err.String())
		return p.out.String()
	}
	answered := func(t *testing.T, out string) {
		t.Helper()
		require.Contains(t, out, "Say hello", "the fake says what it was asked")
	}

	t.Run("curl", func(t *testing.T) {
		// curl stands in for itself, and tells its arguments first.
		dir := t.TempDir()
		real, err := exec.LookPath("curl")
		require.NoError(t, err, "curl is missing; install it with: apt-get install curl")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "curl"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$HOME/arguments\"\nexec "+real+" \"$@\"\n"), 0o700))
		text := printed("curl", "--train", "web", "--account", "team-alpha")
		answered(t, paste(t, "PATH=$HOME:$PATH\n"+text, "", dir))
		arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
		require.NoError(t, err)
		require.Contains(t, string(arguments), "/v1/messages")
		require.NotContains(t, string(arguments), "sbx_live_")
	})
	t.Run("Claude Code", func(t *testing.T) {
		out := paste(t, printed("claude-code", "--train", "web", "--account", "team-alpha"),
			`curl -sS "$ANTHROPIC_BASE_URL/v1/messages?beta=true" -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -H "$ANTHROPIC_CUSTOM_HEADERS" -H 'content-type: application/json' -d '{"model":"claude-fake","max_tokens":64,"messages":[{"role":"user","content":"Say hello"}]}'
printf '%s\n' "${ANTHROPIC_API_KEY-unset}"`, t.TempDir())
		answered(t, out)
		require.Contains(t, out, "unset")
	})
	t.Run("typescript", func(t *testing.T) {
		home, err := exec.Command("../../scripts/npm.sh").Output()
		require.NoError(t, err, "the TypeScript SDK is not there")
		dir := t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(dir, "node_modules"))) // in place of npm install
		answered(t, paste(t, printed("sdk", "--train", "web", "--lang", "typescript"), "cd signalbox-hello && node hello.mjs", dir))
	})
	t.Run("typescript with a file", func(t *testing.T) {
		home, err := exec.Command("../../scripts/npm.sh").Output()
		require.NoError(t, err, "the TypeScript SDK is not there")
		dir := t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(dir, "node_modules")))
		text := printed("sdk", "--train", "web", "--name", "file", "--lang", "typescript", "--write", "--file", filepath.Join(dir, ".env"))
		_, text, _ = strings.Cut(text, "\n") // that it was written
		load := connectLine(t, text, "# To run it: ")
		load, _, _ = strings.Cut(load, " && ")
		answered(t, paste(t, text, "unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN; "+load+"; cd signalbox-hello && node hello.mjs", dir))
	})
	t.Run("go", func(t *testing.T) {
		dir := t.TempDir()
		p, ok := connect.ProgramIn("go")
		require.True(t, ok)
		text := printed("sdk", "--train", "web", "--lang", "go")
		paste(t, text, "", dir)
		got, err := os.ReadFile(filepath.Join(dir, connect.Directory, p.File))
		require.NoError(t, err)
		require.Equal(t, p.Text, string(got))
		// It is built as a package of this module, whose go.mod names the SDK, in place of go mod tidy.
		here, err := filepath.Abs(".")
		require.NoError(t, err)
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "hello", "main.go"): filepath.Join(dir, connect.Directory, p.File)}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
		built, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "hello"), "./hello").CombinedOutput()
		require.NoError(t, err, "%s", built)
		answered(t, paste(t, text, "./hello", dir))
	})
	t.Run("python", func(t *testing.T) {
		dir := t.TempDir()
		paste(t, printed("sdk", "--train", "web", "--lang", "python"), "python3 -m py_compile signalbox-hello/hello.py", dir)
	})
	require.Len(t, connect.Programs(), 3, "a program that no test runs")
}

// connectLine is the rest of the line that begins so.
func connectLine(t *testing.T, text, begins string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, begins); ok {
			return strings.TrimSpace(rest)
		}
	}
	require.Fail(t, "no such line", begins+"\n"+text)
	return ""
}
