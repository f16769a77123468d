package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

const (
	allProviders = "/connections/providers"
	// newProvider is where a provider is added. No name begins with a tilde.
	newProvider = allProviders + "/~new"
)

// routeProviders names the pages of OAuth providers. Changing one needs a fresh proof, so their forms ask for it first.
func (s *site) routeProviders(mux *http.ServeMux) {
	mux.HandleFunc("GET /connections/providers", s.signedIn(s.providers))
	mux.HandleFunc("GET /connections/providers/~new", s.signedIn(s.forProviders(s.fresh(s.providerForm))))
	mux.HandleFunc("POST /connections/providers", s.submitted(s.providerMake))
	mux.HandleFunc("GET /connections/providers/{provider}", s.signedIn(s.provider))
	mux.HandleFunc("GET /connections/providers/{provider}/settings", s.signedIn(s.forProviders(s.fresh(s.providerSettingsForm))))
	mux.HandleFunc("POST /connections/providers/{provider}/settings", s.submitted(s.providerSettings))
	mux.HandleFunc("GET /connections/providers/{provider}/switch", s.signedIn(s.forProviders(s.fresh(s.providerSwitchForm))))
	mux.HandleFunc("POST /connections/providers/{provider}/switch", s.submitted(s.providerSwitch))
	mux.HandleFunc("POST /connections/providers/{provider}/discover", s.submitted(s.providerDiscover))
	mux.HandleFunc("GET /connections/providers/{provider}/delete", s.signedIn(s.forProviders(s.fresh(s.providerDeleteForm))))
	mux.HandleFunc("POST /connections/providers/{provider}/delete", s.submitted(s.providerDelete))
}

// forProviders turns away who may not change providers, before they are asked to prove who they are.
func (s *site) forProviders(serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if err := identity.Allow(v.Caller, identity.ProviderWrite); err != nil {
			s.refused(w, r, v, err)
			return
		}
		serve(w, r, v)
	}
}

func providerPath(name string, more ...string) string {
	path := allProviders + "/" + url.PathEscape(name)
	for _, part := range more {
		path += "/" + part
	}
	return path
}

// providersPage is the list of the servers at which one can log in.
type providersPage struct {
	ui.Frame
	Table ui.Table
	Write bool
}

// providerPage is one of them.
type providerPage struct {
	ui.Frame
	Provider oauth.Known
	Facts    []ui.Fact
	// Places are its addresses, Callback where it sends people back to; "" when it sends nobody.
	Places   []ui.Fact
	Callback string
	// Write says whether the visitor may change it, Discovers whether it can be asked for its endpoints, Deletes whether there is anything to delete.
	Write, Discovers, Deletes, Connects bool
}

func (s *site) providers(w http.ResponseWriter, r *http.Request, v visitor) {
	list, err := s.Logins.Providers(r.Context(), v.Caller)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &providersPage{Frame: s.frame(r, v, "Providers"), Write: s.changes(v, identity.ProviderWrite)}
	announce(&p.Frame, r, map[string]string{"deleted": "What was stored of the provider was deleted."})
	p.Table = ui.Table{ID: "providers", Caption: "OAuth servers at which one can log in", Columns: []ui.Column{{Label: "Provider"}, {Label: "Name"}, {Label: "State"}, {Label: "Ways"}, {Label: "Addresses"}}}
	for _, k := range list {
		origin := "set here"
		if k.Catalogue {
			origin = "of the catalogue"
		}
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: k.Name, Name: k.Name, Cells: []templ.Component{
			ui.Link(titleOf(k), providerPath(k.Name)), ui.Code(k.Name), providerState(k), ui.Text(waysText(k)), ui.Text(origin),
		}})
	}
	s.show(w, r, http.StatusOK, providersView(p))
}

// providerState says whether one can log in there, and if not, why.
func providerState(k oauth.Known) templ.Component {
	switch {
	case k.Tampered:
		return ui.Badge(ui.Bad, "changed outside")
	case !k.Enabled:
		return ui.Badge(ui.Idle, "off")
	case k.ClientID == "":
		return ui.Badge(ui.Warn, "no client id")
	}
	return ui.Badge(ui.Good, "on")
}

func waysText(k oauth.Known) string {
	var ways []string
	switch {
	case k.PasteBack:
		ways = append(ways, "code to paste")
	case k.AuthorizeURL != "":
		ways = append(ways, "browser")
	}
	if k.DeviceURL != "" {
		ways = append(ways, "another device")
	}
	if len(ways) == 0 {
		return "programs only"
	}
	return strings.Join(ways, ", ")
}

func (s *site) provider(w http.ResponseWriter, r *http.Request, v visitor) {
	k, err := s.Logins.Provider(r.Context(), v.Caller, r.PathValue("provider"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &providerPage{Frame: s.frame(r, v, titleOf(k)), Provider: k, Write: s.changes(v, identity.ProviderWrite)}
	p.Discovers = p.Write && !k.Catalogue && !k.Tampered && k.Issuer != ""
	p.Deletes = p.Write && k.ID != ""
	p.Connects = k.Enabled && !k.Tampered && k.ClientID != "" && s.changes(v, identity.CredentialWrite) && (k.AuthorizeURL != "" || k.DeviceURL != "")
	text := func(s string) templ.Component {
		if s == "" {
			return ui.Faint("none")
		}
		return ui.Text(s)
	}
	key := "not set"
	if k.HasSecret {
		key = "set"
	}
	p.Facts = []ui.Fact{
		{Term: "State", Value: providerState(k)}, {Term: "Name", Value: ui.Code(k.Name)}, {Term: "Ways", Value: ui.Text(waysText(k))}, {Term: "Client id", Value: text(k.ClientID)},
		{Term: "Client secret", Value: ui.Text(key)}, {Term: "Scopes", Value: text(strings.Join(k.Scopes, " "))},
	}
	p.Places = []ui.Fact{
		{Term: "Issuer", Value: text(k.Issuer)}, {Term: "Consent page", Value: text(k.AuthorizeURL)},
		{Term: "Token endpoint", Value: text(strings.Join(k.TokenURLs, " "))}, {Term: "Device codes", Value: text(k.DeviceURL)}, {Term: "Revocation", Value: text(k.RevokeURL)}, {Term: "Tokens are used at", Value: text(k.BaseURL)},
	}
	if len(k.Hosts) > 0 {
		p.Places = append(p.Places, ui.Fact{Term: "Sent only to", Value: ui.Text(strings.Join(k.Hosts, " "))})
	}
	if !k.PasteBack && k.AuthorizeURL != "" {
		if callback, err := s.Logins.CallbackURL(r.Host); err == nil {
			p.Callback = callback
		}
	}
	announce(&p.Frame, r, map[string]string{"made": "The provider was added. Register the redirect address there.", "changed": "The provider was changed. Logins that had begun there are void.",
		"on": "One can log in there now.", "off": "Nobody can log in there any more. Tokens that are there are still refreshed.", "discovered": "The issuer answered, and its endpoints are those below."})
	s.show(w, r, http.StatusOK, providerView(p))
}

// providerFields are the fields of a provider: of the catalogue's only what belongs to the client.
func providerFields(k oauth.Known, fresh bool) []ui.Field {
	line := func(name, label, value, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: hint}
	}
	var out []ui.Field
	if fresh {
		out = append(out, ui.Field{Name: "name", Label: "Name", Value: k.Name, MaxLength: 64, Autocomplete: "off", Focus: true, Hint: "Lower-case letters, digits, dots, dashes and underscores. It never changes."})
	}
	if !k.Catalogue {
		out = append(out, line("title", "Title", k.Title, "For people. The name when it is left out."),
			line("issuer", "Issuer", k.Issuer, "Such as https://id.example.com. It is asked for its endpoints, unless they are given below."),
			line("authorize_url", "Consent page", k.AuthorizeURL, "Together with the token endpoint, instead of asking the issuer."),
			line("token_urls", "Token endpoint", strings.Join(k.TokenURLs, " "), ""),
			line("device_url", "Device codes", k.DeviceURL, ""))
	}
	out = append(out, line("client_id", "Client id", k.ClientID, "What Signalbox is registered as there."))
	secretField := ui.Field{Name: "client_secret", Label: "Client secret", Type: "password", MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: "Kept sealed; no page shows it."}
	if k.HasSecret {
		secretField.Hint = "One is set; left empty, it stays. With other addresses it must be given again."
	}
	out = append(out, secretField, line("scopes", "Scopes", strings.Join(k.Scopes, " "), "With spaces between."))
	if !k.Catalogue {
		out = append(out, line("base_url", "Tokens are used at", k.BaseURL, "The base URL of what is lent."), line("hosts", "Sent only to these hosts", strings.Join(k.Hosts, " "), "With spaces between. That of the base URL when it is left out."))
	}
	return out
}

func providerChoices(k oauth.Known) []ui.Choice {
	c := ui.Choice{Name: "auth", Label: "How the client proves itself"}
	for _, a := range []struct {
		value provider.Auth
		label string
	}{{"", "As the issuer says, or by HTTP Basic"}, {provider.AuthBasic, "By HTTP Basic (client_secret_basic)"}, {provider.AuthPost, "In the form (client_secret_post)"}, {provider.AuthNone, "Not at all: a public client (none)"}} {
		c.Options = append(c.Options, ui.Option{Value: string(a.value), Label: a.label, Chosen: a.value == k.Auth})
	}
	return []ui.Choice{c}
}

// providerPosted reads a form. What is left empty and was empty is not set, so that an issuer is asked for it.
func providerPosted(r *http.Request, before oauth.Known) (oauth.Known, oauth.ProviderEdit) {
	k := oauth.Known{Catalogue: before.Catalogue, HasSecret: before.HasSecret}
	var e oauth.ProviderEdit
	form := r.PostForm
	text := func(name, was string, show *string, set **string) {
		*show = strings.TrimSpace(form.Get(name))
		if *show != was {
			value := *show
			*set = &value
		}
	}
	words := func(name string, was []string, show *[]string, set **[]string) {
		*show = strings.Fields(form.Get(name))
		if !slices.Equal(*show, was) {
			value := *show
			*set = &value
		}
	}
	text("client_id", before.ClientID, &k.ClientID, &e.ClientID)
	words("scopes", before.Scopes, &k.Scopes, &e.Scopes)
	if a := provider.Auth(form.Get("auth")); a != before.Auth {
		e.Auth = &a
	}
	k.Auth = provider.Auth(form.Get("auth"))
	if v := form.Get("client_secret"); v != "" {
		key := secret.FromString(v)
		e.ClientSecret = &key
	}
	if before.Catalogue {
		return k, e
	}
	text("title", before.Title, &k.Title, &e.Title)
	text("issuer", before.Issuer, &k.Issuer, &e.Issuer)
	text("authorize_url", before.AuthorizeURL, &k.AuthorizeURL, &e.AuthorizeURL)
	words("token_urls", before.TokenURLs, &k.TokenURLs, &e.TokenURLs)
	text("device_url", before.DeviceURL, &k.DeviceURL, &e.DeviceURL)
	text("base_url", before.BaseURL, &k.BaseURL, &e.BaseURL)
	words("hosts", before.Hosts, &k.Hosts, &e.Hosts)
	return k, e
}

func (s *site) newProviderPage(r *http.Request, v visitor, k oauth.Known) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Add a provider"), Back: allProviders, BackLabel: "Providers", Action: allProviders, Submit: "Add the provider", Hidden: v.hidden(),
		Lead: "With its issuer it is asked for its endpoints; else give its consent page and its token endpoint.", Inputs: providerFields(k, true), Choices: providerChoices(k)}
}

func (s *site) providerForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, askedView(s.newProviderPage(r, v, oauth.Known{})))
}

func (s *site) providerMake(w http.ResponseWriter, r *http.Request, v visitor) {
	k, e := providerPosted(r, oauth.Known{})
	name := strings.TrimSpace(r.PostForm.Get("name"))
	k.Name, e.Name = name, &name
	_, err := s.Logins.AddProvider(r.Context(), v.Caller, e)
	s.settled(w, r, v, atIssuer(err), providerPath(name)+"?done=made", newProvider, func(f *fault.Error) { s.again(w, r, listFault(f), s.newProviderPage(r, v, k)) })
}

// atIssuer is a fault that a form can be mended after: an issuer that does not tell its endpoints is beside the field that names it.
func atIssuer(err error) error {
	if f := fault.Of(err); err != nil && f.Code == unreachable {
		return fault.New(fault.Unprocessable, "validation_failed", f.Detail).With("/issuer", f.Detail).Because(err)
	}
	return err
}

// listFault puts what is wrong with one item of a list beside the field that has them all.
func listFault(f *fault.Error) *fault.Error {
	out := *f
	out.Fields = slices.Clone(f.Fields)
	for i := range out.Fields {
		if parts := strings.SplitN(out.Fields[i].Pointer, "/", 3); len(parts) == 3 {
			out.Fields[i].Pointer = "/" + parts[1]
		}
	}
	return &out
}

func (s *site) providerSettingsPage(r *http.Request, v visitor, now, shown oauth.Known) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Settings of "+titleOf(now)), Back: providerPath(now.Name), BackLabel: titleOf(now), Action: providerPath(now.Name, "settings"), Submit: "Change",
		Lead: "Logins that have begun there are void then.", Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: now.ETag()}), Inputs: providerFields(shown, false), Choices: providerChoices(shown)}
}

func (s *site) providerSettingsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	k, err := s.Logins.Provider(r.Context(), v.Caller, r.PathValue("provider"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.providerSettingsPage(r, v, k, k)))
}

func (s *site) providerSettings(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.PathValue("provider")
	now, err := s.Logins.Provider(r.Context(), v.Caller, name)
	var shown oauth.Known
	if err == nil {
		var e oauth.ProviderEdit
		shown, e = providerPosted(r, now)
		e.IfMatch = r.PostForm.Get("if_match")
		_, err = s.Logins.ChangeProvider(r.Context(), v.Caller, name, e)
	}
	s.settled(w, r, v, atIssuer(err), providerPath(name)+"?done=changed", providerPath(name, "settings"), func(f *fault.Error) { s.again(w, r, listFault(f), s.providerSettingsPage(r, v, now, shown)) })
}

// providerDiscover asks the issuer again for its endpoints: a test of it, and a change when it says something new.
func (s *site) providerDiscover(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.PathValue("provider")
	k, err := s.Logins.Provider(r.Context(), v.Caller, name)
	if err == nil {
		_, err = s.Logins.ChangeProvider(r.Context(), v.Caller, name, oauth.ProviderEdit{Issuer: &k.Issuer, IfMatch: k.ETag()})
	}
	s.settled(w, r, v, err, providerPath(name)+"?done=discovered", providerPath(name), nil)
}

func (s *site) providerSwitchPage(r *http.Request, v visitor, k oauth.Known) *askedPage {
	p := &askedPage{Frame: s.frame(r, v, "Switch "+titleOf(k)+" on"), Back: providerPath(k.Name), BackLabel: titleOf(k), Action: providerPath(k.Name, "switch"), Submit: "Switch it on",
		Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: k.ETag()}, ui.Hidden{Name: "to", Value: "on"}), Lead: "Everybody who may store credentials can log in there then."}
	switch {
	case k.Enabled:
		p.Title, p.Submit, p.Lead = "Switch "+titleOf(k)+" off", "Switch it off", "Nobody can log in there any more. Tokens that are there are still refreshed."
		p.Hidden[2].Value = "off"
	case k.Consumer != "":
		p.Alert = k.Consumer
		p.Choices = []ui.Choice{{Name: "terms_read", Label: "Why it is off", Multiple: true, Hint: "It is recorded that you have.", Options: []ui.Option{{Value: "yes", Label: "I have read why it is off, and want it on"}}}}
	}
	return p
}

func (s *site) providerSwitchForm(w http.ResponseWriter, r *http.Request, v visitor) {
	k, err := s.Logins.Provider(r.Context(), v.Caller, r.PathValue("provider"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.providerSwitchPage(r, v, k)))
}

func (s *site) providerSwitch(w http.ResponseWriter, r *http.Request, v visitor) {
	name, on := r.PathValue("provider"), r.PostForm.Get("to") == "on"
	_, err := s.Logins.ChangeProvider(r.Context(), v.Caller, name, oauth.ProviderEdit{Enabled: &on, TermsRead: r.PostForm.Get("terms_read") == "yes", IfMatch: r.PostForm.Get("if_match")})
	done := "off"
	if on {
		done = "on"
	}
	s.settled(w, r, v, err, providerPath(name)+"?done="+done, providerPath(name, "switch"), func(f *fault.Error) {
		k, err := s.Logins.Provider(r.Context(), v.Caller, name)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p := s.providerSwitchPage(r, v, k)
		if f.Code == "terms_unread" && len(p.Choices) > 0 {
			p.Choices[0].Error = "Read it, and tick this."
		} else {
			p.Alert = f.Detail
		}
		s.refuse(w, r, f, askedView(p))
	})
}

func (s *site) providerDeletePage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, error) {
	k, err := s.Logins.Provider(r.Context(), v.Caller, r.PathValue("provider"))
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	c := ui.Confirm{Lead: "The provider " + titleOf(k) + " is deleted for good.", Touches: []string{"Nobody can log in there any more.", "While credentials belong to it, it is not deleted."},
		Action: providerPath(k.Name, "delete"), Submit: "Delete the provider", Back: providerPath(k.Name), Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: k.ETag()})}
	if k.Catalogue {
		c.Lead = "What was set of " + titleOf(k) + " is deleted: it is as it was delivered again."
		c.Touches = []string{"Its client id, its client secret and its scopes are gone.", "Credentials of it stay, and can be refreshed once it is set again."}
	}
	return s.frame(r, v, "Delete "+titleOf(k)), c, nil
}

func (s *site) providerDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.providerDeletePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, "Provider", c))
}

func (s *site) providerDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.PathValue("provider")
	s.settled(w, r, v, s.Logins.DeleteProvider(r.Context(), v.Caller, name, r.PostForm.Get("if_match")), allProviders+"?done=deleted", providerPath(name, "delete"), nil)
}
