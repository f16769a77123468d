package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// connectPage leads to a login at an OAuth provider. A plugin may link to it with what the login is for: provider, name, credential, base_url,
// scope, resource, plugin, next. What such a link decides about the token is shown, since whoever follows it may not have written it: where the token
// is sent, what it allows and what it is for.
type connectPage struct {
	ui.Frame
	Alert     string
	Wrong     string // what is the matter with the provider
	Providers []ui.Option
	Existing  []ui.Option // the credentials that could get new tokens instead of a new one being stored
	Device    bool        // some provider has codes to be typed on another device
	Browser   bool        // some provider has a page at which people consent
	Again     string      // the name of the credential that is logged in again
	Inputs    []ui.Field
	Hidden    []ui.Hidden
	Told      []told // what the address asks for, which its person must see before they agree to it
	Foreign   string // the host that the token would be sent to and that is not the provider's own
}

// told is something that a link asks for, in words.
type told struct{ Label, Value string }

// connectFields are what the page takes over from its address, besides the provider and the name.
func connectFields() []string {
	return []string{"credential", "base_url", "scope", "resource", "plugin", "next"}
}

func (s *site) connectPage(r *http.Request, v visitor, given url.Values) (*connectPage, error) {
	p := &connectPage{Frame: s.frame(r, v, "Connect an account"), Hidden: v.hidden()}
	for _, name := range connectFields() {
		if text := given.Get(name); text != "" && len(text) <= 2048 {
			if name == "base_url" && given.Get("credential") != "" {
				continue // a credential that is there keeps its own
			}
			p.Hidden = append(p.Hidden, ui.Hidden{Name: name, Value: text})
			if label := connectLabels()[name]; label != "" {
				p.Told = append(p.Told, told{Label: label, Value: text})
			}
		}
	}
	if id := given.Get("credential"); id != "" {
		c, err := s.Logins.Credential(r.Context(), v.Caller, id)
		if err != nil {
			return nil, err
		}
		p.Title, p.Again = "Log in again", c.Name
		k, err := s.Logins.Provider(r.Context(), v.Caller, c.Provider)
		if err != nil {
			return nil, err
		}
		p.Device, p.Browser = k.DeviceURL != "", k.AuthorizeURL != "" || k.DeviceURL == ""
		return p, nil
	}
	list, err := s.Logins.Providers(r.Context(), v.Caller)
	if err != nil {
		return nil, err
	}
	usable := slices.DeleteFunc(list, func(k oauth.Known) bool {
		return !k.Enabled || k.Tampered || k.AuthorizeURL == "" && k.DeviceURL == "" || k.ClientID == ""
	})
	if base := given.Get("base_url"); base != "" {
		i := slices.IndexFunc(usable, func(k oauth.Known) bool { return k.Name == given.Get("provider") })
		if i >= 0 {
			usable = usable[i : i+1] // another provider's token was not asked for, and the warning is for this one
		}
		if i < 0 || !ownHost(usable[0], base) {
			p.Foreign = hostOf(base)
		}
	}
	for _, k := range usable {
		p.Providers = append(p.Providers, ui.Option{Value: k.Name, Label: titleOf(k), Chosen: k.Name == given.Get("provider")})
		p.Device, p.Browser = p.Device || k.DeviceURL != "", p.Browser || k.AuthorizeURL != ""
	}
	if err := s.offerExisting(r, v, p, usable, given); err != nil {
		return nil, err
	}
	p.Inputs = []ui.Field{{Name: "name", Label: "Name", Type: "text", Value: given.Get("name"), Autocomplete: "off", MaxLength: 200, Hint: "What this account is called here.", Optional: len(p.Existing) > 0}}
	if len(p.Existing) > 0 {
		p.Inputs[0].Hint = "What the new one is called here. One that is there keeps its name."
	}
	return p, nil
}

func titleOf(k oauth.Known) string {
	if k.Title != "" {
		return k.Title
	}
	return k.Name
}

// offerExisting offers the credentials of the providers that could get new tokens.
func (s *site) offerExisting(r *http.Request, v visitor, p *connectPage, usable []oauth.Known, given url.Values) error {
	if len(usable) == 0 || given.Get("base_url") != "" { // who wants the token elsewhere wants a new one
		return nil
	}
	list, err := s.Logins.Credentials(r.Context(), v.Caller)
	if err != nil {
		return err
	}
	only := given.Get("provider")
	for _, c := range list {
		of := func(k oauth.Known) bool { return k.Name == c.Provider }
		if i := slices.IndexFunc(usable, of); i >= 0 && logsIn(c) && (only == "" || only == c.Provider || !slices.ContainsFunc(usable, func(k oauth.Known) bool { return k.Name == only })) {
			p.Existing = append(p.Existing, ui.Option{Value: c.ID, Label: c.Name + " (" + titleOf(usable[i]) + ", " + healthText(c.Health) + ")", Chosen: c.ID == given.Get("existing")})
		}
	}
	if len(p.Existing) > 0 {
		p.Existing = append([]ui.Option{{Label: "A new one"}}, p.Existing...)
	}
	return nil
}

// connectLabels names what is shown of a link.
func connectLabels() map[string]string {
	return map[string]string{"base_url": "The token is sent to", "scope": "It is asked for with the scopes", "resource": "It is asked for the resource"}
}

// ownHost reports whether an address is of a host that the provider's tokens are for anyway.
func ownHost(k oauth.Known, address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	own, err := url.Parse(k.BaseURL)
	if err == nil && own.Host != "" && u.Scheme == own.Scheme && strings.EqualFold(u.Host, own.Host) {
		return true
	}
	return u.Scheme == "https" && slices.ContainsFunc(k.Hosts, func(host string) bool { return strings.EqualFold(host, u.Host) })
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

func (s *site) connectForm(w http.ResponseWriter, r *http.Request, v visitor) {
	err := mayAtAll(v, identity.CredentialWrite)
	if s.ReadOnly {
		err = readOnly()
	}
	var p *connectPage
	if err == nil {
		p, err = s.connectPage(r, v, r.URL.Query())
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, connectView(p))
}

// pastePage takes what a provider's page shows.
type pastePage struct {
	ui.Frame
	Alert, Address, Label string
	Hidden                []ui.Hidden
	Inputs                []ui.Field
}

func (s *site) pastePage(r *http.Request, v visitor, address, label string) *pastePage {
	return &pastePage{Frame: s.frame(r, v, "Log in at "+label), Address: address, Label: label, Hidden: v.hidden(), Inputs: []ui.Field{{
		Name: "pasted", Label: "Code", Type: "password", Autocomplete: "off", MaxLength: 16384, Hint: "The whole text that the page shows after you agreed.",
	}}}
}

// connect begins a login and leads the browser to the provider: by a page of ours and not by a redirect, since browsers hold the redirect of a form
// to the form-action of the page that it stood on, which allows this server alone.
func (s *site) connect(w http.ResponseWriter, r *http.Request, v visitor) {
	form := r.PostForm
	start := oauth.Start{
		Provider: form.Get("provider"), CredentialID: form.Get("credential"), Scopes: strings.Fields(form.Get("scope")), Resource: form.Get("resource"), Way: oauth.ByBrowser,
		New: oauth.Draft{Name: form.Get("name"), BaseURL: form.Get("base_url"), PluginName: form.Get("plugin")},
	}
	if len(start.Scopes) == 0 {
		start.Scopes = nil
	}
	if start.Next = localPath(form.Get("next")); form.Get("next") == "" {
		start.Next = "/connections?done=connected"
	}
	if id := form.Get("existing"); id != "" && start.CredentialID == "" {
		start.CredentialID, start.Provider, start.New = id, "", oauth.Draft{}
	}
	if form.Get("way") == "device" {
		s.deviceBegin(w, r, v, start)
		return
	}
	begun, err := s.beginLogin(r, v.Caller, start)
	if err != nil {
		s.connectRefused(w, r, v, err)
		return
	}
	address := begun.Address.Reveal()
	if begun.Way == oauth.ByPaste {
		s.show(w, r, http.StatusOK, pasteView(s.pastePage(r, v, address, begun.Title)))
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Refresh", "0;url="+address)
	s.show(w, r, http.StatusOK, goingView(going{Frame: s.frame(r, v, "One moment"), Address: address, Label: begun.Title}))
}

// beginLogin begins in the way that the provider has.
func (s *site) beginLogin(r *http.Request, caller identity.Caller, start oauth.Start) (oauth.Begun, error) {
	name := start.Provider
	if start.CredentialID != "" {
		c, err := s.Logins.Credential(r.Context(), caller, start.CredentialID)
		if err != nil {
			return oauth.Begun{}, err
		}
		name = c.Provider
	}
	k, err := s.Logins.Provider(r.Context(), caller, name)
	if err != nil {
		return oauth.Begun{}, err
	}
	if k.PasteBack {
		start.Way = oauth.ByPaste
	} else if start.RedirectURL, err = s.Logins.CallbackURL(r.Host); err != nil {
		return oauth.Begun{}, err
	}
	return s.Logins.Begin(r.Context(), caller, start)
}

// unreachable is the code of a provider that could not be asked, or whose answer was of no use.
const unreachable = "oauth_unreachable"

// connectRefused shows the form again with what was wrong, where that can be mended there.
func (s *site) connectRefused(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	f := fault.Of(err)
	if f.Kind != fault.Unprocessable && f.Kind != fault.Conflict && f.Code != unreachable {
		s.refused(w, r, v, err)
		return
	}
	p, err := s.connectPage(r, v, r.PostForm)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	if f.Code == unreachable && len(p.Providers) > 0 {
		p.Wrong = f.Detail
	} else if p.Alert = markInputs(p.Inputs, f); p.Alert == "" && len(f.Fields) == 0 {
		p.Alert = f.Detail
	}
	s.refuse(w, r, f, connectView(p))
}

// callback is where a provider sends a browser back to. Where the browser goes then was kept here; nothing in the address decides it. Whoever is not
// signed in any more began the login in a session that has ended, so there is nothing to come back to after a sign-in.
func (s *site) callback(w http.ResponseWriter, r *http.Request) {
	back, err := provider.ParseCallback(r.URL.RawQuery)
	if err != nil {
		s.fail(w, r, fault.New(fault.Invalid, "malformed_request", err.Error()))
		return
	}
	v, err := s.visitor(r)
	if err == nil {
		err = s.Admit(r.Context(), v.Caller)
	}
	if fault.KindOf(err) == fault.Unauthenticated {
		err = fault.New(fault.Conflict, "login_state_refused", "Your session here has ended, so the login was not finished and nothing was stored. Sign in, and begin it again.")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.finishLogin(w, r, v, back)
}

// finishLogin ends a login. What went wrong is said on a page without the rest around it, which holds its own address: the code is in that.
func (s *site) finishLogin(w http.ResponseWriter, r *http.Request, v visitor, back provider.Callback) {
	if s.ReadOnly {
		s.fail(w, r, readOnly())
		return
	}
	done, err := s.Logins.Finish(r.Context(), v.Caller, back)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	next := "/connections?done=connected"
	if done.Next != "" {
		next = localPath(done.Next)
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *site) paste(w http.ResponseWriter, r *http.Request, v visitor) {
	back, err := provider.ParsePaste(secret.FromString(r.PostForm.Get("pasted")))
	if err != nil {
		p := s.pastePage(r, v, "", "the provider")
		p.Inputs[0].Error = err.Error()
		s.show(w, r, http.StatusUnprocessableEntity, pasteView(p))
		return
	}
	s.finishLogin(w, r, v, back)
}
