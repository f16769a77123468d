package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oidc"
)

// trust is when a sign-in elsewhere counts for a second factor.
type trust string

// Schema lists the grades.
func (trust) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, t := range identity.SecondFactorTrusts() {
		s.Enum = append(s.Enum, string(t))
	}
	return s
}

// optionalRole is a role, or empty for none.
type optionalRole string

// Schema lists the roles and the empty text.
func (optionalRole) Schema(r huma.Registry) *huma.Schema {
	s := role("").Schema(r)
	s.Enum = append(s.Enum, "")
	return s
}

type roleMappings []client.SSORole

// Schema describes the list.
func (roleMappings) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, MaxItems: size(100), Items: &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"group", "role"},
		Properties: map[string]*huma.Schema{"group": {Type: huma.TypeString, MinLength: size(1), MaxLength: size(256)}, "role": role("").Schema(r)},
	}}
}

type groupMappings []client.SSOGroup

// Schema describes the list.
func (groupMappings) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, MaxItems: size(100), Items: &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"group", "group_id"},
		Properties: map[string]*huma.Schema{
			"group":    {Type: huma.TypeString, MinLength: size(1), MaxLength: size(256), Description: "As the provider calls it."},
			"group_id": {Type: huma.TypeString, MinLength: size(1), MaxLength: size(100), Description: "The id or the name of the group here."},
		},
	}}
}

type lines []string

// Schema describes the list.
func (lines) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, MaxItems: size(100), Items: &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(255)}}
}

// SSOFields are what can be set of a provider. The name is exported because a body embeds it.
type SSOFields struct {
	Enabled        edit[bool]          `json:"enabled,omitempty" doc:"Nobody signs in with one that is not."`
	Label          edit[string]        `json:"label,omitempty" maxLength:"100" doc:"On the button of the sign-in page; the name when it is left out."`
	Issuer         edit[string]        `json:"issuer,omitempty" maxLength:"500" doc:"The provider's issuer, to the last character as it calls itself."`
	ClientID       edit[string]        `json:"client_id,omitempty" maxLength:"255"`
	ClientSecret   edit[hidden]        `json:"client_secret,omitempty" maxLength:"2048" doc:"Left out for a public client; null removes it. A change of issuer needs it anew."`
	Scopes         edit[lines]         `json:"scopes,omitempty" doc:"Besides openid; profile and email when it is left out."`
	EmailClaim     edit[string]        `json:"email_claim,omitempty" maxLength:"100" doc:"email when it is left out. Claims may be paths, as realm_access.roles."`
	VerifiedClaim  edit[string]        `json:"verified_claim,omitempty" maxLength:"100" doc:"The claim that is true when the provider vouches for the address; email_verified when it is left out."`
	NameClaim      edit[string]        `json:"name_claim,omitempty" maxLength:"100"`
	GroupsClaim    edit[string]        `json:"groups_claim,omitempty" maxLength:"100" doc:"A list of texts."`
	AllowedDomains edit[lines]         `json:"allowed_domains,omitempty" doc:"Only verified addresses of these domains sign in; sub-domains are domains of their own. Empty: everybody whom the provider knows."`
	LinkDomains    edit[lines]         `json:"link_domains,omitempty" doc:"For verified addresses of these domains the provider may say that somebody is the person here who has the address. Only of domains that are yours at that provider."`
	CreatePeople   edit[bool]          `json:"create_people,omitempty" doc:"Add who is not here yet."`
	Roles          edit[roleMappings]  `json:"roles,omitempty" doc:"Groups decide on roles, at each sign-in; of several the highest counts."`
	DefaultRole    edit[optionalRole]  `json:"default_role,omitempty" doc:"The role of who is in none of the groups, or of somebody new. Without it they are refused."`
	Groups         edit[groupMappings] `json:"groups,omitempty" doc:"Groups at the provider give membership in groups here: given and taken back at each sign-in, and taken back at once when a row goes. What is given by hand stays."`
	SecondFactor   edit[trust]         `json:"second_factor,omitempty" doc:"Whether a sign-in there counts for a second factor: never, the default; claims: when amr has mfa or acr is one of acr_values; always."`
	ACRValues      edit[lines]         `json:"acr_values,omitempty"`
}

type ssoDraft struct {
	Name string `json:"name" minLength:"1" maxLength:"32" doc:"In addresses: lower-case letters, digits and dashes. It never changes."`
	SSOFields
}

func texted[T ~string, U ~string](p *T) *U {
	if p == nil {
		return nil
	}
	v := U(*p)
	return &v
}

func linesOf(p *lines) *[]string {
	if p == nil {
		return nil
	}
	v := append([]string{}, *p...)
	return &v
}

func (f SSOFields) edit() identity.SSOEdit {
	e := identity.SSOEdit{
		Enabled: f.Enabled.pointer(), Label: f.Label.pointer(), Issuer: f.Issuer.pointer(), ClientID: f.ClientID.pointer(), Scopes: linesOf(f.Scopes.pointer()),
		EmailClaim: f.EmailClaim.pointer(), VerifiedClaim: f.VerifiedClaim.pointer(), NameClaim: f.NameClaim.pointer(), GroupsClaim: f.GroupsClaim.pointer(),
		AllowedDomains: linesOf(f.AllowedDomains.pointer()), LinkDomains: linesOf(f.LinkDomains.pointer()), CreatePeople: f.CreatePeople.pointer(),
		DefaultRole: texted[optionalRole, identity.Role](f.DefaultRole.pointer()), SecondFactor: texted[trust, identity.SecondFactorTrust](f.SecondFactor.pointer()),
		ACRValues: linesOf(f.ACRValues.pointer()),
	}
	if p := f.ClientSecret.pointer(); p != nil {
		e.Secret = &p.Value
	}
	if p := f.Roles.pointer(); p != nil {
		rows := make([]identity.RoleMapping, len(*p))
		for i, row := range *p {
			rows[i] = identity.RoleMapping{Group: row.Group, Role: identity.Role(row.Role)}
		}
		e.Roles = &rows
	}
	if p := f.Groups.pointer(); p != nil {
		rows := make([]identity.GroupMapping, len(*p))
		for i, row := range *p {
			rows[i] = identity.GroupMapping{Group: row.Group, ID: row.GroupID}
		}
		e.Groups = &rows
	}
	return e
}

type ssoAnswer struct {
	ETag string `header:"ETag" doc:"Names this state of the provider, for If-Match."`
	Body struct {
		Provider client.SSOProvider `json:"provider"`
	}
}

func ssoOut(p identity.SSOProvider, err error) (*ssoAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &ssoAnswer{ETag: p.ETag()}
	out.Body.Provider = shownSSO(p)
	return out, nil
}

func shownSSO(p identity.SSOProvider) client.SSOProvider {
	out := client.SSOProvider{
		ID: p.ID, Name: p.Name, Enabled: p.Enabled, Label: p.Label, Issuer: p.Issuer, ClientID: p.ClientID, HasClientSecret: p.HasSecret, CallbackPath: p.CallbackPath(),
		Scopes: some(p.Scopes), EmailClaim: p.EmailClaim, VerifiedClaim: p.VerifiedClaim, NameClaim: p.NameClaim, GroupsClaim: p.GroupsClaim, AllowedDomains: some(p.AllowedDomains),
		LinkDomains: some(p.LinkDomains), CreatePeople: p.CreatePeople, Roles: make([]client.SSORole, len(p.Roles)), DefaultRole: string(p.DefaultRole), Groups: make([]client.SSOGroup, len(p.Groups)),
		SecondFactor: string(p.SecondFactor), ACRValues: some(p.ACRValues), CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	for i, row := range p.Roles {
		out.Roles[i] = client.SSORole{Group: row.Group, Role: string(row.Role)}
	}
	for i, row := range p.Groups {
		out.Groups[i] = client.SSOGroup{Group: row.Group, GroupID: row.ID, GroupName: row.Name}
	}
	return out
}

// some is the list, never null.
func some(list []string) []string { return append([]string{}, list...) }

func (s *service) addSSO() {
	const tag, all, one = "single sign-on", "/api/auth/sso", "/api/auth/sso/{id}"
	access := string(identity.SSOWrite)
	add(s, route{method: http.MethodGet, path: all, id: "list-sso-providers", summary: "List the single sign-on providers", tag: tag, access: access}, s.listSSO)
	add(s, route{method: http.MethodPost, path: all, id: "create-sso-provider", summary: "Add a single sign-on provider", tag: tag, access: access, status: http.StatusCreated,
		description: "Needed are name, issuer and client_id, and default_role or roles with create_people. Nothing is asked of the provider yet."}, s.createSSO)
	add(s, route{method: http.MethodGet, path: one, id: "get-sso-provider", summary: "Read a single sign-on provider", tag: tag, description: "By its id or its name.", access: access}, s.getSSO)
	for _, r := range []route{
		{method: http.MethodPatch, id: "patch-sso-provider", summary: "Change a single sign-on provider"},
		{method: http.MethodPut, id: "put-sso-provider", summary: "Change a single sign-on provider, as PATCH does"},
	} {
		r.path, r.tag, r.access, r.description = one, tag, access, "Sign-ins that have begun there are void."
		add(s, r, s.updateSSO)
	}
	add(s, route{method: http.MethodDelete, path: one, id: "delete-sso-provider", summary: "Delete a single sign-on provider", tag: tag, access: access,
		description: "Sessions go on until they end. Who was linked to its issuer is again when a provider of that issuer is added."}, s.deleteSSO)
	add(s, route{method: http.MethodPost, path: one + "/test", id: "test-sso-provider", summary: "Ask a single sign-on provider what it is", tag: tag, access: access,
		description: "What is wrong is in the report."}, s.testSSO)
}

func (s *service) listSSO(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct {
	Body struct {
		Providers []client.SSOProvider `json:"providers" nullable:"false"`
	}
}, error) {
	list, err := s.Identity.SSOProviders(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Providers []client.SSOProvider `json:"providers" nullable:"false"`
		}
	}{}
	out.Body.Providers = make([]client.SSOProvider, len(list))
	for i, p := range list {
		out.Body.Providers[i] = shownSSO(p)
	}
	return out, nil
}

func (s *service) createSSO(ctx context.Context, caller identity.Caller, in *struct{ Body ssoDraft }) (*ssoAnswer, error) {
	e := in.Body.edit()
	e.Name = &in.Body.Name
	return ssoOut(s.Identity.CreateSSOProvider(ctx, caller, e))
}

func (s *service) getSSO(ctx context.Context, caller identity.Caller, in *ByID) (*ssoAnswer, error) {
	return ssoOut(s.Identity.SSOProvider(ctx, caller, in.ID))
}

func (s *service) updateSSO(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body SSOFields
}) (*ssoAnswer, error) {
	e := in.Body.edit()
	e.IfMatch = in.IfMatch.IfMatch
	return ssoOut(s.Identity.UpdateSSOProvider(ctx, caller, in.ID, e))
}

func (s *service) deleteSSO(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Identity.DeleteSSOProvider(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) testSSO(ctx context.Context, caller identity.Caller, in *ByID) (*struct {
	Body struct {
		Report client.SSOReport `json:"report"`
	}
}, error) {
	got, err := s.Identity.TestSSOProvider(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Report client.SSOReport `json:"report"`
		}
	}{}
	out.Body.Report = shownReport(got.Provider, got.Found, got.Problem)
	return out, nil
}

func shownReport(p identity.SSOProvider, m oidc.Metadata, problem string) client.SSOReport {
	return client.SSOReport{
		OK: problem == "", Problem: problem, Issuer: p.Issuer, CallbackPath: p.CallbackPath(), AuthorizationEndpoint: m.Authorization, TokenEndpoint: m.Token,
		UserInfoEndpoint: m.UserInfo, JWKSURI: m.Keys, Algorithms: some(m.Algorithms), Scopes: some(m.Scopes), Claims: some(m.Claims), NamesItself: m.NamesItself,
	}
}
