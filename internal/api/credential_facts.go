package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/vault"
)

// generateKind is one of the table of kinds.
type generateKind string

// Schema lists the kinds of the table.
func (generateKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range generate.Kinds() {
		s.Enum = append(s.Enum, string(row.Kind))
	}
	return s
}

// generateClass is a class of characters.
type generateClass string

// Schema lists the classes.
func (generateClass) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range generate.ClassNames() {
		s.Enum = append(s.Enum, name)
	}
	return s
}

// generateSpec says what Signalbox makes for a secret field.
type generateSpec struct {
	Kind      generateKind    `json:"kind"`
	Length    int             `json:"length,omitempty" minimum:"1" maximum:"128" doc:"Of a password, in characters; 12 to 128, 24 when it is left out."`
	Classes   []generateClass `json:"classes,omitempty" nullable:"false" minItems:"1" maxItems:"4" doc:"Of a password; all when they are left out. There is a character of each."`
	Words     int             `json:"words,omitempty" minimum:"1" maximum:"20" doc:"Of a passphrase; 5 to 20, 6 when it is left out."`
	Separator *string         `json:"separator,omitempty" maxLength:"3" doc:"Of a passphrase; - when it is left out."`
	Bytes     int             `json:"bytes,omitempty" minimum:"1" maximum:"1024" doc:"Of hex, base64 and base64url; 16 to 1024, 32 when it is left out."`
	Bits      int             `json:"bits,omitempty" minimum:"1" maximum:"4096" doc:"Of rsa: 2048, 3072 or 4096; 3072 when it is left out."`
	Comment   string          `json:"comment,omitempty" maxLength:"255" doc:"Of ed25519 and rsa; shown with the public key."`
}

// generates are what is made, by secret field.
type generates map[string]generateSpec

// Schema describes an object with specifications under free names.
func (generates) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: r.Schema(reflect.TypeFor[generateSpec](), true, "GenerateSpec"), MinProperties: size(1), MaxProperties: size(maxSecretFields),
		Extensions: map[string]any{"propertyNames": map[string]any{"pattern": freeKey.String()}},
	}
}

func (g generates) vault() vault.Generates {
	if g == nil {
		return nil
	}
	out := make(vault.Generates, len(g))
	for name, s := range g {
		spec := generate.Spec{Kind: generate.Kind(s.Kind), Length: s.Length, Words: s.Words, Separator: s.Separator, Bytes: s.Bytes, Bits: s.Bits, Comment: s.Comment}
		for _, c := range s.Classes {
			spec.Classes = append(spec.Classes, string(c))
		}
		out[name] = spec
	}
	return out
}

// shownFacts are facts as they go out; nil when nothing is known. Their parts have the same fields, which the conversions hold them to.
func shownFacts(f facts.Facts) *client.Facts {
	if f.IsZero() {
		return nil
	}
	return &client.Facts{
		Certificate: (*client.CertificateFacts)(f.Certificate), JWT: (*client.JWTFacts)(f.JWT), SSHKey: (*client.SSHKeyFacts)(f.SSHKey),
		Connection: (*client.ConnectionFacts)(f.Connection),
	}
}
