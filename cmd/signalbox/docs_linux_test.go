package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// docPages are the pages whose commands are run. The number is how many of a page's blocks cannot be, fenced as console with the
// reason in a comment; it cannot grow without a change here.
func docPages() map[string]int {
	return map[string]int{
		"guide/getting-started.md":     1, // npm fetches from the network
		"guide/connect.md":             1, // needs a browser
		"guide/any-api.md":             1, // WebSockets need a server of yours
		"guide/other-programs.md":      0,
		"guide/run.md":                 1, // needs Claude Code
		"guide/dashboard.md":           0,
		"guide/credentials.md":         0,
		"guide/import-export.md":       1, // another program's database
		"guide/trains-and-accounts.md": 0,
		"guide/sharing.md":             0,
		"guide/limits.md":              0,
		"guide/mcp.md":                 0,
		"guide/refresh-drill.md":       3, // takes a minute; loses on purpose; needs a PostgreSQL
		"guide/oauth.md":               4, // a person at a provider
		"guide/people.md":              2, // needs a browser; needs a second factor of the one who asks
		"guide/single-sign-on.md":      1,
		"guide/usage.md":               0,
		"guide/incidents.md":           1, // a setting of the server
		"guide/audit.md":               2, // scp to another machine; a log that never ends
		"guide/troubleshooting.md":     1, // there must be a credential that was tampered with
		"operations/systemd.md":        4, // needs root and systemd
		"operations/fleet.md":          1, // needs the fleet's database and root key
		"operations/postgresql.md":     2, // needs a PostgreSQL that was set up by hand
		"operations/reverse-proxy.md":  1, // needs another address than loopback
		"operations/backup.md":         2, // cron; needs a PostgreSQL that was set up by hand
		"operations/keys.md":           3, // records that do not open; the server must stand still; a fleet
		"operations/kms.md":            0,
		"operations/tls.md":            0,
		"operations/upgrading.md":      1, // replaces an installed program
		"operations/notifications.md":  2, // Slack and a mail server of yours
		"operations/audit-sinks.md":    3, // certificates of yours; Slack; a message that was saved
	}
}

// fence is one fenced block of a page: a list of commands with what it must print, or something else.
type fence struct {
	line  int
	kind  string // the word after the fence: sh, text, console …
	exit  int    // of the last command, from "sh exit=4"
	text  string
	shows []string // the text blocks that follow it
}

var fenceStart = regexp.MustCompile("^```(\\w+)(?: exit=(\\d+))?$")

func readFences(t *testing.T, path string) []fence {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var out []fence
	var open *fence
	for n, line := range strings.Split(string(text), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			m := fenceStart.FindStringSubmatch(line)
			require.NotNil(t, m, "%s:%d: a fence must say what is in it: sh, console, text …", path, n+1)
			open = &fence{line: n + 1, kind: m[1]}
			if m[2] != "" {
				open.exit, err = strconv.Atoi(m[2])
				require.NoError(t, err)
			}
		case open != nil && line == "```":
			if last := len(out) - 1; open.kind == "text" && last >= 0 && out[last].kind == "sh" {
				out[last].shows = append(out[last].shows, open.text)
			} else {
				out = append(out, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	require.Nil(t, open, "%s: a fence is not closed", path)
	return out
}

// serves reports whether the block is the server, which runs beside the others.
func (f fence) serves() bool { return strings.HasPrefix(f.text, "signalbox serve") && f.exit == 0 }

// script turns a page into one bash script. What it adds to the commands is what a test must: other ports, the built-in fake in place of
// the real provider, and a stand-in for Claude Code that asks as Claude Code does.
//
// A page of which fresh is true begins with nothing; every other finds a server with one account, as "Getting started" leaves it, and
// that server has ended before the page starts one itself.
func script(fences []fence, fresh bool) string {
	var b strings.Builder
	b.WriteString(`set -euo pipefail
signalbox() {
  case "$*" in
  "account add"*|"cred add"*"--provider anthropic"*|"cred add"*"--base-url https://api.example.com"*) command signalbox "$@" --base-url "$FAKE_UPSTREAM" ;;
  *) command signalbox "$@" ;;
  esac
}
claude() {
  [ "$1" = -p ]
  if [ -e .claude/settings.json ]; then
    ANTHROPIC_BASE_URL=$(sed -n 's/.*"ANTHROPIC_BASE_URL": *"\([^"]*\)".*/\1/p' .claude/settings.json)
    ANTHROPIC_AUTH_TOKEN=$(sed -n 's/.*"ANTHROPIC_AUTH_TOKEN": *"\([^"]*\)".*/\1/p' .claude/settings.json)
  fi
  curl -sS "$ANTHROPIC_BASE_URL/v1/messages?beta=true" -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -H "Anthropic-Version: 2023-06-01" \
    -H "Content-Type: application/json" -d "{\"model\":\"claude-fake\",\"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\"$2\"}]}"
}
if [ -n "${PAGE_DATABASE:-}" ]; then (umask 077; echo "$PAGE_DATABASE" >database.url); fi
serve() {
  command signalbox "$@" >"$SERVE_LOG" 2>&1 &
  SERVER=$!
  until curl -sf "$SIGNALBOX_URL/readyz" >/dev/null || curl -skf "${SIGNALBOX_URL/http:/https:}/readyz" >/dev/null; do kill -0 "$SERVER"; sleep 0.05; done
  cat "$SERVE_LOG"
}
systemctl() { # stands in for systemd
  case "$1" in
  stop) kill "$SERVER"; wait "$SERVER" ;;
  start) serve serve ;;
  esac
}
trap '[ -z "${SERVER:-}" ] || { kill "$SERVER"; wait "$SERVER" || true; }' EXIT
`)
	own := false
	for _, f := range fences {
		own = own || f.kind == "sh" && f.serves()
	}
	if !fresh {
		b.WriteString("serve serve >/dev/null\nprintf %s \"$PLANTED\" | signalbox account add --api-key-stdin >/dev/null\n" +
			"until [ -s ~/.local/share/signalbox/checkpoints.log ]; do sleep 0.05; done\n")
		if own {
			b.WriteString("systemctl stop signalbox\n")
		}
	}
	for i, f := range fences {
		if f.kind != "sh" {
			continue
		}
		fmt.Fprintf(&b, "echo '@@%d'\n", i)
		switch {
		case f.serves():
			b.WriteString("serve " + strings.TrimPrefix(f.text, "signalbox "))
		case f.exit != 0:
			fmt.Fprintf(&b, "set +e\n%scode=$?\nset -e\n[ $code = %d ] || { echo \"ended with $code, not %d\"; exit 1; }\n", f.text, f.exit, f.exit)
		default:
			b.WriteString(f.text)
		}
		b.WriteString("echo\n")
	}
	b.WriteString("echo '@@end'\n")
	return b.String()
}

// shown makes a pattern of a text block: "…" stands for anything in a line, and alone for any lines.
func shown(text string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?m)^")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = spaces.ReplaceAllString(regexp.QuoteMeta(parts[i]), " +") // columns are as wide as what is in them
		}
		b.WriteString(" *" + strings.Join(parts, ".*") + ` *\n`)
	}
	return regexp.MustCompile(b.String())
}

var (
	spaces      = regexp.MustCompile(" +")
	overwritten = regexp.MustCompile("[^\n]*\r\x1b\\[K") // a line of progress
)

// TestDocs runs the commands of each page, in order, in one empty directory, against a real server process, on a terminal, and holds what
// they print against the text blocks below them. Prompts for a secret get the planted key, which may then show nowhere that is not asked.
func TestDocs(t *testing.T) {
	var pages []string
	for _, dir := range []string{"guide", "operations"} {
		found, err := filepath.Glob("../../docs/" + dir + "/*.md")
		require.NoError(t, err)
		pages = append(pages, found...)
	}
	require.NotEmpty(t, pages)
	upstream, vault := fake(t), fakeVault(t)
	for _, path := range pages {
		name, err := filepath.Rel("../../docs", path)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fences := readFences(t, path)
			want, notRun, run := docPages()[name], 0, 0
			for _, f := range fences {
				switch f.kind {
				case "console":
					notRun++
					require.True(t, strings.HasPrefix(f.text, "# "), "%s:%d: a block that is not run begins with a comment that says why", name, f.line)
				case "sh":
					run++
				}
			}
			require.Equal(t, want, notRun, "%s: the number of blocks that no test runs changed; run them, or say so in docPages", name)
			var env []string
			if name == "operations/postgresql.md" {
				if !slices.Contains(storetest.Engines(), store.Postgres) {
					return // as every test of PostgreSQL is left out by make check
				}
				env = append(env, "PAGE_DATABASE="+storetest.PostgresURL(t))
			}
			if run > 0 {
				runPage(t, name, fences, append(env, "KEEPER="+vault, "VAULT_TOKEN="+vaultToken, "FAKE_UPSTREAM=http://"+upstream, "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS="+upstream))
			}
		})
	}
}

func runPage(t *testing.T, name string, fences []fence, env []string) {
	t.Helper()
	dir, home, address := t.TempDir(), t.TempDir(), freePort(t)
	file := filepath.Join(t.TempDir(), "page.sh")
	// The page names the usual address, and the test must take another.
	text := strings.ReplaceAll(script(fences, name == "guide/getting-started.md" || name == "operations/postgresql.md"), "https://127.0.0.1:8420", "https://"+address)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	x := onTerminalIn(t, dir, exec.Command("bash", file), append(env, "HOME="+home, "NO_COLOR=1", "SIGNALBOX_LISTEN="+address, "SIGNALBOX_URL=http://"+address,
		"PLANTED="+plantedKey, "SERVE_LOG="+filepath.Join(t.TempDir(), "serve.log")))
	// Prompts are answered as they come.
	ended := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	answered := 0
	for running := true; running; {
		select {
		case err := <-x.done:
			running = false
			x.done <- err
		case <-ended:
			require.Fail(t, "the page does not end", x.screen.String())
		case <-tick.C:
			if n := strings.Count(x.screen.String(), "(not shown): "); n > answered {
				answered = n
				x.types(plantedKey + "\n")
			}
		}
	}
	code := x.wait(time.Second)
	x.read(t)
	screen := overwritten.ReplaceAllString(strings.ReplaceAll(x.screen.String(), "\r\n", "\n"), "")
	t.Log(screen)
	require.Zero(t, code, "%s failed", name)
	require.Contains(t, screen, "@@end\n")
	for i, f := range fences {
		if f.kind != "sh" {
			continue
		}
		_, output, found := strings.Cut(screen, fmt.Sprintf("@@%d\n", i))
		require.True(t, found)
		output, _, _ = strings.Cut(output, "@@")
		output = strings.TrimRight(output, "\n") + "\n"
		for _, text := range f.shows {
			require.Regexp(t, shown(text), output, "docs/%s:%d prints something else", name, f.line)
		}
		if !strings.Contains(f.text, "reveal") {
			require.NotContains(t, output, plantedKey, "docs/%s:%d shows a secret", name, f.line)
		}
	}
}

// TestShown: a block of a page matches what it stands for, and nothing else.
func TestShown(t *testing.T) {
	p := shown("Stored api_key default as cred_….\n…\nlast\n")
	require.Regexp(t, p, "noise\nStored api_key default as cred_01x.\na\nb\nlast  \n")
	require.Regexp(t, p, "Stored api_key default as cred_01x.\nlast\n")
	require.NotRegexp(t, p, "Stored api_key other as cred_01x.\nlast\n")
	require.NotRegexp(t, p, "Stored api_key default as cred_01x.\nlast but one\n")
}

// TestDocumentedVariables: every variable that a page or the unit file names is one that the program reads.
func TestDocumentedVariables(t *testing.T) {
	known := map[string]bool{}
	for _, s := range app.Settings() {
		for _, name := range s.Env {
			known[name], known[name+"_FILE"] = true, true
		}
	}
	files := []string{"../../README.md"}
	for _, pattern := range []string{"guide/*", "operations/*", "security/*"} {
		found, err := filepath.Glob("../../docs/" + pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	named := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\bSIGNALBOX_[A-Z_]+`).FindAllString(string(text), -1) {
			require.True(t, known[name], "%s names %s, which is no setting", path, name)
			named++
		}
	}
	require.Greater(t, named, 10)
}
