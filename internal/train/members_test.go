package train_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// somebody adds a person of a role, who has proved just now who they are.
func (y *yard) somebody(name string, role identity.Role) identity.Caller {
	y.t.Helper()
	u, _, err := y.ids.CreateUser(y.t.Context(), y.admin, identity.UserDraft{Email: name + "@example.com", Name: name, Role: role})
	require.NoError(y.t, err)
	c := y.admin
	c.ID, c.UserID, c.Name, c.Role = u.ID, u.ID, name, role
	return c
}

func (y *yard) put(by identity.Caller, slug string, kind identity.PartyKind, who string, role train.Role) error {
	_, _, err := y.PutMember(y.t.Context(), by, slug, kind, who, role, "")
	return err
}

func (y *yard) join(by identity.Caller, group, who string) error {
	_, _, err := y.ids.AddGroupMember(y.t.Context(), by, group, who)
	return err
}

func (y *yard) remove(by identity.Caller, slug, who string) error {
	_, err := y.RemoveMember(y.t.Context(), by, slug, identity.PartyPerson, who, "")
	return err
}

// show makes a train private, or opens it.
func (y *yard) show(by identity.Caller, slug string, to identity.Visibility) error {
	_, err := y.UpdateTrain(y.t.Context(), by, slug, train.Patch{Visibility: &to}, "")
	return err
}

// TestAGroupOfAPrivateTrainIsItsOwners: who is in a group by which people reach a private train is said by an owner of every such train, or an administrator: nobody lets themselves in, and
// nobody else throws its members out. A refusal is on record and tells of no train.
func TestAGroupOfAPrivateTrainIsItsOwners(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga, otto, mike, nina := y.somebody("olga", identity.Operator), y.somebody("otto", identity.Operator), y.somebody("mike", identity.Operator), y.somebody("nina", identity.Operator)
		_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		crew, err := y.ids.CreateGroup(ctx, otto, identity.GroupDraft{Name: "crew"})
		require.NoError(t, err)
		leads, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: "leads"})
		require.NoError(t, err)
		require.NoError(t, y.join(olga, leads.ID, nina.UserID))
		require.NoError(t, y.put(olga, "yard", identity.PartyGroup, "crew", train.Member))
		require.NoError(t, y.put(olga, "yard", identity.PartyGroup, "leads", train.Owner))
		require.NoError(t, y.join(olga, crew.ID, mike.UserID))

		refused := func(by identity.Caller, group string) {
			t.Helper()
			before := len(y.events(store.IdentityRefused))
			for _, err := range []error{y.join(by, group, by.UserID), y.ids.RemoveGroupMember(ctx, by, group, mike.UserID, ""), y.ids.DeleteGroup(ctx, by, group, "")} {
				f := requireFault(t, "forbidden", err)
				require.Contains(t, f.Detail, "private train")
				require.NotContains(t, f.Detail, "yard")
			}
			records := y.events(store.IdentityRefused)[before:]
			require.Len(t, records, 3)
			for _, ev := range records {
				require.Equal(t, []string{string(store.OutcomeRefused), "forbidden", group, by.UserID}, []string{string(ev.Outcome), ev.Reason, ev.Target.ID, ev.Actor.ID})
			}
		}
		refused(otto, crew.ID)
		refused(otto, leads.ID)
		refused(mike, crew.ID) // a member is no owner
		_, err = y.GetTrain(ctx, otto, "yard")
		requireFault(t, "not_found", err)
		_, err = y.GetTrain(ctx, mike, "yard")
		require.NoError(t, err)

		// An owner by a group is one; of two trains it takes an owner of both, or an administrator.
		require.NoError(t, y.ids.RemoveGroupMember(ctx, nina, crew.ID, mike.UserID, ""))
		require.NoError(t, y.join(nina, crew.ID, mike.UserID))
		_, err = y.CreateTrain(ctx, otto, train.Draft{Slug: "shed", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		require.NoError(t, y.put(otto, "shed", identity.PartyGroup, "crew", train.Member))
		refused(olga, crew.ID)
		refused(otto, crew.ID)
		require.NoError(t, y.ids.RemoveGroupMember(ctx, y.admin, crew.ID, mike.UserID, ""))

		// A group of open trains is everybody's who keeps groups.
		require.NoError(t, y.show(olga, "yard", identity.OfOrganisation))
		require.NoError(t, y.show(otto, "shed", identity.OfOrganisation))
		require.NoError(t, y.join(nina, crew.ID, nina.UserID))
		require.NoError(t, y.ids.DeleteGroup(ctx, mike, crew.ID, ""))
	})
}

// TestTheOwnersOfAnOpenTrain: while somebody owns it who can sign in, nobody else says who the owners of a train are, also where everybody reaches it: who did could shut them out.
func TestTheOwnersOfAnOpenTrain(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga, otto, mike := y.somebody("olga", identity.Operator), y.somebody("otto", identity.Operator), y.somebody("mike", identity.Operator)
		_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "web"})
		require.NoError(t, err)
		crew, err := y.ids.CreateGroup(ctx, otto, identity.GroupDraft{Name: "crew"})
		require.NoError(t, err)
		require.NoError(t, y.put(olga, "web", identity.PartyPerson, olga.UserID, train.Owner)) // nobody owned it
		require.NoError(t, y.put(otto, "web", identity.PartyPerson, mike.UserID, train.Member))
		require.NoError(t, y.put(olga, "web", identity.PartyGroup, crew.ID, train.Owner))
		for name, err := range map[string]error{
			"oneself":     y.put(otto, "web", identity.PartyPerson, otto.UserID, train.Owner),
			"another":     y.put(otto, "web", identity.PartyPerson, mike.UserID, train.Owner),
			"demoted":     y.put(otto, "web", identity.PartyPerson, olga.UserID, train.Member),
			"group":       y.put(otto, "web", identity.PartyGroup, "crew", train.Member),
			"removed":     y.remove(otto, "web", olga.UserID),
			"by a group":  y.join(otto, crew.ID, otto.UserID),
			"group gone":  y.ids.DeleteGroup(ctx, otto, crew.ID, ""),
			"shut out":    y.show(otto, "web", identity.PrivateTrain),
			"as a member": y.remove(mike, "web", olga.UserID),
		} {
			require.Error(t, err, name)
			requireFault(t, "forbidden", err)
		}
		require.Len(t, y.events(store.TrainRefused), 7)
		require.Len(t, y.events(store.IdentityRefused), 2)
		now, err := y.Members(ctx, otto, "web")
		require.NoError(t, err)
		require.Equal(t, []train.Role{train.Owner, train.Owner, train.Member}, []train.Role{now[0].Role, now[1].Role, now[2].Role})

		require.NoError(t, y.remove(otto, "web", mike.UserID), "who is a plain member is for whoever keeps trains")
		require.NoError(t, y.put(y.admin, "web", identity.PartyPerson, mike.UserID, train.Owner))
		require.NoError(t, y.remove(mike, "web", olga.UserID))
		require.NoError(t, y.remove(mike, "web", mike.UserID), "an owner leaves")
		require.NoError(t, y.put(otto, "web", identity.PartyPerson, otto.UserID, train.Owner), "nobody is in the group that is left")
	})
}

// TestWhoReachesATrainTakesAProof: as to add a member, a person in a session needs a fresh proof to open a train or to make it private, and for nothing else on it.
func TestWhoReachesATrainTakesAProof(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		olga := y.somebody("olga", identity.Operator)
		stale := olga
		stale.SteppedUpAt = y.clock.Now().Add(-time.Hour)
		_, err := y.CreateTrain(t.Context(), stale, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		requireFault(t, "step_up_required", y.show(stale, "yard", identity.OfOrganisation))
		require.NoError(t, y.show(stale, "yard", identity.PrivateTrain), "it is so already")
		require.NoError(t, y.show(olga, "yard", identity.OfOrganisation))
		requireFault(t, "step_up_required", y.show(stale, "yard", identity.PrivateTrain))
		records := y.events(store.TrainRefused)
		require.Len(t, records, 2)
		require.Equal(t, "step_up_required", records[0].Reason)
		got, err := y.UpdateTrain(t.Context(), stale, "yard", train.Patch{Name: ptr("Yard")}, "")
		require.NoError(t, err)
		require.Equal(t, identity.OfOrganisation, got.Visibility)
	})
}

// TestAKeyThatEndsBesideAMembership: a client key that is revoked while a member is removed does not hold the removal up. SQLite writes one after the other.
func TestAKeyThatEndsBesideAMembership(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres {
			continue
		}
		y := newSite(t, e).open(t)
		ctx := t.Context()
		olga, mike := y.somebody("olga", identity.Operator), y.somebody("mike", identity.Operator)
		made, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		require.NoError(t, y.put(olga, "yard", identity.PartyPerson, mike.UserID, train.Member))
		var keys []identity.Key
		for _, name := range []string{"one", "two"} {
			k, _, err := y.IssueKey(ctx, mike, "yard", identity.KeyDraft{Name: name})
			require.NoError(t, err)
			keys = append(keys, k)
		}
		revoked, removed := make(chan struct{}), make(chan error, 1)
		go func() {
			<-revoked
			removed <- y.remove(olga, "yard", mike.UserID)
		}()
		told := false
		require.NoError(t, y.db.Write(ctx, func(tx *store.Tx) error { // ends when the removal waits for the key, which it has found alive
			if _, err := y.ids.RevokeKey(tx, identity.System("test"), made.ID, keys[0].ID); err != nil {
				return err
			}
			if !told {
				told = true
				close(revoked)
			}
			for range 500 {
				n := 0
				if err := tx.Get(&n, `SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid`); err != nil {
					return err
				}
				if n > 0 {
					return nil
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error("the removal never waited")
			return nil
		}))
		require.NoError(t, <-removed)
		_, err = y.Member(ctx, olga, "yard", identity.PartyPerson, mike.UserID)
		requireFault(t, "not_found", err)
		for _, k := range keys {
			got, err := y.GetKey(ctx, olga, "yard", k.ID)
			require.NoError(t, err)
			require.Equal(t, identity.StatusRevoked, got.Status, k.Name)
		}
	}
}

// TestAnybodyLeaves: whoever is a member takes themselves away, by id or by e-mail address, without the right to say who the members are; nobody else by that way.
func TestAnybodyLeaves(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga, mike, anna := y.somebody("olga", identity.Operator), y.somebody("mike", identity.Operator), y.somebody("anna", identity.Auditor)
		_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		for _, c := range []identity.Caller{mike, anna} {
			require.NoError(t, y.put(olga, "yard", identity.PartyPerson, c.UserID, train.Member))
		}
		token := mike
		token.Kind, token.Scopes = identity.KindToken, identity.Scopes{identity.TrainRead}
		for _, by := range []identity.Caller{mike, anna, token} {
			requireFault(t, map[bool]string{true: "scope_missing", false: "forbidden"}[by.Kind == identity.KindToken], y.remove(by, "yard", "olga@example.com"))
			m, _, err := y.Removal(ctx, by, "yard", identity.PartyPerson, by.Name+"@example.com")
			require.NoError(t, err, by.Name)
			require.Equal(t, by.UserID, m.Party.ID)
			require.NoError(t, y.remove(by, "yard", strings.ToUpper(by.Name)+"@Example.com"), by.Name)
			require.NoError(t, y.put(olga, "yard", identity.PartyPerson, by.UserID, train.Member))
			require.NoError(t, y.remove(by, "yard", by.UserID), by.Name)
			require.NoError(t, y.put(olga, "yard", identity.PartyPerson, by.UserID, train.Member))
		}
		require.Len(t, y.events(store.TrainRefused), 3)
	})
}

// TestAnImportNamesAPrivateTrain: a key for a train that the importer does not reach is refused as one whose train_id is taken, and the keys beside it are taken over.
func TestAnImportNamesAPrivateTrain(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		olga, otto := y.somebody("olga", identity.Operator), y.somebody("otto", identity.Operator)
		_, err := y.CreateTrain(t.Context(), olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		require.NoError(t, y.db.Write(t.Context(), func(tx *store.Tx) error {
			take := func(slug string) (train.Taken, error) {
				return y.TakeKey(tx, otto, train.ForeignKey{Train: slug, Draft: identity.KeyDraft{Name: "laptop"}, Value: secret.FromString("msl_" + slug + "_" + strings.Repeat("x", 40))})
			}
			_, err := take("yard")
			f := requireFault(t, "validation_failed", err)
			require.Equal(t, fault.Unprocessable, f.Kind)
			require.Len(t, f.Fields, 1)
			require.Equal(t, "/train_id", f.Fields[0].Pointer)
			require.Contains(t, f.Fields[0].Message, "taken")
			taken, err := take("shed")
			require.True(t, taken.MadeTrain)
			return err
		}))
		_, err = y.GetTrain(t.Context(), otto, "shed")
		require.NoError(t, err)
	})
}
