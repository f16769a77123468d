package web

import (
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// searchPage is what a search over everything found.
type searchPage struct {
	ui.Frame
	Q     string
	Parts []searchPart
	// Count is how many were found.
	Count int
}

// searchPart is what was found of one kind.
type searchPart struct {
	Label string
	Found []found
	// More says that there are others.
	More bool
}

// found is one thing: its name, a word about it, and its page.
type found struct{ Name, About, Href string }

const (
	// searchLimit is how many of each kind are shown on the page of a search, and paletteLimit below the search field.
	searchLimit, paletteLimit = 12, 5
	// searchLongest is the longest text that is searched for.
	searchLongest = 200
)

// search looks through what the visitor may see, each room for itself. A script that asks as one types gets the list alone.
func (s *site) search(w http.ResponseWriter, r *http.Request, v visitor) {
	p := &searchPage{Frame: s.frame(r, v, "Search"), Q: strings.TrimSpace(r.URL.Query().Get("q"))}
	p.Search = p.Q
	limit := searchLimit
	if partial(r) {
		limit = paletteLimit
	}
	if p.Q != "" && len(p.Q) <= searchLongest {
		if err := s.searchParts(r, v, p, limit); err != nil {
			s.refused(w, r, v, err)
			return
		}
	}
	if partial(r) {
		s.show(w, r, http.StatusOK, paletteView(p))
		return
	}
	s.show(w, r, http.StatusOK, searchView(p))
}

func (s *site) searchParts(r *http.Request, v visitor, p *searchPage, limit int) error {
	part := func(label string, more bool, list ...found) {
		if len(list) > 0 {
			p.Parts = append(p.Parts, searchPart{Label: label, Found: list, More: more})
			p.Count += len(list)
		}
	}
	part("Pages", false, foundPages(p)...)
	if v.may(identity.CredentialRead) {
		list, next, err := s.Vault.List(r.Context(), v.Caller, vault.Filter{Q: p.Q, Limit: limit})
		if err != nil {
			return err
		}
		var out []found
		for _, c := range list {
			out = append(out, found{Name: c.Name, About: string(c.Type), Href: credentialPath(c.ID)})
		}
		part("Credentials", next != "", out...)
	}
	if v.may(identity.TrainRead) {
		list, next, err := s.Trains.ListTrains(r.Context(), v.Caller, train.Filter{Q: p.Q, Limit: limit})
		if err != nil {
			return err
		}
		var out []found
		for _, t := range list {
			out = append(out, found{Name: t.Slug, About: t.Name, Href: trainPath(t.Slug)})
		}
		part("Trains", next != "", out...)
	}
	if v.may(identity.UserRead) {
		list, next, err := s.Identity.Users(r.Context(), v.Caller, identity.UserFilter{Q: p.Q, Limit: limit})
		if err != nil {
			return err
		}
		var out []found
		for _, u := range list {
			out = append(out, found{Name: u.Name, About: u.Email, Href: "/people/" + u.ID})
		}
		part("People", next != "", out...)
	}
	if v.may(identity.AuditRead) {
		part("Audit", false, foundRecords(p.Q)...)
	}
	return nil
}

// foundPages are the pages of the visitor's navigation whose name has the text in it.
func foundPages(p *searchPage) (out []found) {
	for _, group := range p.Nav {
		for _, link := range group.Links {
			if strings.Contains(strings.ToLower(link.Label), strings.ToLower(p.Q)) {
				out = append(out, found{Name: link.Label, About: "page", Href: link.Href})
			}
		}
	}
	return out
}

// foundRecords leads from an id that was pasted to what the log has of it. The log is asked there, not here.
func foundRecords(q string) []found {
	source, _, _ := strings.Cut(strings.TrimPrefix(q, "evt_"), "_")
	switch {
	case strings.HasPrefix(q, "evt_") && store.ValidID("evt", "evt_"+source):
		return []found{{Name: q, About: "record", Href: eventPath(q)}}
	case store.ValidID("req", q):
		return []found{{Name: q, About: "what the request did", Href: auditPath(nil, "request_id", q)}}
	}
	for _, kind := range []string{"cred", "train", "key", "user", "token", "lease"} {
		if store.ValidID(kind, q) {
			return []found{{Name: q, About: "what was done to it", Href: auditPath(nil, "target", q)}}
		}
	}
	return nil
}
