package web

import (
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// injectInputs are the fields that say into which requests the secret goes, and by what name.
func injectInputs(row vault.TypeRow, m vault.Meta) []ui.Field {
	if !row.Lends() {
		return nil
	}
	paths := ui.Field{Name: "paths", Label: "Paths", Value: strings.Join(m.Paths, "\n"), MaxLength: 33_000, Rows: 3, Autocomplete: "off", Optional: true,
		Hint: "The only paths below the base URL that a request with it may have, one a line; all when it is left out. A star is one segment, /** at the end everything below, such as /repos/*/issues."}
	return []ui.Field{
		{Name: "methods", Label: "Methods", Value: strings.Join(m.Methods, ", "), MaxLength: 1000, Autocomplete: "off", Optional: true, Hint: "The only HTTP methods that a request with it may have, separated by commas; all when it is left out."}, paths,
		{Name: "inject/name", Label: "Name of the header or parameter", Value: m.Inject.Name, MaxLength: 100, Autocomplete: "off", Optional: true, Hint: "Where the secret goes into a header or a query parameter of its own, such as X-Api-Key."},
	}
}

// injectChoices says how it goes.
func injectChoices(row vault.TypeRow, m vault.Meta) []ui.Choice {
	if !row.Lends() {
		return nil
	}
	own := "nothing is said: it goes into none"
	if row.Inject != "" {
		own = "as its type does: " + injectWords(vault.Inject{Kind: row.Inject})
	}
	c := ui.Choice{Name: "inject/type", Label: "How the secret goes into requests", Options: []ui.Option{{Label: own, Chosen: m.Inject.Kind == ""}}}
	for _, kind := range vault.Injections() {
		label := injectWords(vault.Inject{Kind: kind.Kind})
		if kind.Named {
			label += " of the name above"
		}
		c.Options = append(c.Options, ui.Option{Value: string(kind.Kind), Label: label, Chosen: m.Inject.Kind == kind.Kind})
	}
	return []ui.Choice{c}
}

// injectWords says a rule in words.
func injectWords(in vault.Inject) string {
	kind, _ := vault.LookupInjection(in.Kind)
	switch {
	case in.Kind == vault.InjectBearer:
		return "Authorization: Bearer"
	case in.Kind == vault.InjectBasic:
		return "Authorization: Basic, with the user name"
	case kind.Query:
		return strings.TrimSpace("query parameter " + in.Name)
	case kind.Named:
		return strings.TrimSpace("header " + in.Name)
	}
	return string(in.Kind) // of a newer version
}

// injectPosted reads the fields that [injectInputs] and [injectChoices] have.
func injectPosted(form url.Values, m *vault.Meta) {
	m.Inject = vault.Inject{Kind: vault.InjectKind(form.Get("inject/type")), Name: form.Get("inject/name")}
	m.Methods, m.Paths = split(form.Get("methods")), nil
	for line := range strings.Lines(form.Get("paths")) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			m.Paths = append(m.Paths, line)
		}
	}
}

// injectEdit makes a patch say all of it.
func injectEdit(p *vault.Patch, m vault.Meta) {
	p.Inject = vault.InjectPatch{Kind: vault.To(m.Inject.Kind), Name: vault.To(m.Inject.Name)}
	p.Methods, p.Paths = vault.To(m.Methods), vault.To(m.Paths)
}

// injectFacts say how and into which requests a credential goes, and what is in the way.
func injectFacts(one vault.Credential) (out []ui.Fact) {
	fact := func(term, value string) {
		if value != "" {
			out = append(out, ui.Fact{Term: term, Value: ui.Text(value)})
		}
	}
	if rule := one.InjectRule(); one.BaseURL != "" || one.Inject != (vault.Inject{}) {
		fact("Goes into requests as", injectWords(rule))
	}
	fact("Cannot go into requests", one.InjectWarning())
	fact("Methods", strings.Join(one.Methods, ", "))
	fact("Paths", strings.Join(one.Paths, ", "))
	return out
}
