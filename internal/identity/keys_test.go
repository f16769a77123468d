package identity_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestKeyLifeCycle(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		admin := identity.Caller{Kind: identity.KindPerson, ID: "user_a", Name: "Ada", UserID: "user_a", Role: identity.Administrator, RequestID: "req_9", IP: "192.0.2.1"}
		var k identity.Key
		var v secret.Value
		require.NoError(t, h.write(func(tx *store.Tx) (err error) {
			k, v, err = h.IssueKey(tx, admin, "train_a", identity.KeyDraft{Name: "  laptop "})
			return err
		}))
		bearer := v.Reveal()
		require.True(t, strings.HasPrefix(bearer, "sbx_live_"))
		require.Equal(t, "laptop", k.Name)
		require.Equal(t, "user_a", k.CreatedBy)
		require.Equal(t, identity.StatusActive, k.Status)
		require.Equal(t, "sbx_live_…"+bearer[len(bearer)-4:], k.Preview)
		require.True(t, h.KeyAlive(k.ID))

		caller, err := h.Client(bearer)
		require.NoError(t, err)
		require.Equal(t, identity.Caller{Kind: identity.KindClientKey, ID: k.ID, Name: "laptop", TrainID: "train_a", OnBehalf: "train_a", MadeBy: "user_a"}, caller)

		later := h.clock.Now().Add(time.Hour)
		require.NoError(t, h.write(func(tx *store.Tx) (err error) {
			k, err = h.UpdateKey(tx, admin, "train_a", k.ID, identity.KeyPatch{Name: ptr("desktop"), SetExpiry: true, ExpiresAt: &later})
			return err
		}))
		require.Equal(t, "desktop", k.Name)
		require.Equal(t, later, *k.ExpiresAt)
		caller, err = h.Client(bearer)
		require.NoError(t, err)
		require.Equal(t, "desktop", caller.Name)

		got, err := h.get("train_a", k.ID)
		require.NoError(t, err)
		require.Equal(t, k, got)
		_, err = h.get("train_b", k.ID)
		requireFault(t, "not_found", err)
		requireFault(t, "not_found", h.revoke("train_b", k.ID))
		_, err = h.get("train_a", "nonsense")
		requireFault(t, "not_found", err)

		require.NoError(t, h.revoke("train_a", k.ID))
		_, err = h.Client(bearer)
		requireFault(t, "unauthenticated", err)
		require.False(t, h.KeyAlive(k.ID))
		requireFault(t, "not_found", h.revoke("train_a", k.ID))
		requireFault(t, "state_conflict", h.write(func(tx *store.Tx) error {
			_, err := h.UpdateKey(tx, admin, "train_a", k.ID, identity.KeyPatch{Name: ptr("x")})
			return err
		}))
		keys, _ := h.list("train_a", identity.KeyFilter{})
		require.Len(t, keys, 1)
		require.Equal(t, identity.StatusRevoked, keys[0].Status)
		require.NotNil(t, keys[0].RevokedAt)

		events := h.events()
		require.Equal(t, []store.Action{store.KeyIssue, store.KeyUpdate, store.KeyRevoke}, actions(events))
		require.Equal(t, store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, events[0].Actor)
		require.Equal(t, store.Target{Kind: "client_key", ID: k.ID, Name: "laptop"}, events[0].Target)
		require.Equal(t, "req_9", events[0].RequestID)
		require.Equal(t, "train_a", detail(t, events[0], "train"))
		require.Equal(t, []string{"name", "expires_at"}, events[1].Fields)
	})
}

func TestKeyInputIsChecked(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		past := h.clock.Now()
		for name, d := range map[string]identity.KeyDraft{
			"no name":       {},
			"blank name":    {Name: " \t "},
			"long name":     {Name: strings.Repeat("ä", 101)},
			"control":       {Name: "a\nb"},
			"not UTF-8":     {Name: "a\xff"},
			"expiry passed": {Name: "a", ExpiresAt: &past},
		} {
			_, _, err := h.issue("train_a", d)
			f := requireFault(t, "validation_failed", err)
			require.Len(t, f.Fields, 1, name)
			require.Contains(t, []string{"/name", "/expires_at"}, f.Fields[0].Pointer)
		}
		_, _, err := h.issue("train_a", identity.KeyDraft{Name: strings.Repeat("ä", 100)})
		require.NoError(t, err)
		require.Len(t, h.events(), 1)
	})
}

func TestExpiredKeysAreRefused(t *testing.T) {
	each(t, func(c *identity.Config) { c.MaxKeysPerTrain = 1 }, func(t *testing.T, h *house) {
		end := h.clock.Now().Add(time.Minute)
		k, v, err := h.issue("train_a", identity.KeyDraft{Name: "short", ExpiresAt: &end})
		require.NoError(t, err)
		h.clock.Add(time.Minute - time.Microsecond)
		_, err = h.Client(v.Reveal())
		require.NoError(t, err)
		require.True(t, h.KeyAlive(k.ID))

		h.clock.Add(time.Microsecond)
		_, err = h.Client(v.Reveal())
		require.ErrorContains(t, err, "expired")
		require.False(t, h.KeyAlive(k.ID))
		active, _ := h.list("train_a", identity.KeyFilter{Status: identity.StatusActive})
		require.Empty(t, active)
		expired, _ := h.list("train_a", identity.KeyFilter{Status: identity.StatusExpired})
		require.Len(t, expired, 1)
		require.Equal(t, identity.StatusExpired, expired[0].Status)

		// It no longer counts against the limit, and must count again before it lives again.
		other, _ := h.mustIssue("train_a", "other")
		revive := func() error {
			return h.write(func(tx *store.Tx) error {
				_, err := h.UpdateKey(tx, identity.System("test"), "train_a", k.ID, identity.KeyPatch{SetExpiry: true})
				return err
			})
		}
		requireFault(t, "key_limit_reached", revive())
		require.False(t, h.KeyAlive(k.ID))
		require.NoError(t, h.revoke("train_a", other.ID))
		require.NoError(t, revive())
		_, err = h.Client(v.Reveal())
		require.NoError(t, err)
	})
}

func TestOnlyRevokedKeysArePurged(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		purge := func(id string) error {
			return h.write(func(tx *store.Tx) error { return h.PurgeKey(tx, identity.System("test"), "train_a", id) })
		}
		k, bearer := h.mustIssue("train_a", "a")
		end := h.clock.Now().Add(time.Second)
		expired, _, err := h.issue("train_a", identity.KeyDraft{Name: "b", ExpiresAt: &end})
		require.NoError(t, err)
		h.clock.Add(time.Second)
		requireFault(t, "key_active", purge(k.ID))
		requireFault(t, "key_active", purge(expired.ID))
		_, err = h.Client(bearer)
		require.NoError(t, err)

		require.NoError(t, h.revoke("train_a", k.ID))
		require.NoError(t, purge(k.ID))
		requireFault(t, "not_found", purge(k.ID))
		keys, _ := h.list("train_a", identity.KeyFilter{})
		require.Len(t, keys, 1)
		require.Len(t, h.eventsOf(store.KeyPurge), 1)
	})
}

func TestKeyLimitHoldsUnderRacingIssues(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			h := newHouse(t, cfg, newClock(), nil)
			houses := []*house{h}
			if e == store.Postgres { // two instances race as well
				houses = append(houses, newHouse(t, cfg, newClock(), nil))
			}
			issued, refused := race(t, houses, 20, "train_a", identity.KeyDraft{Name: "racer", Limit: 10})
			require.Equal(t, 10, issued)
			require.Equal(t, 10, refused)
			keys, _ := h.list("train_a", identity.KeyFilter{Status: identity.StatusActive})
			require.Len(t, keys, 10)
			require.Len(t, h.eventsOf(store.KeyIssue), 10)

			require.NoError(t, h.revoke("train_a", keys[0].ID))
			h.mustIssue("train_a", "in its place")
			_, _, err := h.issue("train_a", identity.KeyDraft{Name: "one more"})
			require.ErrorContains(t, err, "(10)")
			h.mustIssue("train_b", "another train")
		})
	}
}

func TestGlobalKeyLimitHoldsUnderRacingIssues(t *testing.T) {
	each(t, func(c *identity.Config) { c.MaxKeys = 5 }, func(t *testing.T, h *house) {
		h.mustIssue("train_b", "first")
		issued, refused := race(t, []*house{h}, 12, "train_a", identity.KeyDraft{Name: "racer"})
		require.Equal(t, 4, issued)
		require.Equal(t, 8, refused)
	})
}

func race(t *testing.T, houses []*house, n int, train string, d identity.KeyDraft) (issued, refused int) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			_, _, errs[i] = houses[i%len(houses)].issue(train, d)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			issued++
			continue
		}
		requireFault(t, "key_limit_reached", err)
		refused++
	}
	return issued, refused
}

func TestReplacementOverlaps(t *testing.T) {
	each(t, func(c *identity.Config) { c.MaxKeysPerTrain = 2 }, func(t *testing.T, h *house) {
		replace := func(id string, d identity.KeyReplacement) (k identity.Key, bearer string, err error) {
			err = h.write(func(tx *store.Tx) error {
				next, v, err := h.ReplaceKey(tx, identity.System("test"), "train_a", id, d)
				k, bearer = next, v.Reveal()
				return err
			})
			return k, bearer, err
		}
		old, oldBearer := h.mustIssue("train_a", "laptop")
		h.mustIssue("train_a", "full")
		next, nextBearer, err := replace(old.ID, identity.KeyReplacement{Overlap: time.Hour})
		require.NoError(t, err)
		require.Equal(t, "laptop", next.Name)
		require.NotEqual(t, old.ID, next.ID)
		for _, b := range []string{oldBearer, nextBearer} {
			_, err := h.Client(b)
			require.NoError(t, err)
		}
		old, err = h.get("train_a", old.ID)
		require.NoError(t, err)
		require.Equal(t, next.ID, old.ReplacedBy)
		require.Equal(t, h.clock.Now().Add(time.Hour), *old.ExpiresAt)
		ev := h.eventsOf(store.KeyReplace)
		require.Len(t, ev, 1)
		require.Equal(t, old.ID, ev[0].Target.ID)
		require.Equal(t, next.ID, detail(t, ev[0], "successor"))

		_, _, err = replace(old.ID, identity.KeyReplacement{})
		requireFault(t, "state_conflict", err)
		requireFault(t, "state_conflict", h.write(func(tx *store.Tx) error {
			_, err := h.UpdateKey(tx, identity.System("test"), "train_a", old.ID, identity.KeyPatch{SetExpiry: true})
			return err
		}))

		// Overlapping keys are bounded too, however often somebody replaces: twice the limit.
		third, _, err := replace(next.ID, identity.KeyReplacement{Overlap: time.Hour})
		require.NoError(t, err)
		_, _, err = replace(third.ID, identity.KeyReplacement{Overlap: time.Hour})
		requireFault(t, "key_limit_reached", err)
		// Without an overlap it must always work: that is how a leaked key is replaced.
		_, fourthBearer, err := replace(third.ID, identity.KeyReplacement{Name: "renamed"})
		require.NoError(t, err)
		require.False(t, h.KeyAlive(third.ID))
		_, err = h.Client(fourthBearer)
		require.NoError(t, err)

		h.clock.Add(time.Hour)
		_, err = h.Client(oldBearer)
		require.ErrorContains(t, err, "expired")
		_, err = h.Client(fourthBearer)
		require.NoError(t, err)
		_, _, err = replace(third.ID, identity.KeyReplacement{})
		requireFault(t, "state_conflict", err)
		for _, bad := range []time.Duration{-1, identity.MaxOverlap + 1} {
			keys, _ := h.list("train_a", identity.KeyFilter{Status: identity.StatusActive})
			_, _, err = replace(keys[0].ID, identity.KeyReplacement{Overlap: bad})
			requireFault(t, "validation_failed", err)
		}
	})
}

func TestImportedKeysWorkByHash(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		imported := func(train, value string) (k identity.Key, err error) {
			err = h.write(func(tx *store.Tx) error {
				k, err = h.ImportKey(tx, identity.System("test"), train, identity.KeyDraft{Name: "old one"}, secret.FromString(value))
				return err
			})
			return k, err
		}
		for _, value := range []string{"cnp_live_0123456789abcdef", "ptk_" + strings.Repeat("z", 100), strings.Repeat("q", 512)} {
			k, err := imported("train_a", value)
			require.NoError(t, err)
			require.Equal(t, "…"+value[len(value)-4:], k.Preview)
			caller, err := h.Client(value)
			require.NoError(t, err)
			require.Equal(t, k.ID, caller.ID)
			_, err = h.Client(value[:len(value)-1] + "_")
			requireFault(t, "unauthenticated", err)
			_, err = imported("train_b", value)
			requireFault(t, "already_exists", err)
		}
		for _, value := range []string{"", "short", strings.Repeat("q", 513), "sixteen with spaces in", "sbx_live_" + strings.Repeat("a", 38), "sbp_0123456789abcdef", "schlüssel-0123456789"} {
			_, err := imported("train_a", value)
			f := requireFault(t, "validation_failed", err)
			require.NotContains(t, f.Detail+f.Fields[0].Message, "0123456789")
		}
	})
}

func TestKeyListsPage(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		for _, n := range []string{"a", "b", "c", "d", "e"} {
			h.mustIssue("train_a", n)
		}
		h.mustIssue("train_b", "x")
		var seen []string
		cursor := ""
		for range 3 {
			keys, next := h.list("train_a", identity.KeyFilter{Limit: 2, Cursor: cursor})
			for _, k := range keys {
				seen = append(seen, k.Name)
			}
			cursor = next
		}
		require.Equal(t, []string{"e", "d", "c", "b", "a"}, seen)
		require.Empty(t, cursor)
		keys, _ := h.list("train_a", identity.KeyFilter{Skip: 3})
		require.Len(t, keys, 2)
		for _, f := range []identity.KeyFilter{{Cursor: "key_x"}, {Cursor: "' OR 1=1"}, {Status: "gone"}} {
			require.Error(t, h.db.Read(t.Context(), func(tx *store.Tx) error {
				_, _, err := h.ListKeys(tx, "train_a", f)
				return err
			}))
		}
	})
}

func TestKeysOfADeletedTrainAreDropped(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		a, bearer := h.mustIssue("train_a", "a")
		b, _ := h.mustIssue("train_a", "b")
		_, kept := h.mustIssue("train_b", "c")
		require.NoError(t, h.revoke("train_a", b.ID))
		require.NoError(t, h.write(func(tx *store.Tx) error {
			n, err := h.ActiveKeys(tx, "train_a")
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = h.DropKeys(tx, identity.System("test"), "train_a")
			require.Equal(t, 1, n)
			return err
		}))
		_, err := h.Client(bearer)
		requireFault(t, "unauthenticated", err)
		require.False(t, h.KeyAlive(a.ID))
		_, err = h.Client(kept)
		require.NoError(t, err)
		keys, _ := h.list("train_a", identity.KeyFilter{})
		require.Empty(t, keys)
		require.Len(t, h.eventsOf(store.KeyRevoke), 2)
	})
}
