package identity_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// line makes a train, as the room of trains does, with these groups and people among its members.
func (h *house) line(visibility identity.Visibility, members ...string) string {
	h.t.Helper()
	id := store.NewID("train")
	require.NoError(h.t, h.db.Bookkeep(h.t.Context(), store.Cursor, func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision, limits, visibility)
			VALUES ($1,$2,'','','hash',0,0,1,1,1,'',$3)`, id, id[len(id)-12:], string(visibility)); err != nil {
			return err
		}
		for _, m := range members {
			column := "user_id"
			if store.ValidID("grp", m) {
				column = "group_id"
			}
			if _, err := tx.Exec(`INSERT INTO train_members (train_id, member_id, `+column+`, role, created_at, created_by) VALUES ($1,$2,$2,'member',1,'test')`, id, m); err != nil {
				return err
			}
		}
		return nil
	}))
	return id
}

// kept is a client key that somebody made.
type kept struct {
	identity.Key
	bearer string
}

// makes has somebody issue one, and waits until another instance knows it.
func (h *house) makes(b *house, u identity.User, train string) kept {
	h.t.Helper()
	private := 0
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		return tx.Get(&private, `SELECT COUNT(*) FROM trains WHERE id = $1 AND visibility <> 'organisation'`, train)
	}))
	k, v, err := h.issue(train, identity.KeyDraft{Name: "laptop", CreatedBy: u.ID, Limit: 100, Bound: private > 0})
	require.NoError(h.t, err)
	require.Eventually(h.t, func() bool { _, err := b.Client(v.Reveal()); return err == nil }, 10*time.Second, time.Millisecond)
	return kept{k, v.Reveal()}
}

// ended requires that a key was revoked for that reason, on record, and that another instance obeys it within a second.
func (k kept) ended(t *testing.T, a, b *house, why string) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := b.Client(k.bearer); return err != nil }, time.Second, 5*time.Millisecond, "the key goes on")
	for _, ev := range a.eventsOf(store.KeyRevoke) {
		if ev.Target.ID == k.ID {
			require.Equal(t, why, ev.Reason)
			require.Equal(t, k.CreatedBy, detail(t, ev, "made_by"))
			require.Equal(t, k.TrainID, detail(t, ev, "train"))
			return
		}
	}
	t.Fatal("the revocation is not on record")
}

func (k kept) stays(t *testing.T, a, b *house) {
	t.Helper()
	got, err := a.get(k.TrainID, k.ID)
	require.NoError(t, err)
	require.Equal(t, identity.StatusActive, got.Status)
	_, err = b.Client(k.bearer)
	require.NoError(t, err)
}

// TestWhoLosesTheirWayLosesTheirKeys: however somebody's only way to a private train ends, the client keys that they made there end with it, on every instance; those of a train that they
// reach otherwise, of one that they never had a way to, of an open one and of others stay.
func TestWhoLosesTheirWayLosesTheirKeys(t *testing.T) {
	instances(t, func(t *testing.T, a, b *house) {
		ctx := t.Context()
		_, admin := a.admin()
		group := func(name string, people ...identity.User) string {
			t.Helper()
			g, err := a.CreateGroup(ctx, admin, identity.GroupDraft{Name: name})
			require.NoError(t, err)
			for _, u := range people {
				_, _, err := a.AddGroupMember(ctx, admin, g.ID, u.ID)
				require.NoError(t, err)
			}
			return g.ID
		}
		type scene struct {
			mike, nina, otto identity.User // by the group alone; by another way as well; by neither
			crew             string
			yard, open       string
			keys             map[string]kept
		}
		set := func(t *testing.T, name string) scene {
			t.Helper()
			s := scene{mike: a.addUser(identity.Operator, true), nina: a.addUser(identity.Operator, true), otto: a.addUser(identity.Operator, true)}
			s.crew = group("crew "+name, s.mike, s.nina)
			s.yard = a.line(identity.PrivateTrain, s.crew, s.nina.ID, group("spare "+name, s.nina))
			s.open = a.line(identity.OfOrganisation, s.crew)
			s.keys = map[string]kept{
				"mike": a.makes(b, s.mike, s.yard), "mike too": a.makes(b, s.mike, s.yard), "nina": a.makes(b, s.nina, s.yard), "open": a.makes(b, s.mike, s.open),
				"elsewhere": a.makes(b, s.mike, a.line(identity.PrivateTrain)), "otto": a.makes(b, s.otto, s.yard),
			}
			return s
		}
		check := func(t *testing.T, s scene, why string, ended ...string) {
			t.Helper()
			for _, name := range ended {
				s.keys[name].ended(t, a, b, why)
			}
			for name, k := range s.keys {
				if !slices.Contains(ended, name) {
					k.stays(t, a, b)
				}
			}
		}

		t.Run("left", func(t *testing.T) {
			s := set(t, "left")
			require.NoError(t, a.RemoveGroupMember(ctx, admin, s.crew, s.nina.ID, ""))
			require.NoError(t, a.RemoveGroupMember(ctx, admin, s.crew, s.mike.ID, ""))
			check(t, s, "left_group", "mike", "mike too")
			records := a.eventsOf(store.GroupLeave)
			require.Equal(t, "2", detail(t, records[len(records)-1], "keys_ended"))
			_, ok := records[len(records)-2].Details.Get("keys_ended")
			require.False(t, ok)
		})
		t.Run("deleted", func(t *testing.T) {
			s := set(t, "deleted")
			require.NoError(t, a.DeleteGroup(ctx, admin, s.crew, ""))
			check(t, s, "group_deleted", "mike", "mike too")
			require.Equal(t, "2", detail(t, a.eventsOf(store.GroupDelete)[0], "keys_ended"))
		})
		t.Run("another group", func(t *testing.T) {
			s := set(t, "another")
			other := group("other", s.mike)
			require.NoError(t, a.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`INSERT INTO train_members (train_id, member_id, group_id, role, created_at, created_by) VALUES ($1,$2,$2,'member',1,'test')`, s.yard, other)
				return err
			}))
			require.NoError(t, a.DeleteGroup(ctx, admin, s.crew, ""))
			s.keys["mike"].stays(t, a, b)
			require.NoError(t, a.RemoveGroupMember(ctx, admin, other, s.mike.ID, ""))
			check(t, s, "left_group", "mike", "mike too")
		})
		t.Run("deactivated", func(t *testing.T) {
			s := set(t, "deactivated")
			require.NoError(t, a.write(func(tx *store.Tx) error { return a.Deactivate(tx, admin, s.mike.ID) }))
			check(t, s, "deactivated", "mike", "mike too", "elsewhere")
			_, err := a.UpdateUser(ctx, admin, s.nina.ID, identity.UserPatch{Active: ptr(false)})
			require.NoError(t, err)
			s.keys["nina"].ended(t, a, b, "deactivated")
			_, err = a.UpdateUser(ctx, admin, s.nina.ID, identity.UserPatch{Active: ptr(true)})
			require.NoError(t, err)
			_, err = b.Client(s.keys["nina"].bearer)
			require.Error(t, err, "they are back, their key is not")
		})
		t.Run("another role", func(t *testing.T) {
			s := set(t, "role")
			lone, member := a.addUser(identity.Administrator, true), a.addUser(identity.Administrator, true)
			_, _, err := a.AddGroupMember(ctx, admin, s.crew, member.ID)
			require.NoError(t, err)
			lost, stays := a.makes(b, lone, s.yard), a.makes(b, member, s.yard)
			require.NoError(t, a.RemoveGroupMember(ctx, admin, s.crew, s.mike.ID, ""))
			for _, u := range []identity.User{lone, member} {
				_, err := a.UpdateUser(ctx, admin, u.ID, identity.UserPatch{Role: ptr(identity.Operator)})
				require.NoError(t, err)
			}
			lost.ended(t, a, b, "role_changed")
			stays.stays(t, a, b)
			_, err = a.UpdateUser(ctx, admin, member.ID, identity.UserPatch{Role: ptr(identity.Administrator)})
			require.NoError(t, err)
			require.NoError(t, a.DeleteGroup(ctx, admin, s.crew, ""))
			stays.stays(t, a, b) // by their role, which is a way
		})
	})
}

// TestSingleSignOnTakesKeys: what a provider takes back takes the keys along that hang on it, at a sign-in and with its settings; what the same sign-in gives is a way.
func TestSingleSignOnTakesKeys(t *testing.T) {
	instances(t, func(t *testing.T, a, b *house) {
		ctx := t.Context()
		_, admin := a.admin()
		crew, err := a.CreateGroup(ctx, admin, identity.GroupDraft{Name: "crew"})
		require.NoError(t, err)
		spare, err := a.CreateGroup(ctx, admin, identity.GroupDraft{Name: "spare"})
		require.NoError(t, err)
		yard := a.line(identity.PrivateTrain, crew.ID, spare.ID)
		eng, sre := identity.GroupMapping{Group: "eng", ID: crew.ID}, identity.GroupMapping{Group: "sre", ID: spare.ID}
		p := a.work(admin, eng, sre)
		p, err = a.UpdateSSOProvider(ctx, admin, p.ID, identity.SSOEdit{Roles: ptr(append([]identity.RoleMapping{{Group: "boss", Role: identity.Administrator}}, p.Roles...))})
		require.NoError(t, err)
		enter := func(name string, groups ...string) identity.User {
			t.Helper()
			in, err := a.EnterSSO(ctx, door(), p, identity.Claimed{Subject: name, Email: name + "@example.com", Verified: true, Groups: groups})
			require.NoError(t, err)
			return in.User
		}

		bob := enter("bob", "ops", "eng")
		first := a.makes(b, bob, yard)
		enter("bob", "ops", "eng", "sre")
		enter("bob", "ops", "sre")
		first.stays(t, a, b)
		enter("bob", "ops", "eng") // the one for the other
		first.stays(t, a, b)
		enter("bob", "ops")
		first.ended(t, a, b, "left_group")
		revoked := a.eventsOf(store.KeyRevoke)
		require.Equal(t, []string{"sso", bob.ID}, []string{revoked[0].Actor.Name, revoked[0].OnBehalf})

		boss := enter("boss", "boss")
		second := a.makes(b, boss, yard)
		enter("boss", "ops", "eng") // no administrator any more, and in a group by the same sign-in
		second.stays(t, a, b)
		enter("boss", "boss")
		enter("boss", "ops")
		second.ended(t, a, b, "role_changed")

		bob = enter("bob", "ops", "eng")
		carol := enter("carol", "ops", "eng")
		_, _, err = a.AddGroupMember(ctx, admin, crew.ID, carol.ID)
		require.NoError(t, err)
		third, hers := a.makes(b, bob, yard), a.makes(b, carol, yard)
		p, err = a.UpdateSSOProvider(ctx, admin, p.ID, identity.SSOEdit{Groups: ptr([]identity.GroupMapping{sre})})
		require.NoError(t, err)
		third.ended(t, a, b, "left_group")
		hers.stays(t, a, b) // by hand
		changed := a.eventsOf(store.SSOUpdate)
		require.Equal(t, "1", detail(t, changed[len(changed)-1], "keys_ended"))

		bob = enter("bob", "ops", "sre")
		fourth := a.makes(b, bob, yard)
		require.NoError(t, a.DeleteSSOProvider(ctx, admin, p.ID, ""))
		fourth.ended(t, a, b, "left_group")
		hers.stays(t, a, b)
		require.Equal(t, "1", detail(t, a.eventsOf(store.SSODelete)[0], "keys_ended"))
	})
}

// TestAGroupOfThousandsEndsSoon: how long the end of a group takes goes by the keys that trains may have, and not by the people in it.
func TestAGroupOfThousandsEndsSoon(t *testing.T) {
	const people, trains, each = 5000, 100, 10
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			h := newHouse(t, storetest.Config(t, e), newClock(), nil)
			_, admin := h.admin()
			g, err := h.CreateGroup(t.Context(), admin, identity.GroupDraft{Name: "everybody"})
			require.NoError(t, err)
			var lines []string
			for range trains {
				lines = append(lines, h.line(identity.PrivateTrain, g.ID))
			}
			require.NoError(t, h.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				var users, members, keys []any
				for i := range people {
					id := store.NewID("user")
					users = append(users, id, id+"@example.com", "p", "operator", "", 1, 1, 1)
					members = append(members, id, g.ID, 1)
					if i < trains*each {
						key := store.NewID("key")
						keys = append(keys, key, lines[i%trains], "k", "msl_…", []byte(key), id, 1, 1)
					}
				}
				if err := tx.InsertMany(`users (id, email, name, role, password_hash, active, created_at, updated_at)`, 8, users); err != nil {
					return err
				}
				if err := tx.InsertMany(`client_keys (id, train_id, name, preview, hash, created_by, created_at, bound)`, 8, keys); err != nil {
					return err
				}
				return tx.InsertMany(`group_members (user_id, group_id, added_at)`, 3, members)
			}))
			began := time.Now()
			require.NoError(t, h.DeleteGroup(t.Context(), admin, g.ID, ""))
			took := time.Since(began)
			t.Logf("a group of %d people, who lose %d keys of %d trains, ended in %v", people, trains*each, trains, took)
			require.Less(t, took, 30*time.Second)
			require.Len(t, h.eventsOf(store.KeyRevoke), trains*each)
		})
	}
}
