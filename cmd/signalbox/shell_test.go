package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/app"
)

// TestNoFlagTakesASecret walks the whole tree: the command line of a process is readable by others on its machine.
func TestNoFlagTakesASecret(t *testing.T) {
	harmless := map[string]string{
		"secret-stdin": "a field's name", "secret-file": "a field's name and a path", "secret-from": "a field's name, a path and a variable's name", "api-key-stdin": "a switch", "keep-token": "a switch", "private": "a switch", "client-secret-stdin": "a switch", "no-client-secret": "a switch", "password-stdin": "a switch", "breached-passwords": "a path",
		"token-endpoint": "a URL", "token-url": "a URL", "tokens-file": "a path", "token-header": "a header that the provider wants of everybody", "token-auth-method": "a method", "token-request-format": "a format", "token-expires": "a time", "token-life": "a span",
		"root-key-keeper": "an address", "key": "the id of a client key", "token": "the id of an API token", "new-key": "a path", "key-limit": "a number", "max-keys": "a number", "max-keys-per-train": "a number", "notes-file": "a path", "tls-key-file": "a path", "allow-private-upstreams": "hosts", "host-key": "a fingerprint", "passphrase-stdin": "a switch",
	}
	s := &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: app.Environ{}}
	commands := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		commands++
		require.NotEmpty(t, c.Short, c.CommandPath())
		c.Flags().VisitAll(func(f *pflag.Flag) {
			require.NotEmpty(t, f.Usage, c.CommandPath()+" --"+f.Name)
			for _, word := range []string{"secret", "password", "token", "key", "passphrase", "private", "notes"} {
				if strings.Contains(f.Name, word) {
					require.Contains(t, harmless, f.Name, c.CommandPath())
				}
			}
		})
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(s.root())
	require.Greater(t, commands, 40)
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "a\ufffd[31mb\ufffd\ufffdc\nd\te\ufffd é", printable("a\x1b[31mb\x07\u009bc\nd\te\u202e é"))
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"http://127.0.0.1:8420": "http://127.0.0.1:8420", "a b": "'a b'", "$(x)": "'$(x)'", "it's": `'it'\''s'`, "": "''"} {
		require.Equal(t, want, quote(in))
		out, err := exec.Command("sh", "-c", "printf %s "+quote(in)).Output()
		require.NoError(t, err)
		require.Equal(t, in, string(out))
	}
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0} {
		got, err := parseSpan(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "soon", "-1h", "-1d", "1.5d", "99999d", "d", "1w"} {
		_, err := parseSpan(text)
		require.Error(t, err, text)
		require.Equal(t, 2, problem(err).exit)
	}
}

// TestEveryFilterHasAFlag: what the REST list can be filtered by, cred list and cred search can be too.
func TestEveryFilterHasAFlag(t *testing.T) {
	document, err := api.OpenAPI()
	require.NoError(t, err)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	require.NoError(t, json.Unmarshal(document, &doc))
	renamed := map[string]string{"client_id": "client", "service_id": "service", "infrastructure_id": "infrastructure", "train_id": "train", "plugin_name": "plugin", "q": "search"}
	all := leaves(t)
	filters := 0
	for _, p := range doc.Paths["/api/credentials"]["get"].Parameters {
		if p.In != "query" {
			continue
		}
		filters++
		name := strings.ReplaceAll(p.Name, "_", "-")
		if other, ok := renamed[p.Name]; ok {
			name = other
		}
		require.NotNil(t, all["cred list"].Flags().Lookup(name), name)
		if p.Name != "q" {
			require.NotNil(t, all["cred search"].Flags().Lookup(name), name)
		}
	}
	require.Greater(t, filters, 10)
}
