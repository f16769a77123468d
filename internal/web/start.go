package web

import (
	"net/http"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// firstAccount is where the first account is stored, with no more than it needs.
const firstAccount = "/start/account"

// firstAccountPage asks for an account: a provider, its key, and a name.
func (s *site) firstAccountPage(r *http.Request, v visitor, d vault.Draft) *askedPage {
	choice := ui.Choice{Name: "provider", Label: "Provider"}
	for _, p := range vault.Providers() {
		choice.Options = append(choice.Options, ui.Option{Value: p.Name, Label: p.Name, Chosen: p.Name == d.Provider})
	}
	return &askedPage{Frame: s.frame(r, v, "Store an account"), Back: "/", BackLabel: "Overview", Action: firstAccount, Submit: "Store it", Hidden: v.hidden(),
		Lead: "An API key of a provider. It is sealed at once, and from then on lent without being handed over.", Choices: []ui.Choice{choice},
		Inputs: []ui.Field{
			{Name: "name", Label: "Name", Value: d.Name, MaxLength: 200, Autocomplete: "off", Focus: true, Hint: "Such as team-alpha. Account names are unique."},
			{Name: "api_key", Label: "API key", Type: "password", MaxLength: 10000, Autocomplete: "off"},
			{Name: "base_url", Label: "Base URL", Type: "url", Value: d.BaseURL, MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: "The provider's own when it is left out."},
		}}
}

func (s *site) firstAccountForm(w http.ResponseWriter, r *http.Request, v visitor) {
	if _, err := identity.Within(v.Caller, identity.CredentialWrite); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.firstAccountPage(r, v, vault.Draft{})))
}

// firstAccountStore stores the account. The key comes back in no form.
func (s *site) firstAccountStore(w http.ResponseWriter, r *http.Request, v visitor) {
	d := vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: r.PostForm.Get("name"), Provider: r.PostForm.Get("provider"), BaseURL: r.PostForm.Get("base_url")},
		Secrets: map[string]secret.Value{"api_key": secret.FromString(r.PostForm.Get("api_key"))}}
	_, err := s.Vault.Create(r.Context(), v.Caller, d)
	s.settled(w, r, v, err, "/?done=account", firstAccount, func(f *fault.Error) {
		f = renamed(f, "/secrets/api_key", "/api_key")
		s.again(w, r, f, s.firstAccountPage(r, v, d))
	})
}

// renamed is a fault whose message about one field is about another.
func renamed(f *fault.Error, from, to string) *fault.Error {
	out := *f
	out.Fields = nil
	for _, e := range f.Fields {
		if e.Pointer == from {
			e.Pointer = to
		}
		out.Fields = append(out.Fields, e)
	}
	return &out
}
