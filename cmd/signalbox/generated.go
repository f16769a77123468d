package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/vault"
)

// generateFlags are the flags for secret fields that the server makes.
type generateFlags struct{ fields []string }

func (f *generateFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.fields, "generate", nil, "have the server make a secret field: --generate, --generate=KIND or --generate=FIELD=KIND, with settings behind it as in =password,length=32 (may be given several times; kinds: "+
		strings.Join(kindNames(), ", ")+")")
	cmd.Flags().Lookup("generate").NoOptDefVal = "default"
}

func kindNames() []string {
	var out []string
	for _, row := range generate.Kinds() {
		out = append(out, string(row.Kind))
	}
	return out
}

// specs returns what the flags ask to be made, by field, for a credential of that type.
func (f *generateFlags) specs(row vault.TypeRow) (map[string]client.Generate, error) {
	out := map[string]client.Generate{}
	for _, text := range f.fields {
		head, settings, _ := strings.Cut(text, ",")
		field, kind, named := strings.Cut(head, "=")
		if !named {
			field, kind = usualField(row), head
		}
		if field == "" {
			return nil, usage("say which field to generate: --generate=FIELD=KIND")
		}
		if kind == "default" {
			kind = usualKind(row, field)
		}
		if _, ok := generate.Lookup(generate.Kind(kind)); !ok {
			return nil, usage("--generate wants one of: %s", strings.Join(kindNames(), ", "))
		}
		if _, twice := out[field]; twice {
			return nil, usage("the secret field %s is generated twice", field)
		}
		spec := client.Generate{Kind: kind}
		if settings != "" {
			for one := range strings.SplitSeq(settings, ",") {
				if err := setSpec(&spec, one); err != nil {
					return nil, err
				}
			}
		}
		out[field] = spec
	}
	return out, nil
}

// setSpec reads one setting, such as length=32. The server judges the values.
func setSpec(spec *client.Generate, text string) error {
	name, value, _ := strings.Cut(text, "=")
	numbers := map[string]*int{"length": &spec.Length, "words": &spec.Words, "bytes": &spec.Bytes, "bits": &spec.Bits}
	if n, ok := numbers[name]; ok {
		parsed, err := strconv.Atoi(value)
		if err != nil || parsed < 1 {
			return usage("%s in --generate wants a number", name)
		}
		*n = parsed
		return nil
	}
	switch name {
	case "classes":
		spec.Classes = strings.Split(value, "+")
	case "separator":
		spec.Separator = &value
	case "comment":
		spec.Comment = value
	default:
		return usage("--generate knows no setting of that name; they are length, classes (joined by +), words, separator, bytes, bits and comment")
	}
	return nil
}

// usualField is the required field that can be made, "" when there is none.
func usualField(row vault.TypeRow) string {
	i := slices.IndexFunc(row.Secrets, func(f vault.SecretField) bool { return f.Required && f.Makes != vault.MadeNowhere })
	if i < 0 {
		return ""
	}
	return row.Secrets[i].Name
}

func usualKind(row vault.TypeRow, name string) string {
	f, _ := row.Field(name)
	switch {
	case f.Makes == vault.MadeAsKeyPair:
		return string(generate.Ed25519)
	case name == "passphrase":
		return string(generate.Passphrase)
	case row.Type == vault.APIKey, row.Type == vault.SharedSecret, name == "signing_key":
		return string(generate.Hex)
	}
	return string(generate.Password)
}

// factsOf are the lines of what was derived from a secret.
func factsOf(f *client.Facts) []string {
	if f == nil {
		return nil
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	var out []string
	if c := f.Certificate; c != nil {
		names := strings.Join(c.Names, ", ")
		if c.MoreNames > 0 {
			names += fmt.Sprintf(" and %d more", c.MoreNames)
		}
		chain := count(c.Chain)
		if !c.InOrder {
			chain += ", not in order"
		}
		out = append(out, "subject", c.Subject, "names", names, "issuer", c.Issuer, "serial", c.Serial, "valid from", moment(c.NotBefore), "valid until", moment(c.NotAfter),
			"key", strings.TrimSpace(c.KeyType+" "+count(c.Bits)), "private key fits", yes(c.KeyMatches), "certificates", chain, "SHA-256", c.Fingerprint)
	}
	if t := f.JWT; t != nil {
		out = append(out, "algorithm", t.Algorithm, "key id", t.KeyID, "issuer", t.Issuer, "subject", t.Subject, "audience", strings.Join(t.Audience, ", "),
			"issued", momentOf(t.IssuedAt), "valid from", momentOf(t.NotBefore), "valid until", momentOf(t.ExpiresAt))
	}
	if k := f.SSHKey; k != nil {
		out = append(out, "key", strings.TrimSpace(k.Type+" "+count(k.Bits)), "fingerprint", k.Fingerprint, "comment", k.Comment, "encrypted", yes(k.Encrypted), "public key", k.PublicKey)
	}
	if c := f.Connection; c != nil {
		out = append(out, "connects to", c.Scheme, "host", strings.Join(append([]string{c.Host}, c.Others...), ", "), "server port", count(c.Port), "database", c.Database,
			"user", c.User, "TLS", c.TLSMode)
	}
	return out
}
