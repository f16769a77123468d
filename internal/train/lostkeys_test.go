package train_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// TestWhoLeavesAGroupLosesTheirKeys: leaving a group, its end, its removal from the train and a deactivation take the client keys of a private train from whoever has no other way to it; what the
// removal will take is told before.
func TestWhoLeavesAGroupLosesTheirKeys(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga := y.somebody("olga", identity.Operator)
		for name, end := range map[string]func(t *testing.T, slug string, g identity.Group, mike identity.Caller) error{
			"left_group": func(_ *testing.T, _ string, g identity.Group, mike identity.Caller) error {
				return y.ids.RemoveGroupMember(ctx, olga, g.ID, mike.UserID, "")
			},
			"group_deleted": func(_ *testing.T, _ string, g identity.Group, _ identity.Caller) error {
				return y.ids.DeleteGroup(ctx, olga, g.ID, "")
			},
			"left_train": func(t *testing.T, slug string, g identity.Group, mike identity.Caller) error {
				_, loss, err := y.Removal(ctx, olga, slug, identity.PartyGroup, g.ID)
				require.NoError(t, err)
				ends := loss.Keys
				require.Len(t, ends, 1)
				require.Equal(t, mike.UserID, ends[0].CreatedBy)
				require.Equal(t, 1, loss.People, "nina is on it in person")
				ended, err := y.RemoveMember(ctx, olga, slug, identity.PartyGroup, g.ID, "")
				require.Len(t, ended, 1)
				require.Equal(t, []string{ends[0].ID, slug}, []string{ended[0].ID, ended[0].TrainSlug})
				return err
			},
			"deactivated": func(_ *testing.T, _ string, _ identity.Group, mike identity.Caller) error {
				_, err := y.ids.UpdateUser(ctx, y.admin, mike.UserID, identity.UserPatch{Active: ptr(false)})
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				slug := "yard-" + name[:6]
				mike, nina := y.somebody("mike-"+name, identity.Operator), y.somebody("nina-"+name, identity.Operator)
				_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: slug, Visibility: identity.PrivateTrain})
				require.NoError(t, err)
				g, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: "crew " + name})
				require.NoError(t, err)
				for _, c := range []identity.Caller{mike, nina} {
					require.NoError(t, y.join(olga, g.ID, c.UserID))
				}
				require.NoError(t, y.put(olga, slug, identity.PartyGroup, g.ID, train.Member))
				require.NoError(t, y.put(olga, slug, identity.PartyPerson, nina.UserID, train.Member))
				keys := map[string]identity.Key{}
				for name, c := range map[string]identity.Caller{"mike": mike, "nina": nina, "olga": olga} {
					keys[name], _, err = y.IssueKey(ctx, c, slug, identity.KeyDraft{Name: name})
					require.NoError(t, err)
				}
				require.NoError(t, end(t, slug, g, mike))
				for who, want := range map[string]identity.Status{"mike": identity.StatusRevoked, "nina": identity.StatusActive, "olga": identity.StatusActive} {
					k, err := y.GetKey(ctx, olga, slug, keys[who].ID)
					require.NoError(t, err)
					require.Equal(t, want, k.Status, who)
				}
				records := y.events(store.KeyRevoke)
				last := records[len(records)-1]
				require.Equal(t, []string{keys["mike"].ID, name}, []string{last.Target.ID, last.Reason})
			})
		}
	})
}

// TestKeysOfTheRoleOfAMember: to people with the role of a member a membership is the only way to a train of the organisation as well, and their keys there end with it, however it ends. What others made
// there stays, whoever they are by then: somebody who has that role later, and is not on the train, has no way to it that a deactivation could end.
func TestKeysOfTheRoleOfAMember(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga := y.somebody("olga", identity.Operator)
		change := func(who identity.Caller, p identity.UserPatch) error {
			_, err := y.ids.UpdateUser(ctx, y.admin, who.UserID, p)
			return err
		}
		for name, end := range map[string]func(slug string, g identity.Group, mike, omar identity.Caller) error{
			"left_group": func(_ string, g identity.Group, mike, omar identity.Caller) error {
				return errors.Join(y.ids.RemoveGroupMember(ctx, olga, g.ID, omar.UserID, ""), y.ids.RemoveGroupMember(ctx, olga, g.ID, mike.UserID, ""))
			},
			"group_deleted": func(_ string, g identity.Group, _, _ identity.Caller) error {
				return y.ids.DeleteGroup(ctx, olga, g.ID, "")
			},
			"left_train": func(slug string, g identity.Group, _, _ identity.Caller) error {
				_, loss, err := y.Removal(ctx, olga, slug, identity.PartyGroup, g.ID)
				require.NoError(t, err)
				require.Equal(t, []int{1, 1}, []int{len(loss.Keys), loss.People}, "omar's role reaches it, and nina is on it in person")
				ended, err := y.RemoveMember(ctx, olga, slug, identity.PartyGroup, g.ID, "")
				require.Len(t, ended, 1)
				return err
			},
			"deactivated": func(_ string, _ identity.Group, mike, omar identity.Caller) error {
				return errors.Join(change(omar, identity.UserPatch{Active: ptr(false)}), change(mike, identity.UserPatch{Active: ptr(false)}))
			},
			"role_changed": func(_ string, g identity.Group, _, omar identity.Caller) error { // what a role made that is theirs no longer stays, whatever follows
				return errors.Join(change(omar, identity.UserPatch{Role: ptr(identity.Member)}), y.ids.RemoveGroupMember(ctx, olga, g.ID, omar.UserID, ""), change(omar, identity.UserPatch{Active: ptr(false)}))
			},
		} {
			t.Run(name, func(t *testing.T) {
				slug := "open-" + name[:6]
				mike, nina, omar := y.somebody("mike-"+name, identity.Member), y.somebody("nina-"+name, identity.Member), y.somebody("omar-"+name, identity.Operator)
				_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: slug})
				require.NoError(t, err)
				_, _, err = y.IssueKey(ctx, mike, slug, identity.KeyDraft{Name: "none"})
				require.Equal(t, fault.NotFound, fault.KindOf(err), "who is not on it")
				g, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: "crew " + name})
				require.NoError(t, err)
				for _, c := range []identity.Caller{mike, nina, omar} {
					require.NoError(t, y.join(olga, g.ID, c.UserID))
				}
				require.NoError(t, y.put(olga, slug, identity.PartyGroup, g.ID, train.Member))
				require.NoError(t, y.put(olga, slug, identity.PartyPerson, nina.UserID, train.Member))
				keys := map[string]identity.Key{}
				for who, c := range map[string]identity.Caller{"mike": mike, "nina": nina, "omar": omar} {
					keys[who], _, err = y.IssueKey(ctx, c, slug, identity.KeyDraft{Name: who})
					require.NoError(t, err)
				}
				require.NoError(t, end(slug, g, mike, omar))
				want := map[string]identity.Status{"mike": identity.StatusRevoked, "nina": identity.StatusActive, "omar": identity.StatusActive}
				if name == "role_changed" {
					want["mike"] = identity.StatusActive
				}
				for who, want := range want {
					k, err := y.GetKey(ctx, olga, slug, keys[who].ID)
					require.NoError(t, err)
					require.Equal(t, want, k.Status, who)
				}
			})
		}
		t.Run("who is not on the train", func(t *testing.T) {
			for _, slug := range []string{"web", "shop"} {
				_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: slug})
				require.NoError(t, err)
			}
			_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "lab", Visibility: identity.PrivateTrain})
			require.NoError(t, err)
			g, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: "shopkeepers"})
			require.NoError(t, err)
			omar, mike := y.somebody("omar", identity.Operator), y.somebody("mike", identity.Member)
			require.NoError(t, y.put(olga, "web", identity.PartyPerson, mike.UserID, train.Member))
			require.NoError(t, y.put(olga, "shop", identity.PartyGroup, g.ID, train.Member))
			require.NoError(t, y.put(olga, "lab", identity.PartyPerson, omar.UserID, train.Member))
			require.NoError(t, y.join(olga, g.ID, omar.UserID))
			issue := func(by identity.Caller, slug string) string {
				k, _, err := y.IssueKey(ctx, by, slug, identity.KeyDraft{Name: by.Name})
				require.NoError(t, err)
				return k.ID
			}
			stays, byGroup, private, inPerson := issue(omar, "web"), issue(omar, "shop"), issue(omar, "lab"), issue(mike, "web")
			lost := func(who identity.Caller) (ids []string) {
				require.NoError(t, y.db.Read(ctx, func(tx *store.Tx) error {
					ids = nil
					keys, err := y.ids.KeysLostBy(tx, y.admin, who.UserID)
					for _, k := range keys {
						ids = append(ids, k.ID)
					}
					return err
				}))
				return ids
			}
			require.Equal(t, []string{private}, lost(omar), "while an operator")
			require.NoError(t, change(omar, identity.UserPatch{Role: ptr(identity.Member)}))
			require.Equal(t, []string{private}, lost(omar), "what his role made stays")
			require.Equal(t, []string{inPerson}, lost(mike))
			told, err := y.KeysLostBy(ctx, y.admin, omar.UserID)
			require.NoError(t, err)
			require.Len(t, told, 1)
			require.Equal(t, "lab", told[0].TrainSlug)
			blind := y.admin
			blind.Kind, blind.Scopes = identity.KindToken, slices.DeleteFunc(identity.RoleScopes(identity.Administrator), func(p identity.Permission) bool { return p == identity.TrainPrivate })
			told, err = y.KeysLostBy(ctx, blind, omar.UserID)
			require.NoError(t, err)
			require.Empty(t, told, "of a train that they may not know")
			_, err = y.KeysLostBy(ctx, olga, omar.UserID)
			requireFault(t, "forbidden", err)
			require.NoError(t, errors.Join(change(omar, identity.UserPatch{Active: ptr(false)}), change(mike, identity.UserPatch{Active: ptr(false)})))
			for _, k := range []struct {
				slug, id string
				want     identity.Status
			}{{"web", stays, identity.StatusActive}, {"shop", byGroup, identity.StatusActive}, {"lab", private, identity.StatusRevoked}, {"web", inPerson, identity.StatusRevoked}} {
				got, err := y.GetKey(ctx, y.admin, k.slug, k.id)
				require.NoError(t, err)
				require.Equal(t, k.want, got.Status, k.slug)
			}
		})
	})
}

// TestBoundKeys: what a membership gave ends with it also when a role was a way in between, a successor is bound as its predecessor was, a train that is made private binds nothing that was made
// before, and of what has long expired some ends with each key that is made.
func TestBoundKeys(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga, mia := y.somebody("olga", identity.Operator), y.somebody("mia", identity.Member)
		role := func(who identity.Caller, r identity.Role) {
			t.Helper()
			_, err := y.ids.UpdateUser(ctx, y.admin, who.UserID, identity.UserPatch{Role: &r})
			require.NoError(t, err)
		}
		status := func(slug, id string) identity.Status {
			t.Helper()
			k, err := y.GetKey(ctx, y.admin, slug, id)
			require.NoError(t, err)
			return k.Status
		}
		_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "open"})
		require.NoError(t, err)
		early, _, err := y.IssueKey(ctx, olga, "open", identity.KeyDraft{Name: "early"})
		require.NoError(t, err)
		require.NoError(t, y.put(olga, "open", identity.PartyPerson, mia.UserID, train.Member))
		first, _, err := y.IssueKey(ctx, mia, "open", identity.KeyDraft{Name: "first"})
		require.NoError(t, err)
		next, _, err := y.ReplaceKey(ctx, olga, "open", first.ID, identity.KeyReplacement{})
		require.NoError(t, err)
		require.Equal(t, mia.UserID, next.CreatedBy, "it is the same holder")
		role(mia, identity.Operator)
		_, err = y.RemoveMember(ctx, olga, "open", identity.PartyPerson, mia.UserID, "")
		require.NoError(t, err)
		require.Equal(t, identity.StatusActive, status("open", next.ID), "her role is a way")
		role(mia, identity.Auditor)
		require.Equal(t, identity.StatusActive, status("open", next.ID))
		role(mia, identity.Member)
		require.Equal(t, identity.StatusRevoked, status("open", next.ID))

		private := identity.PrivateTrain
		_, err = y.UpdateTrain(ctx, olga, "open", train.Patch{Visibility: &private}, "")
		require.NoError(t, err)
		late, _, err := y.IssueKey(ctx, olga, "open", identity.KeyDraft{Name: "late"})
		require.NoError(t, err)
		_, err = y.ids.UpdateUser(ctx, y.admin, olga.UserID, identity.UserPatch{Active: ptr(false)})
		require.NoError(t, err)
		require.Equal(t, identity.StatusActive, status("open", early.ID), "made when everybody reached the train")
		require.Equal(t, identity.StatusRevoked, status("open", late.ID))

		nick := y.somebody("nick", identity.Member)
		require.NoError(t, y.put(y.admin, "open", identity.PartyPerson, nick.UserID, train.Member))
		require.NoError(t, y.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
			var id string
			if err := tx.Get(&id, `SELECT id FROM trains WHERE slug = 'open'`); err != nil {
				return err
			}
			var rows []any
			for n := range 150 {
				key := store.NewID("key")
				rows = append(rows, key, id, "old", "…", []byte(key), nick.UserID, 1, 1+n, 1)
			}
			return tx.InsertMany(`client_keys (id, train_id, name, preview, hash, created_by, created_at, expires_at, bound)`, 9, rows)
		}))
		for range 8 {
			k, _, err := y.IssueKey(ctx, nick, "open", identity.KeyDraft{Name: "new"})
			require.NoError(t, err)
			_, err = y.RevokeKey(ctx, nick, "open", k.ID, "")
			require.NoError(t, err)
		}
		living := 0
		require.NoError(t, y.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Get(&living, `SELECT COUNT(*) FROM client_keys WHERE created_by = $1 AND revoked_at IS NULL AND expires_at > 50`, nick.UserID)
		}))
		require.Equal(t, 100, living, "the younger ones")
		expired := 0
		for _, e := range y.events(store.KeyRevoke) {
			if e.Reason == "expired" {
				expired++
			}
		}
		require.Equal(t, 50, expired, "the older ones, each on record")
	})
}

// TestWhoLeavesAGroupMeanwhileHasNoKey: whoever leaves a group, or is deactivated, while they issue a key of a private train that they reach by it gets none, and one that was made just before ends.
func TestWhoLeavesAGroupMeanwhileHasNoKey(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres { // SQLite writes one after the other
			continue
		}
		y := newSite(t, e).open(t)
		ctx := t.Context()
		olga := y.somebody("olga", identity.Operator)
		ends := map[string]func(g, mike string) error{
			"leaves":  func(g, mike string) error { return y.ids.RemoveGroupMember(ctx, olga, g, mike, "") },
			"deleted": func(g, _ string) error { return y.ids.DeleteGroup(ctx, olga, g, "") },
			"deactivated": func(_, mike string) error {
				_, err := y.ids.UpdateUser(ctx, y.admin, mike, identity.UserPatch{Active: ptr(false)})
				return err
			},
		}
		waits := func(tx *store.Tx) error { // somebody does for this transaction
			for range 500 {
				n := 0
				if err := tx.Get(&n, `SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))`); err != nil || n > 0 {
					return err
				}
				time.Sleep(10 * time.Millisecond)
			}
			return fmt.Errorf("nobody waits")
		}
		for name, end := range ends {
			set := func(slug string) (train.Train, string, identity.Caller) {
				mike := y.somebody("mike-"+slug, identity.Operator)
				made, err := y.CreateTrain(ctx, olga, train.Draft{Slug: slug, Visibility: identity.PrivateTrain})
				require.NoError(t, err)
				g, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: slug})
				require.NoError(t, err)
				require.NoError(t, y.join(olga, g.ID, mike.UserID))
				require.NoError(t, y.put(olga, slug, identity.PartyGroup, g.ID, train.Member))
				return made, g.ID, mike
			}

			// The key first: the end waits for it.
			slug := name + "-first"
			made, g, mike := set(slug)
			done := make(chan error, 1)
			var once sync.Once
			require.NoError(t, y.db.Write(ctx, func(tx *store.Tx) error { // as IssueKey does
				if err := tx.Get(new(string), `SELECT id FROM trains WHERE id = $1`+tx.ForUpdate(), made.ID); err != nil {
					return err
				}
				if has, err := identity.HoldWay(tx, mike.UserID, made.ID); err != nil || !has {
					return fmt.Errorf("no way: %w", err)
				}
				if _, _, err := y.ids.IssueKey(tx, mike, made.ID, identity.KeyDraft{Name: "first", Bound: true}); err != nil {
					return err
				}
				once.Do(func() { go func() { done <- end(g, mike.UserID) }() })
				return waits(tx)
			}), name)
			require.NoError(t, <-done, name)
			keys, _, err := y.ListKeys(ctx, olga, slug, identity.KeyFilter{})
			require.NoError(t, err)
			require.Len(t, keys, 1, name)
			require.Equal(t, identity.StatusRevoked, keys[0].Status, name)

			// The end first: the key waits for it, and is none.
			slug = name + "-last"
			_, g, mike = set(slug)
			issued := make(chan error, 1)
			once = sync.Once{}
			require.NoError(t, y.db.Write(ctx, func(tx *store.Tx) error { // the locks of each of the three
				if err := tx.Get(new(string), `SELECT id FROM users WHERE id = $1`+tx.ForUpdate(), mike.UserID); err != nil {
					return err
				}
				for _, sql := range map[string][]string{
					"leaves":      {`DELETE FROM group_members WHERE group_id = $1 AND user_id = $2`},
					"deleted":     {`DELETE FROM user_groups WHERE id = $1 AND $2 <> ''`},
					"deactivated": {`UPDATE users SET active = 0 WHERE $1 <> '' AND id = $2`},
				}[name] {
					if _, err := tx.Exec(sql, g, mike.UserID); err != nil {
						return err
					}
				}
				once.Do(func() {
					go func() {
						_, _, err := y.IssueKey(ctx, mike, slug, identity.KeyDraft{Name: "last"})
						issued <- err
					}()
				})
				if err := waits(tx); err != nil {
					return err
				}
				return tx.Record(identity.System("test").Event(store.GroupLeave, store.Target{Kind: "test"}))
			}), name)
			err = <-issued
			require.Equal(t, fault.NotFound, fault.KindOf(err), "%s: %v", name, err)
			keys, _, err = y.ListKeys(ctx, olga, slug, identity.KeyFilter{})
			require.NoError(t, err)
			require.Empty(t, keys, name)
		}
	}
}

// TestWaysThatEndAtOnce: of several ways to a private train that end at the same moment none is the reason to keep what the others gave, and a key that is issued beside them is none that lives. While one
// way stands the keys do. Each ends once, on record, and nobody who ended a way hears of the others.
func TestWaysThatEndAtOnce(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		olga := y.somebody("olga", identity.Operator)
		_, err := y.CreateTrain(ctx, olga, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain, KeyLimit: 1000})
		require.NoError(t, err)
		for round := range 32 {
			mike := y.somebody(fmt.Sprint("mike", round), identity.Operator)
			var groups []string
			for n := range 2 {
				g, err := y.ids.CreateGroup(ctx, olga, identity.GroupDraft{Name: fmt.Sprint("crew", round, "-", n)})
				require.NoError(t, err)
				require.NoError(t, y.join(olga, g.ID, mike.UserID))
				require.NoError(t, y.put(olga, "yard", identity.PartyGroup, g.ID, train.Member))
				groups = append(groups, g.ID)
			}
			require.NoError(t, y.put(olga, "yard", identity.PartyPerson, mike.UserID, train.Member))
			for n := range 3 {
				_, _, err := y.IssueKey(ctx, mike, "yard", identity.KeyDraft{Name: fmt.Sprint("before", n)})
				require.NoError(t, err)
			}
			acts := []func() error{
				func() error { return y.remove(olga, "yard", mike.UserID) },
				func() error { return y.ids.RemoveGroupMember(ctx, olga, groups[0], mike.UserID, "") },
				func() error {
					if round%2 == 0 {
						return y.ids.DeleteGroup(ctx, olga, groups[1], "")
					}
					_, err := y.RemoveMember(ctx, olga, "yard", identity.PartyGroup, groups[1], "")
					return err
				},
				func() error {
					_, _, err := y.IssueKey(ctx, mike, "yard", identity.KeyDraft{Name: "beside"})
					if fault.KindOf(err) == fault.NotFound {
						err = nil
					}
					return err
				},
			}
			stands := round%4 == 3 // one of the ways
			switch {
			case stands && round%8 == 3:
				acts[0] = func() error { return y.put(olga, "yard", identity.PartyPerson, mike.UserID, train.Member) }
			case stands:
				acts[1] = func() error { return nil }
			case round%8 == 2: // whoever is deactivated has no way, whatever else stands
				acts[1] = func() error {
					_, err := y.ids.UpdateUser(ctx, y.admin, mike.UserID, identity.UserPatch{Active: ptr(false)})
					return err
				}
			}
			var all sync.WaitGroup
			errs := make([]error, len(acts))
			for i, act := range acts {
				all.Go(func() { errs[i] = act() })
			}
			all.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			keys, _, err := y.ListKeys(ctx, olga, "yard", identity.KeyFilter{Status: identity.StatusActive})
			require.NoError(t, err)
			if !stands {
				require.Empty(t, keys, "round %d", round)
				continue
			}
			require.Len(t, keys, 4, "round %d", round)
			_, err = y.ids.UpdateUser(ctx, y.admin, mike.UserID, identity.UserPatch{Active: ptr(false)})
			require.NoError(t, err)
		}
		ended := map[string]int{}
		for _, e := range y.events(store.KeyRevoke) {
			ended[e.Target.ID]++
		}
		keys, _, err := y.ListKeys(ctx, olga, "yard", identity.KeyFilter{Limit: 1000})
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(keys), 32*3)
		for _, k := range keys {
			require.Equal(t, identity.StatusRevoked, k.Status, k.Name)
			require.Equal(t, 1, ended[k.ID], "%s ends once", k.Name)
		}
		require.Len(t, ended, len(keys))
	})
}
