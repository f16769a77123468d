package web

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// credentialPage is one credential: what is known of it, its secret fields (never what is in them), and how its refreshing stands.
type credentialPage struct {
	ui.Frame
	One  vault.Credential
	Row  vault.TypeRow
	Tabs []ui.NavLink
	// May is what the visitor may do with it, while something can be changed at all; revealing changes nothing.
	May     vault.Rights
	Fields  ui.Table
	Facts   []ui.Fact
	Targets []ui.Fact
	Refresh []ui.Fact
	// Said is what the secret says of itself.
	Said []ui.Fact
	// Again says that a person can log in again in the browser, Refreshes that a refresh can be asked for.
	Again, Refreshes bool
	Hidden           []ui.Hidden
	// Edit, Places and Needs are the form of the metadata; Open shows it unfolded.
	Edit, Places []ui.Field
	Homes        homeFields
	Needs        ui.Choice
	State        ui.Choice
	Alert        string
	Open         bool
	List         ui.Table
	Lists        []ui.Table
	Chart        *refreshChart
	Reader       ui.Reader
}

// credentialSaid are the sentences for what an address of the page may say was done.
func credentialSaid() map[string]string {
	return map[string]string{
		"made": "The credential was stored.", "changed": "The credential was changed.", "rotated": "The new secret is stored as a new version, and is what is lent from now on.",
		"restored": "The earlier secret is current again, as a new version.", "given": "The grant was given.", "taken": "The grant was taken back.", "refreshed": "The tokens were refreshed.",
		"sent": "Where the secret may be sent was changed.",
	}
}

// credentialFrame is what all pages of one credential show: its name, its tabs, and what may be done. The read is on record.
func (s *site) credentialFrame(r *http.Request, v visitor, tab string) (*credentialPage, error) {
	one, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return s.framed(r, v, tab, one)
}

func (s *site) framed(r *http.Request, v visitor, tab string, one vault.Credential) (*credentialPage, error) {
	may, err := s.Vault.Rights(r.Context(), v.Caller, one.ID)
	if err != nil {
		return nil, err
	}
	if s.ReadOnly {
		may.Manage, may.Grant, may.Use = false, false, false
	}
	may.Use = may.Use && s.Probe != nil && testable(one.Type) && one.Status != vault.Disabled && one.Status != vault.Compromised && !one.Tampered
	row, _ := vault.Lookup(one.Type)
	p := &credentialPage{Frame: s.frame(r, v, one.Name), One: one, Row: row, May: may, Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: one.ETag()}), Reader: s.reader(r)}
	for _, t := range []struct {
		name, label string
		shown       bool
	}{{"", "Overview", true}, {"access", "Who can use it", true}, {"versions", "Versions", true}, {"record", "Record", v.may(identity.AuditRead)}} {
		if !t.shown {
			continue
		}
		link := ui.NavLink{Label: t.label, Href: credentialPath(one.ID), Current: t.name == tab}
		if t.name != "" {
			link.Href += "/" + t.name
		}
		p.Tabs = append(p.Tabs, link)
	}
	announce(&p.Frame, r, credentialSaid())
	return p, nil
}

// credentialPage is the page of one credential as it stands.
func (s *site) credentialPage(r *http.Request, v visitor) (*credentialPage, error) {
	p, err := s.credentialFrame(r, v, "")
	if err != nil {
		return nil, err
	}
	one, reader := p.One, p.Reader
	p.Fields = fieldTable(p)
	fact := func(term, value string) {
		if value != "" {
			p.Facts = append(p.Facts, ui.Fact{Term: term, Value: ui.Text(value)})
		}
	}
	p.Facts = []ui.Fact{{Term: "Type", Value: ui.Text(typeLabel(one.Type))}, {Term: "Status", Value: statusBadge(one.Status)}}
	fact("Account id", one.AccountID)
	if one.IsAccount() {
		p.Facts = append(p.Facts, ui.Fact{Term: "Lent to agents", Value: ui.Link(lendingText(reader, one.Lending), accountPath(one.ID))})
	}
	fact("User name", one.Username)
	fact("Owner", one.Owner)
	named, err := s.homesOf(r, v, []vault.Credential{one})
	if err != nil {
		return nil, err
	}
	for _, home := range []struct {
		term, id string
		kind     vault.HomeKind
	}{{"Client", one.ClientID, vault.HomeClient}, {"Service", one.ServiceID, vault.HomeService}, {"Infrastructure", one.InfrastructureID, vault.HomeInfrastructure}} {
		if home.id != "" {
			p.Facts = append(p.Facts, ui.Fact{Term: home.term, Value: homeLink(named, home.kind, home.id)})
		}
	}
	fact("Plugin", one.PluginName)
	fact("Tags", strings.Join(one.Tags, ", "))
	long := func(term, value string) {
		if value != "" {
			p.Facts = append(p.Facts, ui.Fact{Term: term, Value: ui.Text(value), Wide: true})
		}
	}
	long("Address from outside", one.ExternalURL)
	long("Address from inside", one.InternalURL)
	fact("Port", numberOr(one.Port))
	if one.RequiresVPN {
		fact("Needs", "a VPN")
	}
	if one.Requires2FA {
		fact("Needs", "a second factor there")
	}
	long("Description", one.Description)
	long("Notes", one.Notes.Reveal())
	p.Facts = append(p.Facts, ui.Fact{Term: "Ends", Value: ui.WhenOr(reader, one.ExpiresAt, "never")}, ui.Fact{Term: "Rotation", Value: ui.Text(rotation(reader, one))}, ui.Fact{Term: "Reminders", Value: ui.Text(reminderText(reader, one))},
		ui.Fact{Term: "Stored", Value: ui.When(reader, one.CreatedAt)}, ui.Fact{Term: "Changed", Value: ui.When(reader, one.UpdatedAt)},
		ui.Fact{Term: "Last used", Value: ui.WhenOr(reader, one.LastUsedAt, "never")}, ui.Fact{Term: "Id", Value: ui.Code(one.ID), Wide: true})
	p.Facts = append(p.Facts, s.radiusFact(v, one.ID)...)
	p.Targets, p.Said = targetFacts(one), secretFacts(reader, one.Facts)
	if p.Row.OAuth {
		if err := s.refreshFacts(r, v, p); err != nil {
			return nil, err
		}
	}
	if p.May.Manage {
		if p.Homes, err = s.placeHomes(r, v, one.Meta); err != nil {
			return nil, err
		}
		p.fill(one.Meta, one.Notes.Reveal())
	}
	return p, nil
}

// fill puts what the form of the metadata holds.
func (p *credentialPage) fill(m vault.Meta, notes string) {
	p.Edit, p.Places, p.Needs = metaInputs(p.Row, m, notes), placeInputs(m), needs(m)
	now := p.One.Status
	if now != vault.Disabled && now != vault.Compromised {
		now = vault.Active
	}
	p.State = stateChoice(now)
}

func stateChoice(now vault.Status) ui.Choice {
	c := ui.Choice{Name: "status", Label: "Status", Hint: "What is not active is lent to nobody, and open uses of it are cut."}
	for _, one := range []vault.Status{vault.Active, vault.Disabled, vault.Compromised} {
		c.Options = append(c.Options, ui.Option{Value: string(one), Label: string(one), Chosen: one == now})
	}
	return c
}

func rotation(reader ui.Reader, c vault.Credential) string {
	if c.RotateAt != nil {
		return "at once: it was contained " + reader.Ago(*c.RotateAt)
	}
	if c.RotateEvery == 0 {
		return "not planned"
	}
	since := c.CreatedAt
	if c.LastRotatedAt != nil {
		since = *c.LastRotatedAt
	}
	return "every " + reader.Count(c.RotateEvery, "day") + ", next " + reader.Ago(since.Add(time.Duration(c.RotateEvery)*24*time.Hour))
}

func targetFacts(one vault.Credential) (out []ui.Fact) {
	fact := func(term, value string) {
		if value != "" {
			out = append(out, ui.Fact{Term: term, Value: ui.Text(value)})
		}
	}
	fact("Provider", one.Provider)
	fact("Base URL", one.BaseURL)
	fact("Hosts", strings.Join(one.Hosts, ", "))
	fact("OAuth client", one.OAuth.ClientID)
	fact("Token endpoint", one.OAuth.TokenEndpoint)
	fact("Scopes", strings.Join(one.OAuth.Scopes, " "))
	fact("Resource", one.OAuth.Resource)
	return append(append(out, injectFacts(one)...), upstreamFacts(one.Upstream)...)
}

// fieldTable lists the secret fields, each masked.
func fieldTable(p *credentialPage) ui.Table {
	t := ui.Table{ID: "fields", Caption: "Secret fields of version " + p.Reader.Number(p.One.Version), Columns: []ui.Column{{Label: "Field"}, {Label: "Value"}},
		Empty: ui.Empty{Text: "This version has no secret field."}}
	if p.May.Reveal {
		t.Columns = append(t.Columns, ui.Column{Label: "Reveal", Unseen: true})
	}
	t.Columns = append(t.Columns, ui.Column{Label: "Use"})
	for _, name := range p.One.SecretFields {
		f, _ := p.Row.Field(name)
		masked := "••••••••"
		if f.Suffix && p.One.Suffix != "" {
			masked += p.One.Suffix
		}
		use := "for people alone"
		switch {
		case f.Lent:
			use = "is lent"
		case f.Aside:
			use = "goes to the outbound proxy"
		}
		row := ui.Row{ID: name, Name: name, Cells: []templ.Component{ui.Text(fieldLabel(name)), ui.Code(masked)}}
		if p.May.Reveal {
			row.Cells = append(row.Cells, ui.DialogLink("Reveal or copy", credentialPath(p.One.ID, "reveal")+"?field="+name, "Reveal or copy "+fieldLabel(name)))
		}
		row.Cells = append(row.Cells, ui.Faint(use))
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (s *site) credential(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.credentialPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, credentialView(p))
}

// credentialChange changes what a credential says of itself, unless somebody else did since the form was made. Where the secret goes is another form.
func (s *site) credentialChange(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	now, err := s.Vault.Get(r.Context(), v.Caller, id)
	m, notes := now.Meta, strings.ReplaceAll(r.PostForm.Get("notes"), "\r\n", "\n")
	m.Tags = slices.Clone(m.Tags)
	if err == nil {
		err = metaPosted(r, &m)
	}
	if err == nil {
		err = s.homesPosted(r, v, &m, now.Meta)
	}
	if err == nil {
		p := vault.Patch{
			Name: vault.To(m.Name), Username: vault.To(m.Username), Description: vault.To(m.Description), Owner: vault.To(m.Owner), ClientID: vault.To(m.ClientID), ServiceID: vault.To(m.ServiceID),
			InfrastructureID: vault.To(m.InfrastructureID), PluginName: vault.To(m.PluginName), ExternalURL: vault.To(m.ExternalURL), InternalURL: vault.To(m.InternalURL), Port: vault.To(m.Port),
			RequiresVPN: vault.To(m.RequiresVPN), Requires2FA: vault.To(m.Requires2FA), Tags: vault.To(m.Tags), ExpiresAt: vault.To(m.ExpiresAt), RotateEvery: vault.To(m.RotateEvery),
			State: vault.To(vault.Status(r.PostForm.Get("status"))),
		}
		if m.AccountID != now.AccountID {
			p.AccountID = vault.To(m.AccountID)
		}
		if notes != now.Notes.Reveal() {
			p.Notes = vault.To(secret.FromString(notes))
		}
		_, err = s.Vault.Update(r.Context(), v.Caller, id, p, r.PostForm.Get("if_match"))
	}
	here := credentialPath(id)
	s.settled(w, r, v, err, here+"?done=changed", here, func(f *fault.Error) {
		p, err := s.credentialPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		if p.Homes, err = s.placeHomes(r, v, m); err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.fill(m, notes)
		p.Alert, p.Open = mark(markChoices(f, p.Homes.Choices), p.Edit, p.Places, p.Homes.Inputs), true
		p.State = stateChoice(vault.Status(r.PostForm.Get("status")))
		s.refuse(w, r, f, credentialView(p))
	})
}

// managed is a credential for a form that needs the right to change it.
func (s *site) managed(r *http.Request, v visitor) (vault.Credential, error) {
	if err := allowed(v, identity.CredentialWrite); err != nil {
		return vault.Credential{}, err
	}
	one, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		return one, err
	}
	return one, s.Vault.MayStill(r.Context(), v.Caller, identity.CredentialWrite, "update", one.ID)
}

func (s *site) destinationPage(r *http.Request, v visitor, now vault.Credential, shown vault.Meta) *askedPage {
	row, _ := vault.Lookup(now.Type)
	p := &askedPage{Frame: s.frame(r, v, "Where "+now.Name+" may be sent"), Back: credentialPath(now.ID), BackLabel: now.Name, Action: credentialPath(now.ID, "destination"), Submit: "Change",
		Lead: "Whoever names the host gets to see the secret, so this needs the right to reveal it.", Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: now.ETag()}), Inputs: targetInputs(row, shown),
		Choices: targetChoices(row, shown)}
	if now.Tampered {
		p.Lead = "This credential was changed outside Signalbox. Check every field: what you send vouches for it anew. " + p.Lead
		p.Choices = append(p.Choices, stateChoice(now.Status))
	}
	return p
}

func (s *site) destinationForm(w http.ResponseWriter, r *http.Request, v visitor) {
	now, err := s.managed(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.destinationPage(r, v, now, now.Meta)))
}

// destination changes where the secret may be sent.
func (s *site) destination(w http.ResponseWriter, r *http.Request, v visitor) {
	now, err := s.managed(r, v)
	m := now.Meta
	if err == nil {
		targetPosted(r, &m)
		p := vault.Patch{Provider: vault.To(m.Provider), BaseURL: vault.To(m.BaseURL), Hosts: vault.To(m.Hosts)}
		if row, _ := vault.Lookup(now.Type); row.OAuth {
			p.OAuth = vault.OAuthPatch{Scopes: vault.To(m.OAuth.Scopes), ClientID: vault.To(m.OAuth.ClientID), TokenEndpoint: vault.To(m.OAuth.TokenEndpoint), AuthMethod: vault.To(m.OAuth.AuthMethod),
				RequestFormat: vault.To(m.OAuth.RequestFormat), Resource: vault.To(m.OAuth.Resource), GrantType: vault.To(m.OAuth.GrantType)}
		}
		if row, _ := vault.Lookup(now.Type); row.Lends() {
			injectEdit(&p, m)
		}
		if row, _ := vault.Lookup(now.Type); row.Account || now.Tampered { // somebody may have put there what the type does not have
			p.Upstream = upstreamEdit(m.Upstream)
		}
		if now.Tampered {
			p.State = vault.To(vault.Status(r.PostForm.Get("status")))
			p.OAuth.ExpiresAt = vault.To(m.OAuth.ExpiresAt)
		}
		_, err = s.Vault.Update(r.Context(), v.Caller, now.ID, p, r.PostForm.Get("if_match"))
	}
	here := credentialPath(r.PathValue("id"))
	s.settled(w, r, v, err, here+"?done=sent", here+"/destination", func(f *fault.Error) {
		p := s.destinationPage(r, v, now, m)
		p.Alert = mark(f, p.Inputs)
		s.refuse(w, r, f, askedView(p))
	})
}

// deletePage says what goes with a credential.
func (s *site) deletePage(r *http.Request, v visitor) (ui.Frame, ui.Confirm, error) {
	one, err := s.managed(r, v)
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	touches, err := s.dependents(r, v, []string{one.ID})
	if err != nil {
		return ui.Frame{}, ui.Confirm{}, err
	}
	reader := s.reader(r)
	touches = append(touches, "The sealed material of its "+reader.Count(int(one.Version), "version")+" is destroyed.")
	if one.Type == vault.OAuth {
		touches = append(touches, "What its provider issued is revoked there, if the provider offers that.")
	}
	return s.frame(r, v, "Delete "+one.Name), ui.Confirm{
		Lead: "The credential " + one.Name + " is deleted for good. What the audit log says of it stays.", Touches: touches, Action: credentialPath(one.ID, "delete"), Submit: "Delete the credential",
		Back: credentialPath(one.ID), Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: one.ETag()}), Type: "delete",
	}, nil
}

func (s *site) credentialDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.deletePage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(frame, "Credential", c))
}

func (s *site) credentialDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	frame, c, err := s.deletePage(r, v)
	if err == nil && r.PostForm.Get("typed") != c.Type {
		c.Wrong = "This is not what was to be typed, so nothing was deleted."
		s.show(w, r, http.StatusUnprocessableEntity, confirmView(frame, "Credential", c))
		return
	}
	if err == nil {
		err = s.Logins.Delete(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("if_match"))
	}
	s.settled(w, r, v, err, "/credentials?done=deleted", c.Action, nil)
}
