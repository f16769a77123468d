package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// The files of the older proxy: one account a file, named after it, and one file of client keys a train.

const (
	accountSuffix = ".credentials.json"
	keysSuffix    = ".client-keys.json"
	accountPrefix = "acc_"
)

// proxyAccount is accounts/NAME.credentials.json.
type proxyAccount struct {
	Type      string          `json:"type"`
	AccountID string          `json:"accountId"`
	APIKey    string          `json:"api_key"`
	OAuth     *oauthTokens    `json:"oauth"`
	Slack     json.RawMessage `json:"slack"`
}

func looksProxyAccount(f *file) bool {
	m, ok := f.peek()
	return ok && bool(m.Type) && bool(m.APIKey || m.OAuth)
}

func parseProxyAccount(f *file, out *items) error {
	var in proxyAccount
	if err := f.decodeJSON(&in); err != nil {
		return err
	}
	name := strings.TrimSuffix(f.name, accountSuffix)
	if name == f.name {
		name = strings.TrimSuffix(f.name, ".json")
	}
	if name == "" {
		name = f.label
	}
	d := &vault.Draft{Meta: vault.Meta{Name: name, AccountID: in.AccountID, Provider: anthropic, Description: "an account of the older proxy"}}
	i := item{place: "the account", credential: d}
	if in.AccountID != "" && !strings.HasPrefix(in.AccountID, accountPrefix) {
		d.AccountID = accountPrefix + in.AccountID
		i.notes = append(i.notes, "its account id begins with acc_ here")
	}
	switch in.Type {
	case string(vault.APIKey):
		d.Type, d.Secrets = vault.APIKey, map[string]secret.Value{}
		if in.APIKey != "" {
			d.Secrets["api_key"] = secret.FromString(in.APIKey)
		}
		if in.OAuth != nil {
			i.notes = append(i.notes, "it has OAuth tokens too, which are not taken over, since its type is api_key")
		}
	case string(vault.OAuth):
		d.Type = vault.OAuth
		if in.OAuth == nil {
			return bad("is an account of type oauth without its tokens")
		}
		i.notes = append(i.notes, in.OAuth.into(d)...)
		if in.APIKey != "" {
			i.notes = append(i.notes, "it has an API key too, which is not taken over, since its type is oauth")
		}
		if in.OAuth.IsMax {
			d.Tags = []string{"max"}
		}
	default:
		return bad("is no account: its type must be api_key or oauth")
	}
	if err := out.add(i); err != nil {
		return err
	}
	return addSlack(out, name, in.Slack)
}

// foreignKey is one client key of the older proxy: the key itself, or an object with it.
type foreignKey struct {
	value, name, train, hash string
	expires                  instant
	off                      bool
}

// UnmarshalJSON takes either.
func (k *foreignKey) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &k.value) == nil {
		return nil
	}
	var fields struct {
		Key       *string `json:"key"`
		APIKey    *string `json:"api_key"`
		Camel     *string `json:"apiKey"`
		Client    *string `json:"client_api_key"`
		Value     *string `json:"value"`
		Token     *string `json:"token"`
		Hash      *string `json:"hash"`
		KeyHash   *string `json:"key_hash"`
		Name      *string `json:"name"`
		Label     *string `json:"label"`
		Train     *string `json:"train_id"`
		TrainID   *string `json:"trainId"`
		ExpiresAt instant `json:"expires_at"`
		Expires   instant `json:"expiresAt"`
		Revoked   *bool   `json:"revoked"`
		Disabled  *bool   `json:"disabled"`
		Enabled   *bool   `json:"enabled"`
		Active    *bool   `json:"active"`
		RevokedAt is      `json:"revoked_at"`
		RevokedOn is      `json:"revokedAt"`
	}
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	first := func(of ...*string) string {
		for _, s := range of {
			if s != nil && *s != "" {
				return *s
			}
		}
		return ""
	}
	k.value = first(fields.Key, fields.APIKey, fields.Camel, fields.Client, fields.Value, fields.Token)
	k.hash, k.name, k.train = first(fields.Hash, fields.KeyHash), first(fields.Name, fields.Label), first(fields.Train, fields.TrainID)
	if k.expires = fields.ExpiresAt; k.expires.at == nil {
		k.expires = fields.Expires
	}
	yes := func(b *bool) bool { return b != nil && *b }
	no := func(b *bool) bool { return b != nil && !*b }
	k.off = yes(fields.Revoked) || yes(fields.Disabled) || no(fields.Enabled) || no(fields.Active) || bool(fields.RevokedAt) || bool(fields.RevokedOn)
	return nil
}

// foreignKeys is train-client-keys/TRAIN.client-keys.json: a list, or an object with one under either name.
type foreignKeys struct {
	Keys    []foreignKey `json:"keys"`
	Clients []foreignKey `json:"client_api_keys"`
}

// UnmarshalJSON takes the three shapes.
func (l *foreignKeys) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return json.Unmarshal(b, &l.Keys)
	}
	type object foreignKeys
	if err := json.Unmarshal(b, (*object)(l)); err != nil {
		return err
	}
	if l.Keys == nil && l.Clients == nil {
		return errors.New("no keys")
	}
	return nil
}

func looksProxyKeys(f *file) bool {
	if strings.HasSuffix(f.name, keysSuffix) {
		return true
	}
	m, ok := f.peek()
	return ok && bool(m.Keys || m.Clients)
}

func parseProxyKeys(f *file, out *items) error {
	var in foreignKeys
	if err := f.decodeJSON(&in); err != nil {
		return err
	}
	slug := strings.TrimSuffix(f.name, keysSuffix)
	if slug == f.name {
		slug = strings.TrimSuffix(f.name, ".json")
	}
	for n, k := range append(in.Keys, in.Clients...) {
		i := item{place: "key " + strconv.Itoa(n+1)}
		switch {
		case k.off:
			i.skip = "the key is revoked or switched off there"
		case k.value == "" && k.hash != "":
			i.skip = "only a hash of the key is there; how it was made is not known, so issue a new key in its place"
		case k.value == "":
			i.skip = "there is no key"
		default:
			name := k.name
			if name == "" {
				name = "imported " + strconv.Itoa(n+1)
			}
			i.key = &train.ForeignKey{Train: slug, Draft: identity.KeyDraft{Name: name, ExpiresAt: k.expires.at}, Value: secret.FromString(k.value)}
			if k.train != "" {
				i.key.Train = k.train
			}
			if i.key.Train == "" {
				i.key, i.skip = nil, "nothing says of which train the key is: name the file TRAIN.client-keys.json"
			}
		}
		if err := out.add(i); err != nil {
			return err
		}
	}
	return nil
}
