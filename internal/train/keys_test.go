package train_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

func TestKeysOfATrain(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		y.train("web", train.Hash)
		y.link("web", y.account("alpha"))
		y.train("other", train.Hash)
		caller, key := y.key("web")
		require.Equal(t, key.ID, caller.ID)

		// A key of another train is not there.
		for _, ref := range []string{"other", "nowhere", store.NewID("train"), ""} {
			_, err := y.GetKey(ctx, y.admin, ref, key.ID)
			requireFault(t, "not_found", err)
			_, err = y.UpdateKey(ctx, y.admin, ref, key.ID, identity.KeyPatch{Name: ptr("x")})
			requireFault(t, "not_found", err)
			_, err = y.RevokeKey(ctx, y.admin, ref, key.ID, "")
			requireFault(t, "not_found", err)
			requireFault(t, "not_found", y.PurgeKey(ctx, y.admin, ref, key.ID, ""))
			_, _, err = y.ReplaceKey(ctx, y.admin, ref, key.ID, identity.KeyReplacement{})
			requireFault(t, "not_found", err)
		}
		list, next, err := y.ListKeys(ctx, y.admin, "web", identity.KeyFilter{})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Len(t, list, 1)
		list, _, err = y.ListKeys(ctx, y.admin, "other", identity.KeyFilter{})
		require.NoError(t, err)
		require.Empty(t, list)

		// Lending notes the last use.
		y.clock.Add(time.Hour)
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		got, err := y.GetKey(ctx, y.admin, "web", key.ID)
		require.NoError(t, err)
		require.Equal(t, y.clock.Now(), *got.LastUsedAt)

		got, err = y.UpdateKey(ctx, y.admin, "web", key.ID, identity.KeyPatch{Name: ptr("desk")})
		require.NoError(t, err)
		require.Equal(t, "desk", got.Name)

		// A successor, with an overlap in which both work.
		successor, value, err := y.ReplaceKey(ctx, y.admin, caller.TrainID, key.ID, identity.KeyReplacement{Overlap: time.Minute})
		require.NoError(t, err)
		young, err := y.ids.Client(value.Reveal())
		require.NoError(t, err)
		require.Equal(t, successor.ID, young.ID)
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
		y.lend(young, want()).Done(train.Outcome{Result: train.OK})
		y.clock.Add(time.Minute)
		y.refused("unauthenticated", caller, want())
		y.lend(young, want()).Done(train.Outcome{Result: train.OK})

		_, err = y.RevokeKey(ctx, y.admin, "web", successor.ID, "")
		require.NoError(t, err)
		_, err = y.RevokeKey(ctx, y.admin, "web", successor.ID, "")
		requireFault(t, "not_found", err)
		require.NoError(t, y.PurgeKey(ctx, y.admin, "web", successor.ID, ""))

		imported, err := y.ImportKey(ctx, y.admin, "web", identity.KeyDraft{Name: "old"}, secret.FromString("cnp_live_0123456789abcdef0123456789"))
		require.NoError(t, err)
		foreign, err := y.ids.Client("cnp_live_0123456789abcdef0123456789")
		require.NoError(t, err)
		require.Equal(t, imported.ID, foreign.ID)
		y.lend(foreign, want()).Done(train.Outcome{Result: train.OK})
	})
}

func TestKeyLimitOfATrain(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Hash)
		_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{KeyLimit: ptr(2)}, "")
		require.NoError(t, err)
		y.key("web")
		_, key := y.key("web")
		// A draft cannot lift the train's limit.
		_, v, err := y.IssueKey(t.Context(), y.admin, "web", identity.KeyDraft{Name: "third", Limit: 100})
		requireFault(t, "key_limit_reached", err)
		require.True(t, v.IsZero())
		_, err = y.RevokeKey(t.Context(), y.admin, "web", key.ID, "")
		require.NoError(t, err)
		_, third := y.key("web")

		// Nor do an expired key that comes back to life, or a successor that lets the old one live on.
		past, soon := y.clock.Now().Add(time.Minute), y.clock.Now().Add(time.Hour)
		_, err = y.UpdateKey(t.Context(), y.admin, "web", third.ID, identity.KeyPatch{SetExpiry: true, ExpiresAt: &past})
		require.NoError(t, err)
		y.clock.Add(2 * time.Minute)
		y.key("web")
		_, err = y.UpdateKey(t.Context(), y.admin, "web", third.ID, identity.KeyPatch{SetExpiry: true, ExpiresAt: &soon})
		requireFault(t, "key_limit_reached", err)

		y.train("plain", train.Hash)
		for range 10 {
			y.key("plain")
		}
		_, _, err = y.IssueKey(t.Context(), y.admin, "plain", identity.KeyDraft{Name: "eleventh"})
		requireFault(t, "key_limit_reached", err)
	})
}

// TestWhoMayDoWhat: each act needs its permission, a refusal changes nothing, and it is recorded when the caller is known.
func TestWhoMayDoWhat(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		client, key, alpha := y.line()
		beta := y.account("beta")
		acts := map[string]struct {
			needs []identity.Permission
			do    func(c identity.Caller) error
			reads bool
		}{
			"create": {[]identity.Permission{identity.TrainWrite}, func(c identity.Caller) error { _, err := y.CreateTrain(ctx, c, train.Draft{Slug: "new"}); return err }, false},
			"get":    {[]identity.Permission{identity.TrainRead}, func(c identity.Caller) error { _, err := y.GetTrain(ctx, c, "web"); return err }, true},
			"list":   {[]identity.Permission{identity.TrainRead}, func(c identity.Caller) error { _, _, err := y.ListTrains(ctx, c, train.Filter{}); return err }, true},
			"update": {[]identity.Permission{identity.TrainWrite}, func(c identity.Caller) error {
				_, err := y.UpdateTrain(ctx, c, "web", train.Patch{Disabled: ptr(true)}, "")
				return err
			}, false},
			"delete": {[]identity.Permission{identity.TrainWrite}, func(c identity.Caller) error { return y.DeleteTrain(ctx, c, "web", true, "") }, false},
			"link": {[]identity.Permission{identity.TrainWrite, identity.CredentialRead}, func(c identity.Caller) error {
				_, _, err := y.Link(ctx, c, "web", train.LinkDraft{Credential: beta})
				return err
			}, false},
			"relink": {[]identity.Permission{identity.TrainWrite}, func(c identity.Caller) error {
				_, err := y.Relink(ctx, c, "web", alpha, train.LinkPatch{Priority: ptr(1)})
				return err
			}, false},
			"unlink":  {[]identity.Permission{identity.TrainWrite}, func(c identity.Caller) error { return y.Unlink(ctx, c, "web", alpha, "") }, false},
			"links":   {[]identity.Permission{identity.TrainRead}, func(c identity.Caller) error { _, err := y.Links(ctx, c, "web"); return err }, true},
			"explain": {[]identity.Permission{identity.TrainRead}, func(c identity.Caller) error { _, err := y.Explain(ctx, c, "web"); return err }, true},
			"issue": {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error {
				_, _, err := y.IssueKey(ctx, c, "web", identity.KeyDraft{Name: "x"})
				return err
			}, false},
			"import": {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error {
				_, err := y.ImportKey(ctx, c, "web", identity.KeyDraft{Name: "x"}, secret.FromString("0123456789abcdef0123456789abcdef"))
				return err
			}, false},
			"keys": {[]identity.Permission{identity.KeyRead}, func(c identity.Caller) error {
				_, _, err := y.ListKeys(ctx, c, "web", identity.KeyFilter{})
				return err
			}, true},
			"key": {[]identity.Permission{identity.KeyRead}, func(c identity.Caller) error { _, err := y.GetKey(ctx, c, "web", key.ID); return err }, true},
			"update key": {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error {
				_, err := y.UpdateKey(ctx, c, "web", key.ID, identity.KeyPatch{Name: ptr("y")})
				return err
			}, false},
			"revoke": {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error { _, err := y.RevokeKey(ctx, c, "web", key.ID, ""); return err }, false},
			"purge":  {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error { return y.PurgeKey(ctx, c, "web", key.ID, "") }, false},
			"replace": {[]identity.Permission{identity.KeyWrite}, func(c identity.Caller) error {
				_, _, err := y.ReplaceKey(ctx, c, "web", key.ID, identity.KeyReplacement{})
				return err
			}, false},
		}
		all := identity.RoleScopes(identity.Administrator)
		for name, act := range acts {
			for _, missing := range act.needs {
				token := identity.Caller{Kind: identity.KindToken, ID: "tok_1", UserID: "user_a", Role: identity.Administrator}
				for _, p := range all {
					if p != missing {
						token.Scopes = append(token.Scopes, p)
					}
				}
				before := len(y.events(store.TrainRefused))
				requireFault(t, "scope_missing", act.do(token))
				refused := y.events(store.TrainRefused)
				if act.reads {
					require.Len(t, refused, before, name)
					continue
				}
				require.Len(t, refused, before+1, name)
				ev := refused[before]
				require.Equal(t, "tok_1", ev.Actor.ID)
				require.Equal(t, "user_a", ev.OnBehalf)
				require.Equal(t, "scope_missing", ev.Reason)
				require.NotEmpty(t, detail(t, ev, "act"))
			}
			before := len(y.events(store.TrainRefused))
			requireFault(t, "unauthenticated", act.do(identity.Caller{}))
			require.Len(t, y.events(store.TrainRefused), before, "nobody's failures are counted elsewhere")
			requireFault(t, "forbidden", act.do(client))
			before = len(y.events(store.TrainRefused))
			err := act.do(identity.Caller{Kind: identity.KindPerson, ID: "user_m", UserID: "user_m", Role: identity.Member, SteppedUpAt: time.Now()})
			switch {
			case name == "list":
				require.NoError(t, err) // of none
			case name == "import" || slices.ContainsFunc(act.needs, func(p identity.Permission) bool { return p.Of(identity.Member) == identity.Nothing }):
				requireFault(t, "forbidden", err)
				require.Len(t, y.events(store.TrainRefused), before+1, name)
			default: // to who is a member of no train there is none
				require.Contains(t, requireFault(t, "not_found", err).Detail, "There is no such train", name)
			}
			requireFault(t, "forbidden", act.do(identity.Caller{Kind: identity.KindPerson, ID: "user_x", Role: "emperor"}))
		}
		// Nothing changed: the train still lends its one account to its one key.
		l := y.lend(client, want())
		require.Equal(t, "alpha", sent(t, l))
		l.Done(train.Outcome{Result: train.OK})
		links, err := y.Links(ctx, y.admin, "web")
		require.NoError(t, err)
		require.Len(t, links, 1)
		keys, _, err := y.ListKeys(ctx, y.admin, "web", identity.KeyFilter{})
		require.NoError(t, err)
		require.Len(t, keys, 1)
		require.Equal(t, identity.StatusActive, keys[0].Status)
	})
}
