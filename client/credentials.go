package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// OAuth is the readable part of an OAuth credential.
type OAuth struct {
	ExpiresAt               *time.Time `json:"expires_at,omitempty" doc:"When the access token expires."`
	Scopes                  []string   `json:"scopes,omitempty" nullable:"false" maxItems:"100" maxLength:"255" doc:"The scopes that were granted."`
	ClientID                string     `json:"client_id,omitempty" maxLength:"255" doc:"The client id at the provider."`
	TokenEndpoint           string     `json:"token_endpoint,omitempty" maxLength:"2048" doc:"Where tokens are refreshed; https."`
	TokenEndpointAuthMethod string     `json:"token_endpoint_auth_method,omitempty" doc:"client_secret_basic, client_secret_post or none."`
	TokenRequestFormat      string     `json:"token_request_format,omitempty" doc:"form or json."`
	Resource                string     `json:"resource,omitempty" doc:"What the tokens are for (RFC 8707)."`
	GrantType               string     `json:"grant_type,omitempty" doc:"client_credentials, or empty."`
}

// Credential is what may be read of a stored secret set. It never contains a secret.
type Credential struct {
	ID               string     `json:"id"`
	Type             string     `json:"type"`
	Name             string     `json:"name"`
	AccountID        string     `json:"account_id,omitempty" doc:"Of accounts only; unique among them."`
	Provider         string     `json:"provider,omitempty"`
	Description      string     `json:"description,omitempty"`
	Username         string     `json:"username,omitempty"`
	BaseURL          string     `json:"base_url,omitempty"`
	Hosts            []string   `json:"hosts" nullable:"false" doc:"The hosts that the secret may be sent to; none means that of base_url."`
	Inject           *Inject    `json:"inject,omitempty" doc:"How the secret goes into a request; absent where the type's own way is used."`
	InjectProblem    string     `json:"inject_problem,omitempty" doc:"Why the credential could not go into a request as it is stored, although it has a base_url or an inject."`
	Methods          []string   `json:"methods" nullable:"false" doc:"The HTTP methods that a request with it may have; none means all."`
	Paths            []string   `json:"paths" nullable:"false" doc:"Patterns of the paths below base_url that a request with it may have; none means all."`
	ExternalURL      string     `json:"external_url,omitempty"`
	InternalURL      string     `json:"internal_url,omitempty"`
	Port             int        `json:"port,omitempty"`
	RequiresVPN      bool       `json:"requires_vpn"`
	Requires2FA      bool       `json:"requires_2fa"`
	Tags             []string   `json:"tags" nullable:"false"`
	HasNotes         bool       `json:"has_notes"`
	Notes            string     `json:"notes,omitempty" doc:"Sealed at rest; only in the answer to a read of one credential."`
	Owner            string     `json:"owner,omitempty"`
	ClientID         string     `json:"client_id,omitempty"`
	ServiceID        string     `json:"service_id,omitempty"`
	InfrastructureID string     `json:"infrastructure_id,omitempty"`
	PluginName       string     `json:"plugin_name,omitempty"`
	OAuth            *OAuth     `json:"oauth,omitempty"`
	Status           string     `json:"status" doc:"active, expiring, expired, disabled or compromised."`
	Health           string     `json:"health,omitempty" doc:"Of OAuth credentials: healthy, refresh_failing, refresh_uncertain or needs_login."`
	Upstream         *Upstream  `json:"upstream,omitempty" doc:"Of accounts: how their requests go out; absent for the server's own way."`
	Lending          *Lending   `json:"lending,omitempty" doc:"Of an account that somebody has paused or drained; absent while it is lent as usual."`
	Tampered         bool       `json:"tampered,omitempty" doc:"It was changed outside Signalbox, so it is neither lent nor revealed until its destinations are set anew. Only in the answer to a read of one credential; lists do not look."`
	Version          int64      `json:"version" doc:"Counts the versions of the secret, from 1."`
	SecretFields     []string   `json:"secret_fields" nullable:"false" doc:"The names of the secret fields that are set."`
	Suffix           string     `json:"suffix,omitempty" doc:"The last four characters of keys and tokens of at least 16."`
	Facts            *Facts     `json:"facts,omitempty" doc:"What was derived from the secret, of certificates, tokens, SSH keys and connection strings. Not in lists."`
	ExpiresAt        *time.Time `json:"expires_at,omitempty"`
	RotateEveryDays  int        `json:"rotate_every_days,omitempty"`
	LastRotatedAt    *time.Time `json:"last_rotated_at,omitempty"`
	RotationDueAt    *time.Time `json:"rotation_due_at,omitempty" doc:"When it is to be rotated: rotate_every_days after it was last rotated, or stored; since when at once, where it was contained for that."`
	LastUsedAt       *time.Time `json:"last_used_at,omitempty" doc:"When it was last lent or revealed. What another instance lent is told half a minute late; it has no part in the ETag."`
	CreatedAt        time.Time  `json:"created_at"`
	UpdatedAt        time.Time  `json:"updated_at"`
	// ETag names this state; give it as IfMatch to change only what you have read. It travels as a header.
	ETag string `json:"-"`
}

// CredentialDraft is a credential to be stored. Only Type, Name, and Secrets or Generate are required.
type CredentialDraft struct {
	Type             string            `json:"type"`
	Name             string            `json:"name"`
	AccountID        string            `json:"account_id,omitempty"`
	Provider         string            `json:"provider,omitempty"`
	Description      string            `json:"description,omitempty"`
	Username         string            `json:"username,omitempty"`
	BaseURL          string            `json:"base_url,omitempty"`
	Hosts            []string          `json:"hosts,omitempty"`
	Inject           *Inject           `json:"inject,omitempty"`
	Methods          []string          `json:"methods,omitempty"`
	Paths            []string          `json:"paths,omitempty"`
	ExternalURL      string            `json:"external_url,omitempty"`
	InternalURL      string            `json:"internal_url,omitempty"`
	Port             int               `json:"port,omitempty"`
	RequiresVPN      bool              `json:"requires_vpn,omitempty"`
	Requires2FA      bool              `json:"requires_2fa,omitempty"`
	Tags             []string          `json:"tags,omitempty"`
	Notes            string            `json:"notes,omitempty"`
	Owner            string            `json:"owner,omitempty"`
	ClientID         string            `json:"client_id,omitempty"`
	ServiceID        string            `json:"service_id,omitempty"`
	InfrastructureID string            `json:"infrastructure_id,omitempty"`
	PluginName       string            `json:"plugin_name,omitempty"`
	OAuth            *OAuth            `json:"oauth,omitempty"`
	Upstream         *Upstream         `json:"upstream,omitempty"`
	ExpiresAt        *time.Time        `json:"expires_at,omitempty"`
	RotateEveryDays  int               `json:"rotate_every_days,omitempty"`
	Secrets          map[string]string `json:"secrets,omitempty"`
	// Generate are secret fields that the server makes, in the place of Secrets.
	Generate map[string]Generate `json:"generate,omitempty"`
}

// CredentialPatch changes a credential (RFC 7396): nil leaves a field as it is, a name in Clear empties it. Secrets make a new version.
type CredentialPatch struct {
	Name        *string   `json:"name,omitempty"`
	AccountID   *string   `json:"account_id,omitempty"`
	Provider    *string   `json:"provider,omitempty"`
	Description *string   `json:"description,omitempty"`
	Username    *string   `json:"username,omitempty"`
	BaseURL     *string   `json:"base_url,omitempty"`
	Hosts       *[]string `json:"hosts,omitempty"`
	// Inject replaces what it names; a type without a name lets go of the one that was there, and the name in Clear brings the type's own way back.
	Inject           *Inject   `json:"inject,omitempty"`
	Methods          *[]string `json:"methods,omitempty"`
	Paths            *[]string `json:"paths,omitempty"`
	ExternalURL      *string   `json:"external_url,omitempty"`
	InternalURL      *string   `json:"internal_url,omitempty"`
	Port             *int      `json:"port,omitempty"`
	RequiresVPN      *bool     `json:"requires_vpn,omitempty"`
	Requires2FA      *bool     `json:"requires_2fa,omitempty"`
	Tags             *[]string `json:"tags,omitempty"`
	Notes            *string   `json:"notes,omitempty"`
	Owner            *string   `json:"owner,omitempty"`
	ClientID         *string   `json:"client_id,omitempty"`
	ServiceID        *string   `json:"service_id,omitempty"`
	InfrastructureID *string   `json:"infrastructure_id,omitempty"`
	PluginName       *string   `json:"plugin_name,omitempty"`
	OAuth            *OAuth    `json:"oauth,omitempty"`
	// Upstream replaces what it names; the name in Clear brings the server's own way back.
	Upstream        *UpstreamPatch `json:"upstream,omitempty"`
	ExpiresAt       *time.Time     `json:"expires_at,omitempty"`
	RotateEveryDays *int           `json:"rotate_every_days,omitempty"`
	// Status may be set to active, disabled or compromised; the other statuses come with time.
	Status *string `json:"status,omitempty"`
	// Secrets that are named make a new version, nil removes one, the others stay. Reason is kept with the version.
	Secrets map[string]*string `json:"secrets,omitempty"`
	Reason  string             `json:"reason,omitempty"`
	// Clear names the fields (by their JSON names) to be emptied; they are sent as null.
	Clear []string `json:"-"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// MarshalJSON writes the set fields, and null for each name in Clear.
func (p CredentialPatch) MarshalJSON() ([]byte, error) {
	type plain CredentialPatch
	return merge(plain(p), p.Clear)
}

// merge encodes v and adds a null for each name.
func merge(v any, clear []string) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(clear) == 0 {
		return b, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	for _, name := range clear {
		m[name] = json.RawMessage("null")
	}
	return json.Marshal(m)
}

// CredentialFilter selects credentials. Zero fields do not select.
type CredentialFilter struct {
	Type, Provider, ClientID, ServiceID, InfrastructureID string
	TrainID                                               string // only what is linked to this train (slug or id)
	Owner, PluginName, Tag, Status, Health                string
	ExpiresBefore, RotationDueBefore                      *time.Time
	Q                                                     string // words that must occur in the metadata
	Limit                                                 int    // 0 means 100; at most 1000
	Cursor                                                string
	Skip                                                  int
}

func (f CredentialFilter) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{
		"type": f.Type, "provider": f.Provider, "client_id": f.ClientID, "service_id": f.ServiceID, "infrastructure_id": f.InfrastructureID,
		"train_id": f.TrainID, "owner": f.Owner, "plugin_name": f.PluginName, "tag": f.Tag, "status": f.Status, "health": f.Health, "q": f.Q, "cursor": f.Cursor,
	} {
		setText(q, name, v)
	}
	setTime(q, "expires_before", f.ExpiresBefore)
	setTime(q, "rotation_due_before", f.RotationDueBefore)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	return q
}

func setText(q url.Values, name, v string) {
	if v != "" {
		q.Set(name, v)
	}
}

func setInt(q url.Values, name string, n int) {
	if n != 0 {
		q.Set(name, strconv.Itoa(n))
	}
}

func setTime(q url.Values, name string, t *time.Time) {
	if t != nil {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// CredentialPage is one page of a list. NextCursor is "" on the last.
type CredentialPage struct {
	Credentials []Credential `json:"credentials" nullable:"false"`
	NextCursor  string       `json:"next_cursor,omitempty"`
}

// CredentialVersion is one version of a credential's secret, without the secret.
type CredentialVersion struct {
	Version        int64      `json:"version"`
	Current        bool       `json:"current"`
	SecretFields   []string   `json:"secret_fields" nullable:"false"`
	Suffix         string     `json:"suffix,omitempty"`
	TokenExpiresAt *time.Time `json:"token_expires_at,omitempty" doc:"When the access token of an OAuth credential expires."`
	Reason         string     `json:"reason,omitempty"`
	RestoredFrom   int64      `json:"restored_from,omitempty" doc:"The version that this one repeats."`
	CreatedBy      string     `json:"created_by,omitempty"`
	CreatedByName  string     `json:"created_by_name,omitempty"`
	CreatedAt      time.Time  `json:"created_at"`
}

type credentialBody struct {
	Credential Credential `json:"credential"`
}

func (c *Client) credential(ctx context.Context, k call) (Credential, error) {
	var out credentialBody
	a, err := c.do(ctx, k, &out)
	out.Credential.ETag = a.etag
	return out.Credential, err
}

// CreateCredential stores a credential.
func (c *Client) CreateCredential(ctx context.Context, d CredentialDraft) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPost, path: path("credentials"), body: d})
}

// ListCredentials returns one page of the credentials that f selects.
func (c *Client) ListCredentials(ctx context.Context, f CredentialFilter) (CredentialPage, error) {
	var out CredentialPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("credentials"), query: f.query()}, &out)
	return out, err
}

// CredentialsByClient is [Client.ListCredentials] for one client of a service provider; f.ClientID is not used.
func (c *Client) CredentialsByClient(ctx context.Context, clientID string, f CredentialFilter) (CredentialPage, error) {
	var out CredentialPage
	f.ClientID = ""
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("credentials", "by-client", clientID), query: f.query()}, &out)
	return out, err
}

// GetCredential returns one credential's metadata.
func (c *Client) GetCredential(ctx context.Context, id string) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodGet, path: path("credentials", id)})
}

// UpdateCredential changes a credential and returns its new state.
func (c *Client) UpdateCredential(ctx context.Context, id string, p CredentialPatch) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPatch, path: path("credentials", id), body: p, ifMatch: p.IfMatch})
}

// DeleteCredential deletes a credential and destroys the sealed material of all its versions.
func (c *Client) DeleteCredential(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("credentials", id)}, nil)
	return err
}

// RotateRequest is a new version of a secret.
type RotateRequest struct {
	Secrets map[string]string `json:"secrets,omitempty"`
	// Generate are secret fields that the server makes.
	Generate map[string]Generate `json:"generate,omitempty"`
	Reason   string              `json:"reason,omitempty"`
}

// RotateCredential makes a new version of a credential's secret.
func (c *Client) RotateCredential(ctx context.Context, id string, secrets map[string]string, reason string) (Credential, error) {
	return c.Rotate(ctx, id, RotateRequest{Secrets: secrets, Reason: reason})
}

// Rotate makes a new version of a credential's secret, of what is given and what the server makes.
func (c *Client) Rotate(ctx context.Context, id string, r RotateRequest) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPost, path: path("credentials", id, "rotate"), body: r})
}

// RevealRequest asks for one secret field, with the reason that is recorded.
type RevealRequest struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// Revealed is one decrypted field.
type Revealed struct {
	Field string `json:"field"`
	Value string `json:"value"`
}

// RevealCredential decrypts one secret field. The server records who, which and why before it answers.
func (c *Client) RevealCredential(ctx context.Context, id, field, reason string) (string, error) {
	var out Revealed
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("credentials", id, "reveal"), body: RevealRequest{Field: field, Reason: reason}}, &out)
	return out.Value, err
}

// CredentialVersions lists the versions of a credential's secret, the newest first.
func (c *Client) CredentialVersions(ctx context.Context, id string) ([]CredentialVersion, error) {
	var out struct {
		Versions []CredentialVersion `json:"versions"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("credentials", id, "versions")}, &out)
	return out.Versions, err
}

// RestoreCredential makes a new version with the secret of an older one.
func (c *Client) RestoreCredential(ctx context.Context, id string, version int64) (Credential, error) {
	return c.credential(ctx, call{method: http.MethodPost, path: path("credentials", id, "versions", strconv.FormatInt(version, 10), "restore")})
}
