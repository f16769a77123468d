package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

// textField is one piece of metadata that is a text: its flag, and where it lies in what the client sends.
type textField struct {
	flag, doc string
	draft     func(*client.CredentialDraft) *string
	patch     func(*client.CredentialPatch) **string
}

func textFields() []textField {
	type (
		draft = client.CredentialDraft
		patch = client.CredentialPatch
	)
	return []textField{
		{"provider", "where it belongs, such as anthropic", func(d *draft) *string { return &d.Provider }, func(p *patch) **string { return &p.Provider }},
		{"account-id", "id as an account of an LLM provider (default acc_NAME)", func(d *draft) *string { return &d.AccountID }, func(p *patch) **string { return &p.AccountID }},
		{"description", "what it is for", func(d *draft) *string { return &d.Description }, func(p *patch) **string { return &p.Description }},
		{"username", "user name that belongs to it", func(d *draft) *string { return &d.Username }, func(p *patch) **string { return &p.Username }},
		{"base-url", "where it is used (default the provider's)", func(d *draft) *string { return &d.BaseURL }, func(p *patch) **string { return &p.BaseURL }},
		{"external-url", "address from outside", func(d *draft) *string { return &d.ExternalURL }, func(p *patch) **string { return &p.ExternalURL }},
		{"internal-url", "address from inside", func(d *draft) *string { return &d.InternalURL }, func(p *patch) **string { return &p.InternalURL }},
		{"owner", "who answers for it", func(d *draft) *string { return &d.Owner }, func(p *patch) **string { return &p.Owner }},
		{"client", "client whose it is, by name or id", func(d *draft) *string { return &d.ClientID }, func(p *patch) **string { return &p.ClientID }},
		{"service", "service whose it is, by name or id", func(d *draft) *string { return &d.ServiceID }, func(p *patch) **string { return &p.ServiceID }},
		{"infrastructure", "infrastructure whose it is, by name or id", func(d *draft) *string { return &d.InfrastructureID }, func(p *patch) **string { return &p.InfrastructureID }},
		{"plugin", "plugin that it was made for", func(d *draft) *string { return &d.PluginName }, func(p *patch) **string { return &p.PluginName }},
	}
}

// metaFlags are the flags for a credential's metadata.
type metaFlags struct {
	texts                    []string
	tags, hosts, clear       []string
	port, rotateEvery        int
	vpn, twoFactor           bool
	status                   string
	expires, name, notesFile string
	oauth                    oauthFlags
	upstream                 upstreamFlags
	inject                   injectFlags
}

// oauthFlags are the flags for the readable part of an OAuth credential.
type oauthFlags struct {
	expires, clientID, endpoint, method, format string
	scopes                                      []string
}

// register adds the flags; edit adds those that only make sense on a stored credential.
func (m *metaFlags) register(cmd *cobra.Command, edit bool) {
	fields := textFields()
	m.texts = make([]string, len(fields))
	flags := cmd.Flags()
	for i, f := range fields {
		flags.StringVar(&m.texts[i], f.flag, "", f.doc)
	}
	flags.StringSliceVar(&m.tags, "tag", nil, "tag (may be given several times)")
	flags.StringSliceVar(&m.hosts, "host", nil, "host that it may be sent to (may be given several times; default the base URL's)")
	flags.IntVar(&m.port, "port", 0, "port that it is used on")
	flags.IntVar(&m.rotateEvery, "rotate-every", 0, "days after which it is to be rotated")
	flags.BoolVar(&m.vpn, "requires-vpn", false, "it can be used over a VPN only")
	flags.BoolVar(&m.twoFactor, "requires-2fa", false, "its use needs a second factor")
	flags.StringVar(&m.notesFile, "notes-file", "", "file that holds notes; they are sealed at rest")
	flags.StringVar(&m.expires, "expires", "", "when it expires: a span such as 90d, or a time such as 2027-01-31T12:00:00Z")
	flags.StringVar(&m.oauth.expires, "token-expires", "", "of type oauth: when the access token expires")
	flags.StringSliceVar(&m.oauth.scopes, "oauth-scope", nil, "of type oauth: a scope that was granted (may be given several times)")
	flags.StringVar(&m.oauth.clientID, "oauth-client-id", "", "of type oauth: the client id at the provider")
	flags.StringVar(&m.oauth.endpoint, "token-endpoint", "", "of type oauth: where tokens are refreshed")
	flags.StringVar(&m.oauth.method, "token-auth-method", "", "of type oauth: client_secret_basic, client_secret_post or none")
	flags.StringVar(&m.oauth.format, "token-request-format", "", "of type oauth: form or json")
	m.upstream.register(cmd)
	m.inject.register(cmd)
	if edit {
		flags.StringVar(&m.name, "name", "", "new name")
		flags.StringVar(&m.status, "status", "", "active, disabled (not lent for now) or compromised (somebody else may know the secret)")
		flags.StringSliceVar(&m.clear, "clear", nil, "metadata to empty, by its name in the API, such as expires_at (may be given several times)")
	}
}

func (m *metaFlags) draft(cmd *cobra.Command, d *client.CredentialDraft) (err error) {
	for i, f := range textFields() {
		*f.draft(d) = m.texts[i]
	}
	d.Tags, d.Hosts, d.Port, d.RotateEveryDays = m.tags, m.hosts, m.port, m.rotateEvery
	d.RequiresVPN, d.Requires2FA = m.vpn, m.twoFactor
	if d.ExpiresAt, err = parseExpiry(m.expires); err != nil {
		return err
	}
	if m.notesFile != "" {
		if d.Notes, err = readNotes(m.notesFile); err != nil {
			return err
		}
	}
	if d.Upstream, err = m.upstream.draft(); err != nil {
		return err
	}
	if err = m.inject.draft(d); err != nil {
		return err
	}
	d.OAuth, err = m.oauth.block(cmd)
	return err
}

// readNotes reads notes from a file, because what is sealed at rest should not stand on a command line.
func readNotes(path string) (string, error) {
	v, err := secret.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the notes: %w", err)
	}
	return strings.TrimRight(v.Reveal(), "\r\n"), nil
}

// block returns the oauth block, or nil when no flag speaks of it.
func (o *oauthFlags) block(cmd *cobra.Command) (*client.OAuth, error) {
	given := false
	for _, name := range strings.Fields("token-expires oauth-scope oauth-client-id token-endpoint token-auth-method token-request-format") {
		given = given || cmd.Flags().Changed(name)
	}
	if !given {
		return nil, nil
	}
	expires, err := parseExpiry(o.expires)
	if err != nil {
		return nil, err
	}
	return &client.OAuth{
		ExpiresAt: expires, Scopes: o.scopes, ClientID: o.clientID, TokenEndpoint: o.endpoint, TokenEndpointAuthMethod: o.method, TokenRequestFormat: o.format,
	}, nil
}

// patch fills in what the flags change and reports whether there is anything.
func (m *metaFlags) patch(cmd *cobra.Command, p *client.CredentialPatch) (changed bool, err error) {
	given := func(flag string) bool {
		yes := cmd.Flags().Changed(flag)
		changed = changed || yes
		return yes
	}
	for i, f := range textFields() {
		if given(f.flag) {
			*f.patch(p) = &m.texts[i]
		}
	}
	if given("name") {
		p.Name = &m.name
	}
	if given("tag") {
		p.Tags = &m.tags
	}
	if given("host") {
		p.Hosts = &m.hosts
	}
	if given("port") {
		p.Port = &m.port
	}
	if given("rotate-every") {
		p.RotateEveryDays = &m.rotateEvery
	}
	if given("requires-vpn") {
		p.RequiresVPN = &m.vpn
	}
	if given("requires-2fa") {
		p.Requires2FA = &m.twoFactor
	}
	if given("status") {
		p.Status = &m.status
	}
	if given("expires") {
		if p.ExpiresAt, err = parseExpiry(m.expires); err != nil {
			return false, err
		}
	}
	if given("notes-file") {
		notes, err := readNotes(m.notesFile)
		if err != nil {
			return false, err
		}
		p.Notes = &notes
	}
	if given("clear") {
		p.Clear = m.clear
	}
	if p.OAuth, err = m.oauth.block(cmd); err != nil {
		return false, err
	}
	if p.Upstream, err = m.upstream.patch(cmd); err != nil {
		return false, err
	}
	injects, err := m.inject.patch(cmd, p)
	return changed || p.OAuth != nil || p.Upstream != nil || injects, err
}
