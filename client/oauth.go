package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// OAuthProvider is an OAuth server at which one can log in. Its client secret is in no answer.
type OAuthProvider struct {
	Name            string      `json:"name"`
	Title           string      `json:"title"`
	Catalogue       bool        `json:"catalogue" doc:"Whether Signalbox knows it of itself: its addresses cannot be changed."`
	Enabled         bool        `json:"enabled" doc:"Whether one can log in there."`
	Consumer        string      `json:"consumer,omitempty" doc:"Why it is off until an administrator switches it on."`
	Tampered        bool        `json:"tampered,omitempty" doc:"It was changed outside Signalbox, so no token is sent there."`
	Issuer          string      `json:"issuer,omitempty"`
	NamesItself     bool        `json:"names_itself" doc:"Whether its answers carry iss (RFC 9207); one without it is refused then."`
	AuthorizeURL    string      `json:"authorize_url,omitempty"`
	TokenURLs       []string    `json:"token_urls" nullable:"false" doc:"Asked in order; the next one only after a 404 or when no connection could be made."`
	DeviceURL       string      `json:"device_url,omitempty"`
	RevokeURL       string      `json:"revoke_url,omitempty"`
	Scopes          []string    `json:"scopes" nullable:"false"`
	ScopeSeparator  string      `json:"scope_separator,omitempty"`
	ClientID        string      `json:"client_id,omitempty"`
	HasClientSecret bool        `json:"has_client_secret"`
	Auth            string      `json:"auth" doc:"client_secret_basic, client_secret_post or none."`
	Format          string      `json:"format" doc:"form or json."`
	AuthorizeParams []NamedText `json:"authorize_params" nullable:"false" doc:"What its consent page is asked besides."`
	TokenHeaders    []NamedText `json:"token_headers" nullable:"false" doc:"What its token endpoint is sent besides."`
	StateInExchange bool        `json:"state_in_exchange"`
	PasteBack       bool        `json:"paste_back" doc:"Whether its page shows a code to be pasted."`
	RedirectURL     string      `json:"redirect_url,omitempty" doc:"Of that page."`
	CallbackURL     string      `json:"callback_url,omitempty" doc:"The redirect address to register there for logins in a browser."`
	GraceSeconds    int64       `json:"grace_seconds" doc:"For how long an old refresh token still works after its use."`
	BaseURL         string      `json:"base_url,omitempty" doc:"Where its access tokens are used."`
	Hosts           []string    `json:"hosts" nullable:"false"`
	Recipe          string      `json:"recipe,omitempty" doc:"What to register where."`
	CreatedAt       *time.Time  `json:"created_at,omitempty"`
	UpdatedAt       *time.Time  `json:"updated_at,omitempty"`
	ETag            string      `json:"-"` // travels as a header
}

// NamedText is a name with its value.
type NamedText struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// OAuthProviderEdit says what to set of a provider; what is nil stays as it is.
type OAuthProviderEdit struct {
	Name            *string      `json:"name,omitempty"` // of a new one only
	Enabled         *bool        `json:"enabled,omitempty"`
	TermsRead       bool         `json:"terms_read,omitempty"`
	Title           *string      `json:"title,omitempty"`
	Issuer          *string      `json:"issuer,omitempty"`
	NamesItself     *bool        `json:"names_itself,omitempty"`
	AuthorizeURL    *string      `json:"authorize_url,omitempty"`
	TokenURLs       *[]string    `json:"token_urls,omitempty"`
	DeviceURL       *string      `json:"device_url,omitempty"`
	RevokeURL       *string      `json:"revoke_url,omitempty"`
	Scopes          *[]string    `json:"scopes,omitempty"`
	ScopeSeparator  *string      `json:"scope_separator,omitempty"`
	ClientID        *string      `json:"client_id,omitempty"`
	ClientSecret    *string      `json:"client_secret,omitempty"`
	Auth            *string      `json:"auth,omitempty"`
	Format          *string      `json:"format,omitempty"`
	AuthorizeParams *[]NamedText `json:"authorize_params,omitempty"`
	TokenHeaders    *[]NamedText `json:"token_headers,omitempty"`
	StateInExchange *bool        `json:"state_in_exchange,omitempty"`
	PasteBack       *bool        `json:"paste_back,omitempty"`
	RedirectURL     *string      `json:"redirect_url,omitempty"`
	GraceSeconds    *int64       `json:"grace_seconds,omitempty"`
	BaseURL         *string      `json:"base_url,omitempty"`
	Hosts           *[]string    `json:"hosts,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// LoginDraft says what login is begun: for a new credential by its name, or anew for one that is there.
type LoginDraft struct {
	Provider     string   `json:"provider,omitempty"`
	CredentialID string   `json:"credential_id,omitempty"`
	Name         string   `json:"name,omitempty"`
	Description  string   `json:"description,omitempty"`
	BaseURL      string   `json:"base_url,omitempty"`
	Hosts        []string `json:"hosts,omitempty"`
	PluginName   string   `json:"plugin_name,omitempty"`
	Tags         []string `json:"tags,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	Resource     string   `json:"resource,omitempty"`
	// RedirectURI is of a loopback port; Paste asks for a page that shows a code. Without both the login is in a browser with a session.
	RedirectURI string `json:"redirect_uri,omitempty"`
	Paste       bool   `json:"paste,omitempty"`
	ReturnTo    string `json:"return_to,omitempty"`
}

// ClientLoginDraft is a login with client credentials.
type ClientLoginDraft struct {
	Provider     string   `json:"provider,omitempty"`
	CredentialID string   `json:"credential_id,omitempty"`
	Name         string   `json:"name,omitempty"`
	Description  string   `json:"description,omitempty"`
	BaseURL      string   `json:"base_url,omitempty"`
	Hosts        []string `json:"hosts,omitempty"`
	PluginName   string   `json:"plugin_name,omitempty"`
	Tags         []string `json:"tags,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	Resource     string   `json:"resource,omitempty"`
	// ClientID and ClientSecret are the credential's own; without them the provider's are used.
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
}

// OAuthLogin is a login that waits for somebody's consent. The address takes part in the login: give it to nobody else.
type OAuthLogin struct {
	ID           string    `json:"id"`
	Way          string    `json:"way" doc:"browser, loopback or paste."`
	Provider     string    `json:"provider"`
	Title        string    `json:"title"`
	AuthorizeURL string    `json:"authorize_url" doc:"Where the person consents."`
	RedirectURI  string    `json:"redirect_uri"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// LoginAnswer is what came back from a consent: code and state, or an error and state, or what was pasted.
type LoginAnswer struct {
	Code   string `json:"code,omitempty"`
	State  string `json:"state,omitempty"`
	Issuer string `json:"iss,omitempty"`
	Error  string `json:"error,omitempty"`
	Pasted string `json:"pasted,omitempty"`
}

// DeviceLogin is a login that waits until its person has typed the code at the provider.
type DeviceLogin struct {
	ID                      string    `json:"id"`
	Provider                string    `json:"provider"`
	Title                   string    `json:"title"`
	UserCode                string    `json:"user_code"`
	VerificationURI         string    `json:"verification_uri"`
	VerificationURIComplete string    `json:"verification_uri_complete,omitempty" doc:"With the code in it."`
	IntervalSeconds         int64     `json:"interval_seconds" doc:"How long to wait before asking what became of it, and between."`
	ExpiresAt               time.Time `json:"expires_at"`
}

// DeviceProgress is what became of a device login so far.
type DeviceProgress struct {
	Done        bool        `json:"done"`
	WaitSeconds int64       `json:"wait_seconds" doc:"When to ask again, while it is not done."`
	Credential  *Credential `json:"credential,omitempty"`
}

// Connection is what is known of an OAuth credential's connection to its provider.
type Connection struct {
	CredentialID   string     `json:"credential_id"`
	Name           string     `json:"name"`
	Generation     int64      `json:"generation" doc:"The version of the secret; each refresh and each login makes a new one."`
	Health         string     `json:"health" doc:"healthy, refresh_failing, refresh_uncertain or needs_login."`
	State          string     `json:"state" doc:"Where the refreshing stands: ready, claimed, recovering, failing, uncertain or needs_login."`
	Code           string     `json:"code,omitempty" doc:"What the last call of the provider came to, when it brought no token."`
	Failures       int        `json:"failures" doc:"In a row."`
	Refreshes      bool       `json:"refreshes" doc:"Whether it can be refreshed at all."`
	RetryAt        *time.Time `json:"retry_at,omitempty"`
	AttemptedAt    *time.Time `json:"attempted_at,omitempty"`
	RefreshedAt    *time.Time `json:"refreshed_at,omitempty"`
	TokenExpiresAt *time.Time `json:"token_expires_at,omitempty"`
}

// OAuthMetrics are what the instance that answers has done since its start.
type OAuthMetrics struct {
	Providers         []OAuthProviderMetrics `json:"providers" nullable:"false"`
	CoalescedWaits    int64                  `json:"coalesced_waits" doc:"How often somebody waited for a refresh of this instance."`
	CrossProcessWaits int64                  `json:"cross_process_waits" doc:"How often for one of another instance."`
}

// OAuthProviderMetrics are those of one provider.
type OAuthProviderMetrics struct {
	Provider   string `json:"provider"`
	Attempts   int64  `json:"attempts" doc:"Calls of its token endpoint for a refresh."`
	Successes  int64  `json:"successes" doc:"Those that brought tokens."`
	Failures   int64  `json:"failures" doc:"Those that did not."`
	Stored     int64  `json:"stored" doc:"Pairs that reached the database."`
	DurationMS int64  `json:"duration_ms" doc:"Of all calls together."`
}

func (c *Client) oauthProvider(ctx context.Context, k call) (OAuthProvider, error) {
	var out struct {
		Provider OAuthProvider `json:"provider"`
	}
	a, err := c.do(ctx, k, &out)
	out.Provider.ETag = a.etag
	return out.Provider, err
}

// ListOAuthProviders returns every provider, by name.
func (c *Client) ListOAuthProviders(ctx context.Context) ([]OAuthProvider, error) {
	var out struct {
		Providers []OAuthProvider `json:"providers"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("oauth", "providers")}, &out)
	return out.Providers, err
}

// GetOAuthProvider returns a provider by its name.
func (c *Client) GetOAuthProvider(ctx context.Context, name string) (OAuthProvider, error) {
	return c.oauthProvider(ctx, call{method: http.MethodGet, path: path("oauth", "providers", name)})
}

// AddOAuthProvider adds a provider: by its endpoints, or by its issuer, which is asked for them.
func (c *Client) AddOAuthProvider(ctx context.Context, e OAuthProviderEdit) (OAuthProvider, error) {
	return c.oauthProvider(ctx, call{method: http.MethodPost, path: path("oauth", "providers"), body: e})
}

// ChangeOAuthProvider changes a provider and returns its new state.
func (c *Client) ChangeOAuthProvider(ctx context.Context, name string, e OAuthProviderEdit) (OAuthProvider, error) {
	return c.oauthProvider(ctx, call{method: http.MethodPatch, path: path("oauth", "providers", name), body: e, ifMatch: e.IfMatch})
}

// DeleteOAuthProvider removes a provider, or what was set on one of the catalogue.
func (c *Client) DeleteOAuthProvider(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("oauth", "providers", name)}, nil)
	return err
}

// StartLogin begins a login by authorization code with PKCE.
func (c *Client) StartLogin(ctx context.Context, d LoginDraft) (OAuthLogin, error) {
	var out struct {
		Login OAuthLogin `json:"login"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("oauth", "start"), body: d}, &out)
	return out.Login, err
}

// FinishLogin ends a login that [Client.StartLogin] began, and returns the credential that has the tokens.
func (c *Client) FinishLogin(ctx context.Context, a LoginAnswer) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPost, path: path("oauth", "finish"), body: a})
}

// StartDeviceLogin asks the provider for a code that a person types on another device.
func (c *Client) StartDeviceLogin(ctx context.Context, d LoginDraft) (DeviceLogin, error) {
	var out struct {
		Login DeviceLogin `json:"login"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("oauth", "device"), body: d}, &out)
	return out.Login, err
}

// PollDeviceLogin asks once what became of a device login.
func (c *Client) PollDeviceLogin(ctx context.Context, id string) (DeviceProgress, error) {
	var out DeviceProgress
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("oauth", "device", id)}, &out)
	return out, err
}

// LoginClient gets tokens with client credentials.
func (c *Client) LoginClient(ctx context.Context, d ClientLoginDraft) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPost, path: path("oauth", "client-credentials"), body: d})
}

// ConnectionPage is one page of a list. NextCursor is "" on the last.
type ConnectionPage struct {
	Connections []Connection `json:"connections" nullable:"false"`
	NextCursor  string       `json:"next_cursor,omitempty"`
}

// ListConnections returns one page of the connections of OAuth credentials; provider narrows it unless it is empty.
func (c *Client) ListConnections(ctx context.Context, provider, cursor string) (ConnectionPage, error) {
	q := url.Values{}
	setText(q, "provider", provider)
	setText(q, "cursor", cursor)
	var out ConnectionPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("oauth", "connections"), query: q}, &out)
	return out, err
}

func (c *Client) connection(ctx context.Context, k call) (Connection, error) {
	var out struct {
		Connection Connection `json:"connection"`
	}
	_, err := c.do(ctx, k, &out)
	return out.Connection, err
}

// GetConnection returns what is known of a credential's connection.
func (c *Client) GetConnection(ctx context.Context, id string) (Connection, error) {
	return c.connection(ctx, call{method: http.MethodGet, path: path("credentials", id, "connection")})
}

// RefreshCredential refreshes a credential's tokens: when it is due, or at once with force.
func (c *Client) RefreshCredential(ctx context.Context, id string, force bool) (Connection, error) {
	return c.connection(ctx, call{method: http.MethodPost, path: path("credentials", id, "refresh"), body: map[string]bool{"force": force}})
}

// OAuthMetrics returns what the instance that answers has done since its start.
func (c *Client) OAuthMetrics(ctx context.Context) (OAuthMetrics, error) {
	var out struct {
		Metrics OAuthMetrics `json:"metrics"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("oauth", "metrics")}, &out)
	return out.Metrics, err
}
