package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// SSORole gives a role to the members of a group at a provider.
type SSORole struct {
	Group string `json:"group"`
	Role  string `json:"role"`
}

// SSOGroup makes the members of a group at a provider members of a group here.
type SSOGroup struct {
	Group     string `json:"group" doc:"As the provider calls it."`
	GroupID   string `json:"group_id" doc:"Of the group here; to set it, the name will do."`
	GroupName string `json:"group_name,omitempty" doc:"Of the group here."`
}

// SSOProvider is where people can sign in elsewhere. Its client secret is never shown.
type SSOProvider struct {
	ID              string     `json:"id"`
	Name            string     `json:"name" doc:"In addresses; never changes."`
	Enabled         bool       `json:"enabled"`
	Label           string     `json:"label" doc:"On the button of the sign-in page."`
	Issuer          string     `json:"issuer"`
	ClientID        string     `json:"client_id"`
	HasClientSecret bool       `json:"has_client_secret"`
	CallbackPath    string     `json:"callback_path" doc:"Where the provider sends people back to, on the address of this server."`
	Scopes          []string   `json:"scopes" nullable:"false"`
	EmailClaim      string     `json:"email_claim"`
	VerifiedClaim   string     `json:"verified_claim"`
	NameClaim       string     `json:"name_claim"`
	GroupsClaim     string     `json:"groups_claim"`
	AllowedDomains  []string   `json:"allowed_domains" nullable:"false"`
	LinkDomains     []string   `json:"link_domains" nullable:"false"`
	CreatePeople    bool       `json:"create_people"`
	Roles           []SSORole  `json:"roles" nullable:"false"`
	DefaultRole     string     `json:"default_role"`
	Groups          []SSOGroup `json:"groups" nullable:"false"`
	SecondFactor    string     `json:"second_factor" doc:"never, claims or always."`
	ACRValues       []string   `json:"acr_values" nullable:"false"`
	CreatedAt       time.Time  `json:"created_at"`
	UpdatedAt       time.Time  `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// SSOEdit says what to set of a provider: nil leaves a field as it is, or at its default.
type SSOEdit struct {
	Name           string      `json:"name,omitempty"` // of a new one
	Enabled        *bool       `json:"enabled,omitempty"`
	Label          *string     `json:"label,omitempty"`
	Issuer         *string     `json:"issuer,omitempty"`
	ClientID       *string     `json:"client_id,omitempty"`
	ClientSecret   *string     `json:"client_secret,omitempty"` // empty: none any more
	Scopes         *[]string   `json:"scopes,omitempty"`
	EmailClaim     *string     `json:"email_claim,omitempty"`
	VerifiedClaim  *string     `json:"verified_claim,omitempty"`
	NameClaim      *string     `json:"name_claim,omitempty"`
	GroupsClaim    *string     `json:"groups_claim,omitempty"`
	AllowedDomains *[]string   `json:"allowed_domains,omitempty"`
	LinkDomains    *[]string   `json:"link_domains,omitempty"`
	CreatePeople   *bool       `json:"create_people,omitempty"`
	Roles          *[]SSORole  `json:"roles,omitempty"`
	DefaultRole    *string     `json:"default_role,omitempty"`
	Groups         *[]SSOGroup `json:"groups,omitempty"` // their names are not sent
	SecondFactor   *string     `json:"second_factor,omitempty"`
	ACRValues      *[]string   `json:"acr_values,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// MarshalJSON writes an empty client secret as null, by which the server forgets it.
func (e SSOEdit) MarshalJSON() ([]byte, error) {
	type plain SSOEdit
	out := struct {
		plain
		ClientSecret json.RawMessage `json:"client_secret,omitempty"`
	}{plain: plain(e)}
	if e.ClientSecret != nil {
		out.ClientSecret = json.RawMessage("null")
		if *e.ClientSecret != "" {
			b, err := json.Marshal(*e.ClientSecret)
			if err != nil {
				return nil, err
			}
			out.ClientSecret = b
		}
	}
	return json.Marshal(out)
}

// SSOReport is what a look at a provider found.
type SSOReport struct {
	OK                    bool     `json:"ok"`
	Problem               string   `json:"problem,omitempty"`
	Issuer                string   `json:"issuer"`
	CallbackPath          string   `json:"callback_path"`
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string   `json:"token_endpoint,omitempty"`
	UserInfoEndpoint      string   `json:"userinfo_endpoint,omitempty"`
	JWKSURI               string   `json:"jwks_uri,omitempty"`
	Algorithms            []string `json:"algorithms" nullable:"false" doc:"Those that it signs ID tokens with, as it says."`
	Scopes                []string `json:"scopes" nullable:"false"`
	Claims                []string `json:"claims" nullable:"false"`
	NamesItself           bool     `json:"names_itself" doc:"Whether its answers carry iss (RFC 9207)."`
}

type ssoResult struct {
	Provider SSOProvider `json:"provider"`
}

func (c *Client) ssoProvider(ctx context.Context, k call) (SSOProvider, error) {
	var out ssoResult
	a, err := c.do(ctx, k, &out)
	out.Provider.ETag = a.etag
	return out.Provider, err
}

// ListSSOProviders reads the single sign-on providers.
func (c *Client) ListSSOProviders(ctx context.Context) ([]SSOProvider, error) {
	var out struct {
		Providers []SSOProvider `json:"providers"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("auth", "sso")}, &out)
	return out.Providers, err
}

// GetSSOProvider reads a provider, by its id or its name.
func (c *Client) GetSSOProvider(ctx context.Context, id string) (SSOProvider, error) {
	return c.ssoProvider(ctx, call{method: http.MethodGet, path: path("auth", "sso", id)})
}

// CreateSSOProvider adds a provider.
func (c *Client) CreateSSOProvider(ctx context.Context, e SSOEdit) (SSOProvider, error) {
	return c.ssoProvider(ctx, call{method: http.MethodPost, path: path("auth", "sso"), body: e})
}

// UpdateSSOProvider changes a provider.
func (c *Client) UpdateSSOProvider(ctx context.Context, id string, e SSOEdit) (SSOProvider, error) {
	return c.ssoProvider(ctx, call{method: http.MethodPatch, path: path("auth", "sso", id), body: e, ifMatch: e.IfMatch})
}

// DeleteSSOProvider removes a provider.
func (c *Client) DeleteSSOProvider(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("auth", "sso", id)}, nil)
	return err
}

// TestSSOProvider asks a provider what it is.
func (c *Client) TestSSOProvider(ctx context.Context, id string) (SSOReport, error) {
	var out struct {
		Report SSOReport `json:"report"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "sso", id, "test")}, &out)
	return out.Report, err
}
