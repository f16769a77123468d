package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// readme returns the commands of the README's shell blocks, without their comments.
func readme(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var out []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
	}
	return out
}

// TestReadme walks the README from an empty directory to the first request of an agent. What it adds to the commands is what a test must:
// other ports, and the built-in fake in place of the real provider.
func TestReadme(t *testing.T) {
	commands := readme(t)
	require.Equal(t, []string{
		"make run", "make test",
		"signalbox serve", "signalbox account add", "signalbox connect claude-code",
		"signalbox train explain default", "signalbox audit search --action lease.granted", "signalbox audit verify",
	}, commands, "a command that stands in the README must be run by this test")

	upstream, address := fake(t), freePort(t)
	home := t.TempDir()
	env := []string{"HOME=" + home, "SIGNALBOX_LISTEN=" + address, "SIGNALBOX_URL=http://" + address, "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS=" + upstream}
	began := time.Now()
	server := start(t, env, "serve")
	readyIn(t, "http://"+address, server)

	add := onTerminal(t, env, "account", "add", "--base-url", "http://"+upstream)
	add.sees("not shown")
	add.types(plantedKey + "\n")
	require.Zero(t, add.wait(10*time.Second), add.screen.String())

	connect := start(t, env, "connect", "claude-code")
	require.Zero(t, connect.wait(10*time.Second))
	settings := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^export (\w+)=(\S+)$`).FindAllStringSubmatch(connect.out.String(), -1) {
		settings[m[1]] = m[2]
	}
	require.Len(t, settings, 2)

	// As Claude Code sends it.
	req, err := http.NewRequest(http.MethodPost, settings["ANTHROPIC_BASE_URL"]+"/v1/messages?beta=true",
		strings.NewReader(`{"model":"claude-fake","max_tokens":32,"stream":true,"messages":[{"role":"user","content":"hello"}]}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+settings["ANTHROPIC_AUTH_TOKEN"])
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	require.Contains(t, string(body), "event: message_stop\n")
	require.Less(t, time.Since(began), time.Minute)

	for _, line := range commands[5:] {
		words := strings.Fields(line)
		p := start(t, env, words[1:]...)
		require.Zero(t, p.wait(10*time.Second), line+": "+p.err.String())
		switch words[1] {
		case "train":
			require.Contains(t, p.out.String(), "default")
		case "audit":
			require.Regexp(t, `lease\.granted|The audit log holds`, p.out.String())
		}
		require.NotContains(t, p.out.String()+p.err.String(), plantedKey)
	}
	require.DirExists(t, filepath.Join(home, ".local/share/signalbox"), "the README names this directory")
	server.signal(syscall.SIGTERM)
	require.Zero(t, server.wait(5*time.Second))
	require.NotContains(t, server.out.String()+server.err.String(), plantedKey)
}

// TestReadmeMakeRun runs `make run` as a person would: until it says what to paste, then what it says, then Ctrl-C.
func TestReadmeMakeRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "-C", "../..", "run")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches make, go and signalbox alike
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "SIGNALBOX_LISTEN="+freePort(t))
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Ctrl-C ends it") }, 2*time.Minute, 50*time.Millisecond, "make run says nothing")

	curl := regexp.MustCompile(`(?m)^curl -N .*\\\n.*$`).FindString(out.String())
	require.NotEmpty(t, curl)
	answer, err := exec.CommandContext(ctx, "sh", "-c", curl).Output()
	require.NoError(t, err)
	require.Contains(t, string(answer), "event: message_stop\n")
	for _, line := range []string{"ANTHROPIC_API_KEY=sbx_live_", "ANTHROPIC_AUTH_TOKEN=sbx_live_"} {
		require.Contains(t, out.String(), line)
	}
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		require.Fail(t, "Ctrl-C does not end make run", out.String())
	}
	left, err := filepath.Glob(filepath.Join(tmp, "signalbox-dev-*"))
	require.NoError(t, err)
	require.Empty(t, left, "the throw-away data must be gone")
}

// TestReadmeMake: the targets that the README names exist. TestLinks in package internal follows its links.
func TestReadmeMake(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	for _, target := range []string{"run", "test", "build"} {
		require.Regexp(t, `(?m)^`+target+`:`, string(makefile))
	}
}
