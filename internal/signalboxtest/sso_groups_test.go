package signalboxtest_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestSingleSignOnGroups: a provider's groups give membership in groups here, and with it what is granted to them, at each sign-in; it takes back
// what it gave and never what somebody gave by hand.
func TestSingleSignOnGroups(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		box.Planted.Add("client secret", ssoSecret)
		p := startIDP(t, box.URL+"/sso/work/callback")
		admin := box.Admin()
		groups := map[string]client.Group{}
		for _, name := range []string{"Platform", "Finance", "Archive"} {
			g, err := admin.CreateGroup(t.Context(), client.GroupDraft{Name: name})
			require.NoError(t, err)
			groups[name] = g
			cred, err := admin.CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "of " + name, Secrets: map[string]string{"password": box.Planted.Secret(t, name)}})
			require.NoError(t, err)
			_, err = admin.SetCredentialGrants(t.Context(), cred.ID, client.GrantsDraft{Grants: []client.GrantDraft{{Grantee: client.GranteeRef{Kind: "group", ID: g.ID}, Use: true}}})
			require.NoError(t, err)
		}
		table := func(rows ...client.SSOGroup) *[]client.SSOGroup { return &rows }
		draft := client.SSOEdit{
			Name: "work", Label: ref("Work account"), Issuer: &p.issuer, ClientID: ref("signalbox"), ClientSecret: ref(ssoSecret), Scopes: ref([]string{"email", "profile", "groups"}),
			CreatePeople: ref(true), DefaultRole: ref("member"),
		}
		draft.Groups = table(client.SSOGroup{Group: "eng", GroupID: "platform"})
		_, err := admin.CreateSSOProvider(t.Context(), draft)
		require.ErrorContains(t, err, "groups_claim")
		draft.GroupsClaim = ref("groups")
		draft.Groups = table(client.SSOGroup{Group: "eng", GroupID: "nowhere"})
		_, err = admin.CreateSSOProvider(t.Context(), draft)
		require.ErrorContains(t, err, "no such group here")
		draft.Groups = table(client.SSOGroup{Group: "eng", GroupID: "platform"}, client.SSOGroup{Group: "money", GroupID: groups["Finance"].ID}, client.SSOGroup{Group: "clerks", GroupID: "Finance"})
		made, err := admin.CreateSSOProvider(t.Context(), draft)
		require.NoError(t, err)
		require.Equal(t, []client.SSOGroup{
			{Group: "eng", GroupID: groups["Platform"].ID, GroupName: "Platform"}, {Group: "money", GroupID: groups["Finance"].ID, GroupName: "Finance"},
			{Group: "clerks", GroupID: groups["Finance"].ID, GroupName: "Finance"},
		}, made.Groups)

		signIn := func(in ...string) *browser {
			t.Helper()
			p.person("bob", map[string]any{"email": "bob@example.com", "email_verified": true, "name": "Bob Builder", "groups": in})
			b := newBrowser(t)
			got := b.step("GET", b.signIn(b.begin(box, "/account"), "bob"), nil)
			require.Equal(t, http.StatusSeeOther, got.StatusCode, got.text)
			return b
		}
		sees := func(b *browser, names ...string) {
			t.Helper()
			list := b.step("GET", box.URL+"/api/credentials", nil)
			require.Equal(t, http.StatusOK, list.StatusCode, list.text)
			for name := range groups {
				if slices.Contains(names, name) {
					require.Contains(t, list.text, "of "+name)
				} else {
					require.NotContains(t, list.text, "of "+name)
				}
			}
		}
		member := func(group string) client.GroupMember {
			t.Helper()
			members, err := admin.GroupMembers(t.Context(), groups[group].ID, client.PageFilter{})
			require.NoError(t, err)
			require.Len(t, members.Members, 1, group)
			one, err := admin.GetGroupMember(t.Context(), groups[group].ID, members.Members[0].UserID)
			require.NoError(t, err)
			one.ETag = ""
			require.Equal(t, one, members.Members[0])
			return one
		}
		none := func(group string) {
			t.Helper()
			members, err := admin.GroupMembers(t.Context(), groups[group].ID, client.PageFilter{})
			require.NoError(t, err)
			require.Empty(t, members.Members, group)
		}

		since := time.Now()
		first := signIn("eng", "clerks", "money", "knitting")
		box.RequireEvents(t, since, store.UserCreate, store.SSOLink, store.GroupJoin, store.GroupJoin, store.IdentityLogin)
		sees(first, "Platform", "Finance")
		bob := member("Platform")
		require.Equal(t, []string{"work"}, bob.Providers)
		require.False(t, bob.ByHand)

		// Somebody puts him into two groups by hand: one in which he is already, and one that the provider knows nothing of.
		kept, added, err := admin.AddGroupMember(t.Context(), groups["Platform"].ID, "bob@example.com")
		require.NoError(t, err)
		require.False(t, added)
		require.True(t, kept.ByHand)
		_, _, err = admin.AddGroupMember(t.Context(), groups["Archive"].ID, bob.UserID)
		require.NoError(t, err)

		// He is in other groups at the provider: the session that he has loses with the others what the provider takes back.
		since = time.Now()
		second := signIn("knitting")
		box.RequireEvents(t, since, store.GroupLeave, store.GroupLeave, store.IdentityLogin)
		for _, b := range []*browser{first, second} {
			sees(b, "Platform", "Archive")
		}
		require.Empty(t, member("Platform").Providers)
		none("Finance")

		// What an administrator takes away comes back at the next sign-in, for the provider says so; a row that goes takes back at once.
		signIn("money")
		require.NoError(t, admin.RemoveGroupMember(t.Context(), groups["Finance"].ID, bob.UserID))
		none("Finance")
		third := signIn("money")
		sees(third, "Platform", "Finance", "Archive")
		_, err = admin.UpdateSSOProvider(t.Context(), "work", client.SSOEdit{Groups: table(client.SSOGroup{Group: "eng", GroupID: "Platform"})})
		require.NoError(t, err)
		sees(third, "Platform", "Archive")

		// A group that is deleted leaves the table, and the provider's state is another.
		before, err := admin.GetSSOProvider(t.Context(), "work")
		require.NoError(t, err)
		signIn("eng")
		require.NoError(t, admin.DeleteGroup(t.Context(), groups["Platform"].ID))
		after, err := admin.GetSSOProvider(t.Context(), "work")
		require.NoError(t, err)
		require.Empty(t, after.Groups)
		require.NotEqual(t, before.ETag, after.ETag)
		signIn("eng")

		// Without the claim nobody knows, and nobody enters on what was.
		_, err = admin.UpdateSSOProvider(t.Context(), "work", client.SSOEdit{Groups: table(client.SSOGroup{Group: "money", GroupID: "Finance"})})
		require.NoError(t, err)
		fourth := signIn("money")
		sees(fourth, "Finance", "Archive")
		p.person("bob", map[string]any{"email": "bob@example.com", "email_verified": true, "groups": map[string]any{"money": true}})
		lost := newBrowser(t)
		got := lost.step("GET", lost.signIn(lost.begin(box, "/account"), "bob"), nil)
		require.Equal(t, http.StatusForbidden, got.StatusCode)
		require.Contains(t, got.text, "does not say which groups")

		// With the provider goes what it gave.
		require.NoError(t, admin.DeleteSSOProvider(t.Context(), "work"))
		sees(fourth, "Archive")
		none("Finance")
		require.True(t, member("Archive").ByHand)
	})
}
