package identity_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// work is a provider that decides on roles and groups.
func (h *house) work(admin identity.Caller, groups ...identity.GroupMapping) identity.SSOProvider {
	h.t.Helper()
	p, err := h.CreateSSOProvider(h.t.Context(), admin, identity.SSOEdit{
		Name: ptr("work"), Issuer: ptr("https://id.example.com"), ClientID: ptr("signalbox"), CreatePeople: ptr(true), GroupsClaim: ptr("groups"), LinkDomains: ptr([]string{"example.com"}),
		Roles: ptr([]identity.RoleMapping{{Group: "ops", Role: identity.Operator}, {Group: "all", Role: identity.Member}}), Groups: ptr(groups),
	})
	require.NoError(h.t, err)
	return p
}

// changed counts what tells who there is and what they may.
func (h *house) changed() (out string) {
	h.t.Helper()
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		out = ""
		for _, query := range []string{
			`SELECT id || role AS x FROM users ORDER BY id`, `SELECT subject || user_id AS x FROM sso_links ORDER BY subject`,
			`SELECT user_id || group_id AS x FROM group_members ORDER BY user_id, group_id`, `SELECT user_id || group_id AS x FROM sso_memberships ORDER BY user_id, group_id`,
		} {
			var rows []string
			if err := tx.Select(&rows, query); err != nil {
				return err
			}
			for _, row := range rows {
				out += row + "\n"
			}
		}
		return nil
	}))
	return out
}

// TestReadOnlySignIn: on a read-only instance who is known signs in, and no sign-in changes who there is or what they may.
func TestReadOnlySignIn(t *testing.T) {
	instances(t, func(t *testing.T, a, _ *house) {
		u, admin := a.admin()
		g, err := a.CreateGroup(t.Context(), admin, identity.GroupDraft{Name: "Platform"})
		require.NoError(t, err)
		p := a.work(admin, identity.GroupMapping{Group: "eng", ID: g.ID})
		bob := identity.Claimed{Subject: "bob", Email: "bob@example.com", Verified: true, Groups: []string{"ops", "eng"}}
		_, err = a.EnterSSO(t.Context(), door(), p, bob)
		require.NoError(t, err)
		_, err = a.HeaderLogin(t.Context(), door(), "carol@example.com", identity.Member)
		require.NoError(t, err)

		a.SetReadOnly()
		before := a.changed()
		in, err := a.EnterSSO(t.Context(), door(), p, bob)
		require.NoError(t, err)
		require.False(t, in.Secret.IsZero())
		_, err = a.HeaderLogin(t.Context(), door(), "carol@example.com", identity.Member)
		require.NoError(t, err)
		for name, c := range map[string]identity.Claimed{
			"somebody new":    {Subject: "new", Email: "new@example.com", Verified: true, Groups: []string{"all"}},
			"somebody linked": {Subject: "ada", Email: u.Email, Verified: true, Groups: []string{"all"}},
			"another role":    {Subject: "bob", Email: "bob@example.com", Verified: true, Groups: []string{"all", "eng"}},
			"a group more":    {Subject: "bob", Email: "bob@example.com", Verified: true, Groups: []string{"ops"}},
		} {
			_, err = a.EnterSSO(t.Context(), door(), p, c)
			require.ErrorContains(t, err, "read_only", name)
		}
		_, err = a.HeaderLogin(t.Context(), door(), "new@example.com", identity.Member)
		requireFault(t, "sso_refused", err)
		require.Equal(t, before, a.changed())
	})
}

// TestGroupsOfAProviderEverywhere: what a provider gives and takes back counts on another instance as soon as the sign-in is answered, for it is
// read in the transaction of each act.
func TestGroupsOfAProviderEverywhere(t *testing.T) {
	instances(t, func(t *testing.T, a, b *house) {
		_, admin := a.admin()
		g, err := a.CreateGroup(t.Context(), admin, identity.GroupDraft{Name: "Platform"})
		require.NoError(t, err)
		p := a.work(admin, identity.GroupMapping{Group: "eng", ID: g.ID})
		groups := func(in identity.Admission) (ids []string) {
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) (err error) {
				ids, err = identity.Principals(tx, identity.Caller{Kind: identity.KindPerson, UserID: in.User.ID})
				return err
			}))
			return ids
		}
		bob := identity.Claimed{Subject: "bob", Email: "bob@example.com", Verified: true, Groups: []string{"all", "eng"}}
		in, err := a.EnterSSO(t.Context(), door(), p, bob)
		require.NoError(t, err)
		require.Equal(t, []string{g.ID, in.User.ID}, groups(in))
		joined := a.eventsOf(store.GroupJoin)
		require.Len(t, joined, 1)
		require.Equal(t, "work", detail(t, joined[0], "provider"))
		require.Equal(t, in.User.ID, joined[0].OnBehalf)

		bob.Groups = []string{"all"}
		_, err = a.EnterSSO(t.Context(), door(), p, bob)
		require.NoError(t, err)
		require.Equal(t, []string{in.User.ID}, groups(in))
		require.Equal(t, "work", detail(t, a.eventsOf(store.GroupLeave)[0], "provider"))
	})
}

// TestAProviderFillsNobodyUp: who is in as many groups as one may be signs in, without one more, and that is on record.
func TestAProviderFillsNobodyUp(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	_, admin := h.admin()
	g, err := h.CreateGroup(t.Context(), admin, identity.GroupDraft{Name: "Platform"})
	require.NoError(t, err)
	p := h.work(admin, identity.GroupMapping{Group: "eng", ID: g.ID})
	bob := identity.Claimed{Subject: "bob", Email: "bob@example.com", Verified: true, Groups: []string{"all"}}
	in, err := h.EnterSSO(t.Context(), door(), p, bob)
	require.NoError(t, err)
	require.NoError(t, h.write(func(tx *store.Tx) error {
		for i := range identity.MaxGroups {
			id := store.NewID("grp")
			if _, err := tx.Exec(`INSERT INTO user_groups (id, name, folded, description, created_at, updated_at) VALUES ($1,$2,$2,'',1,1)`, id, "group "+strconv.Itoa(i)); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO group_members (user_id, group_id, added_at) VALUES ($1,$2,1)`, in.User.ID, id); err != nil {
				return err
			}
		}
		return tx.Record(identity.System("test").Event(store.GroupCreate, store.Target{Kind: "test"}))
	}))
	bob.Groups = []string{"all", "eng"}
	_, err = h.EnterSSO(t.Context(), door(), p, bob)
	require.NoError(t, err)
	joins := h.eventsOf(store.GroupJoin)
	require.Len(t, joins, 1)
	require.Equal(t, store.OutcomeRefused, joins[0].Outcome)
	require.Equal(t, "too_many_groups", joins[0].Reason)
	m, err := h.Group(t.Context(), admin, g.ID)
	require.NoError(t, err)
	require.Zero(t, m.Members)
}
