package web

import (
	"net/http"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// searchPage is what a search over everything found.
type searchPage struct {
	ui.Frame
	Q     string
	Parts []searchPart
}

// searchPart is what was found of one kind.
type searchPart struct {
	Label string
	Found []found
	// More says that there are others.
	More bool
}

// found is one thing: its name, a word about it, and its page, "" when it has none.
type found struct{ Name, About, Href string }

// searchLimit is how many of each kind are shown.
const searchLimit = 12

// search looks through what the visitor may see, each room for itself.
func (s *site) search(w http.ResponseWriter, r *http.Request, v visitor) {
	p := &searchPage{Frame: s.frame(r, v, "Search"), Q: r.URL.Query().Get("q")}
	p.Search = p.Q
	if p.Q == "" {
		s.show(w, r, http.StatusOK, searchView(p))
		return
	}
	if v.may(identity.TrainRead) {
		list, next, err := s.Trains.ListTrains(r.Context(), v.Caller, train.Filter{Q: p.Q, Limit: searchLimit})
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		part := searchPart{Label: "Trains", More: next != ""}
		for _, t := range list {
			part.Found = append(part.Found, found{Name: t.Slug, About: t.Name, Href: trainPath(t.Slug)})
		}
		p.Parts = append(p.Parts, part)
	}
	if v.may(identity.CredentialRead) {
		list, next, err := s.Vault.List(r.Context(), v.Caller, vault.Filter{Q: p.Q, Limit: searchLimit})
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		part := searchPart{Label: "Credentials", More: next != ""}
		for _, c := range list {
			part.Found = append(part.Found, found{Name: c.Name, About: string(c.Type), Href: credentialPath(c.ID)})
		}
		p.Parts = append(p.Parts, part)
	}
	s.show(w, r, http.StatusOK, searchView(p))
}
