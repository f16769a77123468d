package web

import (
	"context"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// Operations tells how this Signalbox is run. No function may tell a secret; nil tells nothing.
type Operations struct {
	// Settings are the settings in force.
	Settings func() []Setting
	// Check looks at what a server can see of its own set-up.
	Check func(context.Context) []Finding
	// Backups tells when backups were taken and restored.
	Backups func(context.Context) (Backups, error)
}

// Setting is one setting as it counts now, and where its value came from.
type Setting struct{ Name, Value, From, Doc string }

// Finding is what a check found, and what to do about it. State is ok, skipped, advice, warning or broken.
type Finding struct{ Name, State, Found, Do string }

const (
	settingsSignIn = "/settings/sign-in"
	settingsNotify = "/settings/notifications"
)

// routeSettings names the pages of settings.
func (s *site) routeSettings(mux *http.ServeMux) {
	mux.HandleFunc("GET /settings", s.signedIn(s.settings))
	mux.HandleFunc("GET /settings/checks", s.signedIn(s.checks))
	if s.hasKeys() {
		s.routeKeys(mux)
	}
	if s.Operations.Backups != nil {
		mux.HandleFunc("GET "+settingsBackups, s.signedIn(s.backups))
	}
	s.routeSignIn(mux)
	s.routeIssuers(mux)
	if s.Notify != nil {
		s.routeChannels(mux)
	}
}

// settingsPage is a part of the settings.
type settingsPage struct {
	ui.Frame
	Lead, Alert string
	Tabs        []ui.NavLink
	Acts        []act
	Parts       []part
	// Facts stand in a card above the parts, with what can be done there.
	FactsTitle string
	Facts      []ui.Fact
	FactsActs  []templ.Component
}

func (s *site) settingsOf(r *http.Request, v visitor, title, lead, here string) *settingsPage {
	p := &settingsPage{Frame: s.frame(r, v, title), Lead: lead}
	add := func(label, href string, may bool) {
		if may {
			p.Tabs = append(p.Tabs, ui.NavLink{Label: label, Href: href, Current: href == here})
		}
	}
	add("Configuration", "/settings", v.may(identity.MetricsRead))
	add("Sign-in", settingsSignIn, v.may(identity.UserRead) || v.may(identity.SSOWrite) || v.may(identity.IssuerRead))
	add("Notifications", settingsNotify, s.Notify != nil && v.may(identity.NotifyRead))
	add("Keys", settingsKeys, s.hasKeys() && v.may(identity.KeyringRead))
	add("Backups", settingsBackups, s.Operations.Backups != nil && v.may(identity.MetricsRead))
	add("Checks", "/settings/checks", v.may(identity.MetricsRead))
	return p
}

func (s *site) mayOperate(r *http.Request, v visitor) error {
	return s.Identity.Permit(r.Context(), v.Caller, identity.MetricsRead, store.Target{Kind: "configuration"})
}

// settings shows the configuration in force. Whoever may read the metrics may read it: it holds addresses and limits, and of secrets only whether they are set.
func (s *site) settings(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := s.mayOperate(r, v); err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := s.settingsOf(r, v, "Settings", "What is in force, and where each value came from. It is set where the server is started, never here.", "/settings")
	t := ui.Table{ID: "settings", Caption: "Settings of this instance", Columns: []ui.Column{{Label: "Setting"}, {Label: "Value"}, {Label: "From"}, {Label: "What it is"}},
		Empty: ui.Empty{Text: "This instance does not tell its settings.", Command: "signalbox doctor"}}
	if s.Operations.Settings != nil {
		for _, one := range s.Operations.Settings() {
			value, from := ui.Faint("not set"), ui.Faint("default")
			if one.Value != "" {
				value = ui.Code(one.Value)
			}
			if one.From != "default" {
				from = ui.Code(one.From)
			}
			if one.Name == "read-only" && s.ReadOnly {
				p.Alert = "This Signalbox is read-only: " + one.From + " says so. Every form is refused until it is started without that; reading, revealing and lending go on."
			}
			t.Rows = append(t.Rows, ui.Row{ID: one.Name, Cells: []templ.Component{ui.Code(one.Name), value, from, ui.Faint(one.Doc)}})
		}
	}
	p.Parts = []part{{ID: "configuration", Title: "Configuration", Table: t}}
	s.show(w, r, http.StatusOK, settingsView(p))
}

// checkTime bounds the checks of one page.
const checkTime = 10 * time.Second

// checks shows what the server sees of its own set-up.
func (s *site) checks(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := s.mayOperate(r, v); err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := s.settingsOf(r, v, "Checks", "What this instance sees of its own set-up, looked at now. On its machine, signalbox doctor sees more.", "/settings/checks")
	t := ui.Table{ID: "checks", Caption: "Checks of this instance", Columns: []ui.Column{{Label: "Check"}, {Label: "State"}, {Label: "Found"}, {Label: "What to do"}},
		Empty: ui.Empty{Text: "This instance does not look at itself.", Command: "signalbox doctor"}}
	if s.Operations.Check != nil {
		ctx, cancel := context.WithTimeout(r.Context(), checkTime)
		defer cancel()
		for _, one := range s.Operations.Check(ctx) {
			t.Rows = append(t.Rows, ui.Row{ID: one.Name, Cells: []templ.Component{ui.Text(one.Name), findingBadge(one.State), ui.Text(one.Found), ui.Text(one.Do)}})
		}
	}
	p.Parts = []part{{ID: "self", Title: "Checks", Table: t}}
	s.show(w, r, http.StatusOK, settingsView(p))
}

func findingBadge(state string) templ.Component {
	switch state {
	case "ok":
		return ui.Badge(ui.Good, state)
	case "broken":
		return ui.Badge(ui.Bad, state)
	case "warning", "advice":
		return ui.Badge(ui.Warn, state)
	}
	return ui.Badge(ui.Idle, state)
}
