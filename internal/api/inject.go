package api

import (
	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/vault"
)

// injectKind is one of the vault's table.
type injectKind string

// Schema lists the kinds of the table.
func (injectKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range vault.Injections() {
		s.Enum = append(s.Enum, string(row.Kind))
	}
	return s
}

// injectDraft is how the secret goes into a request, as it comes in. The length mirrors the column.
type injectDraft struct {
	Type injectKind `json:"type" doc:"bearer and basic are the two of the header Authorization, header and query a header or a query parameter of the name."`
	Name string     `json:"name,omitempty" maxLength:"100" doc:"Of the header or query parameter; the other types take none."`
}

func (d *injectDraft) vault() vault.Inject {
	if d == nil {
		return vault.Inject{}
	}
	return vault.Inject{Kind: vault.InjectKind(d.Type), Name: d.Name}
}

// injectPatch is the merge patch of the rule.
type injectPatch struct {
	Type edit[injectKind] `json:"type,omitempty"`
	Name edit[string]     `json:"name,omitempty" maxLength:"100"`
}

func injectEdit(p edit[injectPatch]) vault.InjectPatch {
	return vault.InjectPatch{Clear: p.set && p.null, Kind: mapped(p.value.Type, func(k injectKind) vault.InjectKind { return vault.InjectKind(k) }), Name: p.value.Name.vault()}
}

// shownInject is the credential's own rule, as it goes out; nothing for its type's.
func shownInject(in vault.Inject) *client.Inject {
	if in == (vault.Inject{}) {
		return nil
	}
	return &client.Inject{Type: string(in.Kind), Name: in.Name}
}

// patterns are patterns of paths.
type patterns []string

// Schema describes the list.
func (patterns) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(512)}, MaxItems: size(64)}
}
