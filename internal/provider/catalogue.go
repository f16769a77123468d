package provider

import "time"

// Catalogue returns the providers that Signalbox knows, in the order of the reference. The addresses and parameters are those of the documentation
// that a row names, as far as it could be read in November 2026, and otherwise those that the provider's clients use; none but the test servers
// was asked. What could not be found is said beside a row, and is then what costs least when it is wrong: no grace, no revocation, a lifetime of
// which nothing is known.
func Catalogue() []Provider {
	return []Provider{anthropic(), google(), github(), gitlab(), microsoft(), slack(), atlassian(), linear(), notion()}
}

// anthropic has no public documentation. The addresses, the client and the headers are those of Anthropic's own command line. Reports of its
// users say that a refresh token works once and that its reuse ends the grant; no grace is known. No revocation endpoint is known.
func anthropic() Provider {
	return Provider{
		Name: "anthropic", Title: "Anthropic (Claude)", Docs: "https://code.claude.com/docs/en/iam",
		AuthorizeURL: "https://claude.ai/oauth/authorize",
		TokenURLs:    []string{"https://platform.claude.com/v1/oauth/token", "https://console.anthropic.com/v1/oauth/token"},
		Scopes:       []string{"org:create_api_key", "user:profile", "user:inference"},
		ClientID:     "9d1c250a-e61b-44d9-88ed-5944d1962f5e", ClientIDFrom: "CLAUDE_OAUTH_CLIENT_ID",
		Auth: AuthNone, Format: JSON, PKCE: true,
		AuthorizeParams: map[string]string{"code": "true"}, TokenHeaders: map[string]string{"anthropic-beta": "oauth-2025-04-20"},
		StateInExchange: true, PasteBack: true, RedirectURL: "https://console.anthropic.com/oauth/code/callback",
		Rotates: true, Lifetime: 8 * time.Hour,
		Shape: Shape{
			Errors: []string{"error.type"},
			Codes: map[string]string{
				"invalid_request_error": "invalid_request", "api_error": "server_error", "overloaded_error": "temporarily_unavailable",
			},
			Subject: []string{"account.uuid"},
		},
		Consumer: "These are tokens of a person's own Claude subscription, made for Anthropic's own programs. Its terms for such plans may not allow other software " +
			"to use them or several people to share one, and it can end the tokens or the account at any time. Read the terms that apply to you; an API key is the way that is meant for this.",
		BaseURL: "https://api.anthropic.com", Hosts: []string{"api.anthropic.com"},
		Recipe: "Nothing to register. The consent page shows a text of the form code#state, to be pasted back.",
	}
}

// google: https://developers.google.com/identity/protocols/oauth2/web-server. A refresh token stays the same and works until it is revoked, is
// unused for six months or is the oldest of a hundred; the answer to a refresh holds none. So an old one works on after its use.
func google() Provider {
	return Provider{
		Name: "google", Title: "Google", Docs: "https://developers.google.com/identity/protocols/oauth2/web-server",
		Issuer:       "https://accounts.google.com",
		AuthorizeURL: "https://accounts.google.com/o/oauth2/v2/auth",
		TokenURLs:    []string{"https://oauth2.googleapis.com/token"},
		DeviceURL:    "https://oauth2.googleapis.com/device/code",
		// What a person has allowed a client is one grant, however often they logged in: revoking one of its tokens ends all of them (reported by users
		// of it; the documentation says so of the scopes of a combined authorization).
		RevokeURL: "https://oauth2.googleapis.com/revoke", Revoke: Revocation{Auth: AuthNone, Wide: true},
		Scopes: []string{"openid", "email"},
		Auth:   AuthPost, Format: Form, PKCE: true,
		AuthorizeParams: map[string]string{"access_type": "offline", "prompt": "consent"},
		Grace:           24 * time.Hour, Lifetime: time.Hour,
		Shape:   Shape{Codes: map[string]string{"deleted_client": "invalid_client"}},
		BaseURL: "https://www.googleapis.com", Hosts: []string{"www.googleapis.com"},
		Recipe: "In the Google Cloud console, make an OAuth client of the type Web application and add Signalbox's callback address; for the device flow one of the type " +
			"TVs and Limited Input devices. While the consent screen is in testing, refresh tokens end after seven days. Name the scopes of the APIs to be used, and add their hosts.",
	}
}

// github: https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens. "Once you use a
// refresh token, that refresh token and the old user access token will no longer work." Tokens of OAuth apps do not end and have no refresh
// token. Errors come with status 200; answers are forms unless JSON is asked for. A token of the device flow is refreshed without the secret.
func github() Provider {
	return Provider{
		Name: "github", Title: "GitHub", Docs: "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens",
		AuthorizeURL: "https://github.com/login/oauth/authorize",
		TokenURLs:    []string{"https://github.com/login/oauth/access_token"},
		DeviceURL:    "https://github.com/login/device/code",
		// https://docs.github.com/en/rest/apps/oauth-applications, "Delete an app authorization": it "will also delete all OAuth tokens associated
		// with the application for the user".
		RevokeURL: "https://api.github.com/applications/{client_id}/grant",
		Revoke:    Revocation{Method: "DELETE", Param: "access_token", Format: JSON, Auth: AuthBasic, Access: true, Wide: true},
		Scopes:    []string{"read:user"},
		Auth:      AuthPost, Format: Form, PKCE: true,
		Rotates: true,
		Shape: Shape{Codes: map[string]string{
			"bad_refresh_token": "invalid_grant", "bad_verification_code": "invalid_grant", "incorrect_client_credentials": "invalid_client",
			"incorrect_device_code": "expired_token", "device_flow_disabled": "unauthorized_client", "redirect_uri_mismatch": "invalid_request",
		}},
		BaseURL: "https://api.github.com", Hosts: []string{"api.github.com", "github.com"},
		Recipe: "Register a GitHub App (tokens of eight hours with refresh) or an OAuth app (tokens without an end), and add Signalbox's callback address; tick Enable Device Flow for that flow. A GitHub App ignores scopes.",
	}
}

// gitlab: https://docs.gitlab.com/api/oauth2. Refreshing ends the old access token and the old refresh token. No grace is documented.
func gitlab() Provider {
	return Provider{
		Name: "gitlab", Title: "GitLab.com", Docs: "https://docs.gitlab.com/api/oauth2",
		Issuer:       "https://gitlab.com",
		AuthorizeURL: "https://gitlab.com/oauth/authorize",
		TokenURLs:    []string{"https://gitlab.com/oauth/token"},
		DeviceURL:    "https://gitlab.com/oauth/authorize_device",
		RevokeURL:    "https://gitlab.com/oauth/revoke",
		Scopes:       []string{"read_api"},
		Auth:         AuthPost, Format: Form, PKCE: true,
		Rotates: true, Lifetime: 2 * time.Hour,
		BaseURL: "https://gitlab.com/api/v4", Hosts: []string{"gitlab.com"},
		Recipe: "Add an application under User settings, Applications, with Signalbox's callback address and the scopes to be used. For a GitLab of your own, add a provider by its address instead.",
	}
}

// microsoft: https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow and …/refresh-tokens. "Refresh tokens replace
// themselves with a fresh token upon every use. The Microsoft identity platform doesn't revoke old refresh tokens." There is no revocation
// endpoint. The issuer of the address for all tenants is a pattern, so none is compared.
func microsoft() Provider {
	return Provider{
		Name: "microsoft", Title: "Microsoft (Entra ID)", Docs: "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow",
		AuthorizeURL: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
		TokenURLs:    []string{"https://login.microsoftonline.com/common/oauth2/v2.0/token"},
		DeviceURL:    "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
		Scopes:       []string{"offline_access", "User.Read"},
		Auth:         AuthPost, Format: Form, PKCE: true,
		Rotates: true, Grace: 24 * time.Hour, Lifetime: time.Hour,
		// A person must act: the same refresh token brings nothing until they have.
		Shape: Shape{Codes: map[string]string{
			"interaction_required": "invalid_grant", "consent_required": "invalid_grant", "login_required": "invalid_grant",
			"authorization_declined": "access_denied", "bad_verification_code": "invalid_grant",
		}},
		BaseURL: "https://graph.microsoft.com/v1.0", Hosts: []string{"graph.microsoft.com"},
		Recipe: "Register an application in Entra ID with Signalbox's callback address under the platform Web (not single-page, whose refresh tokens end after a day), and make a client secret. " +
			"For the device flow allow public client flows. For client credentials, or to admit one tenant only, add a provider by the tenant's own issuer.",
	}
}

// slack: https://docs.slack.dev/reference/methods/oauth.v2.access and …/authentication/using-token-rotation. "The refresh token is then
// revoked"; no grace is documented. Answers are 200 with ok; a user token stands under authed_user, and token_type is bot or user. Slack
// documents PKCE for apps that switched it on; whether it checks it for others could not be found.
func slack() Provider {
	return Provider{
		Name: "slack", Title: "Slack", Docs: "https://docs.slack.dev/authentication/using-token-rotation",
		AuthorizeURL: "https://slack.com/oauth/v2/authorize",
		TokenURLs:    []string{"https://slack.com/api/oauth.v2.access"},
		// https://docs.slack.dev/reference/methods/auth.revoke
		RevokeURL: "https://slack.com/api/auth.revoke", Revoke: Revocation{Bearer: true, Access: true, Format: Form},
		Scopes: []string{"users:read"}, ScopeSeparator: ",",
		Auth: AuthBasic, Format: Form,
		Rotates: true,
		Shape: Shape{
			Under: "authed_user", TokenTypes: []string{"bot", "user"},
			Codes: map[string]string{
				"invalid_refresh_token": "invalid_grant", "token_expired": "invalid_grant", "token_revoked": "invalid_grant", "invalid_code": "invalid_grant",
				"code_already_used": "invalid_grant", "code_expired": "invalid_grant", "bad_client_secret": "invalid_client", "invalid_client_id": "invalid_client",
				"bad_redirect_uri": "invalid_request", "invalid_grant_type": "unsupported_grant_type",
				// "It's possible some aspect of the operation succeeded before the error was raised."
				"fatal_error": "server_error", "internal_error": "server_error", "service_unavailable": "server_error", "request_timeout": "server_error",
			},
			Subject: []string{"authed_user.id", "bot_user_id"},
		},
		BaseURL: "https://slack.com/api", Hosts: []string{"slack.com"},
		Recipe: "Make a Slack app with Signalbox's callback address, and switch on token rotation unless tokens are to last for ever. The scopes are those of the bot; for a user token, add a provider of your own with the scope parameter user_scope.",
	}
}

// atlassian: https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens and …/enabling-3lo. "The refresh token you used for the
// request is disabled"; its answers hold no token_type; a spent token is 403 with invalid_grant. Others report that it may be used again for some
// minutes; that could not be found in the documentation. It documents neither PKCE nor revocation.
func atlassian() Provider {
	return Provider{
		Name: "atlassian", Title: "Atlassian Cloud", Docs: "https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens",
		AuthorizeURL: "https://auth.atlassian.com/authorize",
		TokenURLs:    []string{"https://auth.atlassian.com/oauth/token"},
		Scopes:       []string{"offline_access", "read:me"},
		Auth:         AuthPost, Format: JSON,
		AuthorizeParams: map[string]string{"audience": "api.atlassian.com", "prompt": "consent"},
		Rotates:         true, Lifetime: time.Hour,
		BaseURL: "https://api.atlassian.com", Hosts: []string{"api.atlassian.com"},
		Recipe: "In Atlassian's developer console make an app for OAuth 2.0 (3LO), add Signalbox's callback address and the APIs' scopes. A login ends after 365 days, and after 90 days without a refresh.",
	}
}

// linear: https://linear.app/developers/oauth-2-0-authentication. Tokens of a day with refresh tokens since April 2026; scopes are separated by
// commas. A grace for a refresh token that was used is told of, but could not be read there.
func linear() Provider {
	return Provider{
		Name: "linear", Title: "Linear", Docs: "https://linear.app/developers/oauth-2-0-authentication",
		AuthorizeURL: "https://linear.app/oauth/authorize",
		TokenURLs:    []string{"https://api.linear.app/oauth/token"},
		RevokeURL:    "https://api.linear.app/oauth/revoke",
		Scopes:       []string{"read"}, ScopeSeparator: ",",
		Auth: AuthPost, Format: Form, PKCE: true, ClientCredentials: true,
		AuthorizeParams: map[string]string{"prompt": "consent"},
		Rotates:         true, Lifetime: 24 * time.Hour,
		BaseURL: "https://api.linear.app", Hosts: []string{"api.linear.app"},
		Recipe: "Make an OAuth application in Linear's API settings, with Signalbox's callback address.",
	}
}

// notion: https://developers.notion.com/reference/create-a-token, …/refresh-a-token, …/revoke-token. Basic authentication with JSON bodies; a
// refresh answers with a new pair, and says nothing of when the access token ends. PKCE is not documented.
func notion() Provider {
	return Provider{
		Name: "notion", Title: "Notion", Docs: "https://developers.notion.com/reference/refresh-a-token",
		AuthorizeURL: "https://api.notion.com/v1/oauth/authorize",
		TokenURLs:    []string{"https://api.notion.com/v1/oauth/token"},
		RevokeURL:    "https://api.notion.com/v1/oauth/revoke", Revoke: Revocation{Param: "token", Access: true},
		Auth: AuthBasic, Format: JSON,
		AuthorizeParams: map[string]string{"owner": "user"}, TokenHeaders: map[string]string{"Notion-Version": "2022-06-28"},
		Rotates: true,
		Shape:   Shape{Errors: []string{"code"}, Subject: []string{"bot_id"}},
		BaseURL: "https://api.notion.com", Hosts: []string{"api.notion.com"},
		Recipe: "Make a public connection in Notion's developer settings, with Signalbox's callback address. What it may read is chosen on the consent page; there are no scopes.",
	}
}
