package provider

// Catalogue returns the providers that Signalbox knows, in the order of the reference.
func Catalogue() []Provider {
	return []Provider{anthropic()}
}

func anthropic() Provider {
	return Provider{
		Name: "anthropic", Title: "Anthropic (Claude)",
		AuthorizeURL: "https://claude.ai/oauth/authorize",
		TokenURLs:    []string{"https://platform.claude.com/v1/oauth/token", "https://console.anthropic.com/v1/oauth/token"},
		Scopes:       []string{"org:create_api_key", "user:profile", "user:inference"},
		ClientID:     "9d1c250a-e61b-44d9-88ed-5944d1962f5e", ClientIDFrom: "CLAUDE_OAUTH_CLIENT_ID",
		Auth: AuthNone, Format: JSON, PKCE: true,
		AuthorizeParams: map[string]string{"code": "true"}, TokenHeaders: map[string]string{"anthropic-beta": "oauth-2025-04-20"},
		StateInExchange: true, PasteBack: true, RedirectURL: "https://console.anthropic.com/oauth/code/callback",
	}
}
