package importer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// An archive is a file of age (https://age-encryption.org/v1) around lines of JSON: a head, one line a credential, and an end with their number.

const (
	archiveMark    = "signalbox-export"
	archiveVersion = 1
	ageMark        = "age-encryption.org/v1\n"
	// mostWork is the dearest passphrase that is tried: 2^18 steps of scrypt, with 256 MiB.
	mostWork = 18
)

// archiveLine is one line; one of its parts is there.
type archiveLine struct {
	Head       *archiveHead       `json:"archive,omitempty"`
	Credential *archiveCredential `json:"credential,omitempty"`
	End        *archiveEnd        `json:"end,omitempty"`
}

type archiveHead struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	At      time.Time `json:"created_at"`
}

type archiveEnd struct {
	Credentials int `json:"credentials"`
	LeftOut     int `json:"left_out"`
}

type archiveCredential struct {
	Type             vault.Type        `json:"type"`
	Name             string            `json:"name"`
	AccountID        string            `json:"account_id,omitempty"`
	Provider         string            `json:"provider,omitempty"`
	Description      string            `json:"description,omitempty"`
	Username         string            `json:"username,omitempty"`
	BaseURL          string            `json:"base_url,omitempty"`
	ExternalURL      string            `json:"external_url,omitempty"`
	InternalURL      string            `json:"internal_url,omitempty"`
	Port             int               `json:"port,omitempty"`
	RequiresVPN      bool              `json:"requires_vpn,omitempty"`
	Requires2FA      bool              `json:"requires_2fa,omitempty"`
	Tags             []string          `json:"tags,omitempty"`
	Hosts            []string          `json:"hosts,omitempty"`
	ExpiresAt        *time.Time        `json:"expires_at,omitempty"`
	RotateEvery      int               `json:"rotate_every_days,omitempty"`
	Owner            string            `json:"owner,omitempty"`
	ClientID         string            `json:"client_id,omitempty"`
	ServiceID        string            `json:"service_id,omitempty"`
	InfrastructureID string            `json:"infrastructure_id,omitempty"`
	PluginName       string            `json:"plugin_name,omitempty"`
	Status           vault.Status      `json:"status,omitempty"`
	OAuth            *archiveOAuth     `json:"oauth,omitempty"`
	Upstream         *archiveUpstream  `json:"upstream,omitempty"`
	Inject           *archiveInject    `json:"inject,omitempty"`
	Methods          []string          `json:"methods,omitempty"`
	Paths            []string          `json:"paths,omitempty"`
	Notes            string            `json:"notes,omitempty"`
	Secrets          map[string]string `json:"secrets"`
	Binary           map[string][]byte `json:"secrets_base64,omitempty"` // those that are no text
}

type archiveOAuth struct {
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`
	Scopes        []string   `json:"scopes,omitempty"`
	ClientID      string     `json:"client_id,omitempty"`
	TokenEndpoint string     `json:"token_endpoint,omitempty"`
	AuthMethod    string     `json:"token_endpoint_auth_method,omitempty"`
	RequestFormat string     `json:"token_request_format,omitempty"`
	Resource      string     `json:"resource,omitempty"`
	GrantType     string     `json:"grant_type,omitempty"`
}

type archiveUpstream struct {
	ConnectTimeout  int    `json:"connect_timeout_seconds,omitempty"`
	ResponseTimeout int    `json:"response_timeout_seconds,omitempty"`
	CABundle        string `json:"ca_bundle,omitempty"`
	ProxyURL        string `json:"proxy_url,omitempty"`
	ProxyUsername   string `json:"proxy_username,omitempty"`
}

type archiveInject struct {
	Kind vault.InjectKind `json:"type"`
	Name string           `json:"name,omitempty"`
}

// archived is a credential as it stands in an archive.
func archived(e vault.Exported) archiveCredential {
	out := archiveCredential{
		Type: e.Type, Name: e.Name, AccountID: e.AccountID, Provider: e.Provider, Description: e.Description, Username: e.Username, BaseURL: e.BaseURL,
		ExternalURL: e.ExternalURL, InternalURL: e.InternalURL, Port: e.Port, RequiresVPN: e.RequiresVPN, Requires2FA: e.Requires2FA, Tags: e.Tags, Hosts: e.Hosts,
		ExpiresAt: e.ExpiresAt, RotateEvery: e.RotateEvery, Owner: e.Owner, ClientID: e.ClientID, ServiceID: e.ServiceID, InfrastructureID: e.InfrastructureID,
		PluginName: e.PluginName, Notes: e.Notes.Reveal(), Methods: e.Methods, Paths: e.Paths, Secrets: map[string]string{},
	}
	if e.State != vault.Active {
		out.Status = e.State
	}
	if e.Type == vault.OAuth {
		o := e.OAuth
		out.OAuth = &archiveOAuth{ExpiresAt: o.ExpiresAt, Scopes: o.Scopes, ClientID: o.ClientID, TokenEndpoint: o.TokenEndpoint, AuthMethod: o.AuthMethod,
			RequestFormat: o.RequestFormat, Resource: o.Resource, GrantType: o.GrantType}
	}
	if e.Upstream != (vault.Upstream{}) {
		u := archiveUpstream(e.Upstream)
		out.Upstream = &u
	}
	if e.Inject != (vault.Inject{}) {
		in := archiveInject(e.Inject)
		out.Inject = &in
	}
	for name, v := range e.Secrets {
		if text := v.Reveal(); utf8.ValidString(text) {
			out.Secrets[name] = text
		} else {
			if out.Binary == nil {
				out.Binary = map[string][]byte{}
			}
			out.Binary[name] = v.Bytes()
		}
	}
	return out
}

// draft is the credential as it is stored again.
func (c archiveCredential) draft() *vault.Draft {
	d := &vault.Draft{
		Type: c.Type,
		Meta: vault.Meta{
			Name: c.Name, AccountID: c.AccountID, Provider: c.Provider, Description: c.Description, Username: c.Username, BaseURL: c.BaseURL,
			ExternalURL: c.ExternalURL, InternalURL: c.InternalURL, Port: c.Port, RequiresVPN: c.RequiresVPN, Requires2FA: c.Requires2FA, Tags: c.Tags, Hosts: c.Hosts,
			ExpiresAt: c.ExpiresAt, RotateEvery: c.RotateEvery, Owner: c.Owner, ClientID: c.ClientID, ServiceID: c.ServiceID, InfrastructureID: c.InfrastructureID,
			PluginName: c.PluginName, Methods: c.Methods, Paths: c.Paths,
		},
		Notes: secret.FromString(c.Notes), State: c.Status, Secrets: map[string]secret.Value{},
	}
	if o := c.OAuth; o != nil {
		d.OAuth = vault.OAuthMeta{ExpiresAt: o.ExpiresAt, Scopes: o.Scopes, ClientID: o.ClientID, TokenEndpoint: o.TokenEndpoint, AuthMethod: o.AuthMethod,
			RequestFormat: o.RequestFormat, Resource: o.Resource, GrantType: o.GrantType}
	}
	if c.Upstream != nil {
		d.Upstream = vault.Upstream(*c.Upstream)
	}
	if c.Inject != nil {
		d.Inject = vault.Inject(*c.Inject)
	}
	for name, text := range c.Secrets {
		d.Secrets[name] = secret.FromString(text)
	}
	for name, b := range c.Binary {
		d.Secrets[name] = secret.New(b)
	}
	return d
}

func looksArchive(f *file) bool {
	return bytes.HasPrefix(f.data, []byte(ageMark)) || bytes.HasPrefix(f.data, []byte(armor.Header))
}

// opener makes what opens an archive of a passphrase, or of an age identity.
func opener(passphrase secret.Value) ([]age.Identity, error) {
	if passphrase.IsZero() {
		return nil, bad("is encrypted; give the passphrase, or the age identity, that opens it")
	}
	text := strings.TrimSpace(passphrase.Reveal())
	if strings.HasPrefix(text, "AGE-SECRET-KEY-") || strings.HasPrefix(text, "#") && strings.Contains(text, "AGE-SECRET-KEY-") {
		ids, err := age.ParseIdentities(strings.NewReader(text))
		if err != nil {
			return nil, bad("needs an age identity to open, and the one that was given is none")
		}
		return ids, nil
	}
	id, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return nil, wrongPassphrase()
	}
	id.SetMaxWorkFactor(mostWork)
	return []age.Identity{id}, nil
}

func parseArchive(f *file, out *items) error {
	if err := f.unseal(); err != nil {
		return err
	}
	ids, err := opener(f.passphrase)
	if err != nil {
		return err
	}
	var src io.Reader = bytes.NewReader(f.data)
	if bytes.HasPrefix(f.data, []byte(armor.Header)) {
		src = armor.NewReader(src)
	}
	r, err := age.Decrypt(src, ids...)
	if err != nil {
		return wrongPassphrase()
	}
	return readArchive(&metered{from: r, file: f}, out)
}

// metered counts what is read against what an import may unpack to.
type metered struct {
	from io.Reader
	file *file
	over error
}

// Read reads as far as the import may hold it.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	if m.over = m.file.take(int64(n)); m.over != nil {
		return 0, m.over
	}
	return n, err
}

func readArchive(m *metered, out *items) error {
	dec := json.NewDecoder(bufio.NewReaderSize(m, 64<<10))
	dec.DisallowUnknownFields()
	found := 0
	for n := 1; ; n++ {
		var line archiveLine
		err := dec.Decode(&line)
		switch {
		case m.over != nil:
			return m.over
		case errors.Is(err, io.EOF):
			return bad("breaks off: its end is missing, so nothing of it is taken")
		case err != nil:
			return bad("is no archive of signalbox export: line " + strconv.Itoa(n) + " is not what it should be, or the file was cut or changed")
		}
		switch {
		case n == 1:
			if line.Head == nil || line.Head.Format != archiveMark {
				return bad("is encrypted with age and is no archive of signalbox export")
			}
			if line.Head.Version != archiveVersion {
				return bad("is an archive of a newer version of Signalbox; import it there")
			}
		case line.Credential != nil:
			found++
			if err := out.add(item{place: "credential " + strconv.Itoa(found), credential: line.Credential.draft()}); err != nil {
				return err
			}
		case line.End != nil:
			if line.End.Credentials != found {
				return bad("does not hold as many credentials as its end says")
			}
			if _, err := dec.Token(); !errors.Is(err, io.EOF) {
				return bad("goes on behind its end")
			}
			return nil
		default:
			return bad("has an empty line " + strconv.Itoa(n))
		}
	}
}
