package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
)

type namedTexts []client.NamedText

// Schema describes the list.
func (namedTexts) Schema(huma.Registry) *huma.Schema {
	text := func(most int) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MaxLength: size(most)}
	}
	return &huma.Schema{Type: huma.TypeArray, MaxItems: size(20), Items: &huma.Schema{
		Type: huma.TypeObject, Properties: map[string]*huma.Schema{"name": text(64), "value": text(1024)}, Required: []string{"name", "value"}, AdditionalProperties: false,
	}}
}

// ProviderFields are what can be set of a provider. The name is exported because a body embeds it.
type ProviderFields struct {
	Enabled         edit[bool]          `json:"enabled,omitempty" doc:"Whether one can log in there."`
	TermsRead       bool                `json:"terms_read,omitempty" doc:"You have read why a provider of consumer subscriptions is off; needed to switch it on, and recorded."`
	Title           edit[string]        `json:"title,omitempty" maxLength:"255"`
	Issuer          edit[string]        `json:"issuer,omitempty" maxLength:"2048" doc:"Without authorize_url and token_urls it is asked for its endpoints (RFC 8414, OpenID Connect)."`
	NamesItself     edit[bool]          `json:"names_itself,omitempty" doc:"Its answers carry iss (RFC 9207), and one without it is refused."`
	AuthorizeURL    edit[string]        `json:"authorize_url,omitempty" maxLength:"2048"`
	TokenURLs       edit[texts2048]     `json:"token_urls,omitempty"`
	DeviceURL       edit[string]        `json:"device_url,omitempty" maxLength:"2048"`
	RevokeURL       edit[string]        `json:"revoke_url,omitempty" maxLength:"2048"`
	Scopes          edit[texts]         `json:"scopes,omitempty"`
	ScopeSeparator  edit[string]        `json:"scope_separator,omitempty" maxLength:"8" doc:"A space when it is left out."`
	ClientID        edit[string]        `json:"client_id,omitempty" maxLength:"255"`
	ClientSecret    edit[hidden]        `json:"client_secret,omitempty" maxLength:"2048" doc:"Null removes it. With another client or other addresses it must be given anew."`
	Auth            edit[authMethod]    `json:"auth,omitempty"`
	Format          edit[requestFormat] `json:"format,omitempty"`
	AuthorizeParams edit[namedTexts]    `json:"authorize_params,omitempty"`
	TokenHeaders    edit[namedTexts]    `json:"token_headers,omitempty"`
	StateInExchange edit[bool]          `json:"state_in_exchange,omitempty"`
	PasteBack       edit[bool]          `json:"paste_back,omitempty" doc:"Its page at redirect_url shows a code to be pasted."`
	RedirectURL     edit[string]        `json:"redirect_url,omitempty" maxLength:"2048"`
	GraceSeconds    edit[int64]         `json:"grace_seconds,omitempty" minimum:"0" maximum:"86400"`
	BaseURL         edit[string]        `json:"base_url,omitempty" maxLength:"2048" doc:"Where its access tokens are used."`
	Hosts           edit[texts]         `json:"hosts,omitempty"`
}

type texts2048 []string

// Schema describes the list.
func (texts2048) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(2048)}, MaxItems: size(5)}
}

type providerDraft struct {
	Name string `json:"name" minLength:"1" maxLength:"64" doc:"The word that credentials of it have as their provider. It never changes."`
	ProviderFields
}

// ByProvider is the path of an OAuth provider.
type ByProvider struct {
	Provider string `path:"provider" doc:"Its name."`
}

func pairsOf(p *namedTexts) *map[string]string {
	if p == nil {
		return nil
	}
	out := map[string]string{}
	for _, x := range *p {
		out[x.Name] = x.Value
	}
	return &out
}

func stringsOf[T ~[]string](p *T) *[]string {
	if p == nil {
		return nil
	}
	out := slices.Clone([]string(*p))
	return &out
}

func (f ProviderFields) edit() oauth.ProviderEdit {
	e := oauth.ProviderEdit{
		Enabled: f.Enabled.pointer(), TermsRead: f.TermsRead, Title: f.Title.pointer(), Issuer: f.Issuer.pointer(), NamesItself: f.NamesItself.pointer(),
		AuthorizeURL: f.AuthorizeURL.pointer(), TokenURLs: stringsOf(f.TokenURLs.pointer()), DeviceURL: f.DeviceURL.pointer(), RevokeURL: f.RevokeURL.pointer(),
		Scopes: stringsOf(f.Scopes.pointer()), ScopeSeparator: f.ScopeSeparator.pointer(), ClientID: f.ClientID.pointer(), AuthorizeParams: pairsOf(f.AuthorizeParams.pointer()),
		TokenHeaders: pairsOf(f.TokenHeaders.pointer()), StateInExchange: f.StateInExchange.pointer(), PasteBack: f.PasteBack.pointer(), RedirectURL: f.RedirectURL.pointer(),
		GraceSeconds: f.GraceSeconds.pointer(), BaseURL: f.BaseURL.pointer(), Hosts: stringsOf(f.Hosts.pointer()),
	}
	if p := f.ClientSecret.pointer(); p != nil {
		v := secret.Value{}
		if !f.ClientSecret.null {
			v = p.Value
		}
		e.ClientSecret = &v
	}
	if p := f.Auth.pointer(); p != nil {
		a := provider.Auth(*p)
		e.Auth = &a
	}
	if p := f.Format.pointer(); p != nil {
		a := provider.Format(*p)
		e.Format = &a
	}
	return e
}

type providerAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state of the provider, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     struct {
		Provider client.OAuthProvider `json:"provider"`
	}
}

func (s *service) providerOut(ctx context.Context, k oauth.Known, err error) (*providerAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &providerAnswer{ETag: k.ETag()}
	out.Body.Provider = s.shownProvider(ctx, k)
	return out, nil
}

func named(m map[string]string) []client.NamedText {
	out := []client.NamedText{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, client.NamedText{Name: name, Value: m[name]})
	}
	return out
}

func (s *service) shownProvider(ctx context.Context, k oauth.Known) client.OAuthProvider {
	out := client.OAuthProvider{
		Name: k.Name, Title: k.Title, Catalogue: k.Catalogue, Enabled: k.Enabled, Consumer: k.Consumer, Tampered: k.Tampered, Issuer: k.Issuer, NamesItself: k.NamesItself,
		AuthorizeURL: k.AuthorizeURL, TokenURLs: listed(k.TokenURLs), DeviceURL: k.DeviceURL, RevokeURL: k.RevokeURL, Scopes: listed(k.Scopes), ScopeSeparator: k.ScopeSeparator,
		ClientID: k.ClientID, HasClientSecret: k.HasSecret, Auth: string(k.Auth), Format: string(k.Format), AuthorizeParams: named(k.AuthorizeParams),
		TokenHeaders: named(k.TokenHeaders), StateInExchange: k.StateInExchange, PasteBack: k.PasteBack, RedirectURL: k.RedirectURL, GraceSeconds: int64(k.Grace.Seconds()),
		BaseURL: k.BaseURL, Hosts: listed(k.Hosts), Recipe: k.Recipe,
	}
	if !k.CreatedAt.IsZero() {
		out.CreatedAt, out.UpdatedAt = &k.CreatedAt, &k.UpdatedAt
	}
	if !k.PasteBack && k.AuthorizeURL != "" {
		out.CallbackURL, _ = s.Logins.CallbackURL(exchangeOf(ctx).host) // "" where browsers cannot come back
	}
	return out
}

func (s *service) addProviders() {
	const tag, all, one = "OAuth", "/api/oauth/providers", "/api/oauth/providers/{provider}"
	read, write := string(identity.ProviderRead), string(identity.ProviderWrite)
	add(s, route{method: http.MethodGet, path: all, id: "list-oauth-providers", summary: "List the OAuth providers at which one can log in", tag: tag, access: read}, s.listProviders)
	add(s, route{method: http.MethodPost, path: all, id: "add-oauth-provider", summary: "Add an OAuth provider", tag: tag, access: write, status: http.StatusCreated,
		description: "By its issuer, which is asked for its endpoints, or by authorize_url and token_urls."}, s.addProvider)
	add(s, route{method: http.MethodGet, path: one, id: "get-oauth-provider", summary: "Read an OAuth provider", tag: tag, access: read}, s.getProvider)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, route{method: method, path: one, id: strings.ToLower(method) + "-oauth-provider", summary: "Change an OAuth provider", tag: tag, access: write,
			description: "A merge patch; PUT and PATCH do the same. Of one of the catalogue only client_id, client_secret, auth, scopes and enabled. Logins that have begun there are void."}, s.changeProvider)
	}
	add(s, route{method: http.MethodDelete, path: one, id: "delete-oauth-provider", summary: "Delete an OAuth provider", tag: tag, access: write,
		description: "One of the catalogue is as it was delivered again. One that credentials belong to stays."}, s.deleteProvider)
}

func (s *service) listProviders(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct {
	Body struct {
		Providers []client.OAuthProvider `json:"providers" nullable:"false"`
	} `nameHint:"OAuthProviderList"`
}, error) {
	list, err := s.Logins.Providers(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Providers []client.OAuthProvider `json:"providers" nullable:"false"`
		} `nameHint:"OAuthProviderList"`
	}{}
	out.Body.Providers = make([]client.OAuthProvider, len(list))
	for i, k := range list {
		out.Body.Providers[i] = s.shownProvider(ctx, k)
	}
	return out, nil
}

func (s *service) addProvider(ctx context.Context, caller identity.Caller, in *struct{ Body providerDraft }) (*providerAnswer, error) {
	e := in.Body.edit()
	e.Name = &in.Body.Name
	k, err := s.Logins.AddProvider(ctx, caller, e)
	out, err := s.providerOut(ctx, k, err)
	if err == nil {
		out.Location = "/api/oauth/providers/" + k.Name
	}
	return out, err
}

func (s *service) getProvider(ctx context.Context, caller identity.Caller, in *ByProvider) (*providerAnswer, error) {
	k, err := s.Logins.Provider(ctx, caller, in.Provider)
	return s.providerOut(ctx, k, err)
}

func (s *service) changeProvider(ctx context.Context, caller identity.Caller, in *struct {
	ByProvider
	IfMatch
	Body ProviderFields
}) (*providerAnswer, error) {
	e := in.Body.edit()
	e.IfMatch = in.IfMatch.IfMatch
	k, err := s.Logins.ChangeProvider(ctx, caller, in.Provider, e)
	return s.providerOut(ctx, k, err)
}

func (s *service) deleteProvider(ctx context.Context, caller identity.Caller, in *struct {
	ByProvider
	IfMatch
}) (*struct{}, error) {
	return nil, s.Logins.DeleteProvider(ctx, caller, in.Provider, in.IfMatch.IfMatch)
}
