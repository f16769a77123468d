package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// operator adds an operator and returns who they are to the rooms, and their cookie.
func (s *site) operator(name string) (identity.Caller, string) {
	return s.somebody(name, identity.Operator)
}

func (s *site) somebody(name string, role identity.Role) (identity.Caller, string) {
	s.Helper()
	u, _, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: name + "@example.com", Name: name, Role: role, Password: secret.FromString(planted)})
	require.NoError(s, err)
	form := credentials("/")
	form.Set("email", name+"@example.com")
	a := s.do("POST", "/sign-in", form, "Origin", s.url)
	require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
	c := boss
	c.ID, c.UserID, c.Role = u.ID, u.ID, role
	return c, s.cookie(a)
}

// TestMembersInABrowser: a train is made private, gets members, refuses to lose its last owner, says which client keys end with a member, and is opened again; with scripts and without.
func TestMembersInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		cookie := s.administrator()
		ada := boss
		ada.ID, ada.UserID = s.me(cookie), s.me(cookie)
		bob, _ := s.operator("bob")
		g, err := s.rooms.CreateGroup(s.Context(), boss, identity.GroupDraft{Name: "night shift"})
		require.NoError(s, err)
		_, err = s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web", Name: "Web"})
		require.NoError(s, err)
		hers, _, err := s.trains.IssueKey(s.Context(), ada, "web", identity.KeyDraft{Name: "adaslaptop"})
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/trains/web")
		require.Contains(b, b.text(), "Nobody is a member.")
		require.Contains(b, b.text(), "the organisation")
		b.inspect("members-none")

		ask := func(href string) string { // opens the form of a link
			b.Helper()
			form := `form[action="` + strings.Replace(href, "/add", "", 1) + `"]`
			b.click(`a[href="` + href + `"]`)
			b.until(`document.querySelector('` + form + `')`)
			return form
		}
		form := ask("/trains/web/visibility")
		require.Contains(b, b.text(), "Nobody owns it, so you do then.")
		b.inspect("members-private-confirm")
		b.submitIn(form)
		b.until(`location.search === "?done=private"`)
		require.Contains(b, b.js(`document.querySelector("#train-members tbody").textContent`), "ada@example.com")
		require.Contains(b, b.text(), "its members alone")
		b.open("/trains")
		require.Contains(b, b.js(`document.querySelector("#trains tbody").textContent`), "private")
		b.inspect("members-list-of-trains")
		b.open("/trains/web")

		const last = "last owner of a private train"
		role := "/trains/web/members/person/" + ada.UserID + "/role"
		form = ask(role)
		b.submitIn(form, "role", "member")
		b.until(`document.querySelector('.alert')`)
		require.Contains(b, b.js(`document.querySelector(".alert").textContent`), last)
		b.inspect("members-last-owner")

		b.open("/trains/web")
		form = ask("/trains/web/members/add")
		b.inspect("members-add")
		b.submitIn(form, "who", "nobody@example.com")
		b.until(`document.querySelector("#who-error")`)
		b.inspect("members-add-error")
		b.submitIn(form, "who", "bob@example.com")
		b.until(`location.search === "?done=joined"`)
		b.inspect("members")

		his, _, err := s.trains.IssueKey(s.Context(), bob, "web", identity.KeyDraft{Name: "bobslaptop"})
		require.NoError(s, err)
		form = ask("/trains/web/members/person/" + bob.UserID + "/remove")
		require.Contains(b, b.js(`document.querySelector(".touches").textContent`), "bobslaptop")
		require.NotContains(b, b.js(`document.querySelector(".touches").textContent`), "adaslaptop")
		b.inspect("members-remove")
		b.submitIn(form)
		b.until(`location.search === "?done=lost"`)
		for id, want := range map[string]identity.Status{his.ID: identity.StatusRevoked, hers.ID: identity.StatusActive} {
			k, err := s.trains.GetKey(s.Context(), boss, "web", id)
			require.NoError(b, err)
			require.Equal(b, want, k.Status, k.Name)
		}

		form = ask("/trains/web/members/add")
		b.submitIn(form, "who", "night shift", "kind", "group", "role", "owner")
		b.until(`location.search === "?done=joined"`)
		require.Contains(b, b.js(`document.querySelector("#train-members tbody").textContent`), "nobody active in it")
		form = ask("/trains/web/members/person/" + ada.UserID + "/remove")
		b.submitIn(form)
		b.until(`document.querySelector('.alert')`)
		require.Contains(b, b.js(`document.querySelector(".alert").textContent`), last, "a group with nobody in it owns nothing")
		_, _, err = s.rooms.AddGroupMember(s.Context(), boss, g.ID, bob.UserID)
		require.NoError(b, err)
		b.open("/trains/web")
		form = ask(role)
		b.submitIn(form, "role", "member")
		b.until(`location.search === "?done=role"`)
		off := false
		_, err = s.rooms.UpdateUser(s.Context(), boss, bob.UserID, identity.UserPatch{Active: &off})
		require.NoError(b, err)
		b.open("/trains/web")
		b.until(`document.body.textContent.includes("Nobody who can sign in owns this private train")`)
		b.inspect("members-unowned")

		form = ask("/trains/web/visibility")
		b.submitIn(form)
		b.until(`location.search === "?done=opened"`)
		got, err := s.trains.GetTrain(s.Context(), boss, "web")
		require.NoError(b, err)
		require.Equal(b, identity.OfOrganisation, got.Visibility)
	})
}

// TestMembersByRole: who may not say who the members are sees them, without forms, and is refused when they are forced; who does not reach the train finds none; and a member may leave.
func TestMembersByRole(t *testing.T) {
	each(t, func(s *site) {
		admin := s.administrator()
		olga, owner := s.operator("olga")
		mike, member := s.operator("mike")
		_, outside := s.operator("otto")
		auditor, nobody := s.person(identity.Auditor), s.person(identity.Member)
		_, err := s.trains.CreateTrain(s.Context(), olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(s, err)
		_, _, err = s.trains.PutMember(s.Context(), olga, "yard", identity.PartyPerson, mike.UserID, train.Member, "")
		require.NoError(s, err)
		key, _, err := s.trains.IssueKey(s.Context(), mike, "yard", identity.KeyDraft{Name: "mikeslaptop"})
		require.NoError(s, err)
		s.prove(time.Hour)
		of := func(c identity.Caller) string { return "/trains/yard/members/person/" + c.UserID }
		changes := []string{"/trains/yard/members/add", of(mike) + "/role", of(mike) + "/remove", of(olga) + "/role", of(olga) + "/remove", "/trains/yard/visibility"}
		for _, who := range []struct {
			name, cookie  string
			reads, change bool
			status        int
		}{{"administrator", admin, true, true, 200}, {"owner", owner, true, true, 200}, {"member", member, true, false, 403}, {"auditor", auditor, true, false, 403}, {"outside", outside, false, false, 404}, {"role member", nobody, false, false, 404}} {
			page := s.do("GET", "/trains/yard", nil, "Cookie", who.cookie)
			require.Equal(s, who.reads, strings.Contains(page.text, "olga@example.com"), who.name)
			list := s.do("GET", "/trains", nil, "Cookie", who.cookie)
			require.Equal(s, who.reads, strings.Contains(list.text, "yard"), who.name)
			token := s.form(who.cookie, "/account").Get("form")
			for _, path := range changes {
				own := who.name == "member" && path == of(mike)+"/remove"
				require.Equal(s, who.change || own, strings.Contains(page.text, `href="`+path+`"`), "%s %s", who.name, path)
				want := who.status
				if own {
					want = http.StatusOK
				} else if who.name == "role member" && path == "/trains/yard/visibility" { // which their role never includes
					want = http.StatusForbidden
				}
				a := s.do("GET", path, nil, "Cookie", who.cookie)
				require.Equal(s, want, a.StatusCode, "%s %s", who.name, path)
				if want == http.StatusOK && path == of(mike)+"/remove" {
					require.Contains(s, a.text, "mikeslaptop")
				} else {
					require.NotContains(s, a.text, "mikeslaptop")
				}
				to := strings.TrimSuffix(path, "/add")
				require.Equal(s, http.StatusForbidden, s.do("POST", to, url.Values{"who": {"otto@example.com"}, "kind": {"person"}, "role": {"owner"}, "visibility": {"organisation"}}, "Cookie", who.cookie).StatusCode, "without the form's token")
				if !who.change && !own {
					a = s.do("POST", to, url.Values{"form": {token}, "who": {"otto@example.com"}, "kind": {"person"}, "role": {"owner"}, "visibility": {"organisation"}}, "Cookie", who.cookie)
					require.Equal(s, want, a.StatusCode, "%s %s", who.name, path)
				}
			}
			now, err := s.trains.Members(s.Context(), boss, "yard")
			require.NoError(s, err)
			require.Len(s, now, 2, who.name)
			require.Equal(s, []train.Role{train.Owner, train.Member}, []train.Role{now[0].Role, now[1].Role})
		}
		stale := s.do("POST", of(mike)+"/role", url.Values{"form": {s.form(owner, "/account").Get("form")}, "if_match": {`"0"`}, "role": {"owner"}}, "Cookie", owner)
		require.Equal(s, http.StatusPreconditionFailed, stale.StatusCode)
		refused := s.do("POST", of(olga)+"/remove", url.Values{"form": {s.form(owner, "/account").Get("form")}}, "Cookie", owner)
		require.Equal(s, http.StatusConflict, refused.StatusCode)
		require.Contains(s, refused.text, "last owner of a private train")

		left := s.do("POST", of(mike)+"/remove", s.form(member, of(mike)+"/remove"), "Cookie", member)
		require.Equal(s, "/trains?done=left", left.Header.Get("Location"), left.text)
		require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/yard", nil, "Cookie", member).StatusCode)
		k, err := s.trains.GetKey(s.Context(), boss, "yard", key.ID)
		require.NoError(s, err)
		require.Equal(s, identity.StatusRevoked, k.Status)

		// An auditor, who says of no train who its members are, leaves as well.
		own := "/trains/yard/members/person/" + s.me(auditor) + "/remove"
		_, _, err = s.trains.PutMember(s.Context(), olga, "yard", identity.PartyPerson, s.me(auditor), train.Member, "")
		require.NoError(s, err)
		page := s.do("GET", "/trains/yard", nil, "Cookie", auditor)
		require.Contains(s, page.text, `href="`+own+`"`)
		require.NotContains(s, page.text, `href="`+of(olga)+`/remove"`)
		left = s.do("POST", own, s.form(auditor, own), "Cookie", auditor)
		require.Equal(s, "/trains/yard?done=left", left.Header.Get("Location"), left.text)

		require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error { // an old proof is asked for first
			if _, err := tx.Exec(`UPDATE sessions SET stepped_up_at = 0`); err != nil {
				return err
			}
			var ids []string
			if err := tx.Select(&ids, `SELECT id FROM sessions`); err != nil {
				return err
			}
			for _, id := range ids {
				tx.Change(store.TopicSession, id)
			}
			return tx.Record(identity.System("test").Event(store.IdentityStepUp, store.Target{Kind: "session"}))
		}))
		require.Contains(s, s.do("GET", changes[0], nil, "Cookie", owner).Header.Get("Location"), "/step-up")
		forced := s.do("POST", "/trains/yard/members", url.Values{"form": {s.form(owner, "/account").Get("form")}, "who": {"otto@example.com"}, "kind": {"person"}, "role": {"owner"}}, "Cookie", owner)
		require.Contains(s, forced.Header.Get("Location"), "/step-up")
		require.Contains(s, s.do("GET", "/trains/yard/visibility", nil, "Cookie", owner).Header.Get("Location"), "/step-up")
		opened := s.do("POST", "/trains/yard/visibility", url.Values{"form": {s.form(owner, "/account").Get("form")}, "visibility": {"organisation"}}, "Cookie", owner)
		require.Contains(s, opened.Header.Get("Location"), "/step-up")
	})
}

// TestAGroupOfAPrivateTrainOnItsPage: who owns no private train that a group is a member of puts nobody into it, takes nobody out and does not delete it, and is told why.
func TestAGroupOfAPrivateTrainOnItsPage(t *testing.T) {
	each(t, func(s *site) {
		olga, owner := s.operator("olga")
		otto, outside := s.operator("otto")
		g, err := s.rooms.CreateGroup(s.Context(), boss, identity.GroupDraft{Name: "crew"})
		require.NoError(s, err)
		_, err = s.trains.CreateTrain(s.Context(), olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(s, err)
		_, _, err = s.trains.PutMember(s.Context(), olga, "yard", identity.PartyGroup, "crew", train.Member, "")
		require.NoError(s, err)
		here := "/groups/" + g.ID
		added := s.do("POST", here+"/members", url.Values{"form": {s.form(owner, "/account").Get("form")}, "user_id": {"olga@example.com"}}, "Cookie", owner)
		require.Equal(s, here+"?done=added", added.Header.Get("Location"), added.text)
		for _, path := range []string{here + "/members", here + "/members/" + olga.UserID + "/remove", here + "/delete"} {
			a := s.do("POST", path, url.Values{"form": {s.form(outside, "/account").Get("form")}, "user_id": {otto.UserID}}, "Cookie", outside)
			require.Equal(s, http.StatusForbidden, a.StatusCode, path)
			require.Contains(s, a.text, "This group is a member of a private train")
			require.NotContains(s, a.text, "yard")
		}
	})
}
