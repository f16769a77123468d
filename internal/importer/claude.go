package importer

import (
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// claudeFile is ~/.claude/.credentials.json of Claude Code, where https://code.claude.com/docs/en/iam says that credentials are kept on Linux and
// Windows; its shape is what the program writes.
type claudeFile struct {
	Login *oauthTokens   `json:"claudeAiOauth"`
	MCP   map[string]any `json:"mcpOAuth"`
}

// oauthTokens are the tokens of one login as Claude Code and the older proxy write them.
type oauthTokens struct {
	Access       string  `json:"accessToken"`
	Refresh      string  `json:"refreshToken"`
	ExpiresAt    instant `json:"expiresAt"`
	Scopes       texts   `json:"scopes"`
	Subscription string  `json:"subscriptionType"`
	IsMax        bool    `json:"isMax"`
}

const (
	anthropic = "anthropic"
	// oneOwner is told of every imported refresh token.
	oneOwner = "one refresh lineage must have one owner: from now on Signalbox refreshes these tokens, so log the program that they came from out of its copy (or never let it refresh again); two who refresh end each other's login"
)

func looksClaude(f *file) bool {
	m, ok := f.peek()
	return ok && bool(m.Claude)
}

func parseClaude(f *file, out *items) error {
	var in claudeFile
	if err := f.decodeJSON(&in); err != nil {
		return err
	}
	if in.Login == nil {
		return bad("holds no login of Claude Code (claudeAiOauth)")
	}
	name := f.label
	if name == "" {
		name = "claude-code"
	}
	d := &vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: anthropic, Description: "a login of Claude Code"}}
	if plain(in.Login.Subscription) {
		d.Description += " (" + in.Login.Subscription + ")"
	}
	i := item{place: "claudeAiOauth", credential: d, notes: in.Login.into(d)}
	if err := out.add(i); err != nil || len(in.MCP) == 0 {
		return err
	}
	return out.add(item{place: "mcpOAuth", skip: strconv.Itoa(len(in.MCP)) + " logins at MCP servers are not taken over; log in at each anew"})
}

// into puts the tokens into a draft and returns what is to be known of them.
func (t oauthTokens) into(d *vault.Draft) (notes []string) {
	d.Secrets = map[string]secret.Value{"access_token": secret.FromString(t.Access)}
	d.OAuth.ExpiresAt, d.OAuth.Scopes = t.ExpiresAt.at, t.Scopes
	if t.Access == "" {
		delete(d.Secrets, "access_token")
	}
	if t.Refresh == "" {
		return []string{"there is no refresh token, so it works only until the access token ends"}
	}
	d.Secrets["refresh_token"] = secret.FromString(t.Refresh)
	return []string{oneOwner}
}

// plain reports whether s is one harmless word.
func plain(s string) bool {
	return s != "" && len(s) <= 40 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}
