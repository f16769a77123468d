package oauth

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
)

// settings are what is stored of a provider, as JSON. Of a row of the catalogue the addresses are those of the catalogue, whatever stands here.
type settings struct {
	Catalogue       bool              `json:"catalogue,omitempty"`
	Enabled         bool              `json:"enabled"`
	Title           string            `json:"title,omitempty"`
	Issuer          string            `json:"issuer,omitempty"`
	NamesItself     bool              `json:"names_itself,omitempty"`
	AuthorizeURL    string            `json:"authorize_url,omitempty"`
	TokenURLs       []string          `json:"token_urls,omitempty"`
	DeviceURL       string            `json:"device_url,omitempty"`
	RevokeURL       string            `json:"revoke_url,omitempty"`
	Scopes          []string          `json:"scopes,omitempty"`
	ScopeSeparator  string            `json:"scope_separator,omitempty"`
	ClientID        string            `json:"client_id,omitempty"`
	Auth            provider.Auth     `json:"auth,omitempty"`
	Format          provider.Format   `json:"format,omitempty"`
	AuthorizeParams map[string]string `json:"authorize_params,omitempty"`
	TokenHeaders    map[string]string `json:"token_headers,omitempty"`
	StateInExchange bool              `json:"state_in_exchange,omitempty"`
	PasteBack       bool              `json:"paste_back,omitempty"`
	RedirectURL     string            `json:"redirect_url,omitempty"`
	GraceSeconds    int64             `json:"grace_seconds,omitempty"`
	BaseURL         string            `json:"base_url,omitempty"`
	Hosts           []string          `json:"hosts,omitempty"`

	// found is what the issuer said of itself a moment ago; nil when it was not asked.
	found *provider.Metadata
}

// provider is the provider that the settings describe.
func (s settings) provider(name string) provider.Provider {
	p := provider.Provider{
		Name: name, Title: s.Title, Issuer: s.Issuer, NamesItself: s.NamesItself, AuthorizeURL: s.AuthorizeURL, TokenURLs: s.TokenURLs, DeviceURL: s.DeviceURL,
		RevokeURL: s.RevokeURL, Scopes: s.Scopes, ScopeSeparator: s.ScopeSeparator, ClientID: s.ClientID, Auth: s.Auth, Format: s.Format, PKCE: true,
		ClientCredentials: true, AuthorizeParams: s.AuthorizeParams, TokenHeaders: s.TokenHeaders, StateInExchange: s.StateInExchange, PasteBack: s.PasteBack,
		RedirectURL: s.RedirectURL, Grace: time.Duration(s.GraceSeconds) * time.Second, BaseURL: s.BaseURL, Hosts: s.Hosts,
	}
	if p.Title == "" {
		p.Title = name
	}
	if p.Auth == "" {
		p.Auth = provider.AuthBasic
	}
	if p.Format == "" {
		p.Format = provider.Form
	}
	return p
}

// over is a row of the catalogue with the client and the scopes of the installation.
func (s settings) over(p provider.Provider) provider.Provider {
	if s.ClientID != "" {
		p = p.WithClientID(s.ClientID)
	}
	if len(s.Scopes) > 0 {
		p.Scopes = s.Scopes
	}
	if s.Auth != "" {
		p.Auth = s.Auth
	}
	return p
}

// destinations is where the client secret goes, and as whose.
func (s settings) destinations() string {
	return strings.Join(append([]string{s.Issuer, s.DeviceURL, s.RevokeURL, s.ClientID}, s.TokenURLs...), "\x00")
}

// ProviderEdit says what to set of a provider; what is nil stays as it is.
type ProviderEdit struct {
	Name                                    *string // of a new one only
	Enabled                                 *bool
	TermsRead                               bool // the caller has read why a provider of consumer subscriptions is off
	Title, Issuer, AuthorizeURL             *string
	DeviceURL, RevokeURL                    *string
	TokenURLs, Scopes, Hosts                *[]string
	ScopeSeparator, ClientID                *string
	ClientSecret                            *secret.Value // zero: none
	Auth                                    *provider.Auth
	Format                                  *provider.Format
	AuthorizeParams, TokenHeaders           *map[string]string
	NamesItself, StateInExchange, PasteBack *bool
	RedirectURL, BaseURL                    *string
	GraceSeconds                            *int64
	IfMatch                                 string
}

func assign[T any](field string, fields *[]string, to *T, from *T) {
	if from != nil {
		*to = *from
		*fields = append(*fields, field)
	}
}

// apply sets what the edit names and returns the names. Of a row of the catalogue only the client, the scopes and the switch can be set.
func (e ProviderEdit) apply(s *settings) (fields []string, err error) {
	assign("enabled", &fields, &s.Enabled, e.Enabled)
	assign("client_id", &fields, &s.ClientID, e.ClientID)
	assign("scopes", &fields, &s.Scopes, e.Scopes)
	assign("auth", &fields, &s.Auth, e.Auth)
	if e.ClientSecret != nil {
		fields = append(fields, "client_secret")
	}
	open := len(fields)
	if f := s.found; f != nil {
		s.NamesItself, s.AuthorizeURL, s.TokenURLs, s.DeviceURL, s.RevokeURL = f.NamesItself, f.AuthorizeURL, []string{f.TokenURL}, f.DeviceURL, f.RevokeURL
		if e.Auth == nil {
			s.Auth = authOf(f.TokenAuth)
		}
		fields = append(fields, "discovered")
	}
	assign("title", &fields, &s.Title, e.Title)
	assign("issuer", &fields, &s.Issuer, e.Issuer)
	assign("names_itself", &fields, &s.NamesItself, e.NamesItself)
	assign("authorize_url", &fields, &s.AuthorizeURL, e.AuthorizeURL)
	assign("token_urls", &fields, &s.TokenURLs, e.TokenURLs)
	assign("device_url", &fields, &s.DeviceURL, e.DeviceURL)
	assign("revoke_url", &fields, &s.RevokeURL, e.RevokeURL)
	assign("scope_separator", &fields, &s.ScopeSeparator, e.ScopeSeparator)
	assign("format", &fields, &s.Format, e.Format)
	assign("authorize_params", &fields, &s.AuthorizeParams, e.AuthorizeParams)
	assign("token_headers", &fields, &s.TokenHeaders, e.TokenHeaders)
	assign("state_in_exchange", &fields, &s.StateInExchange, e.StateInExchange)
	assign("paste_back", &fields, &s.PasteBack, e.PasteBack)
	assign("redirect_url", &fields, &s.RedirectURL, e.RedirectURL)
	assign("grace_seconds", &fields, &s.GraceSeconds, e.GraceSeconds)
	assign("base_url", &fields, &s.BaseURL, e.BaseURL)
	assign("hosts", &fields, &s.Hosts, e.Hosts)
	if s.Catalogue && len(fields) > open {
		return nil, fault.New(fault.Unprocessable, "validation_failed", "A provider of the catalogue has the catalogue's addresses. Set its client_id, client_secret, auth, scopes and enabled; for other addresses add a provider of your own.").
			With("", "only client_id, client_secret, auth, scopes and enabled can be set")
	}
	return fields, nil
}

// discover asks an issuer for its endpoints, unless the edit names them.
func (l *Logins) discover(ctx context.Context, e *ProviderEdit, s *settings) error {
	if e.Issuer == nil || *e.Issuer == "" || e.AuthorizeURL != nil || e.TokenURLs != nil {
		return nil
	}
	u, err := url.Parse(*e.Issuer)
	if err != nil || u.Host == "" {
		return fault.New(fault.Unprocessable, "validation_failed", "The provider cannot be like this; see errors.").With("/issuer", "must be an https URL without query and fragment")
	}
	if err := l.checkURL(u); err != nil {
		return at(err, "/issuer")
	}
	found, err := l.wire.Discover(ctx, *e.Issuer)
	var why *provider.Failure
	if errors.As(err, &why) {
		return fault.New(fault.Unavailable, "oauth_unreachable", why.Error()+" Mend that and try again, or give authorize_url and token_urls.")
	} else if err != nil {
		return err
	}
	s.found = &found
	return nil
}

// authOf is the way in which a client with a secret names itself to a server that takes those; one that does not say takes Basic (RFC 8414).
func authOf(offered []string) provider.Auth {
	for _, a := range []provider.Auth{provider.AuthBasic, provider.AuthPost} {
		if len(offered) == 0 || slices.Contains(offered, string(a)) {
			return a
		}
	}
	return provider.AuthNone
}

// at says which field a refusal of the guard is about.
func at(err error, pointer string) error {
	if f, ok := fault.As(err); ok {
		return f.With(pointer, "may not be called")
	}
	return err
}

var (
	providerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	headerName   = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	paramName    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

const (
	textMax   = 255
	urlMax    = 2048
	scopesMax = 100
	pairsMax  = 20
)

// validate returns the fault that says everything that is wrong with the settings.
func (l *Logins) validate(name string, s *settings, base provider.Provider, e ProviderEdit) error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The provider cannot be like this; see errors. Nothing was changed.")
	if !providerName.MatchString(name) {
		_ = f.With("/name", "must be 1 to 64 lower-case letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit")
	}
	for _, x := range []struct{ pointer, text string }{{"/title", s.Title}, {"/client_id", s.ClientID}, {"/scope_separator", s.ScopeSeparator}} {
		if len(x.text) > textMax || !utf8.ValidString(x.text) || strings.ContainsFunc(x.text, unicode.IsControl) {
			_ = f.With(x.pointer, "must be one line of at most 255 bytes")
		}
	}
	if len(s.Scopes) > scopesMax || slices.ContainsFunc(s.Scopes, func(x string) bool { return !validScope(x) }) {
		_ = f.With("/scopes", "must be at most 100 scope names of visible ASCII, one an item")
	}
	if !slices.Contains([]provider.Auth{"", provider.AuthBasic, provider.AuthPost, provider.AuthNone}, s.Auth) {
		_ = f.With("/auth", "must be client_secret_basic, client_secret_post or none")
	}
	if e.ClientSecret != nil && e.ClientSecret.Len() > urlMax {
		_ = f.With("/client_secret", "must have at most 2048 bytes")
	}
	if s.Catalogue {
		return l.switched(f, s, base, e)
	}
	if s.TokenURLs == nil {
		_ = f.With("/token_urls", "is needed, or an issuer that tells its endpoints")
	}
	if len(s.TokenURLs) > 5 {
		_ = f.With("/token_urls", "has too many addresses; at most 5")
	}
	for _, x := range []struct{ pointer, text string }{{"/authorize_url", s.AuthorizeURL}, {"/device_url", s.DeviceURL}, {"/revoke_url", s.RevokeURL}, {"/issuer", s.Issuer}, {"/base_url", s.BaseURL}} {
		l.checkAddress(f, x.pointer, x.text, x.pointer == "/authorize_url")
	}
	for i, u := range s.TokenURLs {
		l.checkAddress(f, "/token_urls/"+strconv.Itoa(i), u, false)
	}
	if s.PasteBack != (s.RedirectURL != "") {
		_ = f.With("/redirect_url", "and paste_back belong together: the fixed page that shows the code")
	}
	if s.Format != "" && s.Format != provider.Form && s.Format != provider.JSON {
		_ = f.With("/format", "must be form or json")
	}
	if s.GraceSeconds < 0 || s.GraceSeconds > 86400 {
		_ = f.With("/grace_seconds", "must be from 0 to 86400")
	}
	checkPairs(f, s)
	l.checkHosts(f, s)
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

// switched is the rest of validate for a row of the catalogue.
func (l *Logins) switched(f *fault.Error, s *settings, base provider.Provider, e ProviderEdit) error {
	if len(f.Fields) > 0 {
		return f
	}
	if base.Consumer != "" && e.Enabled != nil && *e.Enabled && !e.TermsRead {
		return fault.New(fault.Conflict, "terms_unread", "Read this before you switch it on: "+base.Consumer+" Who has read it sends terms_read: true along (signalbox oauth provider edit --enable asks).")
	}
	return nil
}

func (l *Logins) checkAddress(f *fault.Error, pointer, text string, query bool) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" && !query || len(text) > urlMax {
		_ = f.With(pointer, "must be an absolute https URL without user name, query and fragment")
		return
	}
	if err := l.checkURL(u); err != nil {
		_ = f.With(pointer, "may not be called: "+strings.TrimSuffix(fault.Of(err).Detail, "."))
	}
}

// reserved are parameters that Signalbox sets itself: another value would undo what protects a login.
func reserved(param string) bool {
	return slices.Contains([]string{"response_type", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method", "resource", "nonce", "response_mode", "request", "request_uri"}, param)
}

func checkPairs(f *fault.Error, s *settings) {
	if len(s.AuthorizeParams) > pairsMax || len(s.TokenHeaders) > pairsMax {
		_ = f.With("", "authorize_params and token_headers have at most 20 entries")
		return
	}
	plain := func(v string) bool {
		return len(v) <= 1024 && !strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' })
	}
	for name := range maps.Keys(s.AuthorizeParams) {
		if !paramName.MatchString(name) || reserved(name) || !plain(s.AuthorizeParams[name]) {
			_ = f.With("/authorize_params", "must be plain names and values, none of those that Signalbox sets itself (state, client_id, scope, …)")
			break
		}
	}
	for name := range maps.Keys(s.TokenHeaders) {
		key := http.CanonicalHeaderKey(name)
		own := slices.Contains([]string{"Authorization", "Proxy-Authorization", "Cookie", "Host", "Connection", "Accept", "Accept-Encoding", "Transfer-Encoding", "Te", "Trailer", "Upgrade"}, key)
		if !headerName.MatchString(name) || own || strings.HasPrefix(key, "Content-") || !plain(s.TokenHeaders[name]) {
			_ = f.With("/token_headers", "must be plain names and values, none of those that Signalbox sets itself (Authorization, Content-Type, …)")
			break
		}
	}
}

func (l *Logins) checkHosts(f *fault.Error, s *settings) {
	if len(s.Hosts) > 50 {
		_ = f.With("/hosts", "has too many entries; at most 50")
		return
	}
	for _, h := range s.Hosts {
		if u, err := url.Parse("https://" + h); err != nil || u.Host != h || u.Hostname() == "" || l.checkURL(u) != nil {
			_ = f.With("/hosts", "must be host names that Signalbox may call, with their port if it is not the usual one")
			return
		}
	}
}

func validScope(s string) bool {
	bad := strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
	return s != "" && len(s) <= textMax && !bad
}

func number[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }
