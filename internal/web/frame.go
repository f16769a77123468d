package web

import (
	"net/http"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

// place is one page of the navigation. Whoever may do none of what it needs does not see it; the room behind it refuses them whatever they see.
type place struct {
	group, label, path, letter string
	needs                      identity.Permission // "" is for everybody
}

// places are the pages of the navigation, in its order. A new page is a line here.
func places() []place {
	return []place{
		{"", "Overview", "/", "o", ""},
		{"Lending", "Credentials", "/credentials", "c", identity.CredentialRead},
		{"Lending", "Accounts", "/accounts", "a", identity.CredentialRead},
		{"Lending", "Trains", "/trains", "t", identity.TrainRead},
		{"Lending", "Connections", "/connections", "n", identity.CredentialRead},
		{"Upkeep", "Clients", "/clients", "e", identity.CredentialRead},
		{"Upkeep", "What is due", "/due", "d", identity.CredentialRead},
		{"Upkeep", "Import & export", "/import", "x", identity.CredentialWrite},
		{"People & keys", "People", "/people", "p", identity.UserRead},
		{"People & keys", "Groups", "/groups", "g", identity.GroupRead},
		{"People & keys", "Service accounts", services, "v", identity.ServiceRead},
		{"People & keys", "Tokens", "/tokens", "k", identity.TokenRead},
		{"Record", "Audit", "/audit", "l", identity.AuditRead},
		{"Record", "Incidents", "/incidents", "i", identity.IncidentRead},
		{"Signalbox", "Settings", "/settings", "s", identity.MetricsRead},
		{"You", "Your account", "/account", "y", ""},
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
	for _, p := range places() {
		if p.needs != "" && !v.may(p.needs) {
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
