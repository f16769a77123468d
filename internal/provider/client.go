package provider

import (
	"context"
	"net/http"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// Config is what a [Client] needs. The zero value calls public https servers.
type Config struct {
	// Policy guards every address.
	Policy outbound.Policy
	// Outbound tunes the connections (authorities, resolver). Its timeouts are replaced.
	Outbound outbound.Options
	// Timeout bounds a whole exchange: every address, connecting, the answer to its last byte; default 20 s.
	Timeout time.Duration
	// Shortest and Longest bound the lifetime that a server gives its access tokens: default 10 s and 400 days.
	Shortest, Longest time.Duration
	// Clock tells the time; nil means time.Now. Only dates in Retry-After are held against it.
	Clock func() time.Time
}

// Grant is what a refresh sends.
type Grant struct {
	ClientID                   string
	ClientSecret, RefreshToken secret.Value
	Scopes                     []string // nil: as before
	Resource                   string   // RFC 8707; "" for none
}

// Code is what a code exchange sends. State is sent only where the provider's row says so.
type Code struct {
	ClientID                            string
	ClientSecret, Code, Verifier, State secret.Value
	RedirectURL                         string
	Resource                            string
}

// Ask is what a grant without a redirect sends: client credentials, and the beginning of a device grant.
type Ask struct {
	ClientID     string
	ClientSecret secret.Value
	Scopes       []string
	Resource     string
}

// Poll is one question for the outcome of a device grant.
type Poll struct {
	ClientID                 string
	ClientSecret, DeviceCode secret.Value
	Resource                 string
}

// Leaving is what a revocation sends.
type Leaving struct {
	ClientID                      string
	ClientSecret, Access, Refresh secret.Value
}

// Client makes exchanges. It is safe for concurrent use, keeps nothing of them, and starts nothing.
type Client struct {
	cfg  Config
	http *http.Client
}

// New returns a client.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 20 * time.Second
	}
	if cfg.Shortest <= 0 {
		cfg.Shortest = 10 * time.Second
	}
	if cfg.Longest <= 0 {
		cfg.Longest = 400 * 24 * time.Hour
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	o := cfg.Outbound
	o.Timeout, o.HeaderTimeout = cfg.Timeout, cfg.Timeout
	// A first address that cannot be reached must leave time for the next one.
	o.ConnectTimeout = cfg.Timeout / 3
	o.OneShot = true
	return &Client{cfg: cfg, http: outbound.NewClient(cfg.Policy, o)}
}

// Refresh turns a refresh token into tokens.
func (c *Client) Refresh(ctx context.Context, p Provider, g Grant) Answer {
	if g.RefreshToken.IsZero() {
		return unusable()
	}
	r := p.request(g.ClientID, g.ClientSecret).grant("refresh_token").secret("refresh_token", g.RefreshToken).resource(g.Resource)
	if g.Scopes != nil {
		r.text("scope", p.joined(g.Scopes))
	}
	return c.tokens(ctx, p, r)
}

// Exchange turns the code of an authorization into tokens.
func (c *Client) Exchange(ctx context.Context, p Provider, g Code) Answer {
	if g.Code.IsZero() || g.Verifier.IsZero() {
		return unusable()
	}
	r := p.request(g.ClientID, g.ClientSecret).grant("authorization_code").secret("code", g.Code).secret("code_verifier", g.Verifier).
		text("redirect_uri", g.RedirectURL).resource(g.Resource)
	if p.StateInExchange {
		r.secret("state", g.State)
	}
	return c.tokens(ctx, p, r)
}

// ClientCredentials asks for tokens of the client itself.
func (c *Client) ClientCredentials(ctx context.Context, p Provider, a Ask) Answer {
	if a.ClientSecret.IsZero() {
		return unusable()
	}
	return c.tokens(ctx, p, p.request(a.ClientID, a.ClientSecret).grant("client_credentials").text("scope", p.joined(a.Scopes)).resource(a.Resource))
}

// Device begins a device grant. The grant is whole when the verdict is Issued.
func (c *Client) Device(ctx context.Context, p Provider, a Ask) (DeviceGrant, Answer) {
	if p.DeviceURL == "" {
		return DeviceGrant{}, unusable()
	}
	r := p.request(a.ClientID, a.ClientSecret).named(a.ClientID).text("scope", p.joined(a.Scopes)).resource(a.Resource)
	answer, body := c.ask(ctx, p, []string{p.DeviceURL}, r)
	if answer.Verdict != Issued {
		return DeviceGrant{}, answer
	}
	grant, ok := readDevice(body)
	if !ok {
		return DeviceGrant{}, Answer{Verdict: Ambiguous, Code: CodeUnreadable, Status: answer.Status, Sent: true}
	}
	return grant, answer
}

// Poll asks once for the outcome of a device grant. Pending has the code authorization_pending, or slow_down: then wait five seconds longer from
// now on.
func (c *Client) Poll(ctx context.Context, p Provider, q Poll) Answer {
	if q.DeviceCode.IsZero() {
		return unusable()
	}
	a := c.tokens(ctx, p, p.request(q.ClientID, q.ClientSecret).named(q.ClientID).grant("urn:ietf:params:oauth:grant-type:device_code").
		secret("device_code", q.DeviceCode).resource(q.Resource))
	if a.Verdict == NotProcessed {
		switch a.Code {
		case "authorization_pending", "slow_down":
			a.Verdict = Pending
		case "access_denied", "expired_token":
			a.Verdict = Refused
		}
	}
	return a
}

// Revoke ends a grant at the provider, as far as it offers that.
func (c *Client) Revoke(ctx context.Context, p Provider, l Leaving) Answer {
	r, address, ok := p.revocation(l)
	if !ok {
		return unusable()
	}
	answer, _ := c.ask(ctx, p, []string{address}, r)
	// RFC 7009, section 2.2: the status says it, and the body is nothing or anything. One that names an error has another code.
	if answer.Verdict == Issued || answer.Status/100 == 2 && answer.Code == CodeUnreadable {
		answer.Verdict, answer.Code = Revoked, ""
	}
	return answer
}

func unusable() Answer { return Answer{Verdict: NotProcessed, Code: CodeUnusable} }
