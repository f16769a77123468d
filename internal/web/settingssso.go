package web

import (
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// providerFields are the form of a provider of single sign-on.
func (s *site) providerFields(r *http.Request, v visitor, p identity.SSOProvider, roles string, made bool) *longForm {
	out := &longForm{Frame: s.frame(r, v, "Add a provider of single sign-on"), Back: settingsSignIn, BackLabel: "Sign-in", Action: "/settings/sso", Submit: "Add the provider", Hidden: v.proving(),
		Lead: "Register Signalbox at the provider first, with the callback /sso/NAME/callback of this address."}
	secretHint, who := "Left out for a public client.", []ui.Field{}
	if made {
		out.Title, out.Submit, out.Action = "Edit "+p.Name, "Save", under("/settings/sso", p.ID, "edit")
		out.Lead = "Its callback is " + p.CallbackPath() + ". Sign-ins that have begun there are void."
		out.Hidden = v.proving(ui.Hidden{Name: "if_match", Value: p.ETag()})
		if p.HasSecret {
			secretHint = "One is stored, and stays when this is left empty. Another issuer needs it anew."
		}
	} else {
		who = append(who, ui.Field{Name: "name", Label: "Name", Value: p.Name, MaxLength: 32, Autocomplete: "off", Focus: true, Hint: "In addresses: lower-case letters, digits and dashes. It never changes."})
	}
	who = append(who,
		ui.Field{Name: "label", Label: "Label of the button", Value: p.Label, MaxLength: 100, Autocomplete: "off", Optional: true},
		ui.Field{Name: "issuer", Label: "Issuer", Type: "url", Value: p.Issuer, MaxLength: 500, Autocomplete: "off", Hint: "To the last character as the provider calls itself."},
		ui.Field{Name: "client_id", Label: "Client id", Value: p.ClientID, MaxLength: 255, Autocomplete: "off"},
		ui.Field{Name: "client_secret", Label: "Client secret", Type: "password", MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: secretHint},
		ui.Field{Name: "scopes", Label: "Scopes", Value: strings.Join(p.Scopes, " "), MaxLength: 1000, Autocomplete: "off", Optional: true, Hint: "Besides openid; profile and email when it is left out."})
	trust := ui.Choice{Name: "second_factor", Label: "Does a sign-in there count for a second factor?"}
	for _, t := range identity.SecondFactorTrusts() {
		trust.Options = append(trust.Options, ui.Option{Value: string(t), Label: trustText(t), Chosen: t == p.SecondFactor})
	}
	standard := ui.Choice{Name: "default_role", Label: "Role of who is in none of the groups, or new", Options: []ui.Option{{Label: "none: they are refused"}}}
	for _, role := range identity.Roles() {
		standard.Options = append(standard.Options, ui.Option{Value: string(role), Label: string(role), Chosen: role == p.DefaultRole})
	}
	out.Groups = []fieldGroup{
		{Title: "Provider", Inputs: who, Choices: []ui.Choice{yesNo("enabled", "May people sign in with it?", p.Enabled)}},
		{Title: "Who may come", Inputs: []ui.Field{
			{Name: "allowed_domains", Label: "Domains whose addresses may sign in", Value: strings.Join(p.AllowedDomains, " "), MaxLength: 4000, Autocomplete: "off", Optional: true, Hint: "Everybody whom the provider knows when it is left out."},
			{Name: "link_domains", Label: "Domains that are yours there", Value: strings.Join(p.LinkDomains, " "), MaxLength: 4000, Autocomplete: "off", Optional: true, Hint: "For their verified addresses the provider may say that somebody is the person here who has the address."},
		}, Choices: []ui.Choice{yesNo("create_people", "Add who is not here yet?", p.CreatePeople), standard}},
		{Title: "Roles and second factors", Inputs: []ui.Field{
			{Name: "roles", Label: "Groups and their roles", Value: roles, Rows: 4, MaxLength: 20000, Optional: true, Hint: "One a line, as group = role. They decide at each sign-in; of several the highest counts."},
			{Name: "acr_values", Label: "Values of acr that count", Value: strings.Join(p.ACRValues, " "), MaxLength: 2000, Autocomplete: "off", Optional: true},
		}, Choices: []ui.Choice{trust}},
		{Title: "Claims", Inputs: []ui.Field{
			{Name: "email_claim", Label: "E-mail address", Value: p.EmailClaim, MaxLength: 100, Autocomplete: "off", Optional: true, Hint: "email when it is left out."},
			{Name: "verified_claim", Label: "Address is verified", Value: p.VerifiedClaim, MaxLength: 100, Autocomplete: "off", Optional: true, Hint: "email_verified when it is left out."},
			{Name: "name_claim", Label: "Name", Value: p.NameClaim, MaxLength: 100, Autocomplete: "off", Optional: true},
			{Name: "groups_claim", Label: "Groups", Value: p.GroupsClaim, MaxLength: 100, Autocomplete: "off", Optional: true, Hint: "A path, such as realm_access.roles, may be given."},
		}},
	}
	return out
}

func yesNo(name, label string, on bool) ui.Choice {
	return ui.Choice{Name: name, Label: label, Options: []ui.Option{{Value: "no", Label: "no", Chosen: !on}, {Value: "yes", Label: "yes", Chosen: on}}}
}

func mappingText(rows []identity.RoleMapping) string {
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(row.Group + " = " + string(row.Role) + "\n")
	}
	return b.String()
}

// pairs reads lines of "this = that".
func pairs(text, pointer string) (out [][2]string, err error) {
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		at := strings.LastIndex(line, "=")
		if at < 1 {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With(pointer, "must have an = in each line")
		}
		out = append(out, [2]string{strings.TrimSpace(line[:at]), strings.TrimSpace(line[at+1:])})
	}
	return out, nil
}

// ssoPosted reads the form: the edit, and the provider as it shall be shown again.
func ssoPosted(r *http.Request) (identity.SSOEdit, identity.SSOProvider, error) {
	f := r.PostForm
	p := identity.SSOProvider{Name: f.Get("name"), Enabled: f.Get("enabled") == "yes", SSOSettings: identity.SSOSettings{
		Label: f.Get("label"), Issuer: f.Get("issuer"), ClientID: f.Get("client_id"), Scopes: words(f.Get("scopes")), EmailClaim: f.Get("email_claim"), VerifiedClaim: f.Get("verified_claim"),
		NameClaim: f.Get("name_claim"), GroupsClaim: f.Get("groups_claim"), AllowedDomains: words(f.Get("allowed_domains")), LinkDomains: words(f.Get("link_domains")),
		CreatePeople: f.Get("create_people") == "yes", DefaultRole: identity.Role(f.Get("default_role")), SecondFactor: identity.SecondFactorTrust(f.Get("second_factor")), ACRValues: words(f.Get("acr_values")),
	}}
	lines, err := pairs(f.Get("roles"), "/roles")
	p.Roles = []identity.RoleMapping{}
	for _, one := range lines {
		p.Roles = append(p.Roles, identity.RoleMapping{Group: one[0], Role: identity.Role(one[1])})
	}
	e := identity.SSOEdit{Enabled: &p.Enabled, CreatePeople: &p.CreatePeople, Issuer: &p.Issuer, ClientID: &p.ClientID, Secret: secretOf(r, "client_secret"),
		AllowedDomains: &p.AllowedDomains, LinkDomains: &p.LinkDomains, ACRValues: &p.ACRValues, GroupsClaim: &p.GroupsClaim, Roles: &p.Roles, DefaultRole: &p.DefaultRole,
		SecondFactor: &p.SecondFactor, IfMatch: f.Get("if_match")}
	for _, one := range []struct {
		to   **string
		from *string
	}{{&e.Label, &p.Label}, {&e.EmailClaim, &p.EmailClaim}, {&e.VerifiedClaim, &p.VerifiedClaim}, {&e.NameClaim, &p.NameClaim}} {
		if *one.from != "" {
			*one.to = one.from
		}
	}
	if len(p.Scopes) > 0 {
		e.Scopes = &p.Scopes
	}
	return e, p, err
}

func (s *site) ssoForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, longFormView(s.providerFields(r, v, identity.SSOProvider{}, "", false)))
}

// againLong shows a long form again with what was wrong, beside the fields.
func (s *site) againLong(w http.ResponseWriter, r *http.Request, f *fault.Error, p *longForm) {
	placed := false
	for i := range p.Groups {
		for n := range p.Groups[i].Inputs {
			p.Groups[i].Inputs[n].Focus = false
		}
		placed = markInputs(p.Groups[i].Inputs, f) == "" || placed
		for n := range p.Groups[i].Choices {
			for _, e := range f.Fields {
				if c := &p.Groups[i].Choices[n]; e.Pointer == "/"+c.Name || strings.HasPrefix(e.Pointer, "/"+c.Name+"/") {
					c.Error, placed = sentence(e.Message), true
				}
			}
		}
	}
	if !placed {
		p.Alert = alertOf(f)
	}
	s.refuse(w, r, f, longFormView(p))
}

func (s *site) ssoMake(w http.ResponseWriter, r *http.Request, v visitor) {
	e, p, err := ssoPosted(r)
	if err == nil {
		e.Name = &p.Name
		_, err = s.Identity.CreateSSOProvider(r.Context(), v.Caller, e)
	}
	s.settled(w, r, v, err, settingsSignIn+"?done=made", "/settings/sso/~new", func(f *fault.Error) { s.againLong(w, r, f, s.providerFields(r, v, p, r.PostForm.Get("roles"), false)) })
}

func (s *site) providerEditForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.Identity.SSOProvider(r.Context(), v.Caller, r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, longFormView(s.providerFields(r, v, p, mappingText(p.Roles), true)))
}

func (s *site) providerEdit(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	e, shown, err := ssoPosted(r)
	if err == nil {
		_, err = s.Identity.UpdateSSOProvider(r.Context(), v.Caller, id, e)
	}
	s.settled(w, r, v, err, settingsSignIn+"?done=changed", under("/settings/sso", id, "edit"), func(f *fault.Error) {
		now, err := s.Identity.SSOProvider(r.Context(), v.Caller, id)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		form := s.providerFields(r, v, now, "", true)
		now.Enabled, now.SSOSettings = shown.Enabled, shown.SSOSettings
		form.Groups = s.providerFields(r, v, now, r.PostForm.Get("roles"), true).Groups
		s.againLong(w, r, f, form)
	})
}
