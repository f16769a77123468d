package api

import (
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/vault"
)

// oauthDraft is the readable part of an OAuth credential, as it comes in. The lengths mirror the columns.
type oauthDraft struct {
	ExpiresAt               *time.Time    `json:"expires_at,omitempty" doc:"When the access token expires."`
	Scopes                  texts         `json:"scopes,omitempty"`
	ClientID                string        `json:"client_id,omitempty" maxLength:"255"`
	TokenEndpoint           string        `json:"token_endpoint,omitempty" maxLength:"2048" doc:"Where tokens are refreshed; https."`
	TokenEndpointAuthMethod authMethod    `json:"token_endpoint_auth_method,omitempty"`
	TokenRequestFormat      requestFormat `json:"token_request_format,omitempty"`
	Resource                string        `json:"resource,omitempty" maxLength:"2048" doc:"What the tokens are for (RFC 8707); sent with each refresh."`
	GrantType               grantType     `json:"grant_type,omitempty" doc:"How tokens come, when it is not by somebody's consent."`
}

// credentialDraft is a credential to be stored.
type credentialDraft struct {
	Type             credentialType `json:"type"`
	Name             string         `json:"name" minLength:"1" maxLength:"200"`
	AccountID        string         `json:"account_id,omitempty" maxLength:"204" doc:"Of accounts only; acc_ and the name when it is left out."`
	Provider         string         `json:"provider,omitempty" maxLength:"100"`
	Description      string         `json:"description,omitempty" maxLength:"2000"`
	Username         string         `json:"username,omitempty" maxLength:"320"`
	BaseURL          string         `json:"base_url,omitempty" maxLength:"2048" doc:"Where the credential is used."`
	Hosts            texts          `json:"hosts,omitempty" maxItems:"50" doc:"The hosts that the secret may be sent to; that of base_url when it is left out."`
	Inject           *injectDraft   `json:"inject,omitempty" doc:"How the secret goes into a request; the type's own way when it is left out."`
	Methods          texts          `json:"methods,omitempty" maxItems:"32" doc:"The HTTP methods that a request with it may have; all when it is left out."`
	Paths            patterns       `json:"paths,omitempty" doc:"Patterns of the paths below base_url that a request with it may have; all when it is left out. A star is one whole segment, /** at the end everything below."`
	ExternalURL      string         `json:"external_url,omitempty" maxLength:"2048"`
	InternalURL      string         `json:"internal_url,omitempty" maxLength:"2048"`
	Port             int            `json:"port,omitempty" minimum:"0" maximum:"65535"`
	RequiresVPN      bool           `json:"requires_vpn,omitempty"`
	Requires2FA      bool           `json:"requires_2fa,omitempty"`
	Tags             texts          `json:"tags,omitempty" maxItems:"50" maxLength:"100"`
	Notes            hidden         `json:"notes,omitempty" minLength:"0" maxLength:"10000" doc:"Sealed at rest."`
	Owner            string         `json:"owner,omitempty" maxLength:"200"`
	ClientID         string         `json:"client_id,omitempty" maxLength:"100"`
	ServiceID        string         `json:"service_id,omitempty" maxLength:"100"`
	InfrastructureID string         `json:"infrastructure_id,omitempty" maxLength:"100"`
	PluginName       string         `json:"plugin_name,omitempty" maxLength:"100"`
	OAuth            *oauthDraft    `json:"oauth,omitempty"`
	Upstream         *upstreamDraft `json:"upstream,omitempty" doc:"Of accounts: how their requests go out."`
	ExpiresAt        *time.Time     `json:"expires_at,omitempty"`
	RotateEveryDays  int            `json:"rotate_every_days,omitempty" minimum:"0" maximum:"3650"`
	Secrets          secretFields   `json:"secrets,omitempty" doc:"The secret fields of the type."`
	Generate         generates      `json:"generate,omitempty" doc:"Secret fields that Signalbox makes, in the place of secrets. The answer has the public key of a pair and never the secret."`
}

func (d credentialDraft) vault() vault.Draft {
	out := vault.Draft{
		Type: vault.Type(d.Type),
		Meta: vault.Meta{
			Name: d.Name, AccountID: d.AccountID, Provider: d.Provider, Description: d.Description, Username: d.Username, BaseURL: d.BaseURL,
			ExternalURL: d.ExternalURL, InternalURL: d.InternalURL, Port: d.Port, RequiresVPN: d.RequiresVPN, Requires2FA: d.Requires2FA,
			Tags: d.Tags, Hosts: d.Hosts, ExpiresAt: d.ExpiresAt, RotateEvery: d.RotateEveryDays, Owner: d.Owner, ClientID: d.ClientID,
			ServiceID: d.ServiceID, InfrastructureID: d.InfrastructureID, PluginName: d.PluginName, Upstream: d.Upstream.vault(), Inject: d.Inject.vault(), Methods: d.Methods, Paths: d.Paths,
		},
		Notes: d.Notes.Value, Secrets: d.Secrets.values(), Generate: d.Generate.vault(),
	}
	if o := d.OAuth; o != nil {
		out.OAuth = vault.OAuthMeta{
			ExpiresAt: o.ExpiresAt, Scopes: o.Scopes, ClientID: o.ClientID, TokenEndpoint: o.TokenEndpoint,
			AuthMethod: string(o.TokenEndpointAuthMethod), RequestFormat: string(o.TokenRequestFormat), Resource: o.Resource, GrantType: string(o.GrantType),
		}
	}
	return out
}

// oauthPatch is the merge patch of the oauth block.
type oauthPatch struct {
	ExpiresAt               edit[time.Time]     `json:"expires_at,omitempty"`
	Scopes                  edit[texts]         `json:"scopes,omitempty"`
	ClientID                edit[string]        `json:"client_id,omitempty" maxLength:"255"`
	TokenEndpoint           edit[string]        `json:"token_endpoint,omitempty" maxLength:"2048"`
	TokenEndpointAuthMethod edit[authMethod]    `json:"token_endpoint_auth_method,omitempty"`
	TokenRequestFormat      edit[requestFormat] `json:"token_request_format,omitempty"`
	Resource                edit[string]        `json:"resource,omitempty" maxLength:"2048"`
	GrantType               edit[grantType]     `json:"grant_type,omitempty"`
}

// credentialPatch is a merge patch of a credential: an absent field stays, null empties one.
type credentialPatch struct {
	Name             *string             `json:"name,omitempty" minLength:"1" maxLength:"200"`
	AccountID        edit[string]        `json:"account_id,omitempty" maxLength:"204"`
	Provider         edit[string]        `json:"provider,omitempty" maxLength:"100"`
	Description      edit[string]        `json:"description,omitempty" maxLength:"2000"`
	Username         edit[string]        `json:"username,omitempty" maxLength:"320"`
	BaseURL          edit[string]        `json:"base_url,omitempty" maxLength:"2048"`
	Hosts            edit[texts]         `json:"hosts,omitempty" maxItems:"50"`
	Inject           edit[injectPatch]   `json:"inject,omitempty" doc:"How the secret goes into a request; null brings the type's own way back. A type that takes no name lets go of the one that was there."`
	Methods          edit[texts]         `json:"methods,omitempty" maxItems:"32"`
	Paths            edit[patterns]      `json:"paths,omitempty"`
	ExternalURL      edit[string]        `json:"external_url,omitempty" maxLength:"2048"`
	InternalURL      edit[string]        `json:"internal_url,omitempty" maxLength:"2048"`
	Port             edit[int]           `json:"port,omitempty" minimum:"0" maximum:"65535"`
	RequiresVPN      edit[bool]          `json:"requires_vpn,omitempty"`
	Requires2FA      edit[bool]          `json:"requires_2fa,omitempty"`
	Tags             edit[texts]         `json:"tags,omitempty" maxItems:"50" maxLength:"100"`
	Notes            edit[hidden]        `json:"notes,omitempty" minLength:"0" maxLength:"10000"`
	Owner            edit[string]        `json:"owner,omitempty" maxLength:"200"`
	ClientID         edit[string]        `json:"client_id,omitempty" maxLength:"100"`
	ServiceID        edit[string]        `json:"service_id,omitempty" maxLength:"100"`
	InfrastructureID edit[string]        `json:"infrastructure_id,omitempty" maxLength:"100"`
	PluginName       edit[string]        `json:"plugin_name,omitempty" maxLength:"100"`
	OAuth            edit[oauthPatch]    `json:"oauth,omitempty"`
	Upstream         edit[upstreamPatch] `json:"upstream,omitempty" doc:"Of accounts: how their requests go out; null brings the server's own way back."`
	ExpiresAt        edit[time.Time]     `json:"expires_at,omitempty"`
	RotateEveryDays  edit[int]           `json:"rotate_every_days,omitempty" minimum:"0" maximum:"3650"`
	Status           *string             `json:"status,omitempty" enum:"active,disabled,compromised" doc:"The other statuses come with time."`
	Secrets          secretEdits         `json:"secrets,omitempty" doc:"A new version: named fields are set or, with null, removed; the others stay."`
	Reason           string              `json:"reason,omitempty" maxLength:"500" doc:"Why the secrets change; kept with the version."`
}

func (p credentialPatch) vault() vault.Patch {
	out := vault.Patch{
		AccountID: p.AccountID.vault(), Provider: p.Provider.vault(), Description: p.Description.vault(), Username: p.Username.vault(),
		BaseURL: p.BaseURL.vault(), ExternalURL: p.ExternalURL.vault(), InternalURL: p.InternalURL.vault(), Port: p.Port.vault(),
		RotateEvery: p.RotateEveryDays.vault(), RequiresVPN: p.RequiresVPN.vault(), Requires2FA: p.Requires2FA.vault(),
		Tags: listEdit(p.Tags), Hosts: listEdit(p.Hosts), Notes: secretEdit(p.Notes), ExpiresAt: timeEdit(p.ExpiresAt), Owner: p.Owner.vault(),
		ClientID: p.ClientID.vault(), ServiceID: p.ServiceID.vault(), InfrastructureID: p.InfrastructureID.vault(), PluginName: p.PluginName.vault(),
		Secrets: p.Secrets.values(), Reason: p.Reason, Upstream: upstreamEdit(p.Upstream),
		Inject: injectEdit(p.Inject), Methods: listEdit(p.Methods), Paths: mapped(p.Paths, func(v patterns) []string { return v }),
	}
	if p.Name != nil {
		out.Name = vault.To(*p.Name)
	}
	if p.Status != nil {
		out.State = vault.To(vault.Status(*p.Status))
	}
	if o := p.OAuth.value; p.OAuth.set {
		out.OAuth = vault.OAuthPatch{
			Clear: p.OAuth.null, ExpiresAt: timeEdit(o.ExpiresAt), Scopes: listEdit(o.Scopes), ClientID: o.ClientID.vault(),
			TokenEndpoint: o.TokenEndpoint.vault(), AuthMethod: textEdit(o.TokenEndpointAuthMethod), RequestFormat: textEdit(o.TokenRequestFormat), Resource: o.Resource.vault(), GrantType: textEdit(o.GrantType),
		}
	}
	return out
}

// shownCredential is a credential as it goes out. Notes are shown only where the vault opened them.
func shownCredential(c vault.Credential) client.Credential {
	out := client.Credential{
		ID: c.ID, Type: string(c.Type), Name: c.Name, AccountID: c.AccountID, Provider: c.Provider, Description: c.Description, Username: c.Username,
		BaseURL: c.BaseURL, Hosts: listed(c.Hosts), ExternalURL: c.ExternalURL, InternalURL: c.InternalURL, Port: c.Port, RequiresVPN: c.RequiresVPN,
		Requires2FA: c.Requires2FA, Tags: listed(c.Tags), HasNotes: c.HasNotes, Notes: c.Notes.Reveal(), Owner: c.Owner, ClientID: c.ClientID,
		ServiceID: c.ServiceID, InfrastructureID: c.InfrastructureID, PluginName: c.PluginName, Status: string(c.Status), Health: string(c.Health), Tampered: c.Tampered,
		Version: c.Version, SecretFields: listed(c.SecretFields), Suffix: c.Suffix, Facts: shownFacts(c.Facts), ExpiresAt: c.ExpiresAt, RotateEveryDays: c.RotateEvery,
		LastRotatedAt: c.LastRotatedAt, LastUsedAt: c.LastUsedAt, RotationDueAt: c.RotationDue(), CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, Lending: shownLending(c.Lending),
		Upstream: shownUpstream(c.Upstream), Inject: shownInject(c.Inject), Methods: listed(c.Methods), Paths: listed(c.Paths), InjectProblem: c.InjectWarning(),
	}
	if c.Type == vault.OAuth {
		o := c.OAuth
		out.OAuth = &client.OAuth{
			ExpiresAt: o.ExpiresAt, Scopes: o.Scopes, ClientID: o.ClientID, TokenEndpoint: o.TokenEndpoint, TokenEndpointAuthMethod: o.AuthMethod,
			TokenRequestFormat: o.RequestFormat, Resource: o.Resource, GrantType: o.GrantType,
		}
	}
	return out
}

func shownVersion(v vault.Version) client.CredentialVersion {
	return client.CredentialVersion{
		Version: v.Number, Current: v.Current, SecretFields: listed(v.SecretFields), Suffix: v.Suffix, TokenExpiresAt: v.TokenExpires, Reason: v.Reason,
		RestoredFrom: v.RestoredFrom, CreatedBy: v.CreatedBy, CreatedByName: v.CreatedByName, CreatedAt: v.CreatedAt,
	}
}

// listed makes an absent list an empty one: clients should not have to tell null from [].
func listed(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
