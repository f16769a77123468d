package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/vault"
)

// LoginFields say what a login is for. The name is exported because bodies embed it.
type LoginFields struct {
	Provider     string `json:"provider,omitempty" maxLength:"64" doc:"May be left out with credential_id."`
	CredentialID string `json:"credential_id,omitempty" maxLength:"64" doc:"The credential that gets new tokens, and keeps its id; without it a new one is stored."`
	Name         string `json:"name,omitempty" maxLength:"200" doc:"Of a new credential."`
	Description  string `json:"description,omitempty" maxLength:"2000"`
	BaseURL      string `json:"base_url,omitempty" maxLength:"2048" doc:"Where the tokens are used; the provider's when it is left out."`
	Hosts        texts  `json:"hosts,omitempty" maxItems:"50"`
	PluginName   string `json:"plugin_name,omitempty" maxLength:"100"`
	Tags         texts  `json:"tags,omitempty" maxItems:"50" maxLength:"100"`
	Scopes       texts  `json:"scopes,omitempty" doc:"Those of the provider, or of the credential, when it is left out."`
	Resource     string `json:"resource,omitempty" maxLength:"2048" doc:"What the tokens are for (RFC 8707)."`
}

func (f LoginFields) start() oauth.Start {
	return oauth.Start{
		Provider: f.Provider, CredentialID: f.CredentialID, Scopes: f.Scopes, Resource: f.Resource,
		New: oauth.Draft{Name: f.Name, Description: f.Description, BaseURL: f.BaseURL, Hosts: f.Hosts, PluginName: f.PluginName, Tags: f.Tags},
	}
}

type loginDraft struct {
	LoginFields
	RedirectURI string `json:"redirect_uri,omitempty" maxLength:"255" doc:"A port of your own machine, http://127.0.0.1:PORT/…, from where you send the answer to /api/oauth/finish. Without it the browser comes back to this server, in the session that asks."`
	Paste       bool   `json:"paste,omitempty" doc:"Of a provider whose page shows a code to be pasted."`
	ReturnTo    string `json:"return_to,omitempty" maxLength:"1000" doc:"The page of this server to which the browser goes afterwards, such as /account."`
}

type clientLoginDraft struct {
	LoginFields
	ClientID     string `json:"client_id,omitempty" maxLength:"255" doc:"The credential's own client; the provider's when it is left out."`
	ClientSecret hidden `json:"client_secret,omitempty" maxLength:"2048"`
}

type loginAnswer struct {
	Code   hidden `json:"code,omitempty" maxLength:"8192"`
	State  hidden `json:"state,omitempty" maxLength:"512"`
	Issuer string `json:"iss,omitempty" maxLength:"2048"`
	Error  string `json:"error,omitempty" maxLength:"100"`
	Pasted hidden `json:"pasted,omitempty" maxLength:"16384" doc:"Instead of the others: what the provider's page shows, code#state, or the address that the browser ended at."`
}

type connectionBody struct {
	Connection client.Connection `json:"connection"`
}

func (s *service) addOAuth() {
	const tag = "OAuth"
	write, read := string(identity.CredentialWrite), string(identity.CredentialRead)
	add(s, route{method: http.MethodPost, path: "/api/oauth/start", id: "start-login", summary: "Begin a login at an OAuth provider", tag: tag, access: write, status: http.StatusCreated,
		description: "Authorization code with PKCE. The answer holds the address at which the person consents; it takes part in the login. The login is the caller's alone, once, for ten minutes."}, s.startLogin)
	add(s, route{method: http.MethodPost, path: "/api/oauth/finish", id: "finish-login", summary: "End a login with what came back", tag: tag, access: write,
		description: "For logins with redirect_uri or paste; a browser ends the others itself. The state is spent by it, whatever comes of it."}, s.finishLogin)
	add(s, route{method: http.MethodPost, path: "/api/oauth/device", id: "start-device-login", summary: "Begin a login with a code that is typed on another device", tag: tag, access: write,
		status: http.StatusCreated, description: "RFC 8628."}, s.startDevice)
	add(s, route{method: http.MethodPost, path: "/api/oauth/device/{id}", id: "poll-device-login", summary: "Ask what became of a device login", tag: tag, access: write,
		description: "The provider is asked no more often than it wants; wait_seconds says when to ask again."}, s.pollDevice)
	add(s, route{method: http.MethodPost, path: "/api/oauth/client-credentials", id: "login-client", summary: "Get tokens with client credentials", tag: tag, access: write,
		status: http.StatusCreated, description: "RFC 6749, section 4.4: a program's own secret, without a person."}, s.loginClient)
	add(s, route{method: http.MethodGet, path: "/api/oauth/connections", id: "list-connections", summary: "List the connections of OAuth credentials", tag: tag, access: read}, s.listConnections)
	add(s, route{method: http.MethodGet, path: "/api/credentials/{id}/connection", id: "get-connection", summary: "Say how the refreshing of a credential stands", tag: tag, access: read}, s.getConnection)
	add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/refresh", id: "refresh-credential", summary: "Refresh a credential's tokens", tag: tag, access: write,
		description: "When the access token is near its end; with force at once, which also ends a cool-down. At most one call of the provider is under way, whoever asks."}, s.refreshCredential)
	add(s, route{method: http.MethodGet, path: "/api/oauth/metrics", id: "get-oauth-metrics", summary: "Say what this instance has refreshed", tag: tag, access: string(identity.MetricsRead),
		description: "Since its start. GET /metrics has the same for Prometheus."}, s.oauthMetrics)
}

func (s *service) startLogin(ctx context.Context, caller identity.Caller, in *struct{ Body loginDraft }) (*struct {
	Body struct {
		Login client.OAuthLogin `json:"login"`
	} `nameHint:"OAuthLoginBody"`
}, error) {
	start := in.Body.start()
	var err error
	switch {
	case in.Body.Paste:
		start.Way = oauth.ByPaste
	case in.Body.RedirectURI != "":
		start.Way, start.RedirectURL = oauth.ByLoopback, in.Body.RedirectURI
	default:
		start.Way = oauth.ByBrowser
		if start.RedirectURL, err = s.Logins.CallbackURL(exchangeOf(ctx).host); err != nil {
			return nil, err
		}
	}
	if start.Next = in.Body.ReturnTo; start.Next != "" && !oauth.LocalPath(start.Next) {
		return nil, fault.New(fault.Unprocessable, "validation_failed", "The login cannot be begun like this; see errors.").With("/return_to", "must be a page of this server, such as /account")
	}
	begun, err := s.Logins.Begin(ctx, caller, start)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Login client.OAuthLogin `json:"login"`
		} `nameHint:"OAuthLoginBody"`
	}{}
	out.Body.Login = client.OAuthLogin{
		ID: begun.ID, Way: string(begun.Way), Provider: begun.Provider, Title: begun.Title, AuthorizeURL: begun.Address.Reveal(), RedirectURI: begun.RedirectURL, ExpiresAt: begun.ExpiresAt,
	}
	return out, nil
}

// callback reads what came back, in whichever form.
func (a loginAnswer) callback() (provider.Callback, error) {
	var back provider.Callback
	var err error
	if !a.Pasted.IsZero() {
		back, err = provider.ParsePaste(a.Pasted.Value)
	} else {
		q := url.Values{"state": {a.State.Reveal()}}
		for name, text := range map[string]string{"code": a.Code.Reveal(), "iss": a.Issuer, "error": a.Error} {
			if text != "" {
				q.Set(name, text)
			}
		}
		back, err = provider.ParseCallback(q.Encode())
	}
	if err != nil {
		return back, fault.New(fault.Unprocessable, "validation_failed", err.Error()).With("", "is no answer to a login: it needs state, and code or error; or pasted")
	}
	return back, nil
}

func (s *service) finishLogin(ctx context.Context, caller identity.Caller, in *struct{ Body loginAnswer }) (*credentialAnswer, error) {
	back, err := in.Body.callback()
	if err != nil {
		return nil, err
	}
	done, err := s.Logins.Finish(ctx, caller, back)
	return credentialOut(done.Credential, err)
}

func (s *service) startDevice(ctx context.Context, caller identity.Caller, in *struct{ Body LoginFields }) (*struct {
	Body struct {
		Login client.DeviceLogin `json:"login"`
	} `nameHint:"DeviceLoginBody"`
}, error) {
	begun, err := s.Logins.BeginDevice(ctx, caller, in.Body.start())
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Login client.DeviceLogin `json:"login"`
		} `nameHint:"DeviceLoginBody"`
	}{}
	out.Body.Login = client.DeviceLogin{
		ID: begun.ID, Provider: begun.Provider, Title: begun.Title, UserCode: begun.UserCode, VerificationURI: begun.VerifyURL, VerificationURIComplete: begun.VerifyURLFilled,
		IntervalSeconds: seconds(begun.Interval), ExpiresAt: begun.ExpiresAt,
	}
	return out, nil
}

// seconds rounds up, so that nobody asks too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func (s *service) pollDevice(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body client.DeviceProgress }, error) {
	p, err := s.Logins.PollDevice(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := client.DeviceProgress{Done: p.Done, WaitSeconds: seconds(p.Wait)}
	if p.Done {
		c := shownCredential(p.Credential)
		out.Credential = &c
	}
	return &struct{ Body client.DeviceProgress }{out}, nil
}

func (s *service) loginClient(ctx context.Context, caller identity.Caller, in *struct{ Body clientLoginDraft }) (*credentialAnswer, error) {
	done, err := s.Logins.LoginClient(ctx, caller, in.Body.start(), in.Body.ClientID, in.Body.ClientSecret.Value)
	return credentialOut(done.Credential, err)
}

func shownConnection(c oauth.Connection) client.Connection {
	return client.Connection{
		CredentialID: c.CredentialID, Name: c.Name, Generation: c.Generation, Health: string(c.Health), State: string(c.State), Code: c.Code, Failures: c.Failures,
		Refreshes: c.Refreshes, RetryAt: c.RetryAt, AttemptedAt: c.AttemptedAt, RefreshedAt: c.RefreshedAt, TokenExpiresAt: c.TokenExpires,
	}
}

func (s *service) listConnections(ctx context.Context, caller identity.Caller, in *struct {
	Page
	Provider string `query:"provider" maxLength:"100" doc:"Only those of this provider."`
}) (*struct{ Body client.ConnectionPage }, error) {
	list, next, err := s.Vault.List(ctx, caller, vault.Filter{Type: vault.OAuth, Provider: in.Provider, Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip})
	if err != nil {
		return nil, err
	}
	found, err := s.OAuth.Connections(ctx, list)
	if err != nil {
		return nil, err
	}
	out := client.ConnectionPage{Connections: make([]client.Connection, len(found)), NextCursor: next}
	for i, c := range found {
		out.Connections[i] = shownConnection(c)
	}
	return &struct{ Body client.ConnectionPage }{out}, nil
}

func (s *service) getConnection(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body connectionBody }, error) {
	c, err := s.OAuth.Connection(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body connectionBody }{connectionBody{shownConnection(c)}}, nil
}

func (s *service) refreshCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body struct {
		Force bool `json:"force,omitempty"`
	} `nameHint:"RefreshRequest"`
}) (*struct{ Body connectionBody }, error) {
	refresh := s.OAuth.RefreshDue
	if in.Body.Force {
		refresh = s.OAuth.Refresh
	}
	c, err := refresh(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body connectionBody }{connectionBody{shownConnection(c)}}, nil
}

func (s *service) oauthMetrics(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct {
	Body struct {
		Metrics client.OAuthMetrics `json:"metrics"`
	} `nameHint:"OAuthMetricsBody"`
}, error) {
	if err := identity.Allow(caller, identity.MetricsRead); err != nil {
		return nil, err
	}
	counts, waits := s.OAuth.Counts()
	out := &struct {
		Body struct {
			Metrics client.OAuthMetrics `json:"metrics"`
		} `nameHint:"OAuthMetricsBody"`
	}{}
	out.Body.Metrics = client.OAuthMetrics{Providers: []client.OAuthProviderMetrics{}, CoalescedWaits: waits.Coalesced, CrossProcessWaits: waits.Crossed}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		c := counts[name]
		m := client.OAuthProviderMetrics{Provider: name, Stored: c.Stored, DurationMS: c.Took.Milliseconds(), Successes: c.Attempts[provider.Issued]}
		for _, n := range c.Attempts {
			m.Attempts += n
		}
		m.Failures = m.Attempts - m.Successes
		out.Body.Metrics.Providers = append(out.Body.Metrics.Providers, m)
	}
	return out, nil
}
