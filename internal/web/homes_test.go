package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// home stores a client, a service or infrastructure.
func (s *site) home(kind vault.HomeKind, m vault.HomeMeta) vault.Home {
	s.Helper()
	h, err := s.vault.CreateHome(s.Context(), boss, kind, m)
	require.NoError(s, err)
	return h
}

// TestClientsInABrowser: a client with a service, infrastructure and a credential that is put there from a list of names; what depends on it stands in the
// way of deleting it; then it goes.
func TestClientsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/clients")
		b.until(`document.querySelector("#clients .empty")`)
		b.inspect("clients-empty")

		b.click(`#clients .empty a`)
		if scripts {
			b.until(`document.querySelector("dialog[open] form")`)
			b.inspect("client-dialog")
		}
		b.submitIn(`form[method="post"][action="/clients"]`, "name", "Northwind <b>Ltd</b>", "contact", "it@northwind.example\nring twice")
		b.until(`location.search === "?done=made"`)
		require.Contains(b, b.text(), "Northwind <b>Ltd</b>")
		client := strings.TrimPrefix(b.js("location.pathname"), "/clients/")

		b.click(`#of-services .empty a`)
		b.submitIn(`form[method="post"][action="/services"]`, "name", "Shop", "url", "not an address")
		b.until(`document.querySelector("#url-error")`)
		b.inspect("service-error")
		b.submitIn(`form[method="post"][action="/services"]`, "url", "https://shop.example.com")
		b.until(`location.search === "?done=made"`)
		require.Contains(b, b.text(), "Northwind <b>Ltd</b>", "it belongs to the client whose page led here")
		service := strings.TrimPrefix(b.js("location.pathname"), "/services/")
		b.open("/clients/" + client)
		b.click(`#of-infrastructure .empty a`)
		b.submitIn(`form[method="post"][action="/infrastructure"]`, "name", "db-1", "kind", "device", "address", "10.0.0.0/8")
		b.until(`location.search === "?done=made"`)

		b.open("/services/" + service)
		b.click(`#of-credentials a[href^="/credentials/~new"]`)
		b.click(`.kinds a[href*="api_key"]`)
		b.until(`document.querySelector("#service_id")`)
		require.Equal(b, client+" "+service, b.js(`document.querySelector("#client_id").value + " " + document.querySelector("#service_id").value`))
		b.inspect("credential-new")
		b.submitIn(`form[action="/credentials"]`, "name", "Shop key", "secrets/api_key", "planted-shop-key-0123456789")
		b.until(`location.search === "?done=made"`)
		b.click(`#about a[href="/clients/` + client + `"]`)
		b.until(`document.querySelectorAll("#credentials tbody tr").length === 1`)
		require.Contains(b, b.text(), "Northwind <b>Ltd</b> · Shop")
		b.inspect("client")

		b.open("/credentials?client_id=" + client)
		b.until(`document.querySelectorAll("#credentials tbody tr").length === 1 && document.querySelector("details.more[open] #client_id").value === "` + client + `"`)
		b.open("/services")
		b.until(`document.querySelectorAll("#services tbody tr").length === 1`)
		require.Equal(b, "/clients", b.js(`document.querySelector("#nav [aria-current]").getAttribute("href")`))
		b.inspect("services")
		b.open("/infrastructure")
		b.inspect("infrastructure")

		b.open("/clients/" + client)
		b.click(`a[href$="/delete"]`)
		b.until(`document.body.innerText.includes("cannot be deleted while something belongs to it")`)
		require.Contains(b, b.text(), "1 credential: Shop key")
		require.Contains(b, b.text(), "1 service: Shop")
		require.Equal(b, "null", b.js(`String(document.querySelector('form[action$="/delete"] button.danger'))`))
		if scripts {
			b.inspect("client-delete-dialog")
		}

		b.open("/clients/" + client)
		b.click(`a[href$="/edit"]`)
		b.submitIn(`form[action$="/edit"]`, "name", "", "description", "two words")
		b.js(`document.querySelector('form[action$="/edit"]').noValidate = true; ""`)
		b.submitIn(`form[action$="/edit"]`, "name", "Northwind")
		b.until(`location.search === "?done=changed"`)
		require.Contains(b, b.text(), "two words")

		empty := s.home(vault.HomeClient, vault.HomeMeta{Name: "Empty"})
		b.open("/clients/" + empty.ID)
		b.click(`a[href$="/delete"]`)
		b.submitIn(`form[action$="/delete"]`)
		b.until(`location.pathname === "/clients" && document.querySelector(".flash")`)
		b.until(`document.querySelectorAll("#clients tbody tr").length === 1`)
		b.inspect("clients")
	})
}

// TestHomePagesByRole: what a role may not do is not shown, and refused when forced; whoever reaches only their own sees what their credentials name.
func TestHomePagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		seen := s.home(vault.HomeClient, vault.HomeMeta{Name: "Seen of old"})
		other := s.home(vault.HomeClient, vault.HomeMeta{Name: "Somebody else"})
		box := s.home(vault.HomeService, vault.HomeMeta{Name: "Hidden shop", ClientID: other.ID})
		for role, may := range map[identity.Role]struct{ all, write bool }{
			identity.Administrator: {true, true}, identity.Operator: {true, true}, identity.Auditor: {true, false}, identity.Member: {false, false},
		} {
			cookie := s.person(role)
			who := boss
			who.ID, who.UserID, who.Role = s.me(cookie), s.me(cookie), role
			if role == identity.Member {
				c := s.stored(vault.Password, vault.Meta{Name: "theirs", ClientID: seen.ID})
				_, err := s.vault.SetGrants(s.Context(), boss, vault.Scope{Kind: vault.OnCredential, ID: c.ID}, []vault.Grant{{Party: identity.Party{Kind: identity.PartyPerson, ID: who.UserID}, Use: true}}, "")
				require.NoError(s, err)
			}
			list := s.do("GET", "/clients", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, list.StatusCode, role)
			require.Contains(s, list.text, "Seen of old", role)
			require.Equal(s, may.all, strings.Contains(list.text, "Somebody else"), role)
			require.Equal(s, may.write, strings.Contains(list.text, "/clients/~new"), role)
			file := s.do("GET", "/clients.csv", nil, "Cookie", cookie)
			require.Equal(s, may.all, strings.Contains(file.text, "Somebody else"), role)
			one := s.do("GET", "/clients/"+seen.ID, nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, one.StatusCode, role)
			require.Equal(s, may.write, strings.Contains(one.text, "/delete"), role)
			for _, path := range []string{"/clients/" + other.ID, "/services/" + box.ID} {
				a := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, may.all, a.StatusCode == http.StatusOK, "%s %s", role, path)
				require.Equal(s, may.all, strings.Contains(a.text, "Somebody else"), "%s %s", role, path)
			}
			due := s.do("GET", "/due?about=expiry&within=all", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, due.StatusCode, role)

			form := s.form(cookie, "/account")
			for path, fill := range map[string][]string{"/clients": {"name", "forced-" + string(role)}, "/clients/" + seen.ID + "/edit": {"name", "Seen of old"}, "/services/" + box.ID + "/delete": {"x", "y"}, "/infrastructure": {"name", "forced-" + string(role), "kind", "host"}} {
				if may.write && strings.HasSuffix(path, "/delete") {
					continue
				}
				filled := url.Values{"form": form["form"]}
				for i := 0; i < len(fill); i += 2 {
					filled.Set(fill[i], fill[i+1])
				}
				a := s.do("POST", path, filled, "Cookie", cookie)
				want := http.StatusForbidden
				if may.write {
					want = http.StatusSeeOther
				}
				if role == identity.Member && strings.HasPrefix(path, "/services/") { // of what they do not see they learn nothing
					want = http.StatusNotFound
				}
				require.Equal(s, want, a.StatusCode, "%s %s %s", role, path, a.text)
				require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			}
			for _, path := range []string{"/clients/~new", "/clients/" + seen.ID + "/edit", "/clients/" + seen.ID + "/delete"} {
				require.Equal(s, may.write, s.do("GET", path, nil, "Cookie", cookie).StatusCode == http.StatusOK, "%s %s", role, path)
			}
		}
	})
}

// TestManyHomesAreTyped: where there are more than a list holds, a name is typed, or an id; one that several have is asked about, and what names none is said.
func TestManyHomesAreTyped(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		var last vault.Home
		for i := range 201 {
			last = s.home(vault.HomeClient, vault.HomeMeta{Name: fmt.Sprintf("Client %03d", i)})
		}
		first := s.home(vault.HomeService, vault.HomeMeta{Name: "Mail", ClientID: last.ID})
		page := s.do("GET", "/services/~new", nil, "Cookie", cookie)
		require.Contains(s, page.text, `name="client_id" type="text"`)
		made := s.do("POST", "/services", s.form(cookie, "/services/~new", "name", "Shop", "client_id", " client 007 "), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, made.StatusCode, made.text)
		require.Contains(s, s.do("GET", made.Header.Get("Location"), nil, "Cookie", cookie).text, "Client 007")
		none := s.do("POST", "/services", s.form(cookie, "/services/~new", "name", "Other", "client_id", "Client 9"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, none.StatusCode)
		require.Contains(s, none.text, `id="client_id-error"`)
		require.Contains(s, none.text, `value="Client 9"`)

		s.home(vault.HomeService, vault.HomeMeta{Name: "Mail"})
		form := s.form(cookie, "/credentials/~new?type=password", "name", "x", "secrets/password", "planted-one", "type", "password")
		form.Set("service_id", "mail")
		twice := s.do("POST", "/credentials", form, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, twice.StatusCode)
		require.Contains(s, twice.text, "Is the name of several; give the id of one")
		form.Set("service_id", first.ID)
		require.Equal(s, http.StatusSeeOther, s.do("POST", "/credentials", form, "Cookie", cookie).StatusCode)
		require.Contains(s, s.do("GET", "/credentials?client_id=Client+007", nil, "Cookie", cookie).text, "No credential is like this")
		require.NotContains(s, s.do("GET", "/credentials?service_id="+first.ID, nil, "Cookie", cookie).text, "No credential is like this")
	})
}

// TestDueInABrowser: what is overdue stands first, with its days in a chart and in the table behind it; it is rotated from there, one or several.
func TestDueInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		client := s.home(vault.HomeClient, vault.HomeMeta{Name: "Northwind"})
		in := func(days int) *time.Time {
			at := time.Now().Add(time.Duration(days)*24*time.Hour + time.Hour)
			return &at
		}
		late := s.stored(vault.APIKey, vault.Meta{Name: "Late key", RotateEvery: 1, ClientID: client.ID, ExpiresAt: in(-3)})
		s.stored(vault.Password, vault.Meta{Name: "Weekly", RotateEvery: 6, ExpiresAt: in(20)})
		s.stored(vault.Password, vault.Meta{Name: "Yearly", RotateEvery: 365, ExpiresAt: in(80)})
		b := s.window(scripts)
		b.signInHere("/due")
		b.until(`document.querySelectorAll("#due tbody tr").length === 2`)
		require.Equal(b, "Late key Weekly", b.js(`[...document.querySelectorAll("#due tbody th")].map((one) => one.textContent.trim()).join(" ")`))
		b.inspect("due")
		b.open("/due?within=0")
		b.until(`document.querySelector("#due .empty")`)
		b.inspect("due-empty")
		b.open("/due?within=all&client_id=" + client.ID)
		b.until(`document.querySelectorAll("#due tbody tr").length === 1`)

		b.open("/due?about=expiry&within=90")
		b.until(`document.querySelectorAll("#due tbody tr").length === 3 && document.querySelectorAll("#days svg rect").length === 90`)
		require.Contains(b, b.text(), "1 credential ended already. 2 credentials to end in the next 90 days")
		b.inspect("due-expiry")

		b.js(`document.querySelectorAll("#due .pick input").forEach((box) => { box.checked = true }); ""`)
		b.click("#bulk button")
		b.until(`location.pathname === "/credentials/~bulk" && document.querySelectorAll("#rotations tbody tr").length === 3`)
		b.inspect("rotations")
		b.click(`#rotations a[href^="/credentials/` + late.ID + `/rotate"]`)
		b.submitIn(`form[action="/credentials/`+late.ID+`/rotate"]`, "secrets/api_key", "planted-rotated-0123456789")
		b.until(`location.pathname === "/credentials/~bulk" && document.querySelector(".flash")`)
		require.Contains(b, b.js(`document.querySelector('#rotations tbody tr').innerText.replaceAll("\t", " ")`), "Late key")

		cookie := s.signIn("")
		for _, wrong := range []string{"/due?about=x", "/due?within=12", "/due?cursor=x"} {
			require.GreaterOrEqual(b, s.do("GET", wrong, nil, "Cookie", cookie).StatusCode, 400, wrong)
		}
		refused := s.do("POST", "/credentials/~bulk", s.form(cookie, "/account", "act", "rotate", "id", late.ID), "Cookie", cookie)
		require.Equal(b, http.StatusUnprocessableEntity, refused.StatusCode)
		require.Contains(b, refused.text, "given one by one")
		elsewhere := s.form(cookie, "/credentials/"+late.ID+"/rotate", "secrets/api_key", "planted-again-0123456789", "next", "/sign-out")
		elsewhere.Set("next", "//evil.example.com/due")
		require.Equal(b, "/credentials/"+late.ID+"?done=rotated", s.do("POST", "/credentials/"+late.ID+"/rotate", elsewhere, "Cookie", cookie).Header.Get("Location"))
	})
}

// TestHomePagesKeepTheBudget: what they weigh, and the parts and files of the lists.
func TestHomePagesKeepTheBudget(t *testing.T) {
	onOne(t, func(s *site) {
		cookie := s.administrator()
		storetest.Homes(s, s.db, "acme", "shop", "host")
		for i := range 60 {
			at := time.Now().Add(time.Duration(i) * 24 * time.Hour)
			s.stored(vault.Password, vault.Meta{Name: fmt.Sprintf("Password %d", i), ClientID: "acme", ExpiresAt: &at, RotateEvery: i + 1})
		}
		for _, path := range []string{"/clients", "/clients/acme", "/clients/~new", "/clients/acme/delete", "/services", "/infrastructure", "/due", "/due?about=expiry&within=all"} {
			s.weigh(cookie, path)
		}
		part := s.do("GET", "/due?within=all", nil, "Cookie", cookie, "HX-Request", "true")
		require.Regexp(s, `^<div id="due"`, part.text)
		require.Contains(s, part.text, "cursor=")
		require.Regexp(s, `^<div id="clients"`, s.do("GET", "/clients?q=ac", nil, "Cookie", cookie, "HX-Request", "true").text)
		require.Contains(s, s.do("GET", "/infrastructure.csv", nil, "Cookie", cookie).text, "id,name,client_id")
	})
}
