package web

import (
	"net/http"
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// newCredentialPage asks for a new credential: first its type, then what the type has.
type newCredentialPage struct {
	ui.Frame
	// Types are what there is to choose from; none when one is chosen.
	Types   []vault.TypeRow
	Row     vault.TypeRow
	Alert   string
	Hidden  []ui.Hidden
	Secrets []ui.Field
	Meta    []ui.Field
	Target  []ui.Field
	Choices []ui.Choice
	Places  []ui.Field
	Homes   homeFields
	Makes   []ui.Choice
	// Query is what is known of it before its type is chosen.
	Query string
	Needs ui.Choice
	// Open says that something is wrong in the part that is folded.
	Open bool
}

func typeLabel(t vault.Type) string {
	switch t {
	case vault.APIKey:
		return "API key"
	case vault.OAuth:
		return "OAuth"
	case vault.SSHKey:
		return "SSH key"
	case vault.JWT:
		return "JWT"
	}
	return fieldLabel(string(t))
}

func (s *site) newCredentialPage(r *http.Request, v visitor, t vault.Type, m vault.Meta, notes string) (p *newCredentialPage, err error) {
	p = &newCredentialPage{Frame: s.frame(r, v, "Store a credential"), Hidden: v.hidden(ui.Hidden{Name: "type", Value: string(t)})}
	row, ok := vault.Lookup(t)
	if !ok {
		p.Types = vault.Types()
		known := url.Values{}
		for name, id := range map[string]string{"client_id": m.ClientID, "service_id": m.ServiceID, "infrastructure_id": m.InfrastructureID} {
			if id != "" {
				known.Set(name, id)
			}
		}
		if len(known) > 0 {
			p.Query = "&" + known.Encode()
		}
		return p, nil
	}
	if p.Homes, err = s.placeHomes(r, v, m); err != nil {
		return nil, err
	}
	p.Row, p.Title = row, "Store a credential: "+typeLabel(t)
	p.Makes = makeChoices(row, nil, r.PostForm)
	p.Secrets, p.Meta, p.Target, p.Choices = secretInputs(row, nil, false), metaInputs(row, m, notes), targetInputs(row, m), targetChoices(row, m)
	p.Places, p.Needs = placeInputs(m), needs(m)
	p.Meta[0].Focus = true
	return p, nil
}

// credentialNew asks for the type, and then for the rest.
func (s *site) credentialNew(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := allowed(v, identity.CredentialWrite); err != nil {
		s.refused(w, r, v, err)
		return
	}
	query := r.URL.Query()
	m := vault.Meta{ClientID: query.Get("client_id"), ServiceID: query.Get("service_id"), InfrastructureID: query.Get("infrastructure_id")}
	p, err := s.newCredentialPage(r, v, vault.Type(query.Get("type")), m, "")
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, newCredentialView(p))
}

// allowed turns a form's page away from whoever may do p to nothing at all.
func allowed(v visitor, p identity.Permission) error {
	_, err := identity.Within(v.Caller, p)
	return err
}

// credentialStore stores what was typed. When that cannot be, everything but the secrets is shown again.
func (s *site) credentialStore(w http.ResponseWriter, r *http.Request, v visitor) {
	d := vault.Draft{Type: vault.Type(r.PostForm.Get("type")), Secrets: secretsPosted(r.PostForm)}
	err := metaPosted(r, &d.Meta)
	targetPosted(r, &d.Meta)
	notes := strings.ReplaceAll(r.PostForm.Get("notes"), "\r\n", "\n")
	if notes != "" {
		d.Notes = secret.FromString(notes)
	}
	var made vault.Credential
	if err == nil {
		d.Generate, err = makesPosted(r.PostForm)
	}
	if err == nil {
		err = s.homesPosted(r, v, &d.Meta, vault.Meta{})
	}
	if err == nil {
		made, err = s.Vault.Create(r.Context(), v.Caller, d)
	}
	s.settled(w, r, v, err, credentialPath(made.ID)+"?done=made", newCredential+"?type="+string(d.Type), func(f *fault.Error) {
		p, err := s.newCredentialPage(r, v, d.Type, d.Meta, notes)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Alert = mark(markChoices(markChoices(aimedAtName(aimedAtMakes(f, r.PostForm), p.Row, r.PostForm), p.Makes), p.Homes.Choices), p.Secrets, p.Meta, p.Target, p.Places, p.Homes.Inputs)
		if p.Alert == "" {
			p.Alert = "Nothing was stored yet. Mend what is marked; secrets are not sent back, so type them again."
		}
		p.Open = wrongIn(p.Target) || wrongIn(p.Places)
		s.refuse(w, r, f, newCredentialView(p))
	})
}

func wrongIn(fields []ui.Field) bool {
	for _, f := range fields {
		if f.Error != "" {
			return true
		}
	}
	return false
}
