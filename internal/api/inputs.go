package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// The types of this file are what input bodies and queries are made of besides the plain ones. Each tells huma its schema, so that the
// document, the check and the decoding have one source.

// formatSecret marks texts that are secrets; the checker lets them hold any character.
const formatSecret = "password"

// maxSecretChars bounds one secret field, in characters; the vault bounds its bytes.
const maxSecretChars = 64 << 10

// hidden is a secret on its way in. It is unprintable from the moment at which it is decoded.
type hidden struct{ secret.Value }

// UnmarshalJSON takes a JSON string.
func (h *hidden) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	h.Value = secret.FromString(s)
	return nil
}

// Schema describes a secret text.
func (hidden) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: formatSecret, WriteOnly: true, MinLength: size(1), MaxLength: size(maxSecretChars)}
}

func size(n int) *int { return &n }

// secretFields are the secret fields of a credential or of a new version.
type secretFields map[string]hidden

// Schema describes an object with secret texts under free names.
func (secretFields) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: hidden{}.Schema(r), MinProperties: size(1), MaxProperties: size(maxSecretFields),
		Extensions: map[string]any{"propertyNames": map[string]any{"pattern": freeKey.String()}},
	}
}

const maxSecretFields = 32

func (f secretFields) values() map[string]secret.Value {
	out := make(map[string]secret.Value, len(f))
	for name, h := range f {
		out[name] = h.Value
	}
	return out
}

// secretEdits are secret fields of a patch; null removes one.
type secretEdits map[string]*hidden

// Schema describes an object with secret texts or null under free names.
func (secretEdits) Schema(r huma.Registry) *huma.Schema {
	s := secretFields{}.Schema(r)
	value := hidden{}.Schema(r)
	value.Nullable = true
	s.AdditionalProperties = value
	return s
}

func (f secretEdits) values() map[string]*secret.Value {
	if f == nil {
		return nil
	}
	out := make(map[string]*secret.Value, len(f))
	for name, h := range f {
		out[name] = nil
		if h != nil {
			v := h.Value
			out[name] = &v
		}
	}
	return out
}

// edit is one field of a merge patch (RFC 7396): absent, null or a value.
type edit[T any] struct {
	set, null bool
	value     T
}

// UnmarshalJSON takes null or a value; it is not called for an absent field.
func (e *edit[T]) UnmarshalJSON(b []byte) error {
	e.set = true
	if string(b) == "null" {
		e.null = true
		return nil
	}
	return json.Unmarshal(b, &e.value)
}

// Schema is that of the value, or null.
func (edit[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), false, "")
	s.Nullable = true
	if len(s.Enum) > 0 {
		s.Enum = append(slices.Clone(s.Enum), nil) // or a reader of the schema would refuse null
	}
	return &s
}

// vault returns the edit as the vault knows it; there, too, null is the zero value.
func (e edit[T]) vault() vault.Edit[T] {
	if !e.set {
		return vault.Edit[T]{}
	}
	return vault.To(e.value)
}

// pointer returns the value for rooms that have no null: nil leaves the field, null is the zero value.
func (e edit[T]) pointer() *T {
	if !e.set {
		return nil
	}
	v := e.value
	return &v
}

// mapped returns an edit whose value the vault knows under another type.
func mapped[T, U any](e edit[T], convert func(T) U) vault.Edit[U] {
	switch {
	case !e.set:
		return vault.Edit[U]{}
	case e.null:
		return vault.Clear[U]()
	}
	return vault.To(convert(e.value))
}

func textEdit[T ~string](e edit[T]) vault.Edit[string] {
	return mapped(e, func(v T) string { return string(v) })
}

func timeEdit(e edit[time.Time]) vault.Edit[*time.Time] {
	return mapped(e, func(v time.Time) *time.Time { return &v })
}

func secretEdit(e edit[hidden]) vault.Edit[secret.Value] {
	return mapped(e, func(v hidden) secret.Value { return v.Value })
}

func listEdit(e edit[texts]) vault.Edit[[]string] {
	return mapped(e, func(v texts) []string { return v })
}

// texts is a list of short texts.
type texts []string

// Schema describes the list; where it is used says how long it may be.
func (texts) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(255)}, MaxItems: size(100)}
}

// credentialType is one of the vault's table.
type credentialType string

// Schema lists the types of the table.
func (credentialType) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range vault.Types() {
		s.Enum = append(s.Enum, string(row.Type))
	}
	return s
}

// credentialHealth is one of the vault's table.
type credentialHealth string

// Schema lists the healths of the table.
func (credentialHealth) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, health := range vault.Healths() {
		s.Enum = append(s.Enum, string(health))
	}
	return s
}

// credentialStatus is one of the vault's table.
type credentialStatus string

// Schema lists the statuses of the table.
func (credentialStatus) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, status := range vault.Statuses() {
		s.Enum = append(s.Enum, string(status))
	}
	return s
}

// authMethod says how a client names itself at a token endpoint.
type authMethod string

// Schema lists the methods.
func (authMethod) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"client_secret_basic", "client_secret_post", "none"}}
}

// requestFormat is the form of a body that a token endpoint takes.
type requestFormat string

// Schema lists the formats.
func (requestFormat) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"json", "form"}}
}

// grantType is how tokens come when it is not by somebody's consent.
type grantType string

// Schema lists the grants.
func (grantType) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"client_credentials"}}
}

// scope is one of identity's table.
type scope string

// Schema lists the permissions of the table.
func (scope) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range identity.Permissions() {
		s.Enum = append(s.Enum, string(row.Permission))
	}
	return s
}

// Page is the part of a query that every list has. It is exported, as the other embedded parts of inputs are, because huma passes over
// embedded structs that are not.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; 100 when it is left out."`
	Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the page before."`
	Skip   int    `query:"skip" minimum:"0" maximum:"1000000" doc:"How many to leave out at the beginning."`
}

// instant returns a time parameter; huma has no pointers there.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ByID is the path of one thing.
type ByID struct {
	ID string `path:"id" doc:"Its id."`
}

// OfTrain is the path of a train and of what belongs to it.
type OfTrain struct {
	Train string `path:"train_id" doc:"The train's slug or id."`
}

// IfMatch is the condition of an update.
type IfMatch struct {
	IfMatch string `header:"If-Match" maxLength:"1000" doc:"The ETag that was read; the change is refused when it is no longer current."`
}
