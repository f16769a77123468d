package connect

import (
	"slices"
	"strings"
)

// Rivals are the variables, beside those of [ClaudeCode] and [SDK], with which a program would send its requests elsewhere than to the server it is told of,
// or another credential in place of the client key or beside it: the switches, tokens and addresses of Claude Code (code.claude.com/docs/en/env-vars, read
// 2026-11), and the profile and the federation of the official SDKs.
func Rivals() []string {
	return []string{
		"CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_ANTHROPIC_AWS",
		"CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD", "CLAUDE_CODE_USE_GATEWAY", "CLAUDE_CODE_API_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_UNIX_SOCKET",
		"ANTHROPIC_PROFILE", "ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_IDENTITY_TOKEN_FILE", "ANTHROPIC_FEDERATION_RULE_ID",
	}
}

// WithoutCredentials returns the lines of [CustomHeaders] that name no credential: what is sent besides goes beside the client key.
func WithoutCredentials(headers string) string {
	lines := strings.Split(headers, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "authorization", "x-api-key", "proxy-authorization", "cookie":
			return true
		}
		return false
	}), "\n")
}
