package vault

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds that are not the length of a text column.
const (
	maxFieldName    = 64
	maxSecretFields = 32
	maxSecret       = 64 << 10 // bytes
	maxNotes        = 10_000   // characters
	maxReason       = 500      // characters
	maxListItems    = 50       // tags, hosts
	maxScopes       = 100
	maxTag          = 100
	maxRotateDays   = 3650
	maxPort         = 65535
	defaultPage     = 100
	maxPage         = 1000
)

// text is one text field of the metadata: where an input names it, its column, and its length in characters, which the schema checks too.
type text struct {
	pointer string
	column  string
	value   *string
	max     int
	lines   bool // may hold line breaks
}

// name is how audit events call the field.
func (t text) name() string { return strings.ReplaceAll(strings.TrimPrefix(t.pointer, "/"), "/", ".") }

// texts is the one list of the text fields.
func (m *Meta) texts() []text {
	return []text{
		{"/name", "name", &m.Name, 200, false},
		{"/account_id", "account_id", &m.AccountID, 204, false},
		{"/provider", "provider", &m.Provider, 100, false},
		{"/description", "description", &m.Description, 2000, true},
		{"/username", "username", &m.Username, 320, false},
		{"/base_url", "base_url", &m.BaseURL, 2048, false},
		{"/external_url", "external_url", &m.ExternalURL, 2048, false},
		{"/internal_url", "internal_url", &m.InternalURL, 2048, false},
		{"/owner", "owner", &m.Owner, 200, false},
		{"/client_id", "client_id", &m.ClientID, 100, false},
		{"/service_id", "service_id", &m.ServiceID, 100, false},
		{"/infrastructure_id", "infrastructure_id", &m.InfrastructureID, 100, false},
		{"/plugin_name", "plugin_name", &m.PluginName, 100, false},
		{"/oauth/client_id", "oauth_client_id", &m.OAuth.ClientID, 255, false},
		{"/oauth/token_endpoint", "oauth_token_endpoint", &m.OAuth.TokenEndpoint, 2048, false},
		{"/oauth/token_endpoint_auth_method", "oauth_auth_method", &m.OAuth.AuthMethod, 32, false},
		{"/oauth/token_request_format", "oauth_format", &m.OAuth.RequestFormat, 32, false},
		{"/oauth/resource", "oauth_resource", &m.OAuth.Resource, 2048, false},
		{"/oauth/grant_type", "oauth_grant", &m.OAuth.GrantType, 32, false},
		{"/upstream/ca_bundle", "upstream_ca_bundle", &m.Upstream.CABundle, maxBundle, true},
		{"/upstream/proxy_url", "upstream_proxy_url", &m.Upstream.ProxyURL, 2048, false},
		{"/upstream/proxy_username", "upstream_proxy_username", &m.Upstream.ProxyUsername, 255, false},
		{"/inject/type", "inject_kind", (*string)(&m.Inject.Kind), 32, false},
		{"/inject/name", "inject_name", &m.Inject.Name, maxInjectName, false},
	}
}

// textProblem says what is wrong with a text, or nothing. It never quotes it.
func textProblem(s string, max int, lines bool) string {
	switch {
	case !utf8.ValidString(s):
		return "must be UTF-8 text"
	case utf8.RuneCountInString(s) > max:
		return "is too long; at most " + number(max) + " characters"
	case strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && !(lines && (c == '\n' || c == '\r' || c == '\t')) }):
		return "must not hold control characters"
	case s != strings.TrimSpace(s) && !lines:
		return "must not begin or end with a space"
	}
	return ""
}

// Times outside these years have no RFC 3339 form or are a mistake in the unit.
const (
	firstYear = 2000
	lastYear  = 9999
)

func timeProblem(t *time.Time) string {
	if t != nil && (t.UTC().Year() < firstYear || t.UTC().Year() > lastYear) {
		return "must be a time between the years 2000 and 9999"
	}
	return ""
}
