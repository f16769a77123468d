package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are what --help and the reference show for each command, by its path below signalbox. They stand in one table so that a test
// can hold them against the commands and their flags.
func examples() map[string]string {
	return map[string]string{
		"serve": `signalbox serve
signalbox serve --listen 0.0.0.0:8420 --behind-tls-proxy --trusted-proxies 10.0.0.5`,
		"dev":  `signalbox dev`,
		"init": `signalbox init --admin-email ada@example.com`,
		"account add": `signalbox account add
signalbox account add team-beta --train web --api-key-stdin < key.txt`,
		"account list":        `signalbox account list`,
		"account status":      `signalbox account status team-beta`,
		"connect claude-code": `signalbox connect claude-code --train web --write`,
		"connect sdk":         `signalbox connect sdk --train web --expires 90d`,
		"train create":        `signalbox train create web --name "Web shop" --strategy priority`,
		"train list":          `signalbox train list`,
		"train show":          `signalbox train show web`,
		"train link":          `signalbox train link web team-beta --priority 1`,
		"train unlink":        `signalbox train unlink web team-beta`,
		"train explain":       `signalbox train explain web`,
		"train rm":            `signalbox train rm web`,
		"key issue":           `signalbox key issue web --name "build machine" --expires 90d`,
		"key list":            `signalbox key list web`,
		"key replace":         `signalbox key replace web "build machine" --overlap 2h`,
		"key revoke":          `signalbox key revoke web "build machine"`,
		"cred add": `signalbox cred add gitea --type password --username admin --external-url https://git.example.com
signalbox cred add deploy --type ssh_key --secret-file private_key=id_ed25519`,
		"cred get":     `signalbox cred get gitea`,
		"cred list":    `signalbox cred list --type password --tag production`,
		"cred edit":    `signalbox cred edit gitea --owner ada@example.com --rotate-every 90`,
		"cred rotate":  `signalbox cred rotate gitea --reason "left the team"`,
		"cred history": `signalbox cred history gitea`,
		"cred reveal":  `signalbox cred reveal gitea password --reason "restore drill"`,
		"cred rm":      `signalbox cred rm gitea`,
		"audit tail":   `signalbox audit tail --follow`,
		"audit search": `signalbox audit search --action credential.reveal --since 7d`,
		"audit verify": `signalbox audit verify --checkpoint /mnt/elsewhere/checkpoints.log`,
		"audit prove": `signalbox audit prove evt_01jd0000000000000000000000 --json > proof.json
signalbox audit prove --check proof.json`,
		"token issue":  `signalbox token issue nightly-report --scope audit:read --expires 30d`,
		"token list":   `signalbox token list`,
		"token revoke": `signalbox token revoke nightly-report`,
		"whoami":       `signalbox whoami`,
		"version":      `signalbox version`,
		"completion":   `signalbox completion bash > ~/.local/share/bash-completion/completions/signalbox`,
	}
}

// exemplify gives each command its examples, unless it brings its own.
func exemplify(root *cobra.Command) {
	for path, lines := range examples() {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 || cmd.Example != "" {
			continue // the test of this table tells
		}
		cmd.Example = "  " + strings.ReplaceAll(lines, "\n", "\n  ")
	}
}
