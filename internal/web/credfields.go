package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// maxSecretForm holds what the vault takes of secrets at once, as a browser encodes it.
const maxSecretForm = 1 << 20

// The fields of forms are named as faults point at them, without the slash in front: "base_url", "oauth/client_id", "secrets/password".

// secretPrefix begins the names of secret fields in forms.
const secretPrefix = "secrets/"

// secretInputs are the secret fields of a type, always empty: what was typed is not sent back. With have, the names that the credential has now, an empty
// one stays as it is.
func secretInputs(row vault.TypeRow, have []string, rotate bool) []ui.Field {
	var out []ui.Field
	for _, f := range row.Secrets {
		if f.Aside && !rotate {
			continue
		}
		in := secretInput(f.Name)
		in.Optional = !f.Required || rotate
		in.Free = f.Makes != vault.MadeNowhere
		if rotate {
			in.Hint = "It is not set. "
			if slices.Contains(have, f.Name) {
				in.Hint = "Empty leaves it as it is. "
			}
		}
		in.Hint = strings.TrimSpace(in.Hint + suffixHint(f))
		out = append(out, in)
	}
	if row.AnyNames {
		for _, name := range have {
			in := secretInput(name)
			in.Optional, in.Hint = true, "Empty leaves it as it is."
			out = append(out, in)
		}
		out = append(out, ui.Field{Name: "field", Label: "Name of a secret field", MaxLength: 64, Autocomplete: "off", Optional: rotate, Hint: "Small letters, digits and underscores, such as pin. More fields can be added later, by rotating."},
			ui.Field{Name: "secrets", Label: "Its value", Type: "password", Autocomplete: "new-password", Optional: rotate, Free: true})
	}
	return out
}

func suffixHint(f vault.SecretField) string {
	if f.Suffix {
		return "Lists show the last four characters when it has at least 16."
	}
	return ""
}

// secretInput is one secret field: several lines where a key or a certificate is pasted.
func secretInput(name string) ui.Field {
	f := ui.Field{Name: secretPrefix + name, Label: fieldLabel(name), Autocomplete: "off"}
	switch name {
	case "private_key", "certificate", "signing_key":
		f.Rows = 4
	default:
		f.Type, f.Autocomplete = "password", "new-password"
	}
	return f
}

// fieldLabel is the name of a secret field as people write it.
func fieldLabel(name string) string {
	text := strings.ReplaceAll(name, "_", " ")
	text = strings.ReplaceAll(text, "api key", "API key")
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// secretsPosted reads the secret fields of a form that are not empty. Line ends are those of the server, not of the browser.
func secretsPosted(form url.Values) map[string]secret.Value {
	out := map[string]secret.Value{}
	take := func(name, text string) {
		if text != "" {
			out[name] = secret.FromString(strings.ReplaceAll(text, "\r\n", "\n"))
		}
	}
	for name := range form {
		if field, ok := strings.CutPrefix(name, secretPrefix); ok {
			take(field, form.Get(name))
		}
	}
	if form.Get("field") != "" || form.Get("secrets") != "" {
		take(form.Get("field"), form.Get("secrets"))
	}
	return out
}

// metaInputs are the fields of a credential that say what it is and whose.
func metaInputs(row vault.TypeRow, m vault.Meta, notes string) []ui.Field {
	text := func(name, label, value string, most int, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Hint: hint, Autocomplete: "off", Optional: name != "name"}
	}
	out := []ui.Field{text("name", "Name", m.Name, 200, "")}
	if row.Account {
		out = append(out, text("account_id", "Account id", m.AccountID, 204, "Of accounts of an LLM provider only; acc_ and the name when it is left out."))
	}
	out = append(out, text("username", "User name", m.Username, 320, ""))
	description, remarks := text("description", "Description", m.Description, 2000, ""), text("notes", "Notes", notes, 10_000, "Sealed; whoever may read the credential reads them.")
	description.Rows, remarks.Rows = 2, 3
	out = append(out, description, text("tags", "Tags", strings.Join(m.Tags, ", "), 5000, "Separated by commas."), text("owner", "Owner", m.Owner, 200, "Whose it is, in words."))
	out = append(out, ui.Field{Name: "expires_at", Label: "Ends on", Type: "date", Value: dayOf(m.ExpiresAt), Optional: true, Hint: "At the end of that day, UTC."},
		ui.Field{Name: "rotate_every_days", Label: "Rotate every so many days", Type: "number", Min: "0", Max: "3650", Value: numberOr(m.RotateEvery), Optional: true})
	return append(out, remarks)
}

// placeInputs are the fields that few credentials have.
func placeInputs(m vault.Meta) []ui.Field {
	text := func(name, label, value string, most int) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Autocomplete: "off", Optional: true}
	}
	return []ui.Field{
		text("plugin_name", "Plugin", m.PluginName, 100), text("external_url", "Address from outside", m.ExternalURL, 2048), text("internal_url", "Address from inside", m.InternalURL, 2048),
		{Name: "port", Label: "Port", Type: "number", Min: "0", Max: "65535", Value: numberOr(m.Port), Optional: true},
	}
}

// targetInputs are the fields that decide where the secret is sent.
func targetInputs(row vault.TypeRow, m vault.Meta) []ui.Field {
	text := func(name, label, value string, most int, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Hint: hint, Autocomplete: "off", Optional: true}
	}
	provider := text("provider", "Provider", m.Provider, 100, "")
	if row.Account {
		provider.Hint = "With an LLM provider it is an account."
		for _, p := range vault.Providers() {
			provider.List = append(provider.List, ui.Option{Value: p.Name, Label: p.Name})
		}
	}
	out := []ui.Field{provider, text("base_url", "Base URL", m.BaseURL, 2048, "Where it is used; the provider's own when it is left out."),
		text("hosts", "Hosts", strings.Join(m.Hosts, ", "), 5000, "The only hosts that the secret may be sent to, separated by commas; that of the base URL when it is left out.")}
	if row.OAuth {
		o := m.OAuth
		out = append(out, text("oauth/client_id", "OAuth client", o.ClientID, 255, ""), text("oauth/token_endpoint", "Token endpoint", o.TokenEndpoint, 2048, "Where tokens are refreshed; the provider's when it is left out."),
			text("oauth/scopes", "Scopes", strings.Join(o.Scopes, " "), 5000, "Separated by spaces."), text("oauth/resource", "Resource", o.Resource, 2048, "What the tokens are for (RFC 8707)."))
	}
	if row.Account {
		out = append(out, upstreamInputs(m.Upstream)...)
	}
	return append(out, injectInputs(row, m)...)
}

// targetChoices are how the secret goes into requests and, of an OAuth credential, what its token endpoint wants.
func targetChoices(row vault.TypeRow, m vault.Meta) []ui.Choice {
	out := injectChoices(row, m)
	if !row.OAuth {
		return out
	}
	choice := func(name, label, now string, values ...string) ui.Choice {
		c := ui.Choice{Name: name, Label: label}
		for _, value := range values {
			shown := value
			if value == "" {
				shown = "as the provider has it"
			}
			c.Options = append(c.Options, ui.Option{Value: value, Label: shown, Chosen: value == now})
		}
		return c
	}
	return append(out, []ui.Choice{
		choice("oauth/token_endpoint_auth_method", "How the client proves itself", m.OAuth.AuthMethod, "", "client_secret_basic", "client_secret_post", "none"),
		choice("oauth/token_request_format", "Form of requests", m.OAuth.RequestFormat, "", "form", "json"),
		choice("oauth/grant_type", "How tokens come", m.OAuth.GrantType, "", vault.GrantClientCredentials),
	}...)
}

// needs are the two ticks of a credential.
func needs(m vault.Meta) ui.Choice {
	return ui.Choice{Name: "requires", Label: "Whoever uses it needs", Multiple: true, Options: []ui.Option{
		{Value: "vpn", Label: "a VPN", Chosen: m.RequiresVPN}, {Value: "2fa", Label: "a second factor there", Chosen: m.Requires2FA},
	}}
}

// metaPosted reads from a form the fields that [metaInputs], [placeInputs] and needs have.
func metaPosted(r *http.Request, m *vault.Meta) error {
	form := r.PostForm
	m.Name, m.AccountID, m.Username, m.Description, m.Owner = form.Get("name"), form.Get("account_id"), form.Get("username"), form.Get("description"), form.Get("owner")
	m.ClientID, m.ServiceID, m.InfrastructureID, m.PluginName = form.Get("client_id"), form.Get("service_id"), form.Get("infrastructure_id"), form.Get("plugin_name")
	m.ExternalURL, m.InternalURL = form.Get("external_url"), form.Get("internal_url")
	m.Description = strings.ReplaceAll(m.Description, "\r\n", "\n")
	m.Tags = split(form.Get("tags"))
	m.RequiresVPN, m.Requires2FA = slices.Contains(form["requires"], "vpn"), slices.Contains(form["requires"], "2fa")
	bad := fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.")
	whole := func(name string, to *int) {
		*to = 0
		if text := form.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				_ = bad.With("/"+name, "must be a whole number")
			}
			*to = n
		}
	}
	whole("rotate_every_days", &m.RotateEvery)
	whole("port", &m.Port)
	switch text := form.Get("expires_at"); {
	case text == "":
		m.ExpiresAt = nil
	case m.ExpiresAt == nil || text != dayOf(m.ExpiresAt): // one that stays keeps its hour
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			_ = bad.With("/expires_at", "must be a day, such as 2027-01-31")
			break
		}
		t = t.Add(24*time.Hour - time.Second)
		m.ExpiresAt = &t
	}
	if len(bad.Fields) > 0 {
		return bad
	}
	return nil
}

// targetPosted reads from a form the fields that [targetInputs] and [targetChoices] have.
func targetPosted(r *http.Request, m *vault.Meta) {
	form := r.PostForm
	m.Provider, m.BaseURL, m.Hosts = form.Get("provider"), form.Get("base_url"), split(form.Get("hosts"))
	o := &m.OAuth
	o.ClientID, o.TokenEndpoint, o.Resource = form.Get("oauth/client_id"), form.Get("oauth/token_endpoint"), form.Get("oauth/resource")
	o.AuthMethod, o.RequestFormat, o.GrantType = form.Get("oauth/token_endpoint_auth_method"), form.Get("oauth/token_request_format"), form.Get("oauth/grant_type")
	o.Scopes = strings.Fields(form.Get("oauth/scopes"))
	m.Upstream = upstreamPosted(form)
	injectPosted(form, m)
}

// aimed is a fault whose pointers are the names of fields in forms: an entry of a list is the list, and a secret field without one of its own is the
// type's.
func aimed(f *fault.Error, fields ...[]ui.Field) *fault.Error {
	known := map[string]bool{}
	for _, list := range fields {
		for _, in := range list {
			known["/"+in.Name] = true
		}
	}
	out := fault.New(f.Kind, f.Code, f.Detail)
	for _, e := range f.Fields {
		at := e.Pointer
		for !known[at] {
			i := strings.LastIndexByte(at, '/')
			if i <= 0 {
				at = e.Pointer
				break
			}
			at = at[:i]
		}
		_ = out.With(at, e.Message)
	}
	return out
}

// mark puts what a fault says beside the fields of several lists, and returns what belongs to none of them.
func mark(f *fault.Error, fields ...[]ui.Field) string {
	f = aimed(f, fields...)
	left := fault.New(f.Kind, f.Code, f.Detail)
	for _, list := range fields {
		for i := range list {
			list[i].Focus = false
		}
		_ = markInputs(list, f)
	}
	for _, e := range f.Fields {
		if !slices.ContainsFunc(fields, func(list []ui.Field) bool {
			return slices.ContainsFunc(list, func(in ui.Field) bool { return "/"+in.Name == e.Pointer })
		}) {
			_ = left.With(e.Pointer, e.Message)
		}
	}
	if len(f.Fields) > 0 && len(left.Fields) == 0 {
		return ""
	}
	return alertOf(left)
}

func dayOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

func numberOr(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
