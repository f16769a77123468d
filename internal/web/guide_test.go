package web_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// guidePictures is where the pictures of the guide lie. maxPicture bounds each, so that a clone stays small.
const (
	guidePictures = "../../docs/images/dashboard"
	maxPicture    = 150 << 10
)

// TestPicturesOfTheGuide: the guide to the dashboard shows each picture that there is, and there is each that it shows, none too large. With
// SIGNALBOX_TEST_GUIDE set they are made anew, from a Signalbox of a small firm (scripts/screenshots.sh).
func TestPicturesOfTheGuide(t *testing.T) {
	if os.Getenv("SIGNALBOX_TEST_GUIDE") != "" {
		takePictures(t)
	}
	guide, err := os.ReadFile("../../docs/guide/dashboard.md")
	require.NoError(t, err)
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`\.\./images/dashboard/([a-z0-9-]+\.webp)`).FindAllStringSubmatch(string(guide), -1) {
		shown[m[1]] = true
	}
	require.NotEmpty(t, shown)
	there, err := os.ReadDir(guidePictures)
	require.NoError(t, err)
	for _, f := range there {
		info, err := f.Info()
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxPicture), f.Name())
		require.True(t, shown[f.Name()], "docs/guide/dashboard.md does not show %s", f.Name())
		delete(shown, f.Name())
	}
	require.Empty(t, shown, "scripts/screenshots.sh makes what the guide shows and is not there")
}

// turned is a clock that a test turns until it tells the time.
type turned struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *turned) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *turned) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

// takePictures makes the Signalbox of a small firm and takes the pictures.
func takePictures(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	clock := &turned{}
	cfg.Clock = clock.now
	clock.set(-26 * time.Hour)
	s := serve(t, storetest.OpenConfig(t, cfg), identity.Config{})
	b := s.window(true)
	take := func(name string, dark bool) {
		b.see(view{theme: "light", width: 1280})
		b.keep(filepath.Join(guidePictures, name+".webp"), false)
		if dark {
			b.see(view{theme: "dark", width: 1280})
			b.keep(filepath.Join(guidePictures, name+"-dark.webp"), false)
		}
		b.see(view{theme: "light", width: 390})
		b.keep(filepath.Join(guidePictures, name+"-narrow.webp"), false)
		b.see(view{theme: "light", width: 1280})
	}
	b.open("/setup?token=" + s.link())
	take("first-run", false)
	s.administrator()
	b.open("/")
	b.until(`location.pathname === "/sign-in"`)
	take("sign-in", false)
	s.smallFirm(clock)
	clock.set(0)
	b.signInHere("/")
	b.until(`document.querySelectorAll("#wants tbody tr").length > 0 && document.querySelector("#requests .big")`)
	take("overview", true)

	id := s.idOf("Gitea admin")
	for _, one := range []struct {
		name, path, ready string
		dark              bool
	}{
		{"credentials", "/credentials", "#credentials tbody tr", true}, {"types", "/credentials/~new", ".kinds", false}, {"credential", "/credentials/" + id, "#main h1", false},
		{"accounts", "/accounts", "#llm-accounts tbody tr", false}, {"trains", "/trains", "#trains tbody tr", false}, {"train", "/trains/web-shop", "#accounts tbody tr", true},
		{"connect", "/connect?provider=github", "form[action='/connect']", false}, {"connections", "/connections", "#connections tbody tr", false}, {"providers", "/connections/providers", "tbody tr", false},
		{"clients", "/clients", "#clients tbody tr", false}, {"due", "/due?about=expiry&within=90", "#due tbody tr", false}, {"import", "/import", "#import", false}, {"incidents", "/incidents", "#board section", false},
		{"audit", "/audit", "#records tbody tr", false}, {"people", "/people", "#people tbody tr", false}, {"you", "/account", "#main h1", false},
	} {
		b.open(one.path)
		b.until(`document.querySelector("` + one.ready + `")`)
		take(one.name, one.dark)
	}
	b.open("/credentials/" + id)
	b.click(`a[href*="/reveal"]`)
	b.until(`document.querySelector("dialog[open] input[name=reason]")`)
	b.js(`document.querySelector("dialog[open] input[name=reason]").value = "hand-over to the night shift"; ""`)
	take("reveal", false)
	b.open("/trains")
	b.js(`const q = document.querySelector("#search"); q.focus(); q.value = "web"; q.dispatchEvent(new Event("input", {bubbles: true})); ""`)
	b.until(`document.querySelector("#found a")`)
	take("search", false)
}

func (s *site) idOf(name string) string {
	s.Helper()
	list, _, err := s.vault.List(s.Context(), boss, vault.Filter{Q: name, Limit: 1})
	require.NoError(s, err)
	require.Len(s, list, 1)
	return list[0].ID
}

// smallFirm fills the database as that of a small firm is after a day.
func (s *site) smallFirm(clock *turned) {
	s.Helper()
	ctx := s.Context()
	ada := boss
	ada.Name = "Ada"
	up := s.upstream("planted-key-shared")
	days := func(n int) *time.Time { at := time.Now().Add(time.Duration(n) * 24 * time.Hour); return &at }
	northwind := s.home(vault.HomeClient, vault.HomeMeta{Name: "Northwind", Contact: "it@northwind.example"})
	contoso := s.home(vault.HomeClient, vault.HomeMeta{Name: "Contoso", Contact: "Ring +44 20 7946 0000 and ask for the network desk."})
	forge := s.home(vault.HomeService, vault.HomeMeta{Name: "Gitea", ClientID: northwind.ID, URL: "https://git.northwind.example"})
	shop := s.home(vault.HomeService, vault.HomeMeta{Name: "Shop", ClientID: northwind.ID, URL: "https://shop.northwind.example"})
	for _, c := range []struct {
		t vault.Type
		m vault.Meta
	}{
		{vault.APIKey, vault.Meta{Name: "Anthropic, team alpha", Provider: "anthropic", AccountID: "acc_team_alpha", BaseURL: up.URL, Tags: []string{"agents"}}},
		{vault.APIKey, vault.Meta{Name: "Anthropic, team beta", Provider: "anthropic", AccountID: "acc_team_beta", BaseURL: up.URL, Tags: []string{"agents"}, ExpiresAt: days(5)}},
		{vault.APIKey, vault.Meta{Name: "Anthropic, spare", Provider: "anthropic", AccountID: "acc_spare", BaseURL: up.URL, Tags: []string{"agents"}}},
		{vault.Password, vault.Meta{Name: "Gitea admin", Username: "root", Owner: "platform", ClientID: northwind.ID, ServiceID: forge.ID, Tags: []string{"git", "prod"}, ExternalURL: "https://git.northwind.example", RotateEvery: 90,
			ExpiresAt: days(62), Description: "The forge of Northwind. Ring the owner before you rotate it."}},
		{vault.ConnectionString, vault.Meta{Name: "Shop database", Owner: "platform", ClientID: northwind.ID, ServiceID: shop.ID, Tags: []string{"prod", "sql"}, ExpiresAt: days(24)}},
		{vault.SSHKey, vault.Meta{Name: "Backup host", Username: "backup", Owner: "platform", ClientID: contoso.ID, Tags: []string{"backup"}}},
		{vault.Certificate, vault.Meta{Name: "VPN gateway", Owner: "network", ClientID: contoso.ID, Tags: []string{"vpn"}, ExpiresAt: days(-1)}},
		{vault.SharedSecret, vault.Meta{Name: "Billing webhook", Owner: "billing", ClientID: northwind.ID, Tags: []string{"webhook"}, ExpiresAt: days(80)}},
	} {
		row, _ := vault.Lookup(c.t)
		d := vault.Draft{Type: c.t, Meta: c.m, Secrets: map[string]secret.Value{}}
		for _, f := range row.Secrets {
			d.Secrets[f.Name] = secret.FromString("planted-key-shared")
		}
		_, err := s.vault.Create(ctx, ada, d)
		require.NoError(s, err, c.m.Name)
	}
	_, err := s.incidents.Open(ctx, ada, incident.Draft{Meta: incident.Meta{Title: "Key of team beta in a paste", Type: incident.CredentialLeak, Severity: incident.High, IncidentDate: time.Now().Add(-27 * time.Hour)}, Touch: incident.Touch{ClientID: northwind.ID}})
	require.NoError(s, err)
	var keys []string
	for _, one := range []struct {
		draft    train.Draft
		accounts []string
		key      string
	}{
		{train.Draft{Slug: "web-shop", Name: "Web shop", Description: "Agents that keep the shop running."}, []string{"team alpha", "team beta", "spare"}, "ci runner"},
		{train.Draft{Slug: "support", Name: "Support desk", Strategy: train.Priority}, []string{"team beta"}, "desk"}, {train.Draft{Slug: "research", Name: "Research"}, []string{"spare"}, "notebook"},
	} {
		_, err := s.trains.CreateTrain(ctx, ada, one.draft)
		require.NoError(s, err)
		for _, name := range one.accounts {
			_, _, err := s.trains.Link(ctx, ada, one.draft.Slug, train.LinkDraft{Credential: s.idOf(name)})
			require.NoError(s, err)
		}
		_, key, err := s.trains.IssueKey(ctx, ada, one.draft.Slug, identity.KeyDraft{Name: one.key})
		require.NoError(s, err)
		keys = append(keys, key.Reveal())
	}
	for _, p := range []struct {
		name string
		role identity.Role
	}{{"Grace", identity.Operator}, {"Lin", identity.Member}, {"Omar", identity.Auditor}} {
		_, _, err := s.rooms.CreateUser(ctx, ada, identity.UserDraft{Email: strings.ToLower(p.name) + "@northwind.example", Name: p.name, Role: p.role, Password: secret.FromString(planted)})
		require.NoError(s, err)
	}
	name, title := "github-firm", "GitHub of the firm"
	s.provider(oauth.ProviderEdit{Name: &name, Title: &title, Scopes: &[]string{"repo", "read:org"}})
	for hour := 23; hour >= 0; hour-- {
		clock.set(-time.Duration(hour)*time.Hour - 5*time.Minute)
		for n := range (hour*hour*7+hour*3)%11 + 2 {
			status, text := s.asks(keys[(hour+n)%len(keys)])
			require.Equal(s, 200, status, text)
		}
	}
	require.NoError(s, s.audit.Flush(ctx))
	clock.set(0)
	for _, kept := range [][2]string{{"Northwind, ends soon", "client_id=" + northwind.ID + "&expires_in_days=30"}, {"Agents", "tag=agents"}} {
		cookie := s.signIn("")
		form := s.form(cookie, "/filters/~new?list=credentials&"+kept[1], "name", kept[0], "list", "credentials", "query", kept[1])
		require.Equal(s, 303, s.do("POST", "/filters", form, "Cookie", cookie).StatusCode)
	}
	cookie := s.signIn("")
	back := s.do("GET", comes(s.goes(cookie, "provider", name, "name", "GitHub, release bot", "next", "/connections"), nil), nil, "Cookie", cookie)
	require.Less(s, back.StatusCode, 400, back.text)
}
