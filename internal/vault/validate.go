package vault

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
)

// accountPrefix begins every account id and no account's name, so that a reference can never mean two accounts.
const accountPrefix = "acc_"

// normalise brings the metadata into the one form in which it is stored and compared, and says what is wrong with it.
func (r *Room) normalise(row TypeRow, m *Meta, p *problems) {
	for _, t := range m.texts() {
		p.add(t.pointer, textProblem(*t.value, t.max, t.lines))
	}
	if m.Name == "" {
		p.add("/name", "is needed")
	}
	r.normaliseAccount(row, m, p)
	r.normaliseURLs(row, m, p)
	m.Tags = normaliseList(m.Tags, "/tags", maxListItems, p, func(s string) (string, string) {
		if s == "" {
			return s, "must not hold an empty tag"
		}
		return s, textProblem(s, maxTag, false)
	})
	if m.Port < 0 || m.Port > maxPort {
		p.add("/port", "must be from 1 to 65535, or 0 for none")
	}
	if m.RotateEvery < 0 || m.RotateEvery > maxRotateDays {
		p.add("/rotate_every_days", "must be from 1 to "+number(maxRotateDays)+" days, or 0 for no rotation")
	}
	p.add("/expires_at", timeProblem(m.ExpiresAt))
	m.ExpiresAt = micro(m.ExpiresAt)
	r.normaliseOAuth(row, &m.OAuth, p)
	r.normaliseUpstream(row, m, p)
	normaliseInject(row, m.Inject, p)
	normaliseBounds(row, m, p)
}

func (r *Room) normaliseAccount(row TypeRow, m *Meta, p *problems) {
	if !row.account(m.Provider) {
		if m.AccountID != "" {
			p.add("/account_id", "is only for accounts: type api_key or oauth with an LLM provider such as anthropic")
		}
		return
	}
	if strings.HasPrefix(m.Name, accountPrefix) || strings.HasPrefix(m.Name, credentialPrefix+"_") {
		p.add("/name", "of an account must not begin with acc_ or cred_, which begin ids")
	}
	if m.AccountID == "" && m.Name != "" {
		m.AccountID = accountPrefix + m.Name
	}
	if m.AccountID == "" {
		return // the missing name is told already
	}
	if !strings.HasPrefix(m.AccountID, accountPrefix) || m.AccountID == accountPrefix {
		p.add("/account_id", "must begin with acc_ and go on")
	}
}

func (r *Room) normaliseURLs(row TypeRow, m *Meta, p *problems) {
	m.BaseURL = r.upstream("/base_url", m.BaseURL, p)
	m.ExternalURL = link("/external_url", m.ExternalURL, p)
	m.InternalURL = link("/internal_url", m.InternalURL, p)
	m.Hosts = normaliseList(m.Hosts, "/hosts", maxListItems, p, func(s string) (string, string) {
		u, err := url.Parse("https://" + s)
		if err != nil || u.Host != s || u.Hostname() == "" || r.check(u) != nil {
			return s, "must be a host name or address that Signalbox may call, with its port if that is not the usual one; no scheme, path or wildcard"
		}
		return strings.ToLower(s), ""
	})
	if base := baseURL(row, *m); base != nil && len(m.Hosts) > 0 && !bound(m.Hosts, base) {
		p.add("/hosts", "must contain the host of base_url, or the credential could not be used there")
	}
}

// upstream checks a URL that Signalbox itself will call.
func (r *Room) upstream(pointer, s string, p *problems) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" {
		p.add(pointer, "must be an absolute URL, such as https://api.example.com")
		return s
	}
	if u.User != nil {
		p.add(pointer, "must not hold a user name or password; store them as username and secrets")
		return s
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		p.add(pointer, "must not have a query or a fragment")
		return s
	}
	if err := r.check(u); err != nil {
		p.url(pointer, err)
		return s
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = hostOf(u)
	return strings.TrimRight(u.String(), "/")
}

// link checks a URL that is only shown. The schemes are a closed list because pages make links of them.
func link(pointer, s string, p *problems) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		p.add(pointer, "must be an absolute URL, such as https://app.example.com")
	case u.User != nil:
		p.add(pointer, "must not hold a user name or password; store them as username and secrets")
	case !slices.Contains([]string{"http", "https", "ssh", "sftp", "ftp", "ftps", "rdp", "vnc", "ldap", "ldaps", "smb"}, u.Scheme):
		p.add(pointer, "has a scheme that is not supported; use http, https, ssh, sftp, ftp, ftps, rdp, vnc, ldap, ldaps or smb")
	}
	return s
}

// GrantClientCredentials is the [OAuthMeta.GrantType] of tokens that a program gets with its own secret (RFC 6749, section 4.4).
const GrantClientCredentials = "client_credentials"

// ValidResource reports whether s is a resource indicator (RFC 8707, section 2), or empty.
func ValidResource(s string) bool {
	if s == "" {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && u.Fragment == "" && !strings.Contains(s, "#") && (u.Host != "" || u.Opaque != "") && u.User == nil
}

func (r *Room) normaliseOAuth(row TypeRow, o *OAuthMeta, p *problems) {
	if !row.OAuth {
		if o.ExpiresAt != nil || len(o.Scopes) > 0 || o.ClientID != "" || o.TokenEndpoint != "" || o.AuthMethod != "" || o.RequestFormat != "" || o.Resource != "" || o.GrantType != "" {
			p.add("/oauth", "is only for type oauth")
		}
		return
	}
	p.add("/oauth/expires_at", timeProblem(o.ExpiresAt))
	o.ExpiresAt = micro(o.ExpiresAt)
	o.Scopes = normaliseList(o.Scopes, "/oauth/scopes", maxScopes, p, func(s string) (string, string) {
		// scope-token of RFC 6749, section 3.3
		bad := strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
		if s == "" || len(s) > 255 || bad {
			return s, "must be scope names of at most 255 visible ASCII characters, one an item"
		}
		return s, ""
	})
	o.TokenEndpoint = r.upstream("/oauth/token_endpoint", o.TokenEndpoint, p)
	if !slices.Contains([]string{"", "client_secret_basic", "client_secret_post", "none"}, o.AuthMethod) {
		p.add("/oauth/token_endpoint_auth_method", "must be client_secret_basic, client_secret_post or none")
	}
	if !slices.Contains([]string{"", "json", "form"}, o.RequestFormat) {
		p.add("/oauth/token_request_format", "must be json or form")
	}
	if !ValidResource(o.Resource) {
		p.add("/oauth/resource", "must be an absolute URL without a fragment, such as https://api.example.com/mcp")
	}
	if o.GrantType != "" && o.GrantType != GrantClientCredentials {
		p.add("/oauth/grant_type", "must be client_credentials or empty")
	}
}

// normaliseList checks each item and drops repetitions. An empty list is nil.
func normaliseList(items []string, pointer string, max int, p *problems, one func(string) (string, string)) []string {
	if len(items) > max {
		p.add(pointer, "has too many items; at most "+number(max))
		return nil
	}
	var out []string
	for i, s := range items {
		s, problem := one(s)
		if problem != "" {
			p.add(pointer+"/"+number(i), problem)
			continue
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// checkSecrets says what is wrong with a full set of secret fields. A field that the type does not have is not named back: who mixes up
// key and value must not read the secret in an error.
func checkSecrets(row TypeRow, secrets map[string]secret.Value, p *problems) {
	unknown := false
	for name, v := range secrets {
		field, ok := row.Field(name)
		if !ok {
			unknown = true
			continue
		}
		at := "/secrets/" + name
		switch {
		case v.IsZero():
			p.add(at, "must not be empty")
		case v.Len() > maxSecret:
			p.add(at, "is too long; at most "+number(maxSecret)+" bytes")
		case field.Header && strings.ContainsFunc(v.Reveal(), func(c rune) bool { return c <= ' ' || c > '~' }):
			p.add(at, "must be visible ASCII without spaces or line breaks, since it is sent in a header; was more copied than the key itself?")
		}
	}
	if unknown {
		p.add("/secrets", "has a field that this type does not have; it takes "+fieldNames(row))
	}
	if len(secrets) > maxSecretFields {
		p.add("/secrets", "has too many fields; at most "+number(maxSecretFields))
	}
	for _, f := range row.Secrets {
		if _, given := secrets[f.Name]; f.Required && !given {
			p.miss("/secrets/"+f.Name, "is needed")
		}
	}
	if row.AnyNames && len(secrets) == 0 {
		p.miss("/secrets", "needs at least one field")
	}
}

func fieldNames(row TypeRow) string {
	if row.AnyNames {
		return "names of 1 to 64 of a–z, 0–9 and _"
	}
	var names []string
	for _, f := range row.Secrets {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func checkNotes(notes secret.Value, p *problems) {
	p.add("/notes", textProblem(notes.Reveal(), maxNotes, true))
}

func checkReason(reason string, needed bool, p *problems) {
	if needed && strings.TrimSpace(reason) == "" {
		p.add("/reason", "is needed: say why, it is kept in the audit log")
		return
	}
	p.add("/reason", textProblem(reason, maxReason, false))
}

// suffix returns the last four characters of the type's key or token, if it is long enough that they tell nothing.
func suffix(row TypeRow, secrets map[string]secret.Value) string {
	for _, f := range row.Secrets {
		v := secrets[f.Name].Reveal()
		if !f.Suffix || len(v) < 16 || !utf8.ValidString(v) {
			continue
		}
		end := v[len(v)-4:]
		if !strings.ContainsFunc(end, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return end
		}
	}
	return ""
}

// micro cuts a time to what the database keeps.
func micro(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	cut := t.UTC().Truncate(time.Microsecond)
	return &cut
}

// baseURL returns where the credential is used: its own base_url, else its provider's; nil when neither is known.
func baseURL(row TypeRow, m Meta) *url.URL {
	s := m.BaseURL
	if s == "" {
		provider, _ := row.provider(m.Provider)
		s = provider.BaseURL
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil
	}
	return u
}

// boundHosts returns where the credential may be sent.
func boundHosts(row TypeRow, m Meta) []string {
	if len(m.Hosts) > 0 {
		return slices.Clone(m.Hosts)
	}
	if host := hostOf(baseURL(row, m)); host != "" {
		return []string{host}
	}
	return nil
}
