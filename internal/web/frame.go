package web

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// place is one page of the navigation. Whoever may do none of what it needs does not see it; the room behind it refuses them whatever they see.
type place struct {
	group, label, path, letter string
	needs                      identity.Permission // "" is for everybody
	// whole says that it takes the permission for everything; ofTrains that who has it for their own sees the place while they are on one.
	whole, ofTrains bool
}

// places are the pages of the navigation, in its order. A new page is a line here.
func places() []place {
	return []place{
		{label: "Overview", path: "/", letter: "o"},
		{group: "Lending", label: "Credentials", path: "/credentials", letter: "c", needs: identity.CredentialRead},
		{group: "Lending", label: "Accounts", path: "/accounts", letter: "a", needs: identity.CredentialRead},
		{group: "Lending", label: "Trains", path: "/trains", letter: "t", needs: identity.TrainRead, ofTrains: true},
		{group: "Lending", label: "Connections", path: "/connections", letter: "n", needs: identity.CredentialRead},
		{group: "Lending", label: "Requests", path: "/requests", letter: "r", needs: identity.UsageRead, whole: true},
		{group: "Lending", label: "Usage", path: "/usage", letter: "u", needs: identity.UsageRead, ofTrains: true},
		{group: "Upkeep", label: "Clients", path: "/clients", letter: "e", needs: identity.CredentialRead},
		{group: "Upkeep", label: "What is due", path: "/due", letter: "d", needs: identity.CredentialRead},
		{group: "Upkeep", label: "Import & export", path: "/import", letter: "x", needs: identity.CredentialWrite},
		{group: "People & keys", label: "People", path: "/people", letter: "p", needs: identity.UserRead},
		{group: "People & keys", label: "Groups", path: "/groups", letter: "g", needs: identity.GroupRead},
		{group: "People & keys", label: "Service accounts", path: services, letter: "v", needs: identity.ServiceRead},
		{group: "People & keys", label: "Tokens", path: "/tokens", letter: "k", needs: identity.TokenRead},
		{group: "Record", label: "Audit", path: "/audit", letter: "l", needs: identity.AuditRead},
		{group: "Record", label: "Incidents", path: "/incidents", letter: "i", needs: identity.IncidentRead},
		{group: "Signalbox", label: "Settings", path: "/settings", letter: "s", needs: identity.MetricsRead},
		{group: "You", label: "Your account", path: "/account", letter: "y"},
	}
}

// placed is the address by which a page has its place in the navigation: services and infrastructure stand beside the clients.
func placed(path string) string {
	for _, sort := range homeSorts()[1:] {
		if path == sort.path || strings.HasPrefix(path, sort.path+"/") {
			return homeSorts()[0].path
		}
	}
	if path == "/export" {
		return "/import"
	}
	return path
}

// may reports whether the visitor's role and scopes include a permission, for everything or for what is theirs. It is what pages hide by; the rooms
// ask the same table again.
func (v visitor) may(p identity.Permission) bool {
	_, err := identity.Within(v.Caller, p)
	return err == nil
}

// mayAll is may, for everything: what shows things across those that are the visitor's and those that are not.
func (v visitor) mayAll(p identity.Permission) bool { return identity.Allow(v.Caller, p) == nil }

// leads reports whether a place is for the visitor; onTrain says whether they are on a train, and is asked only of those whose role reaches no others.
func (s *site) leads(v visitor, p place, onTrain func() bool) bool {
	switch {
	case p.needs == "":
		return true
	case !v.may(p.needs), p.needs == identity.UsageRead && s.Ledger == nil:
		return false
	case v.mayAll(p.needs):
		return true
	case p.whole:
		return false
	case p.ofTrains:
		return onTrain()
	}
	return true
}

// changes is may, while something can be changed at all: a page shows a form for p only then.
func (s *site) changes(v visitor, p identity.Permission) bool { return !s.ReadOnly && v.may(p) }

// frame is what stands around a page of a visitor.
func (s *site) frame(r *http.Request, v visitor, title string) ui.Frame {
	f := s.sheet(r, title)
	f.Person, f.PersonID, f.Role, f.Form = v.Name, v.UserID, string(v.Role), v.formToken()
	f.ReadOnly = s.ReadOnly
	f.Path = "/"
	if r.Method == http.MethodGet {
		f.Path = localPath(r.URL.RequestURI())
	}
	onTrain := sync.OnceValue(func() bool {
		some, err := s.Trains.ReachesSome(r.Context(), v.Caller)
		return err == nil && some // where that is not known, it is no place for them
	})
	for _, p := range places() {
		if !s.leads(v, p, onTrain) {
			continue
		}
		if n := len(f.Nav); n == 0 || f.Nav[n-1].Label != p.group {
			f.Nav = append(f.Nav, ui.NavGroup{Label: p.group})
		}
		group := &f.Nav[len(f.Nav)-1]
		at := placed(r.URL.Path)
		here := at == p.path || p.path != "/" && strings.HasPrefix(at, p.path+"/")
		group.Links = append(group.Links, ui.NavLink{Label: p.label, Href: p.path, Letter: p.letter, Current: here})
	}
	return f
}

// sheet is what stands around a page of nobody in particular.
func (s *site) sheet(r *http.Request, title string) ui.Frame {
	return ui.Frame{Title: title, Build: s.build, Theme: themeOf(r)}
}

// reader is who reads a page: their language, and when.
func (s *site) reader(r *http.Request) ui.Reader {
	return ui.NewReader(r.Header.Get("Accept-Language"), time.Now())
}

// themeCookie keeps which theme a browser is shown. It is no secret and says nothing of anybody.
const themeCookie = "__Host-signalbox-theme"

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// theme keeps the choice of a theme in the browser.
func (s *site) theme(w http.ResponseWriter, r *http.Request, _ visitor) {
	c := http.Cookie{Name: themeCookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600}
	switch chosen := r.PostForm.Get("theme"); chosen {
	case "light", "dark":
		c.Value = chosen
	default:
		c.MaxAge = -1
	}
	http.SetCookie(w, &c)
	http.Redirect(w, r, nextOf(r), http.StatusSeeOther)
}

// partial reports whether a script asks for a part of a page: the list that a filter narrows, or what became stale.
func partial(r *http.Request) bool {
	return r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-Boosted") != "true" && r.Header.Get("HX-History-Restore-Request") != "true"
}
